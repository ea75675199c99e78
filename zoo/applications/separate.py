"""Files in, stems out: which files, under which names, and a record that repeats the run.

Outputs are opened before anything is computed and get their names when they are complete, so a run
that is stopped leaves finished songs and nothing half-written.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoo.audio import AudioWriter, open_audio
from zoo.errors import AudioFileError, ZooError
from zoo.pictures import save, spectrograms
from zoo.release import from_pretrained
from zoo.separator import Estimates, Separator, versions
from zoo.streaming import FileSignal, Separation

if TYPE_CHECKING:
    from torch import Tensor

AUDIO_SUFFIXES = frozenset(
    ".wav .wave .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .m4a .mp4 .aac .caf .w64 .rf64"
    " .wma .webm .mka".split()
)
RECORD = "separation.json"
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
    """What became of one input: its stems, or why there are none."""

    path: Path
    files: list[Path] = field(default_factory=list)
    kept: bool = False
    error: ZooError | None = None
    notes: list[str] = field(default_factory=list)
    clipped: int = 0


def find_audio(inputs: Iterable[str | os.PathLike[str]]) -> list[tuple[Path, Path]]:
    """The audio files among files, folders and patterns, each with its place below its folder.

    Stems that an earlier run has left in a folder are no inputs.

    Raises:
        AudioFileError: a name that fits nothing, or a folder without audio.
    """
    found: dict[Path, Path] = {}
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if _is_audio(p) and not _is_stem(p))
            if not files:
                raise AudioFileError(
                    f"folder {path} holds no audio files; name files or another folder."
                )
            found |= {p: p.relative_to(path) for p in files if p not in found}
        elif path.exists():
            found.setdefault(path, Path(path.name))
        else:
            matches = sorted(Path(p) for p in glob.glob(os.fspath(path), recursive=True))
            matches = [p for p in matches if p.is_file() and not _is_stem(p)]
            if not matches:
                raise AudioFileError(
                    f"no file, folder or pattern {os.fspath(given)!r}; check the path."
                )
            found |= {p: Path(p.name) for p in matches if p not in found}
    return list(found.items())


def separate_files(
    inputs: Iterable[str | os.PathLike[str]],
    model: Separator,
    output: str | os.PathLike[str],
    *,
    sources: Sequence[str] | None = None,
    template: str = "{name}/{source}.{format}",
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
        overwrite: replace what is there; else a song whose stems exist is left as it is.
        picture: draw the spectrograms of mixture and stems into ``<name>.png``.
        progress: called with file, stage, samples done and in all.
        options: further ones of `zoo.Separator.separate`.

    Raises:
        ZooError: something that concerns all files: a template without its fields, a source that
            the model does not give, an output that would replace an input.
    """
    files = find_audio(inputs)
    names = _Names(Path(output), template, format)
    protected = {path.resolve() for path, _ in files}
    wanted = tuple(sources or model.sources)
    places = {path: names.place(path, below, wanted) for path, below in files}
    for stems in places.values():
        for stem in stems.values():
            if stem.resolve() in protected:
                raise ZooError(
                    f"{stem} is an input and would be replaced; choose another output folder."
                )
    for path, stems in places.items():
        job = _Job(path, stems, names.record(stems), model, wanted, subtype, picture, options)
        try:
            yield job.kept() if not overwrite and job.is_done() else job.run(progress)
        except ZooError as error:
            yield Result(path, error=error)


