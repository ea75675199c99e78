"""Data sets: what is found in which split, how it is read, and what is said about faulty songs."""

import csv
import importlib
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from songs import RATE, noise, write, write_song

from zoo.data import DATASETS, open_dataset
from zoo.data.check import check
from zoo.data.mir1k import (
    EXTRA_SONGS,
    HUANG_DEV,
    SAMPLE_CLIPS,
    TRAIN_SINGERS,
    VALID_SONGS,
    backing_group,
    singer_of,
    song_of,
    split_clips,
)
from zoo.data.track import SPLITS, FileTrack, Part
from zoo.errors import DatasetError

# Opening


def test_every_data_set_in_the_table_can_be_imported():
    for id, target in DATASETS.items():
        module, name = target.split(":")
        assert getattr(importlib.import_module(module), name).id == id


def test_data_sets_are_opened_without_torch():
    code = (
        "import sys; from zoo.data import open_dataset; import zoo.data.mir1k, zoo.data.folder, "
        "zoo.data.check; assert not {'torch', 'lightning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_an_unknown_id_gets_the_nearest_one():
    with pytest.raises(DatasetError, match="Did you mean 'mir1k'"):
        open_dataset("mir-1k", ".")


def test_an_unknown_argument_is_the_users_error(tmp_path):
    write_song(tmp_path / "a", "vocals")
    with pytest.raises(DatasetError, match="folder.*'splitt'"):
        open_dataset("folder", tmp_path, splitt="standard")


def test_the_root_is_found_through_the_environment(tmp_path, monkeypatch):
    write_song(tmp_path / "folder" / "a", "vocals")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    assert [t.name for t in open_dataset("folder").tracks("train")] == ["a"]


def test_the_root_is_else_data_and_the_id(tmp_path, monkeypatch):
    monkeypatch.delenv("ZOO_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=r"data/folder.*ZOO_DATA"):
        open_dataset("folder")
    write_song(tmp_path / "data" / "folder" / "a", "vocals")
    assert len(open_dataset("folder").tracks("train")) == 1


# Tracks


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_stretch_is_the_same_as_that_part_of_the_whole(tmp_path, suffix):
    signal = write(tmp_path / f"a.{suffix}", noise(0))
    track = file_track({"vocals": (Part(tmp_path / f"a.{suffix}"),)})
    assert np.array_equal(track.read("vocals"), signal)
    for start, samples in ((0, 1), (17, 100), (399, 5), (400, 3), (100, None), (5, 0)):
        stop = None if samples is None else start + samples
        assert np.array_equal(track.read("vocals", start, samples), signal[:, start:stop])


def test_a_stretch_of_a_lossy_file_is_that_part_of_the_whole(tmp_path):
    write(tmp_path / "a.ogg", noise(0, 30000, 1), 16000)
    track = file_track({"vocals": (Part(tmp_path / "a.ogg"),)}, channels=1, samples=30000)
    whole = track.read("vocals")
    for start, samples in ((12345, 2000), (29000, 5000), (1, 10)):
        assert np.array_equal(
            track.read("vocals", start, samples), whole[:, start : start + samples]
        )


def file_track(stems, samples=400, channels=2, **further):
    return FileTrack(
        name="song",
        rate=RATE,
        channels=channels,
        samples=samples,
        sources=further.pop("sources", tuple(stems)),
        stems=stems,
        **further,
    )


def test_a_stem_may_be_some_channels_of_several_files(tmp_path):
    a, b = write(tmp_path / "a.wav", noise(0, channels=4)), write(tmp_path / "b.wav", noise(1))
    track = file_track({"x": (Part(tmp_path / "a.wav", (3, 1)), Part(tmp_path / "b.wav"))})
    assert np.array_equal(track.read("x", 7, 50), (a[[3, 1]] + b)[:, 7:57])
    blocks = list(track.blocks(150))
    assert [block["x"].shape[1] for block in blocks] == [150, 150, 100]
    assert np.array_equal(np.concatenate([block["x"] for block in blocks], 1), a[[3, 1]] + b)


def test_the_mixture_is_the_exact_sum_and_accompaniment_all_but_vocals(tmp_path):
    song = write_song(tmp_path / "song", "vocals", "drums", "bass")
    (track,) = open_dataset("folder", tmp_path).tracks("train")
    assert np.array_equal(track.read("mixture", 3), sum(song.values())[:, 3:])
    assert np.array_equal(track.read("accompaniment"), song["drums"] + song["bass"])


def test_the_mixture_of_full_scale_sources_is_not_clipped(tmp_path):
    full = np.ones((1, 50), np.float32)
    for name in ("a", "b"):
        write(tmp_path / f"{name}.wav", full, subtype="FLOAT")
    track = file_track({s: (Part(tmp_path / f"{s}.wav"),) for s in "ab"}, 50, 1)
    assert track.read("mixture").max() == 2


@pytest.mark.parametrize("in_memory", [False, True])
def test_dc_is_that_of_the_whole_track_whatever_is_read(tmp_path, in_memory):
    signal = noise(0) + np.linspace(0, 0.2, 400, dtype=np.float32)
    write(tmp_path / "a.wav", signal, subtype="FLOAT")
    stems = {"a": (Part(tmp_path / "a.wav"),)}
    track = file_track(stems, removes_dc=True, in_memory=in_memory)
    expected = signal - signal.mean(1, keepdims=True)
    assert np.allclose(track.read("a", 300, 50), expected[:, 300:350], atol=1e-6)
    assert np.allclose(track.read("a"), expected, atol=1e-6)
    assert np.array_equal(file_track(stems).read("a"), signal)


def test_what_is_kept_in_memory_cannot_be_changed_by_its_reader(tmp_path):
    signal = write(tmp_path / "a.wav", noise(0))
    track = file_track({"a": (Part(tmp_path / "a.wav"),)}, in_memory=True)
    track.read("a")[:] = 9
    assert np.array_equal(track.read("a"), signal)


@pytest.mark.parametrize(("start", "samples"), [(-1, 5), (401, 1), (0, -1)])
def test_a_stretch_outside_the_track_is_an_error(tmp_path, start, samples):
    write(tmp_path / "a.wav", noise(0))
    with pytest.raises(DatasetError, match="400"):
        file_track({"a": (Part(tmp_path / "a.wav"),)}).read("a", start, samples)


def test_a_silent_source_is_zeros_and_one_without_a_stem_an_error(tmp_path):
    write(tmp_path / "a.wav", noise(0))
    track = file_track({"a": (Part(tmp_path / "a.wav"),), "b": ()}, sources=("a", "b", "c"))
    assert track.read("b", 5, 9).shape == (2, 9) and not track.read("b").any()
    with pytest.raises(DatasetError, match="no stem of 'c'"):
        track.read("c")
    with pytest.raises(DatasetError, match="no source 'd'; it has a, b, c"):
        track.read("d")


def test_a_file_that_shrank_since_it_was_opened_is_an_error(tmp_path):
    write_song(tmp_path / "song", "vocals")
    (track,) = open_dataset("folder", tmp_path).tracks("train")
    write(tmp_path / "song" / "vocals.wav", noise(0, 300))
    with pytest.raises(DatasetError, match=r"song.*vocals\.wav"):
        track.read("vocals")
    with pytest.raises(DatasetError, match=r"song.*vocals\.wav"):
        list(track.blocks(128))


@pytest.mark.parametrize("suffix", ["mp3", "ogg"])
def test_lossy_stems_have_the_length_that_they_decode_to(tmp_path, suffix):
    for name in ("vocals", "other"):
        write(tmp_path / "a" / f"{name}.{suffix}", noise(0, 50_001, 1), 16000)
    (track,) = open_dataset("folder", tmp_path).tracks("train")
    assert track.read("vocals").shape == (1, track.samples)
    assert sum(block["other"].shape[1] for block in track.blocks(10_000)) == track.samples
    assert track.samples >= 50_001


def test_a_file_that_was_replaced_is_opened_again(tmp_path):
    write(tmp_path / "a" / "vocals.wav", noise(0))
    assert open_dataset("folder", tmp_path).tracks("train")[0].samples == 400
    write(tmp_path / "a" / "vocals.wav", noise(0, 401))
    assert open_dataset("folder", tmp_path).tracks("train")[0].samples == 401


# MIR-1K by names alone

CLIPS_OF = {
    "abjones": (4, 12, 10, 8, 9),
    "amy": (7, 7, 8, 11, 8, 11, 8, 8, 9, 8, 7, 7, 7, 6, 12, 8),
}
# Clips of the other singers' songs that share a backing track with a training song, and of the
# songs to train on in addition, as the data set counts them.
LEAKING = {"leon_5": 12, "yifen_2": 15, "stool_4": 10}
EXTRA = {
    **{"Ani_1": 7, "Kenshin_4": 11, "annar_5": 9, "ariel_2": 9, "ariel_5": 8, "bobon_1": 10},
    **{"bug_3": 9, "davidson_4": 7, "fdps_1": 14, "geniusturtle_3": 8, "heycat_2": 7},
    **{"jmzen_2": 11, "jmzen_3": 11, "khair_5": 7, "khair_6": 7, "leon_3": 13, "leon_5": 12},
    **{"stool_4": 10, "stool_5": 8, "titon_4": 11, "yifen_1": 16, "yifen_2": 15},
}


def all_clips() -> list[str]:
    """1000 names; those of songs whose clips are not counted above go to one song, leon_8."""
    counts = {
        f"{singer}_{i + 1}": n for singer, songs in CLIPS_OF.items() for i, n in enumerate(songs)
    } | EXTRA
    clips = {f"{song}_{i + 1:02d}" for song, n in counts.items() for i in range(n)} | SAMPLE_CLIPS
    rest = (f"leon_8_{i:02d}" for i in range(20, 2000))
    return [*clips, *(next(rest) for _ in range(1000 - len(clips)))]


def sizes(**arguments) -> tuple[int, ...]:
    split = split_clips(all_clips(), **arguments)
    assert len(set().union(*split.values())) == sum(map(len, split.values()))
    return tuple(len(split[name]) for name in SPLITS)


def test_the_standard_split_has_175_and_825_clips():
    assert sizes(valid="none") == (175, 0, 825)
    assert sizes(valid="huang") == (171, 4, 825)
    assert sizes() == (150, 25, 825)


def test_the_leakage_free_split_lacks_the_37_clips_with_a_trained_backing_track():
    assert sum(LEAKING.values()) == 37
    assert sizes(split="leakage-free") == (150, 25, 788)
    split = split_clips(all_clips(), split="leakage-free", extra=True)
    trained = {backing_group(clip) for clip in split["train"] + split["valid"]}
    assert trained.isdisjoint(backing_group(clip) for clip in split["test"])


def test_extra_songs_move_220_clips_from_test_to_train():
    assert sizes(extra=True, valid="none") == (395, 0, 605)
    assert len(EXTRA_SONGS) == 22 and set(EXTRA) == EXTRA_SONGS


def test_the_sample_is_in_the_test_of_every_split():
    assert len(SAMPLE_CLIPS) == 110 and len({singer_of(c) for c in SAMPLE_CLIPS}) == 17
    for extra in (False, True):
        for split in ("standard", "leakage-free"):
            clips = split_clips(all_clips(), split=split, extra=extra)
            assert set(clips["test"]) >= SAMPLE_CLIPS
            sample = split_clips(all_clips(), split=split, extra=extra, test="sample")
            assert set(sample["test"]) == SAMPLE_CLIPS


def test_validation_holds_out_whole_backing_tracks_of_both_singers():
    split = split_clips(all_clips(), extra=True)
    assert {song_of(c) for c in split["valid"]} == set(VALID_SONGS)
    assert {singer_of(c) for c in split["valid"]} == set(TRAIN_SINGERS)
    split = split_clips(all_clips(), extra=True, valid_songs=["amy_6"])
    assert {song_of(c) for c in split["valid"]} == {"amy_6", "leon_5"}
    assert {backing_group(c) for c in split["valid"]}.isdisjoint(map(backing_group, split["train"]))
    assert set(split_clips(all_clips(), valid="huang")["valid"]) == HUANG_DEV


def test_an_unknown_split_or_song_is_an_error():
    with pytest.raises(DatasetError, match="'leakage_free'.*standard, leakage-free"):
        split_clips(all_clips(), split="leakage_free")
    for song in ("amy_17", "leon_5"):
        with pytest.raises(DatasetError, match=f"'{song}' is no training song"):
            split_clips(all_clips(), valid_songs=[song])


# MIR-1K as files


def write_clip(path: Path, seed: int) -> np.ndarray:
    return write(path, noise(seed, 200), 16000)


def test_the_official_archive_is_recognised_with_the_voice_on_the_right(tmp_path):
    wavs = tmp_path / "MIR-1K" / "Wavfile"
    write_clip(wavs / "amy_1_01.wav", 0)
    stereo = write_clip(wavs / "leon_5_03.wav", 1)
    write_clip(tmp_path / "MIR-1K" / "UndividedWavfile" / "amy_1.wav", 2)
    (wavs / "amy_1_02.txt").write_text("no sound")
    for root in (tmp_path, tmp_path / "MIR-1K", wavs):
        dataset = open_dataset("mir1k", root)
        (track,) = dataset.tracks("test")
        assert (track.name, track.rate, track.channels, track.samples) == (
            "leon_5_03",
            16000,
            1,
            200,
        )
        assert np.array_equal(track.read("vocals"), stereo[1:])
        assert np.array_equal(track.read("accompaniment"), stereo[:1])
        assert np.array_equal(track.read("mixture"), stereo.sum(0, keepdims=True))
        assert [t.name for t in dataset.tracks("train")] == ["amy_1_01"]
        assert "research use" in track.licence


def test_pairs_of_files_train_but_are_not_tested_on_when_lossy(tmp_path):
    for i, clip in enumerate(("amy_1_01", "leon_3_01", "leon_8_01")):
        for j, source in enumerate(("vocals", "accompaniment")):
            suffix = "flac" if clip == "leon_8_01" else "ogg"
            write(tmp_path / f"{clip}.{source}.{suffix}", noise(2 * i + j, 4000, 1), 16000)
    dataset = open_dataset("mir1k", tmp_path, extra=True)
    assert [t.name for t in dataset.tracks("train")] == ["amy_1_01", "leon_3_01"]
    assert [t.name for t in dataset.tracks("test")] == ["leon_8_01"]
    assert open_dataset("mir1k", tmp_path).tracks("test")[0].name == "leon_8_01"
    assert dataset.tracks("train")[0].samples == 4000


def test_a_clip_that_is_there_twice_is_scored_once_and_in_its_lossless_form(tmp_path):
    stereo = write_clip(tmp_path / "b" / "leon_5_03.wav", 0)
    write_clip(tmp_path / "a" / "leon_5_03.flac", 1)
    write(tmp_path / "a" / "leon_5_03.vocals.ogg", noise(2, 200, 1), 16000)
    (track,) = open_dataset("mir1k", tmp_path).tracks("test")
    assert np.array_equal(track.read("vocals"), stereo[1:])


def test_dc_is_taken_off_training_sources_and_left_on_what_is_scored(tmp_path):
    offset = np.array([[0.25], [-0.125]], np.float32)
    for clip in ("amy_1_01", "amy_11_01", "leon_5_03"):
        write(tmp_path / f"{clip}.wav", noise(0) + offset, 16000)
    dataset = open_dataset("mir1k", tmp_path)
    for split, has_dc in (("train", False), ("valid", True), ("test", True)):
        (track,) = dataset.tracks(split)
        for source in track.sources:
            assert (abs(track.read(source).mean()) > 0.1) == has_dc
    (track,) = open_dataset("mir1k", tmp_path, remove_dc=False).tracks("train")
    assert track.read("accompaniment").mean() > 0.2


def test_faulty_clips_are_named(tmp_path):
    write(tmp_path / "a" / "amy_1_01.wav", noise(0, channels=1), 16000)
    with pytest.raises(DatasetError, match=r"amy_1_01.*1 channels at 16000 Hz.*2 at"):
        open_dataset("mir1k", tmp_path / "a").tracks("train")
    write(tmp_path / "b" / "amy_1_01.vocals.wav", noise(0, 300, 1), 16000)
    with pytest.raises(DatasetError, match=r"amy_1_01.*without its accompaniment"):
        open_dataset("mir1k", tmp_path / "b")
    write(tmp_path / "b" / "amy_1_01.accompaniment.wav", noise(0, 301, 1), 16000)
    with pytest.raises(DatasetError, match=r"amy_1_01.*300.*301|amy_1_01.*301.*300"):
        open_dataset("mir1k", tmp_path / "b").tracks("train")
    (tmp_path / "c").mkdir()
    with pytest.raises(DatasetError, match=r"no MIR-1K clip.*MIR-1K\.zip"):
        open_dataset("mir1k", tmp_path / "c")


def test_the_fingerprint_follows_the_songs_and_splits_and_not_the_container(tmp_path):
    clips = ("amy_1_01", "abjones_1_01", "leon_5_03")
    for i, clip in enumerate(clips):
        write_clip(tmp_path / "wav" / f"{clip}.wav", i)
        write_clip(tmp_path / "flac" / "deep" / f"{clip}.flac", i)
    first = open_dataset("mir1k", tmp_path / "wav").fingerprint()
    assert len(first) == 64
    assert open_dataset("mir1k", tmp_path / "flac").fingerprint() == first
    assert open_dataset("mir1k", tmp_path / "wav", valid="none").fingerprint() != first
    write(tmp_path / "wav" / "amy_1_01.wav", noise(0, 201), 16000)
    assert open_dataset("mir1k", tmp_path / "wav").fingerprint() != first


def test_songs_whose_names_are_not_utf8_have_a_fingerprint(tmp_path):
    found = set()
    for name in (b"\xff", b"\xfe", b"a"):
        folder = tmp_path / name.hex()
        write_song(folder / "train" / "song", "vocals")
        (folder / "train" / "song").rename(folder / "train" / os.fsdecode(name))
        found.add(open_dataset("folder", folder).fingerprint())
    assert len(found) == 3


def test_the_shared_clips_are_175_110_and_220(shared):
    root = shared / "audio" / "mir1k"
    dataset = open_dataset("mir1k", root)
    counts = {split: len(dataset.tracks(split)) for split in SPLITS}
    assert counts == {"train": 150, "valid": 25, "test": 110}
    assert dataset.test_title == "MIR-1K, 110-clip sample of the 825 test clips"
    assert len(open_dataset("mir1k", root, extra=True, valid="none").tracks("train")) == 395
    assert {t.name for t in dataset.tracks("test")} == SAMPLE_CLIPS
    minutes = sum(t.samples for t in dataset.tracks("test")) / 16000 / 60
    assert minutes == pytest.approx(14.43, abs=0.005)


def test_the_shared_voice_and_accompaniment_are_equally_loud(shared):
    """The data set's own statement; a swap of channels with something else would show."""
    for track in open_dataset("mir1k", shared / "audio" / "mir1k").tracks("test")[::20]:
        rms = [np.sqrt(np.mean(track.read(s).astype(np.float64) ** 2)) for s in track.sources]
        assert 20 * abs(np.log10(rms[0] / rms[1])) < 0.01


def test_groups_of_backing_tracks_are_those_of_the_shared_manifest(shared):
    with (shared / "audio" / "mir1k" / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    parts = split_clips([row["clip"] for row in rows], extra=True, valid="none")
    for row in rows:
        assert backing_group(row["clip"]) == row["backing_group"]
        assert (row["clip"] in parts["test"]) == (row["part"] == "test-sample")


def test_24_clips_of_the_shared_test_sample_have_a_dc_offset(shared):
    """Found by those who measured the data set with other code."""
    dataset = open_dataset("mir1k", shared / "audio" / "mir1k" / "test-sample")
    report = check(dataset)
    assert sum("DC offset" in " ".join(song.warnings) for song in report.songs) == 24
    assert report.is_sound and report.totals["splits"]["test"]["songs"] == 110


# Folders


def test_songs_in_split_folders_are_in_those_splits(tmp_path):
    for path in ("train/a", "train/b", "valid/c", "test/d"):
        write_song(tmp_path / path, "vocals", "other")
    dataset = open_dataset("folder", tmp_path)
    assert [[t.name for t in dataset.tracks(s)] for s in SPLITS] == [["a", "b"], ["c"], ["d"]]
    with pytest.raises(DatasetError, match="'dev'.*train, valid, test"):
        dataset.tracks("dev")


def test_two_folders_of_one_split_are_refused(tmp_path):
    for path in ("train/a", "valid/b", "validation/c"):
        write_song(tmp_path / path, "vocals")
    with pytest.raises(DatasetError, match="both valid and validation, folders of one split"):
        open_dataset("folder", tmp_path)
    (tmp_path / "valid").rename(tmp_path / ".valid")
    assert [t.name for t in open_dataset("folder", tmp_path).tracks("valid")] == ["c"]


def test_songs_are_dealt_out_by_name(tmp_path):
    for name in "abcd":
        write_song(tmp_path / name, "vocals", "other")
    dataset = open_dataset("folder", tmp_path, valid=["b"], test=["d"])
    assert [[t.name for t in dataset.tracks(s)] for s in SPLITS] == [["a", "c"], ["b"], ["d"]]
    with pytest.raises(DatasetError, match="no song named 'aa'.*'a'"):
        open_dataset("folder", tmp_path, valid=["aa"])


def test_validation_by_name_is_taken_from_the_training_folder(tmp_path):
    for path in ("train/a", "train/b", "test/d"):
        write_song(tmp_path / path, "vocals")
    dataset = open_dataset("folder", tmp_path, valid=["b"])
    assert [[t.name for t in dataset.tracks(s)] for s in SPLITS] == [["a"], ["b"], ["d"]]
    with pytest.raises(DatasetError, match="folder test"):
        open_dataset("folder", tmp_path, test=["a"])


def test_sources_are_the_stems_in_their_usual_order(tmp_path):
    write_song(tmp_path / "a", "bass", "Vocals", "zither", "mixture", "drums")
    dataset = open_dataset("folder", tmp_path, missing="silent")
    assert dataset.sources == ("vocals", "drums", "bass", "zither")
    assert open_dataset("folder", tmp_path, sources=["bass"]).sources == ("bass",)


def test_a_stored_mixture_is_read_as_it_is(tmp_path):
    song = write_song(tmp_path / "a", "vocals", "other", "mixture")
    (track,) = open_dataset("folder", tmp_path).tracks("train")
    assert track.has_mixture and track.sources == ("vocals", "other")
    assert np.array_equal(track.read("mixture", 9, 50), song["mixture"][:, 9:59])


def two_songs(root: Path) -> dict[str, np.ndarray]:
    """Song a has all of vocals, bass, other; song b has no bass."""
    write_song(root / "a", "vocals", "bass", "other")
    return write_song(root / "b", "vocals", "other")


def test_a_missing_stem_is_an_error_that_names_song_and_file(tmp_path):
    two_songs(tmp_path)
    with pytest.raises(DatasetError, match=r"song 'b' has no bass.*b/bass\.\*"):
        open_dataset("folder", tmp_path).tracks("train")


def test_a_stem_declared_silent_is_zeros_and_known(tmp_path):
    song = two_songs(tmp_path)
    for arguments in ({"missing": "silent"}, {"silent": {"b": ["bass"]}}):
        track = open_dataset("folder", tmp_path, **arguments).tracks("train")[1]
        assert not track.read("bass").any() and not track.unknown
        assert np.array_equal(track.read("mixture"), song["vocals"] + song["other"])


def test_an_unknown_stem_makes_other_unknown_but_not_their_sum(tmp_path):
    song = two_songs(tmp_path)
    for arguments in ({"missing": "unknown"}, {"unknown": {"b": ["bass"]}}):
        whole, track = open_dataset("folder", tmp_path, **arguments).tracks("train")
        assert not whole.unknown
        assert track.unknown == {"bass", "other"} and track.knows("vocals")
        assert not track.knows("bass") and not track.knows("other")
        assert track.knows("accompaniment") and track.knows("mixture")
        assert np.array_equal(track.read("mixture"), song["vocals"] + song["other"])
        assert np.array_equal(track.read("accompaniment"), song["other"])
        with pytest.raises(DatasetError, match="bass.*unknown"):
            track.read("bass")


def test_a_song_tells_by_itself_what_it_lacks_and_arguments_win(tmp_path):
    two_songs(tmp_path)
    facts = tmp_path / "b" / "song.json"
    facts.write_text(json.dumps({"missing_stems": ["bass"], "license": "CC0-1.0"}))
    track = open_dataset("folder", tmp_path, licence="own").tracks("train")[1]
    assert track.unknown == {"bass", "other"} and track.licence == "CC0-1.0"
    whole, track = open_dataset("folder", tmp_path, silent={"b": ["bass"]}, licence="own").tracks(
        "train"
    )
    assert not track.unknown and whole.licence == "own"
    facts.write_text(json.dumps({"silent": ["bass"]}))
    track = open_dataset("folder", tmp_path, missing="unknown").tracks("train")[1]
    assert not track.unknown and not track.read("bass").any()
    facts.write_text(json.dumps({"missing_stems": ["bass"]}))
    write(tmp_path / "b" / "bass.wav", noise(5))
    assert not open_dataset("folder", tmp_path).tracks("train")[1].unknown
    (tmp_path / "b" / "bass.wav").unlink()
    facts.write_text('["bass"]')
    with pytest.raises(DatasetError, match=r"song\.json"):
        open_dataset("folder", tmp_path).tracks("train")


def test_a_sound_that_no_stem_holds_needs_a_stored_mixture(tmp_path):
    write_song(tmp_path / "a", "vocals", "bass", "drums")
    write_song(tmp_path / "b", "vocals", "drums")
    arguments = {"missing": "unknown"}
    with pytest.raises(DatasetError, match="'b': bass is unknown.*mixture"):
        open_dataset("folder", tmp_path, **arguments).tracks("train")
    write_song(tmp_path / "b", "vocals", "drums", "mixture")
    track = open_dataset("folder", tmp_path, **arguments).tracks("train")[1]
    assert track.knows("mixture") and track.knows("drums") and not track.knows("accompaniment")
    with pytest.raises(DatasetError, match="accompaniment is no sum.*bass"):
        track.read("accompaniment")


def test_declaring_a_source_that_is_none_is_an_error(tmp_path):
    two_songs(tmp_path)
    with pytest.raises(DatasetError, match="'b': flute is declared"):
        open_dataset("folder", tmp_path, silent={"b": ["flute", "bass"]}).tracks("train")
    with pytest.raises(DatasetError, match="no song named 'c'"):
        open_dataset("folder", tmp_path, silent={"c": ["bass"]})


FAULTS = {
    "length": (lambda p: write(p, noise(9, 401)), r"401 samples where vocals\.wav has 400"),
    "rate": (lambda p: write(p, noise(9), 9000), r"9000 Hz where vocals\.wav has 8000"),
    "channels": (lambda p: write(p, noise(9, channels=1)), r"1 channels where vocals\.wav has 2"),
    "no bytes": (lambda p: p.write_bytes(b""), "other.wav"),
    "no samples": (lambda p: write(p, noise(9, 0)), "other.wav"),
    "not audio": (lambda p: p.write_bytes(b"RIFF0000 no wave"), "other.wav"),
    "missing": (lambda p: p.unlink(), "has no other"),
    "twice": (lambda p: write(p.with_suffix(".flac"), noise(9)), "both its other"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_song_is_named_and_skipped_only_on_request(tmp_path, fault, caplog):
    make, message = FAULTS[fault]
    for name in ("good", "bad"):
        write_song(tmp_path / name, "vocals", "other")
    make(tmp_path / "bad" / "other.wav")
    with pytest.raises(DatasetError, match=f"'bad'.*{message}"):
        open_dataset("folder", tmp_path).tracks("train")
    dataset = open_dataset("folder", tmp_path, skip_faulty=True)
    with caplog.at_level(logging.WARNING):
        assert [t.name for t in dataset.tracks("train")] == ["good"]
        dataset.tracks("train")
    assert len([r for r in caplog.records if "bad" in r.getMessage()]) == 1


def test_a_song_folder_without_audio_is_faulty_and_hidden_ones_are_none(tmp_path):
    write_song(tmp_path / "a", "vocals")
    (tmp_path / ".git").mkdir()
    assert len(open_dataset("folder", tmp_path).tracks("train")) == 1
    (tmp_path / "b").mkdir()
    with pytest.raises(DatasetError, match="'b'"):
        open_dataset("folder", tmp_path).tracks("train")
    with pytest.raises(DatasetError, match="no song in"):
        open_dataset("folder", tmp_path / "b")


def test_shared_songs_without_a_bass_stem_have_unknown_bass_and_other(shared):
    dataset = open_dataset("folder", shared / "audio" / "open-multitrack")
    unknown = {track.name: track.unknown for track in dataset.tracks("train")}
    assert dataset.sources == ("vocals", "drums", "bass", "other")
    lacking = {"caesium", "hydrogen", "francium"}
    assert {name for name, sources in unknown.items() if sources == {"bass", "other"}} == lacking
    assert {name for name, sources in unknown.items() if not sources} == set(unknown) - lacking
    assert len(unknown) == 6
    track = next(t for t in dataset.tracks("train") if t.name == "caesium")
    assert (track.samples, track.rate, track.licence) == (10422065, 44100, "CC0-1.0")
    assert np.array_equal(
        track.read("mixture", 5_000_000, 100),
        sum(track.read(s, 5_000_000, 100) for s in ("vocals", "drums", "other")),
    )


# Checking


def test_a_sound_folder_has_no_findings_and_right_totals(tmp_path):
    for i, path in enumerate(("train/a", "train/b", "test/c")):
        for j, stem in enumerate(("vocals", "other")):
            write(tmp_path / path / f"{stem}.wav", noise(10 * i + j, 4 * RATE))
    report = check(open_dataset("folder", tmp_path))
    assert report.is_sound and not any(song.warnings for song in report.songs)
    totals = report.totals
    assert totals["songs"] == 3 and totals["faulty"] == 0
    assert totals["splits"]["train"] == {"songs": 2, "hours": round(8 / 3600, 4)}
    assert totals["rates"] == {str(RATE): 3}
    assert totals["sources"]["vocals"] == {"known": 3, "unknown": 0, "silent": 0}
    json.dumps([totals, report.rows()], allow_nan=False)
    assert report.lines()[0].startswith("folder: 3 usable songs")


def test_levels_are_those_of_the_whole_song(tmp_path):
    signal = noise(0, 200_000) + np.float32(0.03125)
    write(tmp_path / "a" / "vocals.wav", signal)
    levels = check(open_dataset("folder", tmp_path)).songs[0].levels["vocals"]
    assert levels.peak == np.abs(signal).max()
    assert levels.rms == pytest.approx(np.sqrt(np.mean(signal.astype(np.float64) ** 2)))
    assert levels.dc == pytest.approx(np.abs(signal.mean(1)).max() / levels.rms, rel=1e-4)


def clip_top(signal: np.ndarray) -> np.ndarray:
    signal[0, 65534:65540] = 1  # 2 in the first block that is read, 4 in the next
    signal[1, [3, 4, 9]] = 1  # two and one in a row are peaks
    return signal


def spoil(signal: np.ndarray) -> np.ndarray:
    signal[1, 5] = np.nan
    return signal


FINDINGS = {
    "errors": (spoil, r".*other\.wav holds NaN or infinity"),
    "clipping": (clip_top, r"other is clipped in 4 samples"),
    "dc": (lambda s: s + np.float32(0.1), r"other has a DC offset of \d+%"),
    "silence": (lambda s: 0 * s, "other is silent"),
}


@pytest.mark.parametrize("finding", FINDINGS)
def test_what_is_wrong_with_a_stem_is_told(tmp_path, finding):
    change, message = FINDINGS[finding]
    write(tmp_path / "a" / "vocals.wav", noise(0, 70_000))
    write(tmp_path / "a" / "other.wav", change(noise(1, 70_000)), subtype="FLOAT")
    report = check(open_dataset("folder", tmp_path))
    (song,) = report.songs
    findings = song.errors if finding == "errors" else song.warnings
    assert len(song.errors + song.warnings) == 1
    (line,) = (line for line in report.lines() if line.endswith(findings[0]))
    assert "train a: " in line
    assert re.match(message, findings[0])
    assert report.is_sound == (finding != "errors")


def test_faulty_songs_are_all_reported_even_if_they_are_to_be_skipped(tmp_path):
    for name in "abc":
        write_song(tmp_path / name, "vocals", "other")
    (tmp_path / "a" / "other.wav").unlink()
    write(tmp_path / "c" / "other.wav", noise(0, 7))
    for skip_faulty in (False, True):
        seen = []
        report = check(open_dataset("folder", tmp_path, skip_faulty=skip_faulty), seen.append)
        assert [bool(song.errors) for song in report.songs] == [True, False, True]
        assert seen == report.songs and not report.is_sound
        assert report.totals["faulty"] == 2 and report.totals["songs"] == 1


def test_the_stored_mixture_is_compared_with_the_sum(tmp_path):
    song = write_song(tmp_path / "exact", "vocals", "other")
    write(tmp_path / "exact" / "mixture.wav", sum(song.values()))
    song = {s: write(tmp_path / "louder" / f"{s}.wav", 2 * x) for s, x in song.items()}
    mixture = sum(song.values())
    write(tmp_path / "louder" / "mixture.wav", 0.75 * mixture, subtype="FLOAT")
    exact, louder = check(open_dataset("folder", tmp_path)).songs
    assert exact.mixture_db == np.inf and not exact.warnings
    assert louder.mixture_db == pytest.approx(20 * np.log10(3), abs=1e-3)
    assert any("9.5 dB" in warning for warning in louder.warnings)


def test_one_sound_under_two_names_is_told(tmp_path):
    for path in ("train/a", "test/b"):
        write_song(tmp_path / path, "vocals", "other")
    report = check(open_dataset("folder", tmp_path))
    assert not report.songs[0].warnings
    assert report.songs[1].warnings == ["sounds exactly like train a"]


def test_a_damaged_file_is_found_by_reading_it(tmp_path):
    for stem in ("vocals", "other"):
        write(tmp_path / "a" / f"{stem}.flac", noise(0, 100_000))
    path = tmp_path / "a" / "other.flac"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    report = check(open_dataset("folder", tmp_path))
    assert not report.is_sound and "other.flac" in " ".join(report.songs[0].errors)
