"""Systems over the layouts of scenes: one picture, of means over songs and sources."""

import numpy as np
import pytest

from zoo.evaluation import evaluate, leaderboard, plots
from zoo.evaluation.scene_plot import by_layout, mean, over_layouts


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Two systems and the mixture, two songs in two layouts."""
    folder = tmp_path_factory.mktemp("scores")
    arguments = {
        "of": "generated", "arguments": {"n_train": 0, "n_valid": 0, "n_test": 2, "seconds": 3},
        "scenes": {"pan10": {"step": 10}, "pan20": {"step": 20}},
    }  # fmt: skip
    systems = ["duet:method=binary", "adress", "mixture"]
    outcomes = list(
        evaluate(systems, data="scenes", arguments=arguments, protocol="projet", output=folder)
    )
    assert len(outcomes) == 12 and not any(o.error for o in outcomes)
    boards, _ = leaderboard.load([folder], dataset="scenes", protocol="projet")
    return boards[0]


@pytest.mark.slow
def test_a_point_is_the_mean_over_songs_and_sources(board):
    row = next(row for row in board.rows if row.name == "adress")
    found = by_layout(row, "SDR")
    assert list(found) == ["pan10", "pan20"]
    values = [
        value
        for by_metric in row.cells.values()
        for name, value in (by_metric["SDR"].tracks or {}).items()
        if name.endswith(" pan10")
    ]
    assert len(found["pan10"]) == 2
    assert mean(found["pan10"])[0] == pytest.approx(np.mean(values))


def test_an_interval_holds_its_mean_and_is_that_of_one_value():
    middle, low, high = mean([1.0, 2.0, 4.0])
    assert low < middle < high and 1 <= low and high <= 4
    assert mean([3.0]) == (3.0, 3.0, 3.0)


@pytest.mark.slow
def test_the_picture_is_drawn_for_scenes_alone(board, tmp_path):
    written = plots.write([board], tmp_path)
    assert tmp_path / "scenes-projet-layouts.png" in written
    figure = over_layouts(board)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [row.name for row in board.rows if by_layout(row, "SDR")]
    assert {"adress", "mixture"} < set(labels)
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert ticks == ["pan10", "pan20"]
