"""Correlations of references with themselves and with estimates, at the few lags of a short filter.

All that a least-squares filter of the references needs to know of a song, however long, is in them;
and they add up: those of a song are the sum of those of its pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

_N_FFT = 8192  # samples; measured fastest, and flat around it
_BATCH = 8  # blocks transformed at once; more fall out of the cache


@dataclass
class Correlations:
    """Correlations at lags 0 to L - 1, float64; those at negative lags are the same, mirrored.

    Attributes:
        own: ``(J, C, J, C, L)``; ``own[a, b, k]`` is the sum over t of ``a[t] b[t + k]`` for
            channels a and b of the references.
        cross: ``(J, C, S, J, C, L)``; the same for channels a of the references and b of the
            estimates of S systems.
    """

    own: Tensor
    cross: Tensor

    def __add__(self, other: Correlations) -> Correlations:
        return Correlations(self.own + other.own, self.cross + other.cross)

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return self.own.nbytes + self.cross.nbytes

    def grouped(self, groups: Tensor) -> Correlations:
        """Those of sums of sources, at no cost: correlation is linear.

        Args:
            groups: ``(G, J)``; row g says how often source j is in group g.
        """
        own = torch.einsum("gj,hi,jcidl->gchdl", groups, groups, self.own)
        cross = torch.einsum("gj,hi,jcsidl->gcshdl", groups, groups, self.cross)
        return Correlations(own, cross)


def correlate(references: Tensor, signals: Tensor, n_lags: int) -> Correlations:
    """Correlations of a piece of a song.

    Args:
        references: ``(J, C, T)``.
        signals: ``(1 + S, J, C, T')``, T' >= T: the references, then the estimates of S systems.
            What follows after T samples counts as far as delays of the references reach it;
            with T' = T the piece is taken as if nothing followed.
        n_lags: L.
    """
    n_sources, n_channels, _ = references.shape
    lags = _correlate(references.flatten(0, 1), signals.flatten(0, 2), n_lags)
    lags = lags.view(n_sources, n_channels, *signals.shape[:3], n_lags)
    return Correlations(lags[:, :, 0].contiguous(), lags[:, :, 1:].contiguous())


def _correlate(first: Tensor, second: Tensor, n_lags: int) -> Tensor:
    """``r[a, b, k] = sum over t of first[a, t] second[b, t + k]``, ``(A, B, n_lags)``.

    Blocks of ``first`` meet the stretch of ``second`` that they reach, so that the circular
    correlation of an FFT is the true one at these lags; spectra of all blocks are added before the
    one inverse FFT.
    """
    n_samples, length = first.shape[1], second.shape[1]
    n_fft = max(_N_FFT, _fast_length(2 * n_lags))
    n_fft = min(n_fft, _fast_length(n_samples + n_lags - 1))
    block = n_fft - (n_lags - 1)
    n_blocks = -(-n_samples // block)
    first = pad(first, (0, n_blocks * block - n_samples)).unfold(-1, block, block)
    needed = n_blocks * block + n_lags - 1
    second = pad(second, (0, max(0, needed - length)))[..., :needed].unfold(-1, n_fft, block)
    total = first.new_zeros(n_fft // 2 + 1, len(first), len(second), dtype=torch.complex128)
    for k in range(0, n_blocks, _BATCH):
        a = torch.fft.rfft(first[:, k : k + _BATCH], n_fft).conj_physical_()  # (A, K, F)
        b = torch.fft.rfft(second[:, k : k + _BATCH], n_fft)
        total.baddbmm_(a.permute(2, 0, 1).contiguous(), b.permute(2, 1, 0).contiguous())
    lags: Tensor = torch.fft.irfft(total.permute(1, 2, 0), n_fft)[..., :n_lags]
    return lags


def _fast_length(n: int) -> int:
    """The next power of two."""
    return 1 << (n - 1).bit_length()
