"""Releases made of other people's weights: `zoo.hub.authors` says of which, `zoo.hub.formats` how.

Every file is checked against what is published of it, and read as data.  A release that comes of it
has the authors' licence, or says that none is stated.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import ChecksumError, ReleaseError, UnknownModel, near
from zoo.hub.authors import FORMATS, NOT_STATED, PUBLISHED, File, Published
from zoo.release import RECORD, Release, cache_folder, sha256_of
from zoo.separator import Separator
from zoo.weights import write_release

CONNECT_S, READ_S = 3, 30  # of silence, before a server counts as down

log = logging.getLogger("zoo")


def import_release(
    name: str, files: Sequence[Path] = (), output: Path = Path("releases")
) -> Release:
    """A release of the weights that the authors have published as ``name``, in ``output / name``.

    Args:
        name: a key of `zoo.hub.authors.PUBLISHED`.
        files: as they were published; none: they are downloaded.
        output: folder.

    Raises:
        UnknownModel: nothing of this name can be imported.
        ReleaseError: a file is missing, cannot be downloaded, or is not what was published.
        MissingPackage: a package that reads the files is not installed.
    """
    if name not in PUBLISHED:
        raise UnknownModel(
            f"nothing named {name!r} can be imported; there are {', '.join(PUBLISHED)}, and any "
            f"file of {', '.join(FORMATS)}.{near(name, PUBLISHED)}"
        )
    offer = PUBLISHED[name]
    _refuse_existing(output / name)
    fetched = None
    if offer.files and not files:
        fetched = output / f".{name}.download"
        files = _downloaded(name, offer, fetched)
    paths = _matched(name, offer, files) if offer.files else list(files)
    reader = _reader(offer.reader)
    # One reader makes several variants of a family.
    variants = {"architecture": offer.architecture} if "wave_u_net" in offer.reader else {}
    model = reader(paths, **variants)
    n_parameters = sum(p.numel() for p in model.parameters())
    if offer.parameters not in (None, n_parameters):
        raise ReleaseError(
            f"{paths[0]} makes a network of {n_parameters} parameters; that of {name} has "
            f"{offer.parameters}."
        )
    release = _written(
        model, name, output, paths, offer.licence, offer.trained_on,
        {"weights": "the authors'", "origin": offer.origin, "converter": _tried(offer)},
    )  # fmt: skip
    if fetched is not None:
        shutil.rmtree(fetched, ignore_errors=True)
    return release


def import_files(
    kind: str,
    files: Sequence[Path],
    name: str,
    *,
    sources: Sequence[str] | None = None,
    licence: Mapping[str, str] | None = None,
    trained_on: str = NOT_STATED,
    output: Path = Path("releases"),
) -> Release:
    """A release of anybody's file, in ``output / name``.

    Args:
        kind: a key of `zoo.hub.authors.FORMATS`.
        files: a checkpoint of asteroid, or the tensors of a RoFormer and its YAML.
        name: ``<architecture>-<data set>``.
        sources: that it gives, in its order; None: as the files say.
        licence: of code, weights and data; "not stated" where it is not given.
        trained_on: one sentence.
        output: folder.

    Raises:
        ReleaseError: a file is none of this kind, or does not fit.
        MissingPackage: the package that has the network is not installed.
    """
    _refuse_existing(output / name)
    model = _reader(FORMATS[kind])(list(files), sources=sources)
    stated = {"code": "MIT", "weights": NOT_STATED, "data": NOT_STATED, **(licence or {})}
    return _written(model, name, output, files, stated, trained_on, {"weights": "their authors'"})


def authors_release(name: str) -> Path:
    """The folder of a release of published weights in the cache, made when it is first asked for.

    The cache is ``$ZOO_CACHE``, else the user's.

    Raises:
        ReleaseError, MissingPackage: as `import_release`.
    """
    from filelock import FileLock

    cache = cache_folder()
    folder = cache / name
    if (folder / RECORD).is_file():
        return folder
    offer = PUBLISHED[name]
    if any(not file.url for file in offer.files):
        names = ", ".join(file.name for file in offer.files)
        raise ReleaseError(
            f"{name} cannot be fetched by a program: {names} is to be had from {offer.origin}.\n"
            f"`zoo import {name} FILE` makes a release of it, whose folder is the name to load."
        )
    log.warning(
        "%s: the authors' weights, from %s; licence of the weights: %s",
        name, offer.origin, offer.licence["weights"],
    )  # fmt: skip
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{name}.lock"):
        if not (folder / RECORD).is_file():  # another process may have made it meanwhile
            import_release(name, output=cache)
    return folder


def _reader(name: str) -> Callable[..., Separator]:
    module, _, function = name.partition(":")
    found: Callable[..., Separator] = getattr(
        importlib.import_module(f"zoo.hub.formats.{module}"), function
    )
    return found


def _tried(offer: Published) -> str:
    if offer.tried:
        return "run on the published files"
    return "run on files of the published layout alone, never yet on the published ones"


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise ReleaseError(f"{folder} exists; name another --output, or remove it.")


def _matched(name: str, offer: Published, files: Sequence[Path]) -> list[Path]:
    """The given files in the order of the published ones, each of them checked."""
    by_name = {path.name: path for path in files}
    if len(offer.files) == len(files) == 1:
        by_name = {offer.files[0].name: files[0]}  # whatever it is called now
    if missing := [file.name for file in offer.files if file.name not in by_name]:
        raise ReleaseError(
            f"{name} is made of {', '.join(f.name for f in offer.files)}, to be had from "
            f"{offer.origin}; {', '.join(missing)} was not given."
        )
    if len(files) > len(offer.files):
        raise ReleaseError(f"{name} is made of {len(offer.files)} files; {len(files)} were given.")
    paths = [by_name[file.name] for file in offer.files]
    for file, path in zip(offer.files, paths, strict=True):
        _check(file, path)
    return paths


def _check(file: File, path: Path) -> None:
    if not path.is_file():
        raise ReleaseError(f"there is no file {path}.")
    found, promised = sha256_of(path), file.sha256
    if file.blob:
        found, promised = _blob_of(path), file.blob
    if not found.startswith(promised):
        raise ChecksumError(
            f"{path} is not the published {file.name}: its hash is {found[: len(promised)]}, "
            f"not {promised}."
        )


def _blob_of(path: Path) -> str:
    """The hash by which git knows a file."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _downloaded(name: str, offer: Published, folder: Path) -> list[Path]:
    """The published files in a folder, those that are there already as they are."""
    import pooch  # type: ignore[import-untyped]
    import requests

    if missing := [file.name for file in offer.files if not file.url]:
        raise ReleaseError(
            f"{name} is made of {', '.join(missing)}, which a program cannot fetch; it is to be "
            f"had from {offer.origin}. Give the file."
        )
    pooch.get_logger().setLevel("ERROR")
    paths = []
    for file in offer.files:
        try:
            pooch.retrieve(
                file.url, known_hash=None, fname=file.name, path=folder,
                downloader=pooch.HTTPDownloader(timeout=(CONNECT_S, READ_S), progressbar=False),
            )  # fmt: skip
        except (requests.RequestException, OSError) as error:
            told = str(error).split("\n")[0][:160]
            if isinstance(error, requests.ConnectionError | requests.Timeout):
                told = "the server does not answer"
            raise ReleaseError(
                f"{file.url} cannot be downloaded: {told}\n"
                f"Repeat with a network, or give the files: `zoo import {name} FILE...`."
            ) from error
        path = folder / file.name
        try:
            _check(file, path)
        except ChecksumError:
            path.unlink()
            raise
        paths.append(path)
    return paths


def _written(
    model: Separator,
    name: str,
    output: Path,
    files: Sequence[Path],
    licence: Mapping[str, str],
    trained_on: str,
    provenance: Mapping[str, Any],
) -> Release:
    given = {path.name: sha256_of(path) for path in files if path.is_file()}
    return write_release(
        output / name, model.eval(), name=name, licence=dict(licence), trained_on=trained_on,
        provenance={**provenance, "files": given}, precision="float32", card=_card,
    )  # fmt: skip


def _card(release: Release) -> str:
    from zoo.hub.cards import card

    return card(release)
