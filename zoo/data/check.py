"""What is in a data set, and what is wrong with it: every file read once, in constant memory."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.data.track import SPLITS, Dataset, FileTrack, Split, Track, header
from zoo.errors import DatasetError

_BLOCK = 1 << 16  # samples; 1.5 s of a song
_FULL_SCALE = 1 - 2**-15  # the largest 16-bit value
_SILENT = 1e-4  # peak; -80 dBFS, below the noise of any codec
_DC = 0.05  # of the RMS; MIR-1K's own description counts offsets from here
_SUM_DB = 10.0  # a mastered mixture of MUSDB18 lies at 15 dB, one that is shifted near 0 dB


@dataclass
class Levels:
    """Figures of one source over a whole song.

    Attributes:
        peak: largest magnitude; 1 is full scale.
        rms: root mean square over samples and channels.
        dc: largest mean of a channel, in magnitude, over the RMS.
        clipped: samples in flat tops of three or more at or beyond full scale.
    """

    peak: float = 0.0
    rms: float = 0.0
    dc: float = 0.0
    clipped: int = 0

    @property
    def is_silent(self) -> bool:
        """Whether nothing in it exceeds -80 dBFS."""
        return self.peak < _SILENT


@dataclass
class SongReport:
    """What was found in one song.

    Attributes:
        errors: why it cannot be used.
        warnings: what it can be used with, but should be known.
        mixture_db: the stored mixture against the sum of the stems, as an SDR; None without one,
            infinite where they are equal.
    """

    name: str
    split: Split
    rate: int = 0
    channels: int = 0
    samples: int = 0
    licence: str = ""
    levels: dict[str, Levels] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    mixture_db: float | None = None
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Length; 0 for a song that could not be opened."""
        return self.samples / self.rate if self.rate else 0.0


