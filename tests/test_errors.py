"""The tree of errors, and the word that was probably meant."""

import inspect

import pytest

import zoo
from zoo import errors
from zoo.errors import MissingPackage, RecipeError, ZooError, near
from zoo.models import TABLE


def test_each_kind_is_a_builtin_error_as_well():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    kinds = [kind for kind in kinds if issubclass(kind, Exception) and kind is not ZooError]
    assert len(kinds) > 10
    for kind in kinds:
        others = [b for b in kind.__mro__ if not issubclass(b, ZooError)]
        assert others[0] is not Exception, kind


@pytest.mark.parametrize(
    ("word", "meant"), [("vocal", "vocals"), ("VOCALS", "vocals"), ("bas", "Bass"), ("xyz", None)]
)
def test_the_nearest_word_is_offered_as_it_is_written(word, meant):
    assert near(word, ["vocals", "Bass"]) == (f" Did you mean {meant!r}?" if meant else "")


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("wavenet", {"n_stacks": 0}, "n_stacks is 0; it must be at least 1"),
        ("wavenet", {"dissimilarity": -0.1}, "at least 0"),
        ("wavenet", {"sources": ["vocals"]}, "number_of_sources is 1; it must be at least 2"),
        ("wave-u-net", {"n_levels": 0}, "n_levels is 0"),
        ("umx", {"segment_s": 0}, "segment_s is 0"),
        ("umx", {"sample_rate": 0}, "sample_rate is 0"),
        ("umx", {"channels": 0}, "channels is 0"),
        ("umx", {"sources": ["a", "b", "a"]}, "a name stands there twice"),
        ("umx", {"wiener_iterations": -1}, "wiener_iterations is -1"),
        ("fnn", {"n_components": 10**6}, "features have no more"),
        ("blstm", {"n_cells": 0}, "n_cells is 0"),
        ("blstm", {"dropout": 1.5}, "dropout is 1.5; it must lie between 0 and 1"),
        ("nug", {"n_em": -1}, "n_em is -1"),
        ("nug", {"dropout": -1}, "dropout is -1"),
        ("deepnmf", {"n_bases": 0}, "n_bases is 0"),
        ("deepconvsep", {"patch_frames": 1, "step_frames": 1}, "patch_frames is 1"),
        ("mmdensenet", {"segment_frames": 0}, "segment_frames is 0"),
        ("mmdensenet", {"low": [[0, 1]] * 5}, r"low has a dense block \[0, 1\]"),
        ("mmdensenet", {"high": [[3, 0]] * 5}, r"high has a dense block \[3, 0\]"),
        ("mmdensenet", {"full": [[1]] * 5}, r"full has a dense block \[1\]"),
        ("mmdensenet", {"last_block": [4, 2, 1]}, r"last_block has a dense block \[4, 2, 1\]"),
        ("mdensenet", {"full": [[-1, 1]] * 5}, r"full has a dense block \[-1, 1\]"),
        ("wavenet", {"final_maps": [3]}, r"final_maps is \[3\]; there are two"),
        ("wavenet", {"final_maps": []}, "there are two"),
        ("wavenet", {"final_maps": [8, 0]}, "final_maps is 0"),
        ("wave-u-net", {"down_kernel": -1}, "down_kernel is -1"),
        ("wave-u-net", {"up_kernel": -3}, "up_kernel is -3"),
        ("deepconvsep", {"beta": -0.1}, "beta is -0.1"),
        ("deepconvsep", {"sources": ["other"]}, "number_of_sources is 1"),
        ("spleeter", {"first_maps": 0}, "first_maps is 0"),
        ("spleeter", {"n_levels": 0}, "n_levels is 0"),
        ("spleeter", {"patch_frames": 0}, "patch_frames is 0"),
        ("spleeter", {"n_seen": -64}, "n_seen is -64"),
        ("conv-tasnet", {"kernel": 0}, "kernel is 0; .* 3 samples"),
        ("conv-tasnet", {"kernel": 5}, "kernel is 5; .* 3 samples"),
        ("hdemucs", {"width": 3}, "width 3, depth 4 and n_fft 256: Channels must be divisible"),
        ("htdemucs", {"n_heads": 7}, "n_heads is 7; the 32 maps"),
        ("htdemucs", {"bottom_width": 10, "n_heads": 5}, "n_heads is 5; the 10 maps .* of 4"),
        ("htdemucs", {"width": 7}, "width is 7; it must be at least 8"),
        ("htdemucs", {"network": {"t_dropout": 1.5}}, "no such arguments: dropout probability"),
        ("bs-roformer", {"network": {"attn_dropout": 1.5}}, "arguments: dropout probability"),
        ("bs-roformer", {"network": {"foo": 1}}, "no such arguments: .*'foo'"),
        ("mel-band-roformer", {"network": {"num_bands": 0}}, "no such arguments: index 0"),
        ("bs-roformer", {"n_fft": 0}, "n_fft is 0"),
    ],
)
def test_sizes_of_nothing_are_refused(name, wrong, said):
    try:
        with pytest.raises(RecipeError, match=said):
            zoo.create(name, **{**TABLE[name]["tiny"], **wrong})
    except MissingPackage as error:
        pytest.skip(str(error))
