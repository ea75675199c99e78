"""``zoo data check`` and ``zoo data generate``."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from typing import Any, cast

from zoo.cli.progress import LINE_S
from zoo.data import open_dataset
from zoo.data.check import check


def check_data(folder: str, dataset: str) -> int:
    """Print what a data set holds and what is wrong with it; 1 when something is."""
    count, numbers = _counting(), itertools.count(1)
    report = check(open_dataset(dataset, folder), lambda _: count(next(numbers), None))
    for line in report.lines():
        print(line)
    return 0 if report.is_sound else 1


def generate_data(output: str, layout: str, **arguments: Any) -> None:
    """Write generated songs; ``arguments`` are those of the data set."""
    from zoo.data.generated import GeneratedSongs
    from zoo.data.layouts import Layout, write

    songs = cast(GeneratedSongs, open_dataset("generated", **arguments))
    write(songs, output, cast(Layout, layout), _counting())  # refuses any other layout
    counts = " + ".join(str(count) for count in songs.counts.values())
    print(
        f"{counts} songs of {songs.config.seconds:g} s (train, valid, test) are in {output}"
        + "".join(f"\n{what}: {facts['name']}" for what, facts in songs.band.card.items())
    )


def _counting() -> Callable[[int, int | None], None]:
    """A line on standard error every few seconds, with the songs done and in all."""
    last = time.monotonic()

    def count(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_S:
            last = time.monotonic()
            of = f" of {total}" if total else ""
            print(f"  {done}{of} songs", file=sys.stderr, flush=True)

    return count
