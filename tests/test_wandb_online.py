"""W&B against a fake of its server: what a run sends, and what it does when the server fails."""

import csv
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import torch
import yaml
from fake_wandb import ENTITY, KEY, FakeWandb, no_account
from lightning.pytorch import Callback, Trainer
from trainable_toy import Toy

from zoo.cli.train import run
from zoo.training import loggers
from zoo.training.loggers import wandb_logger

RECIPE = """\
model:
  class_path: trainable_toy.Toy
  init_args: {width: 8}
data: {dataset: folder, root: songs, examples_per_epoch: 8, batch_size: 4}
trainer: {max_epochs: 3}
examples_every: 2
"""


class Killed(Callback):
    """No goodbye to anybody, in the middle of the second epoch."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(autouse=True)
def heard(monkeypatch, caplog):
    """Lets pytest hear the zoo's log, whatever a command set up before."""
    monkeypatch.setattr(logging.getLogger("zoo"), "propagate", True)
    caplog.set_level("INFO", "zoo")


def lines(caplog):
    """What was said of W&B."""
    return [message for message in caplog.messages if message.startswith("W&B: ")]


def record(folder):
    return json.loads((Path(folder) / "wandb" / "run.json").read_text())


# ----------------------------------------------------------------- a run, killed and continued


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Server and folder of a training that was killed in its second epoch, and went on."""
    folder = tmp_path_factory.mktemp("story")
    rng = np.random.default_rng(0)
    for split in ("train", "valid"):
        song = folder / "songs" / split / "song"
        song.mkdir(parents=True)
        for source in ("vocals", "accompaniment"):
            signal_ = 0.1 * rng.standard_normal(16000).astype("float32")
            soundfile.write(song / f"{source}.wav", signal_, 16000)
    (folder / "toy.yaml").write_text(RECIPE)
    with FakeWandb() as server, pytest.MonkeyPatch.context() as patch:
        no_account(patch, folder / "home")
        patch.setenv("WANDB_BASE_URL", server.url)
        patch.setenv("WANDB_API_KEY", KEY)
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        patch.chdir(folder)
        command = [sys.executable, "-m", "zoo", "fit", "-c", "toy.yaml"]
        killed = [*command, "--trainer.callbacks=test_wandb_online.Killed"]
        done = subprocess.run(killed, capture_output=True, text=True, timeout=120)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert run(["fit", "-c", "toy.yaml", "--ckpt_path=last"]) == 0
        yield server, folder / "runs" / "toy"


@pytest.fixture
def sent(story):
    """The only run that the server knows."""
    (sent,) = story[0].runs.values()
    return sent


@pytest.mark.slow
def test_a_killed_run_goes_on_as_the_same_run(story, sent):
    assert list(story[0].runs) == [record(story[1])["id"]]
    assert sent.attempts == 2
    assert sent.exit_code == 0
    steps = [row["_step"] for row in sent.history]
    assert steps == sorted(set(steps))
    assert sorted({row["epoch"] for row in sent.history if "epoch" in row}) == [0, 1, 2]


@pytest.mark.slow
def test_the_server_knows_every_row_of_the_table(story, sent):
    with open(story[1] / "metrics.csv", newline="") as file:
        table = {int(row["step"]): float(row["val/sdr"]) for row in csv.DictReader(file)}
    assert dict(sent.logged("val/sdr")) == pytest.approx(table)


@pytest.mark.slow
def test_losses_and_the_sdr_of_each_source_have_their_steps(sent):
    for name in ("train/loss", "val/sdr", "val/sdr_vocals", "val/sdr_accompaniment"):
        assert [step for step, _ in sent.logged(name)] == [1, 3, 5], name
        assert np.isfinite([value for _, value in sent.logged(name)]).all()


@pytest.mark.slow
def test_the_configuration_is_the_resolved_recipe(story, sent):
    config = {name: value["value"] for name, value in sent.config.items() if name != "_wandb"}
    recipe = yaml.safe_load((story[1] / "config.yaml").read_text())
    facts = config.pop("zoo_run")
    assert recipe["data"]["augment"].pop("share") == {}  # W&B keeps no empty mapping
    config["data"]["augment"].pop("share", None)
    assert config == recipe
    assert config["model"]["init_args"]["dropout"] == 0.5  # a default, written out
    assert facts["data"].startswith("folder ")


@pytest.mark.slow
def test_an_example_can_be_heard_and_seen(story, sent):
    names = ["mixture", "vocals, reference", "vocals, estimate"]
    names += ["accompaniment, reference", "accompaniment, estimate"]
    step, shown = sent.logged("examples/audio")[-1]
    assert (step, shown["captions"]) == (5, names)
    assert all(sent.files[file["path"]][:4] == b"RIFF" for file in shown["audio"])
    step, shown = sent.logged("examples/spectrograms")[-1]
    assert step == 5
    pictures = [sent.files[name] for name in shown["filenames"]]
    assert pictures == [(story[1] / "examples" / "epoch-2.png").read_bytes()]


@pytest.mark.slow
def test_the_best_checkpoint_is_uploaded_once_and_named_after_the_run(story):
    server, folder = story
    (artifact,) = server.artifacts
    assert (artifact.name, artifact.type, artifact.state) == ("toy", "model", "COMMITTED")
    best, last = (folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    assert artifact.files["best.ckpt"] == best.read_bytes()
    is_last = best.read_bytes() == last.read_bytes()
    assert set(artifact.aliases) == {"best", "latest", *(["last"] if is_last else [])}
    assert artifact.metadata["val/sdr"] > -100
    assert not [p for p in (folder / "wandb").rglob("*") if p.is_file() and p.suffix == ".ckpt"]
    assert not [p for p in (folder / "wandb/data").rglob("*") if p.is_file()]


@pytest.mark.slow
def test_the_folder_and_the_checkpoint_say_where_the_run_is(story):
    server, folder = story
    (identity,) = server.runs
    project = f"{ENTITY}/music-separation-zoo"
    url = f"{server.url}/{project}/runs/{identity}"
    assert record(folder) == {
        "id": identity,
        "url": url,
        "entity": ENTITY,
        "project": "music-separation-zoo",
        "artifact": f"{project}/toy:v0",
    }
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["zoo_run"]["wandb"] == url


@pytest.mark.slow
def test_the_fake_was_asked_for_nothing_that_it_does_not_know(story):
    assert story[0].unknown == set()


# ----------------------------------------------------------------- servers that fail


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server, and an environment that names it; waiting is short."""
    no_account(monkeypatch, tmp_path / "home")
    monkeypatch.setattr(loggers, "FINISH_S", 1.0)
    with FakeWandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield server


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "best.ckpt"
    path.write_bytes(bytes(1000))
    return path


