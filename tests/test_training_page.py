"""docs/training.md and the sweep do what they say."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from test_train_cli import environment, fit, rows, work  # noqa: F401

import zoo
from zoo import catalog, recipes
from zoo.cli.arguments import prepare

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = (CHECKOUT / "docs" / "training.md").read_text(encoding="utf-8")
SWEEPS = sorted((CHECKOUT / "recipes" / "sweeps").glob("*.yaml"))


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", blocks("yaml"), ids=["average", "SDR", "loss"])
def test_a_recipe_of_the_page_trains(work, text):  # noqa: F811
    Path("page.yaml").write_text(text)
    assert fit("-c", "toy.yaml", "-c", "page.yaml", "--trainer.max_epochs=1", "--run_dir=r") == 0
    assert len(rows("r")) == 1
    assert ("val/loss" in rows("r")[0]) == ("ValidationLoss" in text)


def test_the_finders_of_the_page_find(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (text,) = blocks("python")
    songs = {"n_train": 1, "n_valid": 1, "n_test": 1, "seconds": 2, "sample_rate": 8000}
    data = zoo.SeparationData
    monkeypatch.setattr(
        zoo, "SeparationData", lambda *a, **k: data(*a, **k, batch_size=2, arguments=songs)
    )
    toy = {"target": "trainable_toy:Toy", "tiny": {}}
    monkeypatch.setitem(catalog.TABLE, "mmdensenet", toy)
    for old, new in (("num_training=100", "num_training=30"), ("max_trials=5", "max_trials=2")):
        assert old in text
        text = text.replace(old, new)
    exec(compile(text, "training.md", "exec"), {})
    said = capsys.readouterr().out
    assert 1e-8 < float(re.search(r"learning rate: (\S+)", said)[1]) < 1
    assert "batch size: 4" in said
    assert Path("learning-rate.png").is_file()


def test_the_shell_loop_of_the_page_makes_a_run_per_combination(tmp_path):
    (text,) = (b for b in blocks("sh") if b.startswith("for "))
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "zoo").write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n')
    (folder / "zoo").chmod(0o755)
    path = f"{folder}:{environment()['PATH']}"
    done = subprocess.run(
        ["sh", "-c", text], env={"PATH": path}, capture_output=True, text=True, check=True
    )
    calls = [prepare("fit", line.split()[1:]) for line in done.stdout.splitlines()]
    folders = {next(a for a in call.arguments if "run_dir" in str(a)) for call in calls}
    assert len(calls) == len(folders) == 4


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_a_run_of_a_sweep_starts_as_the_agent_starts_it(path, work, monkeypatch):  # noqa: F811
    sweeps = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    chosen = {k: p.get("value", p.get("min")) for k, p in sweep["parameters"].items()}
    chosen |= {k: p["values"][-1] for k, p in sweep["parameters"].items() if "values" in p}
    args = {name: {"value": value} for name, value in chosen.items()}
    words = {
        **sweeps.create_sweep_command_args({"args": args}),
        "env": ["/usr/bin/env"], "program": [sweep["program"]], "interpreter": ["python"],
    }  # fmt: skip
    command = []
    for word in sweeps.create_sweep_command(sweep["command"]):
        command += words[word[2:-1]] if word.startswith("${") else [word]
    assert command[:3] == ["/usr/bin/env", "zoo", "fit"]
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "r1")
    songs = "{n_train: 1, n_valid: 1, n_test: 1, seconds: 2, sample_rate: 8000}"
    small = ["-c", "hardware/cpu-smoke", "--wandb=off", "--examples_every=0"]
    small += [f"--data.arguments={songs}", "--trainer.max_epochs=1", "--data.batch_size=1"]
    small += ["--trainer.limit_train_batches=1", "--data.examples_per_epoch=1"]
    monkeypatch.setattr("zoo.models.statistics.N_BATCHES", 1)
    from zoo.cli import main

    assert main([*command[2:], *small]) == 0
    resolved = yaml.safe_load(Path("runs/sweeps/s1/r1/config.yaml").read_text())
    assert resolved["optimizer"]["init_args"]["lr"] == chosen["optimizer.init_args.lr"]
    assert resolved["model"]["init_args"]["head"] == chosen["model.init_args.head"]
    assert len(rows("runs/sweeps/s1/r1")) == 1


def test_a_sweep_is_no_recipe():
    assert SWEEPS
    assert not [name for name in recipes.names() if "sweep" in name]
