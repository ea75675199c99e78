"""Azimuths of bins by the gain at which the weaker channel cancels best: ADRess's axis.

D. Barry, B. Lawlor, E. Coyle, "Real-time sound source separation: azimuth discrimination and
resynthesis", 117th AES Convention, 2004.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPS = 1e-20


def azimuths(spectrum: Tensor, beta: int) -> tuple[Tensor, Tensor]:
    """Place on the axis and depth of the null of each bin, ``(F, N)`` of ``(2, F, N)``.

    Places count from 0, left only, over ``beta``, the centre, to ``2 beta``, right only.
    """
    left, right = spectrum
    is_left = left.abs() >= right.abs()
    strong, weak = torch.where(is_left, left, right), torch.where(is_left, right, left)
    power = strong.abs().square()
    gain = ((strong.conj() * weak).real / (power + EPS)).clamp(0, 1)
    step = torch.floor(beta * gain + 0.5)
    most = torch.maximum(weak.abs(), (weak - strong).abs())
    depth = most - (weak - step / beta * strong).abs()
    index = torch.where(is_left, step, 2 * beta - step).long()
    return index, depth


def azimugram(spectrum: Tensor, beta: int) -> Tensor:
    """The depths of all frequencies, ``(2 beta + 1, N)`` of a spectrum ``(2, F, N)``."""
    index, depth = azimuths(spectrum, beta)
    return torch.zeros(
        2 * beta + 1, depth.shape[1], dtype=depth.dtype, device=depth.device
    ).scatter_add_(0, index, depth)


def level_histogram(spectrum: Tensor, n_pans: int) -> Tensor:
    """Amplitudes by the pan that the channels' levels alone tell, ``(n_pans, N)`` of ``(2, F, N)``.

    Delayed channels do not cancel, and would all lie at the ends of the azimugram.
    """
    left, right = spectrum.abs()
    index = (torch.atan2(right, left) / (math.pi / 2) * (n_pans - 1)).round().long()
    size = torch.hypot(left, right)
    return torch.zeros(n_pans, size.shape[1], dtype=size.dtype).scatter_add_(0, index, size)


def to_degrees(index: Tensor, beta: int) -> Tensor:
    """Pans of places on the axis."""
    side = torch.rad2deg(torch.atan(torch.minimum(index, 2 * beta - index) / beta))
    return torch.where(index <= beta, side, 90 - side)


def from_degrees(pan: Tensor, beta: int) -> Tensor:
    """Places on the axis, not rounded."""
    side = beta * torch.tan(torch.deg2rad(torch.minimum(pan, 90 - pan)))
    return torch.where(pan <= 45, side, 2 * beta - side)
