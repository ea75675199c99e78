"""Boards as one HTML page that needs nothing else: no server, no network, no other file.

The page sorts, filters by source, draws every track, and tests any two rows against each other; the
templates beside this file hold its text, its style and its few functions of JavaScript.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from zoo import __version__
from zoo.errors import MissingPackage
from zoo.evaluation.board import PROVENANCES, Board, Cell, Row
from zoo.evaluation.text import remarks
from zoo.files import write_whole
from zoo.metrics.rules import BESIDE, LESS_IS_BETTER

TITLE = "Music separation leaderboards"
DECIMALS = 5  # as in score files
IN_DECIBELS = ("SDR", "ISR", "SIR", "SAR", "SNR", "PES")  # and what ends so: NSDR, SI-SDR

CITATIONS = {
    "sisec2016": "SiSEC 2016: A. Liutkus et al., “The 2016 Signal Separation Evaluation Campaign”, "
    "LVA/ICA 2017.",
    "sisec2018": "SiSEC 2018: F.-R. Stöter, A. Liutkus, N. Ito, “The 2018 Signal Separation "
    "Evaluation Campaign”, LVA/ICA 2018.",
}
"""Protocol -> whom to thank where figures of its campaign are shown."""

FACTS = {
    "authors": "authors", "year": "year", "trained_on": "trained on", "release": "release",
    "sha256": "sha256", "seed": "seed", "training_seed": "seed of training",
    "evaluator": "evaluator", "source": "source",
}  # fmt: skip
"""Facts that the page shows of a chosen row -> their name there."""


def write(
    boards: Sequence[Board],
    path: str | os.PathLike[str],
    *,
    title: str = TITLE,
    credits: Iterable[str] = (),
) -> Path:
    """Write boards as one page.  Folders are made; the file has its name only when it is whole.

    Args:
        boards: in the order of the page's selector.
        path: of the HTML file.
        title: its heading.
        credits: sentences for the foot of the page, before the sources of published rows, which
            stand there anyway.

    Raises:
        MissingPackage: jinja2 is not installed.
    """
    return render(
        "page.html",
        path,
        title=title,
        boards=boards,
        value=_printed,
        css=_template("page.css"),
        js=_template("page.js"),
        data=_script_json({"boards": [_board(b) for b in boards], "provenances": PROVENANCES}),
        credits=[*credits, *_sources(boards), made_by()],
    )


def render(template: str, path: str | os.PathLike[str], **values: Any) -> Path:
    """Fill in a template of this package.  Text is escaped, but for what the template calls safe.

    Raises:
        MissingPackage: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingPackage(
            "pages need jinja2, which is not installed: pip install jinja2."
        ) from error
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.from_string(_template(template)).render(**values)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, text)
    return target


def made_by() -> str:
    """Last line of every page."""
    return f"Made by music-separation-zoo {__version__}."


def unit(metric: str) -> str:
    """``"dB"``, or nothing."""
    return "dB" if metric.endswith(IN_DECIBELS) else ""


def _template(name: str) -> str:
    return (files("zoo.evaluation") / "templates" / name).read_text(encoding="utf-8")


def _script_json(content: Any) -> str:
    """JSON that cannot end the script element around it, nor open a comment in it."""
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _board(board: Board) -> dict[str, Any]:
    tracks = _tracks(board)
    return {
        "key": f"{board.dataset}/{board.protocol}",
        "title": board.title,
        "sources": board.sources,
        "metrics": board.metrics,
        "columns": [m for m in board.metrics if m not in BESIDE],
        "units": {metric: unit(metric) for metric in board.metrics},
        "less": [metric for metric in board.metrics if metric in LESS_IS_BETTER],
        "n_test": board.n_test,
        "notes": board.notes,
        "tracks": tracks,
        "rows": [_row(i, row, tracks) for i, row in enumerate(board.rows)],
    }


def _tracks(board: Board) -> list[str]:
    """Names of all tracks that any cell has a value of, each once."""
    cells = (
        cell for row in board.rows for metrics in row.cells.values() for cell in metrics.values()
    )
    return sorted({track for cell in cells for track in cell.tracks or ()})


def _row(number: int, row: Row, tracks: Sequence[str]) -> dict[str, Any]:
    parameters = row.facts.get("parameters")
    return {
        "id": number,
        "name": row.name,
        "provenance": row.provenance,
        "role": row.role,
        "remarks": remarks(row),
        "facts": [
            [name, _fact(k, row.facts[k])] for k, name in FACTS.items() if _said(row.facts, k)
        ],
        "command": row.command,
        "parameters": None if parameters is None else int(parameters),
        "cost": _finite(row.cost),
        "cells": {
            source: {metric: _cell(cell, tracks) for metric, cell in metrics.items()}
            for source, metrics in row.cells.items()
        },
    }


def _cell(cell: Cell, tracks: Sequence[str]) -> dict[str, Any]:
    values = cell.tracks
    return {
        "value": _finite(cell.value),
        "low": _finite(cell.low),
        "high": _finite(cell.high),
        "n": cell.n_tracks,
        "valid": cell.n_valid_frames,
        "frames": cell.n_frames,
        "rank": cell.rank,
        "of_oracle": _finite(cell.of_oracle),
        "spread": _finite(cell.seed_spread),
        "beside": [[name, _finite(x)] for name, x in cell.beside.items()],
        "tracks": None if not values else [_finite(values.get(track)) for track in tracks],
    }


def _fact(key: str, value: Any) -> str:
    return str(value)[:12] if key == "sha256" else str(value)


def _said(facts: Mapping[str, Any], key: str) -> bool:
    return facts.get(key) not in (None, "", (), [])


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), DECIMALS)


def _printed(row: Row, source: str, metric: str) -> str:
    cell = row.cell(source, metric)
    return "–" if cell is None or math.isnan(cell.value) else f"{cell.value:.2f}"


def _sources(boards: Sequence[Board]) -> list[str]:
    """Where published figures come from, each once, in the order of the rows."""
    named = dict.fromkeys(
        source
        for board in boards
        for row in board.rows
        if _said(row.facts, "source")
        for source in str(row.facts["source"]).split("; ")
    )
    cited = [
        CITATIONS[board.protocol]
        for board in boards
        if board.protocol in CITATIONS and any(r.provenance == "re-aggregated" for r in board.rows)
    ]
    credit = [f"Published figures: {'; '.join(named)}. Cite the authors of a row for the row."]
    return [*cited, *credit] if named else cited
