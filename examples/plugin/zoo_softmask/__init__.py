"""Softmask: a small network that shares out each frame's spectrum among the sources.

Dilated convolutions along time read the log magnitudes of one channel and give every source a mask.
A softmax over the sources lets the masks sum to one, and so the estimates to the mixture.
There is no paper: it is an example of an architecture in a package of its own.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from zoo import Separator
from zoo.dsp.stft import STFT
from zoo.separator import State, masked_mean


class Softmask(Separator):
    """One network for all sources; each of its ``n_layers`` reaches twice as far as the last."""

    architecture = "softmask"
    domain = "spectrogram"
    paper = "none: an example"
    summary = "dilated convolutions along time, and a softmax over the sources"
    tiny: ClassVar = {"sample_rate": 8000, "n_fft": 256, "width": 24, "segment_frames": 64}
    facts: ClassVar = {
        "sources": ["bass", "drums", "other", "vocals"], "sample_rate": 44100, "channels": 2,
        "parameters": 2_300_676, "context_s": 0.406, "gflop_per_s": 0.8,
    }  # fmt: skip

    def __init__(
        self,
        sources: Sequence[str] = ("bass", "drums", "other", "vocals"),
        sample_rate: int = 44100,
        channels: int = 2,
        n_fft: int = 2048,
        width: int = 256,
        n_layers: int = 5,
        segment_frames: int = 256,
    ) -> None:
        super().__init__(sources, sample_rate, channels)
        self.save_hyperparameters()
        self.segment_frames = segment_frames
        self.stft = STFT(n_fft, n_fft // 4)
        self.enter = nn.Conv1d(self.stft.n_bins, width, 1)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=2**i, dilation=2**i) for i in range(n_layers)
        )
        self.leave = nn.Conv1d(width, len(self.sources) * self.stft.n_bins, 1)

    @property
    def segment(self) -> int:  # of training, in samples
        return self.segment_frames * self.stft.hop

    @property
    def grid(self) -> int:  # chunks begin where a frame does
        return self.stft.hop

    @property
    def context(self) -> int:  # the frames that the convolutions reach, and their windows
        return sum(layer.dilation[0] for layer in self.layers) * self.stft.hop + self.stft.n_fft

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Estimates ``(B, J, C, T)`` of a mixture ``(B, C, T)``."""
        spectrum = self.stft(mixture)  # (B, C, F, N)
        x = self.enter((spectrum.abs() + 1e-4).log().flatten(0, 1))  # (B C, K, N)
        for layer in self.layers:
            x = x + layer(x).relu()
        masks = self.leave(x).float().unflatten(1, (len(self.sources), -1)).softmax(1)
        masks = masks.unflatten(0, mixture.shape[:2]).transpose(1, 2)  # (B, J, C, F, N)
        return self.stft.inverse(masks * spectrum[:, None], mixture.shape[-1])

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Mean absolute error of the waveforms."""
        errors = (self(mixture) - references).abs().mean((2, 3))  # (B, J)
        return {"loss": masked_mean(errors, known)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)
