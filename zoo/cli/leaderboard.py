"""``zoo leaderboard``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import ZooError, near
from zoo.evaluation import leaderboard, statistics, text
from zoo.evaluation.board import PROVENANCES, Board, Row
from zoo.files import write_whole
from zoo.metrics.rules import LESS_IS_BETTER

_BY_SUFFIX = {".md": "markdown", ".csv": "csv"}


@dataclass(frozen=True)
class Request:
    """What ``zoo leaderboard`` was asked for; the options of the command, by their names."""

    folders: Sequence[str]
    dataset: str | None
    protocol: str | None
    source: str | None
    metric: str | None
    format: str | None
    output: str | None
    compare: tuple[str, str] | None
    html: str | None
    plot: str | None

    @property
    def form(self) -> str:
        """Form of the text: as asked for, or by the file's suffix."""
        return self.format or _BY_SUFFIX.get(Path(self.output or "").suffix, "table")

    @property
    def metrics(self) -> Sequence[str] | None:
        """Columns to compute: the one asked for, all where they can be shown, else the first."""
        if self.metric is not None:
            return [self.metric]
        return None if self.html or self.plot or self.form == "csv" else ()


def show_leaderboard(request: Request) -> int:
    """Print or write the boards; 1 when something had to be left out of them."""
    if (request.output or "").endswith(".html") and not request.format:
        raise ZooError(f"{request.output} is to be a page; write --html {request.output}.")
    for path in (request.output, request.html, request.plot):
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise ZooError(f"no folder {Path(path).parent} to write {Path(path).name} in; make it.")
    suffix = Path(request.output or "").suffix.lower()
    if suffix not in ("", ".txt", *_BY_SUFFIX) and not request.format:
        raise ZooError(f"{request.output}: expected .txt, .md or .csv, or --format.")
    for path in (request.output, request.html):
        if path is not None and Path(path).is_dir():
            raise ZooError(f"{path} is a folder; name a file in it.")
    if request.plot is not None and Path(request.plot).is_file():
        raise ZooError(f"{request.plot} is a file; --plot takes a folder for its pictures.")
    boards, problems = leaderboard.load(
        request.folders,
        dataset=request.dataset,
        protocol=request.protocol,
        metrics=request.metrics,
    )
    boards = _asked_for(boards, request)
    if request.compare:
        _give(_comparison(boards, *request.compare), request.output)
    elif request.output or not (request.html or request.plot):
        _give(_text(boards, request), request.output)
    if request.html:
        from zoo.evaluation import page

        page.write(boards, Path(request.html))
        print(f"page: {request.html}")
    if request.plot:
        from zoo.evaluation import plots

        plots.write(boards, Path(request.plot))
        print(f"plots: {request.plot}")
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _asked_for(boards: Sequence[Board], request: Request) -> list[Board]:
    """Boards that have the metric and the source.

    Raises:
        ZooError: none has.
    """
    kept = [board for board in boards if board.metrics]
    if not kept:
        raise ZooError(
            f"no board has the metric {request.metric!r}; most have SDR, ISR, SIR and SAR, "
            "mir1k has GNSDR, GSIR and GSAR."
        )
    if request.source is None:
        return kept
    sources = sorted({source for board in kept for source in board.sources})
    kept = [board for board in kept if request.source in board.sources]
    if not kept:
        hint = near(request.source, sources) or f" There are: {', '.join(sources)}."
        raise ZooError(f"no board has the source {request.source!r}.{hint}")
    return kept


def _text(boards: Sequence[Board], request: Request) -> str:
    if request.form == "csv":
        return text.as_csv(boards, request.source)
    write = text.as_markdown if request.form == "markdown" else text.as_table
    parts = [write(board, board.metrics[0], request.source) for board in boards]
    shows_intervals = request.source or request.form == "markdown"
    legend = f"{text.LEGEND} {text.INTERVALS}" if shows_intervals else text.LEGEND
    return "\n".join([*parts, f"{legend}\n"])


def _give(content: str, output: str | None) -> None:
    if output is None:
        print(content, end="")
    else:
        write_whole(Path(output), content)


def _comparison(boards: Sequence[Board], first: str, second: str) -> str:
    """Two systems on every board that has the tracks of both.

    Raises:
        ZooError: there is none, or a name means several.
    """
    parts = []
    for board in boards:
        a, b = (_one(board, name) for name in (first, second))
        if a and b and a is not b:
            parts.append(_compared(board, a, b))
    if not parts:
        rows = [row.name for board in boards for row in leaderboard.with_tracks(board)]
        rows += [name.partition(" (")[0] for name in rows]  # BLEND (UHL3), which BLEND finds too
        unknown = [n for n in (first, second) if not any(_one(board, n) for board in boards)]
        hints = "".join(near(name, rows) for name in unknown)
        raise ZooError(f"no board has the tracks of both {first!r} and {second!r}.{hints}")
    return "\n".join(parts)


def _one(board: Board, name: str) -> Row | None:
    found = leaderboard.find(board, name)
    if len(found) > 1:
        names = ", ".join(repr(row.name) for row in found)
        raise ZooError(f"{name!r} means several systems of {board.title}: {names}.")
    return found[0] if found else None


def _compared(board: Board, a: Row, b: Row) -> str:
    metric = board.metrics[0]
    pairs = {}
    for source in board.sources:
        of_a, of_b = a.cell(source, metric), b.cell(source, metric)
        if of_a and of_b and of_a.tracks and of_b.tracks:
            pairs[source] = (of_a.tracks, of_b.tracks)
    found = statistics.compare_all(list(pairs.values()))
    is_less = metric in LESS_IS_BETTER
    lines = [f"{board.title}: {metric} of {a.name} minus {b.name}{', less is better' * is_less}"]
    if a.provenance != b.provenance:
        lines.append(f"  {PROVENANCES[a.provenance]} against {PROVENANCES[b.provenance]}")
    for source, one in zip(pairs, found, strict=True):
        if not one.n_tracks:
            lines.append(f"  {source:<14} no track has a value of both")
            continue
        said = "" if one.is_separable else ": cannot be told apart"
        won = 1 - one.won if is_less else one.won
        lines.append(
            f"  {source:<14} {one.median:+.2f} [{one.low:+.2f}, {one.high:+.2f}], "
            f"better on {won:.0%} of {one.n_tracks} tracks, p = {one.p_holm:.1g}{said}"
        )
    lines.append(
        "  median difference with its 95 % interval over tracks; Wilcoxon's signed-rank test, "
        "corrected by Holm over the sources"
    )
    return "\n".join(lines) + "\n"
