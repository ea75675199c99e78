"""What may be said of figures over tracks: how sure they are, and which systems differ.

Tracks are resampled and compared, never frames: the frames of a song depend on each other.  Two
systems are compared on the same tracks, pair by pair, which tells differences that are far smaller
than the interval of either figure.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Pool = Literal["median", "mean", "weighted"]

RESAMPLES = 5000
LEVEL = 0.95
SEPARABLE = 0.05  # p after correction
EXACT = 50  # differences up to which the distribution is counted out, as scipy does


def interval(
    values: Array, pool: Pool, weights: Array | None = None, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap over tracks of a pooled figure, 95 %; NaN for fewer than two tracks.

    Args:
        values: of the tracks.
        pool: how they become one figure.
        weights: of the tracks, for a weighted mean.
        seed: of the resampling.
    """
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    counts = _counts(n, seed)
    if pool == "median":
        order = np.argsort(values, kind="stable")
        ranked, upto = values[order], counts[order].cumsum(0, dtype=counts.dtype)
        middle = [ranked[(upto <= k).sum(0)] for k in _middle(n)]
        return _bounds((middle[0] + middle[1]) / 2)
    weighing = weights if pool == "weighted" and weights is not None else np.ones(n)
    return _bounds((weighing * values) @ counts / (weighing @ counts))


def interval_of_frames(tracks: Sequence[Array], seed: int = 0) -> tuple[float, float]:
    """The same for the median of the frames of all tracks together; a track's frames stay together.

    >>> interval_of_frames([np.zeros(3), np.zeros(5)])
    (0.0, 0.0)
    """
    if len(tracks) < 2:
        return float("nan"), float("nan")
    counts = _counts(len(tracks), seed)
    ranked = np.sort(np.concatenate(tracks))
    # Frames of a track that are no larger than each of all frames: (tracks, frames).
    upto = np.stack([np.searchsorted(np.sort(track), ranked, side="right") for track in tracks])
    totals = upto[:, -1] @ counts
    middle = [ranked[_crossing(counts, upto, k)] for k in _middle(totals)]
    return _bounds((middle[0] + middle[1]) / 2)


def _crossing(counts: NDArray[Any], upto: NDArray[Any], k: NDArray[Any]) -> NDArray[np.intp]:
    """First frame of each resample that more than k frames are no larger than, by bisection."""
    first = np.zeros(counts.shape[1], dtype=np.intp)
    last = np.full(counts.shape[1], upto.shape[1] - 1)
    while (first < last).any():
        half = (first + last) // 2
        enough = (counts * upto[:, half]).sum(0) > k
        first, last = np.where(enough, first, half + 1), np.where(enough, half, last)
    return first


def _middle(n: Any) -> tuple[Any, Any]:
    """Numbers, from 0, of the one or two values in the middle of n."""
    return (n - 1) // 2, n // 2


