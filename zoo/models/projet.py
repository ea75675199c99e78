"""PROJET: projections in which places cancel, and the objects that explain what is left.

D. FitzGerald, A. Liutkus, R. Badeau, "PROJET - Spatial audio separation using projections", ICASSP
2016 (pans); the same, "Projection-based demixing of spatial audio", IEEE/ACM TASLP 24(9), 2016,
pp. 1560-1572, doi 10.1109/TASLP.2016.2570945 (pans and delays).

A projection ``c_m = n_m^T x``, with n_m orthogonal to a place, cancels whatever sits there.  Each
object is a sum of independent alpha-stable parts from L places; seen in a projection, its
scale^alpha is ``P_j(f, t) sum_l K_ml(f) Q_lj`` with ``K_ml = |n_m^T a_l|^alpha``, so a set of
projections is a non-negative factorisation for the spectrograms P and the places Q of all objects:

    sigma_m(f, t) = sum_j P_j(f, t) (K Q)_mj(f),      fitted to      V_m = |c_m|^alpha.

In:  mixture ``(B, 2, T)``.   Out: images ``(B, J, 2, T)``, which sum to the mixture.

Departures from the papers
    * Objects are located first (`zoo.dsp.locate`) and Q starts there: from a random start two
      objects often share a place while another is split. ``start="random"`` on a grid of places,
      the best of ``n_restarts`` by its cost, is the papers' way (catalog name ``projet-paper``).
    * Q has few entries: it is fitted to the loudest bins of the song during the survey and then
      fixed, so that all frames are independent and files of any length stream.
    * ``divergence="is"`` with ``alpha=2`` (``projet-is``) blurs close objects less than the papers'
      1-stable parts with the Kullback-Leibler divergence, which are the default.

The rows n_m turn with ``exp(+i w tau)``. With the opposite sign, as in public code, they cancel the
mirrored delay. Unconfirmed: the papers' numbers of places and iterations for each experiment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from zoo.dsp.locate import APART, BLOCK, Places, Zones, frequencies
from zoo.dsp.two_by_two import inverse
from zoo.errors import RecipeError, check_choice, check_least
from zoo.models.spatial import HOP, N_FFT, RATE, SpatialSeparator

N_PANS = 8  # of the projections: pans give three real numbers a bin, so more only cost time
N_DELAYS = 9  # of the projections from a random start
GRID_PANS = 30  # of a random start's places
N_LEARN = 30  # updates of Q on the loudest bins
LOUD = 0.02  # share of a block's bins that these are
MOST_LOUD = 12_000
MOST_TERMS = 4e7  # bins times projections times places, in one update of Q
LEAK = 1e-3  # of an object at the others' places
EPS = 1e-9  # of the mean of V

Sides = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # of V and its model: A and B


class Projet(SpatialSeparator):
    """Objects by their projections.

    Args:
        n_objects, max_delay, locations, n_fft, hop, reverberant: as `SpatialSeparator`.
        divergence: ``"kl"``, ``"is"``, ``"cauchy"``, or ``"beta"``.
        alpha: of the stable distribution, above 0 and at most 2.
        beta: of the beta divergence; 1 is "kl", 0 "is".
        start: ``"located"`` or ``"random"``.
        n_iterations: updates of the spectrograms.
        n_learn: updates of the places, on the loudest bins.
        n_restarts: random starts, of which the one of the least cost is kept.
        seed: of random starts.
    """

    architecture = "projet"

    def __init__(
        self,
        n_objects: int | None = None,
        max_delay: float = 0,
        locations: Sequence[Sequence[float]] | None = None,
        n_fft: int = N_FFT,
        hop: int = HOP,
        reverberant: bool = False,
        divergence: Literal["kl", "is", "cauchy", "beta"] = "kl",
        alpha: float = 1.0,
        beta: float = 1.0,
        start: Literal["located", "random"] = "located",
        n_iterations: int = 30,
        n_learn: int = N_LEARN,
        n_restarts: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(n_objects, max_delay, locations, n_fft, hop, reverberant)
        self.save_hyperparameters()
        check_choice("divergence", divergence, ("kl", "is", "cauchy", "beta"))
        check_choice("start", start, ("located", "random"))
        if start == "random" and locations is not None:
            raise RecipeError("start 'random' finds places itself; leave locations out.")
        if not math.isfinite(beta):
            raise RecipeError(f"beta {beta}; expected a number.")
        check_least(1, n_iterations=n_iterations, n_learn=n_learn, n_restarts=n_restarts)
        if not 0 < alpha <= 2:
            raise RecipeError(f"alpha {alpha}; expected a number above 0 and at most 2.")
        self.divergence, self.alpha, self.beta = divergence, alpha, beta
        self.start, self.n_iterations, self.n_learn = start, n_iterations, n_learn
        self.n_restarts, self.seed = n_restarts, seed

    # ----------------------------------------------------------------- the survey

    def _zones(self, n_bins: int) -> Zones:
        return LoudZones(n_bins, self.max_delay > 0, self.reverberant)

    def learned(self, zones: Zones, places: Places) -> dict[str, Tensor]:
        """Places ``(L,)`` twice, and what each object has of them, ``gains (L, J)``."""
        assert isinstance(zones, LoudZones)
        spectrum, frequency = zones.loudest()  # (2, n), (n,)
        grid = self._grid(places)
        n_objects = len(places)
        probes = self._probes(places)
        step = math.ceil(len(frequency) * len(probes[0]) * len(grid[0]) / MOST_TERMS)
        spectrum, frequency = spectrum[:, ::step], frequency[::step]
        rows = projections(*probes, frequency)  # (n, M, 2)
        columns = steered_at(*grid, frequency)  # (n, 2, L)
        seen = (rows @ spectrum.T[..., None]).abs() ** self.alpha  # (n, M, 1)
        seen = seen / seen.mean().clamp(min=EPS)
        kernel = (rows @ columns).abs() ** self.alpha  # (n, M, L)
        best: tuple[float, Tensor] | None = None
        for restart in range(self.n_restarts if self.start == "random" else 1):
            gains = self._first(grid[0].numel(), n_objects, restart).to(seen)
            powers = torch.ones(len(seen), n_objects, 1, device=seen.device)
            for _ in range(self.n_learn):
                powers = updated_powers(powers, kernel, gains, seen, self._sides, EPS)
                gains = updated_gains(powers, kernel, gains, seen, self._sides, EPS)
                total = gains.sum(0)
                gains, powers = gains / total, powers * total[:, None]
            cost = float(self.cost(seen, (kernel @ gains) @ powers))
            if best is None or cost < best[0]:
                best = (cost, gains)
        assert best is not None
        gains = best[1]
        if self.start == "random":  # objects where most of them is
            centre = (grid[0] @ gains) / gains.sum(0)
            gains = gains[:, centre.argsort()]
        return {"grid_pan": grid[0], "grid_delay": grid[1], "gains": gains}

    def _located(self, zones: Zones) -> dict[str, Tensor]:
        state = super()._located(zones)
        if self.start == "random":  # where most of each object is
            gains = state["gains"]
            state["pan"] = (state["grid_pan"][:, None] * gains).sum(0)
            state["delay"] = (state["grid_delay"][:, None] * gains).sum(0)
        return state

    def _grid(self, places: Places) -> tuple[Tensor, Tensor]:
        """Pans and delays ``(L,)`` that objects may be made of."""
        if self.start == "located":
            return places.pan, places.delay
        reach = self.max_delay * self.rate / RATE
        pans = torch.linspace(0, 90, GRID_PANS)
        delays = torch.linspace(-reach, reach, 2 * math.ceil(reach) + 1)
        both = torch.cartesian_prod(pans, delays).to(places.pan)
        return both[:, 0], both[:, 1]

    def _first(self, n_places: int, n_objects: int, restart: int) -> Tensor:
        if self.start == "located":
            return torch.eye(n_objects) + LEAK
        generator = torch.Generator().manual_seed(self.seed + restart)
        return torch.randn(n_places, n_objects, generator=generator).abs() + 1

    def _probes(self, places: Places) -> tuple[Tensor, Tensor]:
        """Pans and delays ``(M,)`` that the projections cancel."""
        pans = torch.linspace(0, 90, N_PANS)
        if self.max_delay == 0 and self.locations is None:
            return pans.to(places.pan), torch.zeros(N_PANS).to(places.pan)
        if self.start == "random":  # as wide whatever is found: the survey and the song see alike
            reach = self.max_delay * self.rate / RATE
            delays = torch.linspace(-reach, reach, N_DELAYS).to(places.pan)
        else:
            delays = _distinct(places.delay)
        both = torch.cartesian_prod(pans.to(places.pan), delays)
        return both[:, 0], both[:, 1]

    # ----------------------------------------------------------------- a part of the song

    def images(self, spectrum: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Spectrograms fitted to the projections, and the images that these give."""
        places = Places(state["pan"], state["delay"], state["confidence"])
        w = frequencies(self.stft.n_bins, spectrum.real)
        rows = projections(*self._probes(places), w)  # (F, M, 2)
        columns = steered_at(state["grid_pan"], state["grid_delay"], w)  # (F, 2, L)
        kernel = (rows @ columns).abs() ** self.alpha @ state["gains"]  # (F, M, J)
        projected = rows @ spectrum.transpose(0, 1)  # (F, M, N)
        # The song's mean is 1: of |c|^alpha about, which is all that a floor needs.
        seen = projected.abs() ** self.alpha
        powers = torch.ones(
            kernel.shape[0], kernel.shape[2], spectrum.shape[-1], device=spectrum.device
        )
        for _ in range(self.n_iterations):
            powers = updated_powers(powers, kernel, None, seen, self._sides, EPS)
        return recombined(powers, kernel, rows, projected, EPS)

    def _sides(self, seen: Tensor, model: Tensor) -> tuple[Tensor, Tensor]:
        return sides(self.divergence, seen, model, self.beta)

    def cost(self, seen: Tensor, model: Tensor) -> Tensor:
        """The divergence, summed."""
        return divergence(self.divergence, seen, model + EPS, self.beta)


