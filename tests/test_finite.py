"""A training that meets a loss or gradient that is no number."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_train_cli import DATA, environment, fit, rows, told, weights, work  # noqa: F401

SPOILT = ["--model=trainable_toy.Spoilt", "--optimizer=SGD", "--optimizer.lr=0.01"]


@pytest.mark.parametrize(("kind", "what"), [("loss", "the loss"), ("gradient", "a gradient")])
def test_it_stops_and_names_epoch_batch_and_tracks(work, capsys, kind, what):  # noqa: F811
    assert fit(*SPOILT, f"--model.kind={kind}", "--trainer.max_epochs=3", "--run_dir=r") == 2
    first, second = told(capsys).splitlines()
    # Eight examples in batches of four: the third step is the first of epoch 1.
    assert first.startswith(f"error: {what} is nan in epoch 1, batch 0, of 'song")
    assert "'song0'" in first and "'song1'" in first
    assert second.endswith("--ckpt_path=last goes on from the end of the epoch before")


def test_the_last_good_checkpoint_stays_and_can_be_continued(work):  # noqa: F811
    assert fit(*SPOILT, "--trainer.max_epochs=3", "--run_dir=r") == 2
    checkpoint = torch.load("r/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2
    assert all(w.isfinite().all() for w in weights("r/checkpoints/last.ckpt").values())
    # Continued, the third step of the process is that of epoch 2.
    words = [*SPOILT, "--run_dir=r", "--ckpt_path=last", "--trainer.max_epochs=2"]
    assert fit(*words) == 0
    assert [row["epoch"] for row in rows("r")] == ["0", "1"]


def test_with_accumulation_the_batch_with_the_loss_is_named(work, capsys):  # noqa: F811
    words = ["--trainer.accumulate_grad_batches=2", "--data.examples_per_epoch=16"]
    assert fit(*SPOILT, *words) == 2
    assert "in epoch 0, batch 2, of" in told(capsys)


def test_of_a_gradient_all_batches_of_the_step_are_named(work, capsys):  # noqa: F811
    words = ["--trainer.accumulate_grad_batches=2", "--data.examples_per_epoch=16"]
    assert fit(*SPOILT, *words, "--model.kind=gradient") == 2
    assert "in epoch 0, batch 2 and 3, of" in told(capsys)


@pytest.mark.slow
def test_all_processes_stop_when_one_has_such_a_loss(work):  # noqa: F811
    words = [*SPOILT, "--model.rank=1", "--run_dir=r", "--trainer.max_epochs=3"]
    words += ["--trainer.strategy=ddp", "--trainer.devices=2", "--trainer.accelerator=cpu"]
    words += ["--data.examples_per_epoch=16"]
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "fit", *DATA, *words],
        cwd=work, env=environment(), capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    errors = [x for x in done.stderr.splitlines() if x.startswith("error")]
    assert done.returncode == 2, done.stderr[-2000:]
    assert len(errors) == 1
    assert errors[0].startswith("error: the loss is nan in epoch 1, batch 0 of process 1, of 'song")
    assert Path("r/checkpoints/last.ckpt").is_file()
