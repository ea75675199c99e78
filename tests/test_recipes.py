"""The recipes that come with the zoo: all parse, their variants build, and training runs."""

import re
from pathlib import Path

import pytest
import yaml

import zoo
from zoo import catalog, recipes
from zoo.cli.parser import imported
from zoo.cli.train import run
from zoo.errors import MissingPackage

ARCHITECTURES = [name for name in recipes.names() if "/" not in name]
# What the comments of a recipe call a variant: a name, one override, perhaps a parameter count.
VARIANT = re.compile(
    r"^#   (?P<name>\S.*?)  +--(?P<key>\S+) (?P<value>\S+)(?:  +(?P<n>\d[\d ]*\d))?"
)


def variants(name):
    return [m for line in recipes.find(name).read_text().splitlines() if (m := VARIANT.match(line))]


VARIANTS = [
    pytest.param(name, match, id=f"{name}: {match['name']}")
    for name in ARCHITECTURES
    for match in variants(name)
]


# What the papers, their programs or, where these are silent, we do to the sources of an example.
UHLICH = {"remix": 1.0, "gain": [0.25, 1.25], "swap_channels": 0.5}
DEMUCS = {**UHLICH, "polarity": 0.5}
AUGMENTATION = {
    "asteroid": UHLICH,
    "blend": UHLICH,
    "blstm": UHLICH,
    "bs-roformer": UHLICH,
    "conv-tasnet": UHLICH,
    "deepconvsep": {},
    "deepnmf": {"remix": 1.0},
    "fnn": {"remix": 1.0, "gain": [0.25, 1.25]},
    "hdemucs": DEMUCS,
    "htdemucs": DEMUCS,
    "mdensenet": UHLICH,
    "mmdensenet": UHLICH,
    "mmdensenet-plus": UHLICH,
    "nug": {},
    "spleeter": {},
    "umx": UHLICH,
    "wave-u-net": {"gain": [0.7, 1.0]},
    "wave-u-net-finetune": {"gain": [0.7, 1.0]},
    "wavenet": {},
    "wavenet-voice": {"voiced": 0.5},
    "x-umx": UHLICH,
}


def resolved(capsys, *words):
    """The whole recipe that some words make, without building anything."""
    assert run(["fit", *words, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def built(config):
    model = config["model"]
    try:
        return imported(model["class_path"])(**model["init_args"])
    except MissingPackage as error:
        pytest.skip(str(error))


def skip_without_package(name):
    try:
        if name in zoo.list_models():
            zoo.create(name, **catalog.entry(name).tiny)
    except MissingPackage as error:
        pytest.skip(str(error))


def stacked(name):
    """The words that make a recipe complete: an overlay needs a model, and some need data."""
    base = ["-c", ARCHITECTURES[0]] if name.startswith(("data/", "hardware/")) else []
    tree = yaml.safe_load(recipes.find(name).read_text())
    if tree.get("data", {}).get("dataset") == "generated":
        return [*base, "-c", name]
    return [*base, "-c", name, "-c", "data/generated"]


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_parses(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = resolved(capsys, *stacked(name))
    assert config["data"]["dataset"] == "generated"
    assert config["model"]["class_path"].startswith("zoo.models.")
    assert config["seed_everything"] == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_recipe_augments_as_its_paper(name, capsys):
    augment = resolved(capsys, "-c", name)["data"]["augment"]
    levels = ("reverb_send_db", "noise_db")  # of effects that are off
    happens = {key: value for key, value in augment.items() if value and key not in levels}
    assert happens == AUGMENTATION[name]


@pytest.mark.parametrize("name", [n for n in recipes.names() if "hardware/" not in n])
def test_every_recipe_builds_its_model(name, capsys):
    config = resolved(capsys, *(["-c", ARCHITECTURES[0]] if "data/" in name else []), "-c", name)
    model = built(config)
    assert list(model.sources) == config["model"]["init_args"]["sources"]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_variant_named_in_a_comment_parses_and_builds(name, variant, capsys):
    plain = resolved(capsys, "-c", name)
    config = resolved(capsys, "-c", name, f"--{variant['key']}", variant["value"])
    assert (config["model"], config["data"]) != (plain["model"], plain["data"])
    model = built(config)
    if variant["n"]:
        count = int(variant["n"].replace(" ", ""))
        # Of one network where there are several, and of the paper's layers: an MMDenseNet's
        # normalisation of 1024 bins is ours.
        network = next(iter(getattr(model, "networks", {"": model}).values()))
        assert sum(p.numel() for n, p in network.named_parameters() if "out_" not in n) == count


def test_variants_are_found_in_the_comments():
    assert len(variants("mmdensenet")) == 6


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_trains_with_the_smoke_overlay(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zoo.models.statistics.N_BATCHES", 2)
    words = ["fit", "-c", name, "-c", "data/generated", "-c", "hardware/cpu-smoke", "--wandb=off"]
    songs = "{n_train: 1, n_valid: 1, n_test: 1, seconds: 2}"
    words += [f"--data.arguments={songs}", "--trainer.max_epochs=1", "--examples_every=0"]
    words += ["--trainer.limit_train_batches=2", "--run_dir=r"]
    skip_without_package(name)
    assert run(words) == 0
    lines = Path("r/metrics.csv").read_text().splitlines()
    assert len(lines) == 2 and "train/loss" in lines[0]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_data_that_are_not_there_are_told_in_two_lines(name, capsys, tmp_path, monkeypatch):
    skip_without_package(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZOO_DATA", raising=False)
    assert run(["fit", "-c", name, "--wandb=off"]) == 2
    said = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("recipe ")]
    assert len(said) == 2
    assert said[0].startswith("error: data: ")
    assert said[1] == "hint: -c data/generated needs no download"
    assert "-c data/generated needs no download" in recipes.find(name).read_text()
