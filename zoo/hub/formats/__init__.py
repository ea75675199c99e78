"""Readers of other people's weights, one file for each kind; what they share is here.

Whatever a file holds is read as data.  A reader takes paths and gives a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ReleaseError
from zoo.weights import read_tensors


def content_of(path: Path, allowed: Iterable[Any] = ()) -> Any:
    """What a file of PyTorch or safetensors holds; of classes, only ``allowed`` ones are made.

    Raises:
        ReleaseError: it is none, or names something that could run code.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        with torch.serialization.safe_globals([torch.torch_version.TorchVersion, *allowed]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever an odd file makes of the unpickler
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused and isinstance(error, UnpicklingError):
            told = f"{path} holds {refused[1]}, which could run code; nothing of it was loaded."
            raise ReleaseError(told) from error
        raise ReleaseError(f"{path} is damaged, or no file of tensors.") from error


def tensors_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name, and nothing else of it.

    Raises:
        ReleaseError: as `content_of`.
    """
    content = content_of(path)
    for key in ("state_dict", "state"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ReleaseError(f"{path} holds no tensors by name.")
    return content


def load(module: nn.Module, state: Mapping[str, Tensor], what: str | Path) -> None:
    """Every tensor into its place.

    Raises:
        ReleaseError: one is missing, unknown, or of another shape.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        told = str(error).strip().split("\n")[-1].strip()[:160]
        raise ReleaseError(f"{what} does not fit the published network: {told}") from error
