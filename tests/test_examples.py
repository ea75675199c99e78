"""The examples run as their docstrings say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import zoo
from zoo.data import open_dataset

CHECKOUT = Path(__file__).resolve().parent.parent


def run(name, folder, *words):
    done = subprocess.run(
        [sys.executable, CHECKOUT / "examples" / name, *words], cwd=folder, check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def phase(text):
    """Figures of the table of phase.py, and of its lines on additivity."""
    rows = re.findall(r"^(\w+) +(its own|mixture's) +(\S+) +(\S+) +(\S+)$", text, re.MULTILINE)
    scores = {(name, kind): [float(x) for x in figures] for name, kind, *figures in rows}
    sums = re.findall(r"(\w+): error (\S+)%, bias (\S+)%, correlation (\S+)", text)
    return scores, {name: [float(x) for x in figures] for name, *figures in sums}


@pytest.mark.slow
def test_phase_on_generated_songs(tmp_path):
    scores, sums = phase(run("phase.py", tmp_path, "--seconds=4"))
    assert {name for name, _ in scores} == {"vocals", "drums", "bass", "other"}
    for (name, kind), (sdr, _, sar) in scores.items():
        if kind == "its own":  # nothing but rounding is lost
            assert min(sdr, sar) > 100, name
        else:
            assert max(sdr, sar) < 30, name
    error, bias, _ = sums["magnitudes"]
    assert bias == pytest.approx(-error, abs=0.11)  # a sum of magnitudes is never too small
    assert abs(sums["powers"][1]) < 0.2 * sums["powers"][0]  # one of powers, as often as too large
    assert sums["powers"][2] > sums["magnitudes"][2] > 0.3
    assert (tmp_path / "phase.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_phase_on_a_folder_of_songs(tmp_path):
    (track,) = open_dataset("generated", n_train=1, seconds=3.0).tracks("train")
    for source in ("vocals", "other"):
        (tmp_path / "songs" / "song").mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / f"songs/song/{source}.wav", track.read(source).T, track.rate)
    told = run("phase.py", tmp_path, "--songs=songs", "--picture=seen.png", "--seconds=60")
    assert {name for name, _ in phase(told)[0]} == {"vocals", "other"}
    assert (tmp_path / "seen.png").is_file()


@pytest.mark.slow
def test_a_fitted_blend_is_a_release(tmp_path):
    (track,) = open_dataset("generated", n_train=1, seconds=3.0).tracks("train")
    for source in track.sources:
        (tmp_path / "songs/valid/song").mkdir(parents=True, exist_ok=True)
        soundfile.write(
            tmp_path / f"songs/valid/song/{source}.wav", track.read(source).T, track.rate
        )
    told = run(
        "blend.py", tmp_path, "mmdensenet-mir1k", "other=mdensenet-mir1k", "--data=folder",
        "--root=songs", "--output=blend-songs",
    )  # fmt: skip
    rows = re.findall(r"^(\w+) mmdensenet-mir1k (\S+)  other (\S+)$", told, re.MULTILINE)
    assert [name for name, *_ in rows] == ["vocals", "accompaniment"]
    blend = zoo.from_pretrained(tmp_path / "blend-songs")
    weights = np.array([[float(value) for value in row[1:]] for row in rows])
    assert blend.weights.numpy() == pytest.approx(weights, abs=0.002)
    assert blend.info["licence"]["weights"].startswith("research use")


def test_examples_are_short(checkout):
    for path in checkout.glob("examples/*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, path
