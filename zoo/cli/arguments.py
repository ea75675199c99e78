"""What stands on the command line of ``fit|validate|test|predict``, made ready for LightningCLI.

Recipes are found by name and read strictly, names of the catalog become class paths, the arguments
of a named variant go below those of the recipe, and ``tiny: true`` brings the family's small
arguments.  None of this imports torch (but ``tiny`` for a class outside the catalog).
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo import catalog, recipes
from zoo.catalog import Entry
from zoo.cli.reading import Recipe, load_value, read, two_lines
from zoo.errors import RecipeError, UnknownModel, near

DECIDED_BY_DATA = ("sources", "sample_rate", "channels")
"""Arguments that ``tiny`` leaves alone where a recipe sets them: a small model of the same task."""

VALUE_OF_MODEL = re.compile(r"--model(?:\.class_path)?(?:=(?P<value>.*))?$", re.DOTALL)


@dataclass(frozen=True)
class Content:
    """What a recipe has become: the content of a file that LightningCLI shall read."""

    stem: str
    tree: dict[str, Any]


@dataclass
class Call:
    """One call of the training commands; ``arguments`` are what LightningCLI shall parse."""

    command: str
    arguments: list[str | Content] = field(default_factory=list)
    recipes: list[Recipe] = field(default_factory=list)
    name: str = "run"
    notes: list[str] = field(default_factory=list)

    def written(self, folder: Path) -> list[str]:
        """The arguments as words, with each content as a file in a folder."""
        words = []
        for i, argument in enumerate(self.arguments):
            if isinstance(argument, Content):
                path = folder / f"{i}-{argument.stem}.json"
                path.write_text(json.dumps(argument.tree), encoding="utf-8")
                argument = f"--config={path}"
            words.append(argument)
        return words


def prepare(command: str, argv: Sequence[str]) -> Call:
    """Make the words after a command ready.

    Raises:
        RecipeError: a recipe that cannot be found or read, or an unknown model; two lines.
    """
    call = Call(command)
    out = call.arguments
    tiny: bool | None = None
    model: str | None = None
    decided: set[str] = set()
    data: dict[str, Any] = {}
    last_recipe = 0
    for option, value in _words(_with_run_recipe(argv)):
        if option == "--config":
            recipe = _recipe(value or "", call)
            tree = deepcopy(recipe.tree)
            model = _resolve_model(tree, recipe) or model
            decided |= set(_init_args(tree)) & set(DECIDED_BY_DATA)
            tiny = tree.pop("tiny") if "tiny" in tree else tiny
            data = _change_data(tree, data)
            out.append(Content(Path(recipe.path).stem, tree))
            last_recipe = len(out)
        elif option == "--tiny":
            tiny = _truth(value)
        elif option == "--model" and value is not None:
            tree = {"model": {"class_path": value}}
            model = _resolve_model(tree, None) or model
            out.append(Content("model", tree))
            last_recipe = max(last_recipe, len(out))
        else:
            if option.startswith("--model."):
                decided |= {option.split("=")[0].rsplit(".", 1)[-1]} & set(DECIDED_BY_DATA)
            out.append(option)
    if tiny not in (None, True, False):
        raise two_lines(f"tiny: wanted true or false, got {tiny!r}", "write tiny: true")
    if tiny:
        out.insert(last_recipe, Content("tiny", _tiny_tree(model, decided)))
    call.name = _run_name(call.recipes, model)
    return call


def _words(argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Options of ours with their values, and all other words as they are."""
    words = iter(argv)
    for word in words:
        if word in ("-c", "--config"):
            yield "--config", _next(words, word, "NAME or FILE.yaml")
        elif word.startswith(("-c=", "--config=")):
            yield "--config", word.split("=", 1)[1]
        elif word == "--tiny" or word.startswith("--tiny="):
            yield "--tiny", word.split("=", 1)[1] if "=" in word else None
        elif match := VALUE_OF_MODEL.match(word):
            value = match["value"]
            yield "--model", value if value is not None else _next(words, word, "NAME")
        else:
            yield word, None


def _next(words: Iterator[str], option: str, wanted: str) -> str:
    value = next(words, None)
    if value is None:
        raise two_lines(f"option '{option}' without a value", f"write {option} {wanted}")
    return value


def _truth(text: str | None) -> Any:
    return True if text is None else load_value(text)


def _with_run_recipe(argv: Sequence[str]) -> list[str]:
    """A checkpoint of a run brings the run's own recipe, where no other is given."""
    words = list(argv)
    if any(w in ("-c", "--config") or w.startswith(("-c=", "--config=")) for w in words):
        return words
    for i, word in enumerate(words):
        value = word.partition("=")[2]
        if word == "--ckpt_path":
            value = words[i + 1] if i + 1 < len(words) else ""
        elif not word.startswith("--ckpt_path="):
            continue
        folder = Path(value).parent
        for recipe in (folder / "config.yaml", folder.parent / "config.yaml"):
            if value.endswith(".ckpt") and recipe.is_file():
                return ["--config", str(recipe), *words]
    return words


