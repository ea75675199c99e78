import contextlib
import os
import struct
import subprocess
import tracemalloc
import wave

import numpy as np
import pytest
import soundfile as sf

from zoo.audio import (
    FORMATS,
    AudioWriter,
    Resampler,
    check_output,
    encoders,
    open_audio,
    read,
    resample,
    writing,
)
from zoo.errors import AudioFileError, MissingPackage, SampleRateError, ShapeError

RATE = 44100


def sweep(samples, channels=2, rate=RATE):
    """A tone that rises, another one per channel: no two places of it are alike."""
    t = np.arange(samples) / rate
    tones = [0.3 * np.sin(2 * np.pi * ((200 + 90 * c) * t + 150 * t**2)) for c in range(channels)]
    return np.stack(tones).astype(np.float32)


def save(path, x, rate=RATE, **options):
    """A file by libsndfile itself."""
    with sf.SoundFile(path, "w", rate, x.shape[0], **options) as file:
        for start in range(0, x.shape[1], rate):
            file.write(x[:, start : start + rate].T)
    return path


def write(path, x, rate=RATE, subtype=None):
    with AudioWriter(path, rate, x.shape[0], subtype) as writer:
        writer.write(x)
    return path


def contents(path):
    """All of a file in odd blocks, and the reader after that."""
    with open_audio(path) as reader:
        return np.concatenate(list(reader.blocks(5003)), axis=1), reader


def error_db(estimate, reference):
    estimate = estimate.astype(np.float64)
    return 10 * np.log10((1e-30 + np.mean((estimate - reference) ** 2)) / np.mean(reference**2))


def message(path):
    with pytest.raises(AudioFileError) as caught, open_audio(path) as reader:
        for _ in reader.blocks(5003):
            pass
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and text.endswith(".")
    return text


# --------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("subtype", "bits", "is_float"),
    [
        ("PCM_U8", 8, False),
        ("PCM_16", 16, False),
        ("PCM_24", 24, False),
        ("PCM_32", 32, False),
        ("FLOAT", 32, True),
        ("DOUBLE", 64, True),
    ],
)
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
def test_waves_are_read_as_libsndfile_reads_them(tmp_path, container, subtype, bits, is_float):
    path = save(tmp_path / "a.wav", sweep(12345, 3), format=container, subtype=subtype)
    expected, _ = sf.read(path, dtype="float32")
    x, reader = contents(path)
    np.testing.assert_array_equal(x, expected.T)
    assert (reader.samples, reader.bits, reader.is_float) == (12345, bits, is_float)
    assert reader.random_access and reader.notes == []


@pytest.mark.parametrize("channels", [1, 2, 7, 8, 16, 40])
@pytest.mark.parametrize("rate", [8000, 192000])
def test_any_number_of_channels_and_any_rate(tmp_path, channels, rate):
    x = sweep(1001, channels, rate)
    y, reader = contents(write(tmp_path / "a.wav", x, rate))
    np.testing.assert_array_equal(y, x)
    assert (reader.rate, reader.channels) == (rate, channels)


LOSSLESS = {
    "flac 16": {"format": "FLAC", "subtype": "PCM_16"},
    "flac 24": {"format": "FLAC", "subtype": "PCM_24"},
    "aiff": {"format": "AIFF", "subtype": "PCM_24"},
    "aiff float": {"format": "AIFF", "subtype": "FLOAT"},
    "caf": {"format": "CAF", "subtype": "PCM_16"},
    "w64": {"format": "W64", "subtype": "PCM_16"},
    "au": {"format": "AU", "subtype": "PCM_16"},
    "rifx": {"format": "WAV", "subtype": "PCM_16", "endian": "BIG"},
}
LOSSY = {
    "vorbis": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3 constant": {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": 0.2},
    "mp3 variable": {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.2},
}


@pytest.mark.parametrize("options", LOSSLESS.values(), ids=LOSSLESS)
def test_lossless_files_are_read_whole_and_from_anywhere_whatever_their_name(tmp_path, options):
    x = sweep(30011)
    path = save(tmp_path / "lies.mp3", x, **options)
    y, reader = contents(path)
    np.testing.assert_allclose(y, x, atol=4e-5)
    assert reader.samples == x.shape[1] and reader.random_access
    assert reader.is_float == (options["subtype"] == "FLOAT")
    np.testing.assert_array_equal(read(path, 29001, 5000)[0], y[:, 29001:])


@pytest.mark.parametrize("samples", [100, 5000, 70001])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("options", LOSSY.values(), ids=LOSSY)
def test_lossy_files_have_the_length_and_place_of_what_was_encoded(
    tmp_path, options, channels, samples
):
    x = sweep(samples, channels, 48000)
    path = save(tmp_path / "lies.wav", x, 48000, **options)
    with open_audio(path) as reader:
        assert reader.samples is None and not reader.random_access
        y = np.concatenate(list(reader.blocks(777)), axis=1)
        assert reader.samples == samples and reader.notes == []
        assert (reader.is_float, reader.bits, reader.rate) == (False, 16, 48000)
    assert y.shape == x.shape
    if samples > 5000:
        assert error_db(y, x) < -12  # a shift of one sample costs more than these codecs
        lags = [error_db(np.roll(y, lag, 1)[:, 9:-9], x[:, 9:-9]) for lag in range(-3, 4)]
        assert int(np.argmin(lags)) == 3


