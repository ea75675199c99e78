"""``zoo data get`` against a real HTTP server of this machine."""

import hashlib
import http.server
import importlib.util
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from filelock import FileLock

from zoo.audio import AudioWriter
from zoo.cli import main
from zoo.data import download, open_dataset
from zoo.data.download import OFFERS, fetch, prepare
from zoo.errors import ChecksumError, DatasetError, LicenceError

NOISE = np.random.default_rng(0).bytes(3_000_000)  # does not shrink: an archive of three blocks


class Server(http.server.ThreadingHTTPServer):
    """One file at every path; notes what it was asked for and misbehaves on request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.asked, self.sent = b"", [], 0
        self.status = 200
        self.knows_ranges = self.tells_length = True
        self.breaks_after = None  # bytes of a response
        self.redirects = {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/set.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
        server, ask = self.server, self.headers.get("Range")
        server.asked.append(ask)
        if self.path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", ask)[1]) if ask and server.knows_ranges else 0
        size = len(server.body)
        if start >= size > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if ask and server.knows_ranges else 200)
        if server.tells_length:
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        data = server.body[start:][: server.breaks_after]
        self.wfile.write(data)
        server.sent += len(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as it:
        threading.Thread(target=it.serve_forever, args=(0.01,), daemon=True).start()
        yield it
        it.shutdown()


@pytest.fixture
def offered(server, monkeypatch, tmp_path):
    """Offers an archive as data set ``songs``, with its size and hash; gives where it goes."""

    def offer(body, **changes):
        server.body = body
        known = {"size": len(body), "hash": "md5:" + hashlib.md5(body).hexdigest()} | changes
        entry = replace(OFFERS["mir1k"], id="songs", url=server.url, **known)
        monkeypatch.setitem(OFFERS, "songs", entry)
        return tmp_path / "songs"

    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return offer


def zipped(files, wrap=""):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, contents in files.items():
            archive.writestr(wrap + name, contents)
    return buffer.getvalue()


def tarred(members, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for member, contents in members:
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return buffer.getvalue()


def member(name, type=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, link
    return info


SONGS = {"train/a/vocals.wav": NOISE, "test/b/vocals.wav": b"short", "README": b"read"}


def tree(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file()
    }


def left(folder):
    """What lies in a folder, hidden or not, without the lock."""
    return sorted(p.name for p in Path(folder).rglob("*") if p.is_file() and p.name != "lock")


# ----------------------------------------------------------------------------- it works


@pytest.mark.parametrize("wrap", ["", "Songs-1.0/", "a/b/"])
def test_a_zip_becomes_the_root_without_its_wrapping(offered, wrap):
    root = offered(zipped(SONGS, wrap))
    found = fetch(prepare("songs"))
    assert tree(root) == SONGS
    assert found == OFFERS["songs"].hash
    assert [p.name for p in root.parent.iterdir()] == ["songs"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_becomes_the_root(offered, mode):
    songs = SONGS | {"train/a/vocals.wav": NOISE[:100_000]}
    files = [(member(f"set/{name}"), contents) for name, contents in songs.items()]
    root = offered(tarred([(member("set", tarfile.DIRTYPE), b""), *files], mode))
    fetch(prepare("songs"))
    assert tree(root) == songs


def test_the_litter_of_the_packing_system_is_left_out(offered):
    files = {f"Set/{name}": contents for name, contents in SONGS.items()}
    root = offered(zipped(files | {"__MACOSX/Set/._README": b"x", "Set/train/.DS_Store": b"x"}))
    fetch(prepare("songs"))
    assert tree(root) == SONGS


def test_progress_tells_the_bytes_of_each_stage_up_to_the_last(offered):
    told = {}

    def tell(path, stage, done, total):
        assert done <= total
        told[stage] = (path.name, done, total)

    body = zipped(SONGS)
    offered(body)
    fetch(prepare("songs"), tell)
    assert list(told) == ["download", "check", "unpack"]
    assert told["download"] == told["check"] == ("songs", len(body), len(body))


def test_what_is_downloaded_opens_as_its_data_set(server, monkeypatch, tmp_path, capsys):
    with AudioWriter(tmp_path / "clip.wav", 16000, 2, "PCM_16") as writer:
        writer.write(np.zeros((2, 1600), np.float32))
    clip = (tmp_path / "clip.wav").read_bytes()
    server.body = zipped({"MIR-1K/Wavfile/abjones_1_01.wav": clip, "MIR-1K/readme.txt": b"x"})
    monkeypatch.setitem(OFFERS, "mir1k", replace(OFFERS["mir1k"], hash=None))
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    assert main(["data", "get", "mir1k", "--yes", "--url", server.url]) == 0
    assert list(open_dataset("mir1k").clips) == ["abjones_1_01"]
    sha256 = hashlib.sha256(server.body).hexdigest()
    assert f"sha256:{sha256} (none is published here" in capsys.readouterr().out


def test_the_sample_opens_as_musdb18(server, shared, monkeypatch, tmp_path):
    songs = {
        p.relative_to(shared / "audio" / "musdb-sample").as_posix(): p.read_bytes()
        for p in (shared / "audio" / "musdb-sample").rglob("*.stem.mp4")
    }
    server.body = zipped(songs)
    monkeypatch.setitem(OFFERS, "musdb18-sample", replace(OFFERS["musdb18-sample"], size=None))
    fetch(prepare("musdb18-sample", tmp_path / "root", server.url))
    dataset = open_dataset(OFFERS["musdb18-sample"].dataset, tmp_path / "root")
    assert [track.name for track in dataset.tracks("train")] == ["Music Delta - 80s Rock"]


# ---------------------------------------------------------------------------- resuming


def test_a_line_that_breaks_again_and_again_still_gets_there(offered, server):
    root = offered(zipped(SONGS))
    server.breaks_after = 20 * download._CHUNK
    fetch(prepare("songs"))
    assert tree(root) == SONGS
    assert server.asked[0] is None and len(server.asked) == 3
    assert server.sent == len(server.body), "no byte was sent twice"


def test_a_download_goes_on_where_a_dead_server_left_it(offered, server):
    root = offered(zipped(SONGS))
    server.breaks_after = 20 * download._CHUNK
    dead = prepare("songs", url=f"http://127.0.0.1:{free_port()}/set.zip")

    def die(path, stage, done, total):
        server.status = 503

    with pytest.raises(DatasetError, match="503"):
        fetch(prepare("songs"), die)
    with pytest.raises(DatasetError, match=r"broke off after 1\.3 MB .*What came is kept"):
        fetch(dead)
    assert left(root.parent) == ["songs.part"]
    server.status, server.breaks_after = 200, None
    fetch(prepare("songs"))
    assert server.asked[-1] == f"bytes={20 * download._CHUNK}-"
    assert tree(root) == SONGS


@pytest.mark.parametrize("stage", ["download", "check", "unpack"])
def test_a_download_goes_on_after_ctrl_c_in_any_stage(offered, server, stage):
    root = offered(zipped(SONGS))

    def stop(path, now, done, total):
        if now == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(prepare("songs"), stop)
    assert not root.exists()
    before = server.sent
    fetch(prepare("songs"))
    assert tree(root) == SONGS
    if stage != "download":
        assert server.sent == before, "the archive had come already"


def test_a_server_without_ranges_sends_everything_anew(offered, server):
    root = offered(zipped(SONGS))
    work = prepare("songs").work
    work.mkdir()
    (work / "songs.part").write_bytes(server.body[:1000])
    server.knows_ranges = False
    fetch(prepare("songs"))
    assert server.asked == ["bytes=1000-"]
    assert tree(root) == SONGS


@pytest.mark.parametrize("size", [None, "known"])
def test_a_part_that_is_whole_already_is_taken(offered, server, size):
    body = zipped(SONGS)
    root = offered(body, size=size and len(body))
    work = prepare("songs").work
    work.mkdir()
    (work / "songs.part").write_bytes(body)
    fetch(prepare("songs"))
    assert server.sent == 0
    assert tree(root) == SONGS


def test_a_part_longer_than_the_file_is_thrown_away(offered, server):
    root = offered(zipped(SONGS))
    work = prepare("songs").work
    work.mkdir()
    (work / "songs.part").write_bytes(bytes(len(server.body) + 1))
    fetch(prepare("songs"))
    assert tree(root) == SONGS


def test_a_part_longer_than_a_file_of_unknown_size_is_thrown_away_for_the_next_time(
    offered, server
):
    root = offered(zipped(SONGS), size=None)
    work = prepare("songs").work
    work.mkdir()
    (work / "songs.part").write_bytes(bytes(len(server.body) + 1))
    with pytest.raises(DatasetError, match="416"):
        fetch(prepare("songs"))
    fetch(prepare("songs"))
    assert tree(root) == SONGS


@pytest.mark.parametrize("status", [200, 404, 416])
def test_a_part_survives_an_address_of_something_else(offered, server, status):
    root = offered(zipped(SONGS))
    work = prepare("songs").work
    work.mkdir()
    (work / "songs.part").write_bytes(server.body[:1000])
    archive, server.body, server.status = server.body, b"<html>Sign in</html>", status
    server.knows_ranges = False
    with pytest.raises(DatasetError, match="choose another address"):
        fetch(prepare("songs"))
    server.body, server.status, server.knows_ranges = archive, 200, True
    fetch(prepare("songs"))
    assert server.asked[-1] == "bytes=1000-" and tree(root) == SONGS


def test_a_file_of_nothing_is_refused(offered, server, tmp_path):
    offered(b"", size=None, hash=None)
    with pytest.raises(DatasetError, match="neither a zip nor a tar"):
        fetch(prepare("songs"))
    assert list(tmp_path.iterdir()) == []


def test_a_redirection_is_followed_with_its_range(offered, server):
    root = offered(zipped(SONGS))
    server.redirects = {"/old": "/set.zip"}
    server.breaks_after = 30 * download._CHUNK
    fetch(prepare("songs", url=server.url.replace("set.zip", "old")))
    assert tree(root) == SONGS
    assert server.sent == len(server.body)


def test_a_server_that_tells_no_length_is_believed_when_the_hash_agrees(offered, server):
    root = offered(zipped(SONGS), size=None)
    server.tells_length = False
    fetch(prepare("songs"))
    assert tree(root) == SONGS


# ----------------------------------------------------------------------------- refusals


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def test_a_file_of_another_hash_is_refused_and_removed(offered, tmp_path):
    root = offered(zipped(SONGS), hash="md5:" + 32 * "0")
    with pytest.raises(ChecksumError, match=r"gave a file with md5 \w{32}, but .* is 0{32}"):
        fetch(prepare("songs"))
    assert not root.exists() and list(tmp_path.iterdir()) == []


def test_a_file_of_another_size_is_refused_before_it_is_fetched(offered, server, tmp_path):
    body = zipped(SONGS)
    offered(body, size=len(body) + 7)
    with pytest.raises(DatasetError, match=f"offers a file of {len(body)} bytes, but .* has"):
        fetch(prepare("songs"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_size_than_known_is_removed_where_no_length_is_told(
    offered, server, tmp_path
):
    body = zipped(SONGS)
    offered(body, size=len(body) + 7)
    server.tells_length = False
    with pytest.raises(DatasetError, match=f"gave {len(body)} bytes, but .* has {len(body) + 7}"):
        fetch(prepare("songs"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (403, "403 Forbidden")])
def test_an_address_that_is_gone_is_told_in_one_line(offered, server, tmp_path, status, words):
    offered(zipped(SONGS))
    server.status = status
    with pytest.raises(DatasetError, match=f"answers {words}; look at http") as caught:
        fetch(prepare("songs"))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_down_is_asked_for_a_few_seconds_and_told(offered, tmp_path, monkeypatch):
    import requests

    offered(zipped(SONGS))
    waits, request = [], requests.Session.request

    def spy(*args, timeout=None, **options):
        waits.append(timeout)
        return request(*args, timeout=timeout, **options)

    monkeypatch.setattr(requests.Session, "request", spy)
    with pytest.raises(DatasetError, match=r"does not answer \(ConnectionError\); repeat"):
        fetch(prepare("songs", url=f"http://127.0.0.1:{free_port()}/set.zip"))
    assert waits and set(waits) == {(3, 30)}  # to connect, then without a byte
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_says_nothing_counts_as_down(offered, monkeypatch):
    offered(zipped(SONGS))
    monkeypatch.setattr(download, "READ_S", 0.2)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = f"http://127.0.0.1:{mute.getsockname()[1]}/set.zip"
        with pytest.raises(DatasetError, match=r"does not answer \(ReadTimeout\)"):
            fetch(prepare("songs", url=address))


def linked(name, target):
    """A zip with a symbolic link, as Info-ZIP writes it."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, target)
        archive.writestr(f"{name}/x", b"through the link")
    return buffer.getvalue()


