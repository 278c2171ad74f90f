"""The report: all of what runs hold, the same every time, and nothing that they hold does anything."""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
from base64 import b64decode
from collections.abc import Callable
from contextlib import redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from made_runs import figure, make_comparison, make_run
from test_fuzz_runs import VALUES
from test_show import EVIL, SEEN, Screen
from uncollapse.cli import main
from uncollapse.errors import InputError
from uncollapse.experiment import catalogue
from uncollapse.report import figures, folders
from uncollapse.report.content import Content, as_json, content
from uncollapse.report.folders import find, spaced
from uncollapse.report.html import _plotly, html
from uncollapse.report.interactive import drawn
from uncollapse.report.markdown import markdown
from uncollapse.report.references import bibtex, cited
from uncollapse.report.reproductions import Means
from uncollapse.report.sparklines import sparkline
from uncollapse.report.static import _columns, draw

TAGS = "<script>alert(1)</script>"
EXAMPLES = {
    "samples": [f"{TAGS} one", f"two {EVIL}"],
    "reconstructions": [[f"{TAGS} in", "out | `code`"]],
    "interpolations": [["a", "b", "c"]],
}


def made(*paths: Path) -> Content:
    return content(find(paths))


class Texts(HTMLParser):
    """What a page shows, and the addresses of what it would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said, self.fetched, self.scripts, self._within = "", list[str](), 0, ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag if tag in ("script", "style") else self._within
        self.scripts += tag == "script"
        self.fetched += [v or "" for k, v in attrs if k == "src" or (k == "href" and tag == "link")]

    def handle_endtag(self, tag: str) -> None:
        self._within = "" if tag == self._within else self._within

    def handle_data(self, data: str) -> None:
        self.said += "" if self._within else data


# What it says.


def test_the_verdict_comes_first_then_the_figures_with_errors_and_caps(tmp_path: Path) -> None:
    said = made(make_run(tmp_path / "run"))
    assert said.headline == "Healthy: 4 of 4 units active, MI 2.00 nats"
    row = dict(zip(said.runs.header, (cell.text for cell in said.runs.rows[0]), strict=True))
    assert row["NLL"] == "40.00 ± 0.10"
    assert (row["MI"], row["cap of MI"], row["active units"]) == ("2.00 ± 0.05", "6.20", "4 of 4")
    assert (row["time"], row["evaluated on"]) == ("1:30 min", "test, K 100, 500 items")
    page = Texts(html(said)).said
    assert page.index(said.headline) < page.index("40.00 ± 0.10")


def test_a_comparison_is_its_cells_the_baseline_first_with_spreads_and_paired_differences(tmp_path: Path) -> None:
    said = made(make_comparison(tmp_path / "cmp", ("aggressive", "plain")))
    assert [row[0].text for row in said.runs.rows] == [
        *("plain, seed 0", "plain, seed 1", "aggressive, seed 0", "aggressive, seed 1")
    ]
    spread, differences = said.tables
    assert spread.rows[0][2].text == "40.05 (0.07)"  # 40.0 and 40.1
    assert [cell.text for cell in differences.rows[0]] == ["aggressive", *["-0.50 (items ± 0.10, seeds ± 0.20)"] * 2]
    assert said.commands == [
        f"uncollapse compare stdlib --recipe demo --remedies plain,aggressive --seeds 2 --out {tmp_path / 'cmp'}"
    ]


def test_the_headline_of_several_runs_counts_their_verdicts_the_worst_first(tmp_path: Path) -> None:
    verdicts = ("healthy: yes", "collapsed: no", "healthy: too", "of a kind that is not known yet: x")
    runs = [make_run(tmp_path / str(i), seed=i, verdict=verdict) for i, verdict in enumerate(verdicts)]
    said = made(*runs)
    assert said.kind == "collapsed"
    assert said.headline == "4 runs: 1 collapsed, 2 healthy, 1 of a kind that is not known yet"


def test_a_warning_of_several_runs_is_one_with_their_names(tmp_path: Path) -> None:
    said: dict[str, list[str]] = {"a": ["few items."], "b": ["few items.", "bad."], "c": [], "d": []}
    runs = [make_run(tmp_path / name, name, warnings=texts) for name, texts in said.items()]
    assert made(*runs).remarks == ["a, seed 0; b, seed 0: few items.", "b, seed 0: bad."]
    more = [make_run(tmp_path / f"{i}", f"r{i}", warnings=[f"for {i}.5% of the items."]) for i in range(4)]
    assert made(*runs[2:], *more).remarks == ["4 of 6 runs, such as r0, seed 0: for 0.5% of the items."]
    assert made(more[1]).remarks == ["for 1.5% of the items."]


def test_a_comparison_of_several_remedies_has_its_ranking(tmp_path: Path) -> None:
    said = made(make_comparison(tmp_path / "cmp", ("plain", "anneal", "aggressive")))
    assert [cell.text for cell in said.tables[-1].rows[1]] == ["2", "anneal"]
    assert said.tables[-1].caption.startswith("Ranked by NLL")
    assert len(made(make_comparison(tmp_path / "two")).tables) == 2


def test_a_run_that_nobody_has_evaluated_is_there_with_its_curves(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "evaluation-test-k100-s0.json").unlink()
    said = made(run)
    assert (said.kind, said.remarks, len(said.curves), said.scatters) == ("not evaluated", [], 4, [])
    assert said.runs.rows[0][2].text == "n/a"


def test_the_evaluation_is_the_one_of_the_test_split_with_most_items_and_samples(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    there = json.loads((run / "evaluation-test-k100-s0.json").read_text())
    for name, change in {
        "valid-k900": {"split": "valid", "samples": 900},
        "test-k500": {"samples": 500, "nll": figure(39.0)},
        "test-k900-n10": {"samples": 900, "neg_elbo": figure(41.0, n=10)},
    }.items():
        (run / f"evaluation-{name}-s0.json").write_text(json.dumps({**there, **change}))
    assert made(run).runs.rows[0][2].text == "39.00 ± 0.10"


def test_runs_of_different_data_or_evaluations_are_said_to_be(tmp_path: Path) -> None:
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two", seed=1)
    about = json.loads((two / "environment.json").read_text())
    (two / "environment.json").write_text(json.dumps({**about, "data": "e" * 64}))
    there = json.loads((two / "evaluation-test-k100-s0.json").read_text())
    (two / "evaluation-test-k100-s0.json").write_text(json.dumps({**there, "samples": 5}))
    first, second = made(one, two).remarks
    assert first.startswith("The runs are of different data")
    assert second == "The runs are evaluated in different ways (test, K 100, 500 items; test, K 5, 500 items): " + (
        "small differences mean nothing."
    )


def test_the_references_are_those_of_the_methods_used_and_no_others(tmp_path: Path) -> None:
    there = catalogue.references()
    runs = find([make_run(tmp_path / "run", "aggressive+beta")]).runs
    expected = {"he2019", "higgins2017"} | {
        key for key, one in there.items() if one in catalogue.recipes()["demo"].cite
    }
    assert set(cited(runs)) == expected
    entry = bibtex("he2019", there["he2019"])
    assert "author = {Junxian He and Daniel Spokoyny and Graham Neubig and Taylor Berg-Kirkpatrick}" in entry
    assert "eprint = {1901.05534}" in entry
    assert entry.count("{") == entry.count("}")


def test_the_command_of_a_run_makes_its_spec_again(tmp_path: Path) -> None:
    from uncollapse.experiment.compose import compose
    from uncollapse.experiment.spec import validated

    run = make_run(tmp_path / "run", "anneal", 3)
    spec = validated(compose("demo", ["anneal"], ["training.max_epochs=2", "model.latent=3", "seed=3"]))
    (run / "spec.yaml").write_text(json.dumps(spec.model_dump(mode="json")))
    (command,) = made(run).commands
    assert command == (
        "uncollapse fit stdlib --recipe demo --with anneal --seed 3 --set model.latent=3 --set training.max_epochs=2 "
        f"--out {run}"
    )


# The figures.


def test_every_figure_is_one_that_plotly_takes(tmp_path: Path) -> None:
    go = pytest.importorskip("plotly.graph_objects")
    said = made(make_comparison(tmp_path / "cmp"))
    there = [*said.curves, *said.scatters, *said.films, *said.heats]
    assert len(there) == 4 + 2 + 4 + 4
    for one in there:
        made_of = drawn(one)
        go.Figure(data=made_of["data"], layout=made_of["layout"])


def many(folder: Path, far: int = 1) -> list[Path]:
    """Runs of 20 remedies, of which some have an NLL far beyond the others'."""
    return [make_run(folder / f"r{i}", f"r{i}", nll=40 + i / 10 if i < 20 - far else 90.0 * i) for i in range(20)]


