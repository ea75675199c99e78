"""Files that stay open between stretches."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from zoo.audio import keeping, read, read_again
from zoo.errors import AudioFileError

RATE = 8000


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(keeping, "_kept", keeping._Kept())


@pytest.fixture
def opened(monkeypatch):
    """The files that were opened, in turn."""
    paths = []
    real = keeping.open_audio

    def counting(path, stream=None):
        paths.append(path)
        return real(path, stream)

    monkeypatch.setattr(keeping, "open_audio", counting)
    return paths


def song(path, seconds=3, seed=0, **options):
    x = 0.1 * np.random.default_rng(seed).standard_normal((seconds * RATE, 2))
    soundfile.write(path, x, RATE, **options)
    return path


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_stretches_are_those_of_a_file_opened_afresh(tmp_path, name):
    path = song(tmp_path / name)
    for start, samples in ((9000, 500), (10_000, 500), (50, 20), (0, None), (23_900, 500)):
        x, rate = read_again(path, start, samples)
        assert rate == RATE
        np.testing.assert_array_equal(x, read(path, start, samples)[0])


def test_compressed_files_are_opened_once_and_others_each_time(tmp_path, opened):
    flac, wave = song(tmp_path / "a.flac"), song(tmp_path / "a.wav")
    for _ in range(3):
        read_again(flac, 100, 50)
        read_again(wave, 100, 50)
    assert opened.count(flac) == 1 and opened.count(wave) == 3


def test_a_file_that_was_replaced_is_opened_again(tmp_path, opened):
    path = song(tmp_path / "a.flac")
    first, _ = read_again(path, 100, 50)
    song(path, seed=1)
    os.utime(path, ns=(1, 1))  # however coarse the clock of the disk
    second, _ = read_again(path, 100, 50)
    assert len(opened) == 2 and not np.array_equal(first, second)


def test_no_more_files_stay_open_than_the_process_may_open(tmp_path, opened, monkeypatch):
    soft = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 64
    monkeypatch.setattr(resource, "getrlimit", lambda _: (16, 16))
    paths = [song(tmp_path / f"{i}.flac", 1) for i in range(12)]
    for path in paths:
        read_again(path, 0, 10)
    assert len(keeping._kept._readers) == 4
    if os.path.isdir("/proc/self/fd"):
        assert len(os.listdir("/proc/self/fd")) - soft <= 4
    read_again(paths[-1], 0, 10)
    read_again(paths[0], 0, 10)
    assert opened == [*paths, paths[0]]  # the last ones used are the ones that stay


def test_a_forked_process_opens_its_own_files(tmp_path):
    song(tmp_path / "a.ogg", 20)
    code = f"""
import os
import numpy as np
from zoo.audio import keeping, read, read_again
path = {str(tmp_path / "a.ogg")!r}
read_again(path, 1000, 10)
child = os.fork()
for start in range(2000, 100_000, 7000):
    good = np.array_equal(read_again(path, start, 500)[0], read(path, start, 500)[0])
    if not good:
        break
if child == 0:
    os._exit(0 if good else 1)
assert good and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_wrong_with_a_file_is_told_as_ever(tmp_path):
    with pytest.raises(AudioFileError, match="cannot be opened"):
        read_again(tmp_path / "none.flac")
    (tmp_path / "a.flac").write_bytes(b"fLaC, or so it says")
    with pytest.raises(AudioFileError):
        read_again(tmp_path / "a.flac")
