"""Boards: published figures derive again, provenances stay apart, what is wrong is named."""

import csv
import io
import json
import math
from importlib.resources import files

import numpy as np
import pytest
import soundfile

from zoo.cli import main
from zoo.errors import ZooError
from zoo.evaluation import evaluate, leaderboard, published, text
from zoo.evaluation.collecting import collect
from zoo.evaluation.entry import Entry, TrackFigure
from zoo.evaluation.overlap import overlap
from zoo.evaluation.roster import SYSTEMS
from zoo.evaluation.statistics import compare
from zoo.metrics.rules import ALIASES, PROTOCOLS
from zoo.scores import TrackScores


@pytest.fixture(scope="module")
def known():
    """Boards of what comes with the package, first columns, by data set and protocol."""
    boards = leaderboard.boards(published.entries(), metrics=())
    return {(board.dataset, board.protocol): board for board in boards}


def row(board, name, provenance=None):
    (found,) = [
        r for r in board.rows if r.name == name and provenance in (None, r.provenance) and r.cells
    ]
    return found


def write(folder, track, values, weight=10.0, metric="SDR", **facts):
    """A score file as `zoo evaluate` writes them: source -> figures of its frames."""
    facts = {
        "protocol": "sisec2018", "dataset": "folder", "kind": "checkpoint", "sha256": "ab",
        "system": folder.name, "evaluator": "zoo", **facts,
    }  # fmt: skip
    facts = {key: value for key, value in facts.items() if value is not None}
    targets = {source: {metric: list(frames)} for source, frames in values.items()}
    n = len(next(iter(values.values())))
    rule = PROTOCOLS.get(ALIASES.get(facts.get("protocol"), facts.get("protocol")))
    window = rule.window if rule and rule.window else weight
    times = tuple(k * (rule.hop if rule and rule.hop else window) for k in range(n))
    TrackScores(track, targets, times, window, facts).write(folder / f"{track}.json")


# ------------------------------------------------------------------------------- published


TABLE2 = {"NUG": "NUG1", "FNN": "UHL1", "BLSTM": "UHL2", "BLEND": "UHL3"}
SOURCES = ("bass", "drums", "other", "vocals", "accompaniment")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("system", TABLE2)
def test_table_2_derives_from_the_frames(known, system, source):
    frames = published.table2_frames()[TABLE2[system], source]
    assert len(frames) == 50
    derived = np.median([np.nanmean(values) for values in frames.values()])
    board = known["dsd100", "sisec2016"]
    copied = row(board, system, "copied").cell(source, "SDR")
    ours = row(board, f"{system} ({TABLE2[system]})", "re-aggregated").cell(source, "SDR")
    assert f"{derived:.2f}" == f"{copied.value:.2f}"
    assert ours.value == pytest.approx(derived, abs=1e-4)  # tracks are stored with four decimals


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Wave-U-Net, voice (STL1)", (4.97, None, None, None, 11.11)),
        ("Wave-U-Net, four sources (STL2)", (3.25, 4.22, 3.21, 2.25, None)),
        ("MMDenseLSTM (TAK1)", (6.60, 6.43, 5.16, 4.15, 12.83)),
        # Two medians, 4.8049 and 12.6849, round to these; rounded twice they are 4.81 and 12.69.
        ("MMDenseLSTM + 804 songs (TAK2)", (7.16, 6.81, 5.40, 4.80, 13.74)),
        ("UHL3", (6.51, 6.72, 5.03, 4.43, 12.68)),
        ("IRM1", (8.52, 7.33, 6.18, 6.92, 14.50)),
        ("MWF", (9.13, 8.09, 6.75, 7.56, 15.40)),
        ("MIX", (1.12, 1.33, 0.67, 1.16, 6.32)),
    ],
)
def test_medians_of_2018_derive_from_the_tracks(known, name, expected):
    found = row(known["musdb18", "sisec2018"], name)
    names = ("vocals", "drums", "bass", "other", "accompaniment")
    for source, value in zip(names, expected, strict=True):
        cell = found.cell(source, "SDR")
        assert (cell is None) == (value is None)
        assert cell is None or cell.value == pytest.approx(value, abs=0.00501)


