"""ADRess: sources panned by level cancel when one channel is scaled and taken from the other.

D. Barry, B. Lawlor, E. Coyle, "Real-time sound source separation: azimuth discrimination and
resynthesis", 117th AES Convention, 2004.

For each bin and each gain ``g = i / beta``, the weaker channel minus g times the stronger one is
least where g is the bin's own pan: a null, which is turned into a peak on the azimuth axis.  Summed
over frequencies, the plane is the azimugram; an object takes the bins around its place.

In:  mixture ``(B, 2, T)``.   Out: images ``(B, J, 2, T)``.

Departures from the paper
    * The null is computed, not searched: the distance is a parabola in g, and its largest value
      lies at an end. Same figures, a seventh of the time.
    * One axis of ``2 beta + 1`` places from left to right instead of two; each bin goes to the
      nearest object, where the paper's subspaces of fixed ``width`` leave gaps and overlap.
    * Objects are located by `zoo.dsp.locate`: peaks of the azimugram lie where mixed bins pile up.
    * ``resynthesis="stereo"`` masks both channels; "mono" is the paper's, one signal of the depth
      of the null and the stronger channel's phase, here put back at its place.

The paper's beta and width are unconfirmed.  Delays are not modelled: what has one is heard as wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from zoo.dsp.azimuth import EPS, azimuths, from_degrees, to_degrees
from zoo.errors import check_choice, check_least
from zoo.models.spatial import HOP, N_FFT, SpatialSeparator


class Adress(SpatialSeparator):
    """Masks by azimuth.

    Args:
        n_objects, max_delay, locations, n_fft, hop, reverberant: as `SpatialSeparator`.
        beta: steps of the gain on each side.
        width: of an object's subspace, in steps; None: every bin goes to the nearest object.
        resynthesis: ``"stereo"`` or ``"mono"``.
    """

    architecture = "adress"

    def __init__(
        self,
        n_objects: int | None = None,
        max_delay: float = 0,
        locations: Sequence[Sequence[float]] | None = None,
        n_fft: int = N_FFT,
        hop: int = HOP,
        reverberant: bool = False,
        beta: int = 100,
        width: float | None = None,
        resynthesis: Literal["stereo", "mono"] = "stereo",
    ) -> None:
        super().__init__(n_objects, max_delay, locations, n_fft, hop, reverberant)
        self.save_hyperparameters()
        check_least(1, beta=beta)
        check_least(0, width=width)
        check_choice("resynthesis", resynthesis, ("stereo", "mono"))
        self.resynthesis, self.beta, self.width = resynthesis, beta, width

    def images(self, spectrum: Tensor, state: dict[str, Tensor]) -> Tensor:
        """The bins around each object's azimuth."""
        index, depth = azimuths(spectrum, self.beta)
        if self.width is None:
            angles = to_degrees(torch.arange(2 * self.beta + 1, device=index.device), self.beta)
            owner = (angles[:, None] - state["pan"]).abs().argmin(1)  # of each azimuth
            masks = (
                owner[index] == torch.arange(len(state["pan"]), device=index.device)[:, None, None]
            )
        else:
            centre = from_degrees(state["pan"], self.beta)[:, None, None]
            masks = (index - centre).abs() <= self.width / 2
        if self.resynthesis == "stereo":
            return masks[:, None] * spectrum
        return _resynthesised(spectrum, depth, masks, state["pan"])


def _resynthesised(spectrum: Tensor, depth: Tensor, masks: Tensor, pan: Tensor) -> Tensor:
    """One signal of each object, at its place: ``(J, 2, F, N)``."""
    left, right = spectrum
    strong = torch.where(left.abs() >= right.abs(), left, right)
    angle = torch.deg2rad(pan)
    low, high = torch.minimum(angle.cos(), angle.sin()), torch.maximum(angle.cos(), angle.sin())
    size = (
        depth / torch.maximum(low, high - low)[:, None, None]
    )  # the null's depth of a unit source
    phase = strong / (strong.abs() + EPS)
    mono = masks * size * phase
    return torch.stack([angle.cos(), angle.sin()], 1)[..., None, None] * mono[:, None]
