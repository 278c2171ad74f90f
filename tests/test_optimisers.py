"""Optimisers: torch's, by name and number, and their memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from uncollapse.errors import InputError
from uncollapse.training.optimisers import (
    OPTIMISERS,
    SGD,
    Adadelta,
    Adam,
    AdamW,
    Optimiser,
    RMSprop,
    TorchOptimiser,
)
from uncollapse.training.players import Learner, Player

EACH: dict[str, Optimiser] = {
    "sgd": SGD(0.1),
    "momentum": SGD(0.1, momentum=0.9),
    "nesterov": SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": Adam(0.1, beta1=0.5),
    "adamw": AdamW(0.1),
    "adadelta": Adadelta(),
    "rmsprop": RMSprop(0.1, momentum=0.5, centered=True),
    **{
        name: TorchOptimiser(name, 0.1)
        for name in ("NAdam", "RAdam", "Adamax", "Adagrad", "ASGD", "Rprop", "Adafactor")
    },
}


def player(optimiser: Optimiser) -> Player:
    torch.manual_seed(3)
    return Player(Learner(nn.Linear(3, 2)), optimiser)


def stepped(who: Player, steps: Iterable[int]) -> list[Tensor]:
    for step in steps:
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        who.module(x).square().mean().backward()
        who.step()
        who.forget_gradients()
    return [p.detach().clone() for p in who.parameters]


@pytest.mark.parametrize("name", EACH)
def test_an_optimiser_goes_on_exactly_from_its_memory(name: str) -> None:
    whole, first, second = (player(EACH[name]) for _ in range(3))
    expected = stepped(whole, range(6))
    stepped(first, range(3))
    second.module.load_state_dict(first.module.state_dict())
    second.recall(first.memory(), first.step_size, 1.0)
    assert all(map(torch.equal, stepped(second, range(3, 6)), expected))


@dataclass(frozen=True)
class Counting:
    """An optimiser that counts in plain numbers."""

    learning_rate: float = 1.0
    factor: float = 1.0

    def over(self, parameters: Iterable[Tensor], scale: float = 1.0) -> torch.optim.Optimizer:
        return Counter(parameters, {"lr": scale})


class Counter(torch.optim.Optimizer):
    def step(self, closure: Any = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            state["count"], state["mean"] = state.get("count", 0) + 1, state.get("mean", 0.25) / 2
            parameter.data += state["count"] * state["mean"]


def test_plain_numbers_that_an_optimiser_remembers_come_back_as_such() -> None:
    first, second = player(Counting()), player(Counting())
    stepped(first, range(3))
    second.recall(first.memory(), 1.0, 1.0)
    assert second.steps is not None
    assert second.steps.state[second.parameters[0]] == {"count": 3, "mean": 0.25 / 8}


@pytest.mark.parametrize(
    ("optimiser", "same"),
    [
        (SGD(0.1, momentum=0.9, nesterov=True), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True)),
        (Adam(0.05, 2.0), lambda p: torch.optim.Adam(p, 0.1)),
        (AdamW(0.1), lambda p: torch.optim.AdamW(p, 0.1)),
        (Adadelta(), torch.optim.Adadelta),
        (RMSprop(0.1, smoothing=0.9), lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.9)),
        (TorchOptimiser("NAdam", 0.1, options={"betas": [0.5, 0.9]}), lambda p: torch.optim.NAdam(p, 0.1, (0.5, 0.9))),
    ],
)
def test_an_optimiser_steps_as_torchs_with_the_same_numbers(optimiser: Optimiser, same: Any) -> None:
    ours, theirs = player(optimiser), player(SGD())
    theirs.steps = same(theirs.parameters)
    for a, b in zip(stepped(ours, range(4)), stepped(theirs, range(4)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_steps_are_fused_where_torch_can(kind: str) -> None:
    steps = player(OPTIMISERS[kind]()).steps
    assert steps is not None
    assert steps.defaults["fused"]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("Adm", {}, r"unknown optimiser of `torch.optim` `Adm`. Did you mean `Adam`\? There is: ASGD, Adadelta"),
        ("Optimizer", {}, "unknown optimiser"),
        ("LBFGS", {}, "unknown optimiser"),
        ("__doc__", {}, "unknown optimiser"),
        ("NAdam", {"momentum": 1}, "unknown option of `torch.optim.NAdam` `momentum`"),
        ("NAdam", {"lr": 1}, "unknown option of `torch.optim.NAdam` `lr`"),
        ("NAdam", {"betas": [2.0, 0.9]}, "`torch.optim.NAdam` does not take these options: Invalid beta"),
        ("NAdam", {"betas": 3}, "`torch.optim.NAdam` does not take these options: "),
    ],
)
def test_what_torch_does_not_have_or_take_is_refused_in_a_line(name: str, options: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        TorchOptimiser(name, options=json.loads(json.dumps(options)))
    assert "\n" not in str(error.value)


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(InputError, match="`nesterov` needs a momentum"):
        SGD(nesterov=True)


def test_a_learning_rate_that_is_set_counts_times_its_factor_and_the_scale_of_the_decays() -> None:
    who = player(SGD(0.1, factor=2.0))
    assert (who.learning_rate, who.factor, who.step_size) == (0.1, 2.0, 0.2)
    who.renew(0.5)
    who.learning_rate = 0.6
    assert (who.learning_rate, who.step_size) == (0.6, 0.6)
