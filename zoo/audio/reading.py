"""Audio files of any kind read forward, or from any sample, in constant memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from zoo.audio.ffmpeg import StreamSource
from zoo.audio.libsndfile import (
    SoundFileSource,
    UnsuitableError,
    VorbisSource,
    is_for_libsndfile,
    is_ogg,
)
from zoo.audio.source import Source, WaveSource
from zoo.audio.wave import is_wave, parse_wave
from zoo.errors import AudioFileError

SUFFIXES = frozenset(
    ".wav .wave .flac .aif .aiff .aifc .caf .w64 .rf64 .ogg .oga .opus .mp3 .m4a .aac .wma"
    " .mka".split()
)
FILM_SUFFIXES = frozenset({".mp4", ".webm"})  # of files that may hold pictures beside the sound


class AudioReader:
    """An open audio file; made by `open_audio`.

    Attributes:
        path: of the file.
        rate: samples per second.
        channels: of the stream that is read.
        samples: length; None for compressed files until the end was reached, as what they announce
            cannot be trusted.
        announced: length that the file announces, for a progress bar; None: it announces none.
        notes: one-line facts about the file; some are known at its end only.
        is_float: whether the file holds floating point samples, which may go beyond full scale.
        bits: of a sample; 16 for files compressed with loss.
        is_compressed: whether its samples have to be decoded, with or without loss.
    """

    def __init__(self, path: Path, source: Source) -> None:
        self.path = path
        self.rate, self.channels, self.samples = source.rate, source.channels, source.samples
        self.announced = source.announced
        self.is_float, self.bits = source.is_float, source.bits
        self.is_compressed = source.is_compressed
        self._source = source
        self._position = 0

    @property
    def notes(self) -> list[str]:
        """One-line facts about the file."""
        return self._source.notes

    @property
    def random_access(self) -> bool:
        """Whether `seek` costs next to nothing; elsewhere it decodes up to there."""
        return self._source.random_access

    def read(self, n: int) -> np.ndarray:
        """The next samples: float32 ``(channels, k)`` with k <= n; k is 0 at the end only.

        Raises:
            AudioFileError: the file is damaged here, or holds a value that is no number.
        """
        if n < 0:
            raise ValueError(f"cannot read {n} samples.")
        x = self._source.read(n)
        if not np.isfinite(x).all():
            first = self._position + int(np.argmin(np.isfinite(x).all(axis=0)))
            raise AudioFileError(
                f"{self.path} holds NaN or infinity at {first / self.rate:.3f} s; "
                "export it again from where it was made."
            )
        self._position += x.shape[1]
        if self.samples is None and x.shape[1] < n:
            self.samples = self._position
        return x

    def seek(self, start: int) -> None:
        """Go to a sample, exactly; beyond the end there is nothing more to read."""
        if start < 0:
            raise ValueError(f"cannot go to sample {start}.")
        self._position = self._source.seek(start)

    def stretch(self, start: int = 0, samples: int | None = None) -> np.ndarray:
        """``(channels, n)`` that begin at ``start``; None: all that follow."""
        if start != self._position:
            self.seek(start)
        parts = [np.zeros((self.channels, 0), np.float32)]
        left = samples
        while left is None or left > 0:
            x = self.read(8 * self.rate if left is None else min(left, 8 * self.rate))
            if not x.shape[1]:
                break
            parts.append(x)
            left = None if left is None else left - x.shape[1]
        return np.concatenate(parts, axis=1)

    def blocks(self, n: int) -> Iterator[np.ndarray]:
        """All that follows, ``(channels, n)`` each but the last."""
        while (x := self.read(n)).shape[1]:
            yield x

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_audio(path: str | os.PathLike[str], stream: int | None = None) -> AudioReader:
    """Open an audio file; its content decides what it is, not its name.

    Args:
        path: of the file.
        stream: number among the audio streams of a container, from 0; None: the first, with a
            note if there are more.

    Raises:
        AudioFileError: it is missing, unreadable, no audio, holds no sample or no such stream.
        MissingPackage: its kind needs a package that is not installed.
    """
    path = Path(path)
    try:
        source = _source(path, stream)
    except AudioFileError:
        raise
    except OSError as error:
        raise AudioFileError(
            f"{path} cannot be opened ({error.strerror or error}); check its name and permissions."
        ) from error
    if source.samples == 0:
        source.close()
        raise AudioFileError(f"{path} is audio without a single sample; give another file.")
    return AudioReader(path, source)


def read(
    path: str | os.PathLike[str],
    start: int = 0,
    samples: int | None = None,
    stream: int | None = None,
) -> tuple[np.ndarray, int]:
    """A stretch of a file and its rate.

    Args:
        path: of the file.
        start: first sample.
        samples: how many; None: all that follow.  What lies beyond the end is left out.
        stream: as for `open_audio`.

    Returns:
        Float32 ``(channels, n)``, and the rate in Hz.

    Raises:
        AudioFileError, MissingPackage: as `open_audio` and `AudioReader.read`.
    """
    with open_audio(path, stream) as reader:
        return reader.stretch(start, samples), reader.rate


def _source(path: Path, stream: int | None) -> Source:
    info = path.stat()
    if stat.S_ISDIR(info.st_mode):
        raise AudioFileError(f"{path} is a folder; give an audio file.")
    if not stat.S_ISREG(info.st_mode):
        raise AudioFileError(f"{path} is no regular file, and is to be read twice; save it first.")
    with path.open("rb") as file:
        head = file.read(32)
        if not head:
            raise AudioFileError(f"{path} is empty (0 bytes); copy or download it again.")
        if stream:
            return StreamSource(path, stream)  # the others know files of one stream
        if is_wave(head):
            try:
                header = parse_wave(file, info.st_size)
            except ValueError as error:
                raise AudioFileError(f"{path}: {error}; export it again.") from error
            if header is not None:
                return WaveSource(path, header)
    if is_for_libsndfile(head):
        try:
            return SoundFileSource(path, head, info.st_size)
        except UnsuitableError:
            pass  # FFmpeg reads these, or says why it cannot
    if is_ogg(head):
        try:
            return VorbisSource(path, info.st_size)
        except UnsuitableError:
            pass  # FFmpeg follows chains and knows the other kinds of Ogg
    return StreamSource(path, stream)
