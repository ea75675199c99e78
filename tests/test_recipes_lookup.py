"""Finding recipes: files, names, the wheel's copy, the checkout's copy."""

import shutil
import subprocess
import sys

import pytest

from zoo import recipes
from zoo.errors import RecipeError


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A package folder and recipes beside it, in place of the real ones; we are elsewhere."""
    for name in ("wavenet.yaml", "data/mir1k.yaml", "hardware/cpu-smoke.yaml", "notes.txt"):
        path = tmp_path / "recipes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("beside")
    (tmp_path / "zoo").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(recipes, "_PACKAGE", tmp_path / "zoo")
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def test_names_are_paths_below_the_folder_without_the_ending(house):
    assert recipes.names() == ["data/mir1k", "hardware/cpu-smoke", "wavenet"]


@pytest.mark.parametrize(
    "name",
    [
        "wavenet",
        "wavenet.yaml",
        "recipes/wavenet.yaml",
        "recipes/wavenet",
        "./recipes/wavenet.yaml",
    ],
)
def test_a_recipe_is_found_by_each_spelling_of_its_name(house, name):
    assert recipes.find(name) == house / "recipes" / "wavenet.yaml"


@pytest.mark.parametrize("name", ["data/mir1k", "data/mir1k.yaml", "recipes/data/mir1k.yaml"])
def test_an_overlay_is_found_by_each_spelling_of_its_name(house, name):
    assert recipes.find(name) == house / "recipes" / "data" / "mir1k.yaml"


def test_a_file_that_exists_wins_over_a_name(house):
    mine = house / "elsewhere" / "wavenet.yaml"
    mine.write_text("mine")
    assert recipes.find("wavenet.yaml").read_text() == "mine"
    assert recipes.find(mine) == mine
    assert recipes.find("wavenet") == house / "recipes" / "wavenet.yaml"


def test_a_folder_of_the_same_name_is_no_recipe(house):
    (house / "elsewhere" / "wavenet").mkdir()
    assert recipes.find("wavenet").read_text() == "beside"


def test_the_copy_within_the_package_wins(house):
    shutil.copytree(house / "recipes", house / "zoo" / "_recipes")
    (house / "zoo" / "_recipes" / "wavenet.yaml").write_text("within")
    assert recipes.find("recipes/wavenet.yaml").read_text() == "within"


def test_a_yaml_may_end_in_yml(house):
    (house / "recipes" / "other.yml").write_text("beside")
    assert recipes.find("other.yml") == recipes.find("other") == house / "recipes" / "other.yml"


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [("wavnet", "wavenet"), ("recipes/wavenett.yaml", "wavenet"), ("mir1k", "data/mir1k")],
)
def test_an_unknown_recipe_gets_the_nearest(house, asked, nearest):
    with pytest.raises(RecipeError, match=f"{asked!r}. Did you mean {nearest!r}\\?"):
        recipes.find(asked)


def test_a_name_that_is_near_nothing_gets_them_all(house):
    with pytest.raises(RecipeError, match="There are: data/mir1k, hardware/cpu-smoke, wavenet."):
        recipes.find("qqqqqq")


def test_an_installation_without_recipes_says_so(house):
    shutil.rmtree(house / "recipes")
    assert recipes.names() == []
    with pytest.raises(RecipeError, match="this installation has no recipes"):
        recipes.find("wavenet")


@pytest.mark.parametrize("name", ["../secret", "../../etc/passwd", "", "."])
def test_a_name_does_not_lead_out_of_the_folder(house, name):
    (house / "secret.yaml").write_text("outside")
    with pytest.raises(RecipeError):
        recipes.find(name)


def test_the_recipes_of_the_checkout_are_found_from_any_folder(checkout, tmp_path):
    code = "from zoo import recipes; print(recipes.find('recipes/mmdensenet.yaml'))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(checkout)!r}); {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(checkout / "recipes" / "mmdensenet.yaml")


def test_every_file_of_the_checkout_but_sweeps_has_a_name(checkout):
    files = [p for p in (checkout / "recipes").rglob("*.yaml") if p.parent.name != "sweeps"]
    assert len(files) == len(recipes.names()) > 0
