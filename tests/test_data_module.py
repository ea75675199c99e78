"""Training examples, validation and test tracks, in the format of the model."""

import gc
import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import soundfile
import torch
from trainable_toy import Toy

from zoo.data.augmentation import Augmentation
from zoo.data.module import EpochSampler, Format, Segments, SeparationData, WholeTracks
from zoo.data.track import Track
from zoo.errors import DatasetError, RecipeError

RATE = 8000
QUIET = {"remix": 0.0, "gain": None, "swap_channels": 0.0}


@dataclass(frozen=True)
class Memory(Track):
    """A song of given signals."""

    stems: dict = field(default_factory=dict)

    def _read_stem(self, source, start, samples):
        return self.stems[source][:, start : start + samples]


def song(name, samples=3000, sources=("vocals", "drums"), channels=2, unknown=(), rate=RATE):
    """Every sample of every source tells which it is: song, source, position and channel."""
    stems = {}
    for j, source in enumerate(sources):
        ramp = 1000 * name + 100 * j + np.arange(samples) / samples
        stems[source] = np.stack([ramp + 10 * c for c in range(channels)]).astype(np.float32)
    return Memory(
        name=str(name), rate=rate, channels=channels, samples=samples, sources=tuple(sources),
        unknown=frozenset(unknown), stems=stems,
    )  # fmt: skip


def segments(
    tracks, segment=100, channels=2, rate=RATE, sources=("vocals", "drums"), weights=None, **changes
):
    format = Format(tuple(sources), rate, channels)
    augment = Augmentation(**{**QUIET, **changes})
    return Segments(tracks, format, segment, seed=0, augment=augment, weights=weights)


