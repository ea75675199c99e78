"""Protocols: how a data set's scores are computed and pooled. A figure without one is no figure.

Frames and tracks without a finite value are left out.

BSS Eval compares a source with the others that are scored with it, and leaves out frames in which
one of them is silent, so who is scored with whom is part of a protocol (`Protocol.passes`): where
there are stems, the DSD100 script of ``sisec2016`` takes all figures but the accompaniment's from
the stems, while museval, and with it ``sisec2018``, takes those of vocals and accompaniment from
the pair.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ZooError, near

Silence = Literal["museval", "references"]
IMAGES = ("SDR", "ISR", "SIR", "SAR")
BESIDE = ("uSDR", "NSDR", "SI-SDR", "SI-SAR", "PES", "MRSTFT")  # metrics beside those of BSS Eval
LESS_IS_BETTER = ("PES", "MRSTFT")  # of these metrics; of all others more
ILL_CONDITIONED = 1e-13  # reciprocal condition below which ISR, SIR, SAR are the rounding's


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
        words: what it is, in one sentence.
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
        beside: statistics that are told beside a data set's value, of what it is pooled of; see
            `STATISTICS`.
    """

    id: str
    words: str
    metrics: tuple[str, ...] = IMAGES
    family: Literal["images", "sources"] | None = "images"
    filters: Literal["song", "frame"] = "frame"
    window: float | None = None
    hop: float | None = None
    frame_pool: Literal["mean", "median", "none"] = "mean"
    track_pool: Literal["mean", "median", "weighted"] = "median"
    together: Literal["all", "stems", "museval", "pair"] = "all"
    rate: int | None = None
    is_mono: bool = False
    has_gain: bool = False
    beside: tuple[str, ...] = ()

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

    def statistics(self, values: Sequence[float]) -> dict[str, float]:
        """Those `beside` a value that is pooled of ``values``."""
        finite = np.array([v for v in values if math.isfinite(v)])
        return {name: float(STATISTICS[name](finite)) for name in self.beside if len(finite)}


STATISTICS: dict[str, Callable[[NDArray[np.float64]], np.floating[Any]]] = {
    "median": np.median,
    "MAD": lambda x: np.median(np.abs(x - np.median(x))),
    "mean": np.mean,
    "SD": np.std,
}
"""Name -> what it is; MAD is the median distance from the median, SD that of all values."""

PROTOCOLS = {
    p.id: p
    for p in (
        Protocol(
            "sisec2016", "BSS Eval v3 of images in frames of 30 s every 15 s; mean over the frames "
            "of a track, median over tracks",
            window=30.0, hop=15.0, together="stems",
        ),
        Protocol(
            "sisec2018", "BSS Eval v4 of images in frames of 1 s; median over the frames of a "
            "track, median over tracks",
            filters="song", window=1.0, frame_pool="median", together="museval",
        ),
        Protocol(
            "v4-pooled", "BSS Eval v4 of images in frames of 1 s; median over the frames of all "
            "tracks",
            filters="song", window=1.0, frame_pool="none", beside=("MAD", "mean", "SD"),
        ),
        Protocol(
            "usdr", "SDR of whole songs, without frames or filters; mean over songs",
            ("uSDR",), family=None, track_pool="mean",
        ),
        Protocol(
            "mir1k", "BSS Eval v3 of sources on whole mono clips at 16 kHz; mean over clips, "
            "weighted by their length; NSDR is the gain over the mixture",
            ("NSDR", "SIR", "SAR", "SDR"), family="sources", track_pool="weighted",
            together="pair", rate=16000, is_mono=True, has_gain=True,
        ),
        Protocol(
            "si-sdr", "SI-SDR of whole songs; mean over songs",
            ("SI-SDR",), family=None, track_pool="mean", beside=("median",),
        ),
        Protocol(
            "projet", "BSS Eval v3 of images on whole excerpts", ("SDR", "SIR", "ISR", "SAR")
        ),
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
        hint = near(id, [*PROTOCOLS, *ALIASES])
        raise ZooError(f"no protocol {id!r}; expected one of {', '.join(PROTOCOLS)}.{hint}")
    return PROTOCOLS[name]
