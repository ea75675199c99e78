"""DUET: each bin belongs to the one object whose level and delay it has.

O. Yilmaz, S. Rickard, "Blind separation of speech mixtures via time-frequency masking", IEEE
Trans. Signal Processing 52(7), 2004; S. Rickard, "The DUET blind source separation algorithm", in
Blind Speech Separation, Springer 2007.

If sources rarely sound in the same bin, the ratio of the channels there tells whose bin it is: its
modulus is the object's level difference, its phase the delay.  A histogram over all bins shows the
objects as peaks, and a mask takes each object's bins.

In:  mixture ``(B, 2, T)``.   Out: images ``(B, J, 2, T)``.

Departures from the papers
    * Objects are located by `zoo.dsp.locate`, which finds close and weak ones that peaks of a
      histogram miss; ``locate="histogram"`` picks peaks as the chapter does by hand.
    * The histogram's axes are the pan and the delay: the chapter's symmetric attenuation sends what
      is panned to one side off to infinity. `features` gives the chapter's axes.
    * Each place is scored with its own phase at all bins, so delays beyond half a period need
      neither of the chapter's two remedies.
    * ``method="binary"`` gives an object its bins in both channels, which sum to the mixture; "ml",
      the papers' maximum likelihood, projects them on the object's place: closer by 0.4 to 1 dB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.dsp.locate import APART, LEAST, Places, Zones, along, frequencies
from zoo.errors import check_choice, check_least
from zoo.models.spatial import HOP, MOST, N_FFT, RATE, SpatialSeparator

EPS = 1e-20


class Duet(SpatialSeparator):
    """Binary masks by place.

    Args:
        n_objects, max_delay, locations, n_fft, hop, reverberant: as `SpatialSeparator`.
        method: ``"ml"`` or ``"binary"``.
        locate: ``"cover"`` or ``"histogram"``.
        p: exponent of the amplitudes that weigh a bin in the histogram.
        q: exponent of its frequency there.
    """

    architecture = "duet"

    def __init__(
        self,
        n_objects: int | None = None,
        max_delay: float = 0,
        locations: Sequence[Sequence[float]] | None = None,
        n_fft: int = N_FFT,
        hop: int = HOP,
        reverberant: bool = False,
        method: Literal["ml", "binary"] = "ml",
        locate: Literal["cover", "histogram"] = "cover",
        p: float = 1.0,
        q: float = 0.0,
    ) -> None:
        super().__init__(n_objects, max_delay, locations, n_fft, hop, reverberant)
        self.save_hyperparameters()
        check_choice("method", method, ("ml", "binary"))
        check_choice("locate", locate, ("cover", "histogram"))
        check_least(0, p=p, q=q)
        self.method, self.locate, self.p, self.q = method, locate, p, q

    def images(self, spectrum: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Each bin to its most likely object."""
        steered = self.steering(state)
        seen = along(steered, spectrum)  # (J, F, N)
        mask = dominant(seen)
        if self.method == "binary":
            return mask[:, None] * spectrum
        return steered[..., None] * (mask * seen)[:, None]

    def _zones(self, n_bins: int) -> Zones:
        if self.locate == "cover" or self.locations is not None:
            return super()._zones(n_bins)
        return Histogram(n_bins, self.max_delay * self.rate / RATE, self.p, self.q)

    def _located(self, zones: Zones) -> dict[str, Tensor]:
        if not isinstance(zones, Histogram):
            return super()._located(zones)
        places = zones.peaks(self.n_objects)
        return {"pan": places.pan, "delay": places.delay, "confidence": places.confidence}


def dominant(seen: Tensor) -> Tensor:
    """1 where an object sees most of a bin, else 0: ``(J, F, N)``."""
    power = seen.abs().square()
    best = power.argmax(0, keepdim=True)
    return torch.zeros_like(power).scatter_(0, best, 1.0)


# ----------------------------------------------------------------- the papers' histogram


