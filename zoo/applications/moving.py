"""Moves a source of a song to a point between the loudspeakers, piece by piece."""

from __future__ import annotations

import math

import torch
from torch import Tensor

WIDEST = 45.0  # degrees from the centre to a loudspeaker


class Mover:
    """What a source becomes at another place, by the sine/cosine law of constant power.

    The source is heard as loud as it was: its channels are turned by the angle in which its energy
    so far lies, so that what comes from one side loses nothing. Channels that are unlike are no
    point, and lose what is not common to them.

    Args:
        pan: from -45 (left) over 0 to 45 degrees (right).
        delay: of the right channel, in whole samples; below 0, the left one is late.
    """

    def __init__(self, pan: float, delay: int = 0) -> None:
        angle = math.radians(WIDEST + pan)
        self.gains = (math.cos(angle), math.sin(angle))
        self.delay = delay
        self._late = torch.zeros(abs(delay))  # what has not come yet
        self._energies = torch.zeros(3, dtype=torch.float64)  # left, right, and what is common
        self._angle: float | None = None

    def __call__(self, source: Tensor) -> Tensor:
        """The next piece ``(2, n)`` of the source, moved."""
        mono = self._mono(source)
        self._late = torch.cat([self._late.to(mono), mono])
        late, self._late = self._late[: len(mono)], self._late[len(mono) :]
        left, right = (mono, late) if self.delay >= 0 else (late, mono)
        return torch.stack([self.gains[0] * left, self.gains[1] * right])

    def _mono(self, source: Tensor) -> Tensor:
        left, right = source
        products = torch.stack([left @ left, right @ right, left @ right])
        self._energies += products.double().cpu()
        one, other, both = self._energies.tolist()
        if one + other == 0:
            return torch.zeros_like(source[0])
        angle = math.atan2(2 * max(0.0, both), one - other) / 2
        turn = torch.linspace(
            angle if self._angle is None else self._angle, angle, len(left), device=source.device
        )
        self._angle = angle
        mono: Tensor = turn.cos() * left + turn.sin() * right
        return mono
