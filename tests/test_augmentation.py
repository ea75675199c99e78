"""What each effect does to a signal, and which sources of which examples it befalls."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import yaml
from scipy.signal import find_peaks, lfilter

from zoo.cli.train import run
from zoo.data.augmentation import Augmentation, Dice
from zoo.data.module import Format, Segments, SeparationData
from zoo.data.track import Track
from zoo.dsp.effects import (
    active_rms,
    balanced,
    equalised,
    reverberated,
    room,
    sounds,
    voiced_stretches,
)
from zoo.dsp.stretching import shifted
from zoo.errors import DatasetError, RecipeError

RATE = 16000
OFF = Augmentation(gain=None, swap_channels=0.0)


def tone(hertz, seconds=1.0, rate=RATE):
    t = np.arange(int(seconds * rate)) / rate
    return np.sin(2 * np.pi * hertz * t).astype(np.float32)[None]


def noise(seconds=1.0, channels=1, rms=0.1, seed=0):
    shape = (channels, int(seconds * RATE))
    return np.float32(rms) * np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def pitch(signal, rate=RATE):
    n = 8 * signal.shape[-1]
    spectrum = np.abs(np.fft.rfft(signal[0] * np.hanning(signal.shape[-1]), n))
    return spectrum.argmax() * rate / n


def db(ratio):
    return 20 * np.log10(ratio)


def rms(signal):
    return float(np.sqrt(np.square(signal, dtype=np.float64).mean()))


def apply(signals, sources=("vocals", "drums"), position=(0, 0, 0), **keys):
    return replace(OFF, **keys).apply(signals, sources, RATE, Dice(*position))


# ---- pitch and tempo


@pytest.mark.parametrize("semitones", [-12, -3, 0.5, 4, 7])
@pytest.mark.parametrize("hertz", [110, 440, 2000])
def test_a_tones_pitch_moves_by_the_semitones_and_its_length_and_level_stay(hertz, semitones):
    moved = shifted(tone(hertz), RATE, RATE, semitones)
    assert moved.shape == (1, RATE) and moved.dtype == np.float32
    assert 12 * np.log2(pitch(moved) / hertz) == pytest.approx(semitones, abs=0.03)
    assert db(rms(moved[:, 2000:-2000]) / rms(tone(hertz))) == pytest.approx(0, abs=0.3)


def clicks(every, seconds=2.0):
    signal = np.zeros(int(seconds * RATE))
    signal[every // 2 :: every] = 1
    return lfilter([1], [1, -1.6, 0.9], signal).astype(np.float32)[None]  # short, at 1.6 kHz


def onsets(signal):
    level = np.convolve(np.abs(signal[0]), np.hanning(160), "same")
    return find_peaks(level, height=0.3 * level.max(), distance=1000)[0]


@pytest.mark.parametrize("tempo", [0.8, 1.0, 1.25])
def test_tempo_moves_onsets_and_pitch_does_not(tempo):
    n = round(2 * RATE / tempo)
    for semitones in (0, 3):
        spacing = np.diff(onsets(shifted(clicks(4000), RATE, n, semitones)))
        assert spacing.mean() == pytest.approx(4000 / tempo, rel=0.01)
        assert spacing.std() < 50  # 3 ms
    assert pitch(shifted(tone(440, 2), RATE, n)) == pytest.approx(440, abs=0.5)


def test_a_panned_source_stays_where_it_is():
    left = noise() + tone(300)
    moved = shifted(np.concatenate([left, 0.25 * left]), RATE, RATE, 3)
    np.testing.assert_allclose(0.25 * moved[0], moved[1], atol=1e-4)


def vowel(formants=(600, 1500), f0=125):
    signal = np.zeros(2 * RATE)
    signal[:: RATE // f0] = 1
    for hertz in formants:
        r = np.exp(-np.pi * 150 / RATE)
        signal = lfilter([1], [1, -2 * r * np.cos(2 * np.pi * hertz / RATE), r * r], signal)
    return (signal / np.abs(signal).max()).astype(np.float32)[None]


def brightness(signal):
    """Centre of gravity of the spectrum in Hz."""
    power = np.abs(np.fft.rfft(signal[0, 4000:-4000])) ** 2
    return float((power * np.fft.rfftfreq(signal.shape[1] - 8000, 1 / RATE)).sum() / power.sum())


@pytest.mark.parametrize("semitones", [-4, 4])
def test_formants_move_with_pitch_or_stay_as_asked(semitones):
    voice, ratio = vowel(), 2 ** (semitones / 12)
    moved, kept = (shifted(voice, RATE, 2 * RATE, semitones, keeps) for keeps in (False, True))
    assert brightness(moved) / brightness(voice) == pytest.approx(ratio, rel=0.02)
    assert brightness(kept) / brightness(voice) == pytest.approx(1, abs=0.08)
    for signal in (moved, kept):  # the pitch moves in both
        echo = np.correlate(signal[0, 8000:12000], signal[0, 9000:11000], "valid")[1000:]
        lag = 60 + echo[60:190].argmax()
        assert RATE / lag == pytest.approx(125 * ratio, rel=0.02)


@pytest.mark.parametrize("samples", [1, 7, 1000])
@pytest.mark.parametrize("level", [0, 1])
def test_the_shortest_and_the_silent_keep_their_length_and_are_finite(samples, level):
    signal = np.full((2, samples), level, np.float32)
    for semitones, keeps in ((0, False), (3, True), (-3, False)):
        moved = shifted(signal, RATE, 2 * samples, semitones, keeps)
        assert moved.shape == (2, 2 * samples) and np.isfinite(moved).all()
        assert moved.any() == bool(level)


# ---- colour


@pytest.mark.parametrize("gain", [-12, 6])
@pytest.mark.parametrize(("band", "hertz"), [(0, 30), (1, 1000), (2, 7500)])
def test_the_equaliser_changes_a_band_by_its_gain_and_leaves_the_far_ones(band, hertz, gain):
    gains = [0.0, 0.0, 0.0]
    gains[band] = gain
    found = {}
    for f in (30, 1000, 7500):
        out = equalised(tone(f, 2), RATE, (200, 1000, 4000), gains)[:, RATE:]
        found[f] = db(rms(out) / rms(tone(f, 2)[:, RATE:]))
    assert found[hertz] == pytest.approx(gain, abs=0.5)
    others = [found[f] for f in found if f != hertz]
    assert np.abs(others).max() < 1.2 if band == 1 else np.abs(others).max() < 0.5


@pytest.mark.parametrize("rt60", [0.3, 1.0, 2.5])
def test_a_room_decays_by_60_db_in_its_time(rt60):
    impulse = np.zeros((2, 3 * RATE), np.float32)
    impulse[:, 0] = 1
    response = room(rt60, RATE, impulse.shape, np.random.default_rng(0))
    wet = reverberated(impulse, response, 0.0) - impulse
    left = np.cumsum(np.square(wet, dtype=np.float64)[:, ::-1], axis=1)[:, ::-1]  # Schroeder
    level = 10 * np.log10(left / left[:, :1] + 1e-12)
    for channel in level:
        a, b = (np.argmax(channel < -d) for d in (5, 35))
        assert 2 * (b - a) / RATE == pytest.approx(rt60, rel=0.06)
    assert not np.allclose(wet[0], wet[1])  # wide


def test_the_send_is_the_level_of_the_room_beside_the_source():
    source = noise(4)
    response = room(0.5, RATE, source.shape, np.random.default_rng(0))
    for send in (-20, -6):
        wet = reverberated(source, response, send) - source
        assert db(rms(wet[:, RATE:]) / rms(source)) == pytest.approx(send, abs=1)


def test_all_sources_of_an_example_stand_in_one_room_and_another_example_in_another():
    impulse = np.zeros((1, RATE), np.float32)
    impulse[0, 0] = 1
    keys = {"reverb_s": (0.2, 1.0), "reverb_send_db": {"vocals": (-6, -6), "drums": (-12, -12)}}
    sources = ("vocals", "drums", "bass")
    vocals, drums, bass = apply([impulse] * 3, sources, **keys)
    np.testing.assert_allclose(vocals[:, 1:], drums[:, 1:] * 10 ** (6 / 20), rtol=1e-3, atol=1e-7)
    assert np.array_equal(bass, impulse)
    assert not np.allclose(apply([impulse] * 3, sources, (0, 0, 1), **keys)[0], vocals)


# ---- levels


def test_active_loudness_counts_only_the_seconds_that_sound():
    signal = np.concatenate([noise(2, rms=0.2), np.zeros((1, RATE)), noise(1, rms=3e-4)], axis=1)
    assert active_rms(signal, RATE) == pytest.approx(0.2, rel=0.02)
    assert active_rms(signal[:, : RATE // 2], RATE) == pytest.approx(0.2, rel=0.02)
    assert active_rms(np.zeros((1, RATE), np.float32), RATE) == 0
    assert active_rms(np.zeros((1, 0), np.float32), RATE) == 0


def test_sources_14_db_apart_come_to_the_levels_that_are_asked_for():
    loud, soft = noise(2, rms=0.2, seed=1), noise(2, rms=0.2 * 10 ** (-14 / 20), seed=2)
    vocals, drums = apply([loud, soft], balance_db={"vocals": (0, 0), "drums": (-3, -3)})
    assert db(rms(vocals)) == pytest.approx(-23, abs=0.01)
    assert db(rms(drums)) == pytest.approx(-26, abs=0.01)
    silent = np.zeros_like(loud)
    assert not balanced(silent, RATE, -23).any()


def test_balance_is_drawn_source_by_source_from_its_range():
    found = []
    for i in range(100):
        out = apply([noise(1), noise(1)], position=(0, 0, i), balance_db=(-6, 3))
        found.append([db(rms(signal)) + 23 for signal in out])
    low, high = np.min(found, axis=0), np.max(found, axis=0)
    assert (-6.01 < low).all() and (low < -5).all() and (2 < high).all() and (high < 3.01).all()
    assert abs(np.corrcoef(np.transpose(found))[0, 1]) < 0.3


def test_polarity_turns_half_of_the_sources_upside_down():
    signal = noise()
    out = [apply([signal] * 2, position=(0, 0, i), polarity=0.5) for i in range(60)]
    turned = [[np.array_equal(x, -signal) for x in pair] for pair in out]
    plain = [[np.array_equal(x, signal) for x in pair] for pair in out]
    assert np.logical_xor(turned, plain).all()
    assert 0.25 < np.mean(turned) < 0.75


def test_a_share_of_the_sources_is_silenced():
    out = [apply([noise(0.1)] * 2, position=(0, 0, i), silent={"drums": 0.3}) for i in range(100)]
    assert all(vocals.any() for vocals, _ in out)
    assert 0.15 < np.mean([not drums.any() for _, drums in out]) < 0.45


def test_the_noise_floor_has_its_level_also_where_the_source_is_silent():
    silence = np.zeros((2, RATE), np.float32)
    levels = []
    for i in range(60):
        vocals, drums = apply([silence] * 2, position=(0, 0, i), noise={"vocals": 0.5})
        assert not drums.any()
        if vocals.any():
            levels.append(db(rms(vocals)))
    assert 15 < len(levels) < 45
    assert -80.1 < min(levels) < -78 and -72 < max(levels) < -69.9


def test_a_constant_and_the_level_of_the_whole_example():
    signal = noise()
    (moved, _) = apply([signal] * 2, dc={"vocals": (0.01, 0.01)})
    np.testing.assert_allclose(moved, signal + 0.01, atol=1e-7)
    out = apply([signal, 2 * signal], level_db=(-12, -6))
    ratio = out[0] / signal
    np.testing.assert_allclose(out[1], 2 * out[0], rtol=1e-6)
    assert -12 <= db(ratio.mean()) <= -6


def test_what_is_given_is_not_changed():
    signal = noise(channels=2)
    before = signal.copy()
    every = replace(EVERYTHING, share={})
    every.apply([signal] * 2, ("vocals", "drums"), RATE, Dice(0, 0, 0))
    assert np.array_equal(signal, before)


# ---- voices


def test_voiced_stretches_run_from_onset_to_silence_and_cut_ones_are_left_out():
    block = RATE // 20
    voice = np.zeros((1, 40 * block), np.float32)
    for first, end in ((0, 4), (10, 15), (20, 30), (36, 40)):
        voice[:, first * block : end * block] = 0.5
    voice[:, 16 * block : 18 * block] = 0.04  # below a tenth of the loudest
    assert voiced_stretches(voice, RATE).tolist() == [
        [10 * block, 15 * block],
        [20 * block, 30 * block],
    ]
    for nothing in (voice[:, : 2 * block], np.zeros((1, 9000)), np.zeros((1, 3))):
        assert voiced_stretches(nothing, RATE).shape == (0, 2)


def test_what_sounds_is_above_60_db_below_full_scale():
    assert sounds(noise(rms=1.2e-3)) and not sounds(noise(rms=0.8e-3))
    assert not sounds(np.zeros((1, 0), np.float32))


# ---- examples


@dataclass(frozen=True)
class Memory(Track):
    """A track of given signals; a pool's knows no mixture."""

    stems: dict = field(default_factory=dict, hash=False)
    is_pool: bool = False

    def _read_stem(self, source, start, samples):
        return self.stems[source][:, start : start + samples]

    def knows(self, source):
        return super().knows(source) and not (self.is_pool and source == "mixture")


