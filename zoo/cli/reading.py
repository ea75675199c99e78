"""Recipes as they stand in their files: strict YAML, with the line of every key.

YAML 1.1 holds surprises for people who write numbers: ``1e-3`` is text, ``1:30`` is 90, ``010``
is 8, ``no`` is false, and a key that stands twice silently loses its first value.  Here ``1e-3`` is
a number, the next three stay text (so that a wrong type is noticed), and the last is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import RecipeError

Key = tuple[str | int, ...]
"""Where a value stands, such as ``("model", "init_args", "n_stacks")``."""


class Loader(yaml.SafeLoader):
    """YAML with the numbers and truth values of JSON."""


Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
):
    Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(f"^(?:{_pattern})$"),
        ["" if c == "\0" else c for c in _first],
    )


def load_value(text: str) -> Any:
    """The value of one piece of YAML, as a command line holds it.

    >>> load_value("1e-3"), load_value("1:30"), load_value("010"), load_value("no")
    (0.001, '1:30', '010', 'no')
    """
    return yaml.load(text, Loader)  # noqa: S506  (a safe loader)


@dataclass(frozen=True)
class Recipe:
    """One recipe file."""

    path: str
    tree: dict[str, Any]
    lines: dict[Key, int] = field(default_factory=dict)

    def where(self, key: Key | None = None) -> str:
        """File and, where the key stands in it, line: ``recipes/wavenet.yaml, line 7``."""
        line = self.lines.get(key) if key is not None else None
        return self.path if line is None else f"{self.path}, line {line}"


def read(path: str | Path) -> Recipe:
    """The recipe in a file.

    Raises:
        RecipeError: no file, no YAML, a key twice, a tag, or not a mapping of keys; two lines.
    """
    shown = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise two_lines(f"{shown}: not text in UTF-8", "save it as UTF-8") from error
    except OSError as error:
        problem = error.strerror or str(error)
        raise two_lines(f"{shown}: {problem}", "`zoo list` shows the recipes") from error
    try:
        _refuse_tags(text, shown)
        node = yaml.compose(text, Loader)  # noqa: S506
        if node is None:
            raise two_lines(f"{shown}: an empty recipe", "a recipe needs at least one key")
        lines: dict[Key, int] = {}
        _index(node, (), lines, shown)
        tree = yaml.load(text, Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        raise _explained(error, text, shown) from error
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, RecipeError):
            raise
        raise two_lines(f"{shown}: {_flat(error)}", "look at the YAML near there") from error
    if not isinstance(tree, dict):
        kind = "a list" if isinstance(tree, list) else f"the value {tree!r}"
        raise two_lines(f"{shown}: {kind}, not a mapping", "write `key: value` lines")
    return Recipe(shown, tree, lines)


def two_lines(what: str, hint: str) -> RecipeError:
    """An error of a recipe: what is wrong, then the nearest right thing."""
    hint = hint.strip().replace("There are:", "there are:").replace("Did you mean", "did you mean")
    return RecipeError(f"{what}\nhint: {hint}")


def _refuse_tags(text: str, shown: str) -> None:
    for event in yaml.parse(text, Loader):  # noqa: S506
        tag = getattr(event, "tag", None)
        if tag is not None:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise two_lines(
                f"{shown}, line {line}: the YAML tag '{tag.replace('tag:yaml.org,2002:', '!!')}'",
                "a recipe holds plain values only; write class_path and init_args instead",
            )


def _index(node: yaml.Node, key: Key, lines: dict[Key, int], shown: str) -> None:
    """Note the line of every key below a node; refuse keys that stand twice."""
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            lines[(*key, i)] = item.start_mark.line + 1
            _index(item, (*key, i), lines, shown)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for name_node, value in node.value:
        name, line = str(name_node.value), name_node.start_mark.line + 1
        if name in seen:
            full = ".".join(str(k) for k in (*key, name))
            raise two_lines(
                f"{shown}, line {line}: key '{full}' again; it stands in line {seen[name]} already",
                "keep one of the two",
            )
        seen[name] = line
        lines[(*key, name)] = line
        _index(value, (*key, name), lines, shown)


def _explained(error: yaml.MarkedYAMLError, text: str, shown: str) -> RecipeError:
    mark = error.problem_mark or error.context_mark
    where = shown if mark is None else f"{shown}, line {mark.line + 1}"
    lines = text.splitlines()
    at = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "\t" in at[: len(at) - len(at.lstrip())] or "'\\t'" in str(error.problem):
        return two_lines(f"{where}: a tab where YAML wants spaces", "indent with spaces")
    return two_lines(
        f"{where}: no valid YAML: {error.problem or _flat(error)}",
        "check the indentation, the colons and the quotes there",
    )


def _flat(error: Exception) -> str:
    return " ".join(str(error).split())


def data_arguments(text: str) -> dict[str, Any]:
    """What ``--arguments`` of a data set says.

    Raises:
        RecipeError: it is no mapping.
    """
    try:
        named = yaml.safe_load(text) or {}
    except yaml.YAMLError:
        named = None
    if not isinstance(named, dict):
        raise RecipeError(
            f"--arguments is {text!r}; give names with values, such as '{{missing: silent}}'."
        )
    return named
