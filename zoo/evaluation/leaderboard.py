"""Leaderboards: entries of every provenance, put on boards, with intervals, ranks and oracles.

A board holds one data set and one protocol.  What was measured here, what was re-aggregated from
published frames or tracks, and what was copied from a paper stand on it side by side; each is
ranked among its own, and a copied figure, of which no tracks are known, is not ranked at all.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from zoo import catalog
from zoo.data.whole_test import WHOLE_TESTS
from zoo.errors import ZooError, count, near
from zoo.evaluation import published, statistics
from zoo.evaluation.board import PROVENANCES, Board, Cell, Row
from zoo.evaluation.collecting import bundled_entries, collect
from zoo.evaluation.entry import Entry, TrackFigure
from zoo.evaluation.overlap import overlap
from zoo.evaluation.roster import SYSTEMS
from zoo.metrics import rules
from zoo.metrics.rules import Protocol

DEFAULT = Path("results/scores")
STEMS = ("vocals", "drums", "bass", "other")
SOURCES = (*STEMS, "accompaniment")
MEAN = "mean"  # of the four stems, shown as if it were a source
RANKED_SHARE = 0.9  # of the tracks that the others were scored on: fewer, and a row has no rank

UNSTATED = Protocol(
    "unstated",
    'published as "median scores" and no more: comparable within its own table alone',
    ("SDR", "SIR", "SAR", "MOS"),
)


def load(
    folders: Sequence[str | Path] = (),
    *,
    dataset: str | None = None,
    protocol: str | None = None,
    metrics: Sequence[str] | None = None,
) -> tuple[list[Board], list[str]]:
    """The boards of score files, bundled releases and published tables.

    Args:
        folders: of score files, at any depth; none: ``results/scores``, where there is one.
        dataset: only its boards; also that of files in ``folders`` that tell none.
        protocol: likewise; an id or an alias.
        metrics: only these columns, which saves the intervals of others; none of them: the first
            of each board; None: all.

    Returns:
        The boards, and a sentence for everything that was left out of them.

    Raises:
        ZooError: a folder is not there, or nothing is known of the data set or protocol.
    """
    places = [Path(folder) for folder in folders] or [p for p in (DEFAULT,) if p.is_dir()]
    named = {"dataset": dataset, "protocol": protocol} if folders else {}
    measured, problems = collect(places, {key: id for key, id in named.items() if id})
    ours, faults = bundled_entries()
    entries = [*measured, *_beside(ours, measured), *published.entries()]
    try:
        found = boards(entries, dataset, protocol, metrics)
    except ZooError as error:
        if problems:  # which may be why
            raise ZooError(f"{error} {len(problems)} left out, the first: {problems[0]}") from error
        raise
    return found, [*problems, *faults]


def _beside(ours: Sequence[Entry], measured: Sequence[Entry]) -> list[Entry]:
    """Bundled entries that those measured here leave: scores of as many tracks replace them."""
    n_scored = {(e.dataset, e.protocol, e.name): len(e.scored) for e in measured}
    kept = []
    for entry in ours:
        n = n_scored.get((entry.dataset, entry.protocol, entry.name))
        if n is None:
            kept.append(entry)
        elif n < len(entry.scored):
            kept.append(replace(entry, name=f"{entry.name} (as released)"))
    return kept


def boards(
    entries: Iterable[Entry],
    dataset: str | None = None,
    protocol: str | None = None,
    metrics: Sequence[str] | None = None,
) -> list[Board]:
    """Boards of entries, as `load` has them; those with the most measured rows first."""
    grouped: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        grouped[entry.dataset, entry.protocol].append(entry)
    for system in SYSTEMS:
        grouped.setdefault((system.dataset, system.protocol), [])
    if dataset is not None:
        _check("data set", dataset, {key[0] for key in grouped})
    if protocol is not None:
        protocol = _rule(protocol).id
        _check("protocol", protocol, {key[1] for key in grouped})
    found = [
        _board(*key, members, metrics)
        for key, members in grouped.items()
        if dataset in (None, key[0]) and protocol in (None, key[1])
    ]
    if not found:
        raise ZooError(f"no board of {dataset} by {protocol}; leave one of the two out.")

    def order(board: Board) -> tuple[int, str, str]:
        n_measured = sum(row.provenance == "measured" for row in board.rows)
        return -n_measured, board.dataset, board.protocol

    return sorted(found, key=order)


def with_tracks(board: Board) -> list[Row]:
    """Rows that can be compared, since values of their tracks are known."""
    return [
        row
        for row in board.rows
        if any(cell.tracks for by_metric in row.cells.values() for cell in by_metric.values())
    ]


def find(board: Board, name: str) -> list[Row]:
    """Rows with known tracks that a name means: exactly, or as part of their names."""
    rows = with_tracks(board)
    exact = [row for row in rows if name.casefold() == row.name.casefold()]
    exact = exact or [row for row in rows if name.casefold() in _names(row)]
    return exact or [row for row in rows if name.casefold() in row.name.casefold()]


def _names(row: Row) -> set[str]:
    """The name, and a campaign's code in brackets: ``BLEND (UHL3)`` answers to three names."""
    whole = row.name.casefold()
    title, _, code = whole.removesuffix(")").partition(" (")
    return {whole, title, code} - {""}


