"""Files in, stems out, and a record that repeats the run.

Outputs are opened before anything is computed, and a song's files get their names together when all
are complete: a run that is stopped leaves finished songs and nothing half-written.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoo.applications.places import (
    TEMPLATE,
    Place,
    Places,
    find_audio,
    read_record,
    stems_of,
    to_text,
)
from zoo.audio import FORMATS, AudioWriter, open_audio
from zoo.errors import AudioFileError, ZooError
from zoo.pictures import save, spectrograms
from zoo.release import from_pretrained
from zoo.separator import Estimates, Separator, versions
from zoo.streaming import ChunkPlan, FileSignal, Separation, TensorSignal

if TYPE_CHECKING:
    from torch import Tensor

PICTURE_S = 30.0  # seconds of a song that its picture shows, from the middle

FileProgress = Callable[[Path, str, int, int | None], None]  # file, stage, samples done, in all


def separate(
    audio: str | os.PathLike[str] | np.ndarray | Tensor,
    rate: int | None = None,
    *,
    model: str | Separator | None = None,
    **options: Any,
) -> Estimates:
    """The sources of a file or a signal, with a model by name.

    Args:
        audio: as `zoo.Separator.separate` has it.
        rate: of an array or tensor, in Hz.
        model: a Separator, or a name for `zoo.from_pretrained`; by default what ``zoo separate``
            takes.
        options: further ones of `zoo.Separator.separate`.
    """
    chosen = model if isinstance(model, Separator) else from_pretrained(model or DEFAULT_MODEL)
    return chosen.separate(audio, rate, **options)


DEFAULT_MODEL = "mmdensenet-mir1k"
"""What is taken when no model is named; until a full-band free release exists, a research one."""


@dataclass
class Result:
    """What became of one input: its stems, or why there are none.

    Attributes:
        path: of the input.
        files: the stems that are there.
        kept: nothing was done, since all were there already.
        error: why the input could not be separated.
        notes: one line each, on what was converted.
        clipped: samples beyond full scale that the format of the stems cut there.
    """

    path: Path
    files: list[Path] = field(default_factory=list)
    kept: bool = False
    error: ZooError | None = None
    notes: list[str] = field(default_factory=list)
    clipped: int = 0


def separate_files(
    inputs: Iterable[str | os.PathLike[str]],
    model: Separator,
    output: str | os.PathLike[str],
    *,
    sources: Sequence[str] | None = None,
    template: str = TEMPLATE,
    format: str = "wav",
    subtype: str | None = None,
    overwrite: bool = False,
    picture: bool = False,
    progress: FileProgress | None = None,
    **options: Any,
) -> Iterator[Result]:
    """Separate files into a folder, one after the other; a faulty file does not stop the others.

    Args:
        inputs: files, folders and patterns.
        model: on its device.
        output: folder of the results, made when missing.
        sources: as `zoo.Separator.separate` has them.
        template: place of a stem below ``output``; ``{name}`` is the input's, without its extension
            where that is unambiguous.
        format: extension of the stems.
        subtype: such as ``"PCM_24"``; by default as good as the input.
        overwrite: replace what is there; else stems that exist are left as they are.
        picture: draw the spectrograms of mixture and stems.
        progress: called with file, stage, samples done and in all.
        options: further ones of `zoo.Separator.separate`.

    Raises:
        ZooError: something that concerns all files: an input that is not there, a template without
            its fields, a source that the model does not give, a format that cannot be written, an
            output that would replace an input.
    """
    wanted = tuple(dict.fromkeys(sources or model.sources))
    _check_options(model, wanted, options)
    places = Places(Path(output), template, format)
    _check_format(places.suffix, subtype)
    _check_output(Path(output))
    if picture:
        spectrograms({"": np.zeros(1)}, 16000)  # raises at once where nothing can be drawn
    files = find_audio(inputs)
    protected = {path.resolve() for path, _ in files}
    jobs = []
    for path, below in files:
        place = places.place(path, below, wanted)
        for stem in place.stems.values():
            if stem.resolve() in protected:
                raise ZooError(
                    f"{stem} is an input and would be replaced; choose another output folder."
                )
        jobs.append(_Job(path, place, model, subtype, overwrite, picture, options))
    for job in jobs:
        try:
            yield job.run(progress)
        except ZooError as error:
            yield Result(job.path, error=error)
        except OSError as error:
            where = error.filename or job.path
            reason = f"{where}: {error.strerror or error}; nothing is left of this song's stems."
            yield Result(job.path, error=AudioFileError(reason))


def _check_options(model: Separator, sources: tuple[str, ...], options: dict[str, Any]) -> None:
    """Say what does not fit the model before any file is opened."""
    rate = model.sample_rate or 44100
    Separation(model, TensorSignal(torch.zeros(1, 1), rate), sources, **options)
    ChunkPlan.of(model, rate, options.get("chunk"), options.get("overlap", 0.25))


def _check_output(folder: Path) -> None:
    nearest = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
    if not nearest.is_dir():
        raise AudioFileError(f"{nearest} is a file; choose a folder for the stems.")


def _check_format(suffix: str, subtype: str | None) -> None:
    kind = FORMATS.get(suffix)
    if kind is None:
        raise ZooError(
            f"files of kind {suffix or '(no extension)'!r} cannot be written; "
            f"choose one of {', '.join(name[1:] for name in FORMATS)}."
        )
    if subtype is not None and subtype not in kind.subtypes:
        raise ZooError(
            f"{suffix[1:]} files cannot hold {subtype}, only {', '.join(kind.subtypes)}; "
            "choose another bit depth or none, or write wav."
        )


@dataclass
class _Job:
    """One file on its way."""

    path: Path
    place: Place
    model: Separator
    subtype: str | None
    overwrite: bool
    picture: bool
    options: dict[str, Any]

    def run(self, progress: FileProgress | None) -> Result:
        stems = self._missing()
        files = list(self.place.stems.values())
        if not stems:
            return Result(self.path, files, kept=True, notes=self._differences())
        song = FileSignal(self.path)
        report = partial(progress, self.path) if progress else None
        separation = Separation(self.model, song, tuple(stems), progress=report, **self.options)
        excerpt = _Excerpt(song) if self.picture else None
        with ExitStack() as stack:
            stack.enter_context(_folders(self.place.record, *stems.values()))
            writers = [stack.enter_context(w) for w in self._writers(stems, song)]
            for mixture, estimates in separation:
                for writer, estimate in zip(writers, estimates.numpy(), strict=True):
                    writer.write(estimate)
                if excerpt:
                    excerpt.push(torch.cat([mixture[None], estimates]))
            for writer in writers:
                writer.finish()
            if excerpt:
                self._draw(excerpt, ("mixture", *stems))
            hidden = self.place.record.with_name(f".{self.place.record.name}.partial")
            stack.callback(hidden.unlink, missing_ok=True)
            hidden.write_text(self._record(separation), encoding="utf-8")
            with _uninterrupted():
                for writer in writers:
                    writer.close()
                hidden.replace(self.place.record)
        clipped = sum(writer.clipped for writer in writers)
        return Result(self.path, files, notes=separation.notes, clipped=clipped)

    def _missing(self) -> dict[str, Path]:
        """The stems to be made: all, or those that a run of the same kind has not made yet."""
        stems = self.place.stems
        there = [path for path in stems.values() if os.path.lexists(path)]
        if self.overwrite or not there:
            return stems
        if len(there) < len(stems) and (differences := self._differences()):
            raise ZooError(
                f"{there[0]} is there already, {differences[0]}; --overwrite replaces it, "
                "another output folder leaves it."
            )
        return {source: path for source, path in stems.items() if path not in there}

    def _differences(self) -> list[str]:
        """How the run that made what is there differs from this one, in words."""
        record = read_record(self.place.record)
        if record is None:
            return ["not made by the zoo"]
        made_by, ours = record.get("model"), _plain(self._model())
        if not isinstance(made_by, dict):
            return ["made by an unknown model"]
        # The same release may have been taken from another place.
        if {**made_by, "source": None} != {**ours, "source": None}:
            name = made_by.get("release") or made_by.get("architecture")
            return [f"made by another model, {name}"]
        if record.get("arguments") != _plain(self.options):
            return ["made with other options"]
        return []

    def _writers(self, stems: dict[str, Path], song: FileSignal) -> Iterator[AudioWriter]:
        with open_audio(self.path) as reader:
            is_float, bits = reader.is_float, reader.bits
        for path in stems.values():
            subtype = self.subtype or _subtype(path.suffix.lower(), is_float, bits)
            yield AudioWriter(path, song.rate, song.channels, subtype, samples=song.samples)

    def _draw(self, excerpt: _Excerpt, names: Sequence[str]) -> None:
        title = _title(self.path.name)
        if when := excerpt.when:
            title += f", {when}"
        with warnings.catch_warnings():
            # The font lacks a letter of the name: there is a box in its place.
            warnings.filterwarnings("ignore", "Glyph .* missing")
            save(spectrograms(excerpt.signals(names), excerpt.rate, title), self.place.picture)

    def _model(self) -> dict[str, Any]:
        return {"architecture": self.model.architecture, **self.model.info}

    def _record(self, separation: Separation) -> str:
        folder = self.place.record.parent
        present = [to_text(os.path.relpath(p, folder)) for p in self.place.stems.values()]
        earlier = [to_text(os.path.relpath(p, folder)) for p in stems_of(self.place.record)]
        facts = {
            "input": to_text(self.path.resolve()),
            "files": present,
            "earlier": [name for name in earlier if name not in present],
            "model": self._model(),
            "arguments": self.options,
            "notes": separation.notes,
            "versions": versions(),
        }
        return json.dumps(facts, indent=1, default=str) + "\n"


def _title(name: str) -> str:
    """A file name for a figure: without what it cannot show, no longer than fits."""
    shown = "".join(c for c in name.encode("utf-8", "replace").decode() if c.isprintable())
    shown = shown if len(shown) <= 70 else f"{shown[:45]}...{shown[-22:]}"
    return shown.replace("$", r"\$")


def _plain(facts: dict[str, Any]) -> Any:
    """Facts as they come back from a record."""
    return json.loads(json.dumps(facts, default=str))


@contextmanager
def _folders(*files: Path) -> Iterator[None]:
    """The folders of these files, made; those that were made and are empty go again on an error."""
    folders = dict.fromkeys(file.parent for file in files)
    missing = {p for f in folders for p in (f, *f.parents) if not os.path.lexists(p)}
    try:
        for folder in folders:
            _make(folder)
        yield
    except BaseException:
        for folder in sorted(missing, reverse=True):  # what lies inside comes first
            with suppress(OSError):  # never made, or others have put something into it
                folder.rmdir()
        raise


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioFileError(
            f"folder {folder} cannot be made ({error.strerror}); choose another output folder."
        ) from error


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


def _subtype(suffix: str, floats: bool, bits: int) -> str | None:
    """Float stays float, PCM keeps its bits, from 16 on; None where the format has no choice."""
    if suffix in (".wav", ".aiff", ".aif", ".caf", ".w64"):
        return "FLOAT" if floats else f"PCM_{min(32, max(16, bits))}"
    if suffix == ".flac":
        return "PCM_24" if floats or bits > 16 else "PCM_16"
    return None


class _Excerpt:
    """The middle of a song, for its picture."""

    def __init__(self, signal: FileSignal) -> None:
        self.rate = signal.rate
        length = round(PICTURE_S * signal.rate)
        start = max(0, (signal.samples - length) // 2) if signal.samples else 0
        self.wanted, self.position = range(start, start + length), 0
        self.parts: list[Tensor] = []

    @property
    def when(self) -> str | None:
        """From when to when in the song; None for all of it."""
        if len(self.wanted) >= self.position:
            return None
        first, last = (round(edge / self.rate) for edge in (self.wanted.start, self.wanted.stop))
        return f"{first // 60}:{first % 60:02d} to {last // 60}:{last % 60:02d}"

    def push(self, piece: Tensor) -> None:
        first, last = self.wanted.start - self.position, self.wanted.stop - self.position
        if last > 0 and first < piece.shape[-1]:
            self.parts.append(piece[..., max(0, first) : last].clone())
        self.position += piece.shape[-1]

    def signals(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        return dict(zip(names, torch.cat(self.parts, dim=-1).numpy(), strict=True))
