"""Pools of isolated sounds: loops, voices, single notes and hits, each of one source.

::

    root/<source>/**/*.<ext>

Training mixes from them; nothing is scored on them, and no song is coherent in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.data.files import USUAL_ORDER, FileDataset, audio_files, file_track, folders
from zoo.data.track import FileTrack, Part
from zoo.errors import DatasetError


@dataclass(frozen=True)
class PoolTrack(FileTrack):
    """One sound of one source, which knows nothing of any mixture."""

    def knows(self, source: str) -> bool:  # noqa: D102
        return source in self.sources


class Pool(FileDataset[tuple[str, Path]]):
    """A pool of isolated sounds; all of them train.

    Args:
        root: the folder.
        folders: source -> folders below ``root`` that hold its sounds, such as
            ``{drums: [drums, hits], bass: bass}``; None: each folder is a source of its name.
        licence: terms of the sounds, in words.
        skip_faulty: leave out files that cannot be used, with one warning each.

    Raises:
        DatasetError: a folder is not there, not below ``root`` or without audio, or a sound is in
            folders of two sources.
    """

    id = "pool"

    def __init__(
        self,
        root: str | Path,
        *,
        folders: Mapping[str, str | Sequence[str]] | None = None,
        licence: str = "",
        skip_faulty: bool = False,
    ) -> None:
        self.root, self.licence = Path(root), licence
        told = folders if folders is not None else _folders_by_name(self.root)
        usual = [source for source in USUAL_ORDER if source in told]
        self.sources = (*usual, *(source for source in told if source not in usual))
        sounds: dict[str, tuple[str, Path]] = {}
        for source in self.sources:
            names = told[source]
            for name in [names] if isinstance(names, str) else names:
                for path in _sounds(self.root, name, source):
                    sound = path.relative_to(self.root).as_posix()
                    if (other := sounds.setdefault(sound, (source, path))[0]) != source:
                        raise DatasetError(
                            f"pool: {path} is named for both {other} and {source}; a sound is of "
                            "one source: correct folders."
                        )
        super().__init__({"train": sounds, "valid": {}, "test": {}}, skip_faulty)

    def open(self, name: str, place: tuple[str, Path]) -> FileTrack:  # noqa: D102
        source, path = place
        stems = {source: (Part(path),)}
        return file_track(name, (source,), stems, licence=self.licence, kind=PoolTrack)


def _folders_by_name(root: Path) -> dict[str, str]:
    found = {folder.name.lower(): folder.name for folder in folders(root)}
    if not found:
        raise DatasetError(
            f"pool: {root} holds no folder; expected <source>/<sound>.wav, such as drums/kick.wav."
        )
    return found


def _sounds(root: Path, name: str, source: str) -> list[Path]:
    folder = root / name
    if not folder.is_relative_to(root):
        raise DatasetError(
            f"pool: {folder}, named for {source}, is not below {root}; name folders within it."
        )
    if not folder.is_dir():
        raise DatasetError(
            f"pool: {folder}, named for {source}, is no folder; correct root or folders."
        )
    sounds = audio_files(folder, "**/*")
    if not sounds:
        raise DatasetError(f"pool: {folder}, named for {source}, holds no audio file; add some.")
    return sounds
