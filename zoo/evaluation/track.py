"""One track: its references and estimates read forward together, and measured as they pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.data.songs import TrackSignal
from zoo.data.track import Track
from zoo.errors import DatasetError, SilenceError, ZooError, sentence
from zoo.evaluation.doubts import Doubts
from zoo.evaluation.systems import System, choose, file_name
from zoo.metrics.protocols import measure
from zoo.metrics.rules import Protocol, Silence
from zoo.scores import TrackScores
from zoo.stems import together

Keep = Callable[[int, Tensor], None]  # number of a system, its next estimates (J, C, n)


@dataclass(frozen=True)
class Task:
    """All that a process must know to score one track.

    Attributes:
        track: to be scored.
        systems: that give the same sources, each with the facts of its files.
        protocol: of the scores.
        sdr_only, silence: as `evaluate` has them.
        stems: folder of the estimates of each system; None: they are not kept.
    """

    track: Track
    systems: tuple[tuple[System, dict[str, Any]], ...]
    protocol: Protocol
    sdr_only: bool
    silence: Silence
    stems: tuple[Path | None, ...]

    def alone(self) -> list[Task]:
        """The same for each system."""
        pairs = zip(self.systems, self.stems, strict=True)
        return [replace(self, systems=(s,), stems=(path,)) for s, path in pairs]


def score_track(task: Task) -> list[TrackScores | str]:
    """The scores of each system on a track, or what is wrong.

    Where one of several fails, each is scored alone.
    """
    try:
        return list(_scored(task))
    except (ZooError, OSError) as error:
        if len(task.systems) == 1:
            return [sentence(error)]
    return [score_track(one)[0] for one in task.alone()]


def _scored(task: Task) -> Iterator[TrackScores]:
    track, chosen = task.track, task.protocol
    sources, is_complete = choose(task.systems[0][0], track)
    least = 2 if chosen.family else 1  # BSS Eval tells sources from each other
    if len(sources) < least:
        raise DatasetError(
            f"{track.name}: {' and '.join(sources) or 'no source'} can be compared, and protocol "
            f"{chosen.id} needs {least} at least. The track knows "
            f"{', '.join(s for s in track.sources if track.knows(s))}; the system gives "
            f"{', '.join(task.systems[0][0].given or ())}."
        )
    systems = [system for system, _ in task.systems]
    with _keeping(task, sources) as keep:
        stream = Stream(track, sources, systems, chosen.has_gain, keep)
        figures = measure(
            chosen, stream.read, track.samples, track.rate, sources,
            is_complete=is_complete, sdr_only=task.sdr_only, silence=task.silence,
        )  # fmt: skip
        if task.silence == "museval" and chosen.family:
            stream.refuse_silence()
    for i, (found, (_, facts)) in enumerate(zip(figures, task.systems, strict=True)):
        told: dict[str, Any] = {
            **facts,
            "samples": track.samples,
        }
        if facts.get("device") == "cpu":  # others separate nothing, or elsewhere
            told["seconds"] = round(stream.seconds[i], 3)
            told["audio_seconds"] = track.samples / track.rate
        if doubts := stream.doubts[i]:
            told["doubts"] = [*_absent(track, sources), *doubts.found()]
        yield TrackScores.of(file_name(track.name), found, told)


def _absent(track: Track, sources: Sequence[str]) -> list[str]:
    """What to say where some of a track's sources are not among those that are scored."""
    absent = [s for s in track.sources if track.knows(s) and s not in sources]
    if not absent or set(sources) == {"vocals", "accompaniment"}:
        return []
    return [
        f"there is no estimate of {', '.join(absent)}; the others are scored without, which "
        "changes their figures"
    ]


@contextmanager
def _keeping(task: Task, sources: Sequence[str]) -> Iterator[Keep | None]:
    """Writes the estimates as they come; the files appear when all is well."""
    if task.stems[0] is None:
        yield None
        return
    track = task.track
    with together() as bundle:
        writers = [
            [
                bundle.audio(
                    folder / f"{s}.wav", track.rate, track.channels, "FLOAT", track.samples
                )
                for s in sources
            ]
            for folder in task.stems
            if folder is not None
        ]

        def keep(system: int, estimates: Tensor) -> None:
            for writer, estimate in zip(writers[system], estimates, strict=True):
                writer.write(estimate.float().numpy())

        yield keep


