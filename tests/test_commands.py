"""``zoo separate``, ``zoo demo`` and ``zoo data``: what they print, and their exit status."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo import catalog
from zoo.applications import separate as application
from zoo.audio import AudioWriter, open_audio, read
from zoo.cli import main, progress
from zoo.weights import write_release

CHECKOUT = Path(__file__).parent.parent
LICENCE = {"code": "MIT", "weights": "CC BY 4.0", "data": "CC0 1.0"}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Folder of a release that has learnt nothing, of two sources at 8 kHz."""
    torch.manual_seed(0)
    tiny = catalog.load("mmdensenet").tiny
    model = zoo.create("mmdensenet", **{**tiny, "sources": ["vocals", "accompaniment"]})
    folder = tmp_path_factory.mktemp("releases") / "mmdensenet-noise"
    write_release(folder, model, name=folder.name, licence=LICENCE, trained_on="noise, not at all")
    return folder


@pytest.fixture(autouse=True)
def own_log(monkeypatch):
    """The zoo's log as a new process has it, and as it was afterwards."""
    log = logging.getLogger("zoo")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", True)
    level = log.level
    yield
    log.setLevel(level)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty working directory with two songs."""
    monkeypatch.chdir(tmp_path)
    write("a.wav", 1.0)
    write("b.flac", 1.0, seed=1)
    return tmp_path


def write(path, seconds, seed=0, rate=16000, channels=2):
    x = np.random.default_rng(seed).uniform(-0.3, 0.3, (channels, round(seconds * rate)))
    with AudioWriter(path, rate, channels, "PCM_16") as writer:
        writer.write(x.astype(np.float32))


def separate(release, *words):
    return main(["separate", "-m", str(release), "--progress", "none", *map(str, words)])


def tree(folder):
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*"))


SONG = ["accompaniment.wav", "separation.json", "vocals.wav"]

# ------------------------------------------------------------------------------- separate


def test_the_first_line_names_the_device_and_every_song_has_a_line(work, release, capsys):
    assert separate(release, "a.wav", "b.flac", "-o", "o") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"device: {'cuda:0' if torch.cuda.is_available() else 'cpu'}"
    assert lines[1].startswith("a.wav -> o/a/: vocals.wav, accompaniment.wav (")
    assert "  resampled 16000 -> 8000 Hz and back" in lines
    assert len([line for line in lines if line.startswith("b.flac -> o/b/")]) == 1
    assert tree("o/a") == SONG


def test_notes_that_hold_for_every_song_are_told_once(work, release, capsys):
    separate(release, "a.wav", "b.flac", "-o", "o")
    assert capsys.readouterr().out.count("resampled") == 1


def test_a_named_device_is_taken(work, release, capsys):
    assert separate(release, "a.wav", "-o", "o", "--device", "cpu") == 0
    assert capsys.readouterr().out.startswith("device: cpu\n")


def test_stems_that_are_there_are_kept_until_asked(work, release, capsys):
    separate(release, "a.wav", "-o", "o")
    capsys.readouterr()
    before = Path("o/a/vocals.wav").stat().st_mtime_ns
    assert separate(release, "a.wav", "-o", "o") == 0
    assert "o/a/ has vocals.wav, accompaniment.wav already; --overwrite" in capsys.readouterr().out
    assert Path("o/a/vocals.wav").stat().st_mtime_ns == before
    assert separate(release, "a.wav", "-o", "o", "--overwrite") == 0
    assert Path("o/a/vocals.wav").stat().st_mtime_ns > before


@pytest.mark.parametrize(("bits", "expected"), [("16", 16), ("24", 24), ("32", 32), ("float", 32)])
def test_the_bit_depth_can_be_chosen(work, release, bits, expected):
    assert separate(release, "a.wav", "-o", "o", "--bits", bits) == 0
    with open_audio("o/a/vocals.wav") as reader:
        assert (reader.bits, reader.is_float) == (expected, bits == "float")


def test_format_template_and_sources_can_be_chosen(work, release):
    words = ["-f", "flac", "--template", "{source} of {name}.{format}", "-s", "vocals"]
    assert separate(release, "a.wav", "-o", "o", *words) == 0
    assert tree("o") == ["separation of a.json", "vocals of a.flac"]


def test_two_stems_are_a_source_and_everything_else(work, release):
    assert separate(release, "a.wav", "-o", "o", "--two-stems", "vocals", "--bits", "float") == 0
    vocals, rest = (read(f"o/a/{name}.wav")[0] for name in ("vocals", "accompaniment"))
    assert np.abs(vocals + rest - read("a.wav")[0]).max() < 1e-3
    assert tree("o/a") == SONG
    assert separate(release, "a.wav", "-o", "p", "--two-stems", "accompaniment") == 0
    assert "no_accompaniment.wav" in tree("p/a")


def test_a_picture_is_drawn_on_request(work, release):
    assert separate(release, "a.wav", "-o", "o", "--picture") == 0
    assert Path("o/a/spectrograms.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_was_forgotten_is_drawn_later_and_said(work, release, capsys):
    separate(release, "a.wav", "-o", "o")
    capsys.readouterr()
    assert separate(release, "a.wav", "-o", "o", "--picture") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ["a.wav -> o/a/: spectrograms.png of the stems that were there"]
    assert separate(release, "a.wav", "-o", "o", "--picture") == 0
    assert "already" in capsys.readouterr().out


def test_clipping_is_reported(work, release, capsys, monkeypatch):
    result = application.Result(Path("a.wav"), [Path("o/vocals.wav")], clipped=7)
    monkeypatch.setattr("zoo.cli.separate.separate_files", lambda *_, **__: iter([result]))
    separate(release, "a.wav")
    assert "7 samples beyond full scale were clipped" in capsys.readouterr().out


def test_without_a_model_the_default_is_named_and_explained(work, release, capsys, monkeypatch):
    asked = []

    def load(name, **options):
        asked.append(name)
        return zoo.from_pretrained(release, **options)

    monkeypatch.setattr("zoo.applications.separate.from_pretrained", load)
    assert main(["separate", "a.wav", "-o", "o", "--progress", "none"]) == 0
    assert asked == ["mmdensenet-open"]
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "mmdensenet-open" in x]
    assert "no -m" in line and "free to use" in line


def test_a_second_run_over_a_folder_that_holds_the_output_does_nothing(work, release, capsys):
    assert separate(release, ".", "-o", "stems") == 0
    before = tree(".")
    capsys.readouterr()
    assert separate(release, ".", "-o", "stems") == 0
    assert capsys.readouterr().out.count("already") == 2
    assert tree(".") == before


def test_file_names_are_printed_on_one_line_in_any_locale(work, release, capsys):
    Path("a.wav").rename(os.fsdecode(b"new\nline\x1b[31m\xff.wav"))
    assert separate(release, ".", "-o", "o") == 0
    out = capsys.readouterr().out
    assert r"new\nline\x1b[31m\udcff.wav -> " in out


# ------------------------------------------------------------------------------- progress


def test_json_progress_is_one_object_a_line_with_every_stage(work, release, capsys):
    Path("bad.wav").write_text("no audio")
    status = main(["separate", "-m", str(release), "a.wav", "bad.wav", "-o", "o",
                   "--progress", "json"])  # fmt: skip
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert status == 1
    steps = [e for e in events if e["stage"] == "separate"]
    assert steps[-1] == {"file": "a.wav", "stage": "separate", "done": 16000, "total": 16000}
    (done,) = [e for e in events if e["stage"] == "done"]
    assert done["stems"] == ["o/a/vocals.wav", "o/a/accompaniment.wav"]
    (failed,) = [e for e in events if e["stage"] == "failed"]
    assert failed["file"] == "bad.wav"
    assert "bad.wav" in failed["error"]


def test_a_log_gets_a_line_every_few_seconds(work, release, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    assert main(["separate", "-m", str(release), "a.wav", "-o", "o", "--progress", "lines"]) == 0
    assert "  a.wav: separate 100 %" in capsys.readouterr().err.splitlines()


def test_a_log_is_not_flooded(work, release, capsys):
    assert main(["separate", "-m", str(release), "a.wav", "-o", "o", "--progress", "lines"]) == 0
    assert "a.wav: separate" not in capsys.readouterr().err


def test_a_bar_shows_any_name(work, release, capsys):
    Path("a.wav").rename(os.fsdecode(b"[red]\xff[x].wav"))
    assert main(["separate", "-m", str(release), ".", "-o", "o", "--progress", "bar"]) == 0
    assert r"[red]\udcff[x].wav -> " in capsys.readouterr().out


# ------------------------------------------------------------------------------- what fails


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nothere.wav"], "nothere.wav"),
        (["empty"], "holds no audio"),
        (["text.wav"], "is not audio"),
        (["a.wav", "-m", "mmdensenet-nois"], "mmdensenet-nois"),
        (["a.wav", "-m", "nowhere/x.ckpt"], "nowhere/x.ckpt"),
        (["a.wav", "-m", "text.ckpt"], "text.ckpt"),
        (["a.wav", "-m", "damaged"], "sha256"),
        (["a.wav", "-o", "text.wav"], "is a file"),
        (["a.wav", "--bits", "17"], "--bits 17"),
        (["a.wav", "-f", "xyz"], "xyz"),
        (["a.wav", "-f", "mp3", "--bits", "16"], "mp3 files cannot hold PCM_16"),
        (["a.wav", "-s", "banjo"], "'banjo'"),
        (["a.wav", "--two-stems", "vocals", "-s", "vocals"], "exclude each other"),
        (["a.wav", "--template", "{name}"], "{source}"),
        (["a.wav", "--shifts", "-1"], "--shifts"),
        (["a.wav", "--batch-size", "0"], "--batch-size"),
        (["a.wav", "--chunk", "0"], "chunk"),
        (["a.wav", "--precision", "fp8"], "float32"),
        (["a.wav", "--device", "toaster"], "toaster"),
        (["a.wav", "--progress", "loud"], "json"),
        (["a.wav", "--overwrit"], "--overwrite"),
        ([], "FILE|FOLDER|PATTERN"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_an_error_of_the_user_is_one_or_two_lines_and_status_two(
    work, release, capsys, words, expected
):
    Path("empty").mkdir()
    for name in ("text.wav", "text.ckpt"):
        Path(name).write_text("lorem ipsum " * 100)
    shutil.copytree(release, "damaged")
    weights = bytearray(Path("damaged/model.safetensors").read_bytes())
    weights[-1] ^= 1
    Path("damaged/model.safetensors").write_bytes(weights)
    output = [] if "-o" in words else ["-o", "o"]
    assert separate(release, *words, *output) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    (line,) = [x for x in error.splitlines() if x.startswith("error: ")]
    assert expected in line
    assert len(error[error.index("error: ") :].splitlines()) <= 2
    assert not Path("o").exists()


def test_a_missing_input_is_told_before_a_model_is_loaded(work, capsys):
    assert separate("no/such/model", "nothere.wav") == 2
    assert "nothere.wav" in capsys.readouterr().err


def test_a_run_that_did_a_part_has_status_one_and_names_the_rest(work, release, capsys):
    Path("bad.wav").write_text("no audio")
    assert separate(release, ".", "-o", "o") == 1
    captured = capsys.readouterr()
    assert "error: bad.wav is not audio" in captured.err
    assert captured.out.count(" -> o/") == 2
    assert sorted(os.listdir("o")) == ["a", "b"]


def test_an_error_names_a_file_on_one_line(work, release, capsys):
    Path("a\nb.wav").write_text("no audio")
    assert separate(release, "a\nb.wav", "-o", "o") == 2
    assert r"error: a\nb.wav is not audio" in capsys.readouterr().err


def test_an_interrupt_has_its_own_status(work, release, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo.cli.separate.separate_files", interrupted)
    assert separate(release, "a.wav", "-o", "o") == 130
    assert "stopped" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["separate", "demo", "data check", "data generate"])
def test_every_command_has_help(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    assert f"Usage: zoo {command}" in capsys.readouterr().out


def test_an_unknown_command_is_an_error(capsys):
    assert main(["seperate"]) == 2
    assert "seperate" in capsys.readouterr().err


# ------------------------------------------------------------------------------- real processes


def start(*words, **environment):
    """The command in a process of its own."""
    variables = {**os.environ, "PYTHONPATH": str(CHECKOUT), **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "zoo", *map(str, words)], text=True, errors="surrogateescape",
        env={k: v for k, v in variables.items() if v is not None},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_a_signal_in_the_second_song_leaves_the_first_and_nothing_half_written(
    work, release, number, status
):
    write("long.wav", 600.0)
    process = start("separate", "-m", release, "a.wav", "long.wav", "-o", "o", "--chunk", "1",
                    "--progress", "json")  # fmt: skip
    for line in process.stdout:
        event = json.loads(line)
        if event["file"] == "long.wav" and event["done"] > 16000:
            break
    assert [p for p in tree("o") if p.endswith(".partial")]
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == status, error
    assert "Traceback" not in error
    assert ("stopped" in error) == (number == signal.SIGINT)
    assert tree("o") == ["a", *(f"a/{name}" for name in SONG)]


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "/nonexistent"])
def test_neither_a_home_nor_a_locale_is_needed(work, release, home):
    name = os.fsdecode("ß😀\n.wav".encode())
    Path("a.wav").rename(name)
    process = start("separate", "-m", release, ".", "-o", "o", "--picture", HOME=home, LC_ALL="C",
                    PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", MPLCONFIGDIR=None)  # fmt: skip
    output, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert output.count(" -> o/") == 2
    assert sorted(tree(f"o/{name.removesuffix('.wav')}")) == sorted([*SONG, "spectrograms.png"])


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_crash(work, release):
    process = start("separate", "-m", release, "a.wav", "b.flac", "-o", "o", "--progress", "json")
    process.stdout.close()
    process.wait(timeout=60)
    assert "Traceback" not in process.stderr.read()


# ------------------------------------------------------------------------------- demo


@pytest.mark.parametrize("words", [[], ["--generated"]], ids=["excerpt", "generated"])
def test_the_demo_prints_scores_beside_those_of_the_mixture(work, release, capsys, words):
    assert main(["demo", "-m", str(release), "-o", "d", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("device: ")
    assert "10 s of " in lines[1]
    assert ("generated" in lines[1]) == bool(words)
    assert lines[2].split() == ["source", "estimate", "mixture", "gain"]
    for line, source in zip(lines[3:5], ("vocals", "accompaniment"), strict=True):
        name, estimate, mixture, gain = line.split()
        assert name == source
        assert float(estimate) - float(mixture) == pytest.approx(float(gain), abs=0.011)
    assert tree("d") == ["accompaniment.wav", "separation.json", "spectrograms.png", "vocals.wav"]
    assert read("d/vocals.wav")[0].shape[1] == 10 * 44100


# ------------------------------------------------------------------------------- data


def test_the_working_directory_can_be_filled(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert generate(".") == 0
    assert tree(".")[0] == "card.json" and Path("train").is_dir()  # it is still the same folder


def generate(folder, *words):
    return main(["data", "generate", folder, "--songs", "1", "--seconds", "2", *words])


@pytest.mark.parametrize("layout", ["plain", "musdb"])
def test_generated_songs_are_sound(work, capsys, layout):
    assert generate("g", "--layout", layout) == 0
    assert "1 + 1 + 1 songs of 2 s" in capsys.readouterr().out
    assert main(["data", "check", "g"]) == 0
    out = capsys.readouterr().out
    assert "3 usable songs" in out
    assert "0 faulty" in out


def test_generated_songs_in_the_folders_of_dsd100_are_there(work):
    assert generate("g", "--layout", "dsd100") == 0
    assert len(list(Path("g/Sources/Dev").glob("*/vocals.wav"))) == 2
    assert len(list(Path("g/Mixtures/Test").glob("*/mixture.wav"))) == 1


def test_a_seed_gives_other_songs_and_the_same_again(work):
    for name, seed in (("g", "1"), ("h", "1"), ("i", "2")):
        assert generate(name, "--seed", seed) == 0
    songs = [next(Path(name).glob("train/*/mixture.wav")).read_bytes() for name in "ghi"]
    assert songs[0] == songs[1] != songs[2]


def test_a_faulty_stem_is_named_and_status_one(work, capsys):
    generate("g")
    song = next(Path("g/train").iterdir())
    stem = song / "bass.wav"
    stem.write_bytes(stem.read_bytes()[:5000])
    capsys.readouterr()
    assert main(["data", "check", "g"]) == 1
    out = capsys.readouterr().out
    assert any("bass.wav" in x and song.name in x for x in out.splitlines() if "error" in x)
    assert "1 faulty" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["check", "nowhere"], "nowhere"), (["check", "empty"], "no song"),
     (["check", "empty", "--dataset", "foldr"], "'folder'"),
     (["generate", "full"], "not an empty folder"), (["generate", "g", "--songs", "0"], "--songs"),
     (["generate", "g", "--seconds", "0"], "seconds"),
     (["generate", "g", "--layout", "flat"], "dsd100")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_cannot_be_done_with_data_is_said_in_a_line(work, capsys, words, expected):
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    assert main(["data", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert expected in error
    assert not Path("g").exists()
    assert tree("full") == ["mine.txt"]


def test_long_work_on_data_tells_how_far_it_is(work, capsys, monkeypatch):
    monkeypatch.setattr("zoo.cli.progress.LINE_S", 0.0)
    generate("g")
    assert "  3 of 3 songs" in capsys.readouterr().err.splitlines()
    main(["data", "check", "g"])
    assert "  3 songs" in capsys.readouterr().err.splitlines()


def test_time_passes_between_two_lines(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress.showing("lines") as callback:
        for second in range(0, 26):
            now[0] = float(second)
            callback(Path("a.wav"), "separate", second, 25)
    assert len(capsys.readouterr().err.splitlines()) == 2
