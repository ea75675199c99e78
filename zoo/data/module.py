"""Data for training, validation and testing, cut and converted as the model needs it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler
from torch.utils.data import Dataset as TorchDataset

from zoo.audio import resample
from zoo.data import open_dataset
from zoo.data.augmentation import Augmentation, Dice, Move
from zoo.data.cache import Progress, decoded
from zoo.data.songs import Input, find_audio
from zoo.data.track import Dataset, FileTrack, Split, Track
from zoo.dsp.effects import sounds, voiced_stretches
from zoo.errors import DatasetError, RecipeError

log = logging.getLogger(__name__)

FORWARD_ONLY = frozenset({".mp3", ".ogg", ".oga", ".opus", ".aac", ".wma"})
N_TRIES = 10  # places where a silent source is looked for again


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

    A source comes from tracks that know it.  Only whole songs, which know their mixture, are
    drawn coherently; a track of one sound of one source, as pools have, serves remixing alone.

    Args:
        tracks: what to cut from.
        format: what the model wants.
        segment: length in samples at the model's rate.
        seed: of the whole run.
        augment: what happens to the sources.
        weights: of a source, or ``mixture``: how often each track is drawn beside the others; None:
            all alike.

    Raises:
        DatasetError: no track has one of the sources, or none is a whole song and not all is
            remixed.
        RecipeError: the augmentation names a source that there is not.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        format: Format,
        segment: int,
        seed: int,
        augment: Augmentation,
        weights: Callable[[str], Sequence[float]] | None = None,
    ) -> None:
        self.format, self.segment, self.seed, self.augment = format, segment, seed, augment
        augment.check_sources(format.sources)

        def knowing(source: str) -> Iterator[tuple[Track, float]]:
            drawn = weights(source) if weights else [1.0] * len(tracks)
            return ((t, w) for t, w in zip(tracks, drawn, strict=True) if t.knows(source))

        self.having = {s: Urn(knowing(s)) for s in format.sources}
        self.songs = Urn(
            (t, w) for t, w in knowing("mixture") if any(t.knows(s) for s in format.sources)
        )
        for source, having in self.having.items():
            if not having:
                raise DatasetError(
                    f"no training track has the source {source!r}; sources there are: "
                    f"{', '.join(sorted({s for t in tracks for s in t.sources}))}. "
                    "Set the model's sources to the data's."
                )
        if augment.remix < 1 and not self.songs:
            raise DatasetError(
                f"augment.remix is {augment.remix}, but no training track is a whole song; "
                "set remix to 1, or add songs."
            )
        self._voiced: dict[int, NDArray[np.int64]] = {}  # by identity: tracks stay

    def __getitem__(self, position: tuple[int, int]) -> dict[str, Tensor]:
        dice, sources = Dice(self.seed, *position), self.format.sources
        is_remixed = bool(dice("remix").random() < self.augment.remix)
        moves = self.augment.moves(sources, dice, is_remixed)
        cut = self._remixed if is_remixed else self._coherent
        cuts, known = cut(dice, moves)
        rate = self.format.rate or self.having[sources[0]].items[0].rate
        cuts = [m.applied(c, rate, self.segment) for m, c in zip(moves, cuts, strict=True)]
        references = np.stack(self.augment.apply(cuts, sources, rate, dice))
        return {"references": torch.from_numpy(references), "known": torch.tensor(known)}

    def _remixed(self, dice: Dice, moves: Sequence[Move]) -> tuple[list[np.ndarray], list[bool]]:
        """Every source from a song and a place of its own."""
        n = len(self.format.sources)
        songs, starts, again = dice("song").random(n), dice("start").random(n), self._again(dice)
        cuts = []
        for j, source in enumerate(self.format.sources):
            having, move = self.having[source], moves[j]
            track, where = having.draw(songs[j]), float(starts[j])
            if source == "vocals":
                track, where = self._where_voiced(having, track, where, move, dice)
            cuts.append(self._sounding(track, source, where, move, again[j])[0])
        return cuts, [True] * n

    def _coherent(self, dice: Dice, moves: Sequence[Move]) -> tuple[list[np.ndarray], list[bool]]:
        """All sources from one place of one song; which of them it knows."""
        track, where = self.songs.draw(dice("song").random()), float(dice("start").random())
        track, where = self._where_voiced(self.songs, track, where, moves[0], dice)
        known = [track.knows(source) for source in self.format.sources]
        cuts: dict[str, np.ndarray] = {}
        again = self._again(dice)
        asked = [j for j, k in enumerate(known) if k and again[j]]
        if asked:  # one of them: all at once may never sound
            j = int(dice("leading").choice(asked))
            lead = self.format.sources[j]
            cuts[lead], where = self._sounding(track, lead, where, moves[j], again[j])
        for source, k, move in zip(self.format.sources, known, moves, strict=True):
            if source not in cuts:
                cuts[source] = self._cut(track, source if k else "mixture", where, move)
        result = [cuts[source] for source in self.format.sources]
        if not all(known):
            self._leave_the_rest(result, known)
        return result, known

    def _again(self, dice: Dice) -> list[list[float]]:
        """For each source, where to cut if it is silent where it was cut; mostly nowhere."""
        asked = self.augment.chances("sounding", self.format.sources, dice)
        if not any(asked):
            return [[] for _ in asked]
        starts = dice("start again").random((len(asked), N_TRIES))
        return [row if a else [] for a, row in zip(asked, starts.tolist(), strict=True)]

    def _sounding(
        self, track: Track, source: str, where: float, move: Move, again: Sequence[float]
    ) -> tuple[np.ndarray, float]:
        """A cut, and where it was made: at ``where``, or at the first other place that sounds."""
        cut = self._cut(track, source, where, move)
        for place in again:
            if sounds(cut):
                break
            cut, where = self._cut(track, source, place, move), place
        return cut, where

    def _where_voiced(
        self, urn: Urn, track: Track, where: float, move: Move, dice: Dice
    ) -> tuple[Track, float]:
        """Song and place, inside a voiced stretch if it is that one's turn (Lluis et al. 2019).

        A stretch that is too short for a segment makes another song be drawn, and the turn too.
        """
        if not self.augment.voiced:
            return track, where
        rng = dice("voiced")
        for _ in range(100):
            if rng.random() >= self.augment.voiced or not track.knows("vocals"):
                break
            stretches = self._stretches(track)
            if not len(stretches):
                break
            first, end = stretches[rng.integers(len(stretches))]
            length = self._length(track, move)
            if end - first >= length:
                start = int(rng.integers(first, end - length + 1))
                return track, (start + 0.5) / (track.samples - length + 1)
            track = urn.draw(rng.random())
        return track, where

    def _stretches(self, track: Track) -> NDArray[np.int64]:
        """Where the vocals of a track are, found once in each process."""
        if id(track) not in self._voiced:
            self._voiced[id(track)] = voiced_stretches(track.read("vocals"), track.rate)
        return self._voiced[id(track)]

    def _leave_the_rest(self, cuts: list[np.ndarray], known: list[bool]) -> None:
        """Put what the known sources leave in place of the first unknown, and silence elsewhere.

        It has no loss, but it sounds in the mixture.
        """
        heard = sum(cut for cut, k in zip(cuts, known, strict=True) if k)
        first, *others = [j for j, k in enumerate(known) if not k]
        cuts[first] = cuts[first] - heard
        for j in others:
            cuts[j] = np.zeros_like(cuts[j])

    def _length(self, track: Track, move: Move) -> int:
        """Samples of a track that a segment is made of."""
        rate = self.format.rate or track.rate
        # As `Format.read` rounds the rate: else a sample may be missing in the end.
        return math.ceil(move.samples_before(self.segment) * round(track.rate * move.speed) / rate)

    def _cut(self, track: Track, source: str, where: float, move: Move) -> np.ndarray:
        """A segment that begins at the share ``where`` of the starts that a track allows.

        A track shorter than a segment is padded with zeros, the share ``where`` of them before it.
        It is as long as the move needs that is yet to be applied.
        """
        length, wanted = self._length(track, move), move.samples_before(self.segment)
        start = int(where * max(0, track.samples - length + 1))
        signal = self.format.read(track, source, start, length, move.speed)[:, :wanted]
        missing = wanted - signal.shape[1]
        before = int(where * (missing + 1)) if missing > 0 else 0
        return np.pad(signal, ((0, 0), (before, max(0, missing - before))))


class Urn:
    """Tracks to draw from, each as often as its weight says; those of no weight never."""

    def __init__(self, weighted: Iterable[tuple[Track, float]]) -> None:
        kept = [(track, weight) for track, weight in weighted if weight > 0]
        self.items = [track for track, _ in kept]
        total = np.cumsum([weight for _, weight in kept])
        self._upto = total / total[-1] if kept else total

    def __len__(self) -> int:
        return len(self.items)

    def draw(self, u: float) -> Track:
        """The track at the share ``u``, in [0, 1), of all weight."""
        return self.items[int(np.searchsorted(self._upto, u, side="right"))]


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
    """All tracks, for each process of a run: equally many steps, whose items tell whose turn it is.

    So no process waits for a step that another does not take, and a limit on the steps leaves the
    same tracks for any number of processes.  It calls itself a distributed sampler so that
    Lightning does not deal out the tracks.
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
    """Tracks for validation and testing, at most ``seconds`` of each, from its middle.

    Dealt out to the processes of a run, none twice: ``mine`` says so, and of those of the others
    there is only the name.  So it is for a faulty one: the others would wait in vain for a process
    that stops, so ``error`` is for all of them to raise at the end.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        format: Format,
        seconds: float | None,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        self.tracks, self.format, self.seconds = list(tracks), format, seconds
        self.rank, self.n_ranks = rank, n_ranks

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, index: int) -> dict[str, Any]:
        track = self.tracks[index]
        if index % self.n_ranks != self.rank:
            return {"name": track.name, "mine": False}
        try:
            return self._read(track)
        except DatasetError as error:
            if self.n_ranks == 1:
                raise
            return {"name": track.name, "mine": False, "error": str(error)}

    def _read(self, track: Track) -> dict[str, Any]:
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
            "mine": True,
            "rate": self.format.rate or track.rate,
            "mixture": torch.from_numpy(mixture)[None],
            "references": torch.from_numpy(np.stack(references))[None],
            "known": torch.tensor(known)[None],
        }


class Songs(TorchDataset[dict[str, Any]]):
    """Songs for `predict`, unopened, dealt out to the processes of a run as `WholeTracks` are."""

    def __init__(self, songs: Sequence[Input], rank: int, n_ranks: int) -> None:
        self.songs, self.rank, self.n_ranks = list(songs), rank, n_ranks

    def __len__(self) -> int:
        return len(self.songs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        song = self.songs[index]
        mine = index % self.n_ranks == self.rank
        return {"name": str(song.below), "mine": mine, "song": song}


class SeparationData(lightning.LightningDataModule):
    """Any data set as training segments, validation and test tracks, in the model's own format.

    Rate, channels, sources and segment are the model's: they are read from it, never written twice.

    Args:
        dataset: id of the data set, such as ``mir1k``, ``folder`` or ``generated``; None: only
            ``files`` are at hand.
        root: its folder; else ``$ZOO_DATA/<id>``, else ``data/<id>``.
        arguments: further arguments of the data set, such as its split.
        batch_size: training examples per step and process.
        examples_per_epoch: training examples between two validations.
        n_workers: processes that load; 0 loads in the training process.
        seed: of all that is random in the training data.
        augment: what happens to the sources of a training example.
        valid_seconds: at most this much of a validation track, from its middle; None: all of it.
        files: audio files, folders and patterns that `predict` separates in place of the data set,
            which need not be there.
        cache: folder for the compressed stems of training, decoded; see `zoo.data.cache`.

    Attributes:
        progress: called with (files decoded, files to decode) while the cache is filled.

    Raises:
        AudioFileError: one of ``files`` is not there.
        RecipeError: a number out of its range.
        DatasetError: no such data set, or not where it was looked for.
    """

    def __init__(
        self,
        dataset: str | None = None,
        root: str | None = None,
        arguments: dict[str, Any] | None = None,
        batch_size: int = 8,
        examples_per_epoch: int = 6400,
        n_workers: int = 0,
        seed: int = 0,
        augment: Augmentation = Augmentation(),  # noqa: B008  (frozen)
        valid_seconds: float | None = 60.0,
        files: list[str] | str | None = None,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        _check("batch_size", batch_size, batch_size >= 1, "at least 1")
        _check("examples_per_epoch", examples_per_epoch, examples_per_epoch >= 1, "at least 1")
        _check("n_workers", n_workers, n_workers >= 0, "0 or more")
        _check("seed", seed, seed >= 0, "0 or more")
        if valid_seconds is not None:
            _check("valid_seconds", valid_seconds, valid_seconds > 0, "above 0, or null for all")
        self._songs: list[Input] = []
        self.dataset: Dataset | None = None
        if files:
            found = find_audio([files] if isinstance(files, str) else files)
            self._songs = [Input.of_file(path, below) for path, below in found]
        elif dataset is None:
            raise RecipeError(
                "no data.dataset\n"
                "hint: add -c data/generated (needs no download) or --data.dataset ID"
            )
        else:
            self.dataset = open_dataset(dataset, root, **(arguments or {}))
        self.batch_size, self.examples_per_epoch = batch_size, examples_per_epoch
        self.n_workers, self.seed = n_workers, seed
        self.augment = augment
        self.valid_seconds = valid_seconds
        self.cache, self._has_advised = cache, False
        self.progress: Progress | None = None
        self.protocol = self.dataset.protocol if self.dataset else Dataset.protocol
        self._format: Format | None = None
        self._segment = 0

    def obey(self, model: Any) -> SeparationData:
        """Take format and segment from a model, as `setup` does from the trainer's."""
        self._format = Format(tuple(model.sources), model.sample_rate, model.channels)
        self._segment = model.segment if model.trainable else 0
        return self

    def setup(self, stage: str) -> None:  # noqa: D102
        assert self.trainer is not None
        if self.dataset is None and stage != "predict":
            raise RecipeError(
                "data.files are for predict: they have no stems to learn from or to compare with.\n"
                "hint: leave them out, and name a data set"
            )
        self.obey(self.trainer.lightning_module)

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:  # noqa: D102
        rank, n_ranks = self._rank()
        sampler = EpochSampler(self.examples_per_epoch, rank, n_ranks)
        if len(sampler) < self.batch_size:
            where = f" in each of {n_ranks} processes" if n_ranks > 1 else ""
            raise DatasetError(
                f"examples_per_epoch is {self.examples_per_epoch}, which is not one batch: "
                f"batch_size is {self.batch_size}{where}. Give more examples, or smaller batches."
            )
        return self._train_loader(sampler)

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:  # noqa: D102
        assert self.dataset is not None
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
        songs = self._songs
        if self.dataset is not None:
            songs = [Input.of_track(track, self.dataset.id) for track in self._tracks("test")]
        items = Songs(songs, *self._rank())
        return DataLoader(items, batch_size=None, sampler=EveryTrack(len(songs)))

    def statistics_batches(self, n_batches: int) -> Iterator[dict[str, Tensor]]:
        """Batches for normalisation and initialisation: the first examples of epoch 0.

        Training sees the same examples again.  Every process of a run gets them all, so that all
        find the same.
        """
        yield from self._train_loader(EpochSampler(n_batches * self.batch_size))

    def _rank(self) -> tuple[int, int]:
        """Number of this process among those of the run, and how many they are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _tracks(self, split: Split) -> list[Track]:
        assert self.dataset is not None
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
        elif not self._has_advised and (n := sum(map(_n_forward, tracks))):
            log.info(
                "%d stems are compressed, and decoded from their beginning for every example; "
                "--data.cache DIR decodes them once", n,
            )  # fmt: skip
            self._has_advised = True
        assert self._format is not None and self.dataset is not None, "call obey(model) first"
        segments = Segments(
            tracks, self._format, self._segment, self.seed, self.augment,
            partial(self.dataset.weights, "train"),
        )  # fmt: skip
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
        items = WholeTracks(tracks, self._format, seconds, *self._rank())
        return DataLoader(
            items, batch_size=None, sampler=EveryTrack(len(tracks)), num_workers=self.n_workers
        )


def _n_forward(track: Track) -> int:
    """Files of a track in which no place is found without decoding all before it."""
    files = track.files() if isinstance(track, FileTrack) else []
    return sum(path.suffix.lower() in FORWARD_ONLY for path in files)


def _check(name: str, value: object, holds: bool, wanted: str) -> None:
    if not holds:  # also where it is no number
        raise RecipeError(f"{name} is {value}; it must be {wanted}.")
