"""The multichannel Wiener filter: its check values, its identities, its edges."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.dsp.wiener import (
    initial_estimates,
    plain_wiener,
    refine,
    spatial_covariances,
    spatial_statistics,
    wiener,
)
from zoo.errors import ShapeError

RULES = ("relative", "norbert", "pinv")
SINGLE, DOUBLE = torch.complex64, torch.complex128


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def scene(n_batch=1, n_sources=4, n_channels=2, n_bins=33, n_frames=40, dtype=DOUBLE):
    """Independent noise in every channel: magnitudes with errors, and the mixture."""
    sources = torch.randn(n_batch, n_sources, n_channels, n_bins, n_frames, dtype=dtype)
    sources = sources * torch.rand(n_batch, n_sources, 1, n_bins, n_frames).to(sources.real.dtype)
    wrong = 1 + 0.3 * torch.rand(sources.shape, dtype=sources.real.dtype)
    return sources.abs() * wrong, sources.sum(1)


def one_pan(dtype, tail_gain=1.0):
    """Four sources in the middle of the stage: all spatial covariances are parallel."""
    sources = torch.randn(1, 4, 1, 33, 40, dtype=dtype).expand(-1, -1, 2, -1, -1).clone()
    sources[..., 20:] *= tail_gain
    return sources.abs(), sources.sum(1)


def relative_error(value, expected):
    return float((value - expected).norm() / expected.norm())


def energy(x):
    return float(x.real.double().square().sum() + x.imag.double().square().sum())


# ---- check values ----


@pytest.mark.parametrize("filter_", [wiener, plain_wiener])
@pytest.mark.parametrize(
    ("iterations", "init", "total", "first"),
    [
        (0, "phase", 103.0319363509, 0.5576366392 + 0.6301704506j),
        (0, "mask", 28.3135359561, 0.2687413084 + 0.3036974608j),
        (1, "phase", 30.6135203962, 0.3194882357 + 0.4498495108j),
        (1, "mask", 32.3943812156, 0.3408648083 + 0.4572705465j),
        (2, "phase", 44.7839581312, 0.4656876020 + 0.7505661351j),
        (2, "mask", 47.9367570648, 0.4704588956 + 0.7480132762j),
    ],
)
def test_norberts_rule_gives_the_check_values(filter_, iterations, init, total, first):
    def sines(n, *shape):
        return torch.arange(1.0, n + 1, dtype=torch.float64).square().sin().reshape(shape)

    mixture = torch.complex(*sines(140, 2, 1, 2, 5, 7))
    magnitudes = sines(210, 1, 3, 2, 5, 7).abs()
    y = filter_(magnitudes, mixture, iterations=iterations, init=init, reg="norbert")
    assert energy(y) == pytest.approx(total, abs=6e-11)
    assert complex(y[0, 0, 0, 0, 0]) == pytest.approx(first, abs=1e-10)


# ---- fast = plain ----


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("init", ["phase", "mask"])
@pytest.mark.parametrize("reg", RULES)
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_the_fast_form_equals_the_plain_one(n_channels, reg, init, residual):
    magnitudes, mixture = scene(2, 3, n_channels, 7, 10)
    for iterations in (0, 1, 3):
        arguments = {"iterations": iterations, "init": init, "reg": reg, "residual": residual}
        plain = plain_wiener(magnitudes, mixture, **arguments)
        assert plain.shape == (2, 3 + residual, n_channels, 7, 10)
        fast = wiener(magnitudes, mixture, block=3, **arguments)
        torch.testing.assert_close(fast, plain, rtol=1e-8, atol=1e-10)


def test_the_fast_form_equals_the_plain_one_with_covariances_and_one_magnitude_for_all_channels():
    magnitudes, mixture = scene(2)
    magnitudes = magnitudes[:, :, :1]
    covariances = spatial_covariances(*spatial_statistics(initial_estimates(magnitudes, mixture)))
    given = {"iterations": 2, "covariances": covariances}
    plain = plain_wiener(magnitudes, mixture, **given)
    torch.testing.assert_close(wiener(magnitudes, mixture, **given), plain, rtol=1e-9, atol=1e-11)
    assert relative_error(wiener(magnitudes, mixture, iterations=2), plain) > 1e-3


def test_singular_bins_take_the_same_pseudo_inverse_in_both_forms():
    magnitudes, mixture = one_pan(DOUBLE)
    mixture = mixture + 0.1 * torch.randn_like(mixture)
    covariances = torch.ones(1, 4, 33, 2, 2, dtype=DOUBLE)
    given = {"reg": "pinv", "covariances": covariances}
    fast = wiener(magnitudes, mixture, **given)
    torch.testing.assert_close(fast, plain_wiener(magnitudes, mixture, **given))
    middle = mixture.mean(1, keepdim=True).expand_as(mixture)  # all that rank one can explain
    torch.testing.assert_close(fast.sum(1), middle)


@pytest.mark.parametrize("block", [1, 5, 33, 100])
def test_blocks_of_bins_change_nothing(block):
    magnitudes, mixture = scene()
    whole = wiener(magnitudes, mixture, block=33)
    torch.testing.assert_close(
        wiener(magnitudes, mixture, block=block), whole, rtol=1e-12, atol=1e-13
    )


# ---- identities ----


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("init", ["phase", "mask"])
def test_estimates_sum_to_the_mixture(init, iterations):
    magnitudes, mixture = scene()
    y = wiener(magnitudes, mixture, init=init, iterations=iterations)
    assert relative_error(y.sum(1), mixture) < 1e-7
    y = wiener(magnitudes, mixture, init=init, iterations=iterations, reg="norbert")
    assert float((y.sum(1) - mixture).abs().max()) < 3e-5
    y = wiener(magnitudes, mixture, init=init, iterations=iterations, reg="pinv")
    assert relative_error(y.sum(1), mixture) < 1e-7


@pytest.mark.parametrize("n_channels", [1, 2, 3, 6])
def test_any_number_of_channels_sums_to_the_mixture(n_channels):
    magnitudes, mixture = scene(n_channels=n_channels)
    assert relative_error(wiener(magnitudes, mixture).sum(1), mixture) < 1e-6


def test_initial_estimates_with_the_residual_sum_to_the_mixture():
    magnitudes, mixture = scene()
    y = initial_estimates(magnitudes, mixture, residual=True)
    torch.testing.assert_close(y.sum(1), mixture)
    torch.testing.assert_close(y[:, :-1].abs(), magnitudes)


def test_a_single_source_is_the_mixture():
    magnitudes, mixture = scene(n_sources=1)
    for reg in RULES:
        assert relative_error(wiener(magnitudes, mixture, reg=reg)[:, 0], mixture) < 1e-6


def test_two_point_sources_are_recovered_exactly_whatever_their_powers():
    directions = torch.randn(1, 2, 2, 33, 1, dtype=DOUBLE)
    images = directions * torch.randn(1, 2, 1, 33, 40, dtype=DOUBLE)
    mixture = images.sum(1)
    y = refine(images, mixture, delta=1e-12)
    assert relative_error(y, images) < 1e-4
    wrong = images * torch.randn(1, 2, 1, 33, 40, dtype=torch.float64).exp()
    assert relative_error(wrong, images) > 0.5
    assert relative_error(refine(wrong, mixture, delta=1e-12), images) < 1e-4


def test_order_of_sources_channels_and_frames_does_not_matter():
    magnitudes, mixture = scene(n_channels=3)
    y = wiener(magnitudes, mixture, iterations=2)
    sources, channels, frames = (
        torch.tensor([2, 0, 3, 1]),
        torch.tensor([2, 0, 1]),
        torch.randperm(40),
    )
    permuted = wiener(
        magnitudes[:, sources][:, :, channels][..., frames],
        mixture[:, channels][..., frames],
        iterations=2,
    )
    expected = y[:, sources][:, :, channels][..., frames]
    torch.testing.assert_close(permuted, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("reg", RULES)
def test_a_phase_common_to_all_channels_passes_through(reg):
    magnitudes, mixture = scene()
    turn = torch.polar(torch.ones(33, 40).double(), 6 * torch.rand(33, 40).double())
    y = wiener(magnitudes, mixture * turn, reg=reg)
    torch.testing.assert_close(y, wiener(magnitudes, mixture, reg=reg) * turn, rtol=1e-6, atol=1e-8)


def test_unitary_mixing_of_the_channels_passes_through():
    magnitudes, mixture = scene()
    unitary = torch.linalg.qr(torch.randn(2, 2, dtype=DOUBLE)).Q
    estimates = initial_estimates(magnitudes, mixture)

    def mix(spectra):
        return torch.einsum("cd,...dfn->...cfn", unitary, spectra)

    y = refine(mix(estimates), mix(mixture))
    torch.testing.assert_close(y, mix(refine(estimates, mixture)), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e4])
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("rule", [{}, {"reg": "pinv"}, {"reg": "norbert", "g_always": True}])
def test_the_result_scales_with_the_input(rule, dtype, scale):
    magnitudes, mixture = scene(dtype=dtype)
    y = wiener(magnitudes, mixture, **rule)
    scaled = wiener(magnitudes * scale, mixture * scale, **rule) / scale
    assert relative_error(scaled, y) < (1e-6 if dtype == DOUBLE else 1e-2)


def test_norberts_own_rule_loses_quiet_input():
    magnitudes, mixture = scene()
    quiet = 1e-4 * 4 / float(mixture.abs().max())
    y = wiener(magnitudes * quiet, mixture * quiet, reg="norbert")
    assert energy(y.sum(1)) / energy(mixture * quiet) < 0.95


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_a_tail_80_db_down_keeps_its_energy(dtype):
    magnitudes, mixture = scene(dtype=dtype)
    fade = torch.where(torch.arange(40) < 20, 1.0, 1e-4).to(magnitudes.dtype)
    magnitudes, mixture = magnitudes * fade, mixture * fade
    kept = energy(wiener(magnitudes, mixture).sum(1)[..., 20:]) / energy(mixture[..., 20:])
    assert kept == pytest.approx(1, abs=1e-6 if dtype == DOUBLE else 1e-3)
    norbert = wiener(magnitudes, mixture, reg="norbert", g_always=True)
    kept = energy(norbert.sum(1)[..., 20:]) / energy(mixture[..., 20:])
    assert kept < (0.99 if dtype == DOUBLE else 0.01)


@pytest.mark.parametrize("tail", [1.0, 1e-4])
@pytest.mark.parametrize(
    ("dtype", "diffuse", "panned"), [(DOUBLE, 2e-8, 2e-8), (SINGLE, 2e-4, 6e-4)]
)
def test_the_relative_rule_loses_no_more_than_its_delta(dtype, diffuse, panned, tail):
    magnitudes, mixture = scene(dtype=dtype)
    fade = torch.where(torch.arange(40) < 20, 1.0, tail).to(magnitudes.dtype)
    mixture = mixture * fade
    y = wiener(magnitudes * fade, mixture).sum(1)
    assert relative_error(y[..., 20:], mixture[..., 20:]) < diffuse
    magnitudes, mixture = one_pan(dtype, tail)
    y = wiener(magnitudes, mixture).sum(1)
    assert relative_error(y[..., 20:], mixture[..., 20:]) < panned
    assert relative_error(y[..., :20], mixture[..., :20]) < panned


@pytest.mark.parametrize("reg", ["relative", "pinv"])
def test_bins_are_independent(reg):
    magnitudes, mixture = scene()
    y = wiener(magnitudes, mixture, reg=reg)
    one = wiener(magnitudes[:, :, :, 7:8], mixture[:, :, 7:8], reg=reg)
    torch.testing.assert_close(one, y[:, :, :, 7:8], rtol=1e-7, atol=1e-9)


# ---- parts of a song ----


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_parts_with_the_songs_covariances_equal_the_whole(n_channels, residual):
    magnitudes, mixture = scene(2, 4, n_channels)
    parts = list(zip(magnitudes.split(17, -1), mixture.split(17, -1), strict=True))
    sums = [spatial_statistics(initial_estimates(v, x, residual=residual)) for v, x in parts]
    numerator, denominator = (sum(kind) for kind in zip(*sums, strict=True))
    covariances = spatial_covariances(numerator, denominator)
    given = {"residual": residual, "covariances": covariances}
    joined = torch.cat([wiener(v, x, **given) for v, x in parts], -1)
    whole_given = wiener(magnitudes, mixture, **given)
    assert relative_error(joined, whole_given) < 1e-12
    # Rounding of R_j alone passes through M^-1, whose condition is at most 1 / delta.
    assert relative_error(joined, wiener(magnitudes, mixture, residual=residual)) < 1e-12


def test_given_covariances_hold_in_every_iteration():
    magnitudes, mixture = scene()
    covariances = spatial_covariances(*spatial_statistics(initial_estimates(magnitudes, mixture)))
    given = {"iterations": 3, "covariances": covariances}
    whole = wiener(magnitudes, mixture, **given)
    part = wiener(magnitudes[..., 11:19], mixture[..., 11:19], **given)
    assert relative_error(part, whole[..., 11:19]) < 1e-12


def test_refine_is_one_iteration():
    magnitudes, mixture = scene()
    once = refine(initial_estimates(magnitudes, mixture), mixture)
    torch.testing.assert_close(once, wiener(magnitudes, mixture), rtol=1e-9, atol=1e-11)
    twice = wiener(magnitudes, mixture, iterations=2)
    torch.testing.assert_close(refine(once, mixture), twice, rtol=1e-8, atol=1e-10)


# ---- traps and edges ----


@pytest.mark.parametrize("reg", RULES)
def test_inputs_are_not_modified(reg):
    magnitudes, mixture = scene()
    mixture = mixture * 100  # norbert's own wiener divides loud mixtures in place
    before = magnitudes.clone(), mixture.clone()
    wiener(magnitudes, mixture, reg=reg, iterations=2, residual=True)
    assert torch.equal(magnitudes, before[0])
    assert torch.equal(mixture, before[1])


@pytest.mark.parametrize("reg", RULES)
def test_items_of_a_batch_do_not_influence_each_other(reg):
    magnitudes, mixture = scene(3)
    mixture = mixture * torch.tensor([1.0, 1e3, 1e-3]).reshape(3, 1, 1, 1)
    together = wiener(magnitudes, mixture, reg=reg)
    alone = [wiener(magnitudes[k : k + 1], mixture[k : k + 1], reg=reg) for k in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("reg", RULES)
def test_a_silent_source_stays_silent(reg, dtype):
    magnitudes, mixture = scene(dtype=dtype)
    magnitudes[:, 1] = 0
    y = wiener(magnitudes, mixture, reg=reg, iterations=2)
    assert not y[:, 1].any()
    assert torch.isfinite(torch.view_as_real(y)).all()


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("n_channels", [1, 2, 3])
@pytest.mark.parametrize("reg", RULES)
def test_silence_gives_silence(reg, n_channels, dtype):
    magnitudes, mixture = scene(n_channels=n_channels, dtype=dtype)
    for g_always in (False, True):
        options = {"reg": reg, "g_always": g_always, "residual": True}
        for v in (magnitudes, torch.zeros_like(magnitudes)):
            assert not wiener(v, torch.zeros_like(mixture), **options).any()
        nothing = wiener(torch.zeros_like(magnitudes), mixture, reg=reg, g_always=g_always)
        assert not nothing.any()


@pytest.mark.parametrize("init", ["phase", "mask"])
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_silent_bins_frames_and_channels_leave_the_rest_alone(n_channels, init):
    magnitudes, mixture = scene(n_channels=n_channels, dtype=SINGLE)
    mixture[:, :, 3], mixture[..., 5] = 0, 0
    magnitudes[..., 5] = 0
    if n_channels > 1:
        mixture[:, 1], magnitudes[:, :, 1] = 0, 0
    y = wiener(magnitudes, mixture, init=init, iterations=2, residual=True)
    assert relative_error(y.sum(1), mixture) < 1e-3


def test_a_nan_stays_in_its_bin_and_batch_item():
    magnitudes, mixture = scene(2)
    magnitudes[0, 1, 0, 4, 9] = torch.nan
    bad = torch.isnan(wiener(magnitudes, mixture).real)
    assert bad[0, :, :, 4].all()
    bad[0, :, :, 4] = False
    assert not bad.any()


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize(
    "shape", [(0, 2, 2, 5, 5), (1, 2, 2, 5, 1), (1, 2, 2, 5, 0), (1, 1, 1, 1, 1)]
)
def test_any_size_down_to_nothing_is_filtered(shape, dtype):
    magnitudes, mixture = scene(*shape, dtype=dtype)
    for reg in RULES:
        y = wiener(magnitudes, mixture, reg=reg)
        assert y.shape == shape
        assert y.dtype == dtype
        assert torch.isfinite(torch.view_as_real(y)).all()


@pytest.mark.parametrize("reg", RULES)
def test_single_precision_stays_single(reg):
    class NoDouble(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            made = result if isinstance(result, (tuple, list)) else (result,)
            doubles = (torch.float64, torch.complex128)
            assert not any(isinstance(t, torch.Tensor) and t.dtype in doubles for t in made), func
            return result

    magnitudes, mixture = scene(n_channels=3, dtype=SINGLE)
    with NoDouble():
        wiener(magnitudes, mixture, reg=reg, iterations=2)
        wiener(magnitudes[:, :, :2], mixture[:, :2], reg=reg, iterations=2, residual=True)
        wiener(magnitudes[:, :, :1], mixture[:, :1], reg=reg, init="mask")


def test_half_precision_magnitudes_and_autocast_keep_the_mixtures_precision():
    magnitudes, mixture = scene(dtype=SINGLE)
    half = magnitudes.half()
    expected = wiener(half.float(), mixture)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = wiener(half, mixture)
    torch.testing.assert_close(y, expected)


# ---- gradient ----


@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_gradients_are_those_of_finite_differences(n_channels):
    magnitudes, mixture = scene(1, 2, n_channels, 2, 3)
    covariances = spatial_covariances(*spatial_statistics(initial_estimates(magnitudes, mixture)))
    covariances = covariances + 0.1 * torch.eye(n_channels)
    magnitudes.requires_grad_(), mixture.requires_grad_()

    def filtered(v, x):
        return wiener(v, x, covariances=covariances, iterations=2, block=1)

    assert torch.autograd.gradcheck(filtered, (magnitudes, mixture))


def test_the_gradient_holds_estimated_covariances_constant():
    magnitudes, mixture = scene()
    covariances = spatial_covariances(*spatial_statistics(initial_estimates(magnitudes, mixture)))
    magnitudes.requires_grad_()
    target = torch.randn(1, 4, 2, 33, 40, dtype=DOUBLE)
    gradients = [
        torch.autograd.grad((wiener(magnitudes, mixture, **g) - target).abs().sum(), magnitudes)[0]
        for g in ({}, {"covariances": covariances})
    ]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("reg", RULES)
def test_gradients_are_finite_in_dead_bins_and_recording_them_changes_nothing(reg, dtype):
    magnitudes, mixture = scene(dtype=dtype)
    mixture[:, :, 3], magnitudes[:, :, :, 5], magnitudes[..., 7] = 0, 0, 0
    mixture[..., 7] = 0
    expected = wiener(magnitudes, mixture, reg=reg, iterations=2)
    magnitudes.requires_grad_(), mixture.requires_grad_()
    y = wiener(magnitudes, mixture, reg=reg, iterations=2)
    torch.testing.assert_close(y.detach(), expected)
    y.abs().square().sum().backward()
    assert torch.isfinite(magnitudes.grad).all()
    assert torch.isfinite(torch.view_as_real(mixture.grad)).all()
    assert magnitudes.grad.any()


# ---- errors ----


def test_shapes_that_do_not_fit_are_named():
    magnitudes, mixture = scene()
    with pytest.raises(ShapeError, match=r"\(1, 4, 2, 33, 39\)"):
        wiener(magnitudes[..., :-1], mixture)
    with pytest.raises(ShapeError, match="covariances"):
        wiener(magnitudes, mixture, residual=True, covariances=torch.ones(1, 4, 33, 2, 2))
    with pytest.raises(TypeError, match="complex"):
        wiener(magnitudes, mixture.real)


@pytest.mark.parametrize("wrong", [{"reg": "none"}, {"init": "none"}, {"iterations": -1}])
def test_unknown_options_are_named(wrong):
    magnitudes, mixture = scene()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        wiener(magnitudes, mixture, **wrong)
