"""Audio files written in blocks, complete or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from zoo.audio.encoders import AacEncoder, Encoder, SoundFileEncoder, WaveEncoder
from zoo.errors import AudioFileError, ShapeError, ZooError

_FULL = 1 << 16  # bytes that are free on a disk that a block did not fit on
MAX_AIFF_BYTES = 4_200_000_000  # its lengths have 32 bits


@dataclass(frozen=True)
class Format:
    """What a kind of file can hold.

    Attributes:
        name: as libsndfile calls it.
        subtypes: of samples; the first is the default.
        max_channels: most channels.
        rates: in Hz, that it can have.
        rates_text: the same in words.
    """

    name: str
    subtypes: tuple[str, ...]
    max_channels: int
    rates: Container[int] = range(1, 1 << 31)
    rates_text: str = "any"


class _FlacRates:
    """FLAC's frame headers count above 65535 Hz in tens."""

    def __contains__(self, rate: object) -> bool:
        return isinstance(rate, int) and 1 <= rate <= 655350 and (rate < 65536 or rate % 10 == 0)


_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_RATES = (*_MP3_RATES, 64000, 88200, 96000)
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_LINEAR = ("FLOAT", "PCM_16", "PCM_24", "PCM_32")


def _listed(rates: tuple[int, ...]) -> str:
    return ", ".join(map(str, rates))


_WAV = Format("WAV", _LINEAR, 1024)
_AIFF = Format("AIFF", _LINEAR, 1024)
_VORBIS = Format("OGG", ("VORBIS",), 255, range(1000, 192001), "1000 to 192000")
_AAC = Format("M4A", ("AAC",), 2, _AAC_RATES, _listed(_AAC_RATES))
FORMATS = {
    ".wav": _WAV,
    ".wave": _WAV,
    ".flac": Format("FLAC", ("PCM_24", "PCM_16"), 8, _FlacRates(), "1 to 65535, tens to 655350"),
    ".ogg": _VORBIS,
    ".oga": _VORBIS,
    ".opus": Format("OPUS", ("OPUS",), 2, _OPUS_RATES, _listed(_OPUS_RATES)),
    ".mp3": Format("MP3", ("MPEG_LAYER_III",), 2, _MP3_RATES, _listed(_MP3_RATES)),
    ".m4a": _AAC,
    ".mp4": _AAC,
    ".aiff": _AIFF,
    ".aif": _AIFF,
    ".caf": Format("CAF", _LINEAR, 1024),
    ".w64": Format("W64", _LINEAR, 1024),
}
"""What can be written, by extension."""


