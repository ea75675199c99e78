"""Wave-U-Net: sizes, values, interpolation, what lies around an example, and songs in chunks."""

import pytest
import torch
from filled import check_input, fill

import zoo
from zoo.errors import RecipeError
from zoo.models.wave_u_net import WaveUNet, interpolated

SMALL = {"n_levels": 2, "n_maps": 3, "down_kernel": 5, "up_kernel": 3, "target_field": 32}
VARIANTS = {
    "wave-u-net-m1": (16384, 16384, 10_263_028),
    "wave-u-net-m2": (16384, 16384, 10_263_002),
    "wave-u-net-m3": (147443, 16389, 10_263_002),
    "wave-u-net-m4": (147443, 16389, 10_263_390),
    "wave-u-net-m5": (147443, 16389, 10_265_550),
    "wave-u-net": (147443, 16389, 10_263_498),
    "wave-u-net-m7": (233459, 102405, 20_594_652),
    "wave-u-net-m5-highsr": (147443, 16389, 10_265_550),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_has_its_sizes(name):
    with torch.device("meta"):
        model = zoo.create(name)
    n_in, n_out, n_parameters = VARIANTS[name]
    assert model.network.sizes(model.target_field) == (n_in, n_out)
    assert model.segment == n_in
    assert sum(p.numel() for p in model.parameters()) == n_parameters


# Source and channel -> first, middle and last value.
CHECKS = {
    "wave-u-net-m1": {
        ("accompaniment", 0): (-0.357628, -0.977809, -0.870123),
        ("vocals", 0): (-0.357216, -0.977571, -0.869400),
    },
    "wave-u-net-m2": {
        ("accompaniment", 0): (-0.357628, -0.977809, -0.870123),
        ("vocals", 0): (0.610069, 1.0, 1.0),
    },
    "wave-u-net-m4": {
        ("accompaniment", 0): (-0.587304, -0.697047, -0.201117),
        ("accompaniment", 1): (-0.517622, -0.615598, -0.179170),
        ("vocals", 0): (0.892198, 0.570910, 0.087522),
        ("vocals", 1): (0.883774, 0.312628, 0.392413),
    },
    "wave-u-net-m5": {
        ("accompaniment", 0): (-0.587007, -0.697247, -0.201112),
        ("accompaniment", 1): (-0.517349, -0.615793, -0.179160),
        ("vocals", 0): (0.891901, 0.571110, 0.087516),
    },
    "wave-u-net": {
        ("bass", 0): (-0.587304, -0.697047, -0.201117),
        ("drums", 0): (-0.586473, -0.695660, -0.200968),
        ("other", 0): (-0.585640, -0.694268, -0.200818),
        ("vocals", 1): (1.0, 1.0, 0.748099),
    },
}
RMS = {
    "wave-u-net-m1": 0.79191, "wave-u-net-m2": 0.75875, "wave-u-net-m4": 0.60081,
    "wave-u-net-m5": 0.60080, "wave-u-net": 0.67153,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
@torch.inference_mode()
def test_each_variant_gives_the_check_values(name):
    model = zoo.create(name).eval()
    fill(model.parameters())
    found = model._estimates(check_input(model.segment, model.channels))
    middle = found.shape[-1] // 2
    for (source, channel), expected in CHECKS[name].items():
        signal = found[0, model.sources.index(source), channel]
        values = [float(signal[n]) for n in (0, middle, -1)]
        assert values == pytest.approx(expected, abs=1e-4), (source, channel)
    assert float(found.square().mean().sqrt()) == pytest.approx(RMS[name], abs=1e-4)


# ----------------------------------------------------------------- interpolation


def test_interpolated_samples_lie_between_their_neighbours():
    x = torch.tensor([[[0.0, 4.0, 2.0]]])
    assert interpolated(x, None, True).flatten().tolist() == [0, 2, 4, 3, 2]
    assert interpolated(x, None, False).flatten().tolist() == [0, 2, 4, 3, 2, 2]
    place = torch.tensor([[0.25]])  # of the earlier neighbour
    assert interpolated(x, place, True).flatten().tolist() == [0, 3, 4, 2.5, 2]
    assert interpolated(x, place, False).flatten().tolist() == [0, 3, 4, 2.5, 2, 0.5]


# ----------------------------------------------------------------- outputs and context


def small(**arguments):
    torch.manual_seed(0)
    return WaveUNet(["accompaniment", "vocals"], 8000, 1, **{**SMALL, **arguments}).eval()


def test_the_last_source_is_what_the_others_leave():
    model = small()
    mixture = 0.1 * torch.randn(1, 1, 100)
    torch.testing.assert_close(model(mixture).sum(1), mixture)


def test_estimates_are_clipped_but_not_in_training():
    model = small()
    mixture = torch.full((1, 1, model.segment), 3.0)
    assert float(model(mixture)[:, 1].detach().max()) <= 1
    assert float(model.train()(mixture)[:, 1].detach().max()) > 1
    linear = small(activation="linear")
    linear.network.heads[0].bias.data += 5
    assert float(linear(mixture)[:, 0].detach().max()) == 1
    assert float(linear.train()(mixture)[:, 0].detach().max()) > 1


def test_with_context_an_example_is_what_the_song_gives_there():
    model = small()
    song = 0.1 * torch.randn(1, 1, 4096)
    whole = model(song)
    n_in, n_out = model.network.sizes(32)
    start = 4 * 100
    example = model._estimates(song[..., start : start + n_in])
    first = start + (n_in - n_out) // 2
    # The example starts on the grid of its own: of the song's when the cut does.
    shift = (n_in - n_out) // 2 % model.grid
    moved = model._estimates(song[..., start - shift : start - shift + n_in])
    torch.testing.assert_close(moved, whole[..., first - shift : first - shift + n_out])
    assert example.shape[-1] == n_out


@pytest.mark.parametrize("context", [True, False])
def test_no_estimate_depends_on_more_than_the_context(context):
    model = small(context=context)
    reach = model.context
    song = 0.1 * torch.randn(1, 1, 4 * reach + 64)
    middle = 2 * reach
    other = song.clone()
    other[..., : middle - reach] = 0.3
    other[..., middle + reach + 1 :] = 0.3
    torch.testing.assert_close(model(song)[..., middle], model(other)[..., middle])
    nearer = song.clone()
    nearer[..., middle + reach // 2] += 1
    assert not torch.equal(model(song)[..., middle], model(nearer)[..., middle])


def test_the_loss_is_the_mean_squared_error_of_the_middle():
    model = small().train()
    references = 0.1 * torch.randn(2, 2, 1, model.segment)
    mixture = references.sum(1)
    estimates = model._estimates(mixture)
    start = (model.segment - estimates.shape[-1]) // 2
    true = references[..., start : start + estimates.shape[-1]]
    known = torch.tensor([[True, True], [False, True]])
    squares = [(estimates[b, j] - true[b, j]).square().mean() for b, j in ((0, 0), (0, 1), (1, 1))]
    found = model.loss(mixture, references, known)
    torch.testing.assert_close(found["loss"], sum(squares) / 3)
    torch.testing.assert_close(found["accompaniment"], squares[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"output": "both"}, "output is 'both'; it must be one of 'difference', 'direct'"),
        ({"upsampling": "cubic"}, "one of 'linear', 'learned'"),
        ({"down_kernel": 14}, "kernels of 14 and 3 samples; both must be odd"),
    ],
)
def test_what_it_was_not_built_for_is_told(wrong, message):
    with pytest.raises(RecipeError, match=message):
        small(**wrong)
