"""Drums of a virtual song: each voice is synthesised a few times, and hits are copies of those.

No two neighbouring hits are alike: variants differ by up to 10 cent and in brightness, and which
one sounds is drawn for each hit.  Real drums never repeat exactly, and a network would notice.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

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
from zoo.data.composer import Part

Signal = NDArray[np.float32]

_N_VARIANTS = 4
_CHOKE_S = 0.012  # fade of an open hat that the pedal closes
# Partials of a struck plate as multiples of its lowest; after the classic six-oscillator hat.
_PLATE = np.array([1.0, 1.34, 1.52, 1.79, 2.14, 2.68, 3.21, 3.97])
# Level and place (-1 left, 1 right) of each voice; kick and snare stay near the centre.
_LEVELS = {
    KICK: 1.0,
    SNARE: 0.8,
    RIM: 0.5,
    CLAP: 0.6,
    CLOSED_HAT: 0.28,
    OPEN_HAT: 0.32,
    RIDE: 0.3,
    CRASH: 0.5,
    HIGH_TOM: 0.7,
    MIDDLE_TOM: 0.7,
    LOW_TOM: 0.75,
    TAMBOURINE: 0.35,
    SHAKER: 0.3,
    CONGA_HIGH: 0.5,
    CONGA_LOW: 0.5,
}
_PLACES = {CLOSED_HAT: 0.5, OPEN_HAT: 0.5, RIDE: -0.5, CRASH: -0.6, HIGH_TOM: 0.4, LOW_TOM: -0.4}


class Kit:
    """One drum kit of one song.

    Args:
        rate: samples per second.
        rng: draws how this kit is built.
    """

    def __init__(self, rate: int, rng: np.random.Generator) -> None:
        self.rate = rate
        self._pitch = 2 ** rng.uniform(-0.15, 0.15)
        self._ring = rng.uniform(0.7, 1.4)
        self._kick_hz = rng.uniform(42, 62)
        self._snap = rng.uniform(0.5, 0.9)
        self._side = rng.choice((-1.0, 1.0))
        self._seed = int(rng.integers(1 << 32))
        self._hits: dict[int, list[Signal]] = {}

    def play(self, part: Part, samples: int, channels: int, rng: np.random.Generator) -> Signal:
        """The part's hits as ``(channels, samples)``."""
        out = np.zeros((channels, samples), np.float32)
        closes = [n.onset_s for n in part.notes if n.pitch in (CLOSED_HAT, OPEN_HAT)]
        variants = rng.integers(_N_VARIANTS, size=len(part.notes))
        next_close = 0
        for note, variant in zip(part.notes, variants, strict=True):
            hit = self.hit(note.pitch, int(variant), note.velocity)
            onset = int(note.onset_s * self.rate)
            if note.pitch in (CLOSED_HAT, OPEN_HAT):
                next_close += 1
                if note.pitch == OPEN_HAT and next_close < len(closes):
                    hit = self._choke(hit, closes[next_close] - note.onset_s)
            length = min(len(hit), samples - onset)
            if length <= 0:
                continue
            level = _LEVELS[note.pitch] * (note.velocity / 110) ** 1.6
            for channel, gain in enumerate(self._gains(note.pitch, channels)):
                out[channel, onset : onset + length] += hit[:length] * np.float32(level * gain)
        _fade_end(out, int(0.01 * self.rate))
        return out

    def hit(self, key: int, variant: int = 0, velocity: int = 127) -> Signal:
        """One hit as ``(n,)`` with a peak of 1, whatever the velocity."""
        if key not in self._hits:
            # A generator per voice: a kit sounds the same whichever of its voices a song uses.
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self._seed, key])))
            self._hits[key] = [self._make(key, rng) for _ in range(_N_VARIANTS)]
        return self._hits[key][variant]

    def _make(self, key: int, rng: np.random.Generator) -> Signal:
        bend = self._pitch * 2 ** (rng.uniform(-10, 10) / 1200)
        shine = float(rng.uniform(0.85, 1.15))
        wave = _VOICES[key](self, float(bend), shine, rng)
        edge = max(int(0.0007 * self.rate), 1)
        wave[:edge] *= np.linspace(0, 1, edge, dtype=np.float32)
        _fade_end(wave, len(wave) // 8)
        wave /= np.abs(wave).max()
        return wave

    def _gains(self, key: int, channels: int) -> tuple[float, ...]:
        if channels == 1:
            return (1.0,)
        angle = (1 + self._side * _PLACES.get(key, 0.0)) * math.pi / 4
        return math.sqrt(2) * math.cos(angle), math.sqrt(2) * math.sin(angle)

    def _choke(self, hit: Signal, after_s: float) -> Signal:
        fade = int(_CHOKE_S * self.rate)
        length = min(int(after_s * self.rate) + fade, len(hit))
        if length < fade:
            return hit
        choked = hit[:length].copy()
        _fade_end(choked, fade)
        return choked

    # Voices: (pitch factor, brightness, random) -> (n,) of any level.

    def _time(self, seconds: float) -> Signal:
        return np.arange(int(seconds * self.rate), dtype=np.float32) / np.float32(self.rate)

    def _noise(self, n: int, low_hz: float, high_hz: float, rng: np.random.Generator) -> Signal:
        """White noise between two frequencies, an octave of slope on either side, RMS 1."""
        spectrum = np.fft.rfft(rng.standard_normal(n, dtype=np.float32))
        hz = np.fft.rfftfreq(n, 1 / self.rate).astype(np.float32)
        top = 0.45 * self.rate
        low, high = min(low_hz, 0.5 * top), min(high_hz, top)
        spectrum *= 1 / (1 + (low / np.maximum(hz, 1.0)) ** 4) / (1 + (hz / high) ** 8)
        wave = np.fft.irfft(spectrum, n).astype(np.float32)
        wave /= np.sqrt(np.mean(wave * wave))
        return wave

    def _drop(self, time: Signal, top_hz: float, hz: float, tau_s: float) -> Signal:
        """A sine that falls from ``top_hz`` to ``hz``."""
        turns = hz * time + (top_hz - hz) * tau_s * (1 - _decay(time, tau_s))
        wave: Signal = np.sin(np.float32(2 * np.pi) * turns)
        return wave

    def _plate(self, time: Signal, hz: float) -> Signal:
        partials = hz * _PLATE[_PLATE * hz < 0.45 * self.rate]
        wave = np.zeros(len(time), np.float32)
        for number, partial in enumerate(partials):
            wave += np.sin(np.float32(2 * np.pi * partial) * time + np.float32(number))
        wave /= np.float32(max(math.sqrt(len(partials) / 2), 1.0))
        return wave

    def _kick(self, bend: float, shine: float, rng: np.random.Generator) -> Signal:
        time = self._time(0.45 * self._ring)
        wave = self._drop(time, self._kick_hz * 3.6 * bend, self._kick_hz * bend, 0.022)
        wave *= _decay(time, 0.13 * self._ring)
        click = self._noise(len(time), 1500, 5000 * shine, rng)
        return wave + np.float32(0.10) * click * _decay(time, 0.004)

    def _snare(self, bend: float, shine: float, rng: np.random.Generator) -> Signal:
        time = self._time(0.32 * self._ring)
        tone: Signal = np.sin(np.float32(2 * np.pi * 185 * bend) * time)
        tone += np.float32(0.6) * np.sin(np.float32(2 * np.pi * 331 * bend) * time)
        tone *= _decay(time, 0.06 * self._ring)
        wires = self._noise(len(time), 900, 9000 * shine, rng)
        wires *= _decay(time, 0.075 * self._ring)
        return tone + np.float32(self._snap) * wires

    def _rim(self, bend: float, shine: float, rng: np.random.Generator) -> Signal:
        time = self._time(0.08)
        wave: Signal = np.sin(np.float32(2 * np.pi * 1700 * bend) * time)
        wave += np.float32(0.5 * shine) * np.sin(np.float32(2 * np.pi * 520 * bend) * time)
        return wave * _decay(time, 0.012)

    def _clap(self, bend: float, shine: float, rng: np.random.Generator) -> Signal:
        time = self._time(0.3)
        envelope: Signal = _decay(time, 0.07)
        for start in (0.0, 0.011, 0.021):
            envelope += np.where(time >= start, np.exp(-(time - start) / np.float32(0.004)), 0)
        return self._noise(len(time), 900 * bend, 4500 * shine, rng) * envelope

    def _closed_hat(self, bend: float, shine: float, rng: np.random.Generator) -> Signal:
        return self._hat(0.12, 0.028 * self._ring, bend, shine, rng)

    def _open_hat(self, bend: float, shine: float, rng: np.random.Generator) -> Signal:
        return self._hat(0.7, 0.22 * self._ring, bend, shine, rng)

    def _hat(
        self, seconds: float, tau_s: float, bend: float, shine: float, rng: np.random.Generator
    ) -> Signal:
        time = self._time(seconds)
        wave = self._noise(len(time), 6500 * shine, 15000, rng)
        wave += np.float32(0.4) * self._plate(time, 3200 * bend)
        return wave * _decay(time, tau_s)

    def _ride(self, bend: float, shine: float, rng: np.random.Generator) -> Signal:
        time = self._time(1.2)
        wave = np.float32(0.5) * self._noise(len(time), 5000 * shine, 14000, rng)
        wave *= _decay(time, 0.25)
        ping = self._plate(time, 2400 * bend) * _decay(time, 0.35 * self._ring)
        return wave + np.float32(0.6) * ping

    def _crash(self, bend: float, shine: float, rng: np.random.Generator) -> Signal:
        time = self._time(2.2)
        wave = self._noise(len(time), 2600 * shine, 14000, rng)
        wave += np.float32(0.3) * self._plate(time, 1900 * bend)
        return wave * _decay(time, 0.5 * self._ring)

    def _tom(self, hz: float, bend: float, rng: np.random.Generator) -> Signal:
        time = self._time(0.5)
        wave = self._drop(time, hz * 1.6 * bend, hz * bend, 0.04)
        wave *= _decay(time, 0.15 * self._ring)
        skin = self._noise(len(time), 300, 3000, rng) * _decay(time, 0.02)
        return wave + np.float32(0.15) * skin

    def _conga(self, hz: float, bend: float, rng: np.random.Generator) -> Signal:
        time = self._time(0.3)
        wave = self._drop(time, hz * 1.15 * bend, hz * bend, 0.02)
        wave *= _decay(time, 0.07)
        slap = self._noise(len(time), 800, 4000, rng) * _decay(time, 0.01)
        return wave + np.float32(0.25) * slap

    def _shaker(self, bend: float, shine: float, rng: np.random.Generator) -> Signal:
        time = self._time(0.11)
        envelope: Signal = np.sin(np.pi * (time / np.float32(0.11)) ** np.float32(0.7)) ** 2
        return self._noise(len(time), 5000 * shine, 12000, rng) * envelope

    def _tambourine(self, bend: float, shine: float, rng: np.random.Generator) -> Signal:
        time = self._time(0.25)
        wave = self._noise(len(time), 6000, 14000 * shine, rng)
        wave += np.float32(0.8) * self._plate(time, 4100 * bend)
        return wave * _decay(time, 0.06)


_Voice = Callable[[Kit, float, float, np.random.Generator], Signal]
_VOICES: dict[int, _Voice] = {
    KICK: Kit._kick,
    SNARE: Kit._snare,
    RIM: Kit._rim,
    CLAP: Kit._clap,
    CLOSED_HAT: Kit._closed_hat,
    OPEN_HAT: Kit._open_hat,
    RIDE: Kit._ride,
    CRASH: Kit._crash,
    SHAKER: Kit._shaker,
    TAMBOURINE: Kit._tambourine,
    HIGH_TOM: lambda kit, bend, shine, rng: kit._tom(165, bend, rng),
    MIDDLE_TOM: lambda kit, bend, shine, rng: kit._tom(122, bend, rng),
    LOW_TOM: lambda kit, bend, shine, rng: kit._tom(88, bend, rng),
    CONGA_HIGH: lambda kit, bend, shine, rng: kit._conga(330, bend, rng),
    CONGA_LOW: lambda kit, bend, shine, rng: kit._conga(225, bend, rng),
}


def _decay(time: Signal, tau_s: float) -> Signal:
    curve: Signal = np.exp(-time / np.float32(tau_s))
    return curve


def _fade_end(wave: Signal, n: int) -> None:
    n = min(n, wave.shape[-1])
    if n:
        wave[..., -n:] *= np.linspace(1, 0, n, dtype=np.float32)