def track(name, stems, unknown=(), is_pool=False):
    stems = {source: np.asarray(signal, np.float32) for source, signal in stems.items()}
    channels, samples = next(iter(stems.values())).shape
    return Memory(
        name=name, rate=RATE, channels=channels, samples=samples, sources=tuple(stems),
        unknown=frozenset(unknown), stems=stems, is_pool=is_pool,
    )  # fmt: skip


def segments(tracks, sources=("vocals", "drums"), segment=4000, weights=None, **keys):
    format = Format(tuple(sources), RATE, tracks[0].channels)
    return Segments(tracks, format, segment, 0, replace(OFF, **keys), weights)


def references(data, index, epoch=0):
    return data[epoch, index]["references"].numpy()


EVERYTHING = Augmentation(
    remix=0.5, sounding=0.5, voiced=0.3, speed=(0.9, 1.1), tempo=(0.9, 1.1), pitch=(-2, 2),
    keep_formants=0.5, equaliser_db=(-6, 6), reverb_s=(0.2, 0.5), balance_db=(-3, 3),
    polarity=0.5, silent=0.1, noise=0.5, dc=(-0.01, 0.01), level_db=(-6, 0),
    share={"pitch": 0.5, "tempo": 0.5},
)  # fmt: skip


def songs(n=3, seconds=1.0):
    return [
        track(f"{i}", {"vocals": noise(seconds, 2, seed=i), "drums": noise(seconds, 2, seed=i + n)})
        for i in range(n)
    ]


