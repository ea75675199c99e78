"""Any folder of songs with one file per stem.

::

    root/<song>/<stem>.<ext>
    root/{train,valid,test}/<song>/<stem>.<ext>

The file name without its ending, in lower case, is the source.  ``mixture`` is the stored mixture;
without one the mixture is the sum of the stems.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from zoo.data.track import SPLITS, Dataset, FileTrack, Part, Split, Track, check_split, header
from zoo.errors import DatasetError

log = logging.getLogger(__name__)

Missing = Literal["error", "silent", "unknown"]
USUAL_ORDER = ("vocals", "drums", "bass", "other", "accompaniment")
SUFFIXES = frozenset(
    ".wav .wave .flac .aif .aiff .aifc .caf .w64 .rf64 .ogg .oga .opus .mp3 .m4a .aac .wma".split()
)
FACTS = "song.json"


class Folder(Dataset):
    """Songs in folders, one file per stem.

    A source of which a song has no file is, by the first of these that says so:

    1. ``silent`` or ``unknown``, the arguments;
    2. ``"silent"``, ``"unknown"`` or ``"missing_stems"`` (unknown as long as there is no such
       file) in the song's ``song.json``, each a list of sources;
    3. ``missing``, for all songs alike.

    Silent sources are zeros.  A source that is unknown without a file is taken to be inside
    ``other``, so ``other`` becomes unknown with it.  A source can be unknown although it has a
    file: then it is only part of sums.  ``song.json`` may also name a ``"licence"`` (or
    ``"license"``).

    Args:
        root: the folder.
        sources: what the mixtures are the sums of; None: every stem that some song has.  Further
            files are left alone, and are no part of the mixture.
        valid: songs to validate on, by name, taken out of training.
        test: songs to test on, by name; not where there is a folder ``test``.
        missing: ``error``, ``silent`` or ``unknown``.
        silent, unknown: song -> sources.
        skip_faulty: leave out songs that cannot be used, with one warning each.
        licence: terms of the songs that do not tell their own.

    Raises:
        DatasetError: no song in ``root``, or an argument names a song that is not there.
    """

    id = "folder"
    rate: int | None = None

    def __init__(
        self,
        root: str | Path,
        *,
        sources: Sequence[str] | None = None,
        valid: Sequence[str] = (),
        test: Sequence[str] = (),
        missing: Missing = "error",
        silent: Mapping[str, Sequence[str]] | None = None,
        unknown: Mapping[str, Sequence[str]] | None = None,
        skip_faulty: bool = False,
        licence: str = "",
    ) -> None:
        if missing not in get_args(Missing):
            raise DatasetError(
                f"missing={missing!r}; choose one of {', '.join(get_args(Missing))}."
            )
        self.root = Path(root)
        self.missing, self.skip_faulty, self.licence = missing, skip_faulty, licence
        self.silent, self.unknown = dict(silent or {}), dict(unknown or {})
        self._songs = _split_songs(self.root, valid, test)
        names = {song.name for songs in self._songs.values() for song in songs}
        _expect_songs(names, [*self.silent, *self.unknown])
        self.sources = tuple(sources) if sources is not None else self._find_sources()
        if "mixture" in self.sources:
            raise DatasetError("mixture is no source but their sum; take it out of the sources.")
        self._tracks: dict[str, list[Track]] = {}

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
        for song in self._songs[split]:
            try:
                yield song.name, self._track(song)
            except DatasetError as error:
                yield song.name, error

    def _find_sources(self) -> tuple[str, ...]:
        """Every stem that some song has, the usual ones first."""
        found: set[str] = set()
        for songs in self._songs.values():
            for song in songs:
                found |= {stem.stem.lower() for stem in _audio_files(song)} - {"mixture"}
        if not found:
            raise DatasetError(
                f"no song in {self.root}: expected <song>/<stem>.wav, such as song/vocals.wav."
            )
        usual = [source for source in USUAL_ORDER if source in found]
        return (*usual, *sorted(found.difference(usual)))

    def _track(self, song: Path) -> FileTrack:
        files = _stems(song)
        facts = _read_facts(song)
        stems, unknown = self._roles(song, files, facts)
        mixture = files.get("mixture")
        used = [*(path for path in stems.values() if path), *([mixture] if mixture else [])]
        if not used:
            raise DatasetError(
                f"song {song.name!r}: {song} holds no audio file of {', '.join(self.sources)}; "
                "add its stems or remove the folder."
            )
        rate, channels, samples = _common_header(song.name, used)
        track = FileTrack(
            name=song.name,
            rate=rate,
            channels=channels,
            samples=samples,
            sources=self.sources,
            unknown=unknown,
            licence=facts.licence or self.licence,
            stems={s: (Part(path),) if path else () for s, path in stems.items()},
            mixture=Part(mixture) if mixture else None,
        )
        if not track.knows("mixture"):
            absent = ", ".join(s for s in self.sources if not track.has_stem(s))
            raise DatasetError(
                f"song {song.name!r}: {absent} is unknown, and neither a mixture file nor another "
                "unknown stem holds its sound; name that stem unknown too, or add the mixture."
            )
        return track

    def _roles(
        self, song: Path, files: Mapping[str, Path], facts: Facts
    ) -> tuple[dict[str, Path | None], frozenset[str]]:
        """The file of each source, None where it is silent, and which sources are unknown."""
        told_silent = self._told(song.name, self.silent)
        told_unknown = self._told(song.name, self.unknown)
        told_by_song = facts.unknown | facts.missing.difference(files)
        unknown = told_unknown | ((told_by_song & set(self.sources)) - told_silent)
        silent = told_silent | (facts.silent - told_unknown)
        stems: dict[str, Path | None] = {}
        for source in self.sources:
            if source in files:
                stems[source] = files[source]
            elif source in unknown:
                continue
            elif source in silent or self.missing == "silent":
                stems[source] = None
            elif self.missing == "unknown":
                unknown |= {source}
            else:
                raise DatasetError(
                    f"song {song.name!r} has no {source}: {song / source}.* was expected beside "
                    f"{', '.join(p.name for p in files.values()) or 'nothing'}; add the file, or "
                    f"declare {source} silent or unknown."
                )
        if any(source not in stems for source in unknown) and stems.get("other"):
            unknown |= {"other"}
        return stems, frozenset(unknown)

    def _told(self, song: str, told: Mapping[str, Sequence[str]]) -> set[str]:
        sources = set(told.get(song, ()))
        if stray := sources.difference(self.sources):
            raise DatasetError(
                f"song {song!r}: {', '.join(sorted(stray))} is declared but is no source; "
                f"the sources are {', '.join(self.sources)}."
            )
        return sources


@dataclass(frozen=True)
class Facts:
    """What a song says about itself in its ``song.json``."""

    silent: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    licence: str = ""


def _read_facts(song: Path) -> Facts:
    path = song / FACTS
    if not path.is_file():
        return Facts()
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        silent, unknown, missing = (
            frozenset(_strings(facts.get(key, [])))
            for key in ("silent", "unknown", "missing_stems")
        )
        licence = str(facts.get("licence") or facts.get("license") or "")
    except (ValueError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"song {song.name!r}: {path} is no JSON object with lists of sources under silent, "
            f"unknown or missing_stems ({error}); correct it."
        ) from error
    return Facts(silent, unknown, missing, licence)


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{value!r} is no list of names")
    return value


def _audio_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _stems(song: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in _audio_files(song):
        stem = path.stem.lower()
        if stem in files:
            raise DatasetError(
                f"song {song.name!r}: {files[stem].name} and {path.name} are both its {stem}; "
                "keep one."
            )
        files[stem] = path
    return files


def _common_header(song: str, files: Iterable[Path]) -> tuple[int, int, int]:
    """Rate, channels and samples, which all files must share."""
    first: Path | None = None
    for path in files:
        found = header(path, f"song {song!r}")
        facts = (found.rate, found.channels, found.samples)
        if first is None:
            first, expected = path, facts
            continue
        for what, a, b in zip(("Hz", "channels", "samples"), facts, expected, strict=True):
            if a != b:
                raise DatasetError(
                    f"song {song!r}: {path} has {a} {what} where {first.name} has {b}; "
                    "make them equal, or leave the song out with skip_faulty."
                )
    return expected


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _split_songs(root: Path, valid: Sequence[str], test: Sequence[str]) -> dict[Split, list[Path]]:
    """Song folders by split: by folders where there are such, else, or further, by name."""
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder; pass the folder that holds the songs.")
    songs = _folders(root)
    given = [folder.name for folder in songs if folder.name in SPLITS and not _audio_files(folder)]
    if given:
        split = {name: _folders(root / name) if name in given else [] for name in SPLITS}
    else:
        split = {"train": songs, "valid": [], "test": []}
    asked: dict[Split, Sequence[str]] = {"valid": valid, "test": test}
    for name, chosen in asked.items():
        if chosen and name in given:
            raise DatasetError(
                f"{root} has a folder {name} and songs named for it besides "
                f"({', '.join(chosen)}); use one of the two."
            )
        _expect_songs({song.name for song in split["train"]}, chosen)
        split[name] += [song for song in split["train"] if song.name in chosen]
        split["train"] = [song for song in split["train"] if song.name not in chosen]
    return split


def _expect_songs(names: set[str], asked: Iterable[str]) -> None:
    for name in asked:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "check its spelling."
            raise DatasetError(f"no song named {name!r} to take; {hint}")
