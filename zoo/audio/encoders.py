"""Signals into the bytes of a file: waves by our own hand, the rest by libsndfile and FFmpeg."""

from __future__ import annotations

import os
from typing import Any, BinaryIO, Protocol

import numpy as np

from zoo.audio import pcm
from zoo.audio.libsndfile import channel_order
from zoo.audio.wave import build_header
from zoo.errors import MissingPackage

MAX_RIFF_BYTES = 3_900_000_000
"""Audio above which a wave file becomes an RF64 file: lengths of 32 bits would lie at 4 GiB."""

_WAVE: dict[str, pcm.Encoding] = {"PCM_16": "s16", "PCM_24": "s24", "PCM_32": "s32", "FLOAT": "f32"}
_PIECE = 16384  # samples; libsndfile 1.2.2 dies of a Vorbis write of a minute
_PROBE = 1 << 16  # bytes; encoders keep less than that back
_QUALITY: dict[str, dict[str, Any]] = {
    "MP3": {"bitrate_mode": "CONSTANT", "compression_level": 0.2},  # constant: seeking is exact
    "OGG": {"compression_level": 0.2},  # Vorbis quality 8
    "OPUS": {"compression_level": 0.3},
}


class Encoder(Protocol):
    """A file that takes a signal in blocks, and raises OSError or RuntimeError if it cannot."""

    def write(self, x: np.ndarray) -> None:
        """Add float32 ``(channels, n)``."""
        ...

    def close(self) -> None:
        """Complete the contents; the file stays open."""
        ...

    def abort(self) -> None:
        """Let go of it without caring for the contents."""
        ...


class WaveEncoder:
    """Wave files, which become RF64 at the end if they have grown that long."""

    def __init__(self, file: BinaryIO, rate: int, channels: int, subtype: str) -> None:
        self._file, self._rate, self._channels = file, rate, channels
        self._encoding = _WAVE[subtype]
        self._samples = 0
        file.write(self._header())

    def write(self, x: np.ndarray) -> None:
        """Add float32 ``(channels, n)``."""
        self._file.write(pcm.encode(x, self._encoding))
        self._samples += x.shape[1]

    def close(self) -> None:
        """Put the length into the header."""
        if self._samples * self._channels * pcm.WIDTH[self._encoding] % 2:
            self._file.write(b"\0")
        self._file.seek(0)
        self._file.write(self._header())
        self._file.flush()

    def abort(self) -> None:
        """Nothing to let go of."""

    def _header(self) -> bytes:
        return build_header(
            self._rate, self._channels, self._encoding, self._samples, MAX_RIFF_BYTES
        )


class SoundFileEncoder:
    """What libsndfile writes.

    It gets the file's number, not the object: an interrupt in a call back from libsndfile would be
    lost.
    """

    def __init__(self, file: BinaryIO, rate: int, channels: int, kind: str, subtype: str) -> None:
        try:
            import soundfile
        except ImportError as error:
            raise MissingPackage(
                f"writing {kind.lower()} files needs the package soundfile: pip install soundfile; "
                "wav needs nothing."
            ) from error
        self._subtype, self._target = subtype, file
        self._file = soundfile.SoundFile(
            file.fileno(),
            "w",
            rate,
            channels,
            subtype,
            format="OGG" if kind == "OPUS" else kind,
            closefd=False,
            **_QUALITY.get(kind, {}),
        )

    def write(self, x: np.ndarray) -> None:
        """Add float32 ``(channels, n)``."""
        if self._subtype == "VORBIS":
            x = x[np.argsort(channel_order(len(x)))]
        for start in range(0, x.shape[1], _PIECE):
            self._file.write(self._samples(x[:, start : start + _PIECE].T))

    def close(self) -> None:
        """Complete the contents."""
        self._file.close()
        # libsndfile says nothing of a disk that fills up while it closes; what it lost then is less
        # than this, so this does not fit either.
        number = self._target.fileno()
        size = os.fstat(number).st_size
        self._target.seek(size)
        self._target.write(bytes(_PROBE))
        self._target.flush()
        os.ftruncate(number, size)

    def abort(self) -> None:
        """Let go of it."""
        self._file.close()

    def _samples(self, x: np.ndarray) -> np.ndarray:
        """Integers rounded here, as libsndfile rounds down."""
        if not self._subtype.startswith("PCM"):
            return np.ascontiguousarray(x)
        bits = int(self._subtype[4:])
        return np.ascontiguousarray(pcm.quantise(x, bits) << (32 - bits))


class AacEncoder:
    """AAC in an MP4 container."""

    def __init__(self, file: BinaryIO, rate: int, channels: int) -> None:
        try:
            import av
        except ImportError as error:
            raise MissingPackage(
                "writing m4a files needs the package av: pip install av; wav needs nothing."
            ) from error
        self._frame: Any = av.AudioFrame
        self._rate, self._layout = rate, "stereo" if channels == 2 else "mono"
        self._container: Any = av.open(
            _Raw(file.fileno()), "w", format="ipod", options={"movie_timescale": str(rate)}
        )  # FFmpeg counts in ms else, and cuts the end
        self._stream: Any = self._container.add_stream("aac", rate=rate, layout=self._layout)
        self._stream.bit_rate = channels * min(128_000, 5 * rate)  # AAC takes at most 6 bits/sample
        self._samples = 0

    def write(self, x: np.ndarray) -> None:
        """Add float32 ``(channels, n)``."""
        frame = self._frame.from_ndarray(np.ascontiguousarray(x), "fltp", self._layout)
        frame.sample_rate, frame.pts = self._rate, self._samples
        self._samples += x.shape[1]
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Complete the contents."""
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abort(self) -> None:
        """Let go of it."""
        self._container.close()


class _Raw:
    """A file without a buffer: FFmpeg has its own, and a full disk is told where it happens."""

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        while left:
            left = left[os.write(self._number, left) :]
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._number, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._number, 0, os.SEEK_CUR)
