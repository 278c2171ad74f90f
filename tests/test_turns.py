"""Turns within a step: who descends what, the published algorithm by hand, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import uncollapse as uc
from test_arae import model
from uncollapse.errors import InputError
from uncollapse.nets.critics import LatentCritic
from uncollapse.terms.adversarial import WassersteinPrior
from uncollapse.training.optimisers import SGD
from uncollapse.training.trainer import Trainer
from uncollapse.training.turns import Turn, Turns

CODES, ITEMS = ["inference", "generator"], ["inference", "generation"]


def arae() -> Turns:
    # Named out of order.
    return Turns({"b": Turn(ITEMS), "a": Turn(CODES, ["gan"])})


def trainer(procedure: Turns, steps: int = 2) -> Trainer:
    torch.manual_seed(0)
    data = [torch.randn(6, 5) for _ in range(3)]
    gan = WassersteinPrior(LatentCritic(3, hidden=[8]), steps=steps, penalty=0.0, clip=0.5, share=0.5)
    objective = uc.Objective({**uc.Objective().terms, "gan": gan}, {"rate": 0.0})
    optimisers = {name: SGD(0.1) for name in ("inference", "generation", "generator", "gan-critic")}
    return Trainer(
        model(), data, data, objective=objective, procedure=procedure, optimisers=optimisers, clip=None, selects="last"
    )


def weights(run: Trainer) -> dict[str, list[Tensor]]:
    return {name: [p.detach().clone() for p in player.parameters] for name, player in run.players.items()}


def down(run: Trainer, loss: Tensor, *players: str) -> None:
    """A step of plain gradient descent of some players, at a rate of 0.1."""
    parameters = [p for name in players for p in run.players[name].parameters]
    for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        p.data -= 0.1 * gradient


def test_a_step_is_that_of_the_published_algorithm() -> None:
    one, other = trainer(arae(), steps=1), trainer(arae(), steps=1)
    x, term = one.descent.batch(0), other.objective.terms["gan"]
    for seed in (1, 2):
        torch.manual_seed(seed)
        one.loop.procedure(one.descent, x)

        torch.manual_seed(seed)
        vae: Any = other.model
        with torch.no_grad():
            bound = vae.latents(x)
        down(other, term.opposition(bound), "gan-critic")
        down(other, term(vae.latents(x)), *CODES)
        down(other, -vae(x).log_likelihood.mean(), *ITEMS)
    found, expected = weights(one), weights(other)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_a_turn_of_codes_alone_has_no_pass_of_the_decoder() -> None:
    run, passes = trainer(arae()), []
    run.model.decoder.register_forward_hook(lambda *_: passes.append(1))  # pyright: ignore[reportAttributeAccessIssue]
    loss = run.loop.procedure(run.descent, run.descent.batch(0))
    assert len(passes) == 1
    assert set(loss.parts) == {"gan", "distortion", "rate"}
    assert loss.total.item() == pytest.approx((loss.parts["gan"] + loss.parts["distortion"]).item())
    assert run.descent.window.sums["descents"] == 2 + 2  # The critic's, and two turns.


def test_the_same_term_is_never_descended_twice() -> None:
    with pytest.raises(InputError, match="`gan` is in two turns"):
        Turns({"a": Turn(CODES, ["gan"]), "b": Turn(ITEMS, ["gan"])})
    with pytest.raises(InputError, match="`a` and `b` both descend all the rest"):
        Turns({"a": Turn(CODES), "b": Turn(ITEMS)})
    with pytest.raises(InputError, match="there is no turn"):
        Turns({})


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ({"a": Turn(["gan-critic"], ["gan"]), "b": Turn(ITEMS)}, "unknown player `gan-critic`"),
        ({"a": Turn(["inferense"])}, "Did you mean `inference`"),
        ({"a": Turn(CODES, ["gam"]), "b": Turn(ITEMS)}, "Did you mean `gan`"),
        ({"a": Turn(CODES, ["gan", "distortion", "rate"]), "b": Turn(ITEMS)}, "there is no term to descend"),
        ({"a": Turn(CODES, []), "b": Turn(ITEMS)}, "there is no term to descend"),
        ({"a": Turn(CODES, ["gan"]), "b": Turn(ITEMS, ["distortion"])}, "no turn descends the term `rate`"),
    ],
)
def test_turns_name_what_is_there_and_leave_nothing_out(turns: dict[str, Turn], said: str) -> None:
    run = trainer(Turns(turns))
    with pytest.raises(InputError, match=said):
        run.loop.procedure(run.descent, run.descent.batch(0))
