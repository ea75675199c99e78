"""`Separator.separate` on signals and files of all kinds, and the `Estimates` that it returns."""

import itertools
import json
import logging
import math
import os
import platform
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import soundfile
import torch
from toys import Halves, Loudness
from trainable_toy import Toy

import zoo
from zoo.audio import AudioWriter, read
from zoo.data.module import SeparationData
from zoo.data.songs import Input
from zoo.errors import AudioFileError, DatasetError, ShapeError, ZooError
from zoo.separator import Estimates, Separator, masked_mean
from zoo.streaming import separate_tensor
from zoo.testing import tiny

RATE = 16000


def noise(*shape):
    return torch.rand(*shape) - 0.5


def identity(**arguments):
    return Halves(("vocals",), (1.0,), **arguments)


def write(path, signal, rate, subtype=None):
    with AudioWriter(path, rate, signal.shape[0], subtype) as writer:
        writer.write(signal.numpy())
    return path


# ---- files


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "FLOAT", 1e-7),
        ("a.wav", "PCM_16", 1e-4),
        ("a.wav", "PCM_24", 1e-6),
        ("a.flac", "PCM_16", 1e-4),
        ("a.aiff", None, 1e-4),
        ("a.ogg", None, 0.5),
        ("a.mp3", None, 0.5),
        ("a.m4a", None, 0.5),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_of_any_kind_is_separated(tmp_path, name, subtype, tolerance, channels):
    song = 0.8 * noise(channels, 30011)
    path = write(tmp_path / name, song, RATE, subtype)
    stored, rate = read(path)
    estimates = identity().separate(path, chunk=0.5)
    assert estimates.rate == rate == RATE
    assert torch.equal(estimates["vocals"], torch.from_numpy(stored))
    if tolerance < 0.1:
        assert (estimates["vocals"] - song).abs().max() <= tolerance


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 96000])
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_a_file_keeps_rate_channels_and_length(tmp_path, rate, channels):
    song = noise(channels, rate // 2 + 13)
    path = write(tmp_path / "song.wav", song, rate)
    estimates = tiny("mdensenet").separate(path)
    assert estimates.rate == rate
    assert list(estimates) == ["bass", "drums", "other", "vocals"]
    for signal in estimates.values():
        assert signal.shape == song.shape
        assert bool(signal.isfinite().all())


def test_a_path_an_array_and_a_tensor_give_the_same(tmp_path):
    song = noise(2, 9000)
    path = write(tmp_path / "song.wav", song, RATE)
    model = Halves(channels=2)
    results = [
        model.separate(audio, rate)["vocals"]
        for audio, rate in (
            (path, None),
            (str(path), None),
            (song, None),
            (song.numpy(), RATE),
            (song.double(), None),
        )
    ]
    assert all(torch.equal(results[0], other) for other in results[1:])
    assert results[0].dtype == torch.float32


def test_a_signal_of_one_axis_is_mono():
    assert Halves().separate(noise(500))["vocals"].shape == (1, 500)


@pytest.mark.parametrize("n_samples", [1, 2, 100])
def test_the_shortest_files_are_separated(tmp_path, n_samples):
    path = write(tmp_path / "song.wav", noise(2, n_samples), 44100)
    assert tiny("mmdensenet").separate(path)["vocals"].shape == (2, n_samples)


def test_a_file_without_samples_is_refused_by_name(tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 2)), 44100)
    with pytest.raises(ZooError, match="empty.wav"):
        identity().separate(tmp_path / "empty.wav")


def test_a_file_that_is_not_there_or_no_audio_is_named(tmp_path):
    with pytest.raises(AudioFileError, match="nowhere.wav"):
        identity().separate(tmp_path / "nowhere.wav")
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(AudioFileError, match="text.wav"):
        identity().separate(tmp_path / "text.wav")


def test_an_array_for_a_system_of_any_rate_needs_one():
    model = identity(sample_rate=None)
    with pytest.raises(ZooError, match="rate="):
        model.separate(noise(1, 100))
    assert model.separate(noise(1, 100), 12345).rate == 12345


def test_a_batch_is_no_signal():
    with pytest.raises(ShapeError, match=r"\(1, 2, 100\)"):
        Halves().separate(noise(1, 2, 100))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_estimates_are_float32_on_the_cpu_whatever_was_computed_in(precision):
    estimates = tiny("mdensenet").separate(noise(2, 3000), precision=precision, device="cpu")
    for signal in estimates.values():
        assert (signal.dtype, signal.device.type) == (torch.float32, "cpu")
        assert not signal.requires_grad


