"""Generated songs: the same everywhere, sums that hold, stems that come and go as asked."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import pickle

import numpy as np
import pytest

from zoo.data import open_dataset
from zoo.data.arrangement import CLOSED_HAT, KICK, OPEN_HAT, write_song
from zoo.data.composer import STEMS, Note, Part, SongConfig, plan_song, stream
from zoo.data.drumkit import Kit
from zoo.data.generated import CACHE, GeneratedSongs, Song, SongCache
from zoo.data.layouts import CARD, LAYOUTS, write
from zoo.data.mixing import _strip
from zoo.data.synth import Instrument
from zoo.errors import DatasetError

SMALL = SongConfig(seconds=6, sample_rate=8000, channels=1)
FORMATS = [(44100, 2), (22050, 1), (16000, 2), (8000, 1)]
MODERATE = SongConfig(seconds=12, sample_rate=16000, channels=2)


@pytest.fixture
def songs() -> GeneratedSongs:
    return GeneratedSongs(
        n_train=3, n_valid=1, n_test=1, seconds=3, seed=5, sample_rate=8000, channels=1
    )


def digest(index: int) -> str:
    """SHA-256 of all samples of a small song; also run in other processes."""
    sha = hashlib.sha256()
    for signal in Song(3, index, MODERATE).render().values():
        sha.update(signal.tobytes())
    return sha.hexdigest()


def share_below(signal: np.ndarray, hz: float, rate: int) -> float:
    """Share of a signal's energy below a frequency."""
    power = np.abs(np.fft.rfft(signal)) ** 2
    return float(power[..., : int(hz * signal.shape[-1] / rate)].sum() / power.sum())


def centroid_hz(signal: np.ndarray, rate: int) -> float:
    magnitude = np.abs(np.fft.rfft(signal[0]))
    return float((magnitude * np.fft.rfftfreq(signal.shape[1], 1 / rate)).sum() / magnitude.sum())


# A pure function of numbers


def test_two_processes_render_the_same_bytes():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        elsewhere = pool.map(digest, [0, 1])
    assert elsewhere == [digest(0), digest(1)]


def test_songs_of_other_numbers_differ():
    renders = [Song(s, i, SMALL).render()["drums"] for s, i in ((0, 0), (0, 1), (1, 0))]
    assert not np.array_equal(renders[0], renders[1])
    assert not np.array_equal(renders[0], renders[2])


def test_notes_do_not_depend_on_rate_or_channels():
    cd = SongConfig(seconds=6, sample_rate=44100, channels=2)
    assert write_song(0, 4, SMALL).parts == write_song(0, 4, cd).parts


def test_each_family_of_decisions_has_its_own_stream():
    draws = {family: stream(0, 0, family).random() for family in ("form", "drums", "mix")}
    assert len(set(draws.values())) == 3
    assert draws["form"] == stream(0, 0, "form").random()


# Sums and levels


@pytest.mark.parametrize(("rate", "channels"), FORMATS)
@pytest.mark.parametrize("mixes", [True, False])
def test_stems_are_finite_of_the_right_shape_and_within_full_scale(rate, channels, mixes):
    config = SongConfig(seconds=2.5, sample_rate=rate, channels=channels, mixes=mixes)
    for index in range(3):
        stems = Song(0, index, config).render()
        assert tuple(stems) == STEMS
        for signal in (*stems.values(), sum(stems.values())):
            assert signal.dtype == np.float32
            assert signal.shape == (channels, round(2.5 * rate))
            assert np.isfinite(signal).all()
            assert np.abs(signal).max() <= 1


def test_the_mixture_is_the_sum_of_the_stems_in_any_order(songs):
    track = songs.tracks("train")[1]
    mixture = track.read("mixture")
    stems = {source: track.read(source) for source in track.sources}
    for order in (STEMS, STEMS[::-1], ("bass", "vocals", "other", "drums")):
        total = np.zeros_like(mixture)
        for source in order:
            total += stems[source]
        assert np.array_equal(total, mixture)
    exact = sum(signal.astype(np.float64) for signal in stems.values())
    assert np.array_equal(exact, mixture)
    assert np.array_equal(track.read("accompaniment") + stems["vocals"], mixture)


