"""Compressed files that stay open between the stretches that training takes from them.

Opening a stem.mp4 of four minutes takes as long as decoding six seconds of it, and an MP3 file that
is open need not be decoded from its beginning when the next stretch lies further on.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from threading import Lock

import numpy as np

from zoo.audio.reading import AudioReader, open_audio, read

_MOST = 64  # measured: a stem.mp4 of four minutes takes 3 MiB as long as it is open

_Key = tuple[Path, int | None, int, int]


def read_again(
    path: str | os.PathLike[str],
    start: int = 0,
    samples: int | None = None,
    stream: int | None = None,
) -> tuple[np.ndarray, int]:
    """As `read`, for files of which many stretches are read.

    A process keeps the compressed files that it read last open, and none that its parent opened:
    after a fork the two would share a place in the file.  A file that was replaced is opened anew.
    """
    path = Path(path)
    try:
        facts = path.stat()
    except OSError:
        return read(path, start, samples, stream)  # which says what is wrong
    key = (path, stream, facts.st_size, facts.st_mtime_ns)
    reader = _kept.take(key) or open_audio(path, stream)
    try:
        signal = reader.stretch(start, samples)
    except BaseException:
        reader.close()
        raise
    if reader.is_compressed:
        _kept.put(key, reader)
    else:
        reader.close()  # opening it again costs nothing
    return signal, reader.rate


class _Kept:
    """Readers that nobody uses at the moment, the last used at the end."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._readers: OrderedDict[_Key, AudioReader] = OrderedDict()
        self._lock = Lock()
        self._process = os.getpid()

    def take(self, key: _Key) -> AudioReader | None:
        if self._process != os.getpid():
            self._forget()
        with self._lock:
            return self._readers.pop(key, None)

    def put(self, key: _Key, reader: AudioReader) -> None:
        with self._lock:
            replaced = self._readers.pop(key, None)  # another thread read the same file
            self._readers[key] = reader
            surplus = [replaced] if replaced else []
            while len(self._readers) > _limit():
                surplus.append(self._readers.popitem(last=False)[1])
        for reader in surplus:
            reader.close()


def _limit() -> int:
    """How many files may stay open: a quarter of what the process may open at all."""
    try:
        from resource import RLIMIT_NOFILE, getrlimit
    except ImportError:  # not on Windows
        return _MOST
    allowed = getrlimit(RLIMIT_NOFILE)[0]
    return _MOST if allowed < 0 else min(_MOST, allowed // 4)


_kept = _Kept()
