"""Files in, stems out, and a record that repeats the run.

Outputs are opened before anything is computed, and a song's files get their names together when all
are complete: a run that is stopped leaves finished songs and nothing half-written.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoo import catalog, pictures
from zoo.applications.places import TEMPLATE, Place, Places
from zoo.audio import FORMATS, AudioWriter, read
from zoo.data.songs import Input, TrackSignal, find_audio
from zoo.dsp.azimuth import azimugram, level_histogram, to_degrees
from zoo.dsp.stft import STFT
from zoo.errors import AudioFileError, ZooError
from zoo.pictures import spectrograms
from zoo.release import RECORD, from_pretrained
from zoo.separator import Estimates, Separator
from zoo.stems import Bundle, read_record, record, refuse_folder, stems_of, to_text, together
from zoo.streaming import ChunkPlan, FileSignal, Separation, TensorSignal

if TYPE_CHECKING:
    from torch import Tensor

BETA = 60  # half the places of a picture of azimuths
PICTURE_S = 30.0  # seconds of a song that its picture shows, from the middle

STRANGE = "not made by the zoo"  # as a difference between what is there and what is to come
PICTURE = ""  # stands for the picture among the files to be made, beside the sources

# How the sound was made, among the arguments of a record; the others are about files and speed.
SOUND = ("chunk", "overlap", "shifts", "flip", "precision", "high_band", "consistent")

FileProgress = Callable[[Path, str, int, int | None], None]  # file, stage, samples done, in all


def separate(
    audio: str | os.PathLike[str] | np.ndarray | Tensor,
    rate: int | None = None,
    *,
    model: str | Separator | Sequence[str] | None = None,
    **options: Any,
) -> Estimates:
    """The sources of a file or a signal, with a model by name.

    Args:
        audio: as `zoo.Separator.separate` has it.
        rate: of an array or tensor, in Hz.
        model: a Separator, or a name for `zoo.from_pretrained`, or of a system that needs no
            training, or several, which are blended; by default what ``zoo separate`` takes.
        options: further ones of `zoo.Separator.separate`.
    """
    return loaded(model).separate(audio, rate, **options)


def loaded(
    model: str | Separator | Sequence[str] | None,
    weights: Sequence[str] = (),
    device: str = "auto",
    arguments: Mapping[str, Any] | None = None,
) -> Separator:
    """A model, by name or by the names of several that are blended.

    Args:
        model: itself, or a name for `zoo.from_pretrained`, or of a system that needs no training.
        weights: of a blend.
        device: as `Separator.on` has it.
        arguments: of a system that needs no training.
    """
    if isinstance(model, Separator):
        return model
    names = [model] if isinstance(model, str) else list(model or [DEFAULT_MODEL])
    if len(names) > 1:
        from zoo.applications.blending import blended

        return blended(names, weights, device)
    if weights:
        raise ZooError("--weights are those of a blend; name several models with -m.")
    # A folder of stems may have a system's name.
    is_release = Path(names[0]).is_file() or Path(names[0], RECORD).is_file()
    if not is_release and (found := catalog.untrained(names[0], arguments)):
        return found.on(device)
    if arguments:
        raise ZooError(
            f"{', '.join(arguments)}: for systems that need no training; {names[0]} is trained."
        )
    return from_pretrained(names[0], device=device)


DEFAULT_MODEL = "mmdensenet-open"
"""What is taken when no model is named: the best bundled release that is full-band and free."""


@dataclass
class Result:
    """What became of one input: its stems, or why there are none.

    Attributes:
        path: of the input.
        files: the stems that are there.
        kept: no stem was made, since all were there already.
        picture: the picture, where one was drawn.
        error: why the input could not be separated.
        notes: one line each, on what was converted.
        clipped: samples beyond full scale that the format of the stems cut there.
        locations: of the objects of a spatial system, as ``separation.json`` has them.
    """

    path: Path
    files: list[Path] = field(default_factory=list)
    kept: bool = False
    picture: Path | None = None
    error: ZooError | None = None
    notes: list[str] = field(default_factory=list)
    clipped: int = 0
    locations: list[dict[str, float]] = field(default_factory=list)


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
        overwrite: replace what is there; else stems and pictures that exist are left as they are.
        picture: draw the spectrograms of mixture and stems, also of stems that are there already.
        progress: called with file, stage, samples done and in all.
        options: further ones of `zoo.Separator.separate`.

    Raises:
        ZooError: something that concerns all files: an input that is not there, a template without
            its fields, a source that the model does not give, a format that cannot be written, an
            output that would replace an input.
    """
    if model.sources:  # else they are known song by song
        arguments_of(model, tuple(sources or model.sources), options)
    places = Places(Path(output), template, format)
    _check_format(places.suffix, subtype)
    _check_output(Path(output))
    if picture:
        spectrograms({"": np.zeros(1)}, 16000)  # raises at once where nothing can be drawn
    written = {"format": places.format, "template": template}
    files = find_audio(inputs)
    protected = {path.resolve() for path, _ in files}
    jobs: list[Job | Result] = []
    for path, below in files:
        song, ready = Input.of_file(path, below), model
        if not model.sources:
            try:
                ready = model.for_song(song.open())
            except ZooError as error:
                jobs.append(Result(path, error=error))
                continue
        wanted = tuple(dict.fromkeys(sources or ready.sources))
        arguments = arguments_of(ready, wanted, options) | written
        place = places.place(song, wanted)
        job = Job(song, place, ready, options, arguments, subtype, overwrite, picture)
        for file in job.files.values():
            if file.resolve() in protected:
                raise ZooError(
                    f"{file} is an input and would be replaced; choose another output folder."
                )
        jobs.append(job)
    for item in jobs:
        yield item if isinstance(item, Result) else item.outcome(progress)


