"""Weights that exist, for a model that is to start from them or to be scored: `init_from`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ReleaseError
from zoo.release import WEIGHTS, locate, read_release, sha256_of
from zoo.separator import Separator
from zoo.weights import load_state, read_checkpoint, read_tensors, strip_prefixes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Taken:
    """Which tensors `init_from` copied, by name."""

    taken: tuple[str, ...]
    other_shape: tuple[str, ...]
    """In both, but of different shapes."""
    missing: tuple[str, ...]
    """Only in the model."""
    unused: tuple[str, ...]
    """Only in the source."""


def init_from(model: Separator, source: str, whole: bool = False) -> Taken:
    """Copy into a model every tensor of ``source`` that has the same name and shape.

    Args:
        model: changed in place; what finds no partner keeps its initial value.
        source: a release by name, folder or Hub id, a checkpoint (``.ckpt``), or a
            ``.safetensors`` file. Of a checkpoint with averaged weights these are the averaged
            ones.
        whole: the model is to be used, not trained: refuse weights that leave a tensor at its
            initial value, and let the model's ``info`` say whose they are.

    Raises:
        ReleaseError: the file is damaged or no checkpoint, or not one tensor fits (not all).
        UnknownModel: no such file or release.
    """
    state, info = _weights_of(source)
    own = model.state_dict()
    state = strip_prefixes(state, own)
    report = Taken(
        taken=tuple(n for n in own if n in state and own[n].shape == state[n].shape),
        other_shape=tuple(n for n in own if n in state and own[n].shape != state[n].shape),
        missing=tuple(n for n in own if n not in state),
        unused=tuple(n for n in state if n not in own),
    )
    n_left = len(own) - len(report.taken)
    if not report.taken or (whole and n_left):
        few = f"only {len(report.taken)}" if report.taken else "none"
        raise ReleaseError(
            f"{few} of the {len(state)} tensors of {source!r} fits this model's {len(own)}; "
            "init_from wants weights of the same architecture and sizes."
        )
    with torch.no_grad():
        for name in report.taken:
            own[name].copy_(state[name])
    if whole:
        model.info = info
    _tell(source, report, len(own))
    return report


def _weights_of(source: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a release, checkpoint or safetensors file, by name, and whose they are."""
    place = locate(source)
    if place.path.is_dir():
        release = read_release(place.path)
        if place.asked:
            log.warning(
                "%s STANDS IN FOR %s, of which there are no weights yet", release.name, place.asked
            )
        facts = {"release": release.name, "sha256": release.sha256[WEIGHTS]}
        return read_tensors(place.path / WEIGHTS), facts
    info: dict[str, Any] = {"release": None, "sha256": sha256_of(place.path)}
    if place.path.suffix == ".safetensors":
        return read_tensors(place.path), info
    content = read_checkpoint(place.path)
    state = content.get("state_dict", content)
    named = state.items() if isinstance(state, Mapping) else ()
    tensors = {name: value for name, value in named if isinstance(value, Tensor)}
    if not tensors:
        raise ReleaseError(f"{source!r} holds no weights; give a checkpoint of a training.")
    return tensors, info


def check_checkpoint(model: Separator, path: Path, resumes: bool) -> None:
    """Raise a `ReleaseError` if Lightning could not load a checkpoint into a model.

    Args:
        model: given the checkpoint's weights, as Lightning will once more.
        path: of the checkpoint.
        resumes: whether a training shall go on from it, which takes more than weights.
    """
    content = read_checkpoint(path)
    state = content.get("state_dict")
    needed = ("loops", "optimizer_states", "lr_schedulers", "callbacks") if resumes else ()
    if not isinstance(state, Mapping) or any(key not in content for key in needed):
        raise ReleaseError(
            f"{path} is no checkpoint of `zoo fit`. --init_from takes the weights of another file."
        )
    if model.strict_loading:
        load_state(model, state, str(path))


def _tell(source: str, report: Taken, n_own: int) -> None:
    left = n_own - len(report.taken)
    rest = f"; {left} keep their initial values" if left else ""
    unused = f"; {len(report.unused)} of its tensors were not used" if report.unused else ""
    log.info(
        "init_from %s: took %d of %d tensors%s%s", source, len(report.taken), n_own, rest, unused
    )
    for what in ("taken", "other_shape", "missing", "unused"):
        for name in getattr(report, what):
            log.debug("init_from: %s: %s", what.replace("_", " "), name)
