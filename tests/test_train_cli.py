"""The training commands: what they accept, what they say, and what a run leaves behind."""

import csv
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from trainable_toy import Toy

from zoo import catalog
from zoo.cli import main, reading
from zoo.cli import train as cli_train
from zoo.cli.arguments import Content, prepare
from zoo.cli.train import lightning_main, run
from zoo.data import open_dataset
from zoo.errors import DatasetError, RecipeError
from zoo.files import write_whole
from zoo.release import sha256_of
from zoo.weights import write_release

RECIPE = """\
model:
  class_path: trainable_toy.Toy
  init_args:
    width: 8
optimizer:
  class_path: torch.optim.Adam
  init_args: {lr: 1e-3}
trainer:
  max_epochs: 2
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty working directory with a recipe and four songs of two seconds."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    seconds = np.arange(32000) / 16000
    for i, split in enumerate(("train", "train", "valid", "test")):
        for source, hz in (("vocals", 500), ("accompaniment", 180)):
            tone = 0.2 * np.sin(2 * np.pi * (hz + 40 * i) * seconds)
            song = tmp_path / "songs" / split / f"song{i}"
            song.mkdir(parents=True, exist_ok=True)
            signal_ = (tone + 0.01 * rng.standard_normal(32000)).astype("float32")
            soundfile.write(song / f"{source}.wav", signal_, 16000)
    (tmp_path / "toy.yaml").write_text(RECIPE)
    return tmp_path


DATA = [
    "--data.dataset=folder", "--data.root=songs", "--data.examples_per_epoch=8",
    "--data.batch_size=4", "--wandb=off", "--examples_every=0",
]  # fmt: skip


FREEZE = ["--trainer.max_epochs=1", "--optimizer.lr=0.0"]


def fit(*words):
    return run(["fit", *DATA, *words])


def rows(folder, table="metrics.csv"):
    with open(Path(folder) / table, newline="") as file:
        return list(csv.DictReader(file))


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def told(capsys):
    """The two lines of an error."""
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith(("error", "hint"))]
    return "\n".join(lines)


# ----------------------------------------------------------------- errors in two lines


def changed(old, new):
    assert old in RECIPE
    return RECIPE.replace(old, new)


CALLBACKS = "  callbacks:\n    - class_path: {}\n      init_args: {{{}}}\n"
ERRORS = {
    "option of the model": (
        changed("width", "widht"),
        "bad.yaml, line 4: model: Toy has no option 'widht'", "did you mean 'width'?",
    ),
    "type": (
        changed("width: 8", "width: abc"),
        "bad.yaml, line 4: model.width: wanted a whole number, got 'abc'", "write width: 10",
    ),
    "fraction": (
        changed("max_epochs: 2", "max_epochs: 2.5"),
        "bad.yaml, line 9: trainer.max_epochs: wanted a whole number, got 2.5",
        "write max_epochs: 10",
    ),
    "model": (
        changed("trainable_toy.Toy", "mmdensnet"),
        "bad.yaml, line 2: model: no model named 'mmdensnet'", "did you mean 'mmdensenet'?",
    ),
    "key of the trainer": (
        changed("max_epochs", "max_epoch"),
        "bad.yaml, line 9: no option 'trainer.max_epoch'", "did you mean 'trainer.max_epochs'?",
    ),
    "key of the data": (
        RECIPE + "data: {batch_sise: 4}\n",
        "bad.yaml, line 10: no option 'data.batch_sise'", "did you mean 'data.batch_size'?",
    ),
    "key of the augmentation": (
        RECIPE + "data:\n  augment:\n    remix: 1.0\n    gian: [1, 1]\n",
        "bad.yaml, line 13: no option 'data.augment.gian'", "did you mean 'data.augment.gain'?",
    ),
    "range of the augmentation": (
        RECIPE + "data:\n  augment:\n    gain: loud\n",
        "bad.yaml, line 12: data.augment.gain: wanted [lowest, highest] or {source: [lowest, "
        "highest]}, got loud", "write gain: [1, 2]",
    ),
    "range of a source": (
        RECIPE + "data:\n  augment:\n    pitch: {vocals: up}\n",
        "bad.yaml, line 12: data.augment.pitch: wanted a list, got 'up'", "write pitch: [1, 2]",
    ),
    "a word for the augmentation": (
        RECIPE + "data:\n  augment: loud\n",
        "bad.yaml, line 11: data.augment: wanted keys, got 'loud'",
        "write data.augment.remix: VALUE",
    ),
    "callback's option": (
        RECIPE + CALLBACKS.format("ModelCheckpoint", "monitr: x"),
        "bad.yaml, line 12: trainer.callbacks: ModelCheckpoint has no option 'monitr'",
        "did you mean 'monitor'?",
    ),
    "callback": (
        RECIPE + CALLBACKS.format("ModelChekpoint", ""),
        "bad.yaml, line 11: trainer.callbacks: no class named 'ModelChekpoint'",
        "did you mean 'ModelCheckpoint'?",
    ),
    "optimiser": (
        changed("torch.optim.Adam", "torch.optim.Adma"),
        "bad.yaml, line 6: optimizer: no class named 'Adma'", "did you mean 'Adam'?",
    ),
    "optimiser's option": (
        changed("lr:", "lrr:"),
        "bad.yaml, line 7: optimizer: Adam has no option 'lrr'", "did you mean 'lr'?",
    ),
    "section": (
        RECIPE + "trainr: {max_epochs: 1}\n",
        "bad.yaml, line 10: no option 'trainr.max_epochs'", "did you mean 'trainer.max_epochs'?",
    ),
    "init_arg": (
        changed("init_args:\n    width", "init_arg:\n    width"),
        "bad.yaml, line 3: model: no key 'init_arg'", "did you mean 'init_args'?",
    ),
    "sexagesimal": (
        changed("width: 8", "width: 1:30"),
        "bad.yaml, line 4: model.width: wanted a whole number, got '1:30'", "write width: 10",
    ),
    "no model": (
        changed("trainable_toy.Toy", "torch.nn.Linear"),
        "bad.yaml, line 2: model: 'torch.nn.Linear' is no Separator", "",
    ),
    "key twice": (
        changed("width: 8", "width: 8\n    width: 9"),
        "bad.yaml, line 5: key 'model.init_args.width' again; it stands in line 4 already",
        "keep one of the two",
    ),
    "tab": (
        changed("  init_args:\n    width", "\tinit_args:\n    width"),
        "bad.yaml, line 3: a tab where YAML wants spaces", "indent with spaces",
    ),
    "tag": (
        changed("width: 8", "width: !!python/name:os.system x"),
        "bad.yaml, line 4: the YAML tag '!!python/name:os.system'", "a recipe holds plain values",
    ),
    "no YAML": (
        "trainer: [1\nmodel: 2\n",
        "bad.yaml, line 2: no valid YAML", "check the indentation",
    ),
    "empty": ("", "bad.yaml: an empty recipe", "a recipe needs at least one key"),
    "only comments": ("# nothing\n", "bad.yaml: an empty recipe", ""),
    "a list": ("- 1\n", "bad.yaml: a list, not a mapping", ""),
}  # fmt: skip


@pytest.mark.parametrize("mistake", ERRORS)
def test_a_mistake_in_a_recipe_is_told_in_two_lines(work, capsys, mistake):
    text, what, hint = ERRORS[mistake]
    Path("bad.yaml").write_text(text)
    assert fit("-c", "bad.yaml") == 2
    lines = told(capsys).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"error: {what}")
    assert lines[1].startswith(f"hint: {hint}")
    assert not Path("runs").exists()


WORDS = {
    ("--trainer.max_epoch=3",): ("no option 'trainer.max_epoch'", "did you mean 'trainer.max_ep"),
    ("--model.widht=3",): ("model: Toy has no option 'widht'", "did you mean 'width'?"),
    ("--model.width=x",): ("model.width: wanted a whole number, got 'x'", "write width: 10"),
    ("--model.width=1:30",): ("model.width: wanted a whole number, got '1:30'", "write width"),
    ("--data.augment.gian=[1,1]",): (
        "no option 'data.augment.gian'", "did you mean 'data.augment.gain'?"
    ),
    ("--data.gain=[1,1]",): ("no option 'data.gain'", "did you mean 'data.augment.gain'?"),
    ("--wandb=of",): ("wandb: no 'of'; one of auto, online, offline, off", "did you mean 'off'?"),
    ("--tiny=perhaps",): ("tiny: wanted true or false, got 'perhaps'", "write tiny: true"),
    ("stray",): ("a stray word 'stray'", "options are written --KEY=VALUE"),
    ("-c",): ("option '-c' without a value", "write -c NAME or FILE.yaml"),
    ("-c", "no-such-file.yaml"): ("no recipe or file 'no-such-file.yaml'", ""),
}  # fmt: skip


@pytest.mark.parametrize("words", WORDS)
def test_a_mistake_in_the_command_is_told_in_two_lines(work, capsys, words):
    assert run(["fit", "-c", "toy.yaml", *DATA, *words]) == 2
    lines = told(capsys).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"error: {WORDS[words][0]}")
    assert lines[1].startswith(f"hint: {WORDS[words][1]}")


def test_without_a_recipe_the_command_asks_for_one(work, capsys):
    assert run(["fit"]) == 2
    assert told(capsys).startswith("error: no model\nhint: give a recipe")


def test_data_alone_is_no_recipe(work, capsys):
    assert run(["fit", "-c", "data/generated"]) == 2
    assert "error: no model\nhint: give a recipe" in told(capsys)
    assert not (work / "runs").exists()


def test_without_data_the_command_names_data_that_need_no_download(work, capsys):
    assert run(["fit", "-c", "toy.yaml"]) == 2
    assert "hint: add -c data/generated" in told(capsys)


def test_debug_adds_the_original_message(work, capsys):
    assert fit("-c", "toy.yaml", "--model.widht=3", "--debug") == 2
    assert "Problem with given class_path 'trainable_toy.Toy'" in capsys.readouterr().err


def test_a_missing_checkpoint_is_said_before_anything_runs(work, capsys):
    assert fit("-c", "toy.yaml", "--ckpt_path=nothing.ckpt") == 2
    assert "no checkpoint at 'nothing.ckpt'" in told(capsys)
    assert run(["test", "-c", "toy.yaml", "--ckpt_path=best", *DATA]) == 2
    assert "no best checkpoint in runs/toy/checkpoints" in told(capsys)


def test_a_system_without_parameters_cannot_be_trained(work, capsys):
    assert fit("-c", "toy.yaml", "--model=trainable_toy.Fixed") == 2
    assert "Fixed has nothing to train" in told(capsys)


def test_a_data_set_that_is_not_there_is_an_error_of_the_user(work, capsys):
    words = ["fit", "-c", "toy.yaml", "--data.dataset=foldr", "--wandb=off"]
    assert run(words) == 2
    assert "Did you mean 'folder'?" in told(capsys)


# ----------------------------------------------------------------- YAML


def test_numbers_are_read_as_people_write_them():
    text = "[1e-3, -2E4, 1_000, .5, 1., 1:30, 010, no, off, yes, true, null, ~]"
    assert reading.load_value(text) == [
        1e-3, -2e4, 1000, 0.5, 1.0, "1:30", "010", "no", "off", "yes", True, None, None,
    ]  # fmt: skip


def test_the_line_of_every_key_is_known(tmp_path):
    (tmp_path / "r.yaml").write_text("a:\n  b: [1,\n    {c: 2}]\n")
    lines = reading.read(tmp_path / "r.yaml").lines
    assert lines[("a",)] == 1
    assert lines[("a", "b")] == 2
    assert lines[("a", "b", 1, "c")] == 3


def test_text_that_is_not_utf8_is_told_in_two_lines(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(RecipeError, match="not text in UTF-8\nhint"):
        reading.read(tmp_path / "r.yaml")


def test_a_recipe_that_cannot_be_opened_names_a_command_that_exists(tmp_path):
    with pytest.raises(RecipeError, match="hint: `zoo list` shows the recipes"):
        reading.read(tmp_path)


# ----------------------------------------------------------------- names, variants, tiny


@pytest.fixture
def toys(monkeypatch):
    """Two names of the catalog for one class."""
    facts = {"target": "trainable_toy:Toy", "tiny": {"width": 4, "sources": ["drums"]}}
    monkeypatch.setitem(catalog.TABLE, "toy", facts)
    monkeypatch.setitem(
        catalog.TABLE, "toy-wide", {**facts, "arguments": {"width": 64, "depth": 3}}
    )


def model_of(*words):
    """The model of a call: arguments of all its contents, later ones winning."""
    call = prepare("fit", words)
    models = [
        a.tree["model"] for a in call.arguments if isinstance(a, Content) and "model" in a.tree
    ]
    merged = {}
    for model in models:
        merged.update(model.get("init_args") or {})
    return models[0].get("class_path"), merged


def test_a_name_of_the_catalog_is_a_class_path(toys):
    assert model_of("--model", "toy") == ("trainable_toy.Toy", {})


def test_a_recipe_overrides_the_arguments_of_a_named_variant(toys, tmp_path):
    (tmp_path / "v.yaml").write_text("model:\n  class_path: toy-wide\n  init_args: {width: 8}\n")
    assert model_of("-c", str(tmp_path / "v.yaml"))[1] == {"width": 8, "depth": 3}


def test_tiny_wins_over_the_sizes_of_the_recipe_but_not_over_its_data(toys, tmp_path):
    (tmp_path / "v.yaml").write_text("model:\n  class_path: toy-wide\n  init_args: {width: 8}\n")
    (tmp_path / "d.yaml").write_text("model:\n  init_args: {sources: [vocals, other]}\n")
    (tmp_path / "smoke.yaml").write_text("tiny: true\n")
    recipe, data, smoke = (str(tmp_path / f"{n}.yaml") for n in ("v", "d", "smoke"))
    assert model_of("-c", recipe, "-c", smoke)[1] == {"width": 4, "depth": 3, "sources": ["drums"]}
    both = model_of("-c", recipe, "-c", data, "-c", smoke)[1]
    assert both == {"width": 4, "depth": 3, "sources": ["vocals", "other"]}
    assert model_of("-c", recipe, "-c", smoke, "--tiny=false")[1] == {"width": 8, "depth": 3}


def test_tiny_also_finds_the_small_variant_by_the_class_path(work):
    assert (
        fit("-c", "toy.yaml", "--tiny", "--model.sources=[vocals]", "--trainer.max_epochs=1") == 0
    )
    arguments = yaml.safe_load(Path("runs/toy/config.yaml").read_text())["model"]["init_args"]
    assert arguments["width"] == 4
    assert arguments["sources"] == ["vocals"]


def test_later_recipes_override_earlier_ones_key_by_key(work):
    Path("more.yaml").write_text("trainer: {max_epochs: 1}\nmodel: {init_args: {dropout: 0.0}}\n")
    assert fit("-c", "toy.yaml", "-c", "more.yaml") == 0
    saved = yaml.safe_load(Path("runs/toy-more/config.yaml").read_text())
    assert saved["model"]["init_args"]["width"] == 8
    assert saved["model"]["init_args"]["dropout"] == 0.0
    assert saved["trainer"]["max_epochs"] == 1
    assert saved["seed_everything"] == 0


def test_the_command_may_stand_behind_its_recipe(work):
    words = ["-c", "toy.yaml", "fit", *DATA, "--trainer.max_epochs=1", "--run_dir=here"]
    assert lightning_main(words) == 0
    assert Path("here/checkpoints/last.ckpt").is_file()


def test_lightning_without_a_command_prints_the_usage_and_a_foreign_one_fails(monkeypatch, capsys):
    monkeypatch.setattr("zoo.cli.train._sdk", lambda: None)
    assert lightning_main([]) == 0
    assert "usage: lightning" in capsys.readouterr().out
    assert lightning_main(["list"]) == 2
    assert "no command 'list'" in capsys.readouterr().err


def test_a_foreign_command_goes_to_the_package_that_has_it(monkeypatch):
    class Script:
        def load(self):
            return lambda: 7

    monkeypatch.setattr("zoo.cli.train._sdk", Script)
    assert lightning_main(["list"]) == 7


def test_errors_of_a_recipe_are_found_without_torch(tmp_path):
    (tmp_path / "bad.yaml").write_text("a: 1\na: 2\n")
    program = (
        "import sys; from zoo.cli.train import run; run(['fit', '-c', 'bad.yaml']); "
        "print('torch' in sys.modules or 'lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment(),
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout.strip() == "False", done.stderr


# ----------------------------------------------------------------- what a run leaves


def test_a_run_keeps_everything_in_its_folder(work, capsys):
    assert run(["fit", "-c", "toy.yaml", *DATA[:-1], "--examples_every=2"]) == 0
    found = {str(p.relative_to("runs/toy")) for p in Path("runs/toy").rglob("*") if p.is_file()}
    assert {"config.yaml", "metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt"} <= found
    assert {"examples/epoch-0.png", "examples/epoch-0-mixture.wav"} <= found
    assert "examples/epoch-0-vocals-estimate.wav" in found
    assert "examples/epoch-1.png" not in found
    assert {p.name for p in work.iterdir()} == {"songs", "toy.yaml", "runs"}
    assert [r["epoch"] for r in rows("runs/toy")] == ["0", "1"]
    assert all(r["train/loss"] and r["val/sdr"] for r in rows("runs/toy"))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4, said  # what runs where, two epochs, done


def test_the_resolved_recipe_repeats_the_run(work):
    assert fit("-c", "toy.yaml", "--trainer.max_epochs=1") == 0
    before = rows("runs/toy"), weights("runs/toy/checkpoints/last.ckpt")
    assert run(["fit", "-c", "runs/toy/config.yaml"]) == 0
    assert rows("runs/toy") == before[0]
    after = weights("runs/toy/checkpoints/last.ckpt")
    assert all(torch.equal(after[name], value) for name, value in before[1].items())


def test_a_checkpoint_tells_recipe_versions_and_data(work):
    assert fit("-c", "toy.yaml", "--trainer.max_epochs=1") == 0
    facts = torch.load("runs/toy/checkpoints/best.ckpt", weights_only=True)["zoo_run"]
    assert yaml.safe_load(facts["recipe"])["model"]["class_path"] == "trainable_toy.Toy"
    assert facts["torch"] == torch.__version__
    assert facts["data"].startswith("folder ")


def test_a_second_run_in_the_same_folder_works(work):
    for epochs in (2, 1):
        assert fit("-c", "toy.yaml", f"--trainer.max_epochs={epochs}") == 0
    assert len(rows("runs/toy")) == 1
    assert Path("runs/toy/metrics-1.csv").is_file()


def test_a_second_run_in_the_same_folder_keeps_the_checkpoints_of_the_first(work, capsys):
    assert fit("-c", "toy.yaml") == 0
    folder = Path("runs/toy")
    first = {p.name: p.read_bytes() for p in (folder / "checkpoints").iterdir()}
    assert sorted(first) == ["best.ckpt", "config.yaml", "last.ckpt"]
    assert fit("-c", "toy.yaml", "--model.width=9", "--data.examples_per_epoch=3") == 2
    assert {p.name: p.read_bytes() for p in (folder / "checkpoints").iterdir()} == first
    for n in (1, 2):
        assert fit("-c", "toy.yaml", *FREEZE, "--model.width=9") == 0
        assert f"are in runs/toy/checkpoints-{n} now" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in (folder / "checkpoints-1").iterdir()} == first
    assert fit("-c", "toy.yaml", "--ckpt_path=last", "--model.width=9") == 0
    assert not (folder / "checkpoints-3").exists()
    # And they can be used as before: their own recipe lies beside them.
    assert run(["validate", "--ckpt_path=runs/toy/checkpoints-1/best.ckpt"]) == 0


def test_a_run_that_continues_a_checkpoint_from_elsewhere_keeps_those_it_finds(work):
    for folder in ("a", "b"):
        assert fit("-c", "toy.yaml", *FREEZE, f"--run_dir={folder}") == 0
    assert fit("-c", "toy.yaml", "--ckpt_path=a/checkpoints/last.ckpt", "--run_dir=b") == 0
    assert Path("b/checkpoints-1/last.ckpt").is_file()


def test_the_recipe_of_a_release_and_a_recipe_with_data_have_folders_of_their_own():
    def folder(*words):
        return prepare("fit", words).name

    assert folder("-c", "mmdensenet", "-c", "data/mir1k") == "mmdensenet-mir1k"
    assert folder("-c", "releases/mmdensenet-mir1k") == "releases/mmdensenet-mir1k"
    assert folder("-c", "mmdensenet", "-c", "hardware/cpu-smoke") == "mmdensenet-cpu-smoke"


def test_without_validation_tracks_the_best_is_the_last(work, capsys):
    words = ["-c", "toy.yaml", "--data.dataset=generated", "--model.sources=[vocals, drums]"]
    songs = "{n_train: 1, n_valid: 0, n_test: 1, seconds: 2, sample_rate: 16000, channels: 1}"
    words += ["--data.batch_size=4", "--data.examples_per_epoch=4", f"--data.arguments={songs}"]
    assert run(["fit", *words, "--wandb=off"]) == 0
    best = weights("runs/toy/checkpoints/best.ckpt")
    last = weights("runs/toy/checkpoints/last.ckpt")
    assert all(torch.equal(best[name], last[name]) for name in last)
    assert "no SDR, and the best checkpoint is the last" in capsys.readouterr().err


def test_a_faulty_test_song_does_not_stop_a_training(work):
    Path("songs/test/song3/vocals.wav").write_bytes(b"no sound")
    assert fit("-c", "toy.yaml", *FREEZE) == 0


# ----------------------------------------------------------------- scores and stems


def test_a_score_file_tells_all_that_its_figures_depend_on(work, monkeypatch):
    monkeypatch.setattr("zoo.data.folder.Folder.protocol", "mir1k")
    assert fit("-c", "toy.yaml", *FREEZE) == 0
    assert run(["test", "-c", "toy.yaml", *DATA, "--ckpt_path=last", "--seed_everything=7"]) == 0
    facts = json.loads(Path("runs/toy/scores/song3.json").read_text())["zoo"]
    assert facts["arguments"]["width"] == 8
    assert (facts["seed"], facts["protocol"], facts["release"]) == (7, "mir1k", None)
    assert facts["sha256"] == sha256_of(Path("runs/toy/checkpoints/last.ckpt"))
    trained = yaml.safe_load(Path("runs/toy/config.yaml").read_text())["seed_everything"]
    wanted = {
        "system": "toy-last", "kind": "checkpoint", "split": "test", "track": "song3",
        "training_seed": trained, "rate": open_dataset("folder", "songs").tracks("test")[0].rate,
    }  # fmt: skip
    assert {key: facts[key] for key in wanted} == wanted and "dataset" in facts
    expected = open_dataset("folder", "songs").fingerprint(["test"])
    assert facts["data"] == f"folder {expected}"


def test_scores_of_an_earlier_test_go_and_other_files_stay(work, monkeypatch):
    monkeypatch.setattr("zoo.data.folder.Folder.protocol", "mir1k")
    folder = Path("r/scores")
    folder.mkdir(parents=True)
    frame = {"time": 0.0, "duration": 1.0, "metrics": {"SDR": 1.0}}
    gone = {"targets": [{"name": "a", "frames": [frame]}], "zoo": {"protocol": "mir1k"}}
    (folder / "gone.json").write_text(json.dumps(gone))
    others = {"museval.json": '{"targets": []}', "list.json": "[1]", "torn.json": "{", "a.txt": ""}
    for name, text in others.items():
        (folder / name).write_text(text)
    assert run(["test", "-c", "toy.yaml", *DATA, "--run_dir=r"]) == 0
    assert {p.name for p in folder.iterdir()} == {*others, "song3.json"}


def test_only_the_first_process_writes_scores(work, monkeypatch):
    monkeypatch.setattr("zoo.data.folder.Folder.protocol", "mir1k")
    monkeypatch.setattr("lightning.pytorch.Trainer.is_global_zero", False)
    assert run(["test", "-c", "toy.yaml", *DATA, "--run_dir=r"]) == 0
    assert not list(Path("r").glob("scores/*"))


def test_a_file_is_whole_or_not_there(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a.json", "\ud800")
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------- several processes


@pytest.mark.slow
def test_two_processes_train_one_model_and_write_everything_once(work):
    """As `python -m zoo` starts them: three tracks to validate on, then three to separate."""
    songs = "{n_train: 1, n_valid: 3, n_test: 3, seconds: 2, sample_rate: 8000}"
    words = ["--model=mmdensenet", "--tiny", "--data.dataset=generated",
             f"--data.arguments={songs}", "--data.batch_size=2", "--data.examples_per_epoch=8",
             "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu",
             "--trainer.max_epochs=1", "--wandb=off", "--examples_every=0",
             "--trainer.callbacks=[{class_path: ValidationLoss}]"]  # fmt: skip
    done = finished(work, "fit", *words)
    folder = work / "runs" / "mmdensenet"
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    kept = {f"checkpoints/{name}" for name in ("last.ckpt", "best.ckpt", "config.yaml")}
    assert found == {"config.yaml", "metrics.csv", "curves.png"} | kept
    (row,) = rows(folder)
    last = folder / "checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    assert content["global_step"] == 2  # 8 examples, 2 at a time in each of two processes
    assert len([line for line in done.stderr.splitlines() if line.startswith("done: ")]) == 1
    # The mean over the tracks is that of one process; of two tracks it would be another.
    # (the recipe beside the checkpoint asks for two)
    one = ["--trainer.devices=1", "--trainer.strategy=auto"]
    for limit, same in ((1.0, True), (2, False)):
        more = [f"--trainer.limit_val_batches={limit}", f"--run_dir=v{limit}"]
        assert run(["validate", f"--ckpt_path={last}", *one, *more]) == 0
        with open(f"v{limit}/validate.csv", newline="") as file:
            alone = next(csv.DictReader(file))
        for name in ("val/sdr", "val/loss"):
            mean = pytest.approx(float(alone[name]), rel=1e-4)
            assert (float(row[name]) == mean) is same, name
    done = finished(work, "predict", f"--ckpt_path={last}")
    assert "3 of 3 songs are in runs/mmdensenet/stems" in done.stderr
    assert len(list(folder.glob("stems/*/separation.json"))) == 3


def finished(work, *words):
    """What `python -m zoo` has said."""
    command = [sys.executable, "-m", "zoo", *words]
    done = subprocess.run(
        command, cwd=work, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_optimiser_of_the_recipe_wins_over_the_models_own(work):
    assert fit("-c", "toy.yaml", "--trainer.max_epochs=1") == 0
    state = torch.load("runs/toy/checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]
    assert state["param_groups"][0]["lr"] == 1e-3
    Path("own.yaml").write_text(RECIPE.split("optimizer")[0])
    assert fit("-c", "own.yaml", "--trainer.max_epochs=1") == 0
    state = torch.load("runs/own/checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]
    assert state["param_groups"][0]["lr"] == 0.125


def test_test_and_validate_take_the_recipe_of_the_run_from_its_checkpoint(work):
    assert fit("-c", "toy.yaml") == 0
    before = Path("runs/toy/config.yaml").read_bytes(), Path("runs/toy/metrics.csv").read_bytes()
    assert run(["validate", "--ckpt_path=runs/toy/checkpoints/last.ckpt"]) == 0
    with open("runs/toy/validate.csv", newline="") as file:
        sdr = float(next(csv.DictReader(file))["val/sdr"])
    assert sdr == pytest.approx(float(rows("runs/toy")[-1]["val/sdr"]), abs=1e-5)
    after = Path("runs/toy/config.yaml").read_bytes(), Path("runs/toy/metrics.csv").read_bytes()
    assert after == before


# ----------------------------------------------------------------- init_from


def test_init_from_copies_what_fits_and_says_how_much(work, capsys):
    assert fit("-c", "toy.yaml", "--trainer.max_epochs=1", "--run_dir=a") == 0
    source = weights("a/checkpoints/last.ckpt")
    # Three sources instead of two: the first convolution fits, the last does not.
    words = ["--model.sources=[vocals]", "--init_from=a/checkpoints/last.ckpt", "--run_dir=b"]
    capsys.readouterr()
    assert fit("-c", "toy.yaml", *words, "--trainer.max_epochs=1", "--optimizer.lr=0.0") == 0
    assert "took 2 of 4 tensors; 2 keep their initial values" in capsys.readouterr().err
    taken = weights("b/checkpoints/last.ckpt")
    assert torch.equal(taken["net.0.weight"], source["net.0.weight"])
    assert taken["net.3.weight"].shape != source["net.3.weight"].shape


def test_init_from_refuses_weights_of_which_nothing_fits(work, capsys):
    torch.save({"state_dict": {"other": torch.zeros(3)}}, "other.ckpt")
    assert fit("-c", "toy.yaml", "--init_from=other.ckpt") == 2
    assert "none of the 1 tensors of 'other.ckpt' fits this model" in told(capsys)


def test_init_from_names_a_file_that_is_no_checkpoint(work, capsys):
    Path("text.ckpt").write_text("no weights")
    assert fit("-c", "toy.yaml", "--init_from=text.ckpt") == 2
    assert "text.ckpt is damaged or no checkpoint" in told(capsys)


def test_init_from_takes_the_wrappers_of_other_programs_off_the_names(work):
    assert fit("-c", "toy.yaml", *FREEZE, "--run_dir=a") == 0
    state = weights("a/checkpoints/last.ckpt")
    torch.save({"state_dict": {f"module.{k}": v + 1 for k, v in state.items()}}, "ddp.ckpt")
    assert fit("-c", "toy.yaml", *FREEZE, "--init_from=ddp.ckpt", "--run_dir=b") == 0
    assert torch.equal(weights("b/checkpoints/last.ckpt")["net.0.bias"], state["net.0.bias"] + 1)


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_other_commands_use_the_weights_of_init_from(work, capsys, command):
    assert fit("-c", "toy.yaml", *FREEZE, "--run_dir=a") == 0
    capsys.readouterr()
    words = ["-c", "toy.yaml", *DATA, "--init_from=a/checkpoints/last.ckpt", "--run_dir=b"]
    assert run([command, *words]) == 0
    said = capsys.readouterr().err
    assert "took 4 of 4 tensors" in said and "untrained" not in said
    assert run([command, *words, "--model.width=9"]) == 2
    assert "only 1 of the 4 tensors of 'a/checkpoints/last.ckpt' fits" in told(capsys)


def test_validation_with_init_from_scores_those_weights(work):
    assert fit("-c", "toy.yaml", "--run_dir=a") == 0
    words = ["-c", "toy.yaml", *DATA, "--init_from=a/checkpoints/last.ckpt", "--run_dir=b"]
    assert run(["validate", *words]) == 0
    with open("b/validate.csv", newline="") as file:
        sdr = float(next(csv.DictReader(file))["val/sdr"])
    assert sdr == pytest.approx(float(rows("a")[-1]["val/sdr"]), abs=1e-5)


def test_a_release_can_be_scored_by_its_folder_and_the_file_says_which(work, monkeypatch):
    monkeypatch.setitem(catalog.TABLE, "toy", {"target": "trainable_toy:Toy", "tiny": {"width": 4}})
    monkeypatch.setattr("zoo.data.folder.Folder.protocol", "mir1k")
    licence = {"code": "MIT", "weights": "CC0-1.0", "data": "CC0-1.0"}
    write_release("toy-noise", Toy(width=8), name="toy-noise", licence=licence, trained_on="noise")
    assert run(["test", "-c", "toy.yaml", *DATA, "--init_from=toy-noise", "--run_dir=b"]) == 0
    facts = json.loads(Path("b/scores/song3.json").read_text())["zoo"]
    assert facts["release"] == "toy-noise"
    assert facts["sha256"] == sha256_of(Path("toy-noise/model.safetensors"))


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_name_that_init_from_does_not_know_is_an_error_everywhere(work, capsys, command):
    assert fit("-c", "toy.yaml", *FREEZE) == 0
    capsys.readouterr()
    words = [command, "-c", "toy.yaml", *DATA, "--init_from=no-such-release"]
    for more in ([], ["--ckpt_path=last"]):
        assert run([*words, *more]) == 2
        assert "no release named 'no-such-release'" in told(capsys)


# ----------------------------------------------------------------- errors of the user


CONSTRUCTORS = {
    ("--model.head=foo",): ("model: head is 'foo'", "it must be one of 'conv_relu'"),
    ("--model.targets=[piano]",): ("model: targets ['piano'] of sources", "expected all of them"),
    ("--model.hop=400",): ("model: hop 400 must lie between 1 and half of n_fft 256", "change it"),
    ("--model.low=[]",): ("model: 0 dense blocks given", "a chain goes down and up again"),
    ("--data.batch_size=0",): ("data: batch_size is 0", "it must be at least 1"),
    ("--data.examples_per_epoch=0",): ("data: examples_per_epoch is 0", "it must be at least 1"),
    ("--data.n_workers=-1",): ("data: n_workers is -1", "it must be 0 or more"),
    ("--data.seed=-1",): ("data: seed is -1", "it must be 0 or more"),
    ("--data.augment.remix=1.5",): ("data: augment.remix is 1.5", "it must be a probability"),
    ("--data.augment.swap_channels=-1",): (
        "data: augment.swap_channels is -1", "it must be a probability",
    ),
    ("--data.augment.speed=[0,1]",): (
        "data: augment.speed is [0.0, 1.0]", "it must be [slowest, fastest]",
    ),
    ("--data.augment.gain=[2,1]",): (
        "data: augment.gain is [2.0, 1.0]", "it must be [lowest, highest]",
    ),
    ("--data.augment.pitch.vocals=[-30,0]",): (
        "data: augment.pitch.vocals is [-30.0, 0.0]", "it must be [lowest, highest] in semitones"
    ),
    ("--data.augment.share.pich=0.5",): (
        "data: augment.share has no effect 'pich'", "did you mean 'pitch'?"
    ),
    ("--data.valid_seconds=0",): ("data: valid_seconds is 0", "it must be above 0"),
    ("--data.dataset=ikala",): ("data: no data set named 'ikala'", "-c data/generated needs no"),
    ("--data.dataset=mir1k",): ("data: data set 'mir1k' was looked for", "-c data/generated needs"),
    ("--trainer.accelerator=tpu",): ("trainer: ", "--trainer.accelerator=auto takes"),
    ("--trainer.strategy=foo",): ("trainer: You selected an invalid strategy", "--debug shows"),
    ("--run_dir=toy.yaml/x",): ("run_dir toy.yaml/x: ", "name another with --run_dir"),
}  # fmt: skip


@pytest.mark.parametrize("words", CONSTRUCTORS)
def test_what_a_part_refuses_is_told_in_two_lines(work, capsys, words):
    base = ["fit", "--model=mmdensenet", "--tiny", "--data.dataset=generated", "--wandb=off"]
    assert run([*base, *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said if line[:7] != "recipe "] == ["error", "hint"]
    assert said[-2].startswith(f"error: {CONSTRUCTORS[words][0]}")
    assert said[-1].startswith(f"hint: {CONSTRUCTORS[words][1]}")


def test_a_graphics_card_that_is_not_there_is_told_in_two_lines(work, capsys, monkeypatch):
    for kind in ("CUDA", "MPS"):
        monkeypatch.setattr(
            f"lightning.pytorch.accelerators.{kind}Accelerator.is_available", lambda: False
        )
    assert fit("-c", "toy.yaml", "--trainer.accelerator=gpu") == 2
    assert told(capsys) == (
        "error: trainer: No supported gpu backend found!\n"
        "hint: --trainer.accelerator=auto takes what this machine has"
    )


def test_the_file_and_line_of_a_refused_value_are_told(work, capsys):
    Path("bad.yaml").write_text("model:\n  class_path: mmdensenet\n  init_args:\n    head: foo\n")
    assert fit("-c", "bad.yaml") == 2
    assert told(capsys).startswith("error: bad.yaml, line 4: model: head is 'foo'\n")


def test_a_damaged_checkpoint_is_told_before_a_trainer_is_made(work, capsys, monkeypatch):
    monkeypatch.setattr("zoo.cli.lightning_cli.wandb_logger", pytest.fail)
    Path("bad.ckpt").write_bytes(b"PK\x03\x04 no more")
    for command in ("fit", "test"):
        assert run([command, "-c", "toy.yaml", *DATA, "--ckpt_path=bad.ckpt"]) == 2
        assert told(capsys).startswith("error: bad.ckpt is damaged")


def test_a_checkpoint_of_another_size_is_told_in_a_sentence(work, capsys):
    assert fit("-c", "toy.yaml", *FREEZE) == 0
    capsys.readouterr()
    for command in ("fit", "test"):
        assert run([command, "-c", "toy.yaml", *DATA, "--ckpt_path=last", "--model.width=9"]) == 2
        (line,) = told(capsys).splitlines()
        assert "last.ckpt: 'net.0.weight' has shape (8, 1, 15), expected (9, 1, 15)" in line


def test_weights_alone_cannot_be_continued(work, capsys):
    torch.save({"state_dict": Toy(width=8).state_dict()}, "weights.ckpt")
    assert fit("-c", "toy.yaml", "--ckpt_path=weights.ckpt") == 2
    assert "weights.ckpt is no checkpoint of `zoo fit`. --init_from takes" in told(capsys)


@pytest.fixture
def disk(work):
    """Mounts a disk in the memory, by its options."""
    folder = work / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command).returncode:
            pytest.skip("no disk can be mounted here")

    yield mount
    subprocess.run(["umount", str(folder)], stderr=subprocess.DEVNULL)


def test_a_full_disk_is_told_and_leaves_no_half_checkpoint(disk, capsys):
    disk("size=40k")  # for the recipe, not for a checkpoint
    assert fit("-c", "toy.yaml", "--run_dir=disk/run", "--model.width=64") == 2
    assert "No space left on device\nhint: free some space" in told(capsys)
    assert [p.name for p in Path("disk/run/checkpoints").iterdir()] == ["config.yaml"]


def test_a_folder_that_cannot_be_written_to_is_told_before_any_work(disk, capsys):
    disk("ro")
    assert fit("-c", "toy.yaml", "--run_dir=disk/run") == 2
    assert "disk cannot be written to\nhint: name another" in told(capsys)


def test_an_epoch_of_less_than_one_batch_is_refused(work, capsys):
    assert fit("-c", "toy.yaml", "--data.examples_per_epoch=3") == 2
    assert "examples_per_epoch is 3, which is not one batch: batch_size is 4" in told(capsys)


def test_a_track_that_a_loading_process_cannot_read_is_told_in_a_line(work, capsys):
    noise = np.zeros(16000, "float32")
    soundfile.write("songs/train/song0/vocals.wav", noise, 16000)  # half as long as the other
    assert fit("-c", "toy.yaml", "--data.n_workers=1") == 2
    assert len(told(capsys).splitlines()) == 1
    text = "Caught X in worker.\nOriginal Traceback:\n  File 'a'\nzoo.errors.DatasetError: oh no"
    assert cli_train._message(DatasetError(text)) == "oh no"


# ----------------------------------------------------------------- what is printed


def test_every_line_is_printed_once_through_the_command_zoo(work, capsys):
    log = logging.getLogger("zoo")
    before = log.handlers, log.propagate, log.level
    log.handlers = []
    try:
        assert main(["fit", "-c", "toy.yaml", *DATA, *FREEZE]) == 0
    finally:
        log.handlers, log.propagate, _ = before
        log.setLevel(before[2])
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(set(said)) == 3, said  # what runs where, an epoch, done


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_only_the_first_process_tells_what_happens(monkeypatch, variable):
    log = logging.getLogger("zoo")
    monkeypatch.setattr(log, "handlers", list(log.handlers))
    monkeypatch.setattr(log, "level", log.level)
    for rank, level in (("0", logging.INFO), ("1", logging.WARNING)):
        monkeypatch.setenv(variable, rank)
        cli_train._set_up_logging(debug=False)
        assert log.level == level


# ----------------------------------------------------------------- resuming

AVERAGED = """\
trainer:
  callbacks:
    - class_path: EMAWeightAveraging
      init_args: {decay: 0.9}
