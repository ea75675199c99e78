"""Second-order filters, each one section ``[b0, b1, b2, 1, a1, a2]`` as scipy's ``sosfilt`` takes.

Shelves and bells: R. Bristow-Johnson, "Audio EQ Cookbook".  Frequencies above 0.4 of the rate are
taken as that.
"""

from __future__ import annotations

import math


def high_pass(hz: float, rate: int) -> list[float]:
    """Second-order Butterworth, bilinear."""
    k = math.tan(math.pi * hz / rate)
    norm = 1 / (1 + math.sqrt(2) * k + k * k)
    return [
        norm,
        -2 * norm,
        norm,
        1.0,
        2 * (k * k - 1) * norm,
        (1 - math.sqrt(2) * k + k * k) * norm,
    ]


def peak(hz: float, gain_db: float, rate: int) -> list[float]:
    """Bell one octave and a half wide."""
    a = 10 ** (gain_db / 40)
    omega = 2 * math.pi * min(hz, 0.4 * rate) / rate
    alpha = math.sin(omega) / (2 * 0.9)
    cosine = -2 * math.cos(omega)
    return _normalised(
        [1 + alpha * a, cosine, 1 - alpha * a], [1 + alpha / a, cosine, 1 - alpha / a]
    )


def shelf(hz: float, gain_db: float, rate: int, is_high: bool) -> list[float]:
    """Shelf of slope 1; half of its gain in dB is reached at ``hz``."""
    a = 10 ** (gain_db / 40)
    omega = 2 * math.pi * min(hz, 0.4 * rate) / rate
    sign = -1.0 if is_high else 1.0
    c = sign * math.cos(omega)
    s = math.sqrt(2 * a) * math.sin(omega)
    b = [
        a * (a + 1 - (a - 1) * c + s),
        sign * 2 * a * (a - 1 - (a + 1) * c),
        a * (a + 1 - (a - 1) * c - s),
    ]
    return _normalised(
        b, [a + 1 + (a - 1) * c + s, -sign * 2 * (a - 1 + (a + 1) * c), a + 1 + (a - 1) * c - s]
    )


def _normalised(b: list[float], a: list[float]) -> list[float]:
    return [value / a[0] for value in (*b, *a)]
