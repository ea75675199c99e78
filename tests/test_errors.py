"""The tree of errors, and the word that was probably meant."""

import inspect

import pytest

import zoo
from zoo import errors
from zoo.errors import RecipeError, ZooError, near
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
        ("nug", {"n_em": -1}, "n_em is -1"),
        ("deepnmf", {"n_bases": 0}, "n_bases is 0"),
        ("deepconvsep", {"patch_frames": 1, "step_frames": 1}, "patch_frames is 1"),
        ("mmdensenet", {"segment_frames": 0}, "segment_frames is 0"),
    ],
)
def test_sizes_of_nothing_are_refused(name, wrong, said):
    with pytest.raises(RecipeError, match=said):
        zoo.create(name, **{**TABLE[name]["tiny"], **wrong})
