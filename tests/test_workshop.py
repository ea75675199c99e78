"""Averaged weights, accumulation, precision, compiled networks, denormals, early stopping."""

import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_train_cli import DATA, environment, fit, rows, told, weights, work  # noqa: F401
from torch.utils._python_dispatch import TorchDispatchMode
from trainable_toy import Toy

import zoo
from zoo import catalog
from zoo.cli.train import run
from zoo.dsp.stft import STFT
from zoo.errors import MissingPackage, RecipeError
from zoo.training.compiling import networks
from zoo.training.early_stopping import StoppingCheck
from zoo.training.examples import Examples

STEADY = ["--model.dropout=0"]
AVERAGED = """\
trainer:
  callbacks:
    - class_path: EMAWeightAveraging
      init_args: {decay: 0.5}
"""


@pytest.fixture
def toy(monkeypatch):
    """A place in the catalog, so that `from_pretrained` knows the toy."""
    monkeypatch.setitem(catalog.TABLE, "toy", {"target": "trainable_toy:Toy", "tiny": {}})


def value(folder, name, table="metrics.csv"):
    return [float(r[name]) for r in rows(folder, table) if r.get(name)]


# ----------------------------------------------------------------- averaged weights


@pytest.fixture
def averaged(work, toy):  # noqa: F811
    """A run of one epoch with averaged weights, and their average computed here."""
    Path("ema.yaml").write_text(AVERAGED)
    words = ["-c", "toy.yaml", "-c", "ema.yaml", *STEADY, "--optimizer.lr=0.02"]
    assert fit(*words, "--run_dir=r", "--trainer.max_epochs=1") == 0
    return "r/checkpoints/last.ckpt"


def test_the_checkpoint_holds_the_average_of_the_weights_after_each_step(averaged, work):  # noqa: F811
    for n in (1, 2):
        words = ["-c", "toy.yaml", *STEADY, "--optimizer.lr=0.02", f"--trainer.max_steps={n}"]
        assert fit(*words, "--trainer.max_epochs=1", f"--run_dir=after{n}") == 0
    first, second = (weights(f"after{n}/checkpoints/last.ckpt") for n in (1, 2))
    for name, average in weights(averaged).items():
        torch.testing.assert_close(average, (first[name] + second[name]) / 2)
        assert not torch.equal(average, second[name])


def test_averaged_weights_are_what_is_validated_loaded_and_resumed_from(averaged):
    assert run(["validate", f"--ckpt_path={averaged}", "--run_dir=v"]) == 0
    scored = float(Path("v/validate.csv").read_text().splitlines()[1].split(",")[2])
    assert value("r", "val/sdr") == [pytest.approx(scored, abs=1e-4)]
    content = torch.load(averaged, weights_only=True)
    loaded = zoo.from_pretrained(averaged).state_dict()
    assert all(torch.equal(loaded[n], w) for n, w in content["state_dict"].items())
    raw = content["current_model_state"]
    assert any(not torch.equal(raw[n], w) for n, w in loaded.items())
    assert torch.equal(weights("r/checkpoints/best.ckpt")["net.0.weight"], loaded["net.0.weight"])


# ----------------------------------------------------------------- accumulation


def test_two_batches_of_four_make_the_step_of_one_batch_of_eight(work):  # noqa: F811
    words = ["-c", "toy.yaml", *STEADY, "--optimizer=SGD", "--optimizer.lr=0.1"]
    words += ["--data.examples_per_epoch=16", "--trainer.max_epochs=2"]
    assert fit(*words, "--data.batch_size=8", "--run_dir=whole") == 0
    assert fit(*words, "--trainer.accumulate_grad_batches=2", "--run_dir=halves") == 0
    whole, halves = (
        torch.load(f"{r}/checkpoints/last.ckpt", weights_only=True) for r in ("whole", "halves")
    )
    assert whole["global_step"] == halves["global_step"] == 4
    for name, tensor in whole["state_dict"].items():
        torch.testing.assert_close(halves["state_dict"][name], tensor, rtol=1e-4, atol=1e-6)
    assert [r["step"] for r in rows("halves")] == [r["step"] for r in rows("whole")]


def test_a_run_with_accumulation_in_two_parts_equals_one_run(work):  # noqa: F811
    words = ["-c", "toy.yaml", "--trainer.accumulate_grad_batches=2", "--data.batch_size=2"]
    words += ["--trainer.max_epochs=2"]
    assert fit(*words, "--run_dir=whole") == 0
    assert fit(*words, "--run_dir=parts", "--trainer.max_epochs=1") == 0
    assert fit(*words, "--run_dir=parts", "--ckpt_path=last") == 0
    assert rows("parts") == rows("whole")


