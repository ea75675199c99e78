"""The contract of every system in the zoo: a LightningModule that takes a mixture apart.

A system is one subclass in one file of ``zoo/models/``. It writes ``forward`` (mixture to
estimates) and, if it learns, ``loss``; training, validation, testing, and separating files of any
rate, channel count and length come from here.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar

import lightning
import numpy as np
import torch
from torch import Tensor

import zoo
from zoo.errors import DatasetError, RecipeError, ZooError, check_least
from zoo.metrics.protocols import score, summarise
from zoo.metrics.sdr import framewise_sdr
from zoo.stems import RECORD, as_recorded, record, to_text, together, versions
from zoo.streaming import (
    OVERLAP,
    FileSignal,
    Progress,
    Separation,
    Signal,
    TensorSignal,
    separate_tensor,
)

log = logging.getLogger(__name__)

SHORTEST_S = 0.001  # of a training example
PUBLISHING = "zoo.hub.publish"  # some floors above, and imported only when a model is published

State = dict[str, Tensor] | None  # what a survey found; every tensor has the batch first


class Separator(lightning.LightningModule):
    """Base of all systems.

    Args:
        sources: names of what ``forward`` returns, in its order.
        sample_rate: in Hz; None for a system that works at the file's own rate.
        channels: of mixture and estimates; None for any number.

    A subclass calls ``self.save_hyperparameters()``; its arguments are plain JSON values, since a
    release stores them as such.
    """

    architecture: ClassVar[str] = ""
    """Name in the catalog."""
    tiny: ClassVar[dict[str, Any]] = {}
    """Arguments of a variant that is small enough to test in a second."""
    trainable: ClassVar[bool] = True
    unused: tuple[str, ...] = ()
    """Patterns of parameters that published weights have and nothing reads."""
    survey_bytes: ClassVar[int] = 0
    """What a survey keeps of a song of any length, at most, beside a chunk."""
    tolerance: ClassVar[float] = 1e-5
    """How far the order of float32 sums may move an estimate, of full scale: chunked or batched."""

    def __init__(
        self, sources: Sequence[str], sample_rate: int | None, channels: int | None
    ) -> None:
        super().__init__()
        self.sources = tuple(sources)
        check_least(1, sample_rate=sample_rate, channels=channels)
        if len(set(self.sources)) < len(self.sources):
            raise RecipeError(f"sources {list(self.sources)}: a name stands there twice.")
        self.sample_rate = sample_rate
        self.channels = channels
        self.info: dict[str, Any] = {}  # what a release says of itself; see zoo.release
        self.scores: list[dict[str, Any]] = []  # of the last validation or test, one per track
        self.takes_song: Callable[[dict[str, Any]], Any] | None = None  # see `predict_step`

    # ----------------------------------------------------------------- what a system writes

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Estimates of all sources: ``(B, C, T)`` -> ``(B, J, C, T)``, for any T from 1.

        Args:
            mixture: at ``sample_rate``, full scale 1.
            state: what `survey` found in the whole song; without it the input counts as the song.
        """
        raise NotImplementedError

    def survey(self, chunks: Iterable[tuple[Tensor, slice]]) -> State:
        """What must be known of the whole song before any part of it can be separated.

        Args:
            chunks: the song in order: mixtures ``(B, C, n)`` and the part of each that counts.
        """
        raise NotImplementedError

    def loss(self, mixture: Tensor, references: Tensor, known: Tensor) -> dict[str, Tensor]:
        """What training minimises under ``"loss"``, with its parts under other names.

        Args:
            mixture: ``(B, C, T)``.
            references: ``(B, J, C, T)``, which sum to the mixture.
            known: ``(B, J)``, False where a reference is unknown and must not count.
        """
        raise NotImplementedError

    @property
    def segment(self) -> int:
        """Length of a training example, in samples."""
        raise NotImplementedError

    @property
    def scored(self) -> int:
        """Samples in the middle of a training example that the loss sees; all by default."""
        return self.segment

    @property
    def context(self) -> int | None:
        """Samples on each side beyond which an output sample depends on nothing, given the state.

        None: unbounded. Computed from the layers.
        """
        return None

    @property
    def grid(self) -> int:
        """Chunk borders lie on multiples of this many samples."""
        return 1

    @property
    def surveys(self) -> bool:
        """Whether `survey` has to see the song first."""
        return False

    def at(self, rate: int) -> Separator:
        """This system for signals of a rate, in Hz; one that has a rate of its own is as it is."""
        return self

    def for_song(self, signal: Signal) -> Separator:
        """This system for one song, which it may look at first: how many objects there are."""
        return self.at(signal.rate)

    def found(self, state: State) -> dict[str, Any]:
        """What the survey of a song tells people: ``locations``..., and ``notes`` on its doubts."""
        return {}

    def only(self, sources: Sequence[str]) -> tuple[Separator, str | None]:
        """This system computing no more than ``sources`` where it can, and what that changes."""
        return self, None

    # ----------------------------------------------------------------- separating

    def separate(
        self,
        audio: str | os.PathLike[str] | np.ndarray | Tensor,
        rate: int | None = None,
        *,
        sources: Sequence[str] | None = None,
        chunk: float | None = None,
        overlap: float = OVERLAP,
        shifts: int = 0,
        flip: bool = False,
        batch_size: int = 1,
        precision: str = "float32",
        high_band: str = "residual",
        consistent: bool = False,
        device: str = "auto",
        progress: Progress | None = None,
    ) -> Estimates:
        """The sources of a file or a signal.

        Args:
            audio: a path, or an array or tensor ``(channels, samples)`` or ``(samples,)``.
            rate: of an array or tensor, in Hz; the model's own by default.
            sources: which to give; beside the model's own, ``accompaniment`` is everything but the
                vocals, ``no_<source>`` everything but another, ``residual`` the mixture minus all
                of the model's own, asked for or not. All of the model's own by default.
            chunk: seconds of music computed at once; less needs less memory.
            overlap: share of a chunk that fades into the next, where the model needs it.
            shifts: further passes over a delayed mixture, averaged; slower, sometimes better.
            flip: average over left and right exchanged, too; twice as slow, often a little better.
            batch_size: chunks computed at once.
            precision: ``"float32"`` or ``"bf16"``.
            high_band: the source that takes what lies above the model's band, in a file of a
                higher rate. ``"residual"``: the model's accompaniment if it has one, else the
                residual; or, as none may be left with ``consistent``, its source ``other``, else
                its last.
            consistent: share the residual within the band among the model's sources, so that they
                sum to the mixture.
            device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``...
            progress: called with stage, samples done and samples in all (or None).

        Raises:
            AudioFileError: the file cannot be read.
            ShapeError: an array of the wrong shape.
            ZooError: an option that does not fit the model.
        """
        if isinstance(audio, (str, os.PathLike)):
            signal: FileSignal | TensorSignal = FileSignal(os.fspath(audio))
        else:
            rate = rate or self.sample_rate
            if rate is None:
                raise ZooError("an array without its rate; pass rate= in Hz.")
            signal = TensorSignal(audio, rate)
        with self._mode_kept():
            model = self.on(device).for_song(signal)
            separation = Separation(
                model, signal, sources, chunk, overlap, shifts, flip, batch_size, precision,
                high_band, consistent, progress,
            )  # fmt: skip
            input = to_text(signal.path.resolve()) if isinstance(signal, FileSignal) else None
            return self._gathered(separation, input)

    def _gathered(self, separation: Separation, input: str | None) -> Estimates:
        """All pieces of a separation; ``input`` is what a record says of the song."""
        mixtures, estimates = zip(*separation, strict=True)
        return Estimates(
            dict(zip(separation.names, torch.cat(estimates, dim=-1), strict=True)),
            torch.cat(mixtures, dim=-1),
            separation.signal.rate,
            {
                "input": input,
                "model": self.identity,
                "arguments": separation.arguments,
                "notes": separation.notes,
                **separation.found,
            },
        )

    @property
    def identity(self) -> dict[str, Any]:
        """What a release says of itself, or the arguments of an untrained system, as recorded."""
        own = {} if self.trainable else {"arguments": self.arguments}
        return as_recorded({"architecture": self.architecture, **own, **self.info})

    @property
    def arguments(self) -> dict[str, Any]:
        """What it was made with, as a record holds it; without the notes of LightningCLI."""
        return as_recorded({k: v for k, v in self.hparams.items() if not k.startswith("_")})

    @contextmanager
    def _mode_kept(self) -> Iterator[None]:
        """Modules in training mode are so again afterwards: a callback may separate in between."""
        training = [module for module in self.modules() if module.training]
        try:
            yield
        finally:
            for module in training:
                module.training = True

    def save_pretrained(self, folder: str | os.PathLike[str], **facts: Any) -> Any:
        """Write a release of this model to a folder; ``facts`` as `zoo.hub.publish.build`."""
        return import_module(PUBLISHING).build(self, folder, **facts)

    def push_to_hub(self, repo: str, **facts: Any) -> Any:
        """Build a release of this model and publish it as ``org/name``.

        Args:
            repo: on the Hugging Face Hub.
            facts: those of `zoo.hub.publish.build` and `zoo.hub.publish.publish`.
        """
        return import_module(PUBLISHING).push(self, repo, **facts)

    def on(self, device: str = "auto") -> Separator:
        """This system in eval mode on a device; ``auto`` takes an NVIDIA GPU where there is one."""
        return self.eval().to(check_device(device))

    # ----------------------------------------------------------------- training

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on references ``(B, J, C, T)``; the mixture is their exact sum."""
        references, known = batch["references"], batch["known"]
        losses = self.loss(references.sum(1), references, known)
        for name, value in losses.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name == "loss", on_epoch=True,
                     on_step=False, batch_size=len(references), sync_dist=True)  # fmt: skip
        return losses["loss"]

    def on_train_start(self) -> None:
        """Leave the evaluation mode that `separate` and loaded weights have; Lightning does not."""
        if not self.training:
            self.train()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Frame-wise SDR of one whole track, unless another process has it."""
        if self._is_mine(batch):
            self._keep_score(batch, self._framewise(batch))

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Scores of one whole track by the data set's protocol, unless another process has it."""
        if not self._is_mine(batch):
            return
        known = batch["known"][0].tolist()
        rate = self.sample_rate or int(batch["rate"])
        estimates = separate_tensor(self.at(rate), batch["mixture"])[0]
        figures = score(
            self.protocol,
            batch["references"][0].cpu(),
            estimates,
            batch["mixture"][0].cpu(),
            rate,
            [name if k else None for name, k in zip(self.sources, known, strict=True)],
        )
        self._keep_score(batch, {"rate": rate, **figures})

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
        """The sources of one whole song at its own rate; None for one of another process.

        A callback that keeps them elsewhere than in memory sets ``takes_song``, whose answer to the
        batch is then given.
        """
        if self.takes_song is not None:
            return self.takes_song(batch)
        if not batch["mine"]:
            return None
        signal = batch["song"].open()
        return self._gathered(Separation(self.for_song(signal), signal), batch["song"].input)

    def on_validation_epoch_start(self) -> None:  # noqa: D102
        self.scores = []

    def on_validation_epoch_end(self) -> None:
        """Log the mean over tracks of the median over frames, per source and over all."""
        self.scores = self._all_scores()
        means = {}
        for name in self.sources:
            values = [s[name] for s in self.scores if math.isfinite(s.get(name, math.nan))]
            if values:
                means[name] = sum(values) / len(values)
        for name, mean in means.items():
            self.log(f"val/sdr_{name}", mean, sync_dist=True)
        if means:
            mean = sum(means.values()) / len(means)
            self.log("val/sdr", mean, prog_bar=True, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say whose weights these are, for `zoo.weights.load_checkpoint`."""
        checkpoint["zoo"] = {"architecture": self.architecture, "version": zoo.__version__}

    def on_test_epoch_start(self) -> None:  # noqa: D102
        self.scores = []

    def on_test_epoch_end(self) -> None:
        """Log the protocol's figures over all tracks."""
        self.scores = self._all_scores()
        for name, value in summarise(self.protocol, self.scores).items():
            self.log(f"test/{name}", value, sync_dist=True)

    @property
    def protocol(self) -> str:
        """How the data at hand is scored; see `zoo.metrics.protocols`."""
        data = getattr(self.trainer, "datamodule", None)
        return getattr(data, "protocol", "sisec2018")

    def _framewise(self, batch: dict[str, Any]) -> dict[str, float]:
        """Median over one-second frames of each known source's SDR."""
        rate = self.sample_rate or int(batch["rate"])
        estimates = separate_tensor(self.at(rate), batch["mixture"])[0]
        frames = framewise_sdr(batch["references"][0].cpu(), estimates, frame=rate)
        known = batch["known"][0].tolist()
        return {
            name: float(frames[j].nanmedian())
            for j, name in enumerate(self.sources)
            if known[j] and bool(frames[j].isfinite().any())
        }

    def _is_mine(self, batch: dict[str, Any]) -> bool:
        """Whether this process scores a track; an error in its place is kept."""
        if "error" in batch:
            self.scores.append({"track": batch["name"], "error": batch["error"]})
        return bool(batch.get("mine", True))

    def _all_scores(self) -> list[dict[str, Any]]:
        """The scores of all processes in the data's order, each track once: the same everywhere.

        Raises:
            DatasetError: a process could not read a track.
        """
        scores = self.of_all_processes(self.scores)
        for faulty in (s for s in scores if "error" in s):
            raise DatasetError(faulty["error"])
        return list({s["track"]: s for s in scores}.values())

    def of_all_processes(self, rows: list[Any]) -> list[Any]:
        """What the processes of a run have kept of their tracks, in the data's order."""
        if self._trainer is None:
            return rows
        strategy, n_ranks = self._trainer.strategy, self._trainer.world_size
        shares = [strategy.broadcast(rows, src=rank) for rank in range(n_ranks)]
        return [row for turn in zip_longest(*shares) for row in turn if row is not None]

    def _keep_score(self, batch: dict[str, Any], scores: dict[str, Any]) -> None:
        self.scores.append({"track": batch["name"], **scores})


class Estimates(Mapping[str, Tensor]):
    """What `Separator.separate` returns: source name -> ``(channels, samples)`` at ``rate``."""

    def __init__(
        self, sources: dict[str, Tensor], mixture: Tensor, rate: int, info: dict[str, Any]
    ) -> None:
        self._sources, self._mixture = sources, mixture
        self.rate = rate
        """In Hz; that of the input."""
        self.info = info
        """Input, model, arguments, notes on what was converted, locations of objects."""

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._sources:
            raise KeyError(f"no {name!r} among the estimates: {', '.join(self._sources)}")
        return self._sources[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def __repr__(self) -> str:
        seconds = self._mixture.shape[1] / self.rate
        return f"Estimates({', '.join(self)}; {seconds:.1f} s at {self.rate} Hz)"

    @property
    def residual(self) -> Tensor:
        """The mixture minus the sum of these estimates, ``(channels, samples)``.

        An entry called ``residual`` is something else where not all of the model's sources were
        asked for: the mixture minus all of them.
        """
        return self._mixture - torch.stack(list(self._sources.values())).sum(0)

    def save(
        self, folder: str | os.PathLike[str], format: str = "wav", subtype: str | None = None
    ) -> list[Path]:
        """Write ``folder/<source>.<format>`` and ``separation.json`` beside them, all or nothing.

        Args:
            folder: made when missing; files of these names in it are replaced.
            format: extension of a format that `zoo.audio` writes.
            subtype: such as ``"PCM_24"``; by default the best that the format has, 32-bit float in
                wave files.

        Returns:
            The audio files.

        Raises:
            AudioFileError: a file cannot be written so, or there.
        """
        target, kind = Path(folder), format.lstrip(".")
        paths = [target / f"{name}.{kind}" for name in self._sources]
        with together() as bundle:
            for path, signal in zip(paths, self._sources.values(), strict=True):
                writer = bundle.audio(path, self.rate, signal.shape[0], subtype)
                writer.write(signal.numpy())
                subtype = writer.subtype
            names = [path.name for path in paths]
            text = record(self.info, names, format=kind, subtype=subtype)
            bundle.add(target / RECORD, lambda hidden: hidden.write_text(text, encoding="utf-8"))
        return paths


def masked_mean(per_source: Tensor, known: Tensor) -> Tensor:
    """Mean of a loss ``(B, J)`` over the sources that are known ``(B, J)``; zero if none is."""
    weight = known.to(per_source.dtype)
    return (per_source * weight).sum() / weight.sum().clamp(min=1)


def mean_losses(errors: Tensor, known: Tensor, sources: Sequence[str]) -> dict[str, Tensor]:
    """What `Separator.loss` gives of errors ``(B, J)``: their `masked_mean`, and each source's."""
    parts = {name: masked_mean(errors[:, j], known[:, j]) for j, name in enumerate(sources)}
    return {"loss": masked_mean(errors, known), **parts}


def check_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is an NVIDIA GPU where there is one.

    Raises:
        ZooError: this machine has none of that name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(1).to(name).device
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        if reason.startswith("Expected one of"):  # a list of forty words
            reason = "there is no such kind; take cpu, cuda, cuda:1, mps"
        raise ZooError(f"device {name!r} cannot be used: {reason}.") from error


__all__ = [
    "Estimates", "Separator", "State", "check_device", "masked_mean", "mean_losses", "versions",
]  # fmt: skip
