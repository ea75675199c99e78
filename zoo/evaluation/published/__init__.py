"""Published scores as entries of boards; where they come from stands in README.md beside them."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import cast

from zoo.data.tracklist import entries as songs
from zoo.evaluation.board import Provenance, Role
from zoo.evaluation.entry import Entry, TrackFigure, number
from zoo.evaluation.overlap import overlap

# Campaign -> its table, data set, and what the figures of a track were derived from.
CAMPAIGNS = {
    "sisec2016": ("sisec2016_dsd100.csv.gz", "dsd100", "faroit/sisec-mus-results"),
    "sisec2018": ("sisec2018_musdb18.csv.gz", "musdb18", "sigsep/sigsep-mus-2018"),
}
METRICS = ("SDR", "ISR", "SIR", "SAR")
SOURCES = ("vocals", "drums", "bass", "other", "accompaniment", "mean")


@cache
def entries() -> tuple[Entry, ...]:
    """All of them."""
    return (*_campaign("sisec2016"), *_campaign("sisec2018"), *_copied())


def table2_frames() -> dict[tuple[str, str], dict[int, list[float]]]:
    """SDR in 30 s frames behind Table 2 of the MMDenseNet paper.

    Returns:
        (method, source) -> number of the song in DSD100 -> value of each frame, NaN for none.
    """
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in _rows("sisec2016_table2_frames.csv.gz"):
        by_track = found.setdefault((row["method"], row["target"]), {})
        by_track.setdefault(int(row["track_id"]), []).append(number(row["score"]))
    return found


def _rows(name: str) -> Iterator[dict[str, str]]:
    content = files(__name__).joinpath(name).read_bytes()
    text = (gzip.decompress(content) if name.endswith(".gz") else content).decode("utf-8")
    return csv.DictReader(io.StringIO(text))


def _campaign(campaign: str) -> list[Entry]:
    table, dataset, credit = CAMPAIGNS[campaign]
    numbers = {str(song.dsd100): song.name for song in songs().values() if song.dsd100}
    tracks: dict[str, dict[str, dict[str, dict[str, TrackFigure]]]] = {}
    for row in _rows(table):
        name = numbers.get(row["track"], row["track"])
        by_metric = tracks.setdefault(row["method"], {}).setdefault(row["target"], {})
        for metric in METRICS:
            by_metric.setdefault(metric, {})[name] = TrackFigure(
                number(row[metric]), int(row["valid"]), int(row["frames"])
            )
    found = []
    for method in _rows("methods.csv"):
        if method["campaign"] != campaign:
            continue
        role, is_trained = cast(Role, method["role"]), method["trained"] == "yes"
        facts = {
            "authors": method["authors"],
            "year": int(campaign[-4:]),
            "extra_data": method["extra"] if campaign == "sisec2018" else "",
            "source": credit,
            "shared": overlap(dataset, None, dataset) if is_trained and role == "system" else "",
        }
        mine = tracks[method["method"]]
        notes = []
        if role == "system" and not is_trained:
            notes.append("learned from no references")
        if campaign == "sisec2016" and method["extra"] == "yes":
            notes.append("trained with augmentation")
        if campaign == "sisec2018" and "accompaniment" not in mine:
            notes.append(
                "its vocals were scored among four sources, those of others against the rest"
            )
        found.append(
            Entry(
                dataset, campaign, method["name"], "re-aggregated", role, mine, n_test=50,
                facts=facts, notes=tuple(notes), system=method["system"],
            )
        )  # fmt: skip
    return found


def _copied() -> list[Entry]:
    rows: dict[tuple[str, str, str, str], list[dict[str, str]]] = {}
    for row in _rows("copied.csv"):
        key = (row["dataset"], row["protocol"], row["provenance"], row["name"])
        rows.setdefault(key, []).append(row)
    found = []
    for (dataset, protocol, provenance, name), same in rows.items():
        figures: dict[str, dict[str, float]] = {}
        for row in same:
            for source in SOURCES:
                if row[source]:
                    figures.setdefault(source, {})[row["metric"]] = float(row[source])
        first = same[0]
        role: Role = "oracle" if first["extra"] == "oracle" else "system"
        facts = {
            "year": int(first["year"]),
            "extra_data": first["extra"],
            "source": "; ".join(dict.fromkeys(row["credit"] for row in same)),
            "shared": overlap(dataset, None, dataset),
        }
        notes = tuple(dict.fromkeys(row["note"] for row in same if row["note"]))
        found.append(
            Entry(
                dataset, protocol, name, cast(Provenance, provenance), role, figures=figures,
                facts=facts, notes=notes, system=first["system"],
            )
        )  # fmt: skip
    return found
