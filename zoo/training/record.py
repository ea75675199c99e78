"""What a run tells of itself: its recipe, commit, versions and data."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.files import write_whole
from zoo.separator import versions
from zoo.training.loggers import WandbRun


class SaveRecipe(Callback):
    """The resolved recipe beside the checkpoints, and in them, with commit, versions and data.

    Args:
        folder: of the run.
        recipe: YAML text.
    """

    def __init__(self, folder: str | os.PathLike[str], recipe: str) -> None:
        self.folder, self.recipe = Path(folder), recipe
        self._facts: dict[str, str] = {}
        self._earlier = 0.0  # seconds of training before this process
        self._began = time.monotonic()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: D102
        if not trainer.is_global_zero:
            return
        facts = {**versions(), "lightning": lightning.__version__, "commit": commit()}
        # torch's version is a kind of text that a `weights_only` load refuses.
        self._facts = {name: str(value) for name, value in facts.items()}
        data = getattr(getattr(trainer, "datamodule", None), "dataset", None)
        if data is not None:  # what was trained with; a faulty test track is for `test` to find
            self._facts["data"] = f"{data.id} {data.fingerprint(('train', 'valid'))}"
        for logger in trainer.loggers:
            if isinstance(logger, WandbRun):
                logger.log_recipe(self.recipe, self._facts)
                self._facts["wandb"] = logger.experiment.url or f"{logger.version}, offline"
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        head = "".join(f"# {name}: {value}\n" for name, value in self._facts.items())
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "config.yaml", head + self.recipe)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the recipe with the weights: plain values, for ``weights_only`` loading."""
        checkpoint["zoo_run"] = {
            "recipe": self.recipe, **self._facts,
            "hardware": hardware(pl_module.device, trainer.world_size),
            "seconds": round(self._earlier + time.monotonic() - self._began),
        }  # fmt: skip

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Count on from what an earlier process has spent."""
        self._earlier = float((checkpoint.get("zoo_run") or {}).get("seconds", 0.0))


def hardware(device: torch.device, n_processes: int = 1) -> str:
    """What trains, in words: a GPU's name, or how many threads of which CPU; and how many."""
    n = torch.get_num_threads()
    name = f"{n} CPU thread{'s' if n > 1 else ''} ({platform.machine()})"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type != "cpu":
        name = f"{device.type} ({platform.machine()})"
    return name if n_processes == 1 else f"{n_processes} x {name}"


def commit() -> str:
    """The commit of the checkout that this code runs from, ``+`` if changed; empty outside one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--abbrev=40",
        "--exclude=*",
        "--dirty=+",
    ]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
