"""Scores of systems on the tracks of a data set: one file per track, made while it is separated.

Nothing but scores is written unless stems are asked for, and nothing is held but a stretch of the
song, where the model streams and the protocol has frames.  A song that outgrows what BSS Eval keeps
of it (six minutes of four stems) is separated twice.

    OUTPUT/<dataset>-<protocol>/<system>/<track>.json
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import torch

import zoo
from zoo import scores as score_file
from zoo.data import Dataset, open_dataset
from zoo.data.track import SPLITS, FileTrack, Split, Track, check_split
from zoo.data.whole_test import n_test
from zoo.errors import DatasetError, MissingPackage, ZooError, check_choice, sentence
from zoo.evaluation.systems import System, choose, file_name, resolve
from zoo.evaluation.track import Task, score_track
from zoo.files import remove_abandoned
from zoo.metrics.rules import Silence, protocol
from zoo.release import sha256_of
from zoo.scores import TrackScores
from zoo.separator import Separator
from zoo.stems import versions

log = logging.getLogger(__name__)

OUTPUT = "results/scores"
# What must be alike for a track to count as scored; the rest follows from it, or is about speed.
IDENTITY = (
    "protocol", "dataset", "track", "system", "kind", "release", "sha256", "arguments", "told",
    "seed", "data", "references", "silence", "evaluator",
)  # fmt: skip

Progress = Callable[[int, int], None]  # tracks done, in all


@dataclass(frozen=True)
class Outcome:
    """What became of one system on one track.

    Attributes:
        system: its name.
        track: its name.
        path: of the score file.
        scores: what is in it; None after an error.
        is_kept: they were there already.
        replaces: others were there, of the system before it changed.
        error: why there are none.
        doubts: signs that the estimates are not what they claim to be.
    """

    system: str
    track: str
    path: Path
    scores: TrackScores | None = None
    is_kept: bool = False
    error: str | None = None
    doubts: tuple[str, ...] = ()
    replaces: bool = False


def evaluate(
    systems: str | Separator | Iterable[str | Separator],
    data: str | Dataset,
    *,
    root: str | Path | None = None,
    arguments: dict[str, Any] | None = None,
    protocol: str | None = None,
    split: Split = "test",
    sdr_only: bool = False,
    silence: Silence = "museval",
    output: str | os.PathLike[str] = OUTPUT,
    limit: int | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    device: str = "cpu",
    keep_stems: bool = False,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Scores of systems on the tracks of a data set; a track that fails does not stop the others.

    Args:
        systems: releases, checkpoints, training-free systems, folders of estimates, oracles; see
            `zoo.evaluation.systems`.  Those that give the same sources share what a track costs.
        data: a data set, or its id.
        root: of the data set; else as `zoo.data.open_dataset` has it.
        arguments: further ones of the data set.
        protocol: how to score; by default as the data set is scored.
        split: whose tracks.
        sdr_only: leave out ISR, SIR and SAR, and what stands beside.
        silence: as `zoo.bss_eval` has it.
        output: folder of the score files.  What is there already, of the same system, arguments,
            protocol and data, is not made again.
        limit: only so many tracks, the first ones.
        jobs: processes, of one thread each; -1: as many as there are cores.
        scheduler: address of a Dask cluster that scores in their place; it reads the data and the
            systems where they lie here.
        device: for models.
        keep_stems: write the estimates too, beside the score files.
        progress: called with tracks done and tracks in all.

    Returns:
        One for each system and track, in the order in which they were ready.

    Raises:
        ZooError: what concerns all tracks: no such system, data set or protocol.
    """
    if isinstance(systems, (str, Separator)):
        systems = [systems]
    dataset = open_dataset(data, root, **(arguments or {})) if isinstance(data, str) else data
    run = Run(
        dataset, protocol or dataset.protocol, split, sdr_only=sdr_only, silence=silence,
        output=Path(output), limit=limit, jobs=jobs, scheduler=scheduler, device=device,
        keep_stems=keep_stems,
    )  # fmt: skip
    return list(run.outcomes(run.resolve(systems), progress))


