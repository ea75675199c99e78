"""Figures of a whole song that stand beside BSS Eval: they tell what it does not, and never rank.

======  ============================================================================
uSDR    ``(|s|^2 + d) / (|s - y|^2 + d)`` in dB, d = 1e-7, over all channels and samples;
        none of a source that is silent throughout
SI-SDR  the same of the best multiple a s: ``|a s|^2 / |a s - y|^2``
SI-SAR  ``|a s|^2`` against what of y is no sum of multiples of the references
NSDR    uSDR less that of the references' sum as the estimate; protocol ``mir1k`` has its own
PES     energy in silence: ``10 log10(mean y^2 + 1e-10)``, the mean over seconds in
        which s is silent; NaN where it never is
MRSTFT  multi-resolution STFT distance, no decibels and better where less; where
        auraloss is installed (`zoo.metrics.spectral`)
======  ============================================================================

There is one a for all channels, and no mean is removed.

References:
    Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019.
    Mitsufuji et al., "Music Demixing Challenge 2021", Frontiers in Signal Processing 1, 2022: uSDR.
    Schulze-Forster et al., "Joint phoneme alignment and text-informed speech separation on highly
    corrupted speech", ICASSP 2020: energy in silence.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.metrics.spectral import SpectralDistance

DELTA = 1e-7
SILENT = 2.0**-30  # mean square: a step of 16 bits, so that no dither and no codec counts as sound


class Overall:
    """Gathers what the figures need, from a song in pieces of any length.

    Args:
        groups: ``(G, J)`` of zeros and ones; row g is the sum of sources that is scored.
        rate: in Hz.

    Attributes:
        gram: ``(J, J)``, products of references.
        cross: ``(S, G, J)``, products of what each system gives for g with reference j.
        source, energy, error: ``|s|^2 (G,)``, ``|y|^2`` and ``|s - y|^2 (S, G)``.
    """

    def __init__(self, groups: Tensor, rate: int) -> None:
        self.groups, self.rate = groups.double(), rate
        self.gram = self.cross = self.source = self.energy = self.error = torch.zeros(())
        self._second: list[tuple[Tensor, Tensor]] = []  # pieces of the second that is under way
        self._distance: SpectralDistance | None = None
        self._silence: Tensor | None = None  # levels in silence, summed
        self._n_silent: Tensor = torch.zeros(())

    def push(self, references: Tensor, estimates: Tensor) -> None:
        """The next samples: references ``(J, C, n)``, estimates ``(S, J, C, n)``."""
        true, found = references.double(), estimates.double()
        source, estimate = self._grouped(true), self._grouped(found)
        if self._distance is None and SpectralDistance.is_installed():
            self._distance = SpectralDistance(*estimate.shape[:2])
        self.gram = self.gram + torch.einsum("jct,kct->jk", true, true)
        self.cross = self.cross + torch.einsum("sgct,jct->sgj", estimate, true)
        self.source = self.source + source.square().sum((-2, -1))
        self.energy = self.energy + estimate.square().sum((-2, -1))
        self.error = self.error + (estimate - source).square().sum((-2, -1))
        self._push_seconds(source, estimate)

    def figures(self) -> list[dict[str, list[float]]]:
        """Metric -> value of each group, for each system."""
        target = torch.einsum("sgj,gj->sg", self.cross, self.groups)  # <y, s>
        scaled = target.square() / self.source  # |a s|^2
        # What of y lies in the span of the references, of which some may be silent or alike.
        inside = torch.einsum(
            "sgj,jk,sgk->sg", self.cross, torch.linalg.pinv(self.gram), self.cross
        )
        rest = 1 - self.groups  # what the sum of all has beside the source
        others = torch.einsum("gj,jk,gk->g", rest, self.gram, rest).clamp(min=0)
        silence = torch.full_like(target, math.nan)
        if self._silence is not None:
            silence = self._silence / self._n_silent  # NaN where there is none
        columns = {
            "uSDR": decibel((self.source + DELTA) / (self.error + DELTA)).where(
                self.source > 0, math.nan
            ),
            "NSDR": decibel((others + DELTA) / (self.error + DELTA)).where(
                self.source > 0, math.nan
            ),
            "SI-SDR": decibel(scaled / (self.energy - scaled).clamp(min=0)),
            "SI-SAR": decibel(scaled / (self.energy - inside).clamp(min=0)),
            "PES": silence,
        }
        if self._distance is not None:
            columns["MRSTFT"] = self._distance.values()
        return [{name: x[s].tolist() for name, x in columns.items()} for s in range(len(target))]

    def _grouped(self, signals: Tensor) -> Tensor:
        return torch.einsum("gj,...jct->...gct", self.groups.to(signals), signals)

    def _push_seconds(self, source: Tensor, estimate: Tensor) -> None:
        """Sources ``(G, C, n)`` and estimates ``(S, G, C, n)``; whole seconds are taken of them."""
        self._second.append((source, estimate))
        if sum(s.shape[-1] for s, _ in self._second) < self.rate:
            return
        source, estimate = (torch.cat(list(x), -1) for x in zip(*self._second, strict=True))
        while source.shape[-1] >= self.rate:
            self._take_second(source[..., : self.rate], estimate[..., : self.rate])
            source, estimate = source[..., self.rate :], estimate[..., self.rate :]
        self._second = [(source, estimate)]

    def _take_second(self, source: Tensor, estimate: Tensor) -> None:
        silent = source.square().mean((-2, -1)) < SILENT
        level = 10 * torch.log10(estimate.square().mean((-2, -1)) + 1e-10)
        total = torch.where(silent, level, 0)
        self._silence = total if self._silence is None else self._silence + total
        self._n_silent = self._n_silent + silent
        if self._distance is not None:
            self._distance.push(source, estimate, ~silent)


def decibel(ratio: Tensor) -> Tensor:
    """A ratio of energies in dB."""
    return 10 * torch.log10(ratio)
