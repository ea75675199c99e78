"""torchaudio beside any torch.

Its compiled part fits few builds of torch: with a CPU build it raises ``OSError``, with another
CUDA ``RuntimeError``, and ``import torchaudio`` fails although nearly all of it is Python.  Both
come from the one submodule ``torchaudio._extension``, and the rest tolerates that it is empty.

What works in the mode ``"pure"``: resampling, spectrograms, filters (slowly), loudness, models and
pipelines.  What does not: ``forced_align``, ``rnnt_loss``, the CUDA CTC decoder.
"""

import importlib
import logging
import sys
from collections.abc import Callable
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from threading import RLock
from types import ModuleType
from typing import Any, Literal

from zoo.errors import MissingPackage

Mode = Literal["native", "pure", "absent"]

_log = logging.getLogger(__name__)
_lock = RLock()
_found: tuple[Mode, ModuleType | None, str] | None = None


def mode() -> Mode:
    """How torchaudio is here: whole, without its compiled part, or not at all."""
    return _once()[0]


def load() -> ModuleType:
    """The package torchaudio.

    Call this before importing any package that imports torchaudio itself.

    Raises:
        MissingPackage: it is not installed, or cannot be used even without its compiled part.
    """
    _, package, reason = _once()
    if package is None:
        raise MissingPackage(f"{reason} This needs it: `pip install torchaudio`.")
    return package


def _once() -> tuple[Mode, ModuleType | None, str]:
    global _found
    with _lock:
        if _found is None:
            _found = _import()
            _log.debug("torchaudio: %s. %s", _found[0], _found[2])
        return _found


def _import() -> tuple[Mode, ModuleType | None, str]:
    try:
        return "native", importlib.import_module("torchaudio"), ""
    except ModuleNotFoundError as error:
        if error.name == "torchaudio":
            return "absent", None, "torchaudio is not installed."
        reason = f"torchaudio cannot be imported: {_first_line(error)}."
    except (ImportError, OSError, RuntimeError) as error:
        reason = f"torchaudio cannot be imported: {_first_line(error)}."
    if not _is_known_layout():
        return "absent", None, reason
    _forget()
    sys.modules["torchaudio._extension"] = _without_extension()
    try:
        return "pure", importlib.import_module("torchaudio"), reason
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        _forget()
        return "absent", None, f"{reason} Nor without its compiled part: {_first_line(error)}."


def _is_known_layout() -> bool:
    """Whether this is a version whose parts are where we put the stand-in."""
    try:
        return int(version("torchaudio").partition(".")[0]) < 3
    except (PackageNotFoundError, ValueError):
        return False


def _forget() -> None:
    """Undo a failed import, so that the next one starts anew."""
    for name in [*sys.modules]:
        if name == "torchaudio" or name.startswith("torchaudio."):
            del sys.modules[name]


def _without_extension() -> ModuleType:
    """What ``torchaudio._extension`` would be, had torchaudio been built without compiled parts."""
    module: Any = ModuleType("torchaudio._extension")
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False
    module._IS_ALIGN_AVAILABLE = False
    module._check_cuda_version = lambda: None
    module.fail_if_no_align = _fail_if_no_align
    return module  # type: ignore[no-any-return]


def _fail_if_no_align(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(
            f"{function.__name__} needs torchaudio's compiled part, which does not fit this torch."
        )

    return fail


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
