"""A fake of the W&B server, in this process, for the unmodified client.

It proves what we send, not what the real service does with it. Only the requests that our use of
the client needs are answered; others are kept in ``unknown`` and answered with nothing.
"""

import contextlib
import gzip
import json
import os
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

KEY = "0123456789012345678901234567890123456789"
ENTITY = "tester"
PAST = "2020-01-01T00:00:00Z"


def no_account(monkeypatch, home):
    """A home without a key, and an environment that is put back."""
    for name in ("DIR", "CACHE_DIR", "DATA_DIR", "CONFIG_DIR", "SILENT", "ERROR_REPORTING"):
        monkeypatch.setenv(f"WANDB_{name}", "")  # so that it is removed afterwards
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / "no-netrc"))
    monkeypatch.setenv("WANDB_DISABLE_GIT", "true")


@dataclass
class FakeRun:
    """What the server knows of a run."""

    project: str
    name: str | None = None
    config: dict = field(default_factory=dict)
    streams: dict[str, list[str]] = field(default_factory=dict)  # lines, each at its offset
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    attempts: int = 0  # how often a client began or continued it

    @property
    def history(self):
        """The rows that were logged."""
        return [json.loads(line) for line in self.streams.get("wandb-history.jsonl", [])]

    def logged(self, key):
        """(step, value) of every row that holds a key."""
        return [(row["trainer/global_step"], row[key]) for row in self.history if key in row]


@dataclass
class FakeArtifact:
    """A version of an artifact."""

    id: str
    name: str
    type: str
    version: int
    aliases: list[str]
    metadata: dict
    digest: str
    project: str
    run: str
    state: str = "PENDING"
    files: dict[str, bytes] = field(default_factory=dict)


