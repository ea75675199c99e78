"""A data set written to disk as 16-bit WAV files, in the folders of a data set that exists.

| layout | mixture and stems of a song |
| --- | --- |
| ``plain`` | ``train/NAME/``, ``valid/NAME/``, ``test/NAME/`` |
| ``musdb`` | ``train/NAME/`` (training and validation), ``test/NAME/``; as MUSDB18-HQ |
| ``dsd100`` | ``Mixtures/Dev/NAME/`` and ``Sources/Dev/NAME/``, the same with ``Test`` |

MUSDB18 and DSD100 have no folder for validation: its songs lie among those for training, where
whoever trains chooses them by name.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from zoo.audio import AudioWriter
from zoo.data.generated import GeneratedTrack
from zoo.data.track import SPLITS, Dataset, Split, Track
from zoo.errors import DatasetError

Layout = Literal["plain", "musdb", "dsd100"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
CARD = "card.json"

_BLOCK = 1 << 20
_STEP = np.float32(2.0**15)  # 16-bit samples are multiples of its inverse


def write(
    dataset: Dataset,
    folder: str | Path,
    layout: Layout = "plain",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes all songs and a card, `CARD`, that says how to make them again.

    The folder appears when it is complete, not before.  Stems are rounded to 16 bits first and
    then summed, so that the mixture on disk is the exact sum of the stems on disk.

    Args:
        dataset: any; a source without a stem is left out.
        folder: one that does not exist yet, or is empty; an empty one stays itself, as it may be
            the working directory or another disk.
        layout: one of `LAYOUTS`.
        progress: called with (songs written, songs in all).

    Returns:
        ``folder`` as a path.

    Raises:
        DatasetError: no such layout, the folder holds something, now or in the end, or two songs
            share a name.
        AudioFileError: a file cannot be written.
    """
    folder = Path(os.path.abspath(folder))  # "." has no name
    if layout not in LAYOUTS:
        raise DatasetError(f"no layout named {layout!r}; choose one of {', '.join(LAYOUTS)}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError(f"{folder} exists and is not an empty folder; name a new one.")
    songs: list[tuple[Split, Track]] = [(s, track) for s in SPLITS for track in dataset.tracks(s)]
    # The token keeps two runs apart.
    hidden = f".{folder.name[:40]}.{secrets.token_hex(4)}.partial"
    partial = (folder if folder.exists() else folder.parent) / hidden
    try:
        for count, (split, track) in enumerate(songs, 1):
            _write_song(track, *_places(partial, layout, split, track.name))
            if progress is not None:
                progress(count, len(songs))
        partial.mkdir(parents=True, exist_ok=True)
        card = json.dumps(_card(dataset, layout, songs), indent=1)
        (partial / CARD).write_text(card + "\n", encoding="utf-8")
        _give_name(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _give_name(partial: Path, folder: Path) -> None:
    """The written folder becomes ``folder``, or its contents move there from within it."""
    moved: list[Path] = []
    try:
        if partial.parent != folder:
            partial.rename(folder)
            return
        for path in sorted(partial.iterdir(), key=lambda path: path.name == CARD):  # the card last
            target = folder / path.name
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
            path.rename(target)
            moved.append(target)
    except OSError as error:
        for target in moved:
            target.rename(partial / target.name)  # and goes with it
        raise DatasetError(
            f"{folder} cannot take the songs ({error.strerror}); name a new one."
        ) from error


def _places(root: Path, layout: Layout, split: Split, name: str) -> tuple[Path, Path]:
    """Folders of a song's mixture and of its stems."""
    if layout == "plain":
        return (root / split / name,) * 2
    if layout == "musdb":
        return (root / ("test" if split == "test" else "train") / name,) * 2
    part = "Test" if split == "test" else "Dev"
    return root / "Mixtures" / part / name, root / "Sources" / part / name


def _write_song(track: Track, mixture_folder: Path, stem_folder: Path) -> None:
    if mixture_folder.exists():
        raise DatasetError(
            f"two songs are named {track.name!r} and would share a folder; rename one of them."
        )
    for folder in {mixture_folder, stem_folder}:
        folder.mkdir(parents=True)
    sources = [source for source in track.sources if track.has_stem(source)]
    for source in sources:
        with _open(stem_folder / f"{source}.wav", track) as writer:
            for start in range(0, track.samples, _BLOCK):
                writer.write(_rounded(track.read(source, start, _BLOCK)))
    with _open(mixture_folder / "mixture.wav", track) as writer:
        for start in range(0, track.samples, _BLOCK):
            if track.has_mixture:
                block = _rounded(track.read("mixture", start, _BLOCK))
            else:
                stems = [_rounded(track.read(source, start, _BLOCK)) for source in sources]
                block = np.asarray(np.sum(stems, axis=0, dtype=np.float32))
            writer.write(block)


def _open(path: Path, track: Track) -> AudioWriter:
    return AudioWriter(path, track.rate, track.channels, subtype="PCM_16")


def _rounded(signal: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.rint(signal * _STEP) / _STEP
    return rounded


def _card(dataset: Dataset, layout: Layout, songs: list[tuple[Split, Track]]) -> dict[str, Any]:
    return {
        "dataset": dataset.id,
        "layout": layout,
        "fingerprint": dataset.fingerprint(),
        "songs": [_entry(split, track) for split, track in songs],
    }


def _entry(split: Split, track: Track) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": track.name,
        "split": split,
        "rate": track.rate,
        "channels": track.channels,
        "samples": track.samples,
        "licence": track.licence,
    }
    if isinstance(track, GeneratedTrack) and track.song is not None:
        entry["song"] = track.song.card
    return entry
