"""Protocols: how a data set's scores are computed and pooled. A figure without one is no figure.

=============  ==========================  ===========  ==================  =====================
id             metrics                     frame, hop   of a track          of a data set
=============  ==========================  ===========  ==================  =====================
``sisec2016``  BSS Eval v3 of images       30 s, 15 s   mean of frames      median
``sisec2018``  BSS Eval v4 of images       1 s          median of frames    median
``v4-pooled``  BSS Eval v4 of images       1 s                              median of all frames
``usdr``       SDR without frames          whole song                       mean
``mir1k``      BSS Eval v3 of sources,     whole clip                       mean weighted by clip
               mono at 16 kHz                                               length (GNSDR...)
``si-sdr``     SI-SDR                      whole song                       mean
``projet``     BSS Eval v3 of images       whole clip                       median
=============  ==========================  ===========  ==================  =====================

Frames and tracks without a finite value are left out.

BSS Eval compares a source with the others that are scored with it, and leaves out frames in which
one of them is silent, so who is scored with whom is part of a protocol (`Protocol.passes`): where
there are stems, the DSD100 script of ``sisec2016`` takes all figures but the accompaniment's from
the stems, while museval, and with it ``sisec2018``, takes those of vocals and accompaniment from
the pair.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import SampleRateError, ZooError
from zoo.metrics.bsseval import Family, Reader, evaluate
from zoo.metrics.overall import Overall
from zoo.metrics.sdr import evaluate_sdr

Silence = Literal["museval", "references"]
Frames = dict[str, list[float]]
Result = dict[str, Any]

_IMAGES = ("SDR", "ISR", "SIR", "SAR")


@dataclass(frozen=True)
class Pass:
    """Sources that are scored together.

    Attributes:
        parts: name -> the sources that it is the sum of.
        kept: those whose figures count; the others are scored better elsewhere.
    """

    parts: dict[str, tuple[str, ...]]
    kept: tuple[str, ...]


@dataclass(frozen=True)
class Protocol:
    """How scores are computed and pooled.

    Attributes:
        id: its name.
        metrics: those that it defines, the most important first; others only stand beside them.
        family: of BSS Eval; None for protocols that do without.
        filters: fitted to the ``song`` (version 4) or to each ``frame`` (version 3).
        window, hop: of frames, in seconds; None: all of the song is one.
        frame_pool: how a track's value comes of its frames; ``none``: all frames of all tracks are
            pooled, and the track's value is but their median.
        track_pool: how a data set's value comes of its tracks'.
        together: ``stems``: stems with stems, the accompaniment against the vocals; ``museval``:
            so too, but the vocals against the accompaniment; ``pair``: these two alone;
            ``all``: what a system gives, and no accompaniment beside stems.
        rate: in Hz, where signals must have it.
        is_mono: channels are averaged first.
        has_gain: there is an NSDR: SDR minus that of the mixture as estimate.
    """

    id: str
    metrics: tuple[str, ...] = _IMAGES
    family: Family | None = "images"
    filters: Literal["song", "frame"] = "frame"
    window: float | None = None
    hop: float | None = None
    frame_pool: Literal["mean", "median", "none"] = "mean"
    track_pool: Literal["mean", "median", "weighted"] = "median"
    together: Literal["all", "stems", "museval", "pair"] = "all"
    rate: int | None = None
    is_mono: bool = False
    has_gain: bool = False

    def passes(self, sources: Sequence[str], is_complete: bool = True) -> list[Pass]:
        """Who is scored with whom.

        Args:
            sources: of the estimates; beside stems, ``accompaniment`` is what an estimate of it
                has that the sum of the other stems lacks.
            is_complete: whether the stems but the vocals sum to the accompaniment.
        """
        stems = tuple(s for s in sources if s != "accompaniment")
        if len(stems) < 2:
            stems = tuple(sources)
        alone = Pass({s: (s,) for s in stems}, stems)
        if "vocals" not in stems or len(stems) < 3 or not is_complete or self.together == "all":
            return [alone]
        rest = tuple(s for s in sources if s != "vocals")
        pair: dict[str, tuple[str, ...]] = {"vocals": ("vocals",), "accompaniment": rest}
        if self.together == "pair":
            return [Pass(pair, tuple(pair))]
        if self.together == "stems":
            return [alone, Pass(pair, ("accompaniment",))]
        return [
            Pass(alone.parts, tuple(s for s in stems if s != "vocals")),
            Pass(pair, tuple(pair)),
        ]

    def track_value(self, metric: str, frames: Sequence[float]) -> float:
        """A track's value of a metric; NaN where no frame has one."""
        values = [x for x in frames if math.isfinite(x)]
        if not values:
            return math.nan
        is_beside = metric not in self.metrics  # one value for all frames
        mean = self.frame_pool == "mean" or is_beside
        return float(np.mean(values) if mean else np.median(values))

    def pool(self, values: Sequence[float], weights: Sequence[float] | None = None) -> float:
        """A data set's value, of its tracks' or, where `frame_pool` is none, of all frames."""
        pairs = [
            (v, w)
            for v, w in zip(values, weights or [1.0] * len(values), strict=True)
            if math.isfinite(v)
        ]
        if not pairs:
            return math.nan
        finite, weight = np.array(pairs).T
        if self.track_pool == "median":
            return float(np.median(finite))
        return float(np.average(finite, weights=weight if self.track_pool == "weighted" else None))


PROTOCOLS = {
    p.id: p
    for p in (
        Protocol("sisec2016", window=30.0, hop=15.0, together="stems"),
        Protocol(
            "sisec2018", filters="song", window=1.0, frame_pool="median", together="museval"
        ),
        Protocol("v4-pooled", filters="song", window=1.0, frame_pool="none"),
        Protocol("usdr", ("uSDR",), family=None, track_pool="mean"),
        Protocol(
            "mir1k", ("NSDR", "SIR", "SAR", "SDR"), family="sources", track_pool="weighted",
            together="pair", rate=16000, is_mono=True, has_gain=True,
        ),
        Protocol("si-sdr", ("SI-SDR",), family=None, track_pool="mean"),
        Protocol("projet", ("SDR", "SIR", "ISR", "SAR")),
    )
}  # fmt: skip
ALIASES = {
    "v4-medmed": "sisec2018",
    "v4-pooled-median": "v4-pooled",
    "usdr-song-mean": "usdr",
}


def protocol(id: str) -> Protocol:
    """A protocol by its id, or by an alias.

    Raises:
        ZooError: there is none of this name.
    """
    name = ALIASES.get(id, id)
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(id, [*PROTOCOLS, *ALIASES], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ZooError(f"no protocol {id!r}; expected one of {', '.join(PROTOCOLS)}.{hint}")
    return PROTOCOLS[name]


# ----------------------------------------------------------------- measuring a track


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
    names = ("SDR",) if sdr_only else (m for m in _IMAGES if m in protocol.metrics)
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