def test_a_figure_leaves_out_few_that_would_take_most_of_it_and_names_them(tmp_path: Path) -> None:
    against = made(*many(tmp_path / "one")).scatters[0]
    assert against.y_range == pytest.approx((39.9 - 0.1, 41.9 + 0.1))
    assert against.caption == "Beyond the figure: r19 (up to 1710)."
    assert drawn(against)["layout"]["yaxis"]["range"] == list(against.y_range or ())
    assert made(*many(tmp_path / "three", far=3)).scatters[0].y_range is None  # More than a tenth.


def test_the_one_remedy_that_uses_z_is_not_left_out(tmp_path: Path) -> None:
    runs = many(tmp_path, far=0)
    for run in runs[:-1]:
        text = (run / "metrics.jsonl").read_text()
        lines = [{**json.loads(line), "mi": figure(0.0), "kl": figure(0.0)} for line in text.splitlines()]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert all(chart.y_range is None for chart in made(*runs).curves)


def test_a_legend_of_many_stands_beside_its_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    runs = many(tmp_path)
    few, all_ = made(*runs[:3]).scatters[0], made(*runs).scatters[0]
    assert drawn(all_)["layout"]["legend"]["orientation"] == "v"
    assert "legend" not in drawn(few)["layout"]
    assert (_columns(few), _columns(all_)) == (0, 1)
    draw(made(*runs), tmp_path / "figures")
    with Image.open(tmp_path / "figures" / "nll-kl.png") as picture:
        ink = np.asarray(picture.convert("L")) < 200
    assert ink[:, : picture.width // 2].sum(1).astype(bool).mean() > 0.8  # The axes are as high as the picture.


def test_the_leading_directions_are_those_of_the_largest_variance() -> None:
    generator = np.random.default_rng(0)
    turn, _ = np.linalg.qr(generator.standard_normal((5, 5)))
    points = (generator.standard_normal((4000, 5)) * [1.0, 9.0, 2.0, 0.5, 4.0]) @ turn.T
    found = figures.directions([points[:2000], points[2000:] + 100.0])  # Where the clouds lie does not count.
    assert np.abs((found.T @ turn)[[0, 1], [1, 4]]) == pytest.approx(1.0, abs=1e-3)
    assert np.abs(found).max(0) == pytest.approx(found.max(0))


def test_with_one_unit_and_the_true_means_posterior_mean_space_is_that_of_he_et_al() -> None:
    true, inferred = np.array([[1.0], [2.0]]), np.array([[0.0], [3.0]])
    film = figures.film(Means("one", [0, 5], [inferred, inferred + 1], [true, true]), "k")
    assert (film.x, film.y, film.diagonal) == ("true posterior's mean", "q's mean", True)
    assert [(one.x, one.y) for one in film.frames[1]] == [([1.0, 2.0], [1.0, 4.0])]
    assert film.x_range == film.y_range == (-4.2, 4.2)


def test_with_more_units_the_true_means_are_shown_in_the_same_directions() -> None:
    cloud = np.random.default_rng(0).standard_normal((30, 3)) * [3.0, 2.0, 0.01]
    film = figures.film(Means("one", [0], [cloud], [cloud + np.array([0, 0, 5.0])]), "k")
    true, inferred = film.frames[0]
    assert np.allclose(true.x, inferred.x, atol=0.2)
    assert (true.label, inferred.label) == ("true posterior's mean", "q's mean")
    still = figures.film(Means("one", [0], [cloud * 0], [cloud]), "k").frames[0]
    assert np.std(still[0].x) == pytest.approx(3.0, rel=0.3)  # Where q stands still, those of the true means.


def test_without_true_means_one_unit_is_shown_in_the_order_in_which_items_end() -> None:
    film = figures.film(Means("one", [0, 1], [np.zeros((3, 1)), np.array([[5.0], [-5.0], [0.0]])]), "k")
    assert (film.frames[1][0].x, film.frames[1][0].y) == ([5.0, -5.0, 0.0], [2.0, 0.0, 1.0])


def test_posterior_means_come_from_a_file_too(tmp_path: Path) -> None:
    points = [{"step": n, "inferred": [[0.1], [0.2]], "true": [[0.3], [0.4]]} for n in (200, 0)]
    (tmp_path / "figure2.json").write_text(json.dumps({"points": points}))
    for path in (tmp_path / "figure2.json", tmp_path):
        (film,) = made(path).films
        assert (film.title, film.steps, film.diagonal) == ("figure2", [0, 200], True)


def test_what_reproductions_found_is_drawn(tmp_path: Path) -> None:
    space = [{"step": n, "inferred": [[0.1], [n]], "true": [[0.3], [None]]} for n in (0, 9)]
    steps = [{"step": n, "inferred": [0.1 * n], "true": [0.2 * n]} for n in (0, 9)]
    course = [{"step": n, "kl": figure(n), "mi": figure(0.5), "marginal_kl": {"unavailable": "no"}} for n in (0, 9)]
    for draws, said in {"space": space, "trajectory": {"item": 3, "steps": steps}, "course": course}.items():
        runs = {"plain": said, "aggressive": said}
        document = {"id": f"he2019/{draws}", "draws": draws, "departs": "Smaller.", "runs": runs}
        (tmp_path / f"he2019-{draws}.json").write_text(json.dumps(document))
    said = made(tmp_path)
    assert [film.title for film in said.films] == ["he2019/space: plain", "he2019/space: aggressive"]
    assert drawn(said.films[0])["frames"] == [[[[0.3, None], [0.1, 0.0]]], [[[0.3, None], [0.1, 9.0]]]]
    assert [(one.x, one.y) for one in said.ways[-1].series] == [([0.0, 1.8], [0.0, 0.9])] * 2
    assert [chart.title for chart in said.ways] == [
        *(f"he2019/course: {figure}" for figure in ("KL", "mutual information", "marginal KL")),
        "he2019/trajectory: the way of one item",
    ]
    assert all(one.caption.endswith("Smaller.") for one in [*said.films, *said.ways])
    html(said)


def test_tables_and_points_of_reproductions_are_shown_with_what_was_published(tmp_path: Path) -> None:
    card = [["training", "figure", "published, Yahoo", "here"], ["plain", "NLL", "329 (0.1)", "30.12 ± 0.10"]]
    points = [{"remedy": "a", "seed": s, "active_units": figure(s), "nll": figure(30.0 + s)} for s in (0, 1)]
    spread = {"nll": {"mean": 30.123, "variance": 0.00123, "n": 10}, "mi": None}
    for draws, said in {
        "table": {"table": [["remedy", "NLL"], ["<b>", "30.12 ± 0.10"]], "card": card, "orders": [["", "Yahoo"]]},
        "points": {"points": points},
        "evaluations": {"runs": {"aggressive": spread}, "departs": "Smaller."},
    }.items():
        document = {"id": f"he2019/{draws}", "draws": draws, **said}
        (tmp_path / f"he2019-{draws}.json").write_text(json.dumps(document))
    said = made(tmp_path)
    tables = {one.caption: [[cell.text for cell in row] for row in one.rows] for one in said.tables}
    assert tables == {
        "he2019/evaluations: mean (variance) over evaluations. Departs: Smaller.": [
            ["aggressive", "30.12 (0.0012)", "n/a"]
        ],
        "he2019/table": [["<b>", "30.12 ± 0.10"]],
        "he2019/table: published figures and ours": card[1:],
    }
    (chart,) = said.ways
    (series,) = chart.series
    assert (series.x, series.y, series.line) == ([0.0, 1.0], [30.0, 31.0], False)
    page = html(said)
    assert "&lt;b&gt;" in page
    assert "published, Yahoo" in page
    assert "published, Yahoo" in markdown(said)


@pytest.mark.parametrize(
    "said",
    [
        *([], {}, {"points": []}, {"points": [1]}, {"points": [{"step": 0, "inferred": [[1], [1, 2]]}]}),
        *({"draws": "table", "runs": {}}, {"draws": [], "runs": {}}, {"draws": "space", "runs": [1]}),
        *({"draws": "table", "table": [["a", "b"], ["c"]]}, {"draws": "points", "points": [{"remedy": "a"}]}),
        *({"draws": "course", "runs": {"a": [{"step": 1}]}}, {"points": [{"step": "x", "inferred": [[1.0]]}]}),
    ],
)
def test_a_file_that_holds_no_means_says_so(tmp_path: Path, said: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="holds no reproduction that can be drawn"):
        find([tmp_path / "a.json"])


def test_a_heat_map_keeps_the_units_of_most_rate_in_their_order(tmp_path: Path) -> None:
    (run,) = find([make_run(tmp_path / "run", units=100)]).runs
    heat = figures.heat(run, "k")
    assert heat is not None
    last = run.snapshots[-1].rate
    assert [int(row) for row in heat.rows] == sorted(np.argsort(-last)[:64].tolist())
    assert [row[-1] for row in heat.cells] == pytest.approx(last[[int(row) for row in heat.rows]])
    assert heat.caption.startswith("The 36 units of the least rate")


def test_a_curve_of_text_spans_its_values() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""
    assert len(sparkline(list(range(100)))) == 24


@pytest.mark.parametrize(("n", "most"), [(5, 5), (6, 5), (100, 7), (2, 60)])
def test_what_is_spaced_holds_both_ends_once(n: int, most: int) -> None:
    kept = spaced(range(n), most)
    assert len(kept) == len(set(kept)) == min(n, most)
    assert (kept[0], kept[-1]) == (0, n - 1)


def test_figures_for_papers_are_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = make_run(tmp_path / "run", "aggressive$x$")
    for out in ("a", "b"):
        assert main(["report", str(run), "--figures", str(tmp_path / out)]) == 0
    there = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(there) == 2 * (4 + 2 + 1 + 1)
    assert "means-aggressive-x-seed-0.pdf" in there
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in there)