def summarise(outcomes: Iterable[Outcome], id: str) -> dict[str, dict[str, dict[str, float]]]:
    """System -> metric -> source -> the protocol's value over the tracks, for its own metrics."""
    chosen = protocol(id)
    found: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = {}
    for outcome in outcomes:
        if outcome.scores is None:
            continue
        weight = float(outcome.scores.facts.get("samples", 1))
        for source, metrics in outcome.scores.targets.items():
            for metric in (m for m in chosen.metrics if m in metrics):
                values = [chosen.track_value(metric, metrics[metric])]
                if chosen.frame_pool == "none":
                    values = metrics[metric]
                of_metric = found.setdefault(outcome.system, {}).setdefault(metric, {})
                of_metric.setdefault(source, []).extend((v, weight) for v in values)
    return {
        system: {
            metric: {s: chosen.pool(*zip(*pairs, strict=True)) for s, pairs in sources.items()}
            for metric, sources in metrics.items()
        }
        for system, metrics in found.items()
    }


# ----------------------------------------------------------------- a run


class Run:
    """A data set, scored by a protocol; arguments as of `evaluate`.

    Raises:
        ZooError: no such protocol or split, or no track.
    """

    def __init__(
        self,
        dataset: Dataset,
        id: str,
        split: Split = "test",
        *,
        sdr_only: bool = False,
        silence: Silence = "museval",
        output: Path = Path(OUTPUT),
        limit: int | None = None,
        jobs: int = 1,
        scheduler: str | None = None,
        device: str = "cpu",
        keep_stems: bool = False,
    ) -> None:
        check_split(split)
        check_choice("silence", silence, ("museval", "references"))
        self.dataset, self.protocol, self.split = dataset, protocol(id), split
        # Where an SDR needs filters, or there are no others, there is nothing to leave out.
        self.sdr_only, self.silence = sdr_only and self.protocol.family == "images", silence
        self.jobs, self.scheduler, self.device = jobs, scheduler, device
        self.keep_stems = keep_stems
        rule = "" if silence == "museval" else f"-{silence}"  # these figures do not compare
        if output.exists() and not output.is_dir():
            raise ZooError(f"{output} is a file; name a folder for the score files.")
        self.folder = output / f"{dataset.id}-{self.protocol.id}{rule}"
        found = list(dataset.each(split))
        if not found:
            beside = [s for s in SPLITS if s != split and dataset.tracks(s)]
            others = (
                f"; it has {' and '.join(beside)} tracks, which --split takes" if beside else ""
            )
            raise DatasetError(f"data set {dataset.id} has no {split} tracks{others}.")
        self.tracks, faulty = _sorted_out(found[:limit])
        self.faulty = [] if getattr(dataset, "skip_faulty", False) else faulty  # it warned of them
        self._owners = {file_name(track.name).casefold(): track.name for track in self.tracks}
        try:
            self.data = f"{dataset.id} {dataset.fingerprint((split,))}"
        except DatasetError:
            self.data = f"{dataset.id} incomplete"
        self.n_test = (n_test(dataset.id) if split == "test" else None) or len(found)

    def resolve(self, systems: Iterable[str | Separator]) -> list[System]:
        """The systems that words stand for, each with a name of its own.

        Raises:
            ZooError: one stands for none, or two have one name.
        """
        names = [track.name for track in self.tracks] or [name for name, _ in self.faulty]
        found = [resolve(s, names, self.split, self.device) for s in systems]
        taken: set[str] = set()
        for system in found:
            key = file_name(system.name).casefold()
            if key in taken:
                raise ZooError(
                    f"two systems are called {system.name!r}; write NAME= before one of them."
                )
            taken.add(key)
        return found

    def outcomes(
        self, systems: Sequence[System], progress: Progress | None = None
    ) -> Iterator[Outcome]:
        """Score what is not scored yet, writing each file as soon as it is ready."""
        report = progress or (lambda done, total: None)
        total, done = len(self.tracks) + len(self.faulty), len(self.faulty)
        for name, error in self.faulty:
            yield from (self._failed(s.name, name, error=error) for s in systems)
        for system in systems:
            remove_abandoned(self._path(system.name, "x").parent)
        before = self._before(systems)
        tasks: list[Task] = []
        left: dict[str, int] = {}
        for track in self.tracks:
            kept, new = self._split_up(track, systems, before)
            yield from kept
            tasks += new
            left[track.name] = len(new)
            if not new:
                done += 1
                report(done, total)
        for task, results in self._results(tasks):
            for (system, _), result in zip(task.systems, results, strict=True):
                outcome = self._written(system.name, task.track.name, result)
                yield replace(outcome, replaces=outcome.path in before)
            left[task.track.name] -= 1
            if not left[task.track.name]:
                done += 1
                report(done, total)

    def _before(self, systems: Sequence[System]) -> dict[Path, TrackScores]:
        """The score files that are there already, with what is in them.

        Raises:
            ZooError: one is of another system, or is no score file; it would be lost.
        """
        found: dict[Path, TrackScores] = {}
        for system, track in product(systems, self.tracks):
            path = self._path(system.name, track.name)
            if not path.is_file():
                continue
            try:
                scores = score_file.read(path)
            except ZooError:  # damaged: scored anew
                continue
            advice = f"move it, or write NAME= before {system.name} to have another folder."
            if not scores.facts:
                raise ZooError(f"{path} is no score file of `zoo evaluate`; {advice}")
            if not _is_of(scores, system, track):
                raise ZooError(f"{path} has scores of another system of this name; {advice}")
            found[path] = scores
        return found

    def _split_up(
        self, track: Track, systems: Sequence[System], before: Mapping[Path, TrackScores]
    ) -> tuple[list[Outcome], list[Task]]:
        """What is there already, and what is to be done, together where sources are alike."""
        outcomes: list[Outcome] = []
        groups: dict[tuple[str, ...], list[tuple[System, dict[str, Any]]]] = {}
        for system in systems:
            try:
                sources, _ = choose(system, track)
                facts = self._facts(system, track)
                path = self._path(system.name, track.name)
                if self._is_present(path, found := before.get(path), facts):
                    assert found is not None
                    doubts = tuple(found.facts.get("doubts", ()))
                    outcomes.append(
                        Outcome(system.name, track.name, path, found, True, None, doubts)
                    )
                else:
                    path.unlink(missing_ok=True)  # what fails now has no score of before
                    groups.setdefault(tuple(sources), []).append((system, facts))
            except (ZooError, OSError) as error:
                outcomes.append(self._failed(system.name, track.name, error=sentence(error)))
        tasks = []
        for group in groups.values():
            stems = [
                self._path(s.name, track.name).with_suffix("") if self.keep_stems else None
                for s, _ in group
            ]
            tasks.append(
                Task(track, tuple(group), self.protocol, self.sdr_only, self.silence, tuple(stems))
            )
        return outcomes, tasks

    def _facts(self, system: System, track: Track) -> dict[str, Any]:
        return {
            "protocol": self.protocol.id,
            "dataset": self.dataset.id,
            "split": self.split,
            "track": track.name,
            "system": system.name,
            "kind": system.kind,
            **system.facts(track),
            "data": self.data,
            "references": references(track),
            "decoding": _decoding(track),
            "rate": track.rate,
            "n_test": self.n_test,
            "silence": self.silence,
            "sdr_only": self.sdr_only,
            "evaluator": f"zoo {zoo.__version__}",
            "versions": versions(),
            **system.measures(),
        }

    def _is_present(self, path: Path, found: TrackScores | None, facts: dict[str, Any]) -> bool:
        if found is None:
            return False
        stems = path.with_suffix("")
        is_same = all(found.facts.get(key) == facts.get(key) for key in IDENTITY)
        is_same &= self.sdr_only or not found.facts.get("sdr_only")  # more than was asked for does
        return is_same and (stems.is_dir() or not self.keep_stems)

    def _results(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, list[TrackScores | str]]]:
        if self.scheduler is None and self.jobs in (0, 1):
            with _one_thread():
                yield from ((task, score_track(task)) for task in tasks)
            return
        joblib = import_module("joblib")
        with self._backend(joblib):
            parallel = joblib.Parallel(
                n_jobs=-1 if self.scheduler else self.jobs, return_as="generator_unordered",
                batch_size=1,
            )  # fmt: skip
            calls = (joblib.delayed(_score_numbered)(i, task) for i, task in enumerate(tasks))
            for i, results in parallel(calls):
                yield tasks[i], results

    @contextmanager
    def _backend(self, joblib: Any) -> Iterator[None]:
        if self.scheduler is None:
            with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
                yield
            return
        try:
            distributed = import_module("distributed")
        except ImportError as error:
            raise MissingPackage(
                "--scheduler needs Dask, which is not installed: "
                "pip install 'music-separation-zoo[cluster]'."
            ) from error
        try:
            client = distributed.Client(self.scheduler, timeout="20s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise ZooError(
                f"no Dask scheduler answers at {self.scheduler}; start one with `dask scheduler`, "
                "and workers that see the same files with `dask worker ADDRESS`."
            ) from error
        patience = {"wait_for_workers_timeout": 60}
        with client, joblib.parallel_config(backend="dask", client=client, **patience):
            yield

    def _written(self, system: str, track: str, result: TrackScores | str) -> Outcome:
        if isinstance(result, str):
            return self._failed(system, track, error=result)
        path = self._path(system, track)
        result.write(path)
        return Outcome(system, track, path, result, doubts=tuple(result.facts.get("doubts", ())))

    def _failed(self, system: str, track: str, error: str) -> Outcome:
        path = self._path(system, track)
        if self._owners.get(file_name(track).casefold(), track) == track:
            path.unlink(missing_ok=True)
        return Outcome(system, track, path, error=error)

    def _path(self, system: str, track: str) -> Path:
        return self.folder / file_name(system) / f"{file_name(track)}.json"


