"""Virtual songs as notes: tempo, metre, key, harmony and form, a pure function of numbers.

A song is drawn from ``(seed, index, config)``.  Every family of decisions (form, harmony, drums,
bass, other, vocals, timbre, mix, noise) has a random stream of its own, so a change of one family
leaves the others as they were.  What the parts play is written in `zoo.data.arrangement`; how they
sound in `zoo.data.synth`.

Ranges are defaults chosen by ear; none is a measurement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo.errors import DatasetError

STEMS = ("vocals", "drums", "bass", "other")

Family = Literal["form", "harmony", "drums", "bass", "other", "vocals", "timbre", "mix", "noise"]
# The number is part of the song: append new families, never renumber.
_FAMILIES: dict[Family, int] = {
    "form": 0,
    "harmony": 1,
    "drums": 2,
    "bass": 3,
    "other": 4,
    "vocals": 5,
    "timbre": 6,
    "mix": 7,
    "noise": 8,
}

_MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}

# One scale degree (0 = tonic) per bar.
_PROGRESSIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "major": (
        (0, 4, 5, 3),
        (5, 3, 0, 4),
        (0, 5, 3, 4),
        (1, 4, 0, 0),
        (0, 3, 4, 3),
        (3, 4, 2, 5),
        (0, 0, 3, 3, 0, 0, 4, 4),
        (0, 0, 0, 0, 3, 3, 0, 0, 4, 3, 0, 4),  # twelve-bar blues
        (0, 0),
    ),
    "minor": ((0, 5, 2, 6), (0, 6, 5, 6), (0, 3, 0, 4), (0, 5, 3, 4), (0, 0, 5, 6), (0, 2, 5, 3)),
    "dorian": ((0, 3), (0, 3, 0, 6), (0, 6, 3, 0), (0, 2, 6, 3), (0, 0, 0, 0)),
    "mixolydian": ((0, 6, 3, 0), (0, 6), (0, 3, 6, 3), (0, 4, 3, 0), (0, 0, 6, 6)),
}

_KINDS = ("intro", "verse", "chorus", "bridge", "break", "outro")


@dataclass(frozen=True)
class SongConfig:
    """What all songs of a data set share.

    Args:
        seconds: length of each song.
        sample_rate: in Hz, 4000 or more.
        channels: 1 or 2.
        tempo_bpm: range of the tempo, drawn log-uniformly.
        tuning_cents: the whole song is off A4 = 440 Hz by up to this much, either way.
        absent: share of the time in which each stem rests, in the order of `STEMS`.
        alone: share of the sections in which one stem plays by itself.
        loudness_db: range of the mixture's RMS in dB of full scale.
        mixes: pan, filters, drive, compression and reverb; without, parts are only balanced.

    Raises:
        DatasetError: a value with which no song can be made.
    """

    seconds: float = 30.0
    sample_rate: int = 44100
    channels: int = 2
    tempo_bpm: tuple[float, float] = (60.0, 180.0)
    tuning_cents: float = 30.0
    absent: tuple[float, float, float, float] = (0.22, 0.15, 0.15, 0.12)
    alone: float = 0.06
    loudness_db: tuple[float, float] = (-24.0, -13.0)
    mixes: bool = True

    def __post_init__(self) -> None:
        """Refuse impossible values where they are written, not where they would fail."""
        if self.channels not in (1, 2):
            raise DatasetError(f"channels is {self.channels}; generated songs have 1 or 2.")
        if self.sample_rate < 4000:
            raise DatasetError(
                f"sample_rate is {self.sample_rate} Hz; generated songs need 4000 or more."
            )
        if not (math.isfinite(self.seconds) and self.samples >= 1):
            raise DatasetError(f"seconds is {self.seconds}; give the length of a song, above 0.")
        if not 0 < self.tempo_bpm[0] <= self.tempo_bpm[1]:
            raise DatasetError(f"tempo_bpm is {self.tempo_bpm}; give (slowest, fastest), above 0.")
        lowest = 0.75 * self.alone
        if not all(lowest <= rate <= 0.9 for rate in self.absent):
            raise DatasetError(
                f"absent is {self.absent}; with alone={self.alone} each must be within"
                f" {lowest:.3f} and 0.9."
            )

    @property
    def samples(self) -> int:
        """Length of a song in samples."""
        return round(self.seconds * self.sample_rate)


def stream(seed: int, index: int, family: Family) -> np.random.Generator:
    """The random stream of one family of decisions of one song."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, index, _FAMILIES[family]]))
    )


