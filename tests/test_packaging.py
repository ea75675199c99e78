"""What is shipped: the wheel, its dependencies, the tested set, the commands of the README."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import zoo

pytest.importorskip("build", reason="needs the extra `test`")

# Separates a song, and runs the tests, on a machine that has Python and nothing else.
FIRST = "python3 -m venv .venv && .venv/bin/pip install . -c constraints.txt && .venv/bin/zoo demo"
SECOND = (
    'python3 -m venv .venv && .venv/bin/pip install ".[test]" -c constraints.txt'
    " && .venv/bin/python -m pytest -q"
)


@pytest.fixture(scope="module")
def project(checkout):
    """The table [project] of pyproject.toml."""
    return tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(lines):
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def constraints(checkout, name="constraints.txt"):
    lines = (line.partition("#")[0].strip() for line in (checkout / name).read_text().splitlines())
    return requirements(line for line in lines if line)


# ------------------------------------------------------------------------------- the wheel


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*build, str(checkout)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Folder that the wheel is installed in, without its dependencies."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, str(target), str(wheel)], capture_output=True, check=True)
    return target


def run_installed(installed, folder, code):
    """Output of ``code`` in the installed package, outside the checkout."""
    code = f"import sys; sys.path.insert(0, {str(installed)!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_the_recipes_travel_in_the_wheel(installed, checkout, tmp_path):
    shown = run_installed(installed, tmp_path, "from zoo import recipes; print(*recipes.names())")
    files = (path.relative_to(checkout / "recipes") for path in checkout.glob("recipes/**/*.yaml"))
    names = {path.with_suffix("").as_posix() for path in files}
    assert sorted(shown) == sorted(name for name in names if not name.startswith("sweeps/"))


@pytest.mark.slow
def test_a_recipe_of_the_wheel_is_found_as_the_readme_writes_it(installed, checkout, tmp_path):
    code = "from zoo import recipes; print(recipes.find('recipes/mmdensenet.yaml'))"
    (path,) = run_installed(installed, tmp_path, code)
    assert path == str(installed / "zoo" / "_recipes" / "mmdensenet.yaml")
    recipe = (checkout / "recipes" / "mmdensenet.yaml").read_bytes()
    assert (installed / "zoo" / "_recipes" / "mmdensenet.yaml").read_bytes() == recipe


@pytest.mark.slow
def test_the_wheel_holds_all_of_the_package_and_nothing_else(wheel, checkout):
    names = ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "zoo",
        "music_separation_zoo",
    }
    ours = {
        path.relative_to(checkout).as_posix()
        for path in (checkout / "zoo").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shipped = {name for name in names if re.match("zoo/(?!_recipes/|_hub_cards/)", name)}
    assert shipped == ours
    assert "zoo/py.typed" in names
    assert any(name.startswith("zoo/_hub_cards/") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_installs_the_two_commands(wheel):
    archive = ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
    text = archive.read(name).decode()
    assert "zoo = zoo.cli:main" in text
    assert "lightning = zoo.cli:lightning_main" in text


@pytest.mark.slow
def test_the_wheel_has_the_version_of_the_package(wheel):
    assert wheel.name == f"music_separation_zoo-{zoo.__version__}-py3-none-any.whl"


# ------------------------------------------------------------------------------- dependencies


def third_party(path):
    """Top-level packages that a file imports, the standard library and our own left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0):
                found = [module]
            case _:
                continue
        tops = (name.partition(".")[0] for name in found)
        yield from (top for top in tops if top not in sys.stdlib_module_names | {"zoo"})


def undeclared(paths, declared):
    homes = packages_distributions()
    for path in paths:
        for top in third_party(path):
            if not {canonicalize_name(home) for home in homes.get(top, [top])} & set(declared):
                yield f"{path.name}: {top}"


def test_every_package_that_the_zoo_imports_is_declared(project, checkout):
    extras = project["optional-dependencies"]
    declared = requirements(
        [*project["dependencies"], *(x for name in extras if name != "test" for x in extras[name])]
    )
    assert sorted(set(undeclared((checkout / "zoo").rglob("*.py"), declared))) == []


def test_every_package_that_the_tests_import_is_declared(project, checkout):
    extras = project["optional-dependencies"]
    ours = [x for extra in extras.values() for x in extra]
    declared = requirements([*project["dependencies"], *ours])
    # Files of the tests import each other by their bare names.
    own = {canonicalize_name(path.stem) for path in (checkout / "tests").glob("*.py")}
    own |= {"benchmarks", "zoo-onelayer"}  # of the checkout, and a plug-in that a test writes
    found = undeclared((checkout / "tests").rglob("*.py"), {*declared, *own})
    assert sorted(set(found)) == []


def test_the_check_of_declared_packages_sees_one_that_is_not(tmp_path):
    path = tmp_path / "some.py"
    path.write_text("def f():\n    import yaml.nodes, json\n    from zoo import catalog\n")
    assert list(undeclared([path], requirements(["numpy"]))) == ["some.py: yaml"]
    assert list(undeclared([path], requirements(["PyYAML"]))) == []


@pytest.mark.parametrize("group", ["core", "test"])
def test_the_tested_set_names_every_direct_dependency_within_its_bounds(project, checkout, group):
    extras = project["optional-dependencies"]
    lines = project["dependencies"] if group == "core" else [*extras["test"], *extras["soundfont"]]
    lines = [line for line in lines if not line.startswith(project["name"])]  # the other extras
    tested = constraints(checkout)
    for name, requirement in requirements(lines).items():
        assert name in tested, f"constraints.txt does not name {name}"
        (pin,) = tested[name].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(Version(pin.version)), f"{requirement} with {pin}"


def test_the_native_pair_is_within_the_bounds_of_the_core(project, checkout):
    core = requirements(project["dependencies"])
    native = constraints(checkout, "constraints-native-audio.txt")
    assert set(native) == {"torch", "torchaudio"}
    versions = {name: next(iter(native[name].specifier)).version for name in native}
    assert versions["torch"] == versions["torchaudio"]
    assert all(core[name].specifier.contains(versions[name]) for name in native)


def test_the_core_does_not_pin(project):
    operators = {
        specifier.operator
        for requirement in requirements(project["dependencies"]).values()
        for specifier in requirement.specifier
    }
    assert operators <= {">=", "<"}


# ------------------------------------------------------------------------------- the pages


@pytest.mark.parametrize("command", [FIRST, SECOND])
def test_the_readme_shows_each_command_once_as_one_line(checkout, command):
    lines = (checkout / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line.strip().removeprefix("$ ") for line in lines].count(command) == 1


def test_the_citation_is_of_this_version_and_licence(project, checkout):
    citation = yaml.safe_load((checkout / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == zoo.__version__
    assert citation["license"] == project["license"] == "MIT"
    assert all({"type", "title", "authors", "year"} <= set(r) for r in citation["references"])


def test_the_changelog_has_a_section_for_this_version(checkout):
    text = (checkout / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[(Unreleased\] .*)?{re.escape(zoo.__version__)}", text, re.M)
