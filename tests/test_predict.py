"""``predict`` over data sets and files: what is made, what is kept, what a kill leaves."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from zoo.audio import open_audio, read
from zoo.cli.train import run
from zoo.data import open_dataset
from zoo.data.module import SeparationData
from zoo.data.songs import Input, TrackSignal
from zoo.errors import DatasetError
from zoo.separator import Separator
from zoo.stems import sweep

RECIPE = "model:\n  class_path: test_predict.Halves\n"
DATA = ["-c", "halves.yaml", "--data.dataset=folder", "--data.root=songs", "--run_dir=r"]
STEMS = {"vocals.wav", "accompaniment.wav", "separation.json"}


class Halves(Separator):
    """Gives shares of the mixture, which are its weights."""

    architecture = "halves"
    kills_itself = int(os.environ.get("KILLED_IN_SONG", "0"))

    def __init__(self, sources: list[str] = ["vocals", "accompaniment"], rate: int = 16000):  # noqa: B006
        super().__init__(sources, rate, 1)
        self.save_hyperparameters()
        self.shares = torch.nn.Parameter(torch.tensor([0.75, 0.25]))
        self.n_songs = 0

    @property
    def segment(self):
        return 1000

    @property
    def context(self):
        return 0

    def forward(self, mixture, state=None):
        self.n_songs += 1  # they are shorter than a chunk
        if self.n_songs == self.kills_itself:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.stack([mixture * share for share in self.shares], dim=1)


def tone(samples=16000, rate=16000, hz=300.0, channels=1):
    signal_ = 0.3 * np.sin(2 * np.pi * hz * np.arange(samples) / rate)
    return np.tile(signal_[:, None], channels).astype("float32")


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty working directory with a recipe and five test songs of a second."""
    monkeypatch.chdir(tmp_path)
    for i in range(5):
        for source, hz in (("vocals", 500), ("accompaniment", 180)):
            song = Path(f"songs/test/song {i}")
            song.mkdir(parents=True, exist_ok=True)
            soundfile.write(song / f"{source}.wav", tone(hz=hz + 40 * i), 16000, "FLOAT")
    Path("halves.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="zoo")
    return caplog


def predict(*words):
    return run(["predict", *DATA, *words])


def stamps(folder="r/stems"):
    """When every file was last written, by its path."""
    return {p: p.stat().st_mtime_ns for p in Path(folder).rglob("*") if p.is_file()}


def checkpoint(path, shares):
    model = Halves()
    state = {**model.state_dict(), "shares": torch.tensor(shares)}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.6.0"}, path)


# ----------------------------------------------------------------- what is made


def test_every_test_track_gets_a_folder_of_stems_at_its_own_rate(work, said):
    assert predict("--model.rate=8000") == 0
    assert {p.name for p in Path("r/stems").iterdir()} == {f"song {i}" for i in range(5)}
    for folder in Path("r/stems").iterdir():
        assert {p.name for p in folder.iterdir()} == STEMS
    with open_audio(Path("r/stems/song 1/vocals.wav")) as reader:
        assert (reader.rate, reader.samples, reader.is_float) == (16000, 16000, True)
    record = json.loads(Path("r/stems/song 1/separation.json").read_text())
    assert record["input"] == "folder: song 1, 16000 samples at 16000 Hz"
    assert record["model"]["arguments"]["rate"] == 8000
    assert "5 of 5 songs are in r/stems" in said.text


def test_stems_are_the_estimates_of_the_tracks_mixture(work):
    assert predict() == 0
    (track,) = [t for t in open_dataset("folder", "songs").tracks("test") if t.name == "song 3"]
    stem, _ = read(Path("r/stems/song 3/vocals.wav"))
    np.testing.assert_allclose(stem, 0.75 * track.read("mixture"), atol=1e-6)


def test_plain_files_need_no_data_set(work):
    Path("plain/album").mkdir(parents=True)
    soundfile.write("plain/album/a.flac", tone(5000, 44100, channels=2), 44100)
    soundfile.write("plain/b.wav", tone(), 16000)
    words = ["predict", "-c", "halves.yaml", "--run_dir=r"]
    assert run([*words, "--data.files=plain"]) == 0
    made = {p.relative_to("r/stems").as_posix() for p in Path("r/stems").rglob("vocals.wav")}
    assert made == {"album/a/vocals.wav", "b/vocals.wav"}
    with open_audio(Path("r/stems/album/a/vocals.wav")) as reader:
        assert (reader.rate, reader.channels, reader.samples) == (44100, 2, 5000)
    assert run([*words[:-1], "--run_dir=s", "--data.files=[plain/*.wav, plain/album/a.flac]"]) == 0
    assert {p.name for p in Path("s/stems").iterdir()} == {"a", "b"}


def test_each_process_makes_its_own_songs(work, monkeypatch):
    monkeypatch.setattr(SeparationData, "_rank", lambda _: (1, 2))
    assert predict() == 0
    assert {p.name for p in Path("r/stems").iterdir()} == {"song 1", "song 3"}


# ----------------------------------------------------------------- what is there already


def test_a_second_call_makes_only_what_is_missing(work, said):
    assert predict() == 0
    before = stamps()
    shutil.rmtree("r/stems/song 2")
    Path("r/stems/song 4/vocals.wav").unlink()
    assert predict() == 0
    made = {p for p, stamp in stamps().items() if before[p] != stamp}
    assert {p.parent.name for p in made} == {"song 2", "song 4"}
    assert Path("r/stems/song 4/accompaniment.wav") not in made
    assert "5 of 5 songs are in r/stems; 3 were there already" in said.text


def test_what_another_model_has_made_is_made_anew(work, said):
    checkpoint("a.ckpt", [0.5, 0.5])
    checkpoint("b.ckpt", [0.25, 0.75])
    assert predict("--ckpt_path=a.ckpt") == 0
    before = stamps()
    assert predict("--ckpt_path=a.ckpt") == 0
    assert stamps() == before
    assert predict("--ckpt_path=b.ckpt") == 0
    assert all(stamps()[path] != stamp for path, stamp in before.items())
    assert "song 0: made anew, was made by another model" in said.text
    mixture = read(Path("songs/test/song 0/vocals.wav"))[0]
    mixture = mixture + read(Path("songs/test/song 0/accompaniment.wav"))[0]
    np.testing.assert_allclose(
        read(Path("r/stems/song 0/vocals.wav"))[0], 0.25 * mixture, atol=1e-6
    )


def test_stems_of_another_data_set_with_the_same_names_are_made_anew(work):
    assert predict() == 0
    shutil.copytree("songs", "longer")
    for source in ("vocals", "accompaniment"):
        soundfile.write(f"longer/test/song 0/{source}.wav", tone(17000), 16000, "FLOAT")
    before = stamps()
    assert predict("--data.root=longer") == 0
    made = {p.parent.name for p, stamp in stamps().items() if before.get(p) != stamp}
    assert made == {"song 0"}


def test_what_the_zoo_has_not_made_is_not_touched(work, said):
    """Such as the references themselves, where the run's folder is theirs by mistake."""
    Path("r").mkdir()
    shutil.copytree("songs/test", "r/stems")
    shutil.rmtree("r/stems/song 4")
    before = stamps()
    assert predict() == 1
    assert {p: stamps()[p] for p in before} == before
    assert "song 0/vocals.wav is there already, not made by the zoo" in said.text
    assert "1 of 5 songs are in r/stems; 4 failed" in said.text
    shutil.rmtree("r/stems/song 4")
    shutil.copytree("songs/test/song 4", "r/stems/song 4")
    assert predict() == 2


def test_a_faulty_file_does_not_stop_the_others(work, said):
    Path("plain").mkdir()
    Path("plain/a.wav").write_bytes(b"no sound")
    soundfile.write("plain/b.wav", tone(), 16000)
    words = ["predict", "-c", "halves.yaml", "--run_dir=r"]
    assert run([*words, "--data.files=plain"]) == 1
    assert "plain/a.wav is not audio" in said.text
    assert [p.name for p in Path("r/stems").iterdir()] == ["b"]


@pytest.mark.slow
def test_after_a_kill_a_second_call_does_only_the_rest(work):
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here.parent), str(here)])
    environment = {**os.environ, "PYTHONPATH": path, "KILLED_IN_SONG": "3"}
    command = [sys.executable, "-m", "zoo", "predict", *DATA]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = stamps()
    whole = {p.parent.name for p in before if p.name == "separation.json"}
    assert whole == {"song 0", "song 1"}
    assert [p for p in before if p.name.endswith(".partial")]  # of the third
    assert predict() == 0
    after = stamps()
    assert {p: after[p] for p in before if p.parent.name in whole} == {
        p: stamp for p, stamp in before.items() if p.parent.name in whole
    }
    assert {p.name for p in after} == STEMS


