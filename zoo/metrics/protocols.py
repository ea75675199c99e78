"""Protocols: how a data set's scores are computed and pooled. A figure without one is no figure.

=============  ===============================================================
``mir1k``      BSS Eval v3 for sources on whole clips; means weighted by clip
               length (GNSDR, GSIR, GSAR)
``sisec2018``  SDR in frames of 1 s; median over frames, then over tracks
=============  ===============================================================
"""

import math
from typing import Any

import numpy as np
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.bsseval import bss_eval_sources
from zoo.metrics.sdr import framewise_sdr

PROTOCOLS = ("mir1k", "sisec2018")
WHOLE_TRACK = ("mir1k",)  # those that score a track as one frame

Scores = dict[str, Any]


def score(
    protocol: str,
    references: Tensor,
    estimates: Tensor,
    mixture: Tensor,
    rate: int,
    sources: list[str | None],
) -> Scores:
    """Scores of one track.

    Args:
        protocol: one of `PROTOCOLS`.
        references: ``(J, C, T)``.
        estimates: ``(J, C, T)``.
        mixture: ``(C, T)``.
        rate: in Hz.
        sources: names in order; None for one whose reference is unknown.

    Returns:
        ``"samples"``, and figures as ``"<metric>_<source>"``.
    """
    if protocol == "mir1k":
        return _mir1k(references, estimates, mixture, sources)
    if protocol == "sisec2018":
        frames = framewise_sdr(references, estimates, frame=rate)
        named = {
            f"SDR_{name}": float(frames[j].nanmedian()) for j, name in enumerate(sources) if name
        }
        return {"samples": references.shape[-1], **named}
    raise ZooError(f"protocol {protocol!r}; expected one of {', '.join(PROTOCOLS)}.")


def summarise(protocol: str, scores: list[Scores]) -> dict[str, float]:
    """The figures of a data set from those of its tracks."""
    names = sorted({key for s in scores for key in s if key not in ("samples", "track")})
    pooled = {}
    for name in names:
        pairs = [(s[name], s["samples"]) for s in scores if math.isfinite(s.get(name, math.nan))]
        if not pairs:
            continue
        values, weights = np.array(pairs).T
        if protocol == "mir1k":
            pooled[f"G{name}"] = float(np.average(values, weights=weights))
        else:
            pooled[name] = float(np.median(values))
    return pooled


def _mir1k(
    references: Tensor, estimates: Tensor, mixture: Tensor, sources: list[str | None]
) -> Scores:
    true = references.double().mean(1).numpy()
    mono = mixture.double().mean(0).numpy()
    sdr, sir, sar = bss_eval_sources(true, estimates.double().mean(1).numpy())
    before, _, _ = bss_eval_sources(true, np.stack([mono] * len(true)))
    result: Scores = {"samples": references.shape[-1]}
    for j, name in enumerate(sources):
        result |= {
            f"SDR_{name}": float(sdr[j]),
            f"NSDR_{name}": float(sdr[j] - before[j]),
            f"SIR_{name}": float(sir[j]),
            f"SAR_{name}": float(sar[j]),
        }
    return result
