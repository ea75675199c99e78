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

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Here averaged weights are in place."""
        if not isinstance(pl_module, Separator):
            return
        n = pl_module.segment
        references = batch["references"][0]  # (J, C, T)
        mixture = batch["mixture"][0]
        missing = -references.shape[-1] % n
        segments = pad(references, (0, missing)).unfold(-1, n, n).permute(2, 0, 1, 3)
        mixtures = pad(mixture, (0, missing)).unfold(-1, n, n).permute(1, 0, 2)
        known = batch["known"].expand(len(segments), -1)
        for start in range(0, len(segments), self.batch_size):
            part = slice(start, start + self.batch_size)
            with trainer.precision_plugin.val_step_context():
                losses = pl_module.loss(mixtures[part], segments[part], known[part])
            for name, value in losses.items():
                pl_module.log(
                    f"val/{name}", value, on_epoch=True, batch_size=len(mixtures[part]),
                    sync_dist=True,
                )  # fmt: skip
