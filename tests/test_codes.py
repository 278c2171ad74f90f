"""Where the codes of kindred items lie: which items are shown, and what of it a report makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from uncollapse.cli import main
from uncollapse.experiment.codes import largest, plane
from uncollapse.report.content import content
from uncollapse.report.folders import find


def test_the_largest_families_are_shown_and_each_name_once() -> None:
    family = [0, 1, 1, 2, 1, 2, 3, 1]
    names = ["a", "b", "c", "d", "b", "e", "f", "g"]
    assert largest(family, names) == [1, 2, 3, 5, 7]
    assert largest([0, 1, 2], ["a", "b", "c"]) == []


def test_codes_that_lie_apart_stay_apart() -> None:
    pytest.importorskip("sklearn")
    family = [i % 3 for i in range(30)]
    means = 50.0 * torch.eye(3)[family] + torch.randn(30, 3)
    found = plane(means, family, [str(i) for i in range(30)])

    assert found is not None
    points = torch.tensor(found["points"])
    apart = torch.cdist(points, points).fill_diagonal_(torch.inf).argmin(1)
    assert [family[i] for i in apart.tolist()] == family
    assert found == plane(means, family, [str(i) for i in range(30)])


def test_few_codes_and_no_codes_are_no_picture() -> None:
    assert plane(torch.randn(5, 2), [0] * 5, list("abcde")) is None
    assert plane(torch.empty(20, 0), [0] * 20, [str(i) for i in range(20)]) is None


@pytest.mark.parametrize(
    "damage", [{}, {"points": "x"}, {"points": [[1, "x"], 3], "families": [0, "y"], "names": [1, 2]}, []]
)
def test_a_report_shows_them_or_says_that_they_are_damaged(tmp_path: Path, damage: object) -> None:
    from test_inflection import FLAGS, lines, write

    pytest.importorskip("sklearn")
    file = write(tmp_path / "x.tsv", lines(120))
    fit = ["fit", "inflection", "--train", str(file), *FLAGS, "--set", "training.max_epochs=1", "--samples", "2"]
    assert main([*fit, "--quiet", "--out", str(tmp_path / "run")]) == 0

    (chart,) = content(find([tmp_path / "run"])).codes
    assert 2 <= len(chart.series) <= 10
    assert all(len(one.x) == len(one.y) == len(one.names) >= 2 for one in chart.series)

    (tmp_path / "run" / "codes.json").write_text(json.dumps(damage))
    assert content(find([tmp_path / "run"])).codes == []
