"""What test and training have in common: songs, artists, backing tracks.  It flatters a figure."""

from __future__ import annotations

from collections.abc import Iterable

from zoo.data import mir1k
from zoo.data.tracklist import entries, song_key

_SONGS = ("musdb18", "musdb18hq", "dsd100")  # their songs stand in one list


def overlap(
    dataset: str, tracks: Iterable[str] | None, trained_on: str, extra: bool = False
) -> str:
    """What the tracks of a test share with a training set, in words; empty where it is unknown.

    Args:
        dataset: id of what was tested on.
        tracks: names; None: all of the usual test.
        trained_on: id of what was trained on, by its usual split.
        extra: trained on the further songs of MIR-1K too.

    >>> overlap("musdb18", None, "musdb18")
    '3 of 50 songs by artists of the training'
    """
    if dataset == trained_on == "mir1k":
        return _mir1k(tracks, extra)
    if dataset in _SONGS and trained_on in _SONGS:
        return _songs(dataset, tracks, trained_on)
    return ""


def _mir1k(clips: Iterable[str] | None, extra: bool) -> str:
    if clips is None:
        return "37 of 825 clips sung to backing tracks of the training, none by its singers"
    clips = list(clips)
    songs = mir1k.TRAIN_SONGS | (mir1k.EXTRA_SONGS if extra else frozenset())
    backings = {mir1k.backing_group(f"{song}_") for song in songs}
    singers = {mir1k.singer_of(song) for song in songs}
    same = sum(mir1k.backing_group(clip) in backings for clip in clips)
    sung = sum(mir1k.singer_of(clip) in singers for clip in clips)
    return (
        f"{same or 'none'} of {len(clips)} clips sung to backing tracks of the training, "
        f"{sung or 'none'} by its singers"
    )


def _songs(dataset: str, tracks: Iterable[str] | None, trained_on: str) -> str:
    known = entries()
    tested = _keys(dataset, is_test=True) if tracks is None else {song_key(t) for t in tracks}
    trained = _keys(trained_on, is_test=False)
    artists = {_artist(known[key].name) for key in trained}
    same = len(tested & trained)
    related = sum(key in known and _artist(known[key].name) in artists for key in tested - trained)
    parts = [f"{same} of {len(tested)} songs were trained on"] if same else []
    if related or not same:
        parts.append(f"{related or 'none'} of {len(tested)} songs by artists of the training")
    return ", ".join(parts)


def _keys(dataset: str, is_test: bool) -> set[str]:
    if dataset == "dsd100":
        return {k for k, e in entries().items() if e.dsd100 and (e.dsd100 <= 50) == is_test}
    return {k for k, e in entries().items() if (e.musdb18 == "test") == is_test}


def _artist(name: str) -> str:
    return name.partition(" - ")[0].strip().casefold()