def test_mixtures_are_as_loud_as_released_music():
    for index in range(12):
        mixture = sum(Song(1, index, MODERATE).render().values())
        rms_db = 10 * np.log10(np.mean(mixture.astype(np.float64) ** 2))
        assert -25 <= rms_db <= -12


@pytest.mark.parametrize("seconds", [0.001, 0.05, 0.4])
def test_very_short_songs_can_be_made(seconds):
    config = SongConfig(seconds=seconds, sample_rate=8000, channels=2)
    stems = Song(0, 0, config).render()
    assert all(signal.shape == (2, config.samples) for signal in stems.values())
    assert all(np.isfinite(signal).all() for signal in stems.values())


def test_a_resting_stem_holds_a_faint_noise_in_half_of_the_songs():
    config = SongConfig(seconds=1, sample_rate=8000, channels=1)
    levels_db = []
    for index in range(120):
        song = Song(0, index, config)
        resting = [stem for stem in STEMS if not song.notes[stem]]
        if resting:
            power = np.mean(song.render()[resting[0]].astype(np.float64) ** 2)
            levels_db.append(10 * np.log10(power + 1e-30))
    levels = np.asarray(levels_db)
    assert len(levels) > 30
    assert 0.35 < np.mean(levels > -200) < 0.65
    sounding = levels[levels > -200]
    assert -88 < sounding.min()
    assert sounding.max() < -74


def test_the_desk_s_filters_do_not_run_down_to_denormal_numbers():
    # Each would take thirty times as long as a number.
    part = np.zeros((1, 22050), np.float32)
    part[0, :2000] = np.random.default_rng(0).uniform(-1, 1, 2000)
    out = _strip(part, "other", "piano", 22050, np.random.default_rng(0))
    denormal = (out != 0) & (np.abs(out) < np.finfo(np.float32).tiny)
    assert denormal.mean() < 0.01
    assert np.abs(out[0, 4000:]).max() < 1e-6


# Form


@pytest.mark.parametrize("seconds", [10.0, 45.0])
def test_stems_rest_as_often_as_configured(seconds):
    config = SongConfig(seconds=seconds)
    plans = [plan_song(0, index, config) for index in range(200)]
    for stem, absent in zip(STEMS, config.absent, strict=True):
        played = np.mean([plan.presence(stem) for plan in plans])
        assert played == pytest.approx(1 - absent, abs=0.05)


def test_every_stem_is_alone_somewhere():
    plans = [plan_song(0, index, SongConfig(seconds=60)) for index in range(150)]
    alone = {tuple(s.stems) for plan in plans for s in plan.sections if len(s.stems) == 1}
    assert alone == {(stem,) for stem in STEMS}


def test_no_section_is_empty_and_no_stem_rests_for_a_whole_long_song():
    for index in range(100):
        sections = plan_song(0, index, SongConfig(seconds=60)).sections
        assert all(section.stems for section in sections)
        assert set().union(*(section.stems for section in sections)) == set(STEMS)


def test_notes_lie_in_the_sections_of_their_stem():
    slack_s = 0.12  # timing jitter, strums and doubles
    for index in range(30):
        song = Song(2, index, SongConfig(seconds=40))
        for stem, notes in song.notes.items():
            spans = [(s.start_s, s.end_s) for s in song.score.sections if stem in s.stems]
            for note in notes:
                assert any(a - slack_s <= note.onset_s <= b + slack_s for a, b in spans)


def test_every_section_of_a_stem_has_notes_of_it():
    for index in range(30):
        song = Song(2, index, SongConfig(seconds=40))
        for section in song.score.sections:
            for stem in section.stems if section.end_s - section.start_s > 2 else ():
                onsets = [note.onset_s for note in song.notes[stem]]
                assert any(section.start_s - 0.1 <= t < section.end_s for t in onsets)


