"""Tracks and data sets: what everything that trains, scores or remixes reads from.

A `Track` is one song whose sources can be read apart, at any place; a `Dataset` is three lists of
tracks.  Nothing here knows torch, and no track holds a signal unless it is asked to.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np

from zoo.audio import AudioReader, open_audio, read_again
from zoo.audio.pcm import quantise, to_float
from zoo.errors import AudioFileError, DatasetError

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_BLOCK = 1 << 18  # samples; about six seconds, so that counting a file takes constant memory


@dataclass(frozen=True)
class Track(ABC):
    """One song: its mixture and its sources, read apart and at any place.

    Attributes:
        name: unique in its data set and split.
        rate: samples per second.
        channels: of the mixture and of every source.
        samples: length of the mixture and of every source.
        sources: what the mixture is the sum of.
        unknown: those of ``sources`` that nobody can tell apart here, such as a bass that was
            mixed into other: both are unknown, their sum is not.  No loss or score is due on
            them.  An unknown source that has a stem is read as that stem is, with whatever else
            it holds.
        licence: terms of the recording, in words.
    """

    name: str
    rate: int
    channels: int
    samples: int
    sources: tuple[str, ...]
    unknown: frozenset[str] = frozenset()
    licence: str = ""

    def read(self, source: str, start: int = 0, samples: int | None = None) -> np.ndarray:
        """A stretch of one source, without reading the rest where the file allows that.

        Args:
            source: one of ``sources``; ``mixture``: the stored one, else the sum of the sources;
                ``accompaniment``: the sum of all sources but vocals.
            start: first sample, at the track's own rate.
            samples: how many; None: all that follow.  What lies beyond the end is left out.

        Returns:
            ``(channels, n)`` float32 with n <= samples, not clipped to full scale.

        Raises:
            DatasetError: there is no such source, or no stem of it, or its file is faulty, or
                the stretch begins outside the track.
        """
        if not 0 <= start <= self.samples or (samples is not None and samples < 0):
            raise DatasetError(
                f"{self.name}: {samples} samples from {start} asked of a track of {self.samples}; "
                "begin inside the track."
            )
        left = self.samples - start
        length = left if samples is None else min(samples, left)
        if source in self.sources:
            return self._read_stem(source, start, length)
        if source == "mixture" and self.has_mixture:
            return self._read_mixture(start, length)
        if parts := self._parts(source):
            return self._sum(source, parts, start, length)
        raise DatasetError(
            f"{self.name} has no source {source!r}; it has {', '.join(self.sources)} and mixture."
        )

    def knows(self, source: str) -> bool:
        """Whether the track can say how ``source`` sounds, itself or a sum such as accompaniment.

        A sum is known even if its parts are unknown, as long as they are inside one another.
        """
        if source in self.sources:
            return source not in self.unknown
        if source == "mixture" and self.has_mixture:
            return True
        parts = self._parts(source)
        inside = self.unknown.issubset(parts) or not self.unknown.intersection(parts)
        return bool(parts) and inside and self._is_complete(parts)

    @property
    def has_mixture(self) -> bool:
        """Whether a mixture is stored beside the sources; it need not be their exact sum."""
        return False

    def files(self) -> list[Path]:
        """Every file that it is made of, each once; none of one that is computed."""
        return []

    def has_stem(self, source: str) -> bool:
        """Whether ``source`` can be read; False for one whose sound is inside another's stem."""
        return source in self.sources

    @abstractmethod
    def _read_stem(self, source: str, start: int, samples: int) -> np.ndarray:
        """Exactly ``(channels, samples)`` of one of ``sources``, from inside the track."""

    def _read_mixture(self, start: int, samples: int) -> np.ndarray:
        """Exactly ``(channels, samples)`` of the stored mixture; asked only if `has_mixture`."""
        raise NotImplementedError

    def blocks(
        self, samples: int, sources: Sequence[str] | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """The whole track read forward once, in constant memory.

        Args:
            samples: length of a block.
            sources: some of those that have a stem, and ``mixture`` if one is stored; None: all.

        Yields:
            Each source ``(channels, n)`` with n = samples but for the last block.

        Raises:
            DatasetError: a file is faulty.
        """
        if sources is None:
            stored = ["mixture"] if self.has_mixture else []
            sources = [source for source in self.sources if self.has_stem(source)] + stored
        for start in range(0, self.samples, samples):
            yield {source: self.read(source, start, samples) for source in sources}

    def _parts(self, source: str) -> tuple[str, ...]:
        """What ``source`` is the sum of; nothing for what is no sum here."""
        if source == "mixture":
            return self.sources
        if source == "accompaniment" and "vocals" in self.sources:
            return tuple(s for s in self.sources if s != "vocals")
        return ()

    def _is_complete(self, parts: Iterable[str]) -> bool:
        """Whether the stems of ``parts`` hold all of their sound.

        A source without a stem is inside a stem that is unknown as well, or in none.
        """
        absent = [s for s in parts if not self.has_stem(s)]
        hosts = [s for s in parts if s in self.unknown and self.has_stem(s)]
        return not absent or (bool(hosts) and self.unknown.issuperset(absent))

    def _sum(self, whole: str, parts: Sequence[str], start: int, samples: int) -> np.ndarray:
        if not self._is_complete(parts):
            absent = ", ".join(s for s in parts if not self.has_stem(s))
            raise DatasetError(
                f"{self.name}: the {whole} is no sum of its stems, because {absent} is in none; "
                "add the file, or declare it silent."
            )
        total = np.zeros((self.channels, samples), np.float32)
        for source in parts:
            if self.has_stem(source):
                total += self._read_stem(source, start, samples)
        return total


@dataclass(frozen=True)
class Part:
    """A file, or some channels of it, that a stem is made of.

    Attributes:
        path: of the file.
        channels: which of its channels; None: all.
        stream: number among the audio streams of a container.
        bits: round to steps of so many bits and cut at full scale, as a decoder to integers does.
        gain: factor after that; -1 takes the file away from what the stem's others sum to.
    """

    path: Path
    channels: tuple[int, ...] | None = None
    stream: int = 0
    bits: int | None = None
    gain: float = 1.0

    def read(self, start: int, samples: int) -> np.ndarray:
        """``(channels, n)`` float32 with n <= samples."""
        return self.select(read_again(self.path, start, samples, self.stream)[0])

    def select(self, signal: np.ndarray) -> np.ndarray:
        """What of a stretch of the file belongs to the stem."""
        if self.channels is not None:
            signal = signal[list(self.channels)]
        if self.bits is not None:
            signal = to_float(quantise(signal, self.bits) << (32 - self.bits))
        return signal if self.gain == 1 else signal * np.float32(self.gain)


@dataclass(frozen=True)
class FileTrack(Track):
    """A track whose stems are files.

    Attributes:
        stems: source -> what its stem sums.  An empty tuple is a source that is silent; a source
            that is not named has no stem, and reading it raises.
        mixture: the stored mixture, if there is one.
        removes_dc: take the mean over the whole track off each channel of each source (and hence
            off their sum).
        in_memory: keep each source once it is decoded.
        pads: a file that ends before the track goes on as silence, and one of a single channel
            stands for all channels; elsewhere both are faults.
        first: sample of the files with which the track begins.
    """

    stems: Mapping[str, tuple[Part, ...]] = field(default_factory=dict, hash=False)
    mixture: Part | None = None
    removes_dc: bool = False
    in_memory: bool = False
    pads: bool = False
    first: int = 0
    _means: dict[str, np.ndarray] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _signals: dict[str, np.ndarray] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def has_mixture(self) -> bool:  # noqa: D102
        return self.mixture is not None

    def has_stem(self, source: str) -> bool:  # noqa: D102
        return source in self.stems

    def files(self) -> list[Path]:  # noqa: D102
        return sorted({path for path, _ in self.streams()})

    def streams(self) -> list[tuple[Path, int]]:
        """Every stream of a file that the track is made of, each once, sorted."""
        stems = self._stored().values()
        return sorted({(part.path, part.stream) for stem in stems for part in stem})

    def _stored(self) -> dict[str, tuple[Part, ...]]:
        """The stems, and the mixture among them."""
        return {**self.stems, **({"mixture": (self.mixture,)} if self.mixture else {})}

    def _read_stem(self, source: str, start: int, samples: int) -> np.ndarray:
        if source not in self.stems:
            raise DatasetError(
                f"{self.name} has no stem of {source!r}: "
                + (
                    "it is unknown, inside another source. Ask for that or for the mixture."
                    if source in self.unknown
                    else "add the file, or declare the source silent or unknown."
                )
            )
        if not self.in_memory:
            return self._without_dc(source, self._decode(source, start, samples))
        if source not in self._signals:
            whole = self._decode(source, 0, self.samples)
            self._signals[source] = self._without_dc(source, whole)
        return self._signals[source][:, start : start + samples].copy()

    def _read_mixture(self, start: int, samples: int) -> np.ndarray:
        assert self.mixture is not None
        return self._decode_part(self.mixture, start, samples)

    def blocks(
        self, samples: int, sources: Sequence[str] | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """As `Track.blocks`; sources as they are in the files, with any DC."""
        if self.first:
            yield from super().blocks(samples, sources)
            return
        stems = self._stored()
        if sources is not None:
            stems = {source: stems[source] for source in sources}
        with ExitStack() as stack:
            readers: dict[tuple[Path, int], AudioReader] = {}
            for key in {(part.path, part.stream) for stem in stems.values() for part in stem}:
                try:
                    readers[key] = stack.enter_context(open_audio(*key))
                except AudioFileError as error:
                    raise DatasetError(f"{self.name}: {error}") from error
            for start in range(0, self.samples, samples):
                length = min(samples, self.samples - start)
                signals = {key: self._next(readers[key], length, start) for key in readers}
                block = {}
                for source, parts in stems.items():
                    block[source] = np.zeros((self.channels, length), np.float32)
                    for part in parts:
                        heard = part.select(signals[part.path, part.stream])
                        block[source] += self._fitted(heard, part, start, length)
                yield block

    def _next(self, reader: AudioReader, samples: int, start: int) -> np.ndarray:
        """The next ``(channels, samples)`` of a file."""
        pieces: list[np.ndarray] = []
        left = samples
        try:
            while left:
                piece = reader.read(left)
                if not piece.shape[1] and self.pads:
                    break
                if not piece.shape[1]:
                    raise DatasetError(
                        f"{self.name}: {reader.path} ends at sample {start + samples - left} of "
                        f"{self.samples}; the file is damaged: replace it."
                    )
                pieces.append(piece)
                left -= piece.shape[1]
        except AudioFileError as error:
            raise DatasetError(f"{self.name}: {error}") from error
        none = np.zeros((reader.channels, 0), np.float32)
        return pieces[0] if len(pieces) == 1 else np.concatenate([none, *pieces], axis=1)

    def _without_dc(self, source: str, signal: np.ndarray) -> np.ndarray:
        if not self.removes_dc:
            return signal
        if source not in self._means:
            whole = signal
            if signal.shape[1] < self.samples:
                whole = self._decode(source, 0, self.samples)
            mean = whole.mean(axis=1, keepdims=True, dtype=np.float64)
            self._means[source] = mean.astype(np.float32)
        centred: np.ndarray = signal - self._means[source]
        return centred

    def _decode(self, source: str, start: int, samples: int) -> np.ndarray:
        total = np.zeros((self.channels, samples), np.float32)
        for part in self.stems[source]:
            total += self._decode_part(part, start, samples)
        return total

    def _decode_part(self, part: Part, start: int, samples: int) -> np.ndarray:
        try:
            signal = part.read(self.first + start, samples)
        except AudioFileError as error:
            raise DatasetError(f"{self.name}: {error}") from error
        return self._fitted(signal, part, start, samples)

    def _fitted(self, signal: np.ndarray, part: Part, start: int, samples: int) -> np.ndarray:
        """What a file gave, as long and wide as the track."""
        if self.pads:
            signal = np.pad(signal, ((0, 0), (0, samples - signal.shape[1])))
            if len(signal) == 1:
                signal = np.repeat(signal, self.channels, axis=0)
        if signal.shape != (self.channels, samples):
            raise DatasetError(
                f"{self.name}: {part.path} gave {signal.shape[0]} channels of {signal.shape[1]} "
                f"samples at {start} where {self.channels} of {samples} were expected; "
                "the file is damaged or has changed: replace it."
            )
        return signal


class Dataset(ABC):
    """Songs in three splits.

    Attributes:
        id: the name that recipes, releases and results use.
        sources: of its tracks, in the order in which estimates are listed.
        rate: samples per second where all tracks share it, else None.
        protocol: how its scores are computed, unless told otherwise.
        needs_root: whether it lies in a folder.
        takes_file: whether its root may be a file as well.
    """

    id: ClassVar[str]
    protocol: str = "sisec2018"
    needs_root: ClassVar[bool] = True
    takes_file: ClassVar[bool] = False
    sources: tuple[str, ...]
    rate: int | None

    @abstractmethod
    def tracks(self, split: Split) -> list[Track]:
        """The songs of a split, in a fixed order; none where the data set has no such split.

        Raises:
            DatasetError: no such split, or a song is incomplete or inconsistent.
        """

    def each(self, split: Split) -> Iterator[tuple[str, Track | DatasetError]]:
        """The songs of a split by name, a faulty one with its error in place of its track."""
        for track in self.tracks(split):
            yield track.name, track

    def weights(self, split: Split, source: str) -> list[float]:
        """How often training draws a source from each of the `tracks`, beside the others.

        Here those that know it alike, and the rest never.

        Args:
            split: of the tracks.
            source: what is drawn, or ``mixture`` for all sources of one song.
        """
        return [float(track.knows(source)) for track in self.tracks(split)]

    def fingerprint(self, splits: Sequence[Split] = SPLITS) -> str:
        """SHA-256 over name, split, rate, channels, samples, sources and unknown of every track.

        The same songs give the same value wherever, and in whichever container, they lie.

        Args:
            splits: whose tracks count; all by default.
        """
        digest = hashlib.sha256()
        for split in splits:
            for track in sorted(self.tracks(split), key=lambda track: track.name):
                facts = (
                    split,
                    track.name,
                    str(track.rate),
                    str(track.channels),
                    str(track.samples),
                    ",".join(track.sources),
                    ",".join(sorted(track.unknown)),
                )
                digest.update(("\t".join(facts) + "\n").encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@dataclass(frozen=True)
class Header:
    """What is known of a file before its sound is used; ``notes`` are its reader's."""

    rate: int
    channels: int
    samples: int
    notes: tuple[str, ...] = ()


def header(path: Path, song: str, stream: int | None = None) -> Header:
    """Rate, channels and length of a file, or of one of its streams.

    Ogg files, whose last page tells the length, are taken at their word: one that holds less is
    damaged, and reading its end raises.  Other compressed files are decoded through, once per
    process.

    Raises:
        DatasetError: the file cannot be read or is empty; song and file are named.
    """
    try:
        facts = path.stat()
        return _header(path, stream, facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise DatasetError(f"{song}: {error}") from error


@lru_cache(maxsize=1 << 14)
def _header(path: Path, stream: int | None, size: int, changed_ns: int) -> Header:
    """As `header`; size and time are there so that a file that was replaced is opened again."""
    with open_audio(path, stream) as reader:
        samples = reader.samples
        if samples is None and _is_ogg(path):
            samples = reader.announced
        if samples is None:
            reader.seek(max(0, (reader.announced or 0) - reader.rate))  # the end is looked at
            for _ in reader.blocks(_BLOCK):
                pass
            samples = reader.samples
        if not samples:
            raise AudioFileError(f"{path} holds no samples; replace the file.")
        return Header(reader.rate, reader.channels, samples, tuple(reader.notes))


def _is_ogg(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"OggS"


def check_split(split: str) -> None:
    """Raise a `DatasetError` for a split that is none of train, valid and test."""
    if split not in SPLITS:
        raise DatasetError(f"no split named {split!r}; choose one of {', '.join(SPLITS)}.")
