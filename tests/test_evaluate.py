"""`zoo evaluate`: systems scored on tracks, files that say how, and what can go wrong."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from songs import RATE, STEMS, noise, write
from toys import Halves

import zoo
from zoo import scores as score_files
from zoo.cli import main
from zoo.data import open_dataset
from zoo.errors import DatasetError, UnknownModel, ZooError
from zoo.evaluation import bss_eval, evaluate, summarise, systems
from zoo.evaluation import track as track_file
from zoo.evaluation.doubts import Doubts
from zoo.evaluation.oracles import ORACLES
from zoo.evaluation.run import IDENTITY, Run, _decoding
from zoo.metrics import bsseval
from zoo.metrics.protocols import protocol
from zoo.training.identity import identity

SECONDS = 2.5
PAIR = ("vocals", "accompaniment")


def song(folder, seed, stems=PAIR, seconds=SECONDS, channels=1):
    """Stems of coloured noise, so that they can be told apart."""
    for j, stem in enumerate(stems):
        x = noise(100 * seed + j, round(seconds * RATE), channels)
        x[:, 1:] += (0.9 - 0.6 * j) * x[:, :-1]
        write(folder / f"{stem}.wav", x)


@pytest.fixture
def root(tmp_path):
    """A data set of two short songs in two stems, mono."""
    for k, name in enumerate(("a", "b")):
        song(tmp_path / "data" / "test" / name, k)
    return tmp_path / "data"


@pytest.fixture
def stems(tmp_path):
    """Estimates of them: the references with some leakage, on disk."""
    return lambda root, gain=0.2: write_estimates(tmp_path / "estimates", root, gain)


def write_estimates(folder, root, gain=0.2):
    for track in open_dataset("folder", root).tracks("test"):
        signals = {s: track.read(s) for s in track.sources}
        total = sum(signals.values())
        for source, x in signals.items():
            write(folder / track.name / f"{source}.wav", x + gain * (total - x))
    return folder


def run(systems, root, tmp_path, **options):
    options = {"protocol": "sisec2018", "sdr_only": True, "output": tmp_path / "out", **options}
    return evaluate(systems, "folder", root=root, **options)


def zoo_evaluate(root, tmp_path, *words, protocol="sisec2018"):
    named = ["--protocol", protocol] if protocol else []
    return main(
        ["evaluate", *map(str, words), "--data", "folder", "--root", str(root), "--quick", *named,
         "-o", str(tmp_path / "out"), "--progress", "none"]
    )  # fmt: skip


def rewrite(path, change):
    signal, rate = soundfile.read(path, dtype="float32", always_2d=True)
    changed = change(signal.T)
    soundfile.write(path, changed.T, rate, subtype="FLOAT")


# ----------------------------------------------------------------- what is written


def test_a_score_file_tells_all_that_a_board_needs(root, tmp_path):
    run("oracle:irm1", root, tmp_path, sdr_only=False)
    path = tmp_path / "out" / "folder-sisec2018" / "oracle-irm1" / "a.json"
    found = score_files.read(path)
    assert set(found.targets) == set(PAIR) and len(found.times) == 2 and found.duration == 1
    assert {"SDR", "ISR", "SIR", "SAR", "SI-SDR", "SI-SAR", "PES", "uSDR", "NSDR", "MRSTFT"} == set(
        found.targets["vocals"]
    )
    wanted = {
        "protocol": "sisec2018", "dataset": "folder", "track": "a", "system": "oracle:irm1",
        "kind": "oracle", "release": None, "sha256": None, "seed": None, "n_test": 2,
        "arguments": {"oracle": "irm1"}, "parameters": 0, "silence": "museval",
        "rate": RATE, "decoding": "as stored", "n_infinite": 0,
    }  # fmt: skip
    assert {key: found.facts[key] for key in wanted} == wanted
    assert found.facts["rcond"] > 1e-13
    assert "seconds" not in found.facts  # an oracle separates nothing
    assert re.fullmatch(r"[0-9a-f]{64}", found.facts["references"])
    assert found.facts["sources_scored_together"] == {s: list(PAIR) for s in PAIR}
    assert found.facts["data"].startswith("folder ") and found.facts["evaluator"]
    assert found.facts["versions"]["torch"]
    assert set(IDENTITY) - {"told"} <= set(found.facts)  # told are systems that find objects


def test_museval_reads_what_we_write(root, tmp_path):
    from zoo.compat import museval

    run("oracle:irm1", root, tmp_path, sdr_only=False)
    store = museval.load().EvalStore()
    for path in sorted((tmp_path / "out" / "folder-sisec2018" / "oracle-irm1").glob("*.json")):
        store.add_track(museval.load().json2df(json.loads(path.read_text()), path.stem))
    ours = [o for o in run("oracle:irm1", root, tmp_path, sdr_only=False)]
    expected = summarise(ours, "sisec2018")["oracle:irm1"]["SDR"]["vocals"]
    theirs = store.agg_frames_tracks_scores()
    assert theirs["vocals"]["SDR"] == pytest.approx(expected, abs=1e-4)


def test_streamed_scores_are_those_of_the_whole_song(root, stems, tmp_path):
    folder = stems(root)
    outcomes = run(str(folder), root, tmp_path, sdr_only=False)
    for track, outcome in zip(open_dataset("folder", root).tracks("test"), outcomes, strict=True):
        references = np.stack([track.read(s) for s in track.sources])
        estimates = np.stack(
            [soundfile.read(folder / track.name / f"{s}.wav", always_2d=True)[0].T
             for s in track.sources]
        )  # fmt: skip
        whole = bss_eval(references, estimates, RATE)
        for j, source in enumerate(track.sources):
            for metric in ("SDR", "ISR", "SIR", "SAR"):
                np.testing.assert_allclose(
                    outcome.scores.targets[source][metric], getattr(whole, metric)[j], atol=1e-7
                )


def test_a_song_that_is_read_twice_has_the_same_scores(root, tmp_path, monkeypatch):
    once = run(["oracle:irm1", "mixture"], root, tmp_path, sdr_only=False)
    monkeypatch.setattr(bsseval, "_KEPT_BYTES", 0)
    twice = run(["oracle:irm1", "mixture"], root, tmp_path / "2", sdr_only=False)
    for a, b in zip(once, twice, strict=True):
        for source, metrics in a.scores.targets.items():
            for metric, frames in metrics.items():
                np.testing.assert_allclose(
                    b.scores.targets[source][metric], frames, atol=1e-9, equal_nan=True
                )


def test_only_scores_are_written_unless_stems_are_asked_for(root, tmp_path):
    run("mixture", root, tmp_path)
    assert {p.suffix for p in (tmp_path / "out").rglob("*") if p.is_file()} == {".json"}
    run("mixture", root, tmp_path, keep_stems=True)
    folder = tmp_path / "out" / "folder-sisec2018" / "mixture"
    track = open_dataset("folder", root).tracks("test")[0]
    kept, rate = soundfile.read(folder / "a" / "vocals.wav", always_2d=True)
    assert rate == RATE
    np.testing.assert_allclose(kept.T, track.read("mixture") / 2, atol=1e-7)


def test_kept_stems_can_be_scored_themselves(root, tmp_path):
    made = run("oracle:irm2", root, tmp_path, keep_stems=True)
    folder = tmp_path / "out" / "folder-sisec2018" / "oracle-irm2"
    again = run(f"again={folder}", root, tmp_path)
    for a, b in zip(made, again, strict=True):
        assert b.system == "again"
        assert b.scores.targets["vocals"]["SDR"] == pytest.approx(
            a.scores.targets["vocals"]["SDR"], abs=1e-4
        )


def test_stems_give_the_accompaniment_too(tmp_path):
    song(tmp_path / "data" / "test" / "a", 0, STEMS)
    (outcome,) = run("oracle:irm1", tmp_path / "data", tmp_path)
    assert set(outcome.scores.targets) == {*STEMS, "accompaniment"}
    together = outcome.scores.facts["sources_scored_together"]
    assert together["vocals"] == list(PAIR) and together["bass"] == list(
        open_dataset("folder", tmp_path / "data").sources
    )


def test_a_song_whose_bass_is_inside_other_is_scored_as_a_pair(tmp_path):
    song(tmp_path / "data" / "test" / "a", 0, ("vocals", "drums", "other"))
    outcomes = run(
        "oracle:irm1", tmp_path / "data", tmp_path,
        arguments={"sources": list(STEMS), "unknown": {"a": ["bass"]}},
    )  # fmt: skip
    assert set(outcomes[0].scores.targets) == set(PAIR)


# ----------------------------------------------------------------- systems


def test_a_model_is_scored_as_it_separates(root, tmp_path):
    model = Halves(PAIR, (0.75, 0.25), RATE, 1)
    outcome, _ = run(model, root, tmp_path)
    track = open_dataset("folder", root).tracks("test")[0]
    vocals, mixture = track.read("vocals"), track.read("mixture")
    second = np.s_[:, :RATE]
    expected = 10 * np.log10(
        (vocals[second] ** 2).sum() / ((vocals - 0.75 * mixture)[second] ** 2).sum()
    )
    assert outcome.scores.targets["vocals"]["SDR"][0] == pytest.approx(expected, abs=1e-4)
    assert outcome.scores.facts["kind"] == "system" and outcome.scores.facts["parameters"] == 0


def test_a_model_of_another_rate_is_scored_at_the_files_own(root, tmp_path):
    outcomes = run(Halves(PAIR, (0.5, 0.5), 2 * RATE, 2), root, tmp_path)
    mixture = run("mixture", root, tmp_path)
    for ours, same in zip(outcomes, mixture, strict=True):
        assert ours.scores.targets["vocals"]["SDR"] == pytest.approx(
            same.scores.targets["vocals"]["SDR"], abs=0.1
        )


def test_the_accompaniment_of_a_voice_model_is_the_rest(root, tmp_path):
    (outcome, _) = run(Halves(("vocals",), (0.5,), RATE, 1), root, tmp_path)
    assert set(outcome.scores.targets) == set(PAIR)


def test_a_release_is_named_by_its_scores(shared, tmp_path):
    (outcome,) = evaluate(
        "mmdensenet-mir1k", "mir1k", root=shared / "audio" / "mir1k", limit=1, output=tmp_path
    )
    facts = outcome.scores.facts
    assert facts["release"] == facts["system"] == "mmdensenet-mir1k" and facts["kind"] == "release"
    assert facts["n_test"] == 825 and facts["parameters"] > 1e5 and len(facts["sha256"]) == 64
    bundled = score_files.read(
        __import__("zoo.release").release.BUNDLED / "mmdensenet-mir1k" / "scores"
        / f"{outcome.track}.json"
    )  # fmt: skip
    for source, metrics in bundled.targets.items():
        assert outcome.scores.targets[source]["NSDR"] == pytest.approx(metrics["NSDR"], abs=0.01)


def test_the_oracle_of_mir1k_scores_as_published(shared, tmp_path):
    import csv

    folder = shared / "audio" / "mir1k"
    with open(folder / "oracle_scores_test-sample.csv") as file:
        published = {row["clip"]: row for row in csv.DictReader(file)}
    (outcome,) = evaluate("oracle:irm1", "mir1k", root=folder, limit=1, output=tmp_path)
    # Another STFT than the published one's.
    assert outcome.scores.targets["vocals"]["SDR"][0] == pytest.approx(
        float(published[outcome.track]["irm_sdr_vocals"]), abs=1.5
    )


@pytest.mark.parametrize("oracle", [o for o in ORACLES if o not in ("mixture", "ibm")])
def test_oracles_sum_to_the_mixture_and_are_near_the_sources(oracle, tmp_path):
    song(tmp_path / "data" / "test" / "a", 0, STEMS[:3], channels=2)
    track = open_dataset("folder", tmp_path / "data").tracks("test")[0]
    estimates = torch.cat(list(ORACLES[oracle](track, track.sources)), -1)
    mixture = torch.from_numpy(track.read("mixture")).double()
    torch.testing.assert_close(estimates.sum(0).double(), mixture, atol=2e-5, rtol=0)
    references = np.stack([track.read(s) for s in track.sources])
    best = bss_eval(references, estimates.numpy(), RATE).SDR
    nothing = bss_eval(references, np.stack([mixture.numpy() / 3] * 3), RATE).SDR
    assert (best > nothing).all()


def test_oracles_in_chunks_are_those_of_the_whole(tmp_path, monkeypatch):
    from zoo.evaluation import oracles

    song(tmp_path / "data" / "test" / "a", 0, PAIR, channels=2)
    track = open_dataset("folder", tmp_path / "data").tracks("test")[0]
    whole = {o: torch.cat(list(f(track, PAIR)), -1) for o, f in ORACLES.items()}
    monkeypatch.setattr(oracles, "_PLAN", replace(oracles._PLAN, hop=4 * oracles.HOP))
    for name, oracle in ORACLES.items():
        found = torch.cat(list(oracle(track, PAIR)), -1)
        torch.testing.assert_close(found, whole[name], atol=1e-6, rtol=0)


def test_what_a_word_stands_for_is_told_when_it_stands_for_nothing(root, tmp_path):
    with pytest.raises(UnknownModel, match="oracle:irm1"):
        run("oracle:irm3", root, tmp_path)
    with pytest.raises(ZooError, match="without weights"):
        run("mmdensenet", root, tmp_path)
    with pytest.raises(UnknownModel, match="mmdensenet-mir1k"):
        run("mmdensenet-mir1", root, tmp_path)


def test_two_systems_of_one_name_are_told_apart_by_names(root, stems, tmp_path):
    folder = stems(root)
    with pytest.raises(ZooError, match="NAME="):
        run([str(folder), str(folder)], root, tmp_path)
    outcomes = run([f"ours={folder}", f"theirs={folder}"], root, tmp_path)
    assert {o.system for o in outcomes} == {"ours", "theirs"}


# ----------------------------------------------------------------- again, in parallel, stopped


def test_what_was_scored_is_not_scored_again(root, tmp_path, monkeypatch):
    first = run("oracle:irm1", root, tmp_path)
    assert not any(o.is_kept for o in first)
    monkeypatch.setattr(track_file, "_scored", None)  # nothing may be computed
    again = run("oracle:irm1", root, tmp_path)
    assert all(o.is_kept for o in again)
    assert [o.scores.targets for o in again] == [
        {
            s: {m: [round(x, 5) for x in f] for m, f in t.items()}
            for s, t in o.scores.targets.items()
        }
        for o in first
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"sdr_only": False},
        {"arguments": {"sources": ["vocals", "accompaniment"], "test": []}, "split": "test"},
    ],
)
def test_other_settings_are_other_scores(change, root, tmp_path):
    run("oracle:irm1", root, tmp_path)
    again = run("oracle:irm1", root, tmp_path, **change)
    same_data = "arguments" in change
    assert all(o.is_kept == same_data for o in again)


def test_changed_estimates_and_damaged_files_are_scored_anew(root, stems, tmp_path):
    folder = stems(root)
    run(str(folder), root, tmp_path)
    rewrite(folder / "a" / "vocals.wav", lambda x: x * 0.5)
    assert [o.is_kept for o in run(str(folder), root, tmp_path)] == [True, False]
    path = tmp_path / "out" / "folder-sisec2018" / "estimates" / "b.json"
    path.write_text(path.read_text()[:100])
    kept = {o.track: o.is_kept for o in run(str(folder), root, tmp_path)}
    assert kept == {"a": True, "b": False}
    assert score_files.read(path).protocol == "sisec2018"


def test_changed_references_are_scored_anew(root, tmp_path):
    run("mixture", root, tmp_path)
    rewrite(next(root.rglob("a/vocals.wav")), lambda x: x[:, ::-1])
    assert {o.track: o.is_kept for o in run("mixture", root, tmp_path)} == {"a": False, "b": True}


def test_scores_of_more_than_was_asked_for_are_kept(root, tmp_path):
    run("oracle:irm1", root, tmp_path, sdr_only=False)
    (first, _) = run("oracle:irm1", root, tmp_path, sdr_only=True)
    assert first.is_kept and "SAR" in score_files.read(first.path).targets["vocals"]


def test_rules_of_silence_have_folders_of_their_own(root, tmp_path):
    (usual, _) = run("mixture", root, tmp_path)
    (other, _) = run("mixture", root, tmp_path, silence="references")
    assert other.path.parents[1].name == "folder-sisec2018-references"
    assert usual.path.is_file() and other.path.is_file()


def test_scores_of_another_system_of_the_name_are_not_lost(root, tmp_path):
    (outcome, _) = run("mine=mixture", root, tmp_path)
    before = outcome.path.read_text()
    with pytest.raises(ZooError, match="has scores of another system of this name"):
        run("mine=oracle:irm1", root, tmp_path)
    theirs = json.loads(before)
    outcome.path.write_text(json.dumps({"targets": theirs["targets"]}))
    with pytest.raises(ZooError, match="is no score file of `zoo evaluate`"):
        run("mine=mixture", root, tmp_path)
    assert json.loads(outcome.path.read_text())["targets"] == theirs["targets"]


class Share(Halves):
    """Gives the vocals a share of the mixture that is a weight."""

    def __init__(self, share=0.75):
        super().__init__(PAIR, (0.5, 0.5), RATE, 1)
        self.share = torch.nn.Parameter(torch.tensor(share))

    def forward(self, mixture, state=None):
        return torch.stack([mixture * self.share, mixture * (1 - self.share)], 1)


def test_changed_weights_and_another_evaluator_are_scored_anew(root, tmp_path, monkeypatch):
    model = Share()
    first = run(model, root, tmp_path)
    assert all(o.is_kept for o in run(model, root, tmp_path))
    with torch.no_grad():
        model.share.fill_(0.25)
    again = run(model, root, tmp_path)
    assert not any(o.is_kept for o in again)
    assert first[0].scores.facts["sha256"] != again[0].scores.facts["sha256"]
    monkeypatch.setattr("zoo.__version__", "99")
    assert not any(o.is_kept for o in run(model, root, tmp_path))


def test_a_track_that_fails_leaves_no_score_of_before(root, stems, tmp_path):
    folder = stems(root)
    run(str(folder), root, tmp_path)
    damage(folder, "NaN")
    (folder / "b" / "vocals.wav").write_text("hello")
    assert all(o.error for o in run(str(folder), root, tmp_path))
    assert not list((tmp_path / "out").rglob("*.json"))


def test_files_in_the_making_are_swept_when_their_process_is_long_gone(root, tmp_path):
    folder = tmp_path / "out" / "folder-sisec2018" / "mixture"
    folder.mkdir(parents=True)
    old, new = folder / ".a.json.1.partial", folder / ".b.json.2.partial"
    old.touch(), new.touch()
    os.utime(old, (1, 1))
    run("mixture", root, tmp_path)
    assert not old.exists() and new.exists()


def test_systems_draw_the_same_numbers_alone_and_in_turns(root, monkeypatch):
    def random(*_):
        yield from ((None, torch.rand(2, 1, 10)) for _ in range(3))

    monkeypatch.setattr(systems, "Separation", random)
    track = open_dataset("folder", root).tracks("test")[0]
    system = systems.ModelSystem.of(None, Halves(PAIR, (0.5, 0.5), RATE, 1), "cpu")
    before = torch.get_rng_state()
    alone = torch.cat(list(system.pieces(track, PAIR)), -1)
    turns = zip(*(system.pieces(track, PAIR) for _ in range(2)), strict=True)
    for found in (torch.cat(x, -1) for x in zip(*turns, strict=True)):
        assert torch.equal(found, alone)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(alone.unique()) == alone.numel()


def test_threads_and_denormals_of_the_caller_are_left_as_they_were(root, tmp_path):
    torch.set_flush_denormal(False)
    run("mixture", root, tmp_path)
    assert (torch.tensor([1e-300], dtype=torch.float64) * 1e-10).item() > 0


def test_the_client_of_a_cluster_is_closed(root, tmp_path, monkeypatch):
    told = []

    class Client(nullcontext):
        def __init__(self, *_, **__):
            super().__init__()

        def __exit__(self, *_):
            told.append("closed")

    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(Client=Client))
    found = Run(open_dataset("folder", root), "usdr", scheduler="tcp://127.0.0.1:1")
    with found._backend(SimpleNamespace(parallel_config=lambda *_, **__: nullcontext())):
        assert not told
    assert told == ["closed"]


def test_the_seed_that_weights_were_trained_with_is_told(tmp_path):
    (tmp_path / "config.yaml").write_text("seed_everything: 7\n")
    model = Share()
    model.info = {"source": str(tmp_path / "checkpoints" / "last.ckpt"), "sha256": "0"}
    facts = identity(model)
    assert facts["training_seed"] == 7 and facts["kind"] == "checkpoint"
    assert identity(Share())["training_seed"] is None
    release = identity(zoo.from_pretrained("mmdensenet-mir1k"))
    assert release["training_seed"] == 0 and release["kind"] == "release"


def test_the_decoding_of_references_is_told(root):
    track = open_dataset("folder", root).tracks("test")[0]
    cut = {s: tuple(replace(p, bits=16) for p in parts) for s, parts in track.stems.items()}
    assert _decoding(track) == "as stored"
    assert _decoding(replace(track, stems=cut)) == "16 bit"


def comparable(folder):
    texts = {}
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_text())
        content["zoo"].pop("seconds", None)
        texts[path.relative_to(folder)] = json.dumps(content)
    return texts


@pytest.mark.slow
def test_processes_change_nothing(root, tmp_path):
    pytest.importorskip("joblib")
    systems = ["oracle:irm1", "oracle:mwf"]
    run(systems, root, tmp_path / "1", sdr_only=False)
    outcomes = run(systems, root, tmp_path / "2", sdr_only=False, jobs=2)
    assert len(outcomes) == 4 and not any(o.error for o in outcomes)
    assert comparable(tmp_path / "1") == comparable(tmp_path / "2")


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same(root, tmp_path):
    distributed = pytest.importorskip("distributed", reason="no Dask; it is the extra `cluster`")
    pytest.importorskip("joblib")
    systems = ["oracle:irm1", "mixture"]
    run(systems, root, tmp_path / "1")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        outcomes = run(systems, root, tmp_path / "2", scheduler=cluster.scheduler_address)
    assert len(outcomes) == 4 and not any(o.error for o in outcomes)
    assert comparable(tmp_path / "1") == comparable(tmp_path / "2")


def test_without_dask_the_extra_is_named(root, tmp_path, monkeypatch):
    pytest.importorskip("joblib")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ZooError, match="cluster"):
        run("mixture", root, tmp_path, scheduler="tcp://127.0.0.1:1")


def test_stopped_in_the_middle_it_goes_on_where_it_was(root, tmp_path):
    for k in range(2, 5):
        song(root / "test" / f"song{k}", k)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("oracle:irm1", root, tmp_path, progress=stop)
    files = sorted((tmp_path / "out").rglob("*"))
    written = [p for p in files if p.is_file()]
    assert len(written) == 2 and all(score_files.read(p).facts for p in written)
    assert sum(o.is_kept for o in run("oracle:irm1", root, tmp_path)) == 2


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.slow
def test_killed_by_ctrl_c_a_run_of_processes_leaves_whole_files(root, tmp_path):
    pytest.importorskip("joblib")
    for k in range(2, 12):
        song(root / "test" / f"song{k}", k, seconds=4)
    command = [
        sys.executable, "-m", "zoo", "evaluate", "oracle:mwf", "--data", "folder", "--root",
        str(root), "--protocol", "sisec2018", "-o", str(tmp_path / "out"), "--jobs", "2",
    ]  # fmt: skip
    with subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "out").rglob("*.json")) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "finished files are complete" in told
    assert "Traceback" not in told
    written = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert 1 <= len(written) < 12 and all(score_files.read(p).facts for p in written)


# ----------------------------------------------------------------- bad input


def damage(folder, kind):
    """One thing wrong with track a; and what is said of it."""
    vocals, music = folder / "a" / "vocals.wav", folder / "a" / "accompaniment.wav"
    if kind == "shorter":
        rewrite(vocals, lambda x: x[:, :-10])
        return "19990 samples, the references 20000"
    if kind == "longer":
        rewrite(vocals, lambda x: np.pad(x, ((0, 0), (0, 7))))
        return "20007 samples, the references 20000"
    if kind == "missing":
        music.unlink()
        return "no estimate of accompaniment, only vocals"
    if kind == "absent":
        shutil.rmtree(folder / "a")
        return "has no estimate of vocals, accompaniment; add"
    if kind == "rate":
        signal = soundfile.read(vocals, dtype="float32")[0]
        soundfile.write(vocals, signal, 16000)
        return "16000 Hz, the references at 8000 Hz"
    if kind == "stereo":
        rewrite(vocals, lambda x: np.repeat(x, 2, 0))
        return "2 channel(s), the references 1"
    if kind == "NaN":
        rewrite(vocals, lambda x: np.where(np.arange(x.shape[1]) == 12000, np.nan, x))
        return "NaN or infinity at 1.500 s"
    if kind == "silent":
        rewrite(vocals, np.zeros_like)
        return "vocals is silent throughout"
    if kind == "no audio":
        vocals.write_text("hello")
        return "vocals.wav"
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    ["shorter", "longer", "missing", "absent", "rate", "stereo", "NaN", "silent", "no audio"],
)
def test_a_faulty_estimate_is_named_and_the_other_tracks_go_on(kind, root, stems, tmp_path, capsys):
    folder = stems(root)
    said = damage(folder, kind)
    assert zoo_evaluate(root, tmp_path, folder) == 1
    out, err = capsys.readouterr()
    assert said in err and "error: a, estimates" in err and "Traceback" not in err
    assert "b, estimates: SDR vocals" in out
    assert not (tmp_path / "out" / "folder-sisec2018" / "estimates" / "a.json").exists()


def test_when_all_fail_the_status_says_so(root, stems, tmp_path):
    folder = stems(root)
    for path in folder.rglob("vocals.wav"):
        rewrite(path, lambda x: x[:, :-1])
    assert zoo_evaluate(root, tmp_path, folder) == 2


def test_a_model_that_fails_is_the_error_of_its_track(root, tmp_path):
    class Faulty(Halves):
        def forward(self, mixture, state=None):
            raise RuntimeError("no memory\nat all")

    outcomes = run([Faulty(PAIR, (0.5, 0.5), RATE, 1), "mixture"], root, tmp_path)
    errors = {o.track: o.error for o in outcomes if o.system == "halves"}
    assert errors == {t: f"{t}: halves failed with RuntimeError: no memory" for t in ("a", "b")}
    assert all(o.scores for o in outcomes if o.system == "mixture")


def test_a_training_free_system_that_fails_is_the_error_of_its_track(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr("zoo.models.duet.Duet.images", fail)
    for k, name in enumerate(("a", "b")):
        song(tmp_path / "stereo" / "test" / name, k, channels=2)
    outcomes = run(["duet", "mixture"], tmp_path / "stereo", tmp_path)
    assert {o.error for o in outcomes if o.system == "duet"} == {
        f"{t}: duet failed with RuntimeError: no memory" for t in ("a", "b")
    }
    assert all(o.scores for o in outcomes if o.system == "mixture")


@pytest.mark.parametrize(
    ("system", "said"),
    [
        ("lgm:n_iterations=abc", "n_iterations is 'abc'; it must be of type int"),
        ("lgm:n_iterations=1.5", "n_iterations is 1.5"),
        ("lgm:n_iterations=-1", "n_iterations is -1; it must be at least 1"),
        ("lgm:n_iterations=", "gives no argument a value"),
        ("lgm:", "gives no argument a value"),
        ("adress:resynthesis=3", "resynthesis is 3"),
        ("mnmf:max_delay=abc", "max_delay is 'abc'"),
        ("projet:locations=[[1,2", "is no YAML"),
        ("oracle:", "no oracle 'oracle:'"),
    ],
)
def test_nonsense_beside_a_system_is_one_sentence(system, said, root, tmp_path, capsys):
    assert zoo_evaluate(root, tmp_path, system, "mixture") == 2
    out, err = capsys.readouterr()
    assert said in err and "Traceback" not in err and err.count("\n") == 1
    assert not list(tmp_path.rglob("*.json"))


def test_jobs_and_devices_that_are_none_are_refused(root, tmp_path, capsys):
    assert zoo_evaluate(root, tmp_path, "mixture", "--jobs", "0") == 2
    assert zoo_evaluate(root, tmp_path, "mixture", "--device", "gpu") == 2
    assert "device 'gpu' cannot be used" in capsys.readouterr().err


def test_the_table_counts_the_tracks_of_each_system(root, stems, tmp_path, capsys):
    folder = stems(root)
    damage(folder, "NaN")
    assert zoo_evaluate(root, tmp_path, folder, "mixture") == 1
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.strip().startswith("estimates SDR")]
    assert row.endswith(" 1 track")


def test_a_faulty_track_is_told_once_and_not_where_it_is_skipped(root, tmp_path, capsys):
    (root / "test" / "b" / "vocals.wav").write_bytes(b"none")
    assert zoo_evaluate(root, tmp_path, "mixture", "oracle:irm1") == 1
    assert capsys.readouterr().err.count("error: b") == 1
    assert zoo_evaluate(root, tmp_path, "mixture", "--arguments", "{skip_faulty: true}") == 0


def test_names_with_colons_can_be_kept_and_scored(tmp_path):
    root = tmp_path / "data"
    song(root / "test" / "c:d", 0, PAIR)
    (kept,) = run("mixture", root, tmp_path, keep_stems=True)
    (again,) = run(f"again={kept.path.parent}", root, tmp_path)
    assert again.scores.targets["vocals"]["SDR"] == kept.scores.targets["vocals"]["SDR"]


def test_folders_are_found_however_their_letters_are_composed(tmp_path):
    root = tmp_path / "data"
    song(root / "test" / "Bj\u00f6rk", 0, PAIR)
    (kept,) = run("mixture", root, tmp_path, keep_stems=True)
    folder = kept.path.with_suffix("")
    folder.rename(folder.with_name("Bjo\u0308rk"))
    (again,) = run(f"again={folder.parent}", root, tmp_path)
    assert again.scores.targets["vocals"]["SDR"] == kept.scores.targets["vocals"]["SDR"]


def test_a_file_in_place_of_the_output_and_a_split_without_tracks_are_told(root, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ZooError, match="is a file; name a folder"):
        run("mixture", root, tmp_path)
    with pytest.raises(
        DatasetError, match="has no valid tracks; it has test tracks, which --split takes"
    ):
        run("mixture", root, tmp_path, output=tmp_path / "other", split="valid")


def test_two_files_of_one_source_are_refused(root, stems, tmp_path):
    folder = stems(root)
    write(folder / "a" / "vocals.flac", noise(5, round(SECONDS * RATE), 1))
    outcomes = {o.track: o for o in run(str(folder), root, tmp_path)}
    assert "vocals.flac and" in outcomes["a"].error and "vocals.wav are both" in outcomes["a"].error
    assert outcomes["b"].scores


def test_what_is_perfect_has_no_value_and_is_counted(root, stems, tmp_path):
    (outcome, _) = run(str(stems(root, gain=0)), root, tmp_path)
    assert all(math.isnan(x) for x in outcome.scores.targets["vocals"]["SDR"])
    assert outcome.scores.facts["n_infinite"] >= 4 and "Infinity" not in outcome.path.read_text()


def test_one_system_that_fails_takes_no_other_with_it(root, stems, tmp_path):
    folder = stems(root)
    damage(folder, "NaN")
    outcomes = run([str(folder), "mixture", "oracle:irm1"], root, tmp_path)
    failed = [(o.system, o.track) for o in outcomes if o.error]
    assert failed == [("estimates", "a")] and len(outcomes) == 6


def test_delayed_estimates_are_told_with_their_lag_and_scored_as_they_are(
    root, stems, tmp_path, capsys
):
    folder = stems(root, gain=0.0)
    rewrite(folder / "a" / "vocals.wav", lambda x: np.roll(x, 57, -1))
    assert zoo_evaluate(root, tmp_path, folder) == 1
    out, err = capsys.readouterr()
    assert "warning: a, estimates: vocals: 57 samples (7.1 ms) late" in err
    found = score_files.read(tmp_path / "out" / "folder-sisec2018" / "estimates" / "a.json")
    assert found.facts["doubts"] and max(found.targets["vocals"]["SDR"]) < 5
    assert zoo_evaluate(root, tmp_path, folder) == 1  # it is still so
    assert "57 samples" in capsys.readouterr().err


def test_swapped_stems_are_noticed(root, stems, tmp_path, capsys):
    folder = stems(root)
    (folder / "b" / "vocals.wav").rename(folder / "b" / "x.wav")
    (folder / "b" / "accompaniment.wav").rename(folder / "b" / "vocals.wav")
    (folder / "b" / "x.wav").rename(folder / "b" / "accompaniment.wav")
    assert zoo_evaluate(root, tmp_path, folder) == 1
    assert "b, estimates: vocals, accompaniment look swapped" in capsys.readouterr().err


def test_a_stem_that_no_track_has_an_estimate_of_is_said(tmp_path, capsys):
    root = tmp_path / "data"
    song(root / "test" / "a", 0, ("vocals", "drums", "bass"))
    folder = write_estimates(tmp_path / "estimates", root)
    (folder / "a" / "bass.wav").unlink()
    assert zoo_evaluate(root, tmp_path, folder) == 1
    assert "there is no estimate of bass" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: -x, "vocals: the polarity looks inverted"),
        (lambda x: -x.roll(5, -1), "vocals, accompaniment: 5 samples (0.6 ms) late"),
        (lambda x: x.flip(1), "vocals: left and right look swapped"),
        (lambda x: 2 * x, "vocals: 6.0 dB louder than its reference"),
        (lambda x: x / 2, "accompaniment: 6.0 dB softer than its reference"),
        (lambda x: x.roll(40000, -1), "vocals, accompaniment: 40000 samples (5000.0 ms) late"),
    ],
)
def test_what_was_done_to_estimates_is_told(change, said):
    references = torch.from_numpy(np.stack([noise(j, 20 * RATE, 2) for j in range(2)]))
    doubts = Doubts(PAIR, RATE)
    doubts.push(references, change(references + 0.05 * references.flip(0)))
    found = doubts.found()
    assert said in "\n".join(found)
    assert len(found) <= 2  # no other thing is found wrong


def test_poor_and_equal_estimates_raise_no_doubt():
    references = torch.from_numpy(np.stack([noise(j, 40000, 1) for j in range(3)]))
    mixture = references.sum(0).expand(3, -1, -1)
    for estimates in (references, mixture, references + 2 * mixture, torch.rand(3, 1, 40000)):
        doubts = Doubts(STEMS[:3], RATE)
        doubts.push(references, estimates)
        assert doubts.found() == []


@pytest.mark.parametrize("lag", [1, -1, 300, -4000])
def test_lags_are_found_to_the_sample_in_tonal_music_with_leakage(lag):
    t = np.arange(5 * RATE) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 110 * t)[None] * (1 + np.sin(2 * np.pi * 0.7 * t))
    references = np.stack([tone + 0.5 * noise(0, len(t), 1), noise(1, len(t), 1)])
    estimates = np.roll(references + 0.5 * references[::-1], lag, -1)
    doubts = Doubts(PAIR, RATE)
    doubts.push(torch.from_numpy(references), torch.from_numpy(estimates))
    assert doubts.lags() == {s: lag for s in PAIR}


def test_a_silent_reference_gives_no_score_by_musevals_rule_and_some_by_its_own(
    root, tmp_path, capsys
):
    rewrite(root / "test" / "a" / "vocals.wav", np.zeros_like)
    assert zoo_evaluate(root, tmp_path, "mixture") == 1
    assert "the reference for vocals is silent throughout" in capsys.readouterr().err
    outcome, _ = run("mixture", root, tmp_path, silence="references")
    targets = outcome.scores.targets
    assert math.isnan(targets["vocals"]["SDR"][0])
    assert math.isfinite(targets["accompaniment"]["SDR"][0])


def test_an_empty_folder_of_estimates_is_no_system(root, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    assert zoo_evaluate(root, tmp_path, tmp_path / "none") == 2
    assert "holds no estimates of these tracks" in capsys.readouterr().err


def test_a_data_set_without_tracks_is_refused(root, tmp_path):
    with pytest.raises(DatasetError, match="no train tracks"):
        run("mixture", root, tmp_path, split="train")


def test_two_tracks_of_one_name_do_not_share_a_file(root, tmp_path):
    class Twice(type(open_dataset("folder", root))):
        def each(self, split):
            for name, track in super().each(split):
                yield name, track
                yield name.upper(), replace(track, name=name.upper())

    dataset = Twice(root)
    found = Run(dataset, "usdr", output=tmp_path / "out")
    outcomes = list(found.outcomes(found.resolve(["mixture"])))
    assert [o.track for o in outcomes if o.error] == ["A", "B"]
    assert "'a' and 'A' share one name" in next(o.error for o in outcomes if o.error)
    assert [o.track for o in outcomes if o.scores] == ["a", "b"]


def test_a_faulty_track_of_the_data_is_one_failure(shared, tmp_path):
    folder = tmp_path / "mir1k"
    folder.mkdir()
    for name in ("Ani_2_04", "Ani_2_07"):
        soundfile.write(folder / f"{name}.wav", noise(0, 32000).T, 16000)
    soundfile.write(folder / "Ani_2_07.wav", noise(0, 32000).T, 8000)
    outcomes = evaluate("mixture", "mir1k", root=folder, output=tmp_path / "out")
    assert {o.track: bool(o.error) for o in outcomes} == {"Ani_2_04": False, "Ani_2_07": True}


# ----------------------------------------------------------------- the command


def test_without_a_protocol_the_data_sets_is_taken_and_named(root, tmp_path, capsys):
    assert zoo_evaluate(root, tmp_path, "mixture", protocol=None) == 0
    assert "no --protocol, so the one of folder is taken: sisec2018" in capsys.readouterr().out


def test_an_unknown_protocol_is_refused_with_the_nearest(root, tmp_path, capsys):
    assert zoo_evaluate(root, tmp_path, "mixture", protocol="sisec2017") == 2
    assert "Did you mean 'sisec201" in capsys.readouterr().err


def test_the_table_holds_the_pooled_figures(root, tmp_path, capsys):
    assert zoo_evaluate(root, tmp_path, "mixture", "oracle:irm1") == 0
    out = capsys.readouterr().out
    assert "sisec2018 on folder, 2 tracks, dB" in out
    pooled = summarise(run("mixture", root, tmp_path), "sisec2018")["mixture"]["SDR"]
    row = next(line for line in out.splitlines() if line.startswith("  mixture SDR"))
    assert [float(x) for x in row.split()[2:]] == pytest.approx(
        [pooled[s] for s in PAIR], abs=0.006
    )


@pytest.mark.parametrize("id", ["usdr", "si-sdr", "projet", "v4-pooled", "sisec2016"])
def test_every_protocol_runs_over_a_folder(id, root, tmp_path):
    outcomes = run("mixture", root, tmp_path, protocol=id, sdr_only=False)
    metric = protocol(id).metrics[0]
    assert all(math.isfinite(o.scores.targets["vocals"][metric][0]) for o in outcomes)
    assert math.isfinite(summarise(outcomes, id)["mixture"][metric]["vocals"])
