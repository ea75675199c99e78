"""The spatial systems on real scenes: SDR, and CPU seconds beside scikit-learn's FastICA.

Scenes are folders with ``mix.flac``, ``image-1.flac``... and ``scene.json``; ``pan2`` and ``room2``
are made of two objects of them, for the systems that cannot take more.  Each system locates and
separates a scene on one thread; SDR is the mean over objects of the best permutation.  The unit of
time is FastICA of scikit-learn on the same mixture, timed before and after each system.
``--peers`` puts its estimates, and pyroomacoustics' AuxIVA, ILRMA and FastMNMF2, beside ours.

``python -m benchmarks.spatial SCENES`` prints a row for every system, a column for every scene.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from zoo import catalog
from zoo.data import Track, open_dataset
from zoo.evaluation.systems import best_permutation

SYSTEMS = (
    "duet:method=binary", "duet", "adress", "adress:resynthesis=mono", "pairs", "projet",
    "projet-is", "lgm", "mnmf", "ica", "auxiva", "ilrma",
)  # fmt: skip
DETERMINED = {"ica", "auxiva", "ilrma"}  # as many objects as channels
REACH = {
    "delay20": 10,
    "synthetic": 10,
    "ab": 60,
    "room": 30,
    "room2": 30,
}  # samples that are looked for
SCENES = (
    "pan20", "delay20", "synthetic", "pan10", "pan30", "pan3src", "xy", "ab", "room", "pan2",
    "room2",
)  # fmt: skip
PAIRS = {"pan2": ("pan20", (0, 1), (30, 60)), "room2": ("room", (0, 3), None)}

Run = Callable[[np.ndarray, int, float], torch.Tensor | None]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spatial", description=__doc__)
    parser.add_argument("root", help="folder of scenes")
    parser.add_argument("--scenes", nargs="*", default=SCENES)
    parser.add_argument("--systems", nargs="*", default=SYSTEMS)
    parser.add_argument("--peers", action="store_true", help="pyroomacoustics' too; slow")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = {t.name: t for t in open_dataset("scenes", options.root).tracks("test")}
    scenes = {
        name: images(found, name) for name in options.scenes if PAIRS.get(name, [name])[0] in found
    }
    fast_ica(next(iter(scenes.values())).sum(0).numpy())  # a run that does not count
    print(f"{'SDR in dB; CPU s (times FastICA)':26s}" + "".join(f"{name:>17s}" for name in scenes))
    runs = {text: located(text) for text in options.systems}
    runs |= peers() if options.peers else {}
    for text, run in runs.items():
        cells = []
        for name, true in scenes.items():
            mixture = true.sum(0).numpy()
            before, _ = timed(fast_ica, mixture)
            seconds, estimates = timed(run, mixture, len(true), REACH.get(name, 0))
            after, _ = timed(fast_ica, mixture)
            ratio = seconds / statistics.mean([before, after])
            told = (
                ""
                if estimates is None
                else f"{sdr(true, estimates):6.1f} {seconds:4.1f} {ratio:4.0f}x"
            )
            cells.append(told)
        print(f"{text:26s}" + "".join(f"{cell:>17s}" for cell in cells), flush=True)


def images(found: Mapping[str, Track], name: str) -> torch.Tensor:
    """Of the objects of a scene, ``(J, 2, T)``."""
    home, kept, pans = PAIRS.get(name, (name, None, None))
    track = found[home]
    whole = torch.from_numpy(np.stack([track.read(s) for s in track.sources]))
    if kept is None:
        return whole
    whole = whole[list(kept)]
    if pans is None:
        return whole
    angles = torch.deg2rad(torch.tensor(pans, dtype=whole.dtype))
    mono = whole.square().sum(1).sqrt() * whole.sum(1).sign()  # pans are positive: what was panned
    return torch.stack([angles.cos(), angles.sin()], 1)[..., None] * mono[:, None]


def located(text: str) -> Run:
    def run(mixture: np.ndarray, n_objects: int, max_delay: float) -> torch.Tensor | None:
        if text in DETERMINED and n_objects > 2:
            return None
        told = {} if text in DETERMINED else {"n_objects": n_objects, "max_delay": max_delay}
        model = catalog.untrained(text, told)
        assert model is not None
        with torch.inference_mode():
            estimates: torch.Tensor = model(torch.from_numpy(mixture)[None])[0]
        return estimates

    return run


def fast_ica(mixture: np.ndarray) -> torch.Tensor:
    """Images ``(2, 2, T)`` of two objects, by scikit-learn."""
    from sklearn.decomposition import FastICA

    model = FastICA(2, whiten="unit-variance", random_state=0)
    found = model.fit_transform(mixture.T)
    return torch.from_numpy(model.mixing_.T[:, :, None] * found.T[:, None])


def peers() -> dict[str, Run]:
    """Blind separators of other packages; those of pyroomacoustics where it is installed."""
    found: dict[str, Run] = {
        "scikit-learn FastICA": lambda x, n_objects, _: fast_ica(x) if n_objects == 2 else None
    }
    try:
        import pyroomacoustics as pra
    except ImportError:
        return found
    from zoo.dsp.stft import STFT

    stft = STFT(4096, 1024)

    def back(spectra: np.ndarray, n_samples: int) -> torch.Tensor:
        """Images ``(J, C, T)`` of spectra ``(C, N, F, J)``."""
        ordered = torch.from_numpy(spectra).permute(3, 0, 2, 1).to(torch.complex64)
        return stft.inverse(ordered, n_samples)

    def spectrum(mixture: np.ndarray) -> np.ndarray:
        moved: np.ndarray = stft(torch.from_numpy(mixture)).permute(2, 1, 0).numpy().astype(complex)
        return moved

    def determined(separate: Callable[..., Any], **arguments: Any) -> Run:
        def run(mixture: np.ndarray, n_objects: int, max_delay: float) -> torch.Tensor | None:
            if n_objects > 2:
                return None
            _, unmixing = separate(spectrum(mixture), n_iter=30, return_filters=True, **arguments)
            x = spectrum(mixture)
            sources = np.einsum("fjc,nfc->nfj", unmixing, x)
            return back(
                np.einsum("fcj,nfj->cnfj", np.linalg.inv(unmixing), sources), mixture.shape[1]
            )

        return run

    def fast_mnmf(mixture: np.ndarray, n_objects: int, max_delay: float) -> torch.Tensor:
        x = spectrum(mixture)
        heard = [
            pra.bss.fastmnmf2(x, n_src=n_objects, n_iter=30, n_components=8, mic_index=m)
            for m in range(2)
        ]
        return back(np.stack(heard), mixture.shape[1])

    return found | {
        "pyroomacoustics AuxIVA": determined(pra.bss.auxiva, proj_back=False),
        "pyroomacoustics ILRMA": determined(pra.bss.ilrma, n_components=4, proj_back=False),
        "pyroomacoustics FastMNMF2": fast_mnmf,
    }


def timed(run: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.process_time()
    found = run(*arguments)
    return time.process_time() - start, found


def sdr(true: torch.Tensor, estimates: torch.Tensor) -> float:
    found = estimates[best_permutation(true, estimates)]
    errors = (found - true).flatten(1).square().sum(1)
    return float((10 * torch.log10(true.flatten(1).square().sum(1) / errors)).mean())


if __name__ == "__main__":
    main()