def test_with_everything_on_an_example_depends_on_seed_epoch_and_index_alone():
    one, two = (
        Segments(songs(), Format(("vocals", "drums"), RATE, 2), 4000, 0, EVERYTHING)
        for _ in range(2)
    )
    backwards = [references(two, i) for i in reversed(range(12))][::-1]
    for i in range(12):
        example = references(one, i)
        assert example.shape == (2, 2, 4000) and np.isfinite(example).all()
        assert np.array_equal(example, backwards[i])
    assert not np.array_equal(references(one, 0), references(one, 0, epoch=1))


def test_with_everything_on_examples_are_the_same_for_any_number_of_workers():
    class Model:
        sources, sample_rate, channels, trainable, segment = (
            ("vocals", "drums"),
            8000,
            2,
            True,
            4000,
        )

    def batches(n_workers):
        data = SeparationData(
            "generated", batch_size=2, examples_per_epoch=6, n_workers=n_workers,
            augment=EVERYTHING, arguments={
                "n_train": 2, "n_valid": 0, "n_test": 0, "seconds": 2.0, "sample_rate": 8000,
            },
        )  # fmt: skip
        return [b["references"].numpy() for b in data.obey(Model()).train_dataloader()]

    for a, b in zip(batches(0), batches(2), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "key",
    [
        {"gain": (0.5, 2.0)},
        {"polarity": 0.5},
        {"swap_channels": 0.5},
        {"balance_db": (-3, 3)},
        {"equaliser_db": (-6, 6)},
        {"speed": (0.9, 1.1)},
        {"noise": 0.5},
    ],
    ids=str,
)
def test_one_effect_more_does_not_change_what_is_drawn_for_the_others(key):
    """The songs, the places and the level drawn are those of the plain example."""
    data = songs(seconds=3)
    tags = {t.name: t.stems["vocals"].mean() for t in data}
    plain, more = (segments(data, remix=0.5, dc=(-0.5, 0.5), **keys) for keys in ({}, key))
    drawn = [
        [a.drawn("dc", ("vocals", "drums"), Dice(0, 0, i)) for i in range(5)]
        for a in (plain.augment, more.augment)
    ]
    assert drawn[0] == drawn[1] and len(tags) == 3
    seen = {}
    for name, d in (("plain", plain), ("more", more)):
        seen[name], cut = [], d._cut

        def noted(t, source, where, move, to=seen[name], cut=cut):
            to.append((t.name, source, where))
            return cut(t, source, where, move)

        d._cut = noted
        for i in range(8):
            d[0, i]
    assert seen["plain"] == seen["more"]


