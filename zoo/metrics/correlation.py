"""Correlations of references with themselves and with estimates, at the few lags of a short filter.

All that a least-squares filter of the references needs to know of a song, however long, is in them;
and they add up: those of a song are the sum of those of its pieces.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_N_FFT = 4096  # samples; measured fastest, and flat around it
_BATCH = 4  # blocks transformed at once; their spectra stay in the cache


@dataclass
class Correlations:
    """Correlations at lags 0 to L - 1, float64; those at negative lags are the same, mirrored.

    Attributes:
        own: ``(J, C, J, C, L)``; ``own[a, b, k]`` is the sum over t of ``a[t] b[t + k]`` for
            channels a and b of the references, in the `basis`.
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


class Correlator:
    """Correlates the pieces of a song, one after the other, in memory that it keeps.

    To ask the system for it anew with every piece would take more time than the work, and leave
    the heap full of holes.

    Args:
        n_lags: L.
    """

    def __init__(self, n_lags: int) -> None:
        self.n_lags = n_lags
        self._spaces: dict[str, Tensor] = {}

    def __call__(self, references: Tensor, signals: Tensor) -> Correlations:
        """Correlations of a piece.

        Args:
            references: ``(J, C, T)``.
            signals: ``(1 + S, J, C, T')``, T' >= T: the references, then the estimates of S
                systems.  What follows after T samples counts as far as delays of the references
                reach it; with T' = T the piece is taken as if nothing followed.
        """
        n_sources, n_channels, _ = references.shape
        lags = self._lags(turned(references).flatten(0, 1), signals)
        lags = lags.view(n_sources, n_channels, *signals.shape[:3], self.n_lags)
        return Correlations(lags[:, :, 0].contiguous(), lags[:, :, 1:].contiguous())

    def space(self, name: str, *shape: int, like: Tensor, dtype: torch.dtype) -> Tensor:
        """Memory to work in, the same for the same name; what it holds is undefined."""
        n, kept = math.prod(shape), self._spaces.get(name)
        if kept is None or kept.numel() < n or kept.device != like.device or kept.dtype != dtype:
            kept = self._spaces[name] = torch.empty(n, dtype=dtype, device=like.device)
        return kept[:n].view(shape)

    def _lags(self, first: Tensor, signals: Tensor) -> Tensor:
        """``r[a, b, k] = sum over t of first[a, t] second[b, t + k]``, ``(A, B, n_lags)``.

        The second are the signals, with their references in the `basis` as the first are.  Blocks
        of the first meet the stretch of the second that they reach, so that the circular
        correlation of an FFT is the true one at these lags; spectra of all blocks are added before
        the one inverse FFT.
        """
        n_first, n_samples = first.shape
        n_second, length = signals.shape[:3].numel(), signals.shape[3]
        n_fft = max(_N_FFT, _fast_length(2 * self.n_lags))
        n_fft = min(n_fft, _fast_length(n_samples + self.n_lags - 1))
        n_bins, block = n_fft // 2 + 1, n_fft - (self.n_lags - 1)
        n_blocks = -(-n_samples // block)
        space, real, complex_ = self.space, torch.float64, torch.complex128
        a = space("a", n_first, n_blocks * block, like=first, dtype=real)
        b = space("b", n_second, n_blocks * block + self.n_lags - 1, like=first, dtype=real)
        a[:, :n_samples], a[:, n_samples:] = first, 0
        n = min(length, b.shape[1])
        b[:n_first, :n] = turned(signals[0, ..., :n]).flatten(0, 1)
        b[n_first:, :n] = signals[1:, ..., :n].flatten(0, 2)
        b[:, n:] = 0
        a_blocks, b_blocks = a.unfold(-1, block, block), b.unfold(-1, n_fft, block)
        total = space("total", n_bins, n_first, n_second, like=first, dtype=complex_).zero_()
        for k in range(0, n_blocks, _BATCH):
            n = min(_BATCH, n_blocks - k)
            spectra = []
            for name, blocks in (("A", a_blocks), ("B", b_blocks)):
                # Apart in memory: of overlapping ones the transform takes three times as long.
                apart = space(f"{name} blocks", len(blocks), n, n_fft, like=first, dtype=real)
                apart[..., : blocks.shape[-1]] = blocks[:, k : k + n]
                apart[..., blocks.shape[-1] :] = 0
                found = space(name, len(blocks), n, n_bins, like=first, dtype=complex_)
                spectra.append(torch.fft.rfft(apart, out=found))
            left = space("left", n_bins, n_first, n, like=first, dtype=complex_)
            right = space("right", n_bins, n_second, n, like=first, dtype=complex_)
            left.copy_(spectra[0].conj_physical_().permute(2, 0, 1))
            right.copy_(spectra[1].permute(2, 0, 1))
            total.baddbmm_(left, right.transpose(1, 2))
        lags = first.new_empty(n_first, n_second, self.n_lags)
        for i in range(n_first):
            lags[i] = torch.fft.irfft(total[:, i].T, n_fft)[:, : self.n_lags]
        return lags


def basis(n_channels: int) -> Tensor:
    """Orthonormal ``(C, C)``: the first row is the mean of the channels, as mid and side are.

    References are correlated in it.  The channels of a source in the middle hardly differ, and
    what little they do would drown in the rounding of their correlations, but not in its own.
    """
    rows = torch.eye(n_channels, dtype=torch.float64)
    rows[0] = 1
    orthonormal: Tensor = torch.linalg.qr(rows.T)[0].T
    return orthonormal


def turned(references: Tensor) -> Tensor:
    """References ``(J, C, T)`` in the `basis`."""
    return basis(references.shape[1]).to(references) @ references


def _fast_length(n: int) -> int:
    """The next power of two."""
    return 1 << (n - 1).bit_length()
