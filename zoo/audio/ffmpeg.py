"""MP3, AAC and whatever else FFmpeg's libraries know (PyAV).

The lengths that MP3 files announce and the places that seeking in them finds are wrong too often;
decoding forward is right, so seeking there means decoding up to there.  The containers of the MP4
family say where each packet belongs: in those, AAC-LC and ALAC are decoded from a few packets
before the place that is asked for, where that was seen to give the same samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import lru_cache
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
    from av.container import InputContainer

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
_LEAD = 4  # packets decoded before the place that is asked for; AAC-LC remembers one
_TRIALS, _TRIAL_S = 6, 0.25  # places at which, and seconds for which, jumping is tried


class StreamSource(ForwardSource):
    """An audio stream of a file, decoded forward, or from anywhere where that is exact.

    Args:
        path: of the file.
        number: of the stream among those of audio; None: the first, with a note if there are more.

    Raises:
        AudioFileError: no audio that FFmpeg knows, or no such stream.
        MissingPackage: the package av is not installed.
    """

    samples: int | None = None
    _container: InputContainer
    _stream: AudioStream
    _frames: Iterator[AudioFrame]

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
        self.announced = self._announced()
        self._origin = first.pts or 0
        self._step = 0  # samples of a packet, where the container says where each belongs
        self.samples = self._length()
        self._blocks = self._trimmed(chain([first], self._frames))
        self.is_float = self._is_lossless and first.format.name.startswith(("flt", "dbl"))
        self.bits = _bits(stream, first) if self._is_lossless else 16
        self._pending = np.zeros((self.channels, 0), np.float32)

    @property
    def random_access(self) -> bool:  # noqa: D102
        if self.samples is None:
            return False
        facts = self._path.stat()
        return _can_jump(self._path, self._number, facts.st_size, facts.st_mtime_ns)

    def seek(self, start: int) -> int:
        """The sample at which it stands now, after jumping, or decoding, up to there."""
        if self.samples is not None:
            start = min(start, self.samples)
            near = 2 * _LEAD * self._step
            is_ahead = self._position <= start <= self._position + near
            if start > near and not is_ahead and self.random_access:
                self._jump(start)
        return super().seek(start)

    def _jump(self, start: int) -> None:
        """Begin again some packets before ``start``; at the beginning, where those are damaged."""
        place = self._origin + start
        try:
            self._container.seek(place - _LEAD * self._step, stream=self._stream)
            frames = self._decode()
            first = next(frames, None)
        except (self._av.FFmpegError, AudioFileError):
            first = None
        if first is None or first.pts is None or first.pts > place - 2 * self._step:
            self._restart()
            self._position = 0
            return
        self._position = first.pts - self._origin
        self._decoded = self._position + first.samples
        self._blocks = self._trimmed(chain([first], frames), self._position)
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
        for stream in self._container.streams:
            if stream is not self._stream:
                stream.discard = av.stream.Discard.all  # its packets are not even read
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

    def _trimmed(self, frames: Iterable[AudioFrame], position: int = 0) -> Iterator[np.ndarray]:
        """The signal without the padding that fills the last frame, where the file tells it.

        Where the container says where each packet belongs, silence stands for damaged ones.
        """
        end = self.announced if self._tells_length else None
        beyond: list[np.ndarray] = []
        for frame in frames:
            x = _samples(frame)
            if frame.sample_rate != self.rate or x.shape[0] != self.channels:
                raise AudioFileError(
                    f"{self._path} changes to {x.shape[0]} channels at {frame.sample_rate} Hz "
                    f"after {position / self.rate:.2f} s; cut it there into two files."
                )
            if self._step and frame.pts is not None:
                missing = frame.pts - self._origin - position
                if missing > 0:
                    x = np.pad(x, ((0, 0), (missing, 0)))
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

    def _length(self) -> int | None:
        """Samples, where the container says where each packet belongs; None: it does not."""
        stream, codec = self._stream, self._stream.codec_context
        can = codec.name == "alac" or (codec.name == "aac" and codec.profile == "LC")
        index = stream.index_entries
        if (
            not (can and self._container.format.name.startswith("mov") and self.announced)
            or stream.time_base is None
            or stream.time_base * self.rate != 1
            or len(index) < 2
        ):
            return None
        first, last = index[0], index[-1]
        step = index[1].timestamp - first.timestamp
        is_even = last.timestamp - first.timestamp == (len(index) - 1) * step
        is_whole = last.pos + last.size <= self._path.stat().st_size
        padding = last.timestamp + step - self._origin - self.announced
        if not (is_even and is_whole and 0 <= padding <= _MAX_PADDING):
            return None
        self._step = step
        return self.announced

    @property
    def _tells_length(self) -> bool:
        """Whether the container counts its samples, rather than that FFmpeg guesses from bytes."""
        name = self._container.format.name
        if name == "mp3":
            return _has_xing(self._path)
        return name.startswith(("mov", "wav", "w64", "caf"))


@lru_cache(maxsize=1 << 14)
def _can_jump(path: Path, number: int, size: int, changed_ns: int) -> bool:
    """Whether jumping into a stream, by its file's size and time, is decoding up to there.

    AAC may fill bands with noise whose generator goes on from packet to packet: such a stream
    sounds alike but not the same from another beginning.  So some places are decoded twice in turn.
    """
    with closing(StreamSource(path, number)) as source:
        n = round(_TRIAL_S * source.rate)
        assert source.samples is not None
        if source.samples < 8 * n:
            return False  # decoding it all costs little
        head = source.read(6 * n)
        places = [4 * n, *np.linspace(4 * n, source.samples - n, _TRIALS, dtype=int).tolist()]
        heard = []
        for place in 2 * places:
            source._jump(place)
            ForwardSource.seek(source, place)
            heard.append(source.read(n))
        half = len(places)
        return np.array_equal(heard[0], head[:, 4 * n : 5 * n]) and all(
            np.array_equal(a, b) for a, b in zip(heard[:half], heard[half:], strict=True)
        )


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
