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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from zoo.data.arrangement import Score, write_song
from zoo.data.band import Band
from zoo.data.composer import STEMS, Note, SongConfig, stream
from zoo.data.mixing import mix
from zoo.data.recordings import open_one_shots, open_voices
from zoo.data.soundfont import library, open_font
from zoo.data.track import SPLITS, Dataset, Split, Track, check_split
from zoo.errors import DatasetError

Signal = NDArray[np.float32]
Renderer = Literal["synth", "soundfont"]
RENDERERS: tuple[Renderer, ...] = get_args(Renderer)

VERSION = 2  # of the songs: raise it whenever the same numbers would give another song
# First index of each split, so far apart that splits never share a song.
_FIRST: dict[str, int] = {"train": 0, "valid": 1 << 28, "test": 1 << 29}


@dataclass(frozen=True)
class Song:
    """One virtual song; nothing is composed or rendered before it is asked for."""

    seed: int
    index: int
    config: SongConfig
    band: Band = Band()

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
        players = [player for player, _ in self._cast()]
        return {
            "generator": VERSION,
            "numpy": np.__version__,
            "seed": self.seed,
            "index": self.index,
            "config": asdict(self.config),
            **self.band.card,
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
                {
                    "name": part.name,
                    "stem": part.stem,
                    "instrument": part.instrument,
                    "player": player,
                    "notes": len(part.notes),
                }
                for part, player in zip(self.score.parts, players, strict=True)
            ],
        }

    def render_parts(self) -> list[tuple[str, str, Signal]]:
        """(stem, instrument, signal) of each part, dry; ``(C, T)``, or ``(1, T)`` in the middle."""
        return [
            (part.stem, part.instrument, play())
            for part, (_, play) in zip(self.score.parts, self._cast(), strict=True)
        ]

    def render(self) -> dict[str, Signal]:
        """Stem -> ``(C, T)`` float32; they sum to the mixture exactly and peak at 1 or less."""
        rng, noise = (stream(self.seed, self.index, family) for family in ("mix", "noise"))
        return mix(self.render_parts(), self.config, rng, noise)

    def _cast(self) -> list[tuple[str, Callable[[], Signal]]]:
        """Who plays each part, and the playing."""
        timbre = stream(self.seed, self.index, "timbre")
        seeds = timbre.integers(1 << 32, size=len(self.score.parts))
        # A generator per part: one part more does not change how the others sound.
        return [
            self.band.cast(
                part, self.score.plan, self.config, np.random.Generator(np.random.PCG64(int(seed)))
            )
            for part, seed in zip(self.score.parts, seeds, strict=True)
        ]


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
        renderer: ``synth``, which is numpy alone, or ``soundfont``: instruments of a SoundFont,
            played by FluidSynth.  Notes are the same.
        font: path of the SoundFont; else ``$ZOO_SOUNDFONT``, else one of the system's.
        one_shots: folder of recorded drums, loops and bass notes, which play those parts; see
            `zoo.data.recordings`.
        vocals: folder of dry singing, phrases of which are the vocals.
        config: further fields of `zoo.data.composer.SongConfig`, such as ``alone``.

    Raises:
        DatasetError: a value with which no song can be made; no font; nothing in a folder.
        MissingPackage: FluidSynth is asked for and not installed.

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
        renderer: Renderer = "synth",
        font: str | None = None,
        one_shots: str | None = None,
        vocals: str | None = None,
        **config: Any,
    ) -> None:
        self.counts = {"train": n_train, "valid": n_valid, "test": n_test}
        if not all(isinstance(n, int) and n >= 0 for n in (*self.counts.values(), seed)):
            raise DatasetError(
                f"counts are {self.counts} and seed is {seed!r}; give whole numbers of 0 or more."
            )
        self.seed = seed
        self.sources = STEMS
        self.rate = sample_rate
        try:
            self.config = SongConfig(seconds, sample_rate, channels, **_tuples(config))
        except TypeError as error:
            known = SongConfig.__dataclass_fields__
            stray = ", ".join(repr(key) for key in config if key not in known)
            raise DatasetError(
                f"generated songs have no {stray}; they have {', '.join(known)}."
                if stray
                else f"a value of generated songs is of the wrong kind ({error}); give numbers."
            ) from error
        self.band = _band(renderer, font, one_shots, vocals)

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
        return Song(self.seed, _FIRST[split] + number, self.config, self.band)

    def tracks(self, split: Split) -> list[Track]:  # noqa: D102
        check_split(split)
        return [self._track(split, number) for number in range(self.counts[split])]

    def fingerprint(self, splits: Sequence[Split] = SPLITS) -> str:
        """SHA-256 over what decides how the songs sound, and over their names and splits."""
        made = (super().fingerprint(splits), VERSION, self.seed, self.config)
        facts = repr((*made, self.band.card) if self.band.card else made)
        return hashlib.sha256(facts.encode()).hexdigest()

    @property
    def _licence(self) -> str:
        if not self.band.card:
            return "CC0 1.0: made by numbers, free of rights"
        names = ", ".join(f"{what} {fact['name']}" for what, fact in self.band.card.items())
        return f"that of what it was made from: {names}"

    def _track(self, split: Split, number: int) -> GeneratedTrack:
        return GeneratedTrack(
            name=f"generated-{split}-{number:05d}",
            rate=self.config.sample_rate,
            channels=self.config.channels,
            samples=self.config.samples,
            sources=STEMS,
            licence=self._licence,
            song=self.song(split, number),
        )


def _band(renderer: str, font: str | None, one_shots: str | None, vocals: str | None) -> Band:
    if renderer not in RENDERERS:
        raise DatasetError(f"renderer is {renderer!r}; choose one of {', '.join(RENDERERS)}.")
    if font is not None and renderer != "soundfont":
        raise DatasetError(f"font is {font}, and the renderer {renderer}; set renderer: soundfont.")
    opened = None
    if renderer == "soundfont":
        opened = open_font(font)
        library()  # is missed here, not in a worker
    return Band(
        opened,
        open_one_shots(one_shots) if one_shots is not None else None,
        open_voices(vocals) if vocals is not None else None,
    )


def _tuples(config: dict[str, Any]) -> dict[str, Any]:
    """Lists, which YAML gives, as the tuples that a hashable configuration needs."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in config.items()}
