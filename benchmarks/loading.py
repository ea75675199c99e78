"""What a segment of training costs to load, beside decoding the whole file that it is cut from.

Songs of four minutes, segments of six seconds from anywhere.  CPU seconds of this process, the
least of several runs for the whole file and the mean over segments:

* whole file: soundfile, and PyAV for stem.mp4 (one of its five streams);
* fresh: the file is opened for each segment;
* open: it stays open, as in a worker of training;
* cached: from the decoded cache.

``--step`` prints what a batch of short segments costs one worker, beside the training step of
MMDenseNet at full width that it feeds.

``python -m benchmarks.loading``
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
import torch

import zoo
from zoo.audio import read, read_again
from zoo.data import open_dataset
from zoo.data.cache import decoded
from zoo.data.module import SeparationData
from zoo.data.track import FileTrack, Part

RATE, SONG_S, SEGMENT_S = 44100, 240, 6
STEP_FRAMES, STEP_BATCH = 32, 2  # of the training step: 0.7 s each, a quarter of the paper's
PIECE_S = 12  # of generated music, again and again
SOURCES = ("mixture", "drums", "bass", "other", "vocals")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    parser.add_argument("--segments", type=int, default=30, help="per kind of file")
    parser.add_argument("--step", action="store_true", help="a batch beside a training step")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f}; av {av.__version__}, "
          f"soundfile {soundfile.__version__}")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="zoo-loading-") as folder:
        songs = make_songs(Path(folder))
        for line in step(songs) if options.step else table(songs, options.segments):
            print(line, flush=True)


def make_songs(folder: Path) -> dict[str, tuple[Path, int]]:
    """Kind -> file and stream of the same four minutes."""
    song = open_dataset("generated", n_train=1, seconds=float(PIECE_S)).tracks("train")[0]
    stems = [song.read(source) for source in SOURCES]
    files = {"stem.mp4": (stem_file(folder / "Song.stem.mp4", stems), SOURCES.index("vocals"))}
    vocals = whole_file("stem.mp4", *files["stem.mp4"]).T
    for kind, options in (
        ("wav", {"subtype": "PCM_16"}),
        ("flac", {"subtype": "PCM_16"}),
        ("mp3", {"format": "MP3"}),
    ):
        path = folder / f"song.{kind}"
        with soundfile.SoundFile(path, "w", RATE, 2, **options) as file:
            for start in range(0, len(vocals), RATE):
                file.write(vocals[start : start + RATE])
        files[kind] = path, 0
    return files


def stem_file(path: Path, stems: list[np.ndarray]) -> Path:
    """A container of five AAC streams, whose packets are repeated until it is as long as a song."""
    packets: list[list[bytes]] = []
    with av.open(str(path), "w", format="mp4") as container:
        streams = [container.add_stream("aac", rate=RATE, layout="stereo") for _ in stems]
        for stream, x in zip(streams, stems, strict=True):
            stream.bit_rate = 256_000
            # Noise of the encoder's own would make it a file that is decoded forward.
            stream.options = {"aac_pns": "0", "aac_coder": "fast"}
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(x), "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            packets.append([bytes(p) for p in (*stream.encode(frame), *stream.encode(None))])
        for k in range(SONG_S * RATE // 1024):
            for stream, coded in zip(streams, packets, strict=True):
                packet = av.Packet(coded[k % len(coded)])
                packet.stream, packet.time_base = stream, Fraction(1, RATE)
                packet.pts = packet.dts = 1024 * k
                packet.duration = 1024
                container.mux(packet)
    return path


def whole_file(kind: str, path: Path, stream: int) -> np.ndarray:
    if kind != "stem.mp4":
        return soundfile.read(path, dtype="float32")[0].T
    with av.open(str(path)) as container:
        frames = container.decode(container.streams.audio[stream])
        return np.concatenate([frame.to_ndarray() for frame in frames], axis=1)


def table(songs: dict[str, tuple[Path, int]], n: int) -> Iterator[str]:
    yield (
        f"{'':9s}  {'whole file':>10s}   {'fresh':>22s}   {'open':>22s}   {'cached':>22s}   "
        "largest error"
    )
    yield (
        f"{'':9s}  {'CPU s':>10s}" + 3 * f"   {'segments/CPU s, ratio':>22s}" + "   of 16-bit steps"
    )
    for kind, (path, stream) in songs.items():
        truth = whole_file(kind, path, stream)
        whole = min(cpu(whole_file, kind, path, stream) for _ in range(3))
        rng = np.random.default_rng(0)
        starts = rng.integers(0, truth.shape[1] - SEGMENT_S * RATE, n).tolist()
        cached = cached_part(path, stream, truth.shape[1])
        cells, errors = [], []
        for load in (
            lambda start: read(path, start, SEGMENT_S * RATE, stream)[0],  # noqa: B023
            lambda start: read_again(path, start, SEGMENT_S * RATE, stream)[0],  # noqa: B023
            lambda start: cached.read(start, SEGMENT_S * RATE),  # noqa: B023
        ):
            seconds, error = segments(load, starts, truth)
            cells.append(f"{1 / seconds:13.1f} {whole / seconds:7.1f}x")
            errors.append(error)
        shown = " ".join(f"{e * 32768:.2f}" for e in errors)
        yield f"{kind:9s}  {whole:10.3f}   {'   '.join(cells)}   {shown}"


def segments(
    load: Callable[[int], np.ndarray], starts: list[int], truth: np.ndarray
) -> tuple[float, float]:
    """CPU seconds of a segment in the mean, and the largest error of a sample."""
    spent, errors = 0.0, []
    for start in starts:
        before = time.process_time()
        x = load(start)
        spent += time.process_time() - before
        errors.append(float(np.abs(x - truth[:, start : start + SEGMENT_S * RATE]).max()))
    return spent / len(starts), max(errors)


def cached_part(path: Path, stream: int, samples: int) -> Part:
    """The file as the cache gives it; wave files stay as they are."""
    song = FileTrack(
        name="song", rate=RATE, channels=2, samples=samples, sources=("vocals",),
        stems={"vocals": (Part(path, stream=stream),)},
    )  # fmt: skip
    (track,) = decoded([song], path.parent / "cache")
    assert isinstance(track, FileTrack)
    return track.stems["vocals"][0]


def cpu(call: Callable[..., object], *arguments: object) -> float:
    before = time.process_time()
    call(*arguments)
    return time.process_time() - before


def step(songs: dict[str, tuple[Path, int]], n_batches: int = 8) -> Iterator[str]:
    model = zoo.create("mmdensenet", segment_frames=STEP_FRAMES).train()
    optimizer = torch.optim.RMSprop(model.parameters())
    yield f"batches of {STEP_BATCH} x {model.segment / RATE:.2f} s, {len(model.sources)} sources"
    batch = next(iter(loader(model, "wav", songs["wav"][0], None)))

    def train() -> None:
        optimizer.zero_grad()
        references = batch["references"]
        model.loss(references.sum(1), references, batch["known"])["loss"].backward()
        optimizer.step()

    train()
    seconds = min(cpu(train) for _ in range(2))
    yield f"training step of mmdensenet: {seconds:.2f} CPU s"
    for kind, (path, _) in songs.items():
        for cache in (None, path.parent / "cache"):
            batches = iter(loader(model, kind, path, cache))
            next(batches)  # a worker looks at each file once
            spent = [cpu(next, batches) for _ in range(n_batches)]
            mean = sum(spent) / n_batches
            name = f"{kind}{', cached' if cache else ''}"
            yield f"{name:18s}{1000 * mean:8.1f} CPU ms a batch: a step takes {seconds / mean:.0f}x"


def loader(
    model: zoo.Separator, kind: str, path: Path, cache: Path | None
) -> torch.utils.data.DataLoader[dict[str, torch.Tensor]]:
    """What a worker of training does, in this process: four songs of that kind of file."""
    root = path.parent / f"{kind}-songs"
    for k in range(0 if root.exists() else 4):
        if kind == "stem.mp4":
            (root / "train").mkdir(parents=True, exist_ok=True)
            (root / "test").mkdir(exist_ok=True)
            (root / "train" / f"Song {k}.stem.mp4").symlink_to(path)
        else:
            (root / str(k)).mkdir(parents=True)
            for source in model.sources:
                (root / str(k) / f"{source}.{kind}").symlink_to(path)
    data = SeparationData(
        "musdb18" if kind == "stem.mp4" else "folder",
        str(root),
        {"valid": "none"} if kind == "stem.mp4" else None,
        batch_size=STEP_BATCH,
        examples_per_epoch=100 * STEP_BATCH,
        cache=None if cache is None else str(cache),
    )
    return data.obey(model).train_dataloader()


if __name__ == "__main__":
    main()