def features(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric attenuation and delay in samples of each bin, ``(F, N)`` of ``(2, F, N)``.

    The attenuation of a ratio R of the channels is ``|R| - 1 / |R|``; delays of the right channel
    are right while they turn the phase by less than half a circle.
    """
    left, right = spectrum
    ratio = right / torch.where(left == 0, torch.full_like(left, EPS), left)
    size = ratio.abs().clamp(min=EPS)
    w = frequencies(spectrum.shape[1], size).clamp(min=EPS)[:, None]
    return size - 1 / size, -ratio.angle() / w


def weights(spectrum: Tensor, p: float = 1.0, q: float = 0.0) -> Tensor:
    """What a bin counts in the histogram, ``(F, N)``: ``(|x_1| |x_2|)^p w^q``; nothing at w = 0."""
    w = frequencies(spectrum.shape[1], spectrum.real)[:, None]
    weight = (spectrum[0].abs() * spectrum[1].abs()) ** p * w**q
    weight[0] = 0
    return weight


class Histogram(Zones):
    """How much of a song has each pan and delay, gathered piece by piece.

    Args:
        n_bins: F.
        max_delay: in samples; 0 for pans alone.
        p, q: of `weights`.
    """

    def __init__(self, n_bins: int, max_delay: float = 0, p: float = 1.0, q: float = 0.0) -> None:
        super().__init__(n_bins, max_delay > 0)
        self.p, self.q = p, q
        reach = math.ceil(max_delay)
        self.pans = torch.linspace(0, 90, 61 if reach else 91)
        self.delays = torch.arange(-reach, reach + 1.0)
        self.counts = torch.zeros(len(self.pans), len(self.delays))

    def push(self, spectrum: Tensor) -> None:
        """The next frames, ``(2, F, n)``; bins whose delay is out of reach do not count."""
        weight = weights(spectrum, self.p, self.q)
        _, delay = features(spectrum)
        pan = torch.rad2deg(torch.atan2(spectrum[1].abs(), spectrum[0].abs()))
        row = (pan / 90 * (len(self.pans) - 1)).round().long()
        column = delay.round() + len(self.delays) // 2
        if len(self.delays) == 1:
            column = torch.zeros_like(column)
        is_near = (column >= 0) & (column < len(self.delays))
        index = row * len(self.delays) + column.clamp(0, len(self.delays) - 1).long()
        sums = torch.zeros(self.counts.numel(), device=weight.device)
        sums.scatter_add_(0, index.flatten(), (weight * is_near).flatten())
        self.counts = self.counts.to(sums) + sums.view_as(self.counts)

    def smooth(self) -> Tensor:
        """The histogram ``(pans, delays)``, blurred by 1.5 bins."""
        steps = torch.arange(-4, 5.0, device=self.counts.device)
        kernel = torch.exp(-steps.square() / (2 * 1.5**2))
        kernel = kernel / kernel.sum()
        blurred = F.conv2d(self.counts[None, None], kernel[None, None, :, None], padding=(4, 0))
        if len(self.delays) > 1:
            blurred = F.conv2d(blurred, kernel[None, None, None], padding=(0, 4))
        return blurred[0, 0]

    def peaks(self, n_objects: int | None, most: int = MOST) -> Places:
        """The highest peaks, none of them close to a higher one.

        Args:
            n_objects: how many; where there are too few peaks, the highest places beside them;
                None: as many as hold a share of `LEAST` each.
            most: of them, where their number is not given.
        """
        smooth = self.smooth()
        total = smooth.sum() + EPS
        is_peak = smooth == F.max_pool2d(smooth[None], 3, 1, 1)[0]
        is_free = torch.ones_like(is_peak)
        reach = 4 * float(self.pans[1])  # degrees
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        while len(found) < (n_objects or most):
            # Every peak is above every slope.
            height = torch.where(is_free, smooth + is_peak * total, -1.0)
            i, k = divmod(int(height.argmax()), len(self.delays))
            near = ((self.pans - self.pans[i]).abs() <= reach)[:, None] & (
                (self.delays - self.delays[k]).abs() <= APART[1]
            )
            near = near.to(smooth.device)
            share = (smooth[near].sum() / total).cpu()
            if n_objects is None and found and (share < LEAST or not is_peak[i, k]):
                break
            found.append((self.pans[i], self.delays[k], share))
            is_free &= ~near
        places = (torch.stack(x).to(smooth.device) for x in zip(*found, strict=True))
        return Places(*places).sorted()
