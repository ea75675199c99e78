"""Open-Unmix and X-UMX: sizes, values, bridges, their losses, published weights."""

import pytest
import torch
from filled import filled, sines

import zoo
from zoo.errors import RecipeError, ReleaseError
from zoo.models.umx import (
    OpenUnmix,
    RecurrentNetwork,
    from_open_unmix,
    from_x_umx,
    weighted_sdr,
)

SMALL = {
    "sample_rate": 8000, "channels": 1, "n_fft": 64, "hop": 16, "hidden_size": 8, "n_layers": 1,
    "segment_s": 0.05,
}  # fmt: skip


def small(**arguments):
    torch.manual_seed(0)
    return OpenUnmix(**{**SMALL, **arguments}).eval()


@pytest.mark.parametrize(("hidden_size", "expected"), [(512, 8_893_348), (1024, 28_257_188)])
def test_the_network_of_a_source_has_its_number_of_parameters(hidden_size, expected):
    with torch.device("meta"):
        network = RecurrentNetwork(2, 2049, 1487, hidden_size, 3)
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize("name", ["umx", "x-umx"])
def test_bins_up_to_16_khz_are_seen_and_the_bridges_cost_nothing(name):
    with torch.device("meta"):
        model = zoo.create(name)
    assert len(model.networks["vocals"].input_mean) == 1487
    assert sum(p.numel() for p in model.parameters()) == 35_573_392


@torch.inference_mode()
def test_the_network_gives_the_check_values():
    network = RecurrentNetwork(2, 33, 24, 8, 3)
    kept = {n: p.clone() for n, p in network.named_parameters() if n.partition("_")[0] in
            ("input", "output")}  # fmt: skip
    network = filled(network).eval()
    for name, value in kept.items():
        getattr(network, name).copy_(value)
    assert sum(p.numel() for p in network.parameters()) == 2662
    y = network(sines(2, 2, 33, 6).abs())
    found = [float(y.sum()), float(y.norm()), float(y.flatten()[0]), float(y.flatten()[-1])]
    assert found == pytest.approx([497.16221454, 21.27079166, 0.66586357, 1.16034863], abs=1e-7)


# ----------------------------------------------------------------- bridges


@torch.inference_mode()
def test_bridged_networks_go_on_with_the_mean_of_all():
    model = small(bridged=True)
    spectrum = model.stft(torch.randn(1, 1, 400))
    a = spectrum.abs()
    networks = list(model.networks.values())
    first = sum(n.encode(a) for n in networks) / 4
    second = sum(torch.cat([first, n.follow(first)], -1) for n in networks) / 4
    for j, network in enumerate(networks):
        torch.testing.assert_close(model.magnitudes(spectrum)[:, j], network.decode(second, a))


def test_bridged_networks_are_all_computed_and_others_only_as_needed():
    assert set(small(bridged=True).only(["bass"])[0].networks) == {
        "vocals",
        "drums",
        "bass",
        "other",
    }
    assert set(small().only(["bass"])[0].networks) == {"bass"}


# ----------------------------------------------------------------- losses


def test_the_weighted_sdr_is_minus_one_at_best():
    reference, rest = torch.randn(2, 3, 100).unbind(0)
    mixture = reference + rest
    torch.testing.assert_close(weighted_sdr(reference, reference, mixture), -torch.ones(3))
    worse = weighted_sdr(reference + 0.3 * torch.randn(3, 100), reference, mixture)
    assert ((worse > -1) & (worse < 1)).all()
    cosine = torch.nn.functional.cosine_similarity
    share = reference.square().sum(-1) / (reference.square().sum(-1) + rest.square().sum(-1))
    estimate = torch.randn(3, 100)
    expected = -share * cosine(estimate, reference) - (1 - share) * cosine(mixture - estimate, rest)
    torch.testing.assert_close(weighted_sdr(estimate, reference, mixture), expected)


def test_the_loss_of_x_umx_is_over_all_sums_but_that_of_all():
    model = small(bridged=True)
    references = torch.randn(2, 4, 1, model.segment)
    mixture = references.sum(1)
    found = model.loss(mixture, references, torch.ones(2, 4, dtype=torch.bool))
    spectrum = model.stft(mixture)
    magnitudes = model.magnitudes(spectrum)
    true = model.stft(references).abs()
    unit = spectrum / spectrum.abs()
    signals = model.stft.inverse(magnitudes * unit[:, None], model.segment)
    spectral, temporal = [], []
    for chosen in range(1, 15):  # as bits: all subsets but none and all
        some = [j for j in range(4) if chosen >> j & 1]
        error = magnitudes[:, some].sum(1) - true[:, some].sum(1)
        spectral.append(error.square().mean())
        sdr = weighted_sdr(signals[:, some].sum(1), references[:, some].sum(1), mixture)
        temporal.append(1 + sdr.mean())
    assert len(spectral) == 14
    expected = sum(spectral) / 14 + 10 * sum(temporal) / 14
    torch.testing.assert_close(found["loss"], expected, rtol=1e-4, atol=1e-5)


def test_an_odd_width_is_refused():
    with pytest.raises(RecipeError, match="hidden_size is 9; it must be even"):
        small(hidden_size=9)


# ----------------------------------------------------------------- published weights


def test_a_file_of_open_unmix_fits():
    network = RecurrentNetwork(1, 33, 33, 8, 3)
    others = {"stft.window": torch.ones(4), "sample_rate": torch.tensor(1.0), "x": torch.ones(2)}
    state = {**network.state_dict(), **others}
    RecurrentNetwork(1, 33, 33, 8, 3).load_state_dict(from_open_unmix(state))
    del state["fc2.weight"]
    with pytest.raises(ReleaseError, match=r"no Open-Unmix file: fc2\.weight missing"):
        from_open_unmix(state)


def x_umx_file(model):
    """A state as asteroid's implementation has it: tensors bear the names of their sources."""
    dense = {"fc1": "layer_enc.{}.enc.0", "bn1": "layer_enc.{}.enc.1", "fc2": "layer_dec.{}.dec.0",
             "bn2": "layer_dec.{}.dec.1", "fc3": "layer_dec.{}.dec.3", "bn3": "layer_dec.{}.dec.4",
             "lstm": "layer_lstm.{}"}  # fmt: skip
    state = {"encoder.0.window": torch.ones(4), "decoder.window": torch.ones(4)}
    for s in model.sources:
        for key, value in model.networks[s].state_dict().items():
            module, _, tensor = key.partition(".")
            if tensor:
                state[f"{dense[module].format(s)}.{tensor}"] = value
            else:
                state[f"mean_scale.{key}_{s}"] = value
    return state


def test_a_file_of_x_umx_fits():
    model, again = small(bridged=True, n_layers=2), small(bridged=True, n_layers=2)
    torch.nn.init.normal_(model.networks["vocals"].fc1.weight)
    again.load_state_dict(from_x_umx(x_umx_file(model), model.sources))
    assert torch.equal(again.networks["vocals"].fc1.weight, model.networks["vocals"].fc1.weight)
    with pytest.raises(ReleaseError, match="no X-UMX of"):
        from_x_umx(x_umx_file(model), model.sources[:-1])
    state = x_umx_file(model)
    del state["layer_dec.bass.dec.3.weight"]
    with pytest.raises(ReleaseError, match=r"fc3\.weight missing"):
        from_x_umx(state, model.sources)
