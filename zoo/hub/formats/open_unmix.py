"""Files of Open-Unmix, one for each source, and of X-UMX, as asteroid writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from zoo.errors import ReleaseError
from zoo.hub.formats import load, tensors_of
from zoo.models import umx

STEMS = ("vocals", "drums", "bass", "other")


def open_unmix(files: Sequence[Path]) -> umx.OpenUnmix:
    """Four files, whose names begin with those of the sources."""
    states: dict[str, dict[str, Tensor]] = {}
    for path in files:
        states[path.stem.partition("-")[0]] = umx.from_open_unmix(tensors_of(path))
    if missing := [name for name in STEMS if name not in states]:
        raise ReleaseError(f"no file of {', '.join(missing)} was given; there are four of them.")
    model = umx.OpenUnmix(STEMS, hidden_size=len(states["vocals"]["fc1.weight"]))
    for name in STEMS:
        load(model.networks[name], states[name], name)
    return model


def x_umx(files: Sequence[Path]) -> umx.OpenUnmix:
    """One file of all sources."""
    tensors = umx.from_x_umx(tensors_of(files[0]), STEMS)
    hidden_size = len(tensors["networks.vocals.fc1.weight"])
    model = umx.OpenUnmix(STEMS, hidden_size=hidden_size, bridged=True)
    load(model, tensors, files[0].name)
    return model
