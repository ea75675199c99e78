"""Scenes: the sources of any data set as objects at known places, each with its stereo image.

::

    root/                                   of the data set ``of``, or
    root/<scene>/{mix,image-1,image-2...}.flac, scene.json    scenes that are files

A source is brought to one channel (the mean of its channels) and placed by the pan-delay model, by
a pair of microphones in the open, or in a room.  The mixture is the exact sum of the images.

``preset="projet-experiment"`` is the set-up of D. FitzGerald, A. Liutkus, R. Badeau,
"Projection-based demixing of spatial audio", IEEE/ACM TASLP 24(9), 2016, on MSD100 or DSD100: 50
songs, 30 s of each, four sources at equal angles of 10, 20 and 30 degrees, 150 mixtures; and a
second set at 20 degrees with delays.  The paper leaves open, and here is chosen: pans centred on 45
degrees (30 degrees fit in no other way), vocals, drums, bass, other from left to right, the 30 s in
which the quietest source is loudest, levels as in the song, the delays of `DELAYS`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zoo.audio import open_audio
from zoo.data.room import SHORTEST, Room
from zoo.data.track import SPLITS, Dataset, FileTrack, Part, Split, Track, check_split
from zoo.dsp.panning import PADDING, PAIRS, SOUND, Position, heard, panned, placed
from zoo.errors import DatasetError, check_choice

log = logging.getLogger(__name__)

RATE = 44100  # that delays are given for, in Hz
SCENE = "scene.json"
LEAST_ANGLE = 8.0  # between random places, in degrees
LEVEL = 10 ** (-23 / 20)  # RMS of sources that are made alike loud
WIDEST = {"blumlein": 45.0}  # degrees to the outermost object; beyond, its figures of eight invert
WIDEST_OTHERS = 60.0
LONGEST_DELAY = 4410  # samples at `RATE`; beyond 0.1 s it is an echo
DELAYS = {"A": (0, 0, 0, 0), "B": (1, -1, 1, -1), "C": (4, -3, 2, -5), "D": (10, -8, 6, -12)}
EXCERPT_S = 30.0
_PATTERNS = {1: "omni", 0.5: "cardioid", 0: "figure of eight"}
DISTANCE, DISTANCE_ROOM = 2.0, 1.5  # of objects before microphones, in metres
PRESETS: dict[str, dict[str, Any]] = {
    "projet-experiment": {
        "scenes": {
            **{f"pan{step}": {"step": step} for step in (10, 20, 30)},
            **{f"delay{name}": {"step": 20, "delays": list(d)} for name, d in DELAYS.items()},
        },
        "sources": ["vocals", "drums", "bass", "other"],
        "excerpt_s": EXCERPT_S,
        "songs": 50,
    },
}


class Scenes(Dataset):
    """Sources of another data set at known places.

    Args:
        root: folder of that data set; or of scenes, where ``of`` is None.
        of: id of the data set; None: scenes that are files, or generated songs without a root.
        arguments: of the data set.
        preset: ``"projet-experiment"``, which sets ``scenes``, ``sources``, ``excerpt_s`` and
            ``songs``; what is given beside it wins.
        scenes: name -> layout; every song is placed in every one. A layout has either ``step``,
            degrees between neighbours centred on 45; or ``pans``, one for each source; or
            ``random: true``, other pans for every song; these with ``delays`` of the right channel
            in samples at 44.1 kHz, or ``max_delay`` for random ones; or ``pair``: xy, ab, ortf,
            blumlein, din or nos, with ``azimuths`` (degrees to the left) and ``distance`` (metres),
            and ``room: true`` for one of 6 x 5 x 3 m with a reverberation of ``rt60`` seconds.
        sources: which, from left to right; all of the data set by default.
        excerpt_s: only so many seconds of each song: those in which the quietest source is loudest.
        level: ``"song"`` as they are, ``"equal"`` all at -23 dB below full scale.
        songs: only the first so many of each split.
        seed: of random places.

    Raises:
        DatasetError: the data set cannot be opened, or a layout is none.
    """

    id = "scenes"
    needs_root = False
    protocol = "projet"

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        of: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        preset: str | None = None,
        scenes: Mapping[str, Mapping[str, Any]] | None = None,
        sources: Sequence[str] | None = None,
        excerpt_s: float | None = None,
        level: str = "song",
        songs: int | None = None,
        seed: int = 0,
    ) -> None:
        from zoo.data import open_dataset  # which imports this file's like by their names

        check_choice("level", level, ("song", "equal"))
        given = dict(PRESETS[preset]) if preset in PRESETS else {}
        if preset is not None and not given:
            raise DatasetError(f"no preset {preset!r} of scenes; there is {', '.join(PRESETS)}.")
        if scenes is not None and not isinstance(scenes, Mapping):
            raise DatasetError(f"scenes are {scenes!r}; expected names with a layout each.")
        if excerpt_s is not None and not (_is_number(excerpt_s) and excerpt_s > 0):
            raise DatasetError(f"excerpt_s is {excerpt_s!r}; expected seconds above 0.")
        if songs is not None and not (isinstance(songs, int) and songs > 0):
            raise DatasetError(f"songs is {songs!r}; expected how many, 1 or more.")
        self.layouts = dict(scenes or given.get("scenes") or {"pan20": {"step": 20}})
        excerpt_s = excerpt_s or given.get("excerpt_s")
        songs = songs or given.get("songs")
        wanted = sources or given.get("sources")
        self._files = _scene_folders(root) if of is None and root is not None else []
        if self._files:
            self.rate: int | None = None
            tracks = [_stored(folder) for folder in self._files]
            self.sources = tuple(dict.fromkeys(s for track in tracks for s in track.sources))
            self._found: dict[Split, list[Track]] = {"train": [], "valid": [], "test": list(tracks)}
            return
        if of is None:
            of = _kind(root)
        if preset and of != "dsd100":  # MSD100 as well
            log.warning("%s on data set %s: these are not the paper's songs", preset, of)
        self.dataset = open_dataset(of, root, **(arguments or {}))
        self.sources = tuple(wanted or self.dataset.sources)
        if absent := [s for s in self.sources if s not in self.dataset.sources]:
            raise DatasetError(
                f"scenes of {of}: it has no {', '.join(absent)}, but "
                f"{', '.join(self.dataset.sources)}; name these in sources."
            )
        self.rate = self.dataset.rate
        self.level, self.seed, self.songs, self.excerpt_s = level, seed, songs, excerpt_s
        for name, layout in self.layouts.items():
            _positions(name, layout, len(self.sources), self.rate or RATE, np.random.default_rng(0))
        self._found = {}

    def tracks(self, split: Split) -> list[Track]:
        """Every song in every scene, under ``<song> <scene>``."""
        check_split(split)
        if split not in self._found:
            inner = [t for t in self.dataset.tracks(split) if all(map(t.knows, self.sources))]
            self._found[split] = [
                self._placed(track, name) for track in inner[: self.songs] for name in self.layouts
            ]
        return self._found[split]

    def fingerprint(self, splits: Sequence[Split] = SPLITS) -> str:
        """SHA-256 over songs, places and the data set's own fingerprint."""
        own = super().fingerprint(splits)
        if self._files:
            texts = [(folder / SCENE).read_text(encoding="utf-8") for folder in self._files]
            return hashlib.sha256(repr((own, texts)).encode()).hexdigest()
        facts = (own, self.dataset.fingerprint(splits), self.layouts, self.level, self.seed)
        return hashlib.sha256(repr((*facts, self.excerpt_s)).encode()).hexdigest()

    def _placed(self, track: Track, scene: str) -> SceneTrack:
        named = f"{self.seed} {track.name} {scene}".encode()
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(named).digest()[:8], "little"))
        layout = self.layouts[scene]
        found = _positions(scene, layout, len(self.sources), track.rate, rng)
        first, samples = 0, track.samples
        if self.excerpt_s is not None:
            samples = min(samples, round(self.excerpt_s * track.rate))
            first = _window(track, self.sources, samples)
        return SceneTrack(
            name=f"{track.name} {scene}", rate=track.rate, channels=2, samples=samples,
            sources=self.sources, licence=track.licence, track=track, scene=scene, first=first,
            positions=dict(zip(self.sources, found, strict=True)), is_equal=self.level == "equal",
            room=_room(layout, track.rate, len(self.sources)), layout=layout,
        )  # fmt: skip


