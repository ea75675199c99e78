"""Boards as text: a table for the terminal, Markdown, and CSV with everything in it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence

from zoo.evaluation.board import PROVENANCES, Board, Cell, Row

LEGEND = (
    "In brackets: the rank among rows of one provenance and one rule of silence; systems that "
    "share ranks, as in 1-3, cannot be told apart (paired Wilcoxon test over tracks, Holm's "
    "correction, p < 0.05)."
)
INTERVALS = "Intervals are 95 %, bootstrapped over tracks."
COLUMNS = (
    "dataset protocol provenance role system source metric value low high rank n_tracks n_test "
    "n_valid_frames n_frames percent_of_oracle seed_spread median MAD mean SD coverage shared "
    "extra_data parameters cpu_s_per_s evaluator sha256 seed training_seed credit notes command"
).split()


def as_table(board: Board, metric: str, source: str | None = None) -> str:
    """A board for the terminal: all sources side by side, or all that is known of one."""
    lines = [f"{board.title}: {metric}{f' of {source}' if source else ''}"]
    lines += [f"  {note}" for note in board.notes if source or not _is_of_oracle(note)]
    footnotes: dict[str, int] = {}
    shown = [source] if source else list(board.sources)
    table: list[tuple[str, list[list[str]]]] = []
    for title, rows in sections(board, metric, source):
        if source:
            table.append((title, [_detail(row, source, metric) for row in rows]))
        else:
            table.append((title, [_overview(row, shown, metric, footnotes) for row in rows]))
    if source:
        head = ["rank", "system", "value", "95 % interval", "% oracle", "tracks", "frames", ""]
    else:
        head = ["system", *shown, ""]
    widths = [
        max(len(row[i]) for row in [head, *(r for _, rows in table for r in rows)])
        for i in range(len(head))
    ]
    for title, cells in table:
        lines += ["", title, _line(head, widths), *(_line(row, widths) for row in cells)]
    lines += _pending(board)
    if footnotes:
        lines += ["", *(f"[{number}] {text}" for text, number in footnotes.items())]
    return "\n".join(lines) + "\n"


def as_markdown(board: Board, metric: str, source: str | None = None) -> str:
    """A board for a page: intervals and ranks in the cells, remarks in the last column."""
    shown = [source] if source else list(board.sources)
    lines = [f"## {board.title}: {metric}", ""]
    lines += [f"- {note}" for note in board.notes if not _is_of_oracle(note)]
    for title, rows in sections(board, metric, source):
        lines += ["", f"### {title[0].upper()}{title[1:]}", ""]
        lines += [f"| system | {' | '.join(shown)} | remarks |"]
        lines += [f"| --- |{' ---: |' * len(shown)} --- |"]
        for row in rows:
            cells = [_full(row.cell(s, metric)) for s in shown]
            lines.append(f"| {' | '.join(_escaped([row.name, *cells, '; '.join(remarks(row))]))} |")
    pending = [row for row in board.rows if row.provenance == "not measured"]
    if pending:
        lines += ["", "### Not measured yet", "", "| system | what would measure it |"]
        lines += ["| --- | --- |", *(f"| {row.name} | `{row.command}` |" for row in pending)]
    return "\n".join(lines) + "\n"


def _is_of_oracle(note: str) -> bool:
    """Whether a note explains a column that a table of all sources has no room for."""
    return note.startswith("per cent of the oracle")


def as_csv(boards: Iterable[Board], source: str | None = None) -> str:
    """Boards in one table: a line per row, source and metric."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for board in boards:
        for row in board.rows:
            written = [
                {"source": s, "metric": m} | _cell_facts(cell)
                for s in board.sources
                for m in board.metrics
                if (cell := row.cell(s, m)) and source in (None, s)
            ]
            if row.provenance == "not measured":
                written = [{}]
            writer.writerows({**_row_facts(board, row), **line} for line in written)
    return text.getvalue()


def sections(board: Board, metric: str, source: str | None) -> Iterator[tuple[str, list[Row]]]:
    """Titles with the rows below them that have a value, best first; oracles and mixture last."""
    first = source or board.sources[0] if board.sources else ""

    def known(rows: Iterable[Row]) -> list[Row]:
        shown = [source] if source else board.sources
        return [row for row in rows if any(row.cell(s, metric) for s in shown)]

    for provenance, title in PROVENANCES.items():
        rows = board.best_first(first, metric, provenance=provenance, role="system")
        if kept := known(rows):
            yield title, kept
    for provenance, title in PROVENANCES.items():
        rows = board.best_first(first, metric, provenance=provenance)
        if kept := known(row for row in rows if row.role != "system"):
            yield f"oracles and mixture, without rank, {title}", kept


