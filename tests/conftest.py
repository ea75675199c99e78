"""What every test stands on: a fixed environment, fixed seeds, no network, the shared audio."""

import os
import tempfile

# Before anything is imported: torch, matplotlib, wandb and huggingface_hub read these once.
_HOME = tempfile.TemporaryDirectory(prefix="zoo-tests-", ignore_cleanup_errors=True)
os.environ.update(
    {
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": os.path.join(_HOME.name, "matplotlib"),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_DIR": _HOME.name,
        "HF_HOME": os.path.join(_HOME.name, "huggingface"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
)
# Tests that talk to a local server set their own; a real account must not leak in.
for _name in ("WANDB_API_KEY", "WANDB_BASE_URL", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
    os.environ.pop(_name, None)
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import importlib.util  # noqa: E402
import ipaddress  # noqa: E402
import random  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402

# A shell that runs the tests in the background has them ignore it, and so their children.
signal.signal(signal.SIGINT, signal.default_int_handler)

CHECKOUT = Path(__file__).resolve().parent.parent
_HAS_TORCH = importlib.util.find_spec("torch") is not None


def pytest_collection_modifyitems(config, items):
    """Leave out what needs the internet, unless asked for; skip what needs an accelerator."""
    chosen = config.getoption("-m") or ""
    if "network" not in chosen:
        left_out = [item for item in items if item.get_closest_marker("network")]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _has_accelerator():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="no accelerator on this machine"))


def _has_accelerator():
    if not _HAS_TORCH:
        return False
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


@pytest.fixture(autouse=True)
def seeds():
    """The same random numbers and arithmetic for every test, whichever ran before it."""
    random.seed(0)
    np.random.seed(0)
    if _HAS_TORCH:
        import torch

        torch.manual_seed(0)
        torch.set_flush_denormal(False)  # a command that ran in this process may have set it


@pytest.fixture(autouse=True)
def no_network(request, monkeypatch):
    """Connections to this machine only, so that no test reaches out unnoticed."""
    if request.node.get_closest_marker("network"):
        return
    connect, connect_ex, sendto = (
        getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto")
    )

    def guard(address):
        if isinstance(address, tuple) and not _is_this_machine(address[0]):
            raise OSError(f"a test tried to reach {address[0]}; mark it `network` if it must.")

    def guarded(call):
        def wrapper(self, *arguments):
            guard(arguments[-1])
            return call(self, *arguments)

        return wrapper

    monkeypatch.setattr(socket.socket, "connect", guarded(connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
    monkeypatch.setattr(socket.socket, "sendto", guarded(sendto))
    look_up = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **named):
        guard((host,))
        return look_up(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def _is_this_machine(host):
    host = host.decode() if isinstance(host, bytes) else host
    if host in (None, "", "localhost", "0.0.0.0", "::", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session")
def checkout():
    """Folder of the repository, for tests about its files."""
    return CHECKOUT


@pytest.fixture(scope="session")
def shared():
    """Folder of shared audio: ``$ZOO_SHARED``, else ``shared`` beside the checkout, else a skip."""
    named = os.environ.get("ZOO_SHARED")
    folder = Path(named) if named else CHECKOUT.parent / "shared"
    if not (folder / "audio").is_dir():
        pytest.skip(f"no shared audio in {folder}; set ZOO_SHARED to the folder that holds audio/")
    return folder
