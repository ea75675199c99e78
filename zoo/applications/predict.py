"""Stems of a whole collection: what ``predict`` keeps on disk, over any number of processes."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.applications.places import TEMPLATE, Places
from zoo.applications.separate import STRANGE, Job, Result, arguments_of
from zoo.errors import AudioFileError
from zoo.release import sha256_of
from zoo.separator import Separator
from zoo.stems import sweep

log = logging.getLogger(__name__)

PATIENCE = timedelta(days=7)  # one process may have the longest song of all as its last


class KeepStems(Callback):
    """The stems of every song in a folder of its own, with the record of how they were made.

    A song whose stems are there, made from it by the same model with the same arguments, is left as
    it is; what another model has made is made anew; what the zoo has not made is not touched, which
    is an error. A process that is killed leaves whole songs. Each process makes its own songs;
    at the end all know what has become of all.

    Args:
        folder: of the songs' folders.

    Attributes:
        results: what became of each song, after the end.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.results: list[Result] = []
        self._group: Any = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the songs over from the model."""
        model = cast(Separator, pl_module)
        if trainer.ckpt_path:
            model.info = {"release": None, "sha256": sha256_of(Path(trainer.ckpt_path))}
        model.info = {**model.info, "arguments": model.arguments}
        options = {"precision": "bf16" if trainer.precision == "bf16-mixed" else "float32"}
        places = Places(self.folder, TEMPLATE, "wav")
        facts = arguments_of(model, model.sources, options)
        facts |= {"format": places.format, "template": TEMPLATE}
        self.results = []

        def take(batch: dict[str, Any]) -> bool:
            # Of the songs of others too: two of one name take the same places everywhere.
            place = places.place(batch["song"], model.sources)
            if batch["mine"]:
                self.results.append(_made(Job(batch["song"], place, model, options, facts)))
            return bool(batch["mine"])

        model.takes_song = take
        if dist.is_available() and dist.is_initialized():
            # On any device the news travel through the CPU, and nobody loses patience.
            self._group = dist.new_group(backend="gloo", timeout=PATIENCE)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather what has become of the songs, and say it."""
        cast(Separator, pl_module).takes_song = None
        if self._group is not None:
            shares: list[Any] = [None] * trainer.world_size
            dist.all_gather_object(shares, self.results, group=self._group)
            self.results = [result for share in shares for result in share]
        failed = sum(result.error is not None for result in self.results)
        kept = sum(result.kept for result in self.results)
        n = len(self.results)
        counts = [f"{n - failed} of {n} songs are in {self.folder}"]
        counts += [f"{kept} were there already"] if kept else []
        counts += [f"{failed} failed"] if failed else []
        if trainer.is_global_zero:
            log.info("%s", "; ".join(counts))


def _made(job: Job) -> Result:
    """What becomes of one song."""
    there = [path for path in job.place.stems.values() if os.path.lexists(path)]
    differences = job.differences() if there else []
    if STRANGE in differences:
        reason = f"{there[0]} is there already, {STRANGE}; name another folder with --run_dir."
        result = Result(job.path, error=AudioFileError(reason))
    else:
        job.overwrite = bool(differences)
        if differences:
            log.info("%s: made anew, was %s", job.path, differences[0])
        sweep(job.place.record.parent)
        result = job.outcome()
    if result.error is not None:
        log.error("error: %s", result.error)
    return result
