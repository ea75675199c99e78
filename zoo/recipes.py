"""Where recipes lie: in the wheel, or beside the package in a checkout.  Only finding and names."""

import difflib
import os
from pathlib import Path

from zoo.errors import RecipeError

_SUFFIXES = (".yaml", ".yml")
_PACKAGE = Path(__file__).resolve().parent


def find(name: str | os.PathLike[str]) -> Path:
    """File of a recipe.

    Args:
        name: an existing file, else one of `names`, with or without ``recipes/`` before it and
            ``.yaml`` after it.

    Raises:
        RecipeError: there is no such file or recipe; the message offers the nearest name.
    """
    path = Path(name)
    if path.is_file():
        return path
    wanted = path.as_posix().removeprefix("./").removeprefix("recipes/")
    if wanted.endswith(_SUFFIXES):
        wanted = wanted.rpartition(".")[0]
    known = _files()
    if wanted in known:
        return known[wanted]
    raise RecipeError(_unknown(os.fspath(name), wanted, list(known)))


def names() -> list[str]:
    """Names of the recipes that come with the zoo, such as ``mmdensenet`` and ``data/mir1k``."""
    return list(_files())


def _files() -> dict[str, Path]:
    """The recipes by name: those of the wheel, else those of the checkout."""
    for folder in (_PACKAGE / "_recipes", _PACKAGE.parent / "recipes"):
        if folder.is_dir():
            found = sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
            known = {p.relative_to(folder).with_suffix("").as_posix(): p for p in found}
            # Those are for `wandb sweep`.
            return {name: p for name, p in known.items() if not name.startswith("sweeps/")}
    return {}


def _unknown(asked: str, wanted: str, known: list[str]) -> str:
    if not known:
        return (
            f"no recipe {asked!r}: this installation has no recipes. Install the package again, "
            "or give the path of a file."
        )
    # `mir1k` is near `data/mir1k`, whose name is much longer.
    short = {name.rpartition("/")[2]: name for name in reversed(known)}
    found = difflib.get_close_matches(wanted, known, n=1) or [
        short[name] for name in difflib.get_close_matches(wanted, short, n=1)
    ]
    hint = f" Did you mean {found[0]!r}?" if found else f" There are: {', '.join(known)}."
    return f"no recipe or file {asked!r}.{hint}"
