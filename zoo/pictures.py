"""Signals as pictures.  Figures are drawn without a screen and without global state."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import MissingPackage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANGE_DB = 80.0  # below the loudest point of the figure: about what a listener can hear in music
LOWEST_HZ = 40.0  # lowest string of a bass
N_ROWS = 192  # of pixels, along frequency
N_COLUMNS = 600  # of pixels, along time, at most
N_DOTTED = 40  # points of a line that still show one by one


def spectrograms(signals: Mapping[str, Any], rate: int, title: str | None = None) -> Figure:
    """One panel per signal, all on the same scale of decibels, time and logarithmic frequency.

    Args:
        signals: name -> array or CPU tensor ``(C, T)`` or ``(T,)``; channels are added in power.
        rate: in Hz.
        title: above the figure.

    Raises:
        MissingPackage: matplotlib is not installed.

    Notes:
        0 dB is the loudest point of all panels.  Silence, or no samples at all, is a dark panel.
    """
    figure = _figure(len(signals), title)
    maps = {name: _power_map(np.atleast_2d(np.asarray(s)), rate) for name, s in signals.items()}
    loudest = max((m.max() for m in maps.values() if m.size), default=0.0) or 1.0
    edges = _edges(rate)
    axes = figure.subplots(len(maps), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    image = None
    for ax, (name, power) in zip(axes, maps.items(), strict=True):
        level = 10 * np.log10(np.maximum(power / loudest, 10 ** (-RANGE_DB / 10)))
        seconds = np.atleast_2d(np.asarray(signals[name])).shape[-1] / rate
        image = ax.imshow(
            level, origin="lower", aspect="auto", cmap="magma", vmin=-RANGE_DB, vmax=0,
            extent=(0, max(seconds, 1e-3), 0, N_ROWS), interpolation="nearest",
        )  # fmt: skip
        ax.set_title(name, loc="left", fontsize=11)
        ax.set_ylabel("Hz")
        ticks = [f for f in (100, 300, 1000, 3000, 10000) if edges[0] < f < edges[-1]]
        ax.set_yticks(
            [float(np.interp(np.log(f), np.log(edges), np.arange(N_ROWS + 1))) for f in ticks],
            [f"{f // 1000}k" if f >= 1000 else str(f) for f in ticks],
        )
    if image is not None:
        axes[-1].set_xlabel("seconds")
        figure.colorbar(image, ax=list(axes), label="dB below the loudest point", pad=0.01)
    return figure


def curves(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    x_label: str,
    mark: float | None = None,
    title: str | None = None,
) -> Figure:
    """One panel per quantity, with its lines over a common axis, each named with its last value.

    Args:
        panels: label of the panel -> name of the line -> points ``(x, y)``. The first line of a
            panel is the one that counts: it is black. A name has one colour in all panels.
        x_label: below the figure.
        mark: where a dotted line stands, across all panels.
        title: above the figure.

    Raises:
        MissingPackage: matplotlib is not installed.

    Notes:
        A panel of positive values that span more than a decade is logarithmic.
    """
    figure = _figure(len(panels), title, panel=2.2)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    colours = {next(iter(lines)): "black" for lines in panels.values()}
    for ax, (label, lines) in zip(axes, panels.items(), strict=True):
        for i, (name, points) in enumerate(lines.items()):
            x, y = zip(*points, strict=True)
            colour = colours.setdefault(name, f"C{len(colours) - len(panels)}")
            ax.plot(
                x, y, color=colour, linewidth=1.2 if i else 2, zorder=2 if i else 3,
                marker="o" if len(points) < N_DOTTED else "", markersize=3,
                label=f"{name}  {y[-1]:.4g}",
            )  # fmt: skip
        values = [y for points in lines.values() for _, y in points]
        if min(values) > 0 and max(values) > 10 * min(values):
            ax.set_yscale("log")
        if mark is not None:
            ax.axvline(mark, color="grey", linestyle=":", linewidth=1)
        ax.set_ylabel(label)
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False, fontsize=9)
    axes[-1].set_xlabel(x_label)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def azimugram(
    plane: Any, seconds: float, places: Sequence[float] = (), title: str | None = None
) -> Figure:
    """How much of a stereo signal comes from where, over time, and beside it in all.

    Args:
        plane: ``(A, N)`` from left to right, evenly spaced from 0 to 90 degrees of pan.
        seconds: how long it is.
        places: pans that are marked, in degrees.
        title: above the figure.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    figure = blank(9, 4.5, title)
    wide, narrow = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1])
    power = np.asarray(plane, np.float64)
    level = 20 * np.log10(np.maximum(power / max(power.max(initial=0), 1e-12), 1e-3))
    wide.imshow(
        level, origin="lower", aspect="auto", cmap="magma", extent=(0, max(seconds, 1e-3), 0, 90),
        vmin=-60, vmax=0, interpolation="nearest",
    )  # fmt: skip
    total = power.sum(1)
    narrow.fill_betweenx(np.linspace(0, 90, len(total)), total / max(total.max(), 1e-12), lw=0)
    for i, place in enumerate(places, 1):
        for ax in (wide, narrow):
            ax.axhline(place, color="tab:cyan" if ax is wide else "black", linewidth=1, ls="--")
        narrow.annotate(
            f"object-{i}",
            (1.02, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
        )
    wide.set_xlabel("seconds")
    wide.set_ylabel("pan in degrees: 0 left, 90 right")
    wide.set_yticks([0, 15, 30, 45, 60, 75, 90])
    narrow.set_xlabel("in all")
    narrow.set_xticks([])
    return figure


def plan(
    objects: Mapping[str, tuple[float, float]],
    microphones: Mapping[str, tuple[float, float, float]] | None = None,
    room: tuple[float, float] | None = None,
    title: str | None = None,
) -> Figure:
    """A scene from above, or, without microphones, its pans and delays.

    Args:
        objects: name -> metres forward and to the left; without microphones: pan in degrees and
            delay of the right channel in samples.
        microphones: name -> metres forward and to the left, and where it looks, in degrees to the
            left.
        room: length forward and width to the left, in metres, from the origin.
        title: above the figure.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    figure = blank(6, 6 if microphones else 4.5, title)
    ax = figure.subplots()
    for i, (name, (x, y)) in enumerate(objects.items()):
        place = (-y, x) if microphones else (x, y)
        ax.plot(*place, "o", color=f"C{i}", markersize=11)
        ax.annotate(
            name, place, xytext=(0, 10), textcoords="offset points", fontsize=11, ha="center"
        )
    if microphones is None:
        ax.set_xlim(-8, 98)
        ax.set_xticks([0, 15, 30, 45, 60, 75, 90])
        largest = max((abs(y) for _, y in objects.values()), default=0.0)
        ax.set_ylim(-max(1.0, 1.4 * largest), max(1.0, 1.4 * largest))
        ax.axhline(0, color="grey", linewidth=0.8, zorder=0)
        ax.set_xlabel("pan in degrees: 0 left, 45 centre, 90 right")
        ax.set_ylabel("delay of the right channel in samples")
        ax.grid(alpha=0.3)
        return figure
    shown = [(-y, x) for x, y in objects.values()]
    for name, (x, y, axis) in microphones.items():
        turn = np.radians(axis)
        tip = (-y - 0.35 * np.sin(turn), x + 0.35 * np.cos(turn))
        ax.annotate("", tip, (-y, x), arrowprops={"arrowstyle": "-|>", "color": "black"})
        shown += [(-y, x), tip]
        side = -1 if name == "left" else 1
        ax.annotate(
            name, (-y, x), xytext=(side * 12, -16), textcoords="offset points", fontsize=9,
            ha="right" if side < 0 else "left",
        )  # fmt: skip
    if room is not None:
        ax.plot(
            [0, -room[1], -room[1], 0, 0], [0, 0, room[0], room[0], 0], color="black", linewidth=2
        )
        shown += [(0, 0), (-room[1], room[0])]
    low, high = np.min(shown, axis=0), np.max(shown, axis=0)
    half = 0.6 * float((high - low).max())  # a square with space for the names
    ax.set_xlim((low + high)[0] / 2 - half, (low + high)[0] / 2 + half)
    ax.set_ylim((low + high)[1] / 2 - half, (low + high)[1] / 2 + half)
    ax.set_aspect("equal")
    ax.set_xlabel("metres from left to right")
    ax.set_ylabel("metres forward")
    ax.grid(alpha=0.3)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure; the file has its name only when it is complete.  Folders are made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        figure.savefig(hidden)
        hidden.replace(target)
    except OSError as error:
        if error.filename is None:
            raise
        # It names the hidden file.
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        with suppress(OSError):
            hidden.unlink()
    return target


def blank(width: float, height: float, title: str | None = None) -> Figure:
    """An empty figure of so many inches.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackage(
            "pictures need matplotlib, which is not installed: pip install matplotlib."
        ) from error
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _figure(n_panels: int, title: str | None, panel: float = 1.7) -> Figure:
    return blank(9, 1.2 + panel * n_panels, title)


def _edges(rate: int) -> np.ndarray:
    """Borders of the rows, in Hz ``(N_ROWS + 1,)``."""
    return np.geomspace(min(LOWEST_HZ, rate / 8), rate / 2, N_ROWS + 1)


def _power_map(signal: np.ndarray, rate: int) -> np.ndarray:
    """Power ``(N_ROWS, columns)`` of ``(C, T)``: the loudest bin and frame of each."""
    n_fft = 2 ** round(np.log2(max(64, rate * 0.046)))  # 46 ms: 2048 samples at 44.1 kHz
    hop = max(n_fft // 4, -(-signal.shape[-1] // (4 * N_COLUMNS)))
    padded = np.pad(signal, ((0, 0), (n_fft // 2, n_fft // 2)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=-1)[:, ::hop]
    power = np.zeros((n_fft // 2 + 1, frames.shape[1]))
    for channel in frames:
        power += np.abs(np.fft.rfft(channel * np.hanning(n_fft), axis=-1).T) ** 2
    bins = _edges(rate) * n_fft / rate
    low = np.floor(bins[:-1]).astype(int)
    high = np.maximum(np.ceil(bins[1:]).astype(int), low + 1)
    rows = np.stack([power[a:b].max(0) for a, b in zip(low, high, strict=True)])
    per_column = -(-rows.shape[1] // N_COLUMNS)
    starts = np.arange(0, rows.shape[1], per_column)
    return np.asarray(np.maximum.reduceat(rows, starts, axis=1))
