"""DeepConvSep's weights: a pickle of Python 2 with fifteen arrays, of which nothing is run."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ReleaseError
from zoo.hub.formats import load
from zoo.models.deepconvsep import DeepConvSep

ORDER = ("vocals", "bass", "drums", "other")


def deepconvsep(files: Sequence[Path]) -> DeepConvSep:
    """The network as the authors' code has it, its fourth decoder's mistake included."""
    path = files[0]
    arrays = _arrays(path)
    vertical, vertical_bias, more, horizontal, horizontal_bias, yet_more, *rest = arrays
    bottleneck, bottleneck_bias, *decoders, bias = rest
    state: dict[str, Tensor] = {
        # Theano convolves where PyTorch correlates.
        "vertical.weight": vertical.flip(2, 3), "vertical.bias": vertical_bias + more,
        "horizontal.weight": horizontal.flip(2, 3), "horizontal.bias": horizontal_bias + yet_more,
        "bottleneck.weight": bottleneck.T, "bottleneck.bias": bottleneck_bias, "bias": bias,
    }  # fmt: skip
    for i in range(3):
        state[f"decoders.{i}.weight"] = decoders[2 * i].T
        state[f"decoders.{i}.bias"] = decoders[2 * i + 1]
    n_vertical, _, _, n_bins = vertical.shape
    n_horizontal, _, kernel, _ = horizontal.shape
    model = DeepConvSep(
        ORDER, n_fft=2 * (n_bins - 1), hop=n_bins - 1, patch_frames=2 * kernel,
        n_vertical=n_vertical, n_horizontal=n_horizontal, n_hidden=len(bottleneck_bias),
        bug_compatible=True,
    )  # fmt: skip
    load(model.network, state, path)
    return model


def _arrays(path: Path) -> list[Tensor]:
    try:
        with path.open("rb") as file:
            content = _Arrays(file, encoding="latin1").load()
        if not all(isinstance(a, np.ndarray) for a in content):
            raise TypeError("it holds something else than arrays")
        arrays = list(content)
    except Exception as error:  # whatever an odd file makes of the unpickler
        told = str(error).strip().split("\n")[0][:160]
        raise ReleaseError(f"{path} is no list of arrays: {told}") from error
    shapes = [a.ndim for a in arrays]
    if shapes != [4, 1, 1, 4, 1, 1, *[2, 1] * 4, 1] or any(a.dtype.kind != "f" for a in arrays):
        raise ReleaseError(f"{path} is no DeepConvSep: it does not hold its fifteen arrays.")
    return [torch.from_numpy(np.array(a, np.float32)) for a in arrays]


class _Kind:
    """Stands for ``numpy.ndarray``, which a file may name but not call."""


class _Arrays(pickle.Unpickler):
    """Makes arrays of NumPy, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names that an array is made of."""
        match module, name:
            case ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"):
                return _empty
            case "numpy", "ndarray":
                return _Kind
            case "numpy", "dtype":
                return np.dtype
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array")


def _empty(kind: Any, shape: Any, dtype: Any) -> np.ndarray:
    """What an array's content is put into; a shape that a file asks for is not believed."""
    return np.empty((0,), np.int8)
