"""DeepNMF: values of the unfolded updates, its two-part gradient, bases that stay non-negative."""

from types import SimpleNamespace

import pytest
import torch
from filled import sines
from lightning.pytorch import Trainer

import zoo
from zoo.data.module import SeparationData
from zoo.errors import RecipeError
from zoo.models.deepnmf import (
    DeepNMF,
    NonNegative,
    NonNegativeLoss,
    factorised,
    normalised,
    separated,
    updated,
)

SMALL = {
    "sources": ["vocals", "accompaniment"], "sample_rate": 8000, "channels": 1, "n_fft": 64,
    "hop": 32, "n_bases": 3, "n_layers": 4, "sparsity": 0.1, "segment_frames": 16,
}  # fmt: skip


def small(**arguments):
    torch.manual_seed(0)
    return DeepNMF(**{**SMALL, **arguments})


def penalised_cost(m, w, h, mu):
    v = w @ h
    return float((m * torch.log(m / v) - m + v).sum() + mu * h.sum())


def test_updates_and_reconstruction_give_the_check_values():
    w = sines(9, 6).abs()
    w = w / w.sum(0)
    m, h = sines(9, 5).abs(), torch.ones(6, 5, dtype=torch.float64)
    costs = [penalised_cost(m, w, h, 0.1)]
    for _ in range(5):
        h = updated(h, m, w, 0.1)
        costs.append(penalised_cost(m, w, h, 0.1))
    expected = [7.702994, 6.845405, 6.697426, 6.556722, 6.425316, 6.304692]
    assert costs == pytest.approx(expected, abs=1e-6)
    start = torch.ones(6, 5, dtype=torch.float64)
    third = updated(updated(updated(start, m, w, 0.1), m, w, 0.1), m, w, 0.1)
    found = [float(third.sum()), float(third.norm()), float(third[0, 0])]
    assert found == pytest.approx([26.34734024, 4.99050324, 0.91929382], abs=1e-7)
    parts = [separated(m, start, [w] * 3, w, group, 0.1) for group in (slice(0, 2), slice(2, 6))]
    sums = [float(part.sum()) for part in parts]
    assert sums == pytest.approx([9.22993636, 19.75213791], abs=1e-7)
    torch.testing.assert_close(sum(parts), m)


def test_trained_parameters_are_those_of_the_last_layers():
    with torch.device("meta"):
        model = zoo.create("deepnmf")
    assert sum(p.numel() for p in model.networks["vocals"].parameters()) == 1_230_000


# ----------------------------------------------------------------- the gradient in two parts


def problem(n_untied):
    torch.manual_seed(0)
    m, true = torch.rand(9, 7).double(), torch.rand(9, 7).double()
    weights = [torch.nn.Parameter(torch.rand(9, 6).double()) for _ in range(n_untied + 1)]
    return m, true, torch.rand(6, 7).double() + 0.1, weights


@pytest.mark.parametrize("n_untied", [0, 1, 3])
def test_the_parts_differ_by_the_gradient_and_are_not_negative(n_untied):
    m, true, h, weights = problem(n_untied)
    group = slice(2, 5)
    plain = 0.5 * (separated(m, h, weights[:-1], weights[-1], group, 0.2) - true).square().sum()
    expected = torch.autograd.grad(plain, weights)
    value = NonNegativeLoss.apply(m, true, h, group, 0.2, weights, *weights)
    torch.testing.assert_close(value, plain)
    value.backward()
    for weight, gradient in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-10, atol=1e-12)
        plus, minus = weight.parts
        assert (plus >= 0).all() and (minus >= 0).all()
        torch.testing.assert_close(plus - minus, gradient, rtol=1e-10, atol=1e-12)


def test_steps_of_the_optimiser_lower_the_loss_and_keep_bases_non_negative_and_normal():
    m, true, h, weights = problem(2)
    optimizer = NonNegative(weights, lr=0.5)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        value = NonNegativeLoss.apply(m, true, h, slice(0, 3), 0.2, weights, *weights)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.8 * values[0]
    for weight in weights:
        assert (weight > 0).all()
        torch.testing.assert_close(weight.norm(dim=0), torch.ones(6).double())


@pytest.mark.parametrize("lr", [0.0, 1.5])
def test_an_exponent_beyond_one_is_refused(lr):
    with pytest.raises(RecipeError, match="at most 1"):
        NonNegative([torch.nn.Parameter(torch.ones(2, 2))], lr=lr)


# ----------------------------------------------------------------- first bases, whole model


def test_the_factorisation_finds_what_a_source_is_made_of():
    torch.manual_seed(0)
    true = normalised(torch.rand(12, 2) ** 4)
    s = true @ torch.rand(2, 200)
    found = factorised(s, torch.rand(12, 2), 0.01, n_iterations=300)
    torch.testing.assert_close(found.norm(dim=0), torch.ones(2))
    likeness = (true.T @ found).max(1).values
    assert (likeness > 0.97).all()


@torch.inference_mode()
def test_with_one_network_for_all_the_targets_sum_to_the_mixture():
    model = small(wiener_iterations=0).eval()
    spectrum = model.stft(torch.randn(2, 1, 500))
    torch.testing.assert_close(model.magnitudes(spectrum).sum(1), spectrum.abs())


@pytest.mark.parametrize("parametrisation", ["multiplicative", "softplus"])
def test_a_training_learns_the_first_bases_once(parametrisation, tmp_path):
    model = small(parametrisation=parametrisation)
    before = model.tied.clone()
    songs = {"n_train": 1, "n_valid": 1, "n_test": 0, "seconds": 2}
    data = SeparationData("generated", arguments=songs, batch_size=4, examples_per_epoch=8)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=1, limit_val_batches=0, default_root_dir=tmp_path, **quiet)
    trainer.fit(model, data)
    assert bool(model.is_measured) and not torch.equal(model.tied, before)
    for bases in model.networks.values():
        untied, final = bases.weights()
        assert all((w >= 0).all() and w.isfinite().all() for w in [*untied, final])
        assert not torch.equal(untied[0], model.tied)


def test_a_source_that_is_unknown_everywhere_keeps_its_first_bases():
    model = small()
    before = model.tied.clone()
    batch = {"references": torch.randn(2, 2, 1, 480), "known": torch.tensor([[True, False]] * 2)}
    module = SimpleNamespace(statistics_batches=lambda n: [batch])
    model._trainer = SimpleNamespace(datamodule=module)
    model.on_fit_start()
    voice, rest = model.groups
    assert not torch.equal(model.tied[:, voice], before[:, voice])
    assert torch.equal(model.tied[:, rest], before[:, rest])


@pytest.mark.parametrize("parametrisation", ["multiplicative", "softplus"])
def test_every_parameter_has_a_gradient_where_a_source_is_unknown(parametrisation):
    model = small(parametrisation=parametrisation)
    references = torch.randn(2, 2, 1, model.segment)
    known = torch.tensor([[True, False]] * 2)
    model.loss(references.sum(1), references, known)["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert not any(p.grad.any() for p in model.networks["accompaniment"].parameters())


def test_both_parametrisations_start_alike():
    mixture = torch.randn(1, 1, 600)
    one, two = small().eval(), small(parametrisation="softplus").eval()
    torch.testing.assert_close(one(mixture), two(mixture), atol=1e-4, rtol=1e-3)


def test_more_untied_layers_than_layers_are_refused():
    with pytest.raises(RecipeError, match="n_untied is 5; of 4 layers"):
        small(n_untied=5)
