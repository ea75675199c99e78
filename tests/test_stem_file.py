"""Stem files: five streams, their box, and back again."""

import json
import struct

import numpy as np
import pytest
import torch
from mutagen.mp4 import MP4

import zoo
from zoo import Separator
from zoo.applications.stem_file import (
    STEMS,
    SUFFIX,
    StemWriter,
    _boxes,
    add_stem_box,
    separate_to_stem_files,
)
from zoo.audio import AudioWriter
from zoo.cli import main
from zoo.data import open_dataset
from zoo.errors import AudioFileError, ZooError

RATE = 44100


class Quarters(Separator):
    """Gives each of four sources a share of the mixture."""

    def __init__(self, sources=("vocals", "drums", "bass", "other")):
        super().__init__(sources, None, None)

    @property
    def context(self):
        return 0

    def forward(self, mixture, state=None):
        shares = torch.tensor([0.4, 0.3, 0.2, 0.1])
        return shares[: len(self.sources), None, None] * mixture[:, None]


def song(path, channels=2, seconds=3.0, rate=RATE):
    time = np.arange(round(seconds * rate)) / rate
    x = 0.3 * np.stack([np.sin(2 * np.pi * f * time) for f in (220, 330)[:channels]])
    with AudioWriter(path, rate, channels) as writer:
        writer.write(x.astype(np.float32))
    return x


def tracks(root):
    """What MUSDB18's reader makes of a root with a test."""
    (root / "train").mkdir()
    return open_dataset("musdb18", root).tracks("test")


def made(path, output, **options):
    (result,) = separate_to_stem_files([path], Quarters(), output, **options)
    if result.error:
        raise result.error
    return result.files[0]


def test_the_file_is_a_track_of_musdb18(tmp_path):
    x = song(tmp_path / "An Artist - A Song.flac")
    path = made(tmp_path / "An Artist - A Song.flac", tmp_path / "root" / "test")
    assert path.name == "An Artist - A Song.stem.mp4"
    (track,) = tracks(tmp_path / "root")
    assert track.rate == RATE and track.channels == 2
    for source, share in (("vocals", 0.4), ("drums", 0.3), ("bass", 0.2), ("other", 0.1)):
        found = track.read(source)[:, RATE : 2 * RATE]
        true = share * x[:, RATE : 2 * RATE]
        assert np.square(found - true).sum() < 0.01 * np.square(true).sum()
    mixture = track.read("mixture")[:, RATE : 2 * RATE]
    assert np.square(mixture - x[:, RATE : 2 * RATE]).sum() < 0.01 * np.square(x[:, :RATE]).sum()
    assert abs(track.samples - x.shape[1]) < 2048


def stem_box(path):
    """The content of the box, found by walking down to it."""
    content, names = path.read_bytes(), [b"moov", b"udta", b"stem"]
    for name in names:
        position = 0
        while True:
            size, kind = struct.unpack(">I4s", content[position : position + 8])
            if kind == name:
                content = content[position + 8 : position + size]
                break
            position += size
    return json.loads(content)


def test_the_box_names_the_stems_in_order(tmp_path):
    song(tmp_path / "a.wav")
    told = stem_box(made(tmp_path / "a.wav", tmp_path / "o"))
    assert [stem["name"].lower() for stem in told["stems"]] == list(STEMS)
    assert told["version"] == 1 and not told["mastering_dsp"]["limiter"]["enabled"]


def test_tags_travel_into_it(tmp_path):
    from mutagen.flac import FLAC

    song(tmp_path / "a.flac")
    file = FLAC(tmp_path / "a.flac")
    file["title"] = "A Title"
    file.save()
    path = made(tmp_path / "a.flac", tmp_path / "o")
    assert MP4(path).tags["\xa9nam"] == ["A Title"]
    assert stem_box(path)["stems"]


def test_mono_songs_become_stereo(tmp_path):
    song(tmp_path / "a.wav", channels=1)
    made(tmp_path / "a.wav", tmp_path / "root" / "test")
    (track,) = tracks(tmp_path / "root")
    left, right = track.read("drums")
    np.testing.assert_allclose(left, right, atol=1e-3)


def test_a_file_without_an_index_at_its_end_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(struct.pack(">I4s", 8, b"free"))
    with pytest.raises(AudioFileError, match="no stem box was added"):
        add_stem_box(tmp_path / "a.mp4")


def test_boxes_of_64_bit_sizes_are_read(tmp_path):
    big = struct.pack(">I4sQ", 1, b"mdat", 20) + b"1234"
    (tmp_path / "a.mp4").write_bytes(big + struct.pack(">I4s", 0, b"moov"))
    assert list(_boxes(tmp_path / "a.mp4")) == [("mdat", 0, 20), ("moov", 20, 8)]


def test_the_writer_counts_its_samples(tmp_path):
    writer = StemWriter(tmp_path / "a.stem.mp4", RATE)
    for n in (100, 50000, 1):
        writer.write(np.zeros((5, 2, n), np.float32))
    writer.close()
    add_stem_box(tmp_path / "a.stem.mp4")
    assert stem_box(tmp_path / "a.stem.mp4")["version"] == 1


def test_other_sources_are_refused(tmp_path):
    song(tmp_path / "a.wav")
    with pytest.raises(ZooError, match="a stem file holds drums, bass, other, vocals"):
        list(separate_to_stem_files([tmp_path / "a.wav"], Quarters(("vocals", "x")), tmp_path))


@pytest.mark.parametrize(
    ("channels", "rate", "said"), [(6, RATE, "6 channels"), (2, 37000, "37000 Hz")]
)
def test_what_aac_cannot_hold_is_said_and_others_go_on(tmp_path, channels, rate, said):
    with AudioWriter(tmp_path / "a.wav", rate, channels) as writer:
        writer.write(np.zeros((channels, 1000), np.float32))
    song(tmp_path / "b.wav")
    first, second = separate_to_stem_files([tmp_path], Quarters(), tmp_path / "o")
    assert said in str(first.error) and second.error is None
    assert [p.name for p in (tmp_path / "o").iterdir()] == [f"b{SUFFIX}"]


def test_what_is_there_is_not_replaced(tmp_path):
    song(tmp_path / "a.wav")
    path = made(tmp_path / "a.wav", tmp_path / "o")
    with pytest.raises(AudioFileError, match="is there already"):
        made(tmp_path / "a.wav", tmp_path / "o")
    assert made(tmp_path / "a.wav", tmp_path / "o", overwrite=True) == path


def test_the_command_writes_one_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    song(tmp_path / "a.wav")
    monkeypatch.setattr("zoo.cli.separate.loaded", lambda *x: Quarters())
    assert main(["separate", "a.wav", "-f", "stem.mp4", "-o", "o", "--progress", "none"]) == 0
    assert "a.stem.mp4" in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["a.stem.mp4"]
    words = ["separate", "a.wav", "-f", "stem.mp4", "-o", "p", "--picture", "--progress", "none"]
    assert main(words) == 2
    assert "--picture does not go with" in capsys.readouterr().err
    assert zoo.__version__
