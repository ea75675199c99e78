"""A Hub of one's own: a local server that the unmodified ``huggingface_hub`` client accepts.

It keeps repositories in memory: creating, uploading (regular, LFS and multipart files), commits,
tags, listing, downloading with ranges, private repositories.  Faults can be asked for: an answer of
500, a cut or a corrupted download, a server that does not answer.

>>> with LocalHub() as hub:  # doctest: +SKIP
...     api = huggingface_hub.HfApi(endpoint=hub.url, token="anything")

Set ``HF_HUB_DISABLE_XET=1`` before huggingface_hub is imported; its other way of uploading speaks
to a service that is not here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

DATE = "2026-01-01T00:00:00.000Z"
LARGE = 1 << 20  # bytes from which a file is LFS
PART = 5 << 20  # bytes of a part of a multipart upload
BINARY = (".safetensors", ".ckpt", ".wav", ".flac", ".ogg", ".png")


@dataclass
class Commit:
    """A state of a repository: path -> content."""

    oid: str
    title: str
    files: dict[str, bytes]


@dataclass
class Repository:
    """Commits, the newest last, and tags."""

    name: str
    private: bool = False
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag or a hash."""
        oid = self.tags.get(revision, revision)
        if oid in ("main", "HEAD"):
            return self.commits[-1]
        return next((c for c in self.commits if c.oid == oid), None)


@dataclass
class Fault:
    """What goes wrong with the next requests whose path holds a text.

    Attributes:
        path: that text.
        times: how often.
        status: of the answer; 0: a download that is cut in the middle; -1: one with a byte changed.
        seconds: before the answer.
    """

    path: str
    times: int = 1
    status: int = 500
    seconds: float = 0.0


