"""Remixes: sources changed, and what must not change."""

import math

import numpy as np
import pytest
import torch
from mutagen import File
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, TALB, TIT2, TPE1, TRCK
from mutagen.mp3 import MP3

import zoo
from zoo import Separator
from zoo.applications.remix import Changes
from zoo.audio import AudioWriter, read
from zoo.cli import main
from zoo.errors import AudioFileError, ZooError

RATE = 8000


class Shares(Separator):
    """Gives its sources fixed shares of the mixture, which sum to 0.9 of it."""

    def __init__(self, sources=("vocals", "drums", "other"), shares=(0.5, 0.3, 0.1)):
        super().__init__(sources, None, None)
        self.shares = shares

    @property
    def context(self):
        return 0

    def forward(self, mixture, state=None):
        return torch.stack([share * mixture for share in self.shares], 1)


def song(channels=2, seconds=1.0, peak=0.5, seed=0):
    x = np.random.default_rng(seed).uniform(-peak, peak, (channels, round(seconds * RATE)))
    return x.astype(np.float32)


def changed(x, **changes):
    return zoo.remix(x, RATE, model=Shares(), **changes).audio.numpy()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, signal, rate=RATE, subtype=None):
    with AudioWriter(path, rate, signal.shape[0], subtype) as writer:
        writer.write(signal)
    return path


# ----------------------------------------------------------------- what becomes of sources


def test_with_nothing_changed_the_song_comes_back():
    np.testing.assert_array_equal(changed(song()), song())


def test_gains_are_in_decibel():
    x = song()
    np.testing.assert_allclose(changed(x, gain={"vocals": 6.0206}), 1.5 * x, atol=1e-5)
    np.testing.assert_allclose(changed(x, gain={"drums": -6.0206}), 0.85 * x, atol=1e-5)


def test_what_is_muted_is_gone_and_the_residual_stays():
    x = song()
    np.testing.assert_allclose(changed(x, mute=["vocals", "drums"]), 0.2 * x, atol=1e-6)
    np.testing.assert_allclose(changed(x, mute=["residual"]), 0.9 * x, atol=1e-6)


def test_a_solo_is_the_source_alone():
    x = song()
    np.testing.assert_allclose(changed(x, solo=["vocals"]), 0.5 * x, atol=1e-6)
    both = changed(x, solo=["vocals", "drums"], gain={"vocals": 6.0206})
    np.testing.assert_allclose(both, 1.3 * x, atol=1e-5)


def test_the_accompaniment_is_all_but_the_vocals():
    x = song()
    np.testing.assert_allclose(changed(x, mute=["accompaniment"]), 0.5 * x, atol=1e-6)
    np.testing.assert_allclose(changed(x, solo=["accompaniment"]), 0.5 * x, atol=1e-6)


@pytest.mark.parametrize(
    ("degrees", "left", "right"), [(-45, 1, 0), (0, 0.5**0.5, 0.5**0.5), (45, 0, 1)]
)
def test_a_panned_source_is_a_point_of_the_same_power(degrees, left, right):
    mono = song(1)[0]
    x = np.stack([mono, mono])
    found = changed(x, solo=["vocals"], pan={"vocals": degrees})
    expected = 0.5 * math.sqrt(2) * mono
    np.testing.assert_allclose(found, np.stack([left * expected, right * expected]), atol=1e-6)


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90])
def test_a_moved_source_is_as_loud_as_it_was_wherever_it_came_from(degrees):
    mono, angle = song(1)[0], math.radians(degrees)
    x = np.stack([math.cos(angle) * mono, math.sin(angle) * mono])
    found = changed(x, solo=["vocals"], pan={"vocals": -45})
    np.testing.assert_allclose(found, np.stack([0.5 * mono, 0 * mono]), atol=1e-5)


@pytest.mark.parametrize("delay", [12, -12])
def test_a_moved_source_may_reach_one_side_late_across_pieces(delay):
    mono = song(1, seconds=30)[0]
    x = np.stack([mono, mono])
    moved = changed(x, solo=["vocals"], pan={"vocals": (0, delay * 44100 / RATE)})
    late, first = (moved[1], moved[0]) if delay > 0 else (moved[0], moved[1])
    np.testing.assert_allclose(first, 0.5 * mono, atol=1e-5)
    np.testing.assert_allclose(late[12:], 0.5 * mono[:-12], atol=1e-5)
    np.testing.assert_allclose(late[:12], 0, atol=1e-6)


def test_channels_that_cancel_are_moved_by_the_louder_one():
    mono = song(1)[0]
    found = changed(np.stack([mono, -0.5 * mono]), solo=["vocals"], pan={"vocals": 45})
    np.testing.assert_allclose(found, np.stack([0 * mono, 0.5 * mono]), atol=1e-5)


def test_what_goes_beyond_full_scale_is_made_softer_as_a_whole():
    x = song(peak=0.9)
    found = zoo.remix(x, RATE, model=Shares(), gain={"vocals": 12})
    assert float(found.audio.abs().max()) == pytest.approx(1, abs=1e-4)
    factor = 0.5 * 10 ** (12 / 20) + 0.5
    assert found.attenuation == pytest.approx(20 * math.log10(factor * np.abs(x).max()), abs=1e-3)
    np.testing.assert_allclose(found.audio, factor * x * 10 ** (-found.attenuation / 20), atol=1e-5)