def test_tempo_tuning_and_bass_range_stay_in_their_ranges():
    plans = [plan_song(0, index, SMALL) for index in range(200)]
    assert all(60 <= plan.bpm <= 180 for plan in plans)
    assert all(abs(plan.tuning_cents) <= 30 for plan in plans)
    assert np.median([plan.bpm for plan in plans]) == pytest.approx(104, rel=0.08)  # log-uniform
    assert len({plan.key for plan in plans}) == 12
    for index in range(20):
        bass = [p for p in write_song(0, index, SMALL).parts if p.name == "bass"]
        assert all(28 <= note.pitch <= 55 for part in bass for note in part.notes)


def test_people_could_sing_the_vocals():
    for index in range(40):
        for part in write_song(0, index, SMALL).parts:
            if part.stem == "vocals" and part.name != "harmony":
                highest = 84 if part.instrument == "high voice" else 72  # C6, C5
                assert all(36 <= note.pitch <= highest for note in part.notes)


# Sound


@pytest.mark.parametrize("seed", range(6))
def test_kicks_are_low(seed):
    kick = Kit(44100, np.random.default_rng(seed)).hit(KICK)
    assert share_below(kick, 150, 44100) >= 0.6


def test_bass_is_low_and_darker_than_drums_and_other():
    centroids = {stem: [] for stem in STEMS}
    for index in range(10):
        stems = Song(0, index, SongConfig(seconds=12, sample_rate=22050, channels=1)).render()
        if np.abs(stems["bass"]).max() > 0.01:
            assert share_below(stems["bass"], 400, 22050) >= 0.7
        for stem, signal in stems.items():
            if np.abs(signal).max() > 0.01:
                centroids[stem].append(centroid_hz(signal, 22050))
    assert np.mean(centroids["bass"]) < np.mean(centroids["drums"])
    assert np.mean(centroids["bass"]) < np.mean(centroids["other"])


@pytest.mark.parametrize("cents", [-30.0, 0.0, 30.0])
def test_a_note_sounds_at_its_pitch_and_tuning(cents):
    organ = Instrument("organ", 16000, cents, np.random.default_rng(0))
    tone = organ.play((Note(0.0, 2.0, 69, 100),), 32000)
    spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone)), 1 << 19))
    near = slice(int(400 * (1 << 19) / 16000), int(480 * (1 << 19) / 16000))
    peak_hz = (near.start + np.argmax(spectrum[near])) * 16000 / (1 << 19)
    assert 1200 * np.log2(peak_hz / 440) == pytest.approx(cents, abs=1.5)


@pytest.mark.parametrize("name", ["piano", "organ", "finger bass", "driven guitar", "strings"])
def test_notes_end_without_a_click(name):
    rate = 22050
    instrument = Instrument(name, rate, 0.0, np.random.default_rng(1))
    notes = (Note(0.1, 0.3, 45, 110), Note(0.5, 0.5, 52, 110))  # the song's end cuts the second
    tone = instrument.play(notes, int(0.8 * rate))
    jumps = np.abs(np.diff(tone, n=2))
    begin, end, following = (int(seconds * rate) for seconds in (0.12, 0.4, 0.5))
    assert jumps[end - 100 : following - 2].max() <= 1.05 * jumps[begin : end - 100].max()
    assert abs(tone[-1]) < 0.01 * np.abs(tone).max()


