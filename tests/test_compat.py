"""The doors to packages that can fail while they are imported; each test in a fresh interpreter."""

import ast
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ZOO = Path(__file__).resolve().parent.parent / "zoo"
GUARDED = ("torchaudio", "musdb", "museval", "stempeg")

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
"""

# What torchaudio is made of, small: the package reads its compiled part first, and fails there.
FAILING = {
    "__init__.py": "from . import _extension, functional\n",
    "_extension.py": "raise {error}\n",
    "functional.py": (
        "from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, fail_if_no_align\n"
        "@fail_if_no_align\n"
        "def forced_align(): return 1\n"
    ),
}


def run(code, path=None, blocked=(), folder=None):
    """What ``code`` leaves in ``result``, in an interpreter of its own."""
    prelude = f"BLOCKED = {tuple(blocked)!r}\n{BLOCK}" if blocked else ""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [*(folder or []), ZOO.parent])),
    }
    if path is not None:
        environment["PATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-c", f"{prelude}\nimport json\n{code}\nprint(json.dumps(result))"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def fake_torchaudio(folder, version="2.11.0", error="OSError('libcudart.so: not found')", ok=False):
    package = folder / "torchaudio"
    package.mkdir()
    for name, text in FAILING.items():
        (package / name).write_text(text.format(error=error) if "{error}" in text else text)
    if ok:
        (package / "_extension.py").write_text(
            "_IS_TORCHAUDIO_EXT_AVAILABLE = True\ndef fail_if_no_align(f): return f\n"
        )
    info = folder / f"torchaudio-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torchaudio\nVersion: {version}\n")
    return [folder]


# ------------------------------------------------------------------------------- torchaudio


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torchaudio") is None, reason="torchaudio is not installed")
def test_the_installed_torchaudio_resamples_beside_the_installed_torch():
    result = run(
        "import math, torch\n"
        "from zoo.compat import torchaudio\n"
        "t = torch.arange(44100) / 44100\n"
        "tone = torch.sin(2000 * math.pi * t)[None]\n"
        "y = torchaudio.load().functional.resample(tone, 44100, 16000)\n"
        "true = torch.sin(2000 * math.pi * torch.arange(16000) / 16000)\n"
        "error = (y[0] - true)[100:-100].abs().max().item()\n"
        "result = [torchaudio.mode(), list(y.shape), error]"
    )
    mode, shape, error = result
    assert mode in ("native", "pure")
    assert shape == [1, 16000]
    assert error < 1e-2


@pytest.mark.parametrize(
    "error",
    [
        "OSError('libcudart.so: not found')",
        "RuntimeError('other CUDA')",
        "ImportError('no symbol')",
    ],
)
def test_a_torchaudio_whose_compiled_part_fails_is_used_without_it(tmp_path, error):
    result = run(
        "from zoo.compat import torchaudio\n"
        "package = torchaudio.load()\n"
        "try: package.functional.forced_align()\n"
        "except RuntimeError as e: said = str(e)\n"
        "available = package._extension._IS_TORCHAUDIO_EXT_AVAILABLE\n"
        "result = [torchaudio.mode(), available, said]",
        folder=fake_torchaudio(tmp_path, error=error),
    )
    assert result[:2] == ["pure", False]
    assert "forced_align needs torchaudio's compiled part" in result[2]


def test_a_torchaudio_that_loads_is_native(tmp_path):
    result = run(
        "from zoo.compat import torchaudio\n"
        "result = [torchaudio.mode(), torchaudio.load().functional.forced_align()]",
        folder=fake_torchaudio(tmp_path, ok=True),
    )
    assert result == ["native", 1]


def test_a_torchaudio_of_an_unknown_layout_is_not_patched(tmp_path):
    result = run(
        "from zoo.compat import torchaudio\n"
        "import sys\n"
        "result = [torchaudio.mode(), 'torchaudio._extension' in sys.modules]",
        folder=fake_torchaudio(tmp_path, version="3.0.0"),
    )
    assert result == ["absent", False]


def test_without_torchaudio_the_zoo_imports_and_says_what_is_missing():
    result = run(
        "import zoo\n"
        "from zoo.compat import torchaudio\n"
        "try: torchaudio.load()\n"
        "except zoo.ZooError as e: said = [type(e).__name__, str(e)]\n"
        "result = [torchaudio.mode(), *said]",
        blocked=["torchaudio"],
    )
    assert result[:2] == ["absent", "MissingPackage"]
    assert result[2] == "torchaudio is not installed. This needs it: `pip install torchaudio`."


def test_torchaudio_is_tried_once_from_many_threads(tmp_path):
    folder = fake_torchaudio(tmp_path)
    (tmp_path / "torchaudio" / "_extension.py").write_text(
        "import builtins\n"
        "builtins.tries += 1\n"
        "builtins.all_ask.wait(60)\n"
        "raise OSError('no library')\n"
    )
    result = run(
        "import builtins, threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from zoo.compat import torchaudio\n"
        "builtins.tries, builtins.all_ask = 0, threading.Event()\n"
        "def ask(number):\n"
        "    if number == 7: builtins.all_ask.set()\n"
        "    return torchaudio.mode()\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    modes = list(pool.map(ask, range(8)))\n"
        "result = [modes, builtins.tries]",
        folder=folder,
    )
    assert result == [["pure"] * 8, 1]


# ------------------------------------------------------------------------------- musdb, museval

needs_museval = pytest.mark.skipif(find_spec("museval") is None, reason="museval is not installed")


@needs_museval
def test_the_metrics_of_museval_need_no_ffmpeg_and_no_stempeg(tmp_path):
    result = run(
        "import sys\n"
        "import numpy as np\n"
        "from zoo.compat import museval\n"
        "rng = np.random.default_rng(0)\n"
        "true = rng.standard_normal((2, 4000, 1))\n"
        "noise = rng.standard_normal((2, 4000, 1))\n"
        "sdr, *_ = museval.metrics().bss_eval(true, true + 0.1 * noise, window=4000, hop=4000)\n"
        "result = [sdr[:, 0].tolist(), [m for m in ('stempeg', 'musdb') if m in sys.modules]]",
        path=tmp_path,
    )
    sdr, imported = result
    # Noise at a tenth of the amplitude is 20 dB down; the 512 free taps take a little of it away.
    assert all(19 < value < 21.5 for value in sdr)
    assert imported == []


@needs_museval
def test_the_stores_of_museval_work_without_ffmpeg(tmp_path):
    result = run(
        "from zoo.compat import museval\n"
        "store = museval.load().TrackStore(track_name='song')\n"
        "store.add_target('vocals', {'SDR': [1.5], 'SIR': [2.0], 'ISR': [3.0], 'SAR': [4.0]})\n"
        "result = [museval.mode(), json.loads(store.json)['targets'][0]['name'], len(store.df)]",
        path=tmp_path,
    )
    assert result == ["without-ffmpeg", "vocals", 4]


@needs_museval
def test_without_ffmpeg_musdb_says_in_one_sentence_what_to_do(tmp_path):
    (tmp_path / "music" / "train").mkdir(parents=True)
    (tmp_path / "music" / "train" / "a song.stem.mp4").write_bytes(b"")
    result = run(
        "from zoo.compat import musdb\n"
        f"root = {str(tmp_path / 'music')!r}\n"
        "try: musdb.load().DB(root=root, subsets='train')\n"
        "except musdb.NoFfmpeg as e: said = str(e)\n"
        "result = [musdb.mode(), said]",
        path=tmp_path,
    )
    assert result[0] == "without-ffmpeg"
    assert "ffmpeg and ffprobe, which are not both on the PATH; install ffmpeg" in result[1]


@needs_museval
@pytest.mark.skipif(not all(map(shutil.which, ("ffmpeg", "ffprobe"))), reason="no ffmpeg here")
def test_with_ffmpeg_musdb_is_native():
    assert run("from zoo.compat import musdb\nresult = musdb.mode()") == "native"


@pytest.mark.parametrize("name", ["musdb", "museval"])
def test_without_musdb_and_museval_the_error_names_the_package(name):
    result = run(
        f"from zoo.compat import {name} as door\n"
        "from zoo.errors import MissingPackage\n"
        "try: door.load()\n"
        "except MissingPackage as e: said = str(e)\n"
        "result = [door.mode(), said]",
        blocked=["musdb", "museval", "stempeg"],
    )
    assert result == ["absent", f"{name} is not installed. This needs it: `pip install {name}`."]


def test_without_museval_its_metrics_say_so():
    result = run(
        "from zoo.compat import museval\n"
        "from zoo.errors import MissingPackage\n"
        "try: museval.metrics()\n"
        "except MissingPackage as e: result = str(e)",
        blocked=["museval"],
    )
    assert result == "museval is not installed. This needs it: `pip install museval`."


# ------------------------------------------------------------------------------- the house rule


def guarded_imports(text):
    """Guarded packages that a Python text imports, anywhere in it."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0):
                found = [module]
            case ast.Call(
                func=ast.Name(id=called) | ast.Attribute(attr=called),
                args=[ast.Constant(value=str(module)), *_],
            ) if called in ("import_module", "__import__", "importorskip"):
                found = [module]
            case _:
                continue
        yield from (name for name in found if name.partition(".")[0] in GUARDED)


@pytest.mark.parametrize(
    "text",
    [
        "import torchaudio",
        "import numpy, musdb",
        "def f():\n    from museval.metrics import bss_eval",
        "import importlib\nimportlib.import_module('stempeg')",
    ],
)
def test_the_rule_sees_an_import(text):
    assert list(guarded_imports(text))


def test_the_rule_lets_the_doors_through():
    assert not list(guarded_imports("from zoo.compat import torchaudio, museval"))


def test_only_the_doors_import_packages_that_can_fail_at_import(checkout):
    folders = ("zoo", "tests", "examples", "benchmarks")
    files = [path for folder in folders for path in (checkout / folder).rglob("*.py")]
    assert len(files) > 10
    found = {
        str(path.relative_to(checkout)): names
        for path in files
        if ZOO / "compat" not in path.parents
        and (names := list(guarded_imports(path.read_text(encoding="utf-8"))))
    }
    assert not found