@pytest.mark.parametrize(
    ("board", "pair", "source", "expected"),
    [
        (("dsd100", "sisec2016"), ("BLEND", "BLSTM"), "bass", (0.15, 0.06, 0.22, 0.76)),
        (("dsd100", "sisec2016"), ("BLEND", "BLSTM"), "drums", (0.32, 0.27, 0.42, 1.00)),
        (("dsd100", "sisec2016"), ("UHL3", "UHL2"), "vocals", (0.36, 0.25, 0.42, 0.94)),
        (("musdb18", "sisec2018"), ("TAK1", "UHL2"), "vocals", (0.46, 0.16, 0.57, 0.78)),
        (("musdb18", "sisec2018"), ("TAK1", "UHL2"), "bass", (0.14, -0.05, 0.44, 0.60)),
    ],
)
def test_paired_differences_are_those_measured_before(known, board, pair, source, expected):
    rows = [leaderboard.find(known[board], name) for name in pair]
    ((first,), (second,)) = rows
    found = compare(first.cell(source, "SDR").tracks, second.cell(source, "SDR").tracks)
    assert (found.median, found.low, found.high, found.won) == pytest.approx(expected, abs=0.02)


def test_p_values_are_those_measured_before(known):
    def p(board, a, b, source):
        (first,), (second,) = leaderboard.find(board, a), leaderboard.find(board, b)
        return compare(first.cell(source, "SDR").tracks, second.cell(source, "SDR").tracks).p

    dsd100, musdb18 = known["dsd100", "sisec2016"], known["musdb18", "sisec2018"]
    assert p(dsd100, "UHL3", "UHL2", "vocals") == pytest.approx(5e-12, rel=0.1)
    assert p(musdb18, "TAK1", "UHL2", "vocals") == pytest.approx(1e-4, rel=0.3)
    assert p(musdb18, "TAK1", "UHL2", "bass") == pytest.approx(0.12, abs=0.005)


def test_intervals_of_medians_are_those_measured_before(known):
    cell = row(known["musdb18", "sisec2018"], "MMDenseLSTM (TAK1)").cell("vocals", "SDR")
    assert (cell.low, cell.high) == pytest.approx((5.07, 7.51), abs=0.05)


def test_protocols_and_data_sets_never_share_a_board(known):
    for (dataset, protocol), board in known.items():
        rows = [(r.name, r.provenance) for r in board.rows if r.provenance != "not measured"]
        assert sorted(rows) == sorted(
            (e.name, e.provenance)
            for e in published.entries()
            if (e.dataset, e.protocol) == (dataset, protocol)
        )
    assert "Open-Unmix UMX" not in {r.name for r in known["musdb18hq", "sisec2018"].rows}
    assert {r.name for r in known["musdb18", "v4-pooled"].rows if r.cells} == {
        "Wave-U-Net M4 (STL1)", "Wave-U-Net M5-HighSR",
    }  # fmt: skip


def test_copied_figures_have_neither_rank_nor_interval(known):
    for board in known.values():
        for r in board.rows:
            if r.provenance == "copied":
                cells = [c for by in r.cells.values() for c in by.values()]
                assert all(not c.rank and c.low is None and c.tracks is None for c in cells)


def test_oracles_and_mixture_take_no_rank_and_set_the_scale(known):
    board = known["musdb18", "sisec2018"]
    for name in ("IRM1", "IRM2", "IBM1", "IBM2", "MWF", "MIX"):
        cell = row(board, name).cell("vocals", "SDR")
        assert (cell.rank, cell.of_oracle) == ("", None)
    cell = row(board, "MMDenseLSTM (TAK1)").cell("vocals", "SDR")
    floor, best = (row(board, n).cell("vocals", "SDR").value for n in ("MIX", "IRM2"))
    assert cell.of_oracle == pytest.approx(100 * (cell.value - floor) / (best - floor))


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: f"{s.name} {s.dataset} {s.protocol}")
def test_every_system_has_a_row_or_a_command(known, system):
    board = known[system.dataset, system.protocol]
    entries = [e for e in published.entries() if e.system == system.name]
    names = {e.name for e in entries if (e.dataset, e.protocol) == (board.dataset, board.protocol)}
    published_rows = [r for r in board.rows if r.name in names and r.cells]
    pending = [r for r in board.rows if r.name == system.name and r.provenance == "not measured"]
    assert bool(published_rows) != bool(pending)
    assert all(r.command for r in (*published_rows, *pending))
    assert f"--protocol {system.protocol}" in system.command


@pytest.mark.parametrize(
    "name",
    "FNN BLSTM BLEND NUG DeepNMF MDenseNet MMDenseNet MMDenseNet+ DeepConvSep Wave-U-Net PROJET "
    "DUET ADRess ICA".split(),
)
def test_the_systems_of_the_papers_are_on_some_board(known, name):
    assert name in {r.name for board in known.values() for r in board.rows}


@pytest.mark.parametrize("n", range(1, 6))
def test_every_depth_of_the_wavenet_is_on_the_board_of_its_paper(known, n):
    board = known["musdb18", "unstated"]
    stacks = f"{n} stack{'s' * (n > 1)}"
    assert row(board, f"Wavenet, {stacks}").provenance == "copied"
    assert row(board, f"Wavenet for the voice, {stacks}").provenance == "copied"


