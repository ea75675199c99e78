"""Scenes: sources at known places."""

import json
import math

import numpy as np
import pytest

from zoo.audio import read
from zoo.cli import main
from zoo.data import open_dataset
from zoo.data.scene_files import scene_plan
from zoo.data.scenes import LEAST_ANGLE, SceneTrack
from zoo.dsp import panning
from zoo.dsp.panning import PAIRS, delayed, heard, panned, placed
from zoo.errors import DatasetError

SHORT = {"of": "generated", "arguments": {"seconds": 2.0, "n_train": 2, "n_valid": 1, "n_test": 2}}


# ----------------------------------------------------------------- pan and delay


def test_the_impulse_response_of_two_and_a_half_samples():
    impulse = np.zeros(64)
    impulse[20] = 1
    expected = [0.127323945, -0.212206585, 0.636619770, 0.636619770, -0.212206585, 0.127323945]
    # In a long signal the sinc is hardly periodic.
    assert delayed(impulse, 2.5)[20:26].tolist() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("delay", [0, 3, -3, 70, -70])
def test_whole_delays_are_exact(delay):
    x = np.random.default_rng(0).standard_normal(50)
    expected = np.zeros(50)
    for n in range(50):
        if 0 <= n - delay < 50:
            expected[n] = x[n - delay]
    np.testing.assert_array_equal(delayed(x, delay), expected)


def test_a_fractional_delay_and_its_opposite_cancel():
    x = np.zeros(4000)
    x[1500:2500] = np.hanning(1000) * np.sin(np.arange(1000) / 5)
    np.testing.assert_allclose(delayed(delayed(x, 7.3), -7.3), x, atol=1e-6)


def test_placed_signals_have_the_power_of_what_they_are_made_of():
    x = np.random.default_rng(0).standard_normal(1000)
    for pan in (0, 20, 45, 90):
        image = placed(x, panned(pan))
        assert np.square(image).sum() == pytest.approx(np.square(x).sum())
    assert panned(30, 4).pan == pytest.approx(30)


@pytest.mark.parametrize(
    ("pair", "azimuth", "pan", "delay"),
    [
        ("xy", 60, 20.7, 0), ("xy", 20, 36.7, 0), ("xy", -60, 69.3, 0),
        ("ab", 60, 40.1, 44.5), ("ab", 20, 43.1, 17.5), ("ab", -20, 46.9, -17.5),
        ("ortf", 60, 14.6, 18.9), ("ortf", 20, 33.4, 7.5), ("ortf", -60, 75.4, -18.9),
    ],
)  # fmt: skip
def test_what_pairs_of_microphones_hear(pair, azimuth, pan, delay):
    found = heard(PAIRS[pair], azimuth, 2.0, 44100)
    assert found.pan == pytest.approx(pan, abs=0.05)
    assert found.delay == pytest.approx(delay, abs=0.05)


def test_gains_of_an_xy_pair():
    assert heard(PAIRS["xy"], 60, 2, 44100).gains == pytest.approx((0.9830, 0.3706), abs=5e-5)
    assert heard(PAIRS["xy"], 20, 2, 44100).gains == pytest.approx((0.9532, 0.7113), abs=5e-5)


# ----------------------------------------------------------------- the data set


def tracks(split="test", **arguments):
    return open_dataset("scenes", **{**SHORT, **arguments}).tracks(split)


def test_every_song_is_in_every_scene():
    found = tracks(scenes={"a": {"step": 10}, "b": {"step": 20}})
    assert len(found) == 4
    assert found[0].name.endswith(" a") and found[1].name.endswith(" b")
    assert [round(p.pan, 6) for p in found[1].positions.values()] == [15, 35, 55, 75]


def test_the_mixture_is_the_sum_of_the_images():
    (track, *_) = tracks(scenes={"x": {"pans": [10, 30, 50, 80], "delays": [0, 2.5, -3, 1]}})
    whole = sum(track.read(source) for source in track.sources)
    np.testing.assert_array_equal(track.read("mixture"), whole)
    assert whole.shape == (2, track.samples) and np.abs(whole).max() > 0.01


