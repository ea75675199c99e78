"""MMDenseNet: dense blocks at several scales, with one network per frequency band.

A U-shaped chain of dense blocks sees a magnitude spectrogram at 1, 1/2, 1/4 and 1/8 of its
resolution and predicts the magnitude of one target.  MDenseNet is one such chain.  MMDenseNet runs
three: one on the lower half of the bins, one on the upper half, one on all of them, because low and
high frequencies hold different patterns; a last small dense block reads all three together.

N. Takahashi, Y. Mitsufuji, "Multi-scale multi-band DenseNets for audio source separation",
Proc. IEEE WASPAA 2017, pp. 21-25, arXiv 1706.09588.

In:  magnitudes ``(B, C, F, N)`` of the mixture; 44.1 kHz stereo, STFT 2048 / 1024, bins 0 to 1023.
Out: magnitudes ``(B, C, F, N)`` of the target.  Inside, maps are ``(B, K, N, F)``, so that kernels
read "frames x bins" as in Table 1; the axes are exchanged at the entry and back at the exit.

Architecture (Table 1; "k, L" is the growth rate and the number of layers of a dense block)

    ======================  ==========  ==========  ==========  ==========
    block (scale)           MDenseNet   low         high        full
    ======================  ==========  ==========  ==========  ==========
    convolution (1)         3x4, 32     3x4, 32     3x3, 32     3x4, 32
    dense 1 (1)             12, 4       14, 4       10, 3       6, 2
    dense 2 (1/2)           12, 4       16, 4       10, 3       6, 2
    dense 3 (1/4)           12, 4       16, 4       10, 3       6, 2
    dense 4 (1/8)           12, 4       16, 4       10, 3       6, 4
    dense 5 (1/4)           12, 4       16, 4       10, 3       6, 2
    dense 6 (1/2)           12, 4       16, 4       10, 3       6, 2
    dense 7 (1)             12, 4       16, 4       10, 3       6, 2
    dense 8 (1)             4, 2        4, 2 on [low above high, full]
    convolution (1), ReLU   1x2, 2      1x2, 2
    parameters              121 102     270 312
    ======================  ==========  ==========  ==========  ==========

A dense block is L times (batch normalisation, ReLU, 3x3 convolution to k maps), each layer reading
the block's input and the maps of all earlier layers.  Scales are joined by 2x2 average pooling on
the way down, and on the way up by batch normalisation and a 2x2 transposed convolution of stride 2;
dense 5, 6 and 7 read [up-sampled, output of dense 3, 2, 1].

An output frame depends on a bounded number of frames; `context_frames` derives it from the layers.

Departures from the paper
    * Table 1 gives 16 maps for the low band and 10 for the high band, which cannot be stacked along
      frequency.  Default: batch normalisation and a 1x1 convolution widen the high band, as the
      authors' later D3Net does (``match="conv"``); ``match="growth"`` gives the high band's last
      block the growth rate of the low band instead.
    * ``head="mask"`` (a sigmoid that multiplies the mixture magnitude) and ``head="gate"`` are not
      the paper's, nor is ``objective="spectrum"``, which learns magnitudes that are smaller where
      the mixture's phase is wrong (Erdogan et al., ICASSP 2015).
    * Dense blocks are recomputed in the backward pass (``checkpoint=True``): same gradients, a
      fraction of the memory.

Inferred or unconfirmed
    * The STFT: a window of 2048 follows from the paper's 1024 bins; its hop is not confirmed, nor
      that stereo goes in and out of one network, as here.
    * The per-bin normalisation, at the input by statistics of the training mixtures and at the
      output by a learned scale and offset, and the copy of the top bin from the mixture: defaults
      after the D3Net code.  The numbers of parameters leave the former out.
    * Training: the squared error and RMSprop, at 1e-3 and then 1e-4, are recalled of the paper;
      batch, length and examples follow others' implementations.
    * MMDenseNet+ is this network, learned from more songs; which ones is not confirmed.
    * The output of a dense block is its last layer's maps, as in the authors' D3Net code;
      ``block_output`` has the two other readings ("new": the maps of all its layers; "all": its
      input as well), with 292 642 / 638 694 and 3 601 058 / 8 255 942 parameters.
    * Average pooling, batch normalisation before the transposed convolution, biases everywhere:
      from the D3Net code or from the parameter count; each is a switch.
    * He initialisation, and zero padding where a size is odd.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from zoo.dsp.stft import STFT
from zoo.errors import RecipeError, ShapeError, check_choice, check_least
from zoo.models import TABLE
from zoo.models.statistics import mixture_statistics
from zoo.models.targets import TargetNetworks

# Table 1: [growth rate, layers] of dense blocks 1 to 7; the middle one is the coarsest.
SINGLE = ((12, 4),) * 7
LOW = ((14, 4), *((16, 4),) * 6)
HIGH = ((10, 3),) * 7
FULL = (*((6, 2),) * 3, (6, 4), *((6, 2),) * 3)
LAST = (4, 2)  # dense 8

log = logging.getLogger(__name__)

Blocks = Sequence[Sequence[int]]
Span = tuple[int, int]  # first and last frame, both included


class MMDenseNet(TargetNetworks):
    """One network per target, joined by a multichannel Wiener filter.

    Args:
        sources: names, in the order of the estimates.
        sample_rate: in Hz.
        channels: of the audio; the networks read and write one map for each.
        targets: sources that have a network; the one other source, if there is one, is the mixture
            minus them. All by default.
        n_fft: STFT window in samples; the frame of 2048 gives the 1024 bins of the paper's text.
        hop: in samples.
        segment_frames: frames of a training example (the paper's example patch).
        multi_band: three chains, or the one called ``full`` alone (MDenseNet).
        low, high, full: [growth rate, layers] of each dense block of a chain; Table 1's by default,
            which for ``full`` depends on ``multi_band``.
        last_block: the same of the block that reads all chains.
        first_maps: maps of the first convolution of each chain.
        match, block_output, pool, up_norm, bias, head: readings of the paper; see
            `MultiBandNetwork`.
        normalise: per-bin normalisation by the statistics of the training mixtures.
        objective: what the loss compares with the references: ``"magnitude"``, as is recalled of
            the paper, or ``"spectrum"``, the magnitude with the mixture's phase.
        checkpoint: recompute dense blocks in the backward pass instead of keeping their maps.
        wiener_iterations: of the multichannel Wiener filter; 0 leaves the magnitudes as they are,
            with the mixture's phase.
        wiener_reg: ``"relative"``, ``"norbert"`` or ``"pinv"``; see `zoo.dsp.wiener`.
        covariance: ``"chunk"`` estimates the sources' spatial covariances anew in each chunk, in
            one pass; ``"song"`` over the whole song, as the paper, in two.
    """

    architecture = "mmdensenet"
    tiny: ClassVar = TABLE["mmdensenet"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("bass", "drums", "other", "vocals"),
        sample_rate: int = 44100,
        channels: int = 2,
        targets: Sequence[str] | None = None,
        n_fft: int = 2048,
        hop: int = 1024,
        segment_frames: int = 128,
        multi_band: bool = True,
        low: Blocks = LOW,
        high: Blocks = HIGH,
        full: Blocks | None = None,
        last_block: Sequence[int] = LAST,
        first_maps: int = 32,
        match: str = "conv",
        block_output: str = "last",
        pool: str = "average",
        up_norm: bool = True,
        bias: bool = True,
        head: str = "conv_relu",
        normalise: bool = True,
        objective: Literal["magnitude", "spectrum"] = "magnitude",
        checkpoint: bool = True,
        wiener_iterations: int = 1,
        wiener_reg: Literal["relative", "norbert", "pinv"] = "relative",
        covariance: Literal["chunk", "song"] = "chunk",
    ) -> None:
        super().__init__(
            sources, sample_rate, channels, targets, STFT(n_fft, hop),
            wiener_iterations, wiener_reg, covariance,
        )  # fmt: skip
        self.save_hyperparameters()
        check_least(1, segment_frames=segment_frames, first_maps=first_maps)
        check_choice("objective", objective, ("magnitude", "spectrum"))
        chains = {"low": low, "high": high, "full": full or FULL, "last_block": [last_block]}
        for name, blocks in chains.items():
            for block in blocks:
                if len(block) != 2 or min(block) < 1:
                    raise RecipeError(
                        f"{name} has a dense block {list(block)}; it must be [growth rate, "
                        "layers], each at least 1."
                    )
        self.segment_frames, self.objective = segment_frames, objective
        readings: dict[str, Any] = {
            "last_block": last_block, "first_maps": first_maps, "block_output": block_output,
            "pool": pool, "up_norm": up_norm, "bias": bias, "head": head, "normalise": normalise,
            "n_bins": n_fft // 2, "checkpoint": checkpoint,
        }  # fmt: skip
        if multi_band:
            readings |= {"low": low, "high": high, "full": full or FULL, "match": match}
        else:
            readings |= {"blocks": full or SINGLE}
        kind = MultiBandNetwork if multi_band else SingleBandNetwork
        self.networks = nn.ModuleDict({name: kind(channels, **readings) for name in self.targets})

    @property
    def segment(self) -> int:
        """Samples of a training example: ``segment_frames`` frames."""
        return (self.segment_frames - 1) * self.stft.hop

    @property
    def grid(self) -> int:
        """The pooling's period in samples."""
        return self._network.grid_frames * self.stft.hop

    @property
    def context_frames(self) -> int:
        """Frames on each side that a network reads."""
        return self._network.context_frames()

    @property
    def _network(self) -> SpectrogramNetwork:
        return next(iter(self.networks.values()))  # type: ignore[return-value]

    def magnitudes(self, spectrum: Tensor) -> Tensor:
        """Magnitudes of the targets, ``(B, J, C, F, N)``, of a mixture's spectrum ``(B, C, F, N)``.

        The networks see all bins but the last, which every source takes from the mixture.
        """
        mixture = spectrum.abs()
        n_frames = mixture.shape[-1]
        padded = nn.functional.pad(mixture[..., :-1, :], (0, -n_frames % self._network.grid_frames))
        outputs = [self.networks[name](padded)[..., :n_frames] for name in self.targets]
        stacked = torch.stack(outputs, dim=1).to(mixture.dtype)
        nyquist = mixture[:, None, :, -1:].expand(-1, len(outputs), -1, -1, -1)
        return torch.cat([stacked, nyquist], dim=-2)

    def on_fit_start(self) -> None:
        """Measure the training mixtures for the normalisation, unless a checkpoint brought it."""
        networks = [
            network
            for network in self.networks.values()
            if isinstance(network, SpectrogramNetwork) and network.normalises
        ]
        if not networks or bool((networks[0].in_std != 1).any()):
            return
        measured = mixture_statistics(self, lambda mixture: self.stft(mixture).abs()[..., :-1, :])
        if measured is None:
            log.warning(
                "no zoo.SeparationData to measure the training mixtures on: the networks' input is "
                "not normalised. Train with it, or with normalise=False."
            )
            return
        for network in networks:
            network.set_statistics(*measured)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """RMSprop at 1e-3, a tenth of it in the last fifth of the epochs."""
        optimizer = torch.optim.RMSprop(self.parameters(), lr=1e-3)
        milestone = round(0.8 * (self.trainer.max_epochs or 50))
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, [milestone])]


