"""Wave-U-Net: a U-Net on the waveform, which halves the rate level by level and comes back.

Each level down convolves, keeps its result for the way back, and drops every second sample; each
level up doubles the rate by interpolation and convolves what it has beside what was kept.  The
last source is what the others leave of the mixture.

D. Stoller, S. Ewert, S. Dixon, "Wave-U-Net: a multi-scale neural network for end-to-end audio
source separation", ISMIR 2018, arXiv 1806.03185.

In:  mixture ``(B, C, T)``, 22.05 kHz, mono or stereo.   Out: estimates ``(B, J, C, T)``.

    ===========  ===========================================================  ==============
    block        layers                                                       maps
    ===========  ===========================================================  ==============
    down 1..12   convolution 15, LeakyReLU 0.2, kept; every second sample     24, 48, ... 288
    bottleneck   convolution 15, LeakyReLU                                    312
    up 1..12     twice the samples, [kept, these], convolution 5, LeakyReLU   288, 264, ... 24
    output       [mixture, these], convolution 1, tanh; one for each source   C
                 but the last
    ===========  ===========================================================  ==============

With ``context`` nothing is padded: 147 443 samples give 16 389, and the skips are cropped; else
every convolution is padded with zeros, and 16 384 give as many.  Interpolated samples lie midway
between their neighbours; with ``upsampling="learned"`` at a place that each map learns.

    ==========  =============  ==  ==========  =======  ==========  ==========
    variant     sources        C   output      context  upsampling  parameters
    ==========  =============  ==  ==========  =======  ==========  ==========
    m1          acc, voc       1   direct      no       linear      10 263 028
    m2          acc, voc       1   difference  no       linear      10 263 002
    m3          acc, voc       1   difference  yes      linear      10 263 002
    m4          acc, voc       2   difference  yes      linear      10 263 390
    m5          acc, voc       2   difference  yes      learned     10 265 550
    m6          four           2   difference  yes      linear      10 263 498
    m7          acc, voc       1   difference  yes      linear      20 594 652
    m5-highsr   acc, voc       2   difference  yes      learned     10 265 550
    ==========  =============  ==  ==========  =======  ==========  ==========

M7 has 34 maps more per level and is for 8192 Hz; M5-HighSR, of the authors' repository, is M5 at
44.1 kHz.

Departures from the paper
    * A song is separated in one pass over all of it (or over chunks with their context), where the
      authors' program cuts patches of the training length; what lies outside the song is zero in
      both.  Without ``context`` a chunk is padded at its own ends, as their patches are.
    * The rate is kept by `zoo.streaming`; the authors resample the estimates themselves.
    * The authors' voice models (M1 to M5, M7) also learn from CCMixter, 50 songs of voice, and from
      an accompaniment that is clipped to full scale; here it is the sum of its sources.
    * The second phase of training starts, in the authors' program, from the last epoch of the
      first, with the state of its optimiser; here from the best epoch, with a new one.

Inferred or unconfirmed
    * The 25 validation songs are not known; the recipe takes those of the Wavenet paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import RecipeError, check_choice, check_least
from zoo.models import TABLE
from zoo.separator import Separator, State, mean_losses

SLOPE = 0.2  # of LeakyReLU below zero


class WaveUNet(Separator):
    """One U-Net for all sources.

    Args:
        sources: names, in the order of the estimates; with ``output="difference"`` the last one is
            what the others leave.
        sample_rate: in Hz.
        channels: of the audio.
        output: ``"difference"``, or ``"direct"``: every source is predicted.
        context: convolutions see the song beyond the predicted samples, not zeros.
        upsampling: ``"linear"`` or ``"learned"``.
        activation: of the predicted sources: ``"tanh"``, or ``"linear"``, which is clipped to full
            scale where the model is not trained.
        n_levels: how often the rate is halved.
        n_maps: that each level has more than the one above.
        down_kernel: of the convolutions on the way down, in samples.
        up_kernel: on the way up.
        target_field: samples to be predicted of a training example; with ``context`` the next
            number that the levels allow.
    """

    channels: int
    architecture = "wave-u-net"
    tiny: ClassVar = TABLE["wave-u-net"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("bass", "drums", "other", "vocals"),
        sample_rate: int = 22050,
        channels: int = 2,
        output: Literal["difference", "direct"] = "difference",
        context: bool = True,
        upsampling: Literal["linear", "learned"] = "linear",
        activation: Literal["tanh", "linear"] = "tanh",
        n_levels: int = 12,
        n_maps: int = 24,
        down_kernel: int = 15,
        up_kernel: int = 5,
        target_field: int = 16384,
    ) -> None:
        super().__init__(sources, sample_rate, channels)
        self.save_hyperparameters()
        check_least(
            1, n_levels=n_levels, n_maps=n_maps, down_kernel=down_kernel, up_kernel=up_kernel,
            target_field=target_field,
        )  # fmt: skip
        check_choice("output", output, ("difference", "direct"))
        check_choice("upsampling", upsampling, ("linear", "learned"))
        check_choice("activation", activation, ("tanh", "linear"))
        if down_kernel % 2 == 0 or up_kernel % 2 == 0:
            raise RecipeError(
                f"kernels of {down_kernel} and {up_kernel} samples; both must be odd, so that "
                "they have a middle."
            )
        n_predicted = len(self.sources) - (output == "difference")
        check_least(1, number_of_predicted_sources=n_predicted)
        self.is_difference, self.activation = output == "difference", activation
        self.network = UNet(
            channels, n_predicted, n_levels, n_maps, down_kernel, up_kernel, context,
            upsampling == "learned",
        )  # fmt: skip
        self.target_field = target_field

    @property
    def derived(self) -> str | None:
        """The source that is what the others leave."""
        return self.sources[-1] if self.is_difference else None

    @property
    def segment(self) -> int:
        """Samples of a training example: those that ``target_field`` needs."""
        return self.network.sizes(self.target_field)[0]

    @property
    def scored(self) -> int:
        """Samples in the middle of an example that are predicted, and that the loss sees."""
        return self.network.sizes(self.target_field)[1]

    @property
    def grid(self) -> int:
        """Every level keeps the samples of one parity."""
        return 1 << self.network.n_levels

    @property
    def context(self) -> int | None:
        """Samples on each side that an estimate depends on; zeros stand there with padding."""
        return self.network.reach

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Estimates ``(B, J, C, T)`` of a mixture ``(B, C, T)``."""
        if not self.network.is_valid:
            n_samples = mixture.shape[-1]
            padded = F.pad(mixture, (0, -n_samples % self.grid))
            return self._estimates(padded)[..., :n_samples]
        n_samples = mixture.shape[-1]
        n_in, n_out = self.network.sizes(n_samples)
        before = (n_in - n_out) // 2  # the same for every length
        return self._estimates(F.pad(mixture, (before, n_in - before - n_samples)))[..., :n_samples]

    def _estimates(self, mixture: Tensor) -> Tensor:
        """Of what the network is given: estimates of as many samples as it predicts."""
        predicted: Tensor = self.network(mixture)
        if self.activation == "tanh":
            predicted = predicted.tanh()
        elif not self.training:
            predicted = predicted.clamp(-1, 1)
        if not self.is_difference:
            return predicted
        rest = centre(mixture, predicted.shape[-1]) - predicted.sum(1)
        if not self.training:
            rest = rest.clamp(-1, 1)
        return torch.cat([predicted, rest[:, None]], 1)

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Mean squared error of the samples that an example predicts."""
        estimates = self._estimates(mixture)
        true = centre(references, estimates.shape[-1])
        errors = (estimates - true).square().mean((2, 3))  # (B, J)
        return mean_losses(errors, known, self.sources)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam at 1e-4."""
        return torch.optim.Adam(self.parameters(), lr=1e-4)