@pytest.mark.parametrize(
    ("layout", "atol"),
    [
        ({"step": 20}, 0),
        ({"step": 20, "delays": [4, -3, 2, -5]}, 0),
        ({"step": 20, "delays": [0.5, -3.25, 2, -5]}, 2e-4),  # a sinc has no end
        ({"pair": "ortf"}, 2e-4),
        ({"pair": "ortf", "room": True}, 1e-6),
    ],
)
def test_a_stretch_is_cut_out_of_the_whole(layout, atol):
    (track, *_) = tracks(scenes={"x": layout})
    for source in track.sources:
        whole = track.read(source)
        part = track.read(source, 30000, 5000)
        np.testing.assert_allclose(part, whole[:, 30000:35000], atol=atol)


def test_random_places_are_apart_and_the_same_at_every_reading():
    layout = {"x": {"random": True, "max_delay": 5}}
    first, second = tracks(scenes=layout), tracks(scenes=layout)
    assert [t.positions for t in first] == [t.positions for t in second]
    assert first[0].positions != first[1].positions
    assert first[0].positions != tracks(scenes=layout, seed=1)[0].positions
    for track in first:
        pans = sorted(p.pan for p in track.positions.values())
        assert np.diff(pans).min() >= LEAST_ANGLE - 1e-6
        assert all(abs(p.delay) <= 5 and p.delay == int(p.delay) for p in track.positions.values())


def test_the_excerpt_is_where_the_quietest_source_is_loudest():
    (track, *_) = tracks(arguments={"seconds": 6.0, "n_test": 1}, excerpt_s=2.0)
    song, rate = track.track, track.rate
    assert track.samples == 2 * rate

    def quietest(first):
        return min(np.square(song.read(s, first, 2 * rate).mean(0)).sum() for s in track.sources)

    assert quietest(track.first) == max(quietest(k * rate) for k in range(5))


def test_equal_levels():
    (track, *_) = tracks(level="equal")
    for source in track.sources:
        size = math.sqrt(float(np.square(track.read(source)).sum(0).mean()))
        assert 20 * math.log10(size) == pytest.approx(-23, abs=0.01)


def test_delays_follow_the_rate():
    arguments = {**SHORT["arguments"], "sample_rate": 22050}
    (track, *_) = tracks(arguments=arguments, scenes={"x": {"step": 20, "delays": [4, -2, 0, 2]}})
    assert [p.delay for p in track.positions.values()] == [2, -1, 0, 1]


def test_the_experiment_has_its_scenes():
    found = tracks(preset="projet-experiment", songs=1)
    assert [t.name.split()[-1] for t in found] == [
        "pan10", "pan20", "pan30", "delayA", "delayB", "delayC", "delayD"
    ]  # fmt: skip
    assert [round(p.pan, 6) for p in found[2].positions.values()] == [0, 30, 60, 90]
    assert [p.delay for p in found[5].positions.values()] == [4, -3, 2, -5]


def test_a_fingerprint_changes_with_the_places():
    def of(**more):
        return open_dataset("scenes", **SHORT, **more).fingerprint(["test"])

    assert of() == of()
    others = [{"scenes": {"x": {"step": 10}}}, {"level": "equal"}, {"excerpt_s": 1.0}]
    assert len({of(), *(of(**more) for more in others)}) == 4


@pytest.mark.parametrize("name", ["pan20", "delay20", "xy", "ortf-less ab"])
def test_delivered_scenes_are_made_again_from_their_sources(shared, name, tmp_path):
    name = name.split()[-1]
    folder = shared / "audio" / "spatial-scenes"
    told = json.loads((folder / name / "scene.json").read_text())
    for index, facts in enumerate(told["objects"], 1):
        signal = read(folder / "sources" / f"{facts['name']}.flac")[0][0]
        if "pan_deg" in facts:
            position = panned(facts["pan_deg"], facts["delay_right_samples"])
        else:
            position = heard(PAIRS[name], facts["azimuth_deg"], facts["distance_m"], 44100)
        image = placed(signal, position)[:, 2 * 44100 : 8 * 44100]
        stored = read(folder / name / f"image-{index}.flac")[0]
        np.testing.assert_allclose(image, stored, atol=2.0**-13)


