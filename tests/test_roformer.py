"""BS-RoFormer and Mel-Band RoFormer: what stands around the package's networks."""

import pytest
import torch

import zoo
from zoo import catalog
from zoo.errors import MissingPackage, RecipeError
from zoo.models import roformer

NAMES = ("bs-roformer", "mel-band-roformer")


def small(name, **arguments):
    torch.manual_seed(0)
    return zoo.create(name, **{**catalog.entry(name).tiny, **arguments})


@pytest.mark.parametrize("name", NAMES)
def test_the_networks_are_those_of_the_package_with_its_defaults(name):
    import bs_roformer

    kind = {"bs-roformer": "BSRoformer", "mel-band-roformer": "MelBandRoformer"}[name]
    with torch.device("meta"):
        ours = zoo.create(name).network
        theirs = getattr(bs_roformer, kind)(384, depth=6, stereo=True, num_stems=4)
    expected = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected


# For the mel bands, the package widens the hop of the largest window.
@pytest.mark.parametrize(("name", "rtol"), [("bs-roformer", 1e-5), ("mel-band-roformer", 0.01)])
def test_the_loss_is_that_of_the_package_where_all_sources_are_known(name, rtol):
    model = small(name).eval()
    references = 0.1 * torch.randn(2, 2, 1, 75 * model.hop)
    known = torch.ones(2, 2, dtype=torch.bool)
    theirs = model.network(references.sum(1), target=references)
    ours = model.loss(references.sum(1), references, known)["loss"]
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_samples", [1, 100, 1000])
def test_songs_of_any_length_are_taken(name, n_samples):
    estimates = small(name).eval()(torch.randn(1, 1, n_samples))
    assert estimates.shape == (1, 2, 1, n_samples) and estimates.isfinite().all()


@torch.inference_mode()
def test_a_network_of_one_source_leaves_the_rest_to_the_other():
    model = small("mel-band-roformer", gives_one=True).eval()
    mixture = torch.randn(2, 1, 2000)
    estimates = model(mixture)
    assert estimates.shape == (2, 2, 1, 2000)
    torch.testing.assert_close(estimates.sum(1), mixture)


@pytest.mark.parametrize(
    "wrong",
    [{"channels": 3}, {"gives_one": True, "sources": ["a", "b", "c"]}],
)
def test_what_a_roformer_is_not_for_is_refused(wrong):
    with pytest.raises(RecipeError, match="one or two channels, and gives_one for two sources"):
        small("bs-roformer", **wrong)


def test_without_its_package_the_line_to_install_it_is_given(monkeypatch):
    monkeypatch.setattr(roformer, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pip install 'music-separation-zoo\[roformer\]'"):
        small("bs-roformer")
