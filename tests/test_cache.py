"""Compressed stems decoded once into a folder."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from test_seeking import encode, music

from zoo.audio import encoders, open_audio, read
from zoo.data import cache as caching
from zoo.data import open_dataset
from zoo.data.cache import decoded
from zoo.data.track import FileTrack, Part
from zoo.errors import DatasetError

RATE = 44100


def save(path, seconds=1, seed=0, level=1.0, **options):
    x = level * music(seconds, seed)
    with soundfile.SoundFile(path, "w", RATE, 2, **options) as file:
        for start in range(0, x.shape[1], 8192):
            file.write(x.T[start : start + 8192])
    return path


def track(stems, samples=RATE, name="song", **options):
    stems = {s: parts if isinstance(parts, tuple) else (parts,) for s, parts in stems.items()}
    return FileTrack(
        name=name,
        rate=RATE,
        channels=2,
        samples=samples,
        sources=tuple(stems),
        stems=stems,
        **options,
    )


def two_stems(folder, name="song"):
    """A song of one compressed and one uncompressed stem."""
    folder.mkdir(exist_ok=True)
    vocals = save(folder / "vocals.ogg", seed=1, subtype="VORBIS")
    drums = save(folder / "drums.wav", seed=2, subtype="PCM_16")
    return track({"vocals": Part(vocals), "drums": Part(drums)}, name=name)


def waves(folder):
    return sorted(folder.glob("*.wav"))


@pytest.fixture
def made(monkeypatch):
    """The files that were decoded, in turn."""
    names = []
    real = caching._Cache._decode

    def noting(self, stem, song):
        names.append(stem.path.name)
        real(self, stem, song)

    monkeypatch.setattr(caching._Cache, "_decode", noting)
    return names


# ---- what is read from it


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.flac", {"subtype": "PCM_16"}),
        ("a.mp3", {"format": "MP3"}),
        ("a.ogg", {"subtype": "VORBIS"}),
    ],
)
def test_a_cached_stem_differs_by_its_rounding_at_most(tmp_path, name, options):
    original = track({"vocals": Part(save(tmp_path / name, **options))})
    (cached,) = decoded([original], tmp_path / "cache")
    assert cached.stems["vocals"][0].path.parent == tmp_path / "cache"
    with open_audio(cached.stems["vocals"][0].path) as reader:
        assert (reader.bits, reader.is_compressed, reader.rate) == (16, False, RATE)
    expected = original.read("vocals")
    assert np.abs(cached.read("vocals") - expected).max() <= 0.5001 / 32768
    np.testing.assert_array_equal(cached.read("vocals", 700, 50), cached.read("vocals")[:, 700:750])
    if name.endswith("flac"):
        np.testing.assert_array_equal(cached.read("vocals"), expected)


def test_a_stem_that_is_rounded_anyway_is_exact(tmp_path):
    path = encode(tmp_path / "a.stem.mp4", [3 * music(1, seed) for seed in range(2)])
    original = track({"vocals": Part(path, stream=1, bits=16), "drums": Part(path, bits=16)})
    assert np.abs(read(path)[0]).max() > 1  # so that it is cut
    (cached,) = decoded([original], tmp_path / "cache")
    for source in ("vocals", "drums"):
        np.testing.assert_array_equal(cached.read(source), original.read(source))
    assert len(waves(tmp_path / "cache")) == 2


def test_what_goes_beyond_full_scale_is_not_cut(tmp_path):
    path = encode(tmp_path / "a.m4a", [3 * music(1)])
    original = track({"vocals": Part(path)})
    peak = np.abs(original.read("vocals")).max()
    assert peak > 1.05
    (cached,) = decoded([original], tmp_path / "cache")
    assert np.abs(cached.read("vocals") - original.read("vocals")).max() <= 0.51 * peak / 32768


def test_musdb_from_the_cache_is_musdb(shared, tmp_path):
    dataset = open_dataset("musdb18", shared / "audio" / "musdb-sample", valid="none")
    originals = dataset.tracks("train") + dataset.tracks("test")
    for original, cached in zip(originals, decoded(originals, tmp_path), strict=True):
        for source in original.sources:
            assert cached.stems[source][0].path.parent == tmp_path
            np.testing.assert_array_equal(cached.read(source), original.read(source))
        np.testing.assert_array_equal(cached.read("mixture"), original.read("mixture"))
        assert cached.mixture == original.mixture  # training does not read it


def test_a_stem_beyond_full_scale_of_musdb_keeps_its_peaks(shared, tmp_path):
    path = shared / "audio/musdb-sample/test/The Easton Ellises - Falcon 69.stem.mp4"
    original = track({"vocals": Part(path, stream=0)}, samples=268_288)
    (cached,) = decoded([original], tmp_path)
    expected = original.read("vocals")
    assert 1.02 < np.abs(expected).max() < 1.03
    assert np.abs(cached.read("vocals") - expected).max() < 0.53 / 32768


def test_parts_keep_their_channels_and_gain(tmp_path):
    flac = save(tmp_path / "a.flac", subtype="PCM_16")
    parts = (Part(flac, channels=(1, 0), gain=-1.0), Part(flac))
    original = track({"vocals": parts})
    (cached,) = decoded([original], tmp_path / "cache")
    np.testing.assert_array_equal(cached.read("vocals"), original.read("vocals"))
    assert len(waves(tmp_path / "cache")) == 1


def test_the_mixture_is_cached_where_training_reads_it(tmp_path):
    flac = Part(save(tmp_path / "a.flac", subtype="PCM_16"))
    mixture = Part(save(tmp_path / "mixture.flac", seed=1, subtype="PCM_16"))
    known = track({"vocals": flac}, mixture=mixture)
    unknown = replace(known, unknown=frozenset({"vocals"}))
    cached = decoded([known, unknown], tmp_path / "cache")
    assert cached[1].mixture.path.parent == tmp_path / "cache"
    np.testing.assert_array_equal(cached[1].read("mixture"), unknown.read("mixture"))


def test_uncompressed_stems_and_generated_songs_stay_as_they_are(tmp_path):
    songs = open_dataset("generated", n_train=1, seconds=1.0).tracks("train")
    wave = track({"drums": Part(save(tmp_path / "a.wav", subtype="PCM_24"))})
    assert decoded([*songs, wave], tmp_path / "cache") == [*songs, wave]
    assert not (tmp_path / "cache").exists()


# ---- when it is made


def test_a_stem_is_decoded_once(tmp_path, made):
    original, calls = two_stems(tmp_path / "song"), []
    first = decoded([original], tmp_path / "cache", lambda *done: calls.append(done))
    second = decoded([original], tmp_path / "cache", lambda *done: calls.append(done))
    assert first == second and made == ["vocals.ogg"] and calls == [(1, 1)]


def test_a_stem_of_any_name_is_cached(tmp_path, made):
    path = encode(tmp_path / "a.m4a", [music(1)])
    path = path.rename(tmp_path / os.fsdecode(b"caf\xe9.m4a"))
    for _ in range(2):
        (cached,) = decoded([track({"vocals": Part(path)})], tmp_path / "cache")
    assert cached.stems["vocals"][0].path.parent == tmp_path / "cache"
    assert len(made) == 1


def test_a_changed_stem_is_decoded_again(tmp_path, made):
    original = two_stems(tmp_path / "song")
    decoded([original], tmp_path / "cache")
    path = save(tmp_path / "song" / "vocals.ogg", seed=9, subtype="VORBIS")
    os.utime(path, ns=(1, 1))
    (cached,) = decoded([original], tmp_path / "cache")
    assert made == ["vocals.ogg"] * 2 and len(waves(tmp_path / "cache")) == 1
    assert np.abs(cached.read("vocals") - original.read("vocals")).max() < 1e-4


@pytest.mark.parametrize("harm", ["cut", "gone", "card"])
def test_a_harmed_entry_is_made_anew(tmp_path, made, harm):
    original = two_stems(tmp_path / "song")
    (cached,) = decoded([original], tmp_path / "cache")
    expected = cached.read("vocals")
    (wave,) = waves(tmp_path / "cache")
    if harm == "cut":
        os.truncate(wave, 1000)
    elif harm == "gone":
        wave.unlink()
    else:
        wave.with_suffix(".json").write_text('{"of": ')
    (cached,) = decoded([original], tmp_path / "cache")
    assert len(made) == 2
    np.testing.assert_array_equal(cached.read("vocals"), expected)


def test_the_card_says_what_an_entry_was_made_of(tmp_path):
    original = two_stems(tmp_path / "song")
    decoded([original], tmp_path / "cache")
    (wave,) = waves(tmp_path / "cache")
    card = json.loads(wave.with_suffix(".json").read_text())
    assert card["of"]["file"] == str(tmp_path / "song" / "vocals.ogg")
    assert card["scale"] == 1 and wave.name.startswith("vocals-")


def test_a_run_that_was_killed_is_resumed(tmp_path):
    songs = [two_stems(tmp_path / str(i), f"song {i}") for i in range(4)]
    code = f"""
    import os, signal, sys
    sys.path[:0] = {sys.path!r}
    from pathlib import Path
    from test_cache import two_stems
    from zoo.audio import encoders
    from zoo.data.cache import decoded
    songs = [two_stems(Path({str(tmp_path)!r}) / str(i), f"song {{i}}") for i in range(4)]
    for i in range(4):
        os.utime(songs[i].stems["vocals"][0].path, ns=(1, 1))
    real, count = encoders.WaveEncoder.write, 0
    def write(self, x):
        global count
        real(self, x)
        count += 1
        if count == 3:
            self._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    encoders.WaveEncoder.write = write
    decoded(songs, {str(tmp_path / "cache")!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(waves(tmp_path / "cache")) == 2 and list((tmp_path / "cache").glob(".*.partial"))
    calls = []
    cached = decoded(songs, tmp_path / "cache", lambda *done: calls.append(done))
    assert calls == [(1, 2), (2, 2)]
    assert not list((tmp_path / "cache").glob(".*.partial"))
    for one, other in zip(songs, cached, strict=True):
        assert np.abs(one.read("vocals") - other.read("vocals")).max() < 1e-4


def test_a_second_run_waits_for_the_first_and_decodes_nothing_again(tmp_path):
    two_stems(tmp_path / "song")
    code = f"""
    import logging, sys
    sys.path[:0] = {sys.path!r}
    from pathlib import Path
    from test_cache import Part, track
    from zoo.data import cache
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    song = Path({str(tmp_path)!r}) / "song"
    original = track({{"vocals": Part(song / "vocals.ogg"), "drums": Part(song / "drums.wav")}})
    real = cache._Cache._decode
    def decode(self, stem, song):
        print("decodes", flush=True)
        if sys.argv[1] == "first":
            sys.stdin.readline()
        real(self, stem, song)
    cache._Cache._decode = decode
    (cached,) = cache.decoded([original], {str(tmp_path / "cache")!r})
    assert cached.stems["vocals"][0].path.parent.name == "cache"
    """
    start = [sys.executable, "-u", "-c", textwrap.dedent(code)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*start, "first"], **pipes) as first:
        assert "files are decoded" in first.stdout.readline()
        assert first.stdout.readline() == "decodes\n"  # and holds the lock until told to go on
        with subprocess.Popen([*start, "second"], **pipes) as second:
            assert "another run is filling it; waiting" in second.stdout.readline()
            first.communicate("go on\n")
            assert second.communicate()[0] == ""
    assert first.returncode == second.returncode == 0


# ---- what can go wrong


def test_on_a_full_disk_the_rest_stays_compressed_with_one_line(tmp_path, monkeypatch, caplog):
    songs = [two_stems(tmp_path / str(i), f"song {i}") for i in range(3)]
    real, room = encoders.WaveEncoder.write, [300_000]

    def write(self, x):
        room[0] -= 2 * x.size
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, x)

    monkeypatch.setattr(encoders.WaveEncoder, "write", write)
    calls = []
    with caplog.at_level(logging.WARNING):
        cached = decoded(songs, tmp_path / "cache", lambda *done: calls.append(done))
    assert calls == [(1, 3), (1, 1)]  # so that a bar ends
    (record,) = caplog.records
    assert "No space left" in record.message and "2 of 3 files stay compressed" in record.message
    assert "\n" not in record.message
    assert len(waves(tmp_path / "cache")) == 1 and not list((tmp_path / "cache").glob(".*.partial"))
    assert cached[0].stems["vocals"][0].path.parent == tmp_path / "cache"
    assert cached[1:] == songs[1:]
    for one, other in zip(songs, cached, strict=True):
        assert np.abs(one.read("vocals") - other.read("vocals")).max() < 1e-4