def arguments_of(
    model: Separator, sources: tuple[str, ...], options: dict[str, Any]
) -> dict[str, Any]:
    """What a repeat needs to be told; what does not fit the model shows before a file is opened."""
    rate = model.sample_rate or 44100
    separation = Separation(model, TensorSignal(torch.zeros(1, 1), rate), sources, **options)
    ChunkPlan.of(model, rate, separation.chunk, separation.overlap)
    return separation.arguments


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
class Job:
    """One song on its way.

    Attributes:
        song: to be separated.
        place: of its results.
        model: on its device.
        options: of `zoo.Separator.separate`.
        arguments: these and others as the record has them; see `arguments_of`.
        subtype: of the stems; by default as good as the song.
        overwrite: replace what is there; else it stays as it is.
        picture: draw the spectrograms.
    """

    song: Input
    place: Place
    model: Separator
    options: dict[str, Any]
    arguments: dict[str, Any]
    subtype: str | None = None
    overwrite: bool = False
    picture: bool = False

    @property
    def path(self) -> Path:
        """Of the song."""
        return self.song.path

    @property
    def files(self) -> dict[str, Path]:
        """What is asked for: the stems, and perhaps the picture."""
        stems = self.place.stems
        return {**stems, PICTURE: self.place.picture} if self.picture else stems

    def run(self, progress: FileProgress | None = None) -> Result:
        """Make what is missing, or say what is there already.

        Raises:
            ZooError: the song cannot be read, or its results cannot be written.
            OSError: what `outcome` words as such an error.
        """
        stems = list(self.place.stems.values())
        present = self._present()
        missing = {source: path for source, path in self.files.items() if path not in present}
        draws = missing.pop(PICTURE, None) is not None
        if not missing and not draws:
            return Result(self.path, stems, kept=True, notes=self.differences())
        signal = self.song.open()
        excerpt = _Excerpt(signal, ("mixture", *missing)) if draws else None
        result = Result(self.path, stems, kept=not missing)
        with together() as bundle:
            if draws:
                refuse_folder(self.place.picture)
            if missing:
                report = partial(progress, self.path) if progress else None
                names = tuple(missing)
                separation = Separation(self.model, signal, names, progress=report, **self.options)
                writers = [self._writer(bundle, path, signal) for path in missing.values()]
                self._separate(separation, writers, excerpt)
                text = self._record(separation, writers[0].subtype)
                bundle.add(self.place.record, lambda path: path.write_text(text, encoding="utf-8"))
                result.notes = separation.notes
                result.locations = separation.found.get("locations", [])
                result.clipped = sum(writer.clipped for writer in writers)
            if excerpt:
                result.picture = self.place.picture
                bundle.add(self.place.picture, partial(self._draw, excerpt))
                if result.locations:
                    name = self.place.picture.name.replace("spectrograms", "azimugram")
                    path = self.place.picture.with_name(name)
                    bundle.add(path, partial(self._draw_places, excerpt, result.locations))
        return result

    def outcome(self, progress: FileProgress | None = None) -> Result:
        """As `run`; an error is part of the result."""
        try:
            return self.run(progress)
        except ZooError as error:
            return Result(self.path, error=error)
        except OSError as error:
            where = error.filename or self.path
            reason = f"{where}: {error.strerror or error}; nothing is left of this song's stems."
            return Result(self.path, error=AudioFileError(reason))

    def _separate(
        self, separation: Separation, writers: list[AudioWriter], excerpt: _Excerpt | None
    ) -> None:
        for mixture, estimates in separation:
            for writer, estimate in zip(writers, estimates.numpy(), strict=True):
                writer.write(estimate)
            if excerpt:
                excerpt.push(torch.cat([mixture[None], estimates]))

    def _present(self) -> set[Path]:
        """What a run of the same kind has made already; nothing where all is to be made anew."""
        files = self.files.values()
        there = [path for path in files if os.path.lexists(path)]
        if self.overwrite:
            return set()
        if 0 < len(there) < len(files) and (differences := self.differences()):
            raise ZooError(
                f"{there[0]} is there already, {differences[0]}; --overwrite replaces it, "
                "another output folder leaves it."
            )
        return set(there)

    def differences(self) -> list[str]:
        """How the run that made what is there differs from this one, in words."""
        found = read_record(self.place.record)
        if found is None:
            return [STRANGE]
        if found.get("input") != self.song.input:
            return ["made from another track of this name"]
        made_by, ours = found.get("model"), self.model.identity
        if not isinstance(made_by, dict):
            return ["made by an unknown model"]
        # The same release may have been taken from another place.
        if {**made_by, "source": None} != {**ours, "source": None}:
            name = made_by.get("release") or made_by.get("architecture")
            if {**made_by, "source": None, "arguments": ours.get("arguments")} == {
                **ours,
                "source": None,
            }:
                return [f"made by {name} with other arguments"]
            return [f"made by another model, {name}"]
        arguments = found.get("arguments")
        if not isinstance(arguments, dict) or any(
            arguments.get(name) != self.arguments[name] for name in SOUND
        ):
            return ["made with other options"]
        return []

    def _writer(self, bundle: Bundle, path: Path, signal: FileSignal | TrackSignal) -> AudioWriter:
        subtype = self.subtype or subtype_for(path.suffix.lower(), signal.is_float, signal.bits)
        return bundle.audio(path, signal.rate, signal.channels, subtype, signal.samples)

    def _draw(self, excerpt: _Excerpt, path: Path) -> None:
        signals = excerpt.signals()
        for name, file in {"mixture": self.path, **self.place.stems}.items():
            if name not in signals:  # it was there already
                signals[name] = read(file, excerpt.wanted.start, len(excerpt.wanted))[0]
        title = _title(self.path.name)
        if when := excerpt.when:
            title += f", {when}"
        with warnings.catch_warnings():
            # The font lacks a letter of the name: there is a box in its place.
            warnings.filterwarnings("ignore", "Glyph .* missing")
            spectrograms(signals, excerpt.rate, title).savefig(path)

    def _draw_places(
        self, excerpt: _Excerpt, locations: list[dict[str, float]], path: Path
    ) -> None:
        mixture = excerpt.signals()["mixture"]
        spectrum = STFT(4096, 1024)(torch.from_numpy(mixture[:2]))
        if any(place.get("delay") for place in locations):
            rows = level_histogram(spectrum, BETA).numpy()
        else:  # of the places that ADRess has, evenly spaced ones
            plane = azimugram(spectrum, BETA).numpy()
            pans = to_degrees(torch.arange(2 * BETA + 1), BETA).numpy()
            rows = plane[np.abs(np.linspace(0, 90, BETA)[:, None] - pans).argmin(1)]
        figure = pictures.azimugram(
            rows, mixture.shape[1] / excerpt.rate, [p["pan"] for p in locations],
            _title(self.path.name),
        )  # fmt: skip
        figure.savefig(path)

    def _record(self, separation: Separation, subtype: str) -> str:
        folder = self.place.record.parent
        present = [to_text(os.path.relpath(p, folder)) for p in self.place.stems.values()]
        earlier = [to_text(os.path.relpath(p, folder)) for p in stems_of(self.place.record)]
        info = {
            "input": self.song.input,
            "model": self.model.identity,
            "arguments": self.arguments,
            "notes": separation.notes,
            **separation.found,
        }
        others = [name for name in earlier if name not in present]
        return record(info, present, others, subtype=subtype)


