"""Hybrid Demucs and Conv-TasNet, as torchaudio has them.

Hybrid Demucs is a U-Net twice, on the waveform and on its spectrogram, which meet in the middle.
Conv-TasNet learns its own transform in place of the spectrogram, and masks it with a stack of
dilated convolutions.

Hybrid Demucs: A. Defossez, "Hybrid spectrogram and waveform source separation", MDX workshop 2021,
arXiv 2111.03600.
Conv-TasNet: Y. Luo, N. Mesgarani, "Conv-TasNet: surpassing ideal time-frequency magnitude masking
for speech separation", IEEE/ACM TASLP 27(8), 2019, arXiv 1809.07454.

In:  mixture ``(B, C, T)``; Hybrid Demucs at 44.1 kHz in stereo, Conv-TasNet channel after channel.
Out: estimates ``(B, J, C, T)``.

83 639 368 and 5 116 977 parameters for four sources.  Both normalise over all that they are given,
so a chunk is separated in its own way, and neighbours are cross-faded.

Departures from the papers
    * Conv-TasNet's sources are ordered, so its loss needs no permutation; it is a ratio of energies
      that stays finite for silent sources, not the scale-invariant one, whose gain is arbitrary.
    * Hybrid Demucs makes each input, in training too, alike loud, and shares its mean out among the
      sources; the authors' program does so for a whole song, and gives the mean to every source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from zoo.compat import torchaudio
from zoo.errors import RecipeError, check_least
from zoo.models import TABLE
from zoo.models.blocks import HybridSeparator
from zoo.separator import SHORTEST_S, Separator, State, mean_losses

EPS = 1e-5  # energy: of what is silent
SOFT = 1e-3  # of the mixture's energy, beside the error's: -30 dB count as nothing


class HybridDemucs(HybridSeparator):
    """torchaudio's ``HDemucs``.

    Args:
        sources: names, in the order of the estimates.
        sample_rate: in Hz.
        channels: of the audio.
        width: maps of the first layer; each has twice as many as the one before.
        n_fft: STFT window in samples.
        depth: layers on each way; the last ones have a single bin left: 6 for 4096, 5 for 1024.
        segment_s: of a training example, in seconds.
    """

    architecture = "hdemucs"
    tiny: ClassVar = TABLE["hdemucs"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("drums", "bass", "other", "vocals"),
        sample_rate: int = 44100,
        channels: int = 2,
        width: int = 48,
        n_fft: int = 4096,
        depth: int = 6,
        segment_s: float = 10.0,
    ) -> None:
        super().__init__(sources, sample_rate, channels, n_fft, segment_s)
        self.save_hyperparameters()
        check_least(1, width=width, depth=depth)
        models: Any = torchaudio.load().models
        middle = {"dconv_attn": depth - 2, "dconv_lstm": depth - 2}
        try:
            self.network = models.HDemucs(
                list(self.sources), channels, width, nfft=n_fft, depth=depth, **middle
            )
        except ValueError as error:
            raise RecipeError(
                f"torchaudio's HDemucs cannot have width {width}, depth {depth} and n_fft {n_fft}: "
                f"{error}"
            ) from error


class ConvTasNet(Separator):
    """torchaudio's ``ConvTasNet``; the names of the paper's letters stand in brackets.

    Args:
        sources: names, in the order of the estimates.
        sample_rate: in Hz.
        channels: of the audio; each goes through the network alone.
        n_filters: of the learned transform [N].
        filter_length: in samples [L]; they overlap by half.
        n_bottleneck: maps between blocks [B].
        n_hidden: maps inside a block [H].
        kernel: of the dilated convolutions, 3 samples [P]; torchaudio has no other.
        n_layers: blocks of a stack, each with twice the dilation [X].
        n_stacks: [R].
        segment_s: of a training example, in seconds.
    """

    channels: int
    architecture = "conv-tasnet"
    tiny: ClassVar = TABLE["conv-tasnet"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("drums", "bass", "other", "vocals"),
        sample_rate: int = 44100,
        channels: int = 2,
        n_filters: int = 512,
        filter_length: int = 16,
        n_bottleneck: int = 128,
        n_hidden: int = 512,
        kernel: int = 3,
        n_layers: int = 8,
        n_stacks: int = 3,
        segment_s: float = 4.0,
    ) -> None:
        super().__init__(sources, sample_rate, channels)
        self.save_hyperparameters()
        check_least(
            1, n_filters=n_filters, n_bottleneck=n_bottleneck, n_hidden=n_hidden,
            n_layers=n_layers, n_stacks=n_stacks,
        )  # fmt: skip
        check_least(SHORTEST_S, segment_s=segment_s)
        check_least(2, filter_length=filter_length)
        if kernel != 3:
            raise RecipeError(
                f"kernel is {kernel}; torchaudio pads its blocks for one of 3 samples, no other."
            )
        self._segment = round(segment_s * sample_rate)
        models: Any = torchaudio.load().models
        self.network: nn.Module = models.ConvTasNet(
            len(self.sources), filter_length, n_filters, kernel, n_bottleneck, n_hidden, n_layers,
            n_stacks,
        )  # fmt: skip

    @property
    def segment(self) -> int:
        """Samples of a training example."""
        return self._segment

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Estimates ``(B, J, C, T)`` of a mixture ``(B, C, T)``."""
        found: Tensor = self.network(mixture.flatten(0, 1)[:, None])  # (B C, J, T)
        estimates: Tensor = found.unflatten(0, mixture.shape[:2]).transpose(1, 2)
        return estimates

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Energy of the error, in dB of the mixture's."""
        loudness = mixture.square().sum((1, 2))[:, None] + EPS
        energy = (self(mixture) - references).square().sum((2, 3))
        errors = 10 * torch.log10(energy / loudness + SOFT)
        return mean_losses(errors, known, self.sources)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam at 1e-3."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)
