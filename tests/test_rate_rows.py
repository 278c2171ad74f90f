"""Remedies that weigh, target and hold the rate: what they share with the model, and what moves in training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from test_build import corpus_file, small, trainer_of  # noqa: F401  (fixtures)
from uncollapse.experiment.spec import Spec

MEMORIES = ["controlled-rate", "geco", "minimum-rate", "minimum-rate-dual", "soft-free-bits"]
SHORT = ("training.max_epochs=1",)
Small = Callable[..., Spec]


@pytest.mark.parametrize("remedy", MEMORIES)
def test_its_memory_moves_with_training(small: Small, remedy: str) -> None:  # noqa: F811
    run = trainer_of(small(remedy, overrides=SHORT))
    before = {name: value.clone() for name, value in run.objective.state_dict().items()}
    run.fit()
    assert any(not torch.equal(value, before[name]) for name, value in run.objective.state_dict().items())


def test_floors_and_targets_are_shared_by_the_units_that_the_model_has(small: Small) -> None:  # noqa: F811
    terms = trainer_of(small("free-bits")).objective.terms
    assert vars(terms["rate"]) == {"floor": 8.0}
    terms = trainer_of(small("ha-bits")).objective.terms
    assert vars(terms["rate"]) == {"floor": 0.4}  # 0.2 for each of 2 units.


def test_annealing_weighs_what_free_bits_charge(small: Small) -> None:  # noqa: F811
    run = trainer_of(small("anneal+free-bits", overrides=SHORT))
    loss = run.descent.loss(run.descent.train[0])
    weight = run.objective.weights["rate"]
    assert weight < 0.2
    assert loss.parts["rate"].item() == pytest.approx(8.0)
    torch.testing.assert_close(loss.total, loss.parts["distortion"] + weight * loss.parts["rate"])


def test_annealing_leaves_a_minimum_rates_multiplier_as_it_is(small: Small) -> None:  # noqa: F811
    run = trainer_of(small("anneal+minimum-rate", overrides=SHORT))
    assert run.objective.weights["minimum-rate"] == 1.0
    assert run.objective.weights["rate"] < 0.2


def test_a_dial_moves_the_capacity(small: Small) -> None:  # noqa: F811
    run = trainer_of(small("capacity", overrides=SHORT))
    capacity = run.objective.terms["rate"]
    assert capacity.capacity == pytest.approx(25 / (10 * len(run.descent.train)))  # pyright: ignore
    run.loop.turn_dials(10**6)
    assert capacity.capacity == 25.0  # pyright: ignore


def test_a_learning_rate_restarts_with_every_cycle(small: Small) -> None:  # noqa: F811
    run = trainer_of(small("cyclical-restarts"))
    period, players, found = 10 * len(run.descent.train), run.players.values(), []
    for step in (0, period // 2, period - 1, period):
        run.loop.turn_dials(step)
        found.append([player.learning_rate for player in players])
    torch.testing.assert_close(found, [[1e-3] * 2, [5e-4] * 2, [0.0] * 2, [1e-3] * 2], atol=1e-5, rtol=0)
