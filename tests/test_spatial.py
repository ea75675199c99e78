"""The training-free systems: their equations at known values, and what they promise of songs.

The known values are those of one small spectrum, in double precision: five bins, six frames.
"""

import itertools
import json
import math

import numpy as np
import pytest
import torch

import zoo
from zoo import catalog
from zoo.audio import AudioWriter, read
from zoo.cli import main
from zoo.dsp import azimuth
from zoo.dsp.fast_ica import fast_ica
from zoo.dsp.locate import Zones, along, cover, frequencies, steering
from zoo.dsp.stft import STFT
from zoo.errors import RecipeError, ZooError
from zoo.models import duet, gaussian, pairs, projet
from zoo.models.ica import pans
from zoo.streaming import separate_tensor

DOUBLE = torch.float64
LOCATED = ("duet", "adress", "pairs", "projet", "projet-is", "lgm", "mnmf")
DETERMINED = ("ica", "auxiva", "ilrma")


def spectrum():
    i = torch.arange(2, dtype=DOUBLE)[:, None, None]
    f = torch.arange(5, dtype=DOUBLE)[:, None]
    t = torch.arange(6, dtype=DOUBLE)
    return torch.complex(
        torch.sin(1 + 0.7 * i + 1.3 * f + 2.1 * t), torch.cos(0.5 + 1.1 * i - 0.6 * f + 0.9 * t)
    )


def places(*rows):
    pan, delay = torch.tensor(rows, dtype=DOUBLE).T
    return steering(pan, delay, 5)


def energies(images):
    return images.abs().square().sum((1, 2, 3)).tolist()


def rows(text):
    return [[int(x) for x in row.split()] for row in text.split("/")]


# ----------------------------------------------------------------- equations


def test_a_place_is_a_unit_vector_whose_right_channel_turns_with_its_delay():
    a = places((30, 1.5))[0]
    assert a.abs().square().sum(0).tolist() == pytest.approx([1] * 5)
    assert complex(a[0, 2]) == pytest.approx(0.866025403784)
    assert complex(a[1, 2]) == pytest.approx(-0.353553390593 - 0.353553390593j)


def test_the_spectrum_of_the_known_values():
    assert complex(spectrum().sum()) == pytest.approx(-0.0014511568180 - 2.8548194856698j)
    assert float(spectrum().abs().square().sum()) == pytest.approx(60.04883939915)


def projet_case():
    x = spectrum()
    w = frequencies(5, x.real)
    grid = torch.cartesian_prod(
        torch.linspace(0, 90, 4, dtype=DOUBLE), torch.tensor([-2.0, 0, 2], dtype=DOUBLE)
    )
    probes = torch.cartesian_prod(
        torch.linspace(0, 90, 3, dtype=DOUBLE), torch.tensor([-2.0, 2], dtype=DOUBLE)
    )
    projecting = projet.projections(*probes.T, w)
    kernel = (projecting @ projet.steered_at(*grid.T, w)).abs()
    projected = projecting @ x.transpose(0, 1)
    f, t, j = (torch.arange(n, dtype=DOUBLE) for n in (5, 6, 2))
    powers = 1.5 + torch.sin(f[:, None, None] + 2 * t + 3 * j[:, None])
    gains = 1.5 + torch.cos(torch.arange(12, dtype=DOUBLE)[:, None] + 2 * j)
    return x, projecting, kernel, projected, powers, gains


def test_projections_and_places_of_projet():
    _, _, kernel, projected, _, _ = projet_case()
    assert float(kernel.sum()) == pytest.approx(211.988657067321, abs=1e-10)
    assert float(kernel[2, 1, 7]) == pytest.approx(0.866025403784439, abs=1e-13)
    assert complex(projected.sum()) == pytest.approx(-0.0288632211659 - 0.5786650163098j)
    assert float(projected.abs().sum()) == pytest.approx(166.826120966825, abs=1e-10)


