"""MMDenseNet as a separator: chunks, Wiener filter, derived source, statistics, training."""

import itertools
import logging
import math

import lightning
import pytest
import torch
from torch import nn

import zoo
from zoo.data.module import SeparationData
from zoo.errors import RecipeError
from zoo.models.mmdensenet import MMDenseNet
from zoo.streaming import ChunkPlan, ChunkRunner, separate_tensor
from zoo.testing import LiveBytes, example, noise

TINY = MMDenseNet.tiny
STEMS = ("bass", "drums", "other", "vocals")
TWO = {"sources": ["vocals", "accompaniment"]}
PAPER = {"sample_rate": 8000, "n_fft": 64, "hop": 32}  # its layers, on few bins
EXACT = {  # settings whose context is a number
    "no Wiener filter": {"wiener_iterations": 0},
    "mono": {"channels": 1},
    "mono, two iterations": {"channels": 1, "wiener_iterations": 2},
    "covariances of the song": {"covariance": "song"},
    "song, two iterations": {"covariance": "song", "wiener_iterations": 2},
    "song, derived source": {"covariance": "song", **TWO, "targets": ["vocals"]},
}


def model(**arguments):
    """A tiny network, with statistics of batch normalisation that are not those of a new one."""
    torch.manual_seed(0)
    return settled(MMDenseNet(**{**TINY, **arguments}))


def settled(network):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return network.eval()


def separated(network, mixture):
    with torch.inference_mode():
        return network(mixture)


def forward_calls(network):
    """Source -> how often its network has run; counts from now on."""
    calls = dict.fromkeys(network.targets, 0)

    def count(name):
        def hook(*_):
            calls[name] += 1

        return hook

    for name, part in network.networks.items():
        part.register_forward_hook(count(name))
    return calls


# ---- sizes


@pytest.mark.parametrize(("name", "size"), [("mdensenet", 121_102), ("mmdensenet", 270_312)])
def test_each_source_has_a_network_of_the_papers_size(name, size):
    network = zoo.create(name, normalise=False)
    assert network.sources == ("bass", "drums", "other", "vocals")
    sizes = [sum(p.numel() for p in part.parameters()) for part in network.networks.values()]
    assert sizes == [size] * 4
    assert sum(p.numel() for p in network.parameters()) == 4 * size
    normalised = zoo.create(name)
    assert sum(p.numel() for p in normalised.parameters()) == 4 * (size + 2 * 1024)


def test_a_segment_is_the_frames_of_the_paper():
    network = zoo.create("mmdensenet")
    assert network.stft.n_frames(network.segment) == network.segment_frames == 128
    assert (network.sample_rate, network.channels) == (44100, 2)


# ---- context and chunks


@pytest.mark.parametrize("setting", EXACT, ids=str)
@pytest.mark.parametrize("multi_band", [True, False], ids=["three bands", "one band"])
def test_chunks_equal_the_whole_song(setting, multi_band):
    network = model(multi_band=multi_band, **EXACT[setting])
    chunk = 3 * network.grid
    mixture = 2 * noise(network, 2 * network.context + 3 * chunk + 77)
    mixture *= torch.linspace(0.02, 1, mixture.shape[-1])  # parts of the song differ
    whole = separated(network, mixture)
    parts = separate_tensor(network, mixture, chunk / network.sample_rate)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
    assert whole.abs().max() > 0.1


@pytest.mark.parametrize("name", ["mdensenet", "mmdensenet"])
@pytest.mark.parametrize(
    "setting", ["no Wiener filter", "mono", "covariances of the song"], ids=str
)
def test_chunks_equal_the_whole_song_with_the_networks_of_the_paper(name, setting):
    arguments = {**PAPER, **TWO, "targets": ["vocals"], **EXACT[setting]}
    network = settled(zoo.create(name, **arguments))
    assert network.context == 98 * 32 + 64
    assert network.grid == 8 * 32
    mixture = noise(network, 2 * network.context + 5 * network.grid + 7)
    whole = separated(network, mixture)
    parts = separate_tensor(network, mixture, 2 * network.grid / network.sample_rate)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("plan", "differs"),
    [
        (lambda hop, grid, context: ChunkPlan(3 * grid + hop, context + hop), True),
        (lambda hop, grid, context: ChunkPlan(3 * grid, context), False),
        (lambda hop, grid, context: ChunkPlan(3 * grid, grid), True),
    ],
    ids=["borders off the grid", "right", "too little context"],
)
def test_chunks_that_are_cut_wrongly_differ(plan, differs):
    network = model(wiener_iterations=0)
    context = math.ceil(network.context / network.grid) * network.grid
    mixture = noise(network, 3 * context + 20 * network.grid)
    runner = ChunkRunner(network, plan(network.stft.hop, network.grid, context))
    parts = torch.cat(list(runner.run([mixture])), dim=-1)
    error = (parts - separated(network, mixture)).abs().max()
    assert error > 1e-4 if differs else error <= 1e-5


