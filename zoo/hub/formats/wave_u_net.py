"""Wave-U-Net's checkpoints, as ``examples/wave_u_net_checkpoint.py`` makes NumPy files of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo import catalog
from zoo.errors import ReleaseError
from zoo.hub.formats import load
from zoo.models.wave_u_net import WaveUNet

LARGEST = 1 << 28  # bytes; the published ones have 41 MB


def m4(files: Sequence[Path]) -> WaveUNet:
    """Voice and accompaniment, stereo at 22.05 kHz."""
    return _model(files[0], "wave-u-net-m4")


def m5_highsr(files: Sequence[Path]) -> WaveUNet:
    """Voice and accompaniment, learned upsampling, at 44.1 kHz."""
    return _model(files[0], "wave-u-net-m5-highsr")


def m6(files: Sequence[Path]) -> WaveUNet:
    """Four sources."""
    return _model(files[0], "wave-u-net")


def _model(path: Path, architecture: str) -> WaveUNet:
    """A variant of the catalog with the variables of one file, as wide and as deep as they are."""
    variables = _variables(path)
    convolutions = [
        (variables.pop(f"{name}/kernel"), variables.pop(f"{name}/bias"))
        for i in range(len(variables))
        if f"{(name := 'separator/conv1d' + (f'_{i}' if i else ''))}/kernel" in variables
        and f"{name}/bias" in variables
    ]
    n_heads = next((i for i, (k, _) in enumerate(reversed(convolutions)) if len(k) > 1), 0)
    n_levels, odd = divmod(len(convolutions) - n_heads - 1, 2)
    if not n_heads or odd or n_levels < 1:
        raise ReleaseError(f"{path} is no Wave-U-Net: it has {len(convolutions)} convolutions.")
    names = [
        *(f"down.{i}" for i in range(n_levels)), "bottleneck",
        *(f"up.{i}" for i in range(n_levels)), *(f"heads.{i}" for i in range(n_heads)),
    ]  # fmt: skip
    state: dict[str, Tensor] = {}
    for name, (kernel, bias) in zip(names, convolutions, strict=True):
        # TensorFlow has (time, in, out), and correlates as PyTorch does.
        state[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel.transpose(2, 1, 0)))
        state[f"{name}.bias"] = torch.from_numpy(bias)
    for name in [n for n in variables if n.startswith("separator/interp_")]:
        place = name.rpartition("_")[2]
        state[f"places.{place}"] = torch.from_numpy(variables.pop(name).reshape(-1))
    if variables:
        raise ReleaseError(f"{path} is no Wave-U-Net: it holds {next(iter(variables))}.")
    arguments = catalog.entry(architecture).arguments
    n_maps = convolutions[0][0].shape[2]
    model = WaveUNet(**{**arguments, "n_levels": n_levels, "n_maps": n_maps})
    load(model.network, state, path)
    return model


def _variables(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if sum(info.file_size for info in file.zip.infolist()) > LARGEST:
                raise ValueError("it is larger than the network")
            found = {name: np.asarray(file[name], np.float32) for name in file.files}
    except Exception as error:  # whatever an odd file makes of NumPy's reader
        told = str(error).split("\n")[0][:160] or type(error).__name__
        raise ReleaseError(f"{path} is no .npz of arrays: {told}") from error
    if wrong := [name for name, a in found.items() if name.endswith("/kernel") and a.ndim != 3]:
        raise ReleaseError(f"{path} is no Wave-U-Net: {wrong[0]} has no three axes.")
    return found
