"""Training examples from compressed files: the same for any number of workers, cached or not."""

import gc

import pytest
import torch
from test_cache import save
from test_seeking import encode, music
from trainable_toy import Toy

from zoo.audio import keeping
from zoo.cli import progress
from zoo.data.module import SeparationData

SONGS = 3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Songs of one kind of file each: one that jumps, one that is decoded forward, one of FLAC."""
    root = tmp_path_factory.mktemp("songs")
    for i in range(SONGS):
        (root / str(i)).mkdir()
        for j, source in enumerate(("vocals", "drums")):
            seed = 2 * i + j
            if i == 0:
                encode(root / "0" / f"{source}.m4a", [music(3, seed)])
            elif i == 1:
                save(root / "1" / f"{source}.ogg", 3, seed, subtype="VORBIS")
            else:
                save(root / "2" / f"{source}.flac", 3, seed, subtype="PCM_16")
    return root


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(keeping, "_kept", keeping._Kept())


def data(root, n_workers=0, cache=None):
    model = Toy(sources=["vocals", "drums"], sample_rate=44100, channels=2)
    module = SeparationData(
        "folder", str(root), batch_size=4, examples_per_epoch=16, n_workers=n_workers, seed=3,
        cache=None if cache is None else str(cache),
    )  # fmt: skip
    return module.obey(model)


def examples(module):
    loader = module.train_dataloader()
    found = torch.cat([batch["references"] for batch in loader])
    del loader
    gc.collect()  # ends its workers
    assert len(found) == 16
    return found


@pytest.mark.parametrize("cached", [False, True], ids=["compressed", "cached"])
def test_examples_are_the_same_for_any_number_of_workers(root, tmp_path, cached):
    cache = tmp_path / "cache" if cached else None
    expected = examples(data(root, cache=cache))
    assert expected.abs().max() > 0.01
    for n_workers in (1, 2):
        # Workers are forked from a process whose files are open, and must not share them.
        assert keeping._kept._readers or cached
        assert torch.equal(examples(data(root, n_workers, cache)), expected)


def test_nothing_is_open_before_the_first_example(root):
    loader = data(root, 1).train_dataloader()
    assert not keeping._kept._readers
    next(iter(loader))
    assert not keeping._kept._readers  # its worker's are its own


def test_cached_examples_differ_by_their_rounding_at_most(root, tmp_path):
    module = data(root, cache=tmp_path / "cache")
    done = []
    module.progress = lambda *counts: done.append(counts)
    cached = examples(module)
    assert done == [(n, 2 * SONGS) for n in range(1, 2 * SONGS + 1)]
    difference = (cached - examples(data(root))).abs().max()
    assert 0 < difference <= 1.25 * 0.501 / 32768  # 1.25: the highest gain
    assert len(list((tmp_path / "cache").glob("*.wav"))) == 2 * SONGS


def test_validation_and_test_do_not_read_the_cache(root, tmp_path):
    module = SeparationData(
        "folder", str(root), {"valid": ["0"], "test": ["1"]}, cache=str(tmp_path / "cache"),
        batch_size=1, examples_per_epoch=1,
    ).obey(Toy(sources=["vocals", "drums"], sample_rate=44100, channels=2))  # fmt: skip
    for loader, name in ((module.val_dataloader(), "0"), (module.test_dataloader(), "1")):
        (item,) = loader
        assert item["name"] == name
    assert not (tmp_path / "cache").exists()


def test_a_folder_of_m4a_is_opened_without_decoding_it(root, monkeypatch):
    """Its containers tell the length, so that a large set need not be decoded to be opened."""
    from zoo.audio.ffmpeg import StreamSource

    monkeypatch.setattr(StreamSource, "_next", None)
    with keeping.open_audio(root / "0" / "vocals.m4a") as reader:
        assert reader.samples == 3 * 44100


def test_how_far_the_cache_is_stands_on_standard_error(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_S", 0)
    count = progress.counting("files")
    count(1, 2)
    count(2, 2)
    assert capsys.readouterr() == ("", "  1 of 2 files\n  2 of 2 files\n")
    progress.counting_lines("songs")(3, None)
    assert capsys.readouterr().err == "  3 songs\n"
