"""The floors of the house: a file imports only from its own floor or below."""

import ast
from pathlib import Path, PurePosixPath

import pytest

import zoo

PACKAGE = Path(zoo.__file__).parent

# A module or package of zoo -> its floor. What is not listed has no place yet, and fails.
FLOORS = {
    name: floor
    for floor, names in enumerate(
        [
            "errors files audio dsp metrics compat",
            "separator streaming stems scores catalog recipes pictures",
            "models data",
            "release weights training authors",
            "evaluation applications hub testing",
            "cli app __main__",
        ]
    )
    for name in names.split()
}
# The public names, looked up when asked for: it stands beside the floors, and what is imported from
# it counts as imported from where it comes.
FLOORS["__init__"] = 0

# The catalog reads the table of the systems, which holds facts and imports nothing (tested below).
ALLOWED = {("catalog.py", "zoo.models")}


def python_files():
    return sorted(path for path in PACKAGE.rglob("*.py"))


def relative(path):
    return path.relative_to(PACKAGE).as_posix()


def floor_of(file):
    """Floor of a file of zoo/, or None for one that has no place in the house."""
    return FLOORS.get(PurePosixPath(file).parts[0].removesuffix(".py"))


def file_of(module):
    """File of a module of zoo, relative to zoo/, or None if there is no such module."""
    path = module.replace(".", "/").removeprefix("zoo/")
    candidates = ["__init__.py"] if module == "zoo" else [f"{path}/__init__.py", f"{path}.py"]
    return next((file for file in candidates if (PACKAGE / file).is_file()), None)


def imported_modules(text, file):
    """Modules of zoo that a text imports, anywhere in it: within functions too, and by name."""
    package = ["zoo", *PurePosixPath(file).parts[:-1]]
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = package[: len(package) - level + 1] if level else []
                home = ".".join([*base, *([module] if module else [])])
                yield from (_home_of(home, alias.name) for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield module


def _home_of(module, name):
    """Module that ``from module import name`` reaches: a module within it, or itself."""
    if module == "zoo":
        return zoo._HOMES.get(name, f"zoo.{name}" if file_of(f"zoo.{name}") else "zoo")
    inner = f"{module}.{name}"
    return inner if module.startswith("zoo.") and file_of(inner) else module


def misplaced(text, file):
    """Imports of ``file`` that reach above its floor, or from system to system."""
    for module in imported_modules(text, file):
        target = file_of(module) if module == "zoo" or module.startswith("zoo.") else None
        if target is None or (file, module) in ALLOWED:
            continue
        if floor_of(target) > floor_of(file) or _is_another_system(file, target):
            yield module


def _is_another_system(file, target):
    return _is_system(file) and _is_system(target) and file != target


def _is_system(file):
    parent, name = PurePosixPath(file).parent.as_posix(), PurePosixPath(file).name
    shared = "__init__ blocks statistics targets spatial gaussian demixing".split()
    return parent == "models" and name.removesuffix(".py") not in shared


def test_every_file_has_a_floor():
    assert [relative(p) for p in python_files() if floor_of(relative(p)) is None] == []


@pytest.mark.parametrize("path", python_files(), ids=relative)
def test_a_file_imports_only_from_its_own_floor_or_below(path):
    if path == PACKAGE / "__init__.py":
        pytest.skip("holds the public names of all floors; imports them when asked for")
    if floor_of(relative(path)) is None:
        pytest.skip("has no floor; another test says so")
    assert list(misplaced(path.read_text(encoding="utf-8"), relative(path))) == []


def test_the_table_of_systems_imports_nothing_of_the_zoo():
    text = (PACKAGE / "models" / "__init__.py").read_text(encoding="utf-8")
    assert [m for m in imported_modules(text, "models/__init__.py") if m.startswith("zoo")] == []


@pytest.mark.parametrize("path", python_files(), ids=relative)
def test_only_the_top_floor_prints(path):
    if floor_of(relative(path)) == 5:
        pytest.skip("the top floor")
    calls = (
        node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)
    )
    assert [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"] == []


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("audio.py", "from zoo.separator import Separator", "zoo.separator"),
        ("audio.py", "from zoo import separator", "zoo.separator"),
        ("audio.py", "from zoo import create", "zoo.catalog"),
        ("separator.py", "def f():\n    from zoo.data.track import Track", "zoo.data.track"),
        ("streaming.py", "import zoo.release", "zoo.release"),
        ("data/track.py", "from ..cli import main", "zoo.cli"),
        ("data/track.py", "import_module('zoo.cli.train')", "zoo.cli.train"),
        (
            "models/wavenet.py",
            "from zoo.models.mmdensenet import DenseBlock",
            "zoo.models.mmdensenet",
        ),
        ("models/wavenet.py", "from zoo.models import mmdensenet", "zoo.models.mmdensenet"),
        ("models/wavenet.py", "from .mmdensenet import DenseBlock", "zoo.models.mmdensenet"),
    ],
)
def test_the_reading_of_imports_sees_a_misplaced_one(file, text, found):
    assert list(misplaced(text, file)) == [found]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("separator.py", "from zoo.errors import ShapeError\nfrom zoo import streaming"),
        ("models/wavenet.py", "import torch\nfrom zoo.separator import Separator"),
        ("cli/__init__.py", "from zoo import __version__, catalog, create"),
        ("release.py", "from zoo import weights"),
        ("catalog.py", "from zoo.models import TABLE"),
    ],
)
def test_the_reading_of_imports_lets_a_proper_one_through(file, text):
    assert list(misplaced(text, file)) == []
