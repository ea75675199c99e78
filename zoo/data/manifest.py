"""A list of tracks that lie anywhere, as a CSV or JSON file.

::

    name,split,licence,mixture,vocals,drums,bass,other
    Song A,train,CC0,,a/vox.wav,a/kick.wav;a/snare.wav,a/bass.wav,a/rest.flac

Paths are relative to the list.  Several files of a source are separated by ``;`` and summed.  An
empty cell is a source of which there is no file; ``silent`` and ``unknown`` say what that means.
With ``start`` and ``end``, in seconds of its files, a row is a part of a song; both may be empty.
JSON holds a list of objects with the same keys, where a list of paths may stand for one.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from zoo.data.files import FileDataset, Missing, check_word, file_track, unknown_within
from zoo.data.track import SPLITS, FileTrack, Part, Split
from zoo.errors import DatasetError

_FACTS = ("name", "split", "licence", "mixture", "start", "end")
_NEEDED = ("name", "split")
Row = Mapping[str, Any]


class Manifest(FileDataset[Row]):
    """The tracks of a list.

    Args:
        root: the list, or a folder that holds ``manifest.csv`` or ``manifest.json``; with
            ``tracks``, the folder that their paths start from.
        tracks: the list itself, as JSON would hold it.
        sources: columns that are sources; None: all that hold no other fact.
        missing: what an empty cell is: ``error``, ``silent`` or ``unknown``.
        pads: take shorter files as silent in the end, and single channels for all of them.
        skip_faulty: leave out songs that cannot be used, with one warning each.

    Raises:
        DatasetError: no such list, a column or value that is needed is not in it, or two rows share
            a name.
    """

    id = "manifest"
    takes_file = True

    def __init__(
        self,
        root: str | Path,
        *,
        tracks: Sequence[Row] | None = None,
        sources: Sequence[str] | None = None,
        missing: Missing = "error",
        pads: bool = False,
        skip_faulty: bool = False,
    ) -> None:
        check_word("missing", missing, Missing)
        self.path = _find(Path(root)) if tracks is None else Path(root) / "tracks"
        self.missing, self.pads = missing, pads
        rows = _read(self.path) if tracks is None else tracks
        columns = list(dict.fromkeys(key for row in rows for key in row))
        self.sources = tuple(sources or (c for c in columns if c not in _FACTS))
        if lacking := [c for c in (*_NEEDED, *self.sources) if c not in columns]:
            raise DatasetError(
                f"{self.path} has no column {', '.join(lacking)}; it has "
                f"{', '.join(columns)}. Expected name, split and one for each source."
            )
        if not self.sources:
            raise DatasetError(
                f"{self.path} has no column of a source, only {', '.join(columns)}; add some, such "
                "as vocals and other."
            )
        super().__init__(self._by_split(rows), skip_faulty)

    def open(self, name: str, place: Row) -> FileTrack:  # noqa: D102
        stems: dict[str, tuple[Part, ...]] = {}
        unknown: set[str] = set()
        for source in self.sources:
            files = _files(place.get(source))
            word = files[0] if len(files) == 1 else "" if files else self.missing
            if word == "error":
                raise DatasetError(
                    f"song {name!r} has no {source} in {self.path}; name its file, or write silent "
                    "or unknown there."
                )
            if word == "unknown":
                unknown.add(source)
            else:
                stems[source] = () if word == "silent" else self._parts(files)
        mixture = self._parts(_files(place.get("mixture")))
        if len(mixture) > 1:
            raise DatasetError(f"song {name!r} has {len(mixture)} mixtures; name one file.")
        track = file_track(
            name,
            self.sources,
            stems,
            mixture[0] if mixture else None,
            unknown=unknown_within(stems, frozenset(unknown)),
            licence=str(place.get("licence") or ""),
            pads=self.pads,
        )
        return self._cut(track, place)

    def _cut(self, track: FileTrack, place: Row) -> FileTrack:
        """The part of a song that a row asks for."""
        length = track.samples / track.rate
        try:
            start, end = float(place.get("start") or 0), float(place.get("end") or length)
        except ValueError as error:
            raise DatasetError(
                f"{self.path}: song {track.name!r} starts and ends at no number of seconds "
                f"({error})."
            ) from error
        if not 0 <= start < end <= length + 0.5 / track.rate:
            raise DatasetError(
                f"{self.path}: song {track.name!r} goes from {start} s to {end} s, and its files "
                f"from 0 to {length:.3f} s; choose a part of them."
            )
        first = round(start * track.rate)
        return replace(track, first=first, samples=round(end * track.rate) - first)

    def _parts(self, files: Sequence[str]) -> tuple[Part, ...]:
        return tuple(Part(self.path.parent / file) for file in files)

    def _by_split(self, rows: Sequence[Row]) -> dict[Split, dict[str, Row]]:
        songs: dict[Split, dict[str, Row]] = {split: {} for split in SPLITS}
        for number, row in enumerate(rows, 1):
            name, split = (str(row.get(key) or "").strip() for key in _NEEDED)
            found = songs.get(cast(Split, split))
            if found is None or not name:
                raise DatasetError(
                    f"{self.path}: track {number} has name {name!r} and split {split!r}; expected "
                    f"a name, and a split that is one of {', '.join(SPLITS)}."
                )
            if name in found:
                raise DatasetError(
                    f"{self.path}: two tracks of {split} are named {name!r}; rename one."
                )
            found[name] = row
        return songs


def _files(cell: Any) -> list[str]:
    """The paths in a cell."""
    names = cell if isinstance(cell, list) else str(cell or "").split(";")
    return [file for name in names if (file := str(name).strip())]


def _find(root: Path) -> Path:
    if root.is_file():
        return root
    for name in ("manifest.csv", "manifest.json"):
        if (root / name).is_file():
            return root / name
    raise DatasetError(f"{root} holds neither manifest.csv nor manifest.json; add one.")


def _read(path: Path) -> list[Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a mark at the beginning
        if path.suffix.lower() == ".json":
            rows = json.loads(text)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise ValueError("it is no list of objects")
        else:
            rows = list(csv.DictReader(text.splitlines(), strict=True))
            if any(None in row for row in rows):
                raise ValueError("a row has more cells than there are columns")
    except (OSError, ValueError, csv.Error) as error:
        raise DatasetError(
            f"{path} cannot be read as a list of tracks ({error}); correct it."
        ) from error
    if not rows:
        raise DatasetError(f"{path} lists no track; add some.")
    return rows
