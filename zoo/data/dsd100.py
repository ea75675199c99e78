"""DSD100 and its forerunner MSD100: 100 professionally mixed songs in four stems.

::

    root/Mixtures/{Dev,Test}/<NNN - Artist - Title>/mixture.wav
    root/Sources/{Dev,Test}/<NNN - Artist - Title>/{bass,drums,other,vocals}.wav

A. Liutkus et al., "The 2016 Signal Separation Evaluation Campaign", LVA/ICA 2017 (DSD100);
N. Ono et al., "The 2015 Signal Separation Evaluation Campaign", LVA/ICA 2015 (MSD100).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.data.files import (
    FileDataset,
    Other,
    as_difference,
    check_word,
    complete,
    file_track,
    folders,
    hold_out,
)
from zoo.data.track import FileTrack
from zoo.data.tracklist import entries, licence_of, warn_of_absent
from zoo.errors import DatasetError

PARTS = ("Dev", "Test")


class DSD100(FileDataset[str]):
    """DSD100: Dev trains, Test tests.

    Args:
        root: the folder that holds ``Mixtures`` and ``Sources``.
        valid: Dev songs to validate on instead of training: names, numbers, or how many (see
            `zoo.data.files.choose`).  The papers trained on all of Dev, or do not say; 0 does so.
        other: ``stem``, as the files have it; ``difference``, what the stored mixture has beyond
            the three other stems, so that the sources sum to it.
        skip_faulty: leave out songs that cannot be used, with one warning each.

    Notes:
        Accompaniment is the sum of bass, drums and other, as the campaigns score it.

    Raises:
        DatasetError: one of the four folders is not there, or no song named in ``valid``.
    """

    id = "dsd100"
    sources: tuple[str, ...] = ("vocals", "drums", "bass", "other")

    def __init__(
        self,
        root: str | Path,
        *,
        valid: int | str | Sequence[int | str] = 8,
        other: Other = "stem",
        skip_faulty: bool = False,
    ) -> None:
        check_word("other", other, Other)
        self.root, self.other = Path(root), other
        dev, test = (self._names(part) for part in PARTS)
        train, held = hold_out(dev, valid)
        super().__init__({"train": train, "valid": held, "test": test}, skip_faulty)
        known = [entry for entry in entries().values() if entry.dsd100]
        warn_of_absent(self.id, self.root, [*dev, *test], known)

    def open(self, name: str, place: str) -> FileTrack:  # noqa: D102
        stem_folder = self.root / "Sources" / place / name
        files = {source: stem_folder / f"{source}.wav" for source in self.sources}
        files["mixture"] = self.root / "Mixtures" / place / name / "mixture.wav"
        stems, mixture = complete(name, files, self.sources)
        if self.other == "difference":
            stems = as_difference(stems, mixture)
        return file_track(name, self.sources, stems, mixture, licence=licence_of(name))

    def _names(self, part: str) -> dict[str, str]:
        """Songs that have a folder in either tree, with the part in which they lie."""
        found: set[str] = set()
        for tree in ("Mixtures", "Sources"):
            folder = self.root / tree / part
            if not folder.is_dir():
                raise DatasetError(
                    f"{self.id}: {folder} is no folder; {self.root} should hold Mixtures and "
                    "Sources with Dev and Test in each. Unpack the archive again, or correct root."
                )
            found |= {song.name for song in folders(folder)}
        return dict.fromkeys(sorted(found), part)


class MSD100(DSD100):
    """MSD100, which lies in the same folders; arguments as for `DSD100`."""

    id = "msd100"
