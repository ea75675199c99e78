"""``zoo list`` and ``zoo info``: what there is, told without importing torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import catalog, recipes
from zoo.authors import PUBLISHED, Published
from zoo.catalog import Entry
from zoo.errors import UnknownModel
from zoo.release import RECORD, Release, cache_folder, describe, recorded


def show_list(
    pretrained: bool, licence: str | None, sources: Sequence[str] | None, sort: str
) -> None:
    """Print the trained releases, then the architectures.

    Args:
        pretrained: only the releases.
        licence: of weights that hold this text.
        sources: that a release gives, all of them.
        sort: ``"name"``, or ``"sdr"``: the best first, releases with the same protocol together.
    """
    all_of_them = [
        r
        for r in recorded().values()
        if (licence or "").casefold() in r.licence["weights"].casefold()
        and set(sources or ()) <= set(r.sources)
    ]
    if sort == "sdr":
        all_of_them.sort(key=_by_score)
    print("Releases: zoo separate -m NAME, zoo.from_pretrained(NAME)")
    _print_releases(r for r in all_of_them if r.has_weights)
    if without := [r for r in all_of_them if not r.has_weights]:
        print("\nReleases whose weights do not come along: zoo fit -c releases/NAME, zoo info NAME")
        _print_releases(without)
    published = {
        name: offer
        for name, offer in PUBLISHED.items()
        if (licence or "").casefold() in offer.licence["weights"].casefold()
        and set(sources or ()) <= set(offer.sources)
    }
    if published:
        print("\nAuthors' weights: fetched by name, or made of files by zoo import")
        _print_table(
            (name, ", ".join(o.sources), _place(name, o), o.trained_on, o.licence["weights"])
            for name, o in published.items()
        )
    if pretrained or licence or sources:
        return
    print("\nArchitectures: lightning fit -c NAME, zoo.create(NAME)")
    entries = [catalog.entry(name) for name in catalog.list_models()]
    # What a plug-in says of itself would cost its import, and torch with it.
    _print_table(
        (e.name, e.domain, e.summary or f"plug-in of {e.plugin}", e.paper) for e in entries
    )
    print(f"\nRecipes: {', '.join(recipes.names())}")


def _print_releases(releases: Iterable[Release]) -> None:
    _print_table(
        (r.name, ", ".join(r.sources), _format(r), _trained_on(r), r.licence["weights"])
        for r in releases
    )


def _by_score(release: Release) -> tuple[str, float, str]:
    """Protocol, then the first figure of the voice, the largest first."""
    scores = release.provenance.get("scores", {})
    figures = [v for k, v in scores.items() if k.endswith("SDR_vocals")]
    return str(scores.get("protocol", "")), -max(figures, default=-1e9), release.name


def _place(name: str, offer: Published) -> str:
    if (cache_folder() / name / RECORD).is_file():
        return "in the cache"
    if not offer.files:
        return "a package"
    return "download" if all(file.url for file in offer.files) else "zoo import"


def show_info(name: str) -> None:
    """Print the facts of a release, of published weights, or of an architecture."""
    if name in PUBLISHED and not (Path(name) / RECORD).is_file():
        _show_published(name)
        return
    try:
        release = describe(name)
    except UnknownModel:
        try:
            _show_architecture(catalog.described(name))
        except UnknownModel:
            # The release's error also knows the architectures, and offers the nearest of both.
            describe(name)
        return
    _show_release(release)


def _show_release(release: Release) -> None:
    entry = catalog.entry(release.architecture)
    facts = release.provenance.get("facts", {})
    _print_facts(
        {
            "release": release.name,
            "stands in for": release.stand_in_for,
            "separates": ", ".join(release.sources),
            "works at": _format(release),
            "bandwidth": f"0 to {release.sample_rate // 2} Hz" if release.sample_rate else None,
            **_sizes(facts),
            "trained on": release.trained_on,
            **_terms(entry, release.licence),
            **{key: value for key, value in release.provenance.items() if key != "facts"},
            "folder": release.folder,
        }
    )


def _show_published(name: str) -> None:
    folder = cache_folder() / name
    if (folder / RECORD).is_file():
        _show_release(describe(folder))
        return
    offer = PUBLISHED[name]
    entry = catalog.entry(offer.architecture)
    _print_facts(
        {
            "authors' weights": name,
            "separates": ", ".join(offer.sources),
            "trained on": offer.trained_on,
            **_terms(entry, offer.licence),
            "origin": offer.origin,
            "files": ", ".join(file.name for file in offer.files),
            "to be had by": {
                "download": f"asking for it by name, as in zoo separate -m {name}",
                "a package": offer.origin,
                "zoo import": f"zoo import {name} FILE",
            }[_place(name, offer)],
        }
    )


def _show_architecture(entry: Entry) -> None:
    _print_facts(
        {
            "architecture": entry.name,
            "idea": entry.summary,
            "paper": entry.paper,
            "domain": entry.domain,
            "separates": ", ".join(entry.facts.get("sources", ())),
            "works at": _rate(entry.facts.get("sample_rate"), entry.facts.get("channels")),
            **_sizes(entry.facts),
            "trained": "by a recipe" if entry.trainable else "needs no training",
            "releases": ", ".join(
                r.name for r in recorded().values() if r.architecture == entry.name
            ),
            "from": entry.plugin,
        }
    )


def _terms(entry: Entry, licence: Mapping[str, str]) -> dict[str, str]:
    """What the weights are of, and on what terms they are to be had."""
    return {
        "architecture": f"{entry.name}: {entry.summary}",
        "paper": entry.paper,
        **{f"{part} licence": licence[part] for part in ("code", "weights", "data")},
    }


def _sizes(facts: Mapping[str, Any]) -> dict[str, str]:
    """Parameters, context and cost, as far as they are known."""
    sizes = {}
    if "parameters" in facts:
        sizes["parameters"] = f"{facts['parameters']:,}".replace(",", " ")
    if "context_s" in facts:
        context = facts["context_s"]
        sizes["context"] = "unbounded" if context is None else f"{context:.2f} s on each side"
    if "gflop_per_s" in facts:
        sizes["cost"] = f"{facts['gflop_per_s']:.1f} GFLOP per second of audio"
    return sizes


def _format(release: Release) -> str:
    return _rate(release.sample_rate, release.channels)


def _rate(rate: int | None, channels: int | None) -> str:
    width = {None: "any channels", 1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
    return f"{rate / 1000:g} kHz {width}" if rate else f"the file's rate, {width}"


def _trained_on(release: Release) -> str:
    if release.stand_in_for:
        return f"{release.trained_on} (stands in for {release.stand_in_for})"
    return release.trained_on


def _print_facts(facts: Mapping[str, Any]) -> None:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {entry}" for key, entry in value.items())
        if value not in (None, ""):
            print(f"{name.replace('_', ' '):<18}{value}")


def _print_table(rows: Iterable[Sequence[str]]) -> None:
    table = list(rows)
    if not table:
        print("  none")
        return
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  " + "  ".join(cells).rstrip())