@dataclass
class _Job:
    """One file on its way."""

    path: Path
    stems: dict[str, Path]
    record: Path
    model: Separator
    sources: tuple[str, ...]
    subtype: str | None
    picture: bool
    options: dict[str, Any]

    def is_done(self) -> bool:
        return self.record.is_file() and all(path.is_file() for path in self.stems.values())

    def kept(self) -> Result:
        return Result(self.path, list(self.stems.values()), kept=True)

    def run(self, progress: FileProgress | None) -> Result:
        report = partial(progress, self.path) if progress else None
        signal = FileSignal(self.path)
        separation = Separation(self.model, signal, self.sources, progress=report, **self.options)
        excerpt = _Excerpt(signal) if self.picture else None
        with ExitStack() as stack:
            writers = [
                stack.enter_context(self._writer(path, signal)) for path in self.stems.values()
            ]
            for mixture, estimates in separation:
                for writer, estimate in zip(writers, estimates.numpy(), strict=True):
                    writer.write(estimate)
                if excerpt:
                    excerpt.push(torch.cat([mixture[None], estimates]))
        if excerpt:
            figure = spectrograms(
                excerpt.signals(("mixture", *self.sources)), signal.rate, title=self.path.name
            )
            save(figure, self.record.with_suffix(".png"))
        self._write_record(separation)
        clipped = sum(writer.clipped for writer in writers)
        return Result(self.path, list(self.stems.values()), notes=separation.notes, clipped=clipped)

    def _writer(self, path: Path, signal: FileSignal) -> AudioWriter:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AudioFileError(
                f"folder {path.parent} cannot be made: {error.strerror}; "
                "choose another output folder."
            ) from error
        subtype = self.subtype
        if subtype is None:
            with open_audio(self.path) as reader:
                floats, bits = reader.is_float, reader.bits
            subtype = _subtype(path.suffix, floats, bits)
        return AudioWriter(path, signal.rate, signal.channels, subtype, samples=signal.samples)

    def _write_record(self, separation: Separation) -> None:
        facts = {
            "input": str(self.path.resolve()),
            "files": [os.path.relpath(p, self.record.parent) for p in self.stems.values()],
            "model": {"architecture": self.model.architecture, **self.model.info},
            "arguments": {"sources": list(self.sources), **self.options},
            "notes": separation.notes,
            "versions": versions(),
        }
        unfinished = self.record.with_name(f".{self.record.name}.partial")
        unfinished.write_text(json.dumps(facts, indent=1, default=str) + "\n")
        unfinished.replace(self.record)


class _Names:
    """Where stems go: every input has a place of its own, the same in every run."""

    def __init__(self, output: Path, template: str, format: str) -> None:
        self.output, self.template, self.format = output, template, format.lstrip(".")
        self.taken: dict[str, Path] = {}
        try:
            first, second = (self._fill("name", source) for source in ("vocals", "other"))
        except (KeyError, IndexError, ValueError) as error:
            raise ZooError(
                f"file name template {template!r}: {error}; "
                "it may use {name}, {source}, {format}."
            ) from error
        if first == second or self._fill("another", "vocals") == first:
            raise ZooError(
                f"file name template {template!r} must hold {{name}} and {{source}}, "
                "else stems would replace each other."
            )

    def _fill(self, name: str, source: str) -> str:
        return self.template.format(name=name, source=source, format=self.format)

    def place(self, path: Path, below: Path, sources: Sequence[str]) -> dict[str, Path]:
        """The stems' paths for one input: named after it, with its extension if it must be."""
        parent = "" if below.parent == Path(".") else f"{below.parent}/"
        candidates = [parent + below.stem, parent + below.name]
        candidates += [f"{parent}{below.name} ({i})" for i in range(2, 10000)]
        for name in candidates:
            stems = {source: self.output / self._fill(name, source) for source in sources}
            record = self.record(stems)
            if name not in self.taken and _belongs(record, path):
                self.taken[name] = path
                return stems
        raise ZooError(f"{path}: ten thousand files of this name; choose another output folder.")

    def record(self, stems: dict[str, Path]) -> Path:
        """Where the facts of a song are written: beside its stems, under a name that is its own."""
        first = next(iter(stems.values()))
        if Path(self.template).parent.name.count("{name}"):
            return first.parent / RECORD
        return first.with_name(f"{first.stem}.{RECORD}")


def _belongs(record: Path, path: Path) -> bool:
    """Whether a place is free, or was made from this very input."""
    try:
        return bool(json.loads(record.read_text())["input"] == str(path.resolve()))
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_audio(path: Path) -> bool:
    return (
        path.suffix.lower() in AUDIO_SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def _is_stem(path: Path) -> bool:
    """Whether a record beside the file, or above it, says that it is a result of ours."""
    for record in path.parent.glob(f"*{RECORD}"):
        try:
            if os.path.basename(path) in map(
                os.path.basename, json.loads(record.read_text())["files"]
            ):
                return True
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return False


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
        length = round(PICTURE_S * signal.rate)
        start = max(0, (signal.samples - length) // 2) if signal.samples else 0
        self.wanted, self.position = range(start, start + length), 0
        self.parts: list[Tensor] = []

    def push(self, piece: Tensor) -> None:
        first, last = self.wanted.start - self.position, self.wanted.stop - self.position
        if last > 0 and first < piece.shape[-1]:
            self.parts.append(piece[..., max(0, first) : last].clone())
        self.position += piece.shape[-1]

    def signals(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        return dict(zip(names, torch.cat(self.parts, dim=-1).numpy(), strict=True))
