"""The loss on validation tracks, for a recipe that stops or chooses by it."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.functional import pad

from zoo.separator import Separator


class ValidationLoss(Callback):
    """Logs ``val/loss`` and its parts: the mean over all segments of the validation tracks.

    The segments are those of training, one after the other, the last one padded with silence. It
    costs about as much as the SDR does, so it is there for recipes that name it.

    Args:
        batch_size: segments at once.
    """

    def __init__(self, batch_size: int = 4) -> None:
        self.batch_size = batch_size
        self._sums: dict[str, tuple[int, dict[str, float]]] = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the tracks of the epoch before."""
        self._sums = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add up the losses of a track, here, where averaged weights are in place."""
        if not isinstance(pl_module, Separator) or not batch.get("mine", True):
            return
        n = pl_module.segment
        references = batch["references"][0]  # (J, C, T)
        mixture = batch["mixture"][0]
        missing = -references.shape[-1] % n
        segments = pad(references, (0, missing)).unfold(-1, n, n).permute(2, 0, 1, 3)
        mixtures = pad(mixture, (0, missing)).unfold(-1, n, n).permute(1, 0, 2)
        known = batch["known"].expand(len(segments), -1)
        sums: dict[str, float] = {}
        for start in range(0, len(segments), self.batch_size):
            part = slice(start, start + self.batch_size)
            with trainer.precision_plugin.val_step_context():
                losses = pl_module.loss(mixtures[part], segments[part], known[part])
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(mixtures[part])
        self._sums[batch["name"]] = len(segments), sums

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over the tracks of all processes, of which one may have none."""
        if not isinstance(pl_module, Separator):
            return
        tracks = dict(pl_module.of_all_processes(list(self._sums.items()))).values()
        n_segments = sum(n for n, _ in tracks)
        for name in dict.fromkeys(name for _, sums in tracks for name in sums):
            total = sum(sums[name] for _, sums in tracks)
            pl_module.log(f"val/{name}", total / n_segments, sync_dist=True)
