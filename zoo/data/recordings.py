"""Recordings that play in generated songs: one-shots and loops of drums, bass notes, dry voices.

What a file is, its name tells, or the folder that it lies in: ``bd_808.wav``, ``hats/03.flac``,
``drum_snare_soft.ogg``, ``loop_amen.ogg``, ``bass_hit_c.ogg``.  Files of which the name tells
nothing are left alone.  A kit is put together anew for each song.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from zoo.audio import read, resample
from zoo.data.arrangement import (
    CLAP,
    CLOSED_HAT,
    CONGA_HIGH,
    CONGA_LOW,
    CRASH,
    HIGH_TOM,
    KICK,
    LOW_TOM,
    MIDDLE_TOM,
    OPEN_HAT,
    RIDE,
    RIM,
    SHAKER,
    SNARE,
    TAMBOURINE,
)
from zoo.data.composer import Note, Plan
from zoo.data.drumkit import Kit
from zoo.data.files import audio_files
from zoo.errors import AudioFileError, DatasetError

Signal = NDArray[np.float32]
Kind = int | str  # a General MIDI key, "loop" or "bass"

_CYMBAL = {"cymbal", "cym"}
_HAT = {"hat", "hats", "hihat", "hihats", "hh", "ch", "oh", "chh", "ohh", "closedhat"}
_HIGH, _LOW = {"hi", "high", "small"}, {"lo", "low", "floor", "large"}
# The first row of which one word of each set is in a name tells what the file is.
_NAMES: tuple[tuple[Kind, tuple[set[str], ...]], ...] = (
    ("loop", ({"loop", "loops", "beat", "beats", "break", "breaks", "breakbeat", "groove"},)),
    (OPEN_HAT, (_HAT | _CYMBAL, {"open"})),
    (OPEN_HAT, ({"oh", "ohh", "openhat"},)),
    (CLOSED_HAT, (_CYMBAL, {"closed", "close", "pedal"})),
    (CLOSED_HAT, (_HAT,)),
    (KICK, ({"kick", "kicks", "bd", "kik", "bassdrum"},)),
    (KICK, ({"bass"}, {"drum", "drums"})),
    (SNARE, ({"snare", "snares", "sn", "sd", "snr"},)),
    (CLAP, ({"clap", "claps", "handclap", "cp"},)),
    (RIM, ({"rim", "rimshot", "sidestick", "xstick", "rs"},)),
    (RIDE, ({"ride", "rides"},)),
    (CRASH, ({"crash", "crashes", "splash", "china"},)),
    (CRASH, (_CYMBAL,)),
    (HIGH_TOM, ({"tom", "toms"}, _HIGH)),
    (LOW_TOM, ({"tom", "toms"}, _LOW)),
    (MIDDLE_TOM, ({"tom", "toms"},)),
    (TAMBOURINE, ({"tambourine", "tamb"},)),
    (SHAKER, ({"shaker", "shakers", "maracas", "cabasa"},)),
    (CONGA_LOW, ({"conga", "congas", "bongo", "bongos"}, _LOW)),
    (CONGA_HIGH, ({"conga", "congas", "bongo", "bongos"},)),
    ("bass", ({"bass", "basses", "sub"},)),
)
# Words of loops that are no drums.
_TUNED = set("other bass guitar piano keys synth lead pad chord chords melody vocals voice".split())
_SOFT, _HARD = {"soft", "quiet", "ghost", "pp"}, {"hard", "loud", "ff"}
_SOFT_BELOW = 80  # velocity
# What is struck in place of a piece that the folder lacks; what has no stand-in is synthesised.
_STAND_INS = {
    OPEN_HAT: (CLOSED_HAT,),
    CLOSED_HAT: (OPEN_HAT,),
    CRASH: (RIDE, OPEN_HAT),
    RIDE: (CLOSED_HAT, CRASH),
    CLAP: (SNARE,),
    RIM: (SNARE,),
    HIGH_TOM: (MIDDLE_TOM, LOW_TOM),
    MIDDLE_TOM: (LOW_TOM, HIGH_TOM),
    LOW_TOM: (MIDDLE_TOM, HIGH_TOM),
    SHAKER: (CLOSED_HAT,),
    TAMBOURINE: (SHAKER, CLOSED_HAT),
    CONGA_HIGH: (HIGH_TOM, MIDDLE_TOM),
    CONGA_LOW: (LOW_TOM, MIDDLE_TOM),
}
_FADE_S = 0.01
_LOOP_SHARE = 1 / 3  # of the songs that a loop fits
_MOST_STRETCH = 1.2  # a loop or a phrase is not played faster or slower than by this


@dataclass(frozen=True)
class Sample:
    """A drum, with a softer hit of the same where there is one."""

    key: int
    path: Path
    soft: Path | None = None


@dataclass(frozen=True)
class OneShots:
    """The recordings of a folder by what they are.  Equal digests are equal bytes."""

    root: Path
    digest: str
    samples: tuple[Sample, ...]
    loops: tuple[Path, ...]
    basses: tuple[tuple[Path, float], ...]  # with the MIDI pitch that they have

    def fitting_loops(self, plan: Plan) -> list[tuple[Path, int]]:
        """The loops that take a whole number of bars at the song's tempo, with that number."""
        if plan.metre.name != "4/4":
            return []
        bar_s = plan.metre.beats * 60 / plan.bpm
        fitting = []
        for path in self.loops:
            seconds = _seconds(path)
            n_bars = min((1, 2, 4, 8), key=lambda n: abs(np.log(seconds / (n * bar_s))))
            if abs(np.log(seconds / (n_bars * bar_s))) < np.log(_MOST_STRETCH):
                fitting.append((path, n_bars))
        return fitting

    def loop_for(self, plan: Plan, rng: np.random.Generator) -> tuple[Path, int] | None:
        """The loop that plays instead of a kit, in some of the songs that one fits."""
        wants, fitting = rng.random() < _LOOP_SHARE, self.fitting_loops(plan)
        return fitting[int(rng.integers(len(fitting)))] if wants and fitting else None


