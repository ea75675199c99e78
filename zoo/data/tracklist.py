"""The 150 songs of MUSDB18, of which 100 are those of DSD100: names, splits, numbers, licences.

DSD100 numbers its test songs 1 to 50 and its Dev songs 51 to 100.  The two sets are split
differently, so the training songs of each hold test songs of the other.

Names and licences are those of sigsep's list of tracks, numbers those of the campaign of 2016.
"""

from __future__ import annotations

import csv
import logging
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

_FILE = Path(__file__).with_suffix(".csv")
_NUMBER = re.compile(r"\d{3} - ")


@dataclass(frozen=True)
class Entry:
    """One song.

    Attributes:
        name: ``Artist - Title``.
        musdb18: its split there, ``train`` or ``test``.
        dsd100: its number there; 0 for a song that only MUSDB18 has.
        licence: terms of the recording, in words.
    """

    name: str
    musdb18: str
    dsd100: int
    licence: str


def song_key(name: str) -> str:
    """What two spellings of a song have in common: its letters and digits, word by word, sorted.

    >>> song_key("081 - Patrick Talbot - Set Me Free") == song_key("Patrick Talbot - Set Free Me")
    True
    """
    plain = unicodedata.normalize("NFKD", _NUMBER.sub("", name, count=1)).casefold()
    words = ("".join(c for c in word if c.isalnum()) for word in plain.split())
    return " ".join(sorted(word for word in words if word))


@cache
def entries() -> dict[str, Entry]:
    """Every song by its `song_key`."""
    with _FILE.open(newline="", encoding="utf-8") as file:
        return {
            song_key(row["name"]): Entry(
                row["name"], row["musdb18"], int(row["dsd100"] or 0), row["licence"]
            )
            for row in csv.DictReader(file)
        }


def licence_of(name: str) -> str:
    """Terms of a song; empty for one that is not listed."""
    entry = entries().get(song_key(name))
    return entry.licence if entry else ""


def is_dsd100_test(name: str) -> bool:
    """Whether DSD100 tests on a song."""
    entry = entries().get(song_key(name))
    return entry is not None and 1 <= entry.dsd100 <= 50


def warn_of_absent(id: str, root: Path, found: Iterable[str], expected: Iterable[Entry]) -> None:
    """One line for a set of which some songs are there and some are not."""
    keys = {song_key(name) for name in found}
    names = [entry.name for entry in expected]
    absent = [name for name in names if song_key(name) not in keys]
    if absent and len(absent) < len(names):
        log.warning(
            "%s: %d of its %d songs are not in %s, such as %s",
            id, len(absent), len(names), root, absent[0],
        )  # fmt: skip
