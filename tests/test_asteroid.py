"""The adapter of asteroid; most of it in an environment that has the package."""

import copy
import importlib.util
import pickle
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import MissingPackage, RecipeError, ReleaseError

is_here = importlib.util.find_spec("asteroid") is not None
needs_asteroid = pytest.mark.skipif(not is_here, reason="asteroid is not installed")

SMALL = {
    "ConvTasNet": {"n_filters": 16, "bn_chan": 8, "hid_chan": 8, "skip_chan": 8, "n_blocks": 2,
                   "n_repeats": 1},
    "DPRNNTasNet": {"n_filters": 16, "bn_chan": 8, "hid_size": 8, "n_repeats": 1},
    "DPTNet": {"n_filters": 16, "ff_hid": 8, "n_repeats": 1, "in_chan": 16, "n_heads": 2},
    "SuDORMRFNet": {"bn_chan": 8, "num_blocks": 1, "upsampling_depth": 2, "n_filters": 16},
    "SuDORMRFImprovedNet": {"bn_chan": 8, "num_blocks": 1, "upsampling_depth": 2, "n_filters": 16},
    "LSTMTasNet": {"n_filters": 16, "hid_size": 8, "n_layers": 1},
    "DCUNet": {},
}  # fmt: skip


def model(name="ConvTasNet", sources=("vocals", "accompaniment"), **arguments):
    torch.manual_seed(0)
    return zoo.create(
        "asteroid", sources=list(sources), sample_rate=8000, model_name=name,
        model_args=SMALL[name], segment_s=0.6, **arguments,
    ).eval()  # fmt: skip


@pytest.mark.skipif(is_here, reason="asteroid is installed")
def test_without_the_package_one_line_says_how_to_get_it():
    with pytest.raises(MissingPackage, match=r"music-separation-zoo\[asteroid\]"):
        model()


class OneLayer(nn.Conv1d):
    """Stands for a network of asteroid."""

    def __init__(self, sample_rate, n_src):
        super().__init__(1, n_src, 1)


def test_a_model_can_be_copied_and_pickled(monkeypatch):
    package = ModuleType("asteroid")
    package.models = SimpleNamespace(DPTNet=OneLayer)
    package.losses = SimpleNamespace(singlesrc_mse=lambda a, b: (a - b).square().mean(-1))
    monkeypatch.setattr("zoo.compat.asteroid.load", lambda: package)
    found = zoo.create("asteroid", model_name="DPTNet", criterion="mse")
    references = torch.randn(2, 4, 1, 5000)
    known = torch.ones(2, 4, dtype=torch.bool)
    loss = found.loss(references.sum(1), references, known)["loss"]
    for again in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        torch.testing.assert_close(again.loss(references.sum(1), references, known)["loss"], loss)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"name": "DCUNet", "sources": ["a", "b", "c"]}, "gives one source, so it is for two, not 3"),
     ({"criterion": "l1"}, "criterion is 'l1'")],
)  # fmt: skip
def test_what_it_was_not_built_for_is_told(wrong, message):
    with pytest.raises(RecipeError, match=message):
        model(**wrong)


@needs_asteroid
@pytest.mark.parametrize("name", SMALL)
def test_every_class_separates_and_takes_a_step(name):
    found = model(name)
    mixture = 0.1 * torch.randn(2, 1, 5000)
    estimates = found(mixture)
    assert estimates.shape == (2, 2, 1, 5000) and estimates.isfinite().all()
    if name == "DCUNet":
        torch.testing.assert_close(estimates.sum(1), mixture)
    found.train()
    references = 0.1 * torch.randn(2, 2, 1, found.segment)
    references[0, 1] = 0  # silent
    losses = found.loss(references.sum(1), references, torch.ones(2, 2, dtype=torch.bool))
    assert losses["loss"].isfinite()
    losses["loss"].backward()
    learning = [p for p in found.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in learning)  # or processes of a run wait for it


@needs_asteroid
def test_without_skips_the_last_block_of_conv_tasnet_learns_as_well():
    arguments = {**SMALL["ConvTasNet"], "skip_chan": 0}
    found = zoo.create("asteroid", sample_rate=8000, model_args=arguments)
    assert all(p.requires_grad for p in found.network.masker.parameters())


@needs_asteroid
def test_the_loss_is_asteroids_over_the_sources_that_sound():
    from asteroid.losses import singlesrc_neg_snr

    found = model()
    references = torch.randn(2, 2, 1, found.segment)
    references[0, 1] = 0
    mixture = references.sum(1)
    losses = found.loss(mixture, references, torch.ones(2, 2, dtype=torch.bool))
    estimates = found(mixture)
    voice = singlesrc_neg_snr(estimates[:, 0, 0], references[:, 0, 0]).mean()
    rest = singlesrc_neg_snr(estimates[1:, 1, 0], references[1:, 1, 0]).mean()
    torch.testing.assert_close(losses["loss"], (voice + rest) / 2)


@needs_asteroid
def test_estimates_are_not_scaled_as_the_packages_separate_does():
    found = model()
    mixture = 0.1 * torch.randn(1, 1, 5000)
    torch.testing.assert_close(found(mixture)[:, :, 0], found.network(mixture))


@needs_asteroid
def test_a_file_of_asteroid_loads(tmp_path):
    from zoo.models.asteroid import from_checkpoint

    theirs = model().network
    torch.save(theirs.serialize(), tmp_path / "their.pth")
    again = from_checkpoint(tmp_path / "their.pth", ["vocals", "accompaniment"])
    assert again.sample_rate == 8000
    mixture = torch.randn(1, 1, 5000)
    torch.testing.assert_close(again(mixture)[:, :, 0], theirs(mixture))
    with pytest.raises(ReleaseError, match="gives 2 sources; name as many"):
        from_checkpoint(tmp_path / "their.pth", ["a", "b", "c"])


@needs_asteroid
def test_a_file_that_is_none_is_one_line(tmp_path):
    from zoo.models.asteroid import from_checkpoint

    (tmp_path / "bad.pth").write_bytes(b"nothing")
    torch.save({"model_name": "DCCRNet", "model_args": {}, "state_dict": {}}, tmp_path / "odd.pth")
    with pytest.raises(ReleaseError, match="no checkpoint of asteroid"):
        from_checkpoint(tmp_path / "bad.pth", ["a", "b"])
    with pytest.raises(ReleaseError, match="holds a DCCRNet"):
        from_checkpoint(tmp_path / "odd.pth", ["a", "b"])
