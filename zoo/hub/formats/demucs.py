"""Hybrid Demucs as torchaudio offers it, and HTDemucs as the package demucs does."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ReleaseError
from zoo.hub.formats import content_of, load, tensors_of
from zoo.models.demucs import HTDemucs
from zoo.models.torchaudio_models import HybridDemucs

# Arguments of the package's class -> of ours.
_OURS = {
    "channels": "width", "nfft": "n_fft", "depth": "depth", "t_layers": "n_layers",
    "t_heads": "n_heads", "bottom_channels": "bottom_width", "audio_channels": "channels",
    "samplerate": "sample_rate", "sources": "sources",
}  # fmt: skip


def hdemucs(files: Sequence[Path]) -> HybridDemucs:
    """One state dict."""
    state = tensors_of(files[0])
    width = _length(state, "freq_encoder.0.conv.weight", files[0])
    depth = len({key.split(".")[1] for key in state if key.startswith("freq_encoder.")})
    model = HybridDemucs(width=width, depth=depth)
    load(model.network, state, files[0])
    return model


def htdemucs(files: Sequence[Path]) -> HTDemucs:
    """A file that names a class, its arguments and its state."""
    path = files[0]
    content = content_of(path, [(_Named, "demucs.htdemucs.HTDemucs"), Fraction])
    try:
        if content["klass"] is not _Named:
            raise ReleaseError(f"{path} holds no HTDemucs.")
        told: dict[str, Any] = dict(content["kwargs"])
        told["sources"], state = list(told.get("sources") or content["args"][0]), content["state"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ReleaseError(f"{path} is no file of demucs: {error!r}.") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ReleaseError(f"{path} holds no tensors by name.")
    arguments = {ours: told.pop(name) for name, ours in _OURS.items() if name in told}
    segment = float(told.pop("segment", 7.8))
    told.pop("use_train_segment", None)  # which is the streaming's business
    model = HTDemucs(segment_s=segment, **arguments, network=told)
    load(model.network, {key: _full(value) for key, value in state.items()}, path)
    return model


class _Named:
    """Stands where a file names the package's class, so that this is not made of it."""


def _full(value: Tensor) -> Tensor:
    return value.to(torch.float32) if value.is_floating_point() else value


def _length(state: dict[str, Tensor], key: str, path: Path) -> int:
    if key not in state:
        raise ReleaseError(f"{path} is no Hybrid Demucs: it has no {key}.")
    return len(state[key])
