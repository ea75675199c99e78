"""The loss on validation tracks: each sample counts once, where a model's loss sees it."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import pad

import zoo
from zoo import catalog
from zoo.separator import Separator
from zoo.training.validation_loss import ValidationLoss

MIDDLE = ["wavenet", "wavenet-voice", "wave-u-net", "wave-u-net-m1", "wave-u-net-m3"]


class Middle(Separator):
    """Its loss is the sum over the middle three of eight samples; it keeps what it is given."""

    scored = 3

    def __init__(self):
        super().__init__(["vocals"], 8000, 1)
        self.seen = []

    @property
    def segment(self):
        return 8

    def loss(self, mixture, references, known):
        self.seen += mixture[:, 0].tolist()
        return {"loss": references[..., 2:5].sum((1, 2, 3)).mean()}


def validated(model, *songs):
    """What is logged after a validation on songs ``(J, C, T)``."""
    callback, logged = ValidationLoss(batch_size=2), {}
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(val_step_context=nullcontext))
    model.of_all_processes = lambda mine: mine
    model.log = lambda name, value, **_: logged.update({name: float(value)})
    callback.on_validation_epoch_start(trainer, model)
    for i, song in enumerate(songs):
        batch = {
            "name": f"song {i}", "mixture": song.sum(0)[None], "references": song[None],
            "known": torch.ones(1, len(song), dtype=torch.bool),
        }  # fmt: skip
        with torch.no_grad():
            callback.on_validation_batch_end(trainer, model, None, batch, i)
    callback.on_validation_epoch_end(trainer, model)
    return logged


@pytest.mark.parametrize("n_samples", [1, 3, 8, 11])
def test_every_sample_counts_once_and_silence_lies_around_the_song(n_samples):
    model, song = Middle(), 1.0 + torch.arange(n_samples)[None, None]
    n_segments = -(-n_samples // 3)
    found = validated(model, song)["val/loss"]
    assert found * n_segments == pytest.approx(float(song.sum()))
    around = pad(song[0, 0], (2, 3 * n_segments + 3 - n_samples)).tolist()
    assert model.seen == [around[3 * k : 3 * k + 8] for k in range(n_segments)]


def test_songs_weigh_by_their_length():
    long, short = torch.full((1, 1, 9), 2.0), torch.full((1, 1, 3), 6.0)
    assert validated(Middle(), long, short)["val/loss"] == pytest.approx((3 * 6 + 18) / 4)


@pytest.mark.parametrize("name", MIDDLE)
def test_the_loss_sees_the_middle_that_a_model_tells(name):
    model = zoo.create(name, **catalog.entry(name).tiny)
    shape = (1, len(model.sources), model.channels, model.segment)
    references = torch.randn(shape, requires_grad=True)
    mixture = references.sum(1).detach()
    model.loss(mixture, references, torch.ones(shape[:2], dtype=torch.bool))["loss"].backward()
    (seen,) = references.grad[0].abs().sum((0, 1)).nonzero(as_tuple=True)
    start = (model.segment - model.scored) // 2
    assert (int(seen[0]), int(seen[-1])) == (start, start + model.scored - 1)


@pytest.mark.parametrize(
    ("name", "segment", "scored"),
    [("wave-u-net", 147_443, 16_389), ("wave-u-net-m1", 16_384, 16_384), ("wavenet", 9785, 1603)],
)
def test_the_papers_examples_score_their_output(name, segment, scored):
    with torch.device("meta"):
        model = zoo.create(name)
    assert (model.segment, model.scored) == (segment, scored)


def test_the_validation_loss_of_a_wave_u_net_is_the_error_of_the_separated_song():
    torch.manual_seed(0)
    model = zoo.create("wave-u-net", **catalog.entry("wave-u-net").tiny).eval()
    song = 0.1 * torch.randn(4, 2, model.scored)  # longer ones are cut off the model's grid
    found = validated(model, song)
    errors = (model(song.sum(0)[None])[0] - song).square().mean((1, 2)).detach()
    assert found["val/loss"] == pytest.approx(float(errors.mean()), rel=1e-5)
    assert found["val/vocals"] == pytest.approx(float(errors[3]), rel=1e-5)
