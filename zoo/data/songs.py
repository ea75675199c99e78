"""Songs to be separated: tracks of a data set, or plain audio files that belong to none."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePath

import torch
from torch import Tensor

from zoo.audio import FILM_SUFFIXES, SUFFIXES
from zoo.data.track import Track
from zoo.errors import AudioFileError
from zoo.stems import RECORD, stems_of, to_text
from zoo.streaming import FileSignal

_RECORD = Path(RECORD).stem  # is in the path of every record, whatever the template
_BLOCK = 1 << 18  # samples read from a track at once; about six seconds


class Input:
    """One song, opened when its turn comes.

    No dataclass: Lightning would take one apart on its way to the device.

    Args:
        path: of the file; the name of a track.
        below: place of its results below the folder of all results.
        stem: last part of that place: without its extension for a file, all of a track's name.
        input: what a record says of it.
        open: gives its sound, as often as it is asked.
        is_track: its name is its own; that of a file may be another's in another folder.
    """

    def __init__(
        self,
        path: Path,
        below: Path,
        stem: str,
        input: str,
        open: Callable[[], FileSignal | TrackSignal],
        is_track: bool = False,
    ) -> None:
        self.path, self.below, self.stem, self.input = path, below, stem, input
        self.open, self.is_track = open, is_track

    @classmethod
    def of_file(cls, path: Path, below: Path) -> Input:
        """A file and its place below the folder that was given."""
        stem = below.name if below.stem in (".", "..") else below.stem
        return cls(path, below, stem, to_text(path.resolve()), partial(FileSignal, path))

    @classmethod
    def of_track(cls, track: Track, dataset: str) -> Input:
        """A track of the data set ``dataset``, which may lie elsewhere in the next run."""
        name = track.name.replace(os.sep, "_")
        told = f"{dataset}: {track.name}, {track.samples} samples at {track.rate} Hz"
        return cls(Path(track.name), Path(name), name, told, partial(TrackSignal, track), True)


class TrackSignal:
    """The mixture of a track, read forward in constant memory."""

    def __init__(self, track: Track) -> None:
        self.track = track
        self.rate, self.channels, self.samples = track.rate, track.channels, track.samples
        self.announced: int | None = track.samples
        self.is_float, self.bits = True, 32  # a sum of integers knows no full scale
        self.notes: list[str] = []

    def blocks(self) -> Iterator[Tensor]:
        """The stored mixture where there is one, else the sum of the sources."""
        track = self.track
        if track.has_mixture:
            # Read on, not anew: seeking in a compressed file decodes all that lies before.
            for block in track.blocks(_BLOCK, ["mixture"]):
                yield torch.from_numpy(block["mixture"])
            return
        for start in range(0, track.samples, _BLOCK):
            yield torch.from_numpy(track.read("mixture", start, _BLOCK))


def find_audio(inputs: Iterable[str | os.PathLike[str]]) -> list[tuple[Path, Path]]:
    """The audio files among files, folders and patterns, each with its place below its folder.

    Hidden files are left out of folders, and so are the stems that an earlier run has left there.

    Raises:
        AudioFileError: a name that fits nothing, or a folder without audio.
    """
    found: dict[str, tuple[Path, Path]] = {}
    for given in inputs:
        path = _existing(os.fspath(given))
        if path is None:
            pairs = [(match, Path(match.name)) for match in _matches(os.fspath(given))]
        elif path.is_dir():
            pairs = [(file, file.relative_to(path)) for file in _in_folder(path)]
        else:
            pairs = [(path, Path(path.name))]
        for file, below in pairs:
            found.setdefault(os.path.abspath(file), (file, below))
    return list(found.values())


def _existing(given: str) -> Path | None:
    """A path as it was given, else with ``~`` spelled out; a file's name may begin with it."""
    for text in (given, os.path.expanduser(given)):
        if os.path.lexists(text):
            return Path(text)
    return None


def _matches(pattern: str) -> list[Path]:
    paths = [Path(p) for p in glob.iglob(os.path.expanduser(pattern), recursive=True)]
    stems = {p for folder in {p.parent for p in paths} for p in _stems(_records_beside(folder))}
    matches = sorted(p for p in paths if p.is_file() and p.resolve() not in stems)
    if not matches:
        raise AudioFileError(
            f"{pattern}: no file, folder or pattern of this name leads to audio; check the path."
        )
    return matches


def _in_folder(folder: Path) -> list[Path]:
    below = [p for p in folder.rglob("*") if not _is_hidden(p.relative_to(folder))]
    stems = set(_stems(p for p in below if _may_be_record(p)))
    suffixes = SUFFIXES | FILM_SUFFIXES
    files = sorted(p for p in below if p.suffix.lower() in suffixes and p.is_file())
    songs = [p for p in files if p.resolve() not in stems]
    if not songs:
        only = " but stems that an earlier run has made" if files else ""
        raise AudioFileError(
            f"folder {folder} holds no audio files{only}; name files or another folder."
        )
    return songs


def _is_hidden(path: PurePath) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _stems(records: Iterable[Path]) -> Iterator[Path]:
    for record in records:
        yield from (path.resolve() for path in stems_of(record))


def _may_be_record(path: Path) -> bool:
    """Whether a look into the file is worth it: a template puts the word anywhere in the path."""
    return path.suffix == ".json" and any(_RECORD in part for part in path.parts)


def _records_beside(folder: Path) -> Iterator[Path]:
    for place in (folder, folder.parent / _RECORD):
        yield from (p for p in place.glob("*.json") if _may_be_record(p))
