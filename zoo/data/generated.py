"""The data set ``generated``: virtual songs with four stems, rendered when they are read.

Needs no download, so that recipes, tests, benchmarks and the demonstration always run.  A song is
a pure function of (seed, index, configuration): the same in every process and on every run.  The
sound is synthetic; a network trained on nothing else learns the shapes, not the sound, of music.

>>> songs = GeneratedSongs(n_train=2, n_valid=1, n_test=1, seconds=1, sample_rate=8000, channels=1)
>>> songs.tracks("train")[0].read("vocals").shape
(1, 8000)
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoo.data.arrangement import Score, write_song
from zoo.data.composer import STEMS, Note, Part, SongConfig, stream
from zoo.data.drumkit import Kit
from zoo.data.mixing import mix
from zoo.data.singer import sing
from zoo.data.synth import play_pitched
from zoo.data.track import SPLITS, Dataset, Split, Track, check_split
from zoo.errors import DatasetError

Signal = NDArray[np.float32]

VERSION = 1  # of the songs: raise it whenever the same numbers would give another song
# First index of each split, so far apart that splits never share a song.
_FIRST: dict[str, int] = {"train": 0, "valid": 1 << 28, "test": 1 << 29}


@dataclass(frozen=True)
class Song:
    """One virtual song; nothing is composed or rendered before it is asked for."""

    seed: int
    index: int
    config: SongConfig

    @cached_property
    def score(self) -> Score:
        """The form and all parts."""
        return write_song(self.seed, self.index, self.config)

    @property
    def notes(self) -> dict[str, tuple[Note, ...]]:
        """Stem -> its notes by onset, drum hits included."""
        return {
            stem: tuple(
                sorted(
                    (n for part in self.score.parts if part.stem == stem for n in part.notes),
                    key=lambda note: (note.onset_s, note.pitch),
                )
            )
            for stem in STEMS
        }

    @property
    def card(self) -> dict[str, Any]:
        """How to make this song again, and what is in it, as plain JSON values."""
        plan = self.score.plan
        return {
            "generator": VERSION,
            "numpy": np.__version__,
            "seed": self.seed,
            "index": self.index,
            "config": asdict(self.config),
            "tempo_bpm": plan.bpm,
            "metre": plan.metre.name,
            "key": plan.key,
            "mode": plan.mode,
            "tuning_cents": plan.tuning_cents,
            "sections": [
                {"kind": s.kind, "start_s": s.start_s, "end_s": s.end_s, "stems": sorted(s.stems)}
                for s in plan.sections
            ],
            "parts": [
                {"name": p.name, "stem": p.stem, "instrument": p.instrument, "notes": len(p.notes)}
                for p in self.score.parts
            ],
        }

    def render_parts(self) -> list[tuple[str, str, Signal]]:
        """(stem, instrument, signal) of each part, dry; drums ``(C, T)``, others ``(1, T)``."""
        timbre = stream(self.seed, self.index, "timbre")
        seeds = timbre.integers(1 << 32, size=len(self.score.parts))
        return [
            (part.stem, part.instrument, self._render(part, int(seed)))
            for part, seed in zip(self.score.parts, seeds, strict=True)
        ]

    def render(self) -> dict[str, Signal]:
        """Stem -> ``(C, T)`` float32; they sum to the mixture exactly and peak at 1 or less."""
        rng, noise = (stream(self.seed, self.index, family) for family in ("mix", "noise"))
        return mix(self.render_parts(), self.config, rng, noise)

    def _render(self, part: Part, seed: int) -> Signal:
        # A generator per part: one part more does not change how the others sound.
        rng = np.random.Generator(np.random.PCG64(seed))
        rate, samples = self.config.sample_rate, self.config.samples
        if part.stem == "drums":
            return Kit(rate, rng).play(part, samples, self.config.channels, rng)
        play = sing if part.stem == "vocals" else play_pitched
        return play(part, rate, samples, self.score.plan.tuning_cents, rng)[None]


class SongCache:
    """The songs rendered last in this process, up to a number of bytes.

    Data loader workers have one each.  A data set that does not fit is rendered again and again;
    write it to disk instead (`zoo.data.layouts.write`).
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._songs: OrderedDict[Song, dict[str, Signal]] = OrderedDict()
        self._lock = threading.Lock()

    def stems(self, song: Song) -> dict[str, Signal]:
        """The song's stems; do not write to them."""
        with self._lock:
            if song in self._songs:
                self._songs.move_to_end(song)
                return self._songs[song]
            stems = song.render()
            self._songs[song] = stems
            while len(self._songs) > 1 and self._size() > self.budget_bytes:
                self._songs.popitem(last=False)
            return stems

    def clear(self) -> None:
        """Forgets every song."""
        with self._lock:
            self._songs.clear()

    def _size(self) -> int:
        return sum(s.nbytes for stems in self._songs.values() for s in stems.values())


