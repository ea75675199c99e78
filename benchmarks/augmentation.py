"""Time of each effect of augmentation, beside reading the segment from a WAV file.

``python -m benchmarks.augmentation``
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from zoo.audio import read
from zoo.data.augmentation import Augmentation, Dice
from zoo.dsp.effects import balanced, equalised, reverberated, room, sounds, voiced_stretches
from zoo.dsp.stretching import shifted

SECONDS_EACH = 0.3


def milliseconds(call: Callable[[], object]) -> float:
    """CPU time of one call: the least of as many as fit."""
    call()
    taken: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < SECONDS_EACH or len(taken) < 3:
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return 1e3 * min(taken)


def measure(rate: int, seconds: int, channels: int, folder: Path) -> None:
    """Print one line for each effect."""
    rng = np.random.default_rng(0)
    n = rate * seconds
    x = 0.1 * rng.standard_normal((channels, n), dtype=np.float32)
    path = folder / "song.wav"
    soundfile.write(path, np.tile(x, 10).T, rate, subtype="PCM_16")
    response = room(1.0, rate, x.shape, rng)
    longer = np.tile(x, 2)[:, : round(1.1 * n)]
    sources = ("vocals",)

    def effect(**keys: object) -> Callable[[], object]:
        augment = Augmentation(**{"gain": None, "swap_channels": 0.0, **keys})  # type: ignore[arg-type]
        return lambda: augment.apply([x], sources, rate, Dice(0, 0, 0))

    calls: dict[str, Callable[[], object]] = {
        "read": lambda: read(path, 3 * n, n),
        "a generator": lambda: Dice(0, 0, 0)("gain"),
        "gain, polarity, swap": effect(gain=(0.25, 1.25), polarity=0.5, swap_channels=0.5),
        "balance": lambda: balanced(x, rate, -23.0),
        "does it sound": lambda: sounds(x),
        "voiced stretches": lambda: voiced_stretches(x, rate),
        "equaliser": lambda: equalised(x, rate, (200, 1000, 4000), (3, -3, 3)),
        "room of 1 s": lambda: room(1.0, rate, x.shape, rng),
        "reverb send": lambda: reverberated(x, response, -10.0),
        "noise floor": effect(noise=1.0),
        "tempo 1.1": lambda: shifted(longer, rate, n),
        "pitch +3": lambda: shifted(x, rate, n, 3.0),
        "pitch +3, formants": lambda: shifted(x, rate, n, 3.0, True),
    }
    print(f"{seconds} s, {rate} Hz, {channels} channels{'CPU ms':>12}{'x read':>10}")
    reading = 0.0
    for name, call in calls.items():
        taken = milliseconds(call)
        reading = reading or taken
        print(f"  {name:<24}{taken:10.2f}{taken / reading:10.1f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        measure(16000, 2, 1, Path(place))
        measure(44100, 6, 2, Path(place))
