"""DeepConvSep: sizes and values of the network, patches that overlap, the loss term by term."""

import pytest
import torch
from filled import fill

import zoo
from zoo.errors import RecipeError
from zoo.models.deepconvsep import EPS, SCALE, DeepConvSep, PatchNetwork, patch_weights

PAPER = (4, 513, 30, 50, 30, 128)
CODE = (4, 513, 30, 50, 50, 128)
KARAOKE = ["vocals", "accompaniment"]
SMALL = {"n_fft": 64, "hop": 32, "n_vertical": 4, "n_horizontal": 3, "n_hidden": 5}


def filled(network):
    fill(p for name, p in network.named_parameters() if name != "bias")
    network.bias.data = torch.tensor([1.0, 1.1, 1.2, 1.3])
    return network


def patch():
    i = torch.arange(30 * 513, dtype=torch.float64)
    return (0.3 * (1 + torch.sin(0.37 * i))).float().reshape(1, 1, 30, 513)


def at_check_positions(y):
    return [[float(y[0, j, n, f]) for n, f in ((0, 0), (14, 100), (29, 512))] for j in range(4)]


@pytest.mark.parametrize(
    ("sizes", "is_buggy", "expected"),
    [(PAPER, False, 357_482), (CODE, False, 578_582), (CODE, True, 475_382)],
)
def test_each_reading_has_its_number_of_parameters(sizes, is_buggy, expected):
    network = PatchNetwork(*sizes, bug_compatible=is_buggy)
    assert sum(p.numel() for p in network.parameters()) == expected


@torch.inference_mode()
def test_the_papers_network_gives_the_check_values():
    drawn = filled(PatchNetwork(*PAPER))(patch())
    expected = [
        [0.955066, 1.011054, 0.980230], [1.071435, 1.124259, 1.053532],
        [1.162323, 1.194340, 1.174386], [1.247824, 1.379460, 1.244653],
    ]  # fmt: skip
    assert at_check_positions(drawn) == [pytest.approx(row, abs=1e-4) for row in expected]
    masked = (drawn + EPS) / (drawn + EPS).sum(1, keepdim=True) * patch()
    expected = [
        [0.064580, 0.005711, 0.130677], [0.072449, 0.006351, 0.140449],
        [0.078595, 0.006747, 0.156561], [0.084376, 0.007793, 0.165928],
    ]  # fmt: skip
    assert at_check_positions(masked) == [pytest.approx(row, abs=1e-4) for row in expected]


@torch.inference_mode()
def test_the_published_codes_network_gives_the_check_values():
    found = at_check_positions(filled(PatchNetwork(*CODE))(patch()))
    assert found[0] == pytest.approx([0.982492, 1.011909, 0.994436], abs=1e-4)
    assert found[3] == pytest.approx([1.266845, 1.272475, 1.297236], abs=1e-4)


@torch.inference_mode()
def test_with_its_bug_the_fourth_source_is_the_second_but_for_the_bias():
    found = at_check_positions(filled(PatchNetwork(*CODE, bug_compatible=True))(patch()))
    assert found[3] == pytest.approx([1.280609, 1.267776, 1.284611], abs=1e-4)
    assert found[3] == pytest.approx([x + 0.2 for x in found[1]], abs=1e-6)


# ----------------------------------------------------------------- patches


def written_in_turn(patches, n_frames, step):
    """Patches ``(P, N)`` one after the other: faded in over what is there, the rest on top."""
    overlap = n_frames - step
    song = torch.zeros((len(patches) - 1) * step + n_frames)
    song[:n_frames] = patches[0]
    fade = torch.linspace(0, 1, overlap)
    for p, new in enumerate(patches[1:], 1):
        start = p * step
        song[start : start + overlap] *= 1 - fade
        song[start : start + overlap] += fade * new[:overlap]
        song[start + overlap : start + n_frames] = new[overlap:]
    return song


@pytest.mark.parametrize("n_patches", [1, 2, 5, 11])
def test_weights_are_what_fading_patch_after_patch_gives(n_patches):
    patches = torch.rand(n_patches, 30, generator=torch.Generator().manual_seed(0))
    weighted = patches * patch_weights(n_patches, 30, 5)
    song = torch.zeros((n_patches - 1) * 5 + 30)
    for p, part in enumerate(weighted):
        song[5 * p : 5 * p + 30] += part
    torch.testing.assert_close(song, written_in_turn(patches, 30, 5))


