"""Published figures beside ours: their differences in standard deviations, and the order of trainings."""

from __future__ import annotations

import math
from typing import Any

import pytest

from uncollapse.errors import InputError
from uncollapse.experiment.cards import Published, card, check, orders
from uncollapse.experiment.reproduce import reproductions

WAYS = ("plain", "anneal", "beta", "aggressive")


def figure(value: float, se: float | None = None) -> dict[str, Any]:
    return {"value": value, "se": se}


def found(published: dict[str, Any], **rows: list[float]) -> dict[str, Any]:
    """A comparison with NLLs of some seeds by training."""
    cells = [
        {"remedy": remedy, "seed": seed, "nll": figure(value, 0.7), "cpu_seconds": figure(60.0 * (seed + 1))}
        for remedy, values in rows.items()
        for seed, value in enumerate(values)
    ]
    return {"draws": "table", "published": {"columns": ["nll"], **published}, "rows": cells}


@pytest.mark.parametrize(
    ("said", "value", "sd", "width"),
    [
        ("329.0 (0.1)", 329.0, 0.1, 0.1),
        ("89.41 (0.04)", 89.41, 0.04, 0.01),
        (8, 8.0, None, 1.0),
        (0.02, 0.02, None, 0.01),
    ],
)
def test_a_figure_is_read_as_its_source_prints_it(
    said: float | str, value: float, sd: float | None, width: float
) -> None:
    assert Published.read(said) == Published(value, sd, pytest.approx(width / math.sqrt(12)))


@pytest.mark.parametrize("said", ["n/a", "1.0 ()", "1.0 (x)", "1.0 0.1", ""])
def test_what_is_no_figure_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="no published figure"):
        Published.read(said)


def test_all_that_is_published_can_be_read() -> None:
    for entry in reproductions().values():
        assert len(card({"draws": "table", "published": entry.published})) > 1 or not entry.published


def test_a_difference_is_in_standard_deviations_of_both() -> None:
    of = found({"A": {"plain": ["10.0 (3.0)"]}, "B": {"plain": ["9.0"]}}, plain=[10.0, 18.0, 14.0])
    # Ours: 14 with a deviation of 4.
    assert card(of, "A")[1] == ["plain", "NLL", "10 (3)", "9", "14.00 (4.00)", "+0.8"]
    assert card(of, "B")[1][-1] == "+1.2"  # 5 / 4
    one = found({"A": {"plain": ["10.0 (0.5)"]}}, plain=[9.0])
    # Of one run the error over items is no spread over trainings.
    assert card(one, "A")[1] == ["plain", "NLL", "10 (0.5)", "9.00 ± 0.70", "-2.0"]


def test_a_figure_without_spread_is_off_by_its_rounding_at_least() -> None:
    of = found({"A": {"plain": ["0.0 (0.0)"]}}, plain=[0.1])
    assert card(of, "A")[1][-1] == f"{math.sqrt(12):+.1f}"


def test_of_other_data_no_difference_is_taken_and_what_was_not_run_is_said() -> None:
    of = found({"A": {"plain": [10.0], "anneal": [9.0]}}, plain=[9.0])
    assert card(of) == [
        ["training", "figure", "published, A", "here"],
        ["plain", "NLL", "10", "9.00 ± 0.70"],
        ["anneal", "NLL", "9", "not run"],
    ]
    assert card(of, "A")[2][-1] == ""


def test_the_order_is_compared_where_there_are_enough_trainings() -> None:
    published = {"A": {name: [float(k)] for k, name in enumerate(WAYS)}}
    same = found(published, **{name: [10.0 + k] for k, name in enumerate(WAYS)})
    turned = found(published, **{name: [10.0 - k] for k, name in enumerate(WAYS)})
    assert orders(same) == [["rank correlation", "A"], ["NLL", "1.00 of 4"]]
    assert orders(turned)[1] == ["NLL", "-1.00 of 4"]
    assert orders(found(published, plain=[1.0], anneal=[2.0], beta=[3.0])) == [["rank correlation", "A"]]
    assert orders(found(published, **{name: [1.0] for name in WAYS})) == [["rank correlation", "A"]]


def test_times_are_relative_to_plain_trainings_of_the_same_seed() -> None:
    of = found({"A": {"plain": [1.0], "beta": [2.0]}}, plain=[1.0, 1.0], beta=[1.0])
    of["published"]["columns"] = ["time"]
    of["rows"][-1]["cpu_seconds"] = figure(180.0)
    assert [line[-2] for line in card(of, "A")[1:]] == ["1.00 (0.00)", "3.00"]


def test_scores_of_samples_are_found_by_how_they_were_drawn() -> None:
    rows = [
        {"remedy": "plain", "decoding": way, "fppl": figure(value), "rppl": {"reason": "none"}}
        for way, value in (("0.5", 20.0), ("beam", 10.0))
    ]
    columns = ["FPPL 0.5", "FPPL beam", "FPPL 1.0", "RPPL 0.5"]
    of = {"draws": "samples", "rows": rows, "published": {"columns": columns, "A": {"plain": [1.0, 2.0, None, 4.0]}}}
    assert [line[1:] for line in card(of)[1:]] == [
        ["FPPL 0.5", "1", "20.00"],
        ["FPPL beam", "2", "10.00"],
        ["RPPL 0.5", "4", "not run"],
    ]


def test_a_data_set_of_which_nothing_is_published_is_refused() -> None:
    check({}, None)
    check({"columns": [], "Yahoo": {}}, "Yahoo")
    with pytest.raises(InputError, match="Did you mean `Yahoo`"):
        check({"columns": [], "Yahoo": {}}, "Yaho")
