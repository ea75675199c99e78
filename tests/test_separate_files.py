"""Files in, stems out: names, records, what is kept, what is refused, how much memory it takes."""

import json
import os
import signal
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import Halves

import zoo.audio.encoders
from zoo.applications.demo import demonstrate, excerpt
from zoo.applications.separate import PICTURE_S, separate_files
from zoo.audio import AudioWriter, open_audio, read
from zoo.data.songs import find_audio
from zoo.errors import AudioFileError, ZooError
from zoo.stems import stems_of

TESTS = Path(__file__).parent


def noise(channels=1, samples=3000, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


def write(path, signal=None, rate=16000, subtype=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    signal = noise() if signal is None else signal
    with AudioWriter(path, rate, len(signal), subtype) as writer:
        writer.write(signal)
    return path


def write_as(folder, name):
    """A song under any name, given in bytes or text."""
    song = write(folder / "draft" / "song.wav")
    path = os.path.join(os.fsencode(folder), os.fsencode(name))
    os.replace(song, path)
    song.parent.rmdir()
    return Path(os.fsdecode(path))


def run(inputs, output, model=None, **options):
    """The results for one or several inputs, none of them an error."""
    inputs = [inputs] if isinstance(inputs, Path) else inputs
    results = list(separate_files(inputs, model or Halves(), output, **options))
    assert [r.error for r in results if r.error] == []
    return results


def tree(folder):
    """Every file and folder below a folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------------------------- what is written


@pytest.mark.parametrize(
    ("name", "subtype", "expected", "bits"),
    [("a.wav", "PCM_16", False, 16), ("a.wav", "PCM_24", False, 24), ("a.wav", "FLOAT", True, 32),
     ("a.flac", "PCM_16", False, 16), ("a.flac", "PCM_24", False, 24)],
)  # fmt: skip
def test_stems_are_as_good_as_their_input(tmp_path, name, subtype, expected, bits):
    song = write(tmp_path / name, subtype=subtype)
    (result,) = run(song, tmp_path / "o")
    with open_audio(result.files[0]) as reader:
        assert (reader.is_float, reader.bits) == (expected, bits)


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3"])
def test_stems_keep_rate_channels_length_and_place_in_every_format(tmp_path, format):
    time_s = np.arange(30000) / 44100
    tone = np.stack([0.4 * np.sin(2 * np.pi * f * time_s) for f in (220, 330)]).astype(np.float32)
    tone *= np.hanning(30000).astype(np.float32)
    song = write(tmp_path / "a.wav", tone, rate=44100)
    (result,) = run(song, tmp_path / "o", format=format)
    assert [p.name for p in result.files] == [f"vocals.{format}", f"other.{format}"]
    signal, rate = read(result.files[0])
    assert (rate, signal.shape) == (44100, tone.shape)
    # 16 kHz inside, and a codec outside: a shift by one sample would be an error of 3 percent.
    error = signal - 0.75 * tone
    assert np.sqrt((error**2).mean() / tone.var()) < 0.02


def test_an_identity_gives_back_its_input_exactly(tmp_path):
    song = write(tmp_path / "a.wav", noise(2, 50000), subtype="FLOAT")
    (result,) = run(song, tmp_path / "o", Halves(("all",), (1.0,)), chunk=0.5)
    assert np.abs(read(result.files[0])[0] - read(song)[0]).max() < 1e-6


def test_a_wave_file_beyond_the_limit_becomes_rf64_and_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo.audio.encoders, "MAX_RIFF_BYTES", 20000)
    song = write(tmp_path / "a.flac", noise(1, 12000))
    (result,) = run(song, tmp_path / "o", format="wav", subtype="PCM_16")
    assert result.files[0].read_bytes()[:4] == b"RF64"
    assert np.abs(read(result.files[0])[0] - 0.75 * read(song)[0]).max() < 1e-4


def test_samples_beyond_full_scale_are_counted(tmp_path):
    song = write(tmp_path / "a.wav", np.full((1, 500), 1.6, np.float32), subtype="FLOAT")
    assert run(song, tmp_path / "o", subtype="PCM_16")[0].clipped == 500
    assert run(song, tmp_path / "p")[0].clipped == 0


def test_a_chosen_source_alone_is_written(tmp_path):
    song = write(tmp_path / "a.wav")
    run(song, tmp_path / "o", sources=["accompaniment", "accompaniment"])
    assert tree(tmp_path / "o") == ["a", "a/accompaniment.wav", "a/separation.json"]
    assert np.abs(read(tmp_path / "o/a/accompaniment.wav")[0] - 0.25 * noise()).max() < 1e-6


def test_the_record_is_enough_to_repeat_the_run(tmp_path):
    model = Halves()
    model.info = {"release": "halves-noise", "sha256": "12ab"}
    song = write(tmp_path / "a.wav", noise(1, 40000), rate=44100)
    run(song, tmp_path / "o", model, chunk=0.5, high_band="other")
    record = json.loads((tmp_path / "o/a/separation.json").read_text())
    assert record["input"] == str(song)
    assert record["files"] == ["vocals.wav", "other.wav"]
    assert record["model"] == {"architecture": "halves", **model.info}
    assert record["arguments"] == {
        "sources": ["vocals", "other"], "chunk": 0.5, "overlap": 0.25, "shifts": 0, "flip": False,
        "batch_size": 1, "precision": "float32", "high_band": "other", "consistent": False,
        "device": "cpu", "format": "wav", "subtype": "FLOAT",
        "template": "{name}/{source}.{format}",
    }  # fmt: skip
    assert any("44100 -> 16000" in note for note in record["notes"])
    assert record["versions"].keys() == {"zoo", "torch", "lightning", "numpy", "python"}


def test_records_of_files_and_of_estimates_have_one_form(tmp_path):
    song = write(tmp_path / "a.wav")
    run(song, tmp_path / "o")
    Halves().separate(song).save(tmp_path / "p")
    first, second = (json.loads((tmp_path / p).read_text()) for p in
                     ("o/a/separation.json", "p/separation.json"))  # fmt: skip
    assert first["arguments"].pop("template")
    assert first == second


def test_an_input_is_opened_once_to_look_at_and_once_to_read(tmp_path, monkeypatch):
    opened, original = [], zoo.audio.reading.open_audio
    for module in (zoo.streaming, zoo.audio.reading, zoo.applications.separate):
        monkeypatch.setattr(
            module, "open_audio", lambda path: opened.append(path) or original(path), raising=False
        )
    run(write(tmp_path / "a.wav"), tmp_path / "o")
    assert len(opened) == 2


def test_a_picture_of_the_middle_is_drawn_beside_the_stems(tmp_path, monkeypatch):
    drawn = {}

    def spectrograms(signals, rate, title=None):
        drawn.update(signals=signals, title=title)
        return figures(signals, rate, title)

    figures = zoo.applications.separate.spectrograms
    monkeypatch.setattr(zoo.applications.separate, "spectrograms", spectrograms)
    signal = np.zeros((1, 41 * 1000), np.float32)
    signal[0, 20500] = 0.5
    write(tmp_path / "a$b$\u3042.wav", signal, rate=1000)
    run(tmp_path / "a$b$\u3042.wav", tmp_path / "o", picture=True)
    (picture,) = (tmp_path / "o").rglob("*.png")
    assert picture.name == "spectrograms.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert list(drawn["signals"]) == ["mixture", "vocals", "other"]
    mixture = drawn["signals"]["mixture"]
    assert mixture.shape == (1, PICTURE_S * 1000)
    assert mixture[0].argmax() == 15000
    assert drawn["title"].endswith("0:06 to 0:36")


def test_a_picture_is_drawn_of_stems_that_are_there_already(tmp_path, monkeypatch):
    drawn, figures = {}, zoo.applications.separate.spectrograms
    monkeypatch.setattr(
        zoo.applications.separate, "spectrograms",
        lambda signals, rate, title=None: drawn.update(signals) or figures(signals, rate, title),
    )  # fmt: skip
    song = write(tmp_path / "a.wav")
    run(song, tmp_path / "o", sources=["vocals"])
    before = contents(tmp_path)
    model = Halves()
    (result,) = run(song, tmp_path / "o", model, sources=["vocals"], picture=True)
    assert (result.kept, result.picture) == (True, tmp_path / "o/a/spectrograms.png")
    assert model.lengths == []
    assert {p: b for p, b in contents(tmp_path).items() if p != result.picture} == before
    drawn.pop("")
    assert list(drawn) == ["mixture", "vocals"]
    np.testing.assert_allclose(drawn["vocals"], 0.75 * noise(), atol=1e-6)
    (again,) = run(song, tmp_path / "o", sources=["vocals"], picture=True)
    assert again.kept and again.picture is None


def test_a_picture_shows_old_and_new_stems_together(tmp_path, monkeypatch):
    drawn, figures = [], zoo.applications.separate.spectrograms
    monkeypatch.setattr(
        zoo.applications.separate, "spectrograms",
        lambda signals, rate, title=None: drawn.append(signals) or figures(signals, rate, title),
    )  # fmt: skip
    song = write(tmp_path / "a.wav")
    run(song, tmp_path / "o", sources=["vocals"])
    run(song, tmp_path / "o", picture=True)
    assert set(drawn[-1]) == {"mixture", "vocals", "other"}


@pytest.mark.parametrize("stems", [False, True])
def test_a_picture_of_somebody_else_is_not_replaced(tmp_path, stems):
    song, theirs = write(tmp_path / "a.wav"), tmp_path / "o/a/spectrograms.png"
    if stems:
        run(song, tmp_path / "o")
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_bytes(b"mine")
    (result,) = separate_files([song], Halves(), tmp_path / "o", picture=True)
    assert result.kept if stems else "not made by the zoo" in str(result.error)
    assert theirs.read_bytes() == b"mine"
    run(song, tmp_path / "o", picture=True, overwrite=True)
    assert theirs.read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_is_an_input_is_not_replaced(tmp_path):
    song, picture = write(tmp_path / "a.wav"), write(tmp_path / "o/a/x.wav")
    picture = picture.rename(tmp_path / "o/a/spectrograms.png")
    with pytest.raises(ZooError, match="is an input"):
        run([song, picture], tmp_path / "o", picture=True, overwrite=True)


@pytest.mark.parametrize("fault", ["record", "drawing", "folder"])
def test_a_picture_appears_with_its_stems_or_not_at_all(tmp_path, monkeypatch, fault):
    def full(self, *_, **__):
        raise OSError(28, "No space left on device", str(self))

    song = write(tmp_path / "a.wav")
    if fault == "record":
        monkeypatch.setattr(Path, "write_text", full)
    elif fault == "drawing":
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    else:
        (tmp_path / "o/a/spectrograms.png").mkdir(parents=True)
    before, model = tree(tmp_path), Halves()
    (result,) = separate_files([song], model, tmp_path / "o", picture=True, overwrite=True)
    assert ("is a folder" if fault == "folder" else "No space left") in str(result.error)
    assert tree(tmp_path) == before
    assert (model.lengths == []) == (fault == "folder")


def test_no_picture_is_left_of_a_song_that_failed(tmp_path):
    song = write_nan(tmp_path / "a.wav")
    (result,) = separate_files([song], Halves(), tmp_path / "o", picture=True)
    assert result.error
    assert not (tmp_path / "o").exists()


# ------------------------------------------------------------------------------- names

NAMES = [
    "new\nline.wav", "-dash.wav", " space .wav", "😀é.wav", b"bad\xff\xfe.wav", "a" * 251 + ".wav",
    "é" * 125 + "x.wav", "{name}{0}{.wav", "100%s%d.wav", "...wav", "....wav", "~x.wav", "~.wav",
    "[b]*?.wav", "$x$y_.wav", "\x1b[31m.wav", "quo'te\".wav", "back\\slash.wav", "separation.wav",
    "no extension", ".wav",
]  # fmt: skip


@pytest.mark.parametrize("template", ["{name}/{source}.{format}", "{name}-{source}.{format}"])
@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:30] for name in NAMES])
def test_any_file_name_survives(tmp_path, name, template):
    song = write_as(tmp_path, name)
    (result,) = run(song, tmp_path / "o", template=template, picture=True)
    assert all(path.is_file() for path in result.files)
    assert all(tmp_path / "o" in path.resolve().parents for path in result.files)
    assert not list(tmp_path.rglob("*.partial"))
    assert run(song, tmp_path / "o", template=template)[0].kept


def test_one_run_keeps_files_that_differ_in_extension_or_case_apart(tmp_path):
    songs = [write(tmp_path / name, noise(seed=i)) for i, name in enumerate(("a.wav", "a.flac"))]
    songs += [write(tmp_path / "A.wav", noise(seed=2)), write(tmp_path / "sub/a.wav", noise())]
    results = run(songs, tmp_path / "o")
    folders = [unicodedata.normalize("NFC", str(r.files[0].parent)).casefold() for r in results]
    assert len(set(folders)) == 4
    for result in results:
        error = read(result.files[0])[0] - 0.75 * read(result.path)[0]
        assert np.abs(error).max() < 1e-3


def test_runs_one_after_the_other_keep_files_of_one_name_apart(tmp_path):
    wav, flac = write(tmp_path / "a.wav"), write(tmp_path / "a.flac")
    first, second = (run(song, tmp_path / "o")[0] for song in (flac, wav))
    assert first.files[0].parent != second.files[0].parent
    assert all(result.kept for result in run([wav, flac], tmp_path / "o"))


def test_folders_keep_their_order_below_the_output(tmp_path):
    write(tmp_path / "in/x/a.wav")
    write(tmp_path / "in/y/a.wav")
    run(tmp_path / "in", tmp_path / "o", sources=["vocals"])
    assert {"x/a/vocals.wav", "y/a/vocals.wav"} < set(tree(tmp_path / "o"))


def test_a_template_may_sort_by_source(tmp_path):
    songs = [write(tmp_path / "a.wav"), write(tmp_path / "b.wav")]
    run(songs, tmp_path / "o", template="{source}/{name}.{format}", format="flac")
    assert {"vocals/a.flac", "vocals/b.flac", "other/a.flac"} < set(tree(tmp_path / "o"))


@pytest.mark.parametrize(
    "template", ["{name}.{format}", "{source}.{format}", "{nam}/{source}.wav", "{", "{0}{name}",
                 "{name.x}{source}.wav", "{name}/{source}", "{name}/{source}.xyz",
                 "../{name}-{source}.wav", "/tmp/{name}-{source}.wav"],
)  # fmt: skip
def test_a_template_that_cannot_work_is_refused_at_once(tmp_path, template):
    with pytest.raises(ZooError, match="template|cannot be written"):
        run(write(tmp_path / "a.wav"), tmp_path / "o", template=template)
    assert tree(tmp_path) == ["a.wav"]


# ------------------------------------------------------------------------------- inputs


def test_hidden_files_and_other_files_are_no_songs(tmp_path):
    for name in ("a.wav", ".b.wav", ".git/c.wav", "d.txt"):
        write(tmp_path / "song.wav").rename(tmp_path / "x")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / "x").rename(tmp_path / name)
    assert find_audio([tmp_path]) == [(tmp_path / "a.wav", Path("a.wav"))]


def test_a_pattern_and_a_folder_that_overlap_give_every_file_once(tmp_path):
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        write(tmp_path / name)
    found = find_audio([tmp_path / "*.wav", tmp_path, tmp_path / "a.wav", f"{tmp_path}/**/*.wav"])
    assert sorted(p.name for p, _ in found) == ["a.wav", "b.wav", "c.wav"]


def test_one_file_under_two_paths_is_one_song(tmp_path, monkeypatch):
    song = write(tmp_path / "a.wav")
    monkeypatch.chdir(tmp_path)
    assert len(find_audio([song, "a.wav", "./a.wav", "."])) == 1


def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path):
    write(tmp_path / "[a]*.wav")
    write(tmp_path / "a.wav")
    assert [p.name for p, _ in find_audio([tmp_path / "[a]*.wav"])] == ["[a]*.wav"]


def test_a_path_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    song = write(tmp_path / "a.wav")
    assert find_audio(["~/a.wav"])[0][0] == song
    assert find_audio(["~/*.wav"])[0][0] == song


@pytest.mark.parametrize(
    "name", ["nothere.wav", "*.nothing", "empty", "~nobody-of-this-name/a.wav"]
)
def test_a_name_that_leads_nowhere_is_refused_before_anything_is_done(tmp_path, name):
    (tmp_path / "empty").mkdir()
    song = write(tmp_path / "a.wav")
    given = name if name.startswith("~") else tmp_path / name
    with pytest.raises(AudioFileError, match="no file|no audio"):
        list(separate_files([song, given], Halves(), tmp_path / "o"))
    assert not (tmp_path / "o").exists()


# ------------------------------------------------------------------------------- what is there


@pytest.mark.parametrize(
    "template", ["{name}/{source}.{format}", "{name}-{source}.{format}",
                 "{source}/{name}.{format}", "{source}/deep/{name}/x.{format}"],
)  # fmt: skip
def test_a_second_run_over_the_folder_finds_no_stem_among_the_songs(tmp_path, template):
    songs = [write(tmp_path / "a.wav"), write(tmp_path / "sub/b.wav")]
    run(tmp_path, tmp_path, template=template)
    before = contents(tmp_path)
    assert [p for p, _ in find_audio([tmp_path])] == songs
    assert all(result.kept for result in run(tmp_path, tmp_path, template=template))
    assert contents(tmp_path) == before


def test_a_pattern_finds_no_stem_either(tmp_path):
    song = write(tmp_path / "a.wav")
    run(song, tmp_path, template="{name}-{source}.{format}")
    run(song, tmp_path, template="{source}/{name}.{format}")
    assert [p for p, _ in find_audio([tmp_path / "*.wav"])] == [song]
    with pytest.raises(AudioFileError):
        find_audio([tmp_path / "vocals/*.wav"])


def test_a_folder_of_nothing_but_stems_says_so(tmp_path):
    run(write(tmp_path / "a.wav"), tmp_path / "o")
    with pytest.raises(AudioFileError, match="but stems"):
        find_audio([tmp_path / "o"])


def test_stems_that_moved_with_their_record_are_still_stems(tmp_path):
    run(write(tmp_path / "a.wav"), tmp_path / "o")
    (tmp_path / "o").rename(tmp_path / "elsewhere")
    assert [p.name for p, _ in find_audio([tmp_path])] == ["a.wav"]


def test_existing_stems_are_kept_unless_asked(tmp_path):
    song = write(tmp_path / "a.wav")
    run(song, tmp_path / "o")
    stem = tmp_path / "o/a/vocals.wav"
    stem.write_bytes(b"mine now")
    assert run(song, tmp_path / "o")[0].kept
    assert stem.read_bytes() == b"mine now"
    assert not run(song, tmp_path / "o", overwrite=True)[0].kept
    assert read(stem)[1] == 16000


def test_a_further_source_is_added_and_the_first_is_kept(tmp_path):
    song = write(tmp_path / "a.wav")
    run(song, tmp_path / "o", sources=["vocals"])
    stem = tmp_path / "o/a/vocals.wav"
    stem.write_bytes(b"mine now")
    (result,) = run(song, tmp_path / "o")
    assert not result.kept
    assert stem.read_bytes() == b"mine now"
    assert (tmp_path / "o/a/other.wav").is_file()
    assert {p.name for p in stems_of(tmp_path / "o/a/separation.json")} == {
        "vocals.wav",
        "other.wav",
    }


def test_stems_of_another_model_or_of_other_options_are_not_mixed_with_new_ones(tmp_path):
    song = write(tmp_path / "a.wav")
    run(song, tmp_path / "o", sources=["vocals"])
    before = contents(tmp_path)
    other = Halves()
    other.info = {"release": "halves-other"}
    (by_other,) = separate_files([song], other, tmp_path / "o")
    (by_options,) = separate_files([song], Halves(), tmp_path / "o", consistent=True)
    assert "another model" in str(by_other.error)
    assert "other options" in str(by_options.error)
    assert contents(tmp_path) == before


def test_a_release_that_was_moved_is_the_same_model(tmp_path):
    song = write(tmp_path / "a.wav")
    for place, source in (("here", "vocals"), ("there", "other")):
        model = Halves()
        model.info = {"release": "halves-noise", "sha256": "12ab", "source": place}
        run(song, tmp_path / "o", model, sources=["vocals", source])
    assert {"a/vocals.wav", "a/other.wav"} < set(tree(tmp_path / "o"))


def test_stems_that_were_made_by_another_model_are_kept_and_named_so(tmp_path):
    song = write(tmp_path / "a.wav")
    run(song, tmp_path / "o")
    other = Halves()
    other.info = {"release": "halves-other"}
    (result,) = run(song, tmp_path / "o", other)
    assert result.kept
    assert result.notes == ["made by another model, halves"]


def test_files_of_others_that_stand_in_the_way_are_not_replaced(tmp_path):
    song, theirs = write(tmp_path / "a.wav"), tmp_path / "o/a/vocals.wav"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"not ours")
    (result,) = separate_files([song], Halves(), tmp_path / "o")
    assert "not made by the zoo" in str(result.error)
    assert tree(tmp_path / "o") == ["a", "a/vocals.wav"]
    assert theirs.read_bytes() == b"not ours"


def test_stems_of_an_earlier_run_in_the_same_place_are_never_songs(tmp_path):
    song = write(tmp_path / "a.wav")
    run(song, tmp_path, sources=["vocals"])
    run(song, tmp_path, sources=["other"], overwrite=True)
    assert [p for p, _ in find_audio([tmp_path])] == [song]


def test_an_input_is_never_written_over(tmp_path):
    song = write(tmp_path / "o/a/vocals.wav")
    before = contents(tmp_path)
    with pytest.raises(ZooError, match="is an input"):
        list(separate_files([song, write(tmp_path / "a.wav")], Halves(), tmp_path / "o",
                            overwrite=True))  # fmt: skip
    assert {p: b for p, b in contents(tmp_path).items() if p in before} == before


# ------------------------------------------------------------------------------- what fails


def write_nan(path):
    write(path, noise(1, 20000), subtype="FLOAT")
    data = bytearray(path.read_bytes())
    data[-4000:-3996] = np.float32(np.nan).tobytes()
    path.write_bytes(data)
    return path


def write_faulty(folder, fault):
    path = folder / f"bad.{'flac' if fault == 'truncated' else 'wav'}"
    match fault:
        case "text":
            path.write_text("lorem ipsum " * 500)
        case "truncated":
            write(path, noise(1, 200000))
            path.write_bytes(path.read_bytes()[:150000])
        case "nan":
            write_nan(path)
        case "empty":
            path.write_bytes(b"")
        case "no samples":
            write(path, noise(1, 0))
    return path


FAULTS = ["text", "truncated", "nan", "empty", "no samples"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_named_leaves_nothing_and_stops_no_other(tmp_path, fault):
    bad, good = write_faulty(tmp_path, fault), write(tmp_path / "good.wav")
    first, second = separate_files([bad, good], Halves(), tmp_path / "o")
    assert str(bad) in str(first.error)
    assert len(str(first.error).splitlines()) <= 2
    assert second.error is None
    assert tree(tmp_path / "o") == ["good", "good/other.wav", "good/separation.json",
                                    "good/vocals.wav"]  # fmt: skip


@pytest.mark.parametrize("fault", ["truncated", "nan"])
def test_what_was_there_survives_a_run_that_fails(tmp_path, fault):
    song = write(tmp_path / f"bad.{'flac' if fault == 'truncated' else 'wav'}")
    run(song, tmp_path / "o")
    before = contents(tmp_path / "o")
    write_faulty(tmp_path, fault)
    (result,) = separate_files([song], Halves(), tmp_path / "o", overwrite=True)
    assert result.error
    assert contents(tmp_path / "o") == before


def test_an_output_that_is_a_file_is_refused(tmp_path):
    song, out = write(tmp_path / "a.wav"), tmp_path / "o"
    out.write_text("a file")
    for output in (out, out / "deeper"):
        with pytest.raises(AudioFileError, match=f"{out} is a file"):
            list(separate_files([song], Halves(), output))
    assert out.read_text() == "a file"


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    song = write(tmp_path / "a.wav")
    monkeypatch.setattr(Path, "mkdir", refuse)  # root, who runs tests in containers, may all else
    (result,) = separate_files([song], Halves(), tmp_path / "o")
    assert "cannot be made (Permission denied)" in str(result.error)


def test_a_disk_that_fills_up_leaves_nothing_of_the_song_and_all_of_the_others(
    tmp_path, monkeypatch
):
    songs = [write(tmp_path / "a.wav"), write(tmp_path / "b.wav")]
    results = separate_files(songs, Halves(), tmp_path / "o")
    assert next(results).error is None
    before = contents(tmp_path / "o")
    finish, calls = AudioWriter.finish, []

    def full(self):
        calls.append(self)
        if len(calls) == 2:  # the second stem of the second song does not fit
            self.abort()
            raise AudioFileError(f"{self.path} cannot be written (the disk is full).")
        finish(self)

    monkeypatch.setattr(AudioWriter, "finish", full)
    assert "the disk is full" in str(next(results).error)
    assert contents(tmp_path / "o") == before
    assert not (tmp_path / "o/b").exists()


def test_a_file_that_cannot_grow_is_named_and_nothing_is_left_of_its_song(tmp_path):
    resource = pytest.importorskip("resource")
    song = write(tmp_path / "a.wav", noise(1, 60000), subtype="PCM_16")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60000, hard))  # as a disk that is full in the middle
    try:
        (result,) = separate_files([song], Halves(), tmp_path / "o", chunk=0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written" in str(result.error)
    assert tree(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("earlier", [False, True])
def test_a_file_that_cannot_get_its_name_takes_those_before_it_back(tmp_path, monkeypatch, earlier):
    song = write(tmp_path / "a.wav")
    if earlier:
        run(song, tmp_path / "o", Halves(shares=(0.5, 0.5)), picture=True)
    before = contents(tmp_path)
    close, calls = AudioWriter.close, []

    def refused(self):
        calls.append(self)
        if len(calls) == 2:
            raise PermissionError(13, "Permission denied")
        close(self)

    monkeypatch.setattr(AudioWriter, "close", refused)
    (result,) = separate_files([song], Halves(), tmp_path / "o", overwrite=True, picture=True)
    assert "cannot be written (Permission denied)" in str(result.error)
    assert contents(tmp_path) == before
    assert (tmp_path / "o").exists() == earlier


def test_a_record_that_does_not_fit_takes_the_song_with_it(tmp_path, monkeypatch):
    def full(self, *_, **__):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", full)
    (result,) = separate_files([write(tmp_path / "a.wav")], Halves(), tmp_path / "o")
    assert "No space left" in str(result.error)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "options",
    [{"sources": ["banjo"]}, {"format": "xyz"}, {"format": "ogg", "subtype": "PCM_16"},
     {"chunk": 0}, {"chunk": float("nan")}, {"chunk": float("inf")}, {"overlap": 0.9},
     {"high_band": "banjo"}],
    ids=str,
)  # fmt: skip
def test_an_option_that_fits_no_file_is_refused_once(tmp_path, options):
    songs = [write(tmp_path / "a.wav"), write(tmp_path / "b.wav")]
    with pytest.raises(ZooError):
        next(separate_files(songs, Halves(), tmp_path / "o", **options))
    assert not (tmp_path / "o").exists()


class Interrupting(Halves):
    """Stops as a user would, at the n-th chunk."""

    def __init__(self, n):
        super().__init__()
        self.n = n

    def forward(self, mixture, state=None):
        if len(self.lengths) == self.n:
            raise KeyboardInterrupt
        return super().forward(mixture, state)


def test_an_interrupt_leaves_finished_songs_and_nothing_else(tmp_path):
    songs = [write(tmp_path / "a.wav", noise(1, 16000)), write(tmp_path / "b.wav", noise(1, 64000))]
    results = separate_files(songs, Interrupting(3), tmp_path / "o", chunk=1.0)
    assert next(results).error is None
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert tree(tmp_path / "o") == ["a", "a/other.wav", "a/separation.json", "a/vocals.wav"]


def test_an_interrupt_while_files_get_their_names_waits_until_all_have_one(tmp_path, monkeypatch):
    song = write(tmp_path / "a.wav")
    close, closed = AudioWriter.close, []

    def interrupted(self):
        closed.append(self)
        if len(closed) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        close(self)

    monkeypatch.setattr(AudioWriter, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(song, tmp_path / "o")
    assert tree(tmp_path / "o") == ["a", "a/other.wav", "a/separation.json", "a/vocals.wav"]


def test_files_are_separated_in_a_thread_too(tmp_path):
    song, results = write(tmp_path / "a.wav"), []
    thread = threading.Thread(target=lambda: results.extend(run(song, tmp_path / "o")))
    thread.start()
    thread.join()
    assert len(results) == 1


# ------------------------------------------------------------------------------- memory

MEASURE = """
import resource, sys
import torch
from toys import Halves
from zoo.applications.separate import separate_files
model = Halves(("vocals", "other"), (0.75, 0.25), 44100, 2)
for result in separate_files([sys.argv[1]], model, sys.argv[2], picture=True):
    assert result.error is None, result.error
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_mb(song, output):
    """Peak memory of a process that separates one file, in MB."""
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, song, output],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) / (1024 if sys.platform == "linux" else 1 << 20)