def caught_up(line):
    """Run, as a user would, the command that a line of the log ends with."""
    command = shlex.split(re.search(r"; later: (wandb .*)", line)[1])
    program = str(Path(sys.executable).with_name("wandb"))
    shell = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}
    words = [program, *command[1:]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=shell)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_an_offline_run_is_whole_after_the_printed_command(server, model, tmp_path, caplog):
    folder = tmp_path / "my runs" / "toy"
    for resume in (False, True):
        logger = wandb_logger(folder, "offline", resume=resume)
        logger.log_recipe("model: {width: 8}", {"commit": "abc"})
        logger.log_metrics({"val/sdr": 1.0 + resume}, 9 + 10 * resume)
        if resume:
            logger.log_model(model, ["best"], {"val/sdr": 2.0})
        logger.finish()
    assert not server.runs
    assert record(folder)["url"] is None
    assert all(line.startswith("W&B: offline (as asked)") for line in lines(caplog))
    model.unlink()  # a new run in the folder moves it aside
    for line in lines(caplog):
        caught_up(line)
    assert list(server.runs) == [record(folder)["id"]]
    sent = server.runs[record(folder)["id"]]
    assert sent.logged("val/sdr") == [(9, 1), (19, 2)]
    assert sent.config["model"]["value"] == {"width": 8}
    assert server.artifacts[0].files["best.ckpt"] == bytes(1000)


@pytest.mark.slow
def test_a_refused_model_is_said_in_one_line(server, model, tmp_path, caplog):
    server.refused.add("best.ckpt")
    logger = wandb_logger(tmp_path / "toy", "online")
    logger.log_model(model, ["best"], {})
    logger.finish()
    _, line = lines(caplog)
    assert line.startswith("W&B: best.ckpt was not uploaded: ")
    assert record(tmp_path / "toy")["artifact"] is None
    server.refused.clear()
    caught_up(line)
    assert server.artifacts[-1].files["best.ckpt"] == bytes(1000)
    assert server.artifacts[-1].name == server.artifacts[0].name == "toy"
    assert set(server.artifacts[-1].aliases) == {"best", "latest"}


