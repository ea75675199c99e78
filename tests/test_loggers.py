"""The table of metrics, and when W&B is online, offline or off."""

import csv
import logging
import os
import socket
import time

import fake_wandb
import pytest
from fake_wandb import KEY

from zoo.training import loggers
from zoo.training.loggers import Rows, wandb_logger


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def heard(monkeypatch):
    """Lets pytest hear the zoo's log, whatever a command set up before."""
    monkeypatch.setattr(logging.getLogger("zoo"), "propagate", True)


# ----------------------------------------------------------------- rows


def test_values_of_one_step_share_a_row(tmp_path):
    rows = Rows(tmp_path)
    rows.log_metrics({"val/sdr": 1.5, "epoch": 0}, 9)
    rows.log_metrics({"train/loss": 0.25, "epoch": 0}, 9)
    rows.log_metrics({"val/sdr": 2.5, "epoch": 1}, 19)
    assert table(tmp_path / "metrics.csv") == [
        {"epoch": "0", "step": "9", "val/sdr": "1.5", "train/loss": "0.25"},
        {"epoch": "1", "step": "19", "val/sdr": "2.5", "train/loss": ""},
    ]


def test_a_row_is_on_disk_as_soon_as_it_is_logged(tmp_path):
    rows = Rows(tmp_path)
    for step in range(3):
        rows.log_metrics({"a": step}, step)
        assert len(table(rows.path)) == step + 1


def test_a_resumed_run_keeps_the_rows_before_its_checkpoint_and_no_others(tmp_path):
    first = Rows(tmp_path)
    for step in (9, 19, 29):
        first.log_metrics({"loss": step, "epoch": step // 10}, step)
    second = Rows(tmp_path)
    second.begin(20)
    second.log_metrics({"loss": -1.0, "epoch": 2}, 29)
    assert [(r["step"], r["loss"]) for r in table(second.path)] == [
        ("9", "9.0"),
        ("19", "19.0"),
        ("29", "-1.0"),
    ]


def test_a_run_from_scratch_moves_the_rows_of_an_earlier_one_aside(tmp_path):
    for value in (1.0, 2.0, 3.0):
        rows = Rows(tmp_path)
        rows.begin(0)
        rows.log_metrics({"loss": value}, 0)
    found = {p.name: table(p)[0]["loss"] for p in tmp_path.iterdir()}
    assert found == {"metrics-1.csv": "1.0", "metrics-2.csv": "2.0", "metrics.csv": "3.0"}


def test_a_torn_last_line_does_not_stop_a_resumed_run(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,loss\n0,9,1.0\n1,1")
    rows = Rows(tmp_path)
    rows.begin(10)
    rows.log_metrics({"loss": 0.5, "epoch": 1}, 19)
    assert [r["step"] for r in table(rows.path)] == ["9", "19"]


def test_a_table_that_cannot_be_put_right_is_left_as_it_was(tmp_path, monkeypatch):
    torn = "epoch,step,loss\n0,9,1.0\n1,1"
    (tmp_path / "metrics.csv").write_text(torn)

    def killed(self, target):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.replace", killed)
    with pytest.raises(OSError, match="no space"):
        Rows(tmp_path).begin(10)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"metrics.csv": torn}


# ----------------------------------------------------------------- W&B


@pytest.fixture
def no_account(tmp_path, monkeypatch):
    fake_wandb.no_account(monkeypatch, tmp_path / "home")


def test_off_makes_no_logger_and_no_folder(no_account, tmp_path):
    assert wandb_logger(tmp_path / "run", "off") is None
    assert not (tmp_path / "run").exists()


def test_wandb_mode_disabled_is_obeyed_by_auto(no_account, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_logger(tmp_path / "run") is None


def test_a_missing_package_leaves_the_table_and_says_so(no_account, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with caplog.at_level("INFO", "zoo"):
        assert wandb_logger(tmp_path / "run") is None
    assert "not installed" in caplog.text


def test_without_a_key_the_run_is_offline_and_inside_its_folder(no_account, tmp_path, caplog):
    run = tmp_path / "run"
    with caplog.at_level("INFO", "zoo"):
        logger = wandb_logger(run)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finish()
    assert "offline (no API key" in caplog.text
    folder = caplog.text.split("wandb sync ")[1].split()[0]
    assert list((run / "wandb").glob("offline-run-*/*.wandb")), folder
    assert not list((tmp_path / "home").glob("**/*wandb*"))


def test_an_unreachable_server_means_offline_within_seconds(
    no_account, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    start = time.monotonic()
    with caplog.at_level("INFO", "zoo"):
        logger = wandb_logger(tmp_path / "run")
    logger.finish()
    assert "offline (no connection to 127.0.0.1" in caplog.text
    assert time.monotonic() - start < 60  # W&B itself would wait for 90 s


def test_a_user_without_a_home_folder_has_no_key_and_a_logger(no_account, tmp_path, monkeypatch):
    def homeless(path):
        return path

    monkeypatch.delenv("NETRC")
    monkeypatch.setattr("os.path.expanduser", homeless)  # what it does where there is none
    assert not loggers._has_key("wandb.example")
    loggers._keep_inside(tmp_path / "wandb")
    assert os.environ["WANDB_CONFIG_DIR"] == str(tmp_path / "wandb" / "config")


def test_a_key_in_netrc_counts(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    path = tmp_path / "netrc"
    path.write_text(f"machine wandb.example login user password {KEY}\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    assert loggers._has_key("wandb.example")
    assert not loggers._has_key("elsewhere.example")
