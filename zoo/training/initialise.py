"""Starting a training from weights that exist: `init_from`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import ReleaseError

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


def init_from(model: nn.Module, source: str) -> Taken:
    """Copy into a model every tensor of ``source`` that has the same name and shape.

    Args:
        model: changed in place; what finds no partner keeps its initial value.
        source: a release by name or folder, a checkpoint (``.ckpt``), or a ``.safetensors`` file.
            Of a checkpoint with averaged weights these are the averaged ones.

    Raises:
        ReleaseError: the file is missing or no checkpoint, or not one tensor fits.
        UnknownModel: no release of that name.
    """
    state = tensors_of(source)
    own = model.state_dict()
    report = Taken(
        taken=tuple(n for n in own if n in state and own[n].shape == state[n].shape),
        other_shape=tuple(n for n in own if n in state and own[n].shape != state[n].shape),
        missing=tuple(n for n in own if n not in state),
        unused=tuple(n for n in state if n not in own),
    )
    if not report.taken:
        raise ReleaseError(
            f"none of the {len(state)} tensors of {source!r} fits this model's {len(own)}; "
            "init_from wants weights of the same architecture."
        )
    with torch.no_grad():
        for name in report.taken:
            own[name].copy_(state[name])
    _tell(source, report, len(own))
    return report


def tensors_of(source: str) -> dict[str, Tensor]:
    """The tensors of a release, checkpoint or safetensors file, by name, on the CPU."""
    path = Path(source)
    if path.suffix in (".ckpt", ".pt", ".pth"):
        return _of_checkpoint(path)
    if path.suffix == ".safetensors":
        return _of_safetensors(path)
    from zoo.release import from_pretrained

    return dict(from_pretrained(source, device="cpu").state_dict())


def _of_checkpoint(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ReleaseError(f"no checkpoint at {str(path)!r}; give the path of a .ckpt file.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ReleaseError(f"{str(path)!r} cannot be read as a checkpoint: {reason}") from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    # A compiled network writes this prefix in front of its own names.
    tensors = {
        name.replace("_orig_mod.", ""): value
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    if not tensors:
        raise ReleaseError(f"{str(path)!r} holds no weights; give a checkpoint of a training.")
    return tensors


def _of_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ReleaseError(f"no file at {str(path)!r}; give the path of a .safetensors file.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ReleaseError(f"{str(path)!r} cannot be read as safetensors: {error}") from error


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
