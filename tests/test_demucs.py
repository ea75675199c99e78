"""HTDemucs: what stands around the package's network."""

import pytest
import torch

import zoo
from zoo import catalog
from zoo.errors import MissingPackage
from zoo.models import demucs


def small(**arguments):
    torch.manual_seed(0)
    return zoo.create("htdemucs", **{**catalog.entry("htdemucs").tiny, **arguments})


def test_the_network_is_that_of_the_package_with_the_published_widths():
    from demucs.htdemucs import HTDemucs

    with torch.device("meta"):
        ours = zoo.create("htdemucs").network
    theirs = HTDemucs(["drums", "bass", "other", "vocals"])
    expected = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected


@torch.inference_mode()
def test_a_louder_song_gives_louder_estimates_and_a_constant_is_shared_out():
    model = small().eval()
    mixture = torch.randn(1, 1, 4000)
    quiet = model(mixture)
    torch.testing.assert_close(model(10 * mixture), 10 * quiet, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model(mixture + 1), quiet + 0.25, rtol=1e-3, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("n_samples", [1, 100, 3000])
def test_songs_of_any_length_are_taken(n_samples):
    estimates = small().eval()(torch.randn(1, 1, n_samples))
    assert estimates.shape == (1, 4, 1, n_samples) and estimates.isfinite().all()


def test_without_its_package_the_line_to_install_it_is_given(monkeypatch):
    monkeypatch.setattr(demucs, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pip install 'music-separation-zoo\[demucs\]'"):
        small()
