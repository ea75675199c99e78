"""A board: what systems are worth on one data set by one protocol.  Plain data, for any output.

Rows of different provenance stand on one board and are never ranked together; rows of different
protocols never share a board.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from zoo.metrics.rules import LESS_IS_BETTER

Provenance = Literal["measured", "re-aggregated", "copied", "not measured"]
Role = Literal["system", "oracle", "mixture"]

PROVENANCES: dict[Provenance, str] = {
    "measured": "measured here from audio",
    "re-aggregated": "re-aggregated here from published frames or tracks",
    "copied": "copied from a paper or a page",
    "not measured": "not measured yet",
}
"""Provenance -> what it means, in the order in which a board shows them."""


@dataclass(frozen=True)
class Cell:
    """What one system is worth on one source by one metric.

    Attributes:
        value: pooled over the tracks as the protocol says, mostly in dB; NaN: nothing was scored.
        low: of the 95 % interval, bootstrapped over tracks; None where those are not known.
        high: see ``low``.
        n_tracks: tracks with a value.
        n_valid_frames: frames with a value, over all tracks.
        n_frames: frames scored, with a value or without.
        tracks: value of each track, NaN where it has none; None where they are unknown.
        rank: among the systems of the row's provenance and silence, as ``"1"`` or, where they
            cannot be told apart, ``"1-3"``; empty for what has no rank.
        of_oracle: per cent of the best oracle on the same tracks, where it was scored on them; what
            that means is a note of the board.
        seed_spread: largest minus smallest value over the seeds of this system, where several were
            trained.
        beside: further statistics of what the value is pooled of, where the protocol has them.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n_tracks: int | None = None
    n_valid_frames: int | None = None
    n_frames: int | None = None
    tracks: Mapping[str, float] | None = None
    rank: str = ""
    of_oracle: float | None = None
    seed_spread: float | None = None
    beside: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One system on a board.

    Attributes:
        name: as shown; unique among the rows of its provenance.
        provenance: one of `PROVENANCES`.
        role: oracles and the mixture stand apart from the systems, without a rank.
        cells: source -> metric -> cell; empty for what was not measured yet.
        coverage: ``"110 of 825 tracks"`` where not all of the test was scored; else empty.
        facts: as far as they are known: ``authors``, ``year``, ``trained_on``, ``extra_data``,
            ``shared`` (artists that training and test have in common), ``parameters``, ``seconds``
            and ``audio_seconds`` (CPU seconds of separation, for so much audio), ``evaluator``,
            ``release``, ``sha256``, ``seed``, ``training_seed``, ``silence``, ``kind``,
            ``source`` (where a published figure stands).
        notes: what a reader must know before comparing this row.
        command: what would measure it here; empty where it was.
    """

    name: str
    provenance: Provenance
    role: Role = "system"
    cells: Mapping[str, Mapping[str, Cell]] = field(default_factory=dict)
    coverage: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    command: str = ""

    def cell(self, source: str, metric: str) -> Cell | None:
        """Its cell, or None."""
        return self.cells.get(source, {}).get(metric)

    @property
    def silence(self) -> str:
        """By which rule silent frames were left out; figures of another do not compare."""
        return str(self.facts.get("silence") or "museval")

    @property
    def cost(self) -> float | None:
        """CPU seconds of separation per second of audio; None where it was not measured."""
        seconds, audio = self.facts.get("seconds"), self.facts.get("audio_seconds")
        return float(seconds) / float(audio) if seconds is not None and audio else None


@dataclass(frozen=True)
class Board:
    """Rows of one data set and one protocol.

    Attributes:
        dataset: its id, such as ``musdb18``.
        protocol: id of how scores are computed and pooled.
        sources: in the order in which they are shown.
        metrics: names of the columns; rows are ranked and sorted by the first.
        rows: of all provenances and roles.
        n_test: tracks of the whole test; None where it is unknown.
        notes: what a reader must know before comparing anything.
    """

    dataset: str
    protocol: str
    sources: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    n_test: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Data set and protocol, as a heading."""
        return f"{self.dataset}, protocol {self.protocol}"

    def best_first(
        self,
        source: str,
        metric: str | None = None,
        *,
        provenance: Provenance | None = None,
        role: Role | None = None,
    ) -> list[Row]:
        """Rows of one provenance and role, or of all, by their value; those without one last.

        Those, in turn, by the mean of the stems, where they have that.
        """
        metric = metric or self.metrics[0]
        sign = -1 if metric in LESS_IS_BETTER else 1

        def order(row: Row) -> tuple[float, float, str]:
            values = [sign * cell.value for s in (source, "mean") if (cell := row.cell(s, metric))]
            first, mean = [*values, -math.inf, -math.inf][:2]
            if row.cell(source, metric) is None:
                first, mean = -math.inf, first
            return -_known(first), -_known(mean), row.name

        kept: Sequence[Row] = [
            row
            for row in self.rows
            if provenance in (None, row.provenance) and role in (None, row.role)
        ]
        return sorted(kept, key=order)


def _known(value: float) -> float:
    return -math.inf if math.isnan(value) else value
