"""Where the numbers of a run go: a table of rows on disk, always, and W&B where there is one."""

from __future__ import annotations

import csv
import io
import logging
import netrc
import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)

FINISH_S = 60.0  # how long the last uploads may take when the network is gone
WandbMode = Literal["auto", "online", "offline", "off"]


class Rows(Logger):
    """One CSV table with a row per (epoch, step), written at once; earlier rows are kept.

    Args:
        folder: of the run.
        name: of the file in it.

    A new column rewrites the file, which has its name at every moment.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str = "metrics.csv") -> None:
        super().__init__()
        self.path = Path(folder) / name
        self._rows: list[dict[str, Any]] = []
        self._columns: list[str] = ["epoch", "step"]
        self._read = False

    @property
    def name(self) -> str:  # noqa: D102
        return self.path.stem

    @property
    def version(self) -> str:  # noqa: D102
        return ""

    @property
    def save_dir(self) -> str:  # noqa: D102
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the recipe beside the table holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add values to the row of this epoch and step."""
        self._load()
        row = {name: float(value) for name, value in metrics.items()}
        row["step"] = len(self._rows) if step is None else step
        if "epoch" in row:
            row["epoch"] = int(row["epoch"])
        last = self._rows[-1] if self._rows else {}
        joins = all(str(last.get(k)) == str(row.get(k)) for k in ("epoch", "step"))
        joins = joins and not any(
            last.get(k) not in (None, "") for k in row.keys() - {"epoch", "step"}
        )
        if joins:
            last.update(row)
        else:
            self._rows.append(row)
        fresh = sorted(row.keys() - set(self._columns))
        self._columns += fresh
        if joins or fresh or not self.path.is_file():
            self._write()
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)

    @rank_zero_only
    def begin(self, step: int) -> None:
        """Start, or start again, after ``step`` steps: rows of later steps will come anew.

        At step 0 the rows of an earlier run in the same folder move to ``<name>-1.csv``, ``-2``...
        """
        self._load()
        if step == 0:
            if self.path.is_file():
                self.path.rename(self._free_name())
            self._rows, self._columns = [], ["epoch", "step"]
            return
        kept = [row for row in self._rows if float(row["step"]) < step]
        if len(kept) < len(self._rows):
            self._rows = kept
            self._write()

    def _free_name(self) -> Path:
        n = 1
        while (path := self.path.with_name(f"{self.path.stem}-{n}.csv")).exists():
            n += 1
        return path

    def _load(self) -> None:
        if self._read:
            return
        self._read = True
        if not self.path.is_file():
            return
        # A process that was killed may have left half a line.
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        reader = csv.DictReader(whole)
        rows = [row for row in reader if (row.get("step") or "").isdigit()]
        if len(whole) < len(lines):
            self.path.write_text("".join(whole), encoding="utf-8")
        self._columns = list(reader.fieldnames or self._columns)
        self._rows = [dict(row) for row in rows]

    def _write(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        hidden = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        hidden.write_text(text.getvalue(), encoding="utf-8", newline="")
        hidden.replace(self.path)


def wandb_logger(
    run_dir: str | os.PathLike[str],
    requested: WandbMode = "auto",
    *,
    resume: bool = False,
    connect_timeout: float = 3.0,
    init_timeout: float = 20.0,
) -> WandbLogger | None:
    """A W&B logger that has begun its run, or None; never a prompt, never a long wait.

    Args:
        run_dir: folder of the run; everything that W&B writes lies in its ``wandb`` folder.
        requested: ``auto`` obeys ``WANDB_MODE``, else is online with a key and a network, else
            offline.
        resume: continue the W&B run that this folder began.
        connect_timeout: seconds to wait for the server's first sign.
        init_timeout: seconds to wait for the run to begin there.
    """
    mode = os.environ.get("WANDB_MODE", "auto") if requested == "auto" else requested
    if mode in ("off", "disabled") or getattr(rank_zero_only, "rank", 0) != 0:
        return None
    try:
        import wandb
    except ImportError:
        log.info("W&B: the package wandb is not installed; metrics go to %s only", run_dir)
        return None
    folder = Path(run_dir).absolute() / "wandb"
    _keep_inside(folder)  # before W&B reads its environment, which it does once
    wandb.teardown()
    wandb.setup()
    reason = ""
    if mode in ("offline", "dryrun"):
        mode, reason = "offline", "as asked"
    else:
        reason = _why_offline(connect_timeout)
        mode = "offline" if reason else "online"
    identity = _identity(folder, resume)
    if mode == "online":
        logger, reason = _begun(wandb, run_dir, identity, "online", init_timeout)
        if logger is not None:
            log.info("W&B: %s", logger.experiment.url)
            return logger
    logger, problem = _begun(wandb, run_dir, identity, "offline", init_timeout)
    if logger is None:
        log.warning("W&B: no run could be started (%s); metrics go to %s only", problem, run_dir)
        return None
    log.info("W&B: offline (%s); later: wandb sync %s", reason, Path(logger.experiment.dir).parent)
    return logger


def finish(logger: WandbLogger, failed: bool = False) -> None:
    """End a W&B run; the next one in this process starts afresh."""
    try:
        logger.experiment.finish(exit_code=int(failed))
    # Whatever W&B raises, the training has been done and is on disk.
    except Exception as error:
        log.warning("W&B: the run did not end well: %s", error)


def _begun(
    wandb: Any, run_dir: str | os.PathLike[str], identity: str, mode: str, timeout: float
) -> tuple[WandbLogger | None, str]:
    """A logger whose run has begun, or None and the reason."""
    # The mode goes through the settings: the environment has been read by now, and Lightning's own
    # argument would set the variable for the rest of the process.
    settings = wandb.Settings(mode=mode, init_timeout=timeout, finish_timeout=FINISH_S, silent=True)
    logger = WandbLogger(
        name=Path(run_dir).absolute().name,
        project=os.environ.get("WANDB_PROJECT", "music-separation-zoo"),
        save_dir=os.fspath(run_dir),
        id=identity,
        settings=settings,
    )
    try:
        _ = logger.experiment
    # A logger must not end a training: whatever W&B raises, the run goes on without it.
    except Exception as error:
        wandb.teardown()
        return None, (str(error).splitlines() or [type(error).__name__])[0]
    return logger, ""


def _why_offline(timeout: float) -> str:
    """Why there can be no online run; empty if there can."""
    import wandb

    url = urlparse(os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url)
    host = url.hostname or ""
    if not _has_key(host):
        return "no API key; `wandb login` stores one"
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError as error:
        return f"no connection to {host}: {error.strerror or error}"
    return ""


def _has_key(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC") or os.path.expanduser("~/.netrc"))
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _keep_inside(folder: Path) -> None:
    """Let W&B write into the run's folder instead of the home directory."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["WANDB_DIR"] = str(folder.parent)
    os.environ["WANDB_CACHE_DIR"] = str(folder / "cache")
    os.environ["WANDB_DATA_DIR"] = str(folder / "data")
    # A configuration that the user made (server, entity) must stay in force.
    if not os.path.exists(os.path.expanduser("~/.config/wandb/settings")):
        os.environ["WANDB_CONFIG_DIR"] = str(folder / "config")
    os.environ["WANDB_SILENT"] = "true"
    os.environ["WANDB_ERROR_REPORTING"] = "false"


def _identity(folder: Path, resume: bool) -> str:
    """The W&B id of the run in this folder: the earlier one to continue it, else a new one."""
    path = folder / "run-id"
    if resume and path.is_file():
        return path.read_text(encoding="utf-8").strip()
    identity = uuid.uuid4().hex[:8]
    path.write_text(identity + "\n", encoding="utf-8")
    return identity