def test_the_context_is_what_the_layers_read_and_the_windows_around_it():
    network = model(wiener_iterations=0)
    frames = next(iter(network.networks.values())).context_frames()
    assert network.context == frames * network.stft.hop + network.stft.n_fft
    n_samples = 2 * network.context + 2 * network.grid
    mixture, middle = noise(network, n_samples), n_samples // 2
    changed = mixture.clone()
    changed[..., : middle - network.context] = 0
    changed[..., middle + 1 + network.context :] = 0
    here = separated(network, mixture)[..., middle]
    torch.testing.assert_close(separated(network, changed)[..., middle], here, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"covariance": "song", "wiener_reg": "norbert"},
        {"covariance": "song", "wiener_reg": "pinv"},
        {"channels": 1, "wiener_reg": "norbert"},
    ],
    ids=str,
)
def test_what_depends_on_all_of_a_chunk_has_no_context(arguments):
    assert model(**arguments).context is None


def test_the_regularisers_that_look_at_the_loudest_bin_depend_on_the_chunk():
    """Why they have no context: a loud end changes the quiet beginning."""
    network = model(channels=1, wiener_reg="norbert")
    mixture = 1e-3 * noise(network, 20000)
    louder = mixture.clone()
    louder[..., 19000:] *= 1e4
    quiet, loud = (separated(network, x)[..., :1000] for x in (mixture, louder))
    assert (quiet - loud).abs().max() > 1e-3 * quiet.abs().max()


def test_a_survey_finds_the_covariances_that_the_whole_song_has():
    network = model(covariance="song")
    mixture = noise(network, 20 * network.grid + 77)
    runner = ChunkRunner(network, ChunkPlan.of(network, 8000, 2 * network.grid / 8000, 0.0))
    blocks = mixture.split(777, dim=-1)
    with torch.inference_mode():
        whole = network.survey([(mixture, slice(0, mixture.shape[-1]))])
    parts = runner.survey(blocks)
    torch.testing.assert_close(parts["covariances"], whole["covariances"], rtol=1e-4, atol=1e-5)


def test_covariances_of_the_chunk_and_of_the_song_differ():
    song, chunk = model(covariance="song"), model(covariance="chunk")
    mixture = noise(song, 20 * song.grid)
    mixture[:, 0, : 10 * song.grid] *= 0.1  # the stereo picture moves
    seconds = 4 * song.grid / 8000
    difference = separate_tensor(song, mixture, seconds) - separate_tensor(chunk, mixture, seconds)
    assert difference.abs().max() > 1e-3


# ---- the sources


def test_one_source_runs_one_network_and_tells_what_that_means_for_the_filter():
    network = model()
    calls = forward_calls(network)
    estimates = network.separate(noise(network, 5000)[0], sources=["vocals"])
    assert calls == {"bass": 0, "drums": 0, "other": 0, "vocals": 1}
    assert list(estimates) == ["vocals"]
    assert any("only vocals" in note and "Wiener" in note for note in estimates.info["notes"])


def test_without_a_wiener_filter_one_source_alone_is_the_same_and_nothing_is_told():
    network = model(wiener_iterations=0)
    mixture = noise(network, 5000)[0]
    view, note = network.only(["vocals"])
    assert (view.sources, note) == (("vocals",), None)
    alone = network.separate(mixture, sources=["vocals"])["vocals"]
    torch.testing.assert_close(alone, network.separate(mixture)["vocals"])


def test_one_source_alone_is_near_what_it_is_among_all():
    network = model()
    mixture = noise(network, 20000)[0]
    alone = network.separate(mixture, sources=["vocals"])["vocals"]
    among = network.separate(mixture)["vocals"]
    assert 1e-4 < (alone - among).square().mean().sqrt() < among.square().mean().sqrt()


