"""Songs as files: finding them, dealing them out to splits, opening them as tracks."""

from __future__ import annotations

import fnmatch
import logging
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, Literal, TypeVar, get_args

import numpy as np

from zoo.audio import SUFFIXES
from zoo.data.track import Dataset, FileTrack, Part, Split, Track, check_split, header
from zoo.errors import DatasetError, near, sentence

log = logging.getLogger(__name__)

Place = TypeVar("Place")
Missing = Literal["error", "silent", "unknown"]
Other = Literal["stem", "difference"]
USUAL_ORDER = ("vocals", "drums", "bass", "other", "accompaniment")


class FileDataset(Dataset, Generic[Place]):
    """Songs in files, opened when a split is asked for.

    Args:
        songs: split -> name of a song -> where it lies, which `open` takes.
        skip_faulty: leave out songs that cannot be used, with one warning each.
    """

    rate: int | None = None

    def __init__(
        self, songs: Mapping[Split, Mapping[str, Place]], skip_faulty: bool = False
    ) -> None:
        self.songs, self.skip_faulty = songs, skip_faulty
        self._tracks: dict[Split, list[Track]] = {}

    @abstractmethod
    def open(self, name: str, place: Place) -> FileTrack:
        """A song as a track.

        Raises:
            DatasetError: it is incomplete or inconsistent; song and file are named.
        """

    def tracks(self, split: Split) -> list[Track]:  # noqa: D102
        check_split(split)
        if split not in self._tracks:
            found: list[Track] = []
            for name, track in self.each(split):
                if isinstance(track, Track):
                    found.append(track)
                elif self.skip_faulty:
                    log.warning("song %s is skipped: %s", name, track)
                else:
                    raise track
            self._tracks[split] = found
        return list(self._tracks[split])

    def each(self, split: Split) -> Iterator[tuple[str, Track | DatasetError]]:  # noqa: D102
        check_split(split)
        for name, place in self.songs[split].items():
            try:
                yield name, self.open(name, place)
            except DatasetError as error:
                yield name, error
            except OSError as error:
                yield name, DatasetError(f"{name}: {sentence(error)}")


def file_track(
    name: str,
    sources: Sequence[str],
    stems: Mapping[str, tuple[Part, ...]],
    mixture: Part | None = None,
    *,
    unknown: frozenset[str] = frozenset(),
    licence: str = "",
    pads: bool = False,
    kind: type[FileTrack] = FileTrack,
) -> FileTrack:
    """A track of files that agree in rate, channels and length.

    Args:
        name: of the track, as the further ones that `FileTrack` has.
        sources: see there.
        stems: see there.
        mixture: see there.
        unknown: see there.
        licence: see there.
        pads: take shorter files as silent in the end, and single channels for all of them.
        kind: of track.

    Raises:
        DatasetError: there is no file, one cannot be read, two do not agree, or the sound of a
            source is in none of them.
    """
    parts = [part for stem in stems.values() for part in stem]
    if mixture is not None:
        parts.append(mixture)
    if not parts:
        raise DatasetError(
            f"song {name!r} has no audio file of {', '.join(sources)}; "
            "add its stems, or take it out."
        )
    rate, channels, samples = _common_header(name, parts, pads)
    track = kind(
        name=name,
        rate=rate,
        channels=channels,
        samples=samples,
        sources=tuple(sources),
        unknown=unknown,
        licence=licence,
        stems=stems,
        mixture=mixture,
        pads=pads,
    )
    absent = [source for source in sources if not track.has_stem(source)]
    if absent and not track.knows("mixture"):
        raise DatasetError(
            f"song {name!r}: {', '.join(absent)} is unknown, and neither a mixture file nor "
            "another unknown stem holds its sound; name that stem unknown too, or add the mixture."
        )
    return track


def unknown_within(
    stems: Mapping[str, tuple[Part, ...]], unknown: frozenset[str]
) -> frozenset[str]:
    """The unknown sources, and ``other`` if it holds the sound of one that has no stem."""
    return unknown | {"other"} if unknown.difference(stems) and stems.get("other") else unknown


def _common_header(song: str, parts: Iterable[Part], pads: bool) -> tuple[int, int, int]:
    """Rate, channels and samples, which all files must share."""
    first: Path | None = None
    for part in parts:
        found = header(part.path, f"song {song!r}", part.stream)
        channels = found.channels if part.channels is None else len(part.channels)
        facts = (found.rate, channels, found.samples)
        if first is None:
            first, expected = part.path, facts
            continue
        may_pad = pads and (channels == expected[1] or 1 in (channels, expected[1]))
        if may_pad and found.rate == expected[0]:
            expected = (found.rate, max(channels, expected[1]), max(found.samples, expected[2]))
            continue
        for what, a, b in zip(("Hz", "channels", "samples"), facts, expected, strict=True):
            if a != b:
                note = f" ({found.notes[0]})" if found.notes else ""
                raise DatasetError(
                    f"song {song!r}: {part.path} has {a} {what} where {first.name} has {b}{note}; "
                    "make them equal, or leave the song out with skip_faulty."
                )
    return expected


