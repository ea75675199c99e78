"""Wavenet for music separation: dilated convolutions from waveform to waveform.

Stacks of gated convolutions, whose dilation doubles from layer to layer, see half a second of
sound; what each layer passes on is summed, and two wide convolutions make the samples of the
sources of it.

F. Lluis, J. Pons, X. Serra, "End-to-end music source separation: is it possible in the waveform
domain?", Interspeech 2019, arXiv 1810.12187.

In:  mixture ``(B, C, T)``, 16 kHz; the network is mono and takes channel after channel.
Out: estimates ``(B, J, C, T)``; one source has no output and is the mixture minus the others.

    ================  ==========================================  ========  ========  ========
    layer             what it does                                maps      kernel    dilation
    ================  ==========================================  ========  ========  ========
    front             linear                                      w         3         1
    block 1 .. 10 N   tanh of one half times sigmoid of the       2 w       3         1 .. 512
                      other; then a projection: one half is       2 w       1
                      added to the block's input, the other is
                      its skip
    sum of skips      ReLU                                        w
    final 1           ReLU                                        2048      3         1
    final 2           linear                                      256       3         1
    output            linear, the only bias                       n         1
    ================  ==========================================  ========  ========  ========

N stacks of 10 blocks, w maps; N = 4 and w = 64 in the released systems: 3 277 763 parameters with
three outputs (vocals, drums, bass), 3 277 249 with one (vocals).  The last block adds to nothing,
so half of its projection is never trained; it is kept, for the weights to fit.

Loss: mean absolute error of the sources with an output, on 1603 samples in the middle of 9785.
With ``dissimilarity`` d, d times the distance from other sources is taken off.

The WaveNet of speech synthesis is another thing: it sees the past alone and draws one sample after
the other from a distribution.  It generates and does not separate, so it is not in the catalog.

Departures from the paper
    * Songs are separated in one pass, every sample with all its neighbours (``mode="seamless"``).
      The published program cuts fields of 1601 samples; its final convolutions see zeros beside
      them, which spoils the first and last sample of each.  ``mode="published"`` does that.
    * The published program loses 4092 samples at both ends of a song; here they are padded.
    * Its training stops by the loss on training songs; that of the recipes by the distance from the
      references on validation songs.

Inferred or unconfirmed
    * Widths with other than four stacks: the paper does not tell them.  ``widths="equal_budget"``
      (the default: 113, 86, 72, 64, 58) keeps the number of parameters near 3.28 millions;
      ``"fixed"`` has 64 everywhere.
    * Dissimilarity with three outputs: each estimate against the references of the other two, with
      the weight 0.05 of the released singing-voice system.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import RecipeError, check_choice, check_least
from zoo.models import TABLE
from zoo.separator import Separator, State, masked_mean

EQUAL_BUDGET = {1: 113, 2: 86, 3: 72, 4: 64, 5: 58}  # stacks -> maps
FIXED = 64
MARGIN = 1  # samples on each side of the target field that training counts as well
PIECE = 8192  # samples that the 2048 maps of the final layers have at once
FIELDS_AT_ONCE = 8


class Wavenet(Separator):
    """One network for all sources.

    Args:
        sources: names, in the order of the estimates.  The mixture minus the others is the first of
            ``other`` and ``accompaniment`` that is among them, else the last.
        sample_rate: in Hz.
        channels: of the audio; each goes through the network alone.
        n_stacks: N.
        widths: which w goes with N: ``"equal_budget"`` or ``"fixed"``.
        width: w itself, in place of these.
        n_dilations: blocks of a stack; the last one has dilation ``2 ** (n_dilations - 1)``.
        final_maps: maps of the two final layers.
        target_field: samples that the published program predicts at once; odd.
        mode: of separation, ``"seamless"`` or ``"published"``; training is always the latter.
        norm: of the loss, ``"l1"`` or ``"l2"``.
        dissimilarity: weight of the distance from other sources, which is taken off.
    """

    channels: int
    architecture = "wavenet"
    tiny: ClassVar = TABLE["wavenet"]["tiny"]

    def __init__(
        self,
        sources: Sequence[str] = ("vocals", "drums", "bass", "other"),
        sample_rate: int = 16000,
        channels: int = 1,
        n_stacks: int = 4,
        widths: Literal["equal_budget", "fixed"] = "equal_budget",
        width: int | None = None,
        n_dilations: int = 10,
        final_maps: Sequence[int] = (2048, 256),
        target_field: int = 1601,
        mode: Literal["seamless", "published"] = "seamless",
        norm: Literal["l1", "l2"] = "l1",
        dissimilarity: float = 0.0,
    ) -> None:
        super().__init__(sources, sample_rate, channels)
        self.save_hyperparameters()
        if len(final_maps) != 2:
            raise RecipeError(f"final_maps is {list(final_maps)}; there are two final layers.")
        check_least(
            1, n_stacks=n_stacks, n_dilations=n_dilations, width=width, final_maps=min(final_maps)
        )
        check_least(0, dissimilarity=dissimilarity)
        check_choice("widths", widths, ("equal_budget", "fixed"))
        check_choice("mode", mode, ("seamless", "published"))
        check_choice("norm", norm, ("l1", "l2"))
        check_least(2, number_of_sources=len(self.sources))
        if target_field % 2 == 0 or target_field < 1:
            raise RecipeError(f"target_field is {target_field}; it must be odd, to have a middle.")
        if width is None and widths == "equal_budget" and n_stacks not in EQUAL_BUDGET:
            raise RecipeError(
                f"n_stacks is {n_stacks}; widths of an equal budget are known for 1 to 5. Give "
                "widths 'fixed', or width."
            )
        maps = width or (FIXED if widths == "fixed" else EQUAL_BUDGET[n_stacks])
        self.mode, self.norm, self.dissimilarity = mode, norm, dissimilarity
        self.target_field = target_field
        self.network = DilatedStacks(
            len(self.predicted), n_stacks, n_dilations, maps, tuple(final_maps)
        )

    @property
    def derived(self) -> str:
        """The source without an output."""
        return next((s for s in ("other", "accompaniment") if s in self.sources), self.sources[-1])

    @property
    def predicted(self) -> list[str]:
        """The sources with an output, in its order."""
        return [source for source in self.sources if source != self.derived]

    @property
    def segment(self) -> int:
        """Samples of a training example: what the target field sees."""
        return self.network.stacks_reach * 2 + self.target_field

    @property
    def scored(self) -> int:
        """Samples in the middle of an example that the loss sees: target field and margins."""
        return self.target_field + 2 * MARGIN

    @property
    def grid(self) -> int:
        """Published, fields lie side by side from the beginning of the song."""
        return self.target_field if self.mode == "published" else 1

    @property
    def context(self) -> int:
        """Samples on each side that the network sees; published, from anywhere in a field."""
        if self.mode == "published":
            return self.network.stacks_reach + self.target_field
        return self.network.reach

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Estimates ``(B, J, C, T)`` of a mixture ``(B, C, T)``."""
        mono = mixture.flatten(0, 1)[:, None]  # (B C, 1, T)
        if self.mode == "published":
            found = self._in_fields(mono)
        else:
            reach = self.network.reach
            found = self.network.seamless(F.pad(mono, (reach, reach)))
        predicted = found.to(mixture.dtype).unflatten(0, mixture.shape[:2]).transpose(1, 2)
        named = dict(zip(self.predicted, predicted.unbind(1), strict=True))
        named[self.derived] = mixture - predicted.sum(1)
        return torch.stack([named[source] for source in self.sources], 1)

    def _in_fields(self, mono: Tensor) -> Tensor:
        """As the published program does: fields one after the other, their margins dropped."""
        n_samples, field, before = mono.shape[-1], self.target_field, self.network.stacks_reach
        padded = F.pad(mono, (before, before + -n_samples % field))
        fields = padded.unfold(-1, self.segment, field).transpose(1, 2).flatten(0, 1)
        parts = [
            self.network.field(part, field + 2 * MARGIN)[..., MARGIN:-MARGIN]
            for part in fields.split(FIELDS_AT_ONCE)
        ]
        found = torch.cat(parts).unflatten(0, (len(mono), -1))  # (B C, fields, K, field)
        joined: Tensor = found.transpose(1, 2).flatten(2)[..., :n_samples]
        return joined

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Distance from the references, less a share of that from other sources.

        ``distance`` is the first alone, to stop a training by.
        """
        found = self.network.field(mixture.flatten(0, 1)[:, None], self.scored)
        start = (references.shape[-1] - self.scored) // 2
        true = references[..., start : start + self.scored].transpose(1, 2).flatten(0, 1)
        heard = known.repeat_interleave(self.channels, 0)

        def distance(source: str, other: str) -> Tensor:
            """Of the estimate of a source from the reference of another, where that is known."""
            j = self.sources.index(other)
            error = found[:, self.predicted.index(source)] - true[:, j]
            size = error.abs() if self.norm == "l1" else error.square()
            return masked_mean(size.mean(-1), heard[:, j])

        parts = {source: distance(source, source) for source in self.predicted}
        total = own = torch.stack(list(parts.values())).sum()
        if self.dissimilarity:
            for source in self.predicted:
                others = [s for s in self.predicted if s != source] or [self.derived]
                total = total - self.dissimilarity * sum(distance(source, s) for s in others)
        return {"loss": total, "distance": own, **parts}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam at 1e-3."""
        return torch.optim.Adam(self.parameters(), lr=1e-3, eps=1e-8)