# ----------------------------------------------------------------- the equations


def projections(pan: Tensor, delay: Tensor, frequency: Tensor) -> Tensor:
    """Rows ``n_m^T`` that cancel places ``(M,)``, at frequencies ``(n,)``: ``(n, M, 2)``."""
    angle = torch.deg2rad(pan) - math.pi / 2
    turn = frequency[:, None] * delay
    left = torch.complex(angle.cos().expand_as(turn), torch.zeros_like(turn))
    return torch.stack([left, torch.polar(torch.ones_like(turn), turn) * angle.sin()], -1)


def steered_at(pan: Tensor, delay: Tensor, frequency: Tensor) -> Tensor:
    """Places ``(L,)`` as columns, at frequencies ``(n,)``: ``(n, 2, L)``."""
    angle, turn = torch.deg2rad(pan), -frequency[:, None] * delay
    left = torch.complex(angle.cos().expand_as(turn), torch.zeros_like(turn))
    return torch.stack([left, torch.polar(torch.ones_like(turn), turn) * angle.sin()], 1)


def sides(kind: str, seen: Tensor, model: Tensor, beta: float = 1.0) -> tuple[Tensor, Tensor]:
    """Numerator A and denominator B of the multiplicative updates."""
    if kind == "cauchy":
        return 1 / model, 3 * model / (model.square() + seen.square())
    beta = {"kl": 1.0, "is": 0.0}.get(kind, beta)
    if beta == 1:
        return seen / model, torch.ones_like(model)
    return seen * model ** (beta - 2), model ** (beta - 1)