def test_a_view_shares_the_weights_and_leaves_the_model_as_it_was():
    network = model()
    view, _ = network.only(["drums", "bass"])
    assert view.sources == view.targets == ("bass", "drums")  # in the model's order
    assert view.networks["drums"] is network.networks["drums"]
    assert (network.sources, network.derived) == (("bass", "drums", "other", "vocals"), None)
    assert len(network.networks) == 4


def test_a_view_takes_part_in_a_survey():
    network = model(covariance="song")
    view, _ = network.only(["vocals"])
    mixture = noise(network, 12 * network.grid + 5)
    parts = separate_tensor(view, mixture, 2 * network.grid / 8000)
    torch.testing.assert_close(parts, separated(view, mixture), rtol=0, atol=1e-5)


def test_all_sources_are_the_model_itself():
    network = model()
    assert network.only(network.sources) == (network, None)


@pytest.mark.parametrize("derived", ["accompaniment", "vocals"])
def test_a_source_without_a_network_is_the_mixture_minus_the_others(derived):
    (target,) = set(TWO["sources"]) - {derived}
    network = model(**TWO, targets=[target])
    assert (network.derived, list(network.networks)) == (derived, [target])
    mixture = noise(network, 5000)
    estimates = separated(network, mixture)
    torch.testing.assert_close(estimates.sum(1), mixture)
    assert network.sources == tuple(TWO["sources"])
    named = dict(zip(network.sources, estimates.unbind(1), strict=True))
    alone = network.separate(mixture[0], sources=[derived])[derived]
    torch.testing.assert_close(alone, named[derived][0])


def test_estimates_stand_in_the_order_of_the_sources_not_of_the_targets():
    torch.manual_seed(0)
    network = model(sources=["a", "b", "c"], targets=["c", "a"], wiener_iterations=0)
    mixture = noise(network, 3000)
    named = dict(zip("abc", separated(network, mixture).unbind(1), strict=True))
    spectrum = network.stft(mixture)
    magnitudes = dict(zip(network.targets, network.magnitudes(spectrum).unbind(1), strict=True))
    for name in "ac":
        expected = network.stft.inverse(torch.polar(magnitudes[name], spectrum.angle()), 3000)
        torch.testing.assert_close(named[name], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "targets",
    [["piano"], ["vocals"], [], ["bass", "drums", "other", "vocals", "piano"], ["bass"] * 4],
)
def test_targets_that_do_not_fit_the_sources_are_refused(targets):
    with pytest.raises(RecipeError, match=r"targets .* expected all of them"):
        MMDenseNet(**TINY, targets=targets)


@pytest.mark.parametrize("wrong", [{"covariance": "songs"}, {"wiener_reg": "none"}], ids=str)
def test_an_unknown_word_for_the_filter_is_answered_with_the_known_ones(wrong):
    with pytest.raises(RecipeError, match="must be one of"):
        MMDenseNet(**TINY, **wrong)


def test_a_model_without_any_network_is_refused():
    with pytest.raises(RecipeError, match="targets"):
        MMDenseNet(**TINY, sources=["vocals"], targets=[])


def test_the_filter_makes_the_estimates_sum_to_the_mixture():
    network = model()
    mixture = noise(network, 6000)
    torch.testing.assert_close(separated(network, mixture).sum(1), mixture, rtol=0, atol=2e-3)
    without = model(wiener_iterations=0)
    assert (separated(without, mixture).sum(1) - mixture).abs().max() > 0.1


def test_silence_is_separated_into_silence():
    network = model()
    assert separated(network, torch.zeros(1, 2, 3000)).abs().max() <= 1e-6


def test_the_top_bin_is_the_mixtures_in_every_source():
    network = model()
    spectrum = network.stft(noise(network, 3000))
    magnitudes = network.magnitudes(spectrum)
    assert magnitudes.shape == (1, 4, 2, 129, 25)
    top = spectrum[..., -1, :].abs()
    assert torch.equal(magnitudes[..., -1, :], top[:, None].expand(-1, 4, -1, -1))
    assert not torch.allclose(magnitudes[..., -2, :], spectrum[:, None, ..., -2, :].abs())