@dataclass(frozen=True)
class StoredScene(FileTrack):
    """A scene that is files.

    Attributes:
        max_delay: samples at 44.1 kHz within which the objects' delays lie.
    """

    max_delay: int = 0


@dataclass(frozen=True)
class SceneTrack(Track):
    """A song whose sources are at known places.

    Attributes:
        track: the song.
        scene: name of the layout.
        positions: source -> where it is; in a room, its azimuth and distance are the layout's.
        first: sample of the song with which this begins.
        is_equal: sources are made alike loud.
        room: in which the objects are heard, instead of in the open.
        layout: as `Scenes` takes it.
    """

    track: Track | None = None
    scene: str = ""
    positions: Mapping[str, Position] = field(default_factory=dict, hash=False)
    first: int = 0
    is_equal: bool = False
    room: Room | None = None
    layout: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def max_delay(self) -> int:
        """Samples at 44.1 kHz within which the objects' delays lie."""
        return math.ceil(max(abs(p.delay) for p in self.positions.values()) * RATE / self.rate)

    @property
    def azimuths(self) -> tuple[list[float], float]:
        """Of objects before microphones, in degrees to the left, and their distance in metres."""
        given = self.layout.get("azimuths", _spread(self.layout, len(self.sources)))
        default = DISTANCE_ROOM if self.room else DISTANCE
        return [float(a) for a in given], float(self.layout.get("distance", default))

    def files(self) -> list[Path]:  # noqa: D102
        return self.track.files() if self.track else []

    def _read_stem(self, source: str, start: int, samples: int) -> np.ndarray:
        position = self.positions[source]
        before, after = self._reach(position)
        begin = max(0, start - before)
        end = min(self.samples, start + samples + after)
        signal = self._mono(source, begin, end - begin)
        if self.room is not None:
            image = self.room.image(signal, list(self.positions).index(source))
        else:
            image = placed(signal, position)
        return image[:, start - begin :][:, :samples]

    def _reach(self, position: Position) -> tuple[int, int]:
        """Samples before and after a stretch that it depends on."""
        if self.room is not None:
            return self.room.samples, 0
        if all(float(delay).is_integer() for delay in position.delays):
            reach = math.ceil(max(map(abs, position.delays)))
        else:
            reach = PADDING + math.ceil(max(map(abs, position.delays)))
        return reach, reach

    def _mono(self, source: str, start: int, samples: int) -> np.ndarray:
        assert self.track is not None
        signal: np.ndarray = self.track.read(source, self.first + start, samples).mean(0)
        return signal * np.float32(self._gain(source))

    def _gain(self, source: str) -> float:
        if not self.is_equal:
            return 1.0
        assert self.track is not None
        return _equalising(self.track, source, self.first, self.samples)

    @property
    def _material(self) -> str:
        name = self.track.name if self.track else self.name
        return f"{name} ({self.licence})" if self.licence else name

    def card(self) -> dict[str, Any]:
        """What `SCENE` says: the model, and where each object is."""
        pair, room = self.layout.get("pair"), self.room
        azimuths, distance = self.azimuths
        objects: list[dict[str, Any]] = []
        for index, (source, position) in enumerate(self.positions.items(), 1):
            place: dict[str, Any] = {
                "pan_deg": round(position.pan, 4), "gain_left": position.gains[0],
                "gain_right": position.gains[1], "delay_right_samples": position.delay,
            }  # fmt: skip
            if pair:
                place = {"azimuth_deg": azimuths[index - 1], "distance_m": distance}
            if pair and not room:
                place |= {"gain": list(position.gains), "delay_samples": list(position.delays)}
            objects.append({"index": index, "name": source, **place})
        microphones = [
            {"position_m": [m.x, m.y], "axis_deg": m.axis, "pattern": _PATTERNS[m.pattern]}
            for m in PAIRS.get(str(pair), ())
        ]
        model = "microphones, direct sound" if pair else "pan-delay"
        return {
            "schema": 1, "scene": self.name, "material": self._material,
            "sample_rate": self.rate, "duration_s": self.samples / self.rate,
            "channels": ["left", "right"],
            "model": "image-source room" if room else model, "objects": objects,
            **({"microphones": microphones} if pair else {}),
            **({"room": room.card()} if room else {}),
        }  # fmt: skip


