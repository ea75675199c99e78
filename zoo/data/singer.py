"""A formant singer: a glottal pulse train with vibrato and glides through four resonances.

Good enough for shapes, demonstrations and tests; a network that is to separate people needs
people.  Each sung note is a syllable: perhaps a consonant, then a vowel that may turn into
another.  The resonances are applied to the harmonics of one cycle (see `zoo.data.synth`), so a
phrase costs a few table look-ups per sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data.composer import Note, Part
from zoo.data.synth import TABLE, cycle

Signal = NDArray[np.float32]

# First four formants of a low voice in Hz; textbook averages, rounded.
_VOWELS = {
    "a": (700, 1200, 2500, 3400),
    "e": (450, 1850, 2500, 3400),
    "i": (290, 2250, 2950, 3500),
    "o": (450, 850, 2500, 3400),
    "u": (310, 800, 2300, 3300),
    "schwa": (520, 1400, 2500, 3400),
}
_BANDWIDTHS = (80, 100, 130, 180)
# Noise of a consonant: (lowest Hz, highest Hz, seconds, level); "" is none.
_CONSONANTS = {
    "": (0.0, 0.0, 0.0, 0.0),
    "s": (4500.0, 9500.0, 0.09, 0.22),
    "sh": (2200.0, 6500.0, 0.09, 0.22),
    "f": (1500.0, 9000.0, 0.07, 0.08),
    "t": (2500.0, 8000.0, 0.025, 0.25),
    "k": (1200.0, 3500.0, 0.03, 0.25),
    "p": (300.0, 2000.0, 0.02, 0.2),
    "h": (500.0, 4000.0, 0.08, 0.07),
}
_CONTROL_S = 0.004  # spacing of the pitch curve's points
_LEGATO_S = 0.15  # notes closer than this belong to one breath
_MORPH_S = 0.03  # cross-fade from one syllable's waveform to the next


class Singer:
    """One voice of one song.

    Args:
        name: ``low voice`` or ``high voice``.
        rate: samples per second.
        tuning_cents: of the song; a double may be a few cents off.
        rng: draws the voice and what it sings.
    """

    def __init__(self, name: str, rate: int, tuning_cents: float, rng: np.random.Generator) -> None:
        self.rate = rate
        self._tuning = tuning_cents + rng.uniform(-6, 6)
        self._tract = (1.17 if name == "high voice" else 1.0) * rng.uniform(0.95, 1.05)
        self._tilt = rng.uniform(0.3, 0.8)  # of the pulses as the lips radiate them
        self._vibrato_hz = rng.uniform(5, 6)
        self._vibrato_cents = rng.uniform(30, 80)
        self._breath = rng.uniform(0.008, 0.03)
        self._rng = rng
        self._tables: dict[tuple[int, str], Signal] = {}
        self._air = self._noise(int(1.7 * rate), 600, 7000)
        self._bursts = {
            name: self._burst(*shape) for name, shape in _CONSONANTS.items() if shape[2]
        }

    def sing(self, notes: tuple[Note, ...], samples: int) -> Signal:
        """The notes as ``(samples,)``, one breath after the other."""
        out = np.zeros(samples, np.float32)
        breath: list[Note] = []
        for note in notes:
            if breath and note.onset_s > breath[-1].onset_s + breath[-1].duration_s + _LEGATO_S:
                self._sing_breath(breath, out)
                breath = []
            breath.append(note)
        if breath:
            self._sing_breath(breath, out)
        fade = min(int(0.02 * self.rate), samples)
        if fade:
            out[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        return out

    def _sing_breath(self, notes: list[Note], out: Signal) -> None:
        """Adds one phrase: a single pitch curve and phase, and a waveform per syllable."""
        start_s = notes[0].onset_s
        end_s = max(note.onset_s + note.duration_s for note in notes) + 0.08
        start = int(start_s * self.rate)
        n = min(int(end_s * self.rate), len(out)) - start
        if n < 2:
            return
        phase = self._phase(notes, start_s, n)
        loudness = self._loudness(notes, start_s, n)
        voiced = np.zeros(n, np.float32)
        bounds = [int((note.onset_s - start_s) * self.rate) for note in notes] + [n]
        fade = int(_MORPH_S * self.rate)
        for note, begin, end in zip(notes, bounds[:-1], bounds[1:], strict=True):
            begin, stop = min(begin, n), min(end + fade, n)
            if stop - begin < 2:
                continue
            wave = self._syllable(note.pitch, phase[begin:stop])
            if begin:
                _ramp(wave[:fade], 0, 1)
            if end < n:
                _ramp(wave[end - begin :], 1, 0)
            voiced[begin:stop] += wave
        air_at = int(self._rng.integers(len(self._air)))
        air = np.resize(np.roll(self._air, -air_at), n)
        voiced += np.float32(self._breath) * air
        voiced *= loudness
        out[start : start + n] += voiced
        for note in notes:
            self._consonant(note, out)

    def _phase(self, notes: list[Note], start_s: float, n: int) -> NDArray[np.int64]:
        """Index into a cycle for each sample: glides, vibrato and a slow drift."""
        time = np.arange(int(n / self.rate / _CONTROL_S) + 2) * _CONTROL_S + start_s
        pitch = np.full(len(time), float(notes[0].pitch))
        pitch -= 0.8 * np.exp(-(time - start_s) / 0.05)  # the first note is reached from below
        vibrato = np.zeros(len(time))
        for before, note in zip([notes[0], *notes[:-1]], notes, strict=True):
            glide = 0.5 + 0.5 * np.tanh((time - note.onset_s) / 0.028)
            pitch += (note.pitch - before.pitch) * glide
            late = np.clip((time - note.onset_s - 0.2) / 0.3, 0, 1)
            vibrato += late * (time < note.onset_s + note.duration_s)
        swing = np.sin(2 * np.pi * self._vibrato_hz * time) * np.minimum(vibrato, 1)
        drift = np.sin(2 * np.pi * self._rng.uniform(0.3, 0.9) * time) * 6
        cents = self._tuning + drift + swing * self._vibrato_cents
        hz = 440.0 * 2 ** ((pitch - 69) / 12 + cents / 1200)
        at = np.arange(n) / self.rate + start_s
        turns = np.cumsum(np.interp(at, time, hz / self.rate * TABLE))
        return turns.astype(np.int64) & (TABLE - 1)

    def _loudness(self, notes: list[Note], start_s: float, n: int) -> Signal:
        """Swells with each syllable, dips between two."""
        times, levels = [0.0], [0.0]
        for note in notes:
            begin = note.onset_s - start_s
            level = (note.velocity / 100) ** 1.2
            hold = max(note.duration_s - 0.09, 0.03)
            times += [begin + 0.035, begin + hold * 0.5 + 0.035, begin + hold + 0.04]
            levels += [0.85 * level, level, 0.75 * level]
            times.append(begin + note.duration_s)
            levels.append(0.3 * level)
        times.append(times[-1] + 0.07)
        levels.append(0.0)
        order = np.argsort(times, kind="stable")
        at = np.arange(n, dtype=np.float32) / np.float32(self.rate)
        curve = np.interp(at, np.asarray(times)[order], np.asarray(levels)[order])
        return np.asarray(curve, np.float32)

    def _syllable(self, pitch: int, phase: NDArray[np.int64]) -> Signal:
        names = list(_VOWELS)
        first, second = (names[int(k)] for k in self._rng.integers(len(names), size=2))
        wave = self._table(pitch, first).take(phase, mode="clip")
        if first != second and self._rng.random() < 0.6:
            turn = np.linspace(0, 1, len(phase), dtype=np.float32)
            turn = turn * turn * (3 - 2 * turn)
            other = self._table(pitch, second).take(phase, mode="clip")
            wave += turn * (other - wave)
        return wave

    def _consonant(self, note: Note, out: Signal) -> None:
        name = str(self._rng.choice(list(_CONSONANTS)))
        if not name:
            return
        burst = self._bursts[name]
        end = int((note.onset_s + 0.01) * self.rate)
        begin = max(end - len(burst), 0)
        length = min(len(burst), len(out) - begin)
        if length > 0:
            out[begin : begin + length] += burst[:length] * np.float32(note.velocity / 100)

    def _table(self, pitch: int, vowel: str) -> Signal:
        if (pitch, vowel) not in self._tables:
            hz = 440.0 * 2 ** ((pitch - 69) / 12)
            harmonics = np.arange(1, max(int(0.43 * self.rate / hz), 1) + 1)
            amplitudes = harmonics**-self._tilt * self._resonate(harmonics * hz, vowel)
            self._tables[pitch, vowel] = cycle(amplitudes)
        return self._tables[pitch, vowel]

    def _resonate(self, hz: NDArray[Any], vowel: str) -> NDArray[np.complex128]:
        """Four resonances in a row: prod F^2 / (F^2 - f^2 + j f B)."""
        response = np.ones(len(hz), np.complex128)
        for centre, width in zip(_VOWELS[vowel], _BANDWIDTHS, strict=True):
            peak = centre * self._tract
            response *= peak**2 / (peak**2 - hz**2 + 1j * hz * width)
        return response

    def _noise(self, n: int, low_hz: float, high_hz: float) -> Signal:
        spectrum = np.fft.rfft(self._rng.standard_normal(n, dtype=np.float32))
        hz = np.fft.rfftfreq(n, 1 / self.rate)
        top = 0.45 * self.rate
        low, high = min(low_hz, 0.5 * top), min(high_hz, top)
        spectrum *= 1 / (1 + (low / np.maximum(hz, 1.0)) ** 4) / (1 + (hz / high) ** 8)
        wave = np.fft.irfft(spectrum, n).astype(np.float32)
        wave /= np.sqrt(np.mean(wave * wave))
        return wave

    def _burst(self, low_hz: float, high_hz: float, seconds: float, level: float) -> Signal:
        n = max(int(seconds * self.rate), 4)
        window = np.sin(np.pi * np.linspace(0, 1, n)) ** 1.5
        return np.asarray(level * self._noise(n, low_hz, high_hz) * window, np.float32)


def _ramp(wave: Signal, first: float, last: float) -> None:
    wave *= np.linspace(first, last, len(wave), dtype=np.float32)


def sing(
    part: Part, rate: int, samples: int, tuning_cents: float, rng: np.random.Generator
) -> Signal:
    """A vocal part as ``(samples,)``."""
    return Singer(part.instrument, rate, tuning_cents, rng).sing(part.notes, samples)
