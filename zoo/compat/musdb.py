"""musdb, the package, also where there is no ffmpeg.

Without ffmpeg everything works but reading audio: ``musdb.DB`` raises `NoFfmpeg` when it meets a
track.  `zoo.data` reads MUSDB18 without musdb.
"""

from types import ModuleType

from zoo.compat import ffmpeg
from zoo.compat.ffmpeg import Mode, NoFfmpeg

__all__ = ["Mode", "NoFfmpeg", "load", "mode"]


def mode() -> Mode:
    """How musdb is here: ``"native"``, ``"without-ffmpeg"`` (no reading of audio), ``"absent"``."""
    return ffmpeg.mode("musdb")


def load() -> ModuleType:
    """The package musdb.

    Raises:
        MissingPackage: it is not installed.
    """
    return ffmpeg.load("musdb")
