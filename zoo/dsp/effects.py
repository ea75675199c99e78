"""What may be done to one signal ``(C, T)``: level, colour, room; and where it sounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve, sosfilt

from zoo.dsp.biquads import peak, shelf

Signal = NDArray[np.float32]

SILENCE = 1e-3  # -60 dBFS RMS, below which a stretch does not sound


def amplified(signal: Signal, level_db: float) -> Signal:
    """The signal at a gain in dB."""
    result: Signal = signal * np.float32(10 ** (level_db / 20))
    return result


def sounds(signal: Signal) -> bool:
    """Whether a stretch is above -60 dBFS RMS."""
    return bool(np.square(signal).mean(dtype=np.float64) > SILENCE**2) if signal.size else False


def active_rms(signal: Signal, rate: int) -> float:
    """RMS over the blocks of a second that sound, above -60 dBFS; 0 where none does."""
    power = np.square(signal).mean(0, dtype=np.float64)
    starts = np.arange(0, len(power), rate)
    energy = np.add.reduceat(power, starts) if len(power) else power
    lengths = np.diff([*starts, len(power)])
    active = energy > SILENCE**2 * lengths
    return math.sqrt(energy[active].sum() / lengths[active].sum()) if active.any() else 0.0


def balanced(signal: Signal, rate: int, level_db: float) -> Signal:
    """The signal at a level in dBFS where it sounds; as it is where it does not."""
    rms = active_rms(signal, rate)
    return amplified(signal, level_db - 20 * math.log10(rms)) if rms else signal


def voiced_stretches(vocals: Signal, rate: int) -> NDArray[np.int64]:
    """First and last sample of the stretches where a voice is, ``(n, 2)``.

    A block of 50 ms is voiced where its mean magnitude is at least a tenth of the largest.  A voice
    that is there from the first block on, or until the last, makes no stretch (Lluis et al. 2019).
    """
    block = max(1, round(0.05 * rate))
    mono = np.abs(vocals.mean(0))
    n = len(mono) // block
    level = mono[: n * block].reshape(n, block).mean(1)
    active = level >= 0.1 * level.max(initial=0)
    if not level.any():
        return np.zeros((0, 2), np.int64)
    edges = np.diff(active.astype(np.int8))
    on, off = np.flatnonzero(edges > 0) + 1, np.flatnonzero(edges < 0) + 1
    if len(on) and len(off):
        off = off[off > on[0]]
    return np.stack([on[: len(off)], off[: len(on)]], axis=1) * block


def equalised(signal: Signal, rate: int, hz: Sequence[float], gains_db: Sequence[float]) -> Signal:
    """A low shelf, a bell and a high shelf.

    Args:
        signal: ``(C, T)``.
        rate: samples per second.
        hz: of each band.
        gains_db: of each band.
    """
    sections = [
        shelf(hz[0], gains_db[0], rate, is_high=False),
        peak(hz[1], gains_db[1], rate),
        shelf(hz[2], gains_db[2], rate, is_high=True),
    ]
    result: Signal = sosfilt(np.asarray(sections, np.float32), signal).astype(
        np.float32, copy=False
    )
    return result


def room(rt60_s: float, rate: int, shape: tuple[int, ...], rng: np.random.Generator) -> Signal:
    """A room's answer to an impulse: noise that decays exponentially, after up to 40 ms.

    Args:
        rt60_s: time in which it falls by 60 dB, at which it ends.
        rate: samples per second.
        shape: ``(C, T)`` of the signals; what comes later than ``T`` is left out.
        rng: draws delay and noise.

    Returns:
        ``(C, n)`` with n <= T; the whole of each channel has energy 1.
    """
    delay = int(rng.uniform(0, 0.04) * rate)
    n = max(1, round(rt60_s * rate))
    noise = rng.standard_normal((shape[0], n), dtype=np.float32)
    noise *= np.exp(np.arange(n, dtype=np.float32) * np.float32(-math.log(1000) / (rt60_s * rate)))
    noise /= np.sqrt(np.square(noise).sum(1, keepdims=True))
    return np.pad(noise, ((0, 0), (delay, 0)))[:, : shape[1]]


def reverberated(signal: Signal, response: Signal, send_db: float) -> Signal:
    """The signal and, at a level beside it, what the room answers to the mean of its channels."""
    send = signal.mean(0, keepdims=True)
    wet = oaconvolve(send, response, axes=1)[:, : signal.shape[1]]
    return signal + amplified(wet.astype(np.float32, copy=False), send_db)