@pytest.mark.parametrize(
    ("kind", "expected", "last"),
    [
        ("kl", (4887.3152269088, 8.6276893297, 8.6020870378), 8.5038215711),
        ("is", (474.4774389190, 12.8860848669, 12.8642590411), 12.7505020674),
        ("cauchy", (1237.7410387842, 844.6854054965, 469.9351291131), 131.2513333067),
    ],
)
def test_the_updates_of_projet_lower_each_divergence_to_known_values(kind, expected, last):
    _, _, kernel, projected, powers, gains = projet_case()
    seen = projected.abs()

    def sides(v, model):
        return projet.sides(kind, v, model)

    def cost():
        return float(projet.divergence(kind, seen, (kernel @ gains) @ powers))

    costs = [cost()]
    for iteration in range(3):
        powers = projet.updated_powers(powers, kernel, gains, seen, sides, 0.0)
        costs += [cost()] if iteration == 0 else []
        gains = projet.updated_gains(powers, kernel, gains, seen, sides, 0.0)
        costs += [cost()] if iteration == 0 else []
        if kind == "kl" and iteration == 0:
            assert float(powers.sum()) == pytest.approx(2.6631370218)
            assert float(gains.sum()) == pytest.approx(35.3662289913)
    assert costs == pytest.approx(expected, rel=1e-10)
    assert cost() == pytest.approx(last, rel=1e-10)
    if kind == "kl":
        assert float(powers.sum()) == pytest.approx(2.6632824330)
        assert float(gains.sum()) == pytest.approx(35.3316739386)


def test_the_images_of_projet_sum_to_the_mixture():
    x, projecting, kernel, projected, powers, gains = projet_case()
    for _ in range(3):
        both = (kernel, gains, projected.abs(), lambda *v: projet.sides("kl", *v), 0.0)
        powers = projet.updated_powers(powers, *both)
        gains = projet.updated_gains(powers, *both)
    images = projet.recombined(powers, kernel @ gains, projecting, projected, 0.0)
    assert energies(images) == pytest.approx([18.790452430167, 17.867825366348], rel=1e-10)
    found = complex(images[0, 1, 3, 4])
    assert found == pytest.approx(0.1455232718427 - 0.1411655481774j, abs=1e-11)
    assert float((images.sum(0) - x).abs().max()) < 1e-14


def test_the_features_of_duet():
    x = spectrum()
    attenuation, delay = duet.features(x)
    assert float(attenuation[1, 2]) == pytest.approx(4.709426870084, abs=1e-11)
    assert float(delay[1, 2]) == pytest.approx(0.421603859658, abs=1e-11)
    assert float(attenuation[3, 5]) == pytest.approx(-1.353374367869, abs=1e-11)
    assert float(delay[3, 5]) == pytest.approx(0.448294980150, abs=1e-11)
    assert float(duet.weights(x).sum()) == pytest.approx(21.651794398661, abs=1e-10)
    pan = torch.atan2(x[1].abs(), x[0].abs())
    assert float(torch.rad2deg(pan)[1, 2]) == pytest.approx(78.495016620895, abs=1e-10)


def test_the_masks_of_duet():
    x, steered = spectrum(), places((20, 1), (65, -1))
    seen = along(steered, x)
    mask = duet.dominant(seen)
    expected = ["011011", "011001", "100111", "000110", "100110"]
    assert ["".join(map(str, row)) for row in mask[1].long().tolist()] == expected
    assert energies(mask[:, None] * x) == pytest.approx([31.374900337263, 28.673939061891])
    projected = steered[..., None] * (mask * seen)[:, None]
    assert energies(projected) == pytest.approx([18.806160783996, 19.137189762649])


def test_the_azimuths_of_adress():
    index, _ = azimuth.azimuths(spectrum(), 10)
    assert index.tolist() == rows(
        "5 20 8 7 20 15 / 4 5 18 6 5 20 / 13 2 4 15 5 4 / 14 11 0 15 13 3 / 20 12 8 0 15 11"
    )
    totals = azimuth.azimugram(spectrum(), 10).sum(1)
    assert totals[[0, 2, 4, 11, 20]].tolist() == pytest.approx(
        [1.30858676, 0.738503455, 1.102892371, 1.891251741, 3.312573132], abs=1e-8
    )


