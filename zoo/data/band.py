"""Who plays the parts of a generated song: numpy, a SoundFont, recordings, or some of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data import recordings, soundfont
from zoo.data.composer import Part, Plan, SongConfig
from zoo.data.drumkit import Kit
from zoo.data.recordings import OneShots, SampledKit, Voices
from zoo.data.singer import sing
from zoo.data.soundfont import Font
from zoo.data.synth import play_pitched

Signal = NDArray[np.float32]


@dataclass(frozen=True)
class Band:
    """The players of a data set; without any of these, numpy plays everything.

    Recordings come before the font.  What neither can play, numpy does: vocals always, unless
    there are recorded voices.
    """

    font: Font | None = None
    one_shots: OneShots | None = None
    voices: Voices | None = None

    @property
    def card(self) -> dict[str, Any]:
        """What the sound is made from, as plain JSON values; empty for numpy alone."""
        card: dict[str, Any] = {}
        if self.font:
            card["font"] = {"name": self.font.path.name, "sha256": self.font.sha256}
        if self.one_shots:
            shots = self.one_shots
            card["one_shots"] = {"name": shots.root.name, "sha256": shots.digest}
        if self.voices:
            card["vocals"] = {"name": self.voices.root.name, "sha256": self.voices.digest}
        return card

    def cast(
        self, part: Part, plan: Plan, config: SongConfig, rng: np.random.Generator
    ) -> tuple[str, Callable[[], Signal]]:
        """Who plays a part, in words, and the playing.

        The latter gives ``(C, T)`` where the sound has a place of its own, else ``(1, T)``.
        """
        rate, samples, channels = config.sample_rate, config.samples, config.channels
        if self.voices and part.stem == "vocals":
            return self._cast_voice(self.voices, part, rate, samples, rng)
        if self.one_shots and part.stem in ("drums", "bass"):
            found = self._cast_one_shots(self.one_shots, part, plan, config, rng)
            if found:
                return found
        if self.font and (preset := self.font.cast(part, rng)):
            font, cents = self.font, plan.tuning_cents
            return f"font {preset[0]}:{preset[1]}", lambda: soundfont.play(
                part, font, preset, rate, samples, channels, cents, rng
            )
        if part.stem == "drums":
            return "synth", lambda: Kit(rate, rng).play(part, samples, channels, rng)
        play = sing if part.stem == "vocals" else play_pitched
        return "synth", lambda: play(part, rate, samples, plan.tuning_cents, rng)[None]

    def _cast_voice(
        self, voices: Voices, part: Part, rate: int, samples: int, rng: np.random.Generator
    ) -> tuple[str, Callable[[], Signal]]:
        """A singer of the folder.  Nobody doubles one: a copy would not be another take."""
        if part.name != "lead vocals":
            return "nobody", lambda: np.zeros((1, samples), np.float32)
        path = voices.files[int(rng.integers(len(voices.files)))]
        sung = recordings.sing_phrases
        return f"voice {path.relative_to(voices.root).as_posix()}", lambda: sung(
            part.notes, path, rate, samples, rng
        )[None]

    def _cast_one_shots(
        self,
        shots: OneShots,
        part: Part,
        plan: Plan,
        config: SongConfig,
        rng: np.random.Generator,
    ) -> tuple[str, Callable[[], Signal]] | None:
        rate, samples, channels = config.sample_rate, config.samples, config.channels
        if part.stem == "bass":
            if not shots.basses:
                return None
            path, pitch = shots.basses[int(rng.integers(len(shots.basses)))]
            return f"one-shot {path.relative_to(shots.root).as_posix()}", lambda: (
                recordings.play_bass(part.notes, path, pitch, rate, samples, plan.tuning_cents)
            )[None]
        loop = shots.loop_for(plan, rng) if part.name == "kit" else None
        if loop:
            path, n_bars = loop
            return f"loop {path.relative_to(shots.root).as_posix()}", lambda: recordings.play_loop(
                path, n_bars, plan, rate, samples, channels
            )
        if not shots.samples:
            return None
        return "one-shots", lambda: SampledKit(rate, shots, rng).play(part, samples, channels, rng)
