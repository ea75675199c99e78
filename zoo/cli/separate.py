"""``zoo separate`` and ``zoo demo``: what is printed around `zoo.applications`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoo.applications.demo import ALBUM, demonstrate, excerpt, generated
from zoo.applications.separate import (
    DEFAULT_MODEL,
    FileProgress,
    Result,
    loaded,
    separate_files,
)
from zoo.applications.stem_file import SUFFIX, separate_to_stem_files
from zoo.cli.progress import printable, showing
from zoo.data.songs import find_audio
from zoo.errors import ZooError
from zoo.separator import Separator
from zoo.streaming import complement

SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "32": "PCM_32", "float": "FLOAT"}


@dataclass
class Request:
    """The arguments of ``zoo separate``."""

    inputs: list[str]
    model: list[str] | None
    weights: list[str] | None
    output: str
    sources: list[str] | None
    two_stems: str | None
    format: str
    bits: str | None
    template: str
    overwrite: bool
    picture: bool
    device: str
    progress: str
    objects: int | None
    max_delay: float | None
    locations: list[str] | None
    options: dict[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        """Of a system that needs no training."""
        return spatial_arguments(self.objects, self.max_delay, self.locations)


def separate_songs(request: Request) -> int:
    """Separate, with a line for every file; 1 when some failed, 2 when all did."""
    if request.bits is not None and request.bits not in SUBTYPES:
        raise ZooError(f"--bits {request.bits}; expected one of {', '.join(SUBTYPES)}.")
    talk = Talk(as_json=request.progress == "json")
    find_audio(request.inputs)  # before a model is loaded, or even downloaded: a typing error shows
    model = load(request.model, request.device, talk, request.weights or (), request.arguments)
    done = failed = 0
    with showing(request.progress) as progress:
        results = _stem_files(request, model, progress) or separate_files(
            request.inputs,
            model,
            request.output,
            sources=_sources(request, model),
            template=request.template,
            format=request.format,
            subtype=SUBTYPES[request.bits] if request.bits else None,
            overwrite=request.overwrite,
            picture=request.picture,
            progress=progress,
            **request.options,
        )
        start = time.monotonic()
        for result in results:
            talk.result(result, time.monotonic() - start)
            failed += result.error is not None
            done += result.error is None
            start = time.monotonic()
    return 0 if not failed else 1 if done else 2


def _stem_files(
    request: Request, model: Separator, progress: FileProgress | None
) -> Iterator[Result] | None:
    """The results where one file is to hold all stems; else None."""
    if request.format.lstrip(".") != SUFFIX.lstrip("."):
        return None
    for option, given in (
        ("--source", request.sources), ("--two-stems", request.two_stems), ("--bits", request.bits),
        ("--picture", request.picture),
    ):  # fmt: skip
        if given:
            raise ZooError(f"{option} does not go with --format stem.mp4, which holds all stems.")
    return separate_to_stem_files(
        request.inputs, model, request.output, overwrite=request.overwrite, progress=progress,
        **request.options,
    )  # fmt: skip


def show_demo(name: str | None, output: str, use_generated: bool, device: str) -> None:
    """Separate the excerpt and print how well it went."""
    model = load([name] if name else None, device, Talk())
    references, rate = generated() if use_generated else excerpt()
    result = demonstrate(model, references, rate, Path(output))
    title = "generated music" if use_generated else 'an excerpt of "Lithium" (CC0)'
    seconds = next(iter(references.values())).shape[1] / rate
    print(f"{seconds:.0f} s of {title}, SDR in dB against the true sources:")
    print(f"  {'source':<14}{'estimate':>9}{'mixture':>9}{'gain':>8}")
    for source, (ours, before) in result.scores.items():
        print(f"  {source:<14}{ours:>9.2f}{before:>9.2f}{ours - before:>+8.2f}")
    if not use_generated and ALBUM in str(model.info.get("trained_on")):
        print("it learned from this song: that shows that it works, not how well on other songs")
    print(f"stems and spectrograms.png are in {printable(result.folder)}/")


def load(
    names: list[str] | None,
    device: str,
    talk: Talk,
    weights: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
) -> Separator:
    """The model of ``-m``, or the default, with a line that says so."""
    if not names:
        talk.say(
            f"no -m, so {DEFAULT_MODEL} is taken: small and free to use; `zoo list` shows others"
        )
    torch.set_flush_denormal(True)  # recurrent networks crawl on a CPU without it
    model = loaded(names, weights, device, arguments)
    talk.say(f"device: {model.device}")
    return model


def spatial_arguments(
    objects: int | None, max_delay: float | None, locations: Sequence[str] | None
) -> dict[str, Any]:
    """What was given for a spatial system."""
    given = {
        "n_objects": objects,
        "max_delay": max_delay,
        "locations": [_place(text) for text in locations or ()] or None,
    }
    return {key: value for key, value in given.items() if value is not None}


def where(locations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each object that was found."""
    for place in locations:
        line = f"  {place['name']}: pan {place['pan']:.1f} degrees"
        if place.get("delay"):
            line += f", right channel {place['delay']:+.1f} samples"
        if "confidence" in place:
            line += f", confidence {place['confidence']:.2f}"
        yield line


def _place(text: str) -> list[float]:
    """A location as its two numbers."""
    try:
        pan, comma, delay = text.partition(",")
        return [float(pan), float(delay) if comma else 0.0]
    except ValueError:
        raise ZooError(
            f"--location {text}; expected PAN or PAN,DELAY in degrees and samples, such as 30,-4."
        ) from None


def _sources(request: Request, model: Separator) -> list[str] | None:
    """The sources to write; the second of two stems is the accompaniment, or all that is not it."""
    if request.two_stems is None:
        return request.sources
    if request.sources:
        raise ZooError("--two-stems and --source exclude each other; give one of them.")
    return [request.two_stems, complement(request.two_stems)]


class Talk:
    """Lines for people on standard output; beside JSON, on standard error."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.told: set[str] = set()

    def say(self, line: str) -> None:  # noqa: D102
        print(line, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def result(self, result: Result, seconds: float) -> None:
        """What became of a file; notes that repeat are told once."""
        if self.as_json:
            facts = {
                "file": str(result.path),
                "stage": "failed" if result.error else "kept" if result.kept else "done",
                "stems": [str(path) for path in result.files],
                "picture": str(result.picture) if result.picture else None,
                "error": str(result.error) if result.error else None,
                "notes": result.notes,
                "locations": result.locations,
            }
            print(json.dumps(facts), flush=True)
            return
        if result.error:
            reason = str(result.error).replace(str(result.path), printable(result.path))
            print(f"error: {reason}", file=sys.stderr, flush=True)
            return
        names = ", ".join(printable(path.name) for path in result.files)
        folder, song = printable(result.files[0].parent), printable(result.path)
        if result.picture:
            picture = printable(result.picture.name)
            if result.kept:
                self.say(f"{song} -> {folder}/: {picture} of the stems that were there")
                return
            names += f", {picture}"
        if result.kept:
            made = f" ({result.notes[0]})" if result.notes else ""
            self.say(f"{song}: {folder}/ has {names} already{made}; --overwrite makes them anew")
            return
        self.say(f"{song} -> {folder}/: {names} ({seconds:.1f} s)")
        for line in where(result.locations):
            self.say(line)
        for note in result.notes:
            if note not in self.told:
                self.told.add(note)
                self.say(f"  {note}")
        if result.clipped:
            self.say(f"  {result.clipped} samples beyond full scale were clipped; use --bits float")