@pytest.mark.slow
def test_an_hour_takes_no_more_memory_than_three_minutes(tmp_path):
    block = noise(2, 44100 * 10)
    peaks = []
    for minutes in (3, 60):
        song = tmp_path / f"{minutes}.wav"
        with AudioWriter(song, 44100, 2, "PCM_16") as writer:
            for _ in range(minutes * 6):
                writer.write(block)
        peaks.append(peak_mb(song, tmp_path / "o"))
        song.unlink()
        with open_audio(tmp_path / f"o/{minutes}/other.wav") as reader:
            assert reader.samples == minutes * 60 * 44100
    assert peaks[1] < peaks[0] + 300


# ------------------------------------------------------------------------------- the demo


def test_the_excerpt_is_ten_seconds_of_four_sources_that_all_sound():
    sources, rate = excerpt()
    assert set(sources) == {"vocals", "drums", "bass", "other"}
    for sound in sources.values():
        assert sound.shape == (2, 10 * rate)
        assert sound.square().mean() > 2e-5


def test_the_demo_measures_estimates_and_mixture_against_the_truth(tmp_path):
    sources, rate = excerpt()
    model = Halves(("vocals", "accompaniment"), (0.5, 0.5), 44100, 2)
    demo = demonstrate(model, sources, rate, tmp_path / "o")
    mixture = torch.stack(list(sources.values())).sum(0)
    for name in ("vocals", "accompaniment"):
        true = sources["vocals"] if name == "vocals" else mixture - sources["vocals"]
        for found, estimate in zip(demo.scores[name], (mixture / 2, mixture), strict=True):
            expected = 10 * torch.log10(true.square().sum() / (estimate - true).square().sum())
            assert found == pytest.approx(float(expected), abs=0.01)
    assert tree(tmp_path / "o") == ["accompaniment.wav", "separation.json", "spectrograms.png",
                                    "vocals.wav"]  # fmt: skip


