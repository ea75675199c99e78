"""MUSDB18 as containers and as wav files: streams, splits, what trains and what is scored."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from songs import STEMS, noise, write, write_container, write_song
from trainable_toy import Toy

from zoo.compat import musdb
from zoo.data import open_dataset
from zoo.data.check import check
from zoo.data.files import choose
from zoo.data.layouts import write as write_layout
from zoo.data.module import SeparationData
from zoo.data.track import SPLITS
from zoo.data.tracklist import entries, is_dsd100_test, song_key
from zoo.errors import DatasetError, MissingPackage

ORDER = ("mixture", "drums", "bass", "other", "vocals")
TRAIN = sorted(entry.name for entry in entries().values() if entry.musdb18 == "train")
TEST = sorted(entry.name for entry in entries().values() if entry.musdb18 == "test")


def tone(hz, samples=60_000):
    wave = 0.2 * np.sin(2 * np.pi * hz * np.arange(samples) / 44100)
    return np.stack([wave, 0.5 * wave]).astype(np.float32)


@pytest.fixture(scope="module")
def containers(tmp_path_factory):
    """Two songs whose mixture is louder than the sum of the stems, as a master is."""
    root = tmp_path_factory.mktemp("musdb18")
    signals = {source: tone(220 * (i + 1)) for i, source in enumerate(ORDER[1:])}
    signals["mixture"] = 1.25 * sum(signals.values())
    for path in ("train/Artist - One", "test/Artist - Two"):
        write_container(root / f"{path}.stem.mp4", [signals[source] for source in ORDER])
    return root, signals


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """MUSDB18-HQ by its names; no song is more than a folder."""
    root = tmp_path_factory.mktemp("musdb18hq")
    for part, names in (("train", TRAIN), ("test", TEST)):
        for name in names:
            (root / part / name).mkdir(parents=True)
    return root


def names(dataset):
    return {split: list(dataset.songs[split]) for split in SPLITS}


# The streams of a container


def test_every_source_is_its_own_stream(containers):
    root, signals = containers
    dataset = open_dataset("musdb18", root)
    (track,) = dataset.tracks("train")
    assert (track.name, track.rate, track.channels) == ("Artist - One", 44100, 2)
    for source in ORDER:
        heard = track.read(source, 5000, 40_000)
        error = heard - signals[source][:, 5000:45_000]
        assert np.square(error).sum() < 1e-2 * np.square(heard).sum(), source


def test_streams_are_rounded_to_16_bit_and_cut_at_full_scale(tmp_path, containers):
    root, _ = containers
    (track,) = open_dataset("musdb18", root).tracks("test")
    heard = track.read("vocals") * 32768
    assert np.array_equal(heard, np.rint(heard)) and heard.any()
    loud = [6 * tone(220)] * 5
    write_container(tmp_path / "train" / "a.stem.mp4", loud)
    (tmp_path / "test").mkdir()
    (track,) = open_dataset("musdb18", tmp_path).tracks("train")
    assert track.read("vocals").max() == np.float32(32767 / 32768)
    assert track.read("vocals").min() == -1


def test_a_batch_is_the_sum_of_stems_and_a_validation_item_the_stored_mixture(containers):
    root, _ = containers
    data = SeparationData(
        "musdb18", str(root), arguments={"valid": ["Artist - One"]}, batch_size=1,
        examples_per_epoch=2, valid_seconds=None,
    )  # fmt: skip
    data.dataset.songs["train"].update(data.dataset.songs["valid"])
    data.obey(Toy(sources=list(STEMS), sample_rate=44100, channels=2))
    (track,) = data.dataset.tracks("valid")
    (item,) = data.val_dataloader()
    assert torch.equal(item["mixture"][0], torch.from_numpy(track.read("mixture")))
    total = item["references"].sum(1)
    assert (item["mixture"] - total).abs().max() > 0.05
    batch = next(iter(data.train_dataloader()))
    assert set(batch) == {"references", "known"}  # its mixture can only be their sum


def test_the_mixture_is_that_far_from_the_sum_as_those_who_stored_it_say(shared, caplog):
    dataset = open_dataset("musdb18", shared / "audio" / "musdb-sample")
    assert "148 of its 150 songs are not in" in caplog.text
    report = check(dataset)
    assert report.is_sound
    rock, falcon = report.songs
    assert rock.mixture_db == pytest.approx(31.6, abs=0.1)
    assert falcon.mixture_db == pytest.approx(15.4, abs=0.1)
    assert (rock.licence, falcon.licence) == ("CC BY-NC-SA 4.0", "CC BY-NC-SA 3.0")
    assert not any("streams" in w for song in report.songs for w in song.warnings)


def test_other_as_a_difference_sums_to_the_stored_mixture(containers):
    root, _ = containers
    (plain,) = open_dataset("musdb18", root).tracks("test")
    (track,) = open_dataset("musdb18", root, other="difference").tracks("test")
    mixture, vocals = track.read("mixture"), track.read("vocals")
    assert np.allclose(sum(track.read(s) for s in STEMS), mixture, atol=1e-6)
    assert np.allclose(track.read("accompaniment"), mixture - vocals, atol=1e-6)
    assert np.abs(track.read("other") - plain.read("other")).max() > 0.05
    for block in track.blocks(10_000):
        assert np.allclose(sum(block[s] for s in STEMS), block["mixture"], atol=1e-6)


# Splits


def test_fourteen_songs_validate_and_the_package_musdb_says_which(whole):
    found = names(open_dataset("musdb18hq", whole))
    assert {split: len(found[split]) for split in SPLITS} == {"train": 86, "valid": 14, "test": 50}
    assert set(found["valid"]) == set(musdb.validation_tracks())
    assert found["test"] == TEST


def test_without_the_package_musdb_its_choice_is_missed_but_no_other(whole, monkeypatch):
    monkeypatch.setattr(musdb, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"14 validation tracks.*pip install musdb.*\(valid\)"):
        open_dataset("musdb18hq", whole)
    assert len(names(open_dataset("musdb18hq", whole, valid="none"))["train"]) == 100


def test_25_songs_are_those_that_the_wavenet_paper_draws(whole):
    found = names(open_dataset("musdb18hq", whole, valid=25))
    places = [2, 10, 11, 15, 17, 30, 32, 36, 43, 44, 48, 50, 52, 53, 56, 59, 63, 70, 73, 76, 79]
    assert found["valid"] == [TRAIN[i] for i in [*places, 81, 86, 87, 91]]
    assert len(found["train"]) == 75 and not set(found["train"]) & set(found["valid"])


def test_validation_songs_are_named_or_matched(whole):
    found = names(open_dataset("musdb18hq", whole, valid=["ANiMAL - Rockshow", "Leaf - *"]))
    leaf = [name for name in TRAIN if name.startswith("Leaf - ")]
    assert set(found["valid"]) == {"ANiMAL - Rockshow", *leaf} and len(leaf) > 1
    with pytest.raises(DatasetError, match="no song named 'ANiMAL - Rokshow'.*ANiMAL - Rockshow"):
        open_dataset("musdb18hq", whole, valid=["ANiMAL - Rokshow"])


def test_songs_that_dsd100_tests_on_can_be_left_out(whole):
    found = names(open_dataset("musdb18hq", whole, valid="none", without_dsd100_test=True))
    assert len(found["train"]) == 73 and len(found["test"]) == 50
    assert not any(is_dsd100_test(name) for name in found["train"])
    assert "ANiMAL - Rockshow" not in found["train"] and "Leaf - Wicked" in TRAIN
    found = names(open_dataset("musdb18hq", whole, without_dsd100_test=True))
    assert "ANiMAL - Rockshow" not in found["valid"]  # number 2 of DSD100


def test_the_list_of_songs_agrees_with_the_published_ones(shared):
    import csv
    import gzip

    published = shared / "published"
    with (published / "dsd100_tracks.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            entry = entries()[song_key(row["name"])]
            assert entry.dsd100 == int(row["track_id"])
            assert is_dsd100_test(row["name"]) == (row["subset"] == "Test")
    with gzip.open(published / "sisec2018_musdb18_track.csv.gz", "rt") as file:
        assert {row["track"] for row in csv.DictReader(file)} == set(TEST)
    assert len(entries()) == 150 and len(TRAIN) == 100


def test_a_song_is_known_in_every_spelling():
    for a, b in (
        ("Jokers, Jacks & Kings - Sea Of Leaves", "Jokers Jacks & Kings - Sea Of Leaves"),
        ("055 - Angels In Amplifiers - I'm Alright", "Angels In Amplifiers - Im alright"),
        ("Patrick Talbot - Set Me Free", "Patrick Talbot - Set Free Me"),
    ):
        assert song_key(a) == song_key(b)
    assert len(entries()) == 150


def test_at_most_a_quarter_is_drawn(caplog):
    assert choose("abcdefgh", 2) == choose("hgfedcba", 2) and len(choose("abcdefgh", 2)) == 2
    assert len(choose("abcdefgh", 5)) == 2
    assert "2 songs are taken to validate on, not 5" in caplog.text
    assert choose("abc", 0) == set()
    with pytest.raises(DatasetError, match="-1 songs"):
        choose("abc", -1)


# Folders


def test_the_tree_that_the_zoo_writes_is_read_back(tmp_path):
    made = open_dataset("generated", n_train=4, n_valid=1, n_test=1, seconds=1.0, sample_rate=8000)
    root = write_layout(made, tmp_path / "tree", "musdb")
    dataset = open_dataset("musdb18hq", root, valid=["generated-valid-*"])
    for split in SPLITS:
        assert [t.name for t in dataset.tracks(split)] == [t.name for t in made.tracks(split)]
    (track,) = dataset.tracks("valid")
    (original,) = made.tracks("valid")
    assert np.abs(track.read("bass") - original.read("bass")).max() <= 2**-15
    assert check(dataset).is_sound


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_missing_folder_is_named(tmp_path, part):
    for name in {"train", "test"} - {part}:
        (tmp_path / name).mkdir()
    for id in ("musdb18", "musdb18hq"):
        with pytest.raises(DatasetError, match=f"{id}: {tmp_path}/{part} is no folder"):
            open_dataset(id, tmp_path)


def test_empty_folders_and_the_other_form_are_told(tmp_path, containers):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
    with pytest.raises(DatasetError, match=r"musdb18: no song in .*<Artist - Title>\.stem\.mp4"):
        open_dataset("musdb18", tmp_path)
    with pytest.raises(DatasetError, match="which is musdb18; open it so"):
        open_dataset("musdb18hq", containers[0])
    write_song(tmp_path / "train" / "a", "mixture", *STEMS)
    with pytest.raises(DatasetError, match="which is musdb18hq; open it so"):
        open_dataset("musdb18", tmp_path)


def test_a_song_that_came_in_half_is_named_with_what_there_is_of_it(tmp_path, caplog):
    for path in ("train/a", "train/b", "test/c"):
        write_song(tmp_path / path, "mixture", *STEMS)
    (tmp_path / "train" / "b" / "bass.wav").rename(tmp_path / "train" / "b" / "bass.wav.part")
    message = (
        r"song 'b' has no bass: .*train/b/bass\.wav was expected, and there is bass\.wav\.part"
    )
    with pytest.raises(DatasetError, match=message):
        open_dataset("musdb18hq", tmp_path).tracks("train")
    with caplog.at_level(logging.WARNING):
        dataset = open_dataset("musdb18hq", tmp_path, skip_faulty=True)
        assert [track.name for track in dataset.tracks("train")] == ["a"]
    assert "song b is skipped" in caplog.text
    assert [bool(song.errors) for song in check(dataset).songs] == [False, True, False]


def test_a_container_that_came_in_half_is_named(tmp_path, containers):
    root, _ = containers
    whole = (root / "train" / "Artist - One.stem.mp4").read_bytes()
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
    path = tmp_path / "train" / "half.stem.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=rf"song 'half': .*{path.name} is"):
        open_dataset("musdb18", tmp_path).tracks("train")


def test_a_container_of_one_stream_is_named(tmp_path):
    (tmp_path / "test").mkdir()
    write_container(tmp_path / "train" / "mono.stem.mp4", [tone(220)])
    with pytest.raises(DatasetError, match=r"song 'mono': .*has no audio stream \d, but 1 of them"):
        open_dataset("musdb18", tmp_path).tracks("train")


def test_stems_of_unequal_length_are_named(tmp_path):
    (tmp_path / "test").mkdir()
    write_song(tmp_path / "train" / "a", "mixture", *STEMS)
    path: Path = tmp_path / "train" / "a" / "drums.wav"
    write(path, noise(3, 399))
    with pytest.raises(DatasetError, match=r"'a': .*drums\.wav has 399 samples where .* has 400"):
        open_dataset("musdb18hq", tmp_path).tracks("train")