@dataclass
class Report:
    """What was found in a data set.

    Attributes:
        id: of the data set.
        sources: of the data set.
        songs: in order of split and name.
    """

    id: str
    sources: tuple[str, ...]
    songs: list[SongReport]

    @property
    def is_sound(self) -> bool:
        """Whether there are songs and every one can be used."""
        return bool(self.songs) and not any(song.errors for song in self.songs)

    @property
    def totals(self) -> dict[str, Any]:
        """Counts over the data set, as plain JSON values."""
        usable = [song for song in self.songs if not song.errors]
        splits = {
            split: {
                "songs": len(chosen),
                "hours": round(sum(song.seconds for song in chosen) / 3600, 4),
            }
            for split in SPLITS
            if (chosen := [song for song in usable if song.split == split])
        }
        return {
            "songs": len(usable),
            "faulty": len(self.songs) - len(usable),
            "with_warnings": sum(bool(song.warnings) for song in usable),
            "hours": round(sum(song.seconds for song in usable) / 3600, 4),
            "splits": splits,
            "rates": dict(Counter(str(song.rate) for song in usable)),
            "channels": dict(Counter(str(song.channels) for song in usable)),
            "licences": dict(Counter(song.licence or "not stated" for song in usable)),
            "sources": {
                source: {
                    "known": sum(source not in song.unknown for song in usable),
                    "unknown": sum(source in song.unknown for song in usable),
                    "silent": sum(
                        source in song.levels and song.levels[source].is_silent for song in usable
                    ),
                }
                for source in self.sources
            },
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row of plain JSON values per song; levels in dB re full scale, None for silence."""
        return [
            {
                "song": song.name,
                "split": song.split,
                "seconds": round(song.seconds, 3),
                "rate": song.rate,
                "channels": song.channels,
                "licence": song.licence,
                "unknown": list(song.unknown),
                "mixture_db": _finite(song.mixture_db),
                "levels": {
                    source: {
                        "peak_db": _db(levels.peak),
                        "rms_db": _db(levels.rms),
                        "dc": round(levels.dc, 4),
                        "clipped": levels.clipped,
                    }
                    for source, levels in song.levels.items()
                },
                "errors": list(song.errors),
                "warnings": list(song.warnings),
            }
            for song in self.songs
        ]

    def lines(self) -> list[str]:
        """The report in plain words: each song with a finding, then the totals."""
        lines = [
            f"{kind}: {song.split} {song.name}: {text}"
            for song in self.songs
            for kind, texts in (("error", song.errors), ("warning", song.warnings))
            for text in texts
        ]
        totals = self.totals
        lines.append(
            f"{self.id}: {totals['songs']} usable songs, {totals['hours']:.2f} h, "
            f"{totals['faulty']} faulty, {totals['with_warnings']} with warnings"
        )
        for split, counts in totals["splits"].items():
            lines.append(f"{split}: {counts['songs']} songs, {counts['hours']:.2f} h")
        for what, unit in (("rates", " Hz"), ("channels", " channels"), ("licences", "")):
            told = ", ".join(f"{value}{unit} ({n} songs)" for value, n in totals[what].items())
            lines.append(f"{what}: {told or 'none'}")
        for source, counts in totals["sources"].items():
            told = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
            lines.append(f"{source}: {told or 'in no song'}")
        return lines


def check(dataset: Dataset, progress: Callable[[SongReport], None] | None = None) -> Report:
    """Read a whole data set and report what it holds and what is wrong with it.

    Errors: files that are missing, unreadable, of unequal length, rate or channels, shorter than
    they say, or not finite.  Warnings: what the readers had to note, clipping, DC, silence, a
    stored mixture far from the sum of the stems, and one sound under two names.

    Args:
        dataset: from `open_dataset`; faulty songs are reported, whatever its ``skip_faulty``.
        progress: called with each song when it is done.
    """
    songs: list[SongReport] = []
    first_with: dict[str, SongReport] = {}
    for split in SPLITS:
        for name, track in dataset.each(split):
            if isinstance(track, DatasetError):
                song = SongReport(name, split, errors=[str(track)])
            else:
                song = _check_track(track, split, first_with)
            songs.append(song)
            if progress is not None:
                progress(song)
    return Report(dataset.id, dataset.sources, songs)


def _check_track(track: Track, split: Split, first_with: dict[str, SongReport]) -> SongReport:
    song = SongReport(
        track.name,
        split,
        track.rate,
        track.channels,
        track.samples,
        track.licence,
        unknown=tuple(s for s in track.sources if s in track.unknown),
    )
    try:
        song.warnings += _notes(track)
        meters, comparison = _measure(track)
    except DatasetError as error:
        song.errors.append(str(error))
        return song
    song.levels = {source: meter.levels() for source, meter in meters.items()}
    for source, levels in song.levels.items():
        song.warnings += _findings(source, levels, source in track.unknown)
    song.mixture_db = comparison.sdr_db() if track.has_mixture else None
    if song.mixture_db is not None and song.mixture_db < _SUM_DB:
        song.warnings.append(
            f"the stored mixture lies at {song.mixture_db:.1f} dB SDR from the sum of the stems; "
            "look for a shift, a missing stem or another mix"
        )
    if comparison.is_silent:
        song.warnings.append("the whole song is silent")
    elif (twin := first_with.setdefault(comparison.digest(), song)) is not song:
        song.warnings.append(f"sounds exactly like {twin.split} {twin.name}")
    return song


def _findings(source: str, levels: Levels, is_unknown: bool) -> list[str]:
    warnings = []
    if levels.is_silent and not is_unknown:
        warnings.append(f"{source} is silent")
    if levels.clipped:
        warnings.append(f"{source} is clipped in {levels.clipped} samples")
    if levels.dc > _DC and not levels.is_silent:
        warnings.append(f"{source} has a DC offset of {levels.dc:.0%} of its RMS")
    return warnings


def _notes(track: Track) -> Iterator[str]:
    """What the readers of the files have to say."""
    if isinstance(track, FileTrack):
        for path, stream in track.streams():
            notes = header(path, track.name, stream).notes
            yield from (f"{path.name}: {note}" for note in notes)


def _measure(track: Track) -> tuple[dict[str, _Meter], _Comparison]:
    sources = [s for s in track.sources if track.has_stem(s)]
    meters = {s: _Meter(track.channels) for s in sources}
    if track.has_mixture:
        meters["mixture"] = _Meter(track.channels)
    comparison = _Comparison()
    for block in track.blocks(_BLOCK):
        for source, signal in block.items():
            meters[source].push(signal)
        total = np.zeros_like(next(iter(block.values())))
        for source in sources:
            total += block[source]
        comparison.push(total, block.get("mixture"))
    return meters, comparison


class _Meter:
    """Levels of a signal that comes in blocks."""

    def __init__(self, channels: int) -> None:
        self.sum = np.zeros(channels)
        self.energy = 0.0
        self.n_samples = 0
        self.found = Levels()

    def push(self, signal: np.ndarray) -> None:
        self.found.peak = max(self.found.peak, float(np.abs(signal).max()))
        self.found.clipped += _clipped(signal)
        self.sum += signal.sum(axis=1, dtype=np.float64)
        self.energy += float(np.square(signal, dtype=np.float64).sum())
        self.n_samples += signal.shape[1]

    def levels(self) -> Levels:
        n = max(1, self.n_samples)
        self.found.rms = math.sqrt(self.energy / (n * len(self.sum)))
        if self.found.rms:
            self.found.dc = float(np.abs(self.sum / n).max()) / self.found.rms
        return self.found


def _clipped(signal: np.ndarray) -> int:
    """Samples in runs of three or more equal ones at full scale; runs across blocks count apart."""
    if np.abs(signal).max() < _FULL_SCALE or signal.shape[1] < 3:
        return 0
    top = np.abs(signal) >= _FULL_SCALE
    same = top[:, 1:] & (signal[:, 1:] == signal[:, :-1])
    inner = same[:, 1:] & same[:, :-1]  # sample i + 1 has equal neighbours on both sides
    flat = np.zeros_like(top)
    for shift in range(3):
        flat[:, shift : shift + inner.shape[1]] |= inner
    return int(flat.sum())


class _Comparison:
    """The sum of the stems against the stored mixture, and a digest of what is heard."""

    def __init__(self) -> None:
        self.mixture_energy = self.error_energy = 0.0
        self.is_silent = True
        self._digest = hashlib.sha256()

    def push(self, total: np.ndarray, mixture: np.ndarray | None) -> None:
        heard = total if mixture is None else mixture
        self.is_silent = self.is_silent and not heard.any()
        self._digest.update(np.ascontiguousarray(heard).tobytes())
        if mixture is not None:
            self.mixture_energy += float(np.square(mixture, dtype=np.float64).sum())
            self.error_energy += float(np.square(mixture - total, dtype=np.float64).sum())

    def digest(self) -> str:
        return self._digest.hexdigest()

    def sdr_db(self) -> float:
        if not self.error_energy:
            return math.inf
        if not self.mixture_energy:
            return -math.inf
        return 10 * math.log10(self.mixture_energy / self.error_energy)


def _db(amplitude: float) -> float | None:
    return round(20 * math.log10(amplitude), 2) if amplitude else None


def _finite(value: float | None) -> float | None:
    return round(value, 2) if value is not None and math.isfinite(value) else None
