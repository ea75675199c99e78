"""Tracks named in a CSV or JSON file."""

import json

import numpy as np
import pytest
from songs import noise, write

from zoo.cli import main
from zoo.data import open_dataset
from zoo.data.track import SPLITS
from zoo.errors import DatasetError

CSV = """\
name,split,licence,mixture,vocals,drums
Song A,train,CC0,,audio/vox.wav,audio/kick.wav; audio/snare.wav
Song B,test,,audio/mix.wav,audio/vox.wav,silent
"""


@pytest.fixture
def audio(tmp_path):
    names = ("vox", "kick", "snare", "mix", "rest")
    return {n: write(tmp_path / "audio" / f"{n}.wav", noise(i)) for i, n in enumerate(names)}


def manifest(folder, text, name="manifest.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_list_gives_tracks_with_sums_mixtures_and_silence(tmp_path, audio):
    dataset = open_dataset("manifest", manifest(tmp_path, CSV))
    assert dataset.sources == ("vocals", "drums")
    assert {s: [t.name for t in dataset.tracks(s)] for s in SPLITS} == {
        "train": ["Song A"], "valid": [], "test": ["Song B"],
    }  # fmt: skip
    (a,), (b,) = dataset.tracks("train"), dataset.tracks("test")
    assert a.licence == "CC0" and not a.has_mixture
    assert np.array_equal(a.read("drums"), audio["kick"] + audio["snare"])
    assert np.array_equal(b.read("mixture"), audio["mix"])
    assert not b.read("drums").any() and b.knows("drums")


def test_json_says_the_same_and_the_folder_will_do(tmp_path, audio):
    rows = [
        {"name": "Song A", "split": "train", "licence": "CC0", "vocals": "audio/vox.wav",
         "drums": ["audio/kick.wav", "audio/snare.wav"]},
        {"name": "Song B", "split": "test", "mixture": "audio/mix.wav", "vocals": "audio/vox.wav",
         "drums": "silent"},
    ]  # fmt: skip
    manifest(tmp_path, json.dumps(rows), "manifest.json")
    one = open_dataset("manifest", tmp_path)
    two = open_dataset("manifest", manifest(tmp_path, CSV, "list.csv"))
    assert one.fingerprint() == two.fingerprint()
    assert np.array_equal(one.tracks("train")[0].read("mixture"),
                          two.tracks("train")[0].read("mixture"))  # fmt: skip


def test_a_row_may_be_a_part_of_a_song(tmp_path, audio):
    rate, samples = 8000, audio["vox"].shape[1]
    text = """\
name,split,start,end,vocals,drums
A begins,train,,0.02,audio/vox.wav,audio/kick.wav
A ends,valid,0.02,,audio/vox.wav,audio/kick.wav
"""
    dataset = open_dataset("manifest", manifest(tmp_path, text))
    assert dataset.sources == ("vocals", "drums")
    (begins,), (ends,) = dataset.tracks("train"), dataset.tracks("valid")
    half = rate // 50
    assert (begins.samples, ends.samples) == (half, samples - half)
    assert np.array_equal(begins.read("vocals"), audio["vox"][:, :half])
    assert np.array_equal(ends.read("vocals"), audio["vox"][:, half:])
    assert np.array_equal(ends.read("drums", 10, 20), audio["kick"][:, half + 10 : half + 30])
    blocks = [block["vocals"] for block in ends.blocks(777)]
    assert np.array_equal(np.concatenate(blocks, 1), audio["vox"][:, half:])


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [("", "99", "from 0.0 s to 99.0 s, and its"), ("0.5", "0.2", "choose a part"),
     ("soon", "", "'soon'")],
)  # fmt: skip
def test_a_part_that_a_song_does_not_have_is_told(tmp_path, audio, start, end, message):
    text = f"name,split,start,end,vocals\nA,train,{start},{end},audio/vox.wav\n"
    dataset = open_dataset("manifest", manifest(tmp_path, text))
    with pytest.raises(DatasetError, match=message):
        dataset.tracks("train")


