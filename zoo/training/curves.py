"""``curves.png``: how a run is going, at a glance."""

from __future__ import annotations

import csv
import logging
import math
import os
import time
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from zoo import pictures

log = logging.getLogger(__name__)

PAUSE_S = 5.0  # at least, between two pictures: drawing takes up to half a second
Points = list[tuple[float, float]]


class Curves(Callback):
    """Loss and SDR over all epochs so far, drawn anew from ``metrics.csv`` when one has ended.

    Epochs of a moment share a picture.

    Args:
        folder: of the run, where the table is and the picture goes.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._complaint = ""
        self._drawn = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: D102
        self._drawn = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Here the row of the epoch before has been written; at its own end it has not."""
        if time.monotonic() > self._drawn + PAUSE_S:
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last epoch, too."""
        self._draw(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Show what there was before it."""
        self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        try:
            draw(self.folder)
        # A picture must not end a training, whatever drawing raises.
        except Exception as error:
            if str(error) != self._complaint:
                log.warning("no curves.png: %s", error)
            self._complaint = str(error)
        self._drawn = time.monotonic()


def draw(folder: Path) -> Path | None:
    """Draw ``curves.png`` of a run's folder; None where nothing has been measured yet."""
    columns = read_columns(folder / "metrics.csv")
    loss = _panel(columns, ("train/loss", "val/loss"), "train/")
    sdr = _panel(columns, ("val/sdr",), "val/sdr_")
    panels = {title: lines for title, lines in (("loss", loss), ("SDR in dB", sdr)) if lines}
    if not panels:
        return None
    best = max(columns.get("val/sdr", []), key=lambda point: point[1], default=None)
    title = folder.absolute().name
    if best:
        title += f": best val/sdr {best[1]:.2f} dB, epoch {best[0]:.0f}"
    figure = pictures.curves(panels, "epoch", best[0] if best else None, title)
    return pictures.save(figure, folder / "curves.png")


def read_columns(path: Path) -> dict[str, Points]:
    """Each column of a table of metrics as points ``(epoch, value)``, those that are finite."""
    columns: dict[str, Points] = {}
    if not path.is_file():
        return columns
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                if name in ("epoch", "step") or not text or not row["epoch"]:
                    continue
                if math.isfinite(value := float(text)):
                    columns.setdefault(name, []).append((float(row["epoch"]), value))
    return columns


def _panel(columns: dict[str, Points], first: tuple[str, ...], prefix: str) -> dict[str, Points]:
    """The lines of a panel: some by their whole name, and the parts below a prefix by their own."""
    lines = {name: columns[name] for name in first if name in columns}
    parts = {n.removeprefix(prefix): c for n, c in columns.items() if n.startswith(prefix)}
    return lines | {n: c for n, c in parts.items() if prefix + n not in lines}
