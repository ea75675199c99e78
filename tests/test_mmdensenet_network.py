"""The networks of MDenseNet and MMDenseNet: sizes, values, context, memory."""

import json
import math
from collections.abc import Iterator

import pytest
import torch
from filled import filled, sines
from torch import Tensor, nn

from zoo.errors import RecipeError, ShapeError
from zoo.models.mmdensenet import (
    CompositeLayer,
    DenseBlock,
    MultiBandNetwork,
    SameConv,
    SingleBandNetwork,
    SpectrogramNetwork,
    UpSample,
)

PAPER = (SingleBandNetwork, MultiBandNetwork)
SMALL = {  # three scales
    "n_channels": 1,
    "low": [[4, 2]] * 5,
    "high": [[3, 2]] * 5,
    "full": [[2, 1]] * 5,
    "last_block": [2, 2],
    "first_maps": 6,
}


def n_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def summary(y: Tensor) -> list[float]:
    y = y.detach()
    flat = y.flatten()
    return [float(v) for v in (y.sum(), y.norm(), flat[0], flat[-1], y.relu().sum())]


def spread_statistics(network: nn.Module, seed: int = 0) -> None:
    """Running statistics that are neither 0 nor 1, so that a lost one shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)


@pytest.mark.parametrize(
    ("network", "reading", "expected"),
    [
        (SingleBandNetwork, {}, 121_102),
        (MultiBandNetwork, {}, 270_312),
        (SingleBandNetwork, {"bias": False}, 120_688),
        (MultiBandNetwork, {"bias": False}, 269_348),
        (SingleBandNetwork, {"up_norm": False}, 121_030),
        (MultiBandNetwork, {"up_norm": False}, 270_120),
        (MultiBandNetwork, {"match": "growth"}, 277_622),
        (SingleBandNetwork, {"block_output": "new"}, 292_642),
        (MultiBandNetwork, {"block_output": "new"}, 638_694),
        (SingleBandNetwork, {"block_output": "all"}, 3_601_058),
        (MultiBandNetwork, {"block_output": "all"}, 8_255_942),
        (MultiBandNetwork, {"pool": "max"}, 270_312),
        (MultiBandNetwork, {"head": "mask"}, 270_312),
    ],
)
def test_each_reading_of_the_paper_has_its_number_of_parameters(network, reading, expected):
    assert n_parameters(network(**reading)) == expected


def test_the_three_bands_have_their_numbers_of_parameters_and_maps():
    network = MultiBandNetwork()
    bands = (network.low, network.high, network.full)
    assert [n_parameters(band) for band in bands] == [197_448, 55_100, 15_718]
    assert [band.n_out for band in bands] == [16, 10, 6]
    assert n_parameters(network.match) == 196


def test_weights_are_stored_as_out_in_frames_bins():
    network = SingleBandNetwork()
    assert network.stem.first.weight.shape == (32, 2, 3, 4)
    assert network.head.conv.weight.shape == (2, 4, 1, 2)


def test_a_dense_block_gives_the_check_values():
    block = filled(DenseBlock(32, 12, 4)).eval()
    y = block(sines(1, 32, 8, 12).abs())
    assert n_parameters(block) == 22_048
    expected = [-33.84997998, 20.95685559, -1.08017173, -0.26556812]
    assert summary(y)[:4] == pytest.approx(expected, abs=6e-9)


@pytest.mark.parametrize(
    ("network", "training", "shape", "expected"),
    [
        (
            SingleBandNetwork,
            False,
            (2, 2, 16, 64),
            [-801.20999567, 29.58658747, 0.04568225, 0.20381088, 330.71172590],
        ),
        (
            SingleBandNetwork,
            True,
            (2, 2, 16, 64),
            [-206.10567636, 75.43335064, -0.21887882, 0.62525526, 1796.25542334],
        ),
        (
            SingleBandNetwork,
            False,
            (1, 2, 13, 70),
            [-267.52206353, 17.47194327, -0.26906087, 0.22742952, 159.34974324],
        ),
        (
            MultiBandNetwork,
            False,
            (2, 2, 16, 64),
            [565.68767756, 66.01567440, -0.07168902, 0.11602607, 1949.02473219],
        ),
        (
            MultiBandNetwork,
            True,
            (2, 2, 16, 64),
            [8.89566333, 82.56200023, -1.29417196, -0.08350899, 2068.99635848],
        ),
        (
            MultiBandNetwork,
            False,
            (1, 2, 13, 70),
            [196.93934501, 41.91996323, 0.13153973, 0.05618778, 801.32430617],
        ),
    ],
)
def test_a_network_gives_the_check_values(network, training, shape, expected):
    net = filled(network()).train(training)
    x = sines(*shape).abs()  # (B, C, N, F)
    assert summary(net.linear(x)) == pytest.approx(expected, abs=2e-8)


@pytest.mark.parametrize("training", [False, True])
def test_float32_is_as_exact_as_promised(training):
    net = filled(MultiBandNetwork()).train(training)
    x = sines(2, 2, 16, 64).abs()
    exact = net.linear(x)
    single = net.float().linear(x.float()).double()
    assert (single - exact).norm() / exact.norm() < 1e-5


@pytest.mark.parametrize("kernel", [(3, 4), (3, 3), (1, 2), (2, 1)])
def test_a_convolution_pads_the_smaller_half_before(kernel):
    torch.manual_seed(0)
    conv = SameConv(2, 3, kernel).double()
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64)
    (rows, columns) = kernel
    padded = torch.zeros(1, 2, 5 + rows - 1, 6 + columns - 1, dtype=torch.float64)
    top, left = (rows - 1) // 2, (columns - 1) // 2
    padded[..., top : top + 5, left : left + 6] = x
    y = conv(x)
    for n in range(5):
        for f in range(6):
            patch = padded[0, :, n : n + rows, f : f + columns]
            expected = (conv.weight * patch).sum((1, 2, 3)) + conv.bias
            assert torch.allclose(y[0, :, n, f], expected, atol=1e-12)


@pytest.mark.parametrize(("output", "n_out"), [("last", 3), ("new", 6), ("all", 10)])
def test_a_dense_block_passes_on_what_it_is_told_to(output, n_out):
    torch.manual_seed(0)
    block = DenseBlock(4, 3, 2, output).eval()
    x = torch.randn(1, 4, 5, 6)
    first = block.layers[0](x)
    second = block.layers[1](torch.cat([x, first], 1))
    expected = {"last": [second], "new": [first, second], "all": [x, first, second]}[output]
    assert block.n_out == n_out
    assert torch.equal(block(x), torch.cat(expected, 1))


def test_upsampling_adds_zeros_at_the_end_of_an_odd_axis():
    torch.manual_seed(0)
    up = UpSample(2, norm=True, bias=True).eval()
    x = torch.randn(1, 2, 3, 4)
    y = up(x, (7, 9))
    assert torch.equal(y[..., :6, :8], up.conv(up.norm(x)))
    assert y.shape == (1, 2, 7, 9)
    assert not y[..., 6, :].any()
    assert not y[..., 8].any()


def test_initial_weights_are_he_normal_and_biases_zero():
    torch.manual_seed(0)
    network = SingleBandNetwork()
    conv = network.stem.down[3].layers[3].conv  # 48 maps in, 3x3
    up = network.stem.up[0].conv  # 12 maps in, each seen once by an output
    assert float(conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / (48 * 9)), rel=0.03)
    assert float(up.weight.detach().std()) == pytest.approx(math.sqrt(2 / 12), rel=0.1)
    biases = [m.bias for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert not any(bias.any() for bias in biases)


def test_bins_and_frames_stand_as_torch_stft_gives_them():
    network = filled(MultiBandNetwork()).eval()
    x = sines(2, 2, 16, 64).abs()  # (B, C, N, F)
    y = network(x.transpose(-1, -2))
    assert torch.equal(y.transpose(-1, -2), network.linear(x).relu())


@pytest.mark.parametrize("head", ["conv_relu", "gate", "mask"])
@pytest.mark.parametrize("pool", ["average", "max"])
@pytest.mark.parametrize("n_frames", [4, 5, 7, 16])
def test_every_variant_keeps_size_and_sign(head, pool, n_frames):
    torch.manual_seed(0)
    network = MultiBandNetwork(**SMALL, head=head, pool=pool)
    magnitude = torch.rand(2, 1, 21, n_frames)
    estimate = network(magnitude)
    assert estimate.shape == magnitude.shape
    assert (estimate >= 0).all()
    assert head != "mask" or (estimate <= magnitude).all()


def test_the_pools_differ():
    x = sines(2, 2, 16, 64).abs()
    average = filled(SingleBandNetwork()).eval()
    largest = filled(SingleBandNetwork(pool="max")).eval()
    assert (average.linear(x) - largest.linear(x)).norm() > 1


def test_a_gate_scales_the_output_down_and_never_turns_its_sign():
    torch.manual_seed(0)
    network = MultiBandNetwork(**SMALL, head="gate").eval()
    maps = network.features(torch.rand(1, 1, 8, 16))
    gated, plain = network.head(maps), network.head.conv(maps)
    assert (gated.sign() == plain.sign()).all()
    assert (gated.abs() < plain.abs()).all()


def test_items_of_a_batch_do_not_influence_each_other():
    network = filled(MultiBandNetwork()).eval()
    x = sines(2, 2, 64, 16).abs()
    assert torch.allclose(network(x)[1:], network(x[1:]), atol=1e-12)


def test_silence_gives_finite_values():
    assert MultiBandNetwork(**SMALL).eval()(torch.zeros(1, 1, 16, 8)).isfinite().all()


def test_arguments_survive_json():
    arguments = json.loads(json.dumps({**SMALL, "head": "mask", "normalise": True, "n_bins": 16}))
    assert (
        n_parameters(MultiBandNetwork(**arguments))
        == n_parameters(MultiBandNetwork(**SMALL)) + 2 * 16
    )


def test_every_weight_receives_a_gradient():
    torch.manual_seed(0)
    network = MultiBandNetwork(**SMALL, normalise=True, n_bins=16)
    network(torch.rand(2, 1, 16, 8)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # the bias in front of a batch normalisation has no effect
        assert name.endswith("bias") or parameter.grad.any(), name


@pytest.mark.parametrize("network", PAPER)
def test_normalisation_adds_one_scale_and_one_offset_per_bin(network):
    assert n_parameters(network(normalise=True)) == n_parameters(network()) + 2 * 1024


def test_normalisation_is_affine_at_both_ends():
    network = filled(MultiBandNetwork(normalise=True, n_bins=64)).eval()
    plain = filled(MultiBandNetwork()).eval()
    mean, std = sines(64).abs(), 0.5 + sines(64).abs()
    network.set_statistics(mean, std)
    x = sines(1, 2, 16, 64).abs()
    inner = plain.linear((x - mean) / std)
    expected = inner * network.out_scale + network.out_bias
    assert torch.allclose(network.linear(x), expected, atol=1e-12)


def test_the_output_scale_and_offset_start_at_one():
    network = MultiBandNetwork(**SMALL, normalise=True, n_bins=16)
    assert torch.equal(network.out_scale, torch.ones(16))
    assert torch.equal(network.out_bias, torch.ones(16))


def test_the_deviation_of_a_silent_bin_is_floored():
    network = MultiBandNetwork(**SMALL, normalise=True, n_bins=16)
    std = torch.full((16,), 2.0)
    std[3] = 0
    network.set_statistics(torch.zeros(16), std)
    assert float(network.in_std[3]) == pytest.approx(2e-4)
    assert "in_std" in network.state_dict()


def measured_spans(network: SpectrogramNetwork, n_frames: int) -> Iterator[tuple[int, int]]:
    """First and last input frame that each frame of the middle group depends on, by its gradient.

    Counted from the start of the group.
    """
    network = network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)  # positive, so that no path cancels another
    x = torch.ones(1, 2, n_frames, 16, dtype=torch.float64, requires_grad=True)
    y = network.linear(x)
    middle = n_frames // 2
    for n in range(middle, middle + network.grid_frames):
        (gradient,) = torch.autograd.grad(y[:, :, n].sum(), x, retain_graph=True)
        touched = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
        yield int(touched[0]) - middle, int(touched[-1]) - middle


@pytest.mark.parametrize(
    ("network", "n_frames"),
    [
        (SingleBandNetwork(), 256),
        (MultiBandNetwork(), 256),
        (MultiBandNetwork(**{**SMALL, "n_channels": 2}), 64),
    ],
    ids=["MDenseNet", "MMDenseNet", "three scales"],
)
def test_the_layers_see_the_frames_that_gradients_reach(network, n_frames):
    spans = list(measured_spans(network, n_frames))
    last = network.grid_frames - 1
    assert spans == [network.span((n, n)) for n in range(network.grid_frames)]
    assert network.context_frames() == max(max(n - a, b - n) for n, (a, b) in enumerate(spans))
    assert network.context_frames(aligned=True) == max(max(-a, b - last) for a, b in spans)


@pytest.mark.parametrize("network", PAPER)
def test_both_networks_of_the_paper_have_the_same_context(network):
    net = network()
    assert (net.grid_frames, net.context_frames(), net.context_frames(aligned=True)) == (8, 98, 93)


@pytest.mark.parametrize("network", PAPER)
@pytest.mark.parametrize(("context", "is_exact"), [(96, True), (80, False), (64, False)])
def test_chunks_on_the_grid_equal_the_whole(network, context, is_exact):
    n_frames, n_chunk = 480, 160
    net = filled(network()).eval()
    x = sines(1, 2, n_frames, 32).abs()
    with torch.no_grad():
        whole = net.linear(x)
        difference = 0.0
        for start in range(0, n_frames, n_chunk):
            first, last = max(0, start - context), min(n_frames, start + n_chunk + context)
            part = net.linear(x[:, :, first:last])[:, :, start - first :][:, :, :n_chunk]
            error = (part - whole[:, :, start : start + n_chunk]).abs().max()
            difference = max(difference, float(error))
    assert (difference <= 1e-12) == is_exact


def trained_once(checkpoint: bool, **autocast: object) -> tuple[nn.Module, Tensor, int]:
    """A network after one forward and backward pass, its input's gradient, and the bytes kept."""
    torch.manual_seed(0)
    network = MultiBandNetwork(**SMALL, checkpoint=checkpoint).train()
    spread_statistics(network)
    torch.manual_seed(1)
    magnitude = torch.rand(2, 1, 24, 12, requires_grad=True)
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        if autocast:
            with torch.autocast("cpu", **autocast):
                estimate = network(magnitude)
        else:
            estimate = network(magnitude)
        (estimate - 0.3 * magnitude).square().sum().backward()
    assert magnitude.grad is not None
    return network, magnitude.grad, kept


