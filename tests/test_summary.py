"""Comparisons: means over seeds, and differences that are paired by item and by seed."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from uncollapse.experiment.summary import Comparison
from uncollapse.metrics.rows import Rows


def figure(value: float, se: float = 0.1, cap: float | None = None) -> dict[str, Any]:
    return {"value": value, "se": se, "n": 4, "unit": "nats/item", "cap": cap}


def cell(folder: Path, remedy: str, seed: int, nll: Tensor, seconds: float = 10.0) -> dict[str, Any]:
    n, name = len(nll), f"{remedy}{seed}"
    kl = torch.zeros(n, 1, dtype=torch.float64)
    batch, counts = torch.zeros(n), {"samples": 5, "bound_samples": 1, "seed": 0}
    rows = Rows(torch.arange(n), batch, nll + 1, kl, -nll, None, None, None, **counts)
    digest = rows.save(folder / f"{name}.safetensors")
    figures = {key: figure(2.0) for key in ("neg_elbo", "kl", "active_units")}
    return {
        **figures,
        "remedy": remedy,
        "seed": seed,
        "nll": figure(float(nll.mean())),
        "mi": figure(0.5, cap=math.log(n)),
        "seconds": figure(seconds),
        "cpu_seconds": figure(seconds),
        "verdict": "healthy: 3 of 4 units active",
        "folder": str(folder),
        "rows": name,
        "rows_digest": digest,
    }


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    base = torch.tensor([10.0, 20.0, 30.0, 40.0], dtype=torch.float64)
    change = torch.tensor([-1.0, -2.0, -1.0, -2.0], dtype=torch.float64)
    cells = [
        cell(tmp_path, "plain", 0, base),
        cell(tmp_path, "plain", 1, base + 3),
        cell(tmp_path, "aggressive", 0, base + change, seconds=30.0),
        cell(tmp_path, "aggressive", 1, base + 3 + change - 1, seconds=20.0),
    ]
    return Comparison([*cells, {"remedy": "anneal", "seed": 0, "error": "uncollapse: no memory"}])


def test_differences_are_paired_by_item_and_seed(comparison: Comparison) -> None:
    difference = comparison.difference("aggressive", "nll")
    assert difference is not None
    assert difference.value == pytest.approx(-2.0)  # -1.5 with seed 0, -2.5 with seed 1
    assert difference.over_items == pytest.approx(math.sqrt(1 / 3) / 2)  # far below the items' own spread of 13
    assert difference.over_seeds == pytest.approx(math.sqrt(0.5) / math.sqrt(2))
    assert difference.seeds == 2


def test_one_seed_has_no_error_over_seeds(tmp_path: Path) -> None:
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    two = Comparison([cell(tmp_path, "plain", 0, x), cell(tmp_path, "beta", 0, x + 1)])
    difference = two.difference("beta", "nll")
    assert difference is not None
    assert math.isnan(difference.over_seeds)
    assert str(difference) == "+1.00 (items ± 0.00)"


def test_the_table_has_means_and_deviations_over_seeds(comparison: Comparison) -> None:
    table = {row[0]: row for row in comparison.table()}
    assert table["plain"][2] == "26.50 (2.12)"
    assert table["plain"][5] == "0.50 (0.00)"
    assert dict(zip(comparison.table()[0], table["plain"], strict=True))["cap"] == f"{math.log(4):.2f}"


def test_a_figure_without_a_cap_has_an_empty_one(tmp_path: Path) -> None:
    one = cell(tmp_path, "plain", 0, torch.ones(3, dtype=torch.float64))
    header, line = Comparison([{**one, "mi": {"unavailable": "no law"}}]).table()
    assert dict(zip(header, line, strict=True)) == {**dict(zip(header, line, strict=True)), "MI": "n/a", "cap": ""}


def test_time_is_relative_to_plain_with_the_same_seed(comparison: Comparison) -> None:
    table = {row[0]: row for row in comparison.table()}
    assert (table["plain"][8], table["aggressive"][8]) == ("1.0×", "2.5×")


def test_a_failed_cell_is_shown_with_its_error(comparison: Comparison) -> None:
    assert comparison.table()[-1][-1] == "failed: uncollapse: no memory"


def test_a_remedy_without_plain_beside_it_has_no_difference(tmp_path: Path) -> None:
    alone = Comparison([cell(tmp_path, "beta", 0, torch.ones(3, dtype=torch.float64))])
    assert alone.difference("beta", "nll") is None
    assert alone.table()[1][8] == "10 s"
    assert len(alone.differences()) == 1


def test_every_figure_in_json_is_an_object(comparison: Comparison) -> None:
    row = comparison.to_json()["rows"][0]
    for name in ("nll", "neg_elbo", "kl", "mi", "active_units", "seconds"):
        assert row[name].keys() >= {"value", "se", "n", "unit", "cap"}
    assert row["verdict"].startswith("healthy")


def test_one_item_has_no_error_over_items(tmp_path: Path) -> None:
    one = torch.tensor([3.0], dtype=torch.float64)
    found = Comparison([cell(tmp_path, "plain", 0, one), cell(tmp_path, "beta", 0, one + 1)])
    assert found.differences()[1] == ["beta", "+1.00", "+1.00"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(found.difference("beta", "nll").over_items)  # pyright: ignore