def open_one_shots(root: str | Path) -> OneShots:
    """The recordings in a folder and its folders.

    Raises:
        DatasetError: it is no folder, or none of its files is named like a drum or a bass.
    """
    folder = Path(root).expanduser()
    drums: dict[tuple[int, str], dict[str, Path]] = {}
    loops: list[Path] = []
    basses: list[tuple[Path, float]] = []
    for path in _audio_files(folder, "one_shots"):
        inner = path.relative_to(folder)
        kind = what_is(inner)
        if kind == "loop":
            loops.append(path)
        elif kind == "bass":
            pitch = _pitch(path)
            if pitch is not None:  # a phrase or a slide is no note
                basses.append((path, pitch))
        elif isinstance(kind, int):
            words = re.split(r"[\W_]+", inner.with_suffix("").as_posix().lower())
            name = " ".join(word for word in words if word not in _SOFT | _HARD)
            layer = "soft" if _SOFT.intersection(words) else "hard"
            drums.setdefault((kind, name), {}).setdefault(layer, path)
    samples = tuple(
        Sample(key, layers.get("hard") or layers["soft"], layers.get("soft"))
        for (key, _), layers in drums.items()
    )
    if not samples and not loops and not basses:
        raise DatasetError(
            f"one_shots: no file in {folder} is named like a drum, a loop or a bass; name them "
            "so, such as kick_1.wav, snare_soft.wav, hat_open.wav, loop_120.wav, bass_c.wav."
        )
    used = [path for s in samples for path in (s.path, s.soft) if path]
    digest = _digest(folder, [*used, *loops, *(path for path, _ in basses)])
    return OneShots(folder, digest, samples, tuple(loops), tuple(basses))


def what_is(path: Path) -> Kind | None:
    """What a file is by its name, else by the folder that it lies in; None: nothing known."""
    names = set(_words(path.stem)), set(_words(path.parent.name))
    for words in names:
        for kind, needed in _NAMES:
            if all(words & options for options in needed):
                return None if kind == "loop" and _TUNED & (names[0] | names[1]) else kind
    return None


