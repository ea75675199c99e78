"""MIR-1K: 1000 karaoke clips of 3 to 12 s with the dry voice apart, 16 kHz.

Hsu and Jang, "On the Improvement of Singing Voice Separation for Monaural Recordings Using the
MIR-1K Dataset", IEEE TASLP 18(2), 2010.  The 19 singers are amateurs; several sing to the same
backing tracks, which the common split does not heed (`GROUPS`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from zoo.data.track import Dataset, FileTrack, Part, Split, Track, check_split, header
from zoo.errors import DatasetError

RATE = 16000
LICENCE = "no explicit licence; research use"

# Singer: songs.  Huang et al., ISMIR 2014: these two train, the other 17 test.
TRAIN_SINGERS = {"abjones": 5, "amy": 16}
TRAIN_SONGS = frozenset(
    f"{singer}_{i + 1}" for singer, n_songs in TRAIN_SINGERS.items() for i in range(n_songs)
)
SINGERS = (
    *TRAIN_SINGERS,
    *("Ani", "Kenshin", "annar", "ariel", "bobon", "bug", "davidson", "fdps", "geniusturtle"),
    *("heycat", "jmzen", "khair", "leon", "stool", "tammy", "titon", "yifen"),
)

# Songs sung to one backing track, measured by fingerprints of the accompaniments and confirmed by
# the lyrics.  The last two rows share the lyrics only; davidson_5 has the lyrics of davidson_3.
GROUPS = tuple(
    tuple(row.split())
    for row in """
        amy_6 leon_5
        amy_7 yifen_2
        abjones_2 stool_4
        Kenshin_5 davidson_3 davidson_5 fdps_3 leon_2
        Ani_2 fdps_2 geniusturtle_4
        bobon_3 leon_1 tammy_1
        annar_4 fdps_4
        davidson_2 fdps_5
        khair_5 leon_3
        annar_2 heycat_1
        ariel_1 stool_3
        heycat_4 titon_1
        khair_2 titon_2
    """.strip().splitlines()
)
_GROUP_OF = {song: "+".join(group) for group in GROUPS for song in group}

# 22 songs of test singers whose backing tracks are on neither side of the 110-clip sample.
EXTRA_SONGS = frozenset(
    """Ani_1 Kenshin_4 annar_5 ariel_2 ariel_5 bobon_1 bug_3 davidson_4 fdps_1 geniusturtle_3
    heycat_2 jmzen_2 jmzen_3 khair_5 khair_6 leon_3 leon_5 stool_4 stool_5 titon_4 yifen_1
    yifen_2""".split()
)

# The 110-clip sample of the 825 test clips, as song:clips.
_SAMPLE = """
    Ani_2:04,07 Ani_3:01,05 Ani_4:08,10 Kenshin_2:04 Kenshin_3:03,05 Kenshin_5:02,04,08,10
    annar_1:06 annar_2:01,08 annar_3:01,04,07 ariel_1:02,03,04 ariel_3:01,04,08 bobon_2:01,02,07
    bobon_3:02,06,07,08 bug_1:08,09 bug_2:01,07,08 bug_4:02 davidson_3:03,06,11,12,13
    davidson_5:06,09 fdps_2:01,05,10 fdps_3:03,04 fdps_5:03,07 geniusturtle_2:06
    geniusturtle_4:01,04,07,09 geniusturtle_7:07,08 heycat_1:04,05,08 heycat_3:01,08 heycat_4:04
    jmzen_4:01,03,08,09,10 jmzen_5:03,04 khair_2:01,02,04 khair_4:02,03,07 leon_1:05 leon_2:02,11
    leon_6:04,09 leon_8:05,13 stool_1:01,03,07,09 stool_3:07,08 tammy_1:01,02,04,05,06,07 titon_1:03
    titon_2:02,08 titon_5:01,04,07 yifen_3:01,03,05,09 yifen_5:04,06,09