# The file.


def test_the_same_folders_give_the_same_bytes(tmp_path: Path) -> None:
    cmp = make_comparison(tmp_path / "cmp", examples=EXAMPLES)
    assert html(made(cmp)) == html(made(cmp))
    assert markdown(made(cmp)) == markdown(made(cmp))


def test_one_file_fetches_nothing_and_is_small(tmp_path: Path) -> None:
    page = html(made(make_comparison(tmp_path / "cmp", steps=range(0, 8000, 100), items=500, units=32)))
    assert len(page.encode()) < 4e6
    assert Texts(page).fetched == ["data:,"]
    assert "default-src 'none'" in page


def test_two_hundred_runs_are_one_page_of_less_than_8_megabytes(tmp_path: Path) -> None:
    one = make_run(tmp_path / "0", steps=range(0, 1000, 50), items=500, units=32)
    for seed in range(1, 200):
        shutil.copytree(one, tmp_path / str(seed))
        (tmp_path / str(seed) / "spec.yaml").write_text(json.dumps({"training": {}, "seed": seed}))
    said = made(*(tmp_path / str(seed) for seed in range(200)))
    assert said.headline == "All 200 runs: healthy"
    assert len(said.films) == len(said.heats) == 200
    assert {(len(film.steps), len(film.frames[0][0].x)) for film in said.films} == {(6, 66)}
    assert len(html(said).encode()) < 8e6


