"""The recipes that come with the zoo: all parse, their variants build, and training runs."""

import csv
import re
import shlex
from pathlib import Path

import lightning
import pytest
import torch
import yaml

import zoo
from zoo import catalog, recipes
from zoo.cli.parser import imported
from zoo.cli.train import run
from zoo.errors import MissingPackage

ARCHITECTURES = [name for name in recipes.names() if "/" not in name]
# What the comments of a recipe call a variant: a name, overrides, perhaps a parameter count.
VARIANT = re.compile(
    r"^#   (?P<name>\S.*?) {2,}(?P<overrides>--\S+ .*?)(?: {2,}(?P<n>\d[\d ]*\d)?.*)?$"
)
OVERRIDE = re.compile(r"--(?P<key>[\w.]+) (?P<value>\S+)")


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


def at(config, key):
    """What a key of the command line stands for in a whole recipe; of a list, its last item."""
    for part in key.split("."):
        config = config[-1] if isinstance(config, list) else config
        config = config.get("init_args", config)[part]
    return config


def has(config, key, value):
    """Whether an override's value, or the class that it names, stands in a whole recipe."""
    found = at(config, key)
    if key == "model":
        entry = catalog.entry(value)
        is_class = found["class_path"] == entry.target.replace(":", ".")
        return is_class and all(found["init_args"][k] == v for k, v in entry.arguments.items())
    return (found["class_path"] if key == "optimizer" else found) == yaml.safe_load(value)


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
    words = shlex.split(variant["overrides"])
    config = resolved(capsys, "-c", name, *words)
    assert config != resolved(capsys, "-c", name)
    overrides = OVERRIDE.findall(" ".join(words))
    assert 2 * len(overrides) == len(words)
    for key, value in overrides:
        assert has(config, key, value), key
    model = built(config)
    if variant["n"]:
        count = int(variant["n"].replace(" ", ""))
        # Of one network where there are several, and of the paper's layers: an MMDenseNet's
        # normalisation of 1024 bins is ours.
        network = next(iter(getattr(model, "networks", {"": model}).values()))
        assert sum(p.numel() for n, p in network.named_parameters() if "out_" not in n) == count


def test_variants_are_found_in_the_comments():
    assert len(variants("mmdensenet")) == 6
    rows = variants("wavenet-voice")  # of Table 4, but for the recipe's own
    assert [row["name"] for row in rows if "dissimilarity" not in row["overrides"]] == [
        "+ L_d", "+ L_d + 25 %", "+ L_d + 75 %", "+ L_d + 100 %",
    ]  # fmt: skip
    assert [row["n"] for row in rows if "dissimilarity" in row["overrides"]] == [
        "3 289 252", "3 285 123", "3 259 865", "3 277 249", "3 275 247",
    ]  # fmt: skip


def test_no_override_of_a_comment_is_missed():
    for name in ARCHITECTURES:
        lines = [x for x in recipes.find(name).read_text().splitlines() if x.startswith("#   ")]
        told = [x for x in lines if re.search(r" --(model|data|optimizer|trainer)[. ]", x)]
        assert told == [v.string for v in variants(name)], name


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """Trains by a recipe for two steps on a generated song."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zoo.models.statistics.N_BATCHES", 2)

    def train(name, *more, run_dir="r"):
        words = ["fit", "-c", name, "-c", "data/generated", "-c", "hardware/cpu-smoke"]
        songs = "{n_train: 1, n_valid: 1, n_test: 1, seconds: 2}"
        words += [f"--data.arguments={songs}", "--trainer.max_epochs=1", "--examples_every=0"]
        words += ["--trainer.limit_train_batches=2", "--wandb=off", f"--run_dir={run_dir}", *more]
        assert run(words) == 0
        return Path(run_dir)

    return train


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_trains_with_the_smoke_overlay(name, tried):
    skip_without_package(name)
    lines = (tried(name) / "metrics.csv").read_text().splitlines()
    assert len(lines) == 2 and "train/loss" in lines[0]


@pytest.mark.parametrize("name", ["wavenet", "wavenet-voice"])
def test_a_wavenet_stops_by_what_its_dissimilarity_does_not_change(name, capsys):
    config = resolved(capsys, "-c", name, "--model.dissimilarity=0.05")
    assert at(config, "trainer.callbacks.monitor") == "val/distance"


def test_the_wavenet_may_stop_by_the_training_loss_as_the_authors_do(tried):
    (line,) = [v for v in variants("wavenet") if "train/loss" in v["overrides"]]
    folder = tried("wavenet", *shlex.split(line["overrides"]))
    states = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["callbacks"]
    (stopping,) = [state for key, state in states.items() if key.startswith("EarlyStopping")]
    (row,) = csv.DictReader((folder / "metrics.csv").open())
    assert float(stopping["best_score"]) == pytest.approx(float(row["train/loss"]))


def test_the_second_phase_of_wave_u_net_has_its_own_rate_and_patience(tried, capsys):
    text = recipes.find("wave-u-net-finetune").read_text()
    ways = re.findall(r"(--(?:init_from|ckpt_path))[ =]runs/FIRST/(\S+)", text)
    assert len(ways) == 2
    first = tried("wave-u-net", run_dir="first")
    before = torch.load(first / "checkpoints/last.ckpt", weights_only=True)
    assert before["optimizer_states"][0]["param_groups"][0]["lr"] == 1e-4
    for k, (option, path) in enumerate(ways):
        way = f"{option}={first / path}"
        second = tried("wave-u-net-finetune", way, "--trainer.max_epochs=2", run_dir=f"second{k}")
        after = torch.load(second / "checkpoints/last.ckpt", weights_only=True)
        assert after["optimizer_states"][0]["param_groups"][0]["lr"] == 1e-5
        assert after["global_step"] == 4  # a run of its own


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


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n in zoo.list_models()])
def test_a_model_that_is_trained_without_a_recipe_has_its_optimiser(name, capsys):
    config = resolved(capsys, "-c", name)
    model = built({"model": {**config["model"], "init_args": catalog.entry(name).tiny}})
    model.trainer = lightning.Trainer(max_epochs=config["trainer"]["max_epochs"], logger=False)
    own = model.configure_optimizers()
    if isinstance(own, dict | tuple):  # with a schedule
        own = own["optimizer"] if isinstance(own, dict) else own[0][0]
    wanted = imported(config["optimizer"]["class_path"])(
        model.parameters(), **config["optimizer"]["init_args"]
    )
    assert (type(own), own.defaults) == (type(wanted), wanted.defaults)
