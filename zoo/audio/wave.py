"""The headers of wave files, also of those that do not tell the truth.

Recorders that crash leave a length of zero, encoders that stream leave the largest number, and
files above 4 GiB leave the length modulo 2^32: the length is taken from the file instead.

Reference:
    IBM and Microsoft, "Multimedia Programming Interface and Data Specifications 1.0", 1991;
    EBU Tech 3306, "RF64: an extended file format for audio data".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from zoo.audio.pcm import WIDTH, Encoding

_UNSET = 0xFFFFFFFF
_WRAP = 1 << 32
_UNKNOWN = ((0x7FFFF000, 0x80000000), (0xFFFF0000, _UNSET))  # SoX, FFmpeg, while streaming
_MAX_TAIL = 4096  # bytes after the audio that are no chunk and no news: ID3v1, padding
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_ENCODINGS: dict[tuple[int, int], Encoding] = {
    (_PCM, 1): "u8",
    (_PCM, 2): "s16",
    (_PCM, 3): "s24",
    (_PCM, 4): "s32",
    (_FLOAT, 4): "f32",
    (_FLOAT, 8): "f64",
}


@dataclass(frozen=True)
class WaveHeader:
    """Where the samples of a wave file lie, and what they are.

    Attributes:
        rate: in Hz.
        channels: at least 1.
        encoding: of a sample.
        bits: that the file says its samples have, at most the width of the encoding.
        start: of the first sample, in bytes.
        samples: that are there, whatever the file announces.
        announced: samples that the file announces; None: it does not say.
        note: one line about a length that is wrong.
    """

    rate: int
    channels: int
    encoding: Encoding
    bits: int
    start: int
    samples: int
    announced: int | None
    note: str | None


@dataclass(frozen=True)
class _Chunk:
    name: bytes
    start: int
    size: int


@dataclass(frozen=True)
class _Extent:
    """Bytes of audio that are there, and what is to be said about them."""

    size: int
    note: str | None = None


def is_wave(head: bytes) -> bool:
    """Whether a file that starts so is a little-endian wave file."""
    return head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE"


def parse_wave(file: BinaryIO, size: int) -> WaveHeader | None:
    """The header of a wave file of ``size`` bytes; None: compressed samples.

    Raises:
        ValueError: what is wrong with the header, in words.
    """
    file.seek(0)
    is_64 = file.read(4) != b"RIFF"
    form, length_64, data = b"", None, None
    for chunk in _chunks(file, 12, size):
        if chunk.name == b"data":
            data = chunk
            break
        file.seek(chunk.start)
        if chunk.name == b"fmt ":
            form = file.read(min(chunk.size, 40))
        elif chunk.name == b"ds64" and is_64 and chunk.size >= 16:
            length_64 = struct.unpack("<8xQ", file.read(16))[0]
    if len(form) < 16 or data is None:
        raise ValueError(
            "the wave header is damaged: it does not say where or what the samples are"
        )
    tag, channels, rate, _, align, bits = struct.unpack("<HHIIHH", form[:16])
    if tag == _EXTENSIBLE and len(form) >= 26:
        tag = struct.unpack("<H", form[24:26])[0]
    if not channels or not rate:
        raise ValueError(f"the wave header says {channels} channels at {rate} Hz")
    encoding = _ENCODINGS.get((tag, align // channels))
    if encoding is None or align % channels:
        return None
    announced = data.size if length_64 is None else length_64
    extent = _extent(file, data.start, announced, size, rate * align)
    width = 8 * WIDTH[encoding]
    return WaveHeader(
        rate=rate,
        channels=channels,
        encoding=encoding,
        bits=min(bits or width, width),
        start=data.start,
        samples=extent.size // align,
        announced=None if _says_nothing(announced) else announced // align,
        note=extent.note,
    )


def _chunks(file: BinaryIO, position: int, size: int) -> Iterator[_Chunk]:
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        yield _Chunk(name, position + 8, length)
        position += 8 + length + length % 2


def _says_nothing(announced: int) -> bool:
    """Whether a length is what programs write that do not know it yet."""
    return announced == 0 or any(first <= announced <= last for first, last in _UNKNOWN)


def _extent(file: BinaryIO, start: int, announced: int, size: int, byte_rate: int) -> _Extent:
    available = size - start
    if announced <= available and _ends_or_goes_on(file, start + announced, size):
        return _Extent(announced)
    if _says_nothing(announced):
        return _Extent(
            available, "the header does not say how long the recording is; read to the file's end"
        )
    if announced > available:
        return _Extent(
            available,
            f"shorter than announced: {available / byte_rate:.2f} s "
            f"instead of {announced / byte_rate:.2f} s",
        )
    if available >= _WRAP:
        note = "the header cannot hold this length (above 4 GiB); taken from the file's size"
        for whole in range(announced, available + 1, _WRAP):
            if _ends_or_goes_on(file, start + whole, size):
                return _Extent(whole, note)
        return _Extent(available, note)
    tail = available - announced
    if tail < _MAX_TAIL:
        return _Extent(announced)
    return _Extent(announced, f"{tail} bytes after the announced end are not read")


def _ends_or_goes_on(file: BinaryIO, position: int, size: int) -> bool:
    """Whether the file ends here, or goes on with chunks that lead to its end."""
    for chunk in _chunks(file, position + position % 2, size):
        if not all(0x20 <= c <= 0x7E for c in chunk.name):
            return False
        position = chunk.start + chunk.size
    return 0 <= size - position <= 1


def build_header(
    rate: int, channels: int, encoding: Encoding, samples: int, max_riff_bytes: int
) -> bytes:
    """The header of a wave file, of the same size whatever the length.

    Above ``max_riff_bytes`` of audio it is an RF64 file; below, the room that this takes is a JUNK
    chunk, as EBU Tech 3306 has it.
    """
    width = WIDTH[encoding]
    align = width * channels
    size = samples * align
    is_float = encoding in ("f32", "f64")
    form = struct.pack(
        "<HHIIHH",
        _FLOAT if is_float else _PCM,
        channels,
        rate,
        rate * align % _WRAP,
        align,
        8 * width,
    )
    is_64 = size > max_riff_bytes
    rest = _chunk(b"fmt ", form + (b"\0\0" if is_float else b""))
    if is_float:
        rest += _chunk(b"fact", struct.pack("<I", min(samples, _UNSET)))
    rest += struct.pack("<4sI", b"data", _UNSET if is_64 else size)
    whole = 4 + 36 + len(rest) + size + size % 2
    if is_64:
        first = struct.pack("<4sI4s", b"RF64", _UNSET, b"WAVE")
        room = _chunk(b"ds64", struct.pack("<QQQI", whole, size, samples, 0))
    else:
        first = struct.pack("<4sI4s", b"RIFF", whole, b"WAVE")
        room = _chunk(b"JUNK", bytes(28))
    return first + room + rest


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content