def test_the_null_of_adress_is_what_a_search_over_gains_finds():
    torch.manual_seed(0)
    x = torch.randn(2, 40, 30, dtype=torch.complex128)
    gains = torch.arange(11, dtype=DOUBLE)[:, None, None] / 10
    left, right = x
    strong_left = (right - gains * left).abs()
    strong_right = (left - gains * right).abs()
    is_left = left.abs() >= right.abs()
    distance = torch.where(is_left, strong_left, strong_right)
    step = distance.argmin(0)
    index, depth = azimuth.azimuths(x, 10)
    torch.testing.assert_close(index, torch.where(is_left, step, 20 - step))
    torch.testing.assert_close(depth, distance.amax(0) - distance.amin(0))


def test_places_on_the_axis_of_adress_and_pans_are_each_others_inverse():
    index = torch.arange(21, dtype=DOUBLE)
    torch.testing.assert_close(azimuth.from_degrees(azimuth.to_degrees(index, 10), 10), index)


def test_the_pairs_of_known_places():
    images, choice, cost = pairs.inverted(spectrum(), places((15, 0), (45, 1), (75, -1)), 0.5)
    expected = ["111111", "112001", "100111", "111110", "111111"]
    assert ["".join(map(str, row)) for row in choice.tolist()] == expected
    assert float(cost.sum()) == pytest.approx(56.005766393815, abs=1e-10)
    assert energies(images) == pytest.approx([28.392977039642, 4.546264330235, 21.238998036044])


def test_the_updates_of_the_local_gaussian_model():
    mixture = gaussian.Mixture(
        spectrum(), gaussian.spatial(places((15, 0), (45, 1), (75, -1)), 0.01)
    )
    powers = torch.arange(1.0, 4, dtype=DOUBLE)[None, :, None].expand(5, 3, 6)
    costs, sums = [], []
    for _ in range(3):
        costs.append(float(mixture.cost(powers)))
        powers = mixture.updated(powers)
        sums.append(float(powers.sum()))
    costs.append(float(mixture.cost(powers)))
    assert costs == pytest.approx([83.2355464612, 58.0380544816, 45.0308717675, 37.7444264577])
    assert sums == pytest.approx([105.1093031055, 78.2767778046, 65.6831105113])
    assert energies(mixture.images(powers)) == pytest.approx(
        [21.238074026793, 8.454186127738, 17.331766354532]
    )


def test_the_local_gaussian_model_never_raises_its_cost():
    torch.manual_seed(0)
    steered = steering(torch.tensor([20.0, 45, 60]), torch.tensor([0.0, 2, -1]), 33)
    x = torch.randn(2, 33, 20, dtype=torch.complex64)
    mixture = gaussian.Mixture(x, gaussian.spatial(steered, 0.01))
    powers = gaussian.initial_powers(x, steered)
    costs = [float(mixture.cost(powers))]
    for _ in range(30):
        powers = mixture.updated(powers)
        costs.append(float(mixture.cost(powers)))
    assert all(b <= a + 1e-3 for a, b in itertools.pairwise(costs))
    assert costs[-1] < costs[0] - 100


def test_fast_ica_of_two_known_signals():
    n = torch.arange(4000, dtype=DOUBLE)
    sources = torch.stack([
        torch.sin(0.037 * n) ** 5, 8 * ((0.0131 * n) % 1 - 0.5) ** 3
    ])  # fmt: skip
    angles = torch.deg2rad(torch.tensor([30.0, 60], dtype=DOUBLE))
    images = torch.stack([angles.cos(), angles.sin()], 1)[..., None] * sources[:, None]
    mixture = images.sum(0)
    centred = mixture - mixture.mean(1, keepdim=True)
    covariance = centred @ centred.T / 4000
    assert covariance[[0, 0, 1], [0, 1, 1]].tolist() == pytest.approx(
        [0.220432092903, 0.168919862222, 0.169327209372], abs=1e-11
    )
    unmixing = fast_ica(centred, covariance)
    mixing = torch.linalg.inv(unmixing)
    products = torch.stack([torch.outer(mixing[:, j], unmixing[j]) for j in range(2)])
    products = products[pans(products).argsort()]
    assert pans(products).tolist() == pytest.approx([30.083262, 60.023753], abs=1e-4)
    error = (products @ mixture - images).flatten(1).square().sum(1)
    sdr = 10 * torch.log10(images.flatten(1).square().sum(1) / error)
    assert sdr.tolist() == pytest.approx([50.51, 48.17], abs=0.01)


