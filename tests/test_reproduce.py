"""Published figures and tables made again: what there is, that it builds, and what a miniature comes to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from test_cli import VALUES, ask, write_text
from uncollapse.cli import main
from uncollapse.cli.options import Options
from uncollapse.cli.reproducing import asked, specs_of
from uncollapse.data.kinds import KINDS
from uncollapse.errors import InputError
from uncollapse.experiment import build, catalogue, course, execute, reproduce
from uncollapse.experiment.api import load
from uncollapse.experiment.execute import subset
from uncollapse.experiment.spec import Spec
from uncollapse.metrics.mean_space import MeanSpace, mean_space
from uncollapse.training.listeners import Moment

SMALL = tuple(value for value in VALUES if "latent" not in value)
MINIATURE = """
cite: he2019
entries:
  space: &one
    source: Figure 2
    says: It shows this.
    compared: that
    draws: space
    small: &small {recipe: demo, remedies: [plain], settings: [%s], samples: 3, cost: seconds, departs: it is tiny}
    paper: *small
  trajectory: {<<: *one, draws: trajectory}
  course: {<<: *one, draws: course}
  table: {<<: *one, draws: table, published: {columns: [nll, kl, time], Set: {plain: [31.0 (0.5), 0.0, 1.0]}}}
  points: {<<: *one, draws: points}
  evaluations: {<<: *one, draws: evaluations}
  samples: {<<: *one, draws: samples, small: {<<: *small, recipe: text, folder: samples}}
