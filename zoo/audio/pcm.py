"""Samples as bytes: float32 signals to and from what stands in a wave file."""

from __future__ import annotations

from typing import Literal

import numpy as np

Encoding = Literal["u8", "s16", "s24", "s32", "f32", "f64"]

WIDTH: dict[Encoding, int] = {"u8": 1, "s16": 2, "s24": 3, "s32": 4, "f32": 4, "f64": 8}
"""Bytes of one sample."""


def to_float(x: np.ndarray) -> np.ndarray:
    """Samples of any type as float32; integers are scaled by the range of their type."""
    if x.dtype == np.uint8:
        return (x.astype(np.float32) - 128) / 128
    if x.dtype.kind == "i":
        return x.astype(np.float32) * np.float32(1 / -float(np.iinfo(x.dtype).min))
    with np.errstate(over="ignore"):  # float64 beyond float32: the reader reports the infinity
        return x.astype(np.float32)


def decode(raw: bytes, encoding: Encoding, channels: int) -> np.ndarray:
    """Little-endian interleaved samples as float32 ``(channels, n)``."""
    if encoding == "s24":
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        x = padded.view("<i4")
    else:
        x = np.frombuffer(raw, f"<{encoding[0].replace('s', 'i')}{WIDTH[encoding]}")
    return np.ascontiguousarray(to_float(x).reshape(-1, channels).T)


def quantise(x: np.ndarray, bits: int) -> np.ndarray:
    """Rounded to integers of ``bits``, int32; what lies beyond full scale is cut there."""
    scale = 2.0 ** (bits - 1)
    return np.clip(np.rint(x.astype(np.float64) * scale), -scale, scale - 1).astype(np.int32)


def encode(x: np.ndarray, encoding: Encoding) -> bytes:
    """A signal ``(channels, n)`` as little-endian interleaved samples."""
    interleaved = np.ascontiguousarray(x.T)
    if encoding in ("f32", "f64"):
        return interleaved.astype(f"<{encoding[0]}{WIDTH[encoding]}").tobytes()
    width = WIDTH[encoding]
    integers = quantise(interleaved, 8 * width).astype("<i4")
    return integers.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
