"""Ten seconds of music taken apart and measured: proof, in one call, that an installation works."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zoo.audio import read
from zoo.data import open_dataset
from zoo.errors import ZooError
from zoo.metrics.sdr import framewise_sdr
from zoo.pictures import spectrograms
from zoo.separator import Estimates, Separator
from zoo.stems import RECORD, read_record, together

PICTURE = "spectrograms.png"
ALBUM = "Everything is Free"  # that the excerpt is from
EXCERPT = Path(__file__).parent / "excerpt"
GENERATED_S = 10.0


@dataclass(frozen=True)
class Demo:
    """Estimates of a song whose sources are known, and how good they are.

    Attributes:
        estimates: of the sources that the model has.
        scores: source -> SDR of the estimate and of the mixture as if it were one, in dB, over the
            whole song.
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
    """Separate the sum of known sources, measure it, and write stems and picture to ``folder``.

    Raises:
        ZooError: a source of the model that the song does not have, or a folder with other files.
    """
    true = {name: _reference(references, name) for name in model.sources}
    _check_folder(folder, [*(f"{name}.wav" for name in true), PICTURE])
    mixture = torch.stack(list(references.values())).sum(0)
    estimates = model.separate(mixture, rate, device=str(model.device))
    scores = {
        name: (_sdr(true[name], estimate), _sdr(true[name], mixture))
        for name, estimate in estimates.items()
    }
    figure = spectrograms({"mixture": mixture, **estimates}, rate, title="mixture and estimates")
    with together() as bundle:
        bundle.add(folder / PICTURE, figure.savefig)
        estimates.save(folder, format="wav", subtype="PCM_16")
    return Demo(estimates, scores, folder)


def _reference(references: Mapping[str, Tensor], name: str) -> Tensor:
    if name == "accompaniment" and name not in references:
        return torch.stack([x for n, x in references.items() if n != "vocals"]).sum(0)
    if name not in references:
        raise ZooError(
            f"the demo's song has {', '.join(references)} and no {name!r}, which this model "
            "separates; try the model on a song of yours with `zoo separate`."
        )
    return references[name]


def _sdr(reference: Tensor, estimate: Tensor) -> float:
    """Over the whole song: a source may be silent in most of its seconds."""
    return float(framewise_sdr(reference[None], estimate[None], frame=reference.shape[-1]))


def _check_folder(folder: Path, names: Iterable[str]) -> None:
    """Let nobody's files be replaced, other than those of an earlier demo."""
    there = [name for name in names if (folder / name).exists()]
    if there and read_record(folder / RECORD) is None:
        raise ZooError(
            f"{folder / there[0]} is there already and was not made by the zoo; "
            "choose another output folder."
        )
