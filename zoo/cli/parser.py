"""The parser of recipes and overrides: what is wrong and the nearest right word, in two lines.

jsonargparse says all that is needed, in up to sixty lines.  Its final messages are matched here by
patterns; they are no interface of its own, so each has a test.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Any, NoReturn

import jsonargparse._loaders_dumpers
from lightning.pytorch.cli import LightningArgumentParser

from zoo.cli.reading import Key, Loader, Recipe, two_lines
from zoo.errors import DatasetError, RecipeError, ZooError

RECIPES: ContextVar[Sequence[Recipe]] = ContextVar("recipes", default=())
"""The files of this call, to say where a key stands."""
WORDS: ContextVar[Sequence[str]] = ContextVar("words", default=())
"""The overrides of this call: a key that stands there is no file's fault."""
DEBUG: ContextVar[bool] = ContextVar("debug", default=False)
"""Print the original message as well."""


# Overrides, and text where a number is wanted, are read as recipes are: 1e-3 and not 1:30.
# jsonargparse has no door for this; a test notices if the name goes away.
setattr(jsonargparse._loaders_dumpers, "yaml_default_loader", Loader)  # noqa: B010


class RecipeParser(LightningArgumentParser):
    """No abbreviations, numbers as people write them, and two-line errors."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print two lines and leave with 2; inner parsers raise, which keeps the outer context."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        what, hint = explain(message, option_names(parser))
        sys.stderr.write(f"error: {what}\nhint: {hint}\n")
        if DEBUG.get():
            sys.stderr.write(f"\n{message}\n")
        sys.exit(2)

    def instantiate_classes(self, *args: Any, **kwargs: Any) -> Any:
        """Build what a recipe names; what a constructor refuses is told in two lines.

        Raises:
            RecipeError: a value that a constructor refused.
            DatasetError: the data are not there.
        """
        try:
            return super().instantiate_classes(*args, **kwargs)
        except DatasetError as error:
            if "looked for" not in str(error) and "no data set" not in str(error):
                raise
            hint = "-c data/generated needs no download"
            raise DatasetError(f"data: {error}\nhint: {hint}") from error
        except (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError) as error:
            raise refused(error) from error


def refused(error: Exception) -> ZooError:
    """What a constructor refused, in two lines: jsonargparse wraps the message in all it tried."""
    message, cause = str(error), error
    while re.match(r"Does not validate against|Problem with given", str(cause)):
        if not isinstance(cause.__cause__, Exception):
            break
        cause = cause.__cause__
    text = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(cause, ZooError) and ("hint: " in text or not isinstance(cause, RecipeError)):
        return cause
    found = re.search(r"Given value: Namespace\(class_path='([\w.]+)'", message)
    path = found[1] if found else "zoo.data.module.SeparationData"
    name = path.rsplit(".", 1)[-1]
    key = "model" if "zoo.separator.Separator" in message else name if found else "data"
    if not found and not isinstance(cause, RecipeError):  # of a callback, say: nothing tells which
        key = ""
    first = text.split(" ")[0]
    where = _where(f"{key}.{first}") if first.split(".")[0] in parameters(path) else ""
    what, _, hint = text.rstrip(".").partition("; " if "; " in text else ". ")
    return two_lines(
        ": ".join(part for part in (where, key, what) if part),
        hint or "change it in the recipe, or by --KEY=VALUE; --debug shows more",
    )


def option_names(parser: Any) -> list[str]:
    """All options of a parser, such as ``trainer.max_epochs``."""
    return [a.dest for a in parser._actions if a.option_strings and a.dest != "help"]


def explain(message: str, options: Sequence[str] = ()) -> tuple[str, str]:
    """A message of jsonargparse in two short lines.

    Args:
        message: as `error` receives it.
        options: of the parser, for the nearest one.
    """
    key = _innermost_key(message)
    for pattern, rule in _RULES:
        match = re.search(pattern, message, re.DOTALL)
        if match:
            what, hint, at = rule(match, key, options)
            where = _where(at)
            return (f"{where}: {what}" if where else what), hint
    flat = " ".join(message.split())
    what = flat if len(flat) < 200 else flat[:200] + "..."
    where = _where(key)
    return (f"{where}: {what}" if where else what), "--debug shows the whole message"


# ----------------------------------------------------------------- one function per shape


def _unknown_init_arg(m: re.Match[str], key: str, options: Sequence[str]) -> tuple[str, str, str]:
    name, path = m["name"].removeprefix("init_args."), m["path"]
    accepted = parameters(path)
    if difflib.SequenceMatcher(None, name.split(".")[0], "init_args").ratio() > 0.7:
        name = name.split(".")[0]
        return f"{key}: no key '{name}'", "did you mean 'init_args'?", f"{key}.{name}"
    what = f"{key}: {path.rsplit('.', 1)[-1]} has no option '{name}'"
    return what, nearest(name, accepted), f"{key}.init_args.{name}"


def _unknown_class(m: re.Match[str], key: str, options: Sequence[str]) -> tuple[str, str, str]:
    name = m["name"].strip("'\"")
    return f"{key}: no class named '{name}'", nearest(name, _class_names(key)), f"{key}.class_path"


def _not_a_subclass(m: re.Match[str], key: str, options: Sequence[str]) -> tuple[str, str, str]:
    what = f"{key}: '{m['name']}' is no {m['base'].rsplit('.', 1)[-1]}"
    return what, nearest(m["name"].rsplit(".", 1)[-1], _class_names(key)), f"{key}.class_path"


def _wrong_type(m: re.Match[str], key: str, options: Sequence[str]) -> tuple[str, str, str]:
    wanted, value = _type_name(m["type"]), m["value"].strip().splitlines()[0]
    words = re.findall(r"'([^']*)'", wanted) if wanted.startswith("Literal[") else []
    if words:
        text = value.strip("'\"")
        return f"{key}: no '{text}'; one of {', '.join(words)}", nearest(text, words), key
    if not re.fullmatch(r"['\"].*['\"]|[-+.\d]+", value):
        value = f"'{value}'"
    hint = (
        f"write {key.rsplit('.', 1)[-1]}: {_example(wanted)}" if key else "--help shows the types"
    )
    return f"{key}: wanted {wanted}, got {value}", hint, key


def _wrong_union(m: re.Match[str], key: str, options: Sequence[str]) -> tuple[str, str, str]:
    # At commas outside brackets, which may hold brackets.
    wanted = re.findall(r"(?:[^,\[]|\[(?:[^\[\]]|\[[^\]]*\])*\])+", m["types"])
    names = [_type_name(t.strip()) for t in wanted if "NoneType" not in t]
    value = m["value"].strip().splitlines()[0]
    hint = f"write {key.rsplit('.', 1)[-1]}: {_example(names[0])}"
    return f"{key}: wanted {' or '.join(names)}, got {value}", hint, key


def _unknown_option(m: re.Match[str], key: str, options: Sequence[str]) -> tuple[str, str, str]:
    if not m["name"].startswith("-") and "arguments:" in m[0]:
        return f"a stray word '{m['name'].split()[0]}'", "options are written --KEY=VALUE", ""
    name = m["name"].lstrip("-").split("=")[0].split()[0].strip("'\"")
    return f"no option '{name}'", nearest(name, options), name


def _missing(m: re.Match[str], key: str, options: Sequence[str]) -> tuple[str, str, str]:
    names = [n.strip().removeprefix("fit.").removeprefix("validate.").removeprefix("test.")
             .removeprefix("predict.") for n in m["name"].split(",")]  # fmt: skip
    name = "model" if "model" in names else names[0]
    if name == "model":
        return "no model", "give a recipe, -c NAME, or --model NAME; `zoo list` shows them", ""
    if name.startswith("data"):
        return f"no {name}", "add -c data/generated (needs no download) or --data.dataset ID", ""
    return f"{name} is missing", f"add --{name} VALUE, or the key to the recipe", ""


def _missing_init_arg(m: re.Match[str], key: str, options: Sequence[str]) -> tuple[str, str, str]:
    hint = f"add it below {key}.init_args" if key else "add it to the recipe"
    return f"{key}: '{m['name']}' is missing", hint, f"{key}.init_args"


def _no_value(m: re.Match[str], key: str, options: Sequence[str]) -> tuple[str, str, str]:
    return f"option '{m['name']}' without a value", f"write {m['name'].split('/')[-1]} VALUE", ""


def _no_keys(m: re.Match[str], key: str, options: Sequence[str]) -> tuple[str, str, str]:
    known = [o for o in options if o.startswith(f"{key}.")]
    return (
        f"{key}: wanted keys, got '{m['name']}'",
        f"write {known[0] if known else key}: VALUE",
        key,
    )


_RULES = (
    (
        r"Problem with given class_path '(?P<path>[\w.]+)':(?:(?!Problem with given).)*?"
        r"Option '(?P<name>[^']+)' is not accepted",
        _unknown_init_arg,
    ),
    (
        r"Problem with given class_path '(?P<path>[\w.]+)':(?:(?!Problem with given).)*?"
        r"Key '(?P<name>[^']+)' is required",
        _missing_init_arg,
    ),
    (r"Expected a dot import path string: (?P<name>[^\n]+?)\.?(?:\n|$)", _unknown_class),
    (r"Import path (?P<name>[\w.]+) does not correspond to a subclass of (?P<base>[\w.]+)",
     _not_a_subclass),
    (r"(?:No module named|has no attribute|Unable to import|cannot import name)[^']*"
     r"'(?P<name>[^']+)'", _unknown_class),
    (r"Subcommand '\w+' does not accept (?:option|nested key) '(?P<name>[^']+)'", _unknown_option),
    (r"Option '(?P<name>[^']+)' is not accepted", _unknown_option),
    (r"Unable to load config '(?P<name>[^']+)'", _no_keys),
    (r"(?:[Uu]nrecognized arguments|unknown arguments): (?P<name>.+)", _unknown_option),
    (r"Key '?(?P<name>[\w.]+)'? (?:is required|is not optional)", _missing),
    (r"following arguments are required: (?P<name>[\w., ]+)", _missing),
    (r"argument (?P<name>[-\w./]+): expected (?:one|at least one) argument", _no_value),
    (r"Expected an? (?P<type>[^\n]+?)\. Got value: (?P<value>.*)", _wrong_type),
    (r".*Union subtypes\s+Subtypes: \[(?P<types>[^\n]*)\].*?Given value: (?P<value>[^\n]*)",
     _wrong_union),
)  # fmt: skip


# ----------------------------------------------------------------- words near a word


def nearest(name: str, words: Iterable[str]) -> str:
    """A hint: the word that was probably meant, else some of those there are."""
    known = sorted({w for w in words if w})
    lower = {w.lower(): w for w in known}
    found = difflib.get_close_matches(name.lower(), lower, n=5, cutoff=0.6)
    found.sort(key=lambda w: sorted(w) != sorted(name.lower()))  # two letters exchanged: Adma
    if not found:  # the last part alone, for words deep in a tree: max_epoch
        tails = {w.lower().rsplit(".", 1)[-1]: w for w in known}
        tail = name.lower().rsplit(".", 1)[-1]
        found = [tails[t].lower() for t in difflib.get_close_matches(tail, tails, n=1, cutoff=0.7)]
    if found:
        return f"did you mean '{lower[found[0]]}'?"
    if not known:
        return "it takes no options"
    shown = [w for w in known if "." not in w] or known
    return f"there are: {', '.join(shown[:12])}{', ...' if len(shown) > 12 else ''}"


def parameters(class_path: str) -> list[str]:
    """Names of the arguments of a class's ``__init__``, and of those it passes them on to."""
    cls = imported(class_path)
    names: list[str] = []
    for base in inspect.getmro(cls) if inspect.isclass(cls) else ():
        if "__init__" in vars(base) and base is not object:
            signature = inspect.signature(vars(base)["__init__"])
            names += [
                p.name
                for p in signature.parameters.values()
                if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in _IMPLIED
            ]
            if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
                break
    return names


