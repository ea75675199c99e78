"""Filters of the references that come nearest to the estimates, in the sense of least squares."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.linalg.lapack import dlange, dpocon, dpotrf, dpotrs
from torch import Tensor

from zoo.metrics.correlation import Correlations

_EPS = torch.finfo(torch.float64).eps
_PROPORTIONAL = 1e-12  # share of a channel's energy that a multiple of another leaves
_RIDGE = 1e-14  # of the mean of the diagonal; the least that saves dependent sources


@dataclass
class Filters:
    """What an estimate is made of, as filters of the references.

    Attributes:
        every: ``(J, C, L, S, J, C)``, one filter of each channel of all references for each channel
            of each estimate.
        own: ``(J, C, L, S, C)``, of the channels of the estimated source's own reference.
        rcond: reciprocal condition number of the Gram matrix that gave ``every``, as estimated by
            LAPACK; 0 where Cholesky's factorisation failed.
    """

    every: Tensor
    own: Tensor
    rcond: float


def project(correlations: Correlations) -> Filters:
    """The filters that project estimates on the references, all of them and each alone.

    Notes:
        Channels that are silent, or a multiple of another channel of their source, are left out:
        the span stays the same, and the matrix has an inverse.  Nothing is regularised unless all
        else has failed: a ridge moves the SIR by decibels where references have no energy.
    """
    own, cross = correlations.own, correlations.cross
    n_sources, n_channels, n_lags = own.shape[0], own.shape[1], own.shape[-1]
    n_systems = cross.shape[2]
    kept = _independent(own)
    flat = own.reshape(n_sources * n_channels, n_sources * n_channels, n_lags)
    right = cross.permute(0, 1, 5, 2, 3, 4).flatten(3).flatten(0, 1)  # (JC, L, SJC)
    every = right.new_zeros(right.shape)
    channels = kept.flatten().nonzero()[:, 0]
    solution, rcond = solve(flat[channels][:, channels], right[channels].flatten(0, 1))
    every[channels] = solution.reshape(len(channels), n_lags, right.shape[-1])
    every = every.reshape(n_sources, n_channels, n_lags, n_systems, n_sources, n_channels)
    alone = cross.new_zeros(n_sources, n_channels, n_lags, n_systems, n_channels)
    if n_sources == 1:  # the same problem; interference is none, to the last digit
        alone[0] = every[0, :, :, :, 0]
        return Filters(every, alone, rcond)
    for j in range(n_sources):
        channels = kept[j].nonzero()[:, 0]
        lags = own[j, channels][:, j, channels]
        mine = cross[j, channels, :, j].permute(0, 3, 1, 2).flatten(2)  # (C', L, SC)
        found, _ = solve(lags, mine.flatten(0, 1))
        alone[j, channels] = found.reshape(len(channels), n_lags, n_systems, n_channels)
    return Filters(every, alone, rcond)


def gram(lags: Tensor) -> Tensor:
    """Inner products of all channels at all delays, ``(M L, M L)``, from ``(M, M, L)`` lags.

    The inner product of channel a delayed by k and b by l is ``r_ab[k - l]``: blocks are Toeplitz.
    """
    n_channels, _, n_lags = lags.shape
    mirrored = torch.cat([lags.transpose(0, 1)[..., 1:].flip(-1), lags], -1)  # -L+1 ... L-1
    matrix = lags.new_empty(n_channels, n_lags, n_channels, n_lags)
    for a in range(n_channels):
        matrix[a] = mirrored[a].unfold(-1, n_lags, 1).flip(-1).transpose(0, 1)
    return matrix.view(n_channels * n_lags, n_channels * n_lags)


def solve(lags: Tensor, right: Tensor) -> tuple[Tensor, float]:
    """Solution ``(M L, E)`` of a Gram matrix's system, and its reciprocal condition number.

    Cholesky; where the matrix is not definite to rounding, LU; where it is singular, a ridge.

    Args:
        lags: ``(M, M, L)``, as `gram` takes them.
        right: ``(M L, E)``.
    """
    if not len(lags):  # every channel was silent
        return right, 1.0
    matrix = gram(lags)
    found = _by_cholesky_in_place(matrix, right) if right.device.type == "cpu" else None
    if found is not None:
        return found
    matrix = gram(lags)
    norm = float(matrix.abs().sum(0).max())
    matrix.diagonal().add_(_EPS)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not int(failed):
        rcond, _ = dpocon(factor.cpu().numpy(), norm, uplo="L")
        return torch.cholesky_solve(right, factor), float(rcond)
    del factor
    solution, failed = torch.linalg.solve_ex(matrix, right)
    if int(failed) or not bool(solution.isfinite().all()):
        matrix.diagonal().add_(_RIDGE * float(matrix.diagonal().mean()))
        factor, failed = torch.linalg.cholesky_ex(matrix)
        solution = torch.cholesky_solve(right, factor) if not int(failed) else right * math.nan
    return solution, 0.0


def _by_cholesky_in_place(matrix: Tensor, right: Tensor) -> tuple[Tensor, float] | None:
    """`solve` of a definite matrix, in half the time and memory; None where it is not definite."""
    upper = matrix.numpy().T  # symmetric, now in LAPACK's order
    norm = dlange("1", upper)
    matrix.diagonal().add_(_EPS)
    factor, failed = dpotrf(upper, lower=0, clean=0, overwrite_a=1)
    if failed:
        return None
    rcond, _ = dpocon(factor, norm, uplo="U")
    solution, _ = dpotrs(factor, right.numpy(), lower=0)
    return torch.from_numpy(solution), float(rcond)


def _independent(own: Tensor) -> Tensor:
    """Channels ``(J, C)`` that are neither silent nor a multiple of an earlier one's."""
    power = own[..., 0]  # (J, C, J, C)
    n_sources, n_channels = power.shape[:2]
    kept = torch.zeros(n_sources, n_channels, dtype=torch.bool)
    for j in range(n_sources):
        inner = power[j, :, j]
        for c in range(n_channels):
            earlier = [float(inner[c, i] ** 2 / inner[i, i]) for i in range(c) if kept[j, i]]
            left = float(inner[c, c]) - max(earlier, default=0.0)
            kept[j, c] = left > _PROPORTIONAL * float(inner[c, c])
    return kept