@dataclass(frozen=True)
class Note:
    """One note or hit: seconds from the start of the song, MIDI pitch, velocity 1 to 127.

    The pitch of a drum hit is its General MIDI key.
    """

    onset_s: float
    duration_s: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Part:
    """What one player plays; several parts may share a stem."""

    name: str
    stem: str
    instrument: str
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Section:
    """A stretch of the song with the stems that play in it; ``end_s`` is the next one's start."""

    kind: str
    start_s: float
    end_s: float
    stems: frozenset[str]


@dataclass(frozen=True)
class Metre:
    """``beats`` per bar, ``steps`` per beat: 4 for simple metres, 3 for compound ones."""

    name: str
    beats: int
    steps: int

    @property
    def steps_per_bar(self) -> int:
        """Steps of the pattern grid in a bar."""
        return self.beats * self.steps


_METRES = (Metre("4/4", 4, 4), Metre("3/4", 3, 4), Metre("6/8", 2, 3), Metre("12/8", 4, 3))
_METRE_WEIGHTS = (0.85, 0.05, 0.05, 0.05)


@dataclass(frozen=True)
class Chord:
    """Root and chord tones as pitch classes, root first."""

    root: int
    tones: tuple[int, ...]


@dataclass(frozen=True)
class Bar:
    """One bar: where it starts, its chord, and its place in its section."""

    start_s: float
    chord: Chord
    next_chord: Chord
    section: int
    kind: str
    position: int
    is_last: bool
    stems: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """All that the players agree on before they play."""

    seconds: float
    bpm: float
    metre: Metre
    swing: float
    key: int
    mode: str
    tuning_cents: float
    timing_s: float
    velocity_spread: float
    sections: tuple[Section, ...]
    bars: tuple[Bar, ...]

    @property
    def step_s(self) -> float:
        """Seconds per step of the pattern grid."""
        return 60.0 / self.bpm / self.metre.steps

    @property
    def scale(self) -> tuple[int, ...]:
        """Semitones of the seven degrees above the tonic."""
        return _MODES[self.mode]

    def presence(self, stem: str) -> float:
        """Share of the song in which ``stem`` is meant to play."""
        played = sum(s.end_s - s.start_s for s in self.sections if stem in s.stems)
        return played / sum(s.end_s - s.start_s for s in self.sections)

    def at(self, bar: Bar, step: float) -> float:
        """Seconds of a step, swing included: the second half of each beat comes late."""
        beat, inside = divmod(step / self.metre.steps, 1.0)
        middle = 0.5 + 0.5 * self.swing
        if inside < 0.5:
            warped = inside * 2 * middle
        else:
            warped = middle + (inside - 0.5) * 2 * (1 - middle)
        return bar.start_s + (beat + warped) * 60.0 / self.bpm

    def pitch(self, degree: int, base: int) -> int:
        """MIDI pitch of a scale degree counted from the tonic at or above ``base``."""
        tonic = base + (self.key - base) % 12
        octave, inside = divmod(degree, 7)
        return tonic + 12 * octave + self.scale[inside]


def plan_song(seed: int, index: int, config: SongConfig) -> Plan:
    """Tempo, key, form and chords of one song."""
    form = stream(seed, index, "form")
    harmony = stream(seed, index, "harmony")
    metre = _METRES[form.choice(len(_METRES), p=_METRE_WEIGHTS)]
    low, high = config.tempo_bpm
    bpm = float(low * (high / low) ** form.random())
    swing = float(form.uniform(0, 0.33)) if metre.steps == 4 and form.random() < 0.4 else 0.0
    is_machine = form.random() < 0.25
    timing_s = 0.0 if is_machine else float(form.uniform(0.003, 0.012))
    velocity_spread = float(form.uniform(4, 12))
    tuning = float(form.uniform(-config.tuning_cents, config.tuning_cents))
    start_s = float(form.random() * 60 / bpm)
    key = int(harmony.integers(12))
    mode = str(harmony.choice(list(_MODES)))
    bar_s = metre.beats * 60 / bpm
    lengths, kinds = _section_lengths(form, config.seconds - start_s, bar_s)
    stems = _presence(form, len(lengths), config)
    sections = _sections(lengths, kinds, stems, start_s, bar_s, config.seconds)
    bars = _bars(harmony, lengths, kinds, stems, start_s, bar_s, key, mode)
    return Plan(
        seconds=config.seconds,
        bpm=bpm,
        metre=metre,
        swing=swing,
        key=key,
        mode=mode,
        tuning_cents=tuning,
        timing_s=timing_s,
        velocity_spread=velocity_spread,
        sections=sections,
        bars=bars,
    )