# ----------------------------------------------------------------- layouts

_WORDS = (
    "step", "pans", "random", "delays", "max_delay", "pair", "azimuths", "distance", "room", "rt60",
)  # fmt: skip


def _positions(
    name: str, layout: Mapping[str, Any], n: int, rate: int, rng: np.random.Generator
) -> list[Position]:
    """Where the n objects of a layout are.

    Raises:
        DatasetError: the layout has a word of no layout, too few or too many places, or an angle,
            distance, delay or rt60 that cannot be.
    """
    if not isinstance(layout, Mapping) or not layout:
        raise DatasetError(f"scene {name}: {layout!r} is no layout; give it a step, say.")
    if stray := [key for key in layout if key not in _WORDS]:
        raise DatasetError(
            f"scene {name} has {', '.join(map(str, stray))}; a layout has {', '.join(_WORDS)}."
        )
    if {"pans", "step"} <= layout.keys():
        raise DatasetError(f"scene {name} has both pans and a step; give one.")
    for key in ("step", "max_delay", "distance", "rt60"):
        if key in layout and not (_is_number(layout[key]) and layout[key] >= 0):
            raise DatasetError(
                f"scene {name}: {key} is {layout[key]!r}; give a number that is 0 or more."
            )
    if "rt60" in layout and not layout.get("room"):
        raise DatasetError(f"scene {name}: rt60 is of a room; add room: true.")
    if layout.get("rt60", SHORTEST) < SHORTEST:
        raise DatasetError(
            f"scene {name}: an rt60 of {layout['rt60']:g} s is too short for this room, even if "
            f"its walls absorb everything; give {SHORTEST} s or more."
        )
    if "pair" in layout:
        pair = str(layout["pair"])
        if pair not in PAIRS:
            raise DatasetError(f"scene {name}: no pair {pair!r}; there are {', '.join(PAIRS)}.")
        azimuths = _numbers(name, layout, "azimuths", n, _spread(layout, n))
        default = DISTANCE_ROOM if layout.get("room") else DISTANCE
        distance = float(layout.get("distance", default))
        if distance <= 0.5:
            raise DatasetError(f"scene {name}: distance {distance}; expected more than 0.5 m.")
        found = [heard(PAIRS[pair], azimuth, distance, rate) for azimuth in azimuths]
        for azimuth, position in zip(azimuths, found, strict=True):
            if min(position.gains) < -1e-9:  # at a null it is 0 but for rounding
                widest = WIDEST.get(pair, WIDEST_OTHERS)
                raise DatasetError(
                    f"scene {name}: {pair} hears an object at {azimuth:g} degrees inverted in a "
                    f"channel; give azimuths between {-widest:g} and {widest:g}."
                )
        return found
    if layout.get("room"):
        raise DatasetError(f"scene {name}: a room is heard by a pair; name one, such as ortf.")
    if layout.get("random"):
        pans = _random_pans(name, n, rng)
    elif "pans" in layout:
        pans = _numbers(name, layout, "pans", n, [])
    elif "step" in layout:
        if layout["step"] == 0 and n > 1:
            raise DatasetError(
                f"scene {name}: step is 0, all {n} sources at one place; give a step above 0."
            )
        pans = [45 + float(layout["step"]) * (j - (n - 1) / 2) for j in range(n)]
    else:
        raise DatasetError(f"scene {name} has neither step nor pans, random or pair; give one.")
    if min(pans) < 0 or max(pans) > 90:
        told = ", ".join(f"{p:g}" for p in pans)
        if "step" in layout:
            raise DatasetError(
                f"scene {name}: pans {told}; they lie between 0 (left) and 90 (right): take a "
                "smaller step."
            )
        raise DatasetError(f"scene {name}: pans {told}; give pans between 0 (left) and 90 (right).")
    if "max_delay" in layout:
        _check_delay(name, "max_delay", layout["max_delay"])
        most = int(layout["max_delay"])
        delays = [float(x) for x in rng.integers(-most, most + 1, n)]
    else:
        delays = _numbers(name, layout, "delays", n, [0.0] * n)
        _check_delay(name, "delays", max(delays, key=abs, default=0.0))
    return [panned(p, d * rate / RATE) for p, d in zip(pans, delays, strict=True)]


