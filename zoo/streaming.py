"""Long files in constant memory: a song is cut into chunks, separated, and joined again.

The way of the data, each step a generator that holds no more than a chunk:

    file blocks -> channel groups -> model rate -> chunks -> model -> joined -> file rate -> sources

Two kinds of model meet two kinds of chunk (`ChunkPlan`):

* ``context`` is a number: each chunk is computed with that many real samples on both sides, which
  are dropped afterwards. The result equals separating the whole song at once.
* ``context`` is None: neighbouring chunks overlap and are cross-faded by ramps that sum to one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from zoo.audio import Resampler, open_audio
from zoo.audio.pcm import to_float
from zoo.errors import ShapeError, ZooError

if TYPE_CHECKING:
    from zoo.separator import Separator, State

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]  # stage, samples done, samples in all if known

CHUNK_S = 20.0  # seconds of new signal per chunk: memory stays near 1 GB, context costs little
OVERLAP = 0.25  # of a chunk, where neighbours are cross-faded
BLOCK_S = 1.0  # seconds read from a file at once


# --------------------------------------------------------------------------- signals


class Signal(Protocol):
    """Anything that can be read from the start, more than once."""

    rate: int
    channels: int
    announced: int | None  # length for a progress bar, not to be relied on
    notes: list[str]

    @property
    def samples(self) -> int | None:
        """Length in samples, None where a file does not tell."""
        ...

    def blocks(self) -> Iterator[Tensor]:
        """The signal in order, as float32 ``(C, n)``."""
        ...


class FileSignal:
    """An audio file, opened anew by every pass."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with open_audio(self.path) as reader:
            self.rate, self.channels, self.samples = reader.rate, reader.channels, reader.samples
            self.announced = reader.announced
            self.is_float, self.bits = reader.is_float, reader.bits
            self.notes = list(reader.notes)

    def blocks(self) -> Iterator[Tensor]:
        """The file in blocks of a second."""
        with open_audio(self.path) as reader:
            for block in reader.blocks(round(BLOCK_S * self.rate)):
                yield torch.from_numpy(block)
            self.notes = list(reader.notes)  # some facts show at the end only: a short file


class TensorSignal:
    """A signal in memory.

    Args:
        signal: ``(T,)`` or ``(C, T)``; integers are scaled by the range of their type, of which
            8-bit unsigned ones have their zero at 128, as in audio files.
        rate: in Hz.

    Raises:
        ShapeError: another number of axes, no samples, more than 64 channels, another type.
        ZooError: a value that is not finite.
    """

    def __init__(self, signal: Tensor | np.ndarray, rate: int) -> None:
        x = _as_float32(signal)
        if x.ndim == 1:
            x = x[None]
        if x.ndim != 2 or x.shape[1] == 0 or not 1 <= x.shape[0] <= 64:
            raise ShapeError(
                f"audio of shape {tuple(np.shape(signal))}; expected "
                "(channels, samples) with at least one sample and at most 64 channels. "
                "Transpose it if samples come first."
            )
        if not bool(torch.isfinite(x).all()):
            where = int((~torch.isfinite(x)).any(0).nonzero()[0])
            raise ZooError(
                f"audio with NaN or infinity at sample {where}; repair the signal first."
            )
        self.signal = x
        self.rate, self.channels, self.samples = int(rate), x.shape[0], x.shape[1]
        self.announced: int | None = self.samples
        self.notes: list[str] = []

    def blocks(self) -> Iterator[Tensor]:
        """The signal in blocks of a second."""
        yield from self.signal.split(max(1, round(BLOCK_S * self.rate)), dim=1)


def _as_float32(signal: Tensor | np.ndarray) -> Tensor:
    """A signal of any type, byte order and strides on the CPU; shared where it is float32."""
    if isinstance(signal, Tensor):
        signal = signal.detach().cpu()
        if signal.is_floating_point():
            return signal.to(torch.float32)
        signal = signal.numpy()
    x = np.asarray(signal)
    if x.dtype.kind not in "fi" and x.dtype != np.uint8:
        raise ShapeError(
            f"audio of type {x.dtype}; expected floats, signed integers or 8-bit unsigned ones. "
            "Convert it to float32 with full scale 1 first."
        )
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):  # the infinity is reported
            x = x.astype(np.float32, copy=False)
    else:
        x = to_float(x)
    # torch knows neither negative strides nor memory that must not be written.
    return torch.from_numpy(np.require(x, requirements=["C", "W"]))


