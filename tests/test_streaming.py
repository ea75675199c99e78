"""Songs cut into chunks and joined again."""

import logging
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Disagreeing, Forgetful, Halves, Loudness, Smoother

from zoo.audio import AudioWriter
from zoo.errors import ShapeError, ZooError
from zoo.streaming import (
    ChannelGroups,
    ChunkPlan,
    ChunkRunner,
    FileSignal,
    Separation,
    TensorSignal,
    cut,
    join,
)

RATE = 16000


def noise(*shape):
    return torch.rand(*shape) * 2 - 1


@settings(max_examples=150, deadline=None)
@given(
    total=st.integers(1, 400),
    hop=st.integers(1, 60),
    context=st.integers(0, 50),
    faded=st.integers(0, 60),
    block=st.integers(1, 90),
)
def test_cut_and_joined_a_song_is_itself(total, hop, context, faded, block):
    plan = ChunkPlan(hop, context, min(hop, faded))
    song = torch.arange(1.0, total + 1)[None, None]
    chunks = list(cut(song.split(block, dim=-1), plan))
    joined = torch.cat(list(join(((c, c.mixture) for c in chunks), plan)), dim=-1)
    torch.testing.assert_close(joined, song, rtol=1e-6, atol=0)
    assert [c.last for c in chunks] == [False] * (len(chunks) - 1) + [True]