@pytest.mark.parametrize("options", LOSSY.values(), ids=LOSSY)
def test_seeking_in_lossy_files_is_exact_forward_and_back(tmp_path, options):
    path = save(tmp_path / "a", sweep(100_000, 2, 48000), 48000, **options)
    whole, _ = contents(path)
    with open_audio(path) as reader:
        for start in (99_500, 3, 40_000, 40_000, 99_999):
            reader.seek(start)
            np.testing.assert_array_equal(reader.read(900), whole[:, start : start + 900])
        reader.seek(10**7)
        assert reader.read(10).shape == (2, 0)
        assert reader.samples == 100_000


def test_opus_is_read_at_its_own_rate_whatever_was_encoded(tmp_path):
    x = sweep(24_001, 1, 24000)
    y, reader = contents(write(tmp_path / "a.opus", x, 24000))
    assert (reader.rate, y.shape) == (48000, (1, 48_002))
    assert error_db(y[:, ::2], x) < -12


def test_vorbis_of_one_page_keeps_its_last_samples(shared):
    paths = sorted((shared / "audio" / "loops-cc0" / "hits").glob("*.ogg"))
    assert paths
    for path in paths:
        y, _ = contents(path)
        assert y.shape[1] == sf.info(path).frames, path.name


@pytest.mark.parametrize("suffix", [".flac", ".aiff", ".ogg"])
def test_a_name_that_is_not_utf8_is_read_like_any_other(tmp_path, suffix):
    expected, _ = contents(write(tmp_path / f"a{suffix}", sweep(30_000)))
    path = (tmp_path / f"a{suffix}").rename(
        tmp_path / os.fsdecode(f"\xff{suffix}".encode("latin-1"))
    )
    y, reader = contents(path)
    np.testing.assert_array_equal(y, expected)
    assert reader.notes == []


@pytest.mark.parametrize("channels", [3, 6, 8])
def test_channels_of_vorbis_stand_in_the_order_of_wave_files(tmp_path, channels):
    x = sweep(20_000, channels)
    y, _ = contents(write(tmp_path / "a.ogg", x))
    errors = [[error_db(a, b) for b in x] for a in y]
    places = np.argmin(errors, axis=1).tolist()
    if channels == 6:
        places[3] = 3  # the encoder keeps the bass only of the bass channel
    assert places == list(range(channels))


@pytest.mark.parametrize("channels", [3, 6, 8, 16])
def test_many_planes_do_not_crash_the_decoder(tmp_path, channels, monkeypatch):
    x = sweep(20_000, channels)
    path = write(tmp_path / "a.ogg", x)
    expected, _ = contents(path)
    monkeypatch.setattr("zoo.audio.reading.is_ogg", lambda head: False)  # by FFmpeg
    y, reader = contents(path)
    assert reader.channels == channels
    np.testing.assert_allclose(y[:, :19_000], expected[:, :19_000], atol=1e-4)


def mp3(tmp_path):
    """A variable MP3 that is simple first and noisy later, and where its frame count stands."""
    x = sweep(8 * RATE, 1)
    x[:, 4 * RATE :] += 0.2 * np.random.default_rng(0).standard_normal(4 * RATE)
    path = save(tmp_path / "a.mp3", x, format="MP3", **{"bitrate_mode": "VARIABLE"})
    data = path.read_bytes()
    return path, data, data.index(b"Xing") + 8