def check_output(
    path: str | os.PathLike[str],
    rate: int,
    channels: int,
    subtype: str | None = None,
    samples: int | None = None,
) -> None:
    """Say whether a file could be written so, before anything is computed; nothing is opened.

    Args:
        path: its extension names the format, see `FORMATS`.
        rate: in Hz.
        channels: of the signal.
        subtype: of the samples; None: the format's default.
        samples: expected length, if known.

    Raises:
        AudioFileError: the format cannot take it, or the place cannot.
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise AudioFileError(
            f"{path}: files of kind {path.suffix or '(no extension)'!r} cannot be written; "
            f"take one of {' '.join(FORMATS)}."
        )
    name = path.suffix[1:].lower()
    if rate not in kind.rates:
        raise AudioFileError(
            f"{path}: {name} files cannot have {rate} Hz, only {kind.rates_text}; "
            "write wav or flac, or resample first."
        )
    if not 1 <= channels <= kind.max_channels:
        raise AudioFileError(
            f"{path}: {name} files cannot have {channels} channels, only 1 to "
            f"{kind.max_channels}; write wav, or fewer channels."
        )
    if subtype is not None and subtype not in kind.subtypes:
        raise AudioFileError(
            f"{path}: {name} files cannot hold {subtype}; take one of {', '.join(kind.subtypes)}."
        )
    _check_place(path)
    size = _bytes(kind, channels, subtype, samples)
    if kind is _AIFF and size > MAX_AIFF_BYTES:
        raise _too_long(path)
    disk = shutil.disk_usage(path.parent)
    if disk.total and size > disk.free:
        raise AudioFileError(
            f"{path}: {size / 1e6:.1f} MB are needed and {disk.free / 1e6:.1f} MB are free; "
            "make room or choose another disk."
        )


class AudioWriter:
    """An audio file in the making, complete or not at all.

    It grows under a hidden name beside the final one and is renamed when closed.  As a context
    manager it closes on success and leaves nothing behind on an error.

    Args:
        path: its extension names the format, see `FORMATS`; a file of this name is replaced.
        rate: in Hz.
        channels: of the signal.
        subtype: of the samples, such as ``"PCM_16"``; None: the best that the format has, 32-bit
            float in wave files.
        samples: expected length, if known: where it cannot fit, that is said at once.

    Attributes:
        clipped: samples beyond full scale that the format cut there; floats are never cut.

    Raises:
        AudioFileError: as `check_output`.
        MissingPackage: the format needs a package that is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        rate: int,
        channels: int,
        subtype: str | None = None,
        samples: int | None = None,
    ) -> None:
        check_output(path, rate, channels, subtype, samples)
        self.path = Path(path)
        self.rate, self.channels = rate, channels
        self.clipped = 0
        self._kind = FORMATS[self.path.suffix.lower()]
        self.subtype = subtype or self._kind.subtypes[0]
        self._written = 0
        # The token keeps two runs apart; the name is cut as it must fit where the final one fits.
        token = f".{secrets.token_hex(4)}.partial"
        self._partial = self.path.with_name(f".{self.path.name[:40]}{token}")
        self._encoder: Encoder | None = None
        self._is_finished = False  # complete, but for its name
        try:
            self._file = self._partial.open("x+b")
        except OSError as error:
            raise AudioFileError(
                f"{self.path} cannot be written ({error.strerror}); choose another place."
            ) from error
        with self._or_nothing():
            self._encoder = self._open()

    def write(self, x: np.ndarray) -> None:
        """Add ``(channels, n)`` of any n.

        Raises:
            AudioFileError: NaN or infinity, a full disk; the file is then given up.
            ShapeError: another shape, or integers.
        """
        if self._encoder is None:
            raise ValueError(f"{self.path} is closed.")
        if x.ndim != 2 or x.shape[0] != self.channels or x.dtype.kind != "f":
            raise ShapeError(
                f"{x.dtype} signal of shape {x.shape} for {self.path}; expected floats of shape "
                f"({self.channels}, samples). Transpose it if samples come first."
            )
        with self._or_nothing():
            for start in range(0, x.shape[1], self.rate):
                self._write(x[:, start : start + self.rate].astype(np.float32, copy=False))

    def finish(self) -> None:
        """Complete the contents under the hidden name; `close` then has only to rename it.

        Raises:
            AudioFileError: it cannot be completed; nothing is left of it.
        """
        if self._encoder is None:
            return
        with self._or_nothing():
            self._encoder.close()
            self._file.close()
        self._encoder = None
        self._is_finished = True

    def close(self) -> None:
        """Complete the file and give it its name; closing twice does no harm.

        Raises:
            AudioFileError: it cannot be completed; nothing is left of it.
        """
        self.finish()
        if self._is_finished:
            with self._or_nothing():
                os.replace(self._partial, self.path)
            self._is_finished = False

    def abort(self) -> None:
        """Leave nothing behind; what stood at the final name before still stands there."""
        encoder, self._encoder = self._encoder, None
        self._is_finished = False
        # A full disk says so once more as buffers are emptied; the file goes anyway.
        with suppress(OSError, RuntimeError):
            if encoder is not None:
                encoder.abort()
        with suppress(OSError):
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _open(self) -> Encoder:
        if self._kind is _WAV:
            return WaveEncoder(self._file, self.rate, self.channels, self.subtype)
        if self._kind is _AAC:
            return AacEncoder(self._file, self.rate, self.channels)
        return SoundFileEncoder(self._file, self.rate, self.channels, self._kind.name, self.subtype)

    def _write(self, x: np.ndarray) -> None:
        finite = np.isfinite(x)
        if not finite.all():
            first = self._written + int(np.argmin(finite.all(axis=0)))
            raise AudioFileError(
                f"{self.path}: the signal is NaN or infinite at {first / self.rate:.3f} s; "
                "nothing is written, repair it first."
            )
        self._written += x.shape[1]
        if self._kind is _AIFF and _bytes(_AIFF, self.channels, self.subtype, self._written) > (
            MAX_AIFF_BYTES
        ):
            raise _too_long(self.path)
        if self.subtype != "FLOAT":
            self.clipped += int(np.count_nonzero(np.abs(x) > 1))
        assert self._encoder is not None
        self._encoder.write(x)

    @contextmanager
    def _or_nothing(self) -> Iterator[None]:
        """Leave nothing behind if this fails, or is interrupted."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            failure = self._failed(error)
            self.abort()
            if failure is None:
                raise
            raise failure from error
        except BaseException:
            self.abort()
            raise

    def _failed(self, error: OSError | RuntimeError) -> AudioFileError | None:
        """What to say of a failure of the system; None: it says it itself."""
        if isinstance(error, ZooError):
            return None
        reason = getattr(error, "strerror", None) or str(error)
        if shutil.disk_usage(self.path.parent).free < _FULL:
            reason = "the disk is full"
        return AudioFileError(
            f"{self.path} cannot be written ({reason}); nothing is left of it. "
            "Make room or choose another place."
        )


def _check_place(path: Path) -> None:
    parent = path.parent
    try:
        if path.exists() and not path.is_file():
            raise AudioFileError(f"{path} is a folder or a device; choose another name.")
        if not parent.is_dir():
            raise AudioFileError(f"{path}: there is no folder {parent}; make it first.")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise AudioFileError(f"{path}: folder {parent} is not writable; choose another one.")
    except AudioFileError:
        raise
    except OSError as error:
        raise AudioFileError(
            f"{path} cannot be written ({error.strerror}); choose another name or place."
        ) from error


def _bytes(kind: Format, channels: int, subtype: str | None, samples: int | None) -> int:
    """Size of uncompressed audio; 0 where it is not known."""
    if samples is None or kind.subtypes is not _LINEAR:
        return 0
    subtype = subtype or kind.subtypes[0]
    return samples * channels * (4 if subtype == "FLOAT" else int(subtype[4:]) // 8)


def _too_long(path: Path) -> AudioFileError:
    return AudioFileError(
        f"{path}: aiff files hold at most {MAX_AIFF_BYTES / 1e9:.1f} GB; write wav, flac or w64."
    )
