"""``zoo data check`` and ``zoo data generate``."""

from __future__ import annotations

from typing import cast

from zoo.data import open_dataset
from zoo.data.check import check


def check_data(folder: str, dataset: str) -> int:
    """Print what a data set holds and what is wrong with it; 1 when something is."""
    report = check(open_dataset(dataset, folder))
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
    write(dataset, output, cast(Layout, layout))  # which refuses any other word
    print(
        f"{songs} + {count} + {count} songs of {seconds:g} s (train, valid, test) are in {output}"
    )
