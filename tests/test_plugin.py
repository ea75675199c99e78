"""A model in a package of its own: the example, and the walk-through, as their readers run them."""

import csv
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from zoo.catalog import Entry
from zoo.testing import CHECKS
from zoo.weights import facts

pytest.importorskip("hatchling", reason="needs the extra `test`")
pytest.importorskip("pip")

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = (CHECKOUT / "docs" / "adding-a-model.md").read_text(encoding="utf-8")
SMALL = [
    "-c", "data/generated", "-c", "hardware/cpu-smoke", "--wandb=off", "--examples_every=0",
    "--data.arguments={n_train: 1, n_valid: 1, n_test: 1, seconds: 2, sample_rate: 8000}",
    "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--run_dir=run",
]  # fmt: skip


def install(package, target):
    """Put a package and its entry points into a folder, with the build tools that are here."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    run([*pip, "--no-build-isolation", "--no-compile", "--target", target, package], CHECKOUT)
    return target


def run(words, folder, *path):
    """Output of a command in a folder, with further places that Python imports from."""
    places = os.pathsep.join(map(str, [*path, CHECKOUT]))
    done = subprocess.run(
        [*map(str, words)], cwd=folder, env={**os.environ, "PYTHONPATH": places},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_training(recipe, folder, target):
    """Two steps and a validation by a recipe leave their row."""
    run([sys.executable, "-m", "zoo", "fit", "-c", recipe, *SMALL], folder, target)
    with open(folder / "run" / "metrics.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["step"] == "1"  # counted from 0
    assert float(row["train/loss"]) > 0 and math.isfinite(float(row["val/sdr"]))


# ------------------------------------------------------------------------------- the example


@pytest.fixture(scope="module")
def softmask(tmp_path_factory):
    return install(CHECKOUT / "examples" / "plugin", tmp_path_factory.mktemp("softmask"))


def test_the_example_is_listed_without_importing_it(softmask, tmp_path):
    code = """
import sys
from zoo.cli import main
main(["list"])
print(sorted({"torch", "zoo_softmask"} & set(sys.modules)))
"""
    shown = run([sys.executable, "-c", code], tmp_path, softmask)
    assert re.search(r"softmask +plug-in of zoo-softmask", shown)
    assert shown.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_what_the_example_says_of_itself_is_shown(softmask, tmp_path):
    told = run([sys.executable, "-m", "zoo", "info", "softmask"], tmp_path, softmask)
    for words in ("a softmax over the sources", "zoo-softmask", "44.1 kHz stereo"):
        assert words in told


@pytest.mark.slow
def test_the_example_keeps_every_promise_and_its_facts_are_true(softmask, tmp_path):
    code = """
import zoo
from zoo import catalog, weights
from zoo.testing import CHECKS, tiny
for check in CHECKS:
    check(tiny("softmask"))
    print(check.__name__)
model = zoo.create("softmask")
found = {**weights.facts(model), "sources": list(model.sources)}
found |= {"sample_rate": model.sample_rate, "channels": model.channels}
assert found == catalog.described("softmask").facts, found
"""
    assert "check_chunks" in run([sys.executable, "-c", code], tmp_path, softmask).split()


@pytest.mark.slow
def test_the_example_trains_by_its_recipe(softmask, tmp_path):
    check_training(softmask / "zoo_softmask" / "softmask.yaml", tmp_path, softmask)


def test_the_example_is_short():
    text = (CHECKOUT / "examples/plugin/zoo_softmask/__init__.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80


# ------------------------------------------------------------------------------- the walk-through


def blocks():
    """Language and text of each block of the page; the first comment of a file is its name."""
    return re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def named(text):
    match = re.match(r"# (\S+)\n", text)
    return match[1] if match else None


@pytest.fixture(scope="module")
def onelayer(tmp_path_factory):
    """The package of the page, and the folder that it is installed in."""
    folder = tmp_path_factory.mktemp("onelayer")
    for _, text in blocks():
        if "." in (name := named(text) or ""):
            (folder / name).write_text(text, encoding="utf-8")
    return folder, install(folder, tmp_path_factory.mktemp("installed"))


def test_the_page_has_the_files_that_its_commands_name(onelayer):
    folder, target = onelayer
    (commands,) = (text for language, text in blocks() if language == "sh")
    for name in re.findall(r"\S+\.(?:py|yaml)", commands):
        assert (folder / name).is_file()
    assert [path.name for path in target.glob("*.py")] == ["zoo_onelayer.py"]


@pytest.mark.slow
def test_the_tests_of_the_page_pass(onelayer):
    folder, target = onelayer
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_onelayer.py"]
    assert f"{len(CHECKS)} passed" in run([sys.executable, *words], folder, target)


@pytest.mark.slow
def test_the_recipe_of_the_page_trains(onelayer, tmp_path):
    folder, target = onelayer
    check_training(folder / "onelayer.yaml", tmp_path, target)


@pytest.mark.slow
def test_the_model_of_the_page_separates(onelayer):
    folder, target = onelayer
    (code,) = (text for lang, text in blocks() if lang == "python" and named(text) is None)
    shown = run([sys.executable, "-c", code], folder, target)
    assert shown.strip() == "Estimates(speech, music; 1.0 s at 44100 Hz)"


def test_the_line_of_the_table_is_an_entry_and_its_facts_are_true(onelayer, monkeypatch):
    _, target = onelayer
    (text,) = (text for _, text in blocks() if named(text) == "TABLE")
    ((name, values),) = eval(f"{{{text}}}").items()
    entry = Entry(name, **values)
    monkeypatch.syspath_prepend(str(target))
    import zoo_onelayer

    model = zoo_onelayer.OneLayer()
    assert entry.tiny == zoo_onelayer.OneLayer.tiny
    assert entry.domain == zoo_onelayer.OneLayer.domain
    described = {"sources": list(model.sources), "sample_rate": 44100, "channels": 2}
    assert {**described, **facts(model)} == entry.facts


def test_the_page_names_every_member_that_a_system_writes():
    members = "forward survey loss segment context grid surveys only".split()
    assert all(hasattr(zoo.Separator, name) for name in members)
    assert all(f"`{name}" in PAGE for name in members)