# ----------------------------------------------------------------- songs


def song(*objects, seconds=3.0, rate=44100, seed=0):
    """Images ``(J, 2, T)`` of notes, each object at its own tuning and pace.

    Objects are (pan, delay in whole samples).
    """
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    found = []
    for j, (pan, delay) in enumerate(objects):
        signal = np.zeros(n)
        step = round(rate * (0.17 + 0.05 * j))
        for start in range(0, n, step):
            t = np.arange(min(step, n - start)) / rate
            pitch = 110 * 2 ** ((rng.integers(0, 36) + 0.31 * j) / 12)
            partials = [k for k in range(1, 12) if pitch * k < rate / 2.5]
            phases = rng.uniform(0, 2 * np.pi, len(partials))
            tone = sum(
                np.sin(2 * np.pi * pitch * k * t + p) / k
                for k, p in zip(partials, phases, strict=True)
            )
            signal[start : start + len(t)] = tone * np.exp(-6 * t) * np.minimum(1, 200 * t)
        late = np.roll(signal, delay)
        angle = math.radians(pan)
        found.append(np.stack([math.cos(angle) * signal, math.sin(angle) * late]))
    return torch.from_numpy(0.1 * np.stack(found)).float()


def sdr(true, estimate):
    return float(10 * torch.log10(true.square().sum() / (true - estimate).square().sum()))


def test_pans_at_least_eight_degrees_apart_are_found():
    rng = np.random.default_rng(0)
    stft = STFT(4096, 1024)
    for draw in range(20):
        while True:
            true = np.sort(rng.uniform(0, 90, 3))
            if np.diff(true).min() >= 8:
                break
        images = song(*((pan, 0) for pan in true), seed=draw)
        zones = Zones(2049)
        zones.push(stft(images.sum(0)))
        assert cover(zones.finish(), 3).pan.tolist() == pytest.approx(true, abs=2), draw


def test_pieces_of_a_song_give_the_places_of_the_whole():
    x = STFT(1024, 256)(song((20, 0), (50, 3), seconds=8).sum(0))
    found = []
    for piece in (x.shape[-1], 100, 7):
        zones = Zones(513, with_delays=True)
        for part in x.split(piece, -1):
            zones.push(part)
        found.append(cover(zones.finish(), 2, 5))
    for other in found[1:]:
        torch.testing.assert_close(other.pan, found[0].pan)
        torch.testing.assert_close(other.delay, found[0].delay)
        torch.testing.assert_close(other.confidence, found[0].confidence, rtol=1e-4, atol=0)


def test_the_number_of_objects_is_estimated_where_it_is_not_given():
    images = song((10, 0), (40, 0), (75, 0))
    estimates = zoo.create("lgm").separate(images.sum(0), 44100)
    assert list(estimates) == ["object-1", "object-2", "object-3"]
    found = [place["pan"] for place in estimates.info["locations"]]
    assert found == pytest.approx([10, 40, 75], abs=2)


def test_without_a_number_of_objects_nothing_but_whole_songs_is_separated():
    with pytest.raises(ZooError, match="give n_objects"):
        zoo.create("duet")(torch.randn(1, 2, 20000))