class SpectrogramNetwork(nn.Module):
    """What MDenseNet and MMDenseNet share: axes, per-bin normalisation, and the last convolution.

    A subclass sets ``head`` and gives `features` and `span`.
    """

    head: Head
    in_mean: Tensor
    in_std: Tensor
    grid_frames: int

    def __init__(self, normalise: bool, n_bins: int) -> None:
        super().__init__()
        self.normalises = normalise
        if normalise:
            self.register_buffer("in_mean", torch.zeros(n_bins))
            self.register_buffer("in_std", torch.ones(n_bins))
            self.out_scale = nn.Parameter(torch.ones(n_bins))  # both start at 1 in D3Net's code
            self.out_bias = nn.Parameter(torch.ones(n_bins))

    def features(self, x: Tensor) -> Tensor:
        """The maps that the head reads, ``(B, K, N, F)``, of ``(B, C, N, F)``."""
        raise NotImplementedError

    def span(self, span: Span) -> Span:
        """The input frames that the output frames of ``span`` depend on."""
        raise NotImplementedError

    def forward(self, magnitude: Tensor) -> Tensor:
        """The target's magnitude ``(B, C, F, N)`` from the mixture's, of the same shape.

        N is at least ``grid_frames``; a multiple of it avoids the padding of odd sizes.
        """
        mixture = magnitude.transpose(-1, -2)  # (B, C, N, F)
        return self.head.magnitude(self.linear(mixture), mixture).transpose(-1, -2)

    def linear(self, mixture: Tensor) -> Tensor:
        """The output before its last non-linearity, ``(B, C, N, F)`` of ``(B, C, N, F)``."""
        x = (mixture - self.in_mean) / self.in_std if self.normalises else mixture
        y: Tensor = self.head(self.features(x)).to(mixture.dtype)  # autocast computes in bfloat16
        return y * self.out_scale + self.out_bias if self.normalises else y

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Keep the mean and standard deviation ``(F,)`` of the training mixtures' magnitude.

        Deviations are floored at 1e-4 of the largest, so that silent bins are not blown up.
        """
        self.in_mean.copy_(mean)
        self.in_std.copy_(std.clamp_min(1e-4 * std.max()))  # D3Net's floor

    def context_frames(self, aligned: bool = False) -> int:
        """Frames on each side beyond which an output frame depends on nothing.

        Found by following the layers backwards.  How far a frame sees depends on its position in
        its group of ``grid_frames`` frames, which one coarse frame covers; this is the largest
        distance.  With ``aligned`` it is counted from the borders of the group instead of from the
        frame: what a chunk needs that starts and ends on multiples of ``grid_frames``.  The context
        itself must be a multiple too: round up.
        """
        last = self.grid_frames - 1
        if aligned:
            span = self.span((0, last))
            return max(-span[0], span[1] - last)
        spans = ((i, self.span((i, i))) for i in range(self.grid_frames))
        return max(max(i - first, after - i) for i, (first, after) in spans)


class SingleBandNetwork(SpectrogramNetwork):
    """One multi-scale chain over all bins.

    Args:
        n_channels: audio channels, in and out.
        blocks: [growth rate, layers] of each block, from fine to coarse to fine (Table 1).
        last_block: the same for the block after them (dense 8).
        first_maps: maps of the first convolution (Table 1).
        block_output: what a dense block passes on: "last", "new" or "all".
        pool: "average" or "max".
        up_norm: batch normalisation before each transposed convolution.
        bias: a bias in every convolution.
        head: "conv_relu" (Table 1), "gate" or "mask".
        normalise: per-bin normalisation at the input and the output.
        n_bins: bins F; only read where ``normalise`` is true.
        checkpoint: recompute dense blocks in the backward pass instead of keeping their maps.

    Raises:
        RecipeError: an unknown word, or an even number of blocks.
    """

    def __init__(
        self,
        n_channels: int = 2,
        blocks: Blocks = SINGLE,
        last_block: Sequence[int] = LAST,
        first_maps: int = 32,
        block_output: str = "last",
        pool: str = "average",
        up_norm: bool = True,
        bias: bool = True,
        head: str = "conv_relu",
        normalise: bool = False,
        n_bins: int = 1024,
        checkpoint: bool = True,
    ) -> None:
        super().__init__(normalise, n_bins)
        self.stem = MultiScale(
            n_channels,
            blocks,
            (3, 4),
            first_maps,
            output=block_output,
            pool=pool,
            up_norm=up_norm,
            bias=bias,
            checkpoint=checkpoint,
        )
        self.last = last_dense(self.stem.n_out, last_block, bias, checkpoint)
        self.head = Head(self.last.n_out, n_channels, head, bias)
        self.grid_frames = self.stem.grid_frames
        initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """Dense 1 to 8."""
        y: Tensor = self.last(self.stem(x))
        return y

    def span(self, span: Span) -> Span:
        """The input frames that the output frames of ``span`` depend on."""
        return self.stem.span(self.last.span(self.head.span(span)))


class MultiBandNetwork(SpectrogramNetwork):
    """One chain for each half of the bins and one for all, joined by a last dense block.

    The lower half has F // 2 bins.

    Args:
        n_channels: audio channels, in and out.
        low, high, full: [growth rate, layers] of each block of the three chains (Table 1).
        last_block: the same for the block that reads all three (dense 8).
        first_maps: maps of the first convolution of each chain (Table 1).
        match: how the high band gets as many maps as the low band: "conv" or "growth".
        block_output: what a dense block passes on: "last", "new" or "all".
        pool: "average" or "max".
        up_norm: batch normalisation before each transposed convolution.
        bias: a bias in every convolution.
        head: "conv_relu" (Table 1), "gate" or "mask".
        normalise: per-bin normalisation at the input and the output.
        n_bins: bins F; only read where ``normalise`` is true.
        checkpoint: recompute dense blocks in the backward pass instead of keeping their maps.

    Raises:
        RecipeError: an unknown word, an even number of blocks, or bands that do not match.
    """

    def __init__(
        self,
        n_channels: int = 2,
        low: Blocks = LOW,
        high: Blocks = HIGH,
        full: Blocks = FULL,
        last_block: Sequence[int] = LAST,
        first_maps: int = 32,
        match: str = "conv",
        block_output: str = "last",
        pool: str = "average",
        up_norm: bool = True,
        bias: bool = True,
        head: str = "conv_relu",
        normalise: bool = False,
        n_bins: int = 1024,
        checkpoint: bool = True,
    ) -> None:
        super().__init__(normalise, n_bins)
        check_choice("match", match, ("conv", "growth"))
        if match == "growth":
            high = [*high[:-1], (low[-1][0], high[-1][1])]
        chain = partial(
            MultiScale,
            n_channels,
            first_maps=first_maps,
            output=block_output,
            pool=pool,
            up_norm=up_norm,
            bias=bias,
            checkpoint=checkpoint,
        )
        self.low = chain(blocks=low, kernel=(3, 4))
        self.high = chain(blocks=high, kernel=(3, 3))  # Table 1: only here is it 3x3
        self.full = chain(blocks=full, kernel=(3, 4))
        self.match: nn.Module = nn.Identity()
        if match == "conv":
            self.match = nn.Sequential(
                nn.BatchNorm2d(self.high.n_out),
                nn.Conv2d(self.high.n_out, self.low.n_out, 1, bias=bias),
            )
        elif self.high.n_out != self.low.n_out:
            raise RecipeError(
                f"the bands have {self.low.n_out} and {self.high.n_out} maps; with match='growth' "
                "they must have the same number. Use match='conv'."
            )
        self.last = last_dense(self.low.n_out + self.full.n_out, last_block, bias, checkpoint)
        self.head = Head(self.last.n_out, n_channels, head, bias)
        self.grid_frames = max(stem.grid_frames for stem in (self.low, self.high, self.full))
        initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """Dense 1 to 7 of each band, and dense 8 on [low above high, full]."""
        middle = x.shape[-1] // 2
        bands = [self.low(x[..., :middle]), self.match(self.high(x[..., middle:]))]
        y: Tensor = self.last(torch.cat([torch.cat(bands, -1), self.full(x)], 1))
        return y

    def span(self, span: Span) -> Span:
        """The input frames that the output frames of ``span`` depend on."""
        span = self.last.span(self.head.span(span))
        return _union(*(stem.span(span) for stem in (self.low, self.high, self.full)))


class MultiScale(nn.Module):
    """A convolution and the dense blocks 1 to 7 of one band: ``(B, C, N, F) -> (B, K, N, F)``."""

    def __init__(
        self,
        n_in: int,
        blocks: Blocks,
        kernel: tuple[int, int],
        first_maps: int,
        *,
        output: str,
        pool: str,
        up_norm: bool,
        bias: bool,
        checkpoint: bool,
    ) -> None:
        super().__init__()
        check_choice("pool", pool, ("average", "max"))
        if len(blocks) % 2 == 0:
            raise RecipeError(
                f"{len(blocks)} dense blocks given; a chain goes down and up again and has an odd "
                "number of them. Add or remove one."
            )
        n_scales = len(blocks) // 2 + 1
        self.grid_frames = 2 ** (n_scales - 1)
        self.pool = F.avg_pool2d if pool == "average" else F.max_pool2d
        self.first = SameConv(n_in, first_maps, kernel, bias=bias)
        self.down, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        n_maps = first_maps
        skipped: list[int] = []
        for i, (growth, n_layers) in enumerate(blocks):
            if i >= n_scales:
                self.up.append(UpSample(n_maps, up_norm, bias))
                n_maps += skipped.pop()
            block = DenseBlock(n_maps, growth, n_layers, output, bias, checkpoint)
            n_maps = block.n_out
            (self.down if i < n_scales else self.join).append(block)
            if i < n_scales - 1:
                skipped.append(n_maps)
        self.n_out = n_maps

    def forward(self, x: Tensor) -> Tensor:
        """The maps of the last block, as large as ``x``.

        Raises:
            ShapeError: fewer bins or frames than one group of the coarsest scale.
        """
        if min(x.shape[-2:]) < self.grid_frames:
            raise ShapeError(
                f"A band has {x.shape[-1]} bins and {x.shape[-2]} frames; {len(self.down)} scales "
                f"need at least {self.grid_frames} of each. Pad the spectrogram."
            )
        # measured: 1.3 to 1.5 times faster on a CPU than maps stored one after the other
        x = self.first(x).contiguous(memory_format=torch.channels_last)
        skips: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else self.pool(x, 2))
            skips.append(x)
        skips.pop()
        for up, block in zip(self.up, self.join, strict=True):
            skip = skips.pop()
            x = block(torch.cat([up(x, skip.shape[-2:]), skip], 1))
        return x

    def span(self, span: Span) -> Span:
        """The input frames that the output frames of ``span`` depend on."""
        skips = []
        for block in reversed(self.join):
            span = _span(block, span)
            skips.append(span)
            span = span[0] // 2, span[1] // 2  # a coarse frame makes two fine ones
        for i, block in enumerate(reversed(self.down)):
            if i > 0:
                span = _union((2 * span[0], 2 * span[1] + 1), skips.pop())
            span = _span(block, span)
        return self.first.span(span)


class DenseBlock(nn.Module):
    """Composite layers of which each reads the block's input and all maps made before it.

    Args:
        n_in: maps of the input.
        growth: maps that each layer makes (k).
        n_layers: number of layers (L).
        output: what is passed on: the "last" layer's maps, all "new" maps, or "all" maps.
        bias: a bias in every convolution.
        checkpoint: in training, recompute the maps in the backward pass instead of keeping them.
    """

    def __init__(
        self,
        n_in: int,
        growth: int,
        n_layers: int,
        output: str = "last",
        bias: bool = True,
        checkpoint: bool = True,
    ) -> None:
        super().__init__()
        check_choice("block_output", output, ("last", "new", "all"))
        self.first_out = {"last": n_layers, "new": 1, "all": 0}[output]
        self.n_out = n_in * (output == "all") + growth * (1 if output == "last" else n_layers)
        self.layers = nn.ModuleList(
            CompositeLayer(n_in + i * growth, growth, bias) for i in range(n_layers)
        )
        self.checkpoint = checkpoint

    def forward(self, x: Tensor) -> Tensor:
        """``(B, n_out, N, F)`` of ``(B, n_in, N, F)``."""
        wanted = self.checkpoint and self.training and torch.is_grad_enabled()
        if not wanted or torch.compiler.is_compiling():  # a compiler decides itself what to keep
            return self._maps(x)
        y: Tensor = checkpoint(
            self._maps,
            x,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing random inside
            context_fn=self._contexts,
        )
        return y

    def _maps(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.layers:
            maps.append(layer(torch.cat(maps, 1)))
        return torch.cat(maps[self.first_out :], 1)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _frozen_statistics(self)

    def span(self, span: Span) -> Span:
        """The input frames that the output frames of ``span`` depend on."""
        for layer in reversed(self.layers):
            span = _span(layer, span)
        return span


def last_dense(n_in: int, block: Sequence[int], bias: bool, checkpoint: bool) -> DenseBlock:
    """Dense 8, which passes on its last layer's maps in every reading of the paper."""
    growth, n_layers = block
    return DenseBlock(n_in, growth, n_layers, "last", bias, checkpoint)