# ----------------------------------------------------------------- parts of it


@pytest.mark.parametrize("name", ["mixture.wav", "mixture.mp3"])
def test_a_stored_mixture_is_read_forward_in_blocks(tmp_path, name):
    song = tmp_path / "test" / "a"
    song.mkdir(parents=True)
    soundfile.write(song / "vocals.wav", tone(600000), 16000)
    soundfile.write(song / name, np.random.default_rng(0).uniform(-0.3, 0.3, 600000), 16000)
    (track,) = open_dataset("folder", tmp_path).tracks("test")
    blocks = list(TrackSignal(track).blocks())
    assert len(blocks) > 1 and max(b.shape[1] for b in blocks) <= 1 << 18
    np.testing.assert_array_equal(torch.cat(blocks, 1).numpy(), track.read("mixture"))


def test_a_mixture_of_one_channel_or_too_short_is_filled_up_where_files_may_be(tmp_path):
    song = tmp_path / "test" / "a"
    song.mkdir(parents=True)
    soundfile.write(song / "vocals.wav", tone(400000, channels=2), 16000)
    soundfile.write(song / "mixture.wav", tone(300000), 16000)
    (track,) = open_dataset("folder", tmp_path, pads=True).tracks("test")
    signal_ = torch.cat(list(TrackSignal(track).blocks()), 1).numpy()
    assert signal_.shape == (2, 400000)
    np.testing.assert_array_equal(signal_, track.read("mixture"))


