"""Songs written by tests: noise whose sums are exact, wav files, and MUSDB18's containers."""

import numpy as np
import soundfile

RATE = 8000
STEMS = ("vocals", "drums", "bass", "other")


def noise(seed, samples=400, channels=2):
    """``(channels, samples)`` without DC, in 16-bit steps, so that PCM files and sums are exact."""
    signal = np.random.default_rng(seed).integers(-4000, 4000, (channels, samples))
    signal -= np.rint(signal.mean(1, keepdims=True)).astype(int) if samples else 0
    return (signal / 32768).astype(np.float32)


def write(path, signal, rate=RATE, subtype=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal.T, rate, subtype=subtype)
    return signal


def write_song(folder, *stems, samples=400, seed=0):
    return {
        stem: write(folder / f"{stem}.wav", noise(10 * seed + i, samples))
        for i, stem in enumerate(stems)
    }


def write_container(path, signals, rate=44100):
    """A ``.stem.mp4``: one AAC stream for each signal, in their order."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        streams = [container.add_stream("aac", rate=rate, layout="stereo") for _ in signals]
        for start in range(0, signals[0].shape[1], 1024):
            for stream, signal in zip(streams, signals, strict=True):
                block = np.ascontiguousarray(signal[:, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(block, "fltp", "stereo")
                frame.sample_rate, frame.pts = rate, start
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path
