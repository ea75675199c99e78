"""Per-bin statistics of training mixtures, by which networks normalise spectrograms."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from zoo.separator import Separator

N_BATCHES = 32  # of training examples


def mixture_statistics(
    model: Separator, features: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation ``(F,)`` of each bin over training mixtures, in float64.

    They are of the mono mixtures of the first batches that the model's trainer will see.

    Args:
        model: in training.
        features: mono mixtures ``(B, T)`` -> what is normalised, ``(B, F, N)``.

    Returns:
        None where the trainer's data are not a `zoo.SeparationData`.
    """
    data = getattr(model.trainer, "datamodule", None)
    batches = getattr(data, "statistics_batches", None)
    if batches is None:
        return None
    total = total_squares = torch.zeros((), dtype=torch.float64)
    count = 0
    for batch in batches(N_BATCHES):
        mixture = batch["references"].sum(1).mean(1).to(model.device)
        # summed on the CPU, since Apple's GPUs have no double precision
        values = features(mixture).cpu().double()
        total = total + values.sum((0, 2))
        total_squares = total_squares + values.square().sum((0, 2))
        count += values.shape[0] * values.shape[2]
    mean = total / count
    return mean, (total_squares / count - mean.square()).clamp(min=0).sqrt()
