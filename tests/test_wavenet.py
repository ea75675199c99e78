"""The Wavenet: sizes, values, fields and seams, the loss, the songs it trains on."""

import pytest
import torch
from filled import check_input, fill

import zoo
from zoo.errors import RecipeError
from zoo.models.wavenet import Wavenet

SMALL = {
    "sample_rate": 8000, "n_stacks": 2, "n_dilations": 3, "width": 4, "final_maps": [8, 6],
    "target_field": 21,
}  # fmt: skip


def n_parameters(name="wavenet", **arguments):
    with torch.device("meta"):
        model = zoo.create(name, **arguments)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "three", "one"),
    [
        ({"n_stacks": 1, "widths": "fixed"}, 2_294_723, 2_294_209),
        ({"n_stacks": 2, "widths": "fixed"}, 2_622_403, 2_621_889),
        ({"n_stacks": 3, "widths": "fixed"}, 2_950_083, 2_949_569),
        ({"n_stacks": 4}, 3_277_763, 3_277_249),
        ({"n_stacks": 5, "widths": "fixed"}, 3_605_443, 3_604_929),
        ({"n_stacks": 1}, 3_289_766, 3_289_252),
        ({"n_stacks": 2}, 3_285_637, 3_285_123),
        ({"n_stacks": 3}, 3_260_379, 3_259_865),
        ({"n_stacks": 5}, 3_275_761, 3_275_247),
        ({"n_stacks": 1, "width": 512}, 25_692_419, 25_691_905),
        ({"n_stacks": 5, "width": 32}, 2_179_939, 2_179_425),
    ],
)
def test_every_reading_has_its_number_of_parameters(arguments, three, one):
    assert n_parameters(**arguments) == three
    assert n_parameters("wavenet-voice", **arguments) == one


@pytest.mark.parametrize(
    ("n_stacks", "expected"), [(1, 3647), (2, 5693), (3, 7739), (4, 9785), (5, 11831)]
)
def test_an_example_is_what_the_target_field_sees(n_stacks, expected):
    with torch.device("meta"):
        assert zoo.create("wavenet", n_stacks=n_stacks).segment == expected


@pytest.mark.slow
@torch.inference_mode()
def test_the_published_form_gives_the_check_values():
    model = zoo.create("wavenet").eval()
    fill(model.parameters())
    found = model.network.field(check_input(9785), 1603)[0]
    places = [0, 1, 2, 3, 800, 801, 1601, 1602]
    expected = [
        [-1.506746, -0.845329, -0.748684, -1.656914, -0.408081, 0.023846, -0.387109, 0.032755],
        [-0.444969, -1.055772, -0.804685, -2.305694, -0.993787, -0.268846, 0.708344, -0.937822],
        [-0.490792, -1.354290, -0.817250, -0.259954, -1.022478, -1.587372, -2.262403, -1.095867],
    ]
    for channel, values in zip(found, expected, strict=True):
        assert channel[places].tolist() == pytest.approx(values, abs=1e-4)
    assert float(found.square().mean().sqrt()) == pytest.approx(1.048065, abs=1e-4)
    voice = zoo.create("wavenet-voice").eval()
    fill(voice.parameters())
    alone = voice.network.field(check_input(9785), 1603)[0, 0]
    torch.testing.assert_close(alone[places], found[0, places], atol=1e-4, rtol=0)
    assert float(alone.square().mean().sqrt()) == pytest.approx(0.715732, abs=1e-4)


# ----------------------------------------------------------------- fields and seams


def small(**arguments):
    torch.manual_seed(0)
    return Wavenet(**{**SMALL, **arguments}).eval()