HOSTILE = {
    "zip leading up": zipped({"../evil": b"x"}),
    "zip leading up from within": zipped({"a/../../evil": b"x"}),
    "zip from the root": zipped({"/tmp/evil": b"x"}),
    "zip leading up on Windows": zipped({"..\\evil": b"x"}),
    "zip of another drive": zipped({"C:\\evil": b"x"}),
    "zip with a link": linked("out", "/tmp"),
    "tar leading up": tarred([(member("../evil"), b"x")]),
    "tar from the root": tarred([(member("/tmp/evil"), b"x")]),
    "tar with a link": tarred([(member("out", tarfile.SYMTYPE, "/tmp"), b"")]),
    "tar with a hard link": tarred([(member("out", tarfile.LNKTYPE, "../evil"), b"")]),
    "tar with a pipe": tarred([(member("pipe", tarfile.FIFOTYPE), b"")]),
    "file below a file": tarred([(member("a"), b"x"), (member("a/b"), b"x")]),
    "nothing": zipped({}),
    "page of a login": b"<html>Please sign in</html>",
    "zip cut short": zipped(SONGS)[:1_000_000],
    "tar cut short": tarred([(member("a"), NOISE)])[:1_000_000],
    "zip of broken contents": zipped({"a": NOISE}).replace(NOISE[1000:1010], 10 * b"0"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_or_broken_archive_is_refused_and_removed(offered, tmp_path, kind):
    root = offered(HOSTILE[kind], hash=None)
    with pytest.raises(DatasetError, match=r"is refused: .*It was removed; repeat") as caught:
        fetch(prepare("songs"))
    assert "\n" not in str(caught.value)
    assert not root.exists() and list(tmp_path.iterdir()) == []
    assert not (tmp_path.parent / "evil").exists() and not Path("/tmp/evil").exists()


def test_a_folder_with_something_in_it_is_kept(offered, server):
    root = offered(zipped(SONGS))
    root.mkdir()
    (root / "mine.wav").write_bytes(b"mine")
    with pytest.raises(DatasetError, match="exists and is not an empty folder"):
        prepare("songs")
    assert tree(root) == {"mine.wav": b"mine"} and server.asked == []


def test_a_folder_that_was_filled_meanwhile_is_kept(offered):
    root = offered(zipped(SONGS))

    def fill(path, stage, done, total):
        root.mkdir(exist_ok=True)
        (root / "mine.wav").write_bytes(b"mine")

    with pytest.raises(OSError, match="not empty"):
        fetch(prepare("songs"), fill)
    assert tree(root) == {"mine.wav": b"mine"}
    assert left(root.parent) == ["mine.wav", "songs"], "the archive waits"


def test_an_empty_folder_and_a_link_to_one_are_filled(offered, tmp_path):
    root = offered(zipped(SONGS))
    (tmp_path / "disk" / "songs").mkdir(parents=True)
    root.symlink_to(tmp_path / "disk" / "songs")
    fetch(prepare("songs"))
    assert tree(root) == tree(tmp_path / "disk" / "songs") == SONGS


def test_the_working_directory_is_not_replaced(offered):
    offered(zipped(SONGS))
    os.makedirs("here")
    os.chdir("here")
    with pytest.raises(DatasetError, match="name a folder in it"):
        prepare("songs", ".")


def test_a_second_process_is_told_of_the_first(offered):
    offered(zipped(SONGS))
    work = prepare("songs").work
    work.mkdir()
    with (
        FileLock(work / "lock", is_singleton=False),
        pytest.raises(DatasetError, match="another process is downloading"),
    ):
        fetch(prepare("songs"))
    assert work.is_dir()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    if not shutil.which("mount"):
        pytest.skip("no mount command on this system")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted without the right to")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_too_small_for_archive_and_songs_is_told_before(offered, server, small_disk):
    offered(zipped(SONGS))
    with pytest.raises(DatasetError, match=r"6\.0 MB are needed and the disk of .* has 4\.2 MB"):
        fetch(prepare("songs", small_disk / "songs"))
    assert list(small_disk.iterdir()) == []


def test_an_archive_waits_while_its_songs_have_no_room(offered, server, small_disk):
    root = small_disk / "songs"
    offered(zipped({"a.wav": bytes(50_000_000)}))  # of 50 kB
    with pytest.raises(DatasetError, match=r"50\.0 MB are needed"):
        fetch(prepare("songs", root))
    assert left(small_disk) == ["songs"] and not root.exists()


@pytest.mark.parametrize("size", [2_500_000, 6_000_000], ids=["unpacking", "downloading"])
def test_a_disk_that_fills_up_is_told_and_what_came_is_kept(
    offered, server, small_disk, monkeypatch, size
):
    monkeypatch.setattr(download, "_expect_room", lambda *_: None)
    root = small_disk / "songs"
    offered(zipped({"a.wav": np.random.default_rng(1).bytes(size)}))
    with pytest.raises(DatasetError, match="the disk of .* is full; make room and repeat"):
        fetch(prepare("songs", root))
    assert left(small_disk) == ["songs" if size < 3e6 else "songs.part"]
    assert not root.exists()


# -------------------------------------------------------------------------- the command


def test_the_list_names_every_set_its_licence_and_where_to_ask(capsys):
    assert main(["data", "get"]) == 0
    out = capsys.readouterr().out
    for offer in OFFERS.values():
        assert offer.id in out and offer.licence in out
        assert offer.url or offer.page in out


def test_a_set_that_must_be_asked_for_says_where(capsys):
    assert main(["data", "get", "moisesdb", "--yes"]) == 2
    assert OFFERS["moisesdb"].page in capsys.readouterr().err


def test_an_unknown_set_gets_the_nearest(capsys):
    assert main(["data", "get", "musdb18-hq", "--yes"]) == 2
    assert "Did you mean 'musdb18hq'?" in capsys.readouterr().err


def test_an_address_that_is_none_is_refused(capsys):
    assert main(["data", "get", "mir1k", "--yes", "--url", "set.zip"]) == 2
    assert "'set.zip' is no address" in capsys.readouterr().err


def test_nothing_is_downloaded_when_nobody_can_agree(offered, server, capsys, monkeypatch):
    root = offered(zipped(SONGS))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert main(["data", "get", "songs"]) == 2
    out, err = capsys.readouterr()
    assert err == "error: nobody is here to agree to the licence; read it, then pass --yes.\n"
    assert OFFERS["songs"].licence in out
    assert server.asked == [] and not root.exists()
    assert issubclass(LicenceError, PermissionError)


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1)])
def test_in_a_terminal_the_licence_is_agreed_to_first(server, checkout, tmp_path, answer, status):
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    server.body = zipped(SONGS)
    terminal, theirs = pty.openpty()
    words = ["data", "get", "moisesdb", "--url", server.url, "-o", str(tmp_path / "songs")]
    done = subprocess.Popen(
        [sys.executable, "-m", "zoo", *words, "--progress", "json"],
        cwd=checkout, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    os.write(terminal, f"{answer}\n".encode())
    out, _ = done.communicate(timeout=30)
    os.close(terminal)
    os.close(theirs)
    assert done.returncode == status, out
    assert out.index(OFFERS["moisesdb"].licence) < out.index("[y/N]")
    assert (tmp_path / "songs").exists() == (status == 0) == bool(server.asked)


def test_ctrl_c_says_where_what_came_is(offered, server, capsys, monkeypatch):
    offered(zipped(SONGS))
    write = download._Part.write

    def stop(part, data):
        write(part, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(download._Part, "write", stop)
    assert main(["data", "get", "songs", "--yes"]) == 130
    assert "keeps what came; repeat to go on with it" in capsys.readouterr().err


def test_the_sample_lies_where_musdb_says():
    folder = Path(importlib.util.find_spec("musdb").origin).parent  # not imported: see zoo.compat
    facts = yaml.safe_load((folder / "configs" / "mus.yaml").read_text(encoding="utf-8"))
    assert OFFERS["musdb18-sample"].url == facts["sample-url"]
