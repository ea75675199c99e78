"""Pools of isolated sounds, and data sets mixed by weight."""

import importlib
import inspect
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from songs import STEMS, noise, write, write_song
from trainable_toy import Toy

from zoo import recipes
from zoo.cli import main
from zoo.data import DATASETS, open_dataset
from zoo.data.check import check
from zoo.data.module import SeparationData
from zoo.errors import DatasetError

# Pools


@pytest.fixture
def pool(tmp_path):
    sounds = ("drums/loop.wav", "drums/old/loop.wav", "hits/kick.flac", "Bass/note.ogg")
    for i, sound in enumerate(sounds):
        write(tmp_path / sound, noise(i, 200 + i, 1))
    (tmp_path / "drums" / "readme.txt").write_text("no sound")
    return tmp_path


def test_every_sound_is_a_training_track_of_one_source(pool):
    dataset = open_dataset("pool", pool)
    assert dataset.sources == ("drums", "bass", "hits")
    tracks = dataset.tracks("train")
    assert [(t.name, t.sources) for t in tracks] == [
        ("drums/loop.wav", ("drums",)), ("drums/old/loop.wav", ("drums",)),
        ("Bass/note.ogg", ("bass",)), ("hits/kick.flac", ("hits",)),
    ]  # fmt: skip
    assert [t.samples for t in tracks] == [200, 201, 203, 202]
    assert dataset.tracks("valid") == dataset.tracks("test") == []


def test_a_sound_knows_its_source_and_no_mixture(pool):
    track = open_dataset("pool", pool).tracks("train")[0]
    asked = ("drums", "bass", "mixture", "accompaniment")
    assert [track.knows(source) for source in asked] == [True, False, False, False]
    assert np.array_equal(track.read("drums"), noise(0, 200, 1))


def test_folders_are_mapped_to_sources(pool):
    dataset = open_dataset("pool", pool, folders={"drums": ["drums", "hits"]}, licence="CC0")
    assert dataset.sources == ("drums",)
    assert len(dataset.tracks("train")) == 3 and dataset.tracks("train")[2].licence == "CC0"
    everything = open_dataset("pool", pool, folders={"other": ["drums", "."]})
    assert [t.sources for t in everything.tracks("train")] == [("other",)] * 4


@pytest.mark.parametrize(
    ("folders", "message"),
    [({"vocals": "voices"}, "voices, named for vocals, is no folder"),
     ({"vocals": "empty"}, "empty, named for vocals, holds no audio"),
     ({"vocals": "/"}, "/, named for vocals, is not below "),
     ({"drums": "drums", "hits": "."}, r"drums/loop\.wav is named for both drums and hits")],
)  # fmt: skip
def test_a_folder_without_sounds_is_told(pool, folders, message):
    (pool / "empty").mkdir()
    with pytest.raises(DatasetError, match=message):
        open_dataset("pool", pool, folders=folders)
    with pytest.raises(DatasetError, match="holds no folder; expected <source>/<sound>.wav"):
        open_dataset("pool", pool / "empty")


def test_the_shared_loops_and_voices_are_pools(shared):
    loops = open_dataset(
        "pool", shared / "audio" / "loops-cc0",
        folders={"drums": ["drums", "hits"], "bass": "bass", "other": "other"},
    )  # fmt: skip
    counts = {s: sum(t.sources == (s,) for t in loops.tracks("train")) for s in loops.sources}
    assert counts == {"drums": 79, "bass": 8, "other": 6}
    seconds = sum(t.samples / t.rate for t in loops.tracks("train"))
    assert seconds == pytest.approx(114 + 22 + 35 + 41, abs=4)
    voices = open_dataset("pool", shared / "audio" / "voices", folders={"vocals": "."})
    assert {t.channels for t in voices.tracks("train")} == {1}
    assert {t.rate for t in voices.tracks("train")} == {24000, 44100}


# Mixtures


@pytest.fixture
def roots(tmp_path, pool):
    for part, songs in (
        ("Dev", ("051 - A - One", "052 - A - Two")),
        ("Test", ("001 - A - Three",)),
    ):
        for i, song in enumerate(songs):
            write_song(tmp_path / "dsd" / "Sources" / part / song, *STEMS, seed=i)
            write_song(tmp_path / "dsd" / "Mixtures" / part / song, "mixture", seed=i + 5)
    for part, songs in (("train", ("A - Two", "A - Three", "B - Four")), ("test", ("B - Five",))):
        for i, song in enumerate(songs):
            write_song(tmp_path / "mus" / part / song, "mixture", *STEMS, seed=i + 10)
    return tmp_path


def parts(roots, **changes):
    pool = {"dataset": "pool", "root": roots / "drums", "arguments": {"folders": {"drums": "."}}}
    return [
        {"dataset": "dsd100", "root": roots / "dsd", "arguments": {"valid": [52]}, "weight": 3},
        {"dataset": "musdb18hq", "root": roots / "mus", "valid": False, **changes},
        {**pool, "weight": 0.5},
    ]