def test_scenes_that_are_files_are_read(shared):
    dataset = open_dataset("scenes", shared / "audio" / "spatial-scenes")
    found = {t.name: t for t in dataset.tracks("test")}
    assert {"pan20", "room", "xy"} <= set(found) and not dataset.tracks("train")
    track = found["pan20"]
    total = sum(track.read(s) for s in track.sources)
    np.testing.assert_allclose(total, track.read("mixture"), atol=1e-6)
    reach = {name: track.max_delay for name, track in found.items()}
    assert reach["pan20"] == reach["xy"] == 0 and reach["delay20"] == 5
    assert reach["ab"] == 45 and reach["room"] == 22


# ----------------------------------------------------------------- files


def test_scenes_are_written_and_read_again(tmp_path, capsys):
    words = [
        "data",
        "scene",
        str(tmp_path / "out"),
        "--arguments",
        json.dumps(SHORT),
        "--songs",
        "1",
    ]
    assert main(words) == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert sorted(p.name for p in folder.iterdir()) == [
        *(f"image-{j}.flac" for j in range(1, 5)), "mix.flac", "plan.png", "scene.json"
    ]  # fmt: skip
    (track,) = open_dataset("scenes", tmp_path / "out").tracks("test")
    (made, *_) = tracks()
    assert isinstance(made, SceneTrack) and track.sources == made.sources
    for source in track.sources:
        np.testing.assert_allclose(track.read(source), made.read(source), atol=2.0**-22)
    assert "pan 15" in capsys.readouterr().out


def test_scenes_that_are_there_are_not_replaced(tmp_path, capsys):
    words = ["data", "scene", str(tmp_path), "--arguments", json.dumps(SHORT), "--songs", "1"]
    assert main(words) == 0
    assert main(words) != 0
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["test", "train"])
def test_a_split_without_songs_is_refused(split, tmp_path, capsys):
    counts = {"n_train": 0, "n_valid": int(split == "test"), "n_test": 0, "seconds": 2.0}
    arguments = {"of": "generated", "arguments": counts}
    words = ["data", "scene", str(tmp_path / "out"), "--split", split]
    assert main([*words, "--arguments", json.dumps(arguments)]) == 2
    advice = "take --split valid" if split == "test" else "name a folder with songs"
    assert f"there are no {split} songs to make scenes of; {advice}." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "layout",
    [
        *({"pair": pair} for pair in PAIRS), {"pair": "ortf", "room": True},
        {"pair": "ab", "azimuths": [170, 90, -90, -170]}, {"pair": "xy", "azimuths": [9, 6, 3, 0]},
        {"step": 30, "delays": [4, -3, 2, -12]},
    ],
)  # fmt: skip
def test_everything_is_inside_the_plan(layout):
    (track, *_) = tracks(scenes={"x": layout})
    figure = scene_plan(track)
    figure.canvas.draw()
    (ax,) = figure.axes
    names = {text.get_text(): text for text in ax.texts}
    assert names.keys() >= {*track.sources, *(("left", "right") if "pair" in layout else ())}
    frame = ax.get_window_extent()
    for text in names.values():
        box = text.get_window_extent()
        assert frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
        assert frame.contains(*ax.transData.transform(text.xy))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"scenes": {"x": {"step": 40}}}, "between 0 (left) and 90 (right): take a smaller step"),
        ({"scenes": {"x": {"pans": [10, 20, 30, 200]}}}, "30, 200; give pans between 0 (left)"),
        ({"scenes": {"x": {"step": 0}}}, "all 4 sources at one place; give a step above 0"),
        ({"scenes": {"x": {"step": -10}}}, "step is -10; give a number that is 0 or more"),
        ({"scenes": {"x": {"pair": "ab", "distance": -1}}}, "distance is -1; give a number that"),
        ({"scenes": {"x": {"step": 9, "delays": [0, -4411, 9, 0]}}}, "-4411 samples of delays are"),
        ({"scenes": {"x": {"step": 9, "max_delay": 4411}}}, "4411 samples of max_delay are too lo"),
        ({"scenes": {"x": {"pair": "ab", "rt60": 0.3}}}, "rt60 is of a room; add room: true."),
        (
            {"scenes": {"x": {"pair": "ab", "room": True, "rt60": 0.01}}},
            "an rt60 of 0.01 s is too short for this room, even if its walls absorb everything; "
            "give 0.12 s or more.",
        ),
        (
            {"scenes": {"x": {"pair": "blumlein", "azimuths": [40, 20, -20, -80]}}},
            "blumlein hears an object at -80 degrees inverted in a channel; give azimuths between "
            "-45 and 45.",
        ),
        ({"scenes": {"x": {"pans": [1, 2]}}}, "2 pans for 4 sources"),
        ({"scenes": {"x": {"pair": "zz"}}}, "no pair 'zz'"),
        ({"scenes": {"x": {"stp": 3}}}, "has stp; a layout has step"),
        ({"scenes": {"x": {"room": True, "step": 20}}}, "heard by a pair"),
        ({"scenes": {"x": {}}}, "is no layout"),
        ({"scenes": {"x": {"step": "abc"}}}, "scene x: step is 'abc'; give a number"),
        ({"scenes": {"x": {"step": 20, "max_delay": -3}}}, "max_delay is -3"),
        ({"scenes": {"x": {"pans": 5}}}, "pans are 5; give a list of numbers"),
        ({"scenes": {"x": {"step": float("nan")}}}, "step is nan"),
        ({"scenes": {"x": {"step": 20, "pans": [1, 2]}}}, "both pans and a step"),
        ({"scenes": ["x"]}, "expected names with a layout each"),
        ({"excerpt_s": -1}, "excerpt_s is -1"),
        ({"songs": -1}, "songs is -1"),
        ({"scenes": {"x": {"delays": [0, 0, 0, 0]}}}, "neither step nor pans"),
        ({"preset": "projet"}, "no preset 'projet'"),
        ({"sources": ["vocals", "flute"]}, "it has no flute"),
    ],
)
def test_what_is_no_scene_is_refused(arguments, said):
    with pytest.raises(DatasetError) as error:
        open_dataset("scenes", **{**SHORT, **arguments})
    assert said in str(error.value)


