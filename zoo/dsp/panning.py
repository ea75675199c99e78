"""How one signal reaches two channels: pan, delay, pairs of microphones.

A pan angle of 0 is left only, 45 degrees the centre, 90 right only, by the sine/cosine law of
constant power.  Delays are of the right channel against the left, in samples, and may be fractions.
Azimuths count from straight ahead, positive to the left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

SOUND = 343.0  # metres per second
PADDING = 8192  # zeros on both sides of a signal that is delayed by a fraction


@dataclass(frozen=True)
class Position:
    """What of an object arrives in the left and in the right channel.

    Attributes:
        gains: factors.
        delays: in samples.
    """

    gains: tuple[float, float]
    delays: tuple[float, float] = (0.0, 0.0)

    @property
    def pan(self) -> float:
        """The angle of the two gains, in degrees."""
        return math.degrees(math.atan2(self.gains[1], self.gains[0]))

    @property
    def delay(self) -> float:
        """Of the right channel against the left, in samples."""
        return self.delays[1] - self.delays[0]


@dataclass(frozen=True)
class Microphone:
    """A first-order microphone.

    Attributes:
        x, y: metres forward and to the left.
        axis: where it looks, in degrees to the left.
        pattern: 1 hears everywhere alike (omni), 0.5 is a cardioid, 0 a figure of eight.
    """

    x: float
    y: float
    axis: float = 0.0
    pattern: float = 0.5


PAIRS = {
    "xy": (Microphone(0, 0, 45), Microphone(0, 0, -45)),
    "ab": (Microphone(0, 0.2, 0, 1), Microphone(0, -0.2, 0, 1)),
    "ortf": (Microphone(0, 0.085, 55), Microphone(0, -0.085, -55)),
    "blumlein": (Microphone(0, 0, 45, 0), Microphone(0, 0, -45, 0)),
    "din": (Microphone(0, 0.1, 45), Microphone(0, -0.1, -45)),
    "nos": (Microphone(0, 0.15, 45), Microphone(0, -0.15, -45)),
}


def panned(pan: float, delay: float = 0.0) -> Position:
    """A place of the pan-delay model, in degrees and samples."""
    angle = math.radians(pan)
    return Position((math.cos(angle), math.sin(angle)), (0.0, delay))


def heard(
    pair: tuple[Microphone, Microphone], azimuth: float, distance: float, rate: int
) -> Position:
    """The direct sound of an object at two microphones.

    Args:
        pair: left and right.
        azimuth: in degrees to the left.
        distance: from the origin, in metres.
        rate: in Hz.
    """
    angle = math.radians(azimuth)
    object_x, object_y = distance * math.cos(angle), distance * math.sin(angle)
    gains, delays = [], []
    for microphone in pair:
        x, y = object_x - microphone.x, object_y - microphone.y
        path = math.hypot(x, y)
        incidence = math.atan2(y, x) - math.radians(microphone.axis)
        share = microphone.pattern + (1 - microphone.pattern) * math.cos(incidence)
        gains.append(share * distance / path)
        delays.append((path - distance) * rate / SOUND)
    return Position((gains[0], gains[1]), (delays[0], delays[1]))


def placed(signal: np.ndarray, position: Position) -> np.ndarray:
    """The image ``(2, T)`` of a signal ``(T,)``."""
    channels = [
        gain * delayed(signal, delay)
        for gain, delay in zip(position.gains, position.delays, strict=True)
    ]
    return np.stack(channels).astype(signal.dtype)


def delayed(signal: np.ndarray, delay: float) -> np.ndarray:
    """A signal ``(T,)`` that comes later by any number of samples, cut to its length.

    By a periodic sinc over the signal and `PADDING` zeros on both sides.
    """
    n = len(signal)
    if float(delay).is_integer():
        shift = int(delay)
        if abs(shift) >= n:
            return np.zeros_like(signal)
        shifted = np.zeros_like(signal)
        if shift >= 0:
            shifted[shift:] = signal[: n - shift]
        else:
            shifted[:shift] = signal[-shift:]
        return shifted
    reach = PADDING + math.ceil(abs(delay))
    size = next_fast_len(n + 2 * reach, real=True)
    size += size % 2  # so that there is a Nyquist bin, whose factor is real
    spectrum = rfft(signal.astype(np.float64), size)
    turn = np.exp(-2j * np.pi * np.arange(size // 2 + 1) * delay / size)
    turn[-1] = np.cos(np.pi * delay)
    # What wraps around falls into the zeros.
    late: np.ndarray = irfft(spectrum * turn, size)[:n]
    return late.astype(signal.dtype)