def test_copied_tables_are_those_of_the_papers(shared):
    folder = shared / "published"
    rows = list(csv.DictReader((folder / "lluis2019_tables.csv").read_text("utf-8").splitlines()))
    (board,) = leaderboard.boards(published.entries(), "musdb18", "unstated")
    for paper in rows:
        voice = " for the voice" if paper["table"] == "4" else ""
        name = paper["system"]
        name = name if name[0] in "WD" else f"Wavenet{voice}, {name}"
        for metric in ("SDR", "SIR", "SAR"):
            assert row(board, name).cell(paper["source"], metric).value == float(paper[metric])


def test_published_data_stay_small_and_give_credit():
    folder = files("zoo.evaluation.published")
    assert sum(len(f.read_bytes()) for f in folder.iterdir() if f.is_file()) < 700_000
    assert "Stöter" in folder.joinpath("README.md").read_text("utf-8")
    for entry in published.entries():
        assert entry.facts["source"]


# ------------------------------------------------------------------------------- measured


def test_scores_of_a_folder_become_a_row(tmp_path):
    for k in range(3):
        frames = {"vocals": [k, k + 1.0, math.nan], "accompaniment": [9.0, 9.0, math.nan]}
        write(tmp_path / "a", f"song {k}", frames, n_test=50, seconds=5.0, audio_seconds=10.0)
    boards, problems = leaderboard.load([tmp_path], dataset="folder")
    found = row(boards[0], "a")
    cell = found.cell("vocals", "SDR")
    assert not problems and found.provenance == "measured"
    assert (cell.value, cell.n_tracks, cell.n_valid_frames, cell.n_frames) == (1.5, 3, 6, 9)
    assert found.coverage == "3 of 50 tracks" and found.cost == 0.5


def test_a_folder_that_does_not_tell_the_length_of_the_test_is_held_against_it(tmp_path):
    write(tmp_path / "a", "song", {"vocals": [1.0]}, dataset="msd100")
    boards, _ = leaderboard.load([tmp_path], dataset="msd100")
    assert row(boards[0], "a").coverage == "1 of 50 songs"


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [("sisec2016", 4.0), ("sisec2018", 3.5), ("v4-pooled", 2.0)],
)
def test_frames_are_pooled_as_the_protocol_says(tmp_path, protocol, expected):
    write(tmp_path / "a", "x", {"vocals": [0.0, 1.0, 2.0, 9.0, 3.0]}, protocol=protocol)
    write(tmp_path / "a", "y", {"vocals": [2.0, 8.0]}, protocol=protocol)
    boards, _ = leaderboard.load([tmp_path], dataset="folder")
    wanted = {"sisec2016": (3 + 5) / 2, "sisec2018": (2 + 5) / 2, "v4-pooled": 2.0}[protocol]
    assert row(boards[0], "a").cell("vocals", "SDR").value == wanted == expected


def test_scores_at_another_rate_say_so(tmp_path):
    facts = {"dataset": "musdb18", "protocol": "v4-pooled"}
    write(tmp_path / "low", "x", {"vocals": [1.0]}, rate=16000, **facts)
    write(tmp_path / "full", "x", {"vocals": [1.0]}, rate=44100, **facts)
    (board,), _ = leaderboard.load([tmp_path], **facts)
    assert "scored at 16000 Hz, where the data set has 44100 Hz" in row(board, "low").notes
    assert not row(board, "full").notes


def test_pooled_frames_have_their_spread_beside_them(tmp_path):
    write(tmp_path / "a", "x", {"vocals": [0.0, 1.0, 2.0]}, protocol="v4-pooled")
    write(tmp_path / "a", "y", {"vocals": [2.0, 10.0]}, protocol="v4-pooled")
    (board,), _ = leaderboard.load([tmp_path], dataset="folder")
    beside = row(board, "a").cell("vocals", "SDR").beside
    # Of 0, 1, 2, 2, 10: distances from the median 2 are 2, 1, 0, 0, 8.
    assert beside == {"MAD": 1.0, "mean": 3.0, "SD": pytest.approx(np.sqrt(64 / 5))}
    assert "MAD 1.00; mean 3.00; SD 3.58" in text.as_table(board, "SDR", "vocals")
    line = next(csv.DictReader(text.as_csv([board]).splitlines()))
    assert (line["MAD"], line["mean"], line["median"]) == ("1.0", "3.0", "")


