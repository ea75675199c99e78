"""Small text files that are whole at every moment."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_ABANDONED_S = 3600.0  # a text is written in a moment; an older one is of a process that died


def write_whole(path: Path, text: str) -> None:
    """Write a file under a hidden name, and give it its own when it is whole.

    Raises:
        OSError: it cannot be written; what was there before is left.
    """
    hidden = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        hidden.write_text(text, encoding="utf-8", newline="")
        hidden.replace(path)
    except OSError as error:
        if error.filename is None:
            raise
        # It names the hidden file.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            hidden.unlink()


def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes have left of `write_whole`, and nothing of living ones."""
    for path in folder.glob(".*.partial"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()
        except FileNotFoundError:  # it has its name now
            pass