def complete(
    song: str, files: Mapping[str, Path], sources: Sequence[str]
) -> tuple[dict[str, tuple[Part, ...]], Part]:
    """The stems and the mixture of a song whose files all have to be there.

    Raises:
        DatasetError: one is not; it is named, with what an interrupted download left of it.
    """
    for source, path in files.items():
        if not path.is_file():
            beside = sorted(p.name for p in path.parent.glob("*")) if path.parent.is_dir() else []
            raise DatasetError(
                f"song {song!r} has no {source}: {path} was expected, and there is "
                f"{', '.join(beside) or 'nothing'}; copy or download the song again, or leave it "
                "out with skip_faulty."
            )
    return {s: (Part(files[s]),) for s in sources}, Part(files["mixture"])


def as_difference(
    stems: Mapping[str, tuple[Part, ...]], mixture: Part
) -> dict[str, tuple[Part, ...]]:
    """The stems with ``other`` as what the mixture holds beyond the rest.

    Their sum is then the stored mixture, and the accompaniment what it holds beyond the vocals.
    """
    rest = [part for source, parts in stems.items() if source != "other" for part in parts]
    return {**stems, "other": (mixture, *(replace(part, gain=-part.gain) for part in rest))}


def choose(names: Iterable[str], asked: int | str | Sequence[int | str]) -> set[str]:
    """Some of the songs, such as those to validate on.

    Args:
        names: of the songs.
        asked: their names, or patterns of names such as ``Leaf - *``, or the numbers with which
            they begin; or how many, of which at most a quarter is taken.  These are drawn alike at
            all times: from the sorted names by NumPy's legacy generator of seed 1337, as Lluís et
            al. (2019) draw their 25 of MUSDB18's 100 training songs.

    Raises:
        DatasetError: no song has such a name or number.
    """
    names = sorted(names)
    if isinstance(asked, int):
        if asked < 0:
            raise DatasetError(f"{asked} songs are asked for; ask for 0 or more, or give names.")
        n = min(asked, len(names) // 4)
        if n < asked:
            log.warning(
                "%d songs are taken to validate on, not %d: at most a quarter of the %d there are",
                n,
                asked,
                len(names),
            )
        drawn = np.random.RandomState(1337).permutation(len(names))[:n]  # as choice draws
        return {names[i] for i in drawn}
    taken: set[str] = set()
    for song in [asked] if isinstance(asked, str) else asked:
        taken |= _named(names, song)
    return taken


def _named(names: Sequence[str], song: int | str) -> set[str]:
    song = str(song)
    if song in names:
        return {song}
    found = {
        name
        for name in names
        if (numbered := re.fullmatch(r"(\d{3}) - (.*)", name))
        and (numbered[2] == song or (song.isdigit() and int(numbered[1]) == int(song)))
        or fnmatch.fnmatchcase(name, song)
    }
    if not found:
        raise unknown_song(song, names)
    return found


def unknown_song(song: str, names: Iterable[str]) -> DatasetError:
    """The error of a song that is none of ``names``."""
    return DatasetError(f"no song named {song!r}.{near(song, names) or ' Check its spelling.'}")


def hold_out(
    songs: Mapping[str, Place], asked: int | str | Sequence[int | str]
) -> tuple[dict[str, Place], dict[str, Place]]:
    """The songs that are left, and those that `choose` takes."""
    taken = choose(songs, asked)
    return (
        {name: place for name, place in songs.items() if name not in taken},
        {name: place for name, place in songs.items() if name in taken},
    )


def is_audio(path: Path) -> bool:
    """Whether a file is audio, by its name."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def audio_files(folder: Path, pattern: str = "*") -> list[Path]:
    """The audio files that lie in a folder, sorted; ``**/*``: in its folders as well."""
    return sorted(path for path in folder.glob(pattern) if is_audio(path))


def folders(root: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones are none."""
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def check_word(what: str, value: str, kind: object) -> None:
    """Raise a `DatasetError` for a value that is none of the words of a `Literal`."""
    if value not in get_args(kind):
        raise DatasetError(f"{what}={value!r}; choose one of {', '.join(get_args(kind))}.")