def song_and_source(signal):
    """What a signal made by `song` comes from."""
    value = float(signal.flatten()[0])
    return int(value // 1000), int(value % 1000 // 100)


def generated(**arguments):
    songs = {"n_train": 3, "n_valid": 1, "n_test": 2, "seconds": 2.0, "sample_rate": RATE}
    return SeparationData(
        "generated", arguments={**songs, "channels": 2}, batch_size=2, examples_per_epoch=6,
        **arguments,
    )  # fmt: skip


def toy(**arguments):
    return Toy(**{"sources": ["vocals", "drums"], "sample_rate": RATE, "channels": 2, **arguments})


# ---- examples are a function of seed, epoch and index


def test_an_example_depends_on_seed_epoch_and_index_alone():
    tracks = [song(i) for i in range(5)]
    changes = {"remix": 0.5, "gain": (0.25, 1.25), "swap_channels": 0.5}
    one, two = segments(tracks, **changes), segments(tracks, **changes)
    for _ in range(3):
        one[0, 5]  # what was asked before does not matter
    for position in ((0, 0), (0, 1), (7, 3)):
        assert torch.equal(one[position]["references"], two[position]["references"])
    examples = [one[p]["references"] for p in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert not any(torch.equal(examples[0], other) for other in examples[1:])
    two.seed = 1
    assert not torch.equal(one[0, 0]["references"], two[0, 0]["references"])


def batches_of(n_workers, epoch=0):
    data = generated(n_workers=n_workers, seed=5).obey(toy())
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    del loader
    gc.collect()  # ends its workers
    return batches


def test_examples_are_the_same_for_any_number_of_workers():
    expected = batches_of(0)
    assert len(expected) == 3
    for n_workers in (1, 2):
        for batch, other in zip(expected, batches_of(n_workers), strict=True):
            assert torch.equal(batch["references"], other["references"])
            assert torch.equal(batch["known"], other["known"])


def test_the_next_epoch_has_other_examples():
    assert not torch.equal(batches_of(0)[0]["references"], batches_of(0, 1)[0]["references"])


class Collect(lightning.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append(batch["references"].clone())


def test_a_trainer_moves_on_from_epoch_to_epoch(tmp_path):
    collect = Collect()
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[collect],
        default_root_dir=tmp_path, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(toy(), generated(seed=5))
    expected = [batch["references"] for epoch in (0, 1) for batch in batches_of(0, epoch)]
    assert len(collect.seen) == len(expected) == 6
    assert all(torch.equal(a, b) for a, b in zip(collect.seen, expected, strict=True))


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_the_processes_of_a_run_share_an_epoch_without_overlap(n_ranks):
    samplers = [EpochSampler(12, rank, n_ranks) for rank in range(n_ranks)]
    for sampler in samplers:
        sampler.set_epoch(4)
    dealt = [list(sampler) for sampler in samplers]
    assert [len(part) for part in dealt] == [len(sampler) for sampler in samplers]
    assert sorted(sum(dealt, [])) == [(4, i) for i in range(12)]
    assert len({len(part) for part in dealt}) == 1  # else the longest waits for ever


def test_no_process_gets_more_examples_than_another():
    lengths = {len(EpochSampler(13, rank, 3)) for rank in range(3)}
    assert len(lengths) == 1


def test_a_trainer_of_several_processes_leaves_the_deal_to_the_data():
    """Lightning would deal once more, and keep the epoch from the sampler."""
    assert isinstance(EpochSampler(12), torch.utils.data.DistributedSampler)


# ---- what an example is


def test_sources_of_one_song_stay_together_without_remixing():
    data = segments([song(i, samples=300) for i in range(5)])
    seen = set()
    for i in range(40):
        vocals, drums = data[0, i]["references"]
        (first, is_vocals), (second, is_drums) = song_and_source(vocals), song_and_source(drums)
        assert (first, is_vocals, is_drums) == (second, 0, 1)
        assert (drums - vocals - 100).abs().max() < 1e-3  # the same place: a sample is 1 / 300
        seen.add(first)
    assert seen == set(range(5))


def test_remixing_takes_sources_from_different_songs_and_places():
    data = segments([song(i) for i in range(5)], remix=1.0)
    pairs = set()
    for i in range(60):
        vocals, drums = data[0, i]["references"]
        pairs.add((song_and_source(vocals)[0], song_and_source(drums)[0]))
        assert (song_and_source(vocals)[1], song_and_source(drums)[1]) == (0, 1)
    assert len(pairs) > 12
    assert any(a != b for a, b in pairs)


def test_segments_begin_anywhere_up_to_the_very_end():
    data = segments([song(0, samples=110)])
    starts = {round(float(data[0, i]["references"][0, 0, 0] * 110)) for i in range(200)}
    assert starts == set(range(11))


@pytest.mark.parametrize("samples", [1, 37, 99])
def test_a_short_song_is_padded_with_zeros_and_its_sources_stay_aligned(samples):
    data = segments([song(1, samples=samples)])
    places = set()
    for i in range(60):
        vocals, drums = data[0, i]["references"]
        there = vocals[0] != 0
        assert vocals.shape == (2, 100)
        assert int(there.sum()) == samples
        assert torch.equal(there, drums[1] != 0)
        first = int(there.nonzero()[0])
        assert bool(there[first : first + samples].all())
        places.add(first)
    assert len(places) > min(10, 101 - samples) // 2


def test_gains_are_drawn_for_each_source_from_their_range():
    data = segments([song(1)], gain=(0.25, 1.25))
    plain = segments([song(1)])
    gains = torch.stack(
        [(data[0, i]["references"] / plain[0, i]["references"])[:, 0, 0] for i in range(200)]
    )
    assert 0.25 <= gains.min() < 0.3 and 1.2 < gains.max() <= 1.25
    assert abs(float(torch.corrcoef(gains.T)[0, 1])) < 0.3


def test_channels_are_swapped_source_by_source():
    data = segments([song(1)], swap_channels=0.5)
    swapped = torch.stack(
        [data[0, i]["references"][:, 0, 0] > data[0, i]["references"][:, 1, 0] for i in range(100)]
    )
    assert 0.3 < float(swapped[:, 0].float().mean()) < 0.7
    assert bool((swapped[:, 0] != swapped[:, 1]).any())


def tone_track(hertz=500.0, rate=RATE, samples=16000, channels=1, stems=("vocals",)):
    tone = np.sin(2 * np.pi * hertz * np.arange(samples) / rate).astype(np.float32)
    signals = {name: np.repeat(tone[None], channels, 0) for name in stems}
    return Memory(
        name="tone", rate=rate, channels=channels, samples=samples, sources=stems, stems=signals
    )


def pitch(signal, rate):
    spectrum = torch.fft.rfft(signal * torch.hann_window(len(signal)), n=1 << 17).abs()
    return float(spectrum.argmax()) * rate / (1 << 17)


def test_speed_moves_pitch_and_tempo_within_its_range():
    data = segments([tone_track()], segment=4000, channels=1, sources=["vocals"], speed=(0.8, 1.25))
    heard = [pitch(data[0, i]["references"][0, 0], RATE) / 500 for i in range(40)]
    assert 0.8 <= min(heard) < 0.87 and 1.15 < max(heard) <= 1.2501
    slower = sum(ratio < 1 for ratio in heard)
    assert 10 <= slower <= 30  # even in the logarithm


def test_at_another_speed_a_segment_is_still_full():
    """No zeros at the ends, which would click, whatever the ratio rounds to."""
    level = np.ones((1, 60000), np.float32)
    track = Memory(
        name="dc", rate=44100, channels=1, samples=60000, sources=("vocals",),
        stems={"vocals": level},
    )  # fmt: skip
    data = segments(
        [track], segment=9973, channels=1, rate=44100, sources=["vocals"], speed=(0.7, 1.4)
    )
    for i in range(60):
        reference = data[0, i]["references"][0, 0]
        assert reference.shape == (9973,)
        assert float(reference.abs().min()) > 0.3, i


@pytest.mark.parametrize("rate", [4000, 11025, 16000, 44100])
def test_songs_are_resampled_to_the_models_rate(rate):
    track = tone_track(rate=44100, samples=44100)
    data = segments([track], segment=rate // 4, channels=1, rate=rate, sources=["vocals"])
    reference = data[0, 0]["references"][0, 0]
    assert reference.shape == (rate // 4,)
    assert pitch(reference, rate) == pytest.approx(500, abs=2)
    assert float(reference[rate // 16 : -rate // 16].square().mean()) == pytest.approx(
        0.5, abs=0.01
    )


def test_a_stereo_song_is_averaged_for_a_mono_model():
    (reference,) = segments([song(0)], channels=1, sources=["vocals"])[0, 0]["references"]
    both = segments([song(0)], sources=["vocals"])[0, 0]["references"][0]
    torch.testing.assert_close(reference, both.mean(0, keepdim=True))


def test_a_mono_song_fills_both_channels_of_a_stereo_model():
    (reference,) = segments([song(0, channels=1)], sources=["vocals"])[0, 0]["references"]
    assert reference.shape == (2, 100)
    assert torch.equal(reference[0], reference[1])


def test_channels_that_do_not_fit_are_said():
    with pytest.raises(DatasetError, match="6 channels, the model 2"):
        segments([song(0, channels=6)])[0, 0]


# ---- unknown sources


def test_what_a_song_cannot_tell_apart_sounds_in_the_mixture_and_is_marked():
    sources = ("vocals", "bass", "other")
    tracks = [song(0, sources=sources, unknown=["bass", "other"]), song(1, sources=sources)]
    data = segments(tracks, sources=sources)
    seen = set()
    for i in range(30):
        example = data[0, i]
        vocals, bass, other = example["references"]
        number = song_and_source(vocals)[0]
        assert example["known"].tolist() == [True, number == 1, number == 1]
        ramp = vocals - 1000 * number
        whole = 3 * (1000 * number + ramp) + 100 + 200
        torch.testing.assert_close(example["references"].sum(0), whole)
        assert bool((other == 0).all()) == (number == 0)
        seen.add(number)
    assert seen == {0, 1}


def test_remixing_takes_a_source_only_from_songs_that_know_it():
    tracks = [song(0, unknown=["drums"]), song(1, unknown=["vocals"]), song(2)]
    data = segments(tracks, remix=1.0)
    for i in range(40):
        example = data[0, i]
        assert example["known"].all()
        assert song_and_source(example["references"][0])[0] in (0, 2)
        assert song_and_source(example["references"][1])[0] in (1, 2)


def test_a_song_that_knows_none_of_the_sources_is_not_trained_on():
    data = segments([song(0, unknown=["vocals", "drums"]), song(1)])
    numbers = {song_and_source(data[0, i]["references"][0])[0] for i in range(30)}
    assert numbers == {1}


def test_a_source_that_no_song_has_is_said_with_those_that_there_are():
    with pytest.raises(DatasetError, match="'piano'.*drums, vocals"):
        segments([song(0)], sources=["vocals", "piano"])


def test_the_accompaniment_is_the_sum_of_all_but_the_vocals():
    track = song(0, sources=("vocals", "drums", "bass"))
    data = segments([track], sources=["vocals", "accompaniment"])
    parts = segments([track], sources=["vocals", "drums", "bass"])
    vocals, accompaniment = data[0, 0]["references"]
    expected = parts[0, 0]["references"]
    assert torch.equal(vocals, expected[0])
    torch.testing.assert_close(accompaniment, expected[1:].sum(0))


# ---- the model is obeyed


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"channels": 1, "sample_rate": 11025},
        {"sources": ["accompaniment", "vocals"]},
        {"sources": ["bass"]},
    ],
    ids=str,
)
def test_batches_have_the_models_sources_rate_channels_and_segment(arguments):
    model = toy(**arguments)
    data = generated().obey(model)
    batches = list(data.train_dataloader())
    assert len(batches) == 3
    n_sources = len(model.sources)
    for batch in batches:
        assert batch["references"].shape == (2, n_sources, model.channels, model.segment)
        assert batch["references"].dtype == torch.float32
        assert batch["known"].shape == (2, n_sources)
        assert batch["known"].dtype == torch.bool
    for loader in (data.val_dataloader(), data.test_dataloader()):
        for item in loader:
            n_samples = math.ceil(2 * model.sample_rate)
            assert item["mixture"].shape == (1, model.channels, n_samples)
            assert item["references"].shape == (1, n_sources, model.channels, n_samples)
            assert (item["rate"], item["known"].shape) == (model.sample_rate, (1, n_sources))


def test_the_order_of_the_references_is_the_models():
    one = generated().obey(toy(sources=["vocals", "drums"]))
    other = generated().obey(toy(sources=["drums", "vocals"]))
    a = next(iter(one.val_dataloader()))["references"]
    b = next(iter(other.val_dataloader()))["references"]
    assert torch.equal(a, b.flip(1))


def test_nothing_is_served_before_the_model_is_known():
    with pytest.raises(AssertionError, match="obey"):
        generated().train_dataloader()


def test_a_training_free_system_needs_no_segment():
    class Free:
        sources, sample_rate, channels, trainable = ("object-1",), None, None, False

    data = generated().obey(Free())
    item = next(iter(data.test_dataloader()))
    assert item["mixture"].shape == (1, 2, 2 * RATE)
    assert item["known"].tolist() == [[False]]


# ---- whole tracks


def test_a_validation_track_is_cut_from_its_middle():
    tracks = [song(0, samples=1000)]
    (item,) = list(WholeTracks(tracks, Format(("vocals",), RATE, 2), seconds=100 / RATE))[:1]
    expected = torch.from_numpy(tracks[0].stems["vocals"][:, 450:550])
    assert torch.equal(item["references"][0, 0], expected)
    assert item["name"] == "0"


def test_a_faulty_track_stops_one_process_and_is_passed_on_by_one_of_several():
    class Faulty(Memory):
        def _read_stem(self, source, start, samples):
            raise DatasetError("a: damaged")

    tracks = [Faulty("a", RATE, 2, 100, ("vocals",))]
    format = Format(("vocals",), RATE, 2)
    with pytest.raises(DatasetError, match="damaged"):
        WholeTracks(tracks, format, None)[0]
    item = WholeTracks(tracks, format, None, rank=0, n_ranks=2)[0]
    assert item == {"name": "a", "mine": False, "error": "a: damaged"}


@pytest.mark.parametrize("seconds", [None, 1.0])
def test_a_track_that_is_shorter_is_whole(seconds):
    item = WholeTracks([song(0, samples=1000)], Format(("vocals", "drums"), RATE, 2), seconds)[0]
    assert item["mixture"].shape[-1] == 1000
    torch.testing.assert_close(item["references"].sum(1), item["mixture"])


def test_an_unknown_reference_of_a_track_is_silent_and_marked():
    track = song(0, unknown=["drums"])
    item = WholeTracks([track], Format(("vocals", "drums", "piano"), RATE, 2), None)[0]
    assert item["known"].tolist() == [[True, False, False]]
    assert not item["references"][0, 1:].any()
    expected = torch.from_numpy(sum(track.stems.values()))
    torch.testing.assert_close(item["mixture"][0], expected)  # the mixture has it all the same


def test_without_validation_tracks_training_goes_on(caplog):
    data = SeparationData("generated", arguments={"n_valid": 0, "seconds": 1.0}).obey(toy())
    assert data.val_dataloader() == []
    assert "no validation tracks" in caplog.text


def test_without_training_tracks_it_is_said():
    data = SeparationData("generated", arguments={"n_train": 0, "seconds": 1.0}).obey(toy())
    with pytest.raises(DatasetError, match="no train tracks"):
        data.train_dataloader()


class Process:
    """A trainer's, one of several."""

    def __init__(self, rank, n_ranks):
        self.global_rank, self.world_size = rank, n_ranks


def test_every_process_measures_the_same_statistics():
    found = []
    for rank in (0, 1):
        data = generated(seed=3).obey(toy())
        data.trainer = Process(rank, 2)
        found.append(torch.cat([b["references"] for b in data.statistics_batches(2)]))
    assert torch.equal(*found)


@pytest.mark.parametrize("kind", ["val", "test", "predict"])
@pytest.mark.parametrize("n_ranks", [1, 2, 4])
def test_whole_tracks_are_dealt_out_to_the_processes_in_steps_that_all_take(kind, n_ranks):
    arguments = {"n_valid": 3, "n_test": 3, "seconds": 0.5, "sample_rate": RATE, "channels": 2}
    taken = []
    for rank in range(n_ranks):
        data = SeparationData("generated", arguments=arguments).obey(toy())
        data.trainer = Process(rank, n_ranks)
        loader = getattr(data, f"{kind}_dataloader")()
        # Lightning leaves such loaders alone.
        assert isinstance(loader.sampler, torch.utils.data.DistributedSampler)
        items = list(loader)
        assert [item["name"][-1] for item in items] == ["0", "1", "2"]
        taken.append([item["mine"] for item in items])
        if kind != "predict":
            assert all(("mixture" in item) == item["mine"] for item in items)
    assert np.sum(taken, axis=0).tolist() == [1, 1, 1]  # whatever a limit leaves of the steps


def test_files_take_the_place_of_a_data_set_that_is_not_there(tmp_path):
    for name in ("a.wav", "b/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, np.zeros(100), 16000)
    data = SeparationData("mir1k", root="nowhere", files=str(tmp_path))
    assert [item["name"] for item in data.predict_dataloader()] == ["a.wav", "b/c.wav"]
    data = SeparationData(files=[str(tmp_path / "*.wav"), str(tmp_path / "b")])
    assert [item["name"] for item in data.predict_dataloader()] == ["a.wav", "c.wav"]
    data.trainer = SimpleNamespace(lightning_module=toy())
    for stage in ("fit", "validate", "test"):
        with pytest.raises(RecipeError, match="data.files are for predict.*\nhint: leave them out"):
            data.setup(stage)


def test_neither_files_nor_a_data_set_is_refused():
    with pytest.raises(RecipeError, match="no data.dataset\nhint: add -c data/generated"):
        SeparationData()


@pytest.mark.parametrize(("batch_size", "n_ranks", "fits"), [(6, 1, 1), (7, 1, 0), (4, 2, 0)])
def test_an_epoch_without_a_whole_batch_is_refused(batch_size, n_ranks, fits):
    data = generated().obey(toy())
    data.batch_size, data.trainer = batch_size, Process(0, n_ranks)
    if fits:
        assert len(data.train_dataloader()) == 1
        return
    with pytest.raises(DatasetError, match=f"examples_per_epoch is 6.*batch_size is {batch_size}"):
        data.train_dataloader()


def test_statistics_come_from_as_many_batches_as_asked_for():
    data = generated(seed=3).obey(toy())
    batches = list(data.statistics_batches(4))
    assert [len(batch["references"]) for batch in batches] == [2] * 4
    assert torch.equal(batches[0]["references"], next(iter(data.train_dataloader()))["references"])
