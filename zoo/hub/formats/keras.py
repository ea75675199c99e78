"""The Wavenet's checkpoints: HDF5 as Keras 2.1 wrote it on Theano.

Theano convolves where PyTorch correlates, so its kernels are turned round in time.  Only an
attribute of the file says so; without the turn the network gives plausible noise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import MissingPackage, ReleaseError
from zoo.hub.formats import load
from zoo.models.wavenet import Wavenet

VOICE, STEMS = ("vocals", "accompaniment"), ("vocals", "drums", "bass", "other")
_BLOCK = re.compile(r"res_(?P<i>\d+)_dilated_conv_d(?P<dilation>\d+)_s(?P<stack>\d+)")
_PLAIN = re.compile(r"conv1d_\d+")
_LARGEST = 1 << 24  # numbers in one array; the published ones have 1.6 million at most


def wavenet(files: Sequence[Path]) -> Wavenet:
    """A Wavenet with the kernels of one file, as wide and as deep as they are."""
    path = files[0]
    with _opened(path) as file:
        layers, flips = _layers(file, path)
    front = layers.pop("initial_causal_conv", None)
    blocks = sorted(
        ((int(m["i"]), int(m["dilation"]), int(m["stack"]), layers.pop(name))
         for name in list(layers) if (m := _BLOCK.fullmatch(name))),
        key=lambda block: block[:3],
    )  # fmt: skip
    if odd := [name for name in layers if not _PLAIN.fullmatch(name)]:
        raise ReleaseError(f"{path} is no Wavenet: it has a layer {odd[0]}.")
    plain = sorted(layers, key=lambda name: int(name.rpartition("_")[2]))
    if front is None or not blocks or len(plain) != len(blocks) + 3:
        raise ReleaseError(
            f"{path} is no Wavenet: {len(blocks)} dilated and {len(plain)} plain convolutions."
        )
    *projections, final_1, final_2, output = (layers[name] for name in plain)
    state = {"front.weight": _kernel(front, flips)}
    for i, (block, projection) in enumerate(zip(blocks, projections, strict=True)):
        state[f"blocks.{i}.convolution.weight"] = _kernel(block[3], flips)
        state[f"blocks.{i}.projection.weight"] = _kernel(projection, flips)
    state |= {f"final_{i}.weight": _kernel(k, flips) for i, k in ((1, final_1), (2, final_2))}
    state |= {"output.weight": _kernel(output, flips), "output.bias": _bias(output, path)}

    n_outputs = len(state["output.bias"])
    n_stacks = 1 + max(stack for _, _, stack, _ in blocks)
    n_dilations = len(blocks) // n_stacks
    if [d for _, d, _, _ in blocks] != [1 << i for i in range(n_dilations)] * n_stacks:
        raise ReleaseError(f"{path} is no Wavenet: its dilations do not double in each stack.")
    sources = VOICE if n_outputs == 1 else STEMS
    model = Wavenet(
        sources, n_stacks=n_stacks, n_dilations=n_dilations, width=len(state["front.weight"]),
        final_maps=[len(state["final_1.weight"]), len(state["final_2.weight"])],
    )  # fmt: skip
    load(model.network, state, path)
    return model


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingPackage(
            "HDF5 files need the package h5py: `pip install 'music-separation-zoo[import]'`."
        ) from error
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        told = str(error).split("\n")[0][:160]
        raise ReleaseError(f"{path} is no file of Keras: {told}") from error


def _layers(file: Any, path: Path) -> tuple[dict[str, dict[str, np.ndarray]], bool]:
    """Layer -> kernel and bias, of those that have any; and whether kernels are to be turned."""
    root = file["model_weights"] if "model_weights" in file else file
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in map(_text, root.attrs["layer_names"]):
        group = _own(root, name, path)
        arrays = {
            _text(weight).rpartition("/")[2].partition(":")[0]: _array(group, _text(weight), path)
            for weight in group.attrs["weight_names"]
        }
        if arrays:
            found[name] = arrays
    for name, arrays in found.items():
        if "kernel" not in arrays or set(arrays) - {"kernel", "bias"} or arrays["kernel"].ndim != 3:
            raise ReleaseError(f"{path}: the layer {name} holds {', '.join(arrays)}.")
    return found, _text(root.attrs.get("backend", file.attrs.get("backend", b""))) == "theano"


def _own(node: Any, name: str, path: Path) -> Any:
    """What lies below a group in this file; links are not followed."""
    import h5py

    for part in name.split("/"):
        if not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise ReleaseError(f"{path}: {name} is missing, or lies in another file.")
        node = node[part]
    return node


def _array(group: Any, name: str, path: Path) -> np.ndarray:
    node = _own(group, name, path)
    outside = node.is_virtual or node.external
    if outside or node.dtype.kind != "f" or node.size > _LARGEST:
        raise ReleaseError(f"{path}: {name} is no array of a network's size.")
    return np.asarray(node, np.float32)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _kernel(layer: dict[str, np.ndarray], flips: bool) -> Tensor:
    """Keras has (time, in, out)."""
    kernel = layer["kernel"][::-1] if flips else layer["kernel"]
    return torch.from_numpy(kernel.transpose(2, 1, 0).copy())


def _bias(layer: dict[str, np.ndarray], path: Path) -> Tensor:
    if "bias" not in layer:
        raise ReleaseError(f"{path} is no Wavenet: its last convolution has no bias.")
    return torch.from_numpy(layer["bias"])