def test_a_model_in_training_is_separated_with_in_evaluation_mode():
    model = Toy().train()  # with dropout
    song = noise(1, 3000)
    assert torch.equal(model.separate(song)["vocals"], model.separate(song)["vocals"])


@pytest.mark.parametrize("fails", [False, True])
def test_separating_leaves_the_mode_of_every_module_as_it_was(fails):
    model = Toy().train()
    model.net[2].eval()  # frozen on purpose
    before = [module.training for module in model.modules()]
    assert len(set(before)) == 2
    if fails:
        with pytest.raises(ZooError):
            model.separate(noise(1, 100), sources=["piano"])
    else:
        model.separate(noise(1, 100))
    assert [module.training for module in model.modules()] == before


def test_what_was_converted_is_noted():
    notes = Halves().separate(noise(3, 30000), 44100).info["notes"]
    assert any("one by one" in note for note in notes)
    assert any("44100 -> 16000" in note for note in notes)
    assert any("above 8000 Hz" in note for note in notes)
    assert Halves(channels=2).separate(noise(2, 3000)).info["notes"] == []


# ---- sources


def test_sources_come_in_the_order_asked_for_and_once():
    estimates = Halves().separate(noise(1, 100), sources=["other", "vocals", "other"])
    assert list(estimates) == ["other", "vocals"]


def test_one_source_may_be_given_as_a_word():
    assert list(Halves().separate(noise(1, 100), sources="vocals")) == ["vocals"]


def test_everything_but_a_source_has_a_name():
    song = noise(1, 400)
    estimates = Halves(shares=(0.5, 0.1)).separate(
        song, sources=["no_other", "accompaniment", "residual"]
    )
    torch.testing.assert_close(estimates["no_other"], 0.9 * song)
    torch.testing.assert_close(estimates["accompaniment"], 0.5 * song)
    torch.testing.assert_close(estimates["residual"], 0.4 * song)


def test_a_model_of_an_accompaniment_gives_its_own():
    song = noise(1, 400)
    model = Halves(("vocals", "accompaniment"), (0.5, 0.1))
    torch.testing.assert_close(model.separate(song)["accompaniment"], 0.1 * song)


@pytest.mark.parametrize("name", ["mmdensenet", "mdensenet"])
@pytest.mark.parametrize("rate", [8000, 22050])
def test_consistent_estimates_of_a_model_sum_to_the_mixture(name, rate):
    song = noise(2, 9000)
    estimates = tiny(name).separate(song, rate, consistent=True)
    assert (sum(estimates.values()) - song).abs().max() <= 1e-5


# ---- estimates


def example():
    mixture = noise(2, 480)
    sources = {"vocals": 0.5 * mixture, "drums": 0.25 * mixture}
    info = {"model": {"architecture": "m"}, "arguments": {"chunk": 2.0}, "notes": ["a note"]}
    return Estimates(sources, mixture, 8000, info), mixture


def test_estimates_are_a_mapping():
    estimates, mixture = example()
    assert (list(estimates), len(estimates)) == (["vocals", "drums"], 2)
    assert "vocals" in estimates and "bass" not in estimates
    assert estimates.get("bass") is None
    assert torch.equal(dict(estimates)["drums"], 0.25 * mixture)
    assert {**estimates}.keys() == {"vocals", "drums"}


def test_a_source_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(KeyError, match="'bass' among the estimates: vocals, drums"):
        example()[0]["bass"]


def test_estimates_print_what_they_are():
    assert repr(example()[0]) == "Estimates(vocals, drums; 0.1 s at 8000 Hz)"


def test_the_residual_is_what_no_source_took():
    estimates, mixture = example()
    torch.testing.assert_close(estimates.residual, 0.25 * mixture)


def test_the_residual_of_some_sources_and_that_of_the_model_are_two_things():
    song = noise(1, 300)
    estimates = Halves(shares=(0.5, 0.1)).separate(song, sources=["vocals", "residual"])
    torch.testing.assert_close(estimates["residual"], 0.4 * song)
    torch.testing.assert_close(estimates.residual, song - sum(estimates.values()))
    alone = Halves(shares=(0.5, 0.1)).separate(song, sources=["vocals"])
    torch.testing.assert_close(alone.residual, 0.5 * song)


