"""FNN: sizes and values, least squares, layers that grow, components, loudness."""

from types import SimpleNamespace

import pytest
import torch
from filled import filled, sines
from lightning.pytorch import Trainer
from torch._subclasses.fake_tensor import FakeTensorMode

from zoo.data.module import SeparationData
from zoo.models.fnn import EPS, FNN, Features, LeastSquares, RectifiedLayers
from zoo.streaming import separate_tensor

SMALL = {
    "sources": ["vocals", "accompaniment"], "sample_rate": 8000, "channels": 1, "n_fft": 64,
    "hop": 32, "n_neighbours": 2, "n_layers": 3, "segment_frames": 16,
}  # fmt: skip


def small(**arguments):
    torch.manual_seed(0)
    return FNN(**{**SMALL, **arguments}).eval()


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


@torch.inference_mode()
def test_the_layers_give_the_check_values():
    network = filled(RectifiedLayers(15, 9, 4)).eval()
    assert n_parameters(network) == 414
    y = network(sines(5, 15).abs())
    found = [float(y.sum()), float(y.norm()), float(y.flatten()[-1])]
    assert found == pytest.approx([26.57216767, 6.32581897, 2.25841845], abs=1e-7)


@pytest.mark.parametrize(("n_components", "expected"), [(None, 4_206_600), (0, 21_016_600)])
def test_the_network_of_a_source_has_its_number_of_parameters(n_components, expected):
    with torch.device("meta"):
        model = FNN(n_components=n_components)
    assert n_parameters(model.networks["vocals"]) == expected


# ----------------------------------------------------------------- least squares


def test_what_is_linear_is_found_without_error():
    torch.manual_seed(0)
    weight, bias = torch.rand(4, 6), torch.rand(4)
    squares = LeastSquares()
    for z in torch.rand(300, 6).split(70):
        squares.push(z, z @ weight.T + bias)
    found_weight, found_bias = squares.solve()
    torch.testing.assert_close(found_weight, weight, atol=1e-4, rtol=0)
    torch.testing.assert_close(found_bias, bias, atol=1e-4, rtol=0)


def test_no_other_map_comes_nearer():
    torch.manual_seed(0)
    z, s = torch.randn(200, 5), torch.randn(200, 3)
    squares = LeastSquares()
    squares.push(z, s)
    weight, bias = squares.solve()
    best = (z @ weight.T + bias - s).square().sum()
    for _ in range(20):
        moved = weight + 0.05 * torch.randn_like(weight)
        assert (z @ moved.T + bias - s).square().sum() > best
    assert best < s.square().sum()


def test_rows_on_any_device_are_summed_on_the_cpu():
    with FakeTensorMode():
        squares = LeastSquares()
        squares.push(torch.empty(9, 4, device="mps"), torch.empty(9, 2, device="mps"))
    assert {squares._zz.device.type, squares._sz.device.type} == {"cpu"}


def test_a_further_layer_never_raises_the_error_of_the_linear_map():
    torch.manual_seed(0)
    z = torch.randn(400, 6)
    s = (z @ torch.randn(6, 5)).clamp(min=0)  # of no linear map, and not negative
    network, errors = RectifiedLayers(6, 5, 4), []
    for k, layer in enumerate(network.layers):
        squares, rows = LeastSquares(), network.before(k, z).detach()
        squares.push(rows, s)
        layer.weight.data, layer.bias.data = squares.solve()
        errors.append(float((layer(rows) - s).square().sum().detach()))
    for before, after in zip(errors, errors[1:], strict=False):
        assert after < before * (1 + 1e-5)  # the ridge
    assert errors[-1] < 0.99 * errors[0]


# ----------------------------------------------------------------- features


@torch.inference_mode()
def test_a_louder_mixture_gives_louder_estimates_and_nothing_else():
    model, mixture = small(), torch.randn(1, 1, 2000)
    quiet, loud = (model.magnitudes(g * model.stft(mixture)) for g in (1, 100))
    torch.testing.assert_close(loud, 100 * quiet, rtol=1e-3, atol=1e-5)


@torch.inference_mode()
def test_features_are_the_frames_around_one_over_their_mean_norm(monkeypatch):
    monkeypatch.setattr("zoo.models.blocks.ROWS_AT_ONCE", 3)
    features = Features(4, 2, 0)
    mixture = torch.rand(1, 4, 7)
    padded = torch.nn.functional.pad(mixture, (2, 2))[0]
    found = torch.cat([x for x, _ in features(mixture)], 1)[0]
    for n in range(7):
        around = padded[:, n : n + 5]
        loudness = around.norm(dim=0).mean() + EPS
        torch.testing.assert_close(found[n], around.T.flatten() / loudness)