def _numbers(
    name: str, layout: Mapping[str, Any], key: str, n: int, default: list[float]
) -> list[float]:
    given = layout.get(key, default)
    if not isinstance(given, Sequence) or not all(map(_is_number, given)):
        raise DatasetError(f"scene {name}: {key} are {given!r}; give a list of numbers.")
    numbers = [float(x) for x in given]
    if len(numbers) != n:
        raise DatasetError(
            f"scene {name}: {len(numbers)} {key} for {n} sources; give one for each."
        )
    return numbers


def _check_delay(name: str, key: str, delay: float) -> None:
    if abs(delay) > LONGEST_DELAY:
        raise DatasetError(
            f"scene {name}: {delay:g} samples of {key} are too long; give at most {LONGEST_DELAY}, "
            "0.1 s at 44.1 kHz."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _spread(layout: Mapping[str, Any], n: int) -> list[float]:
    """Azimuths of objects before a pair, at equal angles from left to right."""
    widest = WIDEST.get(str(layout.get("pair")), WIDEST_OTHERS)
    return [0.0] if n == 1 else [widest - 2 * widest * j / (n - 1) for j in range(n)]


def _random_pans(name: str, n: int, rng: np.random.Generator) -> list[float]:
    """Pans that are `LEAST_ANGLE` apart, in any order."""
    room = 90 - LEAST_ANGLE * (n - 1)
    if room <= 0:
        raise DatasetError(f"scene {name}: {n} sources have no room between 0 and 90 degrees.")
    pans = np.sort(rng.uniform(0, room, n)) + LEAST_ANGLE * np.arange(n)
    return [float(x) for x in rng.permutation(pans)]


def _room(layout: Mapping[str, Any], rate: int, n: int) -> Room | None:
    if not layout.get("room"):
        return None
    azimuths = tuple(float(x) for x in layout.get("azimuths", _spread(layout, n)))
    distance, rt60 = float(layout.get("distance", DISTANCE_ROOM)), float(layout.get("rt60", 0.3))
    return Room(str(layout["pair"]), azimuths, distance, rt60, rate)


# ----------------------------------------------------------------- songs


@functools.lru_cache(maxsize=1024)
def _window(track: Track, sources: tuple[str, ...], samples: int) -> int:
    """First sample of the stretch in which the quietest source is loudest, on whole seconds."""
    rate = track.rate
    energy = [
        [float(np.square(block[s].mean(0)).sum()) for s in sources]
        for block in track.blocks(rate, list(sources))
    ]
    totals = np.cumsum(np.pad(np.array(energy), ((1, 0), (0, 0))), axis=0)
    length = max(1, samples // rate)
    sums = totals[length:] - totals[:-length] if len(totals) > length else totals[-1:]
    first = int(sums.min(axis=1).argmax()) * rate
    return min(first, track.samples - samples)


@functools.lru_cache(maxsize=4096)
def _equalising(track: Track, source: str, first: int, samples: int) -> float:
    signal = track.read(source, first, samples).mean(0)
    size = float(np.sqrt(np.square(signal, dtype=np.float64).mean()))
    return LEVEL / size if size > 0 else 1.0


def _kind(root: str | Path | None) -> str:
    """The data set that lies at a root without its id."""
    if root is None:
        return "generated"
    folder = Path(root)
    if (folder / "Mixtures").is_dir():
        return "dsd100"
    if next(folder.glob("*/*.stem.mp4"), None):
        return "musdb18"
    return "folder"


def _scene_folders(root: str | Path) -> list[Path]:
    return sorted(path.parent for path in Path(root).glob(f"*/{SCENE}"))


def _stored(folder: Path) -> StoredScene:
    """A scene that is files."""
    try:
        card = json.loads((folder / SCENE).read_text("utf-8"))
        names = [str(o["name"]) for o in card["objects"]]
        rate = int(card["sample_rate"])
        reach = math.ceil(_reach(card) * RATE / rate)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DatasetError(
            f"{folder / SCENE} does not tell its rate or where objects are: {error!r}; mend it."
        ) from error
    stems = {name: (Part(folder / f"image-{j}.flac"),) for j, name in enumerate(names, 1)}
    mixture = folder / "mix.flac"
    for path in [mixture, *(part.path for (part,) in stems.values())]:
        if not path.is_file():
            raise DatasetError(f"{path} is missing; a scene has mix.flac and image-1.flac, ...")
    with open_audio(mixture) as reader:
        rate, channels, samples = reader.rate, reader.channels, reader.samples
    assert samples is not None
    return StoredScene(
        name=folder.name, rate=rate, channels=channels, samples=samples, sources=tuple(names),
        stems=stems, mixture=Part(mixture), max_delay=reach,
    )  # fmt: skip


def _reach(card: Mapping[str, Any]) -> float:
    """Samples within which the delays of a `SCENE` lie; in a room, by its microphones' distance."""
    delays = [
        o["delay_samples"][1] - o["delay_samples"][0] if "delay_samples" in o
        else o.get("delay_right_samples", 0.0)
        for o in card["objects"]
    ]  # fmt: skip
    if "microphones" in card and not any(delays):
        places = [m.get("position_m", m.get("offset_m")) for m in card["microphones"]]
        spacing = math.dist(places[0][:2], places[1][:2])
        return spacing / SOUND * float(card["sample_rate"])
    return float(max(map(abs, delays)))
