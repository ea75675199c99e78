"""Releases taken from a Hub: cut and corrupted downloads, refusals, and a server that is gone."""

import json
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import zoo
from zoo.cli import main
from zoo.errors import ChecksumError, ReleaseError, UnknownModel
from zoo.hub.publish import build
from zoo.testing.hub import Fault, LocalHub

LICENCE = {"code": "MIT", "weights": "CC0 1.0", "data": "CC0 1.0"}
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of a small release."""
    torch.manual_seed(0)
    model = zoo.create(
        "umx", sources=["vocals", "accompaniment"], sample_rate=8000, channels=1, n_fft=1024,
        hop=64, hidden_size=64, n_layers=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("release") / "umx-noise"
    build(model.eval(), folder, name="umx-noise", licence=LICENCE, trained_on="noise")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


@pytest.fixture
def hub(files, tmp_path, monkeypatch):
    """A Hub that holds the release, which the client takes for the Hub; its cache is empty."""
    with LocalHub({"secret"}) as server:
        server.commit(server.create("org/umx-noise"), "a release", files)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
        yield server


def newest(hub):
    return hub.repositories["org/umx-noise"].commits[-1]


def pinned(hub):
    return f"org/umx-noise@{newest(hub).oid}"


def changed(hub, files):
    """A commit with other files."""
    return hub.commit(hub.repositories["org/umx-noise"], "changed", files)


def asked_of(hub):
    asked = list(hub.requests)
    hub.requests.clear()
    return asked


def test_a_pinned_release_is_asked_for_once_and_never_again(hub):
    zoo.from_pretrained(pinned(hub))
    assert any(WEIGHTS in line for line in asked_of(hub))
    zoo.from_pretrained(pinned(hub))
    assert not asked_of(hub)


def test_a_download_that_is_cut_goes_on(hub, files):
    hub.faults.append(Fault(WEIGHTS, times=2, status=0))  # a HEAD, which has no body, and a GET
    model = zoo.from_pretrained(pinned(hub))
    assert model.info["release"] == "umx-noise"
    assert sum(line.startswith("GET") and WEIGHTS in line for line in asked_of(hub)) == 2


def test_a_download_that_is_cut_for_good_leaves_no_half_release(hub, tmp_path):
    hub.faults.append(Fault(WEIGHTS, times=100, status=0))
    with pytest.raises(ReleaseError, match="cannot be fetched from the Hub"):
        zoo.from_pretrained(pinned(hub))
    hub.faults.clear()
    assert zoo.from_pretrained(pinned(hub)).info["release"] == "umx-noise"


def test_a_corrupted_download_is_refused(hub):
    hub.faults.append(Fault(WEIGHTS, times=2, status=-1))
    with pytest.raises(ChecksumError, match=WEIGHTS):
        zoo.from_pretrained(pinned(hub))


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_refusal_is_two_lines(hub, capsys, status):
    hub.faults.append(Fault("/api/", times=100, status=status))
    start = time.monotonic()
    assert main(["verify", pinned(hub)]) == 2
    assert time.monotonic() - start < 10
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: org/umx-noise@") and len(error.splitlines()) <= 2


def test_a_server_that_says_nothing_is_not_waited_for(hub, monkeypatch):
    monkeypatch.setattr("zoo.release._PATIENCE_S", 0.5)
    hub.faults.append(Fault("/api/", times=100, status=503, seconds=4))
    start = time.monotonic()
    with pytest.raises(ReleaseError, match="cannot be fetched from the Hub"):
        zoo.from_pretrained("org/umx-noise")
    assert time.monotonic() - start < 4


def test_a_missing_repository_or_revision_is_told(hub):
    for name in ("org/nothing", "org/umx-noise@v9", f"org/umx-noise@{'0' * 40}"):
        with pytest.raises(UnknownModel, match="the Hub has no"):
            zoo.from_pretrained(name)


def test_private_and_gated_repositories_want_a_token(hub, monkeypatch):
    for kind in ("private", "gated"):
        setattr(hub.repositories["org/umx-noise"], kind, True)
        with pytest.raises(UnknownModel, match="HF_TOKEN"):
            zoo.from_pretrained("org/umx-noise")
        setattr(hub.repositories["org/umx-noise"], kind, False)
    hub.repositories["org/umx-noise"].private = True
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert zoo.from_pretrained("org/umx-noise").info["release"] == "umx-noise"


def test_a_repository_that_is_no_release_is_told(hub, files):
    changed(hub, {"README.md": b"# Hello"})
    with pytest.raises(ReleaseError, match=r"holds no config\.json"):
        zoo.from_pretrained("org/umx-noise")


@pytest.mark.parametrize("name", ["../../evil.txt", "/tmp/evil.txt", "scores/../../evil", "a\\b"])
def test_hostile_names_in_a_record_are_refused(hub, files, tmp_path, name):
    record = json.loads(files["config.json"])
    record["sha256"][name] = "0" * 64
    changed(hub, {**files, "config.json": json.dumps(record).encode()})
    with pytest.raises(ReleaseError, match="expected files inside the release"):
        zoo.from_pretrained("org/umx-noise")
    assert not list(tmp_path.rglob("evil*")) and not Path("/tmp/evil.txt").exists()


def test_files_beside_those_of_the_record_are_not_fetched(hub, files):
    changed(hub, {**files, "pytorch_model.bin": b"a pickle", "code.py": b"print('run')"})
    zoo.from_pretrained("org/umx-noise")
    assert not any("GET" in line and ".bin" in line for line in asked_of(hub))


def test_a_class_that_the_catalog_does_not_know_is_not_imported(hub, files):
    record = json.loads(files["config.json"])
    record.update(name="evil-noise", architecture="evil")
    changed(hub, {**files, "config.json": json.dumps(record).encode()})
    with pytest.raises(ReleaseError, match="its architecture 'evil' is not in the catalog"):
        zoo.from_pretrained("org/umx-noise")


def test_a_header_that_promises_too_much_is_refused(hub, files):
    import hashlib

    weights = (1 << 62).to_bytes(8, "little") + files[WEIGHTS][8:]
    record = json.loads(files["config.json"])
    record["sha256"][WEIGHTS] = hashlib.sha256(weights).hexdigest()
    changed(hub, {**files, WEIGHTS: weights, "config.json": json.dumps(record).encode()})
    with pytest.raises(ReleaseError, match=WEIGHTS):
        zoo.from_pretrained("org/umx-noise")


def test_a_server_that_is_gone_costs_little_with_a_warm_cache_and_without(hub, capsys, caplog):
    zoo.from_pretrained("org/umx-noise")
    commit = newest(hub).oid
    hub.stop()
    start = time.monotonic()
    assert zoo.from_pretrained("org/umx-noise").info["release"] == "umx-noise"
    assert "taken from the cache" in caplog.text
    assert zoo.from_pretrained(f"org/umx-noise@{commit}").info["release"] == "umx-noise"
    assert main(["verify", "org/another"]) == 2
    assert time.monotonic() - start < 5
    error = capsys.readouterr().err.strip().splitlines()
    assert "cannot be fetched from the Hub" in error[-2] and "Connect once" in error[-1]
