"""FastICA of two signals: whiten them, then turn them until they are least Gaussian."""

from __future__ import annotations

import math

import torch
from torch import Tensor

GAUSSIAN = 0.37457  # mean of log cosh of a standard Gaussian
STARTS = (0.0, 30.0, 60.0)  # degrees
N_ITERATIONS = 200
ALIKE = 1e-7  # signals whose covariance has a smaller ratio of eigenvalues are one


def fast_ica(samples: Tensor, covariance: Tensor) -> Tensor:
    """The unmixing matrix ``(2, 2)`` of samples ``(2, n)`` without their mean.

    Args:
        samples: some of the signal's.
        covariance: ``(2, 2)`` of all of them.

    Returns:
        Infinities where the two channels are one signal.
    """
    whitening = whitened(covariance)
    if not bool(whitening.isfinite().all()):
        return whitening
    z = whitening @ samples
    best: tuple[float, Tensor] | None = None
    for degrees in STARTS:
        rotation = _fixed_point(z, math.radians(degrees))
        u = rotation @ z
        contrast = float(((_log_cosh(u).mean(1) - GAUSSIAN).square()).sum())
        if best is None or contrast > best[0]:
            best = (contrast, rotation)
    assert best is not None
    return best[1] @ whitening


def whitened(covariance: Tensor) -> Tensor:
    """``D^-1/2 E^T`` of a covariance ``E D E^T``, two by two; infinities where it is singular."""
    a, b, c = covariance[0, 0], covariance[0, 1], covariance[1, 1]
    angle = 0.5 * torch.atan2(2 * b, a - c)
    axes = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()]).view(2, 2)
    spread = torch.hypot(a - c, 2 * b) / 2
    power = torch.stack([(a + c) / 2 + spread, (a + c) / 2 - spread])
    is_one = power[1] <= ALIKE * power[0]
    return torch.where(is_one, torch.inf, axes / power.clamp(min=1e-30).sqrt()[:, None])


def _fixed_point(z: Tensor, start: float) -> Tensor:
    rotation = z.new_tensor([
        [math.cos(start), -math.sin(start)], [math.sin(start), math.cos(start)]
    ])  # fmt: skip
    tolerance = max(1e-10, 4 * torch.finfo(z.dtype).eps)
    for _ in range(N_ITERATIONS):
        g = torch.tanh(rotation @ z)
        slope = (1 - g.square()).mean(1)
        new = _orthogonal(g @ z.T / z.shape[1] - slope[:, None] * rotation)
        change = (new[0] @ rotation[1]).abs()  # sine of the angle between them
        rotation = new
        if float(change) < tolerance:
            break
    return rotation


def _orthogonal(matrix: Tensor) -> Tensor:
    """``(M M^T)^-1/2 M``, the nearest orthogonal matrix, two by two."""
    (a, b), (c, d) = matrix
    sign = torch.where(a * d - b * c < 0, -1.0, 1.0)
    x, y = a + sign * d, b - sign * c  # M plus sign times its cofactors
    near = torch.stack([torch.stack([x, y]), torch.stack([-sign * y, sign * x])])
    return near / torch.hypot(x, y).clamp(min=1e-30)


def _log_cosh(u: Tensor) -> Tensor:
    return u.abs() + torch.nn.functional.softplus(-2 * u.abs()) - math.log(2)