def test_mp3_without_a_frame_count_is_read_whole(tmp_path):
    path, data, _ = mp3(tmp_path)
    kbps = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[data[2] >> 4]
    path.write_bytes(data[144_000 * kbps // RATE + (data[2] >> 1 & 1) :])
    y, reader = contents(path)
    assert 0 <= y.shape[1] - 8 * RATE < 3 * 1152  # nobody says what is padding
    assert reader.notes == []


@pytest.mark.parametrize("factor", [0.25, 4])
def test_mp3_with_a_wrong_frame_count_is_read_whole(tmp_path, factor):
    path, data, place = mp3(tmp_path)
    count = int(struct.unpack(">I", data[place : place + 4])[0] * factor)
    path.write_bytes(data[:place] + struct.pack(">I", count) + data[place + 4 :])
    y, reader = contents(path)
    assert 0 <= y.shape[1] - 8 * RATE < 1152
    assert len(reader.notes) == (factor > 1)


def test_mp3_that_is_cut_says_so_once(tmp_path):
    path, data, _ = mp3(tmp_path)
    path.write_bytes(data[: len(data) // 2])
    with open_audio(path) as reader:
        first = sum(x.shape[1] for x in reader.blocks(RATE))
        reader.seek(0)
        again = sum(x.shape[1] for x in reader.blocks(RATE))
    assert first == again == reader.samples
    assert len(reader.notes) == 1 and reader.notes[0].startswith("shorter than announced")


def test_damage_inside_an_mp3_is_skipped_and_noted(tmp_path):
    path, data, _ = mp3(tmp_path)
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes(2000) + data[middle + 2000 :])
    y, reader = contents(path)
    assert 7.5 * RATE < y.shape[1] <= 8 * RATE
    assert reader.notes[0].startswith("damaged near")


def test_a_tag_at_the_end_of_an_mp3_is_no_damage(tmp_path):
    path, data, _ = mp3(tmp_path)
    path.write_bytes(data + b"TAG" + bytes(125))
    y, reader = contents(path)
    assert y.shape[1] == 8 * RATE and reader.notes == []


def test_songs_in_a_chain_are_all_read(tmp_path):
    data = [save(tmp_path / "a", sweep(n), **LOSSY["vorbis"]).read_bytes() for n in (30000, 50000)]
    path = tmp_path / "chain.ogg"
    path.write_bytes(b"".join(data))
    assert 80_000 <= contents(path)[0].shape[1] < 80_000 + 2048


def test_a_hole_in_an_ogg_is_noted(tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 300_000)).astype(np.float32)
    path = save(tmp_path / "a.ogg", noise, **LOSSY["vorbis"])
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes(3000) + data[middle + 3000 :])
    y, reader = contents(path)
    assert y.shape[1] < 300_000
    assert len(reader.notes) == 1 and reader.notes[0].startswith("damaged")


@pytest.mark.parametrize(("rate", "channels", "samples"), [(44100, 2, 66227), (8000, 1, 12077)])
def test_m4a_ends_where_the_signal_ended(tmp_path, rate, channels, samples):
    x = sweep(samples, channels, rate)
    path = write(tmp_path / "a.m4a", x, rate)
    y, reader = contents(path)
    assert y.shape == x.shape and reader.samples == samples
    assert error_db(y, x) < -20
    with open_audio(path) as reader:
        reader.seek(9000)
        np.testing.assert_array_equal(reader.read(500), y[:, 9000:9500])


def containers(tmp_path, codec, name, streams, options=None):
    """A file by FFmpeg's libraries: one stream of audio per signal."""
    import av

    path = tmp_path / name
    with av.open(str(path), "w", options=options or {}) as container:
        outs = [container.add_stream(codec, rate=RATE, layout="stereo") for _ in streams]
        for out, x in zip(outs, streams, strict=True):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(x), "fltp", "stereo")
            frame.sample_rate, frame.pts = RATE, 0
            container.mux(out.encode(frame))
            container.mux(out.encode(None))
    return path


def test_of_several_streams_the_first_is_read_with_a_note(tmp_path):
    x = sweep(50_000)
    path = containers(tmp_path, "aac", "a.mp4", [x, np.zeros_like(x)])
    y, reader = contents(path)
    assert error_db(y[:, :49_000], x[:, :49_000]) < -20
    assert reader.notes == ["2 audio streams; the first is read"]


def test_a_stream_that_is_asked_for_is_read_without_a_note(tmp_path):
    x = sweep(50_000)
    path = containers(tmp_path, "aac", "a.mp4", [np.zeros_like(x), x])
    for stream, expected in enumerate((0 * x, x)):
        y, rate = read(path, 1000, 40_000, stream)
        assert rate == RATE and y.shape == (2, 40_000)
        assert np.abs(y - expected[:, 1000:41_000]).max() < 0.1
    with open_audio(path, 1) as reader:
        assert reader.notes == []


def test_a_stream_that_is_not_there_is_an_error(tmp_path):
    x = sweep(5000)
    two = containers(tmp_path, "aac", "a.mp4", [x, x])
    one = write(tmp_path / "a.wav", x)
    for path, count in ((two, 2), (one, 1)):
        for stream in (2, -1):
            told = rf"no audio stream {stream}, but {count} of them"
            with pytest.raises(AudioFileError, match=told):
                open_audio(path, stream)
    assert np.array_equal(read(one, stream=0)[0], read(one)[0])


def test_stem_files_have_the_length_of_their_container(shared):
    folder = shared / "audio" / "musdb-sample"
    for part, samples in (("test", 268_288), ("train", 299_880)):
        (path,) = (folder / part).glob("*.stem.mp4")
        y, reader = contents(path)
        assert y.shape == (2, samples)
        assert reader.notes == ["5 audio streams; the first is read"]


def test_long_ogg_files_seek_exactly(shared):
    path = shared / "audio" / "open-multitrack" / "lithium" / "bass.ogg"
    with open_audio(path) as reader:
        reader.seek(20 * RATE)
        ahead = reader.read(3000)
        reader.seek(0)
        for _ in range(20):
            assert reader.read(RATE).shape == (2, RATE)
        np.testing.assert_array_equal(reader.read(3000), ahead)


def test_lossless_codecs_of_other_containers_keep_their_bits(tmp_path):
    import av

    x = np.rint(sweep(20_000) * 32767).astype(np.int16)
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="ipod") as container:
        out = container.add_stream("alac", rate=RATE, layout="stereo", format="s16p")
        frame = av.AudioFrame.from_ndarray(x, "s16p", "stereo")
        frame.sample_rate, frame.pts = RATE, 0
        container.mux(out.encode(frame))
        container.mux(out.encode(None))
    y, reader = contents(path)
    assert (reader.bits, reader.is_float) == (16, False)
    np.testing.assert_array_equal(y * 32768, x)


