"""What Lightning's early stopping lacks: an early word about a wrong name, and a proper resume."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.errors import RecipeError, near


class StoppingCheck(Callback):
    """Looks after every ``EarlyStopping`` of a recipe.

    A value that nobody logs is told before the first epoch, not after it. A resumed run stops as
    its recipe says, and at once if that patience had run out before: Lightning would take the
    patience from the checkpoint, and train one epoch more after each resume.
    """

    def __init__(self) -> None:
        self._patience: list[int] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: D102
        self._patience = [c.patience for c in trainer.early_stopping_callbacks]

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Here the values of a validation are there; those of training are not yet."""
        known = {*trainer.callback_metrics, "train/loss", "val/sdr"}
        known |= {f"val/sdr_{name}" for name in getattr(pl_module, "sources", ())}
        for stopping in trainer.early_stopping_callbacks:
            name = stopping.monitor
            if name in known or name.startswith("train/") or not stopping.strict:
                continue
            what = f"EarlyStopping: no value '{name}' is measured."
            hint = f"there are: {', '.join(sorted(known))}"
            if name == "val/loss":
                hint = "name the callback ValidationLoss before it"
            else:
                what += near(name, known)
            raise RecipeError(f"{what}\nhint: {hint}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the recipe's patience in force again."""
        for stopping, patience in zip(
            trainer.early_stopping_callbacks, self._patience, strict=True
        ):
            stopping.patience = patience
            if stopping.wait_count >= patience:
                trainer.should_stop = True
