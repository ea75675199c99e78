"""What every kind of file gives to the reader, and the kind that numpy reads alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

import numpy as np

from zoo.audio import pcm
from zoo.audio.wave import WaveHeader


class Source(Protocol):
    """A decoder at some sample of a file.

    Attributes:
        rate, channels, samples, announced, notes, is_float, bits, is_compressed, random_access: as
            `AudioReader` has them.
    """

    @property
    def rate(self) -> int: ...  # noqa: D102

    @property
    def channels(self) -> int: ...  # noqa: D102

    @property
    def samples(self) -> int | None: ...  # noqa: D102

    @property
    def announced(self) -> int | None: ...  # noqa: D102

    @property
    def notes(self) -> list[str]: ...  # noqa: D102

    @property
    def is_float(self) -> bool: ...  # noqa: D102

    @property
    def bits(self) -> int: ...  # noqa: D102

    @property
    def is_compressed(self) -> bool: ...  # noqa: D102

    @property
    def random_access(self) -> bool: ...  # noqa: D102

    def read(self, n: int) -> np.ndarray:
        """Float32 ``(channels, k)``; k < n at the end only.

        Raises:
            AudioFileError: the file is damaged here.
        """
        ...

    def seek(self, start: int) -> int:
        """The sample at which it stands now: ``start``, or the end where that comes before."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class ForwardSource(ABC):
    """A decoder that can only go on, and begin again."""

    is_compressed = True
    rate: int
    channels: int
    _position = 0

    @property
    def random_access(self) -> bool:  # noqa: D102
        return False

    @abstractmethod
    def _next(self, n: int) -> np.ndarray:
        """The next samples, ``(channels, k)``; k < n at the end only."""

    @abstractmethod
    def _restart(self) -> None:
        """Begin again."""

    def read(self, n: int) -> np.ndarray:
        """Float32 ``(channels, k)``; k < n at the end only."""
        x = self._next(n)
        self._position += x.shape[1]
        return x

    def seek(self, start: int) -> int:
        """The sample at which it stands now, after decoding up to there."""
        if start < self._position:
            self._restart()
            self._position = 0
        while self._position < start:
            if not self.read(min(start - self._position, self.rate)).shape[1]:
                break
        return self._position


class WaveSource:
    """Uncompressed samples of a wave file, with the length that the file really has."""

    random_access, is_compressed = True, False

    def __init__(self, path: Path, header: WaveHeader) -> None:
        self.rate, self.channels, self.samples = header.rate, header.channels, header.samples
        self.announced = header.announced
        self.notes = [header.note] if header.note else []
        self.is_float = header.encoding.startswith("f")
        self.bits = header.bits
        self._header = header
        self._align = pcm.WIDTH[header.encoding] * header.channels
        self._position = 0
        self._file = path.open("rb")
        self.seek(0)

    def read(self, n: int) -> np.ndarray:
        """Float32 ``(channels, k)``; k < n at the end only."""
        n = min(n, self.samples - self._position)
        raw = self._file.read(n * self._align)
        raw = raw[: len(raw) // self._align * self._align]  # somebody shortens it as we read
        self._position += len(raw) // self._align
        return pcm.decode(raw, self._header.encoding, self.channels)

    def seek(self, start: int) -> int:
        """The sample at which it stands now."""
        self._position = min(start, self.samples)
        self._file.seek(self._header.start + self._position * self._align)
        return self._position

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