def test_a_mixture_trains_on_all_parts_and_scores_those_that_count(roots, caplog):
    with caplog.at_level(logging.INFO):
        dataset = open_dataset("mix", parts=parts(roots))
        assert [t.name for t in dataset.tracks("train")] == [
            "051 - A - One", "B - Four", "loop.wav", "old/loop.wav",
        ]  # fmt: skip
    assert [t.name for t in dataset.tracks("valid")] == ["052 - A - Two"]
    assert [t.name for t in dataset.tracks("test")] == ["001 - A - Three"]
    assert dataset.sources == STEMS and dataset.protocol == "sisec2018"
    assert "2 songs of musdb18hq are validated or tested on" in caplog.text


def test_no_song_is_trained_on_that_another_part_validates_or_tests_on(roots):
    dataset = open_dataset("mix", parts=parts(roots, valid=True))
    assert [t.name for t in dataset.tracks("test")] == ["001 - A - Three", "B - Five"]
    trained = {t.name for t in dataset.tracks("train")}
    assert not trained & {"A - Two", "A - Three", "052 - A - Two"}


def test_weights_are_shares_of_the_parts_whatever_their_size(roots):
    dataset = open_dataset("mix", parts=parts(roots))
    assert dataset.weights("train", "drums") == [3, 1, 0.25, 0.25]
    assert dataset.weights("train", "mixture") == dataset.weights("train", "bass") == [3, 1, 0, 0]
    assert len(dataset.weights("test", "drums")) == len(dataset.tracks("test"))


def test_a_part_has_its_share_of_every_source_however_many_sounds_it_has_of_it(roots):
    for n in range(9):
        write(roots / "sounds" / "drums" / f"{n}.wav", noise(n))
    write(roots / "sounds" / "vocals" / "a.wav", noise(9))
    song = {"dataset": "folder", "root": roots / "dsd" / "Sources" / "Test"}
    mixed = [song, {"dataset": "pool", "root": roots / "sounds", "weight": 3}]
    data = SeparationData("mix", arguments={"parts": mixed}, batch_size=1, examples_per_epoch=1)
    data.obey(Toy(sources=["vocals", "drums"], sample_rate=8000, channels=2))
    urns = data.train_dataloader().dataset.having
    for source in ("vocals", "drums"):
        drawn = [urns[source].draw((i + 0.5) / 1000).sources for i in range(1000)]
        assert drawn.count((source,)) == 750


def test_the_fingerprint_follows_the_parts_and_the_weights_of_training():
    def fingerprint(splits=("train",), seed=0, **keys):
        arguments = {"n_train": 1, "n_valid": 1, "n_test": 1, "seconds": 1.0, "seed": seed}
        part = {"dataset": "generated", "arguments": arguments, **keys}
        return open_dataset("mix", parts=[part]).fingerprint(splits)

    assert fingerprint() == fingerprint() != fingerprint(seed=1)
    assert fingerprint(weight=2) != fingerprint() and fingerprint(["test"]) != fingerprint()
    assert fingerprint(["test"], weight=2) == fingerprint(["test"]) != fingerprint(["test"], 1)
    assert fingerprint(["test"], valid=False) != fingerprint(["test"])


def test_a_part_of_no_weight_only_validates_and_tests(roots):
    dataset = open_dataset("mix", parts=parts(roots, weight=0, valid=True))
    assert not any("B - " in t.name for t in dataset.tracks("train"))
    assert [t.name for t in dataset.tracks("test")] == ["001 - A - Three", "B - Five"]


def test_two_songs_of_one_name_stay_apart(roots):
    twice = {"dataset": "musdb18hq", "root": roots / "mus"}
    dataset = open_dataset("mix", parts=[twice, twice])
    assert [t.name for t in dataset.tracks("test")] == ["B - Five", "B - Five (2)"]
    assert len({t.name for t in dataset.tracks("train")}) == len(dataset.tracks("train")) == 6


def test_sources_are_those_in_common_or_as_told(roots):
    generated = {"dataset": "generated", "arguments": {"n_train": 1, "seconds": 1.0}}
    write_song(roots / "own" / "song", "vocals", "zither")
    own = {"dataset": "folder", "root": roots / "own"}
    assert open_dataset("mix", parts=[generated, own]).sources == ("vocals",)
    told = open_dataset("mix", parts=[generated, own], sources=["vocals", "drums"])
    assert told.sources == ("vocals", "drums")
    write_song(roots / "odd" / "song", "zither")
    odd = {"dataset": "folder", "root": roots / "odd"}
    with pytest.raises(DatasetError, match="no source in common .generated: .*folder: zither"):
        open_dataset("mix", parts=[generated, odd])


@pytest.mark.parametrize("parts", [3, "generated", None])
def test_parts_that_are_no_list_are_told(parts):
    with pytest.raises(DatasetError, match="give a list, each with its dataset"):
        open_dataset("mix", parts=parts)


