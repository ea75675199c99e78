"""Ten seconds of music taken apart and measured: proof, in one call, that an installation works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zoo.audio import read
from zoo.data import open_dataset
from zoo.metrics.sdr import framewise_sdr
from zoo.pictures import save, spectrograms
from zoo.separator import Estimates, Separator

EXCERPT = Path(__file__).parent / "excerpt"
GENERATED_S = 10.0


@dataclass(frozen=True)
class Demo:
    """Estimates of a song whose sources are known, and how good they are.

    Attributes:
        estimates: of the sources that the model has.
        scores: source -> SDR of the estimate and of the mixture as if it were one, in dB, median
            over frames of a second.
        folder: where stems and picture are.
    """

    estimates: Estimates
    scores: dict[str, tuple[float, float]]
    folder: Path


def excerpt() -> tuple[dict[str, Tensor], int]:
    """The bundled song's sources ``(C, T)``, and its rate in Hz."""
    signals, rate = {}, 0
    for path in sorted(EXCERPT.glob("*.ogg")):
        signal, rate = read(path)
        signals[path.stem] = torch.from_numpy(signal)
    return signals, rate


def generated(seed: int = 0) -> tuple[dict[str, Tensor], int]:
    """A generated song's sources, and its rate."""
    track = open_dataset("generated", seed=seed, seconds=GENERATED_S).tracks("test")[0]
    signals = {name: torch.from_numpy(track.read(name)) for name in track.sources}
    return signals, track.rate


def demonstrate(
    model: Separator, references: Mapping[str, Tensor], rate: int, folder: Path
) -> Demo:
    """Separate the sum of known sources, measure it, and write stems and picture to ``folder``."""
    mixture = torch.stack(list(references.values())).sum(0)
    estimates = model.separate(mixture, rate)
    estimates.save(folder, format="wav", subtype="PCM_16")
    save(
        spectrograms({"mixture": mixture, **estimates}, rate, title="mixture and estimates"),
        folder / "spectrograms.png",
    )
    scores = {}
    for name, estimate in estimates.items():
        true = _reference(references, name)
        frames = framewise_sdr(
            torch.stack([true, true]), torch.stack([estimate, mixture]), frame=rate
        )
        ours, before = frames.nanmedian(dim=1).values.tolist()
        scores[name] = (ours, before)
    return Demo(estimates, scores, folder)


def _reference(references: Mapping[str, Tensor], name: str) -> Tensor:
    if name == "accompaniment" and name not in references:
        return torch.stack([x for n, x in references.items() if n != "vocals"]).sum(0)
    return references[name]
