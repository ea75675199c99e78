"""BLSTM: sizes and values of the network, and the scale of its bins."""

import pytest
import torch
from filled import filled, sines

import zoo
from zoo.models.blstm import BLSTM, RecurrentNetwork


def test_the_network_of_a_source_has_its_number_of_parameters():
    with torch.device("meta"):
        model = zoo.create("blstm")
    network = model.networks["vocals"]
    assert network.n_seen == 1487
    assert sum(p.numel() for p in network.parameters()) == 30_022_098


@torch.inference_mode()
def test_the_network_gives_the_check_values():
    network = RecurrentNetwork(1, 14, 12, 5, 3)
    network = filled(network).eval()
    assert sum(p.numel() for p in network.parameters()) == 2274
    seen = sines(7, 2, 12).abs()  # (N, B, F)
    mixture = torch.nn.functional.pad(seen, (0, 2)).permute(1, 2, 0)[:, None]
    y = network(mixture)
    found = [float(y.sum()), float(y.norm()), float(y.max())]
    assert found == pytest.approx([6.66184327, 1.11716341, 0.277908], abs=1e-6)


@torch.inference_mode()
def test_the_output_is_brought_back_to_the_scale_of_the_bins():
    torch.manual_seed(0)
    plain = RecurrentNetwork(2, 9, 6, 4, 1).eval()
    scaled = RecurrentNetwork(2, 9, 6, 4, 1).eval()
    scaled.load_state_dict(plain.state_dict())
    mean, std = torch.rand(9) + 1, torch.rand(9) + 0.5
    scaled.mean.copy_(mean)
    scaled.std.copy_(std)
    standard = torch.randn(1, 2, 9, 5)
    mixture = standard * std[:, None] + mean[:, None]
    frames = standard.permute(3, 0, 1, 2)
    drawn = plain.output(plain.lstm(frames[..., :6].flatten(2))[0]).unflatten(2, (2, 9))
    expected = torch.relu(drawn * std + mean).permute(1, 2, 3, 0)
    torch.testing.assert_close(scaled(mixture), expected, atol=1e-5, rtol=1e-5)


def test_the_statistics_are_measured_once(monkeypatch):
    model = BLSTM(["vocals", "drums"], 8000, 1, n_fft=64, hop=16, n_cells=3, n_layers=1)
    asked = []

    def measure(model, features):
        asked.append(features(torch.randn(2, 200)).shape)
        return torch.full((33,), 2.0), torch.full((33,), 3.0)

    monkeypatch.setattr("zoo.models.blstm.mixture_statistics", measure)
    model.on_fit_start()
    model.on_fit_start()
    assert asked == [(2, 33, 14)]
    assert (
        float(model.networks["drums"].mean[5]) == 2 and float(model.networks["drums"].std[5]) == 3
    )
