"""A room and a pair of microphones in it, by the image-source method of pyroomacoustics."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy.signal import fftconvolve

from zoo.dsp.panning import PAIRS, Microphone
from zoo.errors import DatasetError, MissingPackage

SIZE = (6.0, 5.0, 3.0)  # metres
MIDDLE = (2.5, 2.4, 1.2)  # of the pair
ORDER = 20  # of reflections, at most
SHORTEST = 0.12  # rt60 in s: by Sabine, walls that absorb everything have 0.115


@dataclass(frozen=True)
class Room:
    """Objects around a pair of microphones in a room.

    Attributes:
        pair: a key of `zoo.dsp.panning.PAIRS`.
        azimuths: of the objects, in degrees to the left of straight ahead.
        distance: from the pair's middle, in metres.
        rt60: reverberation time aimed at, in seconds; `SHORTEST` or more.
        rate: in Hz.
    """

    pair: str
    azimuths: tuple[float, ...]
    distance: float
    rt60: float
    rate: int

    @property
    def samples(self) -> int:
        """Length of the longest response."""
        return max(len(channel) for both in _responses(self) for channel in both)

    def image(self, signal: np.ndarray, index: int) -> np.ndarray:
        """What the two microphones hear of object ``index``, ``(2, T)`` of ``(T,)``."""
        heard = [fftconvolve(signal, r)[: len(signal)] for r in _responses(self)[index]]
        return np.stack(heard).astype(signal.dtype)

    def card(self) -> dict[str, Any]:
        """Facts for a file beside the images."""
        return {
            "size_m": list(SIZE), "pair": self.pair, "pair_at_m": list(MIDDLE),
            "distance_m": self.distance, "rt60_s": self.rt60,
        }  # fmt: skip


@functools.lru_cache(maxsize=32)
def _responses(room: Room) -> list[list[np.ndarray]]:
    """Of each object to each microphone."""
    if find_spec("pyroomacoustics") is None:
        raise MissingPackage(
            "rooms need the package pyroomacoustics: `pip install 'music-separation-zoo[rooms]'`."
        )
    import pyroomacoustics as pra

    absorption, order = pra.inverse_sabine(room.rt60, SIZE)
    shoebox = pra.ShoeBox(
        SIZE, fs=room.rate, materials=pra.Material(absorption), max_order=min(order, ORDER)
    )
    for azimuth in room.azimuths:
        angle = math.radians(azimuth)
        place = np.array(MIDDLE) + room.distance * np.array([math.cos(angle), math.sin(angle), 0])
        if not all(0 < x < size for x, size in zip(place, SIZE, strict=True)):
            raise DatasetError(f"an object at {azimuth} degrees, {room.distance} m is in the wall.")
        shoebox.add_source(place.tolist())
    ears = PAIRS[room.pair]
    places = np.array([[MIDDLE[0] + m.x, MIDDLE[1] + m.y, MIDDLE[2]] for m in ears]).T
    shoebox.add_microphone_array(
        pra.MicrophoneArray(places, room.rate, [_directivity(pra, m) for m in ears])
    )
    shoebox.compute_rir()
    return [[np.asarray(shoebox.rir[m][j]) for m in range(2)] for j in range(len(room.azimuths))]


def _directivity(pra: Any, microphone: Microphone) -> Any:
    """The package's pattern of a microphone."""
    from pyroomacoustics.directivities import CardioidFamily, DirectionVector

    look = DirectionVector(azimuth=microphone.axis, colatitude=90, degrees=True)
    return CardioidFamily(orientation=look, p=microphone.pattern)
