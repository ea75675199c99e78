"""The LightningCLI of the zoo: our own keys, the run's folder, its loggers and callbacks."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.trainer.states import TrainerStatus

from zoo.applications.predict import KeepStems
from zoo.cli.arguments import Call
from zoo.cli.parser import RecipeParser
from zoo.cli.progress import counting
from zoo.cli.reading import two_lines
from zoo.cli.train import Interrupted
from zoo.data.module import SeparationData
from zoo.errors import ReleaseError, ZooError
from zoo.release import locate
from zoo.separator import Separator
from zoo.training.callbacks import EpochLines, KeepRows, Reseed
from zoo.training.checkpoints import RunCheckpoints
from zoo.training.compiling import Compile
from zoo.training.curves import Curves
from zoo.training.early_stopping import StoppingCheck
from zoo.training.examples import Examples
from zoo.training.finite import StopAtNaN
from zoo.training.initialise import check_checkpoint, init_from
from zoo.training.loggers import Rows, WandbRun, wandb_logger
from zoo.training.record import SaveRecipe
from zoo.training.scores import KeepScores
from zoo.training.validation_loss import ValidationLoss  # noqa: F401  (recipes name it)

log = logging.getLogger(__name__)


class TrainCLI(LightningCLI):
    """Runs one call.

    Args:
        call: what was asked for.
        arguments: the words to parse, after the command.
    """

    def __init__(self, call: Call, arguments: list[str]) -> None:
        self.call = call
        # Recurrent networks crawl on a CPU without it. Processes that load data inherit it.
        torch.set_flush_denormal(True)
        super().__init__(
            Separator,
            SeparationData,
            save_config_callback=None,  # ours needs the run's folder
            seed_everything_default=0,
            trainer_defaults={
                # The data deals out its examples to the processes itself.
                "use_distributed_sampler": False,
                "num_sanity_val_steps": 1,
            },
            subclass_mode_model=True,
            parser_class=RecipeParser,
            args=[call.command, *arguments],
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the one that runs: each costs half a second."""
        return {self.call.command: LightningCLI.subcommands()[self.call.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:  # noqa: D102
        parser.add_argument(
            "--run_dir", type=str | None, help="Folder of the run. (default: runs/<recipes>)"
        )
        parser.add_argument("--tiny", type=bool, default=False, help="The model's small variant.")
        parser.add_argument(
            "--init_from", type=str | None, help="Release or checkpoint to take the weights from."
        )
        parser.add_argument(
            "--wandb",
            type=Literal["auto", "online", "offline", "off"],
            default="auto",
            help="W&B: online with a key and a network, else offline.",
        )
        parser.add_argument(
            "--examples_every", type=int, default=10, help="Epochs between examples; 0: never."
        )
        parser.add_argument(
            "--compile", type=bool, default=False, help="Train with compiled networks."
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse our words, without Lightning's advice about them."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Leave the model as the recipe has it; a run's own recipe lies beside its checkpoints."""

    # ----------------------------------------------------------------- the run

    @property
    def run_dir(self) -> Path:
        """Where everything of this run goes."""
        asked = self._get(self.config, "run_dir")
        if asked is None and (sweep := os.environ.get("WANDB_SWEEP_ID")):  # its agent started us
            return Path("runs/sweeps") / sweep / os.environ.get("WANDB_RUN_ID", "run")
        return Path(asked or Path("runs") / self.call.name)

    @property
    def resumes_from(self) -> Path | None:
        """The checkpoint to load; None where there is none.

        Raises:
            ReleaseError: it was named and is not there.
        """
        asked = self._get(self.config, "ckpt_path")
        if asked is None:
            return None
        if asked not in ("last", "best"):
            if not Path(asked).is_file():
                raise ReleaseError(
                    f"no checkpoint at {str(asked)!r}; give a file, or last or best of the run."
                )
            return Path(asked)
        path = self.run_dir / "checkpoints" / f"{asked}.ckpt"
        if path.is_file():
            return path
        if self.subcommand == "fit" and asked == "last":
            return None
        raise ReleaseError(
            f"no {asked} checkpoint in {path.parent}; train first, or name the run with --run_dir."
        )

    def before_instantiate_classes(self) -> None:
        """Look for folder and checkpoint: a wrong path is said before any work."""
        model = self._get(self.config, "model")
        if str(model.get("class_path")).rpartition(".")[2] == "Separator":  # recipes of data alone
            raise two_lines(
                "no model", "give a recipe, -c NAME, or --model NAME; `zoo list` shows them"
            )
        _check_folder(self.run_dir)
        checkpoint = self.resumes_from
        asked = self._get(self.config, "ckpt_path")
        if asked is not None and checkpoint is None:
            log.info("no checkpoint in %s yet: starting from scratch", self.run_dir / "checkpoints")
        typed = any(str(word).startswith("--init_from") for word in self.call.arguments)
        if typed and checkpoint is not None:  # whose weights win, but the name shall be one
            with suppress(ReleaseError):  # no network, which the checkpoint does not need
                locate(self._get(self.config, "init_from") or "")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer with our loggers first and our callbacks last, besides those of the recipe.

        Before it, the model's weights: loggers begin their runs when they are made.
        """
        self._load_weights()
        config = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        for name, value in (
            ("default_root_dir", str(self.run_dir)),
            ("enable_progress_bar", sys.stderr.isatty()),
            ("enable_model_summary", False),  # the first line of a run says it
        ):
            if config.get(name) is None:
                config[name] = value
        given = config.get("logger")
        others = given if isinstance(given, list) else [given] if _is_logger(given) else []
        config["logger"] = False if config.get("fast_dev_run") else [*self._loggers(), *others]
        callbacks = self._callbacks(config)
        try:
            return self._instantiate_trainer(config, callbacks)
        except (MisconfigurationException, ValueError, ImportError) as error:
            text = " ".join(str(error).split())
            hint = "--debug shows where it comes from"
            if isinstance(error, ImportError) or "backend" in text or "accelerator" in text:
                hint = "--trainer.accelerator=auto takes what this machine has"
            raise two_lines(f"trainer: {text}", hint) from error

    def _load_weights(self) -> None:
        """Refuse what cannot be trained, and take the weights to start from."""
        checkpoint, source = self.resumes_from, self._get(self.config, "init_from")
        is_fit = self.subcommand == "fit"
        if is_fit and not self.model.trainable:
            raise ZooError(
                f"{type(self.model).__name__} has nothing to train; use `zoo separate`, or test it "
                "with `zoo test`."
            )
        if checkpoint is not None:
            check_checkpoint(self.model, checkpoint, resumes=is_fit)
        elif source is not None:
            init_from(self.model, source, whole=not is_fit)
        elif self.model.trainable and not is_fit:
            log.warning("no --ckpt_path and no --init_from: the weights are untrained")

    def _loggers(self) -> list[Any]:
        if self.subcommand != "fit":
            return [Rows(self.run_dir, f"{self.subcommand}.csv")]
        resume = self.resumes_from is not None
        wandb = wandb_logger(self.run_dir, self._get(self.config, "wandb"), resume=resume)
        return [Rows(self.run_dir), *([wandb] if wandb else [])]

    def _callbacks(self, config: dict[str, Any]) -> list[Callback]:
        if self.subcommand == "predict":
            return [KeepStems(self.run_dir / "stems")]
        if self.subcommand == "test":
            seed = self._get(self.config, "seed_everything")
            return [KeepScores(self.run_dir / "scores", None if seed is False else int(seed))]
        if self.subcommand != "fit":
            return []
        recipe = self._resolved()
        callbacks: list[Callback] = [
            SaveRecipe(self.run_dir, recipe),
            KeepRows(),
            StopAtNaN(),
            StoppingCheck(),
            Curves(self.run_dir),
            Examples(self.run_dir / "examples", self._get(self.config, "examples_every")),
        ]
        seed = self._get(self.config, "seed_everything")
        if seed is not False:
            callbacks.append(Reseed(int(seed)))
        if self._get(self.config, "compile"):
            callbacks.append(Compile())
        if not config.get("enable_progress_bar"):
            callbacks.append(EpochLines())
        if config.get("enable_checkpointing") is not False:
            callbacks.append(RunCheckpoints(self.run_dir / "checkpoints", recipe=recipe))
        return callbacks

    def _resolved(self) -> str:
        """The recipe that repeats this run: everything written out, in its own folder."""
        config = self._get_all().clone()
        config["run_dir"] = str(self.run_dir)
        for once in ("ckpt_path", "weights_only"):  # of this call, not of the run
            if once in config:
                config[once] = None
        config["tiny"] = False  # its arguments are written out
        text = self._parser(self.subcommand).dump(config, skip_none=False, skip_check=True)
        return str(text)

    def _get_all(self) -> Any:
        return self.config.get(str(self.subcommand), self.config)

    def before_fit(self) -> None:
        """One line that says what runs where."""
        self.datamodule.progress = counting("files decoded into the cache")
        n = sum(p.numel() for p in self.model.parameters())
        log.info(
            "%s: %s, %s parameters, on %s%s",
            self.run_dir,
            self.model.architecture or type(self.model).__name__,
            f"{n:,}".replace(",", " "),
            self.trainer.strategy.root_device,
            f", continues {self.resumes_from}" if self.resumes_from else "",
        )

    def after_fit(self) -> None:
        """One line that says where it lies and how good it is."""
        best = [c.best for c in self.trainer.callbacks if isinstance(c, RunCheckpoints)]  # type: ignore[attr-defined]
        score = f"; best val/sdr {best[0]:.2f} dB" if best and best[0] is not None else ""
        log.info("done: %s%s", self.run_dir, score)

    @property
    def status(self) -> int:
        """Of the process: 1 when some songs could not be separated, 2 when none could."""
        songs = [r for c in self.trainer.callbacks if isinstance(c, KeepStems) for r in c.results]  # type: ignore[attr-defined]
        failed = sum(song.error is not None for song in songs)
        if not failed or not self.trainer.is_global_zero:  # the others' would end the first
            return 0
        return 1 if failed < len(songs) else 2

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        path = self.resumes_from
        kwargs["ckpt_path"] = None if path is None else str(path)
        if subcommand == "predict":
            kwargs["return_predictions"] = False  # they are on disk, and would fill the memory
        return kwargs

    def _run_subcommand(self, subcommand: str) -> None:
        failed = True
        try:
            super()._run_subcommand(subcommand)
            failed = False
        except SystemExit as stop:
            # With 0 leaves a process of a run whose first process tells what is wrong.
            if stop.code and self.trainer.state.status == TrainerStatus.INTERRUPTED:
                raise Interrupted from stop
            raise
        finally:
            for logger in self.trainer.loggers:
                if isinstance(logger, WandbRun):
                    logger.finish(failed)


def _check_folder(folder: Path) -> None:
    """Raise a `RecipeError` where a run's folder cannot be made or written to."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise two_lines(f"run_dir {folder}: {place} is a file", "name another with --run_dir")
    if not os.access(place, os.W_OK | os.X_OK):
        raise two_lines(
            f"run_dir {folder}: {place} cannot be written to", "name another with --run_dir"
        )


def _is_logger(value: Any) -> bool:
    return value not in (None, True, False)