def test_the_line_of_a_full_disk_is_of_sentences_whatever_fails(tmp_path, monkeypatch, caplog):
    def write_whole(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(caching, "write_whole", write_whole)
    with caplog.at_level(logging.WARNING):
        decoded([two_stems(tmp_path / "song")], tmp_path / "cache")
    assert "No space left on device. 1 of 1 files stay compressed" in caplog.text


def test_a_disk_that_really_is_full(tmp_path, caplog):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        songs = [two_stems(tmp_path / str(i), f"song {i}") for i in range(2)]
        with caplog.at_level(logging.WARNING):
            cached = decoded(songs, disk / "cache")
        assert [track.stems["vocals"][0].path.parent == disk / "cache" for track in cached] == [
            True,
            False,
        ]
        warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert len(warnings) == 1 and "1 of 2 files stay compressed" in warnings[0]
        assert not list((disk / "cache").glob(".*.partial"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_damaged_stem_is_named(tmp_path):
    flac = save(tmp_path / "a.flac", 2, subtype="PCM_16")
    content = flac.read_bytes()
    flac.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=r"song: .*a\.flac is damaged at"):
        decoded([track({"vocals": Part(flac)}, samples=2 * RATE)], tmp_path / "cache")
    assert not waves(tmp_path / "cache")


def test_a_stem_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"song: .*none\.flac cannot be opened"):
        decoded([track({"vocals": Part(tmp_path / "none.flac")})], tmp_path / "cache")


def test_a_place_that_cannot_hold_a_cache_is_said_at_once(tmp_path):
    original = two_stems(tmp_path / "song")
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(DatasetError, match="cannot hold a cache .*; name a folder"):
            decoded([original], place)


def test_a_whole_cache_needs_no_writing(tmp_path, monkeypatch):
    original = two_stems(tmp_path / "song")
    expected = decoded([original], tmp_path / "cache")
    monkeypatch.setattr(caching._Cache, "_locked", None)
    assert decoded([original], tmp_path / "cache") == expected
