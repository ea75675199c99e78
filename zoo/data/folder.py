"""Any folder of songs with one file per stem, or with files that ``stems`` sorts into sources.

::

    root/<song>/<stem>.<ext>
    root/{train,valid,test}/<song>/<stem>.<ext>

The file name without its ending, in lower case, is the source.  ``mixture`` is the stored mixture;
without one the mixture is the sum of the stems.

``stems`` is for folders that name, number or nest their files otherwise: source -> patterns, for
all files below a song, in any case.  A pattern without a slash is compared with every part of a
file's path and with the class that a Slakh song's ``metadata.yaml`` gives it, one with slashes with
the whole path, always without the ending.  A file goes to the first source that has a pattern for
it, and the files of one source are summed::

    {vocals: [vox], drums: [drums, percussion], bass: [bass], other: ["*"]}     as in MoisesDB
    {mixture: [mix], drums: [drums], bass: [bass], other: ["stems/*"]}          as in Slakh
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from zoo.data.files import (
    USUAL_ORDER,
    FileDataset,
    Missing,
    audio_files,
    check_word,
    file_track,
    folders,
    hold_out,
    unknown_song,
    unknown_within,
)
from zoo.data.track import SPLITS, FileTrack, Part, Split
from zoo.errors import DatasetError

FACTS = "song.json"
_SPLIT_OF: dict[str, Split] = {
    **{split: split for split in SPLITS},
    "validation": "valid",
}


class Folder(FileDataset[Path]):
    """Songs in folders.

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
        stems: source -> patterns of files, as above; None: each file is a source of its name.
        valid: songs to validate on, taken out of training: names, patterns of names, or how many
            (see `zoo.data.files.choose`).
        test: songs to test on, alike; not where there is a folder ``test``.
        missing: ``error``, ``silent`` or ``unknown``.
        silent, unknown: song -> sources.
        pads: take shorter files as silent in the end, and single channels for all of them.
        skip_faulty: leave out songs that cannot be used, with one warning each.
        licence: terms of the songs that do not tell their own.

    Raises:
        DatasetError: no song in ``root``, or an argument names a song that is not there.
    """

    id = "folder"

    def __init__(
        self,
        root: str | Path,
        *,
        sources: Sequence[str] | None = None,
        stems: Mapping[str, str | Sequence[str]] | None = None,
        valid: int | str | Sequence[str] = (),
        test: int | str | Sequence[str] = (),
        missing: Missing = "error",
        silent: Mapping[str, Sequence[str]] | None = None,
        unknown: Mapping[str, Sequence[str]] | None = None,
        pads: bool = False,
        skip_faulty: bool = False,
        licence: str = "",
    ) -> None:
        check_word("missing", missing, Missing)
        self.root = Path(root)
        self.missing, self.pads, self.licence = missing, pads, licence
        self.patterns = None if stems is None else _patterns(stems)
        self.silent, self.unknown = dict(silent or {}), dict(unknown or {})
        super().__init__(_split_songs(self.root, valid, test), skip_faulty)
        names = {name for songs in self.songs.values() for name in songs}
        for name in [*self.silent, *self.unknown]:
            if name not in names:
                raise unknown_song(name, names)
        self.sources = tuple(sources) if sources is not None else self._find_sources()
        if "mixture" in self.sources:
            raise DatasetError("mixture is no source but their sum; take it out of the sources.")

    def _find_sources(self) -> tuple[str, ...]:
        """Every stem that some song has, the usual ones first."""
        if self.patterns is not None:
            return tuple(source for source in self.patterns if source != "mixture")
        found: set[str] = set()
        for songs in self.songs.values():
            for song in songs.values():
                found |= {stem.stem.lower() for stem in audio_files(song)} - {"mixture"}
        if not found:
            raise DatasetError(
                f"no song in {self.root}: expected <song>/<stem>.wav, such as song/vocals.wav."
            )
        usual = [source for source in USUAL_ORDER if source in found]
        return (*usual, *sorted(found.difference(usual)))

    def open(self, name: str, place: Path) -> FileTrack:  # noqa: D102
        files = _stems(place) if self.patterns is None else _sorted_stems(place, self.patterns)
        facts = _read_facts(place)
        stems, unknown = self._roles(place, files, facts)
        mixture = files.get("mixture", [])
        if len(mixture) > 1:
            raise DatasetError(
                f"song {name!r} has {len(mixture)} mixtures, {mixture[0]} and {mixture[1]}; "
                "name one file."
            )
        return file_track(
            name,
            self.sources,
            stems,
            Part(mixture[0]) if mixture else None,
            unknown=unknown,
            licence=facts.licence or self.licence,
            pads=self.pads,
        )

    def _roles(
        self, song: Path, files: Mapping[str, Sequence[Path]], facts: Facts
    ) -> tuple[dict[str, tuple[Part, ...]], frozenset[str]]:
        """The files of each source, none where it is silent, and which sources are unknown."""
        told_silent = self._told(song.name, self.silent)
        told_unknown = self._told(song.name, self.unknown)
        told_by_song = facts.unknown | facts.missing.difference(files)
        unknown = told_unknown | ((told_by_song & set(self.sources)) - told_silent)
        silent = told_silent | (facts.silent - told_unknown)
        stems: dict[str, tuple[Part, ...]] = {}
        for source in self.sources:
            if source in files:
                stems[source] = tuple(map(Part, files[source]))
            elif source in unknown:
                continue
            elif source in silent or self.missing == "silent":
                stems[source] = ()
            elif self.missing == "unknown":
                unknown |= {source}
            else:
                expected = f"{song / source}.*"
                if self.patterns is not None:
                    expected = f"{song}/**/{{{','.join(self.patterns.get(source, ()))}}}"
                beside = sorted(p.name for p in song.iterdir() if not p.name.startswith("."))
                raise DatasetError(
                    f"song {song.name!r} has no {source}: {expected} was expected beside "
                    f"{', '.join(beside) or 'nothing'}; add the file, or declare {source} silent "
                    "or unknown."
                )
        return stems, unknown_within(stems, frozenset(unknown))

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


def _stems(song: Path) -> dict[str, list[Path]]:
    """The files of a song by their names."""
    files: dict[str, list[Path]] = {}
    for path in audio_files(song):
        if other := files.setdefault(path.stem.lower(), []):
            raise DatasetError(
                f"song {song.name!r}: {other[0].name} and {path.name} are both its "
                f"{path.stem.lower()}; keep one."
            )
        files[path.stem.lower()].append(path)
    return files


def _patterns(stems: Mapping[str, str | Sequence[str]]) -> dict[str, list[str]]:
    """Source -> patterns in lower case; the mixture, which no ``*`` may take, first."""
    found = {"mixture": ["mixture"]}
    for source, patterns in stems.items():
        found[source] = [p.lower() for p in ([patterns] if isinstance(patterns, str) else patterns)]
    return found


def _sorted_stems(song: Path, patterns: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
    """The files below a song by source: each goes to the first that has a pattern for it."""
    classes = _slakh_classes(song)
    files: dict[str, list[Path]] = {}
    for path in audio_files(song, "**/*"):
        whole = path.relative_to(song).with_suffix("").as_posix().lower()
        names = [*whole.split("/"), classes.get(path.stem, "")]
        for source, wanted in patterns.items():
            if any(
                fnmatchcase(whole, pattern)
                if "/" in pattern
                else any(fnmatchcase(name, pattern) for name in names)
                for pattern in wanted
            ):
                files.setdefault(source, []).append(path)
                break
    return files


def _slakh_classes(song: Path) -> dict[str, str]:
    """Name of a stem -> class of its instrument in lower case, where a song tells it as Slakh does.

    Reference:
        E. Manilow et al., "Cutting Music Source Separation Some Slakh", WASPAA 2019.
    """
    path = song / "metadata.yaml"
    if not path.is_file():
        return {}
    import yaml

    try:
        stems = yaml.safe_load(path.read_text(encoding="utf-8"))["stems"]
        return {name: str(facts["inst_class"]).lower() for name, facts in stems.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise DatasetError(
            f"song {song.name!r}: {path} does not give the inst_class of each of its stems; "
            "correct or remove it."
        ) from error


def _split_songs(
    root: Path, valid: int | str | Sequence[str], test: int | str | Sequence[str]
) -> dict[Split, dict[str, Path]]:
    """Song folders by split: by folders where there are such, else, or further, by name."""
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder; pass the folder that holds the songs.")
    lying = {f.name: f for f in folders(root) if f.name in _SPLIT_OF and not audio_files(f)}
    given: dict[Split, Path] = {}
    for name, folder in lying.items():
        if (other := given.setdefault(_SPLIT_OF[name], folder)) != folder:
            raise DatasetError(
                f"{root} has both {other.name} and {name}, folders of one split; keep one."
            )
    songs: dict[Split, dict[str, Path]] = {
        split: {song.name: song for song in folders(given[split])} if split in given else {}
        for split in SPLITS
    }
    if not given:
        songs["train"] = {song.name: song for song in folders(root)}
    asked: dict[Split, int | str | Sequence[str]] = {"valid": valid, "test": test}
    for name, chosen in asked.items():
        if chosen and name in given:
            raise DatasetError(
                f"{root} has a folder {name} and songs named for it besides ({chosen}); use one "
                "of the two."
            )
        if chosen:
            songs["train"], songs[name] = hold_out(songs["train"], chosen)
    return songs
