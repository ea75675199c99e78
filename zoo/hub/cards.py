"""Cards: the README of a release, made of its record, its recipe and its stored scores alone.

What is not known is said so; nothing is written by hand, so that a card never says more than was
measured.  ``python -m zoo.hub.cards hub_cards`` makes those of the releases that come along.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from safetensors.numpy import load_file

from zoo import catalog, pictures, recipes
from zoo.errors import ReleaseError, ZooError
from zoo.evaluation import published
from zoo.evaluation.board import Row
from zoo.evaluation.collecting import entries_of
from zoo.evaluation.entry import Entry
from zoo.evaluation.leaderboard import boards
from zoo.evaluation.plots import spread
from zoo.release import GOLDEN, WEIGHTS, Release, recorded

PICTURE = "scores.png"
EXAMPLE = "example.png"
N_FAILURES = 3
N_METRICS = 4  # that a card shows, the protocol's first ones
FEW = 4  # tracks, of which no boxes are drawn
# Names that the Hub has for licences.
HUB_LICENCES = {
    "MIT": "mit", "CC BY 4.0": "cc-by-4.0", "CC BY-SA 4.0": "cc-by-sa-4.0", "CC0 1.0": "cc0-1.0",
    "Apache 2.0": "apache-2.0", "BSD 3-Clause": "bsd-3-clause",
}  # fmt: skip


def card(
    release: Release, repo: str | None = None, *, place: Path | None = None, prefix: str = ""
) -> str:
    """The text of a release's README.

    Args:
        release: its folder holds the weights and the scores.
        repo: ``org/name`` on the Hub; by default the release's own name stands in the examples.
        place: folder that the card will lie in, the release's own by default; pictures that `draw`
            has put there are shown.
        prefix: of their names.
    """
    entry = catalog.described(release.architecture)
    facts = release.provenance.get("facts", {})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
        keep_trailing_newline=True,
    )  # fmt: skip
    found = _rows(release)
    here = place or release.folder or Path()
    drawn = {
        kind: f"{prefix}{file}"
        for kind, file in (("scores", PICTURE), ("example", EXAMPLE))
        if (here / f"{prefix}{file}").is_file()
    }
    provenance = {key: None for key in ("recipe", "validation", "hardware", "run")}
    years = re.findall(r"\b(?:19|20)\d\d\b", entry.paper.partition("arXiv")[0])
    text = environment.get_template("card.md.jinja").render(
        r=release, entry=entry, facts=facts, source=repo or release.name,
        real_data=(release.stand_in_for or "").removeprefix(f"{release.architecture}-"),
        idea=entry.summary[:1].upper() + entry.summary[1:],
        p=_Loose({**provenance, **release.provenance}), rate=_rate(release),
        bandwidth=_bandwidth(release), size=_size(release), speed=_speed(found),
        boards=[_board(*pair) for pair in found], pictures=drawn, departures=_departures(release),
        failures=_failures(found), front_matter=_front_matter(release, found),
        hashes={k: v for k, v in release.sha256.items() if not k.startswith("scores/")},
        year=years[-1] if years else "not stated",
    )  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", text)


def write_all(folder: Path) -> None:
    """Cards and pictures of the releases that come along: ``<name>.md``, ``<name>-scores.png``."""
    for name, release in recorded().items():
        draw(release, folder, f"{name}-")
        (folder / f"{name}.md").write_text(card(release, place=folder, prefix=f"{name}-"), "utf-8")


def draw(release: Release, folder: Path, prefix: str = "") -> None:
    """The pictures of a card: the scores of every track, and the golden pair as spectrograms."""
    assert release.folder is not None
    picture(release, folder / f"{prefix}{PICTURE}")
    if (release.folder / GOLDEN).is_file() and release.sample_rate:
        pair = load_file(release.folder / GOLDEN)
        estimates = zip(release.sources, pair["estimates"], strict=True)
        signals = {"mixture": pair["mixture"], **dict(estimates)}
        figure = pictures.spectrograms(signals, release.sample_rate)
        pictures.save(figure, folder / f"{prefix}{EXAMPLE}")


def picture(release: Release, path: Path) -> bool:
    """Draw the scores of every track; False where there are too few of them for boxes."""
    for entry in entries_of(release):
        (board,) = boards([entry], entry.dataset, entry.protocol)
        mine = replace(board, rows=tuple(r for r in board.rows if r.name == entry.name))
        if max(map(_n_tracks, mine.rows)) <= FEW:
            continue
        if (figure := spread(mine)) is not None:
            figure.savefig(path)
            return True
    return False


def eval_results(release: Release, benchmark: str) -> str:
    """The release's scores in the Hub's own format, YAML, for the leaderboard of a data set there.

    Args:
        release: in its folder.
        benchmark: ``org/name`` of the data set on the Hub.

    Raises:
        ReleaseError: the release holds no scores.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    results = [
        EvalResultEntry(
            dataset_id=benchmark,
            task_id=f"{metric.lower()}_{source}",
            value=round(cell.value, 2),
            notes=f"{metric} of {source} in dB, protocol {entry.protocol}"
            + (f", {row.coverage}" if row.coverage else ""),
        )  # fmt: skip
        for entry, row in _rows(release)
        for source, by_metric in row.cells.items()
        for metric, cell in list(by_metric.items())[:1]
        if not math.isnan(cell.value)
    ]
    if not results:
        raise ReleaseError(f"{release.name} holds no scores for {benchmark}; give --scores FOLDER.")
    return yaml.safe_dump(eval_result_entries_to_yaml(results), sort_keys=False)