class SampledKit(Kit):
    """A drum kit whose pieces are one-shots, each drawn for itself.

    Every hit is one of four variants of its recording: up to 10 cent and 2 dB apart, brighter or
    darker.
    """

    def __init__(self, rate: int, one_shots: OneShots, rng: np.random.Generator) -> None:
        super().__init__(rate, rng)
        by_key: dict[int, list[Sample]] = {}
        for sample in one_shots.samples:
            by_key.setdefault(sample.key, []).append(sample)
        drawn = {key: found[int(rng.integers(len(found)))] for key, found in by_key.items()}
        stand_ins = {
            key: next((drawn[other] for other in others if other in drawn), None)
            for key, others in _STAND_INS.items()
        }
        self._samples = {key: s for key, s in stand_ins.items() if s is not None} | drawn
        self._played: dict[tuple[int, int, bool], Signal] = {}

    def hit(self, key: int, variant: int = 0, velocity: int = 127) -> Signal:  # noqa: D102
        sample = self._samples.get(key)
        if sample is None:
            return super().hit(key, variant, velocity)
        is_soft = sample.soft is not None and velocity < _SOFT_BELOW
        known = (key, variant, is_soft)
        if known not in self._played:
            path = sample.soft if is_soft and sample.soft else sample.path
            seed = np.random.SeedSequence([self._seed, key, variant])
            rng = np.random.Generator(np.random.PCG64(seed))
            self._played[known] = _variant(_load(path, self.rate), self.rate, rng)
        return self._played[known]


def play_loop(
    path: Path, n_bars: int, plan: Plan, rate: int, samples: int, channels: int
) -> Signal:
    """A loop of so many bars in all bars that have drums, ``(channels, samples)``.

    It is played as much faster or slower as it takes, pitch and all, as a sampler does.
    """
    bar_s = plan.metre.beats * 60 / plan.bpm
    signal, _ = _read(path)
    whole = resample(signal, round(signal.shape[1] / (n_bars * bar_s)), rate)
    if channels == 1 or len(whole) == 1:
        whole = np.repeat(whole.mean(0, keepdims=True), channels, axis=0)
    out = np.zeros((channels, samples), np.float32)
    fade = int(_FADE_S / 2 * rate)
    for bar in plan.bars:
        if "drums" not in bar.stems:
            continue
        start = int(bar.start_s * rate)
        at = int(bar.position % n_bars * bar_s * rate)
        piece = whole[:2, at : at + int(bar_s * rate)][:, : max(samples - start, 0)].copy()
        _fade(piece, fade)
        out[:, start : start + piece.shape[1]] += piece
    return out


def play_bass(
    notes: tuple[Note, ...],
    path: Path,
    pitch: float,
    rate: int,
    samples: int,
    tuning_cents: float,
) -> Signal:
    """Bass notes as ``(samples,)``, all from one recorded note; the line stays in one octave."""
    out = np.zeros(samples, np.float32)
    if not notes:
        return out
    octave = 12 * round((float(np.median([note.pitch for note in notes])) - pitch) / 12)
    tones: dict[int, Signal] = {}
    for note in notes:
        if note.pitch not in tones:
            semitones = note.pitch - octave - pitch + tuning_cents / 100
            tones[note.pitch] = _faster(_load(path, rate), rate, 2 ** (semitones / 12))
        onset = int(note.onset_s * rate)
        length = min(int((note.duration_s + _FADE_S) * rate), samples - onset)
        tone = tones[note.pitch][: max(length, 0)].copy()
        _fade(tone[None], int(_FADE_S * rate))
        out[onset : onset + len(tone)] += tone * np.float32((note.velocity / 100) ** 1.5)
    return out


# Voices


@dataclass(frozen=True)
class Voices:
    """Dry singing of a folder.  Equal digests are equal bytes."""

    root: Path
    digest: str
    files: tuple[Path, ...]


