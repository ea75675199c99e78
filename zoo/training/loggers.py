"""Where the numbers of a run go: a table of rows on disk, always, and W&B where there is one."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import netrc
import os
import re
import shlex
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse
from urllib.request import getproxies, proxy_bypass

import yaml
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from zoo.files import write_whole

log = logging.getLogger(__name__)

CONNECT_S = 3.0  # how long to wait for a server's first sign
FINISH_S = 60.0  # how long the last uploads may take when the network is gone
SLOW_BYTES_PER_S = 1e6  # a model may take that much longer, on a slow line
RECORD = "run.json"
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
    def complete(self, row: Mapping[str, float]) -> None:
        """Fill what is missing of the last row, if it is of the same epoch and step."""
        self._load()
        last = self._rows[-1] if self._rows else {}
        if any(str(last.get(k)) != str(row[k]) for k in ("epoch", "step")):
            return
        missing = {k: v for k, v in row.items() if k in self._columns and last.get(k) in (None, "")}
        if missing:
            last.update(missing)
            self._write()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What the table holds; of a value that is not there, an empty text."""
        self._load()
        return [{name: row.get(name, "") for name in self._columns} for row in self._rows]

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
            write_whole(self.path, "".join(whole))
        self._columns = list(reader.fieldnames or self._columns)
        self._rows = [dict(row) for row in rows]

    def _write(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, text.getvalue())


