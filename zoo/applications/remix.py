"""Remixing: a song with some of its sources louder, softer, gone, alone, or at another place.

The song is taken apart, each source is changed as asked, and all are summed again, together with
the residual, which is what no source explains: with nothing changed the song comes back.  Long
files stream: the remix is written to a temporary file first, since its peak is known at the end.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.applications.moving import WIDEST, Mover
from zoo.applications.separate import loaded, subtype_for
from zoo.applications.tags import copy_tags
from zoo.audio import check_output
from zoo.errors import AudioFileError, ZooError, near
from zoo.separator import Separator
from zoo.stems import together
from zoo.streaming import FileSignal, Progress, Separation, Signal, TensorSignal, complement

RESIDUAL = "residual"
RATE = 44100  # that delays are given for, in Hz
MOST_DB = 120.0  # of a gain
MOST_DELAY = 4410  # samples
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Changes:
    """What becomes of the sources; those that are not named stay as they are.

    Attributes:
        gain: source -> dB.
        mute: sources that fall silent.
        solo: sources of which alone the remix is made.
        pan: source -> place: degrees from -45 (left) over 0 to 45 (right), and samples at 44.1 kHz
            that the right channel is late.
    """

    gain: Mapping[str, float] = field(default_factory=dict)
    mute: tuple[str, ...] = ()
    solo: tuple[str, ...] = ()
    pan: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def named(self) -> tuple[str, ...]:
        """Every source that is named, each once."""
        return tuple(dict.fromkeys((*self.gain, *self.mute, *self.solo, *self.pan)))

    def check(self, model: Separator, channels: int | None) -> None:
        """Say what cannot be done.

        Args:
            model: that takes the song apart.
            channels: of the song, if known.

        Raises:
            ZooError: no such source, sources that overlap, a place that is none, or a pan where
                there are not two channels.
        """
        own = tuple(model.sources)
        opposites = {complement(s): s for s in own if complement(s) not in own}
        known = (*own, RESIDUAL, *opposites)
        for name in self.named:
            if name not in known:
                raise ZooError(
                    f"no source {name!r} in this model; it has {', '.join(known)}."
                    f"{near(name, known)}"
                )
        for name in self.named:
            if name in opposites and not set(self.named) <= {name, opposites[name]}:
                raise ZooError(
                    f"{name} is all but {opposites[name]}: beside it only {opposites[name]} can be "
                    f"changed. Name {', '.join(s for s in own if s != opposites[name])} instead."
                )
        for name, (degrees, delay) in self.pan.items():
            if not -WIDEST <= degrees <= WIDEST:
                raise ZooError(f"pan {name}={degrees:g}; expected -45 (left) to 45 (right).")
            if not abs(delay) <= MOST_DELAY:
                raise ZooError(
                    f"pan {name}={degrees:g},{delay:g}; expected a delay of at most {MOST_DELAY} "
                    "samples."
                )
        if self.pan and channels not in (None, 2):
            raise ZooError(f"the song has {channels} channel(s); only stereo can be panned.")
        for name, decibel in self.gain.items():
            if not abs(decibel) <= MOST_DB:
                raise ZooError(
                    f"gain {name}={decibel:g}; give dB between -{MOST_DB:g} and {MOST_DB:g}, or "
                    "mute it."
                )

    def tracks(self, model: Separator) -> tuple[str, ...]:
        """The sources that have to be separated for this."""
        own = tuple(model.sources)
        opposites = {complement(s): s for s in own if complement(s) not in own}
        named = self.named
        pair = next(((n, opposites[n]) for n in named if n in opposites), None)
        if pair:
            return pair
        return (*own, RESIDUAL) if self.solo else named

    def apply(self, name: str, source: Tensor) -> Tensor:
        """A source ``(C, n)``, at its new place, as loud as it is in the remix."""
        if name in self.mute or (self.solo and name not in self.solo):
            return torch.zeros_like(source)
        return source * 10 ** (self.gain.get(name, 0.0) / 20)


@dataclass
class Remixed:
    """A remix.

    Attributes:
        path: of its file, if it was written to one.
        audio: ``(channels, samples)``, if it was not.
        rate: in Hz.
        attenuation: dB that all of it was made softer, since its peak lay beyond full scale.
        keeps_tags: whether tags and cover of the song were taken over.
        notes: one line each, on what was converted.
        locations: of the objects of a spatial system, as ``separation.json`` has them.
    """

    path: Path | None
    audio: Tensor | None
    rate: int
    attenuation: float = 0.0
    keeps_tags: bool = False
    notes: list[str] = field(default_factory=list)
    locations: list[dict[str, Any]] = field(default_factory=list)


def remix(
    audio: str | os.PathLike[str] | np.ndarray | Tensor,
    rate: int | None = None,
    *,
    model: str | Separator | list[str] | None = None,
    gain: Mapping[str, float] | None = None,
    mute: str | Iterable[str] = (),
    solo: str | Iterable[str] = (),
    pan: Mapping[str, float | tuple[float, float]] | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Remixed:
    """A song with its sources changed.

    Args:
        audio: a path, or an array or tensor ``(channels, samples)``.
        rate: of an array or tensor, in Hz.
        model: as `zoo.separate` has it.
        gain: source -> dB.
        mute: sources that fall silent; ``residual`` is what no source explains.
        solo: sources of which alone the remix is made.
        pan: source -> place in degrees, -45 left, 0 centre, 45 right, or a pair of these and the
            samples at 44.1 kHz that the right channel is late; the source becomes a point there.
        output: file of the remix; without it the remix is given as a tensor.
        overwrite: replace a file that is there.
        progress: as `Separator.separate` has it.
        options: further ones of `Separator.separate`.

    Raises:
        ZooError: no such source, sources that overlap, a file that cannot be read or written.
    """
    places = {
        name: place if isinstance(place, tuple) else (place, 0.0)
        for name, place in (pan or {}).items()
    }
    changes = Changes(dict(gain or {}), _names(mute), _names(solo), places)
    separator = loaded(model)
    if isinstance(audio, str | os.PathLike):
        signal: FileSignal | TensorSignal = FileSignal(os.fspath(audio))
    elif rate is None:
        raise ZooError("an array without its rate; pass rate= in Hz.")
    else:
        signal = TensorSignal(audio, rate)
    if output is None:
        return _in_memory(separator, signal, changes, progress, options)
    return _to_file(separator, signal, changes, Path(output), overwrite, progress, options)


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def pieces(
    model: Separator, signal: Signal, changes: Changes, progress: Progress | None, options: Any
) -> tuple[Iterator[Tensor], Separation]:
    """The remix ``(C, n)``, piece by piece, and the separation that it is made of."""
    model = model.for_song(signal)
    changes.check(model, signal.channels)
    tracks = changes.tracks(model)
    separation = Separation(model, signal, tracks or None, progress=progress, **options)
    movers = {
        name: Mover(degrees, round(delay * signal.rate / RATE))
        for name, (degrees, delay) in changes.pan.items()
    }

    def run() -> Iterator[Tensor]:
        for mixture, estimates in separation:
            changed = mixture.clone()
            if tracks:
                for name, source in zip(tracks, estimates, strict=True):
                    moved = movers[name](source) if name in movers else source
                    changed += changes.apply(name, moved) - source
            yield changed

    return run(), separation


def _in_memory(
    model: Separator, signal: Signal, changes: Changes, progress: Progress | None, options: Any
) -> Remixed:
    found, separation = pieces(model, signal, changes, progress, options)
    audio = torch.cat(list(found), -1)
    gain = _common_gain(float(audio.abs().max()) if audio.numel() else 0.0)
    return Remixed(
        None, audio * gain, signal.rate, _decibel(gain), notes=separation.notes,
        locations=separation.found.get("locations", []),
    )  # fmt: skip


def _to_file(
    model: Separator,
    signal: FileSignal | TensorSignal,
    changes: Changes,
    path: Path,
    overwrite: bool,
    progress: Progress | None,
    options: Any,
) -> Remixed:
    source = signal.path if isinstance(signal, FileSignal) else None
    if source is not None and path.exists() and path.samefile(source):
        raise AudioFileError(f"{path} is the song itself; choose another output file.")
    if os.path.lexists(path) and not overwrite:
        raise AudioFileError(f"{path} is there already; --overwrite replaces it.")
    is_float, bits = getattr(signal, "is_float", True), getattr(signal, "bits", 32)
    subtype = subtype_for(path.suffix.lower(), is_float, bits)
    check_output(path, signal.rate, signal.channels, subtype, signal.samples)
    found, separation = pieces(model, signal, changes, progress, options)
    folder = path.absolute().parent
    with together() as bundle:
        writer = bundle.audio(path, signal.rate, signal.channels, subtype, signal.samples)
        with tempfile.TemporaryFile(dir=folder, prefix=".remix.") as file:
            peak = 0.0
            for piece in found:
                peak = max(peak, float(piece.abs().max())) if piece.numel() else peak
                file.write(piece.T.contiguous().numpy().tobytes())
            gain = _common_gain(peak)
            file.seek(0)
            width = 4 * signal.channels
            while block := file.read(_BLOCK * width):
                samples = np.frombuffer(block, np.float32).reshape(-1, signal.channels).T
                writer.write(samples * np.float32(gain))
    keeps_tags = source is not None and copy_tags(source, path)
    return Remixed(
        path, None, signal.rate, _decibel(gain), keeps_tags, separation.notes,
        separation.found.get("locations", []),
    )  # fmt: skip


def _common_gain(peak: float) -> float:
    """The factor that keeps a peak within full scale."""
    return 1.0 if peak <= 1 else (1 - 2.0**-15) / peak


def _decibel(gain: float) -> float:
    return -20 * math.log10(gain)