@settings(max_examples=60, deadline=None)
@given(total=st.integers(1, 300), hop=st.integers(1, 6), reach=st.integers(0, 20))
def test_with_enough_context_chunks_equal_the_whole(total, hop, reach):
    model = Smoother(reach=reach, grid=8).eval()
    song = noise(1, 1, total)
    plan = ChunkPlan(hop * 8, -(-reach // 8) * 8)
    joined = torch.cat(list(ChunkRunner(model, plan).run([song])), dim=-1)
    torch.testing.assert_close(joined, model(song), rtol=0, atol=1e-5)


def test_with_too_little_context_chunks_do_not_equal_the_whole():
    model, song = Smoother(reach=20).eval(), noise(1, 1, 300)
    joined = torch.cat(list(ChunkRunner(model, ChunkPlan(64, 8)).run([song])), dim=-1)
    assert (joined - model(song)).abs().max() > 1e-3


@pytest.mark.parametrize("context", [0, 700, None])
@pytest.mark.parametrize("chunk", [0.05, 0.31, 20.0])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_identity_returns_its_input(context, chunk, batch_size):
    model = Halves(("vocals",), (1.0,), context=context)
    song = noise(1, 13001)
    estimates = model.separate(song, chunk=chunk, batch_size=batch_size, overlap=0.4)
    assert (estimates["vocals"] - song).abs().max() <= 1e-6


def test_neighbours_that_disagree_make_no_step_above_their_ramp():
    estimates = Disagreeing().separate(noise(1, 5 * RATE), chunk=1.0, overlap=0.25)["level"][0]
    ramp = 1 / (0.25 * RATE)
    assert estimates.min() == 0 and estimates.max() == 1
    assert estimates.diff().abs().max() <= ramp * 1.01


def test_a_survey_sees_the_whole_song_before_its_parts():
    song = noise(1, 50001) * torch.linspace(0.1, 0.9, 50001)
    estimate = Loudness().separate(song, chunk=0.3)["loud"]
    torch.testing.assert_close(estimate, song / song.abs().max())


def test_each_channel_of_a_mono_model_has_a_state_of_its_own():
    song = noise(3, 50001) * torch.tensor([[0.2], [0.5], [1.0]])
    estimate = Loudness().separate(song, chunk=0.3, batch_size=2)["loud"]
    torch.testing.assert_close(estimate, song / song.abs().amax(1, keepdim=True))


@pytest.mark.parametrize("n_file", range(1, 17))
@pytest.mark.parametrize("n_model", [1, 2, None])
def test_every_channel_comes_back_to_its_place(n_file, n_model):
    groups = ChannelGroups(n_file, n_model)
    signal = noise(n_file, 5)
    taken = groups.split(signal)
    assert taken.shape[1] == (n_model or n_file)
    estimates = torch.stack([taken, -taken], dim=1)
    torch.testing.assert_close(groups.merge(estimates), torch.stack([signal, -signal]))


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_file_comes_back_at_its_own_rate_length_and_alignment(rate, channels):
    n = rate // 2 + 17
    time = torch.arange(n) / rate
    burst = torch.exp(-(((time - 0.21) * 60) ** 2))
    song = burst * torch.sin(2 * torch.pi * 700 * time) * torch.linspace(0.3, 1, channels)[:, None]
    estimates = Halves(("vocals",), (1.0,)).separate(song, rate, chunk=0.1)
    assert estimates.rate == rate and estimates["vocals"].shape == (channels, n)
    error = (estimates["vocals"] - song)[..., n // 20 :].abs().max()
    assert error < 2e-3  # a lag of one sample would give 0.02 at 192 kHz, 0.5 at 8 kHz


@pytest.mark.parametrize("n_samples", [1, 2, 3, 100])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 192000])
def test_the_shortest_signals_keep_their_length(n_samples, rate):
    estimates = Halves().separate(noise(2, n_samples), rate)
    assert estimates["vocals"].shape == (2, n_samples)
    assert bool(estimates["vocals"].isfinite().all())


def tones(rate, *hertz, seconds=1.0):
    time = torch.arange(round(rate * seconds)) / rate
    return torch.stack([torch.sin(2 * torch.pi * f * time) for f in hertz]).sum(0)[None]


def energy(signal):
    n = signal.shape[-1]
    return float(signal[..., n // 10 : -n // 10].square().mean())


def test_what_lies_above_the_band_stands_in_the_residual_and_the_accompaniment():
    song = tones(44100, 500, 12000)
    estimates = Halves().separate(
        song, 44100, sources=["vocals", "other", "accompaniment", "residual"]
    )
    high = tones(44100, 12000)
    assert energy(estimates["vocals"] - 0.75 * tones(44100, 500)) < 1e-5
    assert energy(estimates["residual"] - high) < 1e-4
    assert energy(estimates["accompaniment"] - (0.25 * tones(44100, 500) + high)) < 1e-4


def test_a_model_of_an_accompaniment_gives_it_what_lies_above_the_band():
    model = Halves(("vocals", "accompaniment"))
    estimates = model.separate(tones(44100, 500, 12000), 44100)
    assert (
        energy(estimates["accompaniment"] - (0.25 * tones(44100, 500) + tones(44100, 12000))) < 1e-4
    )
    assert energy(estimates.residual) < 1e-8


def test_a_named_source_can_take_what_lies_above_the_band():
    estimates = Halves().separate(tones(44100, 500, 12000), 44100, high_band="vocals")
    assert energy(estimates["vocals"] - (0.75 * tones(44100, 500) + tones(44100, 12000))) < 1e-4
    assert energy(estimates.residual) < 1e-8


@pytest.mark.parametrize("rate", [16000, 44100])
def test_consistent_estimates_sum_to_the_mixture(rate):
    song = noise(2, 20000)
    estimates = Halves(shares=(0.5, 0.1)).separate(song, rate, consistent=True)
    assert (estimates["vocals"] + estimates["other"] - song).abs().max() <= 1e-5
    assert (Halves(shares=(0.5, 0.1)).separate(song, rate).residual).abs().max() > 0.1


@pytest.mark.parametrize(
    ("sources", "high_band", "holder"),
    [
        (("vocals", "drums"), "residual", "drums"),  # somebody must, so the last
        (("vocals", "other", "drums"), "residual", "other"),
        (("vocals", "accompaniment", "other"), "residual", "accompaniment"),
        (("vocals", "other"), "vocals", "vocals"),
    ],
)
def test_consistent_shares_the_band_and_gives_what_lies_above_it_to_one(sources, high_band, holder):
    shares = (0.4, 0.2, 0.1)[: len(sources)]
    left = (1 - sum(shares)) / len(shares)
    estimates = Halves(sources, shares).separate(
        tones(44100, 500, 12000), 44100, consistent=True, high_band=high_band
    )
    for source, share in zip(sources, shares, strict=True):
        expected = (share + left) * tones(44100, 500)
        if source == holder:
            expected = expected + tones(44100, 12000)
        assert energy(estimates[source] - expected) < 1e-4
    (note,) = [n for n in estimates.info["notes"] if "above" in n]
    assert note == f"above 8000 Hz everything stands in {holder}"


@pytest.mark.parametrize(
    ("sources", "asked", "high_band", "takers"),
    [
        (("vocals", "accompaniment"), None, "residual", "accompaniment"),
        (("vocals", "other"), None, "residual", "the residual"),
        (("vocals", "other"), ["accompaniment"], "residual", "the residual and in accompaniment"),
        (("vocals", "other"), ["accompaniment"], "other", "other and in accompaniment"),
        (("vocals", "other"), ["accompaniment"], "vocals", "vocals"),
    ],
)
def test_the_note_names_what_takes_the_high_band(sources, asked, high_band, takers):
    song = tones(44100, 12000)
    info = Halves(sources).separate(song, 44100, sources=asked, high_band=high_band).info
    assert f"above 8000 Hz everything stands in {takers}" in info["notes"]


def test_the_accompaniment_is_everything_but_the_vocals():
    song = noise(1, 3000)
    estimates = Halves(shares=(0.5, 0.1)).separate(song, sources=["accompaniment"])
    torch.testing.assert_close(estimates["accompaniment"], 0.5 * song)
    assert list(estimates) == ["accompaniment"]


def test_when_memory_ends_batch_and_chunk_are_halved_and_the_result_is_the_same(caplog):
    song = noise(1, 40000)
    model = Forgetful(limit=3000, context=100, grid=4)
    with caplog.at_level(logging.WARNING):
        estimate = model.separate(song, chunk=0.5, batch_size=4)["vocals"]
    torch.testing.assert_close(estimate, song)
    assert max(model.lengths) <= 3000
    assert 3 <= len(caplog.records) <= 6  # one line a step, not one a chunk
    assert "out of memory" in caplog.text


def test_faded_chunks_survive_the_end_of_memory_as_well():
    song = noise(1, 40000)
    estimate = Forgetful(limit=3000, context=None).separate(song, chunk=0.5)["vocals"]
    torch.testing.assert_close(estimate, song, rtol=0, atol=1e-6)


def test_memory_that_never_suffices_is_said():
    with pytest.raises(ZooError, match="out of memory"):
        Forgetful(limit=0).separate(noise(1, 100))


def test_shifts_average_further_passes_and_say_what_they_are_worth():
    song = noise(1, 30000)
    model = Halves(("vocals",), (1.0,))
    estimates = model.separate(song, shifts=2)
    torch.testing.assert_close(estimates["vocals"], song)
    assert len(model.lengths) == 3
    assert any("shifts" in note for note in estimates.info["notes"])


class Sided(Halves):
    """Gives the left channel alone."""

    def forward(self, mixture, state=None):
        return (mixture * torch.tensor([1.0, 0.0])[:, None])[:, None]


def test_a_flip_averages_over_left_and_right():
    song = noise(2, 3000)
    model = Sided(("vocals",), (1.0,), channels=2)
    torch.testing.assert_close(model.separate(song, flip=True)["vocals"], song / 2)
    with pytest.raises(ZooError, match="needs a stereo model"):
        Halves(("vocals",), (1.0,)).separate(noise(1, 100), flip=True)


def test_an_overlap_that_gains_nothing_is_told_where_it_was_asked_for():
    song = noise(1, 3000)
    for context, overlap, told in ((0, 0.4, 1), (0, 0.25, 0), (None, 0.4, 0)):
        notes = Halves(context=context).separate(song, overlap=overlap).info["notes"]
        assert sum("overlap" in note for note in notes) == told


@pytest.mark.parametrize("chunk", [0.01, 0.25, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("overlap", [0.01, 0.25, 0.5])
def test_chunks_on_a_coarse_grid_are_faded_and_go_on(chunk, overlap):
    model = Halves(("all",), (1.0,), context=None, grid=8192)
    plan = ChunkPlan.of(model, RATE, chunk, overlap)
    assert plan.hop >= plan.overlap >= 8192
    assert plan.hop % 8192 == plan.overlap % 8192 == 0
    assert ChunkPlan.of(model, RATE, chunk, 0).overlap == 0


def test_short_chunks_on_a_coarse_grid_make_no_step():
    model = Disagreeing()
    model._grid = 4096
    level = model.separate(noise(1, 5 * RATE), chunk=0.25)["level"][0]
    assert level.diff().abs().max() <= 1.01 / 4096


def test_progress_takes_what_a_compressed_file_announces_as_its_total(tmp_path):
    path, seen = tmp_path / "song.mp3", []
    with AudioWriter(path, RATE, 1) as writer:
        writer.write(0.1 * noise(1, 3 * RATE).numpy())
    signal = FileSignal(path)
    assert signal.samples is None
    estimates = Halves().separate(path, chunk=0.5, progress=lambda *a: seen.append(a))
    assert {total for _, _, total in seen} == {signal.announced}
    assert abs(signal.announced - 3 * RATE) < 4000
    assert seen[-1][1] == estimates["vocals"].shape[1]


def test_progress_never_counts_beyond_its_total():
    signal, seen = TensorSignal(noise(1, 50000), RATE), []
    signal.samples, signal.announced = None, 30000
    for _ in Separation(Halves(), signal, chunk=0.5, progress=lambda *a: seen.append(a)):
        pass
    assert seen[0][2] == 30000
    assert seen[-1] == ("separate", 50000, 50000)


def test_progress_counts_up_to_the_length_of_the_song():
    seen = []
    Halves().separate(noise(1, 50000), chunk=0.5, progress=lambda *a: seen.append(a))
    assert seen[-1] == ("separate", 50000, 50000)
    assert [s[1] for s in seen] == sorted(s[1] for s in seen)


@pytest.mark.parametrize(
    "audio", [np.zeros((0,)), np.zeros((2, 0)), np.zeros((2, 3, 4)), np.zeros((44100, 2))]
)
def test_an_array_of_the_wrong_shape_is_refused(audio):
    with pytest.raises(ShapeError, match="channels, samples"):
        Halves().separate(audio, 16000)


def test_nan_is_refused_with_its_place():
    song = torch.zeros(1, 100)
    song[0, 17] = torch.nan
    with pytest.raises(ZooError, match="sample 17"):
        Halves().separate(song)


def test_integers_are_scaled_to_full_scale():
    signal = TensorSignal(np.array([[-32768, 16384]], dtype=np.int16), 16000)
    assert signal.signal.tolist() == [[-1.0, 0.5]]


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_the_silence_of_8_unsigned_bits_is_128(kind):
    signal = TensorSignal(kind(np.array([[0, 128, 192]], dtype=np.uint8)), 16000)
    assert signal.signal.tolist() == [[-1.0, 0.0, 0.5]]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, bool, complex, object])
def test_numbers_without_a_known_full_scale_are_refused(dtype):
    with pytest.raises(ShapeError, match=np.dtype(dtype).name):
        TensorSignal(np.zeros((1, 5), dtype), 16000)


@pytest.mark.parametrize("dtype", ["<i2", ">i2", ">i4", ">f4", "<f8", ">f8", "f2", np.longdouble])
def test_arrays_of_any_byte_order_and_stride_are_taken(dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    scale = -np.iinfo(x.dtype).min if x.dtype.kind == "i" else 1
    for array in (x, x[:, ::-1], x[::-1], np.asfortranarray(x), x.T[:2]):
        signal = TensorSignal(array, 16000).signal
        assert signal.dtype == torch.float32
        assert (signal * scale).tolist() == array.astype(float).tolist()


def test_an_array_that_must_not_be_written_is_taken_in_silence():
    x = np.ones((1, 4), np.float32)
    x.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TensorSignal(x, 16000).signal.tolist() == [[1.0] * 4]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sources": ["piano"]}, "piano"),
        ({"sources": []}, "no source"),
        ({"high_band": "piano"}, "piano"),
        ({"chunk": -1.0}, "positive"),
        ({"overlap": 0.9}, "overlap"),
        ({"precision": "int4"}, "int4"),
        ({"device": "quantum"}, "quantum"),
    ],
)
def test_an_option_that_does_not_fit_is_named(options, message):
    with pytest.raises(ZooError, match=message):
        Halves().separate(noise(1, 100), **options)


def test_the_input_is_not_modified():
    song = noise(2, 5000)
    before = song.clone()
    Halves(channels=2).separate(song)
    assert torch.equal(song, before)
