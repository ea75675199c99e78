"""``zoo evaluate``: what is printed around `zoo.evaluation`."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.cli.progress import printable, showing
from zoo.cli.reading import data_arguments
from zoo.data import open_dataset
from zoo.errors import ZooError, count
from zoo.evaluation.run import Outcome, Run, summarise
from zoo.metrics.rules import ILL_CONDITIONED, Protocol
from zoo.separator import check_device


@dataclass
class Request:
    """The arguments of ``zoo evaluate``."""

    systems: list[str]
    dataset: str
    root: str | None
    arguments: str
    protocol: str | None
    split: str
    progress: str
    more: dict[str, Any]
    options: dict[str, Any]


def evaluate_systems(request: Request) -> int:
    """Score, with a line for every track; 1 when some failed or are doubtful, 2 when all failed."""
    if request.options["jobs"] == 0:
        raise ZooError("--jobs 0; give how many processes, or -1 for one for each core.")
    check_device(request.options["device"])
    dataset = open_dataset(
        request.dataset, request.root, **data_arguments(request.arguments), **request.more
    )
    talk = _Talk(as_json=request.progress == "json")
    id = request.protocol
    if id is None:
        id = dataset.protocol
        talk.say(f"no --protocol, so the one of {dataset.id} is taken: {id}")
    run = Run(dataset, id, request.split, **request.options)  # type: ignore[arg-type]
    if request.options["sdr_only"] and not run.sdr_only:
        talk.say(f"--quick changes nothing: protocol {run.protocol.id} has no quicker form")
    systems = run.resolve(request.systems)
    outcomes: list[Outcome] = []
    with showing(request.progress) as show:
        name = Path(f"{dataset.id}, {run.protocol.id}")

        def report(done: int, total: int) -> None:
            if show:
                show(name, "score", done, total)

        for outcome in run.outcomes(systems, report):
            talk.outcome(outcome, run.protocol)
            outcomes.append(outcome)
    talk.table(outcomes, run)
    failed = sum(o.error is not None for o in outcomes)
    doubtful = any(o.doubts for o in outcomes)
    return 2 if failed == len(outcomes) else 1 if failed or doubtful else 0


class _Talk:
    """Lines for people on standard output; beside JSON, on standard error."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._said: set[tuple[str, str]] = set()

    def say(self, line: str) -> None:
        print(line, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def outcome(self, outcome: Outcome, protocol: Protocol) -> None:
        """What became of a system on a track."""
        if self.as_json:
            stage = "failed" if outcome.error else "kept" if outcome.is_kept else "done"
            facts = {
                "system": outcome.system, "track": outcome.track, "stage": stage,
                "scores": str(outcome.path), "error": outcome.error, "doubts": outcome.doubts,
            }  # fmt: skip
            print(json.dumps(facts), flush=True)
            return
        who = f"{printable(outcome.track)}, {printable(outcome.system)}"
        if outcome.scores is None:
            error = printable(outcome.error or "")
            if (outcome.track, error) not in self._said:  # a faulty track fails every system
                print(f"error: {who}: {error}", file=sys.stderr, flush=True)
            self._said.add((outcome.track, error))
            return
        metric = protocol.metrics[0]
        values = {
            source: protocol.track_value(metric, frames[metric])
            for source, frames in outcome.scores.targets.items()
            if metric in frames
        }
        told = ", ".join(f"{source} {_number(value)}" for source, value in values.items())
        is_perfect = any(map(math.isnan, values.values())) and outcome.scores.facts["n_infinite"]
        remarks = " (infinite: no error at all)" * bool(is_perfect)
        remarks += " (scored before)" * outcome.is_kept + " (scored anew)" * outcome.replaces
        self.say(f"{who}: {metric} {told}{remarks}")
        for doubt in outcome.doubts:
            print(f"warning: {who}: {doubt}", file=sys.stderr, flush=True)

    def table(self, outcomes: Sequence[Outcome], run: Run) -> None:
        """The figures of each system over all tracks, metric by metric."""
        found = summarise(outcomes, run.protocol.id)
        if not found:
            return
        scored = Counter(o.system for o in outcomes if o.scores)
        n = max(scored.values())
        of = "" if n == run.n_test else f" of {run.n_test}"
        tracks = f"{n}{of} tracks" if of else count(n, "track")
        title = f"{run.protocol.id} on {run.dataset.id}, {tracks}, dB"
        width = max(len(title), *(len(printable(name)) + 2 for name in found))
        sources = list(dict.fromkeys(s for m in found.values() for x in m.values() for s in x))
        for metric in run.protocol.metrics:
            rows = {name: metrics[metric] for name, metrics in found.items() if metric in metrics}
            if not rows:
                continue
            figure = f"G{metric}" if run.protocol.track_pool == "weighted" else metric
            self.say("")
            self.say(f"{title:<{width}}" + "".join(f"{s:>15}" for s in sources))
            for name, row in rows.items():
                cells = "".join(f"{_number(row[s]) if s in row else '-':>15}" for s in sources)
                few = f"  {count(scored[name], 'track')}" if scored[name] < n else ""
                self.say(f"  {f'{printable(name)} {figure}':<{width - 2}}{cells}{few}")
        weak = {o.track for o in outcomes if o.scores and _is_weak(o)}
        if weak:
            self.say(
                f"rounding may decide ISR, SIR and SAR of {count(len(weak), 'track')}: some "
                "sources are nearly alike (rcond in the score files; 16-bit references mend it "
                "mostly)"
            )
        self.say(f"score files are in {printable(run.folder)}/")


def _number(value: float) -> str:
    return "no value" if math.isnan(value) else f"{value:.2f}"


def _is_weak(outcome: Outcome) -> bool:
    assert outcome.scores is not None
    return float(outcome.scores.facts.get("rcond", 1.0)) < ILL_CONDITIONED
