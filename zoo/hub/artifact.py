"""A release as an artifact of Weights & Biases, of the type model."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from zoo.errors import ReleaseError
from zoo.release import Release
from zoo.training.loggers import RECORD, wandb_logger


def log_release(release: Release, tag: str) -> str:
    """Upload a release's folder in a run of its own; the artifact's whole name.

    Args:
        release: in its folder.
        tag: an alias of the artifact, beside ``latest``.

    Raises:
        ReleaseError: W&B is not to be reached, or has not taken all of it.
    """
    assert release.folder is not None
    if os.environ.get("WANDB_LOG_MODEL", "").lower() == "false":
        raise ReleaseError("WANDB_LOG_MODEL is false, so W&B is given no weights; unset it.")
    with tempfile.TemporaryDirectory(prefix="zoo-wandb-") as draft:
        folder = Path(draft) / release.name
        logger = wandb_logger(folder, "online")
        if logger is None or logger.experiment.offline:
            if logger is not None:
                logger.finish()
            raise ReleaseError(
                f"{release.name}: W&B is not to be reached; nothing was sent there. `wandb login` "
                "stores a key; the same command goes on."
            )
        told = {"architecture": release.architecture, "trained_on": release.trained_on}
        scores = release.provenance.get("scores", {})
        logger.log_model(release.folder, [tag], {**told, "licence": release.licence, **scores})
        logger.finish()
        name: str | None = json.loads((folder / "wandb" / RECORD).read_text())["artifact"]
    if name is None:
        raise ReleaseError(
            f"{release.name}: W&B has not taken all of it; {release.folder} is complete, and the "
            "same command sends it again."
        )
    return name