def _check(what: str, value: str, known: set[str]) -> None:
    if value not in known:
        hint = near(value, known) or f" There are: {', '.join(sorted(known))}."
        raise ZooError(f"no board of {what} {value!r}.{hint}")


def _rule(id: str) -> Protocol:
    return UNSTATED if id == UNSTATED.id else rules.protocol(id)


# ------------------------------------------------------------------------------- one board


def _board(
    dataset: str, protocol: str, entries: Sequence[Entry], metrics: Sequence[str] | None
) -> Board:
    rule = _rule(protocol)
    present = {m for e in entries for by in (*e.tracks.values(), *e.figures.values()) for m in by}
    columns = [m for m in rule.metrics if m in present] or list(rule.metrics[:1])
    columns += sorted(present - set(columns))
    wanted = columns if metrics is None else columns[:1]
    if metrics:
        wanted = [m for m in columns if {m, label(rule, m)} & set(metrics)]
    rows = [_row(entry, rule, wanted) for entry in _with_data_told(entries)]
    rows = _with_means(rows, [label(rule, m) for m in rule.metrics])
    rows = _with_seeds(rows)
    for metric in wanted:
        if metric in rule.metrics:  # others stand beside and never rank
            rows = _ranked(rows, entries, label(rule, metric))
            if "SDR" in metric:
                rows = _against_oracles(rows, entries, rule, metric)
    known = {e.system for e in entries} | {_system(row, dataset, protocol) for row in rows}
    rows += [
        Row(system.name, "not measured", command=system.command)
        for system in SYSTEMS
        if (system.dataset, system.protocol) == (dataset, protocol) and system.name not in known
    ]
    order = list(PROVENANCES)
    rows.sort(key=lambda row: order.index(row.provenance))
    seen = {source for row in rows for source in row.cells}
    sources = [s for s in SOURCES if s in seen] + sorted(seen - {*SOURCES, MEAN})
    sources += [MEAN] if MEAN in seen else []
    return Board(
        dataset, protocol, tuple(sources), tuple(label(rule, m) for m in wanted), tuple(rows),
        max((e.n_test for e in entries if e.n_test), default=None),
        tuple(_notes(dataset, protocol, rows)),
    )  # fmt: skip


