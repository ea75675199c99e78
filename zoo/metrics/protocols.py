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
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.bsseval import evaluate
from zoo.metrics.sdr import framewise_sdr, sounding

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
        # museval's rule: where any reference or estimate is silent, nobody has a score.
        known = [j for j, name in enumerate(sources) if name]
        sounds = sounding(torch.cat([references[known], estimates[known]]), frame=rate)
        frames = torch.where(sounds.all(0), frames, torch.nan)
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
    names = [name for name in sources if name]
    if len(names) < len(sources):
        raise ZooError("protocol 'mir1k' compares sources, so all of them must be known.")
    # Against the mixture as both estimates too: NSDR is what a system gains over doing nothing.
    systems = torch.stack([estimates, mixture.expand_as(estimates)]).cpu().mean(-2, keepdim=True)
    true = references.cpu().mean(-2, keepdim=True)
    n = references.shape[-1]
    (ours, before), *_ = evaluate(
        lambda start, stop: (true[..., start:stop], systems[..., start:stop]),
        n, n, n, filters="frame", family="sources",
    )  # fmt: skip
    result: Scores = {"samples": references.shape[-1]}
    for j, name in enumerate(names):
        result |= {
            f"SDR_{name}": float(ours.SDR[j, 0]),
            f"NSDR_{name}": float(ours.SDR[j, 0] - before.SDR[j, 0]),
            f"SIR_{name}": float(ours.SIR[j, 0]),
            f"SAR_{name}": float(ours.SAR[j, 0]),
        }
    return result