def test_a_mean_of_si_sdr_has_its_median_beside_it(tmp_path):
    for name, value in (("x", 1.0), ("y", 2.0), ("z", 6.0)):
        write(tmp_path / "a", name, {"vocals": [value]}, protocol="si-sdr", metric="SI-SDR")
    (board,), _ = leaderboard.load([tmp_path], dataset="folder")
    cell = row(board, "a").cell("vocals", "SI-SDR")
    assert (cell.value, cell.beside) == (3.0, {"median": 2.0})


def test_mir1k_weighs_clips_by_their_length(tmp_path):
    write(tmp_path / "a", "Ani_2_04", {"vocals": [1.0]}, weight=3.0, protocol="mir1k")
    write(tmp_path / "a", "Ani_2_07", {"vocals": [5.0]}, weight=1.0, protocol="mir1k")
    boards, _ = leaderboard.load([tmp_path], dataset="folder")
    assert row(boards[0], "a").cell("vocals", "GSDR").value == 2.0


def test_measured_and_published_rows_are_ranked_apart(tmp_path):
    names = list(row_tracks("UHL3"))
    for system, gain in (("good", 30.0), ("better", 40.0)):
        for k, name in enumerate(names):
            facts = {"dataset": "dsd100", "protocol": "sisec2016"}
            # As DSD100 spells it, with a number before the name.
            write(tmp_path / system, f"{k:03d} - {name}", {"vocals": [gain + k / 100]}, **facts)
    (board,), _ = leaderboard.load([tmp_path], dataset="dsd100", metrics=())
    ranks = {r.name: r.cell("vocals", "SDR").rank for r in board.rows if r.cells}
    assert (ranks["better"], ranks["good"], ranks["BLEND (UHL3)"]) == ("1", "2", "1")
    (mine,), (theirs,) = leaderboard.find(board, "good"), leaderboard.find(board, "UHL3")
    pair = (mine.cell("vocals", "SDR").tracks, theirs.cell("vocals", "SDR").tracks)
    assert compare(*pair).n_tracks == 50
    assert [title.split()[0] for title, _ in text.sections(board, "SDR", None)] == [
        "measured", "re-aggregated", "copied", "oracles",
    ]  # fmt: skip


def row_tracks(name):
    (board,) = leaderboard.boards(published.entries(), "dsd100", "sisec2016", ())
    return leaderboard.find(board, name)[0].cell("vocals", "SDR").tracks


def test_a_row_with_few_of_the_tracks_has_no_rank(tmp_path):
    for system, n in (("a", 20), ("b", 20), ("c", 5)):
        for k in range(n):
            write(tmp_path / system, f"song {k}", {"vocals": [k + 3.0 * (system == "b")]})
    boards, _ = leaderboard.load([tmp_path], dataset="folder")
    ranks = [row(boards[0], name).cell("vocals", "SDR").rank for name in "abc"]
    assert ranks == ["2", "1", ""]


def museval(folder, track, value):
    """A score file as museval writes it: nothing but targets."""
    TrackScores(track, {"vocals": {"SDR": [value]}}, duration=1.0).write(folder / f"{track}.json")
    path = folder / f"{track}.json"
    path.write_text(json.dumps({"targets": json.loads(path.read_text())["targets"]}))


def test_data_set_and_protocol_can_be_stated_for_files_that_tell_none(tmp_path):
    museval(tmp_path / "theirs" / "test", "song", 5.0)
    write(tmp_path / "ours", "song", {"vocals": [4.0]}, dataset="musdb18", protocol="v4-pooled")
    stated = {"dataset": "musdb18", "protocol": "v4-medmed"}
    (board,), problems = leaderboard.load([tmp_path], **stated, metrics=())
    (found,) = [r for r in board.rows if r.name == "theirs"]
    assert found.provenance == "re-aggregated"  # the figures are of their evaluator
    assert not problems and (found.name, found.cell("vocals", "SDR").value) == ("theirs", 5.0)
    assert "dataset and protocol stated by hand, not told by its files" in found.notes
    _, (problem,) = leaderboard.load([tmp_path], dataset="musdb18")
    assert "names no protocol" in problem and "--protocol ID" in problem


def test_rules_of_silence_are_ranked_apart(tmp_path):
    for system, gain, silence in (("a", 0, None), ("b", 1, None), ("c", 2, "references")):
        for k in range(12):
            write(tmp_path / system, f"song {k}", {"vocals": [k + gain]}, silence=silence)
    boards, _ = leaderboard.load([tmp_path], dataset="folder")
    ranks = [row(boards[0], name).cell("vocals", "SDR").rank for name in "abc"]
    assert ranks == ["2", "1", ""]