class _Loose(dict[str, Any]):
    """What a record may lack is undefined, not an error."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(name)


def _rows(release: Release) -> list[tuple[Entry, Row]]:
    """The entries of a release's own scores, and their rows."""
    found = []
    for entry in entries_of(release):
        (board,) = boards([entry], entry.dataset, entry.protocol)
        found.append((entry, next(r for r in board.rows if r.name == entry.name)))
    return found


def _board(entry: Entry, row: Row) -> dict[str, Any]:
    rows = []
    paper = _paper(entry)
    for source, by_metric in row.cells.items():
        for metric, cell in list(by_metric.items())[:N_METRICS]:
            if math.isnan(cell.value):
                continue
            theirs = paper.get(source, {}).get(metric)
            interval = "one track" if (cell.n_tracks or 0) < 2 else "not measured"
            if cell.low is not None and cell.high is not None and (cell.n_tracks or 0) > 1:
                interval = f"{cell.low:.2f} to {cell.high:.2f}"
            rows.append({
                "source": source, "metric": metric, "value": f"{cell.value:.2f}",
                "interval": interval, "n": cell.n_tracks or "",
                "paper": "not on these data" if theirs is None
                else f"{theirs:.2f} ({cell.value - theirs:+.2f})",
            })  # fmt: skip
    title = f"Data set `{entry.dataset}`, protocol `{entry.protocol}`, in dB"
    coverage = f", {row.coverage}" if row.coverage else ""
    return {"title": f"{title}{coverage}:", "rows": rows}


def _n_tracks(row: Row) -> int:
    return max((cell.n_tracks or 0) for m in row.cells.values() for cell in m.values())


def _paper(entry: Entry) -> dict[str, dict[str, float]]:
    """Source -> metric -> the paper's figure on the same data by the same protocol."""
    for other in published.entries():
        same = (other.dataset, other.protocol) == (entry.dataset, entry.protocol)
        if same and entry.system and other.system == entry.system:
            return {source: dict(by_metric) for source, by_metric in other.figures.items()}
    return {}


def _rate(release: Release) -> str:
    rate = f"{release.sample_rate} Hz" if release.sample_rate else "the file's"
    return f"{rate}, {release.channels or 'any'}"


def _bandwidth(release: Release) -> str:
    if not release.sample_rate:
        return "the file's"
    return f"0 to {release.sample_rate // 2} Hz; what lies above stays in the residual"


def _size(release: Release) -> str:
    assert release.folder is not None
    if not release.has_weights:
        return f"they do not come along: `zoo fit -c releases/{release.name}` makes them again"
    size = (release.folder / WEIGHTS).stat().st_size
    return f"{size / 1e6:.1f} MB, {release.precision}"


def _speed(found: list[tuple[Entry, Row]]) -> str:
    costs = [row.cost for _, row in found if row.cost is not None]
    return f"{costs[0]:.3f} CPU seconds per second of audio" if costs else "speed not measured"


def _departures(release: Release) -> str:
    """What the comments of the recipe say, else where it stands."""
    told = str(release.provenance.get("recipe") or "")
    try:
        text = recipes.find(f"releases/{Path(told).stem}").read_text(encoding="utf-8")
    except (ZooError, OSError):
        text = ""
    lines = [line for line in text.splitlines() if line.startswith("#")]
    words = "\n".join(line.removeprefix("#").strip() for line in lines)
    match = re.search(
        r"Departures from (?P<from>\S+\.yaml)[^:]*: (?P<what>.*?)(?:\n\n|\Z)", words, re.DOTALL
    )
    if match:
        what = match["what"].strip()
        return f"From `{match['from']}`: {what}"
    home = catalog.entry(release.architecture).target.split(":")[0].replace(".", "/")
    return f"Stated in `{home}.py`."


def _failures(found: list[tuple[Entry, Row]]) -> list[str]:
    """The worst tracks, or the sources that are worse than the mixture."""
    worst = []
    for _, row in found:
        for source, by_metric in row.cells.items():
            metric = next(iter(by_metric))
            for track, value in (by_metric[metric].tracks or {}).items():
                if not math.isnan(value):
                    worst.append((value, f"{track}: {source} {value:.2f} dB {metric}"))
    return [line for _, line in sorted(worst)[:N_FAILURES]]


def _front_matter(release: Release, found: list[tuple[Entry, Row]]) -> str:
    """What the Hub reads of a card."""
    from huggingface_hub import EvalResult, ModelCardData

    weights = release.licence["weights"]
    results = [
        EvalResult(
            task_type="audio-to-audio",
            task_name="Music source separation",
            dataset_type=entry.dataset,
            dataset_name=f"{entry.dataset}, protocol {entry.protocol}",
            metric_type=metric.lower(),
            metric_name=f"{metric} {source}",
            metric_value=round(cell.value, 2),
        )  # fmt: skip
        for entry, row in found
        for source, by_metric in row.cells.items()
        for metric, cell in list(by_metric.items())[:1]
        if not math.isnan(cell.value)
    ]
    known = HUB_LICENCES.get(weights)
    data = ModelCardData(
        license=known or "other",
        license_name=None if known else re.sub(r"[^a-z0-9]+", "-", weights.lower()).strip("-"),
        library_name="music-separation-zoo",
        pipeline_tag="audio-to-audio",
        tags=["music-source-separation", "audio-source-separation", release.architecture],
        datasets=None,
        metrics=["sdr"],
        model_name=release.name,
        eval_results=results or None,
    )  # fmt: skip
    told: dict[str, Any] = data.to_dict()  # type: ignore[no-untyped-call]
    content = {key: value for key, value in told.items() if value is not None}
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---\n"


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