class UNet(nn.Module):
    """Mixture ``(B, C, T)`` -> predictions ``(B, K, C, T')``, before their activation."""

    def __init__(
        self,
        n_channels: int,
        n_predicted: int,
        n_levels: int,
        n_maps: int,
        down_kernel: int,
        up_kernel: int,
        is_valid: bool,
        learns_places: bool,
    ) -> None:
        super().__init__()
        self.n_levels, self.is_valid = n_levels, is_valid
        self.down_kernel, self.up_kernel = down_kernel, up_kernel
        maps = [n_maps * (level + 1) for level in range(n_levels + 1)]
        pads = (0, 0) if is_valid else (down_kernel // 2, up_kernel // 2)
        self.down = nn.ModuleList(
            nn.Conv1d(n_in, n_out, down_kernel, padding=pads[0])
            for n_in, n_out in zip([n_channels, *maps], maps[:-1], strict=False)
        )
        self.bottleneck = nn.Conv1d(maps[-2], maps[-1], down_kernel, padding=pads[0])
        self.up = nn.ModuleList(
            nn.Conv1d(maps[level] + maps[level + 1], maps[level], up_kernel, padding=pads[1])
            for level in reversed(range(n_levels))
        )
        self.heads = nn.ModuleList(
            nn.Conv1d(n_channels + maps[0], n_channels, 1) for _ in range(n_predicted)
        )
        self.places = nn.ParameterList(
            torch.zeros(n) for n in reversed(maps[1:]) if learns_places
        )  # of interpolated samples, before a sigmoid: the share of the earlier neighbour
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
        for place in self.places:
            nn.init.uniform_(place, -math.sqrt(3 / len(place)), math.sqrt(3 / len(place)))

    def forward(self, mixture: Tensor) -> Tensor:
        """See the class."""
        x, kept = mixture, []
        for convolution in self.down:
            x = F.leaky_relu(convolution(x), SLOPE)
            kept.append(x)
            x = x[..., ::2]
        x = F.leaky_relu(self.bottleneck(x), SLOPE)
        for level, convolution in enumerate(self.up):
            place = self.places[level].sigmoid()[:, None] if len(self.places) else None
            x = interpolated(x, place, self.is_valid)
            x = torch.cat([centre(kept.pop(), x.shape[-1]), x], 1)
            x = F.leaky_relu(convolution(x), SLOPE)
        x = torch.cat([centre(mixture, x.shape[-1]), x], 1)
        return torch.stack([head(x) for head in self.heads], 1)

    def sizes(self, n_wanted: int) -> tuple[int, int]:
        """Samples in and out where at least ``n_wanted`` are to be predicted."""
        if not self.is_valid:
            n = -(-n_wanted // 2**self.n_levels) * 2**self.n_levels
            return n, n
        n = float(n_wanted)
        for _ in range(self.n_levels):
            n = (n + self.up_kernel) / 2
        # The way down ends with at least two samples to interpolate between.
        n_in = n_out = max(2, math.ceil(n))
        n_in += self.down_kernel - 1
        for _ in range(self.n_levels):
            n_in = 2 * n_in - 1 + self.down_kernel - 1
            n_out = 2 * n_out - 1 - (self.up_kernel - 1)
        return n_in, n_out

    @property
    def reach(self) -> int:
        """Samples on each side that the farthest path from an input to an output spans."""
        down, up = self.down_kernel // 2, self.up_kernel // 2
        steps = [1 << level for level in range(self.n_levels + 1)]
        # At every level both convolutions and the neighbour of an interpolated sample.
        return sum(step * (down + up + 1) for step in steps[:-1]) + steps[-1] * down


def interpolated(signal: Tensor, place: Tensor | None, is_valid: bool) -> Tensor:
    """A sample between every two neighbours, ``(B, K, T)`` -> ``(B, K, 2 T - 1)``, or 2 T.

    Args:
        signal: at half the rate.
        place: share of the earlier neighbour, ``(K, 1)``; None: half.
        is_valid: else one more sample follows the last: that one again, or its share.
    """
    earlier, later = signal[..., :-1], signal[..., 1:]
    if not is_valid:
        follows = signal[..., -1:] if place is None else torch.zeros_like(signal[..., -1:])
        earlier, later = signal, torch.cat([later, follows], -1)
    share = 0.5 if place is None else place
    between = share * earlier + (1 - share) * later
    if not is_valid:
        return torch.stack([signal, between], -1).flatten(-2)
    return torch.cat([torch.stack([earlier, between], -1).flatten(-2), signal[..., -1:]], -1)


def centre(signal: Tensor, n_samples: int) -> Tensor:
    """The middle ``n_samples`` of a signal; of an odd rest, the end loses one more."""
    start = (signal.shape[-1] - n_samples) // 2
    return signal[..., start : start + n_samples]