def _recipe(name: str, call: Call) -> Recipe:
    if Path(name).is_file():
        recipe = read(name)
    else:
        try:
            path = recipes.find(name)
        except RecipeError as error:
            raise _in_two_lines(error) from error
        recipe = read(path)
        call.notes.append(f"recipe {name}: {path}")
    call.recipes.append(recipe)
    return recipe


def _in_two_lines(error: Exception) -> RecipeError:
    """An error of one or two sentences as two lines."""
    text = " ".join(str(error.args[0] if error.args else error).split())
    what, _, hint = text.partition("? ") if text.count("? ") == 1 else ("", "", "")
    if not what:
        what, _, hint = text.partition(". ")
    if "Did you mean" in what:
        what, _, name = what.partition(" Did you mean")
        return two_lines(what.rstrip(" .;"), f"did you mean{name.rstrip('?')}?")
    return two_lines(what.rstrip(" .;"), hint or "`zoo list` shows them all")


def _init_args(tree: dict[str, Any]) -> dict[str, Any]:
    model = tree.get("model")
    arguments = model.get("init_args") if isinstance(model, dict) else None
    return arguments if isinstance(arguments, dict) else {}


def _change_data(tree: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Let another data set than that of the recipes before not inherit its root and arguments."""
    data = tree.get("data")
    if not isinstance(data, dict):
        return earlier
    if data.get("dataset", earlier.get("dataset")) != earlier.get("dataset"):
        for key in {"root", "arguments"} & earlier.keys():
            data.setdefault(key, None)
    return {**earlier, **data}


def _resolve_model(tree: dict[str, Any], recipe: Recipe | None) -> str | None:
    """Replace a name of the catalog by class path and arguments; give the name that stood there."""
    model = tree.get("model")
    if isinstance(model, str):
        model = tree["model"] = {"class_path": model}
    name = model.get("class_path") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(name, str):
        return None
    try:
        entry = catalog.entry(name)
    except UnknownModel as error:
        if "." in name:  # a dotted path of somebody's own class
            return name
        raise _unknown_model(name, recipe) from error
    model["class_path"] = entry.target.replace(":", ".")
    if entry.arguments or "init_args" in model:
        model["init_args"] = {**entry.arguments, **(model.get("init_args") or {})}
    return name


def _unknown_model(name: str, recipe: Recipe | None) -> RecipeError:
    names = catalog.list_models()
    hint = near(name, names) or f"There are: {', '.join(names)}"
    where = f"{recipe.where(('model', 'class_path'))}: " if recipe else ""
    return two_lines(f"{where}model: no model named '{name}'", hint)


def _tiny_tree(model: str | None, decided: set[str]) -> dict[str, Any]:
    if model is None:
        raise two_lines("tiny: true, but no model", "give a recipe, -c NAME, or --model NAME")
    path, tiny = _tiny(model)
    arguments = {name: value for name, value in tiny.items() if name not in decided}
    return {"model": {"class_path": path, "init_args": arguments}}


def _tiny(model: str) -> tuple[str, dict[str, Any]]:
    """Class path and small arguments of a name of the catalog or a dotted path."""
    entry = _entry_of(model)
    if entry is not None:
        return entry.target.replace(":", "."), dict(entry.tiny)
    module, _, name = model.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise two_lines(f"model: no class named '{model}'", "check the spelling") from error
    tiny = getattr(cls, "tiny", None)
    if not tiny:
        raise two_lines(f"tiny: true, but {name} names no small variant", "give its sizes yourself")
    return model, dict(tiny)


def _entry_of(model: str) -> Entry | None:
    try:
        return catalog.described(model)
    except UnknownModel:
        for name in catalog.list_models():
            if catalog.entry(name).target.replace(":", ".") == model:
                return catalog.described(name)
    return None


def _run_name(used: Sequence[Recipe], model: str | None) -> str:
    """Name of the run's folder: the recipes' own, joined by ``-``.

    With the recipe of a release it lies in ``releases/``, as the recipe does: ``mmdensenet`` and
    ``data/mir1k`` make ``mmdensenet-mir1k``, which is not ``releases/mmdensenet-mir1k``.
    """
    paths = [Path(recipe.path).absolute() for recipe in used]
    name = "-".join(path.stem for path in paths) or (model or "run").rsplit(".", 1)[-1]
    return f"releases/{name}" if any(p.parent.name == "releases" for p in paths) else name
