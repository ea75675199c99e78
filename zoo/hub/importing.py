"""Releases made of other people's weights: `zoo.authors` says of which, `zoo.hub.formats` how.

Every file is checked against what is published of it, and read as data.  A release that comes of it
has the authors' licence, or says that none is stated.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from zoo.authors import FORMATS, NOT_STATED, PUBLISHED, File, Published
from zoo.errors import ChecksumError, MissingPackage, ReleaseError, UnknownModel, ZooError, near
from zoo.hub.formats import spleeter
from zoo.release import RECORD, Release, cache_folder, read_record, sha256_of
from zoo.separator import Separator
from zoo.weights import write_release

CONVERTERS = 1  # goes up when a reader is mended: what the cache holds is then made anew
CONNECT_S, READ_S = 3, 30  # of silence, before a server counts as down

log = logging.getLogger("zoo")


def import_release(
    name: str, files: Sequence[Path] = (), output: Path = Path("releases")
) -> Release:
    """A release of the weights that the authors have published as ``name``, in ``output / name``.

    Args:
        name: a key of `zoo.authors.PUBLISHED`.
        files: as they were published; none: they are downloaded.
        output: folder.

    Raises:
        UnknownModel: nothing of this name can be imported.
        ReleaseError: a file is missing, cannot be downloaded, or is not what was published.
        ChecksumError: a file is another than the published one.
        MissingPackage: a package that reads the files is not installed.
    """
    if name not in PUBLISHED:
        hint = near(name, PUBLISHED) or f" There are: {', '.join(PUBLISHED)}."
        raise UnknownModel(
            f"nothing named {name!r} can be imported.{hint} Files of {', '.join(FORMATS)} that "
            "anybody has trained are imported by these words."
        )
    offer = PUBLISHED[name]
    _refuse_existing(output / name)
    if offer.package and find_spec(offer.package[0]) is None:
        package, extra = offer.package
        raise MissingPackage(
            f"{name} needs the package {package}: `pip install 'music-separation-zoo[{extra}]'`."
        )
    downloads = cache_folder() / ".downloads" / name
    is_fetched = bool(offer.files and not files)
    if is_fetched:
        files = _downloaded(name, offer, downloads)
    paths = _matched(name, offer, files) if offer.files else list(files)
    try:
        model = _read(offer.reader, paths)
        n_parameters = sum(p.numel() for p in model.parameters())
        if offer.parameters not in (None, n_parameters):
            raise ReleaseError(
                f"{paths[0].name if paths else name} makes a network of {n_parameters} parameters; "
                f"that of {name} has {offer.parameters}. It is another file."
            )
    except ZooError:
        if is_fetched:  # whatever came, the next attempt asks again
            shutil.rmtree(downloads, ignore_errors=True)
        raise
    given = {path.name: sha256_of(path) for path in paths if path.is_file()}
    release = _written(
        model, name, output, given or dict(spleeter.FILES.values()), offer.licence,
        offer.trained_on,
        {
            "weights": "the authors'", "origin": offer.origin, "checked": offer.check,
            "converter": _tried(offer), "converters": CONVERTERS,
            "urls": [file.url for file in offer.files if file.url],
            "git_blobs": [file.blob for file in offer.files if file.blob],
        },
    )  # fmt: skip
    shutil.rmtree(downloads, ignore_errors=True)
    return release


def import_files(
    kind: str,
    files: Sequence[Path],
    name: str,
    *,
    sources: Sequence[str] | None = None,
    licence: Mapping[str, str] | None = None,
    trained_on: str | None = None,
    output: Path = Path("releases"),
) -> Release:
    """A release of anybody's file, in ``output / name``.

    Args:
        kind: a key of `zoo.authors.FORMATS`.
        files: a checkpoint of asteroid, or the tensors of a RoFormer and its YAML.
        name: ``<architecture>-<data set>``.
        sources: that it gives, in its order; None: as the files say.
        licence: of code, weights and data; "not stated" where it is not given.
        trained_on: one sentence; "not stated" where it is not given.
        output: folder.

    Raises:
        ReleaseError: a file is none of this kind, or does not fit.
        MissingPackage: the package that has the network is not installed.
    """
    _refuse_existing(output / name)
    if sources is not None and not all(s.strip() for s in sources):
        raise ReleaseError(f"sources {list(sources)}: a name is empty.")
    named = [s.strip() for s in sources] if sources is not None else None
    model = _read(FORMATS[kind], files, sources=named)
    stated = {part: (licence or {}).get(part) or NOT_STATED for part in ("code", "weights", "data")}
    given = {path.name: sha256_of(path) for path in files}
    told = {"weights": "their authors'"}
    return _written(model, name, output, given, stated, trained_on or NOT_STATED, told)


def authors_release(name: str) -> Path:
    """The folder of a release of published weights in the cache, made when it is first asked for.

    Raises:
        ReleaseError, ChecksumError, MissingPackage: as `import_release`.
    """
    cache = cache_folder()
    offer = PUBLISHED[name]
    if _is_current(cache / name):
        return cache / name
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
        if not _is_current(cache / name):  # another process may have made it meanwhile
            shutil.rmtree(cache / name, ignore_errors=True)
            import_release(name, output=cache)
    return cache / name


def _is_current(folder: Path) -> bool:
    if not (folder / RECORD).is_file():
        return False
    return read_record(folder).provenance.get("converters") == CONVERTERS


def _read(reader: str, files: Sequence[Path], **more: Any) -> Separator:
    """What a reader makes of files; whatever it stumbles over is said of them."""
    module, _, function = reader.partition(":")
    read: Callable[..., Separator] = getattr(
        importlib.import_module(f"zoo.hub.formats.{module}"), function
    )
    if missing := [path for path in files if not path.exists()]:
        raise ReleaseError(f"there is no file {missing[0]}.")
    try:
        return read(list(files), **more).eval()
    except ZooError:
        raise
    except Exception as error:  # a file can be odd in more ways than a reader thinks of
        told = str(error).split("\n")[0][:160] or type(error).__name__
        names = ", ".join(str(path) for path in files)
        raise ReleaseError(f"{names} cannot be read as what was published: {told}") from error


def _tried(offer: Published) -> str:
    if offer.tried:
        return "run on the published files"
    return "run on files of the published layout alone, never yet on the published ones"


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise ReleaseError(f"{folder} exists; remove it, or have the release made elsewhere.")


def _matched(name: str, offer: Published, files: Sequence[Path]) -> list[Path]:
    """The given files in the order of the published ones, each of them checked."""
    if len(files) != len(offer.files):
        raise ReleaseError(
            f"{name} is made of {', '.join(f.name for f in offer.files)}, to be had from "
            f"{offer.origin}; {len(files)} files were given."
        )
    by_name = {path.name: path for path in files}
    (first, *others) = offer.files
    if not others and (first.sha256 or first.blob):
        by_name = {first.name: files[0]}  # its hash says what it is, whatever it is called
    if missing := [file.name for file in offer.files if file.name not in by_name]:
        raise ReleaseError(
            f"{name} is made of {', '.join(f.name for f in offer.files)}, to be had from "
            f"{offer.origin}; {', '.join(missing)} was not given."
        )
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReleaseError(
            f"{folder} cannot be written: {error.strerror}; set ZOO_CACHE to another folder."
        ) from error
    pooch.get_logger().setLevel("ERROR")
    is_shown = sys.stderr.isatty() and find_spec("tqdm") is not None
    get = pooch.HTTPDownloader(timeout=(CONNECT_S, READ_S), progressbar=is_shown)
    with FileLock(folder / ".lock"):
        for file in offer.files:
            try:
                pooch.retrieve(
                    file.url, known_hash=None, fname=file.name, path=folder, downloader=get
                )
            except (requests.RequestException, OSError) as error:
                told = str(error).split("\n")[0][:160]
                if isinstance(error, requests.ConnectionError | requests.Timeout):
                    told = "the server does not answer"
                raise ReleaseError(
                    f"{file.url} cannot be downloaded: {told}\n"
                    f"Repeat with a network, or give the files: `zoo import {name} FILE...`."
                ) from error
            try:
                _check(file, folder / file.name)
            except ChecksumError:
                (folder / file.name).unlink()
                raise
    return [folder / file.name for file in offer.files]


def _written(
    model: Separator,
    name: str,
    output: Path,
    files: Mapping[str, str],
    licence: Mapping[str, str],
    trained_on: str,
    provenance: Mapping[str, Any],
) -> Release:
    return write_release(
        output / name, model, name=name, licence=dict(licence), trained_on=trained_on,
        provenance={**provenance, "files": dict(files)}, precision="float32", card=_card,
    )  # fmt: skip


def _card(release: Release) -> str:
    from zoo.hub.cards import card

    return card(release)