"""


def specs(name: str, size: Any) -> dict[str, Spec]:
    entry = reproduce.named(name)
    files = KINDS[catalogue.recipes()[entry.at(size).recipe].spec["data"]["kind"]].files
    word, options = asked(entry, size, Path("a.txt") if files else None)
    return specs_of(word, options, entry.at(size))


@pytest.mark.parametrize("size", ["small", "paper"])
@pytest.mark.parametrize("name", reproduce.reproductions())
def test_every_run_of_every_reproduction_builds_at_both_scales(name: str, size: Any) -> None:
    found = specs(name, size)
    assert len(found) == len(reproduce.named(name).at(size).remedies)
    assert len({spec.model_dump_json() for spec in found.values()}) == len(found)
    for spec in found.values():
        assert spec.data is not None
        of_images = {"shape": (1, 8, 8) if size == "small" else (1, 28, 28)}
        facts = of_images if spec.data.kind in ("digits", "images") else {"vocabulary": 1000, "words": None}
        assert build.parameters(spec, facts) > 0


def test_the_scale_of_the_paper_is_its_recipe_as_it_stands() -> None:
    for remedy, spec in specs("he2019/figure2", "paper").items():
        composed = catalogue.recipes()["he2019-synthetic"].spec["training"]
        assert spec.training.max_epochs == composed["max_epochs"] == 50, remedy
    budgets = specs("he2019/table4", "paper")
    assert [spec.training.procedure.budget for spec in budgets.values()] == [10, 30, 50, 70, None]
    assert {spec.training.procedure.until.estimator for spec in budgets.values()} == {"published"}


def test_small_tables_can_be_of_a_text_of_ones_own() -> None:
    entry = reproduce.named("he2019/table10")
    word, options = asked(entry, "small", Path("mine.txt"), ("training.max_epochs=3",))
    spec = specs_of(word, options, entry.at("small"))["encoder-rate-6"]
    assert spec.data is not None
    assert (spec.data.kind, Path(spec.data.train).name, spec.data.items) == ("text", "mine.txt", 5000)
    assert spec.training.optimisers["inference"].factor == 6
    assert spec.training.max_epochs == 3


def test_published_numbers_are_of_the_runs_of_the_paper_and_as_many_as_columns() -> None:
    for entry in reproduce.reproductions().values():
        columns, paper = entry.published.get("columns", []), entry.paper
        for rows in (rows for data, rows in entry.published.items() if data != "columns"):
            assert rows.keys() <= set(paper.remedies)
            assert all(len(row) in (len(columns), 1) for row in rows.values())


def test_what_departs_from_the_source_says_so() -> None:
    assert all(entry.small.departs for entry in reproduce.reproductions().values())


@pytest.mark.parametrize(
    ("name", "size", "data", "said"),
    [
        ("he2019/table2", "paper", None, "files of yours: give `--data FILE`"),
        ("he2019/table2", "small", Path("a.npz"), "has data of its own"),
        ("he2019/table1", "paper", None, "give `--data FILE`"),
        ("he2019/figure2", "small", Path("a.txt"), "has data of its own"),
        ("he2019/figur2", "small", None, "Did you mean `he2019/figure2`"),
    ],
)
def test_what_cannot_be_made_is_said_with_what_to_do(name: str, size: Any, data: Path | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        asked(reproduce.named(name), size, data)


def test_a_text_that_is_divided_has_no_other_files() -> None:
    text = Path("a.txt")
    with pytest.raises(InputError, match="divides its text itself: leave out `--valid`"):
        asked(reproduce.named("outlines/table6"), "small", text, test=text)
    with pytest.raises(InputError, match="has data of its own: leave out `--valid`"):
        asked(reproduce.named("he2019/table1"), "small", None, valid=text)
    _, options = asked(reproduce.named("he2019/table1"), "paper", text, valid=text, test=text)
    assert (options.train, options.valid, options.test) == (text, text, text)


# A course.


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "a.txt", 200)


@pytest.fixture(scope="module")
def run(text: Path) -> Path:
    options = Options(train=text, recipe="he2019-synthetic", overrides=SMALL)
    return reproduce.watched(options.spec("text", ["plain"], 0), "mini", "plain", text.parent)


def test_a_course_has_what_is_due(run: Path) -> None:
    steps = {name: [record["step"] for record in course.records(run, name)] for name in course.SCHEDULE}
    last = steps["trajectory"][-1]
    assert steps["space"] == [0, last]
    assert steps["trajectory"] == [*range(last + 1), last]
    assert steps["information"] == [0, last // 2, last, last]
    assert [len(record["true"]) for record in course.records(run, "trajectory")] == [course.FEW] * (last + 2)


def test_the_end_of_a_course_is_the_space_of_the_runs_weights(run: Path) -> None:
    spec = Options(train=run.parent / "a.txt", recipe="he2019-synthetic", overrides=SMALL).spec("text", ["plain"], 0)
    found = mean_space(load(run).model, subset(build.data(spec).batches("valid"), 500))
    assert isinstance(found, MeanSpace)
    end = course.records(run, "space")[-1]
    assert end["items"] == found.items.tolist()
    torch.testing.assert_close(torch.tensor(end["true"], dtype=torch.float64), found.true, rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.tensor(end["inferred"], dtype=torch.float64), found.inferred, rtol=0, atol=1e-6)


def test_a_training_that_is_watched_is_the_one_that_is_not(run: Path, tmp_path: Path) -> None:
    spec = Options(train=run.parent / "a.txt", recipe="he2019-synthetic", overrides=SMALL).spec("text", ["plain"], 0)
    execute.train(spec, tmp_path / "run", {})
    alone, seen = (load(path).model.state_dict() for path in (tmp_path / "run", run))
    assert all(torch.equal(alone[name], value) for name, value in seen.items())


@pytest.mark.parametrize(
    ("moment", "names"),
    [
        (Moment("start", 0, 0, {}), ["space", "trajectory", "information"]),
        (Moment("step", 200, 0, {}), ["space", "trajectory", "information"]),
        (Moment("step", 201, 0, {}), []),
        (Moment("step", 220, 0, {}), ["trajectory"]),
        (Moment("step", 2000, 1, {}), ["space", "trajectory", "information"]),
        (Moment("step", 2100, 2, {}), []),
        (Moment("window", 200, 0, {}), []),
        (Moment("epoch", 2001, 2, {}), ["trajectory", "information"]),
        (Moment("end", 2001, 2, {}), ["space", "trajectory", "information"]),
    ],
)
def test_measures_are_due_at_these_moments(moment: Moment, names: list[str]) -> None:
    assert course.due(moment) == names


def test_what_a_run_has_measured_it_does_not_measure_again(tmp_path: Path) -> None:
    class Batches:
        pass

    heard = course.Course.__new__(course.Course)
    heard.folder = tmp_path
    counted: list[str] = []

    class Found:
        def to_json(self) -> dict[str, Any]:
            counted.append("measured")
            return {}

    heard.measures = dict.fromkeys(course.SCHEDULE, Found)
    heard(Moment("step", 100, 0, {}))
    heard(Moment("step", 100, 0, {}))
    assert len(counted) == 2


def test_a_trajectory_follows_the_item_that_ends_farthest_out() -> None:
    kept = [
        {"step": 0, "items": [3, 7], "true": [[0.0], [0.0]], "inferred": [[0.0], [0.1]]},
        {"step": 1, "items": [3, 7], "true": [[0.5], [-2.0]], "inferred": [[0.2], [0.3]]},
        {"step": 1, "items": [3, 7], "true": [[9.0], [0.0]], "inferred": [[0.0], [0.0]]},
    ]
    found = reproduce._trajectory(kept)
    assert found["item"] == 7
    assert [(one["true"], one["inferred"]) for one in found["steps"]] == [([0.0], [0.1]), ([-2.0], [0.3])]


def test_of_many_units_information_alone_is_kept(text: Path, tmp_path: Path) -> None:
    overrides = (*SMALL, "model.latent=3", "training.max_epochs=1")
    spec = Options(train=text, recipe="he2019-synthetic", overrides=overrides).spec("text", ["plain"], 0)
    runs = {"plain": reproduce.watched(spec, "mini", "plain", tmp_path)}
    assert len(reproduce.of_course("course", runs)["runs"]["plain"]) == 3
    with pytest.raises(InputError, match="more than two latent units"):
        reproduce.of_course("space", runs)


# The command, on a registry in miniature.


@pytest.fixture(scope="module")
def miniature(text: Path) -> Iterator[Path]:
    """A folder of results; reproductions share their runs in it."""
    registry = text.parent / "registry"
    registry.mkdir()
    (registry / "mini.yaml").write_text(MINIATURE % ", ".join((*SMALL, "model.latent=2")))
    before = reproduce.REGISTRY
    reproduce.REGISTRY = registry  # pyright: ignore[reportAttributeAccessIssue]
    reproduce.reproductions.cache_clear()
    yield text.parent / "out"
    reproduce.REGISTRY = before
    reproduce.reproductions.cache_clear()


@pytest.mark.parametrize("draws", reproduce.Draws.__args__)
def test_a_miniature_is_told_and_kept(
    draws: str, miniature: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", f"mini/{draws}", "--data", text, "--out", miniature]
    told = ask(capsys, *arguments)
    kept = json.loads((miniature / "small" / f"mini-{draws}.json").read_text())
    labels = [line.split("  ")[0] for line in told.split("\n\n")[0].splitlines() if not line.startswith(" ")]
    cost = [] if draws in reproduce.WATCHED else ["cost"]
    assert labels == ["Figure 2", "compared", "departs", "settings", *cost, "source"]
    assert "It shows this." in told
    assert "training.max_epochs=2" in told
    assert "\nplain " in told
    assert kept["draws"] == draws
    assert json.loads(ask(capsys, *arguments, "--json")) == kept
    runs = kept.get("runs") or kept.get("rows") or kept.get("points")
    assert len(runs) == (4 if draws == "samples" else 1)  # Three ways to draw, and real text.


def test_a_card_holds_ours_against_what_was_published(
    miniature: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "mini/table", "--data", text, "--out", miniature]
    told = ask(capsys, *arguments)
    assert "No difference to a published figure is taken" in told
    assert "hours of a processor, at the scale `small`" in told
    found = json.loads(ask(capsys, *arguments, "--as", "Set", "--json"))
    (row,), card = found["rows"], found["card"]
    assert card[0] == ["training", "figure", "published, Set", "here", "from Set, in sd"]
    assert [line[:3] for line in card[1:]] == [
        ["plain", "NLL", "31 (0.5)"],
        ["plain", "KL", "0"],
        ["plain", "time", "1"],
    ]
    apart = (row["nll"]["value"] - 31) / math.hypot(0.5, 0.1 / math.sqrt(12))
    assert card[1][3:] == [f"{row['nll']['value']:.2f} ± {row['nll']['se']:.2f}", f"{apart:+.1f}"]
    assert card[3][3:] == ["1.00", "+0.0"]
    assert main([str(one) for one in (*arguments, "--as", "Sat")]) == 2
    assert "Did you mean `Set`" in capsys.readouterr().err


def test_evaluations_differ_by_their_draws_alone(
    miniature: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ask(capsys, "reproduce", "mini/evaluations", "--data", text, "--out", miniature, "--json")
    found = json.loads(told)["runs"]["plain"]
    assert found["nll"]["n"] == reproduce.EVALUATIONS
    assert 0 < found["nll"]["variance"] < 0.1
    assert found["kl"]["variance"] == 0


def test_what_there_is_is_listed(miniature: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ask(capsys, "reproduce").splitlines()
    assert [line.split()[0] for line in lines[1:]] == [f"mini/{d}" for d in reproduce.Draws.__args__]
    listed = json.loads(ask(capsys, "reproduce", "--json"))
    assert listed[0]["cite"]["year"] == 2019
    assert main(["reproduce", "mini/other"]) == 2