@pytest.mark.parametrize(("samples", "channels"), [(299999, 2), (300000, 1)])
def test_a_mixture_that_is_replaced_by_a_lesser_one_is_an_error(tmp_path, samples, channels):
    song = tmp_path / "test" / "a"
    song.mkdir(parents=True)
    for name in ("vocals.wav", "mixture.wav"):
        soundfile.write(song / name, tone(300000, channels=2), 16000)
    (track,) = open_dataset("folder", tmp_path).tracks("test")
    soundfile.write(song / "mixture.wav", tone(samples, channels=channels), 16000)
    with pytest.raises(DatasetError, match=r"^a: .*mixture\.wav .* replace it"):
        list(TrackSignal(track).blocks())


def test_the_sum_of_the_sources_is_read_in_blocks(tmp_path):
    song = tmp_path / "test" / "a"
    song.mkdir(parents=True)
    for source, hz in (("vocals", 200), ("drums", 70)):
        soundfile.write(song / f"{source}.wav", tone(600000, hz=hz), 16000)
    (track,) = open_dataset("folder", tmp_path).tracks("test")
    blocks = list(TrackSignal(track).blocks())
    assert len(blocks) > 1 and max(b.shape[1] for b in blocks) <= 1 << 18
    np.testing.assert_array_equal(torch.cat(blocks, 1).numpy(), track.read("mixture"))


def test_a_track_keeps_all_of_its_name():
    (track, *_) = open_dataset("generated", n_test=1, seconds=0.5).tracks("test")
    object.__setattr__(track, "name", "a/b. c.d")
    song = Input.of_track(track, "generated")
    assert song.stem == str(song.below) == "a_b. c.d"


def test_only_what_a_killed_run_has_left_is_swept(tmp_path):
    left = (".vocals.wav.0a1b2c3d.partial", ".separation.0a1b2c3d.partial.json",
            ".vocals.0a1b2c3d.before.wav")  # fmt: skip
    for name in (*left, "vocals.wav", ".hidden", "a.partial"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"vocals.wav", ".hidden", "a.partial"}
