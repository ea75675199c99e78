"""What a training run does besides training: all of it lands in the run's folder.

``runs/<name>/`` holds ``config.yaml`` (the resolved recipe), ``metrics.csv``, ``checkpoints/`` with
``last.ckpt``, ``best.ckpt`` and their own ``config.yaml``, ``examples/`` to hear and see, and
``wandb/``, whose ``run.json`` says where W&B has it. A new run in an old folder moves
``metrics.csv`` and ``checkpoints/`` aside.
"""

from __future__ import annotations

import filecmp
import json
import logging
import math
import os
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, cast

import lightning
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch.optim.lr_scheduler import ReduceLROnPlateau

import zoo
from zoo.errors import ZooError
from zoo.metrics.protocols import WHOLE_TRACK
from zoo.release import sha256_of
from zoo.separator import Separator, versions
from zoo.streaming import separate_tensor
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
    At the end of an epoch nothing of it is left to do but the step of a plateau scheduler, which
    Lightning takes after the checkpoint; a resumed run makes up for it here.
    """

    def __init__(
        self, folder: str | os.PathLike[str], monitor: str = "val/sdr", recipe: str = ""
    ) -> None:
        self.folder, self.monitor, self.recipe = Path(folder), monitor, recipe
        self.best: float | None = None
        self._is_ready = False
        self._seen: dict[str, float] = {}
        self._owed: dict[str, float] = {}

    @property
    def last_path(self) -> Path:
        """Where the newest checkpoint is."""
        return self.folder / "last.ckpt"

    @property
    def best_path(self) -> Path:
        """Where the best checkpoint is."""
        return self.folder / "best.ckpt"

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {"best": self.best, "seen": self._seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.best, self._owed = state_dict["best"], state_dict["seen"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the plateau schedulers' step of the epoch that the checkpoint ended."""
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


class SaveRecipe(Callback):
    """The resolved recipe beside the checkpoints, and in them, with commit, versions and data.

    Args:
        folder: of the run.
        recipe: YAML text.
    """

    def __init__(self, folder: str | os.PathLike[str], recipe: str) -> None:
        self.folder, self.recipe = Path(folder), recipe
        self._facts: dict[str, str] = {}

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
        """Keep the recipe with the weights: plain text, as ``weights_only`` loading wants it."""
        checkpoint["zoo_run"] = {"recipe": self.recipe, **self._facts}


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


class KeepStems(Callback):
    """Writes what ``predict`` returns, one folder of stems per track."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save one track's estimates; every process has them all."""
        if trainer.is_global_zero and hasattr(outputs, "save"):
            outputs.save(self.folder / str(batch["name"]).replace(os.sep, "_"))


class KeepScores(Callback):
    """Writes what ``test`` measured, one file per track in museval's form.

    Only for protocols that score a track as a whole; frames of others are not kept. Files of an
    earlier test in the same folder go, so that all that is left belongs together.

    Args:
        folder: of the files.
        seed: of the run, to be noted in them.
    """

    def __init__(self, folder: str | os.PathLike[str], seed: int | None = None) -> None:
        self.folder, self.seed = Path(folder), seed

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the scores of all tracks."""
        model = cast(Separator, pl_module)
        if model.protocol not in WHOLE_TRACK or not trainer.is_global_zero:
            return
        facts = self._facts(trainer, model)
        self.folder.mkdir(parents=True, exist_ok=True)
        written = set()
        for scores in model.scores:
            text = json.dumps({"targets": _targets(scores, model), "zoo": facts}, indent=1)
            name = str(scores["track"]).replace(os.sep, "_")
            write_whole(self.folder / f"{name}.json", text + "\n")
            written.add(f"{name}.json")
        for path in self.folder.glob("*.json"):
            if path.name not in written and _is_score_file(path):
                path.unlink()

    def _facts(self, trainer: Trainer, model: Separator) -> dict[str, Any]:
        """What a figure is worth nothing without."""
        arguments = {k: v for k, v in model.hparams.items() if not k.startswith("_")}
        facts = {
            "protocol": model.protocol,
            "evaluator": f"zoo {zoo.__version__}",
            "model": model.architecture,
            "release": model.info.get("release"),
            "sha256": model.info.get("sha256"),
            "arguments": json.loads(json.dumps(arguments, default=str)),
            "seed": self.seed,
            "versions": versions(),
        }
        if trainer.ckpt_path:
            facts |= {"release": None, "sha256": sha256_of(Path(trainer.ckpt_path))}
        data = getattr(getattr(trainer, "datamodule", None), "dataset", None)
        if data is not None:
            facts["data"] = f"{data.id} {data.fingerprint(('test',))}"
        return facts


def _targets(scores: dict[str, Any], model: Separator) -> list[dict[str, Any]]:
    """The figures of a track, ``<metric>_<source>``, as museval groups them."""
    duration = scores["samples"] / (model.sample_rate or scores["rate"])
    targets = []
    for source in model.sources:
        ending = f"_{source}"
        metrics = {k.removesuffix(ending): v for k, v in scores.items() if k.endswith(ending)}
        if metrics:
            frame = {"time": 0.0, "duration": duration, "metrics": metrics}
            targets.append({"name": source, "frames": [frame]})
    return targets


def _is_score_file(path: Path) -> bool:
    """Whether a test of ours wrote it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "zoo" in content


def write_whole(path: Path, text: str) -> None:
    """Write a file under a hidden name and give it its own when it is whole."""
    hidden = path.with_name(f".{path.name}")
    try:
        hidden.write_text(text, encoding="utf-8")
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


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
