"""What a release says of its training: read from the checkpoint and from the scores, not typed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from zoo import recipes
from zoo.errors import ZooError
from zoo.evaluation.collecting import collect
from zoo.evaluation.leaderboard import boards
from zoo.weights import read_checkpoint

N_METRICS = 4  # of each source, the protocol's first ones
_VERSIONS = ("zoo", "torch", "lightning", "python")


def of_checkpoint(path: Path, name: str) -> dict[str, Any]:
    """Seed, steps, validation, time, hardware, versions, data and W&B run of a checkpoint of fit.

    Args:
        path: of the checkpoint.
        name: of the release; its recipe is ``releases/<name>`` where there is one.
    """
    content = read_checkpoint(path)
    told: Mapping[str, Any] = content.get("zoo_run") or {}
    found: dict[str, Any] = {"steps": content.get("global_step"), "epoch": content.get("epoch")}
    recipe = yaml.safe_load(told.get("recipe") or "") or {}
    found["seed"] = recipe.get("seed_everything")
    try:
        recipes.find(f"releases/{name}")
        found["recipe"] = f"recipes/releases/{name}.yaml"
    except ZooError:
        pass
    best = [s["best"] for s in content.get("callbacks", {}).values() if "best" in s]
    if path.stem == "best" and best and best[0] is not None:
        found["validation"] = f"val/sdr {best[0]:.2f} dB, the best epoch"
    if seconds := told.get("seconds"):
        found["hours"] = round(float(seconds) / 3600, 2)
    found["hardware"], found["commit"] = told.get("hardware"), told.get("commit")
    found["data_fingerprint"], found["run"] = told.get("data"), _run(told.get("wandb"))
    found["versions"] = {key: told[key] for key in _VERSIONS if key in told}
    return {key: value for key, value in found.items() if value not in (None, "", {})}


def of_scores(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The figures of score files: protocol, how many tracks, ``<metric>_<source>`` in dB.

    Raises:
        ZooError: no such folder.
    """
    entries, _ = collect([Path(folder)])
    if not entries:
        return {}
    (board,) = boards(entries[:1], entries[0].dataset, entries[0].protocol)
    row = next(row for row in board.rows if row.name == entries[0].name)
    figures = {
        f"{metric}_{source}": round(cell.value, 2)
        for source, by_metric in row.cells.items()
        for metric, cell in list(by_metric.items())[:N_METRICS]
        if cell.value == cell.value  # no NaN
    }
    n = max(cell.n_tracks or 0 for cells in row.cells.values() for cell in cells.values())
    return {"protocol": board.protocol, "tracks": row.coverage or f"{n} tracks", **figures}


def _run(told: str | None) -> str | None:
    """The address of a W&B run, or that it was never synced."""
    if not told or re.match(r"https?://", told):
        return told
    return f"offline run {told.partition(',')[0]}, not synced"