@pytest.mark.slow
def test_a_refused_sound_is_said_in_one_line(server, tmp_path, caplog):
    server.refused.add("/media/")
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 16000)
    logger = wandb_logger(tmp_path / "toy", "online")
    with logger._calm():
        logger.log_audio("examples/audio", [str(tmp_path / "a.wav")], 0)
    logger.finish()
    _, line = lines(caplog)
    assert "failed to upload: status: 403" in line
    server.refused.clear()
    caught_up(line)
    (sent,) = server.runs.values()
    assert [name for name in sent.files if name.endswith(".wav")]


class Dies(Callback):
    """The server goes away after the first epoch."""

    def __init__(self, server, how):
        self.server, self.how = server, how

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 0:
            self.how(self.server)


def silence(server):
    server.hangs = True


@pytest.mark.slow
@pytest.mark.parametrize("how", [FakeWandb.die, silence])
def test_a_server_lost_in_the_middle_costs_a_minute_and_a_line(
    server, model, tmp_path, caplog, how
):
    logger = wandb_logger(tmp_path / "toy", "online")
    trainer = Trainer(
        max_epochs=3, logger=logger, callbacks=[Dies(server, how)], accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    batch = {"references": torch.randn(2, 2, 1, 500), "known": torch.ones(2, 2, dtype=torch.bool)}
    trainer.fit(Toy(), torch.utils.data.DataLoader([batch], batch_size=None))
    assert trainer.current_epoch == 3
    start = time.monotonic()
    logger.log_model(model, ["best"], {})
    logger.finish()
    assert time.monotonic() - start < 120  # and not for ever
    _, of_model, of_rows = lines(caplog)
    assert of_model.startswith("W&B: best.ckpt was not uploaded: ")
    server.hangs = False
    if how is FakeWandb.die:
        server.start()
    caught_up(of_rows)
    (sent,) = server.runs.values()
    assert [step for step, _ in sent.logged("train/loss")] == [0, 1, 2]


def test_rows_that_a_killed_run_had_not_sent_are_sent_once(server, tmp_path):
    logger = wandb_logger(tmp_path / "toy", "online")
    logger.log_metrics({"loss": 1.0}, 9)
    logger.finish()
    logger = wandb_logger(tmp_path / "toy", "online", resume=True)
    logger.catch_up([{"step": str(n), "loss": str(n / 9), "lr": ""} for n in (9, 18)])
    logger.finish()
    (sent,) = server.runs.values()
    assert sent.logged("loss") == [(9, 1), (18, 2)]
    assert sent.logged("lr") == []


@pytest.mark.slow
def test_a_client_that_dies_takes_nothing_with_it(server, model, tmp_path, caplog):
    logger = wandb_logger(tmp_path / "toy", "online")
    (core,) = [p for p in psutil.Process().children() if "wandb-core" in p.name()]
    core.kill()
    core.wait(10)
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
    logger.finish()
    _, line = lines(caplog)
    caught_up(line)


@pytest.mark.parametrize("fault", ["401", "silence"])
def test_a_server_that_takes_nobody_means_offline(server, tmp_path, caplog, fault):
    server.status, server.hangs = (401, False) if fault == "401" else (200, True)
    start = time.monotonic()
    logger = wandb_logger(tmp_path / "toy", "auto", init_timeout=2)
    logger.finish()
    (line,) = lines(caplog)
    assert line.startswith("W&B: offline (")
    assert time.monotonic() - start < 60  # W&B itself would wait for 90 s


def test_an_address_that_is_none_means_no_logger(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_BASE_URL", "localhost")
    assert wandb_logger(tmp_path / "toy") is None
    (line,) = lines(caplog)
    assert line.startswith("W&B: no run could be started (")
    assert "base_url" in line


# ----------------------------------------------------------------- what the user asks for


def test_no_model_is_uploaded_against_the_users_will(server, model, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_LOG_MODEL", "false")
    logger = wandb_logger(tmp_path / "toy", "online")
    logger.log_model(model, ["best"], {})
    logger.finish()
    assert not server.artifacts


def test_a_sweep_gives_a_run_its_id(server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "of-sweep")
    wandb_logger(tmp_path / "toy", "online").finish()
    assert list(server.runs) == ["of-sweep"]


def test_a_new_run_in_an_old_folder_is_another_run(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    (tmp_path / "run.json").write_text('{"id": "earlier"}')
    assert loggers._identity(tmp_path, resume=True) == "earlier"
    assert loggers._identity(tmp_path, resume=False) != "earlier"


def test_a_proxy_is_what_must_be_reached(server, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.example")
    loggers._start_afresh()
    monkeypatch.setenv("http_proxy", server.url)
    assert loggers._unreachable(3.0) == ""