def test_oracles_are_pooled_over_the_tracks_of_the_row(tmp_path):
    write(tmp_path / "net", "x", {"vocals": [4.0]})
    write(tmp_path / "net", "y", {"vocals": [8.0]})
    for track, floor, best in (("x", 0.0, 10.0), ("y", 2.0, 12.0), ("z", 50.0, 90.0)):
        write(tmp_path / "mixture", track, {"vocals": [floor]}, kind="mixture")
        write(tmp_path / "irm", track, {"vocals": [best]}, kind="oracle")
    write(tmp_path / "ibm", "x", {"vocals": [99.0]}, kind="oracle")  # lacks y
    write(tmp_path / "more", "q", {"vocals": [8.0]})  # on which no oracle was scored
    boards, _ = leaderboard.load([tmp_path], dataset="folder")
    of_oracle = {r.name: r.cell("vocals", "SDR").of_oracle for r in boards[0].rows}
    assert of_oracle["net"] == pytest.approx(50.0) and of_oracle["more"] is None


def test_oracle_and_mixture_are_of_one_provenance():
    def entry(name, provenance, role, value):
        tracks = {"vocals": {"SDR": {"x": TrackFigure(value)}}}
        return Entry("folder", "sisec2018", name, provenance, role, tracks)

    entries = [
        entry("net", "measured", "system", 5.0),
        entry("irm", "measured", "oracle", 6.0),
        entry("IRM", "re-aggregated", "oracle", 10.0),
        entry("MIX", "re-aggregated", "mixture", 0.0),
    ]
    (board,) = leaderboard.boards(entries, "folder")
    assert row(board, "net").cell("vocals", "SDR").of_oracle == pytest.approx(50.0)


def test_seeds_of_one_system_show_their_spread_and_share_a_rank(tmp_path):
    for seed, gain in ((0, 0.0), (1, 0.4)):
        for k in range(20):
            facts = {
                "seed": 0, "training_seed": seed, "arguments": {"n_stacks": 3}, "sha256": f"{seed}",
            }  # fmt: skip
            write(tmp_path / f"net-seed{seed}", f"song {k}", {"vocals": [k + gain]}, **facts)
    boards, _ = leaderboard.load([tmp_path], dataset="folder")
    cells = [row(boards[0], f"net-seed{seed}").cell("vocals", "SDR") for seed in (0, 1)]
    assert [cell.seed_spread for cell in cells] == pytest.approx([0.4, 0.4])
    assert [cell.rank for cell in cells] == ["1-2", "1-2"]


def test_bundled_releases_stand_on_their_board():
    (board,), problems = leaderboard.load([], dataset="mir1k", metrics=())
    found = row(board, "mmdensenet-mir1k")
    assert not problems and board.metrics == ("GNSDR",)
    assert found.coverage == "110 of 825 clips"
    assert found.cell("vocals", "GNSDR").value == pytest.approx(9.40, abs=0.005)
    assert "none of 110 clips" in found.facts["shared"]
    assert not [r.name for r in board.rows if r.provenance == "not measured"]


def test_a_row_of_other_files_than_most_says_so(tmp_path):
    for system, data in (("a", "folder 12"), ("b", "folder 12"), ("c", "folder 34")):
        write(tmp_path / system, "song", {"vocals": [1.0]}, data=data)
    boards, _ = leaderboard.load([tmp_path], dataset="folder")
    told = {r.name: "other files" in " ".join(r.notes) for r in boards[0].rows}
    assert told == {"a": False, "b": False, "c": True}


@pytest.mark.parametrize(("n", "names"), [(5, ["net", "net (as released)"]), (20, ["net"])])
def test_few_scores_of_a_release_do_not_hide_those_that_came_with_it(n, names, tmp_path):
    for folder, n_tracks in (("here/net", n), ("came/net", 20)):
        for k in range(n_tracks):
            write(tmp_path / folder, f"song {k}", {"vocals": [k]})
    (measured, ours) = (collect([tmp_path / name])[0] for name in ("here", "came"))
    kept = leaderboard._beside(ours, measured)
    assert [entry.name for entry in (*measured, *kept)] == names