class Stream:
    """References and estimates of a track, read forward; from the start once more if need be.

    Args:
        track: whose references.
        sources: of the references.  An ``accompaniment`` beside stems has none of its own: what
            stands for it is what its estimate has that the sum of the others lacks.
        systems: that give estimates.
        with_mixture: the mixture follows them, as the estimate of every source.
        keep: takes the estimates of the systems, in order.

    Attributes:
        seconds: CPU time that each system took, the first time.
        doubts: about each system that may be wrong.
    """

    def __init__(
        self,
        track: Track,
        sources: Sequence[str],
        systems: Sequence[System],
        with_mixture: bool = False,
        keep: Keep | None = None,
    ) -> None:
        self.track, self.sources = track, list(sources)
        self.names = [system.name for system in systems]
        self._openers = [partial(system.pieces, track, sources) for system in systems]
        if with_mixture:
            self._openers.append(partial(_mixture_for_all, track, len(sources)))
        self._keep = keep
        self.seconds = [0.0] * len(self._openers)
        self.doubts = [None if s.is_trusted else Doubts(sources, track.rate) for s in systems]
        self._sounds = torch.zeros(1 + len(self._openers), len(sources), dtype=torch.bool)
        self._seen = 0
        self._restart()

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """References ``(J, C, n)`` and estimates ``(S, J, C, n)`` of samples start to stop."""
        if start < self._start:
            self._restart()
        while self._end < start:
            self._pull(min(start, self._end + self.track.rate))
            self._drop(self._end)
        self._drop(start)
        self._pull(stop)
        signals = self._held[..., : stop - start]
        return signals[0], signals[1:]

    def refuse_silence(self) -> None:
        """Raise where BSS Eval defines no score.

        Raises:
            SilenceError: a reference or an estimate is silent throughout.
        """
        for sounds, whose in zip(self._sounds, ["reference", *self.names], strict=False):
            for source, does in zip(self.sources, sounds.tolist(), strict=True):
                is_extra = source == "accompaniment" and len(self.sources) > 2
                if not does and not is_extra:
                    what = "reference" if whose == "reference" else f"estimate of {whose}"
                    raise SilenceError(
                        f"{self.track.name}: the {what} for {source} is silent throughout, and "
                        "museval's rule gives the track no score then; --silence references "
                        "scores the sources that sound."
                    )

    def _restart(self) -> None:
        self._start = self._end = 0
        n = len(self.sources)
        self._held = torch.zeros(1 + len(self._openers), n, self.track.channels, 0)
        self._fifos = [_Pieces(opener()) for opener in self._openers]

    def _drop(self, start: int) -> None:
        self._held = self._held[..., start - self._start :]
        self._start = start

    def _pull(self, stop: int) -> None:
        """Have all up to ``stop``."""
        parts = [self._held]
        while self._end < stop:
            n = min(stop - self._end, 10 * self.track.rate)
            parts.append(self._next(n))
            self._end += n
        if len(parts) > 1:
            self._held = torch.cat(parts, -1)

    def _next(self, n: int) -> Tensor:
        is_first = self._end >= self._seen
        references = [self._reference(source, n) for source in self.sources]
        signals = [torch.stack(references)]
        for i, fifo in enumerate(self._fifos):
            before = time.process_time()
            try:
                estimates = fifo.take(n)
            except (ZooError, OSError):
                raise
            except Exception as error:  # a model may raise anything
                told = str(error).strip().partition("\n")[0]
                raise ZooError(
                    f"{self.track.name}: {self.names[i]} failed with {type(error).__name__}: {told}"
                ) from error
            if is_first:
                self.seconds[i] += time.process_time() - before
            if estimates is None:
                raise DatasetError(
                    f"{self.track.name}: the estimates of {self.names[i]} end before the "
                    "references; make them as long."
                )
            self._check(i, estimates)
            signals.append(estimates)
        if is_first:
            self._look(signals)
            self._seen = self._end + n
        return torch.stack([self._without_sum(s) for s in signals])

    def _reference(self, source: str, n: int) -> Tensor:
        return torch.from_numpy(self.track.read(source, self._end, n))

    def _check(self, i: int, estimates: Tensor) -> None:
        finite = estimates.isfinite().all(1)
        if bool(finite.all()):
            return
        j, at = (int(x) for x in (~finite).nonzero()[0])
        raise DatasetError(
            f"{self.track.name}: the estimate of {self.names[i]} for {self.sources[j]} holds NaN "
            f"or infinity at {(self._end + at) / self.track.rate:.3f} s; it has no score then."
        )

    def _look(self, signals: list[Tensor]) -> None:
        """What is done with every sample once."""
        self._sounds |= (torch.stack(signals).sum(2) != 0).any(-1)
        for i, (doubts, estimates) in enumerate(zip(self.doubts, signals[1:], strict=False)):
            if doubts:
                doubts.push(signals[0], estimates)
            if self._keep:
                self._keep(i, estimates)

    def _without_sum(self, signals: Tensor) -> Tensor:
        """An accompaniment beside stems less the sum of those."""
        if "accompaniment" not in self.sources or len(self.sources) < 3:
            return signals
        others = [j for j, s in enumerate(self.sources) if s not in ("vocals", "accompaniment")]
        signals = signals.clone()
        signals[-1] -= signals[others].sum(0)
        return signals


class _Pieces:
    """Pieces of any length as pieces of the length that is asked for."""

    def __init__(self, pieces: Iterator[Tensor]) -> None:
        self._pieces = pieces
        self._rest: Tensor | None = None

    def take(self, n: int) -> Tensor | None:
        """The next ``(J, C, n)``; None where less is left."""
        parts: list[Tensor] = []
        left = n
        while left:
            part = self._rest if self._rest is not None else next(self._pieces, None)
            if part is None:
                return None
            parts.append(part[..., :left])
            taken = parts[-1].shape[-1]
            left -= taken
            self._rest = part[..., taken:] if taken < part.shape[-1] else None
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _mixture_for_all(track: Track, n_sources: int) -> Iterator[Tensor]:
    for block in TrackSignal(track).blocks():
        yield block.expand(n_sources, -1, -1)