def test_a_list_may_stand_in_the_recipe(tmp_path, audio):
    rows = [{"name": "A", "split": "train", "vocals": "audio/vox.wav"}]
    dataset = open_dataset("manifest", tmp_path, tracks=rows)
    assert np.array_equal(dataset.tracks("train")[0].read("vocals"), audio["vox"])


def test_spreadsheets_may_leave_their_mark_and_columns_of_their_own(tmp_path, audio):
    text = "\ufeff" + CSV.replace("licence", "bpm", 1)
    dataset = open_dataset("manifest", manifest(tmp_path, text), sources=["vocals", "drums"])
    assert len(dataset.tracks("train")) == 1


def test_a_source_may_be_unknown_inside_other(tmp_path, audio):
    text = "name,split,vocals,bass,other\na,train,audio/vox.wav,unknown,audio/rest.wav\n"
    (track,) = open_dataset("manifest", manifest(tmp_path, text)).tracks("train")
    assert track.unknown == {"bass", "other"} and track.knows("accompaniment")
    text = text.replace("unknown", "").replace("other", "piano")
    path = manifest(tmp_path, text)
    with pytest.raises(DatasetError, match=r"song 'a' has no bass in .*manifest\.csv"):
        open_dataset("manifest", path).tracks("train")
    with pytest.raises(DatasetError, match="song 'a': bass is unknown"):
        open_dataset("manifest", path, missing="unknown").tracks("train")
    (track,) = open_dataset("manifest", path, missing="silent").tracks("train")
    assert not track.unknown


WRONG = {
    "name,vocals\na,x.wav\n": r"has no column split; it has name, vocals\. Expected name, split",
    "title,vocals\na,x.wav\n": r"has no column name, split; it has title, vocals",
    "name,split,mixture\na,train,x.wav\n": "has no column of a source",
    "name,split,vocals\na,dev,x.wav\n": "track 1 has name 'a' and split 'dev'.*train, valid, test",
    "name,split,vocals\n,train,x.wav\n": "track 1 has name ''",
    "name,split,vocals\na,train,x.wav\na,train,x.wav\n": "two tracks of train are named 'a'",
    "name,split,vocals\na,train,x.wav,y.wav\n": "more cells than there are columns",
    "name,split,vocals\n": "lists no track",
    "": "lists no track",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_with_a_list_is_told(tmp_path, text):
    with pytest.raises(DatasetError, match=WRONG[text]):
        open_dataset("manifest", manifest(tmp_path, text))


@pytest.mark.parametrize("text", ['{"name": "a"}', "[1]", "[{", "\x00"])
def test_a_file_that_is_no_list_is_told(tmp_path, text):
    with pytest.raises(DatasetError, match=r"l\.json cannot be read as a list of tracks"):
        open_dataset("manifest", manifest(tmp_path, text, "l.json"))


def test_an_asked_source_without_a_column_is_told(tmp_path, audio):
    with pytest.raises(DatasetError, match="has no column bass"):
        open_dataset("manifest", manifest(tmp_path, CSV), sources=["vocals", "bass"])


def test_a_file_that_is_not_there_is_named(tmp_path, capsys):
    path = manifest(tmp_path, CSV)
    with pytest.raises(DatasetError, match=r"'Song A'.*audio/vox\.wav"):
        open_dataset("manifest", path).tracks("train")
    assert main(["data", "check", str(path), "--dataset", "manifest"]) == 1
    assert "error: train Song A" in capsys.readouterr().out


def test_neither_a_list_nor_a_folder_that_holds_one(tmp_path):
    with pytest.raises(DatasetError, match=r"neither manifest\.csv nor manifest\.json"):
        open_dataset("manifest", tmp_path)
    with pytest.raises(DatasetError, match=r"was looked for in .*x\.csv.*generated.*no download"):
        open_dataset("manifest", tmp_path / "x.csv")
