"""Recordings in generated songs: known by their names, in pitch and place, never exact copies."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from zoo.audio import AudioWriter
from zoo.data.arrangement import (
    CLAP,
    CLOSED_HAT,
    CRASH,
    HIGH_TOM,
    KICK,
    LOW_TOM,
    MIDDLE_TOM,
    OPEN_HAT,
    RIDE,
    RIM,
    SNARE,
)
from zoo.data.composer import Note, SongConfig, plan_song
from zoo.data.generated import GeneratedSongs
from zoo.data.recordings import (
    SampledKit,
    open_one_shots,
    play_bass,
    play_loop,
    sing_phrases,
    what_is,
)
from zoo.errors import DatasetError

RATE = 16000


def save(path: Path, signal: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with AudioWriter(path, rate, 1) as writer:
        writer.write(np.asarray(signal, np.float32)[None])
    return path


def tone(hz: float, seconds: float, rate: int = RATE, decay_s: float = 10.0) -> np.ndarray:
    time = np.arange(int(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * hz * h * time) / h for h in (1, 2, 3))
    return 0.4 * wave * np.exp(-time / decay_s)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    n = int(seconds * RATE)
    return 0.5 * np.random.default_rng(seed).uniform(-1, 1, n) * np.exp(-np.arange(n) / (0.1 * n))


@pytest.fixture
def shots(tmp_path) -> Path:
    """A folder with a kick, two layers of a snare, a hat, a bass note and a loop of 2 s."""
    folder = tmp_path / "shots"
    save(folder / "bd_one.wav", tone(60, 0.3, decay_s=0.05))
    save(folder / "drum_snare_hard.wav", noise(0.3, 1))
    save(folder / "drum_snare_soft.wav", noise(0.2, 2))
    save(folder / "hats" / "01.wav", noise(0.1, 3))
    save(folder / "bass_c.wav", tone(65.41, 1.5))  # C2, key 36
    loop = np.concatenate([noise(0.5, n) for n in range(4)])
    save(folder / "loop_120.wav", loop)
    return folder


def songs(seconds=4.0, **arguments) -> GeneratedSongs:
    return GeneratedSongs(
        n_train=6, n_valid=0, n_test=0, seconds=seconds, sample_rate=RATE, channels=2, **arguments
    )


# Names


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("bd_808.ogg", KICK), ("drum_bass_hard.ogg", KICK), ("drum_heavy_kick.ogg", KICK),
        ("sn_dub.ogg", SNARE), ("Snare01.wav", SNARE), ("drum_cymbal_closed.ogg", CLOSED_HAT),
        ("drum_cymbal_pedal.ogg", CLOSED_HAT), ("hat_zild.ogg", CLOSED_HAT),
        ("drum_cymbal_open.ogg", OPEN_HAT), ("OpenHat-3.wav", OPEN_HAT), ("ride_tri.ogg", RIDE),
        ("drum_splash_soft.ogg", CRASH), ("drum_cymbal_hard.ogg", CRASH), ("CP_02.wav", CLAP),
        ("rimshot.wav", RIM), ("drum_tom_hi_soft.ogg", HIGH_TOM), ("floor tom.wav", LOW_TOM),
        ("drum_tom_mid_hard.ogg", MIDDLE_TOM), ("kicks/03.wav", KICK), ("loop_amen.ogg", "loop"),
        ("bass/bass_hit_c.ogg", "bass"), ("other/loop_garzul.ogg", None), ("note.wav", None),
        ("drum_cowbell.ogg", None),
    ],
)  # fmt: skip
def test_a_file_is_known_by_its_name_or_its_folder(name, kind):
    assert what_is(Path(name)) == kind


def test_a_folder_tells_what_it_holds(shots):
    found = open_one_shots(shots)
    assert {s.key for s in found.samples} == {KICK, SNARE, CLOSED_HAT}
    (snare,) = (s for s in found.samples if s.key == SNARE)
    assert (snare.path.name, snare.soft.name) == ("drum_snare_hard.wav", "drum_snare_soft.wav")
    assert [path.name for path in found.loops] == ["loop_120.wav"]
    ((bass, pitch),) = found.basses
    assert bass.name == "bass_c.wav"
    assert pitch == pytest.approx(36, abs=0.1)


def test_drums_of_one_name_but_another_number_are_all_kept(tmp_path):
    for n in range(3):
        save(tmp_path / f"kick_{n}.wav", tone(60, 0.2))
    assert len(open_one_shots(tmp_path).samples) == 3


def test_a_slide_is_no_bass_note(tmp_path):
    time = np.arange(2 * RATE) / RATE
    slide = 0.5 * np.sin(2 * np.pi * (50 * time + 20 * time**2))
    save(tmp_path / "bass_slide.wav", slide)
    save(tmp_path / "bass_hum.wav", noise(1.0))
    with pytest.raises(DatasetError, match="named like a drum"):
        open_one_shots(tmp_path)


@pytest.mark.parametrize("argument", ["one_shots", "vocals"])
def test_a_folder_that_holds_nothing_is_refused_by_its_argument(tmp_path, argument):
    with pytest.raises(DatasetError, match=f"{argument} is .*no folder"):
        songs(**{argument: str(tmp_path / "nowhere")})
    with pytest.raises(DatasetError, match=f"{argument}: .* holds no audio file"):
        songs(**{argument: str(tmp_path)})


def test_recordings_without_a_telling_name_are_refused_with_examples(tmp_path):
    save(tmp_path / "001.wav", noise(0.1))
    with pytest.raises(DatasetError, match="kick_1.wav"):
        songs(one_shots=str(tmp_path))


def test_a_damaged_recording_is_named(shots):
    (shots / "bd_one.wav").write_bytes(b"RIFF")
    with pytest.raises(DatasetError, match="bd_one.wav"):
        for track in songs(one_shots=str(shots)).tracks("train"):
            track.read("drums")


# Playing


def test_hits_are_their_recording_and_no_copies_of_each_other(shots):
    kit = SampledKit(RATE, open_one_shots(shots), np.random.default_rng(0))
    recorded = noise(0.3, 1)
    variants = [kit.hit(SNARE, n, 120) for n in range(4)]
    for hit in variants:
        likeness = np.corrcoef(hit[:100], recorded[:100])[0, 1]  # then the tunings part them
        assert likeness > 0.7
    assert not np.array_equal(variants[0], variants[1])
    again = SampledKit(RATE, open_one_shots(shots), np.random.default_rng(0))
    assert np.array_equal(again.hit(SNARE, 2, 120), variants[2])


def test_soft_hits_take_the_soft_recording(shots):
    kit = SampledKit(RATE, open_one_shots(shots), np.random.default_rng(0))
    assert len(kit.hit(SNARE, 0, 40)) < 0.75 * len(kit.hit(SNARE, 0, 120))


def test_a_piece_that_is_missing_has_a_stand_in(shots):
    kit = SampledKit(RATE, open_one_shots(shots), np.random.default_rng(0))
    assert len(kit.hit(OPEN_HAT)) == pytest.approx(len(kit.hit(CLOSED_HAT)), rel=0.02)
    assert np.abs(kit.hit(HIGH_TOM)).max() == pytest.approx(1, abs=1e-3)  # numpy's own


@pytest.mark.parametrize(("pitch", "octaves"), [(31, 0), (36, 0), (43, -1)])
def test_bass_notes_are_brought_to_their_pitch_in_the_octave_of_the_recording(
    shots, pitch, octaves
):
    ((path, recorded),) = open_one_shots(shots).basses
    notes = (Note(0.0, 1.0, pitch, 100),)
    wave = play_bass(notes, path, recorded, RATE, RATE, tuning_cents=20.0)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 19))
    peak_hz = np.argmax(spectrum) * RATE / (1 << 19)
    cents = 1200 * np.log2(peak_hz / (440 * 2 ** ((pitch - 69) / 12)))
    assert cents - 1200 * octaves == pytest.approx(20, abs=10)


def test_a_loop_fills_the_bars_that_have_drums(shots):
    found = open_one_shots(shots)
    plan = next(
        p for n in range(200)
        if found.fitting_loops(p := plan_song(0, n, SongConfig(seconds=30)))
        and 0.2 < p.presence("drums") < 0.8
    )  # fmt: skip
    ((path, n_bars),) = found.fitting_loops(plan)
    signal = play_loop(path, n_bars, plan, RATE, 30 * RATE, 2)[0]
    bar = int(4 * 60 / plan.bpm * RATE)
    for at in plan.bars:
        start = int(at.start_s * RATE)
        piece = signal[start : start + bar]
        if len(piece) == bar:
            assert (np.abs(piece).max() > 0.1) == ("drums" in at.stems)


def test_a_loop_is_not_stretched_beyond_a_fifth(shots):
    found = open_one_shots(shots)
    for n in range(60):
        plan = plan_song(0, n, SongConfig(seconds=20))
        for _, n_bars in found.fitting_loops(plan):
            assert 1 / 1.2 <= 2.0 / (n_bars * 4 * 60 / plan.bpm) <= 1.2
            assert plan.metre.name == "4/4"


def test_phrases_are_sung_where_notes_are_and_silences_are_cut(tmp_path):
    silence = np.zeros(RATE)
    voice = np.concatenate([silence, tone(220, 1.0), silence, tone(330, 1.0), silence])
    path = save(tmp_path / "voice.wav", voice)
    notes = tuple(Note(1.0 + 0.5 * n, 0.5, 60, 90) for n in range(8))  # from 1 s to 5 s
    sung = sing_phrases(notes, path, RATE, 8 * RATE, np.random.default_rng(0))
    loud = np.abs(sung).reshape(-1, RATE // 10).max(axis=1) > 0.05
    assert not loud[:9].any()
    assert not loud[51:].any()
    assert loud[10:50].mean() > 0.55


def test_hidden_files_do_not_sing(tmp_path):
    path = save(tmp_path / "a.wav", tone(220, 0.5))
    (tmp_path / "._a.wav").write_bytes(b"what macOS keeps of it")
    notes = tuple(Note(0.5 * n, 0.5, 60, 90) for n in range(8))
    assert sing_phrases(notes, path, RATE, 4 * RATE, np.random.default_rng(0)).any()


def test_songs_say_who_played_and_are_the_same_again(shots, tmp_path):
    voice = np.concatenate([tone(220, 1.0), np.zeros(RATE), tone(330, 1.0)])
    save(tmp_path / "voices" / "anna.wav", voice)
    where = {"one_shots": str(shots), "vocals": str(tmp_path / "voices")}
    dataset = songs(**where)
    card = json.loads(json.dumps(dataset.song("train", 0).card))
    players = {part["name"]: part["player"] for part in card["parts"]}
    assert players["lead vocals"] == "voice anna.wav"
    assert players["bass"] == "one-shot bass_c.wav"
    assert players["kit"] in ("one-shots", "loop loop_120.wav")
    assert card["one_shots"]["name"] == "shots"
    for number in range(3):
        stems = dataset.song("train", number).render()
        again = songs(**where).song("train", number).render()
        for stem, signal in stems.items():
            assert np.array_equal(signal, again[stem])
            assert np.isfinite(signal).all()
        assert np.abs(sum(stems.values())).max() <= 1


def test_the_fingerprint_follows_the_recordings(shots):
    before = songs(one_shots=str(shots)).fingerprint()
    assert before == songs(one_shots=str(shots)).fingerprint()
    assert before != songs().fingerprint()
    save(shots / "bd_one.wav", tone(61, 0.3))
    assert songs(one_shots=str(shots)).fingerprint() != before


def test_recordings_of_any_name_have_a_fingerprint(tmp_path):
    path = save(tmp_path / "a.wav", tone(220, 0.5))
    before = songs(vocals=str(tmp_path)).fingerprint()
    path.rename(tmp_path / os.fsdecode(b"caf\xe9.wav"))
    assert songs(vocals=str(tmp_path)).fingerprint() != before


def test_an_acoustic_kit_of_single_hits_plays_the_drums(shared):
    found = open_one_shots(shared / "audio" / "loops-cc0" / "hits")
    keys = {sample.key for sample in found.samples}
    assert keys >= {KICK, SNARE, CLOSED_HAT, OPEN_HAT, RIDE, CRASH, LOW_TOM, MIDDLE_TOM, HIGH_TOM}
    dataset = songs(one_shots=str(found.root))
    played = [dataset.song("train", n).render()["drums"] for n in range(2)]
    assert max(np.abs(signal).max() for signal in played) > 0.05


def test_recorded_bass_notes_have_the_pitch_in_their_name(shared):
    names = dict(c=0, f=5)
    basses = open_one_shots(shared / "audio" / "loops-cc0" / "bass").basses
    assert len(basses) >= 5
    for path, pitch in basses:
        off = (pitch - names[path.stem[-1]] + 6) % 12 - 6
        assert abs(off) < 0.3
