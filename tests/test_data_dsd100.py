"""DSD100 and MSD100: two trees of folders, numbers, splits."""

import shutil

import numpy as np
import pytest
from songs import STEMS, write_song

from zoo.cli import main
from zoo.data import open_dataset
from zoo.data.check import check
from zoo.data.layouts import write as write_layout
from zoo.data.track import SPLITS
from zoo.errors import DatasetError

DEV = ("055 - Angels In Amplifiers - I'm Alright", "081 - Patrick Talbot - Set Me Free")
TEST = ("005 - Angela Thomas Wade - Milk Cow Blues", "049 - Young Griffo - Facade")


@pytest.fixture
def root(tmp_path):
    """The four songs of the public subset, by name."""
    for part, songs in (("Dev", DEV), ("Test", TEST)):
        for song in songs:
            write_song(tmp_path / "Sources" / part / song, *STEMS)
            write_song(tmp_path / "Mixtures" / part / song, "mixture", seed=1)
    return tmp_path


def names(dataset):
    return {split: [track.name for track in dataset.tracks(split)] for split in SPLITS}


@pytest.mark.parametrize("id", ["dsd100", "msd100"])
def test_dev_trains_and_test_tests(root, id):
    dataset = open_dataset(id, root, valid=0)
    assert names(dataset) == {"train": list(DEV), "valid": [], "test": list(TEST)}
    assert dataset.id == id
    track = dataset.tracks("test")[1]
    assert track.licence == "education and research only"
    assert track.sources == STEMS and track.has_mixture
    total = sum(track.read(source) for source in STEMS)
    assert not np.array_equal(track.read("mixture"), total)
    expected = total - track.read("vocals")
    assert np.allclose(track.read("accompaniment"), expected, atol=1e-6)


@pytest.mark.parametrize("song", [81, "081", "Patrick Talbot - Set Me Free", DEV[1], "*Set Me*"])
def test_validation_songs_go_by_number_or_name(root, song):
    found = names(open_dataset("dsd100", root, valid=[song]))
    assert found["valid"] == [DEV[1]] and found["train"] == [DEV[0]]


def test_a_number_that_is_not_in_dev_is_an_error(root):
    with pytest.raises(DatasetError, match="no song named '5'"):
        open_dataset("dsd100", root, valid=[5])


def test_eight_of_fifty_songs_validate_by_default(tmp_path):
    for part, first in (("Test", 1), ("Dev", 51)):
        for tree in ("Mixtures", "Sources"):
            for number in range(first, first + 50):
                (tmp_path / tree / part / f"{number:03d} - a - b{number}").mkdir(parents=True)
    songs = open_dataset("dsd100", tmp_path).songs
    assert [len(songs[split]) for split in SPLITS] == [42, 8, 50]


@pytest.mark.parametrize("folder", ["Mixtures/Dev", "Mixtures/Test", "Sources/Dev", "Sources/Test"])
def test_a_missing_folder_is_named(root, folder):
    shutil.rmtree(root / folder)
    with pytest.raises(DatasetError, match=f"dsd100: {root}/{folder} is no folder"):
        open_dataset("dsd100", root)


@pytest.mark.parametrize(
    ("gone", "source"),
    [
        (f"Sources/Dev/{DEV[0]}/bass.wav", "bass"),
        (f"Sources/Dev/{DEV[0]}", "vocals"),
        (f"Mixtures/Dev/{DEV[0]}", "mixture"),
    ],
)
def test_a_song_that_lacks_a_file_in_either_tree_is_named(root, gone, source):
    path = root / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DatasetError, match=rf'song "055.*has no {source}: {root}/.*/{source}\.wav'):
        open_dataset("dsd100", root, valid=0).tracks("train")
    report = check(open_dataset("dsd100", root, valid=0))
    assert [bool(song.errors) for song in report.songs] == [True, False, False, False]


def test_the_tree_that_the_zoo_writes_is_read_back_and_checked(tmp_path, capsys):
    made = open_dataset("generated", n_train=3, n_valid=1, n_test=1, seconds=1.0, sample_rate=8000)
    write_layout(made, tmp_path / "tree", "dsd100")
    dataset = open_dataset("dsd100", tmp_path / "tree", valid=["generated-valid-*"])
    assert names(dataset) == names(made)
    assert [track.samples for track in dataset.tracks("test")] == [8000]
    arguments = "{valid: ['generated-valid-*']}"
    words = ["data", "check", str(tmp_path / "tree"), "--dataset", "dsd100"]
    assert main([*words, "--arguments", arguments]) == 0
    said = capsys.readouterr().out
    assert "dsd100: 5 usable songs" in said and "valid: 1 songs" in said
    assert main([*words, "--arguments", "{valid"]) == 2
    assert "--arguments is '{valid'" in capsys.readouterr().err
