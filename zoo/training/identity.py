"""Which weights a model has, as files of scores tell it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import yaml

from zoo.errors import ZooError
from zoo.release import read_record, sha256_of
from zoo.separator import Separator


def identity(model: Separator, checkpoint: Path | None = None) -> dict[str, Any]:
    """Kind, release, sha256, model, arguments and training seed.

    Args:
        model: whatever its weights are of; the hash is that of their file, else of themselves.
        checkpoint: that was loaded over them.
    """
    release = None if checkpoint else model.info.get("release")
    source = checkpoint or (Path(model.info["source"]) if model.info.get("source") else None)
    arguments = {k: v for k, v in model.hparams.items() if not k.startswith("_")}
    return {
        "kind": "release" if release else "checkpoint" if source else "system",
        "release": release,
        "sha256": sha256_of(checkpoint) if checkpoint else model.info.get("sha256") or _hash(model),
        "model": model.architecture,
        "arguments": json.loads(json.dumps(arguments, default=str)),
        "training_seed": _training_seed(source) if source else None,
    }


def called(model: Separator, checkpoint: Path | None = None) -> str:
    """A release by its own name, ``runs/a/checkpoints/last.ckpt`` as ``a-last``."""
    source = checkpoint or model.info.get("source")
    if model.info.get("release") and not checkpoint:
        return str(model.info["release"])
    if not source:
        return model.architecture
    path = Path(source).resolve()
    folder = path.parents[1] if path.parent.name == "checkpoints" else path.parent
    return f"{folder.name}-{path.stem}"


def _training_seed(source: Path) -> int | None:
    """As a release's record or the recipe beside a checkpoint has it; None where neither does."""
    try:
        if source.is_dir():
            seed = read_record(source).provenance.get("seed")
        else:
            places = (source.parent / "config.yaml", source.absolute().parents[1] / "config.yaml")
            recipe = next(path for path in places if path.is_file())
            seed = yaml.safe_load(recipe.read_text("utf-8"))["seed_everything"]
    except (ZooError, OSError, StopIteration, ValueError, yaml.YAMLError, KeyError, TypeError):
        return None
    return seed if type(seed) is int else None


def _hash(model: Separator) -> str | None:
    """SHA-256 of a model's state; None where it has none."""
    digest = hashlib.sha256()
    for name, value in (state := model.state_dict()).items():
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest() if state else None
