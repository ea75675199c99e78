"""The tests of data sets, as their authors published them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WholeTest:
    """The whole test of a data set.

    Attributes:
        n_tracks: in it.
        rate: in Hz.
        noun: for its tracks.
    """

    n_tracks: int
    rate: int
    noun: str = "songs"


_SONGS = WholeTest(50, 44100)
WHOLE_TESTS = {"mir1k": WholeTest(825, 16000, "clips")} | dict.fromkeys(
    ("dsd100", "msd100", "musdb18", "musdb18hq"), _SONGS
)
"""Id of a data set -> its test."""


def n_test(dataset: str) -> int | None:
    """Tracks of the whole test; None where it is unknown."""
    return WHOLE_TESTS[dataset].n_tracks if dataset in WHOLE_TESTS else None
