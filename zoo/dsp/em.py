"""Expectation maximisation of the local Gaussian model: sources as power times spatial covariance.

A source's spectrum in all channels is Gaussian with covariance ``v_j(f, n) R_j(f)``.  Given both,
the Wiener filter estimates the sources; given estimates, new covariances follow.

=============  ======================================================================
update         new R_j(f)
=============  ======================================================================
exact          mean over frames of ``S_j / v_j``: maximum likelihood
weighted       ``sum S_j / sum v_j``: loud frames count more
simplified     the same with ``y_j y_j'`` for S_j, without the posterior's covariance
=============  ======================================================================

where y_j is the estimate and ``S_j = y_j y_j' + (I - W_j) v_j R_j`` its second moment.  R_j has
trace C; its scale goes to v_j.

References:
    Duong, Vincent, Gribonval, "Under-determined reverberant audio source separation using a
    full-rank spatial covariance model", IEEE TASLP 18(7), 2010.
    Nugraha, Liutkus, Vincent, "Multichannel audio source separation with deep neural networks",
    IEEE/ACM TASLP 24(9), 2016: the weighted updates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Update = Literal["exact", "weighted", "simplified"]

DELTA = 1e-4  # of the mean power of a channel, added to the mixture's covariance; for complex64
FLOOR = 1e-20  # of powers
RIDGE = 1e-6  # of a covariance's trace, before it is inverted
BINS_AT_ONCE = 32


@dataclass(frozen=True)
class Statistics:
    """What new covariances are made of, summed over frames: the sums of parts of a song add up.

    Attributes:
        numerator: complex ``(B, J, F, C, C)``.
        denominator: ``(B, J, F)``.
    """

    numerator: Tensor
    denominator: Tensor

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(self.numerator + other.numerator, self.denominator + other.denominator)

    def covariances(self) -> tuple[Tensor, Tensor]:
        """R_j ``(B, J, F, C, C)`` with trace C, and the factor ``(B, J, F)`` that goes to v_j."""
        n_channels = self.numerator.shape[-1]
        raw = self.numerator / self.denominator.clamp(min=FLOOR)[..., None, None]
        scale = raw.diagonal(dim1=-2, dim2=-1).real.sum(-1) / n_channels
        is_dead = scale < FLOOR
        identity = torch.eye(n_channels, dtype=raw.dtype, device=raw.device)
        unit = raw / scale.clamp(min=FLOOR)[..., None, None]
        return torch.where(is_dead[..., None, None], identity, unit), scale.masked_fill(is_dead, 1)


def identity_covariances(powers: Tensor, mixture: Tensor) -> Tensor:
    """Covariances that know nothing of places, ``(B, J, F, C, C)``."""
    n_channels = mixture.shape[1]
    eye = torch.eye(n_channels, dtype=mixture.dtype, device=mixture.device)
    return eye.expand(*powers.shape[:3], n_channels, n_channels)


def filtered(powers: Tensor, covariances: Tensor, mixture: Tensor) -> Tensor:
    """Estimates ``(B, J, C, F, N)``: the multichannel Wiener filter.

    Args:
        powers: v, ``(B, J, F, N)``.
        covariances: R, ``(B, J, F, C, C)``.
        mixture: ``(B, C, F, N)``.
    """
    parts = [
        _posterior(powers[:, :, f], covariances[:, :, f], mixture[:, :, f])[0]
        for f in _blocks(mixture)
    ]
    return torch.cat(parts, 2).permute(0, 1, 4, 2, 3)


def step(
    powers: Tensor, covariances: Tensor, mixture: Tensor, update: Update
) -> tuple[Statistics, Tensor]:
    """One iteration: what new covariances are made of, and new powers.

    Args:
        powers: v, ``(B, J, F, N)``.
        covariances: R, ``(B, J, F, C, C)``.
        mixture: ``(B, C, F, N)``.
        update: see the file.

    Returns:
        The statistics, and z ``(B, J, F, N)``, the powers that R as it was gives the estimates.
    """
    numerators, denominators, found = [], [], []
    for f in _blocks(mixture):
        v, r = powers[:, :, f].clamp(min=FLOOR), covariances[:, :, f]
        y, w = _posterior(v, r, mixture[:, :, f])  # (B, J, F, N, C), (B, J, F, N, C, C)
        moment = y[..., :, None] * y[..., None, :].conj()
        eye = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)
        prior = v[..., None, None] * r[:, :, :, None]
        full = moment + (eye - w) @ prior
        weight = torch.ones_like(v) if update == "exact" else v
        counted = full / v[..., None, None] if update == "exact" else full
        numerators.append((moment if update == "simplified" else counted).sum(3))
        denominators.append(weight.sum(-1))
        n_channels = y.shape[-1]
        trace = r.diagonal(dim1=-2, dim2=-1).real.sum(-1)[..., None, None]
        inverse = torch.linalg.inv(r + RIDGE * trace / n_channels * eye)
        z = torch.einsum("bjfcd,bjfndc->bjfn", inverse, full).real / n_channels
        found.append(z.clamp(min=0))
    return Statistics(torch.cat(numerators, 2), torch.cat(denominators, 2)), torch.cat(found, 2)


def _posterior(v: Tensor, r: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Estimates ``(B, J, F, N, C)`` and filters ``(B, J, F, N, C, C)`` in some bins."""
    columns = x.permute(0, 2, 3, 1)  # (B, F, N, C)
    prior = v[..., None, None] * r[:, :, :, None]  # (B, J, F, N, C, C)
    total = prior.sum(1)
    n_channels = total.shape[-1]
    power = total.diagonal(dim1=-2, dim2=-1).real.sum(-1)[..., None, None] / n_channels
    eye = torch.eye(n_channels, dtype=x.dtype, device=x.device)
    w = prior @ torch.linalg.inv(total + (DELTA * power + FLOOR) * eye)[:, None]
    return (w @ columns[:, None, ..., None])[..., 0], w


def _blocks(mixture: Tensor) -> list[slice]:
    n_bins = mixture.shape[2]
    return [slice(f, min(f + BINS_AT_ONCE, n_bins)) for f in range(0, n_bins, BINS_AT_ONCE)]