def test_bundled_releases_stand_beside_the_mixture_the_oracle_and_spleeter():
    (board,), _ = leaderboard.load([], dataset="mir1k", metrics=())
    cell = row(board, "mmdensenet-mir1k").cell("vocals", "GNSDR")
    assert row(board, "mixture").cell("vocals", "GNSDR").value == pytest.approx(0.0, abs=0.005)
    oracle = row(board, "oracle:irm1").cell("vocals", "GNSDR").value
    assert cell.of_oracle == pytest.approx(100 * cell.value / oracle)
    assert 9 < row(board, "spleeter-2stems").cell("vocals", "GNSDR").value < oracle


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"protocol": None}, "names no protocol"),
        ({"dataset": None}, "names no data set"),
        ({"protocol": "best"}, "no protocol 'best'"),
        ({"protocol": "sisec2016"}, "protocol sisec2016, where the rest of its folder has"),
        ({"sha256": "cd"}, "hash of weights cd, where the rest of its folder has ab"),
        ({"silence": "references"}, "silence references, where the rest of its folder has museval"),
        ({"arguments": {"n": 2}}, 'arguments {"n": 2}, where the rest of its folder has none'),
        ({"seed": 1}, "seed 1, where the rest of its folder has none"),
        ({"data": "folder 12"}, "data folder 12, where the rest of its folder has none"),
    ],
)
def test_what_does_not_belong_is_named_and_the_rest_goes_on(tmp_path, facts, said):
    for k in range(3):
        write(tmp_path / "a", f"song {k}", {"vocals": [1.0]})
    write(tmp_path / "a", "song 9", {"vocals": [100.0]}, **facts)
    entries, (problem,) = collect([tmp_path])
    assert said in problem and "song 9.json" in problem
    assert entries[0].scored == {"song 0", "song 1", "song 2"}


def test_estimates_of_a_folder_are_one_row_whatever_their_files(tmp_path):
    for track in "abc":
        for source in ("vocals", "accompaniment"):
            path = tmp_path / "data" / "test" / track / f"{source}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = ord(track) + len(source)
            soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, 16000), 8000)
    options = {"root": tmp_path / "data", "sdr_only": True, "output": tmp_path / "out"}
    evaluate(str(tmp_path / "data" / "test"), "folder", protocol="sisec2018", **options)
    (entry,), problems = collect([tmp_path / "out"])
    assert entry.scored == {"a", "b", "c"} and not problems
    assert "sha256" not in entry.facts


def test_scores_that_cannot_be_of_their_protocol_are_left_out(tmp_path):
    write(tmp_path / "a", "song", {"vocals": [1.0, 2.0]}, protocol="sisec2018")
    path = tmp_path / "a" / "song.json"
    path.write_text(path.read_text().replace("sisec2018", "sisec2016"))
    write(tmp_path / "b", "song", {"vocals": [1.0]}, protocol="usdr")
    entries, problems = collect([tmp_path])
    assert not entries
    assert "frames are 1 s every 1 s, and protocol sisec2016 has frames of 30 s" in problems[0]
    assert "protocol usdr has uSDR, and this has SDR" in problems[1]


def test_the_reason_is_told_where_nothing_is_left(tmp_path):
    museval(tmp_path / "theirs" / "test", "song", 5.0)
    with pytest.raises(ZooError, match="no board of data set 'folder'.* names no protocol"):
        leaderboard.load([tmp_path], dataset="folder")


def test_the_exact_name_means_one_row(tmp_path):
    for name in ("net", "net (as released)"):
        for k in range(3):
            write(tmp_path / name, f"song {k}", {"vocals": [1.0]})
    (board,), _ = leaderboard.load([tmp_path], dataset="folder")
    assert [r.name for r in leaderboard.find(board, "net")] == ["net"]


def test_training_songs_are_no_part_of_a_test(tmp_path):
    museval(tmp_path / "a" / "test", "Music Delta - 80s Rock", 5.0)
    stated = {"dataset": "musdb18", "protocol": "sisec2018"}
    _, problems = leaderboard.load([tmp_path], **stated, metrics=())
    assert any("'Music Delta - 80s Rock' is a training song of musdb18" in p for p in problems)


def test_a_folder_given_twice_counts_once(tmp_path):
    write(tmp_path / "a", "song", {"vocals": [1.0]})
    entries, _ = collect([tmp_path, tmp_path / "a" / ".."])
    assert len(entries) == 1


def test_what_is_better_where_less_is_shown_so(tmp_path, capsys):
    for k in range(12):
        for name, value in (("near", 0.5), ("far", 1.0)):
            figures = TrackScores(
                f"song {k}", {"vocals": {"SDR": [1.0], "MRSTFT": [value + k / 100]}}, (0.0,), 1.0,
                {"protocol": "sisec2018", "dataset": "folder", "system": name, "kind": "system"},
            )  # fmt: skip
            figures.write(tmp_path / name / f"song {k}.json")
    (board,), _ = leaderboard.load([tmp_path], dataset="folder", metrics=["MRSTFT"])
    assert [r.name for r in board.best_first("vocals")] == ["near", "far"]
    words = ["leaderboard", str(tmp_path), "--data", "folder", "--metric", "MRSTFT"]
    assert main([*words, "--compare", "near", "far"]) == 0
    out = capsys.readouterr().out
    assert "less is better" in out and "better on 100%" in out