@pytest.mark.parametrize("autocast", [{}, {"dtype": torch.bfloat16}], ids=["float32", "bfloat16"])
def test_recomputing_changes_neither_gradients_nor_statistics(autocast):
    plain, plain_input, _ = trained_once(checkpoint=False, **autocast)
    recomputed, recomputed_input, _ = trained_once(checkpoint=True, **autocast)
    assert torch.equal(plain_input, recomputed_input)
    for (name, a), b in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    for (name, a), b in zip(plain.named_buffers(), recomputed.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_one_pass_counts_as_one_batch():
    network, _, _ = trained_once(checkpoint=True)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {int(norm.num_batches_tracked) for norm in norms} == {1}
    assert {norm.momentum for norm in norms} == {0.1}
    assert all("num_batches_tracked" in norm.state_dict() for norm in norms)


def test_recomputing_keeps_less():
    torch.manual_seed(0)
    kept = {}
    for checkpoint in (False, True):
        block = DenseBlock(8, 4, 4, checkpoint=checkpoint).train()
        tensors: list[int] = []

        def count(tensor: Tensor, tensors: list[int] = tensors) -> Tensor:
            tensors.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            block(torch.rand(1, 8, 16, 16, requires_grad=True))
        kept[checkpoint] = sum(tensors)
    assert kept[True] < kept[False] / 5


def test_evaluation_recomputes_nothing():
    network = MultiBandNetwork(**SMALL).eval()
    spread_statistics(network)
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(torch.rand(1, 1, 16, 8)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())


def test_bfloat16_autocast_trains_close_to_float32():
    exact, _, _ = trained_once(checkpoint=True)
    rough, _, _ = trained_once(checkpoint=True, dtype=torch.bfloat16)
    a = torch.cat([parameter.grad.flatten() for parameter in exact.parameters()])
    b = torch.cat([parameter.grad.flatten() for parameter in rough.parameters()])
    assert b.dtype == torch.float32
    assert float(torch.cosine_similarity(a, b, dim=0)) > 0.99


def test_the_estimate_has_the_type_of_the_mixture_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert MultiBandNetwork(**SMALL)(torch.rand(1, 1, 16, 8)).dtype == torch.float32


def test_maps_are_stored_channels_last():
    seen = []
    network = MultiBandNetwork(**SMALL).eval()
    for layer in network.modules():
        if isinstance(layer, CompositeLayer):
            layer.register_forward_hook(
                lambda _, inputs, y: seen.append(
                    all(m.is_contiguous(memory_format=torch.channels_last) for m in (*inputs, y))
                )
            )
    network(torch.rand(2, 1, 32, 16))
    assert len(seen) == 27
    assert all(seen)


def test_weights_are_stored_plainly_so_that_they_can_be_saved():
    assert all(value.is_contiguous() for value in MultiBandNetwork(**SMALL).state_dict().values())


@pytest.mark.parametrize(
    "wrong",
    [{"pool": "mean"}, {"block_output": "A"}, {"head": "relu"}, {"match": "pad"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_unknown_word_is_answered_with_the_known_ones(wrong):
    (name,) = wrong
    with pytest.raises(RecipeError, match=f"{name} is .*must be one of"):
        MultiBandNetwork(**SMALL, **wrong)


def test_an_even_number_of_blocks_is_refused():
    with pytest.raises(RecipeError, match="4 dense blocks"):
        SingleBandNetwork(blocks=[[4, 2]] * 4)


def test_bands_that_cannot_be_stacked_are_refused():
    with pytest.raises(RecipeError, match="64 and 48 maps"):
        MultiBandNetwork(match="growth", block_output="new")


def test_too_few_frames_are_refused():
    with pytest.raises(ShapeError, match="3 frames"):
        MultiBandNetwork(**SMALL)(torch.rand(1, 1, 16, 3))