def test_saved_stems_are_the_estimates_with_the_record_beside_them(tmp_path):
    estimates, _ = example()
    paths = estimates.save(tmp_path / "new" / "stems")
    assert [p.name for p in paths] == ["vocals.wav", "drums.wav"]
    for path, signal in zip(paths, estimates.values(), strict=True):
        stored, rate = read(path)
        assert rate == 8000
        assert torch.equal(torch.from_numpy(stored), signal)  # 32-bit float: bit for bit
    record = json.loads((tmp_path / "new" / "stems" / "separation.json").read_text())
    assert record["files"] == ["vocals.wav", "drums.wav"]
    assert (record["model"], record["notes"]) == ({"architecture": "m"}, ["a note"])
    assert record["arguments"] == {"chunk": 2.0, "format": "wav", "subtype": "FLOAT"}
    assert record["versions"] == {
        "zoo": zoo.__version__, "torch": str(torch.__version__), "numpy": np.__version__,
        "lightning": lightning.__version__, "python": platform.python_version(),
    }  # fmt: skip


def test_a_record_says_how_the_estimates_were_made(tmp_path):
    model = Halves()
    model.info = {"release": "halves-noise", "sha256": "12ab"}
    song = write(tmp_path / "song.wav", noise(1, 4000), RATE)
    model.separate(song, sources=["vocals"], overlap=0.1).save(tmp_path / "o")
    record = json.loads((tmp_path / "o" / "separation.json").read_text())
    assert record["input"] == str(song)
    assert record["model"] == {"architecture": "halves", **model.info}
    assert record["arguments"] == {
        "sources": ["vocals"], "chunk": 20.0, "overlap": 0.1, "shifts": 0, "flip": False,
        "batch_size": 1, "precision": "float32", "high_band": "residual", "consistent": False,
        "device": "cpu", "format": "wav", "subtype": "FLOAT",
    }  # fmt: skip
    assert record["notes"] == ["overlap: chunking is exact for this model, so it gains nothing"]


@pytest.mark.parametrize("failing", [1, 2, 3], ids=["first", "second", "record"])
def test_stems_that_cannot_all_be_saved_leave_what_was_there(tmp_path, monkeypatch, failing):
    estimates, _ = example()
    (tmp_path / "vocals.wav").write_bytes(b"older")
    calls = []

    def replace(source, target):
        calls.append(target)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(AudioFileError, match="No space left"):
        estimates.save(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"vocals.wav": b"older"}


def test_saving_below_a_file_is_an_error_of_its_own(tmp_path):
    estimates, _ = example()
    (tmp_path / "o").write_text("a file")
    with pytest.raises(AudioFileError, match="cannot be made"):
        estimates.save(tmp_path / "o" / "deeper")


@pytest.mark.parametrize(
    ("format", "subtype", "stored"),
    [
        ("flac", None, "PCM_24"),  # it has no floats
        ("flac", "PCM_24", "PCM_24"),
        (".wav", "PCM_16", "PCM_16"),
        ("wav", None, "FLOAT"),
        ("WAV", None, "FLOAT"),
    ],
)
def test_stems_are_saved_in_the_format_asked_for(tmp_path, format, subtype, stored):
    estimates, _ = example()
    for path in estimates.save(tmp_path, format, subtype):
        assert soundfile.info(path).subtype == stored
        signal, _ = read(path)
        assert signal.shape == (2, 480)


def test_an_impossible_format_is_refused_and_nothing_half_written_stays(tmp_path):
    estimates, _ = example()
    with pytest.raises(ZooError, match="xyz"):
        estimates.save(tmp_path, "xyz")
    assert list(tmp_path.iterdir()) == []


# ---- training steps of the base


class Perfect(Halves):
    """Knows the answer, since the sources are fixed shares."""

    trainable = True


NUMBERS = itertools.count()


def track(model, n_samples=4 * RATE, known=(True, True)):
    mixture = noise(1, 1, n_samples)
    references = torch.stack([mixture * 0.7, mixture * 0.3], dim=1)
    return {
        "name": f"song {next(NUMBERS)}", "rate": RATE, "mixture": mixture,
        "references": references, "known": torch.tensor([known]),
    }  # fmt: skip