def _with_data_told(entries: Sequence[Entry]) -> list[Entry]:
    """Entries with a remark where others of the board were scored on other files."""
    data = _usual_value(e.facts.get("data") for e in entries)
    tracks = {track for e in entries for track in e.facts.get("references", ())}
    references = {
        track: _usual_value(e.facts.get("references", {}).get(track) for e in entries)
        for track in tracks
    }
    decoding = _usual_value(e.facts.get("decoding") for e in entries)
    found = []
    for entry in entries:
        if entry.facts.get("decoding") not in (None, decoding):
            told = f"references decoded {entry.facts['decoding']}, those of most rows {decoding}"
            entry = replace(entry, notes=(*entry.notes, told))
        mine = entry.facts.get("references", {})
        n_other = sum(mine[track] != references[track] for track in mine)
        if entry.facts.get("data") not in (None, data):
            told = "scored on other files than most rows, maybe other songs"
        elif n_other:
            told = f"{count(n_other, 'track')} scored against other files than most rows"
        else:
            found.append(entry)
            continue
        found.append(replace(entry, notes=(*entry.notes, told)))
    return found


def _usual_value(values: Iterable[str | None]) -> str | None:
    """The most common one; of several the first."""
    counted = Counter(value for value in values if value)
    return counted.most_common(1)[0][0] if counted else None


def label(rule: Protocol, metric: str) -> str:
    """Name of a column: a mean weighted by length is told by a G."""
    return f"G{metric}" if rule.track_pool == "weighted" and metric in rule.metrics else metric


def _row(entry: Entry, rule: Protocol, metrics: Sequence[str]) -> Row:
    cells: dict[str, dict[str, Cell]] = defaultdict(dict)
    for metric in metrics:
        if entry.role == "mixture" and metric == "SAR":
            continue  # it has no artefacts, and what is left of them is rounding
        for source, by_metric in entry.tracks.items():
            if metric in by_metric:
                cells[source][label(rule, metric)] = _cell(by_metric[metric], rule)
        for source, figures in entry.figures.items():
            if metric in figures:
                cells[source][label(rule, metric)] = Cell(figures[metric])
    command = next(
        (
            s.command
            for s in SYSTEMS
            if entry.provenance != "measured"
            and (s.name, s.dataset, s.protocol) == (entry.system, entry.dataset, entry.protocol)
        ),
        "",
    )
    n_scored, coverage = len(entry.scored), ""
    if entry.n_test and n_scored and n_scored < entry.n_test:
        noun = WHOLE_TESTS[entry.dataset].noun if entry.dataset in WHOLE_TESTS else "tracks"
        coverage = f"{n_scored} of {entry.n_test} {noun}"
    few = _few(cells, label(rule, metrics[0]), n_scored) if metrics else []
    why = entry.facts.get("unranked")
    notes = (*entry.notes, *([f"not ranked: {why}"] if why else []), *few)
    return Row(
        entry.name, entry.provenance, entry.role, dict(cells), coverage, entry.facts, notes, command
    )


def _few(cells: Mapping[str, Mapping[str, Cell]], metric: str, n_scored: int) -> list[str]:
    """Sources that have no value on some of the tracks, in words."""
    told = [
        f"{source} {cell.n_tracks}"
        for source, by_metric in cells.items()
        if (cell := by_metric.get(metric)) and cell.n_tracks is not None
        if cell.n_tracks < n_scored
    ]
    return [f"tracks with a value, of {n_scored}: {', '.join(told)}"] if told else []


def _cell(figures: Mapping[str, TrackFigure], rule: Protocol) -> Cell:
    sound = [f for f in figures.values() if math.isfinite(f.value)]
    if _has_frames(sound, rule):
        low, high = statistics.interval_of_frames([np.array(f.frames) for f in sound])
    else:
        values = np.array([f.value for f in sound])
        low, high = statistics.interval(
            values, rule.track_pool, np.array([f.weight for f in sound])
        )
    return Cell(
        _pooled(sound, rule),
        None if math.isnan(low) else low,
        None if math.isnan(high) else high,
        len(sound),
        sum(f.n_valid for f in figures.values()),
        sum(f.n_frames for f in figures.values()),
        {track: f.value for track, f in figures.items()},
        beside=rule.statistics(_values(sound, rule)),
    )


