"""The tree of errors, and the word that was probably meant."""

import inspect

import pytest

from zoo import errors
from zoo.errors import ZooError, near


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