def test_harmonics_do_not_fold_back_at_a_low_rate():
    rate = 8000
    lead = Instrument("brass", rate, 0.0, np.random.default_rng(0))
    tone = lead.play((Note(0.0, 2.0, 81, 100),), 2 * rate)[rate // 2 : rate * 3 // 2]
    power = np.abs(np.fft.rfft(tone * np.hanning(len(tone)))) ** 2  # one bin is 1 Hz
    harmonic = np.zeros(len(power), bool)
    for multiple in range(1, 5):
        harmonic[int(880 * multiple * 0.985) : int(880 * multiple * 1.015) + 2] = True
    assert power[~harmonic].sum() < 1e-4 * power.sum()


def test_a_closed_hat_chokes_an_open_one():
    kit = Kit(16000, np.random.default_rng(0))

    def tail(*notes):
        part = Part("kit", "drums", "kit", notes)
        signal = kit.play(part, 16000, 1, np.random.default_rng(0))
        return float(np.sum(signal[0, 8000:] ** 2))

    opened, closed = Note(0.0, 0.5, OPEN_HAT, 110), Note(0.3, 0.5, CLOSED_HAT, 1)
    assert tail(opened, closed) < 0.01 * tail(opened)


def test_hits_of_one_drum_are_not_copies_of_each_other():
    kit = Kit(16000, np.random.default_rng(0))
    assert not np.array_equal(kit.hit(CLOSED_HAT, 0), kit.hit(CLOSED_HAT, 1))


def test_stereo_songs_are_wide_and_their_bass_is_not():
    sides = {"bass": [], "other": []}
    for index in range(8):
        stems = Song(0, index, SongConfig(seconds=8, sample_rate=16000)).render()
        for stem, shares in sides.items():
            left, right = stems[stem].astype(np.float64)
            if np.abs(left).max() > 0.01:
                shares.append(np.sum((left - right) ** 2) / np.sum((left + right) ** 2))
    assert np.median(sides["bass"]) < 0.1
    assert np.median(sides["other"]) > np.median(sides["bass"])


# The data set


def test_splits_share_no_song(songs):
    keys = [
        (songs.song(split, number).seed, songs.song(split, number).index)
        for split, count in songs.counts.items()
        for number in range(count)
    ]
    assert len(set(keys)) == len(keys) == len(songs) == 5


def test_a_stretch_is_what_the_whole_holds_there(songs):
    track = songs.tracks("test")[0]
    whole = track.read("drums")
    assert np.array_equal(track.read("drums", 1000, 500), whole[:, 1000:1500])
    assert track.read("drums", track.samples - 10, 500).shape == (1, 10)


def test_what_a_reader_does_to_a_stem_does_not_reach_the_next_reader(songs):
    track = songs.tracks("train")[0]
    first = track.read("other")
    kept = first.copy()
    first[:] = 7
    assert np.array_equal(track.read("other"), kept)


def test_a_song_is_rendered_once_and_the_oldest_is_forgotten(monkeypatch):
    rendered = []
    render = Song.render
    monkeypatch.setattr(Song, "render", lambda self: rendered.append(self.index) or render(self))
    one = sum(signal.nbytes for signal in render(Song(0, 0, SMALL)).values())
    cache = SongCache(budget_bytes=2 * one)
    for index in (0, 0, 1, 0, 2, 0, 1):
        cache.stems(Song(0, index, SMALL))
    assert rendered == [0, 1, 2, 1]


def test_tracks_survive_pickling(songs):
    track = songs.tracks("valid")[0]
    expected = track.read("bass")
    CACHE.clear()
    assert np.array_equal(pickle.loads(pickle.dumps(track)).read("bass"), expected)


def test_the_card_is_json_and_makes_the_song_again(songs):
    song = songs.song("train", 2)
    card = json.loads(json.dumps(song.card))
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in card["config"].items()}
    again = Song(card["seed"], card["index"], SongConfig(**config))
    assert again == song


def test_the_fingerprint_follows_whatever_changes_the_sound():
    def fingerprint(**changes):
        arguments = {"n_train": 2, "n_valid": 0, "n_test": 1, "seconds": 3, **changes}
        return GeneratedSongs(**arguments).fingerprint()

    same = fingerprint()
    assert same == fingerprint()
    songs = GeneratedSongs(n_train=2, n_valid=1, n_test=1)
    more = GeneratedSongs(n_train=2, n_valid=1, n_test=5)
    assert songs.fingerprint(["train", "valid"]) == more.fingerprint(["train", "valid"])
    assert songs.fingerprint(["test"]) != more.fingerprint(["test"])
    for changes in ({"seed": 1}, {"n_train": 3}, {"seconds": 4}, {"alone": 0.1}):
        assert fingerprint(**changes) != same


