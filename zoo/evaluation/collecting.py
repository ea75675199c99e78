"""Score files of disk as entries of boards, with what was wrong with the others in words."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from zoo import scores
from zoo.authors import PUBLISHED
from zoo.data.whole_test import WHOLE_TESTS, n_test
from zoo.errors import ZooError, count
from zoo.evaluation.board import Provenance, Role
from zoo.evaluation.entry import Entry, TrackFigure, canonical, is_of_training
from zoo.evaluation.overlap import overlap
from zoo.metrics.rules import ILL_CONDITIONED, Protocol, protocol
from zoo.release import SCORES, Release, recorded
from zoo.scores import TrackScores

FACTS = (
    "kind evaluator release sha256 seed training_seed arguments versions data parameters rcond "
    "silence model trained_on decoding device"
).split()
_EXACT_S = 0.01  # by which times of frames may differ

MEASURED = Path(__file__).parent / "measured"  # mixture, oracle and other people's systems


class Identity(NamedTuple):
    """What all files of a row have in common."""

    dataset: str
    protocol: str
    system: str
    weights: str
    silence: str
    arguments: str
    seed: str
    data: str


WORDS = Identity(
    "data set", "protocol", "system", "hash of weights", "silence", "arguments", "seed", "data"
)


def collect(
    folders: Sequence[Path], stated: Mapping[str, str] | None = None
) -> tuple[list[Entry], list[str]]:
    """Entries of score files below folders, one per folder that holds some.

    Args:
        folders: of score files, at any depth.
        stated: ``dataset`` and ``protocol`` of files that tell none, as museval's do not.

    Returns:
        The entries, and a sentence for everything that was left out.

    Raises:
        ZooError: a folder is not there.
    """
    found: list[Entry] = []
    problems: list[str] = []
    for folder in {folder.resolve(): folder for folder in folders}.values():
        if not folder.is_dir():
            raise ZooError(
                f"no folder {folder}; expected one with score files, as `zoo evaluate` writes them."
            )
        by_folder: dict[Path, list[Path]] = defaultdict(list)
        for path in sorted(folder.rglob("*.json")):
            by_folder[path.parent].append(path)
        before = len(found)
        for place, paths in by_folder.items():
            found += _entry(place, paths, problems, stated=stated or {})
        if len(found) == before:
            problems.append(f"{folder} holds no score file that counts; run `zoo evaluate` first.")
    return _told_apart(found), problems


def bundled_entries() -> tuple[list[Entry], list[str]]:
    """Entries of what came with the package: the releases, and what they are to be seen beside."""
    found, problems = collect([MEASURED])
    for release in recorded().values():
        found += entries_of(release, problems)
    return found, problems


def entries_of(release: Release, problems: list[str] | None = None) -> list[Entry]:
    """Entries of the scores that a release holds.

    Args:
        release: in a folder.
        problems: gets a sentence for everything that is left out.
    """
    if not release.folder or not release.scores:
        return []
    paths = sorted((release.folder / SCORES).glob("*.json"))
    return _entry(release.folder / SCORES, paths, [] if problems is None else problems, release)


def _entry(
    place: Path,
    paths: Sequence[Path],
    problems: list[str],
    release: Release | None = None,
    stated: Mapping[str, str] = MappingProxyType({}),
) -> list[Entry]:
    """The entry of a folder, or none."""
    read: list[tuple[Path, TrackScores]] = []
    for path in paths:
        try:
            if _is_meant_as_scores(path):
                read.append((path, _completed(scores.read(path), stated)))
        except ZooError as error:
            problems.append(str(error))
    kept: list[tuple[Path, TrackScores, Identity]] = []
    for path, track in read:
        try:
            identity = _identity(track, place, release)
            _check_frames(track, protocol(identity.protocol))
            kept.append((path, track, identity))
        except ZooError as error:
            problems.append(f"{path}: {error}")
    if not kept:
        return []
    (identity, _), *others = Counter(identity for *_, identity in kept).most_common()
    if others:
        for path, _, other in kept:
            if other != identity:
                problems.append(f"{path} is left out: {_difference(other, identity)}")
    members: dict[str, TrackScores] = {}
    for path, track, mine in kept:
        name = canonical(identity.dataset, track.track)
        if mine != identity:
            continue
        if release is None and not track.facts.get("split") and is_of_training(mine.dataset, name):
            problems.append(f"{path} is left out: {name!r} is a training song of {mine.dataset}.")
            continue
        if name in members:
            problems.append(f"{path} is left out: a second file of track {name!r} in its folder.")
            continue
        members[name] = track
    return [_build(identity, members, release)] if members else []


def _is_meant_as_scores(path: Path) -> bool:
    """Whether a file is one of scores, sound or not; records of other kinds lie beside them."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return isinstance(content, dict) and "targets" in content