def _bounds(figures: Array) -> tuple[float, float]:
    # A value of a resample itself: between infinite ones there is nothing to interpolate.
    low, high = np.quantile(figures, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return float(low), float(high)


@lru_cache(maxsize=4)
def _counts(n: int, seed: int) -> NDArray[Any]:
    """``(n, resamples)``: how often each of n tracks is drawn in each resample."""
    drawn = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
    flat = np.bincount((RESAMPLES * drawn + np.arange(RESAMPLES)[:, None]).ravel())
    counts = np.zeros(n * RESAMPLES, dtype=np.int16 if n < 2**15 else np.int32)
    counts[: len(flat)] = flat
    return counts.reshape(n, RESAMPLES)


@dataclass(frozen=True)
class Comparison:
    """Two systems on the tracks that both were scored on.

    Attributes:
        n_tracks: of them.
        median: of the differences, first minus second.
        low: of its 95 % interval, bootstrapped over tracks.
        high: see ``low``.
        won: share of the tracks on which the first is better; a tie counts half.
        p: of Wilcoxon's signed-rank test, two-sided; equal tracks are dropped.
        leaning: positive where the test's ranks favour the first.
        p_holm: ``p`` after Holm's correction for the family it was computed in.
    """

    n_tracks: int
    median: float
    low: float
    high: float
    won: float
    p: float
    leaning: float
    p_holm: float

    @property
    def is_separable(self) -> bool:
        """Whether the two can be told apart."""
        return self.p_holm < SEPARABLE


def compare(first: Mapping[str, float], second: Mapping[str, float]) -> Comparison:
    """Compare two systems by their values on tracks; what one lacks or has no value for is left."""
    differences = _differences(first, second)
    p, leaning = (each[0] for each in _signed_rank([differences]))
    low, high = interval(differences, "median")
    n = len(differences)
    won = float((np.sum(differences > 0) + np.sum(differences == 0) / 2) / n) if n else float("nan")
    return Comparison(
        n, float(np.median(differences)) if n else float("nan"), low, high, won, p, leaning, p
    )


def compare_all(
    pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]],
) -> list[Comparison]:
    """Compare several pairs as one family, corrected by Holm."""
    found = [compare(first, second) for first, second in pairs]
    corrected = holm([one.p for one in found])
    return [replace(one, p_holm=p) for one, p in zip(found, corrected, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p values that hold for a whole family of tests.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    corrected = np.empty_like(p)
    corrected[order] = stepped
    return [float(value) for value in corrected]


def ranks(
    systems: Sequence[Mapping[str, float]], margins: Sequence[float] | None = None
) -> list[str]:
    """Rank of each system, ``"2"``, or ``"1-3"`` where pairs cannot be told apart.

    A system's best rank counts those that are surely better, its worst those that are surely worse:
    paired on common tracks, corrected by Holm over all pairs.

    Args:
        systems: track -> value of each.
        margins: by how much its figure moves with the seed; a smaller difference is no difference.
    """
    n = len(systems)
    pairs = list(itertools.combinations(range(n), 2))
    differences = [_differences(systems[i], systems[j]) for i, j in pairs]
    p_values, leanings = _signed_rank(differences)
    better, worse = [0] * n, [0] * n
    for (i, j), d, p, leaning in zip(pairs, differences, holm(p_values), leanings, strict=True):
        margin = max(margins[i], margins[j]) if margins else 0.0
        is_moved = abs(np.median(d)) > margin + 1e-9 if len(d) else False
        if p < SEPARABLE and leaning and is_moved:
            winner, loser = (i, j) if leaning > 0 else (j, i)
            better[loser] += 1
            worse[winner] += 1
    spans = [(1 + better[i], n - worse[i]) for i in range(n)]
    return [f"{first}" if first == last else f"{first}-{last}" for first, last in spans]


def _differences(first: Mapping[str, float], second: Mapping[str, float]) -> Array:
    common = [track for track in first if track in second]
    with np.errstate(invalid="ignore"):  # both infinite: no difference to speak of
        found = np.array([first[t] for t in common]) - np.array([second[t] for t in common])
    kept: Array = found[~np.isnan(found)]
    return kept


def _signed_rank(families: Sequence[Array]) -> tuple[list[float], list[float]]:
    """Wilcoxon's test of several sets of differences: p, and the ranks of gains minus of losses.

    Sets of one length are tested at once, since a single call of scipy takes milliseconds.
    """
    p_values, leanings = [1.0] * len(families), [0.0] * len(families)
    alike: dict[tuple[int, bool], list[int]] = {}
    moved = [differences[differences != 0] for differences in families]
    for k, differences in enumerate(moved):
        n = len(differences)
        is_exact = n <= EXACT and len(np.unique(np.abs(differences))) == n
        if n:
            alike.setdefault((n, is_exact), []).append(k)
    for (_, is_exact), members in alike.items():
        stack = np.stack([moved[k] for k in members])
        found = stats.wilcoxon(stack, axis=-1, method="exact" if is_exact else "approx").pvalue
        signed = (np.sign(stack) * stats.rankdata(np.abs(stack), axis=-1)).sum(-1)
        for k, p, leaning in zip(members, np.atleast_1d(found), signed, strict=True):
            p_values[k], leanings[k] = float(p), float(leaning)
    return p_values, leanings
