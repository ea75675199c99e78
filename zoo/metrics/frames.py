"""What every metric takes of a frame: how many there are, their energy, whether they sound."""

from __future__ import annotations

import torch
from torch import Tensor

_PIECE = 4096  # samples


def n_frames(n_samples: int, window: int, hop: int) -> int:
    """Frames of a signal; one that is no longer than a frame is one frame."""
    return 1 if window >= n_samples else (n_samples - window + hop) // hop


def energy(signals: Tensor) -> Tensor:
    """Sum of squares over channels and samples: ``(..., C, T)`` -> ``(...)``."""
    flat = signals.flatten(-2)
    found: Tensor = torch.linalg.vecdot(flat, flat)
    return found


def sounds(signal: Tensor) -> bool:
    """Whether a signal ``(C, T)`` sounds.

    As museval has it, one is silent when its channels sum to zero at every sample.
    """
    # In pieces, since most signals sound in the first.
    return any(bool(piece.sum(0).any()) for piece in signal.split(_PIECE, dim=-1))


def is_finite(signals: Tensor) -> bool:
    """Whether all values are numbers."""
    # What is no number makes no sum; so may finite values, of more than 1e300.
    return bool(signals.sum().isfinite()) or bool(signals.isfinite().all())
