"""The local Gaussian model at located objects.

N. Duong, E. Vincent, R. Gribonval, "Under-determined reverberant audio source separation using a
full-rank spatial covariance model", IEEE TASLP 18(7), 2010, is the model: in each bin, object j's
image is Gaussian of covariance ``v_j R_j``.  Here ``R_j = a_j a_j^H + floor I`` is fixed by the
place, and only the powers ``v_j`` are fitted, bin by bin, by multiplicative updates that never
raise the negative log likelihood.  The composition is ours.

In:  mixture ``(B, 2, T)``.   Out: images ``(B, J, 2, T)``, which sum to the mixture.

The two-by-two matrices are inverted in closed form, on four real fields: c11, c22, Re c12, Im c12.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from zoo.errors import RecipeError, check_least
from zoo.models.gaussian import Mixture, initial_powers, spatial
from zoo.models.spatial import HOP, N_FFT, SpatialSeparator


class LocalGaussian(SpatialSeparator):
    """Powers of located objects, fitted in each bin by itself.

    Args:
        n_objects, max_delay, locations, n_fft, hop, reverberant: as `SpatialSeparator`.
        n_iterations: of the updates.
        floor: power that an object puts beside its place, as a share.
    """

    architecture = "lgm"

    def __init__(
        self,
        n_objects: int | None = None,
        max_delay: float = 0,
        locations: Sequence[Sequence[float]] | None = None,
        n_fft: int = N_FFT,
        hop: int = HOP,
        reverberant: bool = False,
        n_iterations: int = 20,
        floor: float = 0.01,
    ) -> None:
        super().__init__(n_objects, max_delay, locations, n_fft, hop, reverberant)
        self.save_hyperparameters()
        check_least(1, n_iterations=n_iterations)
        if not 0 < floor < math.inf:
            raise RecipeError(f"floor {floor}; expected a number above 0.")
        self.n_iterations, self.floor = n_iterations, floor

    def images(self, spectrum: Tensor, state: dict[str, Tensor]) -> Tensor:
        """The Wiener filter of the fitted powers."""
        steered = self.steering(state)
        mixture = Mixture(spectrum, spatial(steered, self.floor))
        powers = initial_powers(spectrum, steered)
        for _ in range(self.n_iterations):
            powers = mixture.updated(powers)
        return mixture.images(powers)
