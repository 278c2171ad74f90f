"""Dials: schedules, durations, and what a path turns."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from uncollapse.dials import (
    Constant,
    Cosine,
    Cyclical,
    Exponential,
    Linear,
    Saturating,
    Sigmoid,
    resolved,
    turn,
)
from uncollapse.errors import InputError
from uncollapse.quantities import steps


@pytest.mark.parametrize(("step", "value"), [(0, 0.1000288), (15624, 0.55), (31249, 1.0), (99999, 1.0)])
def test_linear_moves_before_use_as_he_et_al(step: int, value: float) -> None:  # T24: N = 100,000, B = 32
    assert Linear(0.1, 1.0, 31250)(step) == pytest.approx(value, abs=1e-9)


def test_linear_waits_at_its_start_where_it_is_held() -> None:
    held, free = Linear(0.1, 1.0, 40, hold=10), Linear(0.1, 1.0, 40)

    assert [held(step) for step in range(10)] == [0.1] * 10
    assert [held(step) for step in range(10, 60)] == [free(step) for step in range(50)]


@pytest.mark.parametrize(("step", "value"), [(10_000, 0.0), (25_000, 0.1), (40_000, 0.2), (99_999, 0.2)])
def test_linear_climbs_to_its_cap_after_a_hold(step: int, value: float) -> None:  # T38: 1 / 150,000 a step, up to 0.2
    assert Linear(0.0, 0.2, 30_000, hold=10_000)(step) == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(("step", "value"), [(0, 0.0), (10_000, 0.316060), (30_000, 0.475106)])
def test_saturating_comes_ever_closer(step: int, value: float) -> None:  # T27: lambda_m = 0.5, r = 1e-4
    assert Saturating(0.0, 0.5, 10_000)(step) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("step", [0, 1, 500, 999, 1000, 5000])
def test_exponential_grows_at_a_rate_up_to_its_end(step: int) -> None:
    growth = math.log(0.5 / 0.01) / 1000

    assert Exponential(0.01, 0.5, 1000)(step) == pytest.approx(min(0.5, 0.01 * math.exp(growth * step)))


@pytest.mark.parametrize(
    ("step", "value"), [(0, 0.001927), (1000, 0.022977), (2500, 0.5), (4000, 0.977023), (5000, 0.998073)]
)
def test_sigmoid_is_the_logistic_function(step: int, value: float) -> None:  # T25: k = 0.0025, x0 = 2500
    assert Sigmoid(0.0, 1.0, 2500, 400)(step) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("step", [0, 10**15])
def test_sigmoid_overflows_at_no_step(step: int) -> None:
    assert Sigmoid(0.0, 1.0, 10**12, 1)(step) == (step > 0)


@pytest.mark.parametrize(
    ("period", "step", "value"),
    [(10_000, t, v) for t, v in [(0, 0), (1250, 0.25), (2500, 0.5), (5000, 1), (9999, 1), (10_000, 0), (12_500, 0.5)]]
    + [(25, t, v) for t, v in [(0, 0), (5, 0.4), (12, 0.96), (13, 1), (24, 1), (25, 0), (30, 0.4), (37, 0.96)]],
)
def test_cyclical_climbs_in_every_period(period: int, step: int, value: float) -> None:  # T26, B25
    assert Cyclical(0.0, 1.0, period)(step) == pytest.approx(value)


def test_cyclical_climbs_after_its_hold_and_ends_with_its_last_cycle() -> None:
    cycle = Cyclical(0.1, 1.0, 100, ramp=0.25, hold=0.5, cycles=2)

    assert [cycle(step) for step in (0, 50, 75, 99, 100, 150)] == pytest.approx([0.1, 0.1, 1.0, 1.0, 0.1, 0.1])
    assert cycle(175) == cycle(200) == cycle(275) == 1.0


def test_a_cycle_that_does_not_fit_its_period_is_refused() -> None:
    with pytest.raises(InputError, match=r"a `hold` of 0\.6 and a `ramp` of 0\.5 are more than a period"):
        Cyclical(0.0, 1.0, 100, ramp=0.5, hold=0.6)


def test_cosine_falls_in_every_period() -> None:
    fall = Cosine(0.4, 100, stop=0.2)

    assert [fall(step) for step in (0, 50, 100, 150)] == pytest.approx([0.4, 0.3, 0.4, 0.3])
    assert fall(99) == pytest.approx(0.2, abs=1e-3)
    assert all(fall(step) > fall(step + 1) for step in range(99))


def test_constant_is_constant() -> None:
    assert Constant(0.4)(0) == Constant(0.4)(10**6) == 0.4


@pytest.mark.parametrize(
    ("duration", "expected"),
    [(7, 7), ("500 steps", 500), ("10 epochs", 1000), ("0.5 epochs", 50), ("1 epoch", 100)],
)
def test_durations_are_counted_in_steps(duration: int | str, expected: int) -> None:
    assert steps(duration, steps_per_epoch=100) == expected


def test_a_text_that_is_no_duration_says_what_one_is() -> None:
    with pytest.raises(InputError, match="`ten epochs` is no duration"):
        steps("ten epochs", 100)


@pytest.mark.parametrize("duration", ["0 steps", "0 epochs", "0.0 epochs", 0, -3])
def test_a_duration_has_a_length(duration: int | str) -> None:
    with pytest.raises(InputError, match=r"no length|no duration"):
        steps(duration, 100)


def test_a_schedule_in_epochs_must_be_resolved_first() -> None:
    with pytest.raises(InputError, match="call `resolved` first"):
        Linear(0.0, 1.0, "10 epochs")(0)
    assert Linear(0.0, 1.0, "10 epochs").resolved(5) == Linear(0.0, 1.0, 50)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (Linear(0.0, 1.0, 7, hold="2 epochs"), Linear(0.0, 1.0, 7, hold=10)),
        (Exponential(0.1, 1.0, "2 epochs"), Exponential(0.1, 1.0, 10)),
        (Saturating(0.1, 1.0, "2 epochs"), Saturating(0.1, 1.0, 10)),
        (Sigmoid(0.0, 1.0, 7, "2 epochs"), Sigmoid(0.0, 1.0, 7, 10)),
        (Cyclical(0.0, 1.0, "2 epochs"), Cyclical(0.0, 1.0, 10)),
        (Cosine(0.1, "2 epochs"), Cosine(0.1, 10)),
    ],
)
def test_every_length_of_every_schedule_is_resolved(said: Any, meant: Any) -> None:
    with pytest.raises(InputError, match='the length "2 epochs" of a schedule is not in steps yet'):
        said(0)
    assert resolved(said, 5) == meant


def test_turn_reaches_attributes_and_entries() -> None:
    root = SimpleNamespace(objective=SimpleNamespace(weights={"rate": 1.0}), model=SimpleNamespace(p=0.5))
    turn(root, "objective.weights.rate", 0.3)
    turn(root, "model.p", 0.25)
    assert (root.objective.weights["rate"], root.model.p) == (0.3, 0.25)


@pytest.mark.parametrize("path", ["objective.weights.kl", "nowhere.at.all", "objective.weights", "step"])
def test_a_path_that_leads_to_no_number_is_refused(path: str) -> None:
    root = SimpleNamespace(objective=SimpleNamespace(weights={"rate": 1.0}))
    with pytest.raises(InputError, match=path):
        turn(root, path, 0.3)
