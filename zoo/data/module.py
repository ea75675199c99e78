"""Data for training, validation and testing, cut and converted as the model needs it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler
from torch.utils.data import Dataset as TorchDataset

from zoo.audio import resample
from zoo.data import open_dataset
from zoo.data.cache import Progress, decoded
from zoo.data.track import Split, Track
from zoo.errors import DatasetError, RecipeError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Format:
    """What a model wants to be fed with."""

    sources: tuple[str, ...]
    rate: int | None
    channels: int | None

    def read(
        self, track: Track, source: str, start: int, samples: int | None, speed: float = 1.0
    ) -> np.ndarray:
        """A stretch of a track in this format, ``(channels, samples)``; positions at its rate."""
        signal = track.read(source, start, samples)
        rate = self.rate or track.rate
        if speed != 1 or rate != track.rate:
            signal = resample(signal, round(track.rate * speed), rate)
        if self.channels == 1 and len(signal) > 1:
            mono: np.ndarray = signal.mean(0, keepdims=True)
            return mono
        if self.channels and self.channels != len(signal):
            if len(signal) > 1:
                raise DatasetError(
                    f"track {track.name!r} has {len(signal)} channels, the model {self.channels}; "
                    "set the model's channels to the data's."
                )
            return np.repeat(signal, self.channels, axis=0)
        return signal


class Segments(TorchDataset[dict[str, Tensor]]):
    """Training examples: example ``(epoch, index)`` is a pure function of these and the seed.

    Args:
        tracks: songs to cut from.
        format: what the model wants.
        segment: length in samples at the model's rate.
        seed: of the whole run.
        remix: probability that the sources come from different songs (Uhlich et al. 2017).
        gain: range of a source's factor, drawn uniformly.
        swap_channels: probability that a source's left and right are exchanged.
        speed: range of the factor by which a source plays faster, drawn uniformly in its logarithm:
            pitch, formants and tempo move together.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        format: Format,
        segment: int,
        seed: int,
        remix: float,
        gain: tuple[float, float],
        swap_channels: float,
        speed: tuple[float, float],
    ) -> None:
        self.format, self.segment, self.seed = format, segment, seed
        self.remix, self.gain, self.swap_channels, self.speed = remix, gain, swap_channels, speed
        self.having = {s: [t for t in tracks if t.knows(s)] for s in format.sources}
        self.some = [t for t in tracks if any(t.knows(s) for s in format.sources)]
        for source, having in self.having.items():
            if not having:
                raise DatasetError(
                    f"no training track has the source {source!r}; sources there are: "
                    f"{', '.join(sorted({s for t in tracks for s in t.sources}))}. "
                    "Set the model's sources to the data's."
                )

    def __getitem__(self, position: tuple[int, int]) -> dict[str, Tensor]:
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, *position]))
        remixed = rng.random() < self.remix
        song = self.some[rng.integers(len(self.some))]
        where, speed = rng.random(), self._drawn_speed(rng)
        cuts: list[np.ndarray] = []
        known: list[bool] = []
        for source in self.format.sources:
            if remixed:
                song = self.having[source][rng.integers(len(self.having[source]))]
                where, speed = rng.random(), self._drawn_speed(rng)
            known.append(song.knows(source))
            cuts.append(self._cut(song, source if known[-1] else "mixture", where, speed))
        if not all(known):
            self._leave_the_rest(cuts, known)
        references = np.stack([self._augmented(cut, rng) for cut in cuts])
        return {"references": torch.from_numpy(references), "known": torch.tensor(known)}

    def _leave_the_rest(self, cuts: list[np.ndarray], known: list[bool]) -> None:
        """Put what the known sources leave in place of the first unknown, and silence elsewhere.

        It has no loss, but it sounds in the mixture.
        """
        sounds = sum(cut for cut, k in zip(cuts, known, strict=True) if k)
        first, *others = [j for j, k in enumerate(known) if not k]
        cuts[first] = cuts[first] - sounds
        for j in others:
            cuts[j] = np.zeros_like(cuts[j])

    def _drawn_speed(self, rng: np.random.Generator) -> float:
        slow, fast = self.speed
        return float(slow * (fast / slow) ** rng.random())

    def _cut(self, track: Track, source: str, where: float, speed: float) -> np.ndarray:
        """A segment that begins at the share ``where`` of the starts that a track allows.

        A track shorter than a segment is padded with zeros, the share ``where`` of them before it.
        """
        rate = self.format.rate or track.rate
        # As `Format.read` rounds the rate: else a sample may be missing in the end.
        length = math.ceil(self.segment * round(track.rate * speed) / rate)
        start = int(where * max(0, track.samples - length + 1))
        signal = self.format.read(track, source, start, length, speed)[:, : self.segment]
        missing = self.segment - signal.shape[1]
        before = int(where * (missing + 1)) if missing > 0 else 0
        return np.pad(signal, ((0, 0), (before, max(0, missing - before))))

    def _augmented(self, signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        gain = np.float32(rng.uniform(*self.gain))
        swapped = rng.random() < self.swap_channels
        if swapped and len(signal) == 2:
            signal = signal[::-1]
        return signal * gain


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """The positions ``(epoch, index)`` of one epoch, dealt out to the processes of a run.

    All get equally many, so that none waits for another; a rest is left out. It calls itself a
    distributed sampler so that Lightning does not deal out the examples once more.
    """

    def __init__(self, n_examples: int, rank: int = 0, n_ranks: int = 1) -> None:
        # Not the parent's, which would look at the data set and the process group.
        self.n_each = n_examples // n_ranks
        self.rank, self.n_ranks = rank, n_ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, also after a resume."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        yield from ((self.epoch, self.rank + i * self.n_ranks) for i in range(self.n_each))

    def __len__(self) -> int:
        return self.n_each


class EveryTrack(DistributedSampler[int]):
    """All tracks, for each process of a run: every one of them knows every score.

    It calls itself a distributed sampler so that Lightning does not deal out the tracks.
    """

    def __init__(self, n_tracks: int) -> None:
        # Not the parent's, which would look at the data set and the process group.
        self.n_tracks = n_tracks
        self.num_replicas = 1  # Lightning asks

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n_tracks))

    def __len__(self) -> int:
        return self.n_tracks


