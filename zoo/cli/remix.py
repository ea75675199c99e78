"""``zoo remix``: what is printed around `zoo.applications.remix`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from zoo.applications.remix import Remixed, remix
from zoo.cli.progress import printable, showing
from zoo.cli.separate import Talk, load, where
from zoo.errors import ZooError

Value = TypeVar("Value")


def remix_song(
    song: str,
    names: list[str] | None,
    output: str | None,
    gain: Sequence[str],
    pan: Sequence[str],
    device: str,
    progress: str,
    arguments: dict[str, Any],
    **options: Any,
) -> None:
    """Remix a song, and say what was done."""
    talk = Talk(as_json=progress == "json")
    model = load(names, device, talk, (), arguments)
    path = Path(output) if output else _beside(Path(song))
    with showing(progress) as callback:

        def report(stage: str, done: int, total: int | None) -> None:
            if callback is not None:
                callback(Path(song), stage, done, total)

        found = remix(
            song, model=model, gain=_named("--gain", gain, "NUMBER, such as vocals=+6", float),
            pan=_named("--pan", pan, "DEGREES or SOURCE=DEGREES,SAMPLES", _place),
            output=path, progress=report, **options,
        )  # fmt: skip
    for line in _lines(song, found):
        talk.say(line)


def _lines(song: str, found: Remixed) -> list[str]:
    assert found.path is not None
    lines = [f"{printable(Path(song))} -> {printable(found.path)}"]
    if found.attenuation:
        lines.append(f"  all of it {found.attenuation:.1f} dB softer: it went beyond full scale")
    if found.keeps_tags:
        lines.append("  tags and cover are kept")
    return [*lines, *where(found.locations), *(f"  {note}" for note in found.notes)]


def _beside(song: Path) -> Path:
    return Path(f"{song.stem}-remix.wav")


def _named(
    option: str, texts: Sequence[str], example: str, parse: Callable[[str], Value]
) -> dict[str, Value]:
    """``SOURCE=VALUE`` as a mapping."""
    found: dict[str, Value] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            if not name or name in found:
                raise ValueError
            found[name] = parse(value)
        except ValueError:
            raise ZooError(
                f"{option} {text}; expected SOURCE={example}, once for each source."
            ) from None
    return found


def _place(text: str) -> tuple[float, float]:
    pan, _, delay = text.partition(",")
    return float(pan), float(delay or 0)