def test_rows_without_a_rank_and_of_other_references_say_why(tmp_path):
    for system, n in (("a", 20), ("b", 20), ("c", 5)):
        for k in range(n):
            reference = "other" if (system, k) == ("b", 3) else "same"
            write(tmp_path / system, f"song {k}", {"vocals": [1.0 * k]}, references=reference)
    (board,), _ = leaderboard.load([tmp_path], dataset="folder")
    assert row(board, "c").notes == ("not ranked: scored on 5 of the 20 tracks of most others",)
    assert row(board, "b").notes == ("1 track scored against other files than most rows",)
    assert not row(board, "a").notes


def test_what_learned_from_songs_of_the_test_is_not_ranked():
    (board,), _ = leaderboard.load([], dataset="mir1k", metrics=())
    found = row(board, "mmdensenet-mir1k-extra")
    assert "not ranked: learned from songs that its usual split tests on" in found.notes
    assert found.cell("vocals", "GNSDR").rank == ""
    assert row(board, "mmdensenet-mir1k").cell("vocals", "GNSDR").rank


def test_sources_without_a_value_on_all_tracks_say_so(tmp_path):
    write(tmp_path / "a", "x", {"vocals": [1.0], "bass": [1.0]})
    write(tmp_path / "a", "y", {"vocals": [1.0], "bass": [math.nan]})
    (board,), _ = leaderboard.load([tmp_path], dataset="folder")
    assert row(board, "a").notes == ("tracks with a value, of 2: bass 1",)


def test_perfect_estimates_say_why_they_have_no_value(tmp_path):
    write(tmp_path / "a", "x", {"vocals": [math.nan]}, n_infinite=1)
    ((entry,), _) = collect([tmp_path])
    assert entry.notes == ("an estimate without any error on 1 track: infinite, left out",)


def test_copied_figures_are_those_of_the_papers_table(shared, known):
    path = shared / "published" / "takahashi2017_table2.csv"
    lines = list(csv.DictReader(path.read_text().splitlines()))
    board = known["dsd100", "sisec2016"]
    n = 0
    for line in lines:
        method = line[next(iter(line))]
        found = [r for r in board.rows if r.provenance == "copied" and r.name == method]
        for source in SOURCES:
            if found and line.get(source):
                assert found[0].cell(source, "SDR").value == float(line[source])
                n += 1
    assert n >= 40


def test_a_second_file_of_a_track_is_left_out(tmp_path):
    write(tmp_path / "a", "song", {"vocals": [1.0]})
    again = (tmp_path / "a" / "song.json").read_text()
    again = again.replace('"zoo": {', '"zoo": {"track": "song", ')
    (tmp_path / "a" / "song again.json").write_text(again)
    entries, (problem,) = collect([tmp_path])
    assert "a second file of track 'song'" in problem
    assert entries[0].scored == {"song"}


def test_broken_and_foreign_json(tmp_path):
    write(tmp_path / "a", "song", {"vocals": [1.0]})
    (tmp_path / "a" / "separation.json").write_text("{}")  # a record of another kind
    (tmp_path / "a" / "half.json").write_text('{"targets": [')
    museval = {"targets": [{"name": "vocals", "frames": []}], "museval_version": "0.4.1"}
    (tmp_path / "a" / "museval.json").write_text(json.dumps(museval))
    entries, problems = collect([tmp_path])
    assert entries[0].scored == {"song"}
    assert ["half.json" in problems[0], "museval.json" in problems[1]] == [True, True]
    assert len(problems) == 2


def test_scores_of_validation_tracks_are_no_row_of_the_test(tmp_path):
    for name, split in (("song 0", "test"), ("song 1", "valid"), ("song 2", "test")):
        write(tmp_path / "a", name, {"vocals": [1.0]}, split=split)
    entries, (problem,) = collect([tmp_path])
    assert entries[0].name == "a" and "system a, valid tracks" in problem


def test_doubts_about_estimates_are_said_beside_the_row(tmp_path):
    write(tmp_path / "a", "x", {"vocals": [1.0]}, doubts=["vocals: late by 64 samples"])
    write(tmp_path / "a", "y", {"vocals": [1.0]})
    ((entry,), _) = collect([tmp_path])
    assert entry.notes == ("1 of 2 tracks look wrong: vocals: late by 64 samples",)


