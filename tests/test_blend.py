"""Blends: what is averaged, on which grid, members that disagree, weights that are fitted."""

import json

import numpy as np
import pytest
import soundfile
import torch
from lightning.pytorch import Trainer

import zoo
from zoo.cli import main
from zoo.data.module import SeparationData
from zoo.dsp.wiener import wiener
from zoo.errors import RecipeError
from zoo.models.blend import Blend, fitted, of
from zoo.streaming import separate_tensor

PAIR = {"sources": ["vocals", "accompaniment"], "sample_rate": 8000, "channels": 2}
FNN = {"n_fft": 128, "hop": 64, "n_neighbours": 1, "n_layers": 1, "segment_frames": 16}
BLSTM = {"n_fft": 128, "hop": 64, "n_cells": 4, "n_layers": 1, "segment_s": 0.2}
MEMBERS = {
    "fnn": {"architecture": "fnn", "arguments": FNN},
    "blstm": {"architecture": "blstm", "arguments": BLSTM},
}
WAVES = {
    "a": {"architecture": "deepconvsep", "arguments": {"n_fft": 128, "hop": 64, "n_hidden": 4}},
    "b": {"architecture": "wave-u-net", "arguments": {"n_levels": 2, "n_maps": 3}},
}


def blend(members=MEMBERS, **arguments):
    torch.manual_seed(0)
    return Blend(**{**PAIR, "members": members, **arguments}).eval()


@torch.inference_mode()
def test_raw_magnitudes_are_averaged_before_the_filter():
    model = blend(weights={"fnn": 0.25, "blstm": 0.75})
    mixture = torch.randn(1, 2, 1000)
    fnn, blstm = model.members.values()
    spectrum = fnn.stft(mixture)
    mean = 0.25 * fnn.magnitudes(spectrum) + 0.75 * blstm.magnitudes(spectrum)
    expected = fnn.stft.inverse(wiener(mean, spectrum), 1000)
    torch.testing.assert_close(model(mixture), expected)


@torch.inference_mode()
def test_weights_may_differ_from_source_to_source():
    weights = {"vocals": {"a": 1.0, "b": 0.0}, "accompaniment": {"a": 0.3, "b": 0.7}}
    model = blend(WAVES, weights=weights, domain="waveform")
    mixture = 0.1 * torch.randn(1, 2, 1000)
    a, b = (member(mixture) for member in model.members.values())
    found = model(mixture)
    torch.testing.assert_close(found[:, 0], a[:, 0])
    torch.testing.assert_close(found[:, 1], 0.3 * a[:, 1] + 0.7 * b[:, 1])


@torch.inference_mode()
def test_a_member_on_another_grid_is_brought_to_that_of_the_first():
    other = {**MEMBERS, "blstm": {"architecture": "blstm", "arguments": {**BLSTM, "n_fft": 256}}}
    model = blend(other, weights={"fnn": 0.0, "blstm": 1.0}, wiener_iterations=0)
    mixture = torch.randn(1, 2, 2000)
    fnn, blstm = model.members.values()
    spectrum = blstm.stft(mixture)
    phase = spectrum / spectrum.abs()
    signals = blstm.stft.inverse(blstm.magnitudes(spectrum) * phase[:, None], 2000)
    mine = fnn.stft(mixture)
    magnitudes = fnn.stft(signals).abs()
    expected = fnn.stft.inverse(magnitudes * (mine / mine.abs())[:, None], 2000)
    torch.testing.assert_close(model(mixture), expected, atol=1e-5, rtol=1e-4)


def test_the_papers_blend_is_a_quarter_fnn(monkeypatch):
    with torch.device("meta"):
        model = zoo.create("blend")
    assert list(model.members) == ["fnn", "blstm"]
    grids = {(m.stft.n_fft, m.stft.hop) for m in model.members.values()}
    assert grids == {(4096, 1024)}
    monkeypatch.setattr("zoo.models.blend.PAPER", MEMBERS)
    assert blend(None).weights.tolist() == [[0.25, 0.75]] * 2