_IMPLIED = {"self", "params", "optimizer"}  # filled in by Lightning


def imported(class_path: str) -> Any:
    """The object of a dotted path, or None."""
    module, _, name = class_path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def _class_names(key: str) -> list[str]:
    if key == "model":
        from zoo import catalog

        return list(catalog.list_models())
    if key.startswith("optimizer"):
        import torch

        return _subclasses(torch.optim.Optimizer)
    if key.startswith("lr_scheduler"):
        import torch

        return [*_subclasses(torch.optim.lr_scheduler.LRScheduler), "ReduceLROnPlateau"]
    if "callbacks" in key:
        from lightning.pytorch import Callback

        return _subclasses(Callback)
    return []


def _subclasses(base: type) -> list[str]:
    below: list[type] = base.__subclasses__()
    return [c.__name__ for c in below] + [name for c in below for name in _subclasses(c)]


# ----------------------------------------------------------------- types and places


def _type_name(text: str) -> str:
    name = re.sub(r"<class '([\w.]+)'>", r"\1", text)
    name = name.replace("typing.", "").replace("NoneType", "null").replace("builtins.", "")
    return {
        "int": "a whole number", "float": "a number", "bool": "true or false", "str": "text",
        "tuple": "a list", "tuple[float, float]": "[lowest, highest]",
        "dict[str, tuple[float, float]]": "{source: [lowest, highest]}",
        "dict[str, float]": "{name: number}",
    }.get(name, name)  # fmt: skip


