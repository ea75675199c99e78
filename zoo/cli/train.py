"""``lightning fit|validate|test|predict`` and its twin ``zoo fit|...``: one LightningCLI.

A run keeps everything in one folder, ``runs/<name>/`` or ``--run_dir``: `zoo.training.callbacks`.
"""

from __future__ import annotations

import errno
import importlib.metadata
import logging
import os
import re
import shlex
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import StandardError
from zoo.cli.arguments import Call, prepare
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.cli.lightning_cli import TrainCLI

log = logging.getLogger(__name__)

COMMANDS = {
    "fit": "train a model by a recipe",
    "validate": "score a model on the validation tracks",
    "test": "score a model on the test tracks, by the data set's protocol",
    "predict": "separate the test tracks, or files",
}

USAGE = """usage: lightning {fit,validate,test,predict} -c RECIPE [-c RECIPE ...] [--KEY=VALUE ...]

  fit       train a model by a recipe
  validate  score a model on the validation tracks
  test      score a model on the test tracks, by the data set's protocol
  predict   separate the test tracks, or the files of --data.files

`zoo fit` is the same as `lightning fit`. Recipes are files or names; later ones override:
  lightning fit -c mmdensenet -c data/generated -c hardware/cpu-smoke
Options of ours:
  --run_dir DIR             where everything of the run goes (default runs/<recipes>; with the
                            recipe of a release, runs/releases/<recipes>)
  --ckpt_path last|best|FILE   continue (fit) or use (others) a checkpoint
  --init_from NAME|FILE     start from (fit) or use (others) the weights of a release or checkpoint
  --tiny                    the small variant of the model
  --wandb auto|online|offline|off
  --examples_every N        epochs between examples to hear and see (0: never)
  --compile true            train with compiled networks
  --debug                   whole messages instead of two lines
`lightning fit --help` shows all options."""


class Interrupted(Exception):
    """Ctrl-C during a run, after Lightning has put everything down."""


def run(argv: Sequence[str]) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict``.

    Args:
        argv: the command and its words, such as ``["fit", "-c", "wavenet"]``.

    Returns:
        0; 1 when ``predict`` could not separate some songs; 2 for an error of the user's, whose
        message stands on stderr; 130 after Ctrl-C.
    """
    words = [w for w in argv if w != "--debug"]
    debug = len(words) < len(argv) or os.environ.get("JSONARGPARSE_DEBUG") == "1"
    try:
        return copy_context().run(_run, words, debug)
    except ZooError as error:
        if debug:
            traceback.print_exc()
        _complain(_message(error))
        return 2
    except (KeyboardInterrupt, Interrupted):
        _complain_of_interrupt(words)
        return 130
    except Exception as error:
        told = _told(error)
        if told is None:
            raise
        if debug:
            traceback.print_exc()
        _complain(told)
        return 2


def lightning_main(argv: Sequence[str] | None = None) -> int | None:
    """Entry point of ``lightning``: ours, and what lightning-sdk answers where it is installed."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(USAGE + "\n")
        return 0
    if words[0] in COMMANDS or words[0] in ("-c", "--config") or words[0].startswith("--config="):
        return run(words)
    foreign = _sdk()
    if foreign is not None:
        result = foreign.load()()
        return result if isinstance(result, int) else None
    sys.stderr.write(USAGE + "\n")
    _complain(f"no command '{words[0]}'")
    return 2


def _sdk() -> importlib.metadata.EntryPoint | None:
    """The script of another package that also answers to ``lightning``."""
    scripts = importlib.metadata.entry_points(group="console_scripts")
    others = [s for s in scripts if s.name == "lightning-sdk"]
    others += [s for s in scripts if s.name == "lightning" and not s.value.startswith("zoo.")]
    return others[0] if others else None


def _run(words: list[str], debug: bool) -> int:
    command, rest = _command_first(words)
    if command is None:
        sys.stderr.write(USAGE + "\n")
        _complain("no command: one of fit, validate, test, predict")
        return 2
    _set_up_logging(debug)
    if "-h" in rest or "--help" in rest:
        call = Call(command, list(rest))
    else:
        call = prepare(command, rest)
    for note in call.notes:
        log.info("%s", note)
    try:
        return _cli(call, debug).status
    except SystemExit as stop:
        if isinstance(stop.code, int) or stop.code is None:
            return stop.code or 0
        raise


