"""Several data sets as one: training draws from them by weight, the rest is theirs.

::

    parts:
      - {dataset: musdb18hq, arguments: {without_dsd100_test: true}, weight: 2, valid: false}
      - {dataset: dsd100}
      - {dataset: pool, root: loops, weight: 0.5}
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zoo.data.track import SPLITS, Dataset, Split, Track, check_split
from zoo.data.tracklist import song_key
from zoo.errors import DatasetError

log = logging.getLogger(__name__)

_KEYS = ("dataset", "root", "arguments", "weight", "valid")


@dataclass(frozen=True)
class Ingredient:
    """One of the data sets.

    Attributes:
        dataset: opened.
        weight: how much of what training draws of a source comes from it, in proportion to the
            others that have the source.
        valid: whether its validation and test songs count.
    """

    dataset: Dataset
    weight: float = 1.0
    valid: bool = True


class Mix(Dataset):
    """A weighted mixture of data sets.

    No part trains on a song that a part, itself or another, validates or tests on: songs are known
    by their names, so that DSD100's test songs leave MUSDB18's training.

    Args:
        parts: each with ``dataset`` (its id) and, if need be, ``root``, ``arguments``, ``weight``
            (1; the share of the part in every draw, beside the others that have the source that is
            drawn and however many songs have it) and ``valid`` (true; false leaves its validation
            and test songs out).
        sources: of the mixture, for those who ask; None: those that all parts with whole songs
            have in common.

    Raises:
        DatasetError: a part cannot be opened or has no such key, no weight is above 0, or the parts
            have no source in common.
    """

    id = "mix"
    needs_root = False

    def __init__(
        self, parts: Sequence[Mapping[str, Any]], *, sources: Sequence[str] | None = None
    ) -> None:
        if isinstance(parts, str) or not isinstance(parts, Sequence):
            raise DatasetError(f"mix has parts {parts!r}; give a list, each with its dataset.")
        self.parts = [_ingredient(number, part) for number, part in enumerate(parts, 1)]
        if not any(part.weight for part in self.parts):
            raise DatasetError("mix needs parts with a weight above 0; give it some.")
        self.sources = tuple(sources) if sources is not None else self._in_common()
        rates = {part.dataset.rate for part in self.parts}
        self.rate: int | None = rates.pop() if len(rates) == 1 else None
        scored = [p for p in self.parts if p.valid and p.dataset.id != "pool"] or self.parts
        self.protocol = scored[0].dataset.protocol
        self._found: dict[Split, list[tuple[Track, Ingredient]]] = {}

    def tracks(self, split: Split) -> list[Track]:  # noqa: D102
        return [track for track, _ in self._mixed(split)]

    def each(self, split: Split) -> Iterator[tuple[str, Track | DatasetError]]:  # noqa: D102
        check_split(split)
        for part in self._of(split):
            yield from part.dataset.each(split)

    def weights(self, split: Split, source: str) -> list[float]:
        """As `Dataset.weights`; the tracks of a part that know the source share its weight."""
        mixed = self._mixed(split)
        n_knowing = Counter(part for track, part in mixed if track.knows(source))
        return [
            part.weight / n_knowing[part] if track.knows(source) else 0.0 for track, part in mixed
        ]

    def fingerprint(self, splits: Sequence[Split] = SPLITS) -> str:
        """SHA-256 over the songs, the fingerprints of the parts and, in training, their weights."""
        parts = [
            (split, part.dataset.fingerprint([split]), part.weight if split == "train" else None)
            for split in splits
            for part in self._of(split)
        ]
        return hashlib.sha256(repr((super().fingerprint(splits), parts)).encode()).hexdigest()

    def _mixed(self, split: Split) -> list[tuple[Track, Ingredient]]:
        """The tracks of a split, and which part each is of."""
        check_split(split)
        if split not in self._found:
            found: list[tuple[Track, Ingredient]] = []
            held_out = self._held_out() if split == "train" else set()
            for part in self._of(split):
                tracks = part.dataset.tracks(split)
                kept = [track for track in tracks if song_key(track.name) not in held_out]
                if len(kept) < len(tracks):
                    log.info(
                        "mix: %d songs of %s are validated or tested on, and train no more",
                        len(tracks) - len(kept), part.dataset.id,
                    )  # fmt: skip
                found += [(track, part) for track in kept]
            self._found[split] = _with_names(found)
        return self._found[split]

    def _of(self, split: Split) -> list[Ingredient]:
        """The parts whose songs count in a split."""
        return [part for part in self.parts if (part.weight if split == "train" else part.valid)]

    def _held_out(self) -> set[str]:
        """Keys of the songs that count in validation or test."""
        scored: tuple[Split, ...] = ("valid", "test")
        return {song_key(track.name) for split in scored for track in self.tracks(split)}

    def _in_common(self) -> tuple[str, ...]:
        whole = [part.dataset.sources for part in self.parts if part.dataset.id != "pool"]
        whole = whole or [tuple(s for part in self.parts for s in part.dataset.sources)]
        common = tuple(s for s in dict.fromkeys(whole[0]) if all(s in others for others in whole))
        if not common:
            told = "; ".join(f"{p.dataset.id}: {', '.join(p.dataset.sources)}" for p in self.parts)
            raise DatasetError(
                f"the parts of mix have no source in common ({told}); name their stems alike."
            )
        return common


def _ingredient(number: int, part: Mapping[str, Any]) -> Ingredient:
    from zoo.data import open_dataset  # which imports this file's like by their names

    if not isinstance(part, Mapping):
        raise DatasetError(f"part {number} of mix is {part!r}; a part has {', '.join(_KEYS)}.")
    if stray := [str(key) for key in part if key not in _KEYS]:
        raise DatasetError(
            f"part {number} of mix has {', '.join(stray)}; a part has {', '.join(_KEYS)}."
        )
    if "dataset" not in part:
        raise DatasetError(f"part {number} of mix names no dataset; give its id.")
    weight, valid = part.get("weight", 1.0), part.get("valid", True)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < 1e9:
        raise DatasetError(f"part {number} of mix has weight {weight!r}; give a number from 0 on.")
    if not isinstance(valid, bool):
        raise DatasetError(f"part {number} of mix has valid {valid!r}; give true or false.")
    arguments = part.get("arguments") or {}
    if not isinstance(arguments, Mapping):
        raise DatasetError(
            f"part {number} of mix has arguments {arguments!r}; give names with values."
        )
    dataset = open_dataset(str(part["dataset"]), part.get("root"), **arguments)
    return Ingredient(dataset, float(weight), valid)


def _with_names(found: Sequence[tuple[Track, Ingredient]]) -> list[tuple[Track, Ingredient]]:
    """The tracks under names of their own: a second of one name gets a number."""
    seen: Counter[str] = Counter()
    named = []
    for track, part in found:
        seen[track.name] += 1
        n = seen[track.name]
        named.append((replace(track, name=f"{track.name} ({n})") if n > 1 else track, part))
    return named
