"""Small things that a run does besides training.

All that it keeps lands in its folder: ``runs/<name>/`` holds ``config.yaml`` (the resolved recipe),
``metrics.csv`` and ``curves.png``, which shows it, ``checkpoints/`` with ``last.ckpt``,
``best.ckpt`` and their own ``config.yaml``, ``examples/`` to hear and see, and ``wandb/``, whose
``run.json`` says where W&B has it. A new run in an old folder moves ``metrics.csv`` and
``checkpoints/`` aside.
"""

from __future__ import annotations

import logging
import random
import time
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.training.loggers import Rows, WandbRun

log = logging.getLogger(__name__)


class Reseed(Callback):
    """The same random numbers in epoch n of a resumed run as in an uninterrupted one (dropout...).

    Data needs no such help: its examples are a function of seed, epoch and index.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Before the first batch, not at the start of the epoch: loaders may draw in between."""
        if batch_idx:
            return
        entropy = [self.seed, trainer.current_epoch, trainer.global_rank]
        words = np.random.SeedSequence(entropy).generate_state(3)
        torch.manual_seed(int(words[0]))
        random.seed(int(words[1]))
        np.random.seed(int(words[2]))


class KeepRows(Callback):
    """Tells the table of metrics where the run starts, so that rows of a resumed run stand once.

    And W&B gets those that a killed run had written, but not sent.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: D102
        rows = []
        for logger in trainer.loggers:
            if isinstance(logger, Rows):
                logger.begin(trainer.global_step)
                rows = logger.rows
            elif isinstance(logger, WandbRun):
                logger.catch_up(rows)


class EpochLines(Callback):
    """One line per epoch in the log, where there is no progress bar."""

    def __init__(self) -> None:
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: D102
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: D102
        shown = ("train/loss", "val/sdr")
        values = [(n, trainer.callback_metrics.get(n)) for n in shown]
        text = "  ".join(f"{name} {float(v):.4g}" for name, v in values if v is not None)
        seconds = time.monotonic() - self._start
        if trainer.is_global_zero:
            log.info("epoch %d: %s  (%.1f s)", trainer.current_epoch, text, seconds)
