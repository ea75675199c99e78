"""What can go wrong on the user's side, as one small tree.

Every message says what was found, what was expected and what to do, in one or two sentences.
Each kind is also the builtin error that a caller would expect to catch.
"""

from collections.abc import Iterable


def near(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` of the known word nearest to one that is not; empty if none is near.

    It goes after the full stop of the sentence that says what was not found.
    """
    import difflib

    words = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), words, n=1, cutoff=0.5)
    return f" Did you mean {words[found[0]]!r}?" if found else ""


class ZooError(Exception):
    """Anything that the user, not the program, can put right."""


class UnknownModel(ZooError, LookupError):
    """A name that neither the catalog nor the disk knows."""


class ShapeError(ZooError, ValueError):
    """A signal of the wrong number of axes, channels or samples."""


class SilenceError(ZooError, ValueError):
    """A signal without sound where a score needs some."""


class SampleRateError(ZooError, ValueError):
    """A sample rate that cannot be worked at."""


class AudioFileError(ZooError, OSError):
    """A file that cannot be read as audio, or written."""


class DatasetError(ZooError, ValueError):
    """A data set that is missing, incomplete or inconsistent."""


class RecipeError(ZooError, ValueError):
    """A recipe with an unknown key or an impossible value."""


class NotFinite(ZooError, ArithmeticError):
    """A loss or gradient that is infinite or no number at all."""


class ReleaseError(ZooError, ValueError):
    """A release or checkpoint that does not fit together."""


class ChecksumError(ReleaseError):
    """A file whose contents are not the ones that were promised."""


class LicenceError(ZooError, PermissionError):
    """A use that a licence does not cover."""


class MissingPackage(ZooError, ImportError):
    """A package that only this feature needs, and that is not installed."""


def check_least(least: float, **values: float | None) -> None:
    """Raise `RecipeError` where an argument is less than that; None is one that is not given."""
    for name, value in values.items():
        if value is not None and not value >= least:
            raise RecipeError(f"{name} is {value}; it must be at least {least:g}.")


def check_share(**values: float) -> None:
    """Raise `RecipeError` where an argument is not between 0 and 1."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise RecipeError(f"{name} is {value}; it must lie between 0 and 1.")


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Raise `RecipeError` where an argument has none of its values."""
    if value not in (words := list(known)):
        raise RecipeError(
            f"{name} is {value!r}; it must be one of {', '.join(map(repr, words))}."
            f"{near(str(value), words)}"
        )


def count(n: int, noun: str) -> str:
    """``1 track``, ``2 tracks``."""
    return f"{n} {noun}{'s' * (n != 1)}"


def sentence(error: Exception) -> str:
    """What an error says; one of the operating system names the file and not its number."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ZooError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror[0].lower()}{error.strerror[1:]}."
    return str(error)
