"""``zoo data check``, ``zoo data generate`` and ``zoo data get``."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zoo.cli.progress import counting_lines, showing
from zoo.cli.reading import data_arguments
from zoo.data import open_dataset
from zoo.data.check import check
from zoo.data.download import OFFERS, Download, fetch, prepare, readable
from zoo.data.track import SPLITS
from zoo.errors import DatasetError, LicenceError

if TYPE_CHECKING:
    from zoo.data.scenes import SceneTrack
    from zoo.data.track import Split


def check_data(folder: str | None, dataset: str, arguments: str) -> int:
    """Print what a data set holds and what is wrong with it; 1 when something is."""
    named = data_arguments(arguments)
    count, numbers = counting_lines("songs"), itertools.count(1)
    report = check(open_dataset(dataset, folder, **named), lambda _: count(next(numbers), None))
    for line in report.lines():
        print(line)
    return 0 if report.is_sound else 1


def generate_data(output: str, layout: str, **arguments: Any) -> None:
    """Write generated songs; ``arguments`` are those of the data set."""
    from zoo.data.generated import GeneratedSongs
    from zoo.data.layouts import Layout, write

    songs = cast(GeneratedSongs, open_dataset("generated", **arguments))
    write(songs, output, cast(Layout, layout), counting_lines("songs"))  # refuses any other layout
    counts = " + ".join(str(count) for count in songs.counts.values())
    print(
        f"{counts} songs of {songs.config.seconds:g} s (train, valid, test) are in {output}"
        + "".join(f"\n{what}: {facts['name']}" for what, facts in songs.band.card.items())
    )


def write_scenes(
    output: str, root: str | None, of: str | None, arguments: str, songs: int, split: str
) -> None:
    """Write scenes, each into a folder of its own."""
    from zoo.data.scene_files import write_scene

    named = {**({"of": of} if of else {}), **data_arguments(arguments), "songs": songs}
    dataset = open_dataset("scenes", root, **named)
    tracks = dataset.tracks(cast("Split", split))
    if not tracks:
        others = [s for s in SPLITS if s != split and dataset.tracks(s)]
        advice = f"take --split {' or '.join(others)}" if others else "name a folder with songs"
        raise DatasetError(f"there are no {split} songs to make scenes of; {advice}.")
    for track in tracks:
        folder = write_scene(track, Path(output))
        print(f"{folder}/: mix.flac, {len(track.sources)} images, scene.json, plan.png")
        for source, position in cast("SceneTrack", track).positions.items():
            late = f", right channel {position.delay:+.1f} samples" if position.delay else ""
            print(f"  {source}: pan {position.pan:.1f} degrees{late}")


def list_downloads() -> None:
    """Print what can be had, and where the rest is to be asked for."""
    for offer in OFFERS.values():
        size = f" ({readable(offer.size)})" if offer.size else ""
        print(f"{offer.id:<15} {offer.title}{size}")
        print(f"{'':<15} licence: {offer.licence}")
        if offer.url is None:
            print(f"{'':<15} to be asked for: {offer.page}")


def get_data(
    id: str, output: str | None, url: str | None, is_confirmed: bool, progress: str
) -> int:
    """Download a data set once its terms are agreed to; 1 when they are not."""
    download = prepare(id, output, url)
    _show_terms(download)
    if not is_confirmed and not _agrees():
        print("nothing was downloaded")
        return 1
    try:
        with showing(progress) as callback:
            found = fetch(download, callback)
    except KeyboardInterrupt:
        if download.work.exists():
            print(f"{download.work} keeps what came; repeat to go on with it", file=sys.stderr)
        raise
    published = "as published" if download.offer.hash else "none is published here; write it down"
    print(f"archive: {found} ({published})")
    dataset = download.offer.dataset
    print(f"{download.root} is complete: --data.dataset {dataset} --data.root {download.root}")
    return 0


def _show_terms(download: Download) -> None:
    offer = download.offer
    size = f"{readable(offer.size)}, and more again unpacked" if offer.size else None
    facts = {
        "from": download.url,
        "about": offer.page,
        "size": size or "not published here",
        "hash": offer.hash or "not published here",
        "licence": offer.licence,
        "into": download.root,
    }
    print(offer.title)
    for name, fact in facts.items():
        print(f"  {name:<8} {fact}")


def _agrees() -> bool:
    import typer

    if not sys.stdin.isatty():
        raise LicenceError("nobody is here to agree to the licence; read it, then pass --yes.")
    return typer.confirm("Download it under these terms?")