def _completed(track: TrackScores, stated: Mapping[str, str]) -> TrackScores:
    """Scores with what was stated of them, where their file does not tell."""
    told = {**track.facts, "dataset": _dataset(track)}
    missing = {key: value for key, value in stated.items() if not told.get(key)}
    if not missing:
        return track
    return replace(track, facts={**track.facts, **missing, "stated": sorted(missing)})


def _dataset(track: TrackScores) -> str:
    data = str(track.facts.get("data") or "").partition(" ")[0]
    return str(track.facts.get("dataset") or data)


def _identity(track: TrackScores, place: Path, release: Release | None) -> Identity:
    if track.protocol is None:
        raise ZooError(
            "left out: it names no protocol, without which a figure cannot be compared; "
            "`zoo evaluate` writes it, and `zoo leaderboard FOLDER --data ID --protocol ID` "
            "states it for files of others."
        )
    dataset = _dataset(track)
    if not dataset:
        raise ZooError(
            "left out: it names no data set; `zoo evaluate` writes it, and "
            "`zoo leaderboard FOLDER --data ID --protocol ID` states it for files of others."
        )
    system = place.parent if place.name == "test" else place  # museval adds a folder of the split
    name = release.name if release else track.facts.get("system") or system.name
    split = track.facts.get("split")
    if split not in (None, "test"):
        name = f"{name}, {split} tracks"
    # Estimates in a folder have a hash of each track's files, which are no weights.
    has_weights = release is None and track.facts.get("kind") != "estimates"

    def told(key: str) -> str:
        value = track.facts.get(key)
        return "" if value is None else json.dumps(value, sort_keys=True).strip('"')

    return Identity(
        dataset, protocol(str(track.protocol)).id, str(name),
        told("sha256") if has_weights else "", told("silence") or "museval", told("arguments"),
        told("seed"), told("data"),
    )  # fmt: skip


def _check_frames(track: TrackScores, rule: Protocol) -> None:
    """Refuse scores that cannot be of the protocol that they are said to be of.

    Raises:
        ZooError: they have other metrics, or frames of another length.
    """
    metrics = {metric for of_source in track.targets.values() for metric in of_source}
    if not metrics & set(rule.metrics):
        raise ZooError(
            f"left out: protocol {rule.id} has {', '.join(rule.metrics)}, and this has "
            f"{', '.join(sorted(metrics)) or 'no figures'}; `zoo evaluate` measures them."
        )
    times = list(track.times)
    window = track.duration
    hop = times[1] - times[0] if len(times) > 1 else None
    expected = rule.window or math.inf
    step = rule.hop or expected
    is_whole = hop is None and window < expected  # no song is longer than itself
    fits = is_whole or abs(window - expected) < _EXACT_S
    if not math.isnan(window) and not (fits and (hop is None or abs(hop - step) < _EXACT_S)):
        every = f" every {hop:g} s" if hop else ""
        wanted = f"{rule.window:g} s every {step:g} s" if rule.window else "the whole track"
        raise ZooError(
            f"left out: its frames are {window:g} s{every}, and protocol {rule.id} has frames of "
            f"{wanted}; name the protocol that it was scored by."
        )


def _difference(other: Identity, most: Identity) -> str:
    found = [
        f"{word} {a or 'unknown'}, where the rest of its folder has {b or 'none'}"
        for word, a, b in zip(WORDS, other, most, strict=True)
        if a != b
    ]
    return "; ".join(found) + "."


def _build(
    identity: Identity, members: Mapping[str, TrackScores], release: Release | None
) -> Entry:
    dataset, protocol_id, name, *_ = identity
    first = next(iter(members.values()))
    facts = {key: first.facts[key] for key in FACTS if first.facts.get(key) is not None}
    if not identity.weights and not release:
        facts.pop("sha256", None)
    for key in ("seconds", "audio_seconds"):
        known = [track.facts.get(key) for track in members.values()]
        if all(isinstance(value, (int, float)) for value in known):
            facts[key] = sum(value for value in known if value is not None)
    if release:
        facts |= {"kind": "release", "release": release.name, "trained_on": release.trained_on}
        facts |= {"parameters": release.provenance.get("facts", {}).get("parameters")}
    facts["shared"] = _shared(dataset, members, facts, release)
    home = release or recorded().get(str(facts.get("release")))
    if dataset == "mir1k" and home and _has_extra(home):
        facts["unranked"] = "learned from songs that its usual split tests on"
    facts["references"] = {
        name: track.facts["references"]
        for name, track in members.items()
        if track.facts.get("references")
    }
    rule = protocol(protocol_id)
    provenance: Provenance = "re-aggregated" if first.facts.get("stated") else "measured"
    role: Role = facts["kind"] if facts.get("kind") in ("oracle", "mixture") else "system"
    return Entry(
        dataset, protocol_id, name, provenance, role,
        tracks=_figures(rule, members),
        n_test=first.facts.get("n_test") or n_test(dataset),
        facts=facts, notes=tuple(_notes(members, rule)),
    )  # fmt: skip