class LocalHub:
    """The server; a context manager.

    Args:
        tokens: that may write and read what is private; None: any token may.

    Attributes:
        url: for ``HF_ENDPOINT`` or ``endpoint=``.
        repositories: by ``owner/name``.
        requests: method and path of all that came.
        faults: that are still to come.
    """

    def __init__(self, tokens: set[str] | None = None) -> None:
        self.tokens, self.repositories = tokens, dict[str, Repository]()
        self.objects: dict[str, bytes] = {}  # by sha256
        self.parts: dict[str, dict[int, bytes]] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self.lines: set[socket.socket] = set()  # that are open
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> LocalHub:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer no more, not on lines that are open either."""
        self._server.shutdown()
        self._server.server_close()
        for line in list(self.lines):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def commit(self, repository: Repository, title: str, files: dict[str, bytes]) -> Commit:
        """Add a commit."""
        told = json.dumps([title, len(repository.commits), sorted(files)]).encode()
        digest = hashlib.sha1(told + b"".join(files[k] for k in sorted(files)))
        found = Commit(digest.hexdigest(), title, files)
        repository.commits.append(found)
        return found

    def create(self, name: str, private: bool = False) -> Repository:
        """Add an empty repository."""
        repository = Repository(name, private)
        self.commit(repository, "initial commit", {".gitattributes": b""})
        self.repositories[name] = repository
        return repository


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LocalHub

    # ------------------------------------------------------------- requests

    def setup(self) -> None:
        super().setup()
        self.hub.lines.add(self.connection)

    def finish(self) -> None:
        self.hub.lines.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True

    def do_GET(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_PUT(self) -> None:
        self._route()

    def do_DELETE(self) -> None:
        self._route()

    def _route(self) -> None:
        body = self._body()
        parts = urlsplit(self.path)
        path, self.query = unquote(parts.path), parse_qs(parts.query)
        self.hub.requests.append(f"{self.command} {path}")
        self.fault = self._fault(path)
        if self.fault is not None:
            time.sleep(self.fault.seconds)
            if self.fault.status > 0:
                self._json(self.fault.status, {"error": "asked for by the test"})
                return
        with self.hub.lock:
            for method, pattern, action in _ROUTES:
                if method in (self.command, "*") and (match := re.fullmatch(pattern, path)):
                    action(self, body, **match.groupdict())
                    return
        self._error(404, "EntryNotFound", f"no {self.command} {path}")

    def _fault(self, path: str) -> Fault | None:
        for fault in self.hub.faults:
            if fault.path in path and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    # ------------------------------------------------------------- answers

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json", **(headers or {})}
        self._send(status, json.dumps(value).encode(), kind)

    def _error(self, status: int, code: str, message: str, **headers: str) -> None:
        told = {"X-Error-Code": code, "X-Error-Message": message, **headers}
        self._json(status, {"error": message}, told)

    # ------------------------------------------------------------- who may

    @property
    def _token(self) -> str | None:
        given = self.headers.get("Authorization", "")
        return given.removeprefix("Bearer ") or None

    def _may_write(self) -> bool:
        if self._token is None:
            self._error(401, "", "no token was given")
            return False
        if self.hub.tokens is not None and self._token not in self.hub.tokens:
            self._error(403, "", "this token may not write here")
            return False
        return True

    def _found(self, repo: str, revision: str = "main") -> tuple[Repository, Commit] | None:
        """A repository that the caller may see, at a revision; else the error is sent."""
        repository = self.hub.repositories.get(repo)
        is_known = self._token is not None and (
            self.hub.tokens is None or self._token in self.hub.tokens
        )
        if repository is None or (repository.private and not is_known):
            self._error(404 if self._token else 401, "RepoNotFound", f"no repository {repo}")
            return None
        if repository.gated and not is_known:
            self._error(403, "GatedRepo", f"access to {repo} is restricted")
            return None
        commit = repository.at(revision)
        if commit is None:
            self._error(404, "RevisionNotFound", f"no revision {revision}")
            return None
        return repository, commit

    # ------------------------------------------------------------- what there is

    def who(self, body: bytes) -> None:
        if self._may_write():
            self._json(200, {
                "type": "user", "name": "somebody", "orgs": [],
                "auth": {"accessToken": {"role": "write"}},
            })  # fmt: skip

    def create(self, body: bytes) -> None:
        if not self._may_write():
            return
        told = json.loads(body)
        name = f"{told.get('organization') or 'somebody'}/{told['name']}"
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repositories:
            self._json(409, {"url": url, "error": "exists already"})
            return
        self.hub.create(name, bool(told.get("private") or told.get("visibility") == "private"))
        self._json(200, {"url": url})

    def info(self, body: bytes, repo: str, revision: str = "main") -> None:
        if (found := self._found(repo, revision)) is None:
            return
        repository, commit = found
        self._json(200, {
            "_id": "0", "id": repo, "modelId": repo, "author": repo.split("/")[0],
            "sha": commit.oid, "lastModified": DATE, "createdAt": DATE,
            "private": repository.private, "gated": False, "disabled": False, "downloads": 0,
            "likes": 0, "tags": [], "siblings": [{"rfilename": name} for name in commit.files],
        })  # fmt: skip

    def refs(self, body: bytes, repo: str) -> None:
        if (found := self._found(repo)) is None:
            return
        repository, commit = found
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": commit.oid}
        tags = [
            {"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid}
            for name, oid in repository.tags.items()
        ]
        self._json(200, {"branches": [main], "tags": tags, "converts": [], "pullRequests": []})

    def history(self, body: bytes, repo: str, revision: str) -> None:
        if (found := self._found(repo, revision)) is None:
            return
        self._json(200, [
            {"id": c.oid, "title": c.title, "message": "", "date": DATE, "authors": []}
            for c in reversed(found[0].commits)
        ])  # fmt: skip

    def tree(self, body: bytes, repo: str, revision: str) -> None:
        if (found := self._found(repo, revision)) is not None:
            self._json(200, [_entry(name, x) for name, x in sorted(found[1].files.items())])

    def paths(self, body: bytes, repo: str, revision: str) -> None:
        if (found := self._found(repo, revision)) is None:
            return
        try:
            wanted = json.loads(body)["paths"]
        except ValueError:
            wanted = parse_qs(body.decode())["paths"]
        files = found[1].files
        self._json(200, [_entry(name, files[name]) for name in wanted if name in files])

    def check_card(self, body: bytes) -> None:
        self._json(200, {"errors": [], "warnings": []})

    # ------------------------------------------------------------- uploading

    def preupload(self, body: bytes, repo: str, revision: str) -> None:
        if not self._may_write() or (found := self._found(repo, revision)) is None:
            return
        answer = []
        for file in json.loads(body)["files"]:
            name, size = file["path"], file["size"]
            is_large = size and (size >= LARGE or name.endswith(BINARY))
            present = found[1].files.get(name)
            oid = None
            if present is not None:
                oid = _sha256(present) if is_large else _blob(present)
            answer.append({
                "path": name, "uploadMode": "lfs" if is_large else "regular",
                "shouldIgnore": False, "oid": oid,
            })  # fmt: skip
        self._json(200, {"files": answer})

    def batch(self, body: bytes, repo: str) -> None:
        if not self._may_write():
            return
        told = json.loads(body)
        objects: list[dict[str, Any]] = []
        is_multipart = "multipart" in told.get("transfers", ())
        transfer = "basic"
        for entry in told["objects"]:
            oid, size = entry["oid"], entry["size"]
            answer: dict[str, Any] = {"oid": oid, "size": size}
            place = f"{self.hub.url}/lfs/{oid}"
            if oid in self.hub.objects:
                pass  # there already
            elif size > PART and is_multipart:
                transfer = "multipart"
                count = -(-size // PART)
                header = {str(k): f"{place}/{k}" for k in range(1, count + 1)}
                answer["actions"] = {
                    "upload": {
                        "href": f"{place}/end",
                        "header": {"chunk_size": str(PART), **header},
                    }
                }
            else:
                answer["actions"] = {
                    "upload": {"href": place}, "verify": {"href": f"{place}/verify"}
                }  # fmt: skip
            objects.append(answer)
        kind = {"Content-Type": "application/vnd.git-lfs+json"}
        self._json(200, {"transfer": transfer, "objects": objects}, kind)

    def receive(self, body: bytes, oid: str) -> None:
        if _sha256(body) != oid:
            self._error(422, "", "the content has another hash")
            return
        self.hub.objects[oid] = body
        self._json(200, {})

    def receive_part(self, body: bytes, oid: str, part: str) -> None:
        self.hub.parts.setdefault(oid, {})[int(part)] = body
        self._send(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})

    def assemble(self, body: bytes, oid: str) -> None:
        parts = self.hub.parts.pop(oid, {})
        self.receive(b"".join(parts[k] for k in sorted(parts)), oid)

    def verify(self, body: bytes, oid: str) -> None:
        told = json.loads(body)
        is_right = len(self.hub.objects.get(oid, b"")) == told["size"]
        self._json(200 if is_right else 404, {})

    def receive_commit(self, body: bytes, repo: str, revision: str) -> None:
        if not self._may_write() or (found := self._found(repo, revision)) is None:
            return
        repository, head = found
        files, title = dict(head.files), ""
        for line in body.splitlines():
            told = json.loads(line)
            value = told["value"]
            if told["key"] == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, head.oid):
                    self._error(412, "", "a commit has happened since")
                    return
            elif told["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif told["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif told["key"] == "deletedFile":
                files.pop(value["path"], None)
            elif told["key"] == "deletedFolder":
                files = {k: v for k, v in files.items() if not k.startswith(value["path"])}
        commit = self.hub.commit(repository, title, files)
        url = f"{self.hub.url}/{repo}/commit/{commit.oid}"
        self._json(200, {"success": True, "commitOid": commit.oid, "commitUrl": url})

    def tag(self, body: bytes, repo: str, revision: str) -> None:
        if not self._may_write() or (found := self._found(repo, revision)) is None:
            return
        name = json.loads(body)["tag"]
        if name in found[0].tags:
            self._json(409, {"error": "exists already"})
            return
        found[0].tags[name] = found[1].oid
        self._json(200, {})

    def untag(self, body: bytes, repo: str, revision: str) -> None:
        if self._may_write() and (found := self._found(repo)) is not None:
            found[0].tags.pop(revision, None)
            self._json(200, {})

    # ------------------------------------------------------------- downloading

    def resolve(self, body: bytes, repo: str, revision: str, name: str) -> None:
        if (found := self._found(repo, revision)) is None:
            return
        commit = found[1]
        if name not in commit.files:
            message = f"no file {name}"
            self._error(404, "EntryNotFound", message, **{"X-Repo-Commit": commit.oid})
            return
        content = commit.files[name]
        headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        if len(content) >= LARGE or name.endswith(BINARY):
            headers |= {
                "X-Linked-Etag": f'"{_sha256(content)}"', "X-Linked-Size": str(len(content)),
                "ETag": f'"{_sha256(content)}"',
            }  # fmt: skip
        else:
            headers["ETag"] = f'"{_blob(content)}"'
        status = 200
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first = int(asked[1])
            last = min(int(asked[2] or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        if self.fault is not None and self.fault.status == -1 and content:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if self.fault is not None and self.fault.status == 0 and self.command == "GET":
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self._send(status, content, headers)


def _entry(name: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": name, "size": len(content), "oid": _blob(content)}
    if len(content) >= LARGE or name.endswith(BINARY):
        entry["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 130}
    return entry


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


_REPO = r"(?P<repo>[^/]+/[^/]+)"
_MODEL = rf"/api/models/{_REPO}"
_LFS = r"/lfs/(?P<oid>[0-9a-f]{64})"
_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", r"/api/whoami-v2", _Handler.who),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.check_card),
    ("GET", _MODEL, _Handler.info),
    ("GET", rf"{_MODEL}/revision/(?P<revision>.+)", _Handler.info),
    ("GET", rf"{_MODEL}/refs", _Handler.refs),
    ("GET", rf"{_MODEL}/commits/(?P<revision>.+)", _Handler.history),
    ("GET", rf"{_MODEL}/tree/(?P<revision>[^/]+)/?", _Handler.tree),
    ("POST", rf"{_MODEL}/paths-info/(?P<revision>.+)", _Handler.paths),
    ("POST", rf"{_MODEL}/preupload/(?P<revision>.+)", _Handler.preupload),
    ("POST", rf"{_MODEL}/commit/(?P<revision>.+)", _Handler.receive_commit),
    ("POST", rf"{_MODEL}/tag/(?P<revision>.+)", _Handler.tag),
    ("DELETE", rf"{_MODEL}/tag/(?P<revision>.+)", _Handler.untag),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", _LFS, _Handler.receive),
    ("PUT", rf"{_LFS}/(?P<part>\d+)", _Handler.receive_part),
    ("POST", rf"{_LFS}/end", _Handler.assemble),
    ("POST", rf"{_LFS}/verify", _Handler.verify),
    ("*", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler.resolve),
]
