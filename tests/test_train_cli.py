"""The training commands: what they accept, what they say, and what a run leaves behind."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from zoo import catalog
from zoo.cli import reading
from zoo.cli.arguments import Content, prepare
from zoo.cli.train import lightning_main, run
from zoo.errors import RecipeError

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


def fit(*words):
    return run(["fit", *DATA, *words])


def rows(folder):
    with open(Path(folder) / "metrics.csv", newline="") as file:
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
    assert sorted(p.name for p in Path("runs/toy/checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
    ]


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
    assert "'text.ckpt' cannot be read as a checkpoint" in told(capsys)


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


def wait_for_rows(process, folder, n):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "metrics.csv").is_file() and len(rows(folder)) >= n:
            return
        time.sleep(0.02)  # another process's work, which nothing announces
    pytest.fail(f"no {n} rows: {process.stderr.read()}")


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_as_if_nothing_had_been(work):
    words = ["-c", "toy.yaml", "--trainer.max_epochs=12", "--data.examples_per_epoch=64"]
    assert fit(*words, "--run_dir=whole") == 0
    process = started(work, *words, "--run_dir=killed")
    wait_for_rows(process, work / "killed", 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(rows("killed")) < 12
    assert fit(*words, "--run_dir=killed", "--ckpt_path=last") == 0
    assert rows("killed") == rows("whole")
    assert not list(Path("killed/checkpoints").glob(".*"))


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(work):
    words = ["-c", "toy.yaml", "--trainer.max_epochs=10000"]
    process = started(work, *words)
    wait_for_rows(process, work / "runs" / "toy", 2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1].startswith("interrupted; to continue: zoo fit --data")
    assert error.splitlines()[-1].endswith("--ckpt_path=last")
    assert "Traceback" not in error