def _has_frames(sound: Sequence[TrackFigure], rule: Protocol) -> bool:
    """Whether the frames of all tracks are to be pooled, and are known."""
    return rule.frame_pool == "none" and bool(sound) and all(f.frames for f in sound)


def _pooled(figures: Sequence[TrackFigure], rule: Protocol) -> float:
    sound = [f for f in figures if math.isfinite(f.value)]
    weights = None if _has_frames(sound, rule) else [f.weight for f in sound]
    return rule.pool(_values(sound, rule), weights)


def _values(sound: Sequence[TrackFigure], rule: Protocol) -> list[float]:
    """What a data set's value is pooled of."""
    if _has_frames(sound, rule):
        return [x for f in sound for x in f.frames]
    return [f.value for f in sound]


# ------------------------------------------------------------------------------- beside the figures


def _with_means(rows: Sequence[Row], metrics: Sequence[str]) -> list[Row]:
    """Rows whose four stems have a value also have their mean, unless a paper gave one."""
    found = []
    for row in rows:
        means = {}
        for metric in metrics:
            stems = [row.cell(source, metric) for source in STEMS]
            if row.cell(MEAN, metric) is None and all(stems):
                means[metric] = Cell(float(np.mean([cell.value for cell in stems if cell])))
        found.append(replace(row, cells={**row.cells, MEAN: means}) if means else row)
    return found


def _with_seeds(rows: Sequence[Row]) -> list[Row]:
    """The spread over seeds, for systems of one name and one set of arguments with several."""
    families: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for k, row in enumerate(rows):
        if row.provenance == "measured" and row.facts.get("training_seed") is not None:
            name = re.sub(r"[\W_]*seed[\W_]*\d+|\s\(\d+\)$", "", row.name)
            arguments = dict(row.facts.get("arguments") or {})
            arguments.pop("seed", None)
            told = json.dumps(arguments, sort_keys=True, default=str)
            families[name, told, row.silence].append(k)
    found = list(rows)
    for members in families.values():
        n_seeds = len({rows[k].facts["training_seed"] for k in members})
        if n_seeds < 2:
            continue
        for k in members:
            cells = {
                source: {m: replace(c, seed_spread=_spread(rows, members, source, m))
                         for m, c in by_metric.items()}
                for source, by_metric in rows[k].cells.items()
            }  # fmt: skip
            note = f"one of {n_seeds} seeds"
            found[k] = replace(rows[k], cells=cells, notes=(*rows[k].notes, note))
    return found


def _spread(rows: Sequence[Row], members: Sequence[int], source: str, metric: str) -> float:
    cells = [rows[k].cell(source, metric) for k in members]
    values = [cell.value for cell in cells if cell]
    return max(values) - min(values)


def _ranked(rows: Sequence[Row], entries: Sequence[Entry], metric: str) -> list[Row]:
    """Ranks among the systems of one provenance and silence that were scored on the same tracks."""
    found = list(rows)
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for k, row in enumerate(rows):
        if row.role == "system" and entries[k].tracks and not row.facts.get("unranked"):
            alike[row.provenance, row.silence].append(k)
    for members in alike.values():
        usual = _usual([entries[k].scored for k in members])
        for k in members:
            n = len(entries[k].scored & usual)
            told = f"not ranked: scored on {n} of the {len(usual)} tracks of most others"
            if n < RANKED_SHARE * len(usual) and told not in rows[k].notes:
                found[k] = replace(found[k], notes=(*found[k].notes, told))
        members = [
            k for k in members if len(entries[k].scored & usual) >= RANKED_SHARE * len(usual)
        ]
        for source in {source for k in members for source in rows[k].cells} - {MEAN}:
            cells = {k: rows[k].cell(source, metric) for k in members}
            known = {k: c for k, c in cells.items() if c and c.tracks and not math.isnan(c.value)}
            if len(known) < 2:
                continue
            ranks = statistics.ranks(
                [cell.tracks or {} for cell in known.values()],
                [cell.seed_spread or 0.0 for cell in known.values()],
            )
            for (k, cell), rank in zip(known.items(), ranks, strict=True):
                found[k] = _with_cell(found[k], source, metric, replace(cell, rank=rank))
    return found


