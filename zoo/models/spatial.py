"""What the training-free systems share: a song's objects are located first, then pulled apart.

A survey of the whole song finds where its objects are (`zoo.dsp.locate`); every part of it is then
separated from there, so that files of any length stream and object 1 stays object 1.  Objects are
ordered from left to right, then by delay; they are places, not instruments: what shares a place
cannot be told apart by any of these systems.

In:  mixture ``(B, 2, T)`` at any rate.   Out: images ``(B, J, 2, T)``, what each object puts into
the two channels.  STFT 4096 / 1024 at 44.1 kHz; windows and delays follow the rate.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor

from zoo.dsp.locate import LEAST, Places, Zones, cover, steering
from zoo.dsp.stft import STFT
from zoo.errors import RecipeError, ZooError
from zoo.separator import Separator, State
from zoo.streaming import OVERLAP, ChannelGroups, ChunkPlan, ChunkRunner, Signal

RATE = 44100  # that windows and delays are given for, in Hz
MOST = 8  # objects that are looked for where their number is not given
N_FFT, HOP = 4096, 1024
SHORTEST = 64  # window
LIMIT = 16  # objects: places five degrees apart
TINY = 1e-30
WithWindows = TypeVar("WithWindows", bound=Separator)
ALIKE = 1e-6  # share of the energy below which a channel, or their difference, is nothing


class SpatialSeparator(Separator):
    """Base of the systems that take located objects out of a stereo mixture.

    Args:
        n_objects: how many; None: estimated for each song, in `separate` alone.
        max_delay: between the channels, in samples at 44.1 kHz; 0: objects are panned by level.
        locations: of the objects where they are known: ``[[pan, delay], ...]`` in degrees (0 left,
            45 centre, 90 right) and samples of the right channel at 44.1 kHz.
        n_fft: STFT window in samples at 44.1 kHz.
        hop: in samples at 44.1 kHz.
        reverberant: locate by onsets in short windows, for rooms.
    """

    channels: int
    trainable = False
    tiny: ClassVar[dict[str, Any]] = {"n_objects": 2, "n_fft": 256, "hop": 64}
    survey_bytes = 16 << 20

    def __init__(
        self,
        n_objects: int | None = None,
        max_delay: float = 0,
        locations: Sequence[Sequence[float]] | None = None,
        n_fft: int = N_FFT,
        hop: int = HOP,
        reverberant: bool = False,
    ) -> None:
        if locations is not None:
            n_objects = _checked(locations, n_objects)
        if n_objects is not None and not (isinstance(n_objects, int) and 1 <= n_objects <= LIMIT):
            raise RecipeError(f"n_objects {n_objects!r}; expected a whole number, 1 to {LIMIT}.")
        if n_fft < SHORTEST:
            raise RecipeError(f"n_fft {n_fft}; expected at least {SHORTEST}.")
        if not 0 <= max_delay < n_fft / 2:
            raise RecipeError(f"max_delay {max_delay}; expected 0 to half a window, {n_fft // 2}.")
        super().__init__(_names(n_objects or 0), None, 2)
        self.n_objects, self.max_delay, self.reverberant = n_objects, max_delay, reverberant
        self.locations = locations
        self.rate = RATE
        self.stft = STFT(n_fft, hop)

    def images(self, spectrum: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Images ``(J, 2, F, N)`` of a spectrum ``(2, F, N)``, whose song has a mean power of 1.

        Args:
            spectrum: of a part of the song.
            state: what the survey found, without its batch: ``pan (J,)``, ``delay (J,)``...
        """
        raise NotImplementedError

    def learned(self, zones: Zones, places: Places) -> dict[str, Tensor]:
        """What else a survey learns of the whole song."""
        return {}

    @property
    def context(self) -> int | None:
        """A window: frames are independent of each other."""
        return self.stft.n_fft

    @property
    def grid(self) -> int:
        """The hop."""
        return self.stft.hop

    @property
    def surveys(self) -> bool:
        """Always: objects are located in the whole song."""
        return True

    def at(self, rate: int) -> Separator:
        """This system for signals of another rate, in Hz."""
        return at_rate(self, rate)

    def for_song(self, signal: Signal) -> Separator:
        """This system for the song's rate, and for as many objects as it has."""
        view = cast("SpatialSeparator", copy.copy(self.at(signal.rate)))
        if self.n_objects is None:
            view.__dict__["_modules"] = dict(view._modules)
            runner = ChunkRunner(view, ChunkPlan.of(view, signal.rate, None, OVERLAP))
            groups = ChannelGroups(signal.channels, self.channels)
            state = runner.survey(groups.split(block) for block in signal.blocks())
            assert state is not None
            n_objects = state["pan"].shape[1]
            view.n_objects, view.sources = n_objects, _names(n_objects)
        return view

    def survey(self, chunks: Iterable[tuple[Tensor, slice]]) -> State:
        """``pan``, ``delay``, ``confidence`` ``(B, J)`` of the whole song's objects, and more.

        Pans in degrees, delays in samples at the song's rate; ``size (B,)`` makes the mean power of
        its spectrum 1; ``levels (B, 3)`` are the energies of left, right and their difference.
        """
        hop = self.stft.hop
        seekers: list[Zones] = []
        levels, n_samples = torch.zeros(()), 0
        locate = STFT(self.stft.n_fft // 4, hop // 4).to(self.device)
        for mixture, keep in chunks:
            levels = levels.to(mixture) + channel_levels(mixture[..., keep])
            n_samples += 2 * mixture[..., keep].shape[-1]
            stft = locate if self.reverberant else self.stft
            spectrum = self._spectrum(stft, mixture)
            ends = keep.stop >= mixture.shape[-1]
            first = -(-keep.start // stft.hop)
            frames = slice(first, None if ends else -(-keep.stop // stft.hop))
            seekers = seekers or [self._zones(stft.n_bins) for _ in mixture]
            for zones, item in zip(seekers, spectrum[..., frames], strict=True):
                zones.push(item)
        window = self.stft.window.square().sum().sqrt()
        size = (levels[:, :2].sum(1) / max(1, n_samples)).sqrt() * window
        with torch.autocast(levels.device.type, enabled=False):
            items = [self._located(zones) for zones in seekers]
        return {
            "size": size,
            "levels": levels,
            **{key: torch.stack([i[key] for i in items]) for key in items[0]},
        }

    def forward(self, mixture: Tensor, state: State = None) -> Tensor:
        """Images ``(B, J, 2, T)`` of a mixture ``(B, 2, T)``."""
        state = state or self.survey([(mixture, slice(0, mixture.shape[-1]))])
        assert state is not None
        if state["pan"].shape[1] != len(self.sources):
            raise ZooError(
                "the number of objects is not known; give n_objects, or separate whole songs."
            )
        size = state["size"][:, None, None, None]
        spectrum = self._spectrum(self.stft, mixture) / size.clamp(min=TINY)
        with torch.autocast(mixture.device.type, enabled=False):
            found = [
                self.images(x, {key: value[b] for key, value in state.items()})
                for b, x in enumerate(spectrum)
            ]
        images = torch.stack(found) * size[..., None]
        estimates: Tensor = self.stft.inverse(images, mixture.shape[-1])
        return estimates

    def found(self, state: State) -> dict[str, Any]:
        """``locations``: name, pan in degrees, delay in samples at 44.1 kHz, confidence."""
        assert state is not None
        scale = self.rate / RATE
        rows = list(
            zip(*(state[key][0].tolist() for key in ("pan", "delay", "confidence")), strict=True)
        )
        doubts = channel_doubts(state["levels"][0])
        if not doubts and self.locations is None:
            weak = [name for name, row in zip(self.sources, rows, strict=True) if row[2] < LEAST]
            if weak:
                doubts.append(
                    f"{', '.join(weak)}: hardly a bin has this alone; ask for fewer objects, or "
                    "give locations"
                )
            reach = self.max_delay * scale
            if reach and any(abs(d) >= reach for _, d, _ in rows):
                doubts.append("an object lies at the largest delay; a larger max_delay may find it")
        return {
            "locations": [
                {
                    "name": name,
                    "pan": round(p, 2),
                    "delay": round(d / scale, 2) + 0.0,
                    "confidence": round(c, 3),
                }
                for name, (p, d, c) in zip(self.sources, rows, strict=True)
            ],
            "notes": doubts,
        }

    def _zones(self, n_bins: int) -> Zones:
        return Zones(n_bins, self.max_delay > 0, self.reverberant)

    def _spectrum(self, stft: STFT, mixture: Tensor) -> Tensor:
        with torch.autocast(mixture.device.type, enabled=False):
            spectrum: Tensor = stft(mixture.float())
        return spectrum

    def _located(self, zones: Zones) -> dict[str, Tensor]:
        """What is found of one song, from its bins."""
        bins, scale = zones.finish(), self.rate / RATE
        if self.locations is not None:
            given = torch.tensor(self.locations, dtype=torch.float32, device=bins.weight.device)
            pan, delay = given[:, 0], given[:, 1] * scale
            close = torch.stack(
                [bins.closeness(p[None], d[None])[0, 0] for p, d in zip(pan, delay, strict=True)]
            )
            covered = (close @ bins.weight) / (bins.weight.sum() + TINY)
            places = Places(pan, delay, covered).sorted()
        else:
            places = cover(bins, self.n_objects, self.max_delay * scale, MOST)
        return {
            "pan": places.pan, "delay": places.delay, "confidence": places.confidence,
            **self.learned(zones, places),
        }  # fmt: skip

    def steering(self, state: dict[str, Tensor]) -> Tensor:
        """Of the located objects, ``(J, 2, F)``."""
        return steering(state["pan"], state["delay"], self.stft.n_bins)


def at_rate(model: WithWindows, rate: int) -> WithWindows:
    """A view of a system whose windows, given for 44.1 kHz, are as long in seconds at ``rate``."""
    if rate == model.rate:
        return model
    view = copy.copy(model)
    view.__dict__["_modules"] = dict(model._modules)
    view.__dict__["rate"] = rate
    size = 2 ** round(math.log2(model.hparams["n_fft"] * rate / RATE))
    ratio = model.hparams["n_fft"] // model.hparams["hop"]
    view.stft = STFT(max(size, 2 * ratio), max(size // ratio, 1)).to(model.device)
    return view


def channel_levels(signal: Tensor) -> Tensor:
    """Energies of left, right and their difference, ``(B, 3)`` of ``(B, 2, n)``."""
    left, right = signal.unbind(1)
    return torch.stack([x.square().sum(-1) for x in (left, right, left - right)], -1)


def channel_doubts(levels: Tensor) -> list[str]:
    """What makes it impossible to tell objects apart by place."""
    left, right, difference = levels.tolist()
    total = left + right
    if total == 0:
        return ["the song is silent"]
    if 2 * total - difference < ALIKE * total:
        return ["one channel is the other inverted: nothing tells objects apart by their places"]
    if difference < ALIKE * total:
        return ["both channels are the same: nothing tells objects apart by their places"]
    for name, level in (("left", left), ("right", right)):
        if level < ALIKE * total:
            return [f"the {name} channel is silent: nothing tells objects apart by their places"]
    return []


def _names(n_objects: int) -> tuple[str, ...]:
    return tuple(f"object-{j + 1}" for j in range(n_objects))


def _checked(locations: Sequence[Sequence[float]], n_objects: int | None) -> int:
    """How many locations there are."""
    for place in locations:
        is_pair = isinstance(place, Sequence) and len(place) == 2
        is_number = is_pair and all(isinstance(x, Real) and math.isfinite(x) for x in place)
        if not is_number or not 0 <= place[0] <= 90 or abs(place[1]) > N_FFT / 2:
            told = list(place) if isinstance(place, Sequence) else place
            raise RecipeError(
                f"location {told}; expected [pan, delay], a pan of 0 to 90 degrees and a delay of "
                f"at most {N_FFT // 2} samples."
            )
    if len({tuple(place) for place in locations}) < len(locations):
        raise RecipeError("two locations are the same; objects at one place are one.")
    if n_objects not in (None, len(locations)):
        raise RecipeError(f"n_objects {n_objects}, but {len(locations)} locations; leave one out.")
    return len(locations)
