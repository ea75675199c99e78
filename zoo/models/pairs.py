"""Pair inversion: at most two objects in a bin, and the pair whose parts are sparsest.

Where two objects overlap in a bin, no mask can part them, but two channels can: for each pair of
located objects the two-by-two system has one solution, and the pair with the smallest
``|s_i|^p + |s_k|^p`` is taken.  The composition is ours, of known parts (sparse component analysis
with an l_p norm).

In:  mixture ``(B, 2, T)``.   Out: images ``(B, J, 2, T)``, which sum to the mixture.

Two objects at two places are recovered exactly.  Where the places of all pairs look alike in a bin
(delays at low frequencies) the bin goes to its most likely object.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from zoo.dsp.locate import along
from zoo.errors import check_least
from zoo.models.spatial import HOP, N_FFT, SpatialSeparator

LEAST = 0.05  # determinant of a pair of unit vectors that is inverted


class Pairs(SpatialSeparator):
    """The sparsest pair of objects in each bin.

    Args:
        n_objects, max_delay, locations, n_fft, hop, reverberant: as `SpatialSeparator`.
        p: of the norm that measures sparseness.
    """

    architecture = "pairs"

    def __init__(
        self,
        n_objects: int | None = None,
        max_delay: float = 0,
        locations: Sequence[Sequence[float]] | None = None,
        n_fft: int = N_FFT,
        hop: int = HOP,
        reverberant: bool = False,
        p: float = 0.5,
    ) -> None:
        super().__init__(n_objects, max_delay, locations, n_fft, hop, reverberant)
        self.save_hyperparameters()
        check_least(0, p=p)
        self.p = p

    def images(self, spectrum: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Each bin to the pair that explains it most sparsely."""
        return inverted(spectrum, self.steering(state), self.p)[0]


def inverted(spectrum: Tensor, steered: Tensor, p: float) -> tuple[Tensor, Tensor, Tensor]:
    """Images of a spectrum ``(2, F, N)`` by the cheapest pair of places ``(J, 2, F)``.

    Returns:
        images ``(J, 2, F, N)``; the pair of each bin ``(F, N)``, numbered as
        ``itertools.combinations``, -1 where none could be inverted; the cost of each bin.
    """
    n_objects = len(steered)
    if n_objects == 1:
        zero = torch.zeros(spectrum.shape[1:], device=spectrum.device)
        return spectrum[None], zero.long() - 1, zero
    left, right = spectrum
    cost = torch.full(spectrum.shape[1:], torch.inf, device=spectrum.device).to(left.real.dtype)
    choice = torch.full(spectrum.shape[1:], -1, device=spectrum.device)
    parts = spectrum.new_zeros(2, *spectrum.shape[1:])
    pairs = list(combinations(range(n_objects), 2))
    for number, (i, k) in enumerate(pairs):
        a, b = steered[i], steered[k]
        determinant = a[0] * b[1] - a[1] * b[0]  # (F,)
        is_sound = determinant.abs() >= LEAST
        inverse = torch.where(is_sound, 1 / torch.where(is_sound, determinant, 1), 0)[:, None]
        first = (b[1, :, None] * left - b[0, :, None] * right) * inverse
        second = (a[0, :, None] * right - a[1, :, None] * left) * inverse
        price = first.abs() ** p + second.abs() ** p
        is_best = (price < cost) & is_sound[:, None]
        cost = torch.where(is_best, price, cost)
        choice = torch.where(is_best, number, choice)
        parts = torch.where(is_best, torch.stack([first, second]), parts)
    images = spectrum.new_zeros(n_objects, *spectrum.shape)
    for number, (i, k) in enumerate(pairs):
        here = choice == number
        images[i] += steered[i, :, :, None] * torch.where(here, parts[0], 0)
        images[k] += steered[k, :, :, None] * torch.where(here, parts[1], 0)
    nobody = choice < 0
    if bool(nobody.any()):
        best = along(steered, spectrum).abs().argmax(0)
        for j in range(n_objects):
            images[j] += torch.where(nobody & (best == j), spectrum, 0)
    return images, choice, cost