@torch.inference_mode()
def test_both_forms_agree_but_for_the_ends_of_fields():
    published, seamless = small(mode="published"), small()
    song = torch.randn(1, 1, 10 * 21)
    a, b = published(song)[0, 0, 0], seamless(song)[0, 0, 0]
    inside = torch.ones(210, dtype=torch.bool)
    inside[:30] = inside[-30:] = False  # beyond its ends the song is padded once, not per layer
    ends = torch.zeros(210, dtype=torch.bool)
    ends[::21] = ends[20::21] = True
    # The front layer, too, sees zeros beside a field, which hardly reaches its inner samples.
    torch.testing.assert_close(a[inside & ~ends], b[inside & ~ends], atol=1e-4, rtol=0)
    assert ((a - b).abs()[inside & ends] > 1e-3).all()


@torch.inference_mode()
def test_the_final_layers_in_pieces_give_the_same(monkeypatch):
    model, song = small(), torch.randn(1, 1, 500)
    whole = model(song)
    monkeypatch.setattr("zoo.models.wavenet.PIECE", 64)
    torch.testing.assert_close(model(song), whole)


def test_one_source_is_the_mixture_minus_the_others():
    model, song = small(), torch.randn(2, 1, 300)
    estimates = model(song)
    torch.testing.assert_close(estimates.sum(1), song)
    assert (model.derived, model.predicted) == ("other", ["vocals", "drums", "bass"])
    voice = small(sources=["accompaniment", "vocals"])
    assert (voice.derived, voice.predicted) == ("accompaniment", ["vocals"])
    assert small(sources=["speech", "noise"]).derived == "noise"


def test_a_stereo_song_goes_through_the_network_channel_by_channel():
    model, song = small(channels=2), torch.randn(1, 2, 200)
    both = model(song)
    for c in range(2):
        torch.testing.assert_close(both[:, :, c], model(song[:, c : c + 1])[:, :, 0])


# ----------------------------------------------------------------- loss


def slow_loss(model, mixture, references, power, weight):
    n = model.target_field + 2
    start = (model.segment - n) // 2
    found = model.network.field(mixture, n)
    true = references[:, :, 0, start : start + n]
    order = [model.sources.index(s) for s in model.predicted]

    def distance(k, j):
        return ((found[:, k] - true[:, j]).abs() ** power).mean()

    total = 0
    for k, own in enumerate(order):
        total += distance(k, own)
        others = [j for j in order if j != own] or [model.sources.index(model.derived)]
        total -= weight * sum(distance(k, j) for j in others)
    return total


@pytest.mark.parametrize("sources", [["vocals", "drums", "bass", "other"], ["vocals", "rest"]])
@pytest.mark.parametrize(("norm", "weight"), [("l1", 0.0), ("l1", 0.05), ("l2", 0.05)])
def test_the_loss_is_its_definition(sources, norm, weight):
    model = small(sources=sources, norm=norm, dissimilarity=weight).train()
    references = torch.randn(3, len(sources), 1, model.segment)
    mixture = references.sum(1)
    found = model.loss(mixture, references, torch.ones(3, len(sources), dtype=torch.bool))
    expected = slow_loss(model, mixture, references, 1 if norm == "l1" else 2, weight)
    torch.testing.assert_close(found["loss"], expected)
    torch.testing.assert_close(
        found["distance"], slow_loss(model, mixture, references, 1 if norm == "l1" else 2, 0.0)
    )
    assert set(found) == {"loss", "distance", *model.predicted}


def test_the_dissimilarity_may_take_the_loss_below_zero_but_not_its_parts():
    model = small(sources=["vocals", "rest"], dissimilarity=5.0)
    references = torch.randn(1, 2, 1, model.segment)
    found = model.loss(references.sum(1), references, torch.ones(1, 2, dtype=torch.bool))
    assert found["loss"] < 0 < found["vocals"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"target_field": 1600}, "target_field is 1600; it must be odd"),
        ({"mode": "publishd"}, "Did you mean 'published'"),
        ({"n_stacks": 6, "width": None}, "n_stacks is 6; .* known for 1 to 5"),
        ({"norm": "l3"}, "one of 'l1', 'l2'"),
    ],
)
def test_what_it_was_not_built_for_is_told(wrong, message):
    with pytest.raises(RecipeError, match=message):
        small(**wrong)