@pytest.mark.parametrize("subtype", ["ALAW", "ULAW", "IMA_ADPCM", "MS_ADPCM"])
def test_compressed_waves_are_read_forward(tmp_path, subtype):
    x = sweep(50_000)
    y, reader = contents(save(tmp_path / "a.wav", x, format="WAV", subtype=subtype))
    assert error_db(y[:, :49_000], x[:, :49_000]) < -15
    assert not reader.random_access and 0 <= y.shape[1] - 50_000 < 2048


# --------------------------------------------------------------------------- lengths that lie


def plain_wave(tmp_path, samples=50_000, extra=b""):
    """A 16-bit stereo wave file with a header of 44 bytes, and its samples."""
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sweep(samples).T * 32767).astype("<i2").tobytes())
    with path.open("ab") as file:
        file.write(extra)
    return path, sf.read(path, dtype="float32", always_2d=True)[0].T


def announce(path, size):
    with path.open("r+b") as file:
        file.seek(40)
        file.write(struct.pack("<I", size))


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0xFFFFFFFC, 0x7FFFF000, 0x7FFFFFFF])
def test_a_length_that_was_never_filled_in_is_taken_from_the_file(tmp_path, size):
    path, x = plain_wave(tmp_path)
    announce(path, size)
    y, reader = contents(path)
    np.testing.assert_array_equal(y, x)
    assert reader.samples == 50_000 and reader.announced is None
    assert len(reader.notes) == 1 and "does not say how long" in reader.notes[0]


def test_a_wave_that_was_cut_is_read_with_a_note(tmp_path):
    path, x = plain_wave(tmp_path)
    path.write_bytes(path.read_bytes()[: 44 + 4 * 20_000 + 3])
    y, reader = contents(path)
    np.testing.assert_array_equal(y, x[:, :20_000])
    assert reader.notes == ["shorter than announced: 0.45 s instead of 1.13 s"]


def test_chunks_after_the_samples_are_not_played(tmp_path):
    path, x = plain_wave(tmp_path, extra=b"LIST\x05\0\0\0INFO!\0" + b"id3 \x02\0\0\0ab")
    y, reader = contents(path)
    np.testing.assert_array_equal(y, x)
    assert reader.notes == []


def test_chunks_of_odd_length_are_padded_here_and_there(tmp_path):
    x = np.full((1, 7), 0.5, np.float32)
    path = write(tmp_path / "a.wav", x, subtype="PCM_24")
    assert path.stat().st_size % 2 == 0
    path = tmp_path / "b.wav"
    save(path, x, subtype="PCM_U8")
    data = path.read_bytes()
    odd = data[:12] + b"odd \x03\0\0\0abc\0" + data[12:] + b"LIST\x04\0\0\0INFO"
    path.write_bytes(odd)
    y, reader = contents(path)
    np.testing.assert_array_equal(y, x)
    assert reader.notes == []


def test_an_unknown_tail_is_not_played_but_said(tmp_path):
    path, x = plain_wave(tmp_path, extra=b"\x01" * 9000)
    y, reader = contents(path)
    np.testing.assert_array_equal(y, x)
    assert reader.notes == ["9000 bytes after the announced end are not read"]


@pytest.mark.parametrize("announced", ["wrapped", "largest", "zero"])
def test_more_than_4_gib_under_a_header_of_32_bits_is_read_to_the_end(tmp_path, announced):
    path, x = plain_wave(tmp_path, 1000)
    samples = (1 << 30) + 70_000
    with path.open("r+b") as file:  # a hole, so it takes no room on the disk
        file.seek(44 + 4 * (samples - 1000))
        file.write(path.read_bytes()[44:])
    size = 4 * samples
    announce(path, {"wrapped": size % (1 << 32), "largest": 0xFFFFFFFC, "zero": 0}[announced])
    with open_audio(path) as reader:
        assert reader.samples == samples and len(reader.notes) == 1
        reader.seek(samples - 1000)
        np.testing.assert_array_equal(reader.read(2000), x)


@pytest.mark.parametrize("kind", ["aiff", "w64", "au"])
def test_other_pcm_files_that_were_cut_are_read_with_a_note(tmp_path, kind):
    path = save(tmp_path / "a", sweep(50_000), **LOSSLESS[kind])
    path.write_bytes(path.read_bytes()[:100_000])
    y, reader = contents(path)
    assert 0 < y.shape[1] < 30_000
    assert len(reader.notes) == 1 and reader.notes[0].startswith("shorter than announced")


