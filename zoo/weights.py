"""Weights: models made of releases and checkpoints, and releases made of models.

`zoo.release` knows what lies where; this file turns it into a `Separator` and back.  Whatever was
written by others is read as data: safetensors, or PyTorch's unpickler for tensors and plain values
only; and the one class that is made of it is one of the catalog.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from zoo import catalog
from zoo.data.generated import GeneratedSongs
from zoo.errors import ReleaseError
from zoo.release import (
    CARD,
    GOLDEN,
    RECIPE,
    RECORD,
    SCORES,
    WEIGHTS,
    Place,
    Release,
    locate,
    read_release,
    sha256_of,
)
from zoo.separator import Separator

log = logging.getLogger("zoo")

# A golden pair counts as given when no sample is further off than relative * peak + absolute.
# In a recipe: where data, cache and run lay on the machine that trained.
_OUR_PATHS = re.compile(r"^( *(?:root|cache|run_dir):) ['\"]?(?:/|\w:).*$", re.MULTILINE)
_TOLERANCES = {"float32": (1e-3, 1e-4), "bf16": (5e-2, 1e-3)}  # bf16 keeps 8 bits, 0.4 % a rounding

_Card = str | Callable[[Release], str]


# ------------------------------------------------------------------------------- loading


def from_pretrained(
    name: str | os.PathLike[str],
    *,
    device: str | None = None,
    verify: bool = False,
    stand_in: bool = True,
) -> Separator:
    """A model with trained weights, in eval mode.  What it is goes to the log in one line.

    Args:
        name: the folder of a release, a checkpoint of ``fit``, the name of a release, or
            ``org/name[@revision]`` on the Hugging Face Hub.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``...; it stays on the CPU by default.
        verify: check the release's golden pair; see `verify`.
        stand_in: whether a release trained on something else may be given where the one that was
            asked for does not exist yet.  The log and ``model.info`` say so.

    Raises:
        UnknownModel: nothing of this name; the message has the nearest one.
        ReleaseError: what lies there does not fit together, or cannot be reached.
        ChecksumError: a file is not the one that was released.
    """
    place = locate(name, stand_in)
    model = load_release(place.path) if place.path.is_dir() else load_checkpoint(place.path)
    log.log(logging.WARNING if place.asked else logging.INFO, "%s", _loading_line(model, place))
    if device is not None:
        model = model.on(device)
    if verify:
        _compare_golden(model, "float32")
    return model


def load_release(folder: str | os.PathLike[str]) -> Separator:
    """The model of a release, in eval mode on the CPU.

    Raises:
        ReleaseError: files, record, architecture and weights do not fit together.
        ChecksumError: a file is not the one that was released.
    """
    release = read_release(folder)
    assert release.folder is not None
    model = _build(release.architecture, release.arguments, str(release.folder))
    load_state(model, read_tensors(release.folder / WEIGHTS), str(release.folder))
    model.info = {
        "release": release.name,
        "sha256": release.sha256[WEIGHTS],
        "trained_on": release.trained_on,
        "stand_in_for": release.stand_in_for,
        "licence": dict(release.licence),
        "source": str(release.folder),
    }
    return model


def load_checkpoint(path: str | os.PathLike[str]) -> Separator:
    """The model of a checkpoint that ``fit`` wrote, in eval mode on the CPU.

    Where training averaged weights, it is the averaged ones.

    Raises:
        ReleaseError: no such file, not a checkpoint of Lightning, of an architecture that is not in
            the catalog, or with keys that do not fit.
    """
    content = read_checkpoint(Path(path))
    hyper_parameters, state = content.get("hyper_parameters"), content.get("state_dict")
    if not (isinstance(hyper_parameters, dict) and isinstance(state, dict) and _is_state(state)):
        raise ReleaseError(
            f"{path} is no checkpoint of `zoo fit`: it lacks state_dict or hyper_parameters. "
            "`zoo import` takes the weights of other programs."
        )
    arguments = {str(k): v for k, v in hyper_parameters.items() if not str(k).startswith("_")}
    architecture = _architecture_of(content, hyper_parameters, str(path))
    if arguments.get("architecture") == architecture:
        del arguments["architecture"]
    model = _build(architecture, arguments, str(path))
    load_state(model, strip_prefixes(state, model.state_dict()), str(path))
    model.info = {
        "release": None,
        "sha256": sha256_of(Path(path)),
        "trained_on": None,
        "stand_in_for": None,
        "licence": None,
        "source": str(path),
    }
    return model


def strip_prefixes(
    state: Mapping[str, Tensor], expected: Collection[str] = ()
) -> dict[str, Tensor]:
    """A state dict without what wrappers put before its keys.

    These are ``_orig_mod.`` anywhere (torch.compile), ``module.`` before every key (DataParallel,
    DDP, AveragedModel, whose counter goes too), and ``ema_model.`` (of which only the averaged copy
    stays).

    Args:
        state: key -> tensor.
        expected: the model's own keys; a state that has just these is left alone.
    """
    if state.keys() == set(expected):
        return dict(state)
    found = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    if any(key.startswith("ema_model.") for key in found):
        averaged = {k: v for k, v in found.items() if k.startswith("ema_model.")}
        found = _without("ema_model.", averaged)
    while wrapped := {k: v for k, v in found.items() if k != "n_averaged"}:
        if not all(key.startswith("module.") for key in wrapped):
            break
        found = _without("module.", wrapped)
    return found


def _without(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _loading_line(model: Separator, place: Place) -> str:
    info = model.info
    name = info["release"] or f"{model.architecture} checkpoint"
    rate = f"{model.sample_rate} Hz" if model.sample_rate else "the file's own rate"
    parts = [f"{', '.join(model.sources)} at {rate}"]
    if info["release"]:
        parts += [f"trained on {info['trained_on']}", f"weights {info['licence']['weights']}"]
    if place.asked:
        parts.append(f"STANDS IN FOR {place.asked}, of which there are no weights yet")
    elif info["stand_in_for"]:
        parts.append(f"also stands in for {info['stand_in_for']}")
    return f"{name} ({place.words}): {'; '.join(parts)}"


def _build(architecture: str, arguments: Mapping[str, Any], where: str) -> Separator:
    """An architecture of the catalog with a file's arguments; the global seed is left alone."""
    with torch.random.fork_rng(devices=[]):
        try:
            model: Separator = catalog.create(architecture, **arguments).eval()
            return model
        except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise ReleaseError(
                f"{where}: {architecture} cannot be built from its arguments: {_line(error)}"
            ) from error


