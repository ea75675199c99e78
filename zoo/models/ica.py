"""FastICA: two channels that are instantaneous mixtures of two independent objects.

A. Hyvarinen, J. Karhunen, E. Oja, "Independent Component Analysis", Wiley 2001.

The channels are whitened; what is left is a rotation, found where the outputs are least Gaussian:
the symmetric fixed point of the contrast log cosh, from three starting angles.

In:  mixture ``(B, 2, T)``.   Out: images ``(B, 2, 2, T)``, which sum to the mixture.

The rotation is learned from 200 000 samples spread over the song, the covariance from all.  More
objects than channels, delays and reverberation are beyond the model: the two columns are then some
compromise.  Two channels that are one signal are shared out equally.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from zoo.dsp.fast_ica import fast_ica
from zoo.models.demixing import Demixing
from zoo.models.spatial import channel_levels
from zoo.separator import State

MOST = 200_000  # samples of a song that the rotation is learned from


class Ica(Demixing):
    """FastICA of two channels.

    Args:
        n_objects: 1 or 2, by default 2.
    """

    architecture = "ica"
    tiny: ClassVar[dict[str, Any]] = {"n_objects": 2}

    def __init__(self, n_objects: int | None = None) -> None:
        super().__init__(n_objects)
        self.save_hyperparameters()

    @property
    def context(self) -> int:
        """Zero: samples are independent of each other."""
        return 0

    def survey(self, chunks: Iterable[tuple[Tensor, slice]]) -> State:
        """``products (B, J, 2, 2)`` and ``pan (B, J)`` of the whole song."""
        total, outer, levels, n_samples = (torch.zeros(()),) * 3 + (0,)
        kept: list[Tensor] = []
        stride = 1
        for mixture, keep in chunks:
            part = mixture[..., keep].float()
            total = total.to(part) + part.sum(-1)
            levels = levels.to(part) + channel_levels(part)
            with torch.autocast(part.device.type, enabled=False):
                outer = outer.to(part) + part @ part.mT
            kept.append(part[..., -n_samples % stride :: stride])
            n_samples += part.shape[-1]
            if sum(x.shape[-1] for x in kept) > 2 * MOST:
                kept = [torch.cat(kept, -1)[..., ::2]]
                stride *= 2
        samples = torch.cat(kept, -1)
        mean = total / max(1, n_samples)  # (B, 2)
        covariance = outer / max(1, n_samples) - mean[:, :, None] * mean[:, None]
        found = []
        for x, m, c in zip(samples, mean, covariance, strict=True):
            unmixing = fast_ica(x - m[:, None], c)
            products = self.products(unmixing)
            found.append(self.by_pan(products, pans(products)))
        state = {key: torch.stack([f[key] for f in found]) for key in ("products", "pan")}
        return {"levels": levels, **state}

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Images ``(B, J, 2, T)`` of a mixture ``(B, 2, T)``."""
        state = state or self.survey([(mixture, slice(0, mixture.shape[-1]))])
        assert state is not None
        with torch.autocast(mixture.device.type, enabled=False):
            images: Tensor = state["products"].to(mixture.dtype) @ mixture[:, None]
        return images


def pans(products: Tensor) -> Tensor:
    """Of objects with products ``(J, 2, 2)``, in degrees: the columns' levels."""
    levels = products.square().sum(-1).sqrt()  # (J, 2)
    return torch.rad2deg(torch.atan2(levels[:, 1], levels[:, 0]))
