"""Hybrid Demucs and Conv-TasNet: what stands around torchaudio's networks."""

import pytest
import torch

import zoo
from zoo.compat import torchaudio
from zoo.errors import MissingPackage
from zoo.models.torchaudio_models import EPS, SOFT, ConvTasNet, HybridDemucs

DEMUCS = {"sample_rate": 8000, "channels": 1, "width": 8, "n_fft": 256, "depth": 4}
TASNET = {
    "sample_rate": 8000, "n_filters": 16, "n_bottleneck": 8, "n_hidden": 8, "n_layers": 2,
    "n_stacks": 1, "segment_s": 0.1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"), [("hdemucs", 83_639_368), ("conv-tasnet", 5_116_977)]
)
def test_the_models_have_their_numbers_of_parameters(name, expected):
    with torch.device("meta"):
        model = zoo.create(name)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_the_network_is_that_of_the_published_pipeline():
    with torch.device("meta"):
        theirs = torchaudio.load().models.hdemucs_high(["drums", "bass", "other", "vocals"])
        ours = zoo.create("hdemucs").network
    expected = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected


@torch.inference_mode()
def test_a_louder_song_gives_louder_estimates_and_a_constant_is_shared_out():
    torch.manual_seed(0)
    model = HybridDemucs(**DEMUCS).eval()
    mixture = torch.randn(1, 1, 2000)
    quiet = model(mixture)
    torch.testing.assert_close(model(10 * mixture), 10 * quiet, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model(mixture + 1), quiet + 0.25, rtol=1e-3, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("n_samples", [1, 100])
def test_songs_shorter_than_a_window_are_padded(n_samples):
    estimates = HybridDemucs(**DEMUCS).eval()(torch.randn(1, 1, n_samples))
    assert estimates.shape == (1, 4, 1, n_samples) and estimates.isfinite().all()


@torch.inference_mode()
def test_conv_tasnet_takes_channel_after_channel():
    torch.manual_seed(0)
    model = ConvTasNet(**TASNET).eval()
    mixture = torch.randn(2, 2, 500)
    both = model(mixture)
    for c in range(2):
        torch.testing.assert_close(both[:, :, c], model(mixture[:, c : c + 1])[:, :, 0])


def test_the_loss_of_conv_tasnet_is_an_energy_in_db_of_the_mixtures():
    torch.manual_seed(0)
    model = ConvTasNet(**TASNET)
    references = torch.randn(2, 4, 2, model.segment)
    references[0, 2] = 0  # silent
    mixture = references.sum(1)
    found = model.loss(mixture, references, torch.ones(2, 4, dtype=torch.bool))
    energy = (model(mixture) - references).square().sum((2, 3))
    loudness = mixture.square().sum((1, 2))[:, None] + EPS
    expected = 10 * (energy / loudness + SOFT).log10()
    torch.testing.assert_close(found["loss"], expected.mean())
    torch.testing.assert_close(found["vocals"], expected[:, 3].mean())


def test_without_torchaudio_one_line_says_so(monkeypatch):
    def absent():
        raise MissingPackage(
            "torchaudio is not installed. This needs it: `pip install torchaudio`."
        )

    monkeypatch.setattr(torchaudio, "load", absent)
    with pytest.raises(MissingPackage, match="pip install torchaudio"):
        zoo.create("hdemucs", **DEMUCS)