"""
PLATEAU = """\
lr_scheduler:
  class_path: ReduceLROnPlateau
  init_args: {monitor: val/sdr, mode: min, patience: 0, factor: 0.5}
"""


@pytest.mark.parametrize("extra", [AVERAGED, PLATEAU], ids=["averaged weights", "plateau"])
def test_a_run_in_two_parts_equals_one_run(work, extra):
    Path("extra.yaml").write_text(extra)
    recipes = ["-c", "toy.yaml", "-c", "extra.yaml", "--trainer.max_epochs=3"]
    assert fit(*recipes, "--run_dir=whole") == 0
    assert fit(*recipes, "--run_dir=parts", "--trainer.max_epochs=1") == 0
    assert fit(*recipes, "--run_dir=parts", "--ckpt_path=last") == 0
    assert rows("parts") == rows("whole")
    assert Path("whole/checkpoints/best.ckpt").is_file()


def test_resuming_where_nothing_is_starts_from_scratch_and_says_so(work, capsys):
    assert fit("-c", "toy.yaml", "--ckpt_path=last", "--trainer.max_epochs=1") == 0
    assert (
        "no checkpoint in runs/toy/checkpoints yet: starting from scratch"
        in capsys.readouterr().err
    )
    assert len(rows("runs/toy")) == 1


def environment():
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here.parent), str(here), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


def started(work, *words):
    program = "import sys; from zoo.cli.train import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "fit", *DATA, *words]
    return subprocess.Popen(command, cwd=work, env=environment(), stderr=subprocess.PIPE, text=True)


def wait_for_epochs(process, n):
    """Until it says that n epochs are done; one that hangs is killed, which ends what it says."""
    guard = threading.Timer(120, process.kill)
    guard.start()
    heard = []
    for line in process.stderr:
        heard.append(line)
        if line.startswith(f"epoch {n - 1}: "):
            guard.cancel()
            return
    guard.cancel()
    pytest.fail(f"no {n} epochs: {''.join(heard)}")


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_as_if_nothing_had_been(work):
    words = ["-c", "toy.yaml", "--trainer.max_epochs=12", "--data.examples_per_epoch=64"]
    assert fit(*words, "--run_dir=whole") == 0
    process = started(work, *words, "--run_dir=killed")
    wait_for_epochs(process, 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(rows("killed")) < 12
    assert fit(*words, "--run_dir=killed", "--ckpt_path=last") == 0
    assert rows("killed") == rows("whole")
    assert not list(Path("killed/checkpoints").glob(".*"))


def test_a_kill_between_checkpoint_and_row_costs_nothing_of_the_row(work):
    words = ["-c", "toy.yaml", "--run_dir=killed"]
    assert fit(*words, "--trainer.max_epochs=2") == 0
    whole = rows("killed")
    table = Path("killed/metrics.csv")
    head, *lines = table.read_text().splitlines()
    cut = lines[-1].split(",")
    cut[head.split(",").index("train/loss")] = ""
    table.write_text("\n".join([head, *lines[:-1], ",".join(cut)]) + "\n")
    assert rows("killed") != whole
    assert fit(*words, "--trainer.max_epochs=3", "--ckpt_path=last") == 0
    assert rows("killed")[:2] == whole


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(work):
    words = ["-c", "toy.yaml", "--trainer.max_epochs=10000"]
    process = started(work, *words)
    wait_for_epochs(process, 2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1].startswith("interrupted; to continue: zoo fit --data")
    assert error.splitlines()[-1].endswith("--ckpt_path=last")
    assert "Traceback" not in error
