"""How protocols pool: a stand-in with the names of `zoo.metrics.protocols`, until that has them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo.errors import ZooError

_IMAGES = ("SDR", "ISR", "SIR", "SAR")


@dataclass(frozen=True)
class Protocol:
    """See `zoo.metrics.protocols.Protocol`."""

    id: str
    metrics: tuple[str, ...] = _IMAGES
    frame_pool: Literal["mean", "median", "none"] = "mean"
    track_pool: Literal["mean", "median", "weighted"] = "median"

    def track_value(self, metric: str, frames: Sequence[float]) -> float:
        """A track's value of a metric; NaN where no frame has one."""
        values = [x for x in frames if math.isfinite(x)]
        if not values:
            return math.nan
        mean = self.frame_pool == "mean" or metric not in self.metrics
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
        Protocol("sisec2016"),
        Protocol("sisec2018", frame_pool="median"),
        Protocol("v4-pooled", frame_pool="none"),
        Protocol("usdr", ("uSDR",), track_pool="mean"),
        Protocol("mir1k", ("NSDR", "SIR", "SAR", "SDR"), track_pool="weighted"),
        Protocol("si-sdr", ("SI-SDR",), track_pool="mean"),
        Protocol("projet", ("SDR", "SIR", "ISR", "SAR")),
    )
}
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