def _is_of(scores: TrackScores, system: System, track: Track) -> bool:
    """Whether scores are of this system, perhaps of other weights of it."""
    if system.kind == "estimates":  # whatever their files are; to read them takes long
        return scores.facts.get("kind") == system.kind
    try:
        facts = {"kind": system.kind, **system.facts(track)}
    except (ZooError, OSError):
        return True  # it fails where it is scored
    told = scores.facts
    if any(told.get(key) != facts.get(key) for key in ("kind", "release", "model")):
        return False
    if facts["kind"] not in ("system", "oracle"):
        return True
    mine, theirs = facts["arguments"], told.get("arguments") or {}
    return all(mine[key] == theirs[key] for key in mine.keys() & theirs.keys())


def references(track: Track) -> str | None:
    """SHA-256 over the files of a track; None where it has none."""
    digests = [f"{path.name} {_sha256(path, path.stat().st_mtime_ns)}" for path in track.files()]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest() if digests else None


@lru_cache(maxsize=4096)
def _sha256(path: Path, _time: int) -> str:
    """Of a file of that time; scenes share their songs."""
    return sha256_of(path)


def _decoding(track: Track) -> str:
    """How the references become numbers."""
    stems = track.stems.values() if isinstance(track, FileTrack) else ()
    bits = sorted({part.bits for stem in stems for part in stem if part.bits is not None})
    return f"{bits[0]} bit" if bits else "as stored"


def _sorted_out(
    found: Iterable[tuple[str, Track | DatasetError]],
) -> tuple[list[Track], list[tuple[str, str]]]:
    """Tracks that can be scored, and the others with what is wrong with them."""
    tracks: list[Track] = []
    faulty: list[tuple[str, str]] = []
    taken: dict[str, str] = {}
    for name, track in found:
        key = file_name(name).casefold()
        if isinstance(track, DatasetError):
            faulty.append((name, str(track)))
        elif key in taken:
            faulty.append(
                (
                    name,
                    f"tracks {taken[key]!r} and {name!r} share one name for their files; only the "
                    "first is scored. Rename one of them.",
                )
            )
        else:
            taken[key] = name
            tracks.append(track)
    return tracks, faulty


# ----------------------------------------------------------------- processes


def _score_numbered(i: int, task: Task) -> tuple[int, list[TrackScores | str]]:
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches the whole group; the process that writes the files decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _one_thread():
        return i, score_track(task)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The same sums in the same order, wherever they are made."""
    threads, flushes = torch.get_num_threads(), _flushes_denormal()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushes)
        torch.set_num_threads(threads)


def _flushes_denormal() -> bool:
    return not (torch.tensor([1e-300], dtype=torch.float64) * 1e-10).item()
