"""``zoo doctor``: what this machine has, in one screen, with what to do about each thing amiss."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from zoo import __version__

CODECS = {"wav": "WAV", "flac": "FLAC", "ogg": "OGG", "mp3": "MP3"}


def show_doctor() -> int:
    """Print the findings; 1 when something that the zoo needs does not work."""
    healthy = True
    for name, find in FINDINGS.items():
        try:
            line = find()
        except Exception as error:  # a broken package can raise anything; that is the finding
            reason = (str(error) or type(error).__name__).splitlines()[0]
            line, healthy = f"does not work: {reason}", False
        print(f"{name:<12}{line}")
    return 0 if healthy else 1


def _python() -> str:
    return f"{platform.python_version()} at {sys.executable}, zoo {__version__}"


def _torch() -> str:
    import torch

    kind = torch.backends.cpu.get_cpu_capability()
    return f"{torch.__version__}, {torch.get_num_threads()} threads, CPU with {kind}"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    if torch.backends.mps.is_available():
        return "cpu; --device mps uses the Apple GPU"
    if torch.version.cuda is None:
        return "cpu: this build of torch knows no CUDA; install a CUDA build for an NVIDIA GPU"
    return "cpu: no NVIDIA GPU, or no driver that this build of torch can use"


def _torchaudio() -> str:
    from zoo.compat import torchaudio

    return {
        "native": "loaded",
        "pure": "its compiled part does not fit this torch; its Python part is used",
        "absent": "not installed; resampling uses soxr",
    }[torchaudio.mode()]


def _codecs() -> str:
    import av
    import soundfile

    formats = soundfile.available_formats()
    known = [name for name, key in CODECS.items() if key in formats]
    return (
        f"{', '.join(known)} by libsndfile {soundfile.__libsndfile_version__.split('-')[-1]}; "
        f"m4a, mp4 and others by PyAV {av.__version__}"
    )


def _ffmpeg() -> str:
    found = [shutil.which(name) for name in ("ffmpeg", "ffprobe")]
    if all(found):
        return str(found[0])
    return "no binary on PATH; only the musdb package would need it"


def _lightning() -> str:
    script = shutil.which("lightning")
    if script is None:
        return "no `lightning` script on PATH; `zoo fit` is the same"
    text = Path(script).read_text(errors="replace")
    if "zoo.cli" in text:
        return f"{script} is ours"
    return (
        f"{script} belongs to another package; use `zoo fit`, or "
        "pip install --force-reinstall --no-deps music-separation-zoo"
    )


def _wandb() -> str:
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return f"{_version('wandb')}, WANDB_MODE={mode}"
    import netrc

    try:
        hosts = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        hosts = {}
    has_key = bool(os.environ.get("WANDB_API_KEY")) or any("wandb" in host for host in hosts)
    return f"{_version('wandb')}, {'a key is there' if has_key else 'no key: runs stay offline'}"


def _hub() -> str:
    from huggingface_hub import constants, get_token

    token = "a token is there" if get_token() else "no token: public releases only"
    return f"{_version('huggingface_hub')}, {constants.ENDPOINT}, {token}"


def _cache() -> str:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    existing = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
    writable = "" if os.access(existing, os.W_OK) else ", not writable: set HF_HOME"
    return f"{folder}, {shutil.disk_usage(existing).free / 1e9:.0f} GB free{writable}"


def _data() -> str:
    root = os.environ.get("ZOO_DATA")
    return f"ZOO_DATA={root}" if root else "ZOO_DATA is not set: data sets are looked for in data/"


def _disk() -> str:
    return f"{shutil.disk_usage('.').free / 1e9:.0f} GB free in this folder"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


FINDINGS: dict[str, Callable[[], str]] = {
    "python": _python, "torch": _torch, "device": _device, "torchaudio": _torchaudio,
    "codecs": _codecs, "ffmpeg": _ffmpeg, "lightning": _lightning, "wandb": _wandb,
    "hub": _hub, "cache": _cache, "data": _data, "disk": _disk,
}  # fmt: skip