@torch.inference_mode()
def test_masks_are_those_of_the_patches_written_in_turn(monkeypatch):
    monkeypatch.setattr("zoo.models.deepconvsep.PATCHES_AT_ONCE", 3)
    torch.manual_seed(0)
    model = DeepConvSep(**SMALL).eval()
    magnitudes = torch.rand(2, 33, 57)
    found = model.masks(magnitudes)
    assert found.shape == (2, 4, 33, 57)
    torch.testing.assert_close(found.sum(1), torch.ones(2, 33, 57))
    padded = torch.nn.functional.pad(magnitudes, (0, 3)) * 0.3 / 8
    patches = torch.stack([padded[1, :, s : s + 30].T for s in range(0, 31, 5)])
    drawn = model.network(patches[:, None]) + EPS
    masks = (drawn / drawn.sum(1, keepdim=True))[:, 2, :, 7]  # third source, bin 7
    torch.testing.assert_close(found[1, 2, 7], written_in_turn(masks, 30, 5)[:57])


def test_a_step_that_does_not_divide_the_patch_is_refused():
    with pytest.raises(RecipeError, match="patch_frames 30 .* step_frames 7"):
        DeepConvSep(step_frames=7)


# ----------------------------------------------------------------- loss


def slow_loss(model, mixture, references):
    """The loss from its definition, one magnitude after the other."""
    scale = 0.3 / model.stft.n_fft**0.5
    x = model.stft(mixture[:, 0]).abs()
    estimates = (model.masks(x) * x[:, None] * scale).unbind(1)
    true = (model.stft(references[:, :, 0]).abs() * scale).unbind(1)
    named = dict(enumerate(model.sources))
    other = [j for j, name in named.items() if name == "other"]
    leading = [j for j in named if j not in other]
    total = sum(((estimates[j] - true[j]) ** 2).sum() for j in leading)
    for i in leading:
        for j in leading:
            if i != j:
                total -= 0.001 * ((estimates[i] - true[j]) ** 2).sum()
        for j in other:
            share = 0.03 if named[i] == "vocals" else 0.01
            total -= share * ((estimates[i] - true[j]) ** 2).sum()
    return abs(total)


@pytest.mark.parametrize(
    "sources", [["vocals", "bass", "drums", "other"], ["vocals", "accompaniment"]]
)
def test_the_loss_is_its_definition(sources):
    torch.manual_seed(0)
    model = DeepConvSep(sources, **SMALL)
    references = torch.randn(3, len(sources), 1, model.segment)
    mixture = references.sum(1)
    found = model.loss(mixture, references, torch.ones(3, len(sources), dtype=torch.bool))
    torch.testing.assert_close(found["loss"], slow_loss(model, mixture, references))
    assert set(found) == {"loss", *(s for s in sources if s != "other")}


def test_a_training_example_is_one_patch():
    model = zoo.create("deepconvsep")
    assert model.stft.n_frames(model.segment) == 30


def test_a_stereo_song_goes_through_the_network_channel_by_channel():
    torch.manual_seed(0)
    model = DeepConvSep(channels=2, **SMALL).eval()
    mixture = torch.randn(1, 2, 3000)
    both = model(mixture)
    for c in range(2):
        torch.testing.assert_close(both[:, :, c], model(mixture[:, c : c + 1])[:, :, 0])


@pytest.mark.parametrize("seed", range(6))
def test_the_first_step_leaves_no_output_dead(seed):
    torch.manual_seed(seed)
    model = zoo.create("deepconvsep", sources=KARAOKE, channels=1, sample_rate=16000)
    optimizer = model.configure_optimizers()
    references = 0.05 * torch.randn(4, 2, 1, model.segment)
    for _ in range(2):
        loss = model.loss(references.sum(1), references, torch.ones(4, 2, dtype=torch.bool))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seen = model.stft(references.sum(1)).abs()[:, :, :, :30].mT * (SCALE / 32)
    drawn = model.network(seen)
    assert (drawn.amax((0, 2, 3)) > 0).all()
