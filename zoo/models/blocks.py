"""Parts that networks of several papers share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
