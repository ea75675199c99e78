"""``curves.png``: what it shows of a run, and that it never ends one."""

from pathlib import Path

import pytest
from test_train_cli import fit, rows, work  # noqa: F401

from zoo import pictures
from zoo.training import curves

TABLE = """\
epoch,step,val/sdr,val/sdr_vocals,val/sdr_bass,train/loss,train/vocals,val/loss
0,9,1.5,2.0,1.0,,,0.5
0,9,,,,4.0,0.25,
1,19,2.5,3.5,nan,0.125,0.1,0.4
2,29,2.0,3.0,1.0,0.2,0.1,0.45
"""


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """The figure of ``TABLE``."""
    (tmp_path / "metrics.csv").write_text(TABLE)
    figures = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: figures.append(figure))
    curves.draw(tmp_path)
    return figures[0]


def lines(ax):
    return {x.get_label().split("  ")[0]: x for x in ax.lines if not x.get_label().startswith("_")}


def test_it_shows_loss_and_parts_above_and_sdr_of_all_and_each_source_below(drawn):
    above, below = drawn.axes
    assert list(lines(above)) == ["train/loss", "val/loss", "vocals"]
    assert list(lines(below)) == ["val/sdr", "vocals", "bass"]
    assert list(lines(above)["train/loss"].get_ydata()) == [4.0, 0.125, 0.2]
    assert list(lines(below)["bass"].get_xdata()) == [0, 2]  # nan is no point
    assert (above.get_ylabel(), below.get_ylabel()) == ("loss", "SDR in dB")


def test_a_source_has_one_colour_and_a_loss_over_decades_a_logarithmic_axis(drawn):
    above, below = drawn.axes
    assert lines(above)["vocals"].get_color() == lines(below)["vocals"].get_color()
    assert above.get_yscale() == "log"
    assert below.get_yscale() == "linear"


def test_the_best_epoch_is_marked_and_told(drawn):
    assert drawn._suptitle.get_text().endswith("best val/sdr 2.50 dB, epoch 1")
    assert all(list(ax.lines[-1].get_xdata()) == [1, 1] for ax in drawn.axes)


def test_a_table_without_rows_makes_no_picture(tmp_path):
    assert curves.draw(tmp_path) is None
    (tmp_path / "metrics.csv").write_text("epoch,step\n")
    assert curves.draw(tmp_path) is None


def test_every_epoch_is_drawn_and_a_resumed_run_draws_the_earlier_ones_too(work, monkeypatch):  # noqa: F811
    seen = []
    kept = curves.draw

    def draw(folder):
        seen.append(len(rows(folder)))
        return kept(folder)

    monkeypatch.setattr(curves, "draw", draw)
    monkeypatch.setattr(curves, "PAUSE_S", -1.0)
    words = ["-c", "toy.yaml", "--run_dir=r"]
    assert fit(*words, "--trainer.max_epochs=2") == 0
    assert Path("r/curves.png").read_bytes()[:4] == b"\x89PNG"
    assert fit(*words, "--trainer.max_epochs=3", "--ckpt_path=last") == 0
    assert [n for n in seen if n] == [1, 2, 2, 3]


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("a broken font")])
def test_a_picture_that_cannot_be_drawn_is_told_once_and_ends_nothing(
    work,  # noqa: F811
    monkeypatch,
    capsys,
    error,
):
    def fail(*args):
        raise error

    monkeypatch.setattr(pictures, "curves", fail)
    monkeypatch.setattr(curves, "PAUSE_S", -1.0)
    assert fit("-c", "toy.yaml", "--trainer.max_epochs=3") == 0
    assert capsys.readouterr().err.count(f"no curves.png: {error}") == 1
