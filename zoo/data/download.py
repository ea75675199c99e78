"""Data sets from the net: where each is to be had, on what terms, and the fetching of it.

A download lives in a hidden folder beside the root that it becomes, ``.<root>.download``.  What an
interrupted one leaves there is gone on with by the next; the root appears when it is complete.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, TYPE_CHECKING

from zoo.data.mir1k import LICENCE as MIR1K_LICENCE
from zoo.errors import ChecksumError, DatasetError, near

if TYPE_CHECKING:
    from requests import Response

# Of a file: its path, what is done with it, bytes done and in all.
Progress = Callable[[Path, str, int, int | None], None]

CONNECT_S, READ_S = 3, 30  # of silence, before a server counts as down
_BLOCK = 1 << 20
_CHUNK = 1 << 16  # less than one is lost when a line breaks


@dataclass(frozen=True)
class Offer:
    """A data set that somebody offers.

    Args:
        id: its name in ``zoo data get``.
        title: one line.
        licence: in words.
        page: what its authors say of it, and where to ask for it.
        dataset: the id that opens it, a key of `zoo.data.DATASETS`.
        url: of its archive, a zip or tar; None: it must be asked for at ``page``.
        size: of the archive in bytes, where it is known.
        hash: of the archive, as ``md5:...``, where it is published.
    """

    id: str
    title: str
    licence: str
    page: str
    dataset: str
    url: str | None = None
    size: int | None = None
    hash: str | None = None


_MUSDB18 = "education and research, nothing commercial; 46 songs CC BY-NC-SA 4.0, others their own"
_MIXING_SECRETS = "as the 'Mixing Secrets' library says: https://www.cambridge-mt.com/ms/mtk/"

OFFERS = {
    offer.id: offer
    for offer in (
        Offer(
            "musdb18-sample",
            "MUSDB18 cut to 7 s a song, 144 .stem.mp4",
            _MUSDB18,
            "https://sigsep.github.io/datasets/musdb.html",
            "musdb18",
            # The sample-url of musdb 0.4.3.
            "https://github.com/sigsep/sigsep-mus-db/releases/download/v0.4.0/MUSDB18-7-STEMS.zip",
            147_209_385,
        ),
        Offer(
            "musdb18",
            "MUSDB18, 150 songs in four stems, .stem.mp4",
            _MUSDB18,
            "https://zenodo.org/records/1117372",
            "musdb18",
            "https://zenodo.org/records/1117372/files/musdb18.zip",
            4_684_228_845,  # this and the MD5: the record's own
            "md5:af06762477334799bfc5abf237648207",
        ),
        Offer(
            "musdb18hq",
            "MUSDB18-HQ, the same songs as wav",
            _MUSDB18,
            "https://zenodo.org/records/3338373",
            "musdb18hq",
            "https://zenodo.org/records/3338373/files/musdb18hq.zip",
            22_656_664_047,
            "md5:12d4f2ecd55245a4688754dd76363103",
        ),
        Offer(
            "dsd100",
            "DSD100, 100 songs in four stems, wav (about 14 GB)",
            _MIXING_SECRETS,
            "https://sigsep.github.io/datasets/dsd100.html",
            "dsd100",
            "http://liutkus.net/DSD100.zip",
            hash="md5:e8964d97d6f320962647e24ebc6773e3",  # SiSEC 2016's page
        ),
        Offer(
            "mir1k",
            "MIR-1K, 1000 karaoke clips with the voice apart",
            MIR1K_LICENCE,
            "http://mirlab.org/dataset/public/",
            "mir1k",
            "http://mirlab.org/dataset/public/MIR-1K.zip",
            hash="md5:3a4e5acd740110ae481a836460dabb6a",  # mirdata's
        ),
        Offer(
            "slakh2100",
            "Slakh2100, 2100 songs rendered from MIDI, flac",
            "CC BY 4.0",
            "https://zenodo.org/records/4599666",
            "folder",
            "https://zenodo.org/records/4599666/files/slakh2100_flac_redux.tar.gz",
            104_322_767_708,
            "md5:f4b71b6c45ac9b506f59788456b3f0c4",
        ),
        Offer(
            "msd100",
            "MSD100, the songs of DSD100 in the mixes of SiSEC 2015",
            _MIXING_SECRETS,
            "https://sisec.inria.fr/sisec-2015/2015-professionally-produced-music-recordings/",
            "msd100",
        ),
        Offer(
            "moisesdb",
            "MoisesDB, 240 songs in up to eleven stems",
            "CC BY-NC-SA 4.0, nothing commercial",
            "https://music.ai/research/",
            "folder",
        ),
        Offer(
            "medleydb",
            "MedleyDB, multitracks with annotations",
            "CC BY-NC-SA 4.0, nothing commercial",
            "https://medleydb.weebly.com/",
            "folder",
        ),
    )
}


@dataclass(frozen=True)
class Download:
    """An offer on its way to a folder."""

    offer: Offer
    url: str
    root: Path

    @property
    def work(self) -> Path:
        """Where everything lies until it is complete."""
        return self.root.parent / f".{self.root.name}.download"


def prepare(id: str, root: str | Path | None = None, url: str | None = None) -> Download:
    """What `fetch` needs; nothing is asked of the net and nothing written.

    Args:
        id: a key of `OFFERS`.
        root: folder to make, missing or empty; else ``$ZOO_DATA/<id>``, else ``data/<id>``.
        url: another address of the same archive: a mirror, or the link that was sent on request.

    Raises:
        DatasetError: no such offer, one that must be asked for, or a folder that is taken.
    """
    if id not in OFFERS:
        raise DatasetError(
            f"no download named {id!r}; there are {', '.join(OFFERS)}.{near(id, OFFERS)}"
        )
    offer = OFFERS[id]
    url = url or offer.url
    if url is None:
        raise DatasetError(
            f"{id} is given to those who ask for it: {offer.page}. "
            "Pass the address of the archive that you get with --url, or unpack it yourself."
        )
    if not url.lower().startswith(("http://", "https://")):
        raise DatasetError(f"{url!r} is no address; it must begin with https:// or http://.")
    if root is None:
        root = Path(os.environ.get("ZOO_DATA") or "data") / id
    root = Path(root).expanduser().resolve()  # a link to another disk: the work is done there
    if os.path.lexists(root) and (not root.is_dir() or any(root.iterdir())):
        raise DatasetError(f"{root} exists and is not an empty folder; name another, or remove it.")
    if root == Path.cwd() or os.path.ismount(root):
        raise DatasetError(f"{root} cannot be replaced while it is in use; name a folder in it.")
    return Download(offer, url, root)


def fetch(download: Download, progress: Progress | None = None) -> str:
    """Fetches, checks and unpacks a data set.

    Returns:
        The hash of the archive, as ``md5:...``: the published one, else its SHA-256.

    Raises:
        DatasetError: the server does not answer, or answers with something else; the disk is too
            small; the archive would write outside its folder; another process is at it.
        ChecksumError: the archive is not the one that was published.
    """
    from filelock import FileLock, Timeout

    work = download.work
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / "lock", timeout=0):
            return _fetch(download, progress or (lambda *_: None))
    except Timeout:
        raise DatasetError(f"another process is downloading to {download.root}; wait.") from None


def _fetch(download: Download, tell: Progress) -> str:
    offer, work = download.offer, download.work
    archive, part, unpacked = work / offer.id, work / f"{offer.id}.part", work / "unpacked"
    try:
        if not archive.is_file():
            _receive(download, part, tell)
            part.rename(archive)
        found = _check(archive, download, tell)
        shutil.rmtree(unpacked, ignore_errors=True)
        _unpack(archive, unpacked, download.url, tell)
        if download.root.exists():
            download.root.rmdir()  # an empty one
        _heart(unpacked).rename(download.root)
        archive.unlink()
        return found
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DatasetError(
            f"the disk of {work} is full; make room and repeat: what came is kept."
        ) from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
        if not any(path.stat().st_size for path in work.iterdir()):  # nothing to go on with
            shutil.rmtree(work, ignore_errors=True)


def _check(archive: Path, download: Download, tell: Progress) -> str:
    algorithm, _, published = (download.offer.hash or "sha256:").partition(":")
    digest, done, size = hashlib.new(algorithm), 0, archive.stat().st_size
    with archive.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            tell(archive, "check", done, size)
    found = digest.hexdigest()
    if published and found != published:
        archive.unlink()
        raise ChecksumError(
            f"{download.url} gave a file with {algorithm} {found}, but that of "
            f"{download.offer.id} is {published}; it was removed. Repeat, or choose another "
            "address with --url."
        )
    return f"{algorithm}:{found}"


# ------------------------------------------------------------------------------- the net


class _Part:
    """The file in the making, as pooch writes it: goes on where it ended, counts and tells."""

    def __init__(self, path: Path, download: Download, tell: Progress) -> None:
        self.path, self.download, self.tell = path, download, tell
        self.total = download.offer.size
        self.file = path.open("ab")

    @property
    def done(self) -> int:
        return self.file.tell()

    def begin(self, response: Response, **_: object) -> None:
        """Called by requests with every response, before its body is read."""
        status, size = response.status_code, self.download.offer.size
        if response.is_redirect:
            return
        if status == 416 and response.headers.get("Content-Range") == f"bytes */{self.done}":
            self.total = self.done  # the last attempt ended just after the last byte
            return
        if status == 416 and size is None:
            self.restart()  # it is no part of this file; the next attempt begins anew
        if status not in (200, 206):
            raise DatasetError(
                f"{self.download.url} answers {status} {response.reason}; look at "
                f"{self.download.offer.page}, or choose another address with --url."
            )
        length = response.headers.get("Content-Length")
        had = self.done if status == 206 else 0  # a 200 sends all, whatever it was asked for
        self.total = had + int(length) if length else size
        if size and self.total != size:
            raise DatasetError(
                f"{self.download.url} offers a file of {self.total} bytes, but the archive of "
                f"{self.download.offer.id} has {size}; choose another address with --url."
            )
        if had == 0:
            self.restart()
        if self.total:  # audio does not shrink much: what is unpacked is as large at least
            _expect_room(self.path.parent, 2 * self.total - had)

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.tell(self.path.with_suffix(""), "download", self.done, self.total)

    def flush(self) -> None:
        self.file.flush()

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()


def _receive(download: Download, path: Path, tell: Progress) -> None:
    """The archive in ``path``, from where an earlier attempt ended."""
    part, size = _Part(path, download, tell), download.offer.size
    with part.file:
        if size and part.done > size:
            part.restart()
        furthest = part.done
        while size is None or part.done != size:
            try:
                _request(download.url, part)
            except ConnectionError as error:
                if part.done > furthest:  # a line that breaks now and then still gets there
                    furthest = part.done
                    continue
                came = f"broke off after {readable(part.done)}" if part.done else "does not answer"
                raise DatasetError(
                    f"{download.url} {came} ({error}); repeat when the network is well, or choose "
                    f"another address with --url.{' What came is kept.' if part.done else ''}"
                ) from error
            if size and part.done != size:
                came = str(part.done)
                part.restart()
                raise DatasetError(
                    f"{download.url} gave {came} bytes, but the archive of {download.offer.id} "
                    f"has {size}; it was removed. Choose another address with --url."
                )
            return


def _request(url: str, part: _Part) -> None:
    """One request for the rest of the file; ConnectionError when it breaks off."""
    import pooch  # type: ignore[import-untyped]
    import requests

    headers = {"Accept-Encoding": "identity"}
    if part.done:
        headers["Range"] = f"bytes={part.done}-"
    # pooch alone always begins anew: the range and the file that goes on are ours.
    get = pooch.HTTPDownloader(
        chunk_size=_CHUNK,
        headers=headers,
        hooks={"response": part.begin},
        timeout=(CONNECT_S, READ_S),
    )
    try:
        get(url, part, None)
    except requests.HTTPError:
        pass  # the 416 of a whole file: _Part raises every other
    except requests.RequestException as error:
        raise ConnectionError(type(error).__name__) from error


# --------------------------------------------------------------------------- the archive

# What a broken or hostile archive makes the unpacking raise.
_REFUSED = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError,
    RuntimeError, ValueError, FileExistsError, NotADirectoryError, IsADirectoryError,
)  # fmt: skip
_LITTER = ("__MACOSX", ".DS_Store", "._")  # of the system that packed it


def _unpack(archive: Path, folder: Path, url: str, tell: Progress) -> None:
    """Writes the files of a zip or tar below ``folder``, and nothing else anywhere."""
    size = archive.stat().st_size
    folder.mkdir()
    try:
        for name, contents, done in _files(archive):
            inside = _inside(name)
            if any(part.startswith(_LITTER) for part in inside.parts):
                continue
            target = folder / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                shutil.copyfileobj(contents, file, _BLOCK)
            tell(archive, "unpack", done, size)
        if not any(folder.iterdir()):
            raise ValueError("it holds no file")
    except DatasetError:  # no room: the archive waits
        raise
    except _REFUSED as error:
        archive.unlink()
        raise DatasetError(
            f"the archive of {url} is refused: {error}. It was removed; repeat, or choose another "
            "address with --url."
        ) from error


def _files(archive: Path) -> Iterator[tuple[str, IO[bytes], int]]:
    """Name and contents of each file, and the bytes of the archive read with it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            _expect_room(archive.parent, sum(info.file_size for info in zipped.infolist()))
            done = 0
            for info in zipped.infolist():
                done += info.compress_size
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise ValueError(f"{info.filename!r} is a link")
                if not info.is_dir():
                    with zipped.open(info) as contents:
                        yield info.filename, contents, done
        return
    if not tarfile.is_tarfile(archive):
        raise ValueError("it is neither a zip nor a tar")
    with archive.open("rb") as raw, tarfile.open(fileobj=raw) as tar:
        for member in tar:
            if member.isdir():
                continue
            opened = tar.extractfile(member) if member.isreg() else None
            if opened is None:
                raise ValueError(f"{member.name!r} is a link or a device")
            with opened:
                yield member.name, opened, raw.tell()


def _inside(name: str) -> PurePosixPath:
    """The path of an archived file, which must lead nowhere else on any system."""
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.anchor or ".." in path.parts or not path.parts:
            raise ValueError(f"{name!r} leads out of its folder")
    return PurePosixPath(name)


def _heart(folder: Path) -> Path:
    """The folder that holds everything, without the wrapping that many archives have."""
    while len(inner := list(folder.iterdir())) == 1 and inner[0].is_dir():
        folder = inner[0]
    return folder


def _expect_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(
            f"{readable(needed)} are needed and the disk of {folder} has {readable(free)}; make "
            "room, or name a folder on another disk."
        )


def readable(n_bytes: int) -> str:
    """``4684228845`` -> ``4.7 GB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} bytes"