# ----------------------------------------------------------------- chunks


SONG = {"covariance": "song"}
OTHER = {**FNN, "n_fft": 256, "hop": 128}
NUG = {"n_fft": 128, "hop": 64, "n_components": 9, "hidden": [8], **SONG}


@torch.inference_mode()
@pytest.mark.parametrize(
    ("members", "arguments"),
    [
        ([("fnn", {**FNN, **SONG})], {"domain": "waveform"}),
        ([("fnn", {**FNN, **SONG}), ("fnn", {**OTHER, **SONG}), ("nug", NUG)],
         {"domain": "waveform"}),
        ([("fnn", FNN), ("fnn", FNN)], SONG),
        ([("fnn", FNN), ("fnn", OTHER)], SONG),
        ([("fnn", FNN), ("fnn", OTHER)], {"wiener_iterations": 0}),
    ],
)  # fmt: skip
def test_in_chunks_the_song_is_what_it_is_at_once(members, arguments):
    named = {
        f"m{k}": {"architecture": architecture, "arguments": own}
        for k, (architecture, own) in enumerate(members)
    }
    model = blend(named, **arguments)
    mixture = 0.1 * torch.randn(1, 2, 9001)
    mixture[..., 4000:] *= torch.tensor([[1.0], [-0.3]])  # sources elsewhere than before
    chunked = separate_tensor(model, mixture, 0.2)
    torch.testing.assert_close(chunked, model(mixture), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("wrong", [{"covariance": "piece"}, {"wiener_reg": "none"}])
def test_a_filter_that_is_not_known_is_told(wrong):
    with pytest.raises(RecipeError, match="one of"):
        blend(**wrong)


@torch.inference_mode()
def test_the_filter_has_the_regulariser_that_it_is_asked_to_have():
    one = zoo.create("fnn", **PAIR, **FNN, wiener_reg="norbert").eval()
    model = of({"one": one}, domain="magnitude", wiener_reg="norbert")
    mixture = 0.001 * torch.randn(1, 2, 2000)
    torch.testing.assert_close(model(mixture), one(mixture))
    assert model.context is None  # the rule looks at the loudest bin of a chunk


# ----------------------------------------------------------------- training


def test_members_of_a_blend_prepare_themselves(tmp_path):
    growing = {**FNN, "n_layers": 3, "growth_epochs": 1}
    members = {**MEMBERS, "fnn": {"architecture": "fnn", "arguments": growing}}
    model = blend(members)
    songs = {"n_train": 1, "n_valid": 1, "n_test": 0, "seconds": 2}
    data = SeparationData("generated", arguments=songs, batch_size=4, examples_per_epoch=8)
    trainer = Trainer(
        max_epochs=2, limit_val_batches=0, default_root_dir=tmp_path, logger=False,
        enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(model, data)
    fnn, blstm = model.members.values()
    assert bool(fnn.features.components.is_measured)
    assert [int(network.n_active) for network in fnn.networks.values()] == [2, 2]
    waiting = [p for network in fnn.networks.values() for p in network.waiting()]
    assert waiting and not any(p in trainer.optimizers[0].state for p in waiting)
    for network in blstm.networks.values():
        assert bool((network.std != 1).all()) and bool(network.mean.any())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"members": {}}, "has no members"),
        ({"members": {"a": {"name": "fnn"}}}, "expected architecture"),
        ({"members": {"a.b": {"architecture": "fnn"}}}, "has a dot"),
        ({"members": WAVES}, "'a' \\(deepconvsep\\) gives no magnitudes"),
        ({"weights": {"fnn": 1.0}}, "expected one for each of fnn, blstm"),
        ({"weights": {"fnn": -1.0, "blstm": 2.0}}, "none below zero"),
        ({"domain": "phase"}, "one of 'magnitude', 'waveform'"),
    ],
)
def test_what_does_not_fit_is_told(wrong, message):
    with pytest.raises(RecipeError, match=message):
        blend(**wrong)