# --------------------------------------------------------------------------- chunks


@dataclass(frozen=True)
class ChunkPlan:
    """How a song is cut, in samples at the model's rate.

    Chunk ``k`` brings the new samples from ``k * hop``; it is read from ``context`` before them,
    and kept up to ``overlap`` behind them, where it fades into the next.
    """

    hop: int
    context: int = 0
    overlap: int = 0

    @staticmethod
    def of(model: Separator, rate: int, chunk: float | None, overlap: float) -> ChunkPlan:
        """The plan for a model: ``chunk`` in seconds, ``overlap`` as a share of it where used.

        Borders lie on multiples of ``model.grid``, so the context is rounded up to it as well, and
        no fade is shorter than it: on a coarse grid a short chunk grows by as much.
        """
        seconds = CHUNK_S if chunk is None else chunk
        if not 0 < seconds < float("inf") or not 0 <= overlap <= 0.5:
            raise ZooError(
                f"chunk {seconds} s with overlap {overlap}; expected a positive length and an "
                "overlap between 0 and 0.5 of it."
            )
        grid = model.grid
        length = max(1, round(seconds * rate / grid)) * grid
        if model.context is not None:
            return ChunkPlan(hop=length, context=-(-model.context // grid) * grid)
        if not overlap:
            return ChunkPlan(hop=length)
        faded = max(grid, min(round(length * overlap / grid), length // grid // 2) * grid)
        return ChunkPlan(hop=max(grid, length - faded), overlap=faded)

    def halved(self, grid: int) -> ChunkPlan | None:
        """The same with half the new samples, or None when it cannot be cut further."""
        hop = self.hop // (2 * grid) * grid
        return replace(self, hop=hop, overlap=min(self.overlap, hop)) if hop else None


@dataclass(frozen=True)
class Chunk:
    """A piece of the mixture ``(G, C, n)`` with the part of it that counts."""

    mixture: Tensor
    keep: slice
    last: bool


def cut(blocks: Iterable[Tensor], plan: ChunkPlan) -> Iterator[Chunk]:
    """The chunks of a song that arrives in blocks ``(G, C, n)`` of any length."""
    source = iter(blocks)
    buffer: Tensor | None = None
    offset = 0  # position in the song of the first buffered sample
    ended = False
    start = 0
    while True:
        kept_until = start + plan.hop + plan.overlap
        parts = [] if buffer is None else [buffer]
        available = offset + sum(part.shape[-1] for part in parts)
        # One sample more than is kept tells whether the song goes on.
        while not ended and available < max(kept_until + plan.context, kept_until + 1):
            block = next(source, None)
            if block is None:
                ended = True
            else:
                parts.append(block)
                available += block.shape[-1]
        if not parts:
            return
        buffer = torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]
        begin = max(0, start - plan.context)
        mixture = buffer[..., begin - offset : kept_until + plan.context - offset]
        last = ended and available <= kept_until
        yield Chunk(mixture, slice(start - begin, kept_until - begin), last)
        if last:
            return
        start += plan.hop
        drop = max(0, start - plan.context) - offset
        buffer, offset = buffer[..., drop:], offset + drop


def join(pieces: Iterable[tuple[Chunk, Tensor]], plan: ChunkPlan) -> Iterator[Tensor]:
    """The song again, from each chunk's estimates ``(..., n)``; lengths sum to the song's.

    Neighbours are mixed over ``plan.overlap`` samples by ramps that sum to one, so a model that
    returns its input reproduces it to rounding.
    """
    tail: Tensor | None = None
    for chunk, estimates in pieces:
        kept = estimates[..., chunk.keep]
        if tail is not None and tail.shape[-1]:
            n = tail.shape[-1]
            ramp = (torch.arange(n, dtype=kept.dtype) + 0.5) / n
            mixed = tail + (kept[..., :n] - tail) * ramp
            kept = torch.cat([mixed, kept[..., n:]], dim=-1)
        if chunk.last:
            yield kept
            return
        yield kept[..., : plan.hop]
        tail = kept[..., plan.hop :]


# --------------------------------------------------------------------------- the model on chunks


@dataclass
class ChunkRunner:
    """A model applied to chunks, several at a time, on its own device.

    When the device's memory ends, the batch is halved, then the chunk, with one line each time.
    """

    model: Separator
    plan: ChunkPlan
    batch_size: int = 1
    shifts: int = 0
    flip: bool = False
    precision: str = "float32"
    state: State = None
    with_mixture: bool = False  # the mixture itself travels along as one more source

    def run(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Estimates ``(G, J, C, n)`` of blocks ``(G, C, n)``; lengths sum to the song's."""
        plan = self.plan  # fixed for the cut; a shorter one is applied inside a chunk
        yield from join(self._estimates(cut(blocks, plan)), plan)

    def survey(self, blocks: Iterable[Tensor]) -> State:
        """What the model must know of the whole song, gathered in one pass."""
        device = self.model.device
        chunks = cut(blocks, replace(self.plan, hop=self.plan.hop + self.plan.overlap, overlap=0))
        with torch.inference_mode(), self._autocast():
            return self.model.survey((c.mixture.to(device), c.keep) for c in chunks)

    def _estimates(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, Tensor]]:
        batch: list[Chunk] = []
        for chunk in chunks:
            if batch and (
                len(batch) >= self.batch_size or chunk.mixture.shape != batch[0].mixture.shape
            ):
                yield from self._separate_batch(batch)
                batch = []
            batch.append(chunk)
        if batch:
            yield from self._separate_batch(batch)

    def _separate_batch(self, batch: list[Chunk]) -> Iterator[tuple[Chunk, Tensor]]:
        mixtures = torch.stack([chunk.mixture for chunk in batch])  # (K, G, C, n)
        yield from zip(batch, self._forward(mixtures), strict=True)

    def _forward(self, mixtures: Tensor) -> Tensor:
        """``(K, G, C, n)`` -> ``(K, G, J, C, n)``, in smaller parts when memory ends."""
        if self.plan.hop < mixtures.shape[-1] - 2 * self.plan.context - self.plan.overlap:
            return self._in_parts(mixtures)
        try:
            if len(mixtures) > self.batch_size:
                return torch.cat([self._forward(part) for part in mixtures.split(self.batch_size)])
            return self._call(mixtures)
        except torch.OutOfMemoryError:
            pass  # leave the handler first: it keeps the failed tensors alive
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(mixtures) > 1:
            self.batch_size = max(1, len(mixtures) // 2)
            log.warning("out of memory on %s: batch of %d", self.model.device, self.batch_size)
            return self._forward(mixtures)
        shorter = self.plan.halved(self.model.grid)
        if shorter is None:
            raise ZooError(
                f"out of memory on {self.model.device} even with the shortest chunk; "
                "use device='cpu'."
            )
        self.plan = shorter
        log.warning("out of memory on %s: chunks of %d samples", self.model.device, shorter.hop)
        return self._in_parts(mixtures)

    def _in_parts(self, mixtures: Tensor) -> Tensor:
        """Each chunk treated as a song of its own, cut by the present plan."""
        songs = [
            torch.cat(list(join(self._estimates(cut([mixture], self.plan)), self.plan)), dim=-1)
            for mixture in mixtures
        ]
        return torch.stack(songs)

    def _call(self, mixtures: Tensor) -> Tensor:
        n_chunks, n_groups = mixtures.shape[:2]
        flat = mixtures.flatten(0, 1).to(self.model.device)
        state = _repeated(self.state, n_chunks)
        with torch.inference_mode(), self._autocast():
            estimates = self._averaged(flat, state)
            if self.flip:
                estimates = (estimates + self._averaged(flat.flip(1), state).flip(2)) / 2
        if self.with_mixture:
            estimates = torch.cat([estimates, flat[:, None]], dim=1)
        grouped: Tensor = estimates.float().cpu().unflatten(0, (n_chunks, n_groups))
        return grouped

    def _averaged(self, mixture: Tensor, state: State) -> Tensor:
        """The mean over the mixture as it is and delayed by fractions of half a second."""
        estimates = self.model(mixture, state)
        rate = self.model.sample_rate or 44100
        for shift in range(1, self.shifts + 1):
            delay = shift * (rate // 2) // (self.shifts + 1)
            delayed = torch.nn.functional.pad(mixture, (delay, 0))
            estimates = estimates + self.model(delayed, state)[..., delay:]
        mean: Tensor = estimates / (self.shifts + 1)
        return mean

    def _autocast(self) -> torch.autocast:
        kind = torch.device(self.model.device).type
        if self.precision not in ("float32", "bf16"):
            raise ZooError(f"precision {self.precision!r}; expected 'float32' or 'bf16'.")
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self.precision == "bf16")


def _repeated(state: State, n: int) -> State:
    """A state of G signals for n chunks of each."""
    if state is None or n == 1:
        return state
    return {key: value.repeat(n, *[1] * (value.ndim - 1)) for key, value in state.items()}


# --------------------------------------------------------------------------- channels


class ChannelGroups:
    """A file's channels as the groups that a model takes, and back.

    A model of fewer channels takes them in consecutive groups; a channel that fills a gap is there
    twice, and its two estimates are averaged.

    Args:
        n_file: channels of the file.
        n_model: channels of the model; None for a model that takes any number.
    """

    def __init__(self, n_file: int, n_model: int | None) -> None:
        width = n_model or n_file
        positions = range(-(-n_file // width) * width)
        self.index = torch.tensor([min(p, n_file - 1) for p in positions]).view(-1, width)
        self.n_file = n_file

    @property
    def note(self) -> str | None:
        """One line on what is done, or None when the channels fit."""
        n_groups, width = self.index.shape
        if n_groups * width == self.n_file and n_groups == 1:
            return None
        if n_groups == 1:
            return f"{self.n_file} channel(s) given to a model of {width}: repeated"
        kind = "one by one" if width == 1 else f"in groups of {width}"
        return f"{self.n_file} channels separated {kind}: the model has {width}"

    def split(self, signal: Tensor) -> Tensor:
        """``(C, n)`` -> ``(G, C_model, n)``."""
        return signal[self.index]

    def merge(self, estimates: Tensor) -> Tensor:
        """``(G, J, C_model, n)`` -> ``(J, C, n)``."""
        flat = estimates.transpose(0, 1).flatten(1, 2)  # (J, G * C_model, n)
        if flat.shape[1] == self.n_file:
            return flat
        merged = flat.new_zeros(flat.shape[0], self.n_file, flat.shape[2])
        merged.index_add_(1, self.index.flatten(), flat)
        return merged / torch.bincount(self.index.flatten(), minlength=self.n_file)[:, None]


# --------------------------------------------------------------------------- a file's separation


@dataclass
class Separation:
    """One signal being separated: iterating gives its sources, piece by piece.

    Args:
        model: on its device, in eval mode.
        signal: what to separate.
        sources: which to give, in this order: the model's own, ``no_<source>`` (the mixture minus
            it; ``accompaniment`` for the vocals) and ``residual`` (the mixture minus the model's
            estimates). None: the model's own.
        chunk, overlap, shifts, flip, batch_size, precision, high_band, consistent, progress: as
            `Separator.separate` has them.

    Yields:
        the mixture ``(C, n)`` and its sources ``(len(names), C, n)`` at the signal's rate; the
        lengths sum to the signal's.

    Raises:
        ZooError: a source that the model cannot give, an option that does not fit.
    """

    model: Separator
    signal: Signal
    sources: Iterable[str] | None = None
    chunk: float | None = None
    overlap: float = OVERLAP
    shifts: int = 0
    flip: bool = False
    batch_size: int = 1
    precision: str = "float32"
    high_band: str = "residual"
    consistent: bool = False
    progress: Progress | None = None
    notes: list[str] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)  # by the survey, once it is done

    def __post_init__(self) -> None:
        self.model = self.model.at(self.signal.rate)
        own = tuple(self.model.sources)
        if not own:
            raise ZooError("how many objects there are is not known; give n_objects.")
        asked = [self.sources] if isinstance(self.sources, str) else self.sources
        wanted = own if asked is None else tuple(dict.fromkeys(asked))
        self.opposites = {complement(name): name for name in own if complement(name) not in own}
        for name in wanted:
            if name not in (*own, *self.opposites, "residual"):
                raise ZooError(
                    f"source {name!r} is not one that this model gives; it has {', '.join(own)}, "
                    f"{', '.join((*self.opposites, 'residual'))}."
                )
        if self.flip and (self.model.channels != 2 or self.model.surveys):
            raise ZooError(
                "flip exchanges left and right for a second pass: it needs a stereo model that "
                "does not locate its sources."
            )
        if not wanted:
            raise ZooError(f"no source asked for; this model has {', '.join(own)}.")
        if self.high_band != "residual" and self.high_band not in own:
            raise ZooError(
                f"high_band {self.high_band!r}; expected 'residual' or one of {', '.join(own)}."
            )
        self.names = wanted
        self.holder = self._holder(own)
        needed = self._needed(own)
        if set(needed) != set(own):
            self.model, note = self.model.only(needed)
            self.notes += [note] if note else []
        if self.model.context is not None and self.shifts:
            self.notes.append("shifts: chunking is exact for this model, so they gain little")
        if self.model.context is not None and self.overlap != OVERLAP:
            self.notes.append("overlap: chunking is exact for this model, so it gains nothing")
        self.rate = self.model.sample_rate or self.signal.rate
        self.groups = ChannelGroups(self.signal.channels, self.model.channels)
        self.notes += [self.groups.note] if self.groups.note else []
        if self.rate != self.signal.rate:
            self.notes.append(f"resampled {self.signal.rate} -> {self.rate} Hz and back")
        if self.rate < self.signal.rate:
            takers = [f"the {self.holder}" if self.holder == "residual" else self.holder]
            takers += [
                opposite
                for opposite, name in self.opposites.items()
                if opposite in self.names and name != self.holder
            ]
            self.notes.append(
                f"above {self.rate // 2} Hz everything stands in {' and in '.join(takers)}"
            )

    @property
    def arguments(self) -> dict[str, Any]:
        """What a repeat needs to be told, defaults spelled out; plain JSON values."""
        return {
            "sources": list(self.names),
            "chunk": CHUNK_S if self.chunk is None else self.chunk,
            "overlap": self.overlap,
            "shifts": self.shifts,
            "flip": self.flip,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "high_band": self.high_band,
            "consistent": self.consistent,
            "device": str(self.model.device),
        }

    def _holder(self, own: tuple[str, ...]) -> str:
        """The one source, or the residual, that what lies above the model's band stands in."""
        if self.high_band != "residual":
            return self.high_band
        if "accompaniment" in own:
            return "accompaniment"
        if not self.consistent:
            return "residual"
        return "other" if "other" in own else own[-1]  # the sources must sum to the mixture

    def _needed(self, own: tuple[str, ...]) -> tuple[str, ...]:
        """The model's sources that must be computed for the ones asked for."""
        if self.consistent or "residual" in self.names:
            return own
        needed = {self.opposites.get(name, name) for name in self.names}
        return tuple(name for name in own if name in needed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        plan = ChunkPlan.of(self.model, self.rate, self.chunk, self.overlap)
        runner = ChunkRunner(
            self.model, plan, self.batch_size, self.shifts, self.flip, self.precision,
            with_mixture=self.rate < self.signal.rate,
        )  # fmt: skip
        if self.model.surveys:
            runner.state = runner.survey(self._model_blocks("survey", None))
            self.found = self.model.found(runner.state)
            self.notes += self.found.pop("notes", [])
        waiting = _Fifo()  # the mixture, until its estimates arrive
        done = 0
        for estimates in self._back_to_file_rate(
            runner.run(self._model_blocks("separate", waiting))
        ):
            n = min(estimates.shape[-1], len(waiting))  # resampling may round the length up
            if n:
                mixture = waiting.pop(n)
                yield mixture, self._finish(mixture, estimates[..., :n])
                done += n
                self._report("separate", done)
        for note in self.signal.notes:
            if note not in self.notes:
                self.notes.append(note)

    def _report(self, stage: str, done: int) -> None:
        if self.progress:
            total = self.signal.samples
            if total is None and self.signal.announced is not None:
                total = max(done, self.signal.announced)
            self.progress(stage, done, total)

    def _model_blocks(self, stage: str, copy: _Fifo | None) -> Iterator[Tensor]:
        """The signal as the model takes it: ``(G, C_model, n)`` at the model's rate."""
        resampler = None
        if self.rate != self.signal.rate:
            resampler = Resampler(self.signal.rate, self.rate, self.signal.channels)
        done = 0
        for block in self.signal.blocks():
            if copy is not None:
                copy.push(block)
            else:
                done += block.shape[-1]
                self._report(stage, done)
            if resampler:
                block = torch.from_numpy(resampler.push(block.numpy()))
            if block.shape[-1]:
                yield self.groups.split(block)
        if resampler:
            rest = torch.from_numpy(resampler.finish())
            if rest.shape[-1]:
                yield self.groups.split(rest)

    def _back_to_file_rate(self, pieces: Iterator[Tensor]) -> Iterator[Tensor]:
        """Pieces ``(G, J, C_model, n)`` -> ``(J, C, n)`` at the signal's rate."""
        resampler = None
        for piece in pieces:
            merged = self.groups.merge(piece)
            if self.rate != self.signal.rate:
                n_sources, n_channels = merged.shape[:2]
                resampler = resampler or Resampler(
                    self.rate, self.signal.rate, n_sources * n_channels
                )
                flat = torch.from_numpy(resampler.push(merged.flatten(0, 1).numpy()))
                merged = flat.unflatten(0, (n_sources, n_channels))
            yield merged
        if resampler:
            rest = torch.from_numpy(resampler.finish())
            yield rest.unflatten(0, (-1, self.signal.channels))

    def _finish(self, mixture: Tensor, estimates: Tensor) -> Tensor:
        """The sources asked for, from the mixture ``(C, n)`` and the estimates ``(J, C, n)``."""
        own = self.model.sources
        sources = dict(zip(own, estimates, strict=False))
        if len(estimates) > len(own):  # the mixture came along: what is missing in it lies above
            if self.holder in sources:
                sources[self.holder] = sources[self.holder] + (mixture - estimates[-1])
        residual = mixture - torch.stack(list(sources.values())).sum(0)
        if self.consistent:
            sources = {name: x + residual / len(sources) for name, x in sources.items()}
            residual = torch.zeros_like(residual)
        for opposite, name in self.opposites.items():
            if opposite in self.names:
                sources[opposite] = mixture - sources[name]
        sources["residual"] = residual
        return torch.stack([sources[name] for name in self.names])


def complement(source: str) -> str:
    """The name of everything but a source."""
    return "accompaniment" if source == "vocals" else f"no_{source}"


class _Fifo:
    """Samples in, samples out, in order."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []

    def __len__(self) -> int:
        return sum(part.shape[-1] for part in self.parts)

    def push(self, part: Tensor) -> None:
        self.parts.append(part)

    def pop(self, n: int) -> Tensor:
        taken, missing = [], n
        while missing:
            head = self.parts.pop(0)
            taken.append(head[..., :missing])
            if head.shape[-1] > missing:
                self.parts.insert(0, head[..., missing:])
            missing -= taken[-1].shape[-1]
        return torch.cat(taken, dim=-1)


def separate_tensor(model: Separator, mixture: Tensor, chunk: float | None = None) -> Tensor:
    """A mixture that already has the model's rate and channels, on the model's device.

    Args:
        model: in eval mode.
        mixture: ``(B, C, T)``.
        chunk: seconds of new signal per chunk.

    Returns:
        Estimates ``(B, J, C, T)`` on the CPU.
    """
    plan = ChunkPlan.of(model, model.sample_rate or 44100, chunk, overlap=OVERLAP)
    runner = ChunkRunner(model, plan)
    if model.surveys:
        runner.state = runner.survey([mixture])
    return torch.cat(list(runner.run([mixture])), dim=-1)
