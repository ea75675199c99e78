"""The spatial systems on real scenes: SDR, and CPU seconds beside scikit-learn's FastICA.

Scenes are folders with ``mix.flac``, ``image-1.flac``... and ``scene.json``.  Each system locates
and separates a scene on one thread; SDR is the mean over objects of the best permutation.  The
reference is FastICA of scikit-learn on the same mixture, timed before and after each system;
``--peers`` puts pyroomacoustics' FastMNMF2 beside them.

``python -m benchmarks.spatial SCENES`` prints a row for every system, a column for every scene.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from zoo import catalog
from zoo.data import open_dataset
from zoo.evaluation.systems import best_permutation

SYSTEMS = (
    "duet:method=binary", "duet", "adress", "adress:resynthesis=mono", "pairs", "projet",
    "projet-is", "lgm", "mnmf",
)  # fmt: skip
REACH = {"delay20": 10, "synthetic": 10, "ab": 60, "room": 30}  # samples that are looked for
SCENES = ("pan20", "delay20", "synthetic", "pan10", "pan30", "pan3src", "xy", "ab", "room")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spatial", description=__doc__)
    parser.add_argument("root", help="folder of scenes")
    parser.add_argument("--scenes", nargs="*", default=SCENES)
    parser.add_argument("--systems", nargs="*", default=SYSTEMS)
    parser.add_argument("--peers", action="store_true", help="pyroomacoustics' too; slow")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = {t.name: t for t in open_dataset("scenes", options.root).tracks("test")}
    scenes = {name: found[name] for name in options.scenes if name in found}
    fast_ica()(next(iter(scenes.values())).read("mixture"))  # a run that does not count
    print(f"{'SDR in dB; CPU s (times FastICA)':26s}" + "".join(f"{name:>17s}" for name in scenes))
    runs = {text: located(text) for text in options.systems}
    runs |= peers() if options.peers else {}
    for text, run in runs.items():
        cells = []
        for name, track in scenes.items():
            mixture = track.read("mixture")
            images = torch.from_numpy(np.stack([track.read(s) for s in track.sources]))
            before, _ = timed(fast_ica(), mixture)
            seconds, estimates = timed(run, mixture, len(images), REACH.get(name, 0))
            after, _ = timed(fast_ica(), mixture)
            ratio = seconds / statistics.mean([before, after])
            cells.append(f"{sdr(images, estimates):6.1f} {seconds:4.1f} {ratio:4.0f}x")
        print(f"{text:26s}" + "".join(f"{cell:>17s}" for cell in cells), flush=True)


def located(text: str) -> Callable[[np.ndarray, int, float], torch.Tensor]:
    def run(mixture: np.ndarray, n_objects: int, max_delay: float) -> torch.Tensor:
        model = catalog.untrained(text, {"n_objects": n_objects, "max_delay": max_delay})
        assert model is not None
        with torch.inference_mode():
            estimates: torch.Tensor = model(torch.from_numpy(mixture)[None])[0]
        return estimates

    return run


def fast_ica() -> Callable[[np.ndarray], np.ndarray]:
    from sklearn.decomposition import FastICA

    model = FastICA(2, whiten="unit-variance", random_state=0)
    return lambda mixture: model.fit_transform(mixture.T)


def peers() -> dict[str, Callable[[np.ndarray, int, float], torch.Tensor]]:
    """Blind separators of pyroomacoustics; nothing where it is not installed."""
    try:
        import pyroomacoustics as pra
    except ImportError:
        return {}
    from zoo.dsp.stft import STFT

    stft = STFT(4096, 1024)

    def fast_mnmf(mixture: np.ndarray, n_objects: int, max_delay: float) -> torch.Tensor:
        spectrum = stft(torch.from_numpy(mixture)).permute(2, 1, 0).numpy().astype(complex)
        found = [
            pra.bss.fastmnmf2(spectrum, n_src=n_objects, n_iter=30, n_components=8, mic_index=m)
            for m in range(2)
        ]
        images = torch.from_numpy(np.stack(found)).permute(3, 0, 2, 1)
        return stft.inverse(images.to(torch.complex64), mixture.shape[1])

    return {"pyroomacoustics FastMNMF2": fast_mnmf}


def timed(run: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.process_time()
    found = run(*arguments)
    return time.process_time() - start, found


def sdr(images: torch.Tensor, estimates: torch.Tensor) -> float:
    found = estimates[best_permutation(images, estimates)]
    errors = (found - images).flatten(1).square().sum(1)
    return float((10 * torch.log10(images.flatten(1).square().sum(1) / errors)).mean())


if __name__ == "__main__":
    main()
