"""What the players of a virtual song play: drums, bass, other instruments and a singer.

`write_song` turns a plan (`zoo.data.composer.plan_song`) into parts.  A part plays only in the
bars in which its stem does.  Pitched mallets belong to ``other``, unpitched percussion to
``drums``, as in MUSDB18; nothing that sounds like a choir is called vocals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.data.composer import (
    Bar,
    Note,
    Part,
    Plan,
    Section,
    SongConfig,
    plan_song,
    stream,
    voice,
)

# General MIDI keys of the kit.
KICK, RIM, SNARE, CLAP, CLOSED_HAT, OPEN_HAT = 36, 37, 38, 39, 42, 46
LOW_TOM, MIDDLE_TOM, HIGH_TOM, CRASH, RIDE = 45, 47, 50, 49, 51
TAMBOURINE, CONGA_HIGH, CONGA_LOW, SHAKER = 54, 63, 64, 70

_VELOCITY = {"X": 112, "x": 92, "o": 72, "g": 36}

# One character per step; X x o g are ever softer hits.
_Pattern = dict[int, str]
_GROOVES: dict[str, dict[str, _Pattern]] = {
    "4/4": {
        "rock": {
            KICK: "X.......X.x.....",
            SNARE: "....X.......X...",
            CLOSED_HAT: "x.o.x.o.x.o.x.o.",
        },
        "rock push": {
            KICK: "X..x....X.x....x",
            SNARE: "....X.......X..g",
            CLOSED_HAT: "x.o.x.o.x.o.x...",
            OPEN_HAT: "..............x.",
        },
        "four on the floor": {
            KICK: "X...X...X...X...",
            CLAP: "....X.......X...",
            OPEN_HAT: "..x...x...x...x.",
            CLOSED_HAT: "ogogogogogogogog",
        },
        "breakbeat": {
            KICK: "X.X.......XX....",
            SNARE: "....X..g.g..X..g",
            CLOSED_HAT: "x.x.x.x.x.x.x.x.",
        },
        "half-time": {
            KICK: "X.....X....X..x.",
            SNARE: "........X.......",
            CLOSED_HAT: "x.o.x.o.x.o.xoxo",
        },
        "shuffle": {
            KICK: "X.....x.X.....x.",
            SNARE: "....X.......X..g",
            RIDE: "x..ox..ox..ox..o",
        },
        "bossa": {
            KICK: "X..xX..xX..xX..x",
            RIM: "x..x..x...x..x..",
            CLOSED_HAT: "o.ogo.ogo.ogo.og",
        },
        "brushes": {
            SNARE: "g.g.o.g.g.g.o.g.",
            RIDE: "o...x.oxo...x.ox",
            KICK: "o.......o.......",
        },
    },
    "3/4": {
        "waltz": {KICK: "X...........", SNARE: "....o...o...", CLOSED_HAT: "x.o.x.o.x.o."},
        "rock waltz": {KICK: "X.....x.....", SNARE: "....X.....g.", RIDE: "x.o.x.o.x.o."},
    },
    "6/8": {
        "ballad": {KICK: "X....x", SNARE: "...X..", CLOSED_HAT: "xooxoo"},
        "march": {KICK: "X..x..", SNARE: "..gX.g", RIDE: "x.ox.o"},
    },
    "12/8": {
        "slow blues": {KICK: "X.....X..x..", SNARE: "...X.....X..", CLOSED_HAT: "xooxooxooxoo"},
        "gospel": {KICK: "X....xX.....", SNARE: "...X..g..X.g", RIDE: "x.ox.ox.ox.o"},
    },
}


@dataclass(frozen=True)
class Score:
    """A song on paper: its plan and its parts."""

    seed: int
    index: int
    plan: Plan
    parts: tuple[Part, ...]

    @property
    def sections(self) -> tuple[Section, ...]:
        """The form, with the stems that play in each section."""
        return self.plan.sections


def write_song(seed: int, index: int, config: SongConfig) -> Score:
    """All parts of one song; the same arguments give the same notes."""
    plan = plan_song(seed, index, config)
    drummer = stream(seed, index, "drums")
    groove = _groove(plan, drummer)
    parts = (
        *_vocals(plan, stream(seed, index, "vocals")),
        *_drums(plan, groove, drummer),
        *_bass(plan, groove, stream(seed, index, "bass")),
        *_other(plan, stream(seed, index, "other")),
    )
    return Score(seed, index, plan, parts)


class _Writer:
    """Collects the notes of a part, with the timing and touch of its player."""

    def __init__(self, plan: Plan, rng: np.random.Generator) -> None:
        self._plan = plan
        self._rng = rng
        self._notes: list[Note] = []

    def add(self, onset_s: float, duration_s: float, pitch: int, velocity: float) -> None:
        plan, rng = self._plan, self._rng
        onset_s += rng.normal() * plan.timing_s
        velocity += rng.normal() * plan.velocity_spread
        if 0 <= onset_s < plan.seconds and duration_s > 0:
            clipped = int(np.clip(round(velocity), 1, 127))
            self._notes.append(Note(float(onset_s), float(duration_s), int(pitch), clipped))

    def part(self, name: str, stem: str, instrument: str) -> Part:
        return Part(name, stem, instrument, tuple(sorted(self._notes, key=lambda n: n.onset_s)))


# Drums


@dataclass(frozen=True)
class _Groove:
    """The pattern of the song and its busier sister for the chorus."""

    name: str
    patterns: _Pattern

    def steps(self, key: int) -> list[int]:
        return [at for at, mark in enumerate(self.patterns.get(key, "")) if mark in _VELOCITY]


def _groove(plan: Plan, rng: np.random.Generator) -> _Groove:
    """A pattern of the table with one or two hits of its own."""
    table = _GROOVES[plan.metre.name]
    name = str(rng.choice(list(table)))
    patterns = dict(table[name])
    for key, mark in ((KICK, "x"), (SNARE, "g")):
        if key in patterns and rng.random() < 0.6:
            at = int(rng.integers(1, plan.metre.steps_per_bar))
            line = patterns[key]
            if line[at] == ".":
                patterns[key] = line[:at] + mark + line[at + 1 :]
    return _Groove(name, patterns)


def _drums(plan: Plan, groove: _Groove, rng: np.random.Generator) -> list[Part]:
    writer = _Writer(plan, rng)
    fill_every = int(rng.choice((4, 8)))
    chorus_ride = rng.random() < 0.4
    rolls = groove.name == "half-time" and rng.random() < 0.7
    for bar in plan.bars:
        if "drums" not in bar.stems:
            continue
        if bar.position == 0 and rng.random() < 0.8:
            writer.add(plan.at(bar, 0), 2.0, CRASH, 105)
        fills = bar.is_last or bar.position % fill_every == fill_every - 1
        fill_from = plan.metre.steps_per_bar
        if fills and rng.random() < 0.75:
            fill_from = max(fill_from - int(rng.choice((1, 2))) * plan.metre.steps, 0)
            _fill(writer, plan, bar, fill_from, rng)
        for key, line in groove.patterns.items():
            is_hat = key == CLOSED_HAT
            played = RIDE if is_hat and chorus_ride and bar.kind == "chorus" else key
            for step, mark in enumerate(line[:fill_from]):
                if mark not in _VELOCITY:
                    continue
                hits = int(rng.choice((2, 3))) if rolls and is_hat and rng.random() < 0.2 else 1
                for hit in range(hits):
                    at = plan.at(bar, step + hit / hits)
                    writer.add(at, 0.5, played, _VELOCITY[mark] - 12 * (hit > 0))
    parts = [writer.part("kit", "drums", "kit")]
    if rng.random() < 0.2:
        parts.append(_percussion(plan, rng))
    return parts


def _fill(writer: _Writer, plan: Plan, bar: Bar, start: int, rng: np.random.Generator) -> None:
    """A run down the toms, or a snare roll that grows."""
    n_steps = plan.metre.steps_per_bar - start
    keys = (HIGH_TOM, MIDDLE_TOM, LOW_TOM) if rng.random() < 0.6 else (SNARE,)
    for step in range(n_steps):
        if rng.random() < 0.8:
            key = keys[step * len(keys) // n_steps]
            writer.add(plan.at(bar, start + step), 0.5, key, 75 + 35 * step / n_steps)


def _percussion(plan: Plan, rng: np.random.Generator) -> Part:
    """The second kit of one song in five: shaker, tambourine or congas."""
    writer = _Writer(plan, rng)
    keys = ((SHAKER,), (TAMBOURINE,), (CONGA_HIGH, CONGA_LOW))[int(rng.integers(3))]
    played = rng.random(plan.metre.steps_per_bar) < (0.9 if keys[0] == SHAKER else 0.45)
    choice = rng.integers(len(keys), size=plan.metre.steps_per_bar)
    for bar in plan.bars:
        if "drums" in bar.stems:
            for step in np.flatnonzero(played):
                accent = 22 if step % plan.metre.steps == 0 else 0
                writer.add(plan.at(bar, int(step)), 0.3, keys[choice[step]], 62 + accent)
    return writer.part("percussion", "drums", "percussion")


# Bass

_BASS_LOW, _BASS_HIGH = 28, 55  # E1 to G3


def _bass(plan: Plan, groove: _Groove, rng: np.random.Generator) -> list[Part]:
    writer = _Writer(plan, rng)
    styles = ("eighths", "fifths", "octaves", "walking", "locked", "long")
    style = str(rng.choice(styles))
    length = float(rng.uniform(0.55, 0.95))
    for bar in plan.bars:
        if "bass" in bar.stems:
            for step, n_steps, pitch, velocity in _bass_bar(plan, groove, bar, style, rng):
                onset = plan.at(bar, step)
                writer.add(onset, n_steps * plan.step_s * length, _into_bass(pitch), velocity)
    instrument = "sub bass" if style == "long" else str(rng.choice(("finger bass", "synth bass")))
    parts = [writer.part("bass", "bass", instrument)]
    if rng.random() < 0.15:
        doubled = tuple(
            Note(n.onset_s, n.duration_s, n.pitch + 12, n.velocity) for n in parts[0].notes
        )
        parts.append(Part("bass double", "bass", "synth bass", doubled))
    return parts


def _bass_bar(
    plan: Plan, groove: _Groove, bar: Bar, style: str, rng: np.random.Generator
) -> list[tuple[int, float, int, float]]:
    """Notes of one bar as (step, length in steps, pitch, velocity)."""
    n_steps, beat = plan.metre.steps_per_bar, plan.metre.steps
    root = _BASS_LOW + (bar.chord.root - _BASS_LOW) % 12
    tones = [_BASS_LOW + (tone - _BASS_LOW) % 12 for tone in bar.chord.tones]
    if style == "long":
        return [(0, n_steps * 0.98, root, 100)]
    if style == "walking":
        target = _BASS_LOW + (bar.next_chord.root - _BASS_LOW) % 12
        line = [root, *(tones[int(rng.integers(len(tones)))] for _ in range(plan.metre.beats - 2))]
        line.append(target + int(rng.choice((-1, 1))))
        return [(at * beat, beat, pitch, 92) for at, pitch in enumerate(line[: plan.metre.beats])]
    if style == "locked":
        steps = sorted({0, *groove.steps(KICK), *rng.integers(n_steps, size=2).tolist()})
        ends = [*steps[1:], n_steps]
        return [
            (at, min(end - at, beat), root + 12 * (rng.random() < 0.12), 95)
            for at, end in zip(steps, ends, strict=True)
        ]
    half = max(beat // 2, 1)
    pitches = {
        "eighths": (root,),
        "fifths": (root, root, tones[-1] if len(tones) < 4 else tones[2], root),
        "octaves": (root, root + 12),
    }[style]
    return [
        (at, half, pitches[count % len(pitches)], 98 if at % beat == 0 else 84)
        for count, at in enumerate(range(0, n_steps, half))
        if rng.random() > 0.06
    ]


def _into_bass(pitch: int) -> int:
    while pitch > _BASS_HIGH:
        pitch -= 12
    while pitch < _BASS_LOW:
        pitch += 12
    return pitch


# Other instruments

_INSTRUMENTS = {
    "pad": ("strings", "warm pad", "organ"),
    "strum": ("steel guitar", "clean guitar", "driven guitar"),
    "arpeggio": ("pluck", "electric piano", "clean guitar"),
    "riff": ("driven guitar", "clavinet", "saw lead"),
    "lead": ("saw lead", "flute", "square lead"),
    "stabs": ("brass", "strings", "organ"),
    "piano": ("piano", "electric piano"),
    "mallets": ("vibraphone", "marimba"),
}


def _other(plan: Plan, rng: np.random.Generator) -> list[Part]:
    """One to five players; in each section some of them may rest, never all."""
    n_parts = int(rng.choice((1, 2, 3, 4, 5), p=(0.15, 0.3, 0.3, 0.17, 0.08)))
    roles = [str(role) for role in rng.permutation(list(_INSTRUMENTS))[:n_parts]]
    plays = rng.random((len(plan.sections), n_parts)) < 0.75
    plays[~plays.any(axis=1), 0] = True
    parts = []
    for number, role in enumerate(roles):
        bars = [bar for bar in plan.bars if "other" in bar.stems and plays[bar.section, number]]
        writer = _Writer(plan, rng)
        _ROLES[role](writer, plan, bars, rng)
        instrument = str(rng.choice(_INSTRUMENTS[role]))
        parts.append(writer.part(role, "other", instrument))
    return parts


def _rhythm(plan: Plan, rng: np.random.Generator, density: float) -> list[int]:
    """Steps of a bar at which something happens: likelier on beats, always on the first."""
    steps = np.arange(plan.metre.steps_per_bar)
    weight = np.where(steps % plan.metre.steps == 0, 1.6, 0.7) * density
    chosen = rng.random(len(steps)) < weight
    chosen[0] = True
    return [int(step) for step in np.flatnonzero(chosen)]


def _gaps(plan: Plan, steps: list[int]) -> list[float]:
    """Seconds from each step to the next, or to the end of the bar."""
    return [
        (end - at) * plan.step_s
        for at, end in zip(steps, [*steps[1:], plan.metre.steps_per_bar], strict=True)
    ]


def _play_pad(writer: _Writer, plan: Plan, bars: list[Bar], rng: np.random.Generator) -> None:
    low = int(rng.integers(50, 60))
    voicing: tuple[int, ...] = ()
    for bar in bars:
        voicing = voice(bar.chord, voicing, low)
        for pitch in voicing:
            writer.add(plan.at(bar, 0), plan.metre.steps_per_bar * plan.step_s, pitch, 74)


def _play_strum(writer: _Writer, plan: Plan, bars: list[Bar], rng: np.random.Generator) -> None:
    low = int(rng.integers(45, 55))
    voicing: tuple[int, ...] = ()
    rhythm = _rhythm(plan, rng, 0.4)
    spread = float(rng.uniform(0.008, 0.025))
    gaps = _gaps(plan, rhythm)
    for bar in bars:
        voicing = voice(bar.chord, voicing, low)
        strings = (*voicing, voicing[0] + 12)
        for stroke, (step, gap) in enumerate(zip(rhythm, gaps, strict=True)):
            ordered = strings if stroke % 2 == 0 else strings[::-1]
            accent = 92 if step % plan.metre.steps == 0 else 76
            for string, pitch in enumerate(ordered):
                onset = plan.at(bar, step) + spread * string
                writer.add(onset, gap * 0.95, pitch, accent)


def _play_arpeggio(writer: _Writer, plan: Plan, bars: list[Bar], rng: np.random.Generator) -> None:
    low = int(rng.integers(55, 67))
    voicing: tuple[int, ...] = ()
    stride = int(rng.choice((1, 2))) if plan.metre.steps == 4 else 1
    order = rng.permutation(8)
    length = float(rng.uniform(0.8, 2.0))
    for bar in bars:
        voicing = voice(bar.chord, voicing, low)
        ladder = (*voicing, *(pitch + 12 for pitch in voicing))
        for count, step in enumerate(range(0, plan.metre.steps_per_bar, stride)):
            pitch = ladder[order[count % 8] % len(ladder)]
            accent = 88 if step % plan.metre.steps == 0 else 72
            writer.add(plan.at(bar, step), stride * plan.step_s * length, pitch, accent)


def _play_riff(writer: _Writer, plan: Plan, bars: list[Bar], rng: np.random.Generator) -> None:
    rhythm = _rhythm(plan, rng, 0.45)
    gaps = _gaps(plan, rhythm)
    base = int(rng.integers(45, 57))
    degrees = rng.choice((0, 0, 2, 3, 4, 6, 7), size=len(rhythm))
    for bar in bars:
        for step, gap, degree in zip(rhythm, gaps, degrees, strict=True):
            pitch = plan.pitch(int(degree), base)
            writer.add(plan.at(bar, step), gap * 0.85, pitch, 92)


def _play_lead(writer: _Writer, plan: Plan, bars: list[Bar], rng: np.random.Generator) -> None:
    for onset, duration, pitch, velocity in _melody(plan, bars, rng, low=67, span=12, density=0.3):
        writer.add(onset, duration * 0.95, pitch, velocity)


def _play_stabs(writer: _Writer, plan: Plan, bars: list[Bar], rng: np.random.Generator) -> None:
    rhythm = _rhythm(plan, rng, 0.2)
    low = int(rng.integers(55, 64))
    voicing: tuple[int, ...] = ()
    for bar in bars:
        voicing = voice(bar.chord, voicing, low)
        for step in rhythm:
            for pitch in voicing:
                writer.add(plan.at(bar, step), 1.2 * plan.step_s, pitch, 100)


def _play_piano(writer: _Writer, plan: Plan, bars: list[Bar], rng: np.random.Generator) -> None:
    low = int(rng.integers(57, 64))
    voicing: tuple[int, ...] = ()
    rhythm = _rhythm(plan, rng, 0.35)
    gaps = _gaps(plan, rhythm)
    for bar in bars:
        voicing = voice(bar.chord, voicing, low)
        left = 45 + (bar.chord.root - 45) % 12
        writer.add(plan.at(bar, 0), plan.metre.steps_per_bar * plan.step_s, left, 84)
        for step, gap in zip(rhythm, gaps, strict=True):
            for pitch in voicing:
                writer.add(plan.at(bar, step), gap * 0.95, pitch, 78)


def _play_mallets(writer: _Writer, plan: Plan, bars: list[Bar], rng: np.random.Generator) -> None:
    rhythm = _rhythm(plan, rng, 0.35)
    low = int(rng.integers(67, 76))
    picks = rng.integers(0, 6, size=len(rhythm))
    for bar in bars:
        tones = voice(bar.chord, (), low)
        for step, pick in zip(rhythm, picks, strict=True):
            writer.add(plan.at(bar, step), 1.0, tones[int(pick) % len(tones)], 86)


_ROLES = {
    "pad": _play_pad,
    "strum": _play_strum,
    "arpeggio": _play_arpeggio,
    "riff": _play_riff,
    "lead": _play_lead,
    "stabs": _play_stabs,
    "piano": _play_piano,
    "mallets": _play_mallets,
}


# Melody


def _melody(
    plan: Plan, bars: list[Bar], rng: np.random.Generator, low: int, span: int, density: float
) -> list[tuple[float, float, int, float]]:
    """A tune as (onset, duration, pitch, velocity): a walk on the scale, drawn to chord tones.

    Two rhythms alternate and the last bar of four breathes, so there are phrases.
    """
    rhythms = [_rhythm(plan, rng, density), _rhythm(plan, rng, density * 0.7)]
    tune = []
    degree = int(rng.integers(0, 5))
    highest = max(7 * span // 12, 4)
    for bar in bars:
        rhythm = rhythms[bar.position % 2]
        if bar.position % 4 == 3:
            rhythm = rhythm[: max(len(rhythm) // 2, 1)]
        for step, gap in zip(rhythm, _gaps(plan, rhythm), strict=True):
            degree += int(rng.choice((-3, -2, -1, -1, 0, 1, 1, 2, 3)))
            degree = highest - 1 if degree > highest else 1 if degree < 0 else degree
            if step % plan.metre.steps == 0:
                degree = _nearest_chord_degree(plan, bar, degree, low)
            duration = min(gap, plan.metre.steps * plan.step_s * 2)
            tune.append((plan.at(bar, step), duration, plan.pitch(degree, low), 90.0))
    return tune


def _nearest_chord_degree(plan: Plan, bar: Bar, degree: int, low: int) -> int:
    for offset in (0, -1, 1):
        if plan.pitch(degree + offset, low) % 12 in bar.chord.tones:
            return degree + offset
    return degree


# Vocals


def _vocals(plan: Plan, rng: np.random.Generator) -> list[Part]:
    """A lead singer; in some songs a double or a second voice a third or a sixth apart."""
    bars = [bar for bar in plan.bars if "vocals" in bar.stems]
    is_high = bool(rng.random() < 0.5)
    singer = "high voice" if is_high else "low voice"
    # The tonic, from which the tune rises at most fourteen semitones, lies up to eleven above.
    low = int(rng.integers(51, 58)) if is_high else int(rng.integers(39, 47))
    density = float(rng.uniform(0.3, 0.55))
    writer = _Writer(plan, rng)
    for onset, duration, pitch, velocity in _melody(plan, bars, rng, low, 14, density):
        writer.add(onset, duration * 0.96, pitch, velocity)
    lead = writer.part("lead vocals", "vocals", singer)
    parts = [lead]
    if rng.random() < 0.25:
        late = float(rng.uniform(0.010, 0.030))
        parts.append(_second_voice("double", lead, singer, late, 0, plan))
    if rng.random() < 0.2:
        parts.append(_second_voice("harmony", lead, singer, 0.008, int(rng.choice((2, 5))), plan))
    return parts


def _second_voice(
    name: str, lead: Part, singer: str, late_s: float, degrees: int, plan: Plan
) -> Part:
    notes = tuple(
        Note(
            note.onset_s + late_s,
            note.duration_s,
            _up_the_scale(plan, note.pitch, degrees),
            max(note.velocity - 15, 1),
        )
        for note in lead.notes
        if note.onset_s + late_s < plan.seconds
    )
    return Part(name, "vocals", singer, notes)


def _up_the_scale(plan: Plan, pitch: int, degrees: int) -> int:
    """The pitch ``degrees`` steps of the scale above."""
    degree = int(np.argmin([abs((pitch - plan.key - step + 6) % 12 - 6) for step in plan.scale]))
    rise = plan.scale[(degree + degrees) % 7] - plan.scale[degree]
    return pitch + rise + (12 if rise < 0 else 0)