WRONG = {
    "no mapping": ("generated", "part 1 of mix is 'generated'; a part has dataset"),
    "arguments": (
        {"dataset": "generated", "arguments": ["n_train"]},
        r"part 1 of mix has arguments \['n_train'\]; give names with values",
    ),
    "key": ({"dataset": "generated", "wieght": 2}, "part 1 of mix has wieght; a part has dataset"),
    "id": ({"root": "x"}, "part 1 of mix names no dataset"),
    "weight": ({"dataset": "generated", "weight": -1}, "part 1 of mix has weight -1"),
    "word": ({"dataset": "generated", "weight": "much"}, "part 1 of mix has weight 'much'"),
    "zero": ({"dataset": "generated", "weight": 0}, "a weight above 0"),
    "valid": ({"dataset": "generated", "valid": "no"}, "part 1 of mix has valid 'no'"),
    "root": (
        {"dataset": "musdb18hq", "root": "/nowhere"},
        "'musdb18hq' was looked for in /nowhere",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_part_is_told(what):
    part, message = WRONG[what]
    with pytest.raises(DatasetError, match=message):
        open_dataset("mix", parts=[part])


def test_a_mixture_is_checked_with_its_faulty_songs(roots, capsys):
    (roots / "mus" / "test" / "B - Five" / "bass.wav").unlink()
    report = check(open_dataset("mix", parts=parts(roots, valid=True)))
    assert [song.name for song in report.songs if song.errors] == ["B - Five"]
    text = yaml.safe_dump({"parts": [{"dataset": "folder", "root": str(roots / "mus" / "train")}]})
    assert main(["data", "check", "--dataset", "mix", "--arguments", text]) == 0
    assert "mix: 3 usable songs" in capsys.readouterr().out


def test_the_mixture_of_the_recipes_names_data_sets_and_arguments_that_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    tree = yaml.safe_load(recipes.find("data/mix").read_text())
    for tree_part in ("Mixtures/Dev", "Mixtures/Test", "Sources/Dev", "Sources/Test"):
        (tmp_path / "dsd100" / tree_part).mkdir(parents=True)
    write_song(tmp_path / "musdb18hq" / "train" / "ANiMAL - Rockshow", "mixture", *STEMS)
    (tmp_path / "musdb18hq" / "test").mkdir()
    dataset = open_dataset(tree["data"]["dataset"], **tree["data"]["arguments"])
    assert dataset.tracks("train") == []  # DSD100 tests on it
    assert set(tree["model"]["init_args"]["sources"]) == set(dataset.sources)


# All


@pytest.mark.slow
def test_no_data_set_needs_torch_to_be_opened():
    modules = {target.partition(":")[0] for target in DATASETS.values()}
    code = f"import {', '.join(sorted(modules))}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize("id", [id for id in DATASETS if id not in ("generated", "mix", "scenes")])
def test_a_root_that_is_not_there_is_told_in_one_sentence(id, tmp_path):
    root = tmp_path / "nowhere"
    with pytest.raises(DatasetError) as raised:
        open_dataset(id, root)
    said = str(raised.value)
    assert f"data set {id!r} was looked for in {root}" in said
    assert "generated, which needs no download" in said
    assert said.count(". ") == 0 and said.endswith(".")


def test_training_draws_from_pools_and_songs(roots):
    data = SeparationData(
        "mix", arguments={"parts": parts(roots)}, batch_size=4, examples_per_epoch=4
    )
    data.obey(Toy(sources=list(STEMS), sample_rate=8000, channels=2))
    batch = next(iter(data.train_dataloader()))
    assert batch["references"].shape[:3] == (4, 4, 2) and batch["known"].all()
    assert [item["name"] for item in data.test_dataloader()] == ["001 - A - Three"]


def test_the_page_on_data_sets_names_all_of_them_and_all_their_arguments(checkout):
    text = (checkout / "docs" / "data.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    told = {id: row for row in rows for id in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(told) == set(DATASETS)
    for id, target in DATASETS.items():
        if id in ("generated", "musdb18hq"):  # which has more, and which has those of another
            continue
        module, name = target.split(":")
        kind = getattr(importlib.import_module(module), name)
        arguments = set(inspect.signature(kind).parameters) - {"root", "skip_faulty"}
        assert set(told[id].split("|")[4].replace("`", " ").split()) == arguments, id


def test_the_recipes_on_the_page_on_data_sets_are_data_sets(checkout, roots, monkeypatch):
    text = (checkout / "docs" / "data.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(roots)
    monkeypatch.setenv("ZOO_DATA", str(roots))
    for sound in ("loops/drums/a", "loops/hits/b", "loops/bass/c", "voices/d"):
        write(roots / f"{sound}.wav", noise(0))
    (roots / "mus").rename(roots / "musdb18hq")
    write_song(roots / "folder" / "song", "VOX", "Percussion", "piano")
    for block in blocks:
        data = yaml.safe_load(block)["data"]
        assert open_dataset(data["dataset"], **data["arguments"]).tracks("train")