def _title(name: str) -> str:
    """A file name for a figure: without what it cannot show, no longer than fits."""
    shown = "".join(c for c in name.encode("utf-8", "replace").decode() if c.isprintable())
    shown = shown if len(shown) <= 70 else f"{shown[:45]}...{shown[-22:]}"
    return shown.replace("$", r"\$")


def subtype_for(suffix: str, floats: bool, bits: int) -> str | None:
    """Float stays float, PCM keeps its bits, from 16 on; None where the format has no choice."""
    if suffix in (".wav", ".aiff", ".aif", ".caf", ".w64"):
        return "FLOAT" if floats else f"PCM_{min(32, max(16, bits))}"
    if suffix == ".flac":
        return "PCM_24" if floats or bits > 16 else "PCM_16"
    return None


class _Excerpt:
    """The middle of a song, for its picture.

    Args:
        signal: the song.
        names: of what is pushed.
    """

    def __init__(self, signal: FileSignal | TrackSignal, names: Sequence[str]) -> None:
        self.rate, self.names, self.samples = signal.rate, names, signal.samples or 0
        length = round(PICTURE_S * signal.rate)
        start = max(0, (self.samples - length) // 2)
        self.wanted, self.position = range(start, start + length), 0
        self.parts: list[Tensor] = []

    @property
    def when(self) -> str | None:
        """From when to when in the song; None for all of it."""
        if len(self.wanted) >= max(self.position, self.samples):
            return None
        first, last = (round(edge / self.rate) for edge in (self.wanted.start, self.wanted.stop))
        return f"{first // 60}:{first % 60:02d} to {last // 60}:{last % 60:02d}"

    def push(self, piece: Tensor) -> None:
        """The next samples of all, ``(J, C, n)``."""
        first, last = self.wanted.start - self.position, self.wanted.stop - self.position
        if last > 0 and first < piece.shape[-1]:
            self.parts.append(piece[..., max(0, first) : last].clone())
        self.position += piece.shape[-1]

    def signals(self) -> dict[str, np.ndarray]:
        """Name -> ``(C, n)`` of what was pushed."""
        if not self.parts:
            return {}
        return dict(zip(self.names, torch.cat(self.parts, dim=-1).numpy(), strict=True))