def open_voices(root: str | Path) -> Voices:
    """All audio files in a folder and its folders, each one singer.

    Raises:
        DatasetError: it is no folder, or has no audio file.
    """
    folder = Path(root).expanduser()
    files = _audio_files(folder, "vocals")
    return Voices(folder, _digest(folder, files), tuple(files))


def sing_phrases(
    notes: tuple[Note, ...], path: Path, rate: int, samples: int, rng: np.random.Generator
) -> Signal:
    """Phrases of a recording, cut at its silences, where the notes are; ``(samples,)``.

    When it has no more, the next file of its folder goes on.  Phrases follow neither the tune nor
    the key: sources that do not belong together teach a network as well.  All are up to a tenth
    faster or slower, pitch and all.
    """
    speed = float(rng.uniform(1 / 1.1, 1.1))
    phrases = _phrases_from(path, rate)
    out = np.zeros(samples, np.float32)
    for start_s, stop_s in _spans(notes):
        at, stop = int(start_s * rate), min(int(stop_s * rate), samples)
        while at < stop and (phrase := next(phrases, None)) is not None:
            sung = _faster(phrase, rate, speed)[: stop - at]
            _fade(sung[None], int(0.03 * rate))
            _fade(sung[None, ::-1], int(0.005 * rate))
            out[at : at + len(sung)] += sung
            at += len(sung) + int(rng.uniform(0.1, 0.6) * rate)
    return out


def _phrases_from(path: Path, rate: int) -> Iterator[Signal]:
    """The phrases of a file, then of those after it in its folder, round and round."""
    files = audio_files(path.parent)
    at = files.index(path)
    files = files[at:] + files[:at]
    silent = 0
    for file in itertools.cycle(files):
        phrases = _phrases(file, rate)
        yield from phrases
        silent = 0 if phrases else silent + 1
        if silent == len(files):
            return


def _spans(notes: tuple[Note, ...], gap_s: float = 1.5) -> list[tuple[float, float]]:
    """Stretches of a part, (start, stop) in seconds, in which it rests for at most ``gap_s``."""
    spans: list[tuple[float, float]] = []
    for note in notes:
        end = note.onset_s + note.duration_s
        if spans and note.onset_s - spans[-1][1] <= gap_s:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((note.onset_s, end))
    return spans


@lru_cache(maxsize=16)
def _phrases(path: Path, rate: int) -> tuple[Signal, ...]:
    """What is sung between two silences of a quarter of a second, 0.3 s or longer."""
    signal = _load(path, rate)
    hop = max(int(0.02 * rate), 1)
    blocks = signal[: len(signal) // hop * hop].reshape(-1, hop)
    levels = np.sqrt(np.mean(blocks * blocks, axis=1))
    loud = float(np.quantile(levels, 0.95)) if len(levels) else 0.0
    sounding = np.flatnonzero(levels > 0.03 * loud)
    if not len(sounding):
        return ()
    cuts = np.flatnonzero(np.diff(sounding) * hop > 0.25 * rate) + 1
    runs = [run for run in np.split(sounding, cuts) if levels[run].max() > 0.2 * loud]  # not breath
    spans = [(int(run[0]) * hop, int(run[-1] + 2) * hop) for run in runs]
    return tuple(signal[a:b] for a, b in spans if b - a >= 0.3 * rate)


# Files


def _audio_files(folder: Path, argument: str) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f"{argument} is {folder}, which is no folder; give one of recordings.")
    files = audio_files(folder, "**/*")
    if not files:
        raise DatasetError(f"{argument}: {folder} holds no audio file; give a folder that does.")
    return files