def divergence(kind: str, seen: Tensor, model: Tensor, beta: float = 1.0) -> Tensor:
    """What the updates lower, summed over all entries."""
    if kind == "cauchy":
        return (1.5 * (seen.square() + model.square()).log() - model.log()).sum()
    beta = {"kl": 1.0, "is": 0.0}.get(kind, beta)
    if beta == 1:
        ratio = (seen / model).clamp(min=1e-30)
        return (seen * ratio.log() - seen + model).sum()
    if beta == 0:
        ratio = (seen / model).clamp(min=1e-30)
        return (ratio - ratio.log() - 1).sum()
    mixed = seen**beta + (beta - 1) * model**beta - beta * seen * model ** (beta - 1)
    return mixed.sum() / (beta * (beta - 1))


def updated_powers(
    powers: Tensor, kernel: Tensor, gains: Tensor | None, seen: Tensor, sides_of: Sides, eps: float
) -> Tensor:
    """P ``(F, J, N)`` after one update.

    Args:
        powers: P.
        kernel: K ``(F, M, L)``, or its product with Q where ``gains`` is None.
        gains: Q ``(L, J)``.
        seen: V ``(F, M, N)``.
        sides_of: A and B of V and its model.
        eps: added to the model and to both sides of the ratio.
    """
    mixing = kernel if gains is None else kernel @ gains
    above, below = sides_of(seen, mixing @ powers + eps)
    return powers * ((mixing.mT @ above + eps) / (mixing.mT @ below + eps))