def test_the_demo_leaves_files_of_others_alone_and_repeats_itself(tmp_path):
    sources, rate = excerpt()
    model = Halves(("vocals",), (0.5,), 44100, 2)
    (tmp_path / "vocals.wav").write_bytes(b"mine")
    with pytest.raises(ZooError, match="not made by the zoo"):
        demonstrate(model, sources, rate, tmp_path)
    assert tree(tmp_path) == ["vocals.wav"]
    demonstrate(model, sources, rate, tmp_path / "o")
    demonstrate(model, sources, rate, tmp_path / "o")


def test_the_demo_leaves_a_picture_of_others_alone_and_nothing_half_done(tmp_path, monkeypatch):
    model = Halves(("vocals",), (0.5,), 44100, 2)
    (tmp_path / "spectrograms.png").write_bytes(b"mine")
    with pytest.raises(ZooError, match="not made by the zoo"):
        demonstrate(model, *excerpt(), tmp_path)
    assert contents(tmp_path) == {tmp_path / "spectrograms.png": b"mine"}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(AudioFileError, match="No space left"):
        demonstrate(model, *excerpt(), tmp_path / "o")
    assert tree(tmp_path) == ["spectrograms.png"]


def test_the_demo_refuses_a_model_of_other_sources(tmp_path):
    with pytest.raises(ZooError, match="'speech'"):
        demonstrate(Halves(("speech",), (1.0,)), *excerpt(), tmp_path / "o")
