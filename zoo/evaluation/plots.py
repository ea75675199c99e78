"""Boards as pictures: the spread over tracks, and what a decibel costs."""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zoo import pictures
from zoo.evaluation.board import PROVENANCES, Board, Row
from zoo.evaluation.page import TITLE, made_by, render, unit
from zoo.evaluation.scene_plot import over_layouts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Cost = Literal["seconds", "parameters"]

COSTS: dict[Cost, str] = {
    "seconds": "CPU seconds per second of audio",
    "parameters": "parameters",
}
SHADES = {"measured": "#4c9bd4", "re-aggregated": "#c9ced6", "copied": "white"}
MARKERS = {"measured": "o", "re-aggregated": "s", "copied": "D"}
HATCH = "/////"  # of what is no system
LONGEST = 28  # letters of a name
LABEL_SIZE = 8  # points
FAR = 60  # points from its mark at which a name is half as bad as one that hides another
LEADER = 14  # points from a mark to its name from which a line leads back
OFFSETS = [
    (x * ring, y * ring)
    for ring in (8, 15, 24, 36, 50, 66, 84, 104)
    for x, y in [
        (1, 0),
        (-1, 0),
        (0.7, 0.8),
        (0.7, -0.8),
        (-0.7, 0.8),
        (-0.7, -0.8),
        (0, 1),
        (0, -1),
    ]
]
"""Points from a mark to the edge of its name, nearest first."""


