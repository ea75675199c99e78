"""``zoo doctor``: what it finds, and what it says when something is broken."""

import os
import sys

import pytest

import zoo
from zoo.cli import doctor, main
from zoo.compat import torchaudio

WORDS = "python torch device torchaudio codecs ffmpeg lightning wandb hub cache data disk".split()


def findings(capsys):
    """Name -> finding, as printed, and the exit status."""
    status = main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}, status


def script(folder, name, text="#!/bin/sh\n"):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.slow
def test_everything_that_matters_has_a_line(capsys):
    found, status = findings(capsys)
    assert list(found) == WORDS
    assert status == 0
    assert zoo.__version__ in found["python"]
    assert sys.executable in found["python"]
    assert sys.modules["torch"].__version__ in found["torch"]


def test_it_says_why_there_is_no_gpu(capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "knows no CUDA" in doctor.FINDINGS["device"]()
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert "driver" in doctor.FINDINGS["device"]()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert "--device mps" in doctor.FINDINGS["device"]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A Card")
    assert doctor.FINDINGS["device"]() == "cuda: A Card"


@pytest.mark.parametrize(
    ("mode", "words"), [("native", "loaded"), ("pure", "does not fit"), ("absent", "soxr")]
)
def test_it_says_how_torchaudio_is_used(monkeypatch, mode, words):
    monkeypatch.setattr(torchaudio, "mode", lambda: mode)
    assert words in doctor.FINDINGS["torchaudio"]()


def test_it_says_whose_lightning_script_is_first(tmp_path, monkeypatch):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    find = doctor.FINDINGS["lightning"]
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert "no `lightning` script" in find()
    script(ours, "lightning", "#!/usr/bin/python\nfrom zoo.cli import lightning_main\n")
    path = script(theirs, "lightning", "#!/usr/bin/python\nfrom lightning_sdk.cli import main\n")
    monkeypatch.setenv("PATH", os.pathsep.join([str(theirs), str(ours)]))
    assert str(path) in find()
    assert "use `zoo fit`" in find()
    monkeypatch.setenv("PATH", os.pathsep.join([str(ours), str(theirs)]))
    assert find().endswith("is ours")


def test_it_says_where_ffmpeg_is(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no binary" in doctor.FINDINGS["ffmpeg"]()
    script(tmp_path, "ffprobe")
    assert "no binary" in doctor.FINDINGS["ffmpeg"]()
    assert doctor.FINDINGS["ffmpeg"]() != str(script(tmp_path, "ffmpeg"))
    assert doctor.FINDINGS["ffmpeg"]() == str(tmp_path / "ffmpeg")


def test_it_says_whether_a_key_of_wandb_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert "WANDB_MODE=offline" in doctor.FINDINGS["wandb"]()
    monkeypatch.delenv("WANDB_MODE")
    assert "no key" in doctor.FINDINGS["wandb"]()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret-of-mine\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert "a key is there" in doctor.FINDINGS["wandb"]()
    assert "secret" not in doctor.FINDINGS["wandb"]()
    monkeypatch.setenv("WANDB_API_KEY", "secret-of-mine")
    assert "secret" not in doctor.FINDINGS["wandb"]()


def test_it_says_where_data_sets_are_looked_for(monkeypatch):
    monkeypatch.setenv("ZOO_DATA", "/somewhere")
    assert "/somewhere" in doctor.FINDINGS["data"]()
    monkeypatch.delenv("ZOO_DATA")
    assert "not set" in doctor.FINDINGS["data"]()


@pytest.mark.parametrize("error", [ImportError("libfoo.so: no"), AttributeError(""), OSError("x")])
def test_what_is_broken_is_said_in_its_line_and_by_the_status(capsys, monkeypatch, error):
    def broken():
        raise error

    monkeypatch.setattr(doctor, "FINDINGS", {"codecs": broken, "disk": doctor.FINDINGS["disk"]})
    found, status = findings(capsys)
    assert status == 1
    assert found["codecs"] == f"does not work: {str(error) or 'AttributeError'}"
    assert "GB free" in found["disk"]


def test_a_home_that_does_not_exist_is_no_fault(monkeypatch):
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert "no key" in doctor.FINDINGS["wandb"]()
    assert "GB free" in doctor.FINDINGS["cache"]()
