"""What libsndfile decodes right: FLAC and PCM in AIFF, CAF, W64, AU and RIFX; Vorbis forward.

Seeks into the last page of a Vorbis file are hundreds of samples off, but forward it is exact,
where FFmpeg cuts 128 samples off the end of a file of one page, or adds some.  Opus is for FFmpeg:
the last packet that libsndfile 1.2.2 gives depends on how one reads.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

from zoo.audio.source import ForwardSource
from zoo.errors import AudioFileError

_PIECE = 4096  # samples read at once where there is damage, to find where it is
_BITS = {
    "PCM_S8": 8,
    "PCM_U8": 8,
    "PCM_16": 16,
    "PCM_24": 24,
    "PCM_32": 32,
    "FLOAT": 32,
    "DOUBLE": 64,
}
_OGG_HEADER, _OGG_PAGE = 27, 65536  # bytes of a page header, at most of a page
_VORBIS_ORDER = {
    3: [0, 2, 1],
    5: [0, 2, 1, 3, 4],
    6: [0, 2, 1, 5, 3, 4],
    7: [0, 2, 1, 6, 5, 3, 4],
    8: [0, 2, 1, 7, 5, 6, 3, 4],
}
_NO_LENGTH = 1 << 48  # libsndfile says the largest number where a FLAC stream does not tell


class UnsuitableError(Exception):
    """A file for another decoder."""


def is_for_libsndfile(head: bytes) -> bool:
    """Whether a file that starts so is one of the kinds that this file is for."""
    if head[:4] == b"FORM":
        return head[8:12] in (b"AIFF", b"AIFC")
    return head[:4] in (b"fLaC", b"caff", b".snd", b"RIFX", b"riff")


def is_ogg(head: bytes) -> bool:
    """Whether a file that starts so is an Ogg file."""
    return head[:4] == b"OggS"


class SoundFileSource:
    """A file that libsndfile decodes.

    Raises:
        UnsuitableError: it is compressed with loss, does not tell its length, or libsndfile or its
            Python package does not take it.
    """

    random_access = True

    def __init__(self, path: Path, head: bytes, size: int) -> None:
        self._file = _open(path)
        self.rate, self.channels = self._file.samplerate, self._file.channels
        self.samples: int = self._file.frames
        if self._file.subtype not in _BITS or self.samples >= _NO_LENGTH:
            self._file.close()
            raise UnsuitableError(self._file.subtype)
        self.is_compressed = self._file.format == "FLAC"
        self.is_float = self._file.subtype in ("FLOAT", "DOUBLE")
        self.bits = _BITS[self._file.subtype]
        self.announced = self.samples
        self.notes: list[str] = []
        promised = _announced_bytes(head)
        if promised is not None and promised > size:
            self.notes.append(
                f"shorter than announced: {size} bytes instead of {promised}; "
                f"read up to {self.samples / self.rate:.2f} s"
            )
        self._path = path
        self._position = 0
        self._error: RuntimeError | None = None

    def read(self, n: int) -> np.ndarray:
        """Float32 ``(channels, k)``; k < n at the end only, or just before damage."""
        n = min(n, self.samples - self._position)
        x = np.empty((n, self.channels), np.float32)
        done = 0
        if self._error is None:
            try:
                # Each call decodes a block of FLAC twice, so that small pieces take long.
                done = len(self._file.read(out=x))
            except RuntimeError:
                self._file.close()  # it does not recover
                self._file = _open(self._path)
                self.seek(self._position)
        while done < n and self._error is None:
            try:
                k = len(self._file.read(out=x[done : done + _PIECE]))
            except RuntimeError as error:
                self._error = error
                break
            done += k
            if k == 0:
                self._error = RuntimeError("the file ends")
        self._position += done
        if n and not done:
            raise AudioFileError(
                f"{self._path} is damaged at {self._position / self.rate:.2f} s of "
                f"{self.samples / self.rate:.2f} s; copy or download it again."
            ) from self._error
        return np.ascontiguousarray(x[:done].T)

    def seek(self, start: int) -> int:
        """The sample at which it stands now."""
        self._position = min(start, self.samples)
        try:
            self._error = None
            self._file.seek(self._position)
        except RuntimeError as error:
            self._error = error  # told by the next read, which says where
        return self._position

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class VorbisSource(ForwardSource):
    """Vorbis in an Ogg file, decoded forward.

    Raises:
        UnsuitableError: other contents, several songs in a chain, of which libsndfile gives the
            first only, or soundfile is not installed.
    """

    samples: int | None = None
    is_float = False
    bits = 16

    def __init__(self, path: Path, size: int) -> None:
        if _is_chained(path, size):
            raise UnsuitableError("chained")
        self._path = path
        self._file = _open(path)
        if self._file.subtype != "VORBIS" or not self._file.frames:
            self._file.close()
            raise UnsuitableError(self._file.subtype)
        self.rate, self.channels = self._file.samplerate, self._file.channels
        self.announced: int | None = self._file.frames
        self.notes: list[str] = []

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _restart(self) -> None:
        self._file.close()
        self._file = _open(self._path)

    def _next(self, n: int) -> np.ndarray:
        x = np.empty((n, self.channels), np.float32)
        done, k = 0, 1
        while done < n and k:
            try:
                k = len(self._file.read(out=x[done : done + _PIECE]))
            except RuntimeError:
                k = 0  # what follows cannot be decoded; the note says how much is missing
            done += k
        if done < n:
            self._compare(self._position + done)
        return np.ascontiguousarray(x[:done].T[channel_order(self.channels)])

    def _compare(self, samples: int) -> None:
        if self.announced and samples < self.announced and not self.notes:
            self.notes.append(
                f"damaged: {samples / self.rate:.2f} s could be decoded "
                f"of {self.announced / self.rate:.2f} s"
            )


def channel_order(channels: int) -> list[int]:
    """For every channel in the order of wave files, its place in a Vorbis file.

    Reference:
        Vorbis I specification, section 4.3.9.
    """
    return _VORBIS_ORDER.get(channels, list(range(channels)))


def _open(path: Path) -> Any:
    try:
        import soundfile

        # Elsewhere than on Windows soundfile takes names that are not UTF-8 as bytes only.
        return soundfile.SoundFile(path if sys.platform == "win32" else os.fsencode(path))
    except (ImportError, OSError, RuntimeError, TypeError) as error:
        raise UnsuitableError(str(error)) from error


def _is_chained(path: Path, size: int) -> bool:
    """Whether the last page of an Ogg file belongs to another stream than the first."""
    with path.open("rb") as file:
        first = file.read(_OGG_HEADER)
        file.seek(max(0, size - _OGG_PAGE))
        tail = file.read()
    last = tail.rfind(b"OggS")
    while last >= 0 and len(tail) - last < _OGG_HEADER:  # cut inside a header
        last = tail.rfind(b"OggS", 0, last)
    return last >= 0 and tail[last + 14 : last + 18] != first[14:18]


def _announced_bytes(head: bytes) -> int | None:
    """How long the whole file should be, by its first bytes; None: they do not say."""
    if head[:4] == b"FORM":
        size = struct.unpack(">4xI", head[:8])[0]
        return None if size >= 0xFFFFFFFF else size + 8
    if head[:4] == b"riff" and len(head) >= 24:
        return int(struct.unpack("<16xQ", head[:24])[0])
    if head[:4] == b".snd":
        offset, size = struct.unpack(">4xII", head[:12])
        return None if size == 0xFFFFFFFF else offset + size
    return None