# 48 songs of 30 s at 22.05 kHz in stereo, 12 at 44.1 kHz.
CACHE = SongCache(budget_bytes=512 << 20)


@dataclass(frozen=True)
class GeneratedTrack(Track):
    """A virtual song as a track; its mixture is the exact sum of its sources.

    Attributes:
        song: what it is rendered from.

    """

    song: Song | None = None

    def _read_stem(self, source: str, start: int, samples: int) -> np.ndarray:
        assert self.song is not None
        return CACHE.stems(self.song)[source][:, start : start + samples].copy()


class GeneratedSongs(Dataset):
    """Virtual songs in three splits that share none.

    Args:
        n_train, n_valid, n_test: songs of each split.
        seconds: length of each song.
        seed: another seed is another set of songs.
        sample_rate: in Hz.
        channels: 1 or 2.
        config: further fields of `zoo.data.composer.SongConfig`, such as ``alone``.

    Raises:
        DatasetError: a value with which no song can be made.

    """

    id: ClassVar[str] = "generated"
    needs_root: ClassVar[bool] = False

    def __init__(
        self,
        n_train: int = 100,
        n_valid: int = 10,
        n_test: int = 10,
        seconds: float = 30.0,
        seed: int = 0,
        sample_rate: int = 44100,
        channels: int = 2,
        **config: Any,
    ) -> None:
        self.counts = {"train": n_train, "valid": n_valid, "test": n_test}
        if min(self.counts.values()) < 0 or seed < 0:
            raise DatasetError(
                f"counts are {self.counts} and seed is {seed}; give numbers of 0 or more."
            )
        self.seed = seed
        self.sources = STEMS
        self.rate = sample_rate
        try:
            self.config = SongConfig(seconds, sample_rate, channels, **_tuples(config))
        except TypeError as error:
            known = ", ".join(SongConfig.__dataclass_fields__)
            raise DatasetError(
                f"generated songs have no {', '.join(map(repr, config))}; they have {known}."
            ) from error

    def __len__(self) -> int:
        """Songs in all splits."""
        return sum(self.counts.values())

    def song(self, split: Split, number: int) -> Song:
        """The song behind ``tracks(split)[number]``."""
        check_split(split)
        if not 0 <= number < self.counts[split]:
            raise DatasetError(
                f"no song {number} in {split!r}, which has {self.counts[split]}; count from 0."
            )
        return Song(self.seed, _FIRST[split] + number, self.config)

    def tracks(self, split: Split) -> list[Track]:  # noqa: D102
        check_split(split)
        return [self._track(split, number) for number in range(self.counts[split])]

    def fingerprint(self, splits: Sequence[Split] = SPLITS) -> str:
        """SHA-256 over what decides how the songs sound, and over their names and splits."""
        facts = repr((super().fingerprint(splits), VERSION, self.seed, self.config))
        return hashlib.sha256(facts.encode()).hexdigest()

    def _track(self, split: Split, number: int) -> GeneratedTrack:
        return GeneratedTrack(
            name=f"generated-{split}-{number:05d}",
            rate=self.config.sample_rate,
            channels=self.config.channels,
            samples=self.config.samples,
            sources=STEMS,
            licence="CC0 1.0: made by numbers, free of rights",
            song=self.song(split, number),
        )


def _tuples(config: dict[str, Any]) -> dict[str, Any]:
    """Lists, which YAML gives, as the tuples that a hashable configuration needs."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in config.items()}
