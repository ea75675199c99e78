"""Checkpoints of RoFormers as the community trains them: tensors, and a YAML that describes them.

They were made by earlier versions of the network, without the package's hyper-connections and the
values that later layers borrow from the first.  The network has them still: one stream is no
connection, and a gate that is shut borrows nothing.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from zoo.errors import MissingPackage, ReleaseError
from zoo.hub.formats import load, tensors_of
from zoo.models.roformer import BSRoFormer, MelBandRoFormer
from zoo.streaming import complement

SHUT = -100.0  # its sigmoid is nothing beside one
_LAYER = re.compile(r"(layers\.\d+\.\d+\.layers\.\d+\.\d+)\.(?!branch\.)")
_GATE = re.compile(r".*\.(to|learned)_value_residual_mix(\.0)?\.(?P<part>weight|bias)")
# What the community's own copies of the network add, and the value that means: not there.
_ABSENT = {
    "sage_attention": False, "skip_connection": False, "use_torch_checkpoint": False,
    "linear_transformer_depth": 0, "mlp_expansion_factor": 4,
}  # fmt: skip


class _Plain(yaml.SafeLoader):
    """Of tags, tuples alone, which are read as lists."""


_Plain.add_constructor(
    "tag:yaml.org,2002:python/tuple",
    lambda loader, node: loader.construct_sequence(node),  # type: ignore[arg-type]
)


def bs_roformer(files: Sequence[Path], sources: Sequence[str] | None) -> BSRoFormer:
    """Tensors and YAML, in either order."""
    return _model(BSRoFormer, files, sources)


def mel_band_roformer(files: Sequence[Path], sources: Sequence[str] | None) -> BSRoFormer:
    """Tensors and YAML, in either order."""
    return _model(MelBandRoFormer, files, sources)


def _model(
    cls: type[BSRoFormer], files: Sequence[Path], sources: Sequence[str] | None
) -> BSRoFormer:
    described = [path for path in files if path.suffix in (".yaml", ".yml")]
    weights = [path for path in files if path not in described]
    if len(described) != 1 or len(weights) != 1:
        raise ReleaseError("a RoFormer is made of two files: its tensors and a .yaml.")
    told = _described(described[0])
    network = told["model"]
    n_outputs = network.get("num_stems", 1)
    named = list(sources) if sources else _sources(told["training"], described[0])
    if len(named) != max(2, n_outputs):
        raise ReleaseError(
            f"{described[0]} is of a network with {n_outputs} outputs, and so of "
            f"{max(2, n_outputs)} sources, not of {', '.join(named)}."
        )
    arguments = {
        "sample_rate": told["audio"].get("sample_rate", network.get("sample_rate", 44100)),
        "channels": 2 if network.get("stereo") else 1,
        "width": network.get("dim"), "depth": network.get("depth"),
        "n_fft": network.get("stft_n_fft", 2048), "hop": network.get("stft_hop_length", 512),
        "gives_one": n_outputs == 1,
    }  # fmt: skip
    more = _further(cls, network, described[0])
    try:
        model = cls(named, **arguments, network=more)
    except Exception as error:  # the package checks types in its own way
        if isinstance(error, MissingPackage):
            raise
        told_of = str(error).strip().split("\n")[0][:160]
        raise ReleaseError(f"{described[0]} describes no {cls.kind}: {told_of}") from error
    load(model.network, _complete(tensors_of(weights[0]), model.network.state_dict()), weights[0])
    return model


def _described(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of a YAML file that matter, empty where they are missing."""
    try:
        told = yaml.load(path.read_text(encoding="utf-8"), _Plain)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ReleaseError(f"{path} is no plain YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(told, dict) or not isinstance(told.get("model"), dict):
        raise ReleaseError(f"{path} has no section 'model'.")
    sections = {key: told.get(key) or {} for key in ("model", "audio", "training")}
    if odd := [key for key, value in sections.items() if not isinstance(value, dict)]:
        raise ReleaseError(f"{path}: {odd[0]} is no section.")
    return sections


def _sources(training: Mapping[str, Any], path: Path) -> list[str]:
    """What the file calls its sources, in our words; of one target, the rest is its complement."""
    if target := training.get("target_instrument"):
        name = str(target).lower()
        return [name, complement(name)]
    names = training.get("instruments")
    if not isinstance(names, list) or not names:
        raise ReleaseError(f"{path} does not name its sources; give --sources.")
    words = {"instrumental": "accompaniment"}
    return [words.get(str(s).lower(), str(s).lower()) for s in names]


def _further(cls: type[BSRoFormer], network: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Arguments of the package's class beside those that have a name here."""
    import bs_roformer as package

    known = inspect.signature(getattr(package, cls.kind)).parameters
    given = {"dim", "depth", "stereo", "num_stems", "stft_n_fft", "stft_hop_length", "flash_attn",
             "dim_freqs_in", "sample_rate"}  # fmt: skip
    more = {key: value for key, value in network.items() if key in known and key not in given}
    for key, value in network.items():
        if key not in known and key not in given and value != _ABSENT.get(key):
            raise ReleaseError(f"{path}: {key} {value} is not known to the package bs-roformer.")
    return {**more, "num_residual_streams": network.get("num_residual_streams", 1)}


def _complete(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under the package's names; the gates that they lack are shut."""
    found = {_LAYER.sub(r"\1.branch.", key): value for key, value in state.items()}
    for key, value in own.items():
        if key not in found and (match := _GATE.fullmatch(key)):
            shut = SHUT if match["part"] == "bias" else 0.0
            found[key] = torch.full_like(value, shut)
    return found
