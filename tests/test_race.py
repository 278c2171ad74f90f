"""A race: the rule by which a cell is far behind, that it is stopped then, and that it is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from test_cli import SET, write_text
from test_compare import FIT, figures
from uncollapse.cli import main
from uncollapse.experiment import compare
from uncollapse.experiment.engines import cells
from uncollapse.experiment.race import bounds, hopeless


def log(path: Path, values: list[float], se: float = 0.5) -> Path:
    lines = [
        {"kind": "epoch", "step": 10 * i, "epoch": i, "neg_elbo": {"value": value, "se": se}}
        for i, value in enumerate(values, 1)
    ]
    path.write_text('{"kind": "window", "step": 1, "epoch": 0}\n' + "".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_the_bounds_of_a_log_are_those_of_its_validations(tmp_path: Path) -> None:
    path = log(tmp_path / "log", [3.0, 2.0])
    path.write_text(
        path.read_text() + '{"kind": "epoch", "neg_elbo": {"unavailable": "no density"}}\n{"kind": "epoch", "neg'
    )
    assert bounds(path) == [(3.0, 0.5), (2.0, 0.5)]
    assert bounds(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("mine", "plain", "grace", "stopped"),
    [
        ([40, 40, 40], [30, 30, 30], 3, True),
        ([40, 40, 40], [30, 30, 30], 4, False),  # Within the grace.
        ([40, 40], [30, 30, 30], 3, False),
        ([32.4, 40, 40], [30, 30, 30], 3, False),  # The best counts, 2.4 behind at 5 x 0.5.
        ([32.6, 40, 40], [30, 30, 30], 3, True),
        ([40, 40, 40], [39, 39, 39, 30], 3, False),  # At the same epoch: plain's later one does not count yet.
        ([40, 40, 40], [], 1, False),
        ([], [30], 1, False),
    ],
)
def test_a_cell_is_hopeless_where_its_best_bound_is_five_errors_behind(
    tmp_path: Path, mine: list[float], plain: list[float], grace: int, stopped: bool
) -> None:
    why = hopeless(log(tmp_path / "mine", mine), log(tmp_path / "plain", plain), grace)
    assert (why is not None) is stopped


def test_the_reason_names_the_numbers(tmp_path: Path) -> None:
    assert hopeless(log(tmp_path / "mine", [40, 41]), log(tmp_path / "plain", [30, 29]), 2) == (
        "stopped by --race: after 2 epochs its best validation −ELBO, 40.00, is 11.00 nats above plain's, more than 5 "
        "standard errors (0.50)"
    )


SLOW = """#!/bin/bash
for word; do
  [ "$before" = --with ] && remedy=$word
  [ "$before" = --out ] && out=$word
  before=$word
done
mkdir -p "$out"; here=$(dirname "$0")
echo x >> "$here/begun-$remedy"
cp "$here/log-$remedy" "$out/metrics.jsonl"
if [ "$remedy" = beta ]; then trap "exit 143" TERM; while true; do sleep 0.05; done; fi
cp "$here"/figures/* "$out"
"""


def test_a_cell_that_falls_behind_is_ended_named_and_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "figures").mkdir()
    figures(tmp_path / "figures")
    for name, value in (("plain", 30.0), ("beta", 40.0), ("anneal", 30.5)):
        log(tmp_path / f"log-{name}", [value] * 4)
    program = tmp_path / "python"
    program.write_text(SLOW)
    program.chmod(0o755)
    monkeypatch.setattr(cells.sys, "executable", str(program))
    monkeypatch.setattr(compare, "_LOOK", 0.02)
    for jobs in (3, 1):  # With one job it waits at first.
        rows = compare.run(FIT, ["plain", "anneal", "beta"], [0], tmp_path / "out", jobs=jobs, samples=5, race=4).rows
        said = {row["remedy"]: row.get("absent", "") for row in rows}
        assert said["beta"].startswith("stopped by --race: after 4 epochs")
        assert said["plain"] == said["anneal"] == ""
    assert (tmp_path / "begun-beta").read_text() == "x\n"
    table = (tmp_path / "out" / "comparison.json").read_text()
    assert "stopped by --race" in table


def test_without_plain_there_is_nothing_to_race_against(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = str(write_text(tmp_path / "a.txt", 40))
    asked = [
        "compare",
        "text",
        "--train",
        text,
        "--remedies",
        "beta",
        *SET,
        "--race",
        "3",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(asked) == 2
    assert "`--race` holds cells against plain training: add `plain` to `--remedies`." in capsys.readouterr().err