def test_locations_of_objects_can_be_remixed():
    rng = np.random.default_rng(0)
    n = 3 * 44100
    left = rng.standard_normal(n) * (np.arange(n) // 20000 % 2)
    right = rng.standard_normal(n) * (np.arange(n) // 20000 % 2 == 0)
    x = 0.1 * np.stack([left, right]).astype(np.float32)
    model = zoo.create("pairs", n_objects=2)
    found = zoo.remix(x, 44100, model=model, mute=["object-1"]).audio.numpy()
    assert np.square(found[0]).sum() < 1e-3 * np.square(x[0]).sum()
    assert np.square(found[1] - x[1]).sum() < 1e-2 * np.square(x[1]).sum()


# ----------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_files_keep_rate_channels_length_and_depth(here, name):
    write(here / "song.flac", song(), subtype="PCM_16")
    found = zoo.remix("song.flac", model=Shares(), output=name)
    signal, rate = read(name)
    assert rate == RATE and found.path.name == name
    np.testing.assert_allclose(signal, read("song.flac")[0], atol=1e-5)


def test_a_long_file_gives_what_its_signal_gives(here):
    x = song(seconds=70)
    write(here / "song.wav", x)
    zoo.remix("song.wav", model=Shares(), gain={"vocals": -3}, output="o.wav")
    np.testing.assert_allclose(read("o.wav")[0], changed(x, gain={"vocals": -3}), atol=1e-6)
    assert sorted(p.name for p in here.iterdir()) == ["o.wav", "song.wav"]


def tagged(path):
    """Give a file a title, an artist, a number and a cover."""
    data = bytes(range(256))
    if path.suffix == ".flac":
        file = FLAC(path)
        file["title"], file["artist"], file["tracknumber"] = "A Song", "Somebody", "3"
        picture = Picture()
        picture.data, picture.mime, picture.type = data, "image/jpeg", 3
        file.add_picture(picture)
        file.save()
        return path
    file = MP3(path)
    file.add_tags()
    for frame in (
        TIT2(encoding=3, text="A Song"), TPE1(encoding=3, text="Somebody"),
        TRCK(encoding=3, text="3"), TALB(encoding=3, text="B"),
        APIC(encoding=3, mime="image/jpeg", type=3, desc="", data=data),
    ):  # fmt: skip
        file.tags.add(frame)
    file.save()
    return path


@pytest.mark.parametrize("target", ["o.mp3", "o.flac", "o.m4a", "o.ogg", "o.wav"])
@pytest.mark.parametrize("source", ["s.flac", "s.mp3"])
def test_tags_and_cover_are_kept(here, source, target):
    x = np.repeat(song(), 3, axis=1)
    tagged(write(here / source, x, 44100))
    assert zoo.remix(source, model=Shares(), mute=["drums"], output=target).keeps_tags
    file = File(target)
    from zoo.applications.tags import _cover, _texts

    texts = _texts(file)
    assert texts["title"] == ["A Song"] and texts["artist"] == ["Somebody"]
    assert texts["tracknumber"] == ["3"]
    assert _cover(file) == ("image/jpeg", bytes(range(256)))


# ----------------------------------------------------------------- the command


def test_the_command_remixes_and_tells(here, capsys):
    write(here / "song.wav", np.repeat(song(), 6, axis=1), 44100)
    words = ["remix", "song.wav", "-m", "pairs", "--objects", "2", "--gain", "object-1=+3"]
    assert main([*words, "--mute", "object-2", "-o", "o.wav", "--progress", "none"]) == 0
    assert "song.wav -> o.wav" in capsys.readouterr().out
    assert read("o.wav")[0].shape == (2, 6 * RATE)


def test_the_default_release_remixes(here, capsys):
    write(here / "song.wav", np.repeat(song(), 6, axis=1), 44100)
    assert main(["remix", "song.wav", "--gain", "vocals=+6", "--progress", "none"]) == 0
    assert read("song-remix.wav")[0].shape == (2, 6 * RATE)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gain", "vocal=3"], "no source 'vocal'"),
        (["--gain", "vocals"], "expected SOURCE=NUMBER"),
        (["--gain", "vocals=x"], "expected SOURCE=NUMBER"),
        (["--gain", "vocals=nan"], "give dB between -120 and 120"),
        (["--pan", "other=90"], "expected -45 (left) to 45"),
        (["--mute", "accompaniment", "--mute", "drums"], "beside it only vocals"),
        (["-o", "o.xyz"], "cannot be written"),
        (["-o", "song.wav"], "is the song itself"),
        (["-o", "there.wav"], "is there already"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_writes_nothing(here, capsys, words, said):
    write(here / "song.wav", song())
    write(here / "there.wav", song())
    before = {p.name: p.read_bytes() for p in here.iterdir()}
    assert main(["remix", "song.wav", "--progress", "none", *words]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.strip().splitlines()) <= 2
    assert {p.name: p.read_bytes() for p in here.iterdir()} == before


def test_a_mono_song_has_no_places(here):
    with pytest.raises(ZooError, match="only stereo can be panned"):
        zoo.remix(song(1), RATE, model=Shares(), pan={"vocals": 10})


def test_a_fault_in_the_middle_leaves_nothing(here):
    class Faulty(Shares):
        def forward(self, mixture, state=None):
            raise ZooError("broken")

    write(here / "song.wav", song())
    with pytest.raises(ZooError, match="broken"):
        zoo.remix("song.wav", model=Faulty(), mute=["drums"], output="o.wav")
    assert [p.name for p in here.iterdir()] == ["song.wav"]


def test_a_missing_song_is_said(here):
    with pytest.raises(AudioFileError, match=r"nowhere\.wav"):
        zoo.remix("nowhere.wav", model=Shares(), output="o.wav")


def test_changes_name_each_source_once():
    changes = Changes(gain={"a": 1}, mute=("b",), pan={"a": 3})
    assert changes.named == ("a", "b")
