"""How far a long job is: a bar in a terminal, plain lines in a log, JSON lines for a program."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.applications.separate import FileProgress

KINDS = ("auto", "bar", "lines", "json", "none")
LINE_S = 10.0  # seconds between two lines of a log


@contextmanager
def showing(kind: str) -> Iterator[FileProgress | None]:
    """A progress callback of `zoo.applications.separate.separate_files`, shown as ``kind`` says.

    ``auto`` is a bar where standard error is a terminal, and lines elsewhere.
    """
    if kind not in KINDS:
        raise ZooError(f"progress {kind!r}; expected one of {', '.join(KINDS)}.")
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "lines"
    if kind == "bar":
        with _bar() as callback:
            yield callback
    else:
        yield {"lines": _lines(), "json": _json, "none": None}[kind]


@contextmanager
def _bar() -> Iterator[FileProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    # Standard output passes through the bar where both are on the terminal, and never else.
    shared = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=shared) as bar:
        tasks: dict[tuple[Path, str], TaskID] = {}

        def callback(path: Path, stage: str, done: int, total: int | None) -> None:
            for key in [k for k in tasks if k != (path, stage)]:
                bar.remove_task(tasks.pop(key))
            if (path, stage) not in tasks:
                name = printable(path.name)
                label = name if stage == "separate" else f"{name} ({stage})"
                tasks[path, stage] = bar.add_task(label.replace("[", "\\["), total=total)
            bar.update(tasks[path, stage], completed=done, total=total)

        yield callback


def _lines() -> FileProgress:
    last = time.monotonic()

    def callback(path: Path, stage: str, done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_S:
            last = time.monotonic()
            unit = "bytes" if stage == "download" else "samples"
            share = f"{100 * done / total:.0f} %" if total else f"{done} {unit}"
            print(f"  {printable(path.name)}: {stage} {share}", file=sys.stderr, flush=True)

    return callback


def counting(what: str) -> Callable[[int, int], None]:
    """A callback of (done, in all), shown on standard error: a bar in a terminal, else lines."""
    if not sys.stderr.isatty():
        return counting_lines(what)

    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    shown = Progress(
        *Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True)
    )
    task = shown.add_task(what, total=None)

    def bar(done: int, total: int) -> None:
        shown.start()
        shown.update(task, completed=done, total=total)
        if done == total:
            shown.stop()

    return bar


def counting_lines(what: str) -> Callable[[int, int | None], None]:
    """A callback of (done, in all if that is known): a line every few seconds."""
    last = time.monotonic()

    def lines(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_S:
            last = time.monotonic()
            of = f" of {total}" if total else ""
            print(f"  {done}{of} {what}", file=sys.stderr, flush=True)

    return lines


def printable(name: str | Path) -> str:
    """A file name on one line of any terminal: line breaks, commands and odd bytes as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))


def _json(path: Path, stage: str, done: int, total: int | None) -> None:
    event = {"file": str(path), "stage": stage, "done": done, "total": total}
    print(json.dumps(event), flush=True)
