"""Where the stems of a song go: everything about names, nothing about sound.

Beside the stems of a song lies a record, ``separation.json``.  By it a later run knows which place
belongs to which input, and what is there already.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from zoo.data.songs import Input
from zoo.errors import ZooError
from zoo.stems import read_record

TEMPLATE = "{name}/{source}.{format}"
RECORD, PICTURE = "separation", "spectrograms"  # what stands for a source in their names
MAX_FOLDER_BYTES = 255  # of a name, in nearly all file systems
MAX_FILE_BYTES = 225  # leaves room for what a hidden name adds while the file grows


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
        if ".." in PurePath(template).parts or PurePath(template).is_absolute():
            raise ZooError(
                f"file name template {template!r} leads out of the output folder; name that "
                "with --output instead."
            )
        if first == second or other == first:
            raise ZooError(
                f"file name template {template!r} must hold {{name}} and {{source}}, "
                "else stems would replace each other."
            )

    @property
    def suffix(self) -> str:
        """Extension of the stems, with its dot, in lower case."""
        return self._fill("name", "source").suffix.lower()

    def place(self, song: Input, sources: Sequence[str]) -> Place:
        """Where the stems of a song go: named after it, with its extension where it must be.

        What was made of another file of the same name keeps its place; of another track, it is in
        this one's.
        """
        parent = "" if song.below.parent == Path(".") else f"{song.below.parent}/"
        full = song.below.name
        names = (f"{full} ({i})" for i in range(2, 10000))
        for name in itertools.chain([song.stem, full], names):
            # The dots of a file called "..." alone would lead out of the folder.
            safe = name if name.strip(".") else f"{name}_"
            stems = {source: self._fill(parent + safe, source) for source in sources}
            record = self._fill(parent + safe, RECORD, ".json")
            picture = self._fill(parent + safe, PICTURE, ".png")
            keys = {_key(p) for p in (record, picture, *stems.values())}
            if self._taken.isdisjoint(keys) and (song.is_track or _belongs(record, song)):
                self._taken |= keys
                return Place(stems, record, picture)
        raise ZooError(
            f"{song.path}: ten thousand files of this name; choose another output folder."
        )

    def _fill(self, name: str, source: str, suffix: str | None = None) -> Path:
        text = self.template.format(name=name, source=source, format=self.format)
        path = PurePath(text)
        if suffix is not None:
            path = path.with_name(path.name.removesuffix(path.suffix) + suffix)
        folders = [_fitting(part, MAX_FOLDER_BYTES) for part in path.parts[:-1]]
        return self.output.joinpath(*folders, _fitting(path.name, MAX_FILE_BYTES))


def _belongs(record: Path, song: Input) -> bool:
    """Whether a place is free, or was made from this very input."""
    try:
        record.stat()
    except FileNotFoundError:
        return True
    except OSError:  # a file stands where a folder should be
        return False
    content = read_record(record)
    return content is not None and content.get("input") == song.input


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
