"""MUSDB18: 150 songs in four stems, compressed (``musdb18``) or as they were (``musdb18hq``).

::

    musdb18     root/{train,test}/<Artist - Title>.stem.mp4
    musdb18hq   root/{train,test}/<Artist - Title>/{mixture,vocals,drums,bass,other}.wav

A ``.stem.mp4`` holds five AAC streams.  They are rounded to 16 bit, as the package musdb decodes
them: without that the streams, which end at 20 kHz, leave BSS Eval's equations nearly singular.
The stored mixture is a stream, or a master, of its own and not the sum of the stems (15 and 32 dB
SDR on two songs): what trains is the sum, what is scored the stored mixture.

Z. Rafii et al., "The MUSDB18 corpus for music separation", 2017, doi 10.5281/zenodo.1117372.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.compat import musdb
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
from zoo.data.track import FileTrack, Part, header
from zoo.data.tracklist import entries, is_dsd100_test, licence_of, song_key, warn_of_absent
from zoo.errors import DatasetError

SUFFIX = ".stem.mp4"
STREAMS = {"mixture": 0, "drums": 1, "bass": 2, "other": 3, "vocals": 4}


class MUSDB18(FileDataset[Path]):
    """MUSDB18 in its compressed containers.

    Args:
        root: the folder that holds ``train`` and ``test``.
        valid: training songs to validate on instead: ``musdb``, the 14 that the package musdb
            names; ``none``; names; or how many (see `zoo.data.files.choose`).  25 gives the songs
            of Lluís et al. 2019; those of the Wave-U-Net paper, 25 as well, are not published.
        without_dsd100_test: leave out the training songs that DSD100 tests on, 27 of all.
        other: ``stem``, as the files have it; ``difference``, what the stored mixture has beyond
            the three other stems.  The sources then sum to it and the accompaniment is mixture
            minus vocals, as Lluís et al. 2019 train their singing voice model; their model of all
            instruments and Wave-U-Net train on sums of stems.
        skip_faulty: leave out songs that cannot be used, with one warning each.

    Raises:
        DatasetError: no folder ``train`` or ``test``, no song there, or none named in ``valid``.
        MissingPackage: ``valid`` is ``musdb``, and that package is not installed.
    """

    id = "musdb18"
    sources: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    form = f"<Artist - Title>{SUFFIX}"

    def __init__(
        self,
        root: str | Path,
        *,
        valid: int | str | Sequence[str] = "musdb",
        without_dsd100_test: bool = False,
        other: Other = "stem",
        skip_faulty: bool = False,
    ) -> None:
        check_word("other", other, Other)
        self.root, self.other = Path(root), other
        train, test = self._found("train"), self._found("test")
        if not train and not test:
            raise DatasetError(
                f"{self.id}: no song in {self.root}; expected {{train,test}}/{self.form}."
            )
        warn_of_absent(self.id, self.root, [*train, *test], entries().values())
        train, held = hold_out(train, self._chosen(train, valid))
        if without_dsd100_test:
            train, held = _without_dsd100_test(train), _without_dsd100_test(held)
        super().__init__({"train": train, "valid": held, "test": test}, skip_faulty)

    def open(self, name: str, place: Path) -> FileTrack:  # noqa: D102
        stems, mixture = self._files(name, place)
        if self.other == "difference":
            stems = as_difference(stems, mixture)
        return file_track(name, self.sources, stems, mixture, licence=licence_of(name))

    def _found(self, part: str) -> dict[str, Path]:
        folder = self.root / part
        if not folder.is_dir():
            raise DatasetError(
                f"{self.id}: {folder} is no folder; {self.root} should hold train and test. Unpack "
                "the archive again, or correct root."
            )
        return self._songs(folder)

    def _chosen(
        self, train: Mapping[str, Path], valid: int | str | Sequence[str]
    ) -> int | str | Sequence[str]:
        if valid == "none":
            return 0
        if valid != "musdb":
            return valid
        keys = {song_key(name) for name in musdb.validation_tracks()}
        return [name for name in train if song_key(name) in keys]

    def _songs(self, folder: Path) -> dict[str, Path]:
        paths = sorted(p for p in folder.glob(f"*{SUFFIX}") if not p.name.startswith("."))
        if not paths and any((song / "mixture.wav").is_file() for song in folders(folder)):
            raise DatasetError(
                f"musdb18: {folder} holds folders of wav files, which is musdb18hq; open it so."
            )
        return {path.name.removesuffix(SUFFIX): path for path in paths}

    def _files(self, name: str, place: Path) -> tuple[dict[str, tuple[Part, ...]], Part]:
        parts = {source: Part(place, stream=n, bits=16) for source, n in STREAMS.items()}
        if damage := header(place, f"song {name!r}", 0).notes:
            raise DatasetError(
                f"song {name!r}: {place} is {damage[0]}; copy or download it again, or leave it "
                "out with skip_faulty."
            )
        return {source: (parts[source],) for source in self.sources}, parts["mixture"]


class MUSDB18HQ(MUSDB18):
    """MUSDB18 as uncompressed files; arguments as for `MUSDB18`."""

    id = "musdb18hq"
    form = "<Artist - Title>/{mixture,vocals,drums,bass,other}.wav"

    def _songs(self, folder: Path) -> dict[str, Path]:
        if any(folder.glob(f"*{SUFFIX}")) and not folders(folder):
            raise DatasetError(
                f"musdb18hq: {folder} holds {SUFFIX} files, which is musdb18; open it so."
            )
        return {path.name: path for path in folders(folder)}

    def _files(self, name: str, place: Path) -> tuple[dict[str, tuple[Part, ...]], Part]:
        files = {source: place / f"{source}.wav" for source in STREAMS}
        return complete(name, files, self.sources)


def _without_dsd100_test(songs: Mapping[str, Path]) -> dict[str, Path]:
    return {name: path for name, path in songs.items() if not is_dsd100_test(name)}
