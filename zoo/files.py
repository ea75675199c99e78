"""Small text files that are whole at every moment."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file under a hidden name, and give it its own when it is whole.

    Raises:
        OSError: it cannot be written; what was there before is left.
    """
    hidden = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        hidden.write_text(text, encoding="utf-8", newline="")
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