def load_state(model: Separator, state: Mapping[str, Tensor], where: str) -> None:
    """Give a model its weights; every key must be there, no other, in the right shape.

    Raises:
        ReleaseError: ``where``, the first fault, and how many there are.
    """
    own = model.state_dict()
    faults = [f"key {key!r} is missing" for key in own if key not in state]
    faults += [f"key {key!r} is unknown to {model.architecture}" for key in state if key not in own]
    faults += [
        f"{key!r} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    if faults:
        more = f" ({len(faults)} such faults in all)" if len(faults) > 1 else ""
        raise ReleaseError(
            f"{where}: {faults[0]}{more}. The weights belong to another architecture, or to other "
            "arguments of it."
        )
    model.load_state_dict(state)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        ReleaseError: it is none.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ReleaseError(f"{path} is no safetensors file: {_line(error)}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, if it is tensors and plain values.

    Raises:
        ReleaseError: no such file, damaged, or with an object that could run code.
    """
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ReleaseError(f"there is no checkpoint {path}. Check the path.") from error
    except Exception as error:  # what a parser raises on a damaged file has no limit
        refused = re.search(r"(?:GLOBAL |class |global )`?([\w.]+\.[\w.]+)", str(error))
        if refused and isinstance(error, UnpicklingError):
            raise ReleaseError(
                f"{path} holds {refused[1]}, which could run code, and was not loaded. Checkpoints "
                "of `zoo fit` hold tensors and plain values only."
            ) from error
        raise ReleaseError(
            f"{path} is damaged or no checkpoint of `zoo fit`; nothing was loaded. Copy it again, "
            "or name another file."
        ) from error
    return content if isinstance(content, dict) else {}


def _check_sums(path: Path) -> None:
    """Raise where a part of a checkpoint has changed; torch itself reads over a flipped bit."""
    if zipfile.is_zipfile(path):  # PyTorch's form since 1.6
        with zipfile.ZipFile(path) as parts:
            if part := parts.testzip():
                raise zipfile.BadZipFile(part)


def _is_state(state: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) and isinstance(v, Tensor) for key, v in state.items())


def _architecture_of(
    content: Mapping[str, Any], hyper_parameters: Mapping[str, Any], where: str
) -> str:
    """Name of a checkpoint's architecture.  Names are compared; nothing that one names is imported.

    `Separator` writes it; LightningCLI writes the path of the class.
    """
    ours = content.get("zoo")
    class_path = hyper_parameters.get("_class_path")
    stated = [ours.get("architecture") if isinstance(ours, dict) else None]
    stated += [class_path, hyper_parameters.get("architecture")]
    names = catalog.list_models()
    for name in stated:
        if isinstance(name, str) and name in names:
            return name
    for name in names:
        if catalog.entry(name).target.replace(":", ".") == class_path:
            return name
    found = next((repr(name) for name in stated if name), "no architecture")
    raise ReleaseError(
        f"{where} names {found}, which is not in the catalog. Install the package that registers "
        "it under the entry-point group 'zoo.models', or load it through its own class."
    )


def _line(error: BaseException) -> str:
    """The first sentence of a library's error."""
    text = str(error).strip().split("\n")[0]
    return (text[:200] or type(error).__name__).rstrip(".")


# ------------------------------------------------------------------------------- the golden pair


def golden_mixture(rate: int | None, channels: int | None, seed: int = 0) -> Tensor:
    """One second of generated music ``(C, T)``, float32.

    Args:
        rate: in Hz; 44100 for a model that works at any.
        channels: 2 for a model that takes any number.
        seed: another seed is another song.
    """
    rate, channels = rate or 44100, channels or 2
    songs = GeneratedSongs(
        1, 0, 0, seconds=4.0, seed=seed, sample_rate=rate, channels=min(channels, 2),
        absent=(0.0, 0.0, 0.0, 0.0), alone=0.0,
    )  # fmt: skip
    song = songs.tracks("train")[0].read("mixture")
    seconds = [song[:, i * rate : (i + 1) * rate] for i in range(4)]
    loudest = max(seconds, key=lambda part: float(np.square(part).sum()))
    return torch.from_numpy(loudest[np.arange(channels) % len(loudest)].copy())


def verify(model: Separator | str | os.PathLike[str], precision: str = "float32") -> float:
    """How far a model is from the estimates of its golden pair, at most, full scale being 1.

    Args:
        model: made by `from_pretrained`, on the device to be checked; or what that takes.
        precision: to compute in, "float32" or "bf16".

    Raises:
        ReleaseError: further than 1e-3 of the peak + 1e-4 (5e-2 and 1e-3 for bf16), or there is no
            golden pair, as with a checkpoint.
    """
    if not isinstance(model, Separator):
        model = from_pretrained(model)
    return _compare_golden(model, precision)


def _compare_golden(model: Separator, precision: str) -> float:
    source = model.info.get("source")
    if not source or not Path(source).is_dir():
        raise ReleaseError(
            f"this {model.architecture} was not loaded from a release, so it has no golden pair. "
            "Pass a release to check."
        )
    if precision not in _TOLERANCES:
        raise ReleaseError(f"precision {precision!r}; expected {' or '.join(_TOLERANCES)}.")
    pair = read_tensors(Path(source) / GOLDEN)
    if pair.keys() != {"mixture", "estimates"}:
        raise ReleaseError(f"{source}: {GOLDEN} holds {sorted(pair)}; expected mixture, estimates.")
    estimates = _estimate(model, pair["mixture"], precision)
    if estimates.shape != pair["estimates"].shape:
        raise ReleaseError(
            f"{source}: the model gives estimates {tuple(estimates.shape)}, its golden pair has "
            f"{tuple(pair['estimates'].shape)}. The release was made by another version."
        )
    deviation = float((estimates - pair["estimates"]).abs().max())
    relative, absolute = _TOLERANCES[precision]
    limit = relative * float(pair["estimates"].abs().max()) + absolute
    if not deviation <= limit:  # so that NaN fails
        raise ReleaseError(
            f"{model.info['release']} on {model.device} is {deviation:.2e} off its golden pair; at "
            f"most {limit:.2e} is allowed. Use another device or precision."
        )
    return deviation


def _estimate(model: Separator, mixture: Tensor, precision: str = "float32") -> Tensor:
    """Estimates ``(J, C, T)`` on the CPU of a mixture ``(C, T)``, the same at every call."""
    device = model.device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    with torch.random.fork_rng(devices=[]), torch.inference_mode(), autocast:
        torch.manual_seed(0)
        estimates: Tensor = model.eval()(mixture[None].to(device))[0]
    return estimates.float().cpu().contiguous()


# ------------------------------------------------------------------------------- writing


def write_release(
    folder: str | os.PathLike[str],
    model: Separator,
    *,
    name: str,
    licence: Mapping[str, str],
    trained_on: str,
    stand_in_for: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    precision: str = "float16",
    recipe: str | os.PathLike[str] | None = None,
    scores: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    card: _Card | None = None,
) -> Release:
    """Write a release; the folder appears when all of it is there and has been loaded once.

    Args:
        folder: must not exist.
        model: of an architecture in the catalog.
        name: ``<architecture>-<data set>[-<variant>]``.
        licence: of "code", "weights" and "data".
        trained_on: one sentence.
        stand_in_for: name of the release that this one replaces for now.
        provenance: seed, commit, hours... as plain JSON values.
        precision: of matrices and kernels, "float16" or "float32"; vectors and buffers, such as the
            statistics of batch normalisation, always keep float32.
        recipe: the resolved recipe, a YAML file; absolute paths in it are left out.
        scores: a folder of score files, one JSON a track, or a list of them.
        card: text of README.md, or a function that makes it of the record (which then lists every
            file but the card, and whose folder it may add files to).

    Raises:
        LicenceError: a licence is not stated.
        ReleaseError: the folder exists or cannot be written, an argument is missing or no plain
            JSON value, the architecture is not in the catalog, weights or estimates not finite.
    """
    target = Path(folder).absolute()
    arguments = _plain(model, "arguments", model.hparams)
    release = Release(
        name=name,
        architecture=_catalogued(model, arguments, name),
        arguments=arguments,
        licence=dict(licence),
        trained_on=trained_on,
        sha256={},
        precision=precision,
        stand_in_for=stand_in_for,
        provenance=_plain(model, "provenance", {"facts": facts(model), **(provenance or {})}),
    )
    with _appearing(target) as draft:
        _save(_stored_state(model, precision), draft / WEIGHTS)
        _write_golden(draft, release)
        if recipe is not None:
            text = Path(recipe).read_text(encoding="utf-8")
            (draft / RECIPE).write_text(_OUR_PATHS.sub(r"\1 null", text), encoding="utf-8")
        for source, place in _score_files(scores):
            (draft / SCORES / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, draft / SCORES / place)
        release = replace(release, sha256=_hashes(draft))
        if card is not None:
            text = card if isinstance(card, str) else card(replace(release, folder=draft))
            (draft / CARD).write_text(text, encoding="utf-8")
            release = replace(release, sha256=_hashes(draft))
        (draft / RECORD).write_text(release.to_json(), encoding="utf-8")
    return replace(release, folder=target)


def facts(model: Separator) -> dict[str, Any]:
    """Size, reach and cost of a model, for its record.

    Returns:
        ``parameters``; ``context_s``, seconds on each side or None where it is unbounded;
        ``gflop_per_s``, billions of operations (a multiplication and an addition are two) in the
        layers, for each second of audio.
    """
    rate, channels = model.sample_rate or 44100, model.channels or 2
    mixture = torch.zeros(1, channels, 10 * rate, device=model.device)
    # oneDNN's recurrent layers are not counted, their plain form is.
    is_plain = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with (
        warnings.catch_warnings(action="ignore"),  # torch's own, on what its flags do elsewhere
        torch.backends.mkldnn.flags(enabled=not is_plain),
        FlopCounterMode(display=False) as counter,
        torch.inference_mode(),
    ):
        model.eval()(mixture)
    context = model.context
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "context_s": None if context is None else round(context / rate, 3),
        "gflop_per_s": round(counter.get_total_flops() / 10 / 1e9, 1),
    }


def _plain(model: Separator, what: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they come back from JSON, without the notes of LightningCLI."""
    kept = {key: value for key, value in values.items() if not key.startswith("_")}
    for key, value in kept.items():
        try:
            kept[key] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ReleaseError(
                f"{what} of {model.architecture}: {key} is {value!r}, which JSON cannot hold. Give "
                "plain numbers, texts, lists and mappings."
            ) from error
    return kept


def _catalogued(model: Separator, arguments: Mapping[str, Any], release: str) -> str:
    """The catalog's name of a model: of the variant that the release is named after, if it is one.

    A release that only its writer's program could load is none.
    """
    known = catalog.list_models()
    named = sorted((n for n in known if release.startswith(f"{n}-")), key=len, reverse=True)
    for name in [*named, model.architecture]:
        if name in known and catalog.load(name) is type(model):
            variant = _plain(model, name, catalog.entry(name).arguments)
            if all(key in arguments and arguments[key] == variant[key] for key in variant):
                return name
    raise ReleaseError(
        f"{type(model).__qualname__} with these arguments is no architecture of the catalog called "
        f"{' or '.join(map(repr, named)) or repr(model.architecture)}, so nobody could load its "
        "release. Register it under the entry-point group 'zoo.models', or name it otherwise."
    )


def _stored_state(model: Separator, precision: str) -> dict[str, Tensor]:
    """The weights as a release keeps them, each in memory of its own, as safetensors wants it."""
    buffers = {key for key, _ in model.named_buffers()}
    state = {}
    for key, value in model.state_dict().items():
        value = value.detach().cpu()
        if value.is_floating_point():
            if not value.isfinite().all():
                raise ReleaseError(
                    f"{key!r} is not finite: training diverged. Take an earlier checkpoint."
                )
            halves = precision == "float16" and value.dim() > 1 and key not in buffers
            halves = halves and float(value.abs().max()) <= torch.finfo(torch.float16).max
            value = value.half() if halves else value.float()
        state[key] = value.contiguous().clone()
    return strip_prefixes(state)


def _write_golden(draft: Path, release: Release) -> None:
    """The golden pair of the weights as stored, by a model made as every reader will make it."""
    model = _build(release.architecture, release.arguments, release.name)
    load_state(model, read_tensors(draft / WEIGHTS), release.name)
    mixture = golden_mixture(model.sample_rate, model.channels)
    estimates = _estimate(model, mixture)
    if not estimates.isfinite().all():
        raise ReleaseError(
            f"{release.name} gives estimates that are not finite in {release.precision}."
        )
    _save({"mixture": mixture, "estimates": estimates}, draft / GOLDEN)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write safetensors, readable for everybody: the library keeps them to their owner."""
    save_file(tensors, path, {"format": "pt"})
    path.chmod(0o644)


def _score_files(
    scores: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None,
) -> list[tuple[Path, Path]]:
    """Each score file, and its path inside the release's folder of scores."""
    if scores is None:
        return []
    if isinstance(scores, (str, os.PathLike)):
        root = Path(scores)
        found = [(path, path.relative_to(root)) for path in sorted(root.rglob("*.json"))]
    else:
        found = [(Path(path), Path(Path(path).name)) for path in scores]
    if not found or len({place for _, place in found}) < len(found):
        raise ReleaseError(f"scores {scores}: no JSON file there, or two of the same name.")
    return found


def _hashes(draft: Path) -> dict[str, str]:
    files = sorted(path for path in draft.rglob("*") if path.is_file())
    return {path.relative_to(draft).as_posix(): sha256_of(path) for path in files}


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A hidden folder beside ``target`` that takes its name in the end, or goes."""
    if target.exists() or target.is_symlink():
        raise ReleaseError(f"{target} exists already. Delete it or name another folder.")
    draft = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        yield draft
        draft.rename(target)
    except OSError as error:
        raise ReleaseError(f"{target} cannot be written: {_line(error)}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


__all__ = [
    "from_pretrained",
    "golden_mixture",
    "load_checkpoint",
    "load_release",
    "load_state",
    "read_checkpoint",
    "read_tensors",
    "strip_prefixes",
    "verify",
    "write_release",
]
