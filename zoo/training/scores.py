"""What ``test`` measured, as files in museval's form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

import zoo
from zoo.data.whole_test import n_test
from zoo.scores import TrackScores, is_ours
from zoo.separator import Separator, versions
from zoo.training.identity import called, identity


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
            told = {"track": scores["track"], "rate": scores["rate"], "samples": scores["samples"]}
            track = TrackScores.of(name, scores["figures"], facts | told)
            track.write(self.folder / f"{name}.json")
            written.add(f"{name}.json")
        for path in self.folder.glob("*.json"):
            if path.name not in written and is_ours(path):
                path.unlink()

    def _facts(self, trainer: Trainer, model: Separator) -> dict[str, Any]:
        """What a figure is worth nothing without."""
        checkpoint = Path(trainer.ckpt_path) if trainer.ckpt_path else None
        facts = {
            "protocol": model.protocol,
            "split": "test",
            "system": called(model, checkpoint),
            **identity(model, checkpoint),
            "seed": self.seed,
            "silence": "museval",
            "sdr_only": False,
            "evaluator": f"zoo {zoo.__version__}",
            "versions": versions(),
        }
        data = getattr(getattr(trainer, "datamodule", None), "dataset", None)
        if data is not None:
            facts["dataset"] = data.id
            facts["data"] = f"{data.id} {data.fingerprint(('test',))}"
            facts["n_test"] = n_test(data.id) or len(data.tracks("test"))
        return facts
