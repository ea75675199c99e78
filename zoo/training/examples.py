"""Examples of a run to hear and to see."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.errors import ZooError
from zoo.separator import Separator
from zoo.streaming import separate_tensor
from zoo.training.loggers import WandbRun

log = logging.getLogger(__name__)


class Examples(Callback):
    """Every few epochs some seconds to hear and a picture to see, of the first validation track.

    Args:
        folder: gets ``epoch-N.png`` and one WAV per signal.
        every: epochs between two examples, from the first on; 0: never.
        seconds: at most this much, from the middle.
    """

    def __init__(
        self, folder: str | os.PathLike[str], every: int = 10, seconds: float = 6.0
    ) -> None:
        self.folder, self.every, self.seconds = Path(folder), every, seconds

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Here, and not later, averaged weights are in place."""
        epoch = trainer.current_epoch
        if trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if batch_idx or dataloader_idx or not self.every or epoch % self.every:
            return
        if not trainer.is_global_zero or not isinstance(pl_module, Separator):
            return
        if not batch.get("mine", True):  # the first track is faulty
            return
        rate = pl_module.sample_rate or int(batch["rate"])
        signals = self._signals(pl_module, batch, rate)
        try:
            self._keep(signals, rate, epoch, batch["name"], trainer)
        except ImportError as error:  # MissingPackage is one
            log.warning("no examples: %s", error)
            self.every = 0
        except (OSError, ZooError) as error:
            log.warning("no example of epoch %d: %s", epoch, error)

    def _signals(self, model: Separator, batch: Any, rate: int) -> dict[str, np.ndarray]:
        length = batch["mixture"].shape[-1]
        n = min(length, round(self.seconds * rate))
        start = (length - n) // 2
        mixture = batch["mixture"][..., start : start + n]
        estimates = separate_tensor(model, mixture)[0]
        references = batch["references"][0][..., start : start + n].cpu()
        signals = {"mixture": mixture[0].cpu().float().numpy()}
        for j, source in enumerate(model.sources):
            if bool(batch["known"][0][j]):
                signals[f"{source}, reference"] = references[j].float().numpy()
            signals[f"{source}, estimate"] = estimates[j].float().cpu().numpy()
        return signals

    def _keep(
        self, signals: dict[str, np.ndarray], rate: int, epoch: int, track: str, trainer: Trainer
    ) -> None:
        from zoo import pictures
        from zoo.audio import AudioWriter

        self.folder.mkdir(parents=True, exist_ok=True)
        figure = pictures.spectrograms(signals, rate, f"epoch {epoch}: {track}")
        picture = pictures.save(figure, self.folder / f"epoch-{epoch}.png")
        sounds = {}
        for name, signal in signals.items():
            path = self.folder / f"epoch-{epoch}-{name.replace(', ', '-')}.wav"
            with AudioWriter(path, rate, signal.shape[0], "PCM_16") as writer:
                writer.write(signal)
            sounds[name] = path
        step = trainer.global_step - 1  # counts the steps before it, as that of the metrics does
        for logger in trainer.loggers:
            if isinstance(logger, WandbRun):
                logger.log_example(picture, sounds, step)