@pytest.mark.parametrize(
    "layout",
    [
        {"step": 0}, {"pair": "blumlein", "azimuths": [45]}, {"pair": "xy", "azimuths": [180]},
        {"pans": [90], "delays": [-4410]}, {"pair": "ab", "room": True, "rt60": 0.12},
    ],
)  # fmt: skip
def test_the_outermost_that_is_a_scene(layout):
    track = tracks(scenes={"x": layout}, sources=["vocals"])[0]
    assert track.read("mixture", 0, 4410).shape == (2, 4410)


@pytest.mark.parametrize("arguments", [{}, {"of": None, "arguments": None}])
def test_other_songs_than_the_papers_are_told(arguments, caplog):
    open_dataset("scenes", **{**SHORT, **arguments})
    assert not caplog.records
    open_dataset("scenes", **{**SHORT, **arguments}, preset="projet-experiment")
    (record,) = caplog.records
    assert "data set generated: these are not the paper's songs" in record.getMessage()


def test_padding_is_wide_enough():
    assert panning.PADDING >= 8192


# ----------------------------------------------------------------- evaluation


def test_objects_are_scored_against_the_sources_that_they_are(tmp_path):
    from zoo.evaluation.systems import resolve

    layout = {"x": {"pans": [80, 50, 30, 10], "delays": [0, 5, -3, 0]}}  # from right to left
    (track, *_) = tracks(scenes=layout, arguments={"seconds": 4.0, "n_test": 1})
    system = resolve("pairs", [track.name], "test")
    assert system.facts(track)["told"] == {"n_objects": 4, "max_delay": 5}
    told = resolve("pairs:max_delay=7", [track.name], "test").facts(track)["told"]
    assert told == {"n_objects": 4}
    found = np.concatenate([piece.numpy() for piece in system.pieces(track, track.sources)], -1)
    true = np.stack([track.read(source) for source in track.sources])
    right = np.square(found - true).sum()
    for order in ((1, 0, 2, 3), (0, 1, 3, 2), (3, 1, 2, 0), (3, 2, 1, 0)):
        assert right < np.square(found[list(order)] - true).sum()