def test_text_from_data_shows_as_text(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", f"a{TAGS}{EVIL}", verdict=f"healthy: {TAGS}{EVIL}", examples=EXAMPLES)
    page = html(made(run))
    texts = Texts(page)
    assert texts.scripts == 3  # data, Plotly, ours
    assert texts.said.count(TAGS) >= 5
    assert SEEN in texts.said
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", page)
    assert "<script>alert" not in page


def test_numbers_for_the_page_end_no_element_and_are_the_same_every_day() -> None:
    assert as_json({"a": "</script><!--&"}) == r'{"a":"\u003c/script\u003e\u003c!--\u0026"}'
    pytest.importorskip("plotly")
    packed = b64decode(_plotly())
    assert packed[4:8] == bytes(4)  # The time in gzip's header.
    assert b"plotly.js" in gzip.decompress(packed)[:200]


def test_markdown_takes_nothing_of_a_text_for_its_own(tmp_path: Path) -> None:
    said = markdown(made(make_run(tmp_path / "run", f"a{TAGS}", examples=EXAMPLES)))
    assert "<script>" not in said
    assert r"out \| \`code\`" in said
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", said)


def test_markdown_says_what_the_page_says(tmp_path: Path) -> None:
    said = markdown(made(make_comparison(tmp_path / "cmp", examples=EXAMPLES)))
    for part in ("40.00 ± 0.10", "seeds ± 0.20", "uncollapse compare", "@misc{he2019", "From the prior", "▁"):
        assert part in said


# Foreign, damaged, half-written.


def cut_short(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:-40])


