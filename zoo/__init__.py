"""A zoo of music source separators behind one small contract.

>>> import zoo
>>> model = zoo.create("mmdensenet")  # doctest: +SKIP
>>> estimates = model.separate("song.mp3")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.applications.remix import remix
    from zoo.applications.separate import separate
    from zoo.catalog import create, list_models
    from zoo.data.module import SeparationData
    from zoo.errors import ZooError
    from zoo.metrics.bsseval import bss_eval
    from zoo.release import from_pretrained
    from zoo.separator import Estimates, Separator

__version__ = "0.1.0"

# Public name -> the module that has it, imported when the name is first asked for: `import zoo`
# costs milliseconds and works without torch.
_HOMES = {
    "from_pretrained": "zoo.release",
    "create": "zoo.catalog",
    "list_models": "zoo.catalog",
    "separate": "zoo.applications.separate",
    "remix": "zoo.applications.remix",
    "Separator": "zoo.separator",
    "Estimates": "zoo.separator",
    "SeparationData": "zoo.data.module",
    "bss_eval": "zoo.metrics.bsseval",
    "ZooError": "zoo.errors",
}

__all__ = [
    "Estimates",
    "SeparationData",
    "Separator",
    "ZooError",
    "__version__",
    "bss_eval",
    "create",
    "from_pretrained",
    "list_models",
    "remix",
    "separate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
