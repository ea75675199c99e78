"""asteroid beside any torch.

Two packages that it imports for speech metrics may be absent, or fail where torchaudio does; models
and losses do without them, so empty ones stand in.
"""

import importlib
import importlib.util
import sys
from types import ModuleType

from torch import nn

from zoo.compat import torchaudio
from zoo.errors import MissingPackage

_WAY = (
    "`pip install 'music-separation-zoo[asteroid]' -c constraints-asteroid.txt` in an environment "
    "of its own, for it asks for old packages."
)


def load() -> ModuleType:
    """The package asteroid, with its models and losses.

    Raises:
        MissingPackage: it is not installed, or cannot be imported.
    """
    if importlib.util.find_spec("asteroid") is None:
        raise MissingPackage(f"asteroid is not installed: {_WAY}")
    torchaudio.load()
    _stand_in("torch_stoi", NegSTOILoss=_Absent)
    _stand_in("pb_bss_eval", InputMetrics=_Absent, OutputMetrics=_Absent)
    try:
        for part in ("models", "losses"):
            importlib.import_module(f"asteroid.{part}")
    except (ImportError, OSError, AttributeError) as error:
        raise MissingPackage(f"asteroid cannot be imported ({error}): {_WAY}") from error
    return sys.modules["asteroid"]


class _Absent(nn.Module):
    """Stands for a metric of a package that is not there."""

    def __init__(self, *arguments: object, **named: object) -> None:
        raise MissingPackage(f"this metric needs a package that cannot be imported here. {_WAY}")


def _stand_in(name: str, **members: type) -> None:
    """Put an empty module in the place of one that cannot be imported."""
    try:
        importlib.import_module(name)
    except (ImportError, OSError):
        module = ModuleType(name)
        for key, value in members.items():
            setattr(module, key, value)
        sys.modules[name] = module