@pytest.mark.parametrize("name", LOCATED)
def test_located_objects_come_from_left_to_right_and_better_than_the_mixture(name):
    images = song((15, 0), (45, 0), (75, 0))
    mixture = images.sum(0)
    estimates = zoo.create(name, n_objects=3).separate(mixture, 44100)
    for true, estimate in zip(images, estimates.values(), strict=True):
        assert sdr(true, estimate) > sdr(true, mixture / 3) + 5


@pytest.mark.parametrize("name", [*LOCATED, *DETERMINED])
def test_louder_songs_give_louder_images_and_swapped_channels_swapped_ones(name):
    images = song((20, 0), (65, 0))
    mixture = images.sum(0)[None]
    model = zoo.create(name, n_objects=2)
    with torch.inference_mode():
        found = model(mixture)
        for factor in (1e-3, 1e3):
            assert sdr(found, model(factor * mixture) / factor) > 40
        swapped = model(mixture.flip(1)).flip(1, 2)
    # Random patterns, and rows that are updated one after the other, know left from right.
    floor = {"mnmf": 3.0, "ilrma": 3.0, "auxiva": 10.0}.get(name, 25.0)
    for true, estimate in zip(found[0], swapped[0], strict=True):
        assert sdr(true, estimate) > floor


@pytest.mark.parametrize("name", [*(x for x in LOCATED if x not in ("duet",)), *DETERMINED])
def test_the_images_sum_to_the_mixture(name):
    mixture = song((20, 0), (65, 0)).sum(0)[None]
    with torch.inference_mode():
        total = zoo.create(name, n_objects=2)(mixture).sum(1)
    torch.testing.assert_close(total, mixture, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", LOCATED)
def test_one_object_is_the_mixture(name):
    mixture = song((30, 0)).sum(0)[None]
    with torch.inference_mode():
        found = zoo.create(name, n_objects=1)(mixture)[:, 0]
    assert sdr(mixture, found) > 40


def test_delays_follow_the_rate():
    for rate in (22050, 44100, 48000):
        delay = round(8 * rate / 44100)
        images = song((20, delay), (70, -delay), rate=rate)
        estimates = zoo.create("lgm", n_objects=2, max_delay=10).separate(images.sum(0), rate)
        found = [place["delay"] for place in estimates.info["locations"]]
        assert found == pytest.approx([8, -8], abs=0.5)
        assert min(sdr(t, e) for t, e in zip(images, estimates.values(), strict=True)) > 10


def test_given_locations_are_taken():
    images = song((20, 0), (25, 0))
    model = zoo.create("pairs", locations=[[25, 0], [20, 0]])
    estimates = model.separate(images.sum(0), 44100)
    assert [place["pan"] for place in estimates.info["locations"]] == [20, 25]
    assert min(sdr(t, e) for t, e in zip(images, estimates.values(), strict=True)) > 40


def test_duet_by_its_histogram_finds_pans_and_delays():
    images = song((20, 4), (70, -4))
    model = zoo.create("duet", n_objects=2, max_delay=8, locate="histogram")
    estimates = model.separate(images.sum(0), 44100)
    found = estimates.info["locations"]
    assert [place["pan"] for place in found] == pytest.approx([20, 70], abs=3)
    assert [place["delay"] for place in found] == pytest.approx([4, -4], abs=1)


def test_duet_by_its_histogram_counts_the_objects():
    images = song((20, 4), (70, -4))
    model = zoo.create("duet", max_delay=8, locate="histogram")
    found = model.separate(images.sum(0), 44100).info["locations"]
    assert [place["pan"] for place in found] == pytest.approx([20, 70], abs=3)


def test_a_slope_of_the_histogram_is_no_peak():
    counts = duet.Histogram(257)
    counts.counts[40, 0], counts.counts[70, 0] = 100.0, 30.0
    counts.counts[41:48, 0] = 60.0  # far enough from 40, and more than at 70
    assert counts.peaks(2).pan.tolist() == pytest.approx([41, 70], abs=2)
    assert len(counts.peaks(None)) == 2
    assert len(counts.peaks(4)) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"p": 2.0}, {"p": 0.5, "q": 0.5}, {"p": 1.0, "q": 1.0}, {"reverberant": True},
    ],
)  # fmt: skip
def test_other_weights_and_windows_of_duet_find_the_same_objects(arguments):
    images = song((15, 0), (75, 0))
    model = zoo.create("duet", n_objects=2, locate="histogram", **arguments)
    if "reverberant" in arguments:
        model = zoo.create("duet", n_objects=2, reverberant=True)
    found = model.separate(images.sum(0), 44100).info["locations"]
    assert [place["pan"] for place in found] == pytest.approx([15, 75], abs=3)


