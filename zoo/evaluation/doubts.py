"""Signs that estimates on disk are not what they claim to be: delayed, turned round, misnamed...

They are told and never mended: what a score says of shifted or swapped stems is true of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.errors import count

_BLOCK = 1 << 16  # samples; lags below it are found
_CLEAR = 2.0  # times as high as at no lag, and at any other
_NEARER = 0.1  # of correlation
_INVERTED = -0.5  # correlation
_CLOSE = 0.95  # correlation from which on a level can be told
_FAR_DB = 3.0  # from the reference's level


class Doubts:
    """Looks at references and estimates of one track as they pass by.

    Args:
        sources: their names.
        rate: in Hz.
    """

    def __init__(self, sources: Sequence[str], rate: int) -> None:
        self.sources, self.rate = list(sources), rate
        n = len(self.sources)
        self._products = torch.zeros(n, n, dtype=torch.float64)  # estimates by references
        self._energies = torch.zeros(2, n, dtype=torch.float64)
        self._channels: Tensor = torch.zeros(())  # (J, C, C), estimates by references
        self._spectra = torch.zeros(n, _BLOCK + 1, dtype=torch.complex128)
        self._waiting: list[Tensor] = []

    def push(self, references: Tensor, estimates: Tensor) -> None:
        """The next samples, ``(J, C, n)`` each."""
        signals = torch.stack([references, estimates])
        true, found = signals.double().flatten(2)
        self._products += found @ true.T
        self._energies += torch.stack([true, found]).square().sum(-1)
        by_channel = torch.einsum("jct,jdt->jcd", estimates.double(), references.double())
        self._channels = self._channels + by_channel
        self._waiting.append(signals)
        if sum(x.shape[-1] for x in self._waiting) >= _BLOCK:
            signals = torch.cat(self._waiting, -1)
            whole = signals.shape[-1] // _BLOCK * _BLOCK
            for start in range(0, whole, _BLOCK):
                self._correlate(signals[..., start : start + _BLOCK])
            self._waiting = [signals[..., whole:]]

    def found(self) -> list[str]:
        """What is doubtful, one line each."""
        if not self._channels.ndim:
            return []
        return [*self._turned(), *self._delays(), *self._swaps(), *self._levels()]

    def lags(self) -> dict[str, int]:
        """Source -> samples by which its estimate comes late, where that is sure."""
        if self._waiting:
            self._correlate(torch.cat(self._waiting, -1))
            self._waiting = []
        # Of the cross-spectrum only the phase: its peak is sharp, however tonal the music.
        whitened = self._spectra / self._spectra.abs().clamp(min=1e-300)
        peaks = torch.fft.irfft(whitened, 2 * _BLOCK)
        peaks = torch.fft.fftshift(peaks, 1).abs()  # no lag at _BLOCK; inverted, a peak is a dip
        lags = {}
        for source, heights in zip(self.sources, peaks, strict=True):
            height, at = heights.max(0)
            lag = int(at) - _BLOCK
            near = heights.clone()
            near[max(0, int(at) - 3) : int(at) + 4] = 0
            rival = max(float(near.max()), float(heights[_BLOCK]) if lag else 0.0)
            if float(height) > _CLEAR * rival:
                lags[source] = lag
        return lags

    def _correlate(self, signals: Tensor) -> None:
        true, found = torch.fft.rfft(signals.double(), 2 * _BLOCK)
        self._spectra += (true.conj() * found).sum(1)

    def _delays(self) -> list[str]:
        lags = self.lags()
        unsure = ", ".join(s for s in self.sources if s not in lags)
        lines = []
        for lag in dict.fromkeys(filter(None, lags.values())):
            named = ", ".join(s for s, x in lags.items() if x == lag)
            when = "late" if lag > 0 else "early"
            lines.append(
                f"{named}: {count(abs(lag), 'sample')} ({1000 * abs(lag) / self.rate:.1f} ms) "
                f"{when}{f', {unsure} perhaps too' if unsure else ''}; scored where they lie"
            )
        return lines

    def _correlations(self) -> Tensor:
        """Of estimates with references, ``(J, J)``."""
        norms = self._energies[1][:, None] * self._energies[0]
        return self._products / norms.sqrt().clamp(min=1e-30)

    def _turned(self) -> list[str]:
        """Inverted polarity, and left for right."""
        lines = [
            f"{source}: the polarity looks inverted; scored as it is"
            for source, r in zip(self.sources, self._correlations().diagonal(), strict=True)
            if float(r) < _INVERTED
        ]
        if self._channels.shape[1] != 2:
            return lines
        straight = self._channels.diagonal(dim1=1, dim2=2).sum(1)
        crossed = self._channels.sum((1, 2)) - straight
        norms = self._energies.prod(0).sqrt().clamp(min=1e-30)
        nearness = (crossed - straight.abs()) / norms
        for source, nearer in zip(self.sources, nearness, strict=True):
            if float(nearer) > _NEARER:
                lines.append(f"{source}: left and right look swapped; scored as they are")
        return lines

    def _levels(self) -> list[str]:
        """Estimates that are near their references but for their level."""
        gains = self._products.diagonal() / self._energies[0].clamp(min=1e-30)
        lines = []
        for source, r, gain in zip(
            self.sources, self._correlations().diagonal(), gains, strict=True
        ):
            level = 20 * math.log10(max(float(gain), 1e-30))
            if float(r) > _CLOSE and abs(level) > _FAR_DB:
                how = "louder" if level > 0 else "softer"
                lines.append(
                    f"{source}: {abs(level):.1f} dB {how} than its reference; scored as it is"
                )
        return lines

    def _swaps(self) -> list[str]:
        nearness = self._correlations().abs()
        own = nearness.diagonal()
        others = nearness - torch.diag(torch.full_like(own, 2))
        nearest = [
            int(best) if float(height) > float(mine) + _NEARER else j
            for j, (height, best, mine) in enumerate(zip(*others.max(1), own, strict=True))
        ]
        lines = []
        for first in range(len(nearest)):
            cycle, j = [first], nearest[first]
            while j not in cycle:
                cycle.append(j)
                j = nearest[j]
            if len(cycle) > 1 and j == first == min(cycle):
                named = ", ".join(self.sources[j] for j in cycle)
                lines.append(
                    f"{named} look swapped: the estimate of {self.sources[first]} is nearer to the "
                    f"{self.sources[cycle[1]]}, and so on; scored as they are named"
                )
        return lines