def updated_gains(
    powers: Tensor, kernel: Tensor, gains: Tensor, seen: Tensor, sides_of: Sides, eps: float
) -> Tensor:
    """Q ``(L, J)`` after one update; arguments as `updated_powers`."""
    above, below = sides_of(seen, (kernel @ gains) @ powers + eps)
    n_places = kernel.shape[-1]
    flat = kernel.reshape(-1, n_places).T
    rise = flat @ (above @ powers.mT).reshape(-1, gains.shape[1])
    fall = flat @ (below @ powers.mT).reshape(-1, gains.shape[1])
    return gains * ((rise + eps) / (fall + eps))


def recombined(
    powers: Tensor, mixing: Tensor, rows: Tensor, projected: Tensor, eps: float
) -> Tensor:
    """Images ``(J, 2, F, N)``: each object's share of every projection, and back to two channels.

    Args:
        powers: P ``(F, J, N)``.
        mixing: K Q ``(F, M, J)``.
        rows: ``(F, M, 2)``.
        projected: c ``(F, M, N)``.
        eps: added to the model.
    """
    back = inverse(rows.mH @ rows) @ rows.mH  # the pseudo-inverse, (F, 2, M)
    model = mixing @ powers + eps
    rest = projected / model
    found = [
        back @ (mixing[:, :, j, None] * powers[:, j, None] * rest) for j in range(powers.shape[1])
    ]
    images = torch.stack(found).transpose(1, 2)
    # eps leaves a little to nobody; it is shared out.
    total = (back @ projected).transpose(0, 1)
    return images + (total - images.sum(0)) / len(found)


def _distinct(delays: Tensor) -> Tensor:
    """Delays of which none is close to another."""
    kept: list[Tensor] = []
    for delay in delays.sort().values:
        if not kept or float(delay - kept[-1]) >= APART[1] / 3:
            kept.append(delay)
    return torch.stack(kept)


class LoudZones(Zones):
    """Beside the bins of single objects, the loudest of the song as they are."""

    def __init__(self, n_bins: int, with_delays: bool, onsets: bool) -> None:
        super().__init__(n_bins, with_delays, onsets)
        self._loud: list[Tensor] = []
        self._rows: list[Tensor] = []
        self._loud_stride, self._n_loud = 1, 0
        self._frames: Tensor | None = None

    def push(self, spectrum: Tensor) -> None:
        """The next frames, ``(2, F, n)``."""
        super().push(spectrum)
        waiting = spectrum if self._frames is None else torch.cat([self._frames, spectrum], -1)
        self._frames = waiting
        while self._frames.shape[-1] >= BLOCK + BLOCK // 2:
            self._keep(self._frames[..., :BLOCK])
            self._frames = self._frames[..., BLOCK:]

    def loudest(self) -> tuple[Tensor, Tensor]:
        """Bins ``(2, n)`` and their frequencies ``(n,)``."""
        assert self._frames is not None
        if self._frames.shape[-1]:
            self._keep(self._frames)
            self._frames = self._frames[..., :0]
        rows = torch.cat(self._rows)
        return torch.cat(self._loud, -1), frequencies(self.n_bins, self._loud[0].real)[rows]

    def _keep(self, spectrum: Tensor) -> None:
        flat = spectrum.transpose(1, 2).flatten(1)  # (2, n F): in the order of the song
        power = flat.abs().square().sum(0)
        index = power.topk(max(1, round(LOUD * len(power)))).indices.sort().values
        first = -self._n_loud % self._loud_stride
        self._n_loud += len(index)
        index = index[first :: self._loud_stride]
        self._loud.append(flat[:, index])
        self._rows.append(index % self.n_bins)
        if sum(map(len, self._rows)) > 2 * MOST_LOUD:
            self._loud = [torch.cat(self._loud, -1)[:, ::2]]
            self._rows = [torch.cat(self._rows)[::2]]
            self._loud_stride *= 2
