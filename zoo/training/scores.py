"""What ``test`` measured, as files in museval's form."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

import zoo
from zoo.metrics.protocols import Figures
from zoo.release import sha256_of
from zoo.scores import TrackScores, is_ours
from zoo.separator import Separator, versions


class KeepScores(Callback):
    """Writes what ``test`` measured, one file per track in museval's form, frame by frame.

    Files of an earlier test in the same folder go, so that all that is left belongs together.

    Args:
        folder: of the files.
        seed: of the run, to be noted in them.
    """

    def __init__(self, folder: str | os.PathLike[str], seed: int | None = None) -> None:
        self.folder, self.seed = Path(folder), seed

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the scores of all tracks."""
        model = cast(Separator, pl_module)
        if not trainer.is_global_zero:
            return
        facts = self._facts(trainer, model)
        written = set()
        for scores in model.scores:
            name = str(scores["track"]).replace(os.sep, "_")
            found: Figures = scores["figures"]
            told = {"rcond": found.rcond, "sources_scored_together": found.together}
            track = TrackScores(name, found.targets, found.times, found.duration, facts | told)
            track.write(self.folder / f"{name}.json")
            written.add(f"{name}.json")
        for path in self.folder.glob("*.json"):
            if path.name not in written and is_ours(path):
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
            facts["dataset"] = data.id
            facts["data"] = f"{data.id} {data.fingerprint(('test',))}"
        return facts
