"""Several releases as one: what ``zoo separate -m A -m B`` takes songs apart with."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.errors import ZooError
from zoo.models.blend import Blend, of
from zoo.release import from_pretrained


def blended(names: Sequence[str], weights: Sequence[str] = (), device: str = "auto") -> Blend:
    """A blend of waveforms of several releases.

    Args:
        names: for `zoo.from_pretrained`, each once.
        weights: ``"0.7,0.3"``, a number for each name in their order, for all sources, or
            ``"vocals=0.7,0.3"`` for one; sources that are not named take equal ones.
        device: as `zoo.from_pretrained` has it.

    Raises:
        RecipeError: the releases disagree in sources, rate or channels.
        ZooError: a weight is none, or a name stands there twice.
    """
    if len(set(names)) < len(names):
        raise ZooError(f"-m {' -m '.join(names)}: a member of a blend is named once.")
    models = {name: from_pretrained(name, device=device) for name in names}
    titles = {name: name.rstrip("/").rpartition("/")[2].replace(".", "-") for name in names}
    if len(set(titles.values())) < len(names):
        titles = {name: f"{k + 1}-{title}" for k, (name, title) in enumerate(titles.items())}
    sources = models[names[0]].sources
    table = {source: {title: 1 / len(names) for title in titles.values()} for source in sources}
    for text in weights:
        source, has_source, row = text.rpartition("=")
        chosen = [source] if has_source else list(sources)
        try:
            numbers = [float(word) for word in row.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) != len(names) or not set(chosen) <= set(sources):
            raise ZooError(
                f"--weights {text}; expected a number for each of {len(names)} models, such as "
                f"{','.join(['0.5'] * len(names))}, or that behind one of "
                f"{', '.join(sources)} and an equals sign."
            )
        for name in chosen:
            table[name] = dict(zip(titles.values(), numbers, strict=True))
    blend = of({titles[name]: model for name, model in models.items()}, table)
    blend.info = {"members": {titles[name]: model.identity for name, model in models.items()}}
    return blend.to(models[names[0]].device)
