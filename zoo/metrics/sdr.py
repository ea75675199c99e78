"""Signal-to-distortion ratio frame by frame, as BSS Eval's *images* family defines it.

The three error terms of that family add up to estimate minus reference, so its SDR needs no filter:
``10 log10(sum s^2 / sum (y - s)^2)`` over the channels and samples of a frame.

Reference: Vincent et al., "First stereo audio source separation evaluation campaign", ICA 2007.
"""

import torch
from torch import Tensor


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


def sounding(signals: Tensor, frame: int) -> Tensor:
    """Whether each signal ``(J, C, T)`` sounds in each frame, ``(J, n_frames)``.

    As museval has it, a frame is silent when the sum over channels is zero at every sample.
    """
    frame = min(frame, signals.shape[-1])
    return (signals.sum(1).unfold(-1, frame, frame) != 0).any(-1)
