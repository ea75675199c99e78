"""An entry: what is known of one system on one data set by one protocol, before it is ranked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.data.tracklist import entries, song_key
from zoo.evaluation.board import Provenance, Role


@dataclass(frozen=True)
class TrackFigure:
    """A metric of one source of one track.

    Attributes:
        value: pooled over frames; NaN where none has a value.
        n_valid: frames with a value.
        n_frames: frames.
        frames: the values themselves, for protocols that pool those of all tracks.
        weight: of the track, for a weighted mean.
    """

    value: float
    n_valid: int = 1
    n_frames: int = 1
    frames: tuple[float, ...] = ()
    weight: float = 1.0


@dataclass(frozen=True)
class Entry:
    """One system as it was scored.

    Attributes:
        dataset, protocol, name, provenance, role, facts, notes: as `board.Board` and `board.Row`
            have them.
        tracks: source -> metric -> track -> figure.
        figures: source -> metric -> value, where no tracks are known.
        n_test: tracks of the whole test; None where unknown.
        system: name in `roster.SYSTEMS`; empty for others.
    """

    dataset: str
    protocol: str
    name: str
    provenance: Provenance
    role: Role = "system"
    tracks: Mapping[str, Mapping[str, Mapping[str, TrackFigure]]] = field(default_factory=dict)
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    n_test: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    system: str = ""

    @property
    def scored(self) -> set[str]:
        """Names of the tracks that were tried, with a value or without."""
        metrics = (m for by_metric in self.tracks.values() for m in by_metric.values())
        return {track for figures in metrics for track in figures}


def canonical(dataset: str, track: str) -> str:
    """One name for a track, however its files spell it."""
    if dataset in ("dsd100", "musdb18", "musdb18hq"):
        song = entries().get(song_key(track))
        return song.name if song else track
    return track


def is_of_training(dataset: str, track: str) -> bool:
    """Whether a song is one that its data set trains on, by the usual split."""
    song = entries().get(song_key(track))
    if song is None or dataset not in ("dsd100", "musdb18", "musdb18hq"):
        return False
    return song.dsd100 > 50 if dataset == "dsd100" else song.musdb18 == "train"


def number(text: str) -> float:
    """A figure of a table; NaN from an empty cell."""
    return float(text) if text else math.nan