# ----------------------------------------------------------------- precision


class Products(TorchDispatchMode):
    """Notes the types that convolutions and matrix products come in."""

    def __init__(self):
        super().__init__()
        self.types = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if re.search(r"mm|convolution", func.__name__):
            self.types.add(found.dtype)
        return found


@pytest.mark.parametrize("name", zoo.list_models(trainable=True))
def test_under_autocast_spectra_and_loss_stay_in_single_precision(name):
    try:
        model = zoo.create(name, **catalog.described(name).tiny).train()
    except MissingPackage as error:
        pytest.skip(str(error))
    references = 0.1 * torch.randn(2, len(model.sources), model.channels, model.segment)
    known = torch.ones(2, len(model.sources), dtype=torch.bool)
    seen = []
    for module in model.modules():
        if isinstance(module, STFT):
            module.register_forward_hook(lambda *x: seen.append(x[2].dtype))
    plain = model.loss(references.sum(1), references, known)["loss"]
    with Products() as computed, torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(references.sum(1), references, known)["loss"]
    loss.backward()
    assert set(seen) <= {torch.complex64}
    assert torch.bfloat16 in computed.types
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(plain), rel=0.05)
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)


def test_a_run_in_bf16_keeps_weights_in_single_precision(work):  # noqa: F811
    words = ["-c", "toy.yaml", *STEADY, "--trainer.max_epochs=1"]
    assert fit(*words, "--trainer.precision=bf16-mixed", "--run_dir=half") == 0
    assert fit(*words, "--run_dir=single") == 0
    half, single = weights("half/checkpoints/last.ckpt"), weights("single/checkpoints/last.ckpt")
    assert all(w.dtype == torch.float32 for w in half.values())
    assert any(not torch.equal(half[n], single[n]) for n in half)
    assert value("half", "train/loss") == pytest.approx(value("single", "train/loss"), rel=0.02)


# ----------------------------------------------------------------- compiled networks


def test_the_outermost_modules_with_weights_are_compiled():
    model = zoo.create("mmdensenet", **catalog.described("mmdensenet").tiny)
    assert list(networks(model)) == list(model.networks.values())
    toy = Toy()
    assert list(networks(toy)) == [toy.net]


@pytest.mark.slow
def test_without_a_compiler_one_line_says_so_and_training_goes_on(work):  # noqa: F811
    words = ["-c", "toy.yaml", "--compile=true", "--trainer.max_epochs=1", "--run_dir=r"]
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "fit", *DATA, *words], cwd=work, timeout=240,
        env={**environment(), "CXX": "no-such-compiler"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "compile" in line]
    assert line.startswith("compile: true, but ")
    assert line.endswith("; the training goes on uncompiled")
    assert "compile: true\n" in Path("r/config.yaml").read_text()
    assert len(rows("r")) == 1


@pytest.mark.slow
def test_compiled_training_gives_the_same_weights_under_the_same_names(work, capsys):  # noqa: F811
    words = ["-c", "toy.yaml", *STEADY, "--trainer.max_epochs=1"]
    assert fit(*words, "--run_dir=plain") == 0
    torch._dynamo.reset()  # what an earlier test compiled is compiled again
    torch._dynamo.utils.counters.clear()
    assert fit(*words, "--compile=true", "--run_dir=compiled") == 0
    if "uncompiled" in capsys.readouterr().err:
        pytest.skip("no C++ compiler here")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 1  # the trial is one
    plain, compiled = (weights(f"{r}/checkpoints/last.ckpt") for r in ("plain", "compiled"))
    assert list(plain) == list(compiled)
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=1e-3, atol=1e-5)


# ----------------------------------------------------------------- denormals


@pytest.fixture
def denormals():
    """Denormals that count, before and after."""
    if not torch.set_flush_denormal(False) or not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush denormals")
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)


def product():
    return float(torch.tensor([1e-30]) * 1e-10)  # below 1.2e-38, the smallest normal number


def test_a_training_flushes_denormals(denormals, work):  # noqa: F811
    assert product() > 0
    assert fit("-c", "toy.yaml", "--trainer.max_epochs=1") == 0
    assert product() == 0


def test_a_separation_flushes_denormals(denormals, tmp_path):
    import numpy as np
    import soundfile

    from zoo.cli import main

    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    assert product() > 0
    assert main(["separate", str(tmp_path / "a.wav"), "-o", str(tmp_path / "out")]) == 0
    assert product() == 0


