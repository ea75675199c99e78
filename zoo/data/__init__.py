"""Data sets by id.  Nothing but numpy is imported until one is opened."""

from __future__ import annotations

import importlib
import inspect
import os
from pathlib import Path
from typing import Any, cast

from zoo.data.track import Dataset, Track
from zoo.errors import DatasetError, near

__all__ = ["DATASETS", "Dataset", "Track", "open_dataset"]

DATASETS = {
    "mir1k": "zoo.data.mir1k:MIR1K",
    "dsd100": "zoo.data.dsd100:DSD100",
    "msd100": "zoo.data.dsd100:MSD100",
    "musdb18": "zoo.data.musdb18:MUSDB18",
    "musdb18hq": "zoo.data.musdb18:MUSDB18HQ",
    "folder": "zoo.data.folder:Folder",
    "manifest": "zoo.data.manifest:Manifest",
    "pool": "zoo.data.pool:Pool",
    "mix": "zoo.data.mix:Mix",
    "generated": "zoo.data.generated:GeneratedSongs",
    "scenes": "zoo.data.scenes:Scenes",
}


def open_dataset(id: str, root: str | Path | None = None, **arguments: Any) -> Dataset:
    """A data set by its id.

    Args:
        id: a key of `DATASETS`, such as ``mir1k``.
        root: its folder; else ``$ZOO_DATA/<id>``, else ``data/<id>``.
        arguments: of that data set; see its class.

    Raises:
        DatasetError: no such data set, no such argument, or nothing at ``root``.
    """
    if id not in DATASETS:
        raise DatasetError(
            f"no data set named {id!r}; there are {', '.join(DATASETS)}.{near(id, DATASETS)}"
        )
    module, name = DATASETS[id].split(":")
    kind = getattr(importlib.import_module(module), name)
    if kind.needs_root:
        arguments["root"] = _find_root(id, root, kind.takes_file)
    elif root is not None:
        arguments["root"] = Path(root)
    known = inspect.signature(kind).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
    for argument in arguments:
        if argument not in known and not takes_any:
            hint = near(argument, known) or f" It has {', '.join(known)}."
            raise DatasetError(f"data set {id!r} has no argument {argument!r}.{hint}")
    try:
        return cast(Dataset, kind(**arguments))
    except TypeError as error:
        if "argument" not in str(error) or "__init__" not in str(error):
            raise
        problem = str(error).split("__init__() ")[-1]
        raise DatasetError(f"data set {id!r}: {problem}; see `{module}.{name}`.") from error


def _find_root(id: str, root: str | Path | None, takes_file: bool) -> Path:
    if root is None:
        base = os.environ.get("ZOO_DATA")
        root = Path(base) / id if base else Path("data") / id
    folder = Path(os.path.expanduser(root))
    if not (folder.is_dir() or (takes_file and folder.is_file())):
        raise DatasetError(
            f"data set {id!r} was looked for in {folder}, which is no folder; pass its root, set "
            f"ZOO_DATA to a folder that holds {id}, or take the data set generated, which needs no "
            "download."
        )
    return folder