def test_onsets_are_told_across_the_blocks_of_a_song():
    """Steady tones have no onsets, wherever a block of frames begins."""
    t = torch.arange(12 * 44100) / 44100
    tones = sum(torch.sin(2 * math.pi * f * t) for f in (220.0, 331.0, 563.0))
    spectrum = STFT(1024, 256)(torch.stack([0.3 * tones, 0.6 * tones]))
    zones = Zones(513, onsets=True)
    zones.push(spectrum[..., 20:-20])  # beginning and end are some
    steady = Zones(513)
    steady.push(spectrum[..., 20:-20])
    assert zones.finish().weight.sum() < 1e-3 * steady.finish().weight.sum()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("projet-paper", {"n_iterations": 20}),
        ("projet", {"divergence": "beta", "beta": 0.5}),
        ("projet", {"alpha": 1.5}),
        ("projet", {"divergence": "cauchy"}),
        ("mnmf", {"n_restarts": 2}),
        ("mnmf", {"update_covariances": True}),
        ("adress", {"width": 20}),
        ("adress", {"resynthesis": "mono"}),
    ],
)
def test_variants_separate_and_give_the_same_each_time(name, arguments):
    images = song((15, 0), (75, 0), seconds=2)
    mixture = images.sum(0)
    found = [
        torch.stack([*zoo.create(name, n_objects=2, **arguments).separate(mixture, 44100).values()])
        for _ in range(2)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    both = min(sdr(t, e) - sdr(t, mixture / 2) for t, e in zip(images, found[0], strict=True))
    assert both > 3


def test_a_random_start_takes_no_locations():
    with pytest.raises(RecipeError, match="start 'random' finds places itself"):
        zoo.create("projet-paper", locations=[[20, 0], [70, 0]])


def test_the_shares_of_a_histogram_are_shares():
    model = zoo.create("duet", n_objects=6, locate="histogram")  # more than there are: near ones
    found = model.separate(0.01 * torch.randn(2, 44100), 44100).info["locations"]
    assert all(0 <= place["confidence"] <= 1 for place in found)


@pytest.mark.parametrize("name", ["duet", "projet", "lgm", "ica", "ilrma"])
def test_a_long_song_in_chunks_keeps_its_objects(name):
    images = song((20, 0), (65, 0), seconds=12)
    model = zoo.create(name, n_objects=2).eval()
    mixture = images.sum(0)[None]
    with torch.inference_mode():
        whole = model(mixture)
    chunked = separate_tensor(model, mixture, chunk=2.0)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-4)


# ----------------------------------------------------------------- bad input


@pytest.mark.parametrize("name", [*LOCATED, *DETERMINED])
@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("alike", "both channels are the same"),
        ("left", "right channel is silent"),
        ("silent", "is silent"),
    ],
)
def test_what_places_cannot_tell_apart_is_said_and_stays_finite(name, kind, note):
    mono = song((45, 0)).sum(0)[0]
    mixture = {
        "alike": torch.stack([mono, mono]),
        "left": torch.stack([mono, 0 * mono]),
        "silent": torch.zeros(2, 44100),
    }[kind]
    estimates = zoo.create(name, n_objects=2).separate(mixture, 44100)
    assert all(bool(x.isfinite().all()) for x in estimates.values())
    assert any(note in line for line in estimates.info["notes"])


def test_objects_that_are_not_there_are_doubted():
    estimates = zoo.create("lgm", n_objects=4).separate(song((20, 0), (70, 0)).sum(0), 44100)
    assert any("fewer objects" in line for line in estimates.info["notes"])