def validated(model, *batches):
    logged = {}
    model.log = lambda name, value, **_: logged.update({name: float(value)})
    model.on_validation_epoch_start()
    for i, batch in enumerate(batches):
        model.validation_step(batch, i)
    model.on_validation_epoch_end()
    return logged


def test_validation_logs_the_mean_over_tracks_and_sources():
    model = Perfect()
    logged = validated(model, track(model), track(model))
    vocals = 20 * math.log10(0.7 / 0.05)
    other = 20 * math.log10(0.3 / 0.05)
    expected = {"val/sdr_vocals": vocals, "val/sdr_other": other, "val/sdr": (vocals + other) / 2}
    assert logged == pytest.approx(expected, abs=1e-3)


def test_an_unknown_source_is_not_scored():
    model = Perfect()
    logged = validated(model, track(model, known=(True, False)))
    assert set(logged) == {"val/sdr", "val/sdr_vocals"}
    logged = validated(model, track(model, known=(True, False)), track(model, known=(False, True)))
    assert set(logged) == {"val/sdr", "val/sdr_vocals", "val/sdr_other"}


def test_a_silent_source_has_no_score():
    model = Perfect()
    batch = track(model)
    batch["references"][:, 0] = 0
    assert set(validated(model, batch)) == {"val/sdr", "val/sdr_other"}


def test_nothing_scored_logs_nothing():
    model = Perfect()
    assert validated(model, track(model, known=(False, False))) == {}


def test_the_prediction_of_a_song_is_its_estimates_at_its_own_rate(tmp_path):
    mixture = noise(2, 5000)
    song = Input.of_file(write(tmp_path / "a.wav", mixture, 44100, "FLOAT"), Path("a.wav"))
    estimates = Halves(sample_rate=44100).predict_step({"song": song, "mine": True}, 0)
    torch.testing.assert_close(estimates["vocals"], 0.75 * mixture)
    assert (estimates.rate, estimates.info["input"]) == (44100, str(tmp_path / "a.wav"))


class Strategy:
    """A trainer's, with what its processes have to say."""

    def __init__(self, shares):
        self.shares = shares

    def broadcast(self, mine, src):
        return self.shares[src]


def test_the_scores_of_all_processes_are_in_the_order_of_the_data_and_each_stands_once():
    model = Perfect()
    shares = [[{"track": t, "vocals": v} for t, v in share] for share in (
        [("a", 1.0), ("c", 3.0), ("e", 5.0)], [("b", 2.0), ("d", 4.0), ("a", 1.0)])]  # fmt: skip
    model._trainer = SimpleNamespace(strategy=Strategy(shares), world_size=2)
    logged = {}
    model.log = lambda name, value, **_: logged.update({name: float(value)})
    model.on_validation_epoch_end()
    assert [s["track"] for s in model.scores] == ["a", "b", "c", "d", "e"]
    assert logged == {"val/sdr_vocals": 3.0, "val/sdr": 3.0}


def test_a_track_that_one_process_cannot_read_is_an_error_of_all():
    model = Perfect()
    model.validation_step({"name": "b", "mine": False, "error": "b: damaged"}, 0)
    shares = [[{"track": "a", "vocals": 1.0}], model.scores]
    model._trainer = SimpleNamespace(strategy=Strategy(shares), world_size=2)
    with pytest.raises(DatasetError, match="^b: damaged$"):
        model.on_validation_epoch_end()


def test_a_track_of_another_process_is_not_scored():
    model = Perfect()
    model.validation_step({"name": "song", "mine": False}, 0)
    model.test_step({"name": "song", "mine": False}, 0)
    assert model.scores == []


def test_a_training_step_minimises_the_loss_of_the_exact_sum():
    model, seen = Toy(), {}

    def loss(mixture, references, known):
        seen.update(mixture=mixture, known=known)
        return {"loss": (references * 2).sum(), "part": mixture.sum()}

    model.loss, logged = loss, {}
    model.log = lambda name, value, **_: logged.update({name: float(value)})
    references = noise(2, 2, 1, 50)
    known = torch.tensor([[True, False], [True, True]])
    result = model.training_step({"references": references, "known": known}, 0)
    assert torch.equal(seen["mixture"], references.sum(1))
    assert torch.equal(seen["known"], known)
    assert float(result) == pytest.approx(float(2 * references.sum()), rel=1e-4)
    assert set(logged) == {"train/loss", "train/part"}