def _section_lengths(
    rng: np.random.Generator, seconds: float, bar_s: float
) -> tuple[list[int], list[str]]:
    """Bars and kind of each section, enough to fill the song.

    Short songs have short sections: otherwise most would consist of one, with no entry of a stem.
    """
    choices = (4, 8) if seconds >= 40 else (2, 4) if seconds >= 12 else (1, 2)
    n_kinds = int(rng.integers(3, 7))
    lengths: list[int] = []
    kinds: list[str] = []
    while sum(lengths) * bar_s < seconds or not lengths:
        lengths.append(int(rng.choice(choices)))
        if not kinds:
            kinds.append("intro" if rng.random() < 0.6 else "verse")
        else:
            others = [kind for kind in _KINDS[1:n_kinds] if kind != kinds[-1]]
            kinds.append(str(rng.choice(others)))
    return lengths, kinds


def _presence(
    rng: np.random.Generator, n_sections: int, config: SongConfig
) -> list[frozenset[str]]:
    """Stems of each section, so that each rests as often as the configuration asks.

    A section is played by one stem alone with probability ``alone``; else stem s rests with q_s,
    where absent_s = 0.75 alone + (1 - alone) q_s.
    """
    rests = [(a - 0.75 * config.alone) / (1 - config.alone) for a in config.absent]
    chosen: list[frozenset[str]] = []
    while len(chosen) < n_sections:
        if rng.random() < config.alone:
            chosen.append(frozenset({str(rng.choice(STEMS))}))
            continue
        draws = rng.random(len(STEMS))
        stems = frozenset(
            s for s, draw, rest in zip(STEMS, draws, rests, strict=True) if draw >= rest
        )
        if stems:
            chosen.append(stems)
    if n_sections > 1:
        # A stem that never plays in a whole song leaves nothing to score.
        for stem in STEMS:
            if not any(stem in stems for stems in chosen):
                at = int(rng.integers(n_sections))
                chosen[at] = chosen[at] | {stem}
    return chosen


def _sections(
    lengths: list[int],
    kinds: list[str],
    stems: list[frozenset[str]],
    start_s: float,
    bar_s: float,
    seconds: float,
) -> tuple[Section, ...]:
    edges = [start_s + bar_s * n for n in np.cumsum([0, *lengths])]
    return tuple(
        Section(kind, float(begin), float(min(end, seconds)), playing)
        for kind, playing, begin, end in zip(kinds, stems, edges[:-1], edges[1:], strict=True)
    )


def _bars(
    rng: np.random.Generator,
    lengths: list[int],
    kinds: list[str],
    stems: list[frozenset[str]],
    start_s: float,
    bar_s: float,
    key: int,
    mode: str,
) -> tuple[Bar, ...]:
    """One bar after the other; sections of one kind share their chords."""
    by_kind = {kind: _progression(rng, key, mode) for kind in _KINDS}
    cells = [
        (section, position, by_kind[kinds[section]][position % len(by_kind[kinds[section]])])
        for section, length in enumerate(lengths)
        for position in range(length)
    ]
    bars = []
    for number, (section, position, chord) in enumerate(cells):
        following = cells[number + 1][2] if number + 1 < len(cells) else chord
        bars.append(
            Bar(
                start_s=start_s + number * bar_s,
                chord=chord,
                next_chord=following,
                section=section,
                kind=kinds[section],
                position=position,
                is_last=position == lengths[section] - 1,
                stems=stems[section],
            )
        )
    return tuple(bars)


def _progression(rng: np.random.Generator, key: int, mode: str) -> tuple[Chord, ...]:
    """Chords of two to twelve bars; sevenths and suspensions colour about 30 % of them."""
    table = _PROGRESSIONS[mode]
    degrees = table[int(rng.integers(len(table)))]
    scale = _MODES[mode]
    chords = []
    for degree in degrees:
        colour = rng.random()
        steps = (0, 2, 4, 6) if colour < 0.2 else (0, 3, 4) if colour < 0.3 else (0, 2, 4)
        tones = tuple((key + scale[(degree + step) % 7]) % 12 for step in steps)
        chords.append(Chord(tones[0], tones))
    return tuple(chords)


def voice(chord: Chord, previous: tuple[int, ...], low: int) -> tuple[int, ...]:
    """The chord's inversion that moves least from the previous voicing.

    Returns:
        Ascending MIDI pitches within about an octave and a half above ``low``.
    """
    ordered = sorted(low + (tone - low) % 12 for tone in set(chord.tones))
    best = tuple(ordered)
    best_move = math.inf
    for turn in range(len(ordered)):
        candidate = tuple(sorted(ordered[turn:] + [pitch + 12 for pitch in ordered[:turn]]))
        move = (
            sum(min(abs(pitch - old) for old in previous) for pitch in candidate) if previous else 0
        )
        if move < best_move:
            best, best_move = candidate, move
    return best
