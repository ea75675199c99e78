"""The parts of a virtual song as sound, with numpy alone: pitched instruments from wavetables.

A note is one cycle of a waveform read at its pitch, bright at first and darker as it rings.  Each
song has its own instruments: harmonics, body resonances and envelopes are drawn around those of
the table.  Harmonics stop below half the sample rate, so nothing folds back.

Drums are in `zoo.data.drumkit`, the voice in `zoo.data.singer`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data.composer import Note, Part

Signal = NDArray[np.float32]

_BITS = 14
TABLE = 1 << _BITS  # samples of a cycle; the nearest is taken: error below -60 dB
_TURN = 1 << 32  # phases are 32-bit fractions of a cycle
_SHIFT = 32 - _BITS
_MASK = TABLE - 1
_FADE_S = 0.006  # shortest release: an end cut faster clicks


@dataclass(frozen=True)
class Timbre:
    """How an instrument sounds.

    Args:
        bright, dark: the h-th harmonic has amplitude ``h ** -slope`` at the attack and later.
        even: amplitude of even harmonics; 1 is a saw, 0 a square.
        attack_s, release_s: of the amplitude.
        decay_s: time constant towards ``sustain``; the latter is a share of the peak.
        glow_s: time constant from bright to dark.
        detune_cents: half the distance of two oscillators; 0 is one oscillator.
        vibrato_cents: depth of a vibrato that comes in late.
        glides: notes without a gap slide from the one before.
        highest: harmonics above this number are left out.
    """

    bright: float
    dark: float
    even: float = 1.0
    attack_s: float = 0.004
    decay_s: float = 1.0
    sustain: float = 0.0
    release_s: float = 0.08
    glow_s: float = 0.2
    detune_cents: float = 0.0
    vibrato_cents: float = 0.0
    glides: bool = False
    highest: int = 80


_TIMBRES = {
    "finger bass": Timbre(1.5, 2.6, attack_s=0.006, decay_s=1.2, sustain=0.25, highest=16),
    "synth bass": Timbre(1.2, 2.2, attack_s=0.003, decay_s=0.6, sustain=0.5, highest=24),
    "sub bass": Timbre(2.6, 3.2, attack_s=0.012, decay_s=3.0, sustain=0.6, glides=True, highest=8),
    "strings": Timbre(
        1.2, 1.4, attack_s=0.12, sustain=0.9, release_s=0.25, detune_cents=8, vibrato_cents=12
    ),
    "warm pad": Timbre(1.7, 2.0, attack_s=0.2, sustain=0.9, release_s=0.4, detune_cents=9),
    "organ": Timbre(1.6, 1.6, even=0.7, attack_s=0.012, sustain=1.0, release_s=0.05, highest=10),
    "steel guitar": Timbre(1.0, 2.2, decay_s=0.9, release_s=0.12, glow_s=0.18),
    "clean guitar": Timbre(1.3, 2.4, even=0.8, decay_s=1.1, release_s=0.1, glow_s=0.25),
    "driven guitar": Timbre(0.9, 1.2, decay_s=2.5, sustain=0.5, release_s=0.06, highest=50),
    "pluck": Timbre(1.0, 2.4, decay_s=0.35, release_s=0.1, glow_s=0.08),
    "electric piano": Timbre(1.8, 3.2, decay_s=1.4, release_s=0.12, glow_s=0.12, highest=20),
    "clavinet": Timbre(0.8, 1.6, even=0.5, decay_s=0.5, release_s=0.04, glow_s=0.1),
    "piano": Timbre(1.3, 2.3, decay_s=1.3, release_s=0.12, glow_s=0.3, detune_cents=1),
    "saw lead": Timbre(1.0, 1.2, attack_s=0.01, sustain=0.8, detune_cents=6, vibrato_cents=14),
    "square lead": Timbre(1.0, 1.2, even=0.05, attack_s=0.01, sustain=0.8, vibrato_cents=16),
    "flute": Timbre(2.4, 2.8, attack_s=0.05, sustain=0.9, vibrato_cents=20, highest=12),
    "brass": Timbre(0.9, 1.2, attack_s=0.035, decay_s=0.4, sustain=0.7, detune_cents=4),
    "vibraphone": Timbre(3.0, 4.0, even=0.3, decay_s=1.2, release_s=0.3, highest=12),
    "marimba": Timbre(2.2, 3.6, even=0.2, decay_s=0.25, release_s=0.1, glow_s=0.04, highest=12),
}


class Instrument:
    """One instrument of one song.

    Args:
        name: a key of the table of timbres.
        rate: samples per second.
        tuning_cents: of the song.
        rng: draws how this instrument differs from the table's.
    """

    def __init__(self, name: str, rate: int, tuning_cents: float, rng: np.random.Generator) -> None:
        drawn = _TIMBRES[name]
        self.rate = rate
        self.tuning_cents = tuning_cents
        self.timbre = replace(
            drawn,
            bright=drawn.bright * rng.uniform(0.9, 1.1),
            dark=drawn.dark * rng.uniform(0.9, 1.1),
            attack_s=drawn.attack_s * rng.uniform(0.7, 1.4),
            decay_s=drawn.decay_s * rng.uniform(0.7, 1.4),
            glow_s=drawn.glow_s * rng.uniform(0.7, 1.5),
        )
        self._resonances = [
            (300.0 * 10 ** rng.uniform(0, 1.1), rng.uniform(0.3, 1.2)) for _ in range(3)
        ]
        self._phases = rng.uniform(0, 2 * np.pi, 128)
        self._vibrato_hz = float(rng.uniform(4.8, 6.2))
        self._starts = rng.integers(0, _TURN, 64)
        self._tables: dict[int, tuple[Signal, Signal]] = {}

    def play(self, notes: tuple[Note, ...], samples: int) -> Signal:
        """The notes as ``(samples,)``; what rings beyond the end is cut with a fade."""
        out = np.zeros(samples, np.float32)
        if not notes:
            return out
        longest = max(note.duration_s for note in notes) + self.timbre.release_s
        time = np.arange(int(longest * self.rate) + 2, dtype=np.int64)
        body, glow = self._envelopes(len(time))
        previous: Note | None = None
        for number, note in enumerate(notes):
            onset = int(note.onset_s * self.rate)
            held = int(note.duration_s * self.rate)
            length = min(held + self._release(), samples - onset, len(time))
            if length > 1:
                tone = self._tone(note, previous, number, time[:length], glow[:length])
                tone *= body[:length]
                self._let_go(tone, min(held, length))
                tone *= (note.velocity / 100) ** 1.5
                out[onset : onset + length] += tone
            previous = note
        return out

    def _tone(
        self,
        note: Note,
        previous: Note | None,
        number: int,
        time: NDArray[np.int64],
        glow: Signal,
    ) -> Signal:
        dark, extra = self._table(note.pitch)
        detune = self.timbre.detune_cents
        cents = (-detune, detune) if detune else (0.0,)
        hz = 440.0 * 2 ** ((note.pitch - 69 + self.tuning_cents / 100) / 12)
        bend = self._bend(note, previous, len(time))
        tone = np.zeros(len(time), np.float32)
        for voice, offset in enumerate(cents):
            step = round(hz * 2 ** (offset / 1200) / self.rate * _TURN)
            phase = time * step
            if bend is not None:
                phase += (bend * step).astype(np.int64)
            phase += self._starts[(2 * number + voice) % len(self._starts)]
            phase >>= _SHIFT
            phase &= _MASK
            lit = extra.take(phase, mode="clip")
            lit *= glow
            lit *= note.velocity / 127
            tone += lit
            tone += dark.take(phase, mode="clip")
        return tone

    def _bend(self, note: Note, previous: Note | None, n: int) -> NDArray[np.float64] | None:
        """Samples by which the phase runs ahead: vibrato, or a slide from the note before."""
        timbre = self.timbre
        if timbre.glides and previous is not None and previous.pitch != note.pitch:
            gap = note.onset_s - previous.onset_s - previous.duration_s
            if gap < 0.3:
                depth = 2 ** ((previous.pitch - note.pitch) / 12) - 1
                tau = 0.05 * self.rate
                slide: NDArray[np.float64] = depth * tau * (1 - np.exp(np.arange(n) / -tau))
                return slide
        if timbre.vibrato_cents and note.duration_s > 0.35:
            time = np.arange(n) / self.rate
            omega = 2 * np.pi * self._vibrato_hz
            depth = timbre.vibrato_cents * np.log(2) / 1200 / omega * self.rate
            sway: NDArray[np.float64] = depth * np.minimum(time / 0.5, 1) * np.sin(omega * time)
            return sway
        return None

    def _envelopes(self, n: int) -> tuple[Signal, Signal]:
        """Amplitude of a held note, and the share of its bright waveform."""
        timbre = self.timbre
        time = np.arange(n, dtype=np.float32) / np.float32(self.rate)
        body = timbre.sustain + (1 - timbre.sustain) * np.exp(-time / np.float32(timbre.decay_s))
        rise = max(int(timbre.attack_s * self.rate), 2)
        body[:rise] *= (0.5 - 0.5 * np.cos(np.pi * np.arange(rise) / rise))[: len(body)]
        glow = np.exp(-time / np.float32(timbre.glow_s))
        return body.astype(np.float32), glow.astype(np.float32)

    def _release(self) -> int:
        return max(int(max(self.timbre.release_s, _FADE_S) * self.rate), 2)

    def _let_go(self, tone: Signal, held: int) -> None:
        """Fades what follows ``held``; a note that the song's end cuts fades before it."""
        n = len(tone) - held
        if n > 0:
            curve = np.linspace(1, 0, self._release(), dtype=np.float32)[:n]
            tone[held:] *= curve * curve
        fade = min(int(_FADE_S * self.rate), len(tone))
        tone[len(tone) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)

    def _table(self, pitch: int) -> tuple[Signal, Signal]:
        """One cycle of the dark waveform, and what the bright one adds to it."""
        if pitch not in self._tables:
            hz = 440.0 * 2 ** ((pitch - 69) / 12)
            # Tuning, detuning and vibrato move a note by less than a tenth.
            count = int(np.clip(0.45 * self.rate / hz, 1, self.timbre.highest))
            harmonics = np.arange(1, count + 1)
            colour = np.where(harmonics % 2 == 0, self.timbre.even, 1.0) * self._body(
                harmonics * hz
            )
            dark = self._cycle(harmonics, colour * harmonics**-self.timbre.dark)
            bright = self._cycle(harmonics, colour * harmonics**-self.timbre.bright)
            self._tables[pitch] = (dark, bright - dark)
        return self._tables[pitch]

    def _body(self, hz: NDArray[Any]) -> NDArray[np.float64]:
        gain = np.ones(len(hz))
        for centre, height in self._resonances:
            gain += height * np.exp(-((np.log2(hz / centre) / 0.35) ** 2))
        return gain

    def _cycle(self, harmonics: NDArray[np.int64], amplitudes: NDArray[np.float64]) -> Signal:
        return cycle(amplitudes * np.exp(1j * self._phases[: len(harmonics)]))


def cycle(harmonics: NDArray[np.complex128]) -> Signal:
    """One cycle of `TABLE` samples with RMS 1 from the complex amplitudes of its harmonics."""
    spectrum = np.zeros(TABLE // 2 + 1, np.complex64)
    spectrum[1 : len(harmonics) + 1] = harmonics
    wave = np.fft.irfft(spectrum, TABLE).astype(np.float32)
    wave /= np.sqrt(np.mean(wave * wave))
    return wave


def play_pitched(
    part: Part, rate: int, samples: int, tuning_cents: float, rng: np.random.Generator
) -> Signal:
    """A part of a pitched instrument as ``(samples,)``."""
    return Instrument(part.instrument, rate, tuning_cents, rng).play(part.notes, samples)