def test_ill_conditioned_tracks_are_counted_beside_the_row(tmp_path):
    write(tmp_path / "a", "x", {"vocals": [1.0]}, rcond=1e-15)
    write(tmp_path / "a", "y", {"vocals": [1.0]}, rcond=1e-8)
    ((entry,), _) = collect([tmp_path])
    assert entry.notes == ("ISR, SIR and SAR of 1 of 2 tracks are ill-conditioned",)


def test_two_systems_of_one_name_are_told_apart(tmp_path):
    for place in ("x", "y"):
        write(tmp_path / place / "net", "song", {"vocals": [1.0]})
    entries, problems = collect([tmp_path])
    assert [e.name for e in entries] == ["net", "net (2)"] and not problems


def test_what_a_test_shares_with_its_training_is_said():
    assert overlap("musdb18", None, "musdb18") == "3 of 50 songs by artists of the training"
    assert overlap("dsd100", None, "dsd100") == "20 of 50 songs by artists of the training"
    assert overlap("musdb18hq", None, "dsd100").startswith("23 of 50 songs were trained on")
    assert overlap("mir1k", ["leon_5_03", "Ani_2_04"], "mir1k").startswith("1 of 2 clips sung to")
    assert overlap("mir1k", ["leon_5_03"], "mir1k", extra=True).endswith("1 by its singers")
    assert overlap("musdb18", None, "mir1k") == ""


# ------------------------------------------------------------------------------- the command


@pytest.fixture
def scores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for system, gain in (("a", 0.0), ("b", 1.0)):
        for k in range(12):
            write(tmp_path / "scores" / system, f"song {k}", {"vocals": [k + gain]})
    return tmp_path / "scores"


def test_the_command_prints_a_table(scores, capsys):
    assert main(["leaderboard", str(scores), "--data", "folder"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "folder, protocol sisec2018: SDR"
    assert [line.split() for line in lines if line.startswith("  b ")] == [["b", "6.50", "(1)"]]


def test_the_command_tells_all_of_one_source(scores, capsys):
    assert main(["leaderboard", str(scores), "--data", "folder", "-s", "vocals"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("  1     b ")]
    assert "12 of 12" in line and "[" in line


def test_the_form_follows_the_suffix(scores):
    for suffix in ("md", "csv", "txt"):
        assert main(["leaderboard", str(scores), "--data", "folder", "-o", f"board.{suffix}"]) == 0
    folder = scores.parent
    assert "| b | 6.50 [" in (folder / "board.md").read_text()
    (b,) = [
        line
        for line in csv.DictReader(io.StringIO((folder / "board.csv").read_text()))
        if line["system"] == "b"
    ]
    assert (b["provenance"], b["value"], b["rank"], b["n_tracks"]) == ("measured", "6.5", "1", "12")
    assert (folder / "board.txt").read_text().startswith("folder, protocol")


def test_the_command_compares_two_systems(scores, capsys):
    assert main(["leaderboard", str(scores), "--data", "folder", "--compare", "b", "a"]) == 0
    assert "+1.00 [+1.00, +1.00], better on 100% of 12 tracks" in capsys.readouterr().out


def test_the_command_fails_in_part_where_a_file_was_left_out(scores, capsys):
    (scores / "a" / "song 3.json").write_text("{")
    assert main(["leaderboard", str(scores), "--data", "folder"]) == 1
    found = capsys.readouterr()
    assert "song 3.json is no score file" in found.err and "folder, protocol" in found.out


def test_an_empty_folder_is_named(tmp_path, capsys):
    assert main(["leaderboard", str(tmp_path), "--data", "mir1k"]) == 1
    assert "holds no score file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "no folder nowhere"),
        (["--data", "musdb"], "Did you mean 'musdb18'?"),
        (["--protocol", "sisec17"], "Did you mean 'sisec2018'?"),
        (["--data", "mir1k", "--protocol", "usdr"], "no board of mir1k by usdr"),
        (["--source", "vocal"], "Did you mean 'vocals'?"),
        (["--metric", "SDX"], "no board has the metric 'SDX'"),
        (["--data", "dsd100", "--compare", "BLENT", "BLSTM"], "Did you mean 'BLEND'?"),
        (["--data", "dsd100", "--compare", "UHL", "NUG2"], "'UHL' means several systems"),
        (["-o", "nowhere/board.md"], "no folder nowhere"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["leaderboard", *words]) == 2
    assert said in capsys.readouterr().err


def test_an_alias_of_a_protocol_is_understood(capsys):
    assert main(["leaderboard", "--data", "musdb18hq", "--protocol", "usdr-song-mean"]) == 0
    assert "SCNet XL IHF" in capsys.readouterr().out


def test_boards_of_nothing_are_refused():
    with pytest.raises(ZooError, match="no board of data set"):
        leaderboard.boards([], "nothing")
