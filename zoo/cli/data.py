"""``zoo data check`` and ``zoo data generate``."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from typing import cast

import yaml

from zoo.cli.progress import LINE_S
from zoo.data import open_dataset
from zoo.data.check import check
from zoo.errors import RecipeError


def check_data(folder: str | None, dataset: str, arguments: str) -> int:
    """Print what a data set holds and what is wrong with it; 1 when something is."""
    try:
        named = yaml.safe_load(arguments) or {}
    except yaml.YAMLError:
        named = None
    if not isinstance(named, dict):
        raise RecipeError(
            f"--arguments is {arguments!r}; give names with values, such as '{{missing: silent}}'."
        )
    count, numbers = _counting(), itertools.count(1)
    report = check(open_dataset(dataset, folder, **named), lambda _: count(next(numbers), None))
    for line in report.lines():
        print(line)
    return 0 if report.is_sound else 1


def generate_data(output: str, songs: int, seconds: float, seed: int, layout: str) -> None:
    """Write generated songs."""
    from zoo.data.layouts import Layout, write

    count = max(1, songs // 5)
    dataset = open_dataset(
        "generated", n_train=songs, n_valid=count, n_test=count, seconds=seconds, seed=seed
    )
    write(dataset, output, cast(Layout, layout), _counting())  # refuses any other layout
    print(
        f"{songs} + {count} + {count} songs of {seconds:g} s (train, valid, test) are in {output}"
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
