"""What every separator must hold to, as functions that any test can call.

In the tests of a package that adds a model::

    import pytest
    from zoo.testing import CHECKS, tiny

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_model(check):
        check(tiny("my_model"))

Each raises an `AssertionError` that says what went wrong, and `unittest.SkipTest`, which pytest
shows as a skip, where the model claims nothing of the kind.
"""

from zoo.testing.behaviour import CHECKS, example, noise, tiny
from zoo.testing.memory import LiveBytes

__all__ = ["CHECKS", "LiveBytes", "example", "noise", "tiny"]
