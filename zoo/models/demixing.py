"""What the ICA family shares: as many objects as channels, taken apart by matrices.

A matrix B (for each frequency, where the mixing is convolutive) makes the channels independent; the
image of object j is its column of B's inverse times its output, ``A_j B_j x``, in which scale and
sign drop out and which sums to the mixture exactly.  Only these products are kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo.dsp.two_by_two import inverse
from zoo.errors import RecipeError
from zoo.models.spatial import channel_doubts
from zoo.separator import Separator, State


class Demixing(Separator):
    """Base of separators of two channels into two objects.

    Args:
        n_objects: 1 or 2, by default 2.
    """

    channels: int
    trainable = False
    survey_bytes = 64 << 20

    def __init__(self, n_objects: int | None = None) -> None:
        n_objects = 2 if n_objects is None else n_objects
        if not 1 <= n_objects <= 2:
            raise RecipeError(
                f"n_objects {n_objects}: {self.architecture} takes two channels into at most two "
                "objects; duet, adress, pairs, projet, lgm and mnmf find more."
            )
        super().__init__([f"object-{j + 1}" for j in range(n_objects)], None, 2)
        self.n_objects = n_objects

    @property
    def surveys(self) -> bool:
        """Always: the matrices are learned from the whole song."""
        return True

    def found(self, state: State) -> dict[str, Any]:
        """``locations`` of the objects: name, and pan in degrees."""
        assert state is not None
        return {
            "locations": [
                {"name": name, "pan": round(x, 2)}
                for name, x in zip(self.sources, state["pan"][0].tolist(), strict=True)
            ],
            "notes": channel_doubts(state["levels"][0]),
        }

    def products(self, unmixing: Tensor) -> Tensor:
        """``A_j B_j`` of matrices B: ``(..., 2, 2)`` -> ``(J, ..., 2, 2)``.

        Where B is not finite, the channels were alike and are shared out.
        """
        whole = torch.eye(2, device=unmixing.device, dtype=unmixing.dtype)
        if self.n_objects == 1:
            return whole.expand_as(unmixing)[None]
        mixing = inverse(unmixing)
        parts = torch.stack([mixing[..., :, j, None] * unmixing[..., j, None, :] for j in range(2)])
        return torch.where(parts.isfinite().flatten(-2).all(-1)[..., None, None], parts, whole / 2)

    @staticmethod
    def by_pan(products: Tensor, pan: Tensor) -> dict[str, Tensor]:
        """Objects from left to right: products ``(J, ..., 2, 2)`` and pans ``(J,)``."""
        order = pan.argsort()
        return {"products": products[order], "pan": pan[order]}