"""
SAMPLE_CLIPS = frozenset(
    f"{song}_{part}"
    for song, parts in (entry.split(":") for entry in _SAMPLE.split())
    for part in parts.split(",")
)

HUANG_DEV = frozenset({"abjones_5_08", "abjones_5_09", "amy_9_08", "amy_9_09"})
# Two songs of each training singer, the ones with fewest clips whose backing track nobody else
# sings to: 25 of the 175 clips.
VALID_SONGS = ("abjones_1", "abjones_4", "amy_11", "amy_14")

SplitName = Literal["standard", "leakage-free"]
ValidName = Literal["songs", "huang", "none"]
TestName = Literal["all", "sample"]


def song_of(clip: str) -> str:
    """``leon_5_03`` -> ``leon_5``."""
    return clip.rpartition("_")[0]


def singer_of(clip: str) -> str:
    """``leon_5_03`` -> ``leon``."""
    return clip.partition("_")[0]


def backing_group(clip: str) -> str:
    """Name of the backing track of a clip, shared by all songs that are sung to it."""
    song = song_of(clip)
    return _GROUP_OF.get(song, song)


def split_clips(
    clips: Iterable[str],
    *,
    split: SplitName = "standard",
    extra: bool = False,
    valid: ValidName = "songs",
    valid_songs: Sequence[str] = VALID_SONGS,
    test: TestName = "all",
) -> dict[Split, list[str]]:
    """Clip names dealt out to train, valid and test; each clip at most once, in sorted order.

    Args:
        clips: names such as ``leon_5_03``, in any order, with or without repetition.
        split: ``standard``: train and test as in Huang et al. 2014 (175 and 825 clips);
            ``leakage-free``: without the 37 test clips whose backing track is trained on (788).
            The 110 clips of the sample are in the test of both.
        extra: train on the 22 `EXTRA_SONGS` as well; they leave the test.
        valid: how clips are held out from training: ``songs``, all clips of the backing tracks
            of ``valid_songs``; ``huang``, the four clips of the authors' dev set, whose songs stay
            in training; ``none``.
        valid_songs: names such as ``amy_11``.
        test: ``sample`` keeps only the 110 clips.

    Raises:
        DatasetError: one of the words is none of those above, or one of ``valid_songs`` is no
            training song.
    """
    for word, value, kind in (
        ("split", split, SplitName),
        ("valid", valid, ValidName),
        ("test", test, TestName),
    ):
        if value not in get_args(kind):
            choices = ", ".join(get_args(kind))
            raise DatasetError(f"mir1k has no {word} {value!r}; choose one of {choices}.")
    names = sorted(set(clips))
    may_train = {
        clip
        for clip in names
        if singer_of(clip) in TRAIN_SINGERS or (extra and song_of(clip) in EXTRA_SONGS)
    }
    held_out = _held_out(
        may_train, valid, valid_songs, TRAIN_SONGS | (EXTRA_SONGS if extra else frozenset())
    )
    trained_groups = {backing_group(clip) for clip in may_train}

    def is_test(clip: str) -> bool:
        if clip in may_train or (test == "sample" and clip not in SAMPLE_CLIPS):
            return False
        return split == "standard" or backing_group(clip) not in trained_groups

    return {
        "train": [clip for clip in names if clip in may_train - held_out],
        "valid": [clip for clip in names if clip in held_out],
        "test": [clip for clip in names if is_test(clip)],
    }


def _held_out(
    may_train: set[str], valid: ValidName, valid_songs: Sequence[str], songs: frozenset[str]
) -> set[str]:
    if valid == "none":
        return set()
    if valid == "huang":
        return may_train & HUANG_DEV
    for song in valid_songs:
        if song not in songs:
            raise DatasetError(
                f"{song!r} is no training song of mir1k to validate on; "
                f"{', '.join(sorted(TRAIN_SONGS))} are."
            )
    groups = {backing_group(f"{song}_") for song in valid_songs}
    return {clip for clip in may_train if backing_group(clip) in groups}


class MIR1K(Dataset):
    """MIR-1K in any of its layouts.

    Args:
        root: a folder that holds clips at any depth, as

            * ``<clip>.wav`` or ``<clip>.flac``, left accompaniment, right voice: the official
              archive (``MIR-1K/Wavfile``) and lossless copies;
            * ``<clip>.vocals.ogg`` and ``<clip>.accompaniment.ogg`` (or wav, flac), both mono.

            A clip that is there more than once is taken once, the lossless form first.
        split, extra, valid, valid_songs, test: see `split_clips`.
        remove_dc: take the mean off each source of the training clips.  144 voices carry an
            offset above 5 % of their RMS, which a model would spend bin 0 on.  What is scored
            stays as it is.
        in_memory: keep the training clips decoded (180 MB for the two standard singers).

    Notes:
        The mixture is the plain sum of voice and accompaniment in float: both have equal RMS, so
        it is the 0 dB mixture, and its peak is just beyond what int16 holds.  Clips whose sources
        are lossy files are never tested on.

    Raises:
        DatasetError: no clip was found in ``root``.
    """

    id = "mir1k"
    protocol = "mir1k"
    sources: tuple[str, ...] = ("vocals", "accompaniment")
    rate: int | None = RATE

    def __init__(
        self,
        root: str | Path,
        *,
        split: SplitName = "standard",
        extra: bool = False,
        valid: ValidName = "songs",
        valid_songs: Sequence[str] = VALID_SONGS,
        test: TestName = "all",
        remove_dc: bool = True,
        in_memory: bool = True,
    ) -> None:
        self.root = Path(root)
        self.clips = find_clips(self.root)
        if not self.clips:
            raise DatasetError(
                f"no MIR-1K clip in {self.root}: expected files such as abjones_1_01.wav or "
                "abjones_1_01.vocals.ogg; unpack MIR-1K.zip there."
            )
        self.remove_dc, self.in_memory = remove_dc, in_memory
        self._split = split_clips(
            self.clips,
            split=split,
            extra=extra,
            valid=valid,
            valid_songs=valid_songs,
            test=test,
        )
        # A codec's errors would count as the model's.
        self._split["test"] = [c for c in self._split["test"] if self.clips[c].is_lossless]

    @property
    def test_title(self) -> str:
        """What a score on the test tracks may be called."""
        test = set(self._split["test"])
        if test == SAMPLE_CLIPS:
            return "MIR-1K, 110-clip sample of the 825 test clips"
        if len(test) == 825:
            return "MIR-1K, 825 test clips"
        return f"MIR-1K, {len(test)} of the 825 test clips"

    def tracks(self, split: Split) -> list[Track]:  # noqa: D102
        check_split(split)
        return [self._track(clip, split == "train") for clip in self._split[split]]

    def each(self, split: Split) -> Iterator[tuple[str, Track | DatasetError]]:  # noqa: D102
        check_split(split)
        for clip in self._split[split]:
            try:
                yield clip, self._track(clip, split == "train")
            except DatasetError as error:
                yield clip, error

    def _track(self, clip: str, is_training: bool) -> FileTrack:
        stems = self.clips[clip].stems
        headers = {part.path: header(part.path, clip) for (part,) in stems.values()}
        for path, found in headers.items():
            expected = 2 if len(headers) == 1 else 1
            if (found.rate, found.channels) != (RATE, expected):
                raise DatasetError(
                    f"{clip}: {path} has {found.channels} channels at {found.rate} Hz; MIR-1K has "
                    f"{expected} at {RATE} Hz. Use the files as they were published."
                )
        lengths = {found.samples for found in headers.values()}
        if len(lengths) > 1:
            told = ", ".join(f"{path.name} {h.samples}" for path, h in headers.items())
            raise DatasetError(
                f"{clip}: its sources differ in length ({told} samples); replace them."
            )
        return FileTrack(
            name=clip,
            rate=RATE,
            channels=1,
            samples=lengths.pop(),
            sources=self.sources,
            licence=LICENCE,
            stems=stems,
            removes_dc=self.remove_dc and is_training,
            in_memory=self.in_memory and is_training,
        )


@dataclass(frozen=True)
class Clip:
    """Where the two sources of a clip are."""

    stems: Mapping[str, tuple[Part, ...]]
    is_lossless: bool


_LOSSLESS = (".wav", ".flac")
_FILE = re.compile(
    rf"(?P<clip>(?:{'|'.join(SINGERS)})_\d+_\d+)(?:\.(?P<source>vocals|accompaniment))?"
    r"(?P<suffix>\.wav|\.flac|\.ogg)"
)


def find_clips(root: Path) -> dict[str, Clip]:
    """Every complete clip below a folder, by name, in its best form.

    Raises:
        DatasetError: a clip of two files lacks one of them.
    """
    found: dict[str, dict[str, dict[str, Path]]] = {}
    for path in sorted(root.rglob("*")):
        if match := _FILE.fullmatch(path.name):
            forms = found.setdefault(match["clip"], {})
            # A pair lies in one folder; a form that was seen before is kept.
            files = forms.setdefault(f"{path.parent}|{match['suffix']}|{bool(match['source'])}", {})
            files.setdefault(match["source"] or "both", path)
    return {clip: _best(clip, list(forms.values())) for clip, forms in sorted(found.items())}


def _best(clip: str, forms: list[dict[str, Path]]) -> Clip:
    files = min(forms, key=_rank)
    if "both" in files:
        both = files["both"]
        # Channel 0 (left) is the accompaniment, the other way round than one would guess.
        stems = {"vocals": (Part(both, (1,)),), "accompaniment": (Part(both, (0,)),)}
    else:
        for source in ("vocals", "accompaniment"):
            if source not in files:
                other = next(iter(files.values()))
                raise DatasetError(
                    f"{clip}: {other} lies there without its {source}; add that file."
                )
        stems = {s: (Part(files[s]),) for s in ("vocals", "accompaniment")}
    lossless = all(part.path.suffix in _LOSSLESS for (part,) in stems.values())
    return Clip(stems, lossless)


def _rank(files: dict[str, Path]) -> tuple[bool, int]:
    """Complete before incomplete, wav before flac before ogg."""
    suffix = next(iter(files.values())).suffix
    complete = "both" in files or len(files) == 2
    return not complete, (*_LOSSLESS, ".ogg").index(suffix)