def test_components_are_those_of_the_covariance():
    torch.manual_seed(0)
    features = Features(4, 1, 3)
    before = next(iter(features(torch.rand(1, 4, 5))))[0]
    assert before.shape == (1, 5, 3)
    rows = torch.randn(500, 12) @ torch.diag(torch.tensor([9.0, 5.0, 3.0, *[0.1] * 9])) + 1
    spread = torch.linalg.eigh(torch.cov(rows.T))[1][:, -3:].flip(1).T
    found = features.components
    found.measure(rows)
    torch.testing.assert_close((found.components @ spread.T).abs(), torch.eye(3), atol=1e-2, rtol=0)
    few = rows[:11]  # less than there are features
    found.measure(few)
    spread = torch.linalg.eigh(torch.cov(few.T))[1][:, -3:].flip(1).T
    torch.testing.assert_close((found.components @ spread.T).abs(), torch.eye(3), atol=1e-2, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("channels", [1, 2])
def test_in_chunks_of_any_length_the_song_is_what_it_is_at_once(channels):
    model = small(channels=channels, covariance="song")
    mixture = 0.1 * torch.randn(1, channels, 5003)
    assert model.surveys == (channels == 2)
    for seconds in (0.1, 0.1234):  # 800 samples, and 987, of which 32 is no divisor
        chunked = separate_tensor(model, mixture, seconds)
        torch.testing.assert_close(chunked, model(mixture), atol=1e-6, rtol=1e-4)


# ----------------------------------------------------------------- training


def data():
    songs = {"n_train": 1, "n_valid": 1, "n_test": 0, "seconds": 2}
    return SeparationData("generated", arguments=songs, batch_size=4, examples_per_epoch=8)


def fit(model, folder, max_epochs, path=None, **arguments):
    trainer = Trainer(
        max_epochs=max_epochs, limit_val_batches=0, default_root_dir=folder, logger=False,
        enable_progress_bar=False, enable_checkpointing=False, **arguments,
    )  # fmt: skip
    trainer.fit(model, data(), ckpt_path=path, weights_only=True)
    return trainer


def watched(model):
    """The epochs in which layers are begun, and which, from now on."""
    seen, begin = [], model.begin_layer
    model.begin_layer = lambda k: (seen.append((model.current_epoch, k)), begin(k))
    return seen


def test_layers_join_one_after_the_other(tmp_path):
    model = small(growth_epochs=1)
    seen = watched(model)
    before = model.networks["vocals"].layers[1].weight.clone()
    fit(model, tmp_path, 4)
    assert seen == [(0, 0), (1, 1), (2, 2)]
    assert int(model.networks["vocals"].n_active) == 3
    assert bool(model.features.components.is_measured)
    assert not torch.equal(model.networks["vocals"].layers[1].weight, before)


@pytest.mark.parametrize("n_components", [None, 0])
def test_a_network_that_has_learned_is_trained_on_as_it_is(n_components, tmp_path):
    learned = small(growth_epochs=1, n_components=n_components)
    fit(learned, tmp_path, 3)
    model = small(growth_epochs=1, n_components=n_components)
    model.load_state_dict(learned.state_dict())
    seen = watched(model)
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=0.0)
    fit(model, tmp_path, 2)
    assert not seen
    for name, value in learned.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), f"{name} has changed"


def test_a_run_that_resumes_grows_on(tmp_path):
    begun = small(growth_epochs=1)
    fit(begun, tmp_path, 2).save_checkpoint(tmp_path / "two.ckpt")
    model = small(growth_epochs=1)
    seen = watched(model)
    fit(model, tmp_path, 4, tmp_path / "two.ckpt")
    assert seen == [(2, 2)]


def test_layers_that_wait_get_no_step_and_those_that_joined_do(tmp_path):
    model = small(growth_epochs=2)
    first, second = (model.networks["vocals"].layers[k].weight for k in (0, 1))
    before = second.clone()
    trainer = fit(model, tmp_path, 1)
    steps = {id(p): s["step"] for p, s in trainer.optimizers[0].state.items()}
    assert torch.equal(second, before) and id(second) not in steps and steps[id(first)] == 2
    begun = []
    model.begin_layer = lambda k: begun.append(second.clone())
    fit(model, tmp_path, 3)
    assert not torch.equal(second, begun[0])


def test_least_squares_take_no_notice_of_what_stands_for_an_unknown_source():
    torch.manual_seed(0)
    references = torch.randn(4, 2, 1, 480)
    known = torch.ones(4, 2, dtype=torch.bool)
    known[1:, 0] = False
    found = []
    for batch in (
        {"references": references, "known": known},
        {"references": references[:1], "known": known[:1]},
    ):
        model = small(n_components=4)
        batches = [batch, {"references": references, "known": torch.zeros_like(known)}]
        module = SimpleNamespace(statistics_batches=lambda n, batches=batches: batches)
        model._trainer = SimpleNamespace(datamodule=module)
        model.begin_layer(0)
        found.append(model.networks["vocals"].layers[0].weight)
    torch.testing.assert_close(*found)


def test_the_loss_is_over_the_loudness_of_a_frame():
    model = small()
    references = torch.randn(2, 2, 1, model.segment)
    mixture = references.sum(1)
    found = model.loss(mixture, references, torch.ones(2, 2, dtype=torch.bool))
    spectrum = model.stft(mixture)
    loudness = model.features.loudness(spectrum.abs()[:, 0])[:, None, None, None]
    error = (model.magnitudes(spectrum) - model.stft(references).abs()) / loudness
    torch.testing.assert_close(found["loss"], error.square().mean())
    torch.testing.assert_close(found["vocals"], error[:, 0].square().mean())
