"""``zoo publish``, ``zoo verify`` and ``zoo import``: what is printed around `zoo.hub`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zoo import __version__
from zoo.authors import FORMATS
from zoo.cli.progress import printable
from zoo.errors import ZooError
from zoo.hub.importing import import_files, import_release
from zoo.hub.publish import Published, build, check, files_of, publish
from zoo.release import RECORD, Release, locate, read_release
from zoo.weights import verify


def publish_release(
    source: str,
    name: str | None,
    repo: str | None,
    output: str,
    tag: str | None,
    private: bool,
    is_dry: bool,
    to_wandb: bool,
    **facts: Any,
) -> None:
    """Build a release, or take one that is there, and upload it."""
    path = Path(os.path.expanduser(source))
    if repo is not None and not is_dry and not _has_token():
        raise ZooError("no token of the Hub: set HF_TOKEN or `hf auth login`; nothing was sent.")
    if (path / RECORD).is_file():
        if given := [key for key in ("scores", "benchmark", "trained_on") if facts.get(key)]:
            raise ZooError(f"--{given[0].replace('_', '-')} is for a release that is made anew.")
        release = read_release(path)
        check(release)
    else:
        if name is None:
            raise ZooError("a run or a checkpoint needs --name ARCHITECTURE-DATASET.")
        folder = Path(output) / name
        release = build(path, folder, name=name, **facts)
    assert release.folder is not None
    print(f"{printable(release.folder)}/: checked; its golden pair is reproduced")
    if to_wandb and not is_dry:
        from zoo.hub.artifact import log_release

        print(f"W&B: {log_release(release, tag or f'v{__version__}')}")
        if repo is None:
            return
    if is_dry or repo is None:
        _show_plan(release, repo, private)
        return
    _show(publish(release, repo, tag=tag, private=private))


def verify_release(name: str) -> None:
    """Check the hashes of a release, and repeat its golden pair."""
    place = locate(name)
    release = read_release(place.path)
    deviation = verify(place.path)
    print(
        f"{release.name} ({place.words}): {len(release.sha256)} files have their hashes; "
        f"the golden pair is reproduced within {deviation:.1e} of full scale"
    )


def import_weights(
    what: str,
    files: list[str],
    output: str,
    name: str | None,
    sources: str | None,
    licence: dict[str, str],
    trained_on: str | None,
) -> None:
    """Turn published weights into a release."""
    paths = [Path(os.path.expanduser(file)) for file in files]
    if what in FORMATS:
        if name is None or not paths:
            raise ZooError(
                f"files of {what} need a name: zoo import {what} FILE... --name {what}-DATASET"
            )
        named = sources.split(",") if sources else None
        release = import_files(
            what, paths, name, sources=named, licence=licence, trained_on=trained_on,
            output=Path(output),
        )  # fmt: skip
    elif name or sources or trained_on or any(licence.values()):
        raise ZooError(
            f"of options, only -o goes with a name; the others are for {', '.join(FORMATS)}."
        )
    else:
        release = import_release(what, paths, Path(output))
    assert release.folder is not None
    print(f"{printable(release.folder)}/: {release.name}, {release.provenance['weights']} weights")
    print(f"weights licence: {release.licence['weights']}; data: {release.licence['data']}")
    print(f"zoo separate song.mp3 -m {printable(release.folder)}")


def _has_token() -> bool:
    from huggingface_hub import get_token

    return bool(get_token())


def _show_plan(release: Release, repo: str | None, private: bool) -> None:
    files = files_of(release)
    scores = [name for name in files if name.startswith("scores/")]
    for name, size in files.items():
        if name not in scores:
            print(f"  {name}  {size / 1e6:.2f} MB")
    if scores:
        print(f"  scores/: {len(scores)} files")
    kind = "private" if private else "public"
    print(f"would make {repo or '--repo org/name'} ({kind}) if it is missing, upload these in one")
    print("commit, tag it, download the tag, and compare hashes; nothing was sent")


def _show(done: Published) -> None:
    print(f"{done.url}: {len(done.files)} files, tag {done.tag}; all came back as they were sent")
    print(f'zoo.from_pretrained("{done.repo}@{done.commit}")')
