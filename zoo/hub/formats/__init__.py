"""Readers of other people's weights, one file for each kind; what they share is here.

Whatever a file holds is read as data.  A reader takes paths and gives a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from zoo.errors import ReleaseError


def content_of(path: Path, allowed: Iterable[Any] = ()) -> Any:
    """What a file of PyTorch or safetensors holds; of classes, only ``allowed`` ones are made.

    Raises:
        ReleaseError: it is none, or it holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ReleaseError(f"{path} is no file of tensors: {error}") from error
    except Exception as error:  # whatever an odd file makes of the unpickler
        told = str(error).strip().split("\n")[0][:160]
        raise ReleaseError(f"{path} is no file of tensors: {told}") from error


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
