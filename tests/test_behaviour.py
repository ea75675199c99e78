"""The contract of the separators, over the whole catalog: a new model needs no test code."""

import unittest

import numpy as np
import pytest
import torch
from torch import nn
from toys import Halves, Loudness
from trainable_toy import Toy

import zoo
from zoo.errors import MissingPackage
from zoo.testing import CHECKS, LiveBytes, behaviour, example, noise, tiny


def name_of(check):
    return check.__name__.removeprefix("check_")


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest.mark.parametrize("name", zoo.list_models())
def test_every_model_keeps_the_contract(name, check):
    try:
        model = tiny(name)
    except MissingPackage as error:
        pytest.skip(str(error))
    check(model)


def test_every_check_is_run():
    found = {name for name in dir(behaviour) if name.startswith("check_")}
    assert found == {check.__name__ for check in CHECKS}


# ---- the checks themselves: a right model passes all, and each finds what it is there for


class Right(Toy):
    """Two convolutions without chance."""

    def __init__(self, sources=("vocals", "drums"), **arguments):
        super().__init__(list(sources), **{"channels": 1, "width": 4, "dropout": 0.0, **arguments})


class Unnamed(Right):
    def __init__(self):
        super().__init__()
        self.sources = ("vocals", "vocals")


class OneShort(Right):
    def forward(self, mixture, state=None):
        return super().forward(mixture)[..., :-1]


class Normalising(Right):
    def forward(self, mixture, state=None):
        peak = mixture.abs().amax((1, 2), keepdim=True)
        return super().forward(mixture / peak) * peak[:, None]


class Writing(Right):
    def forward(self, mixture, state=None):
        estimates = super().forward(mixture)
        mixture *= 0.5
        return estimates


class Wavering(Right):
    def forward(self, mixture, state=None):
        estimates = super().forward(mixture)
        return estimates + 1e-3 * torch.randn_like(estimates)


class Sharing(Right):
    def forward(self, mixture, state=None):
        return super().forward(mixture) * mixture.abs().amax()


class Double(Right):
    def forward(self, mixture, state=None):
        return (super().forward(mixture).double() * 2).float()


class Rounding(Right):
    def forward(self, mixture, state=None):
        estimates = super().forward(mixture)
        return estimates.half() * 1e6 if estimates.dtype == torch.bfloat16 else estimates


class ShortSighted(Right):
    @property
    def context(self):
        return 10  # of the 14 that the layers read


class OffGrid(Right):
    """Depends on the position within groups of 32 samples, and does not say so."""

    def forward(self, mixture, state=None):
        return super().forward(mixture) * (1 + torch.arange(mixture.shape[-1]) % 32)


class Hoarding(Right):
    def forward(self, mixture, state=None):
        estimates = super().forward(mixture)
        self.__dict__.setdefault("kept", []).append(estimates)
        return estimates


class Changed(Right):
    """Its sources alone are louder, and nobody is told."""

    def only(self, sources):
        view = type(self)(tuple(sources))
        return view.eval(), None


class Losing(Right):
    def separate(self, *args, **kwargs):
        estimates = super().separate(*args, **kwargs)
        for signal in estimates.values():
            signal[..., -1] += 1
        estimates._mixture[..., 0] += 1
        return estimates


class NoLoss(Right):
    def loss(self, mixture, references, known):
        return {"error": super().loss(mixture, references, known)["loss"]}


class InfiniteLoss(Right):
    def loss(self, mixture, references, known):
        return {"loss": super().loss(mixture, references, known)["loss"].log() * torch.inf}


class Unused(Right):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.spare = nn.Parameter(torch.ones(3))

    def loss(self, mixture, references, known):
        return {"loss": super().loss(mixture, references, known)["loss"] + 0 * self.spare.sum()}


class Detached(Right):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.forgotten = nn.Linear(2, 2)


