"""The short-time Fourier transform, against its definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.dsp.stft import STFT


def noise(*shape):
    return torch.rand(*shape) * 2 - 1


def by_definition(x, n_fft, hop):
    """Frame by frame, each centred on a multiple of the hop, zeros around the signal."""
    n_frames = math.ceil(len(x) / hop) + 1
    padded = torch.zeros(n_frames * hop + 2 * n_fft, dtype=torch.float64)
    padded[n_fft : n_fft + len(x)] = x.double()
    window = torch.tensor([math.sin(math.pi * n / n_fft) ** 2 for n in range(n_fft)]).double()
    starts = [n_fft + i * hop - n_fft // 2 for i in range(n_frames)]
    return torch.stack([torch.fft.rfft(window * padded[s : s + n_fft]) for s in starts], -1)


@pytest.mark.parametrize(("n_fft", "hop"), [(64, 32), (64, 16), (60, 17), (62, 31)])
@pytest.mark.parametrize("n_samples", [1, 16, 17, 63, 64, 65, 200])
def test_frames_are_those_of_the_definition(n_fft, hop, n_samples):
    x = noise(n_samples)
    spectrum = STFT(n_fft, hop)(x)
    expected = by_definition(x, n_fft, hop)
    assert spectrum.shape == expected.shape == (n_fft // 2 + 1, math.ceil(n_samples / hop) + 1)
    torch.testing.assert_close(spectrum, expected.to(spectrum.dtype), rtol=0, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(half=st.integers(2, 48), part=st.floats(0, 1), n_samples=st.integers(1, 400))
def test_the_inverse_gives_the_signal_back(half, part, n_samples):
    stft = STFT(2 * half, 1 + int(part * (half - 1)))
    x = noise(2, 3, n_samples)
    spectrum = stft(x)
    assert spectrum.shape == (2, 3, stft.n_bins, stft.n_frames(n_samples))
    torch.testing.assert_close(stft.inverse(spectrum, n_samples), x, rtol=0, atol=1e-4)


def test_the_inverse_of_a_spectrum_of_no_signal_is_the_nearest_signal():
    """Weighted overlap-add is the least-squares inverse: transforming again is a projection."""
    stft = STFT(64, 16)
    anything = torch.complex(noise(33, 21), noise(33, 21))
    once = stft(stft.inverse(anything, 320))
    twice = stft(stft.inverse(once, 320))
    torch.testing.assert_close(twice, once, rtol=0, atol=1e-5)
    assert (once - anything).abs().max() > 0.1


def test_a_tone_stands_in_its_bin():
    stft = STFT(256, 64)
    time = torch.arange(4000) / 8000
    magnitude = stft(torch.sin(2 * torch.pi * 1000 * time)).abs()[:, 10:50]
    assert bool((magnitude.argmax(0) == 32).all())
    torch.testing.assert_close(magnitude[32], torch.full((40,), 64.0), rtol=1e-3, atol=0)


def test_the_signal_is_not_modified_and_its_precision_kept():
    stft = STFT(64, 16)
    x = noise(1, 100).double()
    before = x.clone()
    spectrum = stft(x)
    assert (spectrum.dtype, stft(x.float()).dtype) == (torch.complex128, torch.complex64)
    assert stft.inverse(spectrum, 100).dtype == torch.float64
    torch.testing.assert_close(stft.inverse(spectrum, 100), before, rtol=0, atol=1e-12)
    assert torch.equal(x, before)


def test_under_autocast_it_stays_in_single_precision():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        stft = STFT(64, 16)
        x = noise(1, 100)
        torch.testing.assert_close(stft.inverse(stft(x), 100), x, rtol=0, atol=1e-5)


def test_a_shift_by_hops_shifts_the_frames():
    """What separating in chunks stands on: frames do not know where the signal begins."""
    stft = STFT(64, 16)
    x = noise(400)
    torch.testing.assert_close(stft(x[80:])[:, 4:12], stft(x)[:, 9:17], rtol=0, atol=1e-6)


def test_gradients_pass_through_both_ways():
    stft = STFT(64, 32)
    x = noise(1, 70).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: stft.inverse(stft(x) * 0.5, 70), x)


def test_the_window_is_in_no_checkpoint_and_moves_with_the_module():
    stft = STFT(64, 32)
    assert stft.state_dict() == {}
    assert stft.double().window.dtype == torch.float64


@pytest.mark.parametrize("hop", [0, -1, 33])
def test_a_hop_that_would_lose_samples_is_refused(hop):
    with pytest.raises(ValueError, match="half of n_fft 64"):
        STFT(64, hop)


def test_an_odd_transform_is_refused():
    with pytest.raises(ValueError, match="even"):
        STFT(63, 16)
