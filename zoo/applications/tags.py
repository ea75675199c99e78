"""Titles, artists and covers, from one audio file into another.

Between files of one kind all tags travel; between kinds those of `KEYS`, and the cover.  MP3, FLAC,
M4A, Ogg Vorbis, Opus, WAV and AIFF can hold them.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from mutagen import File, MutagenError
from mutagen.aiff import AIFF
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, ID3, Frames
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4, MP4Cover
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

# name in Vorbis comments -> frame of ID3, atom of MP4
KEYS = {
    "title": ("TIT2", "\xa9nam"),
    "artist": ("TPE1", "\xa9ART"),
    "album": ("TALB", "\xa9alb"),
    "albumartist": ("TPE2", "aART"),
    "date": ("TDRC", "\xa9day"),
    "genre": ("TCON", "\xa9gen"),
    "composer": ("TCOM", "\xa9wrt"),
    "copyright": ("TCOP", "cprt"),
    "tracknumber": ("TRCK", "trkn"),
    "discnumber": ("TPOS", "disk"),
}
_FRONT = 3  # type of a picture: the front cover


def copy_tags(source: Path, target: Path) -> bool:
    """Give a file the tags and the cover of another.

    Returns:
        False where the one has none, or the other cannot hold any.
    """
    try:
        old, new = File(source), File(target)
        if old is None or new is None or not (old.tags or getattr(old, "pictures", None)):
            return False
        if isinstance(new, MP3 | WAVE | AIFF):
            _to_id3(old, new)
        elif isinstance(new, MP4):
            _to_mp4(old, new)
        elif isinstance(new, FLAC | OggVorbis | OggOpus):
            _to_vorbis(old, new)
        else:
            return False
        new.save()
    except (MutagenError, ValueError):
        return False
    return True


def _texts(file: Any) -> dict[str, list[str]]:
    """What `KEYS` name, as Vorbis comments have it."""
    found: dict[str, list[str]] = {}
    for name, (frame, atom) in KEYS.items():
        tags: Any = file.tags or {}
        if isinstance(file, MP4):
            values = tags.get(atom, [])
            if atom in ("trkn", "disk"):
                values = [f"{n}/{total}" if total else str(n) for n, total in values]
        elif isinstance(tags, ID3):
            values = tags[frame].text if frame in tags else []
        else:
            values = tags.get(name, [])
        if values:
            found[name] = [str(value) for value in values]
    return found


def _cover(file: Any) -> tuple[str, bytes] | None:
    """Type and bytes of the first picture."""
    if isinstance(file, MP4):
        tags: Any = file.tags or {}
        covers = tags.get("covr", [])
        if not covers:
            return None
        is_png = covers[0].imageformat == MP4Cover.FORMAT_PNG
        return ("image/png" if is_png else "image/jpeg"), bytes(covers[0])
    if isinstance(file.tags, ID3):
        pictures = file.tags.getall("APIC")
    elif isinstance(file, FLAC):
        pictures = file.pictures
    else:
        blocks = (file.tags or {}).get("metadata_block_picture", [])
        pictures = [Picture(base64.b64decode(block)) for block in blocks]
    return (pictures[0].mime, pictures[0].data) if pictures else None


def _to_id3(old: Any, new: Any) -> None:
    if new.tags is None:
        new.add_tags()
    if isinstance(old.tags, ID3):
        for frame in old.tags.values():
            new.tags.add(frame)
        return
    for name, values in _texts(old).items():
        frame = KEYS[name][0]
        new.tags.add(Frames[frame](encoding=3, text=values))
    if (cover := _cover(old)) is not None:
        new.tags.add(APIC(encoding=3, mime=cover[0], type=_FRONT, desc="", data=cover[1]))


def _to_mp4(old: Any, new: Any) -> None:
    if new.tags is None:
        new.add_tags()
    if isinstance(old, MP4):
        new.tags.update(old.tags)
        return
    for name, values in _texts(old).items():
        atom = KEYS[name][1]
        if atom in ("trkn", "disk"):
            numbers = [int(x) for x in values[0].split("/") if x.isdigit()]
            if numbers:
                new.tags[atom] = [(numbers[0], numbers[1] if len(numbers) > 1 else 0)]
        else:
            new.tags[atom] = values
    if (cover := _cover(old)) is not None:
        kind = MP4Cover.FORMAT_PNG if cover[0] == "image/png" else MP4Cover.FORMAT_JPEG
        new.tags["covr"] = [MP4Cover(cover[1], kind)]


def _to_vorbis(old: Any, new: Any) -> None:
    if new.tags is None:
        new.add_tags()
    is_alike = not isinstance(old, MP4) and not isinstance(old.tags, ID3)
    texts = dict(old.tags or {}) if is_alike else _texts(old)
    for name, values in texts.items():
        if name.lower() != "metadata_block_picture":
            new.tags[name] = values
    if (cover := _cover(old)) is None:
        return
    picture = Picture()
    picture.mime, picture.data, picture.type = cover[0], cover[1], _FRONT
    if isinstance(new, FLAC):
        new.clear_pictures()
        new.add_picture(picture)
    else:
        new.tags["metadata_block_picture"] = [base64.b64encode(picture.write()).decode("ascii")]
