"""The catalog: names of architectures, the facts about them, and the classes behind them.

Ours stand in the table of `zoo.models`.  Packages of others add theirs through the entry-point
group ``zoo.models`` (name -> ``"package.module:Class"``), where attributes of the class give what
an `Entry` holds: ``paper``, ``domain``, ``summary``, ``trainable``, ``tiny``, ``facts``; each may
be missing.  Nothing is imported until a class is asked for, so listing names needs no torch.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import yaml

from zoo.errors import RecipeError, UnknownModel, ZooError, near
from zoo.models import TABLE

if TYPE_CHECKING:
    from zoo.separator import Separator

log = logging.getLogger(__name__)

GROUP = "zoo.models"
DOMAINS = ("spectrogram", "waveform", "spatial")


class BrokenPlugin(ZooError, ImportError):
    """A plug-in that cannot be imported, or is no class."""


@dataclass(frozen=True)
class Entry:
    """What is known of an architecture without importing it.

    Attributes:
        name: in the catalog.
        target: ``"module:Class"``.
        arguments: of the class, those that make a named variant of it.
        paper: authors, venue and year, in one line.
        domain: what the separation works on: ``"spectrogram"``, ``"waveform"`` or ``"spatial"``.
        summary: the idea, in one line.
        trainable: has parameters; a system that is computed from the mixture alone has none.
        tiny: further arguments of a small variant, for tests and smoke runs.
        facts: of the default arguments: ``sources``, ``sample_rate``, ``channels``,
            ``parameters``, ``context_s`` (seconds; None: unbounded), ``gflop_per_s`` (of audio).
        plugin: distribution that brought it; empty for ours. All that a plug-in tells of itself
            beside name and target is had by `described`.
    """

    name: str
    target: str
    arguments: dict[str, Any] = field(default_factory=dict)
    paper: str = ""
    domain: str = ""
    summary: str = ""
    trainable: bool = True
    tiny: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    plugin: str = ""


def list_models(*, domain: str | None = None, trainable: bool | None = None) -> list[str]:
    """Names of the architectures, in alphabetical order.

    A filter imports plug-ins, which alone know their facts, and leaves out the broken ones.

    Args:
        domain: only those of ``"spectrogram"``, ``"waveform"`` or ``"spatial"``.
        trainable: only those with parameters, or only those without.

    Raises:
        ZooError: two architectures have one name, or there is no such domain.
    """
    names = _names()
    if domain is None and trainable is None:
        return sorted(names)
    if domain not in (None, *DOMAINS):
        raise ZooError(f"no domain {domain!r}; expected one of {', '.join(DOMAINS)}.")
    kept = []
    for name in sorted(names):
        try:
            known = described(name)
        except BrokenPlugin as error:
            log.warning("left out: %s", error)
            continue
        if domain in (None, known.domain) and trainable in (None, known.trainable):
            kept.append(name)
    return kept


def entry(name: str) -> Entry:
    """An architecture's entry; nothing is imported.

    Raises:
        UnknownModel: nothing has this name; the message offers the nearest.
        ZooError: two architectures have one name.
    """
    names = _names()
    if name in names:
        return names[name]
    raise UnknownModel(f"no model named {name!r}.{near(name, names)} `zoo list` shows them all.")


def variant(architecture: str, arguments: Mapping[str, Any]) -> str:
    """The name of the variant that arguments make of an architecture, or that of itself.

    Args:
        architecture: a name; one that is not in the catalog is its own variant.
        arguments: of the class, all of them.
    """
    names = _names()
    if architecture not in names:
        return architecture
    target = names[architecture].target
    fitting = [
        found
        for found in names.values()
        if found.target == target
        and all(arguments.get(key) == value for key, value in found.arguments.items())
    ]
    return max(fitting, key=lambda found: len(found.arguments), default=names[architecture]).name


def described(name: str) -> Entry:
    """An architecture's entry with all facts; those of a plug-in are read from its class.

    Raises:
        UnknownModel: nothing has this name; the message offers the nearest.
        BrokenPlugin: it is a plug-in that cannot be imported.
        ZooError: two architectures have one name.
    """
    found = entry(name)
    if not found.plugin:
        return found
    cls = _import(found)
    return replace(
        found,
        paper=str(getattr(cls, "paper", "")),
        domain=str(getattr(cls, "domain", "")),
        summary=str(getattr(cls, "summary", (cls.__doc__ or "").strip().partition("\n")[0])),
        trainable=bool(getattr(cls, "trainable", True)),
        tiny=dict(getattr(cls, "tiny", {})),
        facts=dict(getattr(cls, "facts", {})),
    )


def load(name: str) -> type[Separator]:
    """Class of an architecture.

    Raises:
        UnknownModel: nothing has this name; the message offers the nearest.
        BrokenPlugin: it is a plug-in that cannot be imported.
        ZooError: two architectures have one name.
    """
    return _import(entry(name))


def create(name: str, **arguments: Any) -> Separator:
    """An architecture without trained weights, or a training-free system.

    Args:
        name: one of `list_models`.
        arguments: of its class; they win over those that make the variant.

    Raises:
        UnknownModel: nothing has this name; the message offers the nearest.
        BrokenPlugin: it is a plug-in that cannot be imported.
        RecipeError: it has no such argument; the message offers the nearest.
        ZooError: two architectures have one name.
    """
    cls = load(name)
    known = inspect.signature(cls).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        for argument in arguments:
            if argument not in known:
                hint = near(argument, known) or f" It has {', '.join(known)}."
                raise RecipeError(f"{name} has no argument {argument!r}.{hint}")
    return cls(**{**entry(name).arguments, **arguments})


def untrained(text: str, arguments: Mapping[str, Any] | None = None) -> Separator | None:
    """A system that needs no training, of ``"projet"`` or ``"duet:method=binary,max_delay=10"``.

    Args:
        text: its name, and perhaps arguments as YAML has them.
        arguments: further ones.

    Returns:
        None where the name is none of such a system.

    Raises:
        RecipeError: it has no such argument, or not with this value.
    """
    name, _, rest = text.partition(":")
    if name not in _names() or described(name).trainable:
        return None
    words = re.split(r",(?=\w+=)", rest) if ":" in text else []
    if odd := [word for word in words if not word.partition("=")[2]]:
        raise RecipeError(f"{text}: {odd[0]!r} gives no argument a value; write {name}:NAME=VALUE.")
    try:
        told = {key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in words)}
    except yaml.YAMLError as error:
        raise RecipeError(
            f"{text} has a value that is no YAML; write {name}:NAME=VALUE."
        ) from error
    _check_types(name, told)
    return create(name, **{**told, **(arguments or {})})


def _check_types(name: str, arguments: Mapping[str, Any]) -> None:
    """Raise `RecipeError` where an argument is not of the type that the class asks for."""
    from argparse import ArgumentError

    from jsonargparse import ArgumentParser

    cls = load(name)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls)
    for key, value in arguments.items():
        known = inspect.signature(cls).parameters.get(key)
        if known is None:
            continue  # `create` knows what to say
        try:
            parser.parse_object({key: value})
        except ArgumentError as error:
            raise RecipeError(
                f"{name}: {key} is {value!r}; it must be of type {known.annotation}."
            ) from error


def _names() -> dict[str, Entry]:
    """All architectures by name, ours and those of plug-ins, none of them imported."""
    names: dict[str, Entry] = {}
    for new in [*(Entry(name, **deepcopy(facts)) for name, facts in TABLE.items()), *_plugins()]:
        if new.name in names:
            homes = " and ".join(e.plugin or "zoo" for e in (names[new.name], new))
            raise ZooError(
                f"two architectures are named {new.name!r}, from {homes}. Names are unique: "
                "uninstall a package, or ask its authors for another name."
            )
        names[new.name] = new
    return names


@cache
def _plugins() -> tuple[Entry, ...]:
    """Entries of the installed packages; looked up once, since that reads a file of each."""
    return tuple(Entry(p.name, p.value, plugin=_package(p)) for p in entry_points(group=GROUP))


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "another package"


def _import(found: Entry) -> type[Separator]:
    module, _, attribute = found.target.partition(":")
    who = f"the plug-in {found.name!r} ({found.target}, from {found.plugin})"
    try:
        cls: Any = getattr(import_module(module), attribute)
    except Exception as error:  # other people's modules may raise anything while they are imported
        if not found.plugin:
            raise
        raise BrokenPlugin(
            f"{who} cannot be imported: {type(error).__name__}: {error}. "
            "Mend or uninstall that package; everything else works."
        ) from error
    if not isinstance(cls, type):
        raise BrokenPlugin(f"{who} is not a class; expected a subclass of zoo.Separator.")
    return cls
