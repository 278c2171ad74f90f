"""Recommendations: what counts as evidence, what is first, and that every number is that of its document."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from test_cli import SET, write_text
from uncollapse.cli import main
from uncollapse.data.kinds import KINDS
from uncollapse.diagnosis.findings import Diagnosis, Finding, Next
from uncollapse.errors import InputError
from uncollapse.experiment import recommend as evidence
from uncollapse.experiment.catalogue import chosen
from uncollapse.experiment.compose import compose
from uncollapse.experiment.recommend import Row, Study, recommend, studies

ROOT = Path(__file__).resolve().parents[1]


def study(seeds: int, measure: str = "nll", **rows: dict) -> Study:
    made = {name: Row(**row) for name, row in rows.items()}
    return Study(data=["text"], says="a set", source="docs/x.md", seeds=seeds, measure=measure, rows=made)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Study]:
    found: list[Study] = []
    monkeypatch.setattr(evidence, "studies", lambda: dict(enumerate(found)))
    return found


@pytest.mark.parametrize("name", studies())
def test_evidence_is_of_remedies_and_data_that_there_are_and_stands_in_its_document(name: str) -> None:
    one = studies()[name]
    text = (ROOT / one.source).read_text("utf-8")
    assert set(one.data) <= KINDS.keys()
    for remedy, row in one.rows.items():
        chosen([remedy])
        for value in (row.nll or [])[:1]:
            assert re.search(rf"{abs(value):.2f}", text), (remedy, value)


def test_first_is_the_lowest_nll_and_several_seeds_go_before_one(told: list[Study]) -> None:
    told += [
        study(3, plain={"mi": 0.0}, aggressive={"nll": [-0.1, 0.01], "mi": 1.0}, beta={"nll": [-0.2, 0.2], "mi": 0.5}),
        study(1, anneal={"nll": [-9.0, 0.1], "mi": 1.0}, aggressive={"nll": [5.0, 0.1], "mi": 0.0}),
    ]
    found = recommend("text")
    assert [one.remedy for one in found.first] == ["beta", "aggressive", "anneal"]
    assert found.first[1].evidence == [
        "NLL -0.10 ± 0.01 nats to plain, MI 1.00 (plain 0.00) nats: a set, 3 seeds (docs/x.md)",
        "NLL +5.00 ± 0.10 nats to plain, MI 0.00 nats: a set, one seed (docs/x.md)",
    ]
    assert (found.verdict, found.next, found.found_wanting) == ("", Next(), [])


def test_what_costs_nll_or_says_no_more_than_plain_is_found_wanting(told: list[Study]) -> None:
    told.append(
        study(
            3,
            plain={"mi": 1.0},
            anneal={"nll": [0.3, 0.1], "mi": 4.0},  # Beyond two errors.
            beta={"nll": [0.3, 0.2], "mi": 4.0},
            aggressive={"nll": [-0.01, 0.1], "mi": 1.05},
            skip={"nll": [-0.3, 0.1], "mi": 0.5},
            **{"language-model": {"nll": [-3.0, 0.1]}},
        )
    )
    found = recommend("text")
    assert [one.remedy for one in found.first] == ["skip", "beta"]
    assert [one.remedy for one in found.found_wanting] == ["anneal", "aggressive"]


def test_where_plain_training_collapses_a_lower_nll_without_z_is_no_remedy(told: list[Study]) -> None:
    lower = {"nll": [-0.3, 0.05]}
    rows = {"vampprior": {**lower, "mi": 0.0}, "skip": {**lower, "mi": 0.5}, "anneal": lower}
    told.append(study(3, plain={"mi": 0.0}, **rows))
    assert [one.remedy for one in recommend("text").first] == ["skip", "anneal"]
    told[0] = study(3, plain={"mi": 2.0}, **rows)
    assert len(recommend("text").first) == 3


def test_of_tasks_it_is_the_accuracy_that_counts(told: list[Study]) -> None:
    told.append(study(1, "accuracy", anneal={"accuracy": 0.3}, beta={"accuracy": 0.7}, aggressive={"accuracy": 0.8}))
    assert [one.remedy for one in recommend("text").first] == ["aggressive", "beta"]


def test_what_was_tried_is_not_named_and_a_diagnosis_comes_first(told: list[Study]) -> None:
    told.append(study(3, aggressive={"mi": 1.0}, beta={"mi": 1.0}))
    bad = Finding("use", 0.0, None, "z is not used", "decides", advice="Do this.", command="uncollapse it")
    diagnosis = Diagnosis("model collapse", "z is of no use", [bad])
    found = recommend("text", ["beta"], diagnosis)
    assert [one.remedy for one in found.first] == ["aggressive"]
    assert (found.verdict, found.next) == ("model collapse: z is of no use", Next("Do this.", "uncollapse it"))


def test_without_evidence_it_says_so() -> None:
    with pytest.raises(InputError, match=r"nothing was measured on data of the kind `vectors`; .*compare vectors"):
        recommend("vectors")


def test_the_recommended_remedy_of_text_is_one_of_those_that_are_tried_first() -> None:
    (name,) = chosen(["recommended"])
    assert name in [one.remedy for one in recommend("text").first]
    assert compose("text", ["recommended"]) == compose("text", [name])


def test_the_command_names_each_with_its_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "text"]) == 0
    said = capsys.readouterr().out
    assert "1. aggressive+anneal: uncollapse fit text --with aggressive+anneal\n   NLL -0.27 ± 0.03" in said
    assert main(["recommend", "text", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["first"][0]["remedy"] == "aggressive+anneal"
    assert main(["recommend", "vectors"]) == 2


def test_a_run_is_diagnosed_first_and_plain_training_says_where_to_ask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(tmp_path / "a.txt", 60)
    run = tmp_path / "run"
    assert main(["fit", "text", "--train", str(tmp_path / "a.txt"), "--out", str(run), "--samples", "3", *SET]) == 0
    assert (
        f"uncollapse recommend {run}, for what to try first; of text that is --with recommended"
        in capsys.readouterr().out
    )
    assert main(["recommend", str(run)]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0].split(":")[0] in ("model collapse", "collapsed", "under-trained", "inference collapse")
    assert "Try first, of what was measured on data of this kind:" in said
    again = next(line for line in said.splitlines() if line.startswith("1. ")).partition(": ")[2]
    assert f"--train {tmp_path / 'a.txt'} " in again
    assert main([*shlex.split(again)[1:], "--out", str(tmp_path / "again"), "--samples", "1", "--quiet"]) == 0


def test_a_command_leaves_out_the_settings_that_its_remedy_does_not_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(tmp_path / "a.txt", 60)
    run, fit = str(tmp_path / "run"), ["fit", "text", "--train", str(tmp_path / "a.txt"), "--samples", "1", *SET]
    own = ["--with", "minimum-rate", "--set", "training.objective.terms.minimum-rate.target=3 nats/item"]
    assert main([*fit, *own, "--set", "training.clip=2.5", "--out", run]) == 0
    capsys.readouterr()
    assert main(["recommend", run]) == 0
    again = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines() if line[1:3] == ". "]
    assert len(again) == 3
    for i, command in enumerate(again):
        assert "minimum-rate" not in command
        assert "training.clip=2.5" in command
        last = ["--set", "training.max_epochs=1", "--out", str(tmp_path / f"again{i}"), "--samples", "0", "--quiet"]
        assert main([*shlex.split(command)[1:], *last]) == 0
