"""Multi-resolution STFT distance: how far two spectra are apart, whatever their phases.

Spectral convergence plus the mean difference of log magnitudes, at windows of 512, 1024 and 2048
samples with three quarters of overlap, averaged over the windows; auraloss computes it.  It is the
mean over the seconds in which the source sounds, so that a song of any length streams.

Reference: Yamamoto et al., "Parallel WaveGAN", ICASSP 2020; Steinmetz and Reiss, "auraloss:
audio-focused loss functions in PyTorch", DMRN+15, 2020.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

SIZES = (2048, 1024, 512)  # of windows, in samples


class SpectralDistance:
    """Gathers the distances of the seconds of a song, of so many systems and groups of sources."""

    def __init__(self, n_systems: int, n_groups: int) -> None:
        from auraloss.freq import MultiResolutionSTFTLoss

        self._distance: Any = MultiResolutionSTFTLoss(
            list(SIZES), [size // 4 for size in SIZES], list(SIZES)
        )
        self._total = torch.zeros(n_systems, n_groups)
        self._n_seconds = torch.zeros(n_groups)

    @staticmethod
    def is_installed() -> bool:
        """Whether its package is; the extra ``metrics`` brings it."""
        return find_spec("auraloss") is not None

    def push(self, source: Tensor, estimate: Tensor, sounds: Tensor) -> None:
        """One second: source ``(G, C, n)``, estimates ``(S, G, C, n)``, whether it sounds ``(G)``.

        Seconds that are shorter than the largest window count for nothing.
        """
        if source.shape[-1] < SIZES[0]:
            return
        found = torch.zeros(estimate.shape[:2])
        for g in sounds.nonzero()[:, 0].tolist():
            true = source[None, g].float()
            for s, given in enumerate(estimate[:, g]):
                found[s, g] = self._distance(given[None].float(), true)
        self._total = self._total + found
        self._n_seconds = self._n_seconds + sounds.cpu()

    def values(self) -> Tensor:
        """The distances ``(S, G)``; NaN for a source that never sounds."""
        return self._total / self._n_seconds