class WholeTracks(TorchDataset[dict[str, Any]]):
    """Tracks for validation and testing, at most ``seconds`` of each, from its middle."""

    def __init__(self, tracks: Sequence[Track], format: Format, seconds: float | None) -> None:
        self.tracks, self.format, self.seconds = list(tracks), format, seconds

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, index: int) -> dict[str, Any]:
        track = self.tracks[index]
        start, samples = 0, track.samples
        if self.seconds is not None:
            samples = min(samples, round(self.seconds * track.rate))
            start = (track.samples - samples) // 2
        known = [track.knows(source) for source in self.format.sources]
        mixture = self.format.read(track, "mixture", start, samples)
        references = [
            self.format.read(track, source, start, samples) if k else np.zeros_like(mixture)
            for source, k in zip(self.format.sources, known, strict=True)
        ]
        return {
            "name": track.name,
            "rate": self.format.rate or track.rate,
            "mixture": torch.from_numpy(mixture)[None],
            "references": torch.from_numpy(np.stack(references))[None],
            "known": torch.tensor(known)[None],
        }


class SeparationData(lightning.LightningDataModule):
    """Any data set as training segments, validation and test tracks, in the model's own format.

    Rate, channels, sources and segment are the model's: they are read from it, never written twice.

    Args:
        dataset: id of the data set, such as ``mir1k``, ``folder`` or ``generated``.
        root: its folder; else ``$ZOO_DATA/<id>``, else ``data/<id>``.
        arguments: further arguments of the data set, such as its split.
        batch_size: training examples per step and process.
        examples_per_epoch: training examples between two validations.
        n_workers: processes that load; 0 loads in the training process.
        seed: of all that is random in the training data.
        remix: probability that an example's sources come from different songs.
        gain: range of the factor of each source.
        swap_channels: probability of exchanged channels, per source.
        speed: range of the factor by which a source plays faster, and higher.
        valid_seconds: at most this much of a validation track, from its middle; None: all of it.
        cache: folder for the compressed stems of training, decoded; see `zoo.data.cache`.

    Attributes:
        progress: called with (files decoded, files to decode) while the cache is filled.

    Raises:
        RecipeError: a number out of its range.
        DatasetError: no such data set, or not where it was looked for.
    """

    def __init__(
        self,
        dataset: str,
        root: str | None = None,
        arguments: dict[str, Any] | None = None,
        batch_size: int = 8,
        examples_per_epoch: int = 6400,
        n_workers: int = 0,
        seed: int = 0,
        remix: float = 1.0,
        gain: tuple[float, float] = (0.25, 1.25),
        swap_channels: float = 0.5,
        speed: tuple[float, float] = (1.0, 1.0),
        valid_seconds: float | None = 60.0,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        _check("batch_size", batch_size, batch_size >= 1, "at least 1")
        _check("examples_per_epoch", examples_per_epoch, examples_per_epoch >= 1, "at least 1")
        _check("n_workers", n_workers, n_workers >= 0, "0 or more")
        _check("seed", seed, seed >= 0, "0 or more")
        _check("remix", remix, 0 <= remix <= 1, "a probability, from 0 to 1")
        _check("swap_channels", swap_channels, 0 <= swap_channels <= 1, "a probability, 0 to 1")
        _check("gain", gain, -math.inf < gain[0] <= gain[1] < math.inf, "[lowest, highest]")
        _check("speed", speed, 0.1 <= speed[0] <= speed[1] <= 10, "[slowest, fastest], 0.1 to 10")
        if valid_seconds is not None:
            _check("valid_seconds", valid_seconds, valid_seconds > 0, "above 0, or null for all")
        self.dataset = open_dataset(dataset, root, **(arguments or {}))
        self.batch_size, self.examples_per_epoch = batch_size, examples_per_epoch
        self.n_workers, self.seed = n_workers, seed
        self.augmentation: dict[str, Any] = {
            "remix": remix, "gain": gain, "swap_channels": swap_channels, "speed": speed,
        }  # fmt: skip
        self.valid_seconds = valid_seconds
        self.cache = cache
        self.progress: Progress | None = None
        self.protocol = self.dataset.protocol
        self._format: Format | None = None
        self._segment = 0

    def obey(self, model: Any) -> SeparationData:
        """Take format and segment from a model, as `setup` does from the trainer's."""
        self._format = Format(tuple(model.sources), model.sample_rate, model.channels)
        self._segment = model.segment if model.trainable else 0
        return self

    def setup(self, stage: str) -> None:  # noqa: D102
        assert self.trainer is not None
        self.obey(self.trainer.lightning_module)

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:  # noqa: D102
        trainer = self.trainer
        rank, n_ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        sampler = EpochSampler(self.examples_per_epoch, rank, n_ranks)
        if len(sampler) < self.batch_size:
            where = f" in each of {n_ranks} processes" if n_ranks > 1 else ""
            raise DatasetError(
                f"examples_per_epoch is {self.examples_per_epoch}, which is not one batch: "
                f"batch_size is {self.batch_size}{where}. Give more examples, or smaller batches."
            )
        return self._train_loader(sampler)

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:  # noqa: D102
        tracks = self.dataset.tracks("valid")
        if not tracks:
            log.warning(
                "data set %s has no validation tracks: no SDR, and the best checkpoint is the last",
                self.dataset.id,
            )
            return []
        return self._whole(tracks, self.valid_seconds)

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:  # noqa: D102
        return self._whole(self._tracks("test"), None)

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:  # noqa: D102
        return self.test_dataloader()

    def statistics_batches(self, n_batches: int) -> Iterator[dict[str, Tensor]]:
        """Batches for normalisation and initialisation: the first examples of epoch 0.

        Training sees the same examples again.  Every process of a run gets them all, so that all
        find the same.
        """
        yield from self._train_loader(EpochSampler(n_batches * self.batch_size))

    def _tracks(self, split: Split) -> list[Track]:
        tracks = self.dataset.tracks(split)
        if not tracks:
            raise DatasetError(
                f"data set {self.dataset.id} has no {split} tracks; look at its split."
            )
        return tracks

    def _train_loader(self, sampler: EpochSampler) -> DataLoader[dict[str, Tensor]]:
        tracks = self._tracks("train")
        if self.cache is not None:
            tracks = decoded(tracks, self.cache, self.progress)
        assert self._format is not None, "call obey(model) first"
        segments = Segments(tracks, self._format, self._segment, self.seed, **self.augmentation)
        return DataLoader(
            segments,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.n_workers,
            drop_last=True,
            persistent_workers=self.n_workers > 0,
        )

    def _whole(self, tracks: Sequence[Track], seconds: float | None) -> DataLoader[dict[str, Any]]:
        assert self._format is not None, "call obey(model) first"
        items = WholeTracks(tracks, self._format, seconds)
        return DataLoader(
            items, batch_size=None, sampler=EveryTrack(len(tracks)), num_workers=self.n_workers
        )


def _check(name: str, value: object, holds: bool, wanted: str) -> None:
    if not holds:  # also where it is no number
        shown = list(value) if isinstance(value, tuple) else value
        raise RecipeError(f"{name} is {shown}; it must be {wanted}.")