def written(name: str, text: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text(text) and None


LEFT_OUT: dict[str, Callable[[Path], Any]] = {
    "missing": shutil.rmtree,
    "foreign": lambda run: [path.unlink() for path in run.glob("*.*")],
    "a file": lambda run: [shutil.rmtree(run), run.write_text("x")],
    "begun": lambda run: (run / "environment.json").unlink(),
    "spec of something else": written("spec.yaml", "a: 1"),
    "spec no YAML": written("spec.yaml", "a: [1"),
    "spec no mapping": written("spec.yaml", "[1, 2]"),
    "environment cut": cut_short("environment.json"),
    "environment foreign": written("environment.json", "[]"),
}
WITHOUT_A_PART: dict[str, Callable[[Path], Any]] = {
    "evaluation cut": cut_short("evaluation-test-k100-s0.json"),
    "evaluation a list": written("evaluation-test-k100-s0.json", "[]"),
    "log damaged": lambda run: (run / "metrics.jsonl").write_bytes(
        b"\xff\x00 no json\n" + (run / "metrics.jsonl").read_bytes()
    ),
    "snapshot cut": cut_short("probe/step-00000100.safetensors"),
    "examples cut": written("examples.json", '{"samples": ["a'),
}


@pytest.mark.parametrize("case", [*LEFT_OUT, *WITHOUT_A_PART])
def test_what_cannot_be_read_is_one_line_and_the_others_are_there(tmp_path: Path, case: str) -> None:
    bad, good = make_run(tmp_path / "bad"), make_run(tmp_path / "good", seed=1)
    (LEFT_OUT | WITHOUT_A_PART)[case](bad)
    said = made(bad, good)
    assert len(said.runs.rows) == (1 if case in LEFT_OUT else 2)
    (remark,) = said.remarks
    assert str(bad) in remark
    assert "\n" not in remark
    assert remark in Texts(html(said)).said


def test_a_log_whose_last_line_is_being_written_is_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"kind": "epo')
    assert made(run).remarks == []


def test_where_nothing_can_be_shown_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no run folder `.*a`\. Nor can the 1 others be shown\."):
        find([tmp_path / "a", tmp_path / "b"])


def test_a_comparison_without_cells_and_a_cell_without_a_run_say_so(tmp_path: Path) -> None:
    cmp = make_comparison(tmp_path / "cmp")
    shutil.rmtree(cmp / "cells" / "plain-seed1")
    (cmp / "cells" / "plain-seed1.log").write_text("no luck")
    (remark,) = made(cmp).remarks
    assert "plain-seed1` holds no run" in remark
    shutil.rmtree(cmp / "cells")
    with pytest.raises(InputError, match="a comparison without cells"):
        find([cmp])


def spoilt(said: Any, chance: random.Random) -> Any:
    """The same JSON with one value somewhere in it replaced."""
    if isinstance(said, dict) and said and chance.random() < 0.9:
        key = chance.choice(sorted(said))
        return {**said, key: spoilt(said[key], chance)}
    if isinstance(said, list) and said and chance.random() < 0.9:
        i = chance.randrange(len(said))
        return [*said[:i], spoilt(said[i], chance), *said[i + 1 :]]
    return chance.choice(VALUES)


@pytest.mark.parametrize("number", range(60))
def test_no_value_in_a_file_stops_the_others(tmp_path: Path, number: int) -> None:
    chance = random.Random(number)
    good, cmp = make_run(tmp_path / "good"), make_comparison(tmp_path / "cmp", ("plain", "beta"), examples=EXAMPLES)
    for path in [*cmp.rglob("*.json"), *cmp.rglob("spec.yaml")]:
        if chance.random() < 0.4:
            said = folders.run.read_spec(path.parent) if path.suffix == ".yaml" else json.loads(path.read_text())
            path.write_text(json.dumps(spoilt(spoilt(said, chance), chance)))
    log = cmp / "cells" / "plain-seed0" / "metrics.jsonl"
    log.write_text(
        "".join(json.dumps(spoilt(json.loads(line), chance)) + "\n" for line in log.read_text().splitlines())
    )
    said = made(good, cmp)
    assert any(row[0].title == str(good) for row in said.runs.rows)
    html(said).encode()
    markdown(said).encode()


# The commands.


def test_a_report_is_replaced_and_no_other_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(make_run(tmp_path / "run")), tmp_path / "report.html"
    for _ in range(2):
        assert main(["report", run, "-o", str(out)]) == 0
    assert main(["report", run, "-o", str(out), "--format", "md"]) == 0
    assert out.read_text().startswith("<!-- A report of uncollapse. -->\n# ✓ Healthy")
    out.write_text("mine")
    assert main(["report", run, "-o", str(out)]) == 2
    assert "stays as it is" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_show_sends_a_terminal_nothing_to_obey(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", f"a{EVIL}", verdict=f"healthy: {EVIL}", examples=EXAMPLES)
    with redirect_stdout(Screen()) as screen:
        assert main(["show", str(run)]) == 0
    assert SEEN in screen.getvalue()
    assert screen.obeys() == []


def test_show_says_the_verdict_the_figures_and_the_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(make_run(tmp_path / "run"))]) == 0
    said = capsys.readouterr().out
    assert said.startswith("✓ Healthy: 4 of 4 units active")
    assert re.search(r"^−ELBO, nats/item +plain, seed 0 +50\.00 +█▆▃▁ +47\.00$", said, re.M)