def test_members_that_disagree_are_told():
    one, two = (zoo.create("deepconvsep", **{**PAIR, "sample_rate": r}) for r in (8000, 16000))
    with pytest.raises(RecipeError, match="'two' has rate 16000, not 8000"):
        of({"one": one, "two": two})
    three = zoo.create("deepconvsep", **{**PAIR, "sources": ["vocals", "drums"]})
    with pytest.raises(RecipeError, match="'three' has sources"):
        of({"one": one, "three": three})


@torch.inference_mode()
def test_a_blend_of_models_has_their_weights_whatever_the_order_of_their_sources():
    torch.manual_seed(0)
    one = zoo.create("deepconvsep", **PAIR, n_fft=128, hop=64).eval()
    swapped = {**PAIR, "sources": ["accompaniment", "vocals"]}
    two = zoo.create("wave-u-net", **swapped, n_levels=2, n_maps=3).eval()
    model = of({"one": one, "two": two}, {"one": 0.4, "two": 0.6})
    mixture = 0.1 * torch.randn(1, 2, 700)
    expected = 0.4 * one(mixture) + 0.6 * two(mixture).flip(1)
    torch.testing.assert_close(model(mixture), expected)


def test_fitted_weights_are_those_that_the_songs_were_made_with():
    model = blend(WAVES, domain="waveform")
    songs = []
    for _ in range(2):
        mixture = 0.1 * torch.randn(2, 900)
        with torch.inference_mode():
            a, b = model.separately(mixture[None])[:, 0]
        songs.append((mixture, torch.stack([0.2 * a[0] + 0.5 * b[0], a[1] - 0.4 * b[1]])))
    found = fitted(model, songs)
    assert found["vocals"] == pytest.approx({"a": 0.2, "b": 0.5}, abs=1e-3)
    assert found["accompaniment"]["b"] == 0  # it would be below zero
    again = blend(WAVES, domain="waveform", weights=found)
    assert again.weights[0].tolist() == pytest.approx([0.2, 0.5], abs=1e-3)


# ----------------------------------------------------------------- on the command line


def test_several_models_separate_as_one(tmp_path, capsys):
    song = tmp_path / "song.wav"
    soundfile.write(song, 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    names = ["mmdensenet-mir1k", "mdensenet-mir1k"]
    words = ["separate", str(song), "-o", str(tmp_path / "out"), "--weights", "vocals=0.9,0.1"]
    assert main([*words, *(word for name in names for word in ("-m", name))]) == 0
    found = soundfile.read(tmp_path / "out" / "song" / "vocals.wav")[0]
    one, two = (zoo.from_pretrained(name).separate(song)["vocals"][0].numpy() for name in names)
    assert np.abs(found - (0.9 * one + 0.1 * two)).max() < 1e-4
    record = json.loads((tmp_path / "out" / "song" / "separation.json").read_text())
    assert [m["release"] for m in record["model"]["members"].values()] == names


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "mdensenet-mir1k", "--weights", "1"], "name several models with -m"),
        (["-m", "mdensenet-mir1k", "-m", "mdensenet-mir1k"], "is named once"),
        (["-m", "mdensenet-mir1k", "-m", "mmdensenet-mir1k", "--weights", "1,2,3"],
         "a number for each of 2 models"),
        (["-m", "mdensenet-mir1k", "-m", "mmdensenet-mir1k", "--weights", "drums=1,2"],
         "one of vocals, accompaniment"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_blend_is_one_line(words, message, tmp_path, capsys):
    song = tmp_path / "song.wav"
    soundfile.write(song, np.zeros(8000), 16000)
    assert main(["separate", str(song), "-o", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_in_python_several_names_are_a_blend():
    signal = 0.1 * np.random.default_rng(0).standard_normal((1, 8000))
    names = ["mmdensenet-mir1k", "mdensenet-mir1k"]
    found = zoo.separate(signal, 16000, model=names)["vocals"]
    parts = [zoo.separate(signal, 16000, model=name)["vocals"] for name in names]
    torch.testing.assert_close(found, sum(parts) / 2, atol=1e-5, rtol=0)
