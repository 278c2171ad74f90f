"""Dials: schedules, durations, and what a path turns."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from uncollapse.dials import Constant, Linear, turn
from uncollapse.errors import InputError
from uncollapse.quantities import steps


@pytest.mark.parametrize(("step", "value"), [(0, 0.1000288), (15624, 0.55), (31249, 1.0), (99999, 1.0)])
def test_linear_moves_before_use_as_he_et_al(step: int, value: float) -> None:  # T24: N = 100,000, B = 32
    assert Linear(0.1, 1.0, 31250)(step) == pytest.approx(value, abs=1e-9)


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