@pytest.mark.parametrize("damage", ["cut", "zeros"])
def test_a_damaged_flac_gives_what_comes_before_then_says_where_it_breaks(tmp_path, damage):
    x = sweep(10 * RATE) + 0.01 * np.random.default_rng(0).standard_normal((2, 10 * RATE))
    path = save(tmp_path / "a.flac", x.astype(np.float32), **LOSSLESS["flac 16"])
    data = path.read_bytes()
    middle = len(data) // 2
    rest = b"" if damage == "cut" else bytes(300) + data[middle + 300 :]
    path.write_bytes(data[:middle] + rest)
    with open_audio(path) as reader:
        good = []
        with pytest.raises(AudioFileError, match=r"damaged at [45]\.\d\d s of 10\.00 s"):
            while True:
                good.append(reader.read(10 * RATE))
        y = np.concatenate(good, axis=1)
    assert y.shape[1] > 4 * RATE
    np.testing.assert_allclose(y, x[:, : y.shape[1]], atol=2e-5)


def test_a_flac_stream_of_unknown_length_is_read_whole(tmp_path):
    x = sweep(50_000)
    path = save(tmp_path / "a.flac", x, **LOSSLESS["flac 24"])
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    y, reader = contents(path)
    np.testing.assert_allclose(y, x, atol=1e-6)
    assert (reader.bits, reader.samples) == (24, 50_000)


# --------------------------------------------------------------------------- what is no audio


def test_what_is_no_audio_is_said_in_one_sentence(tmp_path):
    text, empty, video = tmp_path / "text.wav", tmp_path / "empty.wav", tmp_path / "video.mp4"
    text.write_text("RIFF is what this is not\n" * 50)
    assert "not audio" in message(text)
    empty.touch()
    assert "empty" in message(empty)
    assert "folder" in message(tmp_path)
    assert "No such file" in message(tmp_path / "missing.wav")
    import av

    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, width=16, height=16)
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "no audio stream" in message(video)


@pytest.mark.parametrize(
    "data",
    [
        b"RIFF\x24\0\0\0WAVE",
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + bytes(16) + b"data\x08\0\0\0" + bytes(8),
        b"fLaC\x00\x00\x00\x22" + bytes(40),
        b"OggS" + bytes(60),
        b"\xff\xfb\x90\xc4" + bytes(50),
        bytes(range(256)) * 40,
        b"#EXTM3U\n#EXTINF:1,\nother.wav\n",
    ],
    ids=["no chunks", "no channels", "flac", "ogg", "mp3", "noise", "playlist"],
)
def test_headers_without_audio_behind_are_refused(tmp_path, data):
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    message(path)


@pytest.mark.parametrize("extension", [".wav", ".flac", ".aiff", ".ogg", ".mp3", ".m4a"])
def test_audio_without_a_sample_is_refused(tmp_path, extension):
    path = tmp_path / f"a{extension}"
    AudioWriter(path, RATE, 2).close()
    message(path)


def test_playlists_do_not_lead_to_other_files(tmp_path):
    write(tmp_path / "secret.wav", sweep(1000))
    path = tmp_path / "a.wav"
    path.write_text("ffconcat version 1.0\nfile secret.wav\n")
    assert "not audio" in message(path)
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n")
    assert "not audio" in message(path)
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\nla la la\n")
    assert "not audio" in message(path)


