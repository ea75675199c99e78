"""Signal-to-distortion ratio frame by frame, as BSS Eval's *images* family defines it.

The three error terms of that family add up to estimate minus reference, so its SDR needs no filter:
``10 log10(sum s^2 / sum (y - s)^2)`` over the channels and samples of a frame.

Reference: Vincent et al., "First stereo audio source separation evaluation campaign", ICA 2007.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.metrics.frames import energy, n_frames, sounds


def framewise_sdr(references: Tensor, estimates: Tensor, frame: int) -> Tensor:
    """SDR of each source in each frame, in dB.

    Args:
        references: ``(J, C, T)``.
        estimates: ``(J, C, T)``.
        frame: length in samples; a signal that is no longer than it is one frame.

    Returns:
        ``(J, n_frames)``; NaN where the reference is silent, +inf for a perfect estimate. The last
        incomplete frame is left out.
    """
    n_samples = references.shape[-1]
    frame = min(frame, n_samples)
    signal = references.double().square().sum(1).unfold(-1, frame, frame).sum(-1)
    error = (estimates.double() - references.double()).square().sum(1)
    distortion = error.unfold(-1, frame, frame).sum(-1)
    ratio = 10 * torch.log10(signal / distortion)
    return torch.where(signal > 0, ratio, torch.nan)


def evaluate_sdr(
    read: Callable[[int, int], tuple[Tensor, Tensor]],
    n_samples: int,
    window: int,
    hop: int,
    *,
    groupings: Sequence[Tensor],
    silence: str = "museval",
) -> list[list[NDArray[np.float64]]]:
    """SDR alone, of several systems under several groupings: `zoo.metrics.bsseval.evaluate`'s.

    Returns:
        A list per grouping with ``(G, N)`` per system.
    """
    frames: list[list[Tensor]] = [[] for _ in groupings]
    for k in range(n_frames(n_samples, window, hop)):
        references, estimates = read(k * hop, min(k * hop + window, n_samples))
        signals = torch.cat([references[None].double(), estimates.double()])
        for found, groups in zip(frames, groupings, strict=True):
            found.append(_frame_sdr(_grouped(groups, signals), silence))
    return [list(torch.stack(found, -1).cpu().numpy()) for found in frames]


def _frame_sdr(signals: Tensor, silence: str) -> Tensor:
    """SDR ``(S, G)`` of references and estimates ``(1 + S, G, C, T)``."""
    source, error = energy(signals[0]), energy(signals[1:] - signals[0])
    heard = torch.tensor([[sounds(channels) for channels in one] for one in signals])
    heard = heard.to(error.device)
    valid = heard[0].expand_as(error)
    if silence == "museval":
        valid = (heard[0] & heard[1:]).all(-1, keepdim=True)
    return torch.where(valid, 10 * torch.log10(source / error), torch.nan)


def _grouped(groups: Tensor, signals: Tensor) -> Tensor:
    groups = groups.to(signals)
    if torch.equal(groups, torch.eye(len(groups)).to(groups)):
        return signals
    return torch.einsum("gj,sjct->sgct", groups, signals)