def test_an_effect_can_be_limited_to_sources():
    stems = {"vocals": tone(440), "drums": tone(500)}
    data = segments([track("a", stems)], segment=8000, remix=1.0, pitch={"vocals": (3, 3)})
    vocals, drums = references(data, 0)
    assert 12 * np.log2(pitch(vocals) / 440) == pytest.approx(3, abs=0.05)
    assert pitch(drums) == pytest.approx(500, abs=1)


def test_a_share_says_how_many_sources_an_effect_befalls():
    data = segments(
        [track("a", {"vocals": tone(440)})], ["vocals"], 8000, pitch=(3, 3), share={"pitch": 0.25}
    )
    heard = [12 * np.log2(pitch(references(data, i)[0]) / 440) for i in range(60)]
    moved = np.isclose(heard, 3, atol=0.1)
    assert (moved | np.isclose(heard, 0, atol=0.1)).all()
    assert 0.1 < moved.mean() < 0.45


def test_the_sources_of_one_song_move_together():
    stems = {"vocals": tone(440, 2), "drums": tone(440, 2)}
    keys = {"remix": 0.0, "pitch": (-4, 4), "tempo": (0.8, 1.25), "speed": (0.8, 1.25)}
    data = segments([track("a", stems)], segment=8000, **keys)
    heard = set()
    for i in range(10):
        vocals, drums = references(data, i)
        assert np.array_equal(vocals, drums)
        heard.add(round(pitch(vocals)))
    assert len(heard) > 5
    apart = segments([track("a", stems)], segment=8000, **{**keys, "tempo": {"drums": (2, 2)}})
    vocals, drums = references(apart, 0)
    assert np.array_equal(vocals, drums)  # else they would fall apart


