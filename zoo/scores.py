"""The score file: what one system's estimates of one track were worth, frame by frame.

museval's JSON, so that its tools read ours and we read theirs, with one key of our own, ``zoo``: by
which protocol, evaluator, release, arguments, seed and data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.files import write_whole

if TYPE_CHECKING:
    from zoo.metrics.protocols import Figures

Frames = dict[str, list[float]]


@dataclass(frozen=True)
class TrackScores:
    """Scores of one track.

    Attributes:
        track: its name.
        targets: source -> metric -> value of each frame; NaN where a frame has none.
        times: start of each frame in seconds.
        duration: of a frame in seconds.
        facts: what a figure is worth nothing without; empty in files of museval's own.
    """

    track: str
    targets: dict[str, Frames]
    times: Sequence[float] = (0.0,)
    duration: float = math.nan
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, track: str, figures: Figures, facts: Mapping[str, Any]) -> TrackScores:
        """What was measured.  As museval does, NaN stands for what is infinite."""
        values = [frames for metrics in figures.targets.values() for frames in metrics.values()]
        told = {
            **facts,
            "sources_scored_together": figures.together,
            "rcond": float(f"{figures.rcond:.2g}"),  # the rest is rounding
            "n_infinite": sum(math.isinf(x) for frames in values for x in frames),
        }
        targets = {
            source: {m: [_finite(x) for x in frames] for m, frames in metrics.items()}
            for source, metrics in figures.targets.items()
        }
        return cls(track, targets, figures.times, figures.duration, told)

    @property
    def protocol(self) -> str | None:
        """How they were computed; None where the file does not tell."""
        return self.facts.get("protocol")

    def write(self, path: Path) -> None:
        """Write them as JSON.  As museval does, values keep five decimals and NaN stands bare."""
        targets = [
            {"name": source, "frames": [self._frame(metrics, k) for k in range(len(self.times))]}
            for source, metrics in self.targets.items()
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(
            path, json.dumps({"targets": targets, "zoo": dict(self.facts)}, indent=1) + "\n"
        )

    def _frame(self, metrics: Frames, k: int) -> dict[str, Any]:
        values = {metric: round(float(frames[k]), 5) for metric, frames in metrics.items()}
        return {"time": self.times[k], "duration": self.duration, "metrics": values}


def read(path: Path) -> TrackScores:
    """A score file of ours or of museval's.

    Raises:
        ZooError: it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        targets: dict[str, Frames] = {}
        times: list[float] = []
        duration = math.nan
        for target in content["targets"]:
            if not (frames := target["frames"]):
                raise ValueError(f"{target['name']} has no frames")
            times = [float(frame["time"]) for frame in frames]
            duration = float(frames[0]["duration"])
            metrics = list(frames[0]["metrics"])
            targets[str(target["name"])] = {
                metric: [_number(frame["metrics"][metric]) for frame in frames]
                for metric in metrics
            }
        if not targets:
            raise ValueError("it has no targets")
        facts = content.get("zoo", {})
        if not isinstance(facts, dict):
            raise TypeError("its key 'zoo' is no object")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it has other contents"
        if isinstance(error, json.JSONDecodeError):
            reason = f"it ends or breaks off in line {error.lineno}"
        raise ZooError(
            f"{path} is no score file: {reason}. Expected the JSON that `zoo evaluate` or museval "
            "writes."
        ) from error
    return TrackScores(str(facts.get("track") or path.stem), targets, times, duration, facts)


def is_ours(path: Path) -> bool:
    """Whether the zoo wrote a file of scores."""
    try:
        return bool(read(path).facts)
    except ZooError:
        return False


def _finite(value: float) -> float:
    return math.nan if math.isinf(value) else value


def _number(value: Any) -> float:
    if isinstance(value, str):
        raise TypeError(f"{value!r} is no number")
    return math.nan if value is None else float(value)
