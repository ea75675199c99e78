"""The benchmarks of the models run, and their figures mean what they say."""

import re
import types

import numpy as np
import pytest
import torch
from trainable_toy import Toy

import zoo
from benchmarks import models, overfit
from zoo import catalog
from zoo.errors import MissingPackage


class Quick(Toy):
    """A toy that knows the answer, up to a gain that it has to learn."""

    def __init__(self):
        super().__init__(sources=["a", "b"], dropout=0.0)
        self.gain = torch.nn.Parameter(torch.tensor(0.0))
        self.answer = None

    def forward(self, mixture, state=None):
        low = torch.nn.functional.avg_pool1d(mixture, 31, 1, 15)
        return self.gain * torch.stack([low, mixture - low], 1)


def references():
    time = torch.arange(16000) / 16000
    pair = torch.stack([torch.sin(2 * torch.pi * 50 * time), torch.sin(2 * torch.pi * 4100 * time)])
    return (0.1 * pair[:, None]).numpy()


@pytest.fixture
def toy(monkeypatch):
    """The toy in the catalog, alone."""

    def put(cls, **entry):
        target = f"{cls.__module__}:{cls.__qualname__}"
        monkeypatch.setattr(catalog, "TABLE", {"toy": {"target": target, **entry}})

    put(Toy)
    return put


# ---- overfit


def test_the_bar_asks_for_eight_decibels_and_eight_more_than_the_mixture_has():
    signals = references()
    signals[1] *= 10  # of the second, the mixture has 20 dB, so 28 are due
    bar = overfit.Bar(signals, 1, 9)
    assert bar.mixture == pytest.approx([-20, 20], abs=0.1)
    for found, passed in (([8, 28.1], True), ([7.9, 40], False), ([30, 27.9], False)):
        bar.sdr = found
        assert bar.passed is passed


def test_the_bar_measures_what_a_model_separates():
    bar, model = overfit.Bar(references(), 1, 9), Quick().train()
    with torch.no_grad():
        model.gain.fill_(0.5)
    bar.look(model)
    assert bar.sdr == pytest.approx([6, 6], abs=0.5)
    assert model.training  # training goes on as before


def test_a_model_that_does_not_learn_fails_and_says_what_it_was(toy, tmp_path, capsys):
    assert (
        overfit.main(["toy", "--steps=3", f"--audio={tmp_path}", '--arguments={"width": 2}']) == 1
    )
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split()[:5] == ["toy", "NO", "3", "x", "4"]
    for words in ("vocals -", "its own optimiser", 'reduced: {"width": 2}', "a generated song"):
        assert words in line


@pytest.mark.parametrize(("what", "at", "steps"), [("BAR_DB", -99, 25), ("cpu_s", 0, 1)])
def test_training_ends_at_the_bar_or_at_the_limit(
    what, at, steps, toy, tmp_path, capsys, monkeypatch
):
    if what == "BAR_DB":
        monkeypatch.setattr(overfit, what, at)
    else:
        monkeypatch.setitem(overfit.DEFAULT, what, at)
    assert overfit.main(["toy", f"--audio={tmp_path}"]) == int(what == "cpu_s")
    words = capsys.readouterr().out.splitlines()[-1].split()
    assert words[1:3] == ["yes" if what == "BAR_DB" else "NO", str(steps)]


def test_a_model_whose_package_is_missing_is_left_out(toy, tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise MissingPackage("asteroid is not installed.")

    monkeypatch.setattr(zoo, "create", fail)
    assert overfit.main(["toy", f"--audio={tmp_path}"]) == 0
    assert "toy: left out, asteroid" in capsys.readouterr().out


@pytest.mark.parametrize(
    "sources", [("bass", "drums", "other", "vocals"), ("vocals", "accompaniment")]
)
def test_the_real_excerpts_sound_in_every_source(sources, shared):
    model = types.SimpleNamespace(sources=sources, sample_rate=16000, channels=1)
    found, told = overfit.excerpt(model, shared / "audio")
    assert found.shape == (len(sources), 1, 160000) and "generated" not in told
    assert np.sqrt(np.square(found).mean((1, 2))) == pytest.approx(overfit.RMS, rel=1e-5)
    seconds = np.square(found).reshape(len(sources), 10, 16000).mean(-1)
    assert ((seconds > 1e-6).mean(-1) >= 0.8).all()


@pytest.mark.parametrize("name", overfit.SETTINGS)
def test_settings_are_of_systems_that_there_are(name):
    zoo.create(name, **overfit.SETTINGS[name]["arguments"])
    assert set(overfit.SETTINGS[name]) <= set(overfit.DEFAULT)


# ---- models


def test_costs_are_ratios_to_a_reference_measured_twice(capsys):
    models.main(["mdensenet", "--tiny", "--seconds=0.5", "--repeats=1"])
    _, _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["mmdensenet", "mdensenet", "mmdensenet"]
    parameters = [float(re.search(r"\((\S+)\)", line)[1]) for line in lines]
    assert parameters[0] == parameters[2] == 1 > parameters[1]


def test_what_a_second_costs_does_not_depend_on_how_many_there_are(toy):
    short, long = (models.cost("toy", seconds, 1, False) for seconds in (2.0, 4.0))
    assert long.separate_mb == pytest.approx(short.separate_mb, rel=0.01)
    assert long.train_mb == pytest.approx(short.train_mb)
    # Two maps of 16 at 16 kHz, float32, and what the filters make of them: megabytes, not bytes.
    assert 1 < short.separate_mb < 5
    assert short.parameters == sum(p.numel() for p in Toy().parameters())


def test_a_system_without_its_package_is_left_out_of_the_costs(toy, capsys, monkeypatch):
    create = zoo.create
    table = {name: {"target": "trainable_toy:Toy"} for name in ("gone", "toy")}
    monkeypatch.setattr(catalog, "TABLE", table)

    def fail(name, **arguments):
        if name == "gone":
            raise MissingPackage("asteroid is not installed.")
        return create(name, **arguments)

    monkeypatch.setattr(zoo, "create", fail)
    models.main(["--reference=toy", "--seconds=0.5", "--repeats=1"])
    lines = capsys.readouterr().out.splitlines()
    assert f"{'gone':22s}left out: asteroid is not installed." in lines
    assert [line.split()[0] for line in lines[2:]] == ["toy", "gone", "toy"]