def test_an_object_at_the_largest_delay_is_said():
    model = zoo.create("lgm", n_objects=2, max_delay=4)
    estimates = model.separate(song((20, 9), (70, 0)).sum(0), 44100)
    assert any("larger max_delay" in line for line in estimates.info["notes"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"n_objects": 0}, "n_objects 0; expected a whole number, 1 to 16"),
        ({"n_objects": 2.5}, "n_objects 2.5"),
        ({"n_objects": 100_000}, "1 to 16"),
        ({"locations": [[20, 0], [20, 0]]}, "two locations are the same"),
        ({"max_delay": -1}, "max_delay -1"),
        ({"locations": [[100, 0]]}, "a pan of 0 to 90 degrees"),
        ({"locations": [[10, 0]], "n_objects": 2}, "n_objects 2, but 1 locations"),
        ({"locations": [["a", 0]]}, r"location \['a', 0\]; expected \[pan, delay\]"),
        ({"locations": [10]}, "location 10; expected"),
        ({"locations": [[10, float("nan")]]}, "a delay of at most 2048 samples"),
        ({"locations": [[10, 1e6]]}, "a delay of at most 2048 samples"),
        ({"n_fft": 8}, "n_fft 8; expected at least 64"),
        ({"floor": 0.0}, "floor 0.0; expected a number above 0"),
        ({"floor": float("inf")}, "floor inf"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, said):
    with pytest.raises(RecipeError, match=said):
        zoo.create("lgm", **arguments)


@pytest.mark.parametrize("name", DETERMINED)
def test_more_objects_than_channels_are_refused_and_others_named(name):
    with pytest.raises(RecipeError, match="at most two objects; duet, adress"):
        zoo.create(name, n_objects=3)


def test_arguments_are_spelled_behind_the_name():
    model = catalog.untrained("duet:method=binary,max_delay=10", {"n_objects": 3})
    assert (model.method, model.max_delay, len(model.sources)) == ("binary", 10, 3)
    assert catalog.untrained("mmdensenet") is None
    assert catalog.untrained("no such thing") is None
    with pytest.raises(RecipeError, match="'binary' gives no argument a value"):
        catalog.untrained("duet:binary")
    with pytest.raises(RecipeError, match="has no argument 'metod'"):
        catalog.untrained("duet:metod=ml")


# ----------------------------------------------------------------- real music


REACH = {"delay20": 10, "synthetic": 10}


def scene(shared, name):
    folder = shared / "audio" / "spatial-scenes" / name
    told = json.loads((folder / "scene.json").read_text())["objects"]
    mixture = torch.from_numpy(read(folder / "mix.flac")[0])
    images = [torch.from_numpy(read(folder / f"image-{j + 1}.flac")[0]) for j in range(len(told))]
    return mixture, torch.stack(images), told


@pytest.mark.parametrize(
    "name", ["pan10", "pan20", "pan30", "pan3src", "xy", "delay20", "synthetic"]
)
def test_objects_of_real_scenes_are_located(shared, name):
    mixture, _, told = scene(shared, name)
    reach = REACH.get(name, 0)
    zones = Zones(2049, bool(reach))
    zones.push(STFT(4096, 1024)(mixture))
    found = cover(zones.finish(), len(told), reach)
    pan = [
        math.degrees(math.atan2(*o["gain"][::-1])) if "gain" in o else o["pan_deg"] for o in told
    ]
    order = sorted(range(len(told)), key=pan.__getitem__)
    assert found.pan.tolist() == pytest.approx([pan[j] for j in order], abs=2 if reach else 1.5)
    delay = [o.get("delay_right_samples", 0) for o in told]
    assert found.delay.tolist() == pytest.approx([delay[j] for j in order], abs=0.5)