# ----------------------------------------------------------------- early stopping

STOPPING = """\
trainer:
  max_epochs: 9
  callbacks:
    - class_path: EarlyStopping
      init_args: {{monitor: {}, mode: {}, patience: {}}}
"""


@pytest.fixture
def stopping(work):  # noqa: F811
    """A run with a learning rate of zero, which never gets better."""

    def train(monitor, mode, patience, *words):
        Path("stop.yaml").write_text(STOPPING.format(monitor, mode, patience))
        recipes = ["-c", "toy.yaml", "-c", "stop.yaml", "--optimizer.lr=0", "--run_dir=r"]
        assert fit(*recipes, *words) == 0
        return len(rows("r"))

    return train


def test_a_run_stops_when_the_sdr_has_not_risen_for_some_epochs(stopping):
    assert stopping("val/sdr", "max", 2) == 3


def test_a_run_that_had_stopped_stops_at_once_and_a_longer_patience_goes_on(stopping):
    assert stopping("val/sdr", "max", 1) == 2
    assert stopping("val/sdr", "max", 1, "--ckpt_path=last") == 2
    assert stopping("val/sdr", "max", 3, "--ckpt_path=last") == 4


def test_patience_counts_on_over_a_resume(stopping):
    assert stopping("val/sdr", "max", 3, "--trainer.max_epochs=2") == 2
    assert stopping("val/sdr", "max", 3, "--ckpt_path=last") == 4


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("val/sdrr", "Did you mean 'val/sdr'?"),
        ("epochs", "there are: train/loss, val/sdr, val/sdr_accompaniment, val/sdr_vocals"),
        ("val/loss", "the callback ValidationLoss before"),
    ],
)
def test_a_value_that_nobody_logs_is_told_before_the_first_epoch(work, capsys, name, hint):  # noqa: F811
    Path("stop.yaml").write_text(STOPPING.format(name, "max", 1))
    assert fit("-c", "toy.yaml", "-c", "stop.yaml", "--run_dir=r") == 2
    first, second = told(capsys).splitlines()
    assert first.startswith(f"error: EarlyStopping: no value '{name}' is measured.")
    assert hint in f"{first}\n{second}"
    assert not Path("r/metrics.csv").exists()


def test_a_value_may_be_waited_for_that_the_first_tracks_do_not_have():
    monitored = [SimpleNamespace(monitor="val/sdr", patience=1, strict=True)]
    trainer = SimpleNamespace(callback_metrics={}, early_stopping_callbacks=monitored)
    StoppingCheck().on_sanity_check_end(trainer, Toy())  # they are silent
    monitored[0].monitor = "val/sdrr"
    with pytest.raises(RecipeError):
        StoppingCheck().on_sanity_check_end(trainer, Toy())


def test_a_first_track_that_another_process_has_or_nobody_can_read_is_no_example(tmp_path):
    trainer = SimpleNamespace(
        current_epoch=0, sanity_checking=False, fast_dev_run=False, is_global_zero=True
    )
    faulty = {"name": "song", "mine": False, "error": "song: damaged"}
    Examples(tmp_path / "examples").on_validation_batch_end(trainer, Toy(), None, faulty, 0)
    assert not (tmp_path / "examples").exists()


def test_the_loss_on_validation_tracks_is_the_mean_over_their_segments(work, toy):  # noqa: F811
    both = STOPPING.format("val/loss", "min", 1).replace(
        "  callbacks:\n", "  callbacks:\n    - class_path: ValidationLoss\n"
    )
    Path("stop.yaml").write_text(both)
    words = ["-c", "toy.yaml", "-c", "stop.yaml", "--optimizer.lr=0", "--run_dir=r"]
    assert fit(*words) == 0
    assert len(rows("r")) == 2
    model = zoo.from_pretrained("r/checkpoints/last.ckpt")
    data = zoo.SeparationData("folder", "songs").obey(model)
    (track,) = data.val_dataloader()
    assert track["mixture"].shape[-1] == 16 * model.segment
    losses = []
    for i in range(16):
        part = slice(i * model.segment, (i + 1) * model.segment)
        cut = track["references"][..., part], track["known"]
        with torch.no_grad():
            losses.append(float(model.loss(track["mixture"][..., part], *cut)["loss"]))
    assert value("r", "val/loss")[0] == pytest.approx(math.fsum(losses) / 16, rel=1e-4)