def test_open_dataset_finds_generated_songs():
    dataset = open_dataset("generated", n_train=1, n_valid=0, n_test=0, absent=[0.2, 0.2, 0.2, 0.2])
    assert [track.name for track in dataset.tracks("train")] == ["generated-train-00000"]
    assert dataset.tracks("valid") == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"channels": 6}, "6"),
        ({"seconds": 0}, "seconds"),
        ({"sample_rate": 100}, "100"),
        ({"absent": [0.0, 0.1, 0.1, 0.1]}, "absent"),
        ({"n_train": -1}, "-1"),
        ({"tempo": 3}, "no 'tempo'; they have seconds"),
        ({"n_train": "3"}, "'train': '3'.*whole numbers"),
        ({"n_train": 1.5}, "'train': 1.5.*whole numbers"),
        ({"seed": "1"}, "seed is '1'"),
        ({"seconds": "3"}, "of the wrong kind .*not str"),
    ],
)
def test_impossible_values_are_refused_by_name(arguments, named):
    with pytest.raises(DatasetError, match=named):
        GeneratedSongs(**arguments)


# On disk


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_written_mixture_is_the_sum_of_the_written_stems(songs, tmp_path, layout):
    soundfile = pytest.importorskip("soundfile")
    root = write(songs, tmp_path / "out", layout)
    mixtures = sorted(root.rglob("mixture.wav"))
    assert len(mixtures) == len(songs)
    for path in mixtures:
        folder = path.parent
        if layout == "dsd100":
            folder = root / "Sources" / folder.parent.name / folder.name
        stems = [soundfile.read(folder / f"{stem}.wav", dtype="int16")[0] for stem in STEMS]
        mixture, rate = soundfile.read(path, dtype="int16")
        assert rate == 8000
        assert np.array_equal(np.sum(stems, axis=0, dtype=np.int64), mixture)


def test_a_written_stem_is_the_track_s_to_sixteen_bits(songs, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    write(songs, tmp_path / "out", "plain")
    track = songs.tracks("valid")[0]
    stored, _ = soundfile.read(tmp_path / "out/valid" / track.name / "drums.wav")
    assert np.abs(stored - track.read("drums")[0]).max() <= 0.5 / 2**15 + 1e-9


def test_layouts_have_the_folders_of_their_models(songs, tmp_path):
    folders = {
        layout: {str(p.parent.parent.relative_to(root)) for p in root.rglob("*.wav")}
        for layout in LAYOUTS
        if (root := write(songs, tmp_path / layout, layout))
    }
    assert folders["plain"] == {"train", "valid", "test"}
    assert folders["musdb"] == {"train", "test"}
    assert folders["dsd100"] == {"Mixtures/Dev", "Mixtures/Test", "Sources/Dev", "Sources/Test"}


def test_the_written_card_lists_every_song(songs, tmp_path):
    calls = []
    root = write(songs, tmp_path / "out", "plain", progress=lambda *done: calls.append(done))
    card = json.loads((root / CARD).read_text(encoding="utf-8"))
    assert card["fingerprint"] == songs.fingerprint()
    assert len(card["songs"]) == len(songs)
    assert calls == [(n, 5) for n in range(1, 6)]


def test_a_folder_in_use_is_left_alone(songs, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DatasetError, match="not an empty folder"):
        write(songs, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_two_writers_of_one_folder_do_not_touch_each_other(songs, tmp_path):
    def another(done, total):
        if done == total:
            write(songs, tmp_path / "out", "musdb")

    with pytest.raises(DatasetError, match="out cannot take the songs"):
        write(songs, tmp_path / "out", progress=another)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert json.loads((tmp_path / "out" / CARD).read_text())["layout"] == "musdb"
    assert len(list((tmp_path / "out").rglob("mixture.wav"))) == len(songs)


@pytest.mark.parametrize("taken", ["valid", CARD])
def test_an_empty_folder_that_others_fill_meanwhile_gets_nothing(songs, tmp_path, taken):
    def fill(done, total):
        if done == total:
            (tmp_path / taken).write_text("mine")

    with pytest.raises(DatasetError, match="cannot take the songs"):
        write(songs, tmp_path, progress=fill)
    assert [path.name for path in tmp_path.iterdir()] == [taken]


def test_an_interrupted_writing_leaves_nothing(songs, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(songs, tmp_path / "out", progress=stop)
    assert list(tmp_path.iterdir()) == []
