"""Early stopping that holds over a resume."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer


class KeepPatience(Callback):
    """Lets a resumed run stop as its recipe says: at once, if its patience had run out before.

    Lightning's ``EarlyStopping`` takes its patience from the checkpoint, so that a longer one would
    change nothing, and trains one epoch more after each resume.
    """

    def __init__(self) -> None:
        self._patience: list[int] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: D102
        self._patience = [c.patience for c in trainer.early_stopping_callbacks]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: D102
        for stopping, patience in zip(
            trainer.early_stopping_callbacks, self._patience, strict=True
        ):
            stopping.patience = patience
            if stopping.wait_count >= patience:
                trainer.should_stop = True
