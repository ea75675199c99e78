"""Sample rates changed without delay, at once or piece by piece with the same result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zoo.errors import MissingPackage, SampleRateError, ShapeError

_BLOCK = 1 << 17  # samples per call of soxr, so that a long signal needs no second copy of itself


class Resampler:
    """A signal at another rate, piece by piece.

    The pieces concatenate to exactly ceil(n * new_rate / rate) samples and do not depend on where
    the input was cut.  There is no delay: a sample stands for the same moment before and after.
    Quality is soxr's "HQ" (20 bits, pass band 0.91 of the lower Nyquist frequency).

    Args:
        rate: of what is pushed, in Hz.
        new_rate: of what comes out.
        channels: of both.

    Raises:
        SampleRateError: a rate that is not positive.
        MissingPackage: soxr is not installed, and the rates differ.
    """

    def __init__(self, rate: int, new_rate: int, channels: int) -> None:
        if rate < 1 or new_rate < 1:
            raise SampleRateError(
                f"cannot resample from {rate} to {new_rate} Hz; both rates must be positive."
            )
        self.rate, self.new_rate, self.channels = rate, new_rate, channels
        self._stream = None if rate == new_rate else _soxr(rate, new_rate, channels)
        self._pushed = self._given = 0
        self._finished = False

    def push(self, x: np.ndarray) -> np.ndarray:
        """What can be said already, ``(channels, m)``, after ``(channels, n)`` more."""
        if self._finished:
            raise ValueError("push after finish; make a new Resampler.")
        if x.ndim != 2 or x.shape[0] != self.channels:
            raise ShapeError(
                f"piece of shape {x.shape}; expected ({self.channels}, samples). "
                "Transpose it if samples come first."
            )
        self._pushed += x.shape[1]
        return self._give(self._run(x))

    def finish(self) -> np.ndarray:
        """The rest, ``(channels, m)``."""
        if self._finished:
            raise ValueError("finish was called before; make a new Resampler.")
        self._finished = True
        rest = [np.zeros((self.channels, 0), np.float32)]
        # soxr flushed at the end gives a sample too few for many lengths, and none at all for one
        # sample; silence pushed behind the signal brings the same samples out, and all of them.
        silence = np.zeros((self.channels, max(1024, self.rate // self.new_rate)), np.float32)
        while self._missing() > 0:
            rest.append(self._give(self._run(silence)))
        return np.concatenate(rest, axis=1)

    def _missing(self) -> int:
        return -(-self._pushed * self.new_rate // self.rate) - self._given

    def _run(self, x: np.ndarray) -> np.ndarray:
        if self._stream is None:
            return np.array(x, np.float32)
        pieces = [
            self._stream.resample_chunk(np.ascontiguousarray(x[:, i : i + _BLOCK].T, np.float32))
            for i in range(0, x.shape[1], _BLOCK)
        ]
        if not pieces:
            return np.zeros((self.channels, 0), np.float32)
        return np.ascontiguousarray(np.concatenate(pieces).T)

    def _give(self, y: np.ndarray) -> np.ndarray:
        y = y[:, : self._missing()]
        self._given += y.shape[1]
        return y


def resample(x: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """``(…, n)`` at another rate: float32 ``(…, ceil(n * new_rate / rate))``, without delay.

    Raises:
        SampleRateError: a rate that is not positive.
        MissingPackage: soxr is not installed, and the rates differ.
    """
    flat = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    resampler = Resampler(rate, new_rate, flat.shape[0])
    first = resampler.push(flat)
    y = np.concatenate([first, resampler.finish()], axis=1)
    return y.reshape(*x.shape[:-1], y.shape[-1])


def _soxr(rate: int, new_rate: int, channels: int) -> Any:
    try:
        import soxr
    except ImportError as error:
        raise MissingPackage(
            "changing the sample rate of audio needs the package soxr: pip install soxr."
        ) from error
    return soxr.ResampleStream(rate, new_rate, channels, dtype="float32", quality="HQ")
