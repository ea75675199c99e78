"""Two processes train one model: every step is taken, and both have the same weights after it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

import zoo
from zoo.data.module import SeparationData

SIZES = {"sources": ["vocals", "accompaniment"], "sample_rate": 8000, "channels": 1}
SPECTRA = {"n_fft": 64, "hop": 32}
GROWING = {**SPECTRA, "n_neighbours": 1, "n_layers": 3, "segment_frames": 16, "growth_epochs": 1}
MODELS = {
    "fnn": GROWING,
    "deepnmf": {**SPECTRA, "n_bases": 3, "n_layers": 4, "segment_frames": 16},
    "spleeter": {
        "n_fft": 128, "hop": 32, "n_seen": 32, "patch_frames": 16, "n_levels": 3, "first_maps": 4,
    },
    "blend": {
        "members": {
            "fnn": {"architecture": "fnn", "arguments": GROWING},
            "blstm": {
                "architecture": "blstm",
                "arguments": {**SPECTRA, "n_cells": 4, "n_layers": 1, "segment_s": 0.1},
            },
        },
    },
}  # fmt: skip
N_EPOCHS = 3
N_STEPS = 6  # 8 examples an epoch, 2 at a time in each of two processes


def train(name: str, folder: Path) -> None:
    """In each process: keep the parameters before and after a training."""
    torch.manual_seed(0)
    model = zoo.create(name, **SIZES, **MODELS[name])
    rank = int(os.environ["LOCAL_RANK"])
    torch.manual_seed(rank)  # of dropout: processes differ
    songs = {
        "n_train": 1, "n_valid": 1, "n_test": 0, "seconds": 2, "sample_rate": 8000,
        "absent": [0, 0, 0, 0], "alone": 0,
    }  # fmt: skip
    data = SeparationData("generated", arguments=songs, batch_size=2, examples_per_epoch=8)
    trainer = Trainer(
        strategy="ddp", devices=2, accelerator="cpu", max_epochs=N_EPOCHS, limit_val_batches=0,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    learning = {k: v for k, v in model.named_parameters() if v.requires_grad}
    before = {k: v.detach().clone() for k, v in learning.items()}
    trainer.fit(model, data)
    after = {k: v.detach() for k, v in learning.items()}
    found = {"before": before, "after": after, "steps": trainer.global_step}
    torch.save(found, folder / f"{name}-{rank}.pt")


def run(folder):
    """Two processes that find each other as those of a cluster do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = [str(Path(zoo.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    shared = {
        **os.environ, "PYTHONPATH": os.pathsep.join(places), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, folder], env={**shared, "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    try:
        for process in processes:
            _, told = process.communicate(timeout=240)
            assert process.returncode == 0, told[-2000:]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
def test_two_processes_learn_the_same(tmp_path):
    run(tmp_path)
    for name in MODELS:
        first, second = (torch.load(tmp_path / f"{name}-{rank}.pt") for rank in (0, 1))
        assert first["steps"] == second["steps"] == N_STEPS
        for key, value in first["after"].items():
            assert torch.equal(second["after"][key], value), f"{key} of {name} differs"
            assert not torch.equal(first["before"][key], value), f"{key} of {name} has not learned"


if __name__ == "__main__":
    for name in MODELS:
        train(name, Path(sys.argv[1]))
