"""BSS Eval: CPU seconds and peak memory beside museval's, and how far the two are apart.

Stereo at 44.1 kHz: stretches of real stems of 16 bit, shuffled (``$ZOO_SHARED``; else generated
music), and estimates with leakage, a filter and noise.  Each case runs ours, museval, ours, one
after the other in one process, the mean of ours counting; figures are compared where both are
finite.  With ``--reordered`` museval's own rounding stands below: the same in another order.

Memory is that of a process of its own, which only loads the signals, above what it holds before it
scores.  Streaming, it has ten seconds of them, which it reads over and over.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.compat import museval
from zoo.data import open_dataset
from zoo.metrics.bsseval import bss_eval, evaluate
from zoo.metrics.sdr import evaluate_sdr

RATE = 44100
METRICS = ("SDR", "ISR", "SIR", "SAR")
SOURCES = ("vocals", "drums", "bass", "other")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bsseval", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="of the song, for version 4")
    parser.add_argument("--reordered", action="store_true", help="museval against itself, too")
    parser.add_argument(
        "--memory", nargs=3, metavar=("HOW", "SIGNALS", "SECONDS"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        how, signals, seconds = options.memory
        print(peak_memory(how, Path(signals), int(seconds)))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; one thread, torch "
          f"{torch.__version__}; {material()[1]}")  # fmt: skip
    print(f"{'':28s}{'museval':>10s}{'ours':>9s}{'ratio':>8s}   largest difference, dB")
    for n_sources in (4, 2):
        compare(f"v4, J={n_sources}, {options.seconds} s", n_sources, options.seconds, 1, 1, "song",
                options.reordered)  # fmt: skip
    for n_sources in (4, 2):
        compare(f"v3 30 s / 15 s, J={n_sources}, 60 s", n_sources, 60, 30, 15, "frame",
                options.reordered)  # fmt: skip
    for how in ("whole", "streaming"):
        for seconds in (60, options.seconds if options.seconds != 60 else 240):
            with tempfile.TemporaryDirectory() as folder:
                signals = Path(folder) / "signals.npy"
                np.save(signals, np.stack(song(4, seconds if how == "whole" else 10)))
                found = subprocess.run(
                    [sys.executable, "-m", "benchmarks.bsseval", "--memory", how, str(signals),
                     str(seconds)],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
            print(f"peak memory, J=4, {seconds} s, {how}: {float(found.stdout):.0f} MB above")


def compare(
    title: str, n_sources: int, seconds: int, window: int, hop: int, filters: str, reordered: bool
) -> None:
    references, estimates = song(n_sources, seconds)

    def ours() -> dict[str, np.ndarray]:
        scores = bss_eval(
            references, estimates, RATE, window=window, hop=hop,
            filters="frame" if filters == "frame" else "song",
        )  # fmt: skip
        return {metric: getattr(scores, metric) for metric in METRICS}

    def theirs(order: slice = slice(None)) -> dict[str, np.ndarray]:
        figures = museval.metrics().bss_eval(
            references[order].transpose(0, 2, 1), estimates[order].transpose(0, 2, 1),
            window=window * RATE, hop=hop * RATE, framewise_filters=filters == "frame",
        )  # fmt: skip
        return dict(zip(METRICS, (x[order] for x in figures[:4]), strict=True))

    first, found = timed(ours)
    reference, expected = timed(theirs)
    mine = (first + timed(ours)[0]) / 2
    line(title, reference, mine, found, expected)
    if reordered:
        line("  museval, reordered", None, None, theirs(slice(None, None, -1)), expected)
    if filters == "song":
        true, given = torch.from_numpy(references), torch.from_numpy(estimates)[None]
        identity = torch.eye(n_sources, dtype=torch.float64)

        def sdr_only() -> dict[str, np.ndarray]:
            (systems,) = evaluate_sdr(
                lambda start, stop: (true[..., start:stop], given[..., start:stop]),
                true.shape[-1], window * RATE, hop * RATE, groupings=[identity],
            )  # fmt: skip
            return {"SDR": systems[0]}

        runs = [timed(sdr_only) for _ in range(3)]
        line(title.replace("v4", "SDR only"), reference, sum(t for t, _ in runs) / 3, runs[0][1],
             expected)  # fmt: skip


def line(
    title: str,
    theirs: float | None,
    ours: float | None,
    found: dict[str, np.ndarray],
    expected: dict[str, np.ndarray],
) -> None:
    times = " " * 27
    if theirs is not None and ours is not None:
        times = f"{theirs:9.2f}s{ours:8.3f}s{theirs / ours:7.1f}x"
    apart = "  ".join(f"{m} {np.nanmax(np.abs(x - expected[m])):.0e}" for m, x in found.items())
    print(f"{title:28s}{times}   {apart}", flush=True)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    before = time.process_time()
    result = call()
    return time.process_time() - before, result


def material() -> tuple[np.ndarray, str]:
    """Stems ``(4, 2, T)`` in steps of 16 bit, and what they are."""
    folder = Path(os.environ.get("ZOO_SHARED", "../shared")) / "audio" / "musdb-sample"
    if folder.is_dir():
        dataset = open_dataset("musdb18", folder, valid="none")
        tracks, told = [*dataset.tracks("train"), *dataset.tracks("test")], "real stems, shuffled"
    else:
        dataset = open_dataset("generated", n_train=1, n_valid=0, n_test=0, seconds=20.0)
        tracks, told = dataset.tracks("train"), "generated music, shuffled"
    stems = [np.concatenate([t.read(source) for t in tracks], 1) for source in SOURCES]
    return np.round(np.stack(stems) * 32768).astype(np.float64) / 32768, told


def song(n_sources: int, seconds: int) -> tuple[np.ndarray, np.ndarray]:
    """References and estimates ``(J, 2, T)``."""
    stems, _ = material()
    if n_sources == 2:
        stems = np.stack([stems[0], stems[1:].sum(0)])
    rng = np.random.default_rng(0)
    second = stems.shape[-1] // RATE
    starts = [RATE * rng.permutation(second)[k % second] for k in range(seconds)]
    references = np.concatenate([stems[..., s : s + RATE] for s in starts], -1)
    estimates = 0.8 * references + 0.1 * np.roll(references, 3, -1) + 0.1 * references.sum(0)
    noise = rng.standard_normal(references.shape)
    return references, estimates + 0.03 * references.std(-1, keepdims=True) * noise


def peak_memory(how: str, signals: Path, seconds: int) -> float:
    """Megabytes of this process at most, above those before it scores."""
    references, estimates = np.load(signals)
    if how == "whole":
        before = peak()
        bss_eval(references, estimates, RATE)
    else:
        true, found = torch.from_numpy(references), torch.from_numpy(estimates)[None]
        n = true.shape[-1]

        def read(start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
            at = torch.arange(start, stop) % n
            return true[..., at], found[..., at]

        before = peak()
        evaluate(read, seconds * RATE, RATE, RATE)
    return peak() - before


def peak() -> float:
    """Megabytes that this process has held at most."""
    status = Path("/proc/self/status")
    if status.exists():  # where getrusage counts what the parent held before it started this one
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)  # macOS counts bytes


if __name__ == "__main__":
    main()
