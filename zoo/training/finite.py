"""A training stops at its first loss or gradient that is no number, and says of what tracks."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from zoo.data.module import EpochSampler, Format, Segments
from zoo.data.track import Track
from zoo.errors import NotFinite

N_NAMED = 4  # tracks; a remixed batch of eight examples holds up to 32


class StopAtNaN(Callback):
    """Stops before the step that would spoil the weights, in all processes of a run.

    One look per step: the losses of the batches since the last one, and the largest gradient. The
    checkpoints are those of whole epochs, so the last one is from before.

    Raises:
        NotFinite: in the first process; the others leave without a word.
    """

    def __init__(self) -> None:
        self._losses: dict[int, Tensor] = {}  # of the batches since the last step, by number
        self._batch = 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Know which batch a loss is of: several may make one step."""
        self._batch = batch_idx

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Keep the loss, without waiting for a GPU to have computed it."""
        self._losses[self._batch] = loss.detach().float()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Look at losses and gradients, before they are clipped."""
        losses, self._losses = self._losses, {}
        if not losses:
            return
        values = torch.cat([torch.stack(list(losses.values())), self._largest(trainer, optimizer)])
        if trainer.world_size > 1:
            everyones = torch.as_tensor(trainer.strategy.all_gather(values))
        else:
            everyones = values[None]
        if bool(everyones.isfinite().all()):
            return
        if not trainer.is_global_zero:
            # A process that failed would have the first killed before it has told why.
            raise SystemExit(0)
        raise NotFinite(_told(trainer, everyones.tolist(), list(losses)))

    @staticmethod
    def _largest(trainer: Trainer, optimizer: Optimizer) -> Tensor:
        """The largest gradient, ``(1,)``; half precision has its own guard, which skips steps."""
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return torch.zeros(1, device=trainer.strategy.root_device)
        gradients = [
            p.grad
            for group in optimizer.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        return torch.nn.utils.get_total_norm(gradients, math.inf).float()[None]


def _told(trainer: Trainer, values: list[list[float]], numbers: list[int]) -> str:
    """What was not finite, where, and of which tracks.

    Args:
        trainer: of the run.
        values: of each process, the loss of each batch and the largest gradient.
        numbers: of the batches.
    """
    wrong = [
        (loss, rank, number)
        for rank, row in enumerate(values)
        for loss, number in zip(row, numbers, strict=False)
        if not math.isfinite(loss)
    ]
    if wrong:
        loss, rank, number = wrong[0]
        what, ranks, at = f"the loss is {loss}", [rank], [number]
    else:  # summed over batches and processes: all of them may be to blame
        gradient = next(row[-1] for row in values if not math.isfinite(row[-1]))
        what, ranks, at = f"a gradient is {gradient}", list(range(len(values))), numbers
    where = f"epoch {trainer.current_epoch}, batch {' and '.join(str(n) for n in at)}"
    if wrong and len(values) > 1:
        where += f" of process {ranks[0]}"
    names = _tracks(trainer, ranks, at)
    if names:
        more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
        where += f", of {', '.join(repr(name) for name in names[:N_NAMED])}{more}"
    hint = "lower the learning rate, or add --trainer.gradient_clip_val=1"
    if trainer.current_epoch:
        hint += "; --ckpt_path=last goes on from the end of the epoch before"
    return f"{what} in {where}.\nhint: {hint}"


def _tracks(trainer: Trainer, ranks: list[int], numbers: list[int]) -> list[str]:
    """Names of the tracks that some batches of some processes are made of.

    An example is a function of seed, epoch and index: it is made once more to see what it reads, so
    that no batch need carry names.
    """
    loader = trainer.train_dataloader
    if not isinstance(loader, DataLoader) or not isinstance(loader.sampler, EpochSampler):
        return []  # somebody's own data
    assert isinstance(loader.dataset, Segments) and loader.batch_size is not None
    heard = _Heard(**vars(loader.dataset.format))
    segments = copy.copy(loader.dataset)
    segments.format = heard
    for rank in ranks:
        sampler = copy.copy(loader.sampler)
        sampler.rank = rank
        positions = list(sampler)
        for number in numbers:
            for position in positions[number * loader.batch_size :][: loader.batch_size]:
                segments[position]
    return list(dict.fromkeys(heard.names))


@dataclass(frozen=True)
class _Heard(Format):
    """A format that notes the tracks that are read."""

    names: list[str] = field(default_factory=list)

    def read(self, track: Track, *where: Any, **how: Any) -> np.ndarray:
        """As it is read elsewhere."""
        self.names.append(track.name)
        return super().read(track, *where, **how)
