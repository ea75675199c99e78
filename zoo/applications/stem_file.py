"""Stem files: mixture and four stems as five AAC streams of one ``.stem.mp4``, as DJ programs read.

The streams are those of MUSDB18 in its order: mixture, drums, bass, other, vocals.  A box ``stem``
in the file's user data names and colours them (JSON), as programs that play stems expect; FFmpeg's
writer has none, so it is added once the file is complete.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.applications.separate import FileProgress, Result
from zoo.applications.tags import copy_tags
from zoo.audio import FORMATS
from zoo.data.songs import find_audio
from zoo.errors import AudioFileError, ZooError
from zoo.separator import Separator
from zoo.stems import together
from zoo.streaming import FileSignal, Separation

SUFFIX = ".stem.mp4"
STEMS = ("drums", "bass", "other", "vocals")
COLOURS = ("#009E73", "#D55E00", "#CC79A7", "#56B4E9")
BIT_RATE = 256_000  # of each stream; less where the rate is low


def separate_to_stem_files(
    inputs: Iterable[str | os.PathLike[str]],
    model: Separator,
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: FileProgress | None = None,
    **options: Any,
) -> Iterator[Result]:
    """Separate files, each into ``<name>.stem.mp4``; a faulty one does not stop the others.

    Args:
        inputs: files, folders and patterns.
        model: gives drums, bass, other and vocals.
        output: folder.
        overwrite: replace what is there.
        progress: called with file, stage, samples done and in all.
        options: further ones of `Separator.separate`.

    Raises:
        ZooError: the model gives other sources, or an input is not there.
    """
    if set(model.sources) != set(STEMS):
        raise ZooError(
            f"a stem file holds {', '.join(STEMS)}; this model gives {', '.join(model.sources)}. "
            "Take another model or another --format."
        )
    for path, below in find_audio(inputs):
        target = Path(output) / below.parent / f"{path.stem}{SUFFIX}"
        report = partial(progress, path) if progress else None
        try:
            yield _one(path, target, model, overwrite, report, options)
        except ZooError as error:
            yield Result(path, error=error)


def _one(
    path: Path, target: Path, model: Separator, overwrite: bool, progress: Any, options: Any
) -> Result:
    if os.path.lexists(target) and not overwrite:
        raise AudioFileError(f"{target} is there already; --overwrite replaces it.")
    signal = FileSignal(path)
    if signal.rate not in FORMATS[".m4a"].rates:
        raise AudioFileError(
            f"{path}: AAC cannot have {signal.rate} Hz, only {FORMATS['.m4a'].rates_text}."
        )
    if signal.channels > 2:
        raise AudioFileError(f"{path}: {signal.channels} channels; a stem file is stereo.")
    separation = Separation(model, signal, STEMS, progress=progress, **options)

    def write(hidden: Path) -> None:
        writer = StemWriter(hidden, signal.rate)
        try:
            for mixture, stems in separation:
                writer.write(torch.cat([mixture[None], stems]).numpy())
        finally:
            writer.close()
        add_stem_box(hidden)

    with together() as bundle:
        bundle.add(target, write)
    copy_tags(path, target)
    return Result(path, [target], notes=separation.notes)


class StemWriter:
    """Five stereo streams of one file.

    Args:
        path: of the file.
        rate: in Hz.
    """

    def __init__(self, path: Path, rate: int) -> None:
        import av

        self._frame: Any = av.AudioFrame
        self._rate, self._samples = rate, 0
        self._container: Any = av.open(
            os.fspath(path), "w", format="mp4", options={"movie_timescale": str(rate)}
        )
        self._streams: list[Any] = []
        for _ in ("mixture", *STEMS):
            stream = self._container.add_stream("aac", rate=rate, layout="stereo")
            stream.bit_rate = min(BIT_RATE, 2 * 5 * rate)
            self._streams.append(stream)

    def write(self, signals: np.ndarray) -> None:
        """The next samples of mixture and stems, ``(5, C, n)`` with one or two channels."""
        if signals.shape[1] == 1:
            signals = signals.repeat(2, axis=1)
        for start in range(0, signals.shape[2], self._rate):
            part = signals[:, :, start : start + self._rate]
            for stream, signal in zip(self._streams, part, strict=True):
                frame = self._frame.from_ndarray(np.ascontiguousarray(signal), "fltp", "stereo")
                frame.sample_rate, frame.pts = self._rate, self._samples
                self._container.mux(stream.encode(frame))
            self._samples += part.shape[2]

    def close(self) -> None:
        """Complete the contents."""
        for stream in self._streams:
            self._container.mux(stream.encode(None))
        self._container.close()


# ----------------------------------------------------------------- the box


def add_stem_box(path: Path) -> None:
    """Add the box ``stem`` to the user data of an MP4 file whose index lies at its end.

    Raises:
        AudioFileError: it does not lie there.
    """
    boxes = list(_boxes(path))
    kind, start, size = boxes[-1] if boxes else ("", 0, 0)
    if kind != "moov":
        raise AudioFileError(f"{path}: the index does not lie at the end; no stem box was added.")
    with path.open("r+b") as file:
        file.seek(start)
        moov = file.read(size)
        file.seek(start)
        file.write(_with_stem(moov))
        file.truncate()


def _boxes(path: Path) -> Iterator[tuple[str, int, int]]:
    """Kind, start and size of the outer boxes."""
    end = path.stat().st_size
    with path.open("rb") as file:
        start = 0
        while start + 8 <= end:
            file.seek(start)
            size, kind = struct.unpack(">I4s", file.read(8))
            if size == 1:
                size = struct.unpack(">Q", file.read(8))[0]
            elif size == 0:
                size = end - start
            yield kind.decode("latin-1"), start, size
            start += max(size, 8)


def _with_stem(moov: bytes) -> bytes:
    """The index with the box in its user data, which is made where it is missing."""
    stem = _box(b"stem", json.dumps(_metadata(), separators=(",", ":")).encode())
    inner, position, found = moov[8:], 0, False
    parts = []
    while position + 8 <= len(inner):
        size, kind = struct.unpack(">I4s", inner[position : position + 8])
        content = inner[position + 8 : position + size]
        if kind == b"udta":
            content, found = content + stem, True
        parts.append(_box(kind, content))
        position += size
    if not found:
        parts.append(_box(b"udta", stem))
    return _box(b"moov", b"".join(parts))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _metadata() -> dict[str, Any]:
    """What programs that play stems want to know: names, colours, and that nothing is mastered."""
    return {
        "version": 1,
        "mastering_dsp": {
            "compressor": {
                "enabled": False, "ratio": 3, "output_gain": 0.5, "release": 0.3, "attack": 0.003,
                "input_gain": 0.5, "threshold": 0, "hp_cutoff": 300, "dry_wet": 50,
            },
            "limiter": {"enabled": False, "release": 0.05, "threshold": 0, "ceiling": -0.35},
        },
        "stems": [
            {"color": colour, "name": name.capitalize()}
            for name, colour in zip(STEMS, COLOURS, strict=True)
        ],
    }  # fmt: skip