class DilatedStacks(nn.Module):
    """Mono mixture ``(B, 1, T)`` -> samples of the sources ``(B, K, T')``."""

    def __init__(
        self, n_outputs: int, n_stacks: int, n_dilations: int, n_maps: int, final: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.front = nn.Conv1d(1, n_maps, 3, bias=False)
        self.dilations = [1 << i for _ in range(n_stacks) for i in range(n_dilations)]
        self.blocks = nn.ModuleList(Block(n_maps, dilation) for dilation in self.dilations)
        self.final_1 = nn.Conv1d(n_maps, final[0], 3, bias=False)
        self.final_2 = nn.Conv1d(final[0], final[1], 3, bias=False)
        self.output = nn.Conv1d(final[1], n_outputs, 1)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)

    @property
    def stacks_reach(self) -> int:
        """Samples on each side that the blocks see."""
        return sum(self.dilations)

    @property
    def reach(self) -> int:
        """Samples on each side that all layers see."""
        return self.stacks_reach + 3  # front, final 1, final 2

    def field(self, mixture: Tensor, n_samples: int) -> Tensor:
        """Samples in the middle of a mixture, every layer padded with zeros."""
        x = F.conv1d(mixture, self.front.weight, padding=1)
        start = (x.shape[-1] - n_samples) // 2
        skips: Tensor | float = 0.0
        for block, dilation in zip(self.blocks, self.dilations, strict=True):
            added, skip = block(x, dilation)
            x, skips = x + added, skips + skip[..., start : start + n_samples]
        assert isinstance(skips, Tensor)
        x = F.conv1d(F.relu(skips), self.final_1.weight, padding=1)
        found: Tensor = self.output(F.conv1d(F.relu(x), self.final_2.weight, padding=1))
        return found

    def seamless(self, mixture: Tensor) -> Tensor:
        """All samples that see nothing but the mixture: `reach` fewer on each side."""
        x = self.front(mixture)
        n_skipped = mixture.shape[-1] - 2 * (self.reach - 2)  # the final layers take two each
        skips: Tensor | float = 0.0
        for block, dilation in zip(self.blocks, self.dilations, strict=True):
            added, skip = block(x)
            x = x[..., dilation:-dilation] + added
            start = (skip.shape[-1] - n_skipped) // 2
            skips = skips + skip[..., start : start + n_skipped]
        assert isinstance(skips, Tensor)
        skips = F.relu(skips)
        parts = [
            self.output(self.final_2(F.relu(self.final_1(skips[..., first : first + PIECE + 4]))))
            for first in range(0, n_skipped - 4, PIECE)
        ]
        return torch.cat(parts, -1)


class Block(nn.Module):
    """A gated dilated convolution, projected: ``(B, K, T)`` -> what to add, and the skip."""

    def __init__(self, n_maps: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.convolution = nn.Conv1d(n_maps, 2 * n_maps, 3, dilation=dilation, bias=False)
        self.projection = nn.Conv1d(n_maps, 2 * n_maps, 1, bias=False)

    def forward(self, x: Tensor, padding: int = 0) -> tuple[Tensor, Tensor]:
        """See the class; without padding, dilation fewer samples on each side."""
        weight = self.convolution.weight
        signal, gate = F.conv1d(x, weight, padding=padding, dilation=self.dilation).chunk(2, 1)
        added, skip = self.projection(signal.tanh() * gate.sigmoid()).chunk(2, 1)
        return added, skip
