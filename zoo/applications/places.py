"""Which files are separated, and where their stems go: everything about names, nothing about sound.

Beside the stems of a song lies a record, ``separation.json``.  By it a later run knows which place
belongs to which input, what is there already, and which files are stems and no songs.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from zoo.errors import AudioFileError, ZooError
from zoo.stems import to_text

AUDIO_SUFFIXES = frozenset(
    ".wav .wave .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .m4a .mp4 .aac .caf .w64 .rf64"
    " .wma .webm .mka".split()
)
TEMPLATE = "{name}/{source}.{format}"
RECORD, PICTURE = "separation", "spectrograms"  # what stands for a source in their names
MAX_FOLDER_BYTES = 255  # of a name, in nearly all file systems
MAX_FILE_BYTES = 225  # leaves room for what a hidden name adds while the file grows
_LARGEST_RECORD = 1 << 20  # bytes; ours have a thousand


# ------------------------------------------------------------------------------- inputs


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
    files = sorted(p for p in below if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
    songs = [p for p in files if p.resolve() not in stems]
    if not songs:
        only = " but stems that an earlier run has made" if files else ""
        raise AudioFileError(
            f"folder {folder} holds no audio files{only}; name files or another folder."
        )
    return songs


def _is_hidden(path: PurePath) -> bool:
    return any(part.startswith(".") for part in path.parts)


# ------------------------------------------------------------------------------- records


def read_record(path: Path) -> dict[str, Any] | None:
    """What a run has written of a song; None where there is no such record."""
    try:
        if path.stat().st_size > _LARGEST_RECORD:
            return None
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and "files" in content else None


def stems_of(record: Path) -> list[Path]:
    """The stems that a record names and that are there, of its run and of earlier ones."""
    content = read_record(record) or {}
    names = [*_names(content.get("files")), *_names(content.get("earlier"))]
    paths = [record.parent / from_text(name) for name in names]
    return [path for path in paths if os.path.lexists(path)]


def from_text(text: str) -> str:
    """A path from a record."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def _names(listed: Any) -> list[str]:
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []


def _stems(records: Iterable[Path]) -> Iterator[Path]:
    for record in records:
        yield from (path.resolve() for path in stems_of(record))


def _may_be_record(path: Path) -> bool:
    """Whether a look into the file is worth it: a template puts the word anywhere in the path."""
    return path.suffix == ".json" and any(RECORD in part for part in path.parts)


def _records_beside(folder: Path) -> Iterator[Path]:
    for place in (folder, folder.parent / RECORD):
        yield from (p for p in place.glob("*.json") if _may_be_record(p))


# ------------------------------------------------------------------------------- places


@dataclass(frozen=True)
class Place:
    """Where the results of one input go.

    Attributes:
        stems: source -> file.
        record: what was done.
        picture: spectrograms.
    """

    stems: dict[str, Path]
    record: Path
    picture: Path


class Places:
    """A place of its own for every input, the same in every run.

    Args:
        output: folder of the results.
        template: place of a stem below it, with ``{name}``, ``{source}`` and ``{format}``.
        format: extension of the stems.

    Raises:
        ZooError: a template by which stems would replace each other.
    """

    def __init__(self, output: Path, template: str, format: str) -> None:
        self.output, self.template, self.format = output, template, format.lstrip(".").lower()
        self._taken: set[str] = set()
        try:
            first, second = (self._fill("name", source) for source in ("vocals", "other"))
            other = self._fill("another", "vocals")
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            raise ZooError(
                f"file name template {template!r}: {error}; "
                "it may use {name}, {source} and {format}."
            ) from error
        if first == second or other == first:
            raise ZooError(
                f"file name template {template!r} must hold {{name}} and {{source}}, "
                "else stems would replace each other."
            )

    @property
    def suffix(self) -> str:
        """Extension of the stems, with its dot, in lower case."""
        return self._fill("name", "source").suffix.lower()

    def place(self, path: Path, below: Path, sources: Sequence[str]) -> Place:
        """Where the stems of an input go: named after it, with its extension where it must be.

        Args:
            path: of the input.
            below: its place in the folder that was given, which the results keep.
            sources: of the stems.
        """
        parent = "" if below.parent == Path(".") else f"{below.parent}/"
        stem = below.name if below.stem in (".", "..") else below.stem
        names = (f"{below.name} ({i})" for i in range(2, 10000))
        for name in itertools.chain([stem, below.name], names):
            # The dots of a file called "..." alone would lead out of the folder.
            safe = name if name.strip(".") else f"{name}_"
            stems = {source: self._fill(parent + safe, source) for source in sources}
            record = self._fill(parent + safe, RECORD, ".json")
            picture = self._fill(parent + safe, PICTURE, ".png")
            keys = {_key(p) for p in (record, picture, *stems.values())}
            if self._taken.isdisjoint(keys) and _belongs(record, path):
                self._taken |= keys
                return Place(stems, record, picture)
        raise ZooError(f"{path}: ten thousand files of this name; choose another output folder.")

    def _fill(self, name: str, source: str, suffix: str | None = None) -> Path:
        text = self.template.format(name=name, source=source, format=self.format)
        path = PurePath(text)
        if suffix is not None:
            path = path.with_name(path.name.removesuffix(path.suffix) + suffix)
        folders = [_fitting(part, MAX_FOLDER_BYTES) for part in path.parts[:-1]]
        return self.output.joinpath(*folders, _fitting(path.name, MAX_FILE_BYTES))


def _belongs(record: Path, path: Path) -> bool:
    """Whether a place is free, or was made from this very input."""
    try:
        record.stat()
    except FileNotFoundError:
        return True
    except OSError:  # a file stands where a folder should be
        return False
    content = read_record(record)
    return content is not None and content.get("input") == to_text(path.resolve())


def _key(path: Path) -> str:
    """The same for names that some file system cannot keep apart."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _fitting(name: str, most: int) -> str:
    """A name of at most ``most`` bytes: its two ends, and a hash of what was in between."""
    raw = os.fsencode(name)
    if len(raw) <= most:
        return name
    joint = f"~{hashlib.sha256(raw).hexdigest()[:8]}~"
    tail = name[-20:]  # with the source and the extension: at most 80 bytes
    head = name
    while len(os.fsencode(head + joint + tail)) > most:
        head = head[:-1]
    return head + joint + tail
