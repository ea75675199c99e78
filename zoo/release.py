"""Releases: folders that hold trained weights, what they are, and proof that they work.

    <name>/
        config.json          the record: a `Release`
        model.safetensors    weights
        golden.safetensors   one second of generated music, and the estimates that it must give
        recipe.yaml  scores/  README.md       where there are any

This file reads records, checks files, and finds out where a name leads: a folder, a checkpoint, a
release that came with the package, or a repository on the Hugging Face Hub.  It knows no torch, so
that listing releases is quick.  `zoo.weights` makes models of what is found; its functions can be
had from here too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zoo import catalog
from zoo.authors import PUBLISHED
from zoo.errors import ChecksumError, LicenceError, ReleaseError, UnknownModel, ZooError, near

if TYPE_CHECKING:
    from zoo.weights import (
        from_pretrained,
        golden_mixture,
        load_checkpoint,
        load_release,
        strip_prefixes,
        verify,
        write_release,
    )

log = logging.getLogger("zoo")

FORMAT = 1
RECORD, WEIGHTS, GOLDEN = "config.json", "model.safetensors", "golden.safetensors"
IMPORTING = "zoo.hub.importing"  # a floor above, and imported only for authors' weights
RECIPE, SCORES, CARD = "recipe.yaml", "scores", "README.md"
BUNDLED = Path(__file__).parent / "releases"

# Name -> why it is no more, and what to ask for in its place.
RETIRED: dict[str, str] = {}

_FILES = (".ckpt", ".pt", ".pth", ".safetensors")  # a name that ends so is a path
_LARGEST_RECORD = 1 << 20  # bytes; a record of a thousand score files has a tenth of it
_NAME = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PATIENCE_S = 10.0  # for the first answer of the Hub


# ------------------------------------------------------------------------------- the record


@dataclass(frozen=True)
class Release:
    """What a release says of itself: the contents of its ``config.json``.

    Attributes:
        name: ``<architecture>-<data set>[-<variant>]``; it says what the weights were trained on.
        architecture: name in the catalog.
        arguments: of the architecture, plain JSON values.
        licence: of the ``code``, the ``weights`` and the ``data`` they were trained on.
        trained_on: one sentence.
        sha256: file -> hash, for every file but the record.
        precision: of the stored matrices and kernels, "float16" or "float32".
        stand_in_for: name of the release that this one replaces until there is a real one.
        provenance: how the weights came about: seed, commit, hours...
        format: version of this layout.
        folder: where the release lies; not part of the record.

    Raises:
        LicenceError: a licence is not stated.
        ReleaseError: a field that does not hold what it should.
    """

    name: str
    architecture: str
    arguments: dict[str, Any]
    licence: dict[str, str]
    trained_on: str
    sha256: dict[str, str]
    precision: str = "float16"
    stand_in_for: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    folder: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if type(self.format) is not int or self.format != FORMAT:
            raise ReleaseError(
                f"format {self.format!r}; this version of the zoo reads format {FORMAT}. "
                "Update the package."
            )
        for key in ("name", "architecture", "trained_on"):
            value = getattr(self, key)
            if not (isinstance(value, str) and value.strip()):
                raise ReleaseError(f"{key} is {value!r}; a release states it in words.")
        for key in ("arguments", "provenance", "sha256", "licence"):
            if not isinstance(getattr(self, key), dict):
                raise ReleaseError(f"{key} is {getattr(self, key)!r}; expected a mapping.")
        if self.precision not in ("float16", "float32"):
            raise ReleaseError(f"precision {self.precision!r}; expected 'float16' or 'float32'.")
        _check_name(self.name, self.architecture, self.stand_in_for)
        _check_licence(self.licence)
        for name, digest in self.sha256.items():
            _check_listed(name, digest)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of what it separates; empty where that depends on the file."""
        return tuple(self.arguments.get("sources") or ())

    @property
    def sample_rate(self) -> int | None:
        """In Hz; None for a system that works at the file's own."""
        rate: int | None = self.arguments.get("sample_rate")
        return rate

    @property
    def channels(self) -> int | None:
        """Of mixture and estimates; None for any number."""
        channels: int | None = self.arguments.get("channels")
        return channels

    @property
    def has_weights(self) -> bool:
        """Whether the weights lie in the folder; of some releases only record and scores do."""
        return self.folder is not None and (self.folder / WEIGHTS).is_file()

    @property
    def scores(self) -> list[str]:
        """The score files, as listed in the record."""
        return sorted(name for name in self.sha256 if name.startswith(f"{SCORES}/"))

    def to_json(self) -> str:
        """The text of ``config.json``."""
        content = asdict(self)
        content.pop("folder")
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _check_name(name: str, architecture: str, stand_in_for: Any) -> None:
    if not _NAME.fullmatch(name) or not name.startswith(f"{architecture}-"):
        raise ReleaseError(
            f"name {name!r}; a release of {architecture} is called {architecture}-<data set> or "
            f"{architecture}-<data set>-<variant>, in lower case."
        )
    if stand_in_for is not None and not isinstance(stand_in_for, str):
        raise ReleaseError(f"stand_in_for is {stand_in_for!r}; expected the name of a release.")
    if stand_in_for == name:
        raise ReleaseError(
            f"{name} cannot stand in for itself: a release is named after what it was trained on, "
            "and stand_in_for names the one that it replaces."
        )