@pytest.mark.parametrize(
    ("text", "bars"),
    [
        ("duet:method=binary", {"pan20": 8.5}),
        ("duet", {"pan20": 8.9, "delay20": 9.3, "pan10": 8.3}),
        ("adress", {"pan20": 8.7}),
        ("pairs", {"pan20": 10.2, "delay20": 10.4}),
        ("projet", {"pan20": 9.8}),
        ("projet-is", {"pan20": 11.0, "delay20": 10.9}),
        ("lgm", {"pan20": 11.3, "delay20": 11.2, "pan10": 10.6}),
        ("mnmf", {"pan20": 13.3, "delay20": 14.0, "pan10": 12.0}),
    ],
)
def test_real_scenes_are_separated_as_well_as_was_measured_before(shared, text, bars):
    for name, bar in bars.items():
        mixture, images, told = scene(shared, name)
        arguments = {"n_objects": len(told), "max_delay": REACH.get(name, 0)}
        estimates = catalog.untrained(text, arguments).separate(mixture, 44100)
        found = list(estimates.values())
        mean = np.mean([sdr(true, found[j]) for j, true in enumerate(images)])
        assert mean >= bar, f"{name}: {mean:.2f} dB"


def test_fast_ica_takes_two_panned_sources_apart(shared):
    folder = shared / "audio" / "spatial-scenes" / "sources"
    images = []
    for name, pan in (("vocals", 30), ("drums", 60)):
        signal = torch.from_numpy(read(folder / f"{name}.flac")[0])[0, 88200:352800]
        angle = math.radians(pan)
        images.append(torch.stack([math.cos(angle) * signal, math.sin(angle) * signal]))
    estimates = zoo.create("ica").separate(sum(images), 44100)
    assert min(sdr(t, e) for t, e in zip(images, estimates.values(), strict=True)) > 40


# ----------------------------------------------------------------- files


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """A folder with a song of three objects."""
    monkeypatch.chdir(tmp_path)
    with AudioWriter("song.wav", 44100, 2, "FLOAT") as writer:
        writer.write(song((15, 0), (45, 4), (75, 0)).sum(0).numpy())
    return tmp_path


def test_places_are_told_by_object_whichever_are_written(at_home, capsys):
    main(["separate", "song.wav", "-m", "pairs", "--objects", "3", "-s", "object-3", "-o", "out"])
    told = capsys.readouterr().out
    assert "object-1: pan 15.0" in told and "object-3: pan 75.0" in told


def test_stems_of_other_arguments_are_not_taken_for_these(at_home, capsys):
    words = ["separate", "song.wav", "-m", "pairs", "--objects", "3", "-o", "out"]
    main(words)
    record = json.loads((at_home / "out" / "song" / "separation.json").read_text())
    assert record["model"]["arguments"]["n_objects"] == 3
    main([*words, "--max-delay", "8"])
    assert "made by pairs with other arguments" in capsys.readouterr().out


def test_a_folder_of_stems_may_have_a_systems_name(at_home, capsys):
    (at_home / "pairs").mkdir()
    main(["remix", "song.wav", "-m", "pairs", "--objects", "3", "--mute", "object-2"])
    assert "object-2: pan 45.0" in capsys.readouterr().out


def test_a_remix_takes_given_locations(at_home, capsys):
    places = ["--location", "15", "--location", "45,4", "--location", "75"]
    main(["remix", "song.wav", "-m", "pairs", *places, "--mute", "object-2"])
    assert "object-2: pan 45.0 degrees, right channel +4.0 samples" in capsys.readouterr().out


def test_the_azimugram_of_delayed_objects_has_them_at_their_levels():
    images = song((15, 8), (75, -8))
    totals = azimuth.level_histogram(STFT(4096, 1024)(images.sum(0)), 91).sum(1)
    peaks = {int(totals[:45].argmax()), 45 + int(totals[45:].argmax())}
    assert peaks == {15, 75}


def test_inverted_channels_are_said():
    mono = song((45, 0)).sum(0)[0]
    estimates = zoo.create("duet", n_objects=2).separate(torch.stack([mono, -mono]), 44100)
    assert any("the other inverted" in line for line in estimates.info["notes"])
