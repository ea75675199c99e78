"""Compressed stems decoded once into a folder, as 16-bit wave files that are read at any place.

An entry is ``NAME.wav`` and ``NAME.json``, which tells of what it was made; the second is written
last.  A file that has changed since, in size or time, is decoded again.  The folder may be shared
by data sets and runs, and deleted at any time between runs.

Rounding to 16 bits is exact where the stem is rounded itself, as MUSDB18's are (``Part.bits``), and
for FLAC of 16 bits.  Elsewhere it adds noise at -98 dB of full scale; a stem that goes beyond full
scale is scaled down, and up again as it is read.  That is for training: nothing is scored on it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zoo.audio import AudioReader, AudioWriter, open_audio
from zoo.data.track import FileTrack, Part, Track
from zoo.errors import AudioFileError, DatasetError
from zoo.files import write_whole

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_BLOCK = 1 << 18
_TOP = 32767.0 / 32768  # the highest 16-bit sample


def decoded(
    tracks: Sequence[Track], folder: str | Path, progress: Progress | None = None
) -> list[Track]:
    """The tracks, with what is compressed of their stems read from a folder of decoded files.

    What is not there yet is decoded first; killed on the way, the next run goes on with the file
    at which this one stopped.  Where the disk is full, one line says so, and the rest is read from
    the compressed files.

    Args:
        tracks: any; those without files, and files that are not compressed, stay as they are.
        folder: of the cache, made if need be.
        progress: called with (files decoded, files to decode).

    Raises:
        DatasetError: a stem is damaged, or ``folder`` is no place for a cache.
    """
    cache = _Cache(Path(folder))
    users = {
        _Stem(part): track.name
        for track in tracks
        if isinstance(track, FileTrack)
        for part in _parts(track)
        if part.bits in (None, 16)
    }
    found = {stem: cache.find(stem) for stem in users}
    absent = [stem for stem in users if found[stem] is None and stem.is_compressed(users[stem])]
    if absent:
        cache.fill({stem: users[stem] for stem in absent}, progress)
        found.update({stem: cache.find(stem) for stem in absent})

    def of(part: Part) -> Part:
        entry = found.get(_Stem(part))
        return part if entry is None else entry.instead_of(part)

    return [_with_parts(track, of) if isinstance(track, FileTrack) else track for track in tracks]


def _parts(track: FileTrack) -> Iterator[Part]:
    """What training reads: the stems, and the mixture where some sources are inside it only."""
    for parts in track.stems.values():
        yield from parts
    if track.mixture is not None and track.unknown:
        yield track.mixture


def _with_parts(track: FileTrack, of: Callable[[Part], Part]) -> FileTrack:
    stems = {source: tuple(map(of, parts)) for source, parts in track.stems.items()}
    return replace(track, stems=stems, mixture=None if track.mixture is None else of(track.mixture))


@dataclass(frozen=True, init=False)
class _Stem:
    """A stream of a file, and whether it is cut at full scale as it is rounded."""

    path: Path
    stream: int
    is_cut: bool

    def __init__(self, part: Part) -> None:
        for name, value in (
            ("path", Path(os.path.abspath(part.path))),
            ("stream", part.stream),
            ("is_cut", part.bits is not None),
        ):
            object.__setattr__(self, name, value)

    @property
    def name(self) -> str:
        key = f"{self.path}\n{self.stream}\n{self.is_cut}"
        return f"{self.path.stem[:40]}-{hashlib.sha256(os.fsencode(key)).hexdigest()[:16]}"

    @property
    def facts(self) -> dict[str, object]:
        """What an entry must have been made of to stand for it."""
        info = self.path.stat()
        return {
            "file": str(self.path),
            "stream": self.stream,
            "size": info.st_size,
            "mtime_ns": info.st_mtime_ns,
        }

    def open(self, song: str) -> AudioReader:
        try:
            return open_audio(self.path, self.stream)
        except AudioFileError as error:
            raise DatasetError(f"{song}: {error}") from error

    def is_compressed(self, song: str) -> bool:
        with self.open(song) as reader:
            return reader.is_compressed

    def blocks(self, song: str) -> Iterator[np.ndarray]:
        """The whole stream, in pieces."""
        with self.open(song) as reader:
            try:
                yield from reader.blocks(_BLOCK)
            except AudioFileError as error:
                raise DatasetError(f"{song}: {error}") from error


@dataclass(frozen=True)
class _Entry:
    """A decoded file, and the factor that gives it its level back."""

    path: Path
    scale: float

    def instead_of(self, part: Part) -> Part:
        return replace(part, path=self.path, stream=0, bits=None, gain=part.gain * self.scale)


class _Cache:
    """The folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()

    def find(self, stem: _Stem) -> _Entry | None:
        """The entry of a stem, if there is one and the stem has not changed."""
        wave, card = self._files(stem)
        try:
            told = json.loads(card.read_text(encoding="utf-8"))
            if told["of"] == stem.facts and told["bytes"] == wave.stat().st_size:
                return _Entry(wave, float(told["scale"]))
        except (OSError, ValueError, TypeError, KeyError):
            pass  # not there, or not whole: it is made anew
        return None

    def fill(self, stems: dict[_Stem, str], progress: Progress | None) -> None:
        """Decode stems, by song, as far as the disk allows."""
        done, told = 0, progress or (lambda done, total: None)
        try:
            with self._locked():
                stems = {s: song for s, song in stems.items() if self.find(s) is None}
                for partial in self.folder.glob(".*.partial"):
                    partial.unlink(missing_ok=True)  # of a run that was killed
                if stems:
                    log.info("cache %s: %d files are decoded", self.folder, len(stems))
                for stem, song in stems.items():
                    self._decode(stem, song)
                    done += 1
                    told(done, len(stems))
        except OSError as error:
            log.warning(
                "cache %s: %s. %d of %d files stay compressed, and are decoded at each reading.",
                self.folder,
                str(error).removesuffix("."),
                len(stems) - done,
                len(stems),
            )
        finally:
            if 0 < done < len(stems):
                told(done, done)  # there will be no more

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The folder for this run alone; what another makes meanwhile is waited for.

        Raises:
            DatasetError: there can be no such folder.
            OSError: the disk is full.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                log.info("cache %s: another run is filling it; waiting for that", self.folder)
                lock.acquire()
        except OSError as error:
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
                raise
            raise DatasetError(
                f"{self.folder} cannot hold a cache ({error.strerror or error}); name a folder "
                "that can be written, or none."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _decode(self, stem: _Stem, song: str) -> None:
        """Make an entry.

        Raises:
            DatasetError: the stem is damaged.
            OSError: the disk is full.
        """
        wave, card = self._files(stem)
        facts = stem.facts  # as they are before it is read
        card.unlink(missing_ok=True)
        scale, peak = 1.0, self._write(stem, song, wave, 1.0)
        if peak > _TOP + 0.5 / 32768 and not stem.is_cut:
            scale = peak / _TOP
            self._write(stem, song, wave, scale)
        told = {"of": facts, "scale": scale, "bytes": wave.stat().st_size}
        write_whole(card, json.dumps(told, indent=1) + "\n")

    def _write(self, stem: _Stem, song: str, wave: Path, scale: float) -> float:
        """Write a stem as a wave file at 1 / ``scale`` of its level; its peak."""
        peak = 0.0
        with stem.open(song) as reader:
            rate, channels = reader.rate, reader.channels
            samples = reader.samples or reader.announced
        with AudioWriter(wave, rate, channels, "PCM_16", samples) as writer:
            for block in stem.blocks(song):
                peak = max(peak, float(np.abs(block).max()))
                writer.write(block if scale == 1 else block / np.float32(scale))
        return peak

    def _files(self, stem: _Stem) -> tuple[Path, Path]:
        name = stem.name
        return self.folder / f"{name}.wav", self.folder / f"{name}.json"
