"""The loss on validation tracks, for a recipe that stops or chooses by it."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.functional import pad

from zoo.separator import Separator


class ValidationLoss(Callback):
    """Logs ``val/loss`` and its parts: the mean over all segments of the validation tracks.

    The segments are those of training.  One follows the other, so that each sample of a track
    counts once: a model whose loss sees no more than the middle of a segment tells by ``scored``
    how many samples that is, and they overlap by the rest.  Around a track there is silence.

    It costs as much as the SDR does, or several times that where segments overlap, so it is there
    for recipes that name it.

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
        hop = pl_module.scored
        references = batch["references"][0]  # (J, C, T)
        mixture = batch["mixture"][0]
        before = (n - hop) // 2
        missing = -references.shape[-1] % hop
        ends = (before, missing + n - hop - before)
        segments = pad(references, ends).unfold(-1, n, hop).permute(2, 0, 1, 3)
        mixtures = pad(mixture, ends).unfold(-1, n, hop).permute(1, 0, 2)
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
