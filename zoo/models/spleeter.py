"""Spleeter's U-Net: one convolutional network per stem, on patches of the spectrogram.

Six strided convolutions shrink a patch of twelve seconds, six transposed ones draw a mask of it,
reading what lay at the same size on the way down.  The stems' magnitudes are then shared out: each
gets its part of the energy.

R. Hennequin, A. Khlif, F. Voituret, M. Moussallam, "Spleeter: a fast and efficient music source
separation tool with pre-trained models", JOSS 5(50), 2020; the network after A. Jansson et al.,
"Singing voice separation with deep U-Net convolutional networks", ISMIR 2017.

In:  mixture ``(B, C, T)``, 44.1 kHz stereo; STFT 4096 / 1024, bins below 1024 (11 kHz).
Out: estimates ``(B, J, C, T)``.   Inside: patches ``(B, C, N, F)`` of 512 frames.

    ==========  ==================================================  ====================
    block       layers                                              maps
    ==========  ==================================================  ====================
    down 1..6   convolution 5 x 5, stride 2: the skip; batch        16, 32, 64, ..., 512
                normalisation, LeakyReLU 0.2
    up 1        transposed convolution 5 x 5, stride 2, of the      256
                last skip; ReLU, batch normalisation
    up 2..6     the same of [skip, up]                              128, 64, 32, 16, 1
    output      convolution 4 x 4, dilation 2, sigmoid, times the   C
                patch
    ==========  ==================================================  ====================

9 826 759 values per stem, of which 3 010 are statistics.  The first three blocks up drop half of
their maps in training.  With the estimate E of each stem, its mask is
``(E_j^2 + eps / J) / (sum E^2 + eps)``, eps = 1e-10.

Departures from the published program
    * None in what it computes.  Above 11 kHz it gives silence by default, as here; with
      ``extension="average"`` the mean of a frame's mask.

Inferred or unconfirmed
    * Training: the mean absolute error of the masked magnitudes and Adam are recalled from the
      paper.  Rate, batch and steps are those of the program's configuration for MUSDB18, which
      augments nothing; the authors' songs are not public.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.dsp.stft import STFT
from zoo.errors import RecipeError, check_choice, check_least
from zoo.models import TABLE
from zoo.separator import Separator, State, mean_losses

EPS = 1e-10
SLOPE = 0.2  # of LeakyReLU below zero


class Spleeter(Separator):
    """One U-Net per stem, and a ratio of their energies as mask.

    Args:
        sources: names, in the order of the estimates; the published sets have 2, 4 and 5.
        sample_rate: in Hz.
        channels: of the audio.
        n_fft: STFT window in samples.
        hop: in samples.
        n_seen: bins from the lowest on that the networks see; a multiple of ``2 ** n_levels``.
        patch_frames: frames of a patch; a multiple of ``2 ** n_levels``.
        n_levels: how often a patch is halved.
        first_maps: maps of the first convolution; each level has twice as many.
        extension: of the masks to higher bins: ``"zeros"`` or ``"average"``.
    """

    channels: int
    architecture = "spleeter"
    tiny: ClassVar = TABLE["spleeter"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("vocals", "accompaniment"),
        sample_rate: int = 44100,
        channels: int = 2,
        n_fft: int = 4096,
        hop: int = 1024,
        n_seen: int = 1024,
        patch_frames: int = 512,
        n_levels: int = 6,
        first_maps: int = 16,
        extension: Literal["zeros", "average"] = "zeros",
    ) -> None:
        super().__init__(sources, sample_rate, channels)
        self.save_hyperparameters()
        check_choice("extension", extension, ("zeros", "average"))
        check_least(
            1, n_levels=n_levels, first_maps=first_maps, n_seen=n_seen, patch_frames=patch_frames
        )
        if n_seen % 2**n_levels or patch_frames % 2**n_levels or n_seen > n_fft // 2 + 1:
            raise RecipeError(
                f"n_seen {n_seen} and patch_frames {patch_frames} are halved {n_levels} times; "
                f"both must be multiples of {2**n_levels}, and n_seen at most {n_fft // 2}."
            )
        self.patch_frames, self.n_seen, self.extension = patch_frames, n_seen, extension
        self.stft = STFT(n_fft, hop)
        self.networks = nn.ModuleDict(
            {source: UNet(channels, n_levels, first_maps) for source in self.sources}
        )

    @property
    def segment(self) -> int:
        """Samples of a training example: one patch."""
        return (self.patch_frames - 1) * self.stft.hop

    @property
    def grid(self) -> int:
        """Patches lie side by side from the beginning of the song."""
        return self.patch_frames * self.stft.hop

    @property
    def context(self) -> int:
        """The patch around a frame, and the windows around it."""
        return self.patch_frames * self.stft.hop + self.stft.n_fft

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Estimates ``(B, J, C, T)`` of a mixture ``(B, C, T)``."""
        spectrum = self.stft(mixture)
        squares = self.magnitudes(spectrum).square()
        masks = (squares + EPS / len(self.sources)) / (squares.sum(1, keepdim=True) + EPS)
        n_above = self.stft.n_bins - self.n_seen
        if self.extension == "average":
            above = masks.mean(-2, keepdim=True).expand(-1, -1, -1, n_above, -1)
            masks = torch.cat([masks, above], -2)
        else:
            masks = F.pad(masks, (0, 0, 0, n_above))
        return self.stft.inverse(masks * spectrum[:, None], mixture.shape[-1])

    def magnitudes(self, spectrum: Tensor) -> Tensor:
        """What each network gives, ``(B, J, C, n_seen, N)``, patch by patch."""
        seen = spectrum.abs()[..., : self.n_seen, :]
        n_frames = seen.shape[-1]
        patches = F.pad(seen, (0, -n_frames % self.patch_frames))
        patches = patches.unflatten(-1, (-1, self.patch_frames)).permute(0, 3, 1, 4, 2)
        batch = patches.shape[:2]  # of (B, P, C, N, F)
        found = [
            # One patch at a time bounds the memory of a long chunk.
            torch.cat([self.networks[s](patch) for patch in patches.flatten(0, 1).split(1)])
            if not torch.is_grad_enabled()
            else self.networks[s](patches.flatten(0, 1))
            for s in self.sources
        ]
        stacked = torch.stack(found, 1).to(seen.dtype).unflatten(0, batch)  # (B, P, J, C, N, F)
        joined: Tensor = stacked.permute(0, 2, 3, 5, 1, 4).flatten(-2)[..., :n_frames]
        return joined

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Mean absolute error of magnitudes below the highest bin seen."""
        true = self.stft(references).abs()[..., : self.n_seen, :]
        errors = (self.magnitudes(self.stft(mixture)) - true).abs().mean((2, 3, 4))
        return mean_losses(errors, known, self.sources)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam at 1e-4."""
        return torch.optim.Adam(self.parameters(), lr=1e-4)


