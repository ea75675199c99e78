"""Multichannel NMF at located objects: the local Gaussian model with spectral patterns.

A. Ozerov, C. Fevotte, "Multichannel nonnegative matrix factorization in convolutive mixtures for
audio source separation", IEEE TASLP 18(3), 2010; H. Sawada et al., "Multichannel extensions of
non-negative matrix factorization with complex-valued data", IEEE TASLP 21(5), 2013.

As `lgm`, but the powers of each object are few patterns and when they sound, ``v_j = W_j H_j``:
what repeats is told apart even in bins where the places do not tell.  The patterns start from the
powers that `lgm` finds; free updates at the end sharpen them again.  The composition and its order
are ours; of the training-free systems measured it is the best.

In:  mixture ``(B, 2, T)``.   Out: images ``(B, J, 2, T)``, which sum to the mixture.

Frames are not independent: longer files are separated in chunks that are cross-faded, each with
patterns of its own.  ``update_covariances`` fits the ``R_j`` too, for places that are not quite
right and for short reverberation; it is on by default for delays beyond 20 samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.errors import RecipeError, check_least
from zoo.models.gaussian import LEAST, Mixture, initial_powers, spatial
from zoo.models.spatial import HOP, N_FFT, SpatialSeparator

N_FREE = 20  # updates of free powers before the patterns
N_PATTERNS = 25  # updates of patterns to those powers
N_LAST = 3  # updates of free powers at the end
WIDE = 20  # samples of delay from which covariances are fitted too
LOADING = 1e-3  # of the identity that a fitted covariance gets


class LocatedNMF(SpatialSeparator):
    """Powers of located objects as spectral patterns.

    Args:
        n_objects, max_delay, locations, n_fft, hop, reverberant: as `SpatialSeparator`.
        n_components: patterns of each object.
        n_iterations: of the joint updates.
        floor: power that an object puts beside its place, as a share. 0.003 was a good one of
            0.001 to 0.03 on three songs ("Caesium", "Francium", "Hydrogen") not reported on.
        update_covariances: fit the spatial covariances too; None: beyond 20 samples of delay.
        n_restarts: random starts, of which the one of the least cost is kept.
        seed: of the random starts.
    """

    architecture = "mnmf"

    def __init__(
        self,
        n_objects: int | None = None,
        max_delay: float = 0,
        locations: Sequence[Sequence[float]] | None = None,
        n_fft: int = N_FFT,
        hop: int = HOP,
        reverberant: bool = False,
        n_components: int = 16,
        n_iterations: int = 40,
        floor: float = 0.003,
        update_covariances: bool | None = None,
        n_restarts: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(n_objects, max_delay, locations, n_fft, hop, reverberant)
        self.save_hyperparameters()
        check_least(1, n_components=n_components, n_iterations=n_iterations, n_restarts=n_restarts)
        if not 0 < floor < math.inf:
            raise RecipeError(f"floor {floor}; expected a number above 0.")
        self.n_components, self.n_iterations, self.floor = n_components, n_iterations, floor
        self.adapts = max_delay > WIDE if update_covariances is None else update_covariances
        self.n_restarts, self.seed = n_restarts, seed

    @property
    def context(self) -> int | None:
        """Unbounded: patterns are shared by all frames."""
        return None

    def images(self, spectrum: Tensor, state: dict[str, Tensor]) -> Tensor:
        """The Wiener filter of the best start."""
        steered = self.steering(state)
        covariances = spatial(steered, self.floor)
        mixture = Mixture(spectrum, covariances)
        free = initial_powers(spectrum, steered)
        for _ in range(N_FREE):
            free = mixture.updated(free)
        best: tuple[float, Mixture, Tensor] | None = None
        for restart in range(self.n_restarts):
            fitted, powers = self._fitted(mixture, free, self.seed + restart)
            cost = float(fitted.cost(powers)) if self.n_restarts > 1 else 0.0
            if best is None or cost < best[0]:
                best = (cost, fitted, powers)
        assert best is not None
        _, fitted, powers = best
        for _ in range(N_LAST):
            powers = fitted.updated(powers)
        return fitted.images(powers)

    def _fitted(self, mixture: Mixture, free: Tensor, seed: int) -> tuple[Mixture, Tensor]:
        """The mixture, with the covariances that were fitted, and the powers."""
        target = free.transpose(0, 1).contiguous()  # (J, F, N)
        generator = torch.Generator().manual_seed(seed)
        patterns, gains = self._start(target, generator)
        for _ in range(N_PATTERNS):
            patterns, gains = _factored(target, patterns, gains)
        for iteration in range(self.n_iterations):
            patterns, gains = _joint(mixture, patterns, gains)
            if self.adapts and iteration >= self.n_iterations // 4:
                mixture, patterns = _adapted(mixture, patterns, gains)
        return mixture, _powers(patterns, gains)

    def _start(self, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        n_objects, n_bins, n_frames = target.shape
        size = (self.n_components,)
        patterns = torch.rand(n_objects, n_bins, *size, generator=generator) + 0.1
        gains = torch.rand(n_objects, *size, n_frames, generator=generator) + 0.1
        level = (target.mean((1, 2)) / self.n_components)[:, None, None]
        return patterns.to(target) * level, gains.to(target)


def _powers(patterns: Tensor, gains: Tensor) -> Tensor:
    """``W_j H_j`` as ``(F, J, N)``."""
    return (patterns @ gains).transpose(0, 1).clamp(min=LEAST)


def _factored(target: Tensor, patterns: Tensor, gains: Tensor) -> tuple[Tensor, Tensor]:
    """One update of patterns and gains to powers ``(J, F, N)``, by the Itakura-Saito divergence."""
    model = (patterns @ gains).clamp(min=LEAST)
    ratio, inverse = target / model.square(), 1 / model
    patterns = patterns * _root(ratio @ gains.mT, inverse @ gains.mT)
    model = (patterns @ gains).clamp(min=LEAST)
    ratio, inverse = target / model.square(), 1 / model
    return patterns, gains * _root(patterns.mT @ ratio, patterns.mT @ inverse)


def _joint(mixture: Mixture, patterns: Tensor, gains: Tensor) -> tuple[Tensor, Tensor]:
    """One update of both to the mixture itself."""
    given, expected = (x.transpose(0, 1) for x in mixture.sums(_powers(patterns, gains)))
    patterns = patterns * _root(given @ gains.mT, expected @ gains.mT)
    given, expected = (x.transpose(0, 1) for x in mixture.sums(_powers(patterns, gains)))
    return patterns, gains * _root(patterns.mT @ given, patterns.mT @ expected)


def _root(numerator: Tensor, denominator: Tensor) -> Tensor:
    return (numerator.clamp(min=0) / denominator.clamp(min=1e-20)).sqrt()


def _adapted(mixture: Mixture, patterns: Tensor, gains: Tensor) -> tuple[Mixture, Tensor]:
    """Covariances after one step of expectation maximisation; patterns take over their scale.

    ``R_j`` becomes the mean over frames of ``y y^H / v + R - v R C^-1 R``, y being the image.
    """
    powers = _powers(patterns, gains)  # (F, J, N)
    images = mixture.images(powers)  # (J, 2, F, N)
    v = powers.transpose(0, 1)
    left, right = images.unbind(1)
    cross = (left * right.conj() / v).mean(-1)
    outer = torch.stack(
        [
            (left.abs().square() / v).mean(-1), (right.abs().square() / v).mean(-1),
            cross.real, cross.imag,
        ], -1,
    )  # fmt: skip
    covariance = mixture.covariance(powers)
    c11, c22, real, imaginary = covariance.unbind(1)
    determinant = (c11 * c22 - real.square() - imaginary.square()).clamp(min=LEAST**2 * 1e-6)
    weight = powers / determinant[:, None]  # (F, J, N)
    n_frames = powers.shape[-1]
    # The frames' mean of v C^-1, then R from both sides.
    inverse = (
        torch.stack([weight @ x[..., None] for x in (c22, c11, -real, -imaginary)], -1).squeeze(2)
        / n_frames
    )  # (F, J, 4)
    r = _matrices(mixture.covariances)
    gained = _matrices(outer.transpose(0, 1)) + r - r @ _matrices(inverse) @ r
    trace = torch.diagonal(gained, dim1=-2, dim2=-1).real.sum(-1).clamp(min=1e-12)
    gained = gained / trace[..., None, None]
    fields = torch.stack(
        [gained[..., 0, 0].real, gained[..., 1, 1].real, gained[..., 0, 1].real,
         gained[..., 0, 1].imag], -1,
    )  # fmt: skip
    fields = fields + LOADING * fields.new_tensor([1, 1, 0, 0])
    spectrum = torch.stack([mixture.left, mixture.right])
    return Mixture(spectrum, fields), patterns * trace.T[..., None]


def _matrices(fields: Tensor) -> Tensor:
    """Hermitian matrices ``(..., 2, 2)`` of fields ``(..., 4)``."""
    r11, r22, real, imaginary = fields.unbind(-1)
    cross = torch.complex(real, imaginary)
    rows = [torch.stack([r11.to(cross), cross], -1), torch.stack([cross.conj(), r22.to(cross)], -1)]
    return torch.stack(rows, -2)
