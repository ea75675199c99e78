"""MP3, AAC and whatever else FFmpeg's libraries know (PyAV), decoded forward.

The lengths that MP3 files announce and the places that seeking in them finds are wrong too often;
decoding forward is right, so seeking here means decoding up to there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from zoo.audio.pcm import to_float
from zoo.audio.source import ForwardSource
from zoo.errors import AudioFileError, MissingPackage

if TYPE_CHECKING:
    from av import AudioFrame
    from av.audio.stream import AudioStream

KINDS = "wav, flac, ogg, opus, mp3, aiff, m4a or mp4"

# What a file may be taken for.  FFmpeg takes text for subtitles and opens the files that playlists
# name; neither is wanted.
_DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,eac3,flac,flv,loas,matroska,webm,mov,mp4,m4a,3gp,3g2,"
    "mj2,mp3,mpeg,mpegts,mpc,mpc8,ogg,oma,tak,tta,w64,wav,wv"
)
_LOSSLESS = ("alac", "ape", "flac", "mlp", "pcm_", "shorten", "tak", "truehd", "tta", "wavpack")
_MAX_PADDING = 8192  # samples; an encoder fills its last frame, at most 2 x 2048 samples
_DTYPES = {"u8p": "u1", "s16p": "i2", "s32p": "i4", "s64p": "i8", "fltp": "f4", "dblp": "f8"}
_TOLERANCE_S = 0.1  # a length is rounded, or counts the encoder's own delay


class StreamSource(ForwardSource):
    """An audio stream of a file, decoded forward.

    Args:
        path: of the file.
        number: of the stream among those of audio; None: the first, with a note if there are more.

    Raises:
        AudioFileError: no audio that FFmpeg knows, or no such stream.
        MissingPackage: the package av is not installed.
    """

    samples: int | None = None

    def __init__(self, path: Path, number: int | None = None) -> None:
        self._path, self._number = path, number or 0
        self.notes: list[str] = []
        self._start()
        stream = self._stream
        name = stream.codec_context.name
        self._is_lossless = name.startswith(_LOSSLESS)
        if number is None and len(self._container.streams.audio) > 1:
            self._note(f"{len(self._container.streams.audio)} audio streams; the first is read")
        try:
            first = next(self._frames, None)
        except AudioFileError:
            self.close()
            raise
        if first is None:
            self.close()
            raise AudioFileError(f"{path} holds no audio that can be decoded; give another file.")
        self.rate, self.channels = first.sample_rate, first.layout.nb_channels
        self._blocks = self._trimmed(chain([first], self._frames))
        self.is_float = self._is_lossless and first.format.name.startswith(("flt", "dbl"))
        self.bits = _bits(stream, first) if self._is_lossless else 16
        self.announced = self._announced()
        self._pending = np.zeros((self.channels, 0), np.float32)

    def _next(self, n: int) -> np.ndarray:
        parts = [np.zeros((self.channels, 0), np.float32)]
        left = n
        while left:
            if not self._pending.shape[1]:
                try:
                    self._pending = next(self._blocks)
                except StopIteration:
                    break
            parts.append(self._pending[:, :left])
            self._pending = self._pending[:, left:]
            left -= parts[-1].shape[1]
        return np.concatenate(parts, axis=1)

    def _restart(self) -> None:
        self.close()
        self._start()
        self._blocks = self._trimmed(self._frames)
        self._pending = np.zeros((self.channels, 0), np.float32)

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()
        self._file.close()

    def _start(self) -> None:
        try:
            import av
        except ImportError as error:
            raise MissingPackage(
                f"{self._path} is compressed audio, which needs the package av: pip install av."
            ) from error
        self._av = av
        self._decoded = 0
        self._file = self._path.open("rb")
        try:
            self._container = av.open(
                _Nameless(self._file),
                mode="r",
                options={"format_whitelist": _DEMUXERS},
                metadata_errors="replace",
            )
        except (av.FFmpegError, ValueError) as error:
            self._file.close()
            raise AudioFileError(
                f"{self._path} is not audio of a kind that can be read; give a {KINDS} file."
            ) from error
        if not self._container.streams.audio:
            self.close()
            raise AudioFileError(f"{self._path} has no audio stream; give a file with sound.")
        streams = self._container.streams.audio
        if not 0 <= self._number < len(streams):
            self.close()
            raise AudioFileError(
                f"{self._path} has no audio stream {self._number}, but {len(streams)} of them; "
                "they are counted from 0."
            )
        self._stream = streams[self._number]
        self._frames = self._decode()

    def _decode(self) -> Iterator[AudioFrame]:
        """The frames that can be decoded; what is damaged between them is skipped and noted."""
        damaged = False
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except self._av.FFmpegError as error:
                self._damage(error)
                return
            try:
                frames = packet.decode()
            except self._av.FFmpegError as error:
                if self._is_lossless:
                    self._damage(error)
                damaged = self._decoded > 0
                continue
            for frame in frames:
                if not frame.samples:
                    continue
                if damaged:  # only damage that sound follows: a tag at the end is none
                    self._note(f"damaged near {self._decoded / frame.sample_rate:.2f} s; skipped")
                    damaged = False
                self._decoded += frame.samples
                yield frame

    def _damage(self, error: Exception) -> None:
        rate = self._stream.codec_context.sample_rate or 1
        raise AudioFileError(
            f"{self._path} is damaged at {self._decoded / rate:.2f} s; copy or download it again."
        ) from error

    def _trimmed(self, frames: Iterable[AudioFrame]) -> Iterator[np.ndarray]:
        """The signal without the padding that fills the last frame, where the file tells it."""
        end = self.announced if self._tells_length else None
        beyond: list[np.ndarray] = []
        position = 0
        for frame in frames:
            x = _samples(frame)
            if frame.sample_rate != self.rate or x.shape[0] != self.channels:
                raise AudioFileError(
                    f"{self._path} changes to {x.shape[0]} channels at {frame.sample_rate} Hz "
                    f"after {position / self.rate:.2f} s; cut it there into two files."
                )
            position += x.shape[1]
            if end is not None and position > end:
                inside = max(0, x.shape[1] - (position - end))
                beyond.append(x[:, inside:])
                x = x[:, :inside]
                if position - end > _MAX_PADDING:  # no padding: the announced length is wrong
                    end, x = None, np.concatenate([x, *beyond], axis=1)
                    beyond.clear()
            if x.shape[1]:
                yield x
        self._compare(position)

    def _compare(self, samples: int) -> None:
        if self._tells_length and self.announced:
            missing = self.announced - samples
            if missing > _TOLERANCE_S * self.rate:
                self._note(
                    f"shorter than announced: {samples / self.rate:.2f} s "
                    f"instead of {self.announced / self.rate:.2f} s"
                )

    def _note(self, note: str) -> None:
        if note not in self.notes:  # the second pass finds it again
            self.notes.append(note)

    def _announced(self) -> int | None:
        """Samples that the container speaks of, for a progress bar."""
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            return round(stream.duration * stream.time_base * self.rate)
        if self._container.duration is not None:
            return round(self._container.duration * self.rate / 1_000_000)  # FFmpeg counts in us
        return None

    @property
    def _tells_length(self) -> bool:
        """Whether the container counts its samples, rather than that FFmpeg guesses from bytes."""
        name = self._container.format.name
        if name == "mp3":
            return _has_xing(self._path)
        return name.startswith(("mov", "wav", "w64", "caf"))


class _Nameless:
    """A file without its name, so that FFmpeg goes by the content."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _samples(frame: AudioFrame) -> np.ndarray:
    """Float32 ``(channels, n)``."""
    channels = frame.layout.nb_channels
    if frame.format.is_packed:
        return np.ascontiguousarray(to_float(frame.to_ndarray()).reshape(-1, channels).T)
    from av.audio.plane import AudioPlane

    # PyAV 18's own list of planes runs beyond the last one from 8 channels on, and crashes.
    kind = np.dtype(_DTYPES[frame.format.name])
    planes = [
        np.frombuffer(memoryview(AudioPlane(frame, i)), kind, frame.samples)
        for i in range(channels)
    ]
    return to_float(np.stack(planes))


def _bits(stream: AudioStream, frame: AudioFrame) -> int:
    width = 8 * frame.format.bytes
    coded = int(getattr(stream.codec_context, "bits_per_coded_sample", 0) or 0)
    if 8 <= coded <= width:
        return coded
    return 24 if width == 32 and frame.format.name.startswith("s32") else width


def _has_xing(path: Path) -> bool:
    """Whether an MP3 file counts its frames in its first frame."""
    with path.open("rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":
            size = sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
            file.seek(10 + size)
        else:
            file.seek(0)
        first = file.read(4096)
    return any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))
