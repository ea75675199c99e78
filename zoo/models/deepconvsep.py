"""DeepConvSep: a small convolutional encoder of spectrogram patches with one decoder per source.

Filters over all bins find timbres, filters over half a patch find how they go on, a narrow layer
keeps what matters; each source is drawn from it by a layer of its own and by the same filters run
backwards, and all sources together are made into masks that sum to one.

P. Chandna, M. Miron, J. Janer, E. Gomez, "Monoaural audio source separation using deep
convolutional neural networks", LVA/ICA 2017.

In:  mixture ``(B, C, T)``, 44.1 kHz; the network is mono and takes channel after channel.
Out: estimates ``(B, J, C, T)``, which sum to the mixture.
Inside: patches ``(B, 1, N, F)`` of magnitudes, STFT 1024 / 512, 30 frames.

    =====================================  =================  ==========
    layer (linear unless said)             maps               parameters
    =====================================  =================  ==========
    convolution 1 x 513                    50 of 30 x 1           25 700
    convolution 15 x 1                     30 of 16 x 1           22 530
    dense, ReLU                            128                    61 568
    per source: dense, ReLU                30 of 16 x 1           61 920
    the two convolutions transposed,       1 of 30 x 513           1 each
    weights shared; a bias; ReLU
    =====================================  =================  ==========

357 482 parameters for four sources.  The mask of source j is ``(y_j + eps) / sum_k (y_k + eps)``.
Patches overlap by 25 of 30 frames, over which each is faded in on what is there.

Loss: squared errors E of the magnitudes of all sources but ``other``, minus what keeps estimates
unlike other sources, ``|E - alpha A - beta B - beta_voice V|``: A compares the estimates of those
sources with the references of each other, B those of all but the vocals with ``other``, V that of
the vocals with ``other``; sums over batch, frames and bins.

Departures from the paper
    * A training example is a patch from any place of a song; the published code cuts songs into
      blocks of 30 s and these into all their patches.
    * The biases of the output begin at 0.1: from the published code's zeros, the first step made
      three of six networks give nothing of a source, and the ReLU then never learns.
    * Where there is no source ``other``, every source counts in E and A, and B and V are empty.

Inferred or unconfirmed
    * Window and hop: the paper's are not known; Hann, 1024 / 512.  The published code trains with
      a Blackman-Harris window and separates with Hann's.
    * The published code has 50 filters of 15 x 1 (``n_horizontal=50``, 578 582 parameters), and
      draws the fourth source by the dense layer of the second (``bug_compatible``, for weights that
      were trained so).
    * Magnitudes are multiplied by 0.3 / sqrt(1024).  The published code draws eps, up to 1e-8
      when it trains and up to 1e-18 when it separates; here it is 1e-8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations
from typing import ClassVar

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.dsp.stft import STFT
from zoo.errors import RecipeError, check_least
from zoo.models import TABLE
from zoo.separator import Separator, State

ALIVE = 0.1  # output bias to begin with: measured, see above
EPS = 1e-8
SCALE = 0.3
PATCHES_AT_ONCE = 128  # bounds the memory of a long chunk


class DeepConvSep(Separator):
    """All sources from one encoder, as masks of the mixture's magnitude.

    Args:
        sources: names, in the order of the estimates.
        sample_rate: in Hz.
        channels: of the audio; each goes through the network alone.
        n_fft: STFT window in samples.
        hop: in samples.
        patch_frames: frames of a patch, which is also a training example.
        step_frames: from patch to patch; a divisor of ``patch_frames``.
        n_vertical: filters over all bins.
        n_horizontal: filters over half a patch.
        n_hidden: width of the narrow layer.
        bug_compatible: the fourth source shares the second's dense layer.
        alpha, beta, beta_voice: weights of what keeps estimates unlike other sources.
    """

    channels: int
    architecture = "deepconvsep"
    tiny: ClassVar = TABLE["deepconvsep"]["tiny"]
    tolerance = 1e-4  # a ratio of what is almost nothing hangs on its last digit

    def __init__(
        self,
        sources: Sequence[str] = ("vocals", "bass", "drums", "other"),
        sample_rate: int = 44100,
        channels: int = 1,
        n_fft: int = 1024,
        hop: int = 512,
        patch_frames: int = 30,
        step_frames: int = 5,
        n_vertical: int = 50,
        n_horizontal: int = 30,
        n_hidden: int = 128,
        bug_compatible: bool = False,
        alpha: float = 0.001,
        beta: float = 0.01,
        beta_voice: float = 0.03,
    ) -> None:
        super().__init__(sources, sample_rate, channels)
        self.save_hyperparameters()
        check_least(
            1, step_frames=step_frames, n_vertical=n_vertical, n_horizontal=n_horizontal,
            n_hidden=n_hidden,
        )  # fmt: skip
        check_least(2, patch_frames=patch_frames, number_of_sources=len(self.sources))
        check_least(0, alpha=alpha, beta=beta, beta_voice=beta_voice)
        if patch_frames % step_frames:
            raise RecipeError(
                f"patch_frames {patch_frames} is no multiple of step_frames {step_frames}; "
                "patches are to overlap in whole steps."
            )
        self.alpha, self.beta, self.beta_voice = alpha, beta, beta_voice
        self.patch_frames, self.step_frames = patch_frames, step_frames
        self.stft = STFT(n_fft, hop)
        self.network = PatchNetwork(
            len(self.sources), self.stft.n_bins, patch_frames, n_vertical, n_horizontal, n_hidden,
            bug_compatible,
        )  # fmt: skip

    @property
    def segment(self) -> int:
        """Samples of a training example: one patch."""
        return (self.patch_frames - 1) * self.stft.hop

    @property
    def grid(self) -> int:
        """Patches start on the steps of the song."""
        return self.step_frames * self.stft.hop

    @property
    def context(self) -> int:
        """Frames that the patches around a frame read, and the windows around them."""
        return (self.patch_frames + self.step_frames) * self.stft.hop + self.stft.n_fft

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Estimates ``(B, J, C, T)`` of a mixture ``(B, C, T)``."""
        spectrum = self.stft(mixture)  # (B, C, F, N)
        masks = self.masks(spectrum.abs().flatten(0, 1)).unflatten(0, mixture.shape[:2])
        return self.stft.inverse(masks.transpose(1, 2) * spectrum[:, None], mixture.shape[-1])

    def masks(self, magnitudes: Tensor) -> Tensor:
        """Masks ``(B, J, F, N)`` of mono magnitudes ``(B, F, N)``, patch after patch."""
        batch, n_bins, n_frames = magnitudes.shape
        n_steps = self.patch_frames // self.step_frames  # of a patch
        n_patches = max(0, -(-n_frames // self.step_frames) - n_steps) + 1
        n_padded = (n_patches - 1) * self.step_frames + self.patch_frames
        scaled = F.pad(magnitudes * (SCALE / math.sqrt(self.stft.n_fft)), (0, n_padded - n_frames))
        patches = scaled.unfold(-1, self.patch_frames, self.step_frames)  # (B, F, P, N)
        patches = patches.permute(2, 0, 3, 1)  # (P, B, N, F)
        weights = patch_weights(n_patches, self.patch_frames, self.step_frames).to(magnitudes)
        n_sources = len(self.sources)
        shape = (n_patches + n_steps - 1, batch, n_sources, self.step_frames, n_bins)
        total = magnitudes.new_zeros(shape)
        for first in range(0, n_patches, PATCHES_AT_ONCE):
            some = patches[first : first + PATCHES_AT_ONCE]
            drawn = self.network(some.flatten(0, 1)[:, None]).to(magnitudes.dtype) + EPS
            masks = (drawn / drawn.sum(1, keepdim=True)).unflatten(0, some.shape[:2])
            weight = weights[first : first + PATCHES_AT_ONCE, None, None, :, None]
            parts = (masks * weight).unflatten(3, (n_steps, self.step_frames))
            for k in range(n_steps):  # step k of patch p lies on step p + k of the song
                total[first + k : first + k + len(some)] += parts[:, :, :, k]
        ordered = total.permute(1, 2, 4, 0, 3).flatten(3)  # (B, J, F, steps and frames)
        found: Tensor = ordered[..., :n_frames]
        return found

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Squared errors minus a share of the distances from other sources."""
        scale = SCALE / math.sqrt(self.stft.n_fft)
        magnitudes = self.stft(mixture).abs().flatten(0, 1)
        estimates = self.masks(magnitudes) * magnitudes[:, None] * scale  # (B C, J, F, N)
        true = self.stft(references.transpose(1, 2).flatten(0, 1)).abs() * scale
        heard = known.repeat_interleave(self.channels, 0).to(true.dtype)

        def distance(i: str, j: str) -> Tensor:
            """Of the estimate of i from the reference of j."""
            a, b = self.sources.index(i), self.sources.index(j)
            squares = (estimates[:, a] - true[:, b]).square().sum((1, 2))
            found: Tensor = (squares * heard[:, b]).sum()
            return found

        leading = [s for s in self.sources if s != "other"]
        errors = {source: distance(source, source) for source in leading}
        total = sum(errors.values(), start=true.new_zeros(()))
        for i, j in permutations(leading, 2):
            total = total - self.alpha * distance(i, j)
        if "other" in self.sources:
            for source in leading:
                beta = self.beta_voice if source == "vocals" else self.beta
                total = total - beta * distance(source, "other")
        return {"loss": total.abs(), **errors}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adadelta with rate 1, rho 0.95 and eps 1e-6."""
        return torch.optim.Adadelta(self.parameters(), lr=1.0, rho=0.95, eps=1e-6)


class PatchNetwork(nn.Module):
    """Patches ``(B, 1, N, F)`` -> what of them belongs to each source, ``(B, J, N, F)``."""

    def __init__(
        self,
        n_sources: int,
        n_bins: int,
        n_frames: int,
        n_vertical: int,
        n_horizontal: int,
        n_hidden: int,
        bug_compatible: bool = False,
    ) -> None:
        super().__init__()
        kernel = n_frames // 2
        self.shape = (n_horizontal, n_frames - kernel + 1, 1)
        n_flat = math.prod(self.shape)
        self.vertical = nn.Conv2d(1, n_vertical, (1, n_bins))
        self.horizontal = nn.Conv2d(n_vertical, n_horizontal, (kernel, 1))
        self.bottleneck = nn.Linear(n_flat, n_hidden)
        self.shares_fourth = bug_compatible and n_sources > 3
        n_decoders = n_sources - self.shares_fourth
        self.decoders = nn.ModuleList(nn.Linear(n_hidden, n_flat) for _ in range(n_decoders))
        self.bias = nn.Parameter(torch.full((n_sources,), ALIVE))
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
            elif name != "bias":
                nn.init.zeros_(parameter)

    def forward(self, patches: Tensor) -> Tensor:
        """See the class."""
        hidden = self.horizontal(self.vertical(patches))
        hidden = F.relu(self.bottleneck(hidden.flatten(1)))
        codes = [F.relu(decoder(hidden)) for decoder in self.decoders]
        if self.shares_fourth:
            codes.insert(3, codes[1])
        code = torch.stack(codes, 1).flatten(0, 1).unflatten(1, self.shape)
        drawn = F.conv_transpose2d(code, self.horizontal.weight)
        drawn = F.conv_transpose2d(drawn, self.vertical.weight)  # (B J, 1, N, F)
        return F.relu(drawn[:, 0].unflatten(0, (-1, len(codes))) + self.bias[:, None, None])


def patch_weights(n_patches: int, n_frames: int, step: int) -> Tensor:
    """How much of each frame every patch has in the end, ``(P, N)``.

    Patch after patch is written over the earlier ones, faded in where they overlap; each frame's
    weights sum to one.
    """
    overlap = n_frames - step
    fade = torch.ones(n_frames)
    fade[:overlap] = torch.linspace(0, 1, overlap)
    weights = fade.repeat(n_patches, 1)
    weights[0] = 1
    for k in range(1, min(n_patches, n_frames // step)):
        weights[:-k, k * step :] *= 1 - fade[: n_frames - k * step]
    return weights
