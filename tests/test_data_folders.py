"""Folders whose files are named, nested or numbered otherwise, such as MoisesDB and Slakh."""

import numpy as np
import pytest
from songs import noise, write, write_song

from zoo.data import open_dataset
from zoo.data.check import check
from zoo.errors import DatasetError


def only(dataset, split="train"):
    (track,) = dataset.tracks(split)
    return track


def test_files_in_folders_of_stems_are_summed(tmp_path):
    song = tmp_path / "1f3c"
    files = {
        name: write(song / f"{name}.wav", noise(i))
        for i, name in enumerate(
            ("vocals/lead", "vocals/backing", "drums/kick/a", "drums/b", "guitar/c", "bass/d")
        )
    }
    (song / "data.json").write_text("{}")
    stems = {"vocals": "vocals", "drums": ["drums", "percussion"], "bass": ["bass"], "other": ["*"]}
    track = only(open_dataset("folder", tmp_path, stems=stems))
    assert track.sources == ("vocals", "drums", "bass", "other")
    assert np.array_equal(track.read("vocals"), files["vocals/lead"] + files["vocals/backing"])
    assert np.array_equal(track.read("drums"), files["drums/kick/a"] + files["drums/b"])
    assert np.array_equal(track.read("other"), files["guitar/c"])
    assert np.allclose(track.read("mixture"), sum(files.values()), atol=1e-6)


def test_patterns_heed_no_case_and_may_name_paths(tmp_path):
    a = write(tmp_path / "song" / "Stems" / "VOX 1.wav", noise(0))
    b = write(tmp_path / "song" / "Drums.flac", noise(1))
    write(tmp_path / "song" / "Rough" / "Drums.wav", noise(2))
    stems = {"vocals": ["stems/vox*"], "drums": ["drums"]}
    track = only(open_dataset("folder", tmp_path, stems=stems))
    assert np.array_equal(track.read("vocals"), a)
    assert np.array_equal(track.read("drums"), b + noise(2))
    stems = {"rough": "Rough/*", **stems}  # which comes first
    track = only(open_dataset("folder", tmp_path, stems=stems))
    assert np.array_equal(track.read("drums"), b)


def test_a_star_does_not_take_the_mixture(tmp_path):
    song = write_song(tmp_path / "song", "Bass", "Mixture", "x")
    track = only(open_dataset("folder", tmp_path, stems={"bass": "bass", "other": "*"}))
    assert np.array_equal(track.read("mixture"), song["Mixture"])
    assert np.array_equal(track.read("other"), song["x"])


SLAKH = """
UUID: 1a81ae
stems:
  S00: {inst_class: Guitar, is_drum: false}
  S01: {inst_class: Bass, is_drum: false}
  S02: {inst_class: Drums, is_drum: true}
  S03: {inst_class: Piano, is_drum: false}
  S04: {inst_class: Strings (continued), audio_rendered: false}
"""


def slakh(root):
    files = {n: write(root / "stems" / f"{n}.flac", noise(i)) for i, n in enumerate(("S00", "S01"))}
    files |= {n: write(root / "stems" / f"{n}.flac", noise(9 + i)) for i, n in enumerate(("S02",))}
    write(root / "mix.flac", noise(20))
    (root / "metadata.yaml").write_text(SLAKH)
    return files


def test_stems_of_slakh_go_by_their_instruments(tmp_path):
    for path in ("train/Track00001", "validation/Track01501", "test/Track01876"):
        files = slakh(tmp_path / path)
    (tmp_path / "omitted" / "Track00049").mkdir(parents=True)
    stems = {"mixture": ["mix"], "bass": ["Bass"], "drums": ["Drums"], "other": ["stems/*"]}
    dataset = open_dataset("folder", tmp_path, stems=stems)
    assert [only(dataset, s).name for s in ("train", "valid", "test")] == [
        "Track00001", "Track01501", "Track01876",
    ]  # fmt: skip
    track = only(dataset)
    assert track.sources == ("bass", "drums", "other")
    for source, name in (("other", "S00"), ("bass", "S01"), ("drums", "S02")):
        assert np.array_equal(track.read(source), files[name])
    assert np.array_equal(track.read("mixture"), noise(20))
    (tmp_path / "train" / "Track00001" / "metadata.yaml").write_text("stems: [S00]")
    with pytest.raises(DatasetError, match=r"Track00001.*metadata\.yaml does not give"):
        open_dataset("folder", tmp_path, stems=stems).tracks("train")


def test_a_source_without_any_file_is_told_with_its_patterns(tmp_path):
    write_song(tmp_path / "song", "kick", "vox")
    stems = {"vocals": "vox", "bass": ["bass", "sub"]}
    with pytest.raises(DatasetError, match=r"no bass: .*song/\*\*/\{bass,sub\} .* kick\.wav, vox"):
        open_dataset("folder", tmp_path, stems=stems).tracks("train")
    track = only(open_dataset("folder", tmp_path, stems=stems, missing="silent"))
    assert not track.read("bass").any() and track.knows("bass")


def test_two_mixtures_of_a_song_are_an_error(tmp_path):
    write_song(tmp_path / "song", "mix a", "mix b", "vox")
    with pytest.raises(DatasetError, match=r"'song' has 2 mixtures, .*mix a\.wav and .*mix b\.wav"):
        open_dataset("folder", tmp_path, stems={"mixture": "mix*", "vocals": "vox"}).tracks("train")


def test_stems_of_unequal_length_are_an_error_unless_they_are_to_be_padded(tmp_path):
    long = write(tmp_path / "song" / "long.wav", noise(0, 400))
    short = write(tmp_path / "song" / "short.wav", noise(1, 300))
    mono = write(tmp_path / "song" / "mono.wav", noise(2, 350, 1))
    with pytest.raises(DatasetError, match=r"long\.wav|mono\.wav"):
        open_dataset("folder", tmp_path).tracks("train")
    dataset = open_dataset("folder", tmp_path, pads=True)
    track = only(dataset)
    assert (track.channels, track.samples) == (2, 400)
    padded = np.pad(short, ((0, 0), (0, 100)))
    wide = np.pad(np.repeat(mono, 2, 0), ((0, 0), (0, 50)))
    assert np.array_equal(track.read("short"), padded)
    assert np.array_equal(track.read("short", 290, 60), padded[:, 290:350])
    assert np.array_equal(track.read("short", 310), padded[:, 310:])
    assert np.array_equal(track.read("mono"), wide)
    assert np.allclose(track.read("mixture"), long + padded + wide, atol=1e-6)
    blocks = list(track.blocks(128))
    assert np.array_equal(np.concatenate([b["short"] for b in blocks], 1), padded)
    assert np.array_equal(np.concatenate([b["mono"] for b in blocks], 1), wide)
    assert check(dataset).is_sound


def test_padding_joins_no_rates(tmp_path):
    write(tmp_path / "song" / "a.wav", noise(0))
    write(tmp_path / "song" / "b.wav", noise(0), 9000)
    with pytest.raises(DatasetError, match=r"b\.wav has 9000 Hz where a\.wav has 8000"):
        open_dataset("folder", tmp_path, pads=True).tracks("train")


def test_a_number_of_songs_is_drawn_for_validation(tmp_path):
    for i in range(8):
        write_song(tmp_path / f"song {i}", "vocals")
    a, b = (open_dataset("folder", tmp_path, valid=2) for _ in range(2))
    assert list(a.songs["valid"]) == list(b.songs["valid"]) and len(a.songs["valid"]) == 2
    assert len(a.songs["train"]) == 6
