"""Systems over the layouts of a board of scenes: how much a decibel hangs on angle and delay."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from zoo import pictures
from zoo.evaluation.board import Board, Row
from zoo.evaluation.page import unit
from zoo.evaluation.statistics import interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = ("SDR", "ISR", "SIR")
STYLES = {"system": "-o", "oracle": "--", "mixture": ":"}


def over_layouts(board: Board) -> Figure | None:
    """A line per system over the layouts, with its 95 % interval; None where there is one layout.

    A point is the mean over songs and sources; intervals are bootstrapped over songs.
    """
    layouts = _layouts(board)
    metrics = [m for m in METRICS if m in board.metrics]
    if len(layouts) < 2 or not metrics:
        return None
    figure = pictures.blank(1.5 + 4.2 * len(metrics), 4.6, board.title)
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for ax, metric in zip(axes, metrics, strict=True):
        for k, row in enumerate(board.rows):
            found = by_layout(row, metric)
            if not found:
                continue
            places = [i for i, layout in enumerate(layouts) if layout in found]
            points = [mean(found[layouts[i]]) for i in places]
            middle, low, high = np.array(points).T
            style = STYLES[row.role]
            color = f"C{k % 10}" if row.role == "system" else "0.35"
            ax.plot(places, middle, style, color=color, label=row.name, markersize=4)
            if row.role == "system":
                ax.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
        ax.set_xticks(range(len(layouts)), layouts, rotation=30, ha="right", fontsize=9)
        ax.set_ylabel(f"{metric} ({unit(metric)}), mean over songs and sources")
        ax.grid(axis="y", alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    return figure


def by_layout(row: Row, metric: str) -> dict[str, list[float]]:
    """Layout -> the mean over sources of each of its songs."""
    of_song: dict[tuple[str, str], list[float]] = defaultdict(list)
    for by_metric in row.cells.values():
        cell = by_metric.get(metric)
        tracks: Mapping[str, float] = (cell.tracks if cell else None) or {}
        for name, value in tracks.items():
            song, _, layout = name.rpartition(" ")
            if math.isfinite(value):
                of_song[layout, song].append(value)
    found: dict[str, list[float]] = defaultdict(list)
    for (layout, _), values in of_song.items():
        found[layout].append(float(np.mean(values)))
    return dict(found)


def mean(values: list[float]) -> tuple[float, float, float]:
    """Mean, and the ends of its interval; of one value, that value."""
    mean = float(np.mean(values))
    low, high = interval(np.array(values), "mean") if len(values) > 1 else (mean, mean)
    return mean, low, high


def _layouts(board: Board) -> list[str]:
    """The last words of the tracks' names, as `zoo.data.scenes` makes them: pan10, delay4..."""
    if board.dataset != "scenes":
        return []
    names = dict.fromkeys(layout for row in board.rows for layout in by_layout(row, METRICS[0]))
    return sorted(names, key=lambda name: (name.rstrip("0123456789"), len(name), name))
