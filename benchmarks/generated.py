"""What a generated song costs to make, beside the plain way to do it.

Seconds of song per CPU second of this process, and how many times that of the plain way, at
22.05 kHz in mono: parts alone, and with the mixing desk.  The plain way adds the sines of every
note one by one, 16 harmonics each, and takes fresh noise for every drum; it has no desk.  The
second table has the same songs in stereo at 44.1 kHz, as data sets are written.  The last line is
the error of the synthesiser's shortcut, a wavetable beside its 16 sines added one by one.

``python -m benchmarks.generated``
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zoo.data.generated import GeneratedSongs, Song
from zoo.data.synth import TABLE, cycle
from zoo.errors import ZooError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generated", description=__doc__)
    parser.add_argument("--songs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0, help="of a song")
    parser.add_argument("--font", help="else $ZOO_SOUNDFONT, else the system's")
    parser.add_argument("--one-shots", help="folder of recorded drums")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f}; numpy {np.__version__}")
    players: dict[str, dict[str, Any]] = {
        "synth": {},
        "soundfont": {"renderer": "soundfont", "font": options.font},
    }
    if options.one_shots:
        players["one-shots"] = {"one_shots": options.one_shots}
    for rate, channels in ((22050, 1), (44100, 2)):
        title = f"{rate} Hz, {channels} channel{'s' * (channels > 1)}"
        print(f"\n{title:<24}{'parts':>14}{'with desk':>14}")
        reference = 0.0
        for name, arguments in players.items():
            try:
                songs = GeneratedSongs(
                    n_train=options.songs + 1,
                    seconds=options.seconds,
                    seed=9,
                    sample_rate=rate,
                    channels=channels,
                    **arguments,
                )
            except ZooError as error:
                print(f"{name}: {error}")
                continue
            tracks = [songs.song("train", n) for n in range(options.songs + 1)]
            if name == "soundfont":
                name = songs.band.card["font"]["name"]
            if not reference:  # the notes are the same whoever plays them
                reference = speed(plain, tracks[:2])
                print(f"{'plain additive':<24}{reference:>7.1f}{'1x':>7}", flush=True)
            speeds = [speed(make, tracks) for make in (Song.render_parts, Song.render)]
            cells = "".join(f"{s:>7.1f}{s / reference:>6.1f}x" for s in speeds)
            print(f"{name:<24}{cells}", flush=True)
    print(f"\nerror of a wavetable beside its sines: {error_db():.1f} dB")


def speed(make: Callable[[Song], Any], songs: Sequence[Song]) -> float:
    """Seconds of song per CPU second; the first song warms up."""
    first, *rest = songs
    make(first)
    start = time.process_time()
    for song in rest:
        make(song)
    return sum(song.config.seconds for song in rest) / (time.process_time() - start)


def plain(song: Song) -> dict[str, np.ndarray]:
    """Every note of a song, sine by sine."""
    rate, samples = song.config.sample_rate, song.config.samples
    rng = np.random.default_rng(0)
    stems = {}
    for stem, notes in song.notes.items():
        stems[stem] = np.zeros(samples)
        for note in notes:
            begin = int(note.onset_s * rate)
            time_s = np.arange(min(int(note.duration_s * rate), samples - begin)) / rate
            if stem == "drums":
                wave = rng.standard_normal(len(time_s)) * np.exp(-time_s / 0.08)
            else:
                hz = 440 * 2 ** ((note.pitch - 69) / 12)
                harmonics = np.arange(1, min(16, int(rate / 2 / hz)) + 1)
                wave = sum(
                    np.sin(2 * np.pi * hz * h * time_s) * np.exp(-time_s * h / 2) / h
                    for h in harmonics
                )
            stems[stem][begin : begin + len(time_s)] += note.velocity / 127 * wave
    return stems


def error_db() -> float:
    """Of a wavetable's nearest samples at any places, beside its sines, in dB of these."""
    rng = np.random.default_rng(0)
    numbers = np.arange(1, 17)[:, None]
    partials = np.exp(2j * np.pi * rng.random(numbers.shape)) / numbers
    at = rng.random(100_000)
    sines = (partials * np.exp(2j * np.pi * numbers * at)).real.sum(0)
    sines *= np.sqrt(2) / np.linalg.norm(partials)  # RMS 1, as a wavetable has
    error = cycle(partials[:, 0])[(at * TABLE).astype(int)] - sines
    return float(10 * np.log10(np.mean(error**2) / np.mean(sines**2)))


if __name__ == "__main__":
    main()