def test_the_networks_read_all_bins_but_the_top_one():
    network = model()
    spectrum = network.stft(noise(network, 3000))
    changed = spectrum.clone()
    changed[..., -1, :] *= 5
    below = [network.magnitudes(s)[..., :-1, :] for s in (spectrum, changed)]
    assert torch.equal(*below)


# ---- the loss


def test_a_perfect_network_has_no_loss():
    network = model(normalise=False)
    mixture, references = example(network)
    true = network.stft(references).abs()
    network.magnitudes = lambda _: true
    known = torch.ones(2, 4, dtype=torch.bool)
    assert float(network.loss(mixture, references, known)["loss"]) == 0
    network.magnitudes = lambda _: true + 0.1
    assert float(network.loss(mixture, references, known)["loss"]) == pytest.approx(0.01, rel=1e-4)


def test_the_objective_of_spectra_is_best_met_by_what_is_in_phase_with_the_mixture():
    network = model(normalise=False, objective="spectrum")
    mixture, references = example(network)
    true, spectrum = network.stft(references), network.stft(mixture)[:, None]
    known = torch.ones(2, 4, dtype=torch.bool)

    def loss(magnitudes):
        network.magnitudes = lambda _: magnitudes
        return float(network.loss(mixture, references, known)["loss"])

    in_phase = (true * spectrum.conj()).real / spectrum.abs()
    rest = (true.abs().square() - in_phase.square()).mean()
    assert loss(in_phase) == pytest.approx(float(rest), rel=1e-4)
    assert loss(in_phase + 0.1) == pytest.approx(float(rest) + 0.01, rel=1e-4)
    assert loss(true.abs()) > 1.01 * loss(in_phase)


def test_the_loss_names_each_network():
    network = model(sources=["a", "b", "c"], targets=["c", "a"])
    mixture, references = example(network)
    known = torch.tensor([[True, True, True], [False, True, True]])
    losses = network.loss(mixture, references, known)
    assert set(losses) == {"loss", "a", "c"}
    assert torch.isclose(losses["loss"] * 3, losses["a"] + 2 * losses["c"])  # one of a, two of c


def test_the_network_of_an_unknown_source_gets_no_gradient():
    network = model().train()
    mixture, references = example(network)
    known = torch.tensor([[True, True, False, True]] * 2)
    network.loss(mixture, references, known)["loss"].backward()
    sizes = {
        name: sum(float(p.grad.abs().sum()) for p in part.parameters())
        for name, part in network.networks.items()
    }
    assert sizes["other"] == 0
    assert min(size for name, size in sizes.items() if name != "other") > 0


def test_it_learns_more_than_to_predict_nothing():
    network = model(**TWO, targets=["vocals"]).train()
    mixture, references = example(network)
    known = torch.ones(2, 2, dtype=torch.bool)
    nothing = float(network.stft(references[:, 0]).abs().square().mean())
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        loss = network.loss(mixture, references, known)["loss"]
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * nothing


# ---- fitting


def data(n_workers=0, **arguments):
    songs = {"n_train": 2, "n_valid": 0, "n_test": 0, "seconds": 2.0, "sample_rate": 8000}
    return SeparationData(
        "generated", arguments={**songs, "channels": 2}, batch_size=2, examples_per_epoch=4,
        n_workers=n_workers, **arguments,
    )  # fmt: skip


def trainer(folder, **arguments):
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, **{"max_epochs": 1, **arguments},
    )  # fmt: skip


@pytest.fixture
def few_statistics(monkeypatch):
    monkeypatch.setattr("zoo.models.statistics.N_BATCHES", 2)