def remarks(row: Row) -> list[str]:
    """What must be known before a row is compared with another."""
    facts = row.facts
    extra = str(facts.get("extra_data") or "")
    known = [
        row.coverage,
        str(facts.get("shared") or ""),
        "" if extra in ("", "no", "none", "oracle") else _extra(extra),
        *row.notes,
    ]
    return [remark for remark in known if remark]


def _extra(extra: str) -> str:
    return f"further training data{extra.removeprefix('yes')}"


def _overview(
    row: Row, sources: Sequence[str], metric: str, footnotes: dict[str, int]
) -> list[str]:
    numbers = [
        str(footnotes.setdefault(remark, len(footnotes) + 1))
        for remark in remarks(row)
        if remark != row.coverage
    ]
    marks = f"[{','.join(numbers)}]" if numbers else ""
    cells = [_short(row.cell(source, metric)) for source in sources]
    return [row.name, *cells, f"{row.coverage} {marks}".strip()]


def _detail(row: Row, source: str, metric: str) -> list[str]:
    cell = row.cell(source, metric) or Cell(math.nan)
    told = [f"{name} {_number(value)}" for name, value in cell.beside.items()]
    if cell.seed_spread is not None:
        told.append(f"seeds differ by {cell.seed_spread:.2f}")
    return [
        cell.rank,
        row.name,
        _number(cell.value),
        _interval(cell),
        "" if cell.of_oracle is None else f"{cell.of_oracle:.0f}",
        "" if cell.n_tracks is None else str(cell.n_tracks),
        "" if cell.n_frames is None else f"{cell.n_valid_frames} of {cell.n_frames}",
        "; ".join([*told, *remarks(row)]),
    ]


def _short(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    return f"{_number(cell.value)} ({cell.rank})" if cell.rank else _number(cell.value)


def _full(cell: Cell | None) -> str:
    if cell is None:
        return ""
    parts = [_number(cell.value), _interval(cell), f"({cell.rank})" if cell.rank else ""]
    return " ".join(part for part in parts if part)


def _interval(cell: Cell) -> str:
    if cell.low is None or cell.high is None:
        return ""
    return f"[{_number(cell.low)}, {_number(cell.high)}]"


def _number(value: float) -> str:
    return "no value" if math.isnan(value) else f"{value:.2f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"  {'  '.join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()}"


def _pending(board: Board) -> list[str]:
    rows = [row for row in board.rows if row.provenance == "not measured"]
    if not rows:
        return []
    width = max(len(row.name) for row in rows)
    return [
        "",
        PROVENANCES["not measured"],
        *(f"  {row.name.ljust(width)}  {row.command}" for row in rows),
    ]


def _escaped(cells: Iterable[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in cells]


def _row_facts(board: Board, row: Row) -> dict[str, object]:
    facts = row.facts
    cost = row.cost
    return {
        "dataset": board.dataset,
        "protocol": board.protocol,
        "provenance": row.provenance,
        "role": row.role,
        "system": row.name,
        "n_test": board.n_test,
        "coverage": row.coverage,
        "shared": facts.get("shared"),
        "extra_data": facts.get("extra_data"),
        "parameters": facts.get("parameters"),
        "cpu_s_per_s": None if cost is None else round(cost, 3),
        "evaluator": facts.get("evaluator"),
        "sha256": facts.get("sha256"),
        "seed": facts.get("seed"),
        "training_seed": facts.get("training_seed"),
        "credit": facts.get("source"),
        "notes": "; ".join(row.notes),
        "command": row.command,
    }


def _cell_facts(cell: Cell) -> dict[str, object]:
    def rounded(value: float | None) -> object:
        return None if value is None or math.isnan(value) else round(value, 4)

    return {
        "value": rounded(cell.value),
        "low": rounded(cell.low),
        "high": rounded(cell.high),
        "rank": cell.rank,
        "n_tracks": cell.n_tracks,
        "n_valid_frames": cell.n_valid_frames,
        "n_frames": cell.n_frames,
        "percent_of_oracle": rounded(cell.of_oracle),
        "seed_spread": rounded(cell.seed_spread),
        **{name: rounded(value) for name, value in cell.beside.items()},
    }