class Presuming(Right):
    """Takes every reference for known."""

    def loss(self, mixture, references, known):
        return super().loss(mixture, references, torch.ones_like(known))


class NanWhenNothingIsKnown(Right):
    def loss(self, mixture, references, known):
        return {"loss": ((self(mixture) - references).square().mean((-1, -2)))[known].mean()}


class Stubborn(Right):
    def loss(self, mixture, references, known):
        return {"loss": 1 + 1e-3 * super().loss(mixture, references, known)["loss"]}


class HalfSaved(Right):
    """Has a random filter that no checkpoint holds."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.register_buffer("filter", torch.randn(1), persistent=False)

    def forward(self, mixture, state=None):
        return super().forward(mixture) * self.filter


class NotPlain(Right):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.hparams["width"] = np.int64(4)


class Forgetting(Right):
    """Cannot be made from what it was made from."""

    def __init__(self):
        super().__init__(width=6)


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_right_model_passes_every_check(check, channels):
    check(Right(channels=channels))


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        ("declares_itself", Unnamed),
        ("length", OneShort),
        ("finite", Normalising),
        ("pure", Writing),
        ("pure", Wavering),
        ("batch", Sharing),
        ("single_precision", Double),
        ("bfloat16", Rounding),
        ("chunks", ShortSighted),
        ("chunks", OffGrid),
        ("constant_memory", Hoarding),
        ("sources", Changed),
        ("derived_sources", Losing),
        ("loss", NoLoss),
        ("loss", InfiniteLoss),
        ("gradients", Unused),
        ("gradients", Detached),
        ("unknown_sources", Presuming),
        ("unknown_sources", NanWhenNothingIsKnown),
        ("learns", Stubborn),
        ("arguments", NotPlain),
        ("arguments", Forgetting),
        ("weights", HalfSaved),
        ("checkpoint", NotPlain),
    ],
)
def test_a_wrong_model_is_found(check, wrong):
    with pytest.raises(AssertionError):
        getattr(behaviour, f"check_{check}")(wrong())


def test_every_check_of_a_promise_has_a_model_that_breaks_it():
    (marks,) = test_a_wrong_model_is_found.pytestmark
    assert {check for check, _ in marks.args[1]} == {name_of(check) for check in CHECKS}


def test_what_a_model_does_not_claim_is_skipped():
    fixed = Halves()
    fixed.trainable = False
    for check in (behaviour.check_learns, behaviour.check_gradients, behaviour.check_weights):
        with pytest.raises(unittest.SkipTest):
            check(fixed)
    with pytest.raises(unittest.SkipTest, match="unbounded"):
        behaviour.check_chunks(Halves(context=None))


def test_a_survey_is_part_of_what_is_checked():
    behaviour.check_chunks(Loudness())
    behaviour.check_constant_memory(Loudness())


def test_the_example_is_one_segment_whose_references_sum_to_the_mixture():
    model = Right(channels=2)
    mixture, references = example(model, batch=3)
    assert references.shape == (3, 2, 2, model.segment)
    torch.testing.assert_close(references.sum(1), mixture)
    assert 0.1 < mixture.abs().max() < 1
    assert torch.equal(example(model, batch=3)[0], mixture)


def test_noise_has_what_the_model_expects_of_channels():
    assert noise(Right(channels=2), 5, batch=3).shape == (3, 2, 5)
    assert noise(Halves(channels=None), 5).shape == (1, 2, 5)


def test_live_bytes_are_those_of_tensors_that_still_exist():
    before = torch.ones(1000)
    with LiveBytes() as memory:
        a = torch.zeros(250)
        view = a[:100]
        assert memory.now == 1000
        b = a + 1
        assert memory.now == 2000
        del a
        assert memory.now == 2000  # the view keeps it
        del view
        assert memory.now == 1000
        before.add_(1)
        assert memory.now == 1000  # nothing new
        del b
    assert (memory.now, memory.peak) == (0, 2000)