class FakeWandb:
    """A server on a free port, from ``with`` on.

    ``refused`` holds parts of paths: of what is uploaded there, nothing is taken. A ``status``
    other than 200 answers every request; one that ``hangs`` answers none.
    """

    def __init__(self):
        self.port = 0
        self.runs: dict[str, FakeRun] = {}
        self.artifacts: list[FakeArtifact] = []
        self.unknown: set[str] = set()
        self.refused: set[str] = set()
        self.status = 200
        self.hangs = False
        self.closed = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.closed.set()
        self.die()

    def start(self):
        """Listen: again at the same port after `die`."""
        self.server = _Server(("127.0.0.1", self.port), _Handler)
        self.server.fake = self
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def die(self):
        """Close the port and every connection."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.server.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    # ----------------------------------------------------------------- answers

    def answer(self, method, path, body):
        """Status and JSON for one request."""
        if path == "/graphql":
            request = json.loads(body)
            return 200, {"data": self._graphql(request["query"], request.get("variables") or {})}
        if method == "PUT":
            return self._upload(unquote(path), body)
        if path.endswith("/file_stream"):
            return self._stream(path.split("/")[-2], json.loads(body))
        if not path.startswith("/sdk/"):  # the client's own telemetry
            self.unknown.add(f"{method} {path}")
        return 200, {}

    def _graphql(self, query, variables):
        operation = re.search(r"\b(?:query|mutation)\s+(\w+)", query)[1]
        answer = getattr(self, f"_on_{operation}", None)
        if answer is None:
            self.unknown.add(operation)
            return dict.fromkeys(("entity", "project", "model", "artifact"))
        return answer(variables)

    def _stream(self, run_id, content):
        run = self.runs[run_id]
        for name, part in (content.get("files") or {}).items():
            lines, start = run.streams.setdefault(name, []), part["offset"]
            lines[start : start + len(part["content"])] = part["content"]
        if content.get("complete"):
            run.exit_code = content.get("exitcode")
        return 200, {"exitcode": None, "limits": {}}

    def _upload(self, path, body):
        if any(part in path for part in self.refused):
            return 403, {"error": "refused"}
        _, kind, owner, name = path.split("/", 3)
        if kind == "artifacts":
            self.artifacts[int(owner)].files[name] = body
        else:
            self.runs[owner].files[name] = body
        return 200, {}

    # ----------------------------------------------------------------- operations

    def _on_Viewer(self, variables):
        teams = {"edges": []}
        viewer = {"id": "u", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": teams}
        return {"viewer": viewer}

    _on_GetDefaultEntity = _on_Viewer  # noqa: N815

    def _on_ServerFeaturesQuery(self, variables):
        return {"serverInfo": {"features": []}}

    def _on_OrganizationCoreWeaveOrganizationID(self, variables):
        return {"entity": None}

    def _on_ArtifactType(self, variables):
        return {"project": None}

    def _on_RunResumeStatus(self, variables):
        project = _project(variables["project"])
        run = self.runs.get(variables["name"])
        if run is None:
            return {"model": {**project, "bucket": None}}
        history, events = (run.streams.get(f"wandb-{n}.jsonl", []) for n in ("history", "events"))
        bucket = {
            "id": variables["name"],
            "name": variables["name"],
            "displayName": run.name,
            "summaryMetrics": run.streams.get("wandb-summary.json", ["{}"])[-1],
            "logLineCount": len(run.streams.get("output.log", [])),
            "historyLineCount": len(history),
            "eventsLineCount": len(events),
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": json.dumps(events[-1:]),
            "config": json.dumps(run.config),
            "tags": [],
            "notes": "",
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {**project, "bucket": bucket}}

    def _on_UpsertBucket(self, variables):
        name = variables["name"]
        fresh = name not in self.runs
        run = self.runs.setdefault(name, FakeRun(variables["project"]))
        run.name = variables["displayName"] or run.name
        run.attempts += variables["host"] is not None  # given when a run begins, and only then
        if variables["config"]:
            run.config |= json.loads(variables["config"])
        bucket = {
            "id": name,
            "name": name,
            "displayName": run.name,
            "description": "",
            "config": json.dumps(run.config),
            "sweepName": None,
            "historyLineCount": len(run.history),
            "project": _project(run.project),
        }
        return {"upsertBucket": {"inserted": fresh, "bucket": bucket}}

    def _on_CreateRunFiles(self, variables):
        names, run = variables["files"], variables["run"]
        files = [{"name": n, "uploadUrl": f"{self.url}/runs/{run}/{quote(n)}"} for n in names]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def _on_CreateArtifact(self, variables):
        asked = variables["input"]
        name = asked["artifactCollectionName"]
        earlier = [a for a in self.artifacts if a.name == name]
        artifact = FakeArtifact(
            id=str(len(self.artifacts)),
            name=name,
            type=asked["artifactTypeName"],
            version=len(earlier),
            aliases=[a["alias"] for a in asked["aliases"]],
            metadata=json.loads(asked["metadata"] or "{}"),
            digest=asked["digest"],
            project=asked["projectName"],
            run=asked["runName"],
        )
        self.artifacts.append(artifact)
        latest = {"id": earlier[-1].id} if earlier else None
        sequence = {"id": name, "latestArtifact": latest}
        answer = {"id": artifact.id, "state": artifact.state, "artifactSequence": sequence}
        return {"createArtifact": {"artifact": answer}}

    def _on_CreateArtifactManifest(self, variables):
        url = f"{self.url}/artifacts/{variables['artifactID']}/{variables['name']}"
        file = {"id": "f", "name": "f", "displayName": "f", "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def _on_CreateArtifactFiles(self, variables):
        edges = []
        for file in variables["input"]["artifactFiles"]:
            node = {
                "id": "f",
                "name": file["name"],
                "displayName": file["name"],
                "storagePath": file["name"],
                "uploadUrl": f"{self.url}/artifacts/{file['artifactID']}/{quote(file['name'])}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_CommitArtifact(self, variables):
        artifact = self.artifacts[int(variables["artifactID"])]
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def _on_ArtifactByID(self, variables):
        artifact = self.artifacts[int(variables["id"])]
        project = _project(artifact.project)
        collection = {"__typename": "ArtifactSequence", "name": artifact.name, "project": project}
        aliases = [
            {
                "__typename": "ArtifactAlias",
                "id": alias,
                "alias": alias,
                "artifactCollection": collection,
            }
            for alias in artifact.aliases
        ]
        answer = {
            "__typename": "Artifact",
            "id": artifact.id,
            "artifactSequence": collection,
            "versionIndex": artifact.version,
            "artifactType": {"name": artifact.type},
            "description": None,
            "metadata": json.dumps(artifact.metadata),
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": artifact.state,
            "size": sum(map(len, artifact.files.values())),
            "digest": artifact.digest,
            "commitHash": None,
            "fileCount": len(artifact.files),
            "createdAt": PAST,
            "updatedAt": None,
            "aliases": aliases,
        }
        return {"artifact": answer}


def _project(name):
    entity = {"id": ENTITY, "name": ENTITY}
    return {"id": name, "internalId": name, "name": name, "entity": entity}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *arguments):
        self.connections = set()
        super().__init__(*arguments)

    def handle_error(self, request, client_address):
        """A client that goes away in the middle is no fault of a test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        self.server.connections.add(self.request)
        super().setup()

    def finish(self):
        self.server.connections.discard(self.request)
        super().finish()

    def log_message(self, *arguments):
        """Nothing: tests look at what was kept."""

    def _take(self):
        fake, body = self.server.fake, self._body()
        if fake.hangs:
            fake.closed.wait()
            self.close_connection = True
            return
        with fake.lock:
            status, answer = fake.status, {"error": "no"}
            if status == 200:
                status, answer = fake.answer(self.command, self.path, body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _take  # noqa: N815

    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
