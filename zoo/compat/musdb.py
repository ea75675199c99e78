"""musdb, the package, also where there is no ffmpeg.

Without ffmpeg everything works but reading audio: ``musdb.DB`` raises `NoFfmpeg` when it meets a
track.  `zoo.data` reads MUSDB18 without musdb.
"""

from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import yaml

from zoo.compat import ffmpeg
from zoo.compat.ffmpeg import Mode, NoFfmpeg
from zoo.errors import MissingPackage

__all__ = ["Mode", "NoFfmpeg", "load", "mode", "validation_tracks"]


def mode() -> Mode:
    """How musdb is here: ``"native"``, ``"without-ffmpeg"`` (no reading of audio), ``"absent"``."""
    return ffmpeg.mode("musdb")


def load() -> ModuleType:
    """The package musdb.

    Raises:
        MissingPackage: it is not installed.
    """
    return ffmpeg.load("musdb")


def validation_tracks() -> tuple[str, ...]:
    """The 14 training songs to validate on, as musdb names them; read without importing it.

    Raises:
        MissingPackage: it is not installed, or this version does not name them.
    """
    spec = find_spec("musdb")
    where = Path(spec.origin).parent / "configs" / "mus.yaml" if spec and spec.origin else None
    try:
        assert where is not None
        names = yaml.safe_load(where.read_text(encoding="utf-8"))["validation_tracks"]
        return tuple(map(str, names))
    except (AssertionError, OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise MissingPackage(
            "musdb, which names MUSDB18's 14 validation tracks, is not installed, or is another "
            "version than 0.4: `pip install musdb`, or choose them yourself (valid)."
        ) from error
