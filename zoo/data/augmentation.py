"""Augmentation: what may happen to the sources of a training example before they are summed.

`Augmentation` says what, and how much; `zoo.dsp.effects` and `zoo.dsp.stretching` do it, each to
one signal ``(C, T)``, and know no chance.  The mixture is summed afterwards, so it is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from zoo.dsp.effects import amplified, balanced, equalised, reverberated, room
from zoo.dsp.stretching import shifted
from zoo.errors import RecipeError, near

Signal = NDArray[np.float32]
Range = tuple[float, float]
Ranges = Range | dict[str, Range] | None
Shares = float | dict[str, float]

_COMMON_DB = -23.0  # dBFS; four sources of it add up to a mixture of about -17


class Dice:
    """The random numbers of one example.

    Each effect has a generator of its own: switching one on or off changes no other.

    Args:
        position: seed, epoch and index of the example.
    """

    def __init__(self, *position: int) -> None:
        self.position = position

    def __call__(self, effect: str) -> np.random.Generator:
        """The generator of an effect, from its beginning."""
        stream = crc32(effect.encode())
        return np.random.default_rng(np.random.SeedSequence([*self.position, stream]))


@dataclass(frozen=True)
class Augmentation:
    """The keys below ``data.augment:``.

    A value holds for every source.  A mapping, as in ``pitch: {vocals: [-3, 3]}``, holds for the
    sources that it names and leaves the others alone.  Null is off.  Ranges are drawn from
    uniformly, those of speed, tempo and reverberation in their logarithm.

    Sources of one song share the draws of speed, tempo and pitch, so that they stay together; a
    speed or tempo that is given source by source applies to remixed examples only.

    Effects follow one another in the order of these keys.

    Attributes:
        remix: share of the examples whose sources come from different songs and places (Uhlich et
            al. 2017); the rest is coherent, all sources from one place of one song.
        sounding: share of the sources whose start is drawn again, up to ten times, as long as
            they are silent there (below -60 dBFS RMS).  Of a coherent example one such source.
        voiced: share of the starts that lie inside a stretch of vocals, found by reading the vocals
            of each song once (Lluis et al. 2019).
        speed: range of the factor by which a source plays faster: tempo, pitch and formants at
            once.  0.1 to 10.
        tempo: range of the factor by which a source plays faster, at its pitch.  0.25 to 4.
        pitch: range of semitones by which a source sounds higher, at its tempo.  -24 to 24.
        keep_formants: share of the sources whose formants stay where they are when pitch moves.
        equaliser_db: range of the gain of each of three bands, low shelf, bell and high shelf.
        reverb_s: range of the time in which a room's sound falls by 60 dB, RT60, in seconds.  One
            room for all sources of an example.
        reverb_send_db: range of the level of the room's sound beside that of the source.
        balance_db: range of the level of a source where it sounds, beside a common loudness to
            which all sources are brought first.  Raw stems of one song are up to 14 dB apart.
        gain: range of a source's factor (Uhlich et al. 2017; Stoller et al. 2018 have [0.7, 1]).
        polarity: probability that a source is turned upside down.
        swap_channels: probability that left and right are exchanged (Uhlich et al. 2017).
        silent: probability that a source is silenced.
        noise: probability that a source has a noise floor, as codecs leave.
        noise_db: range of the level of that floor, in dBFS RMS.
        dc: range of a constant added to a source, of full scale 1.
        level_db: range of the gain of the whole example.
        share: effect -> probability that it is applied to a source, 1 where none is named, as in
            ``share: {pitch: 0.2}``.  For effects that are ranges.

    Raises:
        RecipeError: a number out of its range, or no such effect.
    """

    remix: float = 1.0
    sounding: Shares = 0.0
    voiced: float = 0.0
    speed: Ranges = None
    tempo: Ranges = None
    pitch: Ranges = None
    keep_formants: Shares = 0.0
    equaliser_db: Ranges = None
    reverb_s: Range | None = None
    reverb_send_db: Ranges = (-24.0, -6.0)
    balance_db: Ranges = None
    gain: Ranges = (0.25, 1.25)
    polarity: Shares = 0.0
    swap_channels: Shares = 0.5
    silent: Shares = 0.0
    noise: Shares = 0.0
    noise_db: Range = (-80.0, -70.0)
    dc: Ranges = None
    level_db: Range | None = None
    share: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _SHARES:
            for key, value in _named(name, getattr(self, name)):
                _check(key, value, _is_within(value, 0, 1), "a probability, from 0 to 1")
        for name, (low, high, wanted) in _RANGES.items():
            for key, value in _named(name, getattr(self, name)):
                _check(key, value, _is_range(value, low, high), wanted)
        for effect, value in self.share.items():
            if effect not in _RANGES:
                hint = near(effect, _RANGES) or f" There are: {', '.join(_RANGES)}"
                raise RecipeError(f"augment.share has no effect '{effect}'.{hint}")
            _check(f"share.{effect}", value, _is_within(value, 0, 1), "a probability, from 0 to 1")

    def check_sources(self, sources: Sequence[str]) -> None:
        """Raise a `RecipeError` where a mapping names what is none of ``sources``."""
        for name in (f.name for f in fields(self) if f.name != "share"):
            value = getattr(self, name)
            for source in value if isinstance(value, Mapping) else ():
                if source not in sources:
                    hint = near(source, sources) or f" There are: {', '.join(sources)}"
                    raise RecipeError(f"augment.{name} names '{source}', no source here.{hint}")
        if self.voiced and "vocals" not in sources:
            raise RecipeError(
                f"augment.voiced is {self.voiced}; it needs vocals among the model's sources"
            )

    # ---- what is drawn

    def chances(self, name: str, sources: Sequence[str], dice: Dice) -> list[bool]:
        """Whether the effect of a probability happens, for each source."""
        value = getattr(self, name)
        if value in (0, {}):
            return [False] * len(sources)
        shares = [value.get(s, 0.0) if isinstance(value, dict) else value for s in sources]
        return [bool(u < p) for u, p in zip(dice(name).random(len(sources)), shares, strict=True)]

    def ranges(
        self, name: str, sources: Sequence[str], dice: Dice, together: bool = False
    ) -> list[Range | None]:
        """The range that holds for each source; None where the effect is off or not its turn."""
        value = getattr(self, name)
        if value is None:
            return [None] * len(sources)
        found = [value.get(s) if isinstance(value, dict) else value for s in sources]
        if (share := self.share.get(name, 1.0)) < 1:
            u = _uniform(dice(f"{name}.share"), len(sources), together)
            found = [r if x < share else None for r, x in zip(found, u, strict=True)]
        return found

    def drawn(
        self, name: str, sources: Sequence[str], dice: Dice, together: bool = False
    ) -> list[float | None]:
        """A number from the range of each source; None where the effect is off or not its turn.

        Args:
            name: of the effect.
            sources: of the example.
            dice: of the example.
            together: whether all sources share a draw.
        """
        found = self.ranges(name, sources, dice, together)
        if not any(found):
            return [None] * len(sources)
        u = _uniform(dice(name), len(sources), together)
        is_ratio = name in ("speed", "tempo", "reverb_s")
        return [
            None if r is None else _between(r, float(x), is_ratio)
            for r, x in zip(found, u, strict=True)
        ]

    def moves(self, sources: Sequence[str], dice: Dice, is_remixed: bool) -> list[Move]:
        """How each source moves in time and pitch; see the class for coherent examples."""
        n = len(sources)
        ratios = {}
        for name in ("speed", "tempo"):
            by_source = isinstance(getattr(self, name), dict) and not is_remixed
            drawn = [None] * n if by_source else self.drawn(name, sources, dice, not is_remixed)
            ratios[name] = [1.0 if value is None else value for value in drawn]
        pitch = [value or 0.0 for value in self.drawn("pitch", sources, dice, not is_remixed)]
        kept = self.chances("keep_formants", sources, dice)
        return [Move(*move) for move in zip(*ratios.values(), pitch, kept, strict=True)]

    # ---- what is done

    def apply(
        self, signals: Sequence[Signal], sources: Sequence[str], rate: int, dice: Dice
    ) -> list[Signal]:
        """The references of an example from the sources as they were cut and moved.

        Args:
            signals: one ``(C, T)`` for each of ``sources``; they are not changed.
            sources: names.
            rate: samples per second.
            dice: of the example.
        """
        result = list(signals)
        for effect in (self._equalise, self._reverberate, self._balance, self._scale, self._floor):
            result = effect(result, sources, rate, dice)
        if self.level_db is not None:
            (level,) = self.drawn("level_db", ("mixture",), dice)
            result = [amplified(signal, level or 0.0) for signal in result]
        return result

    def _equalise(
        self, signals: list[Signal], sources: Sequence[str], rate: int, dice: Dice
    ) -> list[Signal]:
        ranges = self.ranges("equaliser_db", sources, dice)
        if not any(ranges):
            return signals
        u = dice("equaliser_db").random((len(sources), 2, 3))
        return [
            signal
            if r is None
            else equalised(
                signal,
                rate,
                [_between(band, x, True) for band, x in zip(_BANDS_HZ, at, strict=True)],
                [_between(r, x) for x in gains],
            )
            for signal, r, (at, gains) in zip(signals, ranges, u.tolist(), strict=True)
        ]

    def _reverberate(
        self, signals: list[Signal], sources: Sequence[str], rate: int, dice: Dice
    ) -> list[Signal]:
        (rt60_s,) = self.drawn("reverb_s", ("mixture",), dice)
        sends = self.drawn("reverb_send_db", sources, dice) if rt60_s else []
        if rt60_s is None or not any(send is not None for send in sends):
            return signals
        response = room(rt60_s, rate, signals[0].shape, dice("room"))
        return [
            signal if send is None else reverberated(signal, response, send)
            for signal, send in zip(signals, sends, strict=True)
        ]

    def _balance(
        self, signals: list[Signal], sources: Sequence[str], rate: int, dice: Dice
    ) -> list[Signal]:
        levels = self.drawn("balance_db", sources, dice)
        return [
            signal if level is None else balanced(signal, rate, _COMMON_DB + level)
            for signal, level in zip(signals, levels, strict=True)
        ]

    def _scale(
        self, signals: list[Signal], sources: Sequence[str], rate: int, dice: Dice
    ) -> list[Signal]:
        gains = [1.0 if gain is None else gain for gain in self.drawn("gain", sources, dice)]
        turned, swapped, silent = (
            self.chances(name, sources, dice) for name in ("polarity", "swap_channels", "silent")
        )
        result = []
        for j, signal in enumerate(signals):
            if swapped[j] and len(signal) == 2:
                signal = signal[::-1]
            gain = 0.0 if silent[j] else -gains[j] if turned[j] else gains[j]
            result.append(signal * np.float32(gain))
        return result

    def _floor(
        self, signals: list[Signal], sources: Sequence[str], rate: int, dice: Dice
    ) -> list[Signal]:
        noisy, constants = self.chances("noise", sources, dice), self.drawn("dc", sources, dice)
        if any(noisy):
            levels = self.drawn("noise_db", sources, dice)
            rng = dice("noise floor")
            floors = rng.standard_normal((len(signals), *signals[0].shape), dtype=np.float32)
            signals = [
                signal + amplified(floor, level) if is_noisy and level is not None else signal
                for signal, floor, level, is_noisy in zip(
                    signals, floors, levels, noisy, strict=True
                )
            ]
        return [
            signal if constant is None else signal + np.float32(constant)
            for signal, constant in zip(signals, constants, strict=True)
        ]


@dataclass(frozen=True)
class Move:
    """How a source moves in time and pitch: factors, semitones, and whether formants stay."""

    speed: float = 1.0
    tempo: float = 1.0
    pitch: float = 0.0
    keeps_formants: bool = False

    def samples_before(self, n_samples: int) -> int:
        """How many samples, at the final rate, become ``n_samples`` by `applied`."""
        return math.ceil(n_samples * self.tempo)

    def applied(self, signal: Signal, rate: int, n_samples: int) -> Signal:
        """Tempo and pitch; speed is a matter of reading."""
        if self.tempo == 1 and self.pitch == 0:
            return signal
        return shifted(signal, rate, n_samples, self.pitch, self.keeps_formants)


_SHARES = ("remix", "sounding", "voiced", "keep_formants", "polarity", "swap_channels", "silent",
           "noise")  # fmt: skip
_FINITE = 1e6
_LEVELS = (-120.0, 60.0, "[lowest, highest] in dB, -120 to 60")
_RANGES: dict[str, tuple[float, float, str]] = {
    "speed": (0.1, 10.0, "[slowest, fastest], 0.1 to 10"),
    "tempo": (0.25, 4.0, "[slowest, fastest], 0.25 to 4"),
    "pitch": (-24.0, 24.0, "[lowest, highest] in semitones, -24 to 24"),
    "equaliser_db": (-40.0, 40.0, "[lowest, highest] in dB, -40 to 40"),
    "reverb_s": (0.02, 20.0, "[shortest, longest] in seconds, 0.02 to 20"),
    "reverb_send_db": _LEVELS,
    "balance_db": _LEVELS,
    "gain": (-_FINITE, _FINITE, "[lowest, highest]"),
    "noise_db": (-200.0, 0.0, "[lowest, highest] in dBFS, up to 0"),
    "dc": (-1.0, 1.0, "[lowest, highest], -1 to 1"),
    "level_db": _LEVELS,
}
_BANDS_HZ = ((80.0, 300.0), (300.0, 3000.0), (3000.0, 8000.0))  # of shelf, bell and shelf


def _named(name: str, value: object) -> list[tuple[str, Any]]:
    """A value by its key, or each value of a mapping by its own; nothing for null."""
    if isinstance(value, Mapping):
        return [(f"{name}.{key}", inner) for key, inner in value.items()]
    return [] if value is None else [(name, value)]


def _is_within(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and low <= value <= high  # not for NaN


def _is_range(value: object, low: float, high: float) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(_is_within(v, low, high) for v in value)
        and value[0] <= value[1]
    )


def _check(name: str, value: object, holds: bool, wanted: str) -> None:
    if not holds:
        shown = list(value) if isinstance(value, tuple) else value
        raise RecipeError(f"augment.{name} is {shown}; it must be {wanted}.")


def _uniform(rng: np.random.Generator, n: int, together: bool) -> NDArray[np.float64]:
    """``n`` numbers in [0, 1), all the first of them if ``together``."""
    return np.full(n, rng.random()) if together else rng.random(n)


def _between(limits: Range, u: float, is_ratio: bool = False) -> float:
    low, high = limits
    return float(low * (high / low) ** u if is_ratio else low + (high - low) * u)