def _example(wanted: str) -> str:
    return {
        "a whole number": "10", "a number": "0.001", "true or false": "true", "text": "some text",
        "a list": "[1, 2]", "[lowest, highest]": "[1, 2]",
    }.get(wanted, f"VALUE, of type {wanted}")  # fmt: skip


def _innermost_key(message: str) -> str:
    """The longest key that a message names: each inner one is given relative to the outer one."""
    keys = re.findall(r"(?:Parser key|Problem with given key) ['\"]([\w.\[\]]+)['\"]", message)
    key = ""
    for found in keys:
        if not key or found.startswith(key):
            key = found
        elif found.split(".")[0] in ("fit", "validate", "test", "predict"):
            key = found
        else:
            key = f"{key}.{found}" if not key.endswith(found) else key
    return re.sub(r"^(fit|validate|test|predict)\.", "", key)


def _where(dotted: str) -> str:
    """File and line of a key in the last recipe that holds it, or in a list below its ancestor."""
    if not dotted or any(_overrides(word, dotted) for word in WORDS.get()):
        return ""
    full: Key = tuple(
        int(p) if p.isdigit() else p for p in re.split(r"[.\[\]]+", dotted) if p != ""
    )
    for recipe in reversed(RECIPES.get()):
        for key in _spellings(full):
            if key in recipe.lines:
                return recipe.where(key)
    for recipe in reversed(RECIPES.get()):
        for key in recipe.lines:
            is_below = key[: len(full) - 2] == full[:-2] or key[:2] == full[:2]
            if is_below and key[-1] == full[-1] and len(key) > len(full):
                return recipe.where(key)
    return ""


def _overrides(word: str, dotted: str) -> bool:
    name = word.split("=")[0].removeprefix("--")
    return word.startswith("--") and name.replace(".init_args", "") == dotted.replace(
        ".init_args", ""
    )


def _spellings(key: Key) -> list[Key]:
    """A key as recipes may write it: ``init_args`` may be left out of messages."""
    spelt = [key]
    if "init_args" not in key:
        spelt += [(*key[:i], "init_args", *key[i:]) for i in range(len(key) - 1, 0, -1)]
    return spelt
