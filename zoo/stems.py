"""The files of a separation on disk: all of them appear together, with the record of how."""

from __future__ import annotations

import json
import os
import platform
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import numpy as np
import torch

import zoo
from zoo.audio import AudioWriter
from zoo.errors import AudioFileError, ZooError

RECORD = "separation.json"
_LARGEST_RECORD = 1 << 20  # bytes; ours have a thousand


def versions() -> dict[str, str]:
    """Versions that a repeat of a run would need."""
    return {
        "zoo": zoo.__version__,
        "torch": str(torch.__version__),
        "lightning": lightning.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def record(
    info: Mapping[str, Any],
    files: Sequence[str],
    earlier: Sequence[str] = (),
    **arguments: Any,
) -> str:
    """The text of a `RECORD`: enough to repeat the run.

    Args:
        info: input, model, arguments and notes, as `zoo.Estimates.info` has them.
        files: the stems, relative to the record.
        earlier: stems of earlier runs that are still there.
        arguments: further ones, of the writing.
    """
    facts = {
        "input": None,
        **info,
        "arguments": {**info.get("arguments", {}), **arguments},
        "files": list(files),
        "earlier": list(earlier),
        "versions": versions(),
    }
    return json.dumps(facts, indent=1, default=str) + "\n"


def as_recorded(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as they come back from a record: numbers, texts, lists and mappings."""
    recorded: dict[str, Any] = json.loads(json.dumps(facts, default=str))
    return recorded


def to_text(path: str | os.PathLike[str]) -> str:
    """A path as it stands in a record: the same in every locale."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def from_text(text: str) -> str:
    """A path from a record."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


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


def _names(listed: Any) -> list[str]:
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []


def refuse_folder(path: Path) -> None:
    """Say that a file cannot be called so.

    Raises:
        AudioFileError: ``path`` is a folder.
    """
    if path.is_dir():
        raise AudioFileError(f"{path} is a folder; choose another output folder.")


class Bundle:
    """Files in the making that get their names together; see `together`."""

    def __init__(self) -> None:
        self._writers: list[AudioWriter] = []
        self._others: list[tuple[Path, Path]] = []  # hidden and final name
        self._folders: list[Path] = []  # that were made, the outer ones first

    def audio(
        self, path: Path, rate: int, channels: int, subtype: str | None, samples: int | None = None
    ) -> AudioWriter:
        """A writer, as `zoo.audio.AudioWriter` has it; the bundle closes it."""
        self._make(path.parent)
        writer = AudioWriter(path, rate, channels, subtype, samples)
        self._writers.append(writer)
        return writer

    def add(self, path: Path, write: Callable[[Path], object]) -> None:
        """Any other file: ``write`` is given the hidden name that it has until the end."""
        refuse_folder(path)
        self._make(path.parent)
        hidden = _hidden(path, "partial")
        self._others.append((hidden, path))
        with _named(path):
            write(hidden)

    def complete(self) -> None:
        """Finish all, then give them their names; no signal comes between two of them."""
        for writer in self._writers:
            writer.finish()
        steps: list[tuple[Path, Callable[[], object]]] = []
        steps += [(final, partial(hidden.replace, final)) for hidden, final in self._others]
        steps += [(writer.path, writer.close) for writer in self._writers]
        with _uninterrupted():
            _name_together(steps)

    def discard(self) -> None:
        """Leave nothing behind of what has no name yet, and no empty folder."""
        for writer in self._writers:
            writer.abort()
        for hidden, _ in self._others:
            hidden.unlink(missing_ok=True)
        for folder in reversed(self._folders):  # what lies inside comes first
            with suppress(OSError):  # never made, or others have put something into it
                folder.rmdir()

    def _make(self, folder: Path) -> None:
        missing = [p for p in (folder, *folder.parents) if not os.path.lexists(p)]
        self._folders += reversed(missing)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AudioFileError(
                f"folder {folder} cannot be made ({error.strerror}); choose another output folder."
            ) from error


def sweep(folder: Path) -> None:
    """Remove what a killed run has left in a folder that is no other run's."""
    for pattern in (".*.partial", ".*.partial.*", ".*.before.*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


@contextmanager
def together() -> Iterator[Bundle]:
    """A `Bundle` that is completed on success, and else leaves all as it was before.

    That holds for an error of the very last renaming too: what stood at the names before stands
    there again, and folders that were made are gone.

    Raises:
        AudioFileError: a file or folder that cannot be written.
    """
    bundle = Bundle()
    try:
        yield bundle
        bundle.complete()
    except BaseException:
        bundle.discard()
        raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error of the system says which file it concerns."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ZooError):
            raise
        raise AudioFileError(
            f"{path} cannot be written ({error.strerror or error}); nothing is left of it. "
            "Make room or choose another place."
        ) from error


def _hidden(path: Path, kind: str) -> Path:
    """A name beside ``path`` that no other run has, cut to fit where the final one fits."""
    return path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}.{kind}{path.suffix}")


def _name_together(steps: Sequence[tuple[Path, Callable[[], object]]]) -> None:
    """Give files their names, each by its own step; after an error all is as it was."""
    aside: dict[Path, Path | None] = {}  # a name, and what stood there before
    try:
        # The record, which comes first in the steps, goes last and comes first: a process that is
        # killed in between leaves no stem beside the record of another run, or beside none.
        for final, _ in reversed(steps):
            with _named(final):
                aside[final] = _set_aside(final)
        for final, give_name in steps:
            with _named(final):
                give_name()
    except BaseException:
        for final, before in aside.items():
            if before is None:
                final.unlink(missing_ok=True)
            else:
                before.replace(final)
        raise
    for before in aside.values():
        if before is not None:
            with suppress(OSError):  # a hidden file too many; the song is complete
                before.unlink()


def _set_aside(path: Path) -> Path | None:
    """A hidden second name for what stands at ``path``, which may then be replaced."""
    if not os.path.lexists(path):
        return None
    hidden = _hidden(path, "before")
    path.rename(hidden)
    return hidden


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is done inside is done as a whole: Ctrl-C waits for its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []
    handlers = {
        number: signal.signal(number, lambda *caught: waiting.append(caught))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for caught, frame in waiting:
            if callable(handler := handlers[signal.Signals(caught)]):
                handler(caught, frame)
