"""Any place of a compressed file gives the samples that decoding forward gives there."""

from fractions import Fraction

import av
import numpy as np
import pytest

from zoo.audio import open_audio, read

RATE = 44100


def music(seconds, seed=0):
    """Noise in bursts over tones: transients, and bands that encoders like to replace by noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    burst = np.exp(-8 * (t % 0.37)) * rng.standard_normal((2, t.size))
    return (0.1 * burst + 0.2 * np.sin(2 * np.pi * np.array([[220.0], [331.0]]) * t)).astype("f4")


def encode(path, signals, codec="aac", bit_rate=256_000, format="fltp", draws_noise=False):
    with av.open(str(path), "w") as container:
        outs = [container.add_stream(codec, rate=RATE, layout="stereo") for _ in signals]
        for out in outs:
            out.bit_rate, out.format = bit_rate, format
            if codec == "aac":
                out.options = {"aac_pns": str(int(draws_noise)), "aac_coder": "fast"}
        for start in range(0, signals[0].shape[1], 1 << 14):  # in turn, as players want it
            for out, x in zip(outs, signals, strict=True):
                block = np.ascontiguousarray(x[:, start : start + (1 << 14)])
                if format == "s16p":
                    block = np.rint(block * 32767).astype("i2")
                frame = av.AudioFrame.from_ndarray(block, format, "stereo")
                frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
                container.mux(out.encode(frame))
        for out in outs:
            container.mux(out.encode(None))
    return path


def forward(path, stream=None):
    with open_audio(path, stream) as reader:
        whole = np.concatenate(list(reader.blocks(10_007)), axis=1)
        assert reader.samples == whole.shape[1]
    return whole


def check_places(path, stream=None, n=25):
    """Stretches that begin anywhere are those of the file decoded forward."""
    whole = forward(path, stream)
    rng = np.random.default_rng(0)
    length = whole.shape[1]
    edges = [0, 1, 8191, 8192, 8193, length - 1, length, length + 5]
    with open_audio(path, stream) as reader:
        for start in [*edges, *rng.integers(0, length, n).tolist(), 0]:
            reader.seek(start)
            x = np.concatenate([reader.read(k) for k in (1, 1023, 3000)], axis=1)
            np.testing.assert_array_equal(x, whole[:, start : start + 4024])


@pytest.mark.parametrize("stream", range(5))
@pytest.mark.parametrize(
    "song", ["test/The Easton Ellises - Falcon 69", "train/Music Delta - 80s Rock"]
)
def test_stems_of_musdb_are_the_same_from_any_place(shared, song, stream):
    path = shared / "audio" / "musdb-sample" / f"{song}.stem.mp4"
    with open_audio(path, stream) as reader:
        assert reader.random_access
    check_places(path, stream)


def test_a_container_of_several_streams_jumps_in_each(tmp_path):
    path = encode(tmp_path / "a.stem.mp4", [music(4, seed) for seed in range(3)])
    for stream in range(3):
        with open_audio(path, stream) as reader:
            assert reader.random_access and reader.samples == 4 * RATE
        check_places(path, stream)


def test_lossless_m4a_jumps(tmp_path):
    path = encode(tmp_path / "a.m4a", [music(4)], "alac", format="s16p")
    with open_audio(path) as reader:
        assert reader.random_access and reader.samples == 4 * RATE
    check_places(path)


def test_an_encoder_that_draws_noise_is_found_out_and_decoded_forward(tmp_path):
    path = encode(tmp_path / "a.m4a", [music(6)], bit_rate=64_000, draws_noise=True)
    with open_audio(path) as reader:
        assert not reader.random_access
    check_places(path, n=5)


@pytest.mark.parametrize("name", ["a.aac", "a.mkv", "a.mp3", "a.ogg", "a.opus"])
def test_a_file_that_does_not_tell_places_is_decoded_forward(tmp_path, name):
    x = music(4)
    codec = {"aac": "aac", "mkv": "aac", "mp3": "libmp3lame"}.get(name[2:])
    if codec:
        path = encode(tmp_path / name, [x], codec, format="fltp")
    else:
        import soundfile

        path = tmp_path / name
        kind = {"ogg": ("VORBIS", RATE), "opus": ("OPUS", 48000)}[name[2:]]
        with soundfile.SoundFile(path, "w", kind[1], 2, kind[0], format="OGG") as file:
            for start in range(0, x.shape[1], 8192):
                file.write(x.T[start : start + 8192])
    with open_audio(path) as reader:
        assert not reader.random_access and reader.samples is None
    check_places(path, n=5)


def test_a_jump_reads_little_of_a_long_file(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.m4a", [music(12)])
    with open_audio(path) as reader:
        assert reader.random_access
        decoded = []
        decode = reader._source._decode

        def counting():
            for frame in decode():
                decoded.append(frame.samples)
                yield frame

        monkeypatch.setattr(reader._source, "_decode", counting)
        reader.seek(9 * RATE)
        reader.read(1000)
    assert 0 < sum(decoded) < 10_000


def damage(path, share, n=3):
    """Overwrite some packets of a file."""
    with av.open(str(path)) as container:
        index = container.streams.audio[0].index_entries
        k = round(share * len(index))
        places = [(index[i].pos, index[i].size) for i in range(k, k + n)]
    with path.open("r+b") as file:
        for position, size in places:
            file.seek(position)
            file.write(b"\xff" * size)


def test_damaged_packets_are_silence_and_move_nothing(tmp_path):
    x = music(6)
    path = encode(tmp_path / "a.m4a", [x])
    intact = forward(path)
    damage(path, 0.5)
    y = forward(path)
    assert y.shape == intact.shape
    np.testing.assert_array_equal(y[:, : int(2.9 * RATE)], intact[:, : int(2.9 * RATE)])
    np.testing.assert_array_equal(y[:, int(3.2 * RATE) :], intact[:, int(3.2 * RATE) :])
    assert not np.array_equal(y, intact)
    check_places(path)


def test_a_file_cut_short_tells_what_is_missing(tmp_path):
    """Its index, at the front, speaks of packets that are not there."""
    whole = tmp_path / "whole.m4a"
    x = music(6)
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:
        out = container.add_stream("aac", rate=RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(x), "fltp", "stereo")
        frame.sample_rate, frame.pts = RATE, 0
        container.mux(out.encode(frame))
        container.mux(out.encode(None))
    path = tmp_path / "cut.m4a"
    content = whole.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with open_audio(path) as reader:
        assert reader.samples is None and not reader.random_access
        y = np.concatenate(list(reader.blocks(5000)), axis=1)
        assert "shorter than announced" in reader.notes[0]
    np.testing.assert_array_equal(y[:, :RATE], forward(whole)[:, :RATE])


def test_a_stretch_is_the_same_with_and_without_what_lies_before(tmp_path):
    path = encode(tmp_path / "a.m4a", [music(5)])
    whole, _ = read(path)
    np.testing.assert_array_equal(read(path, 3 * RATE, 500)[0], whole[:, 3 * RATE : 3 * RATE + 500])