def _figures(
    rule: Protocol, members: Mapping[str, TrackScores]
) -> dict[str, dict[str, dict[str, TrackFigure]]]:
    found: dict[str, dict[str, dict[str, TrackFigure]]] = {}
    for name, track in members.items():
        weight = track.duration * len(track.times)
        for source, metrics in track.targets.items():
            for metric, frames in metrics.items():
                finite = tuple(x for x in frames if abs(x) < float("inf"))
                keeps = rule.frame_pool == "none" and metric in rule.metrics
                found.setdefault(source, {}).setdefault(metric, {})[name] = TrackFigure(
                    rule.track_value(metric, frames), len(finite), len(frames),
                    finite if keeps else (), weight,
                )  # fmt: skip
    return found


def _notes(members: Mapping[str, TrackScores], rule: Protocol) -> list[str]:
    notes = []
    first = next(iter(members.values()))
    facts = [track.facts for track in members.values()]
    if stated := facts[0].get("stated"):
        notes.append(f"{' and '.join(stated)} stated by hand, not told by its files")
    rcond = [f["rcond"] for f in facts if isinstance(f.get("rcond"), (int, float))]
    ill = sum(value < ILL_CONDITIONED for value in rcond)
    if ill:
        notes.append(f"ISR, SIR and SAR of {ill} of {len(facts)} tracks are ill-conditioned")
    usual = WHOLE_TESTS.get(_dataset(first))
    rates = {f["rate"] for f in facts if f.get("rate")} - ({usual.rate} if usual else set())
    if usual and rates:
        told = " and ".join(f"{rate} Hz" for rate in sorted(rates))
        notes.append(f"scored at {told}, where the data set has {usual.rate} Hz")
    if any(f.get("silence") == "references" for f in facts):
        notes.append("frames left out by the silence of references alone")
    n_perfect = sum(_is_perfect(track, rule) for track in members.values())
    if n_perfect:
        notes.append(
            f"an estimate without any error on {count(n_perfect, 'track')}: infinite, left out"
        )
    doubtful = [f["doubts"] for f in facts if f.get("doubts")]
    if doubtful:
        told = "; ".join(doubtful[0][:3])
        notes.append(f"{len(doubtful)} of {count(len(facts), 'track')} look wrong: {told}")
    if facts[0].get("release") in PUBLISHED:
        notes.append("the authors' weights")
    together = facts[0].get("sources_scored_together")
    if isinstance(together, dict) and len(together.get("vocals") or ()) > 2:
        notes.append("vocals scored among all sources")
    return notes


def _is_perfect(track: TrackScores, rule: Protocol) -> bool:
    """Whether a source has no value because its estimate has no error."""
    frames = [metrics.get(rule.metrics[0], ()) for metrics in track.targets.values()]
    return bool(track.facts.get("n_infinite")) and any(
        x and all(map(math.isnan, x)) for x in frames
    )


def _shared(
    dataset: str, tracks: Mapping[str, Any], facts: Mapping[str, Any], release: Release | None
) -> str:
    """What the test shares with the training of a system that was trained."""
    if facts.get("kind") not in ("release", "checkpoint"):
        return ""
    name = str(facts.get("release"))
    if release is None and (offer := PUBLISHED.get(name)):
        if offer.saw_test and dataset.startswith(offer.data.removesuffix("hq")):
            return "every song of the test, which it learned from"
        return overlap(dataset, tracks, offer.data)
    home = release or recorded().get(name)
    if home is None:  # a checkpoint of somebody's: taken to be trained on the set it is scored on
        found = overlap(dataset, tracks, dataset)
        return f"{found}, if trained on its usual split" if found else ""
    trained_on = str(home.provenance.get("data_fingerprint", "")).partition(" ")[0]
    return overlap(dataset, tracks, trained_on, _has_extra(home))


def _has_extra(release: Release) -> bool:
    """Whether a release learned from the further songs of MIR-1K."""
    try:
        recipe = yaml.safe_load(((release.folder or Path()) / "recipe.yaml").read_text("utf-8"))
        return bool((recipe["data"].get("arguments") or {}).get("extra"))
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError):
        return False


def _told_apart(found: Sequence[Entry]) -> list[Entry]:
    """Systems of one name on one board get numbers."""
    seen: Counter[tuple[str, str, str]] = Counter()
    result = []
    for entry in found:
        key = (entry.dataset, entry.protocol, entry.name)
        seen[key] += 1
        name = entry.name if seen[key] == 1 else f"{entry.name} ({seen[key]})"
        result.append(replace(entry, name=name))
    return result