def _usual(scored: Sequence[set[str]]) -> set[str]:
    """The set of tracks that most systems were scored on; of equally common ones the largest."""
    counts = Counter(frozenset(tracks) for tracks in scored)
    return (
        set(max(counts.items(), key=lambda item: (item[1], len(item[0])))[0]) if counts else set()
    )


def _against_oracles(
    rows: Sequence[Row], entries: Sequence[Entry], rule: Protocol, metric: str
) -> list[Row]:
    """Per cent of the best oracle of each source; the mixture, where there is one, is 0 %.

    Both are pooled over the row's own tracks, and are of its own provenance where that has them,
    else of another, but never one of each.
    """
    column = label(rule, metric)
    has_floor = metric != "NSDR" and any(row.role == "mixture" for row in rows)
    found = list(rows)
    for k, row in enumerate(rows):
        for source in row.cells:
            cell = row.cell(source, column)
            if row.role != "system" or cell is None or not cell.tracks:
                continue
            tracks = [track for track, value in cell.tracks.items() if math.isfinite(value)]
            for provenance in sorted(PROVENANCES, key=lambda p: p != row.provenance):
                alike = [
                    entry
                    for entry, other in zip(entries, rows, strict=True)
                    if (other.provenance, other.silence) == (provenance, row.silence)
                ]
                best = _best(alike, "oracle", rule, source, metric, tracks)
                floor = _best(alike, "mixture", rule, source, metric, tracks) if has_floor else 0.0
                if best > floor:  # neither is NaN
                    share = 100 * (cell.value - floor) / (best - floor)
                    found[k] = _with_cell(found[k], source, column, replace(cell, of_oracle=share))
                    break
    return found


def _best(
    entries: Sequence[Entry], role: str, rule: Protocol, source: str, metric: str,
    tracks: Sequence[str],
) -> float:  # fmt: skip
    """Best oracle or mixture on these tracks; NaN where none was scored on all of them."""
    known = [e.tracks.get(source, {}).get(metric, {}) for e in entries if e.role == role]
    values = [_pooled([f[t] for t in tracks], rule) for f in known if f.keys() >= set(tracks)]
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _with_cell(row: Row, source: str, metric: str, cell: Cell) -> Row:
    return replace(row, cells={**row.cells, source: {**row.cells[source], metric: cell}})


def _system(row: Row, dataset: str, protocol: str) -> str:
    """Name of the system that a measured row is one of, by its name or its architecture."""
    if row.provenance != "measured":
        return ""
    arguments = row.facts.get("arguments") or {}
    own = catalog.variant(str(row.facts.get("model") or row.name).casefold(), arguments)
    architectures = {s.architecture for s in SYSTEMS if f"{own}-".startswith(f"{s.architecture}-")}
    for system in SYSTEMS:
        if (system.dataset, system.protocol) != (dataset, protocol) or system.arguments is None:
            continue
        is_ours = system.architecture == max(architectures, key=len, default=None)
        if is_ours and all(arguments.get(k) == v for k, v in system.arguments.items()):
            return system.name
    return ""


def _notes(dataset: str, protocol: str, rows: Sequence[Row]) -> list[str]:
    notes = [_rule(protocol).words]
    shared = overlap(dataset, None, dataset)
    if shared:
        notes.append(f"trained by its usual split: {shared}")
    cells = [c for row in rows for by_metric in row.cells.values() for c in by_metric.values()]
    if all(cell.of_oracle is None for cell in cells):
        return notes
    if protocol == "mir1k" or any(row.role == "mixture" for row in rows):
        notes.append("per cent of the oracle: of the best oracle's gain over the mixture")
    else:
        notes.append("per cent of the oracle: of the best oracle's figure; no mixture was scored")
    return notes