class UNet(nn.Module):
    """Patches ``(B, C, N, F)`` of magnitudes -> those of one stem."""

    def __init__(self, n_channels: int, n_levels: int, first_maps: int) -> None:
        super().__init__()
        maps = [n_channels, *(first_maps * 2**level for level in range(n_levels))]
        self.down = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 5, stride=2) for n_in, n_out in zip(maps, maps[1:], strict=False)
        )
        self.down_norm = nn.ModuleList(_norm(n_maps) for n_maps in maps[1:])
        # The last one is stored and not used; strategy ddp would wait for its gradient.
        self.down_norm[-1].requires_grad_(False)
        outs = [*reversed(maps[1:-1]), 1]
        ins = [maps[-1], *(2 * n_maps for n_maps in outs[:-1])]
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(n_in, n_out, 5, stride=2)
            for n_in, n_out in zip(ins, outs, strict=True)
        )
        self.up_norm = nn.ModuleList(_norm(n_maps) for n_maps in outs)
        self.output = nn.Conv2d(1, n_channels, 4, dilation=2, padding=3)

    def forward(self, patches: Tensor) -> Tensor:
        """See the class."""
        x, skips = patches, []
        for convolution, norm in zip(self.down, self.down_norm, strict=True):
            skips.append(convolution(F.pad(x, (1, 2, 1, 2))))
            x = F.leaky_relu(norm(skips[-1]), SLOPE)
        x = skips.pop()
        for level, (convolution, norm) in enumerate(zip(self.up, self.up_norm, strict=True)):
            x = norm(F.relu(convolution(x)[..., 1:-2, 1:-2]))
            if level < 3:
                x = F.dropout(x, 0.5, self.training)
            if skips:
                x = torch.cat([skips.pop(), x], 1)
        drawn: Tensor = self.output(x).sigmoid() * patches
        return drawn


def _norm(n_maps: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(n_maps, eps=1e-3, momentum=0.01)


def from_published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a `UNet` from those of one stem's published weights.

    Raises:
        KeyError: a tensor has another name than theirs.
    """
    found = {}
    for key, value in tensors.items():
        block, _, rest = key.partition(".")
        name = rest.rpartition(".")[2]
        if block == "up7":
            found[f"output.{name}"] = value
            continue
        way, number = (
            block[: 4 if block.startswith("down") else 2],
            int(block.rstrip("_convat")[-1]),
        )
        is_norm = block.endswith("_act") or rest.startswith("3.")
        found[f"{way}{'_norm' * is_norm}.{number - 1}.{name}"] = value
    return found