def _words(name: str) -> list[str]:
    """Its words in small letters; numbers, and what is not a letter, divide them."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def _digest(folder: Path, files: Iterable[Path]) -> str:
    sha = hashlib.sha256()
    for path in sorted(files):
        sha.update(os.fsencode(path.relative_to(folder).as_posix()))
        with path.open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()


@lru_cache(maxsize=256)
def _seconds(path: Path) -> float:
    signal, rate = _read(path)
    return float(signal.shape[1] / rate)


def _read(path: Path) -> tuple[Signal, int]:
    try:
        return read(path)
    except AudioFileError as error:
        raise DatasetError(f"a recording for generated songs: {error}") from error


@lru_cache(maxsize=256)
def _load(path: Path, rate: int) -> Signal:
    """A recording as ``(n,)`` at a rate, without the silence before it; peak 1."""
    signal, own = _read(path)
    mono = resample(signal.mean(axis=0, keepdims=True), own, rate)[0]
    loud = np.flatnonzero(np.abs(mono) > 0.01 * np.abs(mono).max(initial=0))
    if not len(loud):
        return np.zeros(1, np.float32)
    mono = mono[max(int(loud[0]) - int(0.001 * rate), 0) : int(loud[-1]) + 1]
    return np.asarray(mono / np.abs(mono).max(), np.float32)


def _faster(signal: Signal, rate: int, factor: float) -> Signal:
    """``(n,)`` played faster by a factor, and higher."""
    faster: Signal = resample(signal[None], round(rate * factor), rate)[0].copy()
    return faster


def _variant(hit: Signal, rate: int, rng: np.random.Generator) -> Signal:
    """A hit that is up to 10 cent and 2 dB off, brighter or darker, with its end faded."""
    wave = _faster(hit, rate, 2 ** (rng.uniform(-10, 10) / 1200))
    keep = float(np.exp(-2 * np.pi * min(3000 / rate, 0.4)))
    dull = np.asarray(lfilter([1 - keep], [1, -keep], wave), np.float32)
    wave = wave + np.float32(rng.uniform(-0.3, 0.3)) * (wave - dull)
    wave *= np.float32(10 ** (rng.uniform(-2, 0) / 20) / max(float(np.abs(wave).max()), 1e-6))
    _fade(wave[None], max(len(wave) // 8, 2))
    return wave


def _fade(signal: Signal, n: int) -> None:
    """Fades the end of ``(C, T)``."""
    n = min(n, signal.shape[1])
    if n:
        signal[:, -n:] *= np.linspace(1, 0, n, dtype=np.float32)


@lru_cache(maxsize=256)
def _pitch(path: Path) -> float | None:
    """MIDI pitch of a recorded note; None for what has no pitch, or more than one.

    The first strong peak of the autocorrelation, in frames of 0.1 s at 8 kHz.
    """
    rate = 8000
    wave = _load(path, rate)
    size = 1600
    frames = [wave[at : at + size] for at in range(0, len(wave) - size, size // 4)]
    powers = np.array([float(np.sum(frame * frame)) for frame in frames])
    if not len(frames):
        return None
    low, high = rate // 400, rate // 28
    found, weights = [], []
    for frame, power in zip(frames, powers, strict=True):
        if power < 0.01 * powers.max():
            continue
        spectrum = np.fft.rfft(frame * np.hanning(size), 2 * size)
        window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(size), 2 * size)) ** 2)[:high]
        curve = np.fft.irfft(np.abs(spectrum) ** 2)[:high] / window
        curve = curve[low:] / curve[0]
        peaks = np.flatnonzero((curve[1:-1] >= curve[:-2]) & (curve[1:-1] > curve[2:])) + 1
        if not len(peaks) or curve[peaks].max() < 0.6:
            continue
        at = int(peaks[np.argmax(curve[peaks] > 0.9 * curve[peaks].max())])
        left, middle, right = curve[at - 1 : at + 2]
        lag = low + at + 0.5 * (left - right) / (left - 2 * middle + right)
        found.append(69 + 12 * np.log2(rate / lag / 440))
        weights.append(power)
    if sum(weights) < 0.5 * powers.sum():
        return None
    order = np.argsort(found)
    total = np.cumsum(np.asarray(weights)[order])
    pitch = float(np.asarray(found)[order][np.searchsorted(total, total[-1] / 2)])
    agree = sum(w for f, w in zip(found, weights, strict=True) if abs(f - pitch) < 0.6)
    return pitch if agree > 0.7 * sum(weights) else None
