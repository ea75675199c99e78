"""Checkpoints that asteroid wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.errors import ReleaseError
from zoo.models.asteroid import AsteroidModel, from_checkpoint


def asteroid(files: Sequence[Path], sources: Sequence[str] | None) -> AsteroidModel:
    """One file; what it separates is not in it."""
    if not sources:
        raise ReleaseError(
            "a file of asteroid does not say what it separates: --sources vocals,accompaniment."
        )
    if len(files) != 1:
        raise ReleaseError(f"asteroid has one file for a model; {len(files)} were given.")
    return from_checkpoint(files[0], sources)