@pytest.mark.parametrize("frozen", [False, True])
def test_a_model_that_has_separated_is_trained_in_training_mode(tmp_path, frozen):
    """Else dropout and batch normalisation would stand still, with a mere warning."""
    model, modes = Toy(sources=["vocals", "drums"], sample_rate=8000), []
    if frozen:
        model.net[2].eval()  # on purpose, within a model in training mode: left alone
    else:
        assert not model.on("cpu").training
    songs = {"n_train": 1, "n_valid": 1, "seconds": 1.0, "sample_rate": 8000, "channels": 1}
    data = SeparationData("generated", arguments=songs, batch_size=1, examples_per_epoch=2)

    class Watch(lightning.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            modes.append((pl_module.training, pl_module.net[2].training))

    lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Watch()],
        default_root_dir=tmp_path,
    ).fit(model, data)  # fmt: skip
    assert modes == [(True, not frozen)] * 4


def test_the_masked_mean_counts_what_is_known():
    values = torch.tensor([[1.0, 2.0], [3.0, 100.0]])
    known = torch.tensor([[True, True], [True, False]])
    assert float(masked_mean(values, known)) == 2
    assert float(masked_mean(values, torch.zeros_like(known))) == 0


def test_a_tensor_of_the_models_own_rate_is_separated_item_by_item():
    mixture = noise(3, 1, 40000) * torch.tensor([0.1, 0.5, 1.0]).view(3, 1, 1)
    estimates = separate_tensor(Loudness(), mixture, chunk=0.3)
    expected = mixture / mixture.abs().amax((1, 2), keepdim=True)
    torch.testing.assert_close(estimates[:, 0], expected)


def test_a_system_needs_to_write_no_more_than_its_forward():
    class Small(Separator):
        def __init__(self):
            super().__init__(["half"], None, None)

        def forward(self, mixture, state=None):
            return mixture[:, None] / 2

    model = Small()
    assert (model.context, model.grid, model.surveys) == (None, 1, False)
    assert model.only(["half"]) == (model, None)
    song = noise(5, 70000)
    torch.testing.assert_close(model.separate(song, 11025, chunk=1.0)["half"], song / 2)


# ---- real recordings


SHARED = [
    "audio/mir1k/test-sample/*.flac",
    "audio/musdb-sample/test/*",
    "audio/loops-cc0/drums/*.ogg",
    "audio/spatial-scenes/room/*.flac",
    "audio/voices/pjs/*",
    "audio/open-multitrack/lithium/*",
]


@pytest.mark.parametrize("pattern", SHARED)
def test_real_recordings_come_back_whole(shared, pattern, caplog):
    kinds = (".flac", ".wav", ".ogg", ".mp3", ".m4a", ".mp4", ".opus")
    paths = sorted(p for p in shared.glob(pattern) if p.suffix in kinds)
    if not paths:
        pytest.skip(f"nothing in {pattern}")
    signal, rate = read(paths[0], samples=10 * 48000)
    signal = torch.from_numpy(signal)
    with caplog.at_level(logging.WARNING):
        estimates = identity(sample_rate=None, channels=None).separate(signal, rate, chunk=1.3)
        masks = tiny("mdensenet").separate(signal, rate, consistent=True)
    assert (estimates["vocals"] - signal).abs().max() <= 1e-6
    assert masks["vocals"].shape == signal.shape
    assert (sum(masks.values()) - signal).abs().max() <= 1e-5
    assert not caplog.records


def test_a_real_file_and_its_samples_give_the_same(shared):
    path = min(shared.glob("audio/mir1k/test-sample/*.flac"), key=lambda p: p.stat().st_size)
    signal, rate = read(path)
    model = tiny("mdensenet")
    from_file = model.separate(path, sources=["vocals"], chunk=2.0)["vocals"]
    from_samples = model.separate(signal, rate, sources=["vocals"], chunk=2.0)["vocals"]
    assert torch.equal(from_file, from_samples)
    assert from_file.shape == signal.shape


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "xla"])
def test_a_device_that_is_none_is_told_in_one_short_sentence(device):
    if device == "cuda:99" and torch.cuda.device_count() > 99:
        pytest.skip("it is there")
    with pytest.raises(ZooError, match=f"device '{device}' cannot be used: ") as error:
        zoo.create("mmdensenet", **zoo.catalog.entry("mmdensenet").tiny).on(device)
    assert len(str(error.value)) < 250