def _cli(call: Call, debug: bool) -> TrainCLI:
    # Here, and not above: torch and lightning take seconds, for which an error need not wait.
    from zoo.cli.lightning_cli import TrainCLI
    from zoo.cli.parser import DEBUG, RECIPES, WORDS

    RECIPES.set(call.recipes)
    WORDS.set([w for w in call.arguments if isinstance(w, str)])
    DEBUG.set(debug)
    with tempfile.TemporaryDirectory(prefix="zoo-recipes-") as folder, warnings.catch_warnings():
        _quieten_warnings()
        return TrainCLI(call, call.written(Path(folder)))


def _command_first(words: list[str]) -> tuple[str | None, list[str]]:
    """The command, wherever it stands: ``-c wavenet fit`` is ``fit -c wavenet``."""
    skip = False
    for i, word in enumerate(words):
        if skip:
            skip = False
        elif word in COMMANDS:
            return word, words[:i] + words[i + 1 :]
        else:
            skip = word in ("-c", "--config")
    return None, words


# ----------------------------------------------------------------- output


def _complain(text: str) -> None:
    sys.stderr.write(f"error: {text}\n")


def _message(error: ZooError) -> str:
    # str() of a LookupError's kin is fine, but a KeyError would quote its message.
    text = str(error.args[0]) if error.args else str(error)
    # A process that loads data sends its traceback along.
    match = re.search(r"^zoo\.errors\.\w+: (.*)", text, re.DOTALL | re.MULTILINE)
    return match[1].strip() if match and text.startswith("Caught ") else text


_DISK = {
    errno.ENOSPC: "free some space, or take another disk with --run_dir; --ckpt_path=last goes on",
    errno.EDQUOT: "free some space, or take another disk with --run_dir; --ckpt_path=last goes on",
    errno.EACCES: "allow it, or name another folder",
    errno.EPERM: "allow it, or name another folder",
    errno.EROFS: "name another folder",
    errno.ENOTDIR: "name another folder",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def _told(error: Exception) -> str | None:
    """What to say of an error of the disk, the trainer or the GPU; None of any other."""
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}\nhint: {_DISK[error.errno]}"
    kind = type(error).__name__  # a kind that is raised has been imported, but not by us
    if kind == "MisconfigurationException":
        return f"{' '.join(str(error).split())}\nhint: --debug shows where it comes from"
    if any(cls.__name__ == "TorchDynamoException" for cls in type(error).__mro__):
        first = next((line for line in str(error).splitlines() if line.strip()), kind)
        return f"the network cannot be compiled: {first}\nhint: --compile=false trains without"
    if kind == "OutOfMemoryError":
        return "the memory of the GPU is full\nhint: make --data.batch_size smaller"
    return None


def _complain_of_interrupt(words: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores it from here on
    again = [w for w in words if not w.startswith("--ckpt_path=")]
    if words and words[0] == "fit":
        again.append("--ckpt_path=last")
    sys.stderr.write(f"interrupted; to continue: zoo {shlex.join(again)}\n")


NOISE = (
    "litlogger", "litmodels", "💡", "GPU available", "TPU available", "Seed set to",
    "LOCAL_RANK", "Restoring states", "Restored all states", "Detected KeyboardInterrupt",
    "`Trainer.fit` stopped", "`weights_only` was not set", "was configured so",
    "Found current_model_state", "Loaded model weights", "Loading `train_dataloader`",
)  # fmt: skip


def _is_news(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(noise in message for noise in NOISE)


def _set_up_logging(debug: bool) -> None:
    ours = logging.getLogger("zoo")
    if not any(isinstance(handler, StandardError) for handler in ours.handlers):
        ours.addHandler(StandardError())
    first = all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    ours.setLevel(logging.DEBUG if debug else logging.INFO if first else logging.WARNING)
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
        "lightning.fabric.utilities.seed",
        "lightning_utilities.core.rank_zero",
        "lightning.pytorch.accelerators.cuda",
        "lightning.pytorch.trainer.connectors.checkpoint_connector",
    ):
        other = logging.getLogger(name)
        if _is_news not in other.filters:
            other.addFilter(_is_news)


def _quieten_warnings() -> None:
    for pattern in (
        ".*configure_optimizers. will be overridden",
        ".*does not have many workers",
        ".*num_workers",
        ".*Consider increasing the value of the",
        ".*smaller than the logging interval",
        ".*exists and is not empty",
        ".*in eval mode at the start of training",
        ".*isinstance.treespec, LeafSpec",
        ".*args parameter is intended to run from within Python",
        ".*`anonymous`",
        ".*deprecated in v4",  # of jsonargparse, used by Lightning
        ".*JsonargparseDeprecationWarning",
        ".*callbacks used to create the checkpoint need to be provided",
        ".*WeightAveraging callback, but loading a checkpoint outside",
    ):
        warnings.filterwarnings("ignore", message=f"(?s){pattern}")
