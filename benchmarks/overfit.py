"""Proof that a system learns: it is to overfit ten seconds of real music.

Systems of vocals and accompaniment get a karaoke clip of MIR-1K, the others ten seconds of a song
in which all four stems sound, brought to equal power; without the shared audio (``--audio``, else
``$ZOO_SHARED/audio``) a generated song.  Training is what a user gets: Lightning's trainer, the
system's own loss, optimiser and schedule, segments from anywhere in the excerpt.

The bar: each source has an SDR of 8 dB, and 8 dB more than the mixture has.  It is looked at every
so many steps, and training ends when it is reached or the steps are used up.  What is smaller than
in the paper, for the sake of a CPU, stands in SETTINGS and in the line of the system.

``python -m benchmarks.overfit mmdensenet mdensenet``; all trainable systems by default.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import soundfile
import torch
from torch import Tensor

import zoo
from zoo.data import Track, open_dataset
from zoo.data.augmentation import Augmentation
from zoo.data.module import Format
from zoo.errors import MissingPackage
from zoo.metrics.sdr import framewise_sdr

BAR_DB = 8.0
SECONDS = 10
RMS = 0.05  # of each source
N_EPOCHS = 20  # by which schedules count
EXCERPTS = {  # data set, folder, song, first second
    "vocals": ("mir1k", "mir1k", "amy_15_02", 1),
    # True magnitudes and a Wiener filter, STFT 1024 / 512 at 16 kHz, give 10.5 dB at least here; in
    # few other places of these songs do all four sound, and in most of them less than 8.
    "stems": ("folder", "open-multitrack", "potassium", 182),
}

# What differs from the catalog's defaults. steps, cpu_s: at most; every: steps between two looks at
# the bar; lr: Adam from this rate on, falling as a cosine, in place of the system's own optimiser.
MMDENSENET: dict[str, Any] = {
    "arguments": {
        "sample_rate": 16000, "n_fft": 1024, "hop": 512, "segment_frames": 64, "first_maps": 16,
        "low": [[7, 3], *[[8, 3]] * 6], "high": [[5, 2]] * 7, "full": [[6, 2]] * 7,
        "head": "mask", "checkpoint": False,
    },
    "batch": 1, "steps": 1000,
}  # fmt: skip
KARAOKE: dict[str, Any] = {
    "sources": ["vocals", "accompaniment"], "sample_rate": 16000, "channels": 1,
}  # fmt: skip
SPECTRA = {**KARAOKE, "n_fft": 1024, "hop": 512}
FNN = {"n_layers": 2, "growth_epochs": 1}
BLSTM = {"n_cells": 128, "bandwidth_hz": 8000, "segment_s": 2.0, "dropout": 0.0}
UMX = {"hidden_size": 128, "bandwidth_hz": 8000, "segment_s": 2.0}
WAVENET = {"n_stacks": 2, "width": 32, "final_maps": [256, 64], "target_field": 4001}
FEW = {"width": 32, "depth": 2, "n_fft": 1024, "hop": 256, "segment_s": 2.0}
ROFORMER = {
    "time_transformer_depth": 1, "freq_transformer_depth": 1, "dim_head": 16, "heads": 4,
    "num_residual_streams": 1,
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "mmdensenet": MMDENSENET,
    "mdensenet": MMDENSENET,
    "fnn": {"arguments": {**SPECTRA, **FNN}, "batch": 8, "lr": 1e-3},
    "blstm": {"arguments": {**SPECTRA, **BLSTM}, "lr": 2e-3},
    "blend": {
        "arguments": {
            **KARAOKE,
            "members": {
                name: {"architecture": name, "arguments": {**SPECTRA, **own}}
                for name, own in (("fnn", FNN), ("blstm", BLSTM))
            },
        },
        "lr": 1e-3,
    },
    "nug": {"arguments": {**SPECTRA, "dropout": 0.0}, "lr": 1e-3, "steps": 2000},
    "deepnmf": {"arguments": SPECTRA},
    "deepconvsep": {"arguments": KARAOKE, "batch": 32, "steps": 3000},
    "umx": {"arguments": {**SPECTRA, **UMX}, "lr": 2e-3},
    "x-umx": {"arguments": {**SPECTRA, **UMX}, "lr": 2e-3},
    "spleeter": {
        "arguments": {**SPECTRA, "n_seen": 512, "patch_frames": 64, "first_maps": 8},
        "lr": 1e-3,
    },
    "wave-u-net": {"arguments": {**KARAOKE, "n_levels": 8, "n_maps": 12}, "lr": 1e-3},
    "wavenet": {"arguments": {**KARAOKE, **WAVENET}, "lr": 1e-3},
    "wavenet-voice": {"arguments": {**KARAOKE, **WAVENET}, "lr": 1e-3},
    "conv-tasnet": {
        "arguments": {
            **KARAOKE, "n_filters": 128, "filter_length": 32, "n_bottleneck": 64, "n_hidden": 128,
            "n_stacks": 2, "segment_s": 2.0,
        },
        "lr": 2e-3,
    },
    "hdemucs": {
        "arguments": {**KARAOKE, "width": 16, "n_fft": 1024, "depth": 4, "segment_s": 2.0},
        "lr": 1e-3,
    },
    "htdemucs": {
        "arguments": {**KARAOKE, "width": 16, "n_fft": 1024, "depth": 3, "n_layers": 1,
                      "n_heads": 4, "segment_s": 2.0},
        "lr": 1e-3,
    },
    "bs-roformer": {
        "arguments": {**KARAOKE, **FEW,
                      "network": {**ROFORMER, "freqs_per_bands": [8] * 16 + [32] * 12 + [1]}},
        "lr": 1e-3,
    },
    "mel-band-roformer": {
        "arguments": {**KARAOKE, **FEW, "network": {**ROFORMER, "num_bands": 24}},
        "lr": 1e-3,
    },
}  # fmt: skip
DEFAULT: dict[str, Any] = {
    "arguments": {},
    "batch": 4,
    "steps": 1000,
    "every": 25,
    "lr": None,
    "cpu_s": 900,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overfit", description=__doc__)
    parser.add_argument("models", nargs="*", help="names of the catalog")
    parser.add_argument("--audio", type=Path, help="folder with mir1k and open-multitrack")
    parser.add_argument("--steps", type=int, help="at most, of each")
    parser.add_argument(
        "--arguments", type=json.loads, default={}, help="as JSON, win over SETTINGS"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    audio = options.audio or Path(os.environ.get("ZOO_SHARED", "../shared")) / "audio"
    print(f"load {os.getloadavg()[0]:.1f}; one thread, torch {torch.__version__}; the bar is "
          f"{BAR_DB:g} dB, and {BAR_DB:g} dB above the mixture\n"
          f"{'model':22s}{'passed':8s}{'steps x batch':>12s}{'CPU s':>7s}  "
          "SDR in dB (the mixture's) of each source")  # fmt: skip
    failed = 0
    for name in options.models or zoo.list_models(trainable=True):
        settings = {**DEFAULT, **SETTINGS.get(name, {})}
        settings["arguments"] = {**settings["arguments"], **options.arguments}
        settings["steps"] = options.steps or settings["steps"]
        try:
            failed += not learns(name, audio, **settings)
        except MissingPackage as error:
            print(f"{name}: left out, {error}", flush=True)
    return int(failed > 0)


def learns(
    name: str, audio: Path, *, arguments: dict[str, Any], steps: int, batch: int, every: int,
    lr: float | None, cpu_s: float,
) -> bool:  # fmt: skip
    """Train one system, print its row, and tell whether it reached the bar."""
    lightning.seed_everything(0, verbose=False)
    model = zoo.create(name, **arguments)
    references, told = excerpt(model, audio)
    if lr is not None:
        adam = torch.optim.Adam(model.parameters(), lr)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, N_EPOCHS)
        model.configure_optimizers = lambda: ([adam], [cosine])
    bar = Bar(references, every, cpu_s)
    with tempfile.TemporaryDirectory(prefix="zoo-overfit-") as folder:
        song = Path(folder, "train", "excerpt")
        song.mkdir(parents=True)
        for source, signal in zip(model.sources, references, strict=True):
            soundfile.write(song / f"{source}.wav", signal.T, model.sample_rate, "FLOAT")
        n_epochs = min(N_EPOCHS, steps)
        data = zoo.SeparationData(
            "folder", folder, batch_size=batch, examples_per_epoch=batch * -(-steps // n_epochs),
            augment=Augmentation(remix=0.0),
        )  # fmt: skip
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=n_epochs, max_steps=steps, callbacks=[bar], logger=False,
            limit_val_batches=0, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(model, data)
    bar.look(model)
    pairs = zip(model.sources, bar.sdr, bar.mixture, strict=True)
    figures = "  ".join(f"{source} {after:.1f} ({first:.1f})" for source, after, first in pairs)
    sizes = f"reduced: {json.dumps(arguments)}" if arguments else "full size"
    print(f"{name:22s}{'yes' if bar.passed else 'NO':8s}{trainer.global_step:6d} x {batch:<3d}"
          f"{bar.cpu_s:7.0f}  {figures}; {sizes}, {sum(p.numel() for p in model.parameters())} "
          f"parameters; {f'Adam from {lr:g}' if lr else 'its own optimiser'}; {told}",
          flush=True)  # fmt: skip
    return bar.passed


class Bar(lightning.Callback):
    """Looks at the SDR of the excerpt every so many steps; ends the training that reached it."""

    def __init__(self, references: np.ndarray, every: int, limit_s: float) -> None:
        self.references = torch.from_numpy(references)
        self.every, self.limit_s, self.cpu_s = every, limit_s, 0.0
        mixture = self.references.sum(0)
        self.mixture = self._sdr(mixture.expand_as(self.references))
        self.sdr: list[float] = []

    @property
    def passed(self) -> bool:
        pairs = zip(self.sdr, self.mixture, strict=True)
        return all(after >= max(BAR_DB, BAR_DB + first) for after, first in pairs)

    def look(self, model: zoo.Separator) -> None:
        estimates = model.separate(self.references.sum(0), device="cpu")
        self.sdr = self._sdr(torch.stack([estimates[name] for name in model.sources]))

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.began = time.process_time()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step % self.every == 0:
            self.look(pl_module)
            trainer.should_stop = self.passed
        self.cpu_s = time.process_time() - self.began
        trainer.should_stop |= self.cpu_s > self.limit_s

    def _sdr(self, estimates: Tensor) -> list[float]:
        return framewise_sdr(self.references, estimates, estimates.shape[-1])[:, 0].tolist()


def excerpt(model: zoo.Separator, audio: Path) -> tuple[np.ndarray, str]:
    """References ``(J, C, T)`` in the model's format, all of one power, and what they are."""
    kind = "vocals" if "accompaniment" in model.sources else "stems"
    id, folder, name, start = EXCERPTS[kind]
    track: Track
    if (audio / folder).is_dir():
        dataset = open_dataset(id, audio / folder)
        tracks = [*dataset.tracks("train"), *dataset.tracks("valid")]
        (track,) = (track for track in tracks if track.name == name)
        told = f"{name}, {start} to {start + SECONDS} s"
    else:
        (track,) = open_dataset("generated", n_train=1, seconds=float(SECONDS)).tracks("train")
        start, told = 0, "a generated song"
    format = Format(model.sources, model.sample_rate, model.channels)
    first, n = start * track.rate, SECONDS * track.rate
    found = np.stack([format.read(track, source, first, n) for source in model.sources])
    return RMS * found / np.sqrt(np.square(found).mean((1, 2), keepdims=True)), told


if __name__ == "__main__":
    sys.exit(main())