def _check_licence(licence: dict[str, str]) -> None:
    for part in ("code", "weights", "data"):
        value = licence.get(part)
        if not (isinstance(value, str) and value.strip()):
            raise LicenceError(
                f"the licence of the {part} is not stated; a release names those of code, weights "
                'and data, such as licence={"code": "MIT", "weights": ..., "data": ...}.'
            )
    if unknown := sorted(set(licence) - {"code", "weights", "data"}):
        raise ReleaseError(f"licence has {unknown[0]!r}; expected code, weights and data.")


def _check_listed(name: str, digest: Any) -> None:
    path = PurePosixPath(name)
    plain = str(path) == name and not path.is_absolute() and ".." not in path.parts
    if not plain or name in (".", RECORD) or any(c in name for c in "\\:\0"):
        raise ReleaseError(f"sha256 lists {name!r}; expected files inside the release.")
    if not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
        raise ReleaseError(f"sha256 of {name} is {digest!r}; expected 64 hexadecimal digits.")


# ------------------------------------------------------------------------------- reading


def read_record(folder: str | os.PathLike[str]) -> Release:
    """The record of a release, without a look at its other files.

    Raises:
        ReleaseError: no record, a key too many or too few, or a value that cannot be.
    """
    path = Path(folder).resolve()
    try:
        record = _real_file(path, RECORD)
        if record.stat().st_size > _LARGEST_RECORD:
            raise ReleaseError(f"{RECORD} is larger than {_LARGEST_RECORD} bytes.")
        content = json.loads(record.read_bytes())
        if not isinstance(content, dict):
            raise ReleaseError(f"{RECORD} holds no mapping.")
        keys = {f.name for f in fields(Release)} - {"folder"}
        if unknown := sorted(content.keys() - keys):
            raise ReleaseError(f"{RECORD} has the unknown key {', '.join(map(repr, unknown))}.")
        if missing := sorted(keys - content.keys()):
            raise ReleaseError(f"{RECORD} lacks {', '.join(map(repr, missing))}.")
        return Release(**content, folder=path)
    except LicenceError as error:
        raise LicenceError(f"{path}: {error}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ReleaseError(f"{path} is no release of the zoo: {error}") from error


def read_release(folder: str | os.PathLike[str]) -> Release:
    """The record of a release whose every file has been checked.  Nothing is imported or unpickled.

    Files that the record does not list are never read.

    Raises:
        ChecksumError: a file that is not the one that was released.
        ReleaseError: as `read_record`; a file that is missing or a link; an architecture that the
            catalog does not know.
    """
    release = read_record(folder)
    path = Path(folder).resolve()
    for name in dict.fromkeys((WEIGHTS, GOLDEN, *release.sha256)):
        if name not in release.sha256:
            raise ReleaseError(f"{path}: {RECORD} lists no {name}; the release is incomplete.")
        found = sha256_of(_real_file(path, name))
        if found != release.sha256[name]:
            raise ChecksumError(
                f"{path / name} has sha256 {found[:12]}... but the release says "
                f"{release.sha256[name][:12]}...: it was changed or damaged. Get the release again."
            )
    if release.architecture not in catalog.list_models():
        raise ReleaseError(
            f"{path}: its architecture {release.architecture!r} is not in the catalog. Install the "
            "package that registers it under the entry-point group 'zoo.models'."
        )
    return release


def sha256_of(path: Path) -> str:
    """Hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _real_file(folder: Path, name: str) -> Path:
    """A file of a release, which may be a link only where the Hub's own cache has made it one."""
    path = folder / name
    target = path.resolve()
    cached = folder.parent.name == "snapshots" and target.is_relative_to(
        folder.parents[1] / "blobs"
    )
    if target != path and not cached:
        raise ReleaseError(f"{path} is a link to {target}; a release holds plain files.")
    if not target.is_file():
        raise ReleaseError(f"{path} is missing; the release is incomplete.")
    return target


def bundled() -> dict[str, Release]:
    """The releases that came with the package, by name."""
    return {name: release for name, release in recorded().items() if release.has_weights}


def recorded() -> dict[str, Release]:
    """These, and releases of which only record, recipe and scores came, by name."""
    found = {}
    for record in sorted(BUNDLED.glob(f"*/{RECORD}")):
        try:
            release = read_record(record.parent)
        except (ReleaseError, LicenceError) as error:
            log.warning("left out: %s", error)
            continue
        found[release.name] = release
    return found


def describe(name: str | os.PathLike[str]) -> Release:
    """The record that came with the package, of the release that stands in, or in a folder.

    Raises:
        UnknownModel: there is none of this name.
        ReleaseError: as `read_record`.
    """
    if (Path(name) / RECORD).is_file():
        return read_record(name)
    if release := recorded().get(str(name)):
        return release
    place = _bundled_place(str(name), stand_in=True)
    if place is None:
        raise _unknown(str(name))
    return bundled()[place.path.name]


# ------------------------------------------------------------------------------- names


@dataclass(frozen=True)
class Place:
    """Where a name led: the folder of a release or a checkpoint, and that in words."""

    path: Path
    words: str
    asked: str | None = None
    """The name that was asked for, where another release stands in for it."""


def locate(name: str | os.PathLike[str], stand_in: bool = True) -> Place:
    """Where a model lies: on disk, in the package, at the system's authors, or on the Hub.

    Args:
        name: the folder of a release, a checkpoint, the name of a release, that of weights which
            their authors have published, or ``org/name[@revision]``; the last two are downloaded.
        stand_in: whether a release may be given in place of one that does not exist yet.

    Raises:
        UnknownModel: none of these; the message has the nearest name.
        ReleaseError: the Hub cannot be reached or holds no release there.
    """
    text = os.fspath(name)
    if not text:
        raise _unknown(text)
    path = Path(os.path.expanduser(text))
    if path.name in (RECORD, WEIGHTS) and (path.parent / RECORD).is_file():
        path = path.parent
    # A plain file that happens to be called like a release is none.
    is_checkpoint = path.is_file() and (path.suffix in _FILES or os.sep in text)
    if is_checkpoint or (path / RECORD).is_file():
        return Place(path.resolve(), str(path))
    if text in RETIRED:
        raise UnknownModel(f"the release {text!r} is retired: {RETIRED[text]}")
    if place := _bundled_place(text, stand_in):
        return place
    if path.is_dir():
        raise ReleaseError(f"{path} is no release: it holds no {RECORD}. Name another folder.")
    if text in PUBLISHED:
        importing = import_module(IMPORTING)
        return Place(
            importing.authors_release(text), f"authors' weights, from {PUBLISHED[text].origin}"
        )
    if (match := _HUB_ID.fullmatch(text)) and path.suffix not in _FILES:
        folder = download(match["repo"], match["revision"] or "main")
        return Place(folder, f"Hub {match['repo']}@{folder.name[:12]}")
    raise _unknown(text)


def _bundled_place(name: str, stand_in: bool) -> Place | None:
    """Where the bundled release of this name lies, or the one that stands in for it."""
    releases = bundled()
    substitutes = (release for release in releases.values() if release.stand_in_for == name)
    release = releases.get(name) or next(substitutes, None)
    if release is None:
        return None
    assert release.folder is not None
    if release.name == name:
        return Place(release.folder, "bundled")
    if not stand_in:
        raise UnknownModel(
            f"there are no weights of {name!r} yet. {release.name!r} stands in for them, trained "
            f"on {release.trained_on}; ask for it by its own name."
        )
    return Place(release.folder, "bundled", asked=name)


def cache_folder() -> Path:
    """Where releases made of authors' weights are kept: ``$ZOO_CACHE/authors``, else the user's."""
    if place := os.environ.get("ZOO_CACHE"):
        return Path(place).expanduser() / "authors"
    from platformdirs import user_cache_path

    return user_cache_path("music-separation-zoo") / "authors"


def _unknown(name: str) -> UnknownModel:
    if Path(name).suffix in _FILES or name.count("/") > 1:
        return UnknownModel(f"there is no file or folder {name!r}. Check the path.")
    architectures = catalog.list_models()
    if name in architectures:
        return UnknownModel(
            f"{name!r} is an architecture, not a release. zoo.create({name!r}) makes one, without "
            "trained weights; `zoo list` shows the releases."
        )
    if name in recorded():
        return UnknownModel(
            f"the weights of {name!r} do not come along, only its recipe and scores. "
            f"`zoo fit -c releases/{name}` makes them again."
        )
    hint = near(name, [*bundled(), *PUBLISHED, *architectures])
    return UnknownModel(
        f"no release named {name!r}.{hint} Expected a name that `zoo list` shows, the folder of a "
        "release, a checkpoint, or org/name[@revision] on the Hub."
    )


# ------------------------------------------------------------------------------- the Hub


def download(repo: str, revision: str) -> Path:
    """The folder of a release on the Hub, in the cache of ``huggingface_hub``.

    A full commit that lies there already needs no network; so does any revision without a network.

    Args:
        repo: ``org/name``.
        revision: a branch, a tag or a commit of 40 digits.

    Raises:
        UnknownModel: no such repository or revision, or no access to it.
        ReleaseError: the Hub cannot be reached, or the repository holds no release.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors

    where = f"{repo}@{revision}"
    if _COMMIT.fullmatch(revision) and (folder := _cached(repo, revision)):
        return folder
    unreachable: tuple[type[Exception], ...] = (OSError, _client_error())
    try:
        # Asks once.  A download asks five times and takes 23 s to learn that there is no network.
        hub.HfApi().model_info(repo, revision=revision, timeout=_PATIENCE_S)
        record = Path(hub.hf_hub_download(repo, RECORD, revision=revision))
        files = [RECORD, *read_record(record.parent).sha256]
        return Path(
            hub.snapshot_download(
                repo, revision=record.parent.name, allow_patterns=[_literal(f) for f in files]
            )
        )
    except ZooError:
        raise
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UnknownModel(
            f"the Hub has no {where}, or it is not public. Check the name; for a private "
            "repository set HF_TOKEN."
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise ReleaseError(f"{where} holds no {RECORD}: it is no release of the zoo.") from error
    except errors.HFValidationError as error:
        raise UnknownModel(f"{where} is no name of a repository: {error}") from error
    except unreachable as error:
        if folder := _cached(repo, revision):
            log.warning("%s: the Hub does not answer; taken from the cache", where)
            return folder
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ReleaseError(
            f"{where} is not in the cache and cannot be fetched from the Hub: {reason}\n"
            "Connect once, or copy the release here and name its folder; `zoo list` shows what "
            "needs no network."
        ) from error


def _client_error() -> type[Exception]:
    """What the Hub's HTTP client raises: HTTPError of httpx or, from version 2 on, of httpx2."""
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = HfHubHTTPError.__bases__[0]
    return base


def _cached(repo: str, revision: str) -> Path | None:
    """The folder of a release that lies complete in the Hub's cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        record = hf_hub_download(repo, RECORD, revision=revision, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    folder = Path(record).parent
    complete = all((folder / name).is_file() for name in read_record(folder).sha256)
    return folder if complete else None


def _literal(name: str) -> str:
    """A pattern of fnmatch that only ``name`` matches."""
    return re.sub(r"([*?[])", r"[\1]", name)


# ------------------------------------------------------------------------------- with torch


def __getattr__(name: str) -> Any:
    """The functions of `zoo.weights`, which import torch, on their first use."""
    if name in __all__:
        from zoo import weights

        return getattr(weights, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Place",
    "Release",
    "bundled",
    "describe",
    "download",
    "from_pretrained",
    "golden_mixture",
    "load_checkpoint",
    "load_release",
    "locate",
    "read_record",
    "read_release",
    "sha256_of",
    "strip_prefixes",
    "verify",
    "write_release",
]
