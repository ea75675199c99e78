"""Scenes written to disk: mixture, images, positions, and a picture from above."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.room import MIDDLE, SIZE
from zoo.data.scenes import SCENE, SceneTrack
from zoo.data.track import Track
from zoo.dsp.panning import PAIRS
from zoo.errors import DatasetError
from zoo.pictures import plan
from zoo.stems import together

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAN = "plan.png"
_STEP = 2.0**23  # samples of 24 bits are multiples of its inverse


def write_scene(track: Track, folder: Path) -> Path:
    """Write ``folder/<name>/{mix,image-1,...}.flac``, `SCENE` and `PLAN`, all or nothing.

    Images are rounded to 24 bits and then summed, so that the mixture on disk is the exact sum of
    the images on disk.  A mixture beyond full scale is made quieter, with all images.

    Raises:
        DatasetError: the folder is there already, or the track is no scene of a data set.
        AudioFileError: it cannot be written.
    """
    if not isinstance(track, SceneTrack):
        raise DatasetError(f"{track.name} is a scene on disk already; name the data set of songs.")
    target = folder / track.name.replace(os.sep, "_")
    if target.exists():
        raise DatasetError(f"{target} is there already; choose another folder or remove it.")
    images = np.stack([track.read(source) for source in track.sources])
    peak = float(np.abs(images.sum(0)).max(initial=0))
    gain = 1.0 if peak < 1 else 0.99 / peak
    images = np.round(images * (gain * _STEP)) / _STEP
    signals = {"mix": images.sum(0), **{f"image-{j}": x for j, x in enumerate(images, 1)}}
    card = {**track.card(), "gain": gain}
    with together() as bundle:
        for name, signal in signals.items():
            writer = bundle.audio(target / f"{name}.flac", track.rate, 2, "PCM_24")
            writer.write(signal.astype(np.float32))
        text = json.dumps(card, indent=1) + "\n"
        bundle.add(target / SCENE, lambda path: path.write_text(text, encoding="utf-8"))
        bundle.add(target / PLAN, lambda path: scene_plan(track).savefig(path))
    return target


def scene_plan(track: SceneTrack) -> Figure:
    """Its objects, and microphones if there are, from above."""
    layout = track.layout
    if "pair" not in layout:
        places = {name: (p.pan, p.delay) for name, p in track.positions.items()}
        return plan(places, title=track.name)
    middle = MIDDLE if track.room else (0.0, 0.0)
    azimuths, distance = track.azimuths
    objects = {
        name: (
            middle[0] + distance * math.cos(math.radians(azimuth)),
            middle[1] + distance * math.sin(math.radians(azimuth)),
        )
        for name, azimuth in zip(track.sources, azimuths, strict=True)
    }
    microphones = {
        name: (middle[0] + m.x, middle[1] + m.y, m.axis)
        for name, m in zip(("left", "right"), PAIRS[str(layout["pair"])], strict=True)
    }
    room = (SIZE[0], SIZE[1]) if track.room else None
    return plan(objects, microphones, room, track.name)
