"""The checkpoints of a run: the last and the best."""

from __future__ import annotations

import filecmp
import logging
import math
import os
import shutil
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch.optim.lr_scheduler import ReduceLROnPlateau

from zoo.files import write_whole
from zoo.training.loggers import Rows, WandbRun

log = logging.getLogger(__name__)


class RunCheckpoints(Checkpoint):
    """``last.ckpt`` after each epoch, and ``best.ckpt`` when the monitored value has risen.

    Args:
        folder: of the checkpoints. What an earlier run left there moves to ``<folder>-1``, and so
            on, when this one writes its first, unless it continues one of them.
        monitor: logged value; the larger the better. Until there is one, the best is the last.
        recipe: YAML text, kept beside the checkpoints as ``config.yaml``.

    Both are written under a hidden name first, so that a process that is killed leaves whole files.
    At the end of an epoch nothing of it is left to do but the step of a plateau scheduler and the
    training losses of its row, for which Lightning's turn comes after the checkpoint; a resumed run
    makes up for both here.
    """

    def __init__(
        self, folder: str | os.PathLike[str], monitor: str = "val/sdr", recipe: str = ""
    ) -> None:
        self.folder, self.monitor, self.recipe = Path(folder), monitor, recipe
        self.best: float | None = None
        self._is_ready = False
        self._seen: dict[str, float] = {}
        self._owed: dict[str, float] = {}
        self._row: dict[str, float] = {}

    @property
    def last_path(self) -> Path:
        """Where the newest checkpoint is."""
        return self.folder / "last.ckpt"

    @property
    def best_path(self) -> Path:
        """Where the best checkpoint is."""
        return self.folder / "best.ckpt"

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {"best": self.best, "seen": self._seen, "row": self._row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.best, self._owed = state_dict["best"], state_dict["seen"]
        self._row = state_dict.get("row", {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the plateau schedulers' step of the epoch that the checkpoint ended; end its row."""
        for logger in trainer.loggers:
            if isinstance(logger, Rows) and self._row:
                logger.complete(self._row)
        owed, self._owed = self._owed, {}
        for config in trainer.lr_scheduler_configs:
            due = config.interval == "epoch" and trainer.current_epoch % config.frequency == 0
            if config.reduce_on_plateau and due and config.monitor in owed:
                scheduler = cast(ReduceLROnPlateau, config.scheduler)
                scheduler.step(owed[config.monitor])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what this epoch has reached."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        value = trainer.callback_metrics.get(self.monitor)
        improved = self.best is None if value is None else self._improves(float(value))
        self._seen = {
            config.monitor: float(trainer.callback_metrics[config.monitor])
            for config in trainer.lr_scheduler_configs
            if config.reduce_on_plateau and config.monitor in trainer.callback_metrics
        }
        self._row = {k: float(v) for k, v in trainer.callback_metrics.items()}
        self._row |= {"epoch": trainer.current_epoch, "step": trainer.global_step - 1}
        if trainer.is_global_zero and not self._is_ready:
            self._make_room(trainer.ckpt_path)
        hidden = self.folder / ".last.ckpt"
        try:
            trainer.save_checkpoint(hidden)  # in all processes: they wait for one another
        except OSError:  # a full disk needs no half of a checkpoint
            hidden.unlink(missing_ok=True)
            raise
        if trainer.is_global_zero:
            # The best first: a run killed between the two saves it once more when resumed.
            if improved:
                self._also(hidden, self.best_path)
            hidden.replace(self.last_path)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the best to W&B, once: uploads of every epoch cost more than they are worth."""
        if not trainer.is_global_zero or not self._is_ready or not self.best_path.is_file():
            return
        is_last = filecmp.cmp(self.best_path, self.last_path, shallow=False)
        aliases = ["best", "last"] if is_last else ["best"]
        for logger in trainer.loggers:
            if isinstance(logger, WandbRun):
                logger.log_model(self.best_path, aliases, {self.monitor: self.best})

    def _make_room(self, continued: str | os.PathLike[str] | None) -> None:
        """Move the checkpoints of another run aside, and put the recipe beside those to come."""
        self._is_ready = True
        continues = continued and Path(continued).resolve().parent == self.folder.resolve()
        if not continues and any(self.folder.glob("*.ckpt")):
            n = 1
            while (aside := self.folder.with_name(f"{self.folder.name}-{n}")).exists():
                n += 1
            self.folder.rename(aside)
            log.info("the checkpoints of an earlier run are in %s now", aside)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.recipe:
            write_whole(self.folder / "config.yaml", self.recipe)

    def _improves(self, value: float) -> bool:
        if math.isnan(value):
            return self.best is None
        if self.best is not None and value <= self.best:
            return False
        self.best = value
        return True

    def _also(self, source: Path, target: Path) -> None:
        hidden = target.with_name(f".{target.name}")
        hidden.unlink(missing_ok=True)
        try:
            os.link(source, hidden)
        except OSError:  # a file system without links
            shutil.copyfile(source, hidden)
        hidden.replace(target)