def test_titles_in_another_alphabet_do_no_harm(tmp_path):
    path = save(tmp_path / "a.mp3", sweep(5000), format="MP3")
    title = b"TIT2\0\0\0\x05\0\0\x03\xe9\xff\xfe\xe8"  # said to be UTF-8, and is not
    path.write_bytes(b"ID3\x04\0\0\0\0\0" + bytes([len(title)]) + title + path.read_bytes())
    y, reader = contents(path)
    assert y.shape == (2, 5000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("extension", ["wav", "aiff"])
def test_values_that_are_no_numbers_are_found_in_time(tmp_path, value, extension):
    x = np.zeros((3 * RATE, 2))
    x[2 * RATE + 441, 1] = value
    path = tmp_path / f"a.{extension}"
    sf.write(path, x, RATE, subtype="DOUBLE")
    assert "NaN or infinity at 2.010 s" in message(path)


def test_a_file_that_may_not_be_read_says_so(tmp_path):
    path = write(tmp_path / "a.wav", sweep(10))
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        assert "Permission denied" in message(path)
    finally:
        os.seteuid(user)


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    assert "no regular file" in message(tmp_path / "pipe.wav")


def test_waves_need_no_other_package(tmp_path, monkeypatch):
    for name in ("soundfile", "av", "soxr"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    x = sweep(100)
    np.testing.assert_array_equal(read(write(tmp_path / "a.wav", x))[0], x)
    with pytest.raises(MissingPackage, match="pip install soundfile"):
        AudioWriter(tmp_path / "a.flac", RATE, 2)
    with pytest.raises(MissingPackage, match="pip install soxr"):
        resample(x, RATE, 48000)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_reading_a_stretch_leaves_out_what_lies_beyond_the_end(tmp_path):
    path = write(tmp_path / "a.wav", sweep(1000))
    whole, rate = read(path)
    assert (whole.shape, whole.dtype, rate) == ((2, 1000), np.float32, RATE)
    np.testing.assert_array_equal(read(path, 990, 100)[0], whole[:, 990:])
    assert read(path, 1000)[0].shape == read(path, 5000, 3)[0].shape == (2, 0)
    assert read(path, 3, 0)[0].shape == (2, 0)


# --------------------------------------------------------------------------- writing

EXACT = [
    (".wav", "PCM_16", 16),
    (".wav", "PCM_24", 24),
    (".flac", "PCM_16", 16),
    (".flac", "PCM_24", 24),
    (".aiff", "PCM_16", 16),
    (".caf", "PCM_24", 24),
    (".w64", "PCM_32", 24),
]


@pytest.mark.parametrize(("extension", "subtype", "bits"), EXACT)
def test_integers_survive_a_round_trip(tmp_path, extension, subtype, bits):
    scale = 2 ** (bits - 1)
    x = np.random.default_rng(0).integers(-scale, scale, (2, 10_000)) / scale
    x[:, :2] = [-1, 1 - 1 / scale]
    path = write(tmp_path / f"a{extension}", x.astype(np.float32), subtype=subtype)
    np.testing.assert_array_equal(read(path)[0], x.astype(np.float32))
    assert sf.info(path).subtype == subtype


@pytest.mark.parametrize(("extension", "subtype", "bits"), EXACT[:4])
def test_samples_are_rounded_to_the_nearest(tmp_path, extension, subtype, bits):
    x = 0.9 * np.random.default_rng(0).uniform(-1, 1, (1, 20_000)).astype(np.float32)
    error = read(write(tmp_path / f"a{extension}", x, subtype=subtype))[0] - x
    step = 2.0 ** (1 - bits)
    assert np.abs(error).max() <= step / 2 + 1e-7
    assert abs(error.mean()) < step / 50 + 1e-9  # rounding down would be off by half a step


def test_floats_stay_as_they_are_and_clipping_is_counted_elsewhere(tmp_path):
    x = np.array([[0.5, 1.0, 1.5, -1.0, -3.0]], np.float32)
    with AudioWriter(tmp_path / "a.wav", RATE, 1) as writer:
        writer.write(x)
    assert writer.clipped == 0
    np.testing.assert_array_equal(read(writer.path)[0], x)
    with AudioWriter(tmp_path / "b.wav", RATE, 1, "PCM_16") as writer:
        writer.write(x)
    assert writer.clipped == 2
    top = 32767 / 32768
    np.testing.assert_array_equal(read(writer.path)[0], np.float32([[0.5, top, top, -1, -1]]))


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_gives_back_rate_channels_and_length(tmp_path, extension):
    x = sweep(70_001, 2, 48000)
    y, reader = contents(write(tmp_path / f"a{extension.upper()}", x, 48000))
    assert (reader.rate, y.shape) == (48000, x.shape)
    assert error_db(y, x) < -15
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a{extension.upper()}"]


@pytest.mark.parametrize("rate", writing._MP3_RATES)
def test_mp3_has_each_of_its_rates(tmp_path, rate):
    x = sweep(rate, 1, rate)
    y, reader = contents(write(tmp_path / "a.mp3", x, rate))
    assert (reader.rate, y.shape) == (rate, x.shape)


def test_a_minute_of_vorbis_in_one_call_does_not_crash(tmp_path):
    code = (
        "import numpy, sys; from zoo.audio import AudioWriter, open_audio\n"
        "with AudioWriter(sys.argv[1], 8000, 2) as w: w.write(numpy.zeros((2, 480000), 'f4'))\n"
        "print(sum(x.shape[1] for x in open_audio(sys.argv[1]).blocks(8000)))"
    )
    done = subprocess.run(
        [os.sys.executable, "-c", code, str(tmp_path / "a.ogg")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "480000"), done.stderr


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype", "said"),
    [
        ("a.ogg", 384000, 2, None, "1000 to 192000"),
        ("a.mp3", 96000, 2, None, "48000"),
        ("a.mp3", 44100, 6, None, "1 to 2"),
        ("a.opus", 44100, 2, None, "24000"),
        ("a.m4a", 192000, 2, None, "96000"),
        ("a.flac", 44100, 9, None, "1 to 8"),
        ("a.flac", 100_001, 2, None, "tens"),
        ("a.flac", 44100, 2, "FLOAT", "PCM_24"),
        ("a.wav", 44100, 2, "ALAW", "PCM_16"),
        ("a.wav", 44100, 0, None, "1 to"),
        ("a.xyz", 44100, 2, None, ".flac"),
        ("a", 44100, 2, None, ".flac"),
        ("no/a.wav", 44100, 2, None, "no folder"),
        ("dir.wav", 44100, 2, None, "folder"),
        ("n" * 300 + ".wav", 44100, 2, None, "too long"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_opened(
    tmp_path, name, rate, channels, subtype, said
):
    (tmp_path / "dir.wav").mkdir()
    for call in (check_output, AudioWriter):
        with pytest.raises(AudioFileError, match=said):
            call(tmp_path / name, rate, channels, subtype)
    assert [p.name for p in tmp_path.iterdir()] == ["dir.wav"]


def test_a_folder_that_may_not_be_written_says_so(tmp_path):
    tmp_path.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(AudioFileError, match=r"not writable|Permission denied"):
            AudioWriter(tmp_path / "a.wav", RATE, 2)
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o755)


def test_what_can_never_fit_is_said_at_once(tmp_path):
    hours = 10**7 * 3600 * RATE
    with pytest.raises(AudioFileError, match="MB are free"):
        check_output(tmp_path / "a.wav", RATE, 2, samples=hours)
    with pytest.raises(AudioFileError, match="aiff files hold at most"):
        check_output(tmp_path / "a.aiff", RATE, 2, samples=hours)
    check_output(tmp_path / "a.mp3", RATE, 2, samples=hours)
    assert not list(tmp_path.iterdir())


def test_aiff_that_grows_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "MAX_AIFF_BYTES", 10_000)
    with AudioWriter(tmp_path / "a.aiff", RATE, 2, "PCM_16") as writer:
        writer.write(sweep(2500))
        with pytest.raises(AudioFileError, match="write wav, flac or w64"):
            writer.write(sweep(1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_waves_beyond_the_limit_become_rf64(tmp_path, monkeypatch, subtype, channels):
    monkeypatch.setattr(encoders, "MAX_RIFF_BYTES", 10_000)
    x = sweep(10_001, channels)
    path = tmp_path / "a.wav"
    with AudioWriter(path, RATE, channels, subtype) as writer:
        for start in range(0, 10_001, 999):
            writer.write(x[:, start : start + 999])
    info = sf.info(path)
    assert (info.format, info.subtype, info.frames) == ("RF64", subtype, 10_001)
    y, reader = contents(path)
    np.testing.assert_array_equal(y, sf.read(path, dtype="float32", always_2d=True)[0].T)
    np.testing.assert_allclose(y, x, atol=2e-5)
    assert reader.notes == []
    assert sf.info(write(tmp_path / "b.wav", x[:, :800], subtype=subtype)).format == "WAV"


def test_the_header_of_a_wave_beyond_4_gib_has_the_right_count(tmp_path):
    samples = (1 << 30) + 12_345
    path = tmp_path / "a.wav"
    writer = AudioWriter(path, RATE, 2, "PCM_16")
    end = writer._file.seek(4 * (samples - 2), os.SEEK_CUR)  # a hole instead of hours of writing
    writer._encoder._samples = samples - 2
    writer.write(np.full((2, 2), 0.5, np.float32))
    writer.close()
    assert path.stat().st_size == end + 8
    assert sf.info(path).frames == samples
    with open_audio(path) as reader:
        assert reader.samples == samples and reader.notes == []
    np.testing.assert_array_equal(read(path, samples - 3)[0][0], [0, 0.5, 0.5])


@pytest.mark.parametrize("extension", [".wav", ".flac", ".ogg", ".mp3", ".m4a"])
def test_nothing_appears_before_the_end_and_nothing_stays_after_an_error(tmp_path, extension):
    path = tmp_path / f"a{extension}"
    path.write_text("what stood here before")
    with pytest.raises(KeyboardInterrupt), AudioWriter(path, RATE, 2) as writer:
        writer.write(sweep(60_000))
        assert path.read_text() == "what stood here before"
        assert all(p.name.startswith(".") for p in tmp_path.iterdir() if p != path)
        raise KeyboardInterrupt
    assert path.read_text() == "what stood here before"
    assert list(tmp_path.iterdir()) == [path]
    write(path, sweep(100))
    assert list(tmp_path.iterdir()) == [path] and read(path)[0].shape == (2, 100)


@pytest.mark.parametrize("extension", [".wav", ".flac", ".mp3"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_not_written(tmp_path, extension, value):
    x = sweep(2 * RATE)
    x[1, RATE + 441] = value
    with (
        pytest.raises(AudioFileError, match=r"NaN or infinite at 1\.010 s"),
        AudioWriter(tmp_path / f"a{extension}", RATE, 2) as writer,
    ):
        writer.write(x)
    assert not list(tmp_path.iterdir())


def test_signals_of_another_shape_or_type_are_refused(tmp_path):
    with AudioWriter(tmp_path / "a.wav", RATE, 2) as writer:
        for x in (np.zeros((10, 2)), np.zeros(10), np.zeros((2, 10), np.int16)):
            with pytest.raises(ShapeError, match="expected floats"):
                writer.write(x)
        writer.write(np.zeros((2, 3)))
        writer.write(np.zeros((2, 0), np.float32))
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(np.zeros((2, 1), np.float32))
    assert read(writer.path)[0].shape == (2, 3)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no program `mount` here")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("extension", [".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aiff"])
def test_a_disk_that_fills_up_before_the_file_is_closed(small_disk, extension):
    path = small_disk / f"a{extension}"
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 15_000)).astype(np.float32)
    writer = AudioWriter(path, 48000, 1, "PCM_16" if extension in (".wav", ".aiff") else None)
    writer.write(noise)
    (small_disk / "filler").touch()
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(512)):
            pass
    try:
        writer.close()
    except AudioFileError as error:
        assert "full" in str(error) or "No space" in str(error)
        assert [p.name for p in small_disk.iterdir()] == ["filler"]
    else:
        assert read(path)[0].shape == noise.shape


@pytest.mark.parametrize("extension", [".wav", ".flac", ".ogg", ".mp3", ".m4a", ".aiff"])
def test_a_full_disk_leaves_a_whole_file_or_none(small_disk, extension):
    """Also where it fills up at the very end: lengths go in small steps across its size."""
    path = small_disk / f"a{extension}"
    subtype = "PCM_16" if extension in (".wav", ".flac", ".aiff") else None
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 400_000)).astype(np.float32)
    whole, failed = 0, 0
    centre = 31_500 if subtype else 185_000 if extension == ".m4a" else 110_000
    for samples in [10_000, *range(centre - 4000, centre + 4000, 711), 400_000]:
        try:
            with AudioWriter(path, RATE, 2, subtype) as writer:
                for start in range(0, samples, 5000):
                    writer.write(noise[:, start : min(samples, start + 5000)])
        except AudioFileError as error:
            assert "full" in str(error) or "No space" in str(error)
            assert not list(small_disk.iterdir())
            failed += 1
        else:
            assert read(path)[0].shape[1] == samples
            path.unlink()
            whole += 1
    assert whole and failed


def test_memory_does_not_grow_with_the_length(tmp_path):
    def peak(seconds):
        x = np.zeros((2, 8000), np.float32)
        tracemalloc.start()
        with AudioWriter(tmp_path / "a.flac", 8000, 2) as writer:
            for _ in range(seconds):
                writer.write(x)
        resampler = Resampler(8000, 16000, 2)
        with open_audio(tmp_path / "a.flac") as reader:
            for block in reader.blocks(8000):
                resampler.push(block)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(2)
    assert peak(200) < peak(20) + 100_000


# --------------------------------------------------------------------------- rates

PAIRS = [(44100, 16000), (16000, 44100), (44100, 48000), (192000, 8000), (44100, 44101)]


@pytest.mark.parametrize(("rate", "new_rate"), PAIRS)
@pytest.mark.parametrize("samples", [1, 2, 5, 100, 1001, 50_001])
def test_lengths_are_rounded_up_also_of_one_sample(rate, new_rate, samples):
    y = resample(np.ones((2, samples), np.float32), rate, new_rate)
    assert y.shape == (2, -(-samples * new_rate // rate)) and y.dtype == np.float32
    assert np.isfinite(y).all() and np.abs(y).max() > 0


@pytest.mark.parametrize(("rate", "new_rate"), PAIRS)
@pytest.mark.parametrize("block", [1, 997, 44100])
def test_piece_by_piece_equals_at_once(rate, new_rate, block):
    x = np.random.default_rng(0).standard_normal((3, 1500 if block == 1 else 60_000))
    x = x.astype(np.float32)
    resampler = Resampler(rate, new_rate, 3)
    pieces = [resampler.push(x[:, i : i + block]) for i in range(0, x.shape[1], block)]
    pieces.append(resampler.finish())
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), resample(x, rate, new_rate))


@pytest.mark.parametrize(("rate", "new_rate"), PAIRS)
def test_a_tone_is_the_same_tone_without_delay(rate, new_rate):
    frequency = 0.35 * min(rate, new_rate)
    t = np.arange(rate) / rate
    x = np.sin(2 * np.pi * frequency * t, dtype=np.float64).astype(np.float32)[None]
    y = resample(x, rate, new_rate)
    expected = np.sin(2 * np.pi * frequency * np.arange(y.shape[1]) / new_rate)[None]
    inside = slice(new_rate // 10, -new_rate // 10)
    assert (
        error_db(y[:, inside], expected[:, inside]) < -70
    )  # a delay of 0.0002 samples would be too much


def test_noise_does_not_move_by_a_sample():
    x = np.random.default_rng(0).standard_normal((1, 20_000)).astype(np.float32)
    there = resample(x, 44100, 16000)
    back = resample(there, 16000, 44100)[0, :20_000]
    lags = np.correlate(back, x[0, 100:-100], "valid")
    assert int(np.argmax(lags)) == 100


def test_what_lies_above_the_new_band_is_gone():
    tone = np.sin(2 * np.pi * 10_000 * np.arange(RATE) / RATE).astype(np.float32)[None]
    y = resample(tone, RATE, 16000)
    assert np.abs(y[:, 1600:-1600]).max() < 1e-4


def test_leading_axes_are_kept_and_equal_rates_change_nothing():
    x = np.random.default_rng(0).standard_normal((2, 3, 500)).astype(np.float32)
    y = resample(x, 44100, 22050)
    np.testing.assert_array_equal(y[1, 2], resample(x[1, 2], 44100, 22050))
    assert y.shape == (2, 3, 250)
    same = resample(x, 44100, 44100)
    np.testing.assert_array_equal(same, x)
    assert same is not x and not np.shares_memory(same, x)


def test_resampling_refuses_what_makes_no_sense():
    with pytest.raises(SampleRateError, match="positive"):
        resample(np.zeros((1, 3)), 44100, 0)
    resampler = Resampler(44100, 16000, 2)
    with pytest.raises(ShapeError, match="expected"):
        resampler.push(np.zeros((3, 5), np.float32))
    assert resampler.finish().shape == (2, 0)
    with pytest.raises(ValueError, match="new Resampler"):
        resampler.push(np.zeros((2, 5), np.float32))
