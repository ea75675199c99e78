import numpy as np
import pytest
from scipy import stats

from zoo.evaluation import statistics
from zoo.evaluation.statistics import (
    compare,
    compare_all,
    holm,
    interval,
    interval_of_frames,
    ranks,
)


def tracks(values):
    return {f"track {k}": float(value) for k, value in enumerate(values)}


@pytest.mark.parametrize("n", [2, 7, 50])
@pytest.mark.parametrize("pool", ["median", "mean", "weighted"])
def test_the_interval_is_that_of_resampled_tracks(n, pool):
    rng = np.random.default_rng(3)
    values, weights = rng.normal(5, 2, n), rng.uniform(1, 9, n)
    drawn = np.random.default_rng(0).integers(n, size=(statistics.RESAMPLES, n))
    if pool == "weighted":
        figures = (values * weights)[drawn].sum(1) / weights[drawn].sum(1)
    else:
        figures = getattr(np, pool)(values[drawn], axis=1)
    expected = np.quantile(figures, [0.025, 0.975], method="nearest")
    assert interval(values, pool, weights) == pytest.approx(expected)


def test_the_interval_of_pooled_frames_keeps_the_frames_of_a_track_together():
    rng = np.random.default_rng(1)
    frames = [rng.normal(k, 1, size) for k, size in enumerate((30, 1, 12, 25, 8))]
    drawn = np.random.default_rng(0).integers(5, size=(statistics.RESAMPLES, 5))
    figures = [np.median(np.concatenate([frames[k] for k in row])) for row in drawn]
    expected = np.quantile(figures, [0.025, 0.975], method="nearest")
    assert interval_of_frames(frames) == pytest.approx(expected)


def test_intervals_repeat_and_follow_the_seed():
    values = np.random.default_rng(0).normal(size=40)
    assert interval(values, "median") == interval(values, "median")
    assert interval(values, "mean", seed=1) != interval(values, "mean", seed=2)


def test_one_track_has_no_interval():
    assert np.isnan(interval(np.array([3.0]), "median")).all()
    assert np.isnan(interval_of_frames([np.array([3.0])])).all()


def test_an_infinite_track_leaves_the_interval_of_the_median_finite():
    low, high = interval(np.array([*range(30), np.inf]), "median")
    assert 5 < low < 15 < high < 25


@pytest.mark.parametrize("n", [5, 30, 200])
def test_a_comparison_is_scipys_signed_rank_test(n):
    rng = np.random.default_rng(n)
    first, second = rng.normal(0.3, 1, n), rng.normal(0, 1, n)
    found = compare(tracks(first), tracks(second))
    assert found.p == pytest.approx(stats.wilcoxon(first, second).pvalue, rel=1e-9)
    assert found.median == pytest.approx(np.median(first - second))
    assert found.won == np.mean(first > second)


def test_equal_tracks_count_half_and_are_dropped_from_the_test():
    first, second = [1.0, 2.0, 3.0, 4.0, 5.5], [1.0, 2.0, 2.5, 3.7, 5.3]
    found = compare(tracks(first), tracks(second))
    assert (found.n_tracks, found.won) == (5, 0.8)
    assert found.p == pytest.approx(stats.wilcoxon([0.5, 0.3, 0.2]).pvalue)


def test_only_common_tracks_with_values_are_compared():
    first = {"a": 1.0, "b": 2.0, "c": np.nan, "d": np.inf}
    second = {"b": 1.5, "c": 0.0, "d": np.inf, "e": 9.0}
    assert compare(first, second).n_tracks == 1
    nothing = compare({"a": 1.0}, {"b": 1.0})
    assert (nothing.n_tracks, nothing.p) == (0, 1.0) and not nothing.is_separable


def test_holm_corrects_stepwise():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_a_family_of_comparisons_is_corrected_together():
    rng = np.random.default_rng(0)
    base = rng.normal(size=20)
    pairs = [(tracks(base + d + 0.1 * rng.normal(size=20)), tracks(base)) for d in (0.0, 0.05, 1.0)]
    found = compare_all(pairs)
    assert [one.p_holm for one in found] == holm([one.p for one in found])


def test_systems_that_cannot_be_told_apart_share_ranks():
    rng = np.random.default_rng(0)
    song = rng.normal(5, 3, 50)

    def system(gain):
        return tracks(song + gain + 0.1 * rng.normal(size=50))

    # Songs differ by decibels; the same song tells systems apart by tenths of one.
    assert ranks([system(0.0), system(0.3), system(0.0), system(-0.3)]) == ["2-3", "1", "2-3", "4"]


def test_five_tracks_are_too_few_for_a_rank():
    assert ranks([tracks([1, 2, 3, 4, 5]), tracks([0, 0, 0, 0, 0])]) == ["1-2", "1-2"]


def test_a_difference_below_the_spread_over_seeds_is_no_rank():
    better, worse = tracks(np.arange(20) + 0.2), tracks(np.arange(20))
    assert ranks([better, worse]) == ["1", "2"]
    assert ranks([better, worse], margins=[0.0, 0.5]) == ["1-2", "1-2"]


def test_all_pairs_of_many_systems_are_tested_as_one_by_one():
    rng = np.random.default_rng(2)
    systems = [rng.normal(size=12).round(1) for _ in range(6)]
    systems[3][4] = np.nan
    p, _ = statistics._signed_rank(
        [statistics._differences(tracks(a), tracks(b)) for a in systems for b in systems]
    )
    expected = [compare(tracks(a), tracks(b)).p for a in systems for b in systems]
    assert p == pytest.approx(expected)
