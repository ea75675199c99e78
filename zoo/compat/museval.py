"""museval, the reference implementation of BSS Eval version 4, also where there is no ffmpeg.

`load` gives the package: stores, aggregation, ``evaluate``.  `metrics` gives its metrics alone,
which need numpy and scipy only; ``import museval.metrics`` would import musdb and stempeg too.
"""

from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from threading import RLock
from types import ModuleType

from zoo.compat import ffmpeg
from zoo.compat.ffmpeg import Mode, NoFfmpeg
from zoo.errors import MissingPackage

__all__ = ["Mode", "NoFfmpeg", "load", "metrics", "mode"]

_lock = RLock()


def mode() -> Mode:
    """How museval is here: ``"native"``, ``"without-ffmpeg"`` (reads no audio), ``"absent"``."""
    return ffmpeg.mode("museval")


def load() -> ModuleType:
    """The package museval.

    Raises:
        MissingPackage: it is not installed, or musdb or pandas, which it imports, are not.
    """
    return ffmpeg.load("museval")


def metrics() -> ModuleType:
    """The module ``museval.metrics``, loaded from its file without the package around it.

    Raises:
        MissingPackage: museval is not installed.
    """
    with _lock:
        return _metrics()


@cache
def _metrics() -> ModuleType:
    path = _path()
    spec = spec_from_file_location("zoo.compat._museval_metrics", path) if path else None
    if spec is None or spec.loader is None:
        raise MissingPackage("museval is not installed. This needs it: `pip install museval`.")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _path() -> Path | None:
    """File of the metrics, found without importing the package."""
    try:
        package = find_spec("museval")
    except ImportError:
        return None
    path = Path(package.origin).with_name("metrics.py") if package and package.origin else None
    return path if path and path.is_file() else None