@pytest.mark.usefixtures("few_statistics")
def test_the_statistics_are_those_of_the_training_mixtures(tmp_path):
    network, songs = model(), data(seed=3)
    trainer(tmp_path, max_steps=1).fit(network, songs)
    batches = data(seed=3).obey(network).statistics_batches(2)
    mixtures = torch.cat([batch["references"].sum(1) for batch in batches])
    assert len(mixtures) == 4
    magnitude = network.stft(mixtures.mean(1)).abs()[:, :-1].transpose(0, 1).flatten(1)  # (F, n)
    for part in network.networks.values():
        torch.testing.assert_close(part.in_mean, magnitude.mean(1), rtol=1e-4, atol=1e-6)
        deviation = magnitude.std(1, correction=0)
        floored = deviation.clamp(min=1e-4 * deviation.max())
        torch.testing.assert_close(part.in_std, floored, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("few_statistics")
def test_a_resumed_run_keeps_its_statistics(tmp_path):
    network = model()
    first = trainer(tmp_path)
    first.fit(network, data(seed=3))
    first.save_checkpoint(tmp_path / "last.ckpt")
    again = model()
    assert bool((again.networks["bass"].in_std == 1).all())
    songs = data(seed=4)  # other mixtures
    songs.statistics_batches = None  # and a call would fail
    trainer(tmp_path, max_epochs=2).fit(again, songs, ckpt_path=tmp_path / "last.ckpt")
    assert torch.equal(again.networks["bass"].in_std, network.networks["bass"].in_std)


def test_without_a_data_module_it_is_said_that_nothing_is_normalised(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("zoo"), "propagate", True)
    network = model()
    loader = data(seed=3).obey(network).train_dataloader()
    trainer(tmp_path, max_steps=1).fit(network, loader)
    assert "the networks' input is not normalised" in caplog.text
    caplog.clear()
    network = model(normalise=False)
    trainer(tmp_path, max_steps=1).fit(network, loader)
    assert "normalised" not in caplog.text


@pytest.mark.usefixtures("few_statistics")
def test_without_normalisation_nothing_is_measured(tmp_path):
    songs = data()
    songs.statistics_batches = None
    trainer(tmp_path, max_steps=1).fit(model(normalise=False), songs)


@pytest.mark.usefixtures("few_statistics")
def test_the_learning_rate_falls_to_a_tenth_in_the_last_fifth(tmp_path):
    seen = []

    class Watch(lightning.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    network = model(sources=["vocals", "other"], targets=["vocals"])
    songs = data()
    songs.examples_per_epoch = 2
    run = trainer(tmp_path, max_epochs=10, callbacks=[Watch()], enable_checkpointing=False)
    run.fit(network, songs)
    assert isinstance(run.optimizers[0], torch.optim.RMSprop)
    assert seen == pytest.approx([1e-3] * 8 + [1e-4] * 2)


def test_the_papers_batch_trains_in_24_gb():
    """Measured on an eighth of one network's share; maps grow with frames and batch alike."""
    frames, batch, n_networks = 16, 1, 1
    torch.manual_seed(0)
    network = zoo.create("mmdensenet", segment_frames=frames, **TWO, targets=["vocals"]).train()
    references = 0.1 * torch.randn(batch, 2, 2, network.segment)
    known = torch.ones(batch, 2, dtype=torch.bool)
    with LiveBytes() as memory:
        loss = network.loss(references.sum(1), references, known)["loss"]
        kept = memory.now
        memory.peak = 0
        loss.backward()
    in_backward = memory.peak - kept  # recomputed maps of one block, and gradients
    share = (128 / frames) * (8 / batch)
    bytes_needed = share * (4 / n_networks * kept + in_backward)
    assert 1e9 < bytes_needed < 12e9  # half of 24 GB: scratch space, optimiser and framework


def test_recomputing_is_what_saves_the_memory():
    kept = {}
    for checkpoint in (True, False):
        network = model(checkpoint=checkpoint).train()
        mixture, references = example(network)
        with LiveBytes() as memory:
            loss = network.loss(mixture, references, torch.ones(2, 4, dtype=torch.bool))["loss"]
            kept[checkpoint] = memory.now
        del loss
    assert kept[True] < 0.7 * kept[False]


def test_every_reading_of_the_paper_separates():
    readings = itertools.chain(
        ({"block_output": word} for word in ("new", "all")),
        ({"head": word} for word in ("gate", "mask")),
        ({"pool": "max"}, {"match": "growth"}, {"up_norm": False}, {"bias": False}),
        ({"wiener_reg": word} for word in ("norbert", "pinv")),
    )
    for reading in readings:
        network = model(**reading)
        mixture = noise(network, 2000)
        estimates = separated(network, mixture)
        assert estimates.shape == (1, 4, 2, 2000), reading
        assert bool(estimates.isfinite().all()), reading
        assert dict(network.hparams)[next(iter(reading))] == next(iter(reading.values()))
