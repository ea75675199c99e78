"""The page of leaderboards, in a real browser where one is installed, and their pictures."""

import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from zoo.evaluation import page, plots, statistics
from zoo.evaluation.board import Board, Cell, Row

MARKUP = "</script><img src=x onerror=\"document.title='hacked'\"><b>$bold_x$</b> & co"
N = 40


def cell(values, **more):
    known = [v for v in values.values() if not math.isnan(v)]
    low, high = statistics.interval(np.array(known), "median")
    return Cell(float(np.median(known)), low, high, len(known), tracks=values, **more)


def songs(mean, seed, n=N, digits=5):
    values = np.random.default_rng(seed).normal(mean, 2, n).round(digits)
    return {f"song {k:02}": float(value) for k, value in enumerate(values)}


def row(name, provenance, mean, seed, role="system", sources=("vocals", "drums"), **more):
    cells = {
        source: {"SDR": cell(songs(mean + k, seed + k)), "SIR": cell(songs(2 * mean, seed))}
        for k, source in enumerate(sources)
    }
    return Row(name, provenance, role, cells, **more)


@pytest.fixture(scope="module")
def boards():
    unknown = dict(songs(2, 5))
    unknown["song 03"] = math.nan
    costly = {"parameters": 270_271, "seconds": 30.0, "audio_seconds": 120.0, "shared": "3 of 40"}
    coarse = {k: round(v) for k, v in songs(4, 21, 60).items()}  # full of ties
    other = {
        k: v + round(float(d))
        for (k, v), d in zip(coarse.items(), songs(0, 22, 60).values(), strict=True)
    }
    return [
        Board(
            "toys", "sisec2018", ("vocals", "drums"), ("SDR", "SIR"),
            (
                row("old", "measured", 4.0, 1, facts=costly),
                row(MARKUP, "measured", 5.0, 3, facts={**costly, "parameters": 90_000}),
                replace(row("gated", "measured", 2.0, 7), cells={"vocals": {"SDR": cell(unknown)}}),
                row("UHL", "re-aggregated", 6.0, 9),
                Row("paper", "copied", cells={"vocals": {"SDR": Cell(9.5)}}),
                row("ideal mask", "measured", 9.0, 11, "oracle"),
                row("mixture", "measured", -3.0, 13, "mixture"),
                Row("to come", "not measured", command="zoo evaluate to-come --data toys"),
            ),
            n_test=50, notes=("medians <i>everywhere</i>",),
        ),
        Board(
            "toys", "si-sdr", ("vocals",), ("SI-SDR",),
            (
                Row("coarse", "measured", cells={"vocals": {"SI-SDR": cell(coarse)}}),
                Row("other", "measured", cells={"vocals": {"SI-SDR": cell(other)}}),
            ),
        ),
        Board("scenes", "projet", (), ("SDR",), (Row("duet", "not measured", command="zoo x"),)),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def written(boards, tmp_path_factory):
    return page.write(boards, tmp_path_factory.mktemp("page") / "deep" / "board.html")


def data_of(path):
    found = re.search(r'id="data">(.*?)</script>', path.read_text("utf-8"), re.S)
    return json.loads(found[1])


def test_the_page_names_no_other_file(written):
    text = written.read_text("utf-8")
    assert (
        re.findall(r'(?:src|href|action)="(?!data:,)[^"]*"', re.sub(r"(?s)<script.*", "", text))
        == []
    )
    assert "@import" not in text and "url(" not in text and "fetch(" not in text


def test_the_data_of_the_page_is_that_of_the_boards(written, boards):
    found = data_of(written)["boards"][0]["rows"]
    assert [row["name"] for row in found] == [row.name for row in boards[0].rows]
    tracks = data_of(written)["boards"][0]["tracks"]
    gated = dict(zip(tracks, found[2]["cells"]["vocals"]["SDR"]["tracks"], strict=True))
    assert gated.pop("song 03") is None
    assert all(gated[t] == v for t, v in songs(2, 5).items() if t != "song 03")


def test_infinite_values_leave_valid_json(boards, tmp_path):
    endless = Cell(math.inf, -math.inf, math.nan, 1, tracks={"song": math.inf})
    rows = (Row("perfect", "measured", cells={"vocals": {"SDR": endless}}),)
    found = data_of(page.write([replace(boards[0], rows=rows)], tmp_path / "board.html"))
    cell = found["boards"][0]["rows"][0]["cells"]["vocals"]["SDR"]
    assert (cell["value"], cell["low"], cell["high"], cell["tracks"]) == (None, None, None, [None])


def test_without_javascript_the_values_are_there(written):
    silent = re.search(r"(?s)<noscript>(.*)</noscript>", written.read_text("utf-8"))[1]
    assert "9.50" in silent and "<img" not in silent and "&lt;b&gt;" in silent


# ---------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        pytest.skip("no chromium on the path: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, written):
    """The page, and everything that went wrong or left it; both are empty at the end of a test."""
    tab = browser.new_page(viewport={"width": 1300, "height": 900})
    tab.set_default_timeout(5000)
    faults, asked = [], []
    tab.on("console", lambda message: faults.append(message.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("requestfinished", lambda request: asked.append(request.url.partition("#")[0]))
    tab.on("requestfailed", lambda request: asked.append(request.url))
    tab.goto(written.as_uri())
    yield tab
    assert faults == [] and set(asked) == {written.as_uri()}
    tab.close()


def names(tab, section=0):
    return (
        tab.locator("#table tbody")
        .nth(section)
        .locator("tr.row th.name")
        .evaluate_all("all => all.map(th => th.firstChild.textContent)")
    )


def choose(tab, *rows):
    for name in rows:
        tab.locator(
            "tr.row", has=tab.get_by_role("checkbox", name=f"Compare {name}", exact=True)
        ).click()


def test_the_page_shows_each_provenance_apart(opened):
    titles = opened.locator("tr.section .badge").all_inner_texts()
    assert titles == [
        "measured here from audio",
        "re-aggregated here from published frames or tracks",
        "copied from a paper or a page",
        "oracles and mixture",
        "not measured yet",
    ]
    assert names(opened, 3) == ["ideal mask", "mixture"]
    assert opened.get_by_text("zoo evaluate to-come --data toys").is_visible()
    looks = opened.locator("tr.section .badge").evaluate_all(
        """all => all.map(getComputedStyle).map(
            look => look.borderTopStyle + look.borderTopWidth + look.backgroundColor)"""
    )
    assert len(set(looks)) == len(looks)


def test_a_name_with_markup_is_text(opened):
    assert MARKUP in names(opened)
    assert opened.locator("img").count() == 0
    assert "medians <i>everywhere</i>" in opened.locator("#about").inner_text().replace("M", "m")
    choose(opened, MARKUP, "old")
    assert MARKUP in opened.locator("#pair").inner_text()
    assert opened.title() == page.TITLE


def test_a_heading_sorts_within_its_section_and_back(opened):
    assert names(opened) == [MARKUP, "old", "gated"]
    heading = opened.get_by_role("button", name="SDR (dB)", exact=True)
    assert opened.locator("th[aria-sort=descending]").inner_text() == "SDR (dB)"
    heading.click()
    assert names(opened) == ["gated", "old", MARKUP]
    assert opened.locator("th[aria-sort=ascending]").inner_text() == "SDR (dB)"
    opened.get_by_role("button", name="Parameters").press("Enter")
    assert names(opened) == [MARKUP, "old", "gated"]  # what has no value stands last
    opened.keyboard.press("Enter")
    assert names(opened) == ["old", MARKUP, "gated"]


def test_tabs_switch_the_source_by_mouse_and_keyboard(opened):
    opened.get_by_role("tab", name="drums").click()
    assert opened.get_by_role("tab", name="drums").get_attribute("aria-selected") == "true"
    assert names(opened) == [MARKUP, "old"]
    opened.keyboard.press("ArrowRight")
    assert opened.get_by_role("tab", name="vocals").evaluate(
        "tab => tab === document.activeElement"
    )
    assert names(opened) == [MARKUP, "old", "gated"]


def test_another_metric_fills_the_main_column(opened):
    opened.get_by_label("Metric").select_option("SIR")
    assert names(opened) == [MARKUP, "old", "gated"]  # which has none, and stands last
    assert opened.locator("th[aria-sort]").inner_text() == "SIR (dB)"


def result(tab):
    return json.loads(tab.locator("#pair dl").first.get_attribute("data-result"))


def agrees(found, first, second, step=0.0):
    expected = statistics.compare(first, second)
    assert found["n"] == expected.n_tracks
    assert found["median"] == pytest.approx(expected.median, abs=1e-9)
    assert found["p"] == pytest.approx(expected.p, rel=1e-5)
    assert found["share"] == pytest.approx(expected.won)
    width = expected.high - expected.low
    assert found["low"] == pytest.approx(expected.low, abs=0.15 * width + step)
    assert found["high"] == pytest.approx(expected.high, abs=0.15 * width + step)


def test_two_rows_are_compared_as_the_statistics_do(opened, boards):
    choose(opened, "old", "gated")
    rows = {row.name: row.cells["vocals"]["SDR"].tracks for row in boards[0].rows if row.cells}
    agrees(result(opened), rows["old"], rows["gated"])
    assert result(opened)["n"] == N - 1  # one song has no value
    choose(opened, "UHL")  # takes the place of the first
    agrees(result(opened), rows["gated"], rows["UHL"])
    assert "differ in provenance" in opened.locator("#pair").inner_text()


def test_ties_and_equal_tracks_are_tested_as_the_statistics_do(opened, boards):
    opened.get_by_label("Board").select_option("toys, protocol si-sdr")
    choose(opened, "coarse", "other")
    first, second = (row.cells["vocals"]["SI-SDR"].tracks for row in boards[1].rows)
    assert any(first[song] == second[song] for song in first)
    agrees(result(opened), first, second, step=0.5)  # two resamplings of halves and wholes


def test_a_row_without_tracks_says_why_it_cannot_be_compared(opened):
    choose(opened, "old", "paper")
    assert "copied from a publication" in opened.locator("#pair").inner_text()
    opened.keyboard.press("Escape")
    assert "Choose two rows" in opened.locator("#pair").inner_text()


def test_the_heat_map_tells_its_cells_to_the_keyboard(opened, boards):
    opened.locator("#heat").focus()
    told = opened.locator("#readout")
    first = told.inner_text()
    opened.keyboard.press("ArrowRight")
    assert told.inner_text() != first
    name, song, value = re.fullmatch(r"(.*), (song \d+): (.*) dB", told.inner_text()).groups()
    shown = {row.name: row for row in boards[0].rows}[name].cells["vocals"]["SDR"].tracks[song]
    assert float(value.replace("\N{MINUS SIGN}", "-")) == pytest.approx(shown, abs=0.0051)


def test_the_address_keeps_the_board_and_the_source(opened, written):
    opened.get_by_role("tab", name="drums").click()
    address = opened.url
    opened.goto("about:blank")
    opened.goto(address)
    assert opened.get_by_role("tab", name="drums").get_attribute("aria-selected") == "true"


def test_a_board_without_figures_shows_what_would_measure_them(opened):
    opened.get_by_label("Board").select_option("scenes, protocol projet")
    assert opened.get_by_text("zoo x").is_visible()
    assert not opened.locator("#heat").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_the_table_and_not_the_page(opened, scheme):
    opened.emulate_media(color_scheme=scheme)
    opened.set_viewport_size({"width": 360, "height": 700})
    choose(opened, "old", "gated")
    assert opened.evaluate("document.documentElement.scrollWidth") == 360
    ink, paper = opened.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (sum(map(int, re.findall(r"\d+", ink)[:3])) < 300) == (scheme == "light")
    assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 500) == (scheme == "light")


# ---------------------------------------------------------------------------------- pictures


def test_pictures_are_written_as_png_and_on_one_page(boards, tmp_path):
    paths = plots.write(boards, tmp_path / "plots")
    assert [path.name for path in paths] == [
        "toys-sisec2018-tracks.png", "toys-sisec2018-cost.png", "toys-si-sdr-tracks.png",
        "plots.html",
    ]  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths[:-1])
    text = paths[-1].read_text("utf-8")
    assert text.count("<svg") == 3 and "<img" not in text
    assert "&lt;/script&gt;&lt;img" in text  # the name, as text, dollars and all
    assert re.findall(r"""(?:src|href)=["'](?!#|data:,)[^"']*""", text) == []


def test_names_beside_the_marks_do_not_overlap(boards):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Annotation, Text

    crowd = tuple(
        row(f"system {k}", "measured", 5 + 0.1 * (k % 5), k, facts={"parameters": 10**6 + k})
        for k in range(10)
    )
    figure = plots.cost(replace(boards[0], rows=crowd))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for ax in figure.axes:
        labels = [text for text in ax.texts if isinstance(text, Annotation)]
        boxes = [Text.get_window_extent(label, canvas.get_renderer()) for label in labels]
        assert sorted(label.get_text() for label in labels) == [r.name for r in crowd]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_board_of_single_figures_has_no_pictures(boards):
    copied = replace(boards[0], rows=tuple(r for r in boards[0].rows if r.provenance == "copied"))
    assert plots.spread(copied) is None and plots.cost(copied) is None