class WandbRun(WandbLogger):
    """A W&B run that never ends a training: a problem is said in one line, once.

    Args:
        run_dir: folder of the run, whose name it bears. ``wandb/run.json`` in it says id, address
            and, once it has been uploaded, the model's artifact.
        identity: the W&B id.
        settings: of W&B.
    """

    def __init__(self, run_dir: str | os.PathLike[str], identity: str, settings: Any) -> None:
        run_dir = Path(run_dir).absolute()
        project = os.environ.get("WANDB_PROJECT", "music-separation-zoo")
        super().__init__(
            name=run_dir.name, project=project, save_dir=run_dir, id=identity, settings=settings
        )
        self._record = run_dir / "wandb" / RECORD
        self._problems: set[str] = set()

    @property
    def sync(self) -> str:
        """The command that uploads the rows and media that the server has not got."""
        option = [] if self.experiment.offline else ["--include-online"]
        return shlex.join(["wandb", "sync", *option, str(Path(self.experiment.dir).parent)])

    def begin(self) -> None:
        """Begin the run, or continue the one of this id, and note where it is."""
        run = self.experiment
        facts = {"id": run.id, "url": run.url, "entity": run.entity, "project": run.project}
        self._note(**facts, artifact=None)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the recipe holds them."""

    @rank_zero_only
    def log_recipe(self, recipe: str, facts: Mapping[str, str]) -> None:
        """Make a resolved recipe, YAML text, and facts about its run the configuration."""
        config = {**yaml.safe_load(recipe), "zoo_run": dict(facts)}
        with self._calm():
            self.experiment.config.update(config, allow_val_change=True)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Send values; a step counts the batches before it."""
        with self._calm():
            super().log_metrics(metrics, step)

    @rank_zero_only
    def catch_up(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Send those rows of the table that a process had not sent when it was killed."""
        with self._calm():
            run = self.experiment
            if run.offline or not run.resumed:
                return
            sent = run.summary.get("trainer/global_step", -1)
            for row in rows:
                if (step := int(row["step"])) > sent:
                    values = {k: float(v) for k, v in row.items() if k != "step" and v != ""}
                    self.log_metrics(values, step)

    @rank_zero_only
    def log_example(self, picture: Path, sounds: Mapping[str, Path], step: int) -> None:
        """Send something to see and to hear, the sounds by name."""
        with self._calm():
            self.log_image("examples/spectrograms", [str(picture)], step)
            paths = [str(path) for path in sounds.values()]
            self.log_audio("examples/audio", paths, step, caption=list(sounds))

    @rank_zero_only
    def log_model(self, path: Path, aliases: list[str], metadata: Mapping[str, Any]) -> None:
        """Upload a checkpoint or a release's folder as a model; wait as long as its size allows."""
        import wandb

        if os.environ.get("WANDB_LOG_MODEL", "").lower() == "false":
            return
        run = self.experiment
        name = re.sub(r"[^\w.-]+", "-", run.name or run.id, flags=re.ASCII)[:128]
        # `wandb sync` brings the model of a run that was offline, but of no other.
        place = "/".join(filter(None, (run.entity, run.project, name)))
        options = [f"--alias={alias}" for alias in aliases]
        put = ["wandb", "artifact", "put", "--type=model", f"--name={place}", *options, str(path)]
        with self._calm(f"{path.name} was not uploaded: ", shlex.join(put)):
            if not run.offline and (reason := _unreachable(CONNECT_S)):
                raise OSError(reason)
            artifact = wandb.Artifact(name, "model", metadata=dict(metadata))
            # On its way it is a copy, which W&B deletes when the server has it.
            files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
            for file in files:
                place = file.name if path.is_file() else file.relative_to(path).as_posix()
                artifact.add_file(str(file), name=place, skip_cache=True)
            artifact = run.log_artifact(artifact, aliases=aliases)
            if not run.offline:
                size = sum(file.stat().st_size for file in files)
                artifact.wait(math.ceil(FINISH_S + size / SLOW_BYTES_PER_S))
                self._note(artifact=artifact.qualified_name)
                log.info("W&B: %s is %s", path.name, artifact.qualified_name)

    def finish(self, failed: bool = False) -> None:
        """End the run; the next one in this process starts afresh."""
        with self._calm():
            self.experiment.finish(exit_code=int(failed))
        _end()
        error = _first_error(Path(self.experiment.dir).parent / "logs" / "debug-internal.log")
        if error and not self._problems:
            self._say(error, self.sync)

    @contextmanager
    def _calm(self, what: str = "", remedy: str = "") -> Iterator[None]:
        try:
            yield
        # A logger must not end a training, whatever it raises: all of it is on disk.
        except Exception as error:
            self._say(what + _line(error), remedy or self.sync)

    def _say(self, problem: str, remedy: str) -> None:
        if remedy not in self._problems:
            log.warning("W&B: %s; later: %s", problem, remedy)
        self._problems.add(remedy)

    def _note(self, **facts: str | None) -> None:
        text = json.dumps({**_read(self._record), **facts}, indent=1)
        write_whole(self._record, text + "\n")


def wandb_logger(
    run_dir: str | os.PathLike[str],
    requested: WandbMode = "auto",
    *,
    resume: bool = False,
    connect_timeout: float = CONNECT_S,
    init_timeout: float = 20.0,
) -> WandbRun | None:
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
        import wandb  # noqa: F401
    except ImportError:
        log.info("W&B: the package wandb is not installed; metrics go to %s only", run_dir)
        return None
    folder = Path(run_dir).absolute() / "wandb"
    _keep_inside(folder)  # before W&B reads its environment, which it does once
    identity = _identity(folder, resume)
    _start_afresh()
    logger, problem = None, "as asked"
    if mode not in ("offline", "dryrun"):
        problem = _why_offline(connect_timeout)
        if not problem:
            logger, problem = _begun(run_dir, identity, "online", init_timeout)
    if logger is not None:
        log.info("W&B: %s", logger.experiment.url)
        return logger
    logger, reason = _begun(run_dir, identity, "offline", init_timeout)
    if logger is None:
        log.warning("W&B: no run could be started (%s); metrics go to %s only", reason, run_dir)
        return None
    log.info("W&B: offline (%s); later: %s", problem, logger.sync)
    return logger


def _begun(
    run_dir: str | os.PathLike[str],
    identity: str,
    mode: Literal["online", "offline"],
    timeout: float,
) -> tuple[WandbRun | None, str]:
    """A logger whose run has begun, or None and the reason."""
    import wandb

    try:
        # The mode goes through the settings: the environment has been read by now, and Lightning's
        # own argument would set the variable for the rest of the process.
        settings = wandb.Settings(
            mode=mode,
            init_timeout=timeout,
            finish_timeout=FINISH_S,
            finish_timeout_raises=True,
            silent=True,
        )
        logger = WandbRun(run_dir, identity, settings)
        logger.begin()
    # A logger must not end a training: whatever W&B raises, the run goes on without it.
    except Exception as error:
        _start_afresh()
        return None, _line(error)
    return logger, ""


def _why_offline(timeout: float) -> str:
    """Why there can be no online run; empty if there can."""
    try:
        host = urlparse(_server()).hostname or ""
    except Exception as error:
        return _line(error)
    return _unreachable(timeout) if _has_key(host) else "no API key; `wandb login` stores one"


def _start_afresh() -> None:
    """Let W&B read the environment anew."""
    import wandb

    _end()
    with suppress(Exception):  # settings that it refuses; beginning a run will say which
        wandb.setup()


def _end() -> None:
    """Stop W&B's own process."""
    import wandb

    # Where that process has died, this raises, and a run that is none any more is left.
    with suppress(Exception, SystemExit):
        wandb.teardown()
    wandb.run = None
    os.environ.pop("WANDB_SERVICE", None)


def _server() -> str:
    import wandb

    return str(wandb.setup().settings.base_url)


def _unreachable(timeout: float) -> str:
    """Why the server, or the proxy before it, cannot be reached; empty if it can."""
    url = urlparse(_server())
    proxy = getproxies().get(url.scheme)
    if proxy and not proxy_bypass(url.hostname or ""):
        url = urlparse(proxy)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname or "", port), timeout).close()
    except OSError as error:
        return f"no connection to {url.hostname}: {error.strerror or error}"
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
    """The W&B id: a sweep's, the earlier one of the folder to continue it, else a new one."""
    asked = os.environ.get("WANDB_RUN_ID")
    earlier = _read(folder / RECORD).get("id") if resume else None
    return asked or earlier or uuid.uuid4().hex[:8]


def _read(record: Path) -> dict[str, Any]:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _line(error: Exception) -> str:
    """What an error says, in one line, without pydantic's own remarks."""
    text = " ".join(str(error).partition("[type=")[0].split())
    return text[:200] or type(error).__name__


def _first_error(path: Path) -> str:
    """What W&B's own log says of the first upload that failed; no call of ours raises it."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        with suppress(ValueError):
            entry = json.loads(line)
            if entry["level"] == "ERROR" and re.search("upload|filestream", entry["msg"]):
                return str(entry["msg"]).splitlines()[0]
    return ""
