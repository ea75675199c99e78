"""musdb and museval without ffmpeg: a stand-in for stempeg, which both import.

``import stempeg`` raises where the programs ffmpeg and ffprobe are not on the path, although
museval never needs them, and musdb only to read audio.
"""

import importlib
import sys
from threading import RLock
from types import ModuleType
from typing import Literal

from zoo.errors import MissingPackage, ZooError

Mode = Literal["native", "without-ffmpeg", "absent"]

_lock = RLock()
_found: dict[str, tuple[Mode, ModuleType | None, str]] = {}


class NoFfmpeg(ZooError, AttributeError):
    """Something of stempeg that needs the programs ffmpeg and ffprobe was asked for."""


def mode(name: str) -> Mode:
    """How the package ``name`` is here: whole, without reading audio, or not at all."""
    return _once(name)[0]


def load(name: str) -> ModuleType:
    """The package ``name``, musdb or museval.

    Raises:
        MissingPackage: it is not installed, or cannot be imported even without ffmpeg.
    """
    _, package, reason = _once(name)
    if package is None:
        raise MissingPackage(f"{reason} This needs it: `pip install {name}`.")
    return package


def _once(name: str) -> tuple[Mode, ModuleType | None, str]:
    with _lock:
        if name not in _found:
            _found[name] = _import(name)
        return _found[name]


def _import(name: str) -> tuple[Mode, ModuleType | None, str]:
    stood_in = _prepare()
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        reason = "is not installed" if error.name == name else f"cannot be imported ({error})"
        return "absent", None, f"{name} {reason}."
    return ("without-ffmpeg" if stood_in else "native"), package, ""


def _prepare() -> bool:
    """Put the stand-in in place of stempeg if it cannot be imported; whether it is in place."""
    try:
        stempeg = importlib.import_module("stempeg")
    except (ImportError, RuntimeError):
        # Its parts may have been imported before it failed.
        for name in [name for name in sys.modules if name.startswith("stempeg.")]:
            del sys.modules[name]
        stempeg = sys.modules["stempeg"] = _NoStempeg("stempeg")
    return isinstance(stempeg, _NoStempeg)


class _NoStempeg(ModuleType):
    """Stands for stempeg where it cannot be imported, and says so when it is used."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # what the import system and inspection look for
            raise AttributeError(name)
        raise NoFfmpeg(
            "musdb reads audio with the programs ffmpeg and ffprobe, which are not both on the "
            "PATH; install ffmpeg, or read the data set with zoo.data, which needs neither."
        )
