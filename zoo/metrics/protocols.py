"""Tracks measured by protocols; the protocols themselves stand in `zoo.metrics.rules`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import SampleRateError, ZooError
from zoo.metrics.bsseval import Reader, evaluate
from zoo.metrics.overall import Overall
from zoo.metrics.rules import ALIASES, IMAGES, PROTOCOLS, Pass, Protocol, Silence, protocol
from zoo.metrics.sdr import evaluate_sdr

__all__ = [
    "ALIASES", "PROTOCOLS", "Figures", "Pass", "Protocol", "Silence",
    "measure", "protocol", "score", "summarise",
]  # fmt: skip

Frames = dict[str, list[float]]
Result = dict[str, Any]


@dataclass(frozen=True)
class Figures:
    """What one system's estimates of one track are worth.

    Attributes:
        targets: source -> metric -> value of each frame.
        times: start of each frame, in seconds.
        duration: of a frame, in seconds.
        rcond: as `zoo.metrics.bsseval.Scores` has it.
        together: source -> those that it was scored with, itself among them.
    """

    targets: dict[str, Frames]
    times: list[float]
    duration: float
    rcond: float
    together: dict[str, list[str]]


def measure(
    protocol: Protocol,
    read: Reader,
    n_samples: int,
    rate: int,
    sources: Sequence[str],
    *,
    is_complete: bool = True,
    sdr_only: bool = False,
    silence: Silence = "museval",
) -> list[Figures]:
    """The figures of each system on one track, in one pass.

    Args:
        protocol: one of `PROTOCOLS`.
        read: as `zoo.metrics.bsseval.evaluate` has it.  Where the protocol has an NSDR, the last
            system is the mixture, which every source is then compared with.
        n_samples: length of the track.
        rate: in Hz.
        sources: names of what ``read`` gives.
        is_complete: as `Protocol.passes` has it.
        sdr_only: leave out all that needs filters, and all that stands beside.
        silence: as `zoo.metrics.bsseval.bss_eval` has it.

    Returns:
        One for each system; where there is an NSDR, for each but the mixture.

    Raises:
        SampleRateError: the protocol is for another rate.
    """
    if protocol.rate not in (None, rate):
        raise SampleRateError(
            f"protocol {protocol.id} is for {protocol.rate} Hz, and this is at {rate} Hz; "
            "choose another protocol."
        )
    passes = protocol.passes(sources, is_complete)
    groups = [_matrix(p.parts, sources) for p in passes]
    where = {s: (i, list(p.parts).index(s)) for i, p in enumerate(passes) for s in p.kept}
    tap = _Tap(read, protocol.is_mono)
    if protocol.family is None or not sdr_only:
        tap.overall = Overall(torch.stack([groups[i][g] for i, g in where.values()]), rate)
    window = n_samples if protocol.window is None else min(n_samples, round(protocol.window * rate))
    hop = window if protocol.hop is None else round(protocol.hop * rate)
    scores = _bss_eval(protocol, tap, n_samples, window, hop, groups, sdr_only, silence)
    for start in range(tap.seen, n_samples, rate):  # what no frame has
        tap(start, min(start + rate, n_samples))
    beside = tap.overall.figures() if tap.overall else [{}] * tap.n_systems
    figures = []
    for system, whole in enumerate(beside):
        found = [columns[system] for columns, _ in scores]
        n_frames = len(next(iter(found[0].values()))[0]) if found else 1
        targets: dict[str, Frames] = {}
        for row, (source, (i, g)) in enumerate(where.items()):
            framewise = {m: x[g].tolist() for m, x in found[i].items()} if found else {}
            targets[source] = {**framewise, **{m: [x[row]] * n_frames for m, x in whole.items()}}
        figures.append(
            Figures(
                targets,
                [k * hop / rate for k in range(n_frames)],
                window / rate,
                min((rcond for _, rcond in scores), default=1.0),
                {source: list(passes[i].parts) for source, (i, _) in where.items()},
            )
        )
    return _with_gain(figures) if protocol.has_gain and scores else figures


def score(
    id: str,
    references: Tensor,
    estimates: Tensor,
    mixture: Tensor,
    rate: int,
    sources: list[str | None],
) -> Result:
    """Scores of one track in memory.

    Args:
        id: of the protocol.
        references: ``(J, C, T)``.
        estimates: ``(J, C, T)``.
        mixture: ``(C, T)``.
        rate: in Hz.
        sources: names in order; None for one whose reference is unknown.

    Returns:
        ``"samples"``; the protocol's figures as ``"<metric>_<source>"``; and ``"figures"``, which
        hold every frame.

    Raises:
        SampleRateError: the protocol is for another rate.
        ZooError: it compares sources, and one is unknown.
    """
    chosen = protocol(id)
    known = [j for j, name in enumerate(sources) if name]
    names = [name for name in sources if name]
    if chosen.together == "pair" and len(names) < len(sources):
        raise ZooError(f"protocol {id!r} compares sources, so all of them must be known.")
    true, found = references[known].cpu(), estimates[known].cpu()[None]
    if chosen.has_gain:
        found = torch.cat([found, mixture.cpu().expand_as(found)])
    n_samples = true.shape[-1]
    if not names:
        return {"samples": n_samples, "figures": Figures({}, [], math.nan, 1.0, {})}
    figures = measure(
        chosen, lambda start, stop: (true[..., start:stop], found[..., start:stop]),
        n_samples, rate, names, is_complete=len(names) == len(sources),
    )[0]  # fmt: skip
    values = {
        f"{metric}_{source}": chosen.track_value(metric, frames[metric])
        for source, frames in figures.targets.items()
        for metric in chosen.metrics
    }
    return {"samples": n_samples, **values, "figures": figures}


def summarise(id: str, scores: list[Result]) -> dict[str, float]:
    """The figures of a data set from those of its tracks, as `score` gives them."""
    chosen = protocol(id)
    names = sorted({key for s in scores for key in s if key.partition("_")[0] in chosen.metrics})
    pooled = {}
    for name in names:
        values = [(s[name], s["samples"]) for s in scores if name in s]
        if chosen.frame_pool == "none":
            metric, _, source = name.partition("_")
            targets = [s["figures"].targets for s in scores if name in s]
            values = [(x, 1) for target in targets for x in target[source][metric]]
        value = chosen.pool(*zip(*values, strict=True))
        if math.isfinite(value):
            pooled[f"G{name}" if chosen.track_pool == "weighted" else name] = value
    return pooled


# ----------------------------------------------------------------- parts of it


class _Tap:
    """A reader whose samples all pass by `Overall` once, whatever is read again."""

    def __init__(self, read: Reader, is_mono: bool) -> None:
        self.read, self.is_mono = read, is_mono
        self.overall: Overall | None = None
        self.seen = self.n_systems = 0

    def __call__(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        references, estimates = self.read(start, stop)
        if self.is_mono:
            references, estimates = (x.mean(-2, keepdim=True) for x in (references, estimates))
        self.n_systems = len(estimates)
        new = self.seen - start
        if 0 <= new < references.shape[-1]:
            if self.overall:
                self.overall.push(references[..., new:], estimates[..., new:])
            self.seen = start + references.shape[-1]
        return references, estimates


_Columns = dict[str, NDArray[np.float64]]  # metric -> (G, F)


def _bss_eval(
    protocol: Protocol,
    read: Reader,
    n_samples: int,
    window: int,
    hop: int,
    groups: list[Tensor],
    sdr_only: bool,
    silence: Silence,
) -> list[tuple[list[_Columns], float]]:
    """For each pass the columns of each system, and the smallest rcond."""
    if protocol.family is None:
        return []
    if sdr_only and protocol.family == "images":
        found = evaluate_sdr(read, n_samples, window, hop, groupings=groups, silence=silence)
        return [([{"SDR": sdr} for sdr in systems], 1.0) for systems in found]
    scores = evaluate(
        read, n_samples, window, hop,
        groupings=groups, filters=protocol.filters, family=protocol.family, silence=silence,
    )  # fmt: skip
    names = ("SDR",) if sdr_only else (m for m in IMAGES if m in protocol.metrics)
    metrics = tuple(names)
    return [
        ([{m: getattr(s, m) for m in metrics} for s in systems], min(s.rcond for s in systems))
        for systems in scores
    ]


def _with_gain(figures: list[Figures]) -> list[Figures]:
    """All systems but the last, the mixture, with what they gain over it."""
    *systems, mixture = figures
    for figure in systems:
        for source, frames in figure.targets.items():
            before = mixture.targets[source]["SDR"]
            frames["NSDR"] = [x - y for x, y in zip(frames["SDR"], before, strict=True)]
    return systems


def _matrix(parts: dict[str, tuple[str, ...]], sources: Sequence[str]) -> Tensor:
    """Row g has ones where the sources are that part g sums."""
    rows = [[float(s in summed) for s in sources] for summed in parts.values()]
    return torch.tensor(rows, dtype=torch.float64)