class CompositeLayer(nn.Module):
    """Batch normalisation, ReLU and a 3x3 convolution."""

    def __init__(self, n_in: int, n_out: int, bias: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(n_in)
        self.conv = SameConv(n_in, n_out, (3, 3), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, n_out, N, F)`` of ``(B, n_in, N, F)``."""
        y: Tensor = self.conv(F.relu(self.norm(x), inplace=True))
        return y

    def span(self, span: Span) -> Span:
        """The input frames that the output frames of ``span`` depend on."""
        return self.conv.span(span)


class UpSample(nn.Module):
    """Batch normalisation and a transposed convolution that doubles both axes."""

    def __init__(self, n_maps: int, norm: bool, bias: bool) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm2d(n_maps) if norm else nn.Identity()
        self.conv = nn.ConvTranspose2d(n_maps, n_maps, 2, stride=2, bias=bias)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """``x`` at twice its size, with a zero at the end of an axis if ``size`` is odd."""
        y: Tensor = self.conv(self.norm(x))
        rows, columns = size[0] - y.shape[-2], size[1] - y.shape[-1]
        return F.pad(y, (0, columns, 0, rows)) if rows or columns else y


class Head(nn.Module):
    """The last convolution, 1 frame x 2 bins, and what makes a magnitude of it.

    "conv_relu" is Table 1; "gate" multiplies the convolution by a sigmoid of a second one before
    the ReLU; "mask" multiplies the mixture by the sigmoid of the convolution.
    """

    def __init__(self, n_in: int, n_channels: int, kind: str, bias: bool) -> None:
        super().__init__()
        check_choice("head", kind, ("conv_relu", "gate", "mask"))
        self.kind = kind
        self.conv = SameConv(n_in, n_channels, (1, 2), bias=bias)
        if kind == "gate":
            self.gate = SameConv(n_in, n_channels, (1, 2), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """The output ``(B, C, N, F)`` before its last non-linearity."""
        y: Tensor = self.conv(x)
        return y * self.gate(x).sigmoid() if self.kind == "gate" else y

    def magnitude(self, y: Tensor, mixture: Tensor) -> Tensor:
        """The magnitude that ``y`` stands for."""
        return y.sigmoid() * mixture if self.kind == "mask" else F.relu(y)

    def span(self, span: Span) -> Span:
        """The input frames that the output frames of ``span`` depend on."""
        return self.conv.span(span)


class SameConv(nn.Conv2d):
    """A convolution whose output is as large as its input.

    Of the k - 1 zeros that an axis needs, the first half, rounded down, goes before it.
    """

    def __init__(self, n_in: int, n_out: int, kernel: tuple[int, int], bias: bool = True) -> None:
        before = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
        super().__init__(n_in, n_out, kernel, padding=before, bias=bias)
        # An odd kernel needs the same on both sides, which the convolution adds without a copy.
        self.more_after = (0, (kernel[1] - 1) % 2, 0, (kernel[0] - 1) % 2)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, n_out, N, F)`` of ``(B, n_in, N, F)``."""
        return super().forward(F.pad(x, self.more_after) if any(self.more_after) else x)

    def span(self, span: Span) -> Span:
        """The input frames that the output frames of ``span`` depend on."""
        k = self.kernel_size[0]
        return span[0] - (k - 1) // 2, span[1] + k // 2


def initialise(network: nn.Module) -> None:
    """He-normal weights and zero biases in every convolution of ``network``."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # Strides equal the kernel of a transposed convolution: an output sees each map once.
            transposed = isinstance(module, nn.ConvTranspose2d)
            fan_in = module.in_channels * (1 if transposed else math.prod(module.kernel_size))
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_in))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Batch normalisation uses the batch's statistics but does not count the batch again."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, (momentum, n_batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, n_batches


def _span(layer: nn.Module, span: Span) -> Span:
    assert isinstance(layer, DenseBlock | CompositeLayer)
    return layer.span(span)


def _union(*spans: Span) -> Span:
    return min(first for first, _ in spans), max(last for _, last in spans)
