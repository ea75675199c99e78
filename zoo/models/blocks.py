"""Parts that networks of several papers share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import check_least
from zoo.separator import SHORTEST_S, Separator, State, mean_losses

EPS = 1e-5  # of full scale: what is divided by is no smaller
ROWS_AT_ONCE = 1024  # features with neighbours are many times as large as the spectrum


def with_neighbours(frames: Tensor, n: int) -> Iterator[tuple[slice, Tensor]]:
    """Frames with n neighbours on each side, ``(B, F, N)`` -> rows ``(B, n, (2 n + 1) F)``.

    They come in stretches of frames, each with its place; beyond the ends there are zeros.
    """
    padded = F.pad(frames, (n, n))
    for start in range(0, frames.shape[-1], ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, frames.shape[-1])
        stretch = padded[..., start : stop + 2 * n]
        around = stretch.unfold(-1, 2 * n + 1, 1).permute(0, 2, 3, 1)  # (B, n, 2 n + 1, F)
        yield slice(start, stop), around.flatten(2)


class PrincipalComponents(nn.Module):
    """Rows ``(..., D)`` -> their principal components ``(..., n_components)``.

    Until they are measured, the components are the features from ``first`` on, and after the last
    those from the beginning.

    Args:
        n_features: D.
        n_components: at most D.
        first: see above.
        standardises: features are divided by their deviation before.
    """

    mean: Tensor
    scale: Tensor
    components: Tensor
    is_measured: Tensor

    def __init__(
        self, n_features: int, n_components: int, first: int = 0, standardises: bool = False
    ) -> None:
        super().__init__()
        self.standardises = standardises
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.register_buffer("components", torch.eye(n_features).roll(-first, 0)[:n_components])
        self.register_buffer("is_measured", torch.zeros((), dtype=torch.bool))

    def forward(self, rows: Tensor) -> Tensor:
        """See the class."""
        return ((rows - self.mean) / self.scale) @ self.components.T

    def measure(self, rows: Tensor) -> None:
        """Take those of rows ``(P, D)``."""
        mean = rows.mean(0)
        if self.standardises:
            std = rows.std(0)
            self.scale.copy_(std.clamp(min=1e-4 * float(std.max())))
        centred = (rows - mean) / self.scale.cpu()
        n_components = len(self.components)
        if len(rows) < centred.shape[1]:  # the small problem has the same directions
            energy, vectors = torch.linalg.eigh((centred @ centred.T).double())
            best = vectors[:, -n_components:].flip(1).float()
            length = energy[-n_components:].flip(0).clamp(min=1e-12).sqrt().float()
            components = (centred.T @ best / length).T
        else:
            _, vectors = torch.linalg.eigh((centred.T @ centred).double())
            components = vectors[:, -n_components:].flip(1).T.float()
        self.components[: len(components)] = components.to(self.components)
        self.mean.copy_(mean)
        self.is_measured.fill_(True)


class HybridSeparator(Separator):
    """What Hybrid Demucs and its descendants have in common; each sets its ``network``.

    Args:
        sources: names, in the order of the estimates.
        sample_rate: in Hz.
        channels: of the audio.
        n_fft: STFT window in samples; what is shorter is filled up to it.
        segment_s: of a training example, in seconds.
    """

    channels: int
    network: nn.Module

    def __init__(
        self,
        sources: Sequence[str],
        sample_rate: int,
        channels: int,
        n_fft: int,
        segment_s: float,
    ) -> None:
        super().__init__(sources, sample_rate, channels)
        check_least(SHORTEST_S, segment_s=segment_s)
        self.n_fft, self._segment = n_fft, round(segment_s * sample_rate)

    @property
    def segment(self) -> int:
        """Samples of a training example."""
        return self._segment

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Estimates ``(B, J, C, T)`` of a mixture ``(B, C, T)``, made alike loud inside."""
        mono = mixture.mean(1, keepdim=True)
        mean, std = mono.mean(-1, keepdim=True), mono.std(-1, keepdim=True, correction=0) + EPS
        n_samples = mixture.shape[-1]
        padded = F.pad((mixture - mean) / std, (0, max(0, self.n_fft - n_samples)))
        found: Tensor = self.network(padded)[..., :n_samples]
        # What all sources have in common, a constant, is shared out.
        return found * std[:, None] + mean[:, None] / len(self.sources)

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Mean absolute error of waveforms."""
        errors = (self(mixture) - references).abs().mean((2, 3))
        return mean_losses(errors, known, self.sources)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam at 3e-4."""
        return torch.optim.Adam(self.parameters(), lr=3e-4)