def test_tempo_and_pitch_leave_an_example_full():
    level = np.ones((1, 4 * RATE))
    data = segments(
        [track("a", {"vocals": level})], ["vocals"], 9973, tempo=(0.7, 1.4), pitch=(-5, 5)
    )
    for i in range(20):
        example = references(data, i)[0]
        assert example.shape == (1, 9973)
        assert np.abs(example[0, :-100]).min() > 0.3
        assert np.abs(example[0, -100:]).max() > 0.3


# ---- where a segment begins


def sparse(every=10):
    """Sounds in one quarter of a second of each ``every``."""
    signal = noise(20, seed=5)
    for second in range(0, 80):
        if second % every:
            signal[:, second * RATE // 4 : (second + 1) * RATE // 4] = 0
    return signal


def test_a_start_is_drawn_again_until_the_source_sounds():
    song = track("a", {"vocals": sparse(), "drums": noise(20)})
    for remix in (0.0, 1.0):
        share = {}
        for p in (0.0, 0.5, 1.0):
            data = segments([song], segment=1600, remix=remix, sounding={"vocals": p})
            share[p] = np.mean([sounds(references(data, i)[0]) for i in range(150)])
        assert share[0.0] < 0.35 and share[1.0] > 0.7
        assert share[0.0] + 0.1 < share[0.5] < share[1.0] - 0.1


def test_a_coherent_example_stays_at_one_place_when_its_start_is_drawn_again():
    n = 20 * RATE
    ramp = (1 + np.arange(n, dtype=np.float32)[None]) / n
    song = track("a", {"vocals": ramp * (ramp > 0.8), "drums": ramp})
    data = segments([song], segment=100, remix=0.0, sounding={"vocals": 1.0})
    found = []
    for i in range(40):
        vocals, drums = references(data, i)
        there = vocals != 0
        assert np.array_equal(vocals[there], drums[there])
        found.append(there.any())
    assert np.mean(found) > 0.7


def test_a_silent_song_ends_the_search():
    song = track("a", {"vocals": np.zeros((1, RATE)), "drums": noise()})
    assert not references(segments([song], sounding=1.0), 0)[0].any()


def test_a_share_of_the_starts_lies_inside_the_singing():
    voice = np.zeros((1, 20 * RATE), np.float32)
    voice[:, 5 * RATE : 6 * RATE] = 0.5
    song = track("a", {"vocals": voice, "drums": noise(20)})
    for remix in (0.0, 1.0):
        share = {}
        for p in (0.0, 0.5, 1.0):
            data = segments([song], segment=4000, remix=remix, voiced=p)
            share[p] = np.mean([(references(data, i)[0] == 0.5).all() for i in range(100)])
        assert share[0.0] < 0.15 and share[1.0] == 1
        assert 0.3 < share[0.5] < 0.75


def test_singing_that_is_too_short_makes_another_song_be_drawn():
    def sung(name, seconds):
        voice = np.zeros((1, 4 * RATE), np.float32)
        voice[:, RATE : RATE + int(seconds * RATE)] = float(name)
        return track(name, {"vocals": voice, "drums": noise(4)})

    data = segments([sung("1", 0.1), sung("2", 1.0)], voiced=1.0)
    assert {references(data, i)[0].max() for i in range(20)} == {2.0}
    hopeless = segments([sung("1", 0.1)], voiced=1.0)
    assert references(hopeless, 0).shape == (2, 1, 4000)


# ---- tracks


def test_a_pools_sounds_are_never_drawn_as_a_song():
    song = track("song", {"vocals": np.ones((1, 8000)), "drums": np.ones((1, 8000))})
    hit = track("hit", {"drums": 2 * np.ones((1, 8000))}, is_pool=True)
    together = segments([song, hit], remix=0.0)
    assert all((references(together, i) == 1).all() for i in range(20))
    remixed = segments([song, hit], remix=1.0)
    assert {references(remixed, i)[1].max() for i in range(20)} == {1.0, 2.0}
    with pytest.raises(DatasetError, match="no training track is a whole song; set remix to 1"):
        segments([hit], ["drums"], remix=0.9)


def test_tracks_are_drawn_as_often_as_their_weights_say():
    level = {n: np.full((1, 8000), n) for n in (1, 2, 3)}
    tracks = [track(str(n), {"vocals": level[n], "drums": level[n]}) for n in level]
    for remix in (0.0, 1.0):
        data = segments(tracks, remix=remix, weights=lambda _: [3.0, 1.0, 0.0])
        drawn = np.array([references(data, i)[0].max() for i in range(200)])
        assert set(drawn) == {1.0, 2.0}
        assert 0.65 < (drawn == 1).mean() < 0.85


def test_a_data_set_draws_all_its_tracks_alike_unless_it_says_otherwise(monkeypatch):
    data = SeparationData("generated", arguments={"n_train": 3, "seconds": 1.0})
    assert data.dataset.weights("train", "vocals") == [1.0, 1.0, 1.0]


def test_unknown_sources_sum_up_with_the_known_ones_to_the_song_whatever_moves():
    """The rest is taken off the mixture before anything that is not linear."""
    stems = {"vocals": tone(440, 2), "bass": tone(220, 2), "other": tone(880, 2)}
    song = track("a", stems, unknown=["bass", "other"])
    whole = track("b", {"vocals": stems["vocals"], "other": stems["bass"] + stems["other"]})
    keys = {"segment": 8000, "remix": 0.0, "pitch": (-3, 3), "tempo": (0.9, 1.1)}
    some = track("c", stems)
    data = segments([song, some], ["vocals", "bass", "other"], weights=lambda _: [1, 1e-12], **keys)
    plain = segments([whole], ["vocals", "other"], **keys)
    for i in range(5):
        example = data[0, i]
        vocals, bass, other = example["references"].numpy()
        assert example["known"].tolist() == [True, False, False]
        expected = references(plain, i)
        np.testing.assert_allclose(vocals, expected[0], atol=1e-6)
        np.testing.assert_allclose(bass, expected[1], atol=2e-3)  # rounding, through the phases
        assert not other.any()


# ---- recipes


def test_a_source_that_is_misspelt_is_told_with_the_right_one():
    with pytest.raises(RecipeError, match="augment.pitch names 'vocal'.*Did you mean 'vocals'"):
        segments(songs(1), pitch={"vocal": (1, 1)})
    with pytest.raises(RecipeError, match="augment.silent names 'piano'.*There are: vocals, drums"):
        segments(songs(1), silent={"piano": 0.5})
    with pytest.raises(RecipeError, match="augment.voiced is 0.5; it needs vocals"):
        segments(songs(1), ["drums"], voiced=0.5)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"remix": -0.1}, "augment.remix is -0.1; it must be a probability"),
        ({"silent": {"vocals": 2}}, "augment.silent.vocals is 2; it must be a probability"),
        ({"pitch": (3, -3)}, r"augment.pitch is \[3, -3\]; it must be \[lowest, highest\]"),
        ({"gain": (float("nan"), 1)}, r"augment.gain is \[nan, 1\]"),
        ({"gain": (1, 2, 3)}, r"augment.gain is \[1, 2, 3\]; it must be \[lowest, highest\]"),
        ({"gain": {"vocals": (1,)}}, r"augment.gain.vocals is \[1\]; it must be"),
        ({"gain": ("a", "b")}, r"augment.gain is \['a', 'b'\]; it must be"),
        ({"gain": 1}, r"augment.gain is 1; it must be"),
        ({"remix": "all"}, "augment.remix is all; it must be a probability"),
        ({"tempo": (0, 1)}, r"augment.tempo is \[0, 1\]; it must be \[slowest, fastest\]"),
        ({"reverb_s": (0, 1)}, r"augment.reverb_s is \[0, 1\]; it must be \[shortest, longest\]"),
        ({"share": {"gian": 1}}, "augment.share has no effect 'gian'. Did you mean 'gain'"),
        ({"share": {"gain": 7}}, "augment.share.gain is 7; it must be a probability"),
    ],
    ids=str,
)
def test_a_number_out_of_its_range_is_told(keys, said):
    with pytest.raises(RecipeError, match=said):
        Augmentation(**keys)


def test_recipes_and_words_change_single_keys_of_the_augmentation(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text("data: {augment: {remix: 0.5, pitch: {vocals: [-1, 1]}}}\n")
    (tmp_path / "b.yaml").write_text("data: {augment: {tempo: [0.9, 1.1], pitch: {bass: [0, 1]}}}")
    words = ["-c", str(tmp_path / "a.yaml"), "-c", str(tmp_path / "b.yaml")]
    more = ["--data.augment.speed=[0.8,1.25]", "--data.augment.pitch.drums=[-2,2]"]
    assert run(["fit", "-c", "mmdensenet", *words, *more, "--print_config"]) == 0
    augment = yaml.safe_load(capsys.readouterr().out)["data"]["augment"]
    assert augment["remix"] == 0.5 and augment["tempo"] == [0.9, 1.1]
    assert augment["gain"] == [0.25, 1.25] and augment["speed"] == [0.8, 1.25]
    assert augment["pitch"] == {"bass": [0, 1], "drums": [-2, 2]}  # a later mapping is the whole