def write(boards: Sequence[Board], path: str | os.PathLike[str]) -> list[Path]:
    """Draw what the boards have of tracks and costs, as PNG and, all in one page, as HTML.

    Args:
        boards: one set of pictures each.
        path: folder, which is made; ``<data set>-<protocol>-tracks.png``, ``...-cost.png``, of
            scenes ``...-layouts.png``, and ``plots.html``, which needs no other file.

    Returns:
        The files written.

    Raises:
        MissingPackage: matplotlib or jinja2 is not installed.
    """
    from matplotlib import rc_context

    folder = Path(path)
    written, sections = [], []
    # Names are text, not formulae; text stays text, so that it can be searched and read aloud.
    with (
        rc_context({"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "zoo"}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # its font lacks some script
        for board in boards:
            drawn = []
            for kind, label, figure in _figures(board):
                name = f"{board.dataset}-{board.protocol}-{kind}.png"
                written.append(pictures.save(figure, folder / name))
                drawn.append((label, _svg(figure)))
            if drawn:
                sections.append((board.title, drawn))
    page = folder / "plots.html"
    render("plots.html", page, title=TITLE, sections=sections, foot=made_by())
    return [*written, page]


def _figures(board: Board) -> Iterator[tuple[str, str, Figure]]:
    metric = board.metrics[0]
    if (figure := spread(board)) is not None:
        yield "tracks", f"{board.title}: box plots of {metric} over tracks", figure
    if (figure := cost(board)) is not None:
        yield "cost", f"{board.title}: {metric} against cost", figure
    if (figure := over_layouts(board)) is not None:
        yield "layouts", f"{board.title}: over angles and delays", figure


def spread(board: Board) -> Figure | None:
    """Box plots over tracks, one panel per source; None where no row has values of tracks.

    Notes:
        Systems stand in one order in all panels: grouped as on the board, best first on the first
        source.
    """
    metric = board.metrics[0]
    # A mean of stems has no tracks to draw.
    sources = [s for s in board.sources if any(_values(row, s, metric) for row in board.rows)]
    if not sources:
        return None
    rows = [row for row in _in_order(board) if any(_values(row, s, metric) for s in sources)]
    if not rows:
        return None
    width = max(8.0, 1.5 + 2.3 * len(sources))
    figure = pictures.blank(width, max(1.8, 1.1 + 0.22 * len(rows)), board.title)
    axes = figure.subplots(1, len(sources), sharey=True, squeeze=False)[0]
    for ax, source in zip(axes, sources, strict=True):
        _boxes(
            ax,
            {k: row for k, row in enumerate(rows) if _values(row, source, metric)},
            source,
            metric,
        )
        _trim(ax, [_values(row, source, metric) for row in rows])
        ax.set_title(source, loc="left", fontsize=11)
        ax.set_xlabel(_label(metric))
        ax.grid(axis="x", alpha=0.3)
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(rows)), [_shortened(row.name) for row in rows], fontsize=9)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    _legend(figure, rows)
    return figure


def _boxes(ax: Axes, rows: Mapping[int, Row], source: str, metric: str) -> None:
    if not rows:
        return
    drawn = ax.boxplot(
        [_values(row, source, metric) for row in rows.values()], positions=list(rows),
        orientation="horizontal", widths=0.6, patch_artist=True, manage_ticks=False,
        boxprops={"linewidth": 0.8}, medianprops={"color": "black", "linewidth": 1.6},
        flierprops={"marker": "o", "markersize": 2.2, "markeredgewidth": 0.6},
    )  # fmt: skip
    for box, row in zip(drawn["boxes"], rows.values(), strict=True):
        box.set(facecolor=SHADES[row.provenance], hatch="" if row.role == "system" else HATCH)


def cost(board: Board) -> Figure | None:
    """Value against cost, a row of panels per source; None where no system's cost is known."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    metric = board.metrics[0]
    kinds = [kind for kind in COSTS if any(_cost(row, kind) for row in board.rows)]
    shown = [
        source
        for source in board.sources
        if any(_point(row, source, metric, kind) for row in board.rows for kind in kinds)
    ]
    if not shown:
        return None
    size = (1.0 + 4.6 * len(kinds), 1.0 + 3.1 * len(shown))
    figure = pictures.blank(*size, board.title)
    axes = figure.subplots(len(shown), len(kinds), squeeze=False)
    for line, source in zip(axes, shown, strict=True):
        for ax, kind in zip(line, kinds, strict=True):
            _scatter(ax, board, source, kind)
    _legend(figure, [row for row in board.rows if any(_cost(row, kind) for kind in kinds)])
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()  # the layout decides where the marks are
    for ax in axes.flat:
        _place_labels(ax, canvas.get_renderer())
    return figure


def _scatter(ax: Axes, board: Board, source: str, kind: Cost) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    metric = board.metrics[0]
    for row in board.rows:
        if point := _point(row, source, metric, kind):
            ax.scatter(
                *point, s=34, marker=MARKERS[row.provenance], facecolor=SHADES[row.provenance],
                edgecolor="black", linewidth=0.9, zorder=3, label=_shortened(row.name),
            )  # fmt: skip
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(EngFormatter() if kind == "parameters" else "{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.margins(x=0.25, y=0.2)
    for name, value in _lines(board, source, metric):
        ax.axhline(value, color="grey", linestyle=":", linewidth=1)
        ax.annotate(
            name, (1, value), xycoords=("axes fraction", "data"), xytext=(0, 2),
            textcoords="offset points", ha="right", fontsize=8, color="dimgrey",
        )  # fmt: skip
    ax.set_title(source, loc="left", fontsize=11)
    ax.set_xlabel(COSTS[kind])
    ax.set_ylabel(_label(metric))
    ax.grid(alpha=0.3, which="major")
    ax.spines[["top", "right"]].set_visible(False)


def _lines(board: Board, source: str, metric: str) -> list[tuple[str, float]]:
    """The mixture and the best oracle, which cost nothing that compares."""
    found: dict[str, tuple[str, float]] = {}
    for row in board.rows:
        cell = row.cell(source, metric)
        if row.role not in ("mixture", "oracle") or cell is None or not math.isfinite(cell.value):
            continue
        if row.role not in found or cell.value > found[row.role][1]:
            found[row.role] = row.name, cell.value
    return list(found.values())


def _place_labels(ax: Axes, renderer: Any) -> None:
    """Name each mark where the name hides no mark and no other name, as near as there is room."""
    from matplotlib.transforms import Bbox

    dots = ax.figure.dpi / 72  # in a point
    marks = [
        (str(c.get_label()), ax.transData.transform(c.get_offsets())[0]) for c in ax.collections
    ]
    taken = [Bbox.from_extents(*(at - 5 * dots), *(at + 5 * dots)) for _, at in marks]
    taken += [text.get_window_extent(renderer) for text in ax.texts]
    room = ax.get_window_extent(renderer)
    for name, at in sorted(marks, key=lambda mark: -mark[1][1]):
        text = ax.text(0, 0, name, fontsize=LABEL_SIZE)
        air = np.array([4 * dots, 0])  # between two names
        size = np.asarray(text.get_window_extent(renderer).size) + air
        text.remove()

        def around(offset: tuple[float, float], at: Any = at, size: Any = size) -> Bbox:
            middle = at + dots * np.array(offset) + [np.sign(offset[0]) * size[0] / 2, 0]
            return Bbox.from_extents(*(middle - size / 2), *(middle + size / 2))

        def faults(offset: tuple[float, float], around: Any = around) -> tuple[bool, float]:
            box = around(offset)
            inside = room.contains(*box.min) and room.contains(*box.max)
            crowd = sum(box.overlaps(other) for other in taken)
            return not inside, 2 * crowd + math.hypot(*offset) / FAR

        offset = min(OFFSETS, key=faults)  # the first, which is the nearest, of the best
        taken.append(around(offset))
        far = math.hypot(*offset) >= LEADER
        ax.annotate(
            name, tuple(ax.transData.inverted().transform(at)), xytext=offset,
            textcoords="offset points",
            fontsize=LABEL_SIZE, va="center_baseline",
            ha={1: "left", 0: "center", -1: "right"}[int(np.sign(offset[0]))],
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "grey", "shrinkB": 4} if far
            else None,
        )  # fmt: skip


def _in_order(board: Board) -> list[Row]:
    """Rows grouped by provenance, then oracles and mixture; best first on the first source."""
    provenances = list(PROVENANCES)
    return sorted(  # which keeps the order within a group
        board.best_first(board.sources[0]),
        key=lambda row: (row.role != "system", provenances.index(row.provenance)),
    )


def _values(row: Row, source: str, metric: str) -> list[float]:
    cell = row.cell(source, metric)
    tracks = cell.tracks if cell is not None else None
    return [value for value in (tracks or {}).values() if math.isfinite(value)]


def _cost(row: Row, kind: Cost) -> float | None:
    """A positive number, or None: oracles and the mixture cost nothing that compares."""
    found = row.cost if kind == "seconds" else row.facts.get("parameters")
    return float(found) if row.role == "system" and found else None


def _point(row: Row, source: str, metric: str, kind: Cost) -> tuple[float, float] | None:
    cell, price = row.cell(source, metric), _cost(row, kind)
    if price is None or cell is None or not math.isfinite(cell.value):
        return None
    if any(note.startswith("not ranked: scored on") for note in row.notes):
        return None  # of a few tracks: it does not compare
    if re.search(r"seed\W*\d+$", row.name):
        return None  # it costs what the first seed does
    return price, cell.value


def _trim(ax: Axes, series: Sequence[list[float]]) -> None:
    """End the axis where the whiskers end, not where a single track lies."""
    ends = []
    for values in filter(None, series):
        low, high = np.quantile(values, [0.25, 0.75])
        reach = 1.5 * (high - low)
        ends += [v for v in values if low - reach <= v <= high + reach]
    if ends:
        pad = 0.04 * (max(ends) - min(ends)) or 1.0
        ax.set_xlim(min(ends) - pad, max(ends) + pad)


def _legend(figure: Figure, rows: Sequence[Row]) -> None:
    from matplotlib.patches import Patch

    met = {row.provenance for row in rows}
    handles = [
        Patch(facecolor=SHADES[key], edgecolor="black", linewidth=0.8, label=meaning)
        for key, meaning in PROVENANCES.items()
        if key in met and key in SHADES
    ]
    if any(row.role != "system" for row in rows):
        handles.append(
            Patch(
                facecolor="white",
                edgecolor="black",
                linewidth=0.8,
                hatch=HATCH,
                label="oracles and mixture",
            )  # fmt: skip
        )
    figure.legend(
        handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=8
    )


def _label(metric: str) -> str:
    return f"{metric} ({unit(metric)})" if unit(metric) else metric


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _svg(figure: Figure) -> str:
    """The figure as an element of HTML; names in it are escaped."""
    figure.set_layout_engine("none")  # it was laid out for the PNG
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
