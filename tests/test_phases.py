"""Phases of a training: who steps in which, that a run goes on within any of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import uncollapse as uc
from test_arae import model
from test_resume import at, die
from test_trainer import Killed
from uncollapse.errors import InputError
from uncollapse.nets.critics import LatentCritic
from uncollapse.terms.adversarial import WassersteinPrior
from uncollapse.training.checkpoints import Checkpoints
from uncollapse.training.phases import Phase, Phases
from uncollapse.training.trainer import Trainer

CODES, OUTLINES, DECODER = ["inference", "generation"], ["generator", "gan-critic"], ["generation"]


def phases() -> Phases:
    # Named out of order.
    return Phases({"c": Phase(DECODER), "a": Phase(CODES, 3), "b": Phase(OUTLINES, 4)})


def trainer(folder: Path | None = None, epochs: int = 2, **settings: Any) -> Trainer:
    torch.manual_seed(0)
    data = [torch.randn(6, 5) for _ in range(5)]
    objective = uc.Objective({**uc.Objective().terms, "gan": WassersteinPrior(LatentCritic(3, hidden=[8]), steps=2)})
    kept = {"checkpoints": Checkpoints(folder), "checkpoint_seconds": 0.0} if folder else {}
    return Trainer(
        model(),
        data,
        data[:2],
        objective=objective,
        procedure=phases(),
        max_epochs=epochs,
        selects="last",
        **kept,
        **settings,
    )


def weights(run: Trainer) -> dict[str, list[Tensor]]:
    return {name: [p.detach().clone() for p in player.parameters] for name, player in run.players.items()}


def moved(before: dict[str, list[Tensor]], after: dict[str, list[Tensor]]) -> set[str]:
    return {name for name in before if not all(map(torch.equal, before[name], after[name]))}


def test_each_phase_moves_its_own_players_and_nobody_else() -> None:
    run = trainer()
    descent, procedure, seen = run.loop.descent, run.loop.procedure, []
    for step in range(9):
        before = weights(run)
        procedure(descent, descent.batch(step % 5))
        seen.append(moved(before, weights(run)))
        descent.standing.step += 1
    assert seen == [set(CODES)] * 3 + [set(OUTLINES)] * 4 + [set(DECODER)] * 2


def test_whoever_rests_has_no_gradient_computed_and_is_awake_again_afterwards() -> None:
    run = trainer()
    asked: list[bool] = []
    encoder = run.model.encoder.net.weight
    run.model.encoder.register_forward_pre_hook(lambda *_: asked.append(encoder.requires_grad))
    run.loop.descent.standing.step = 8
    run.loop.procedure(run.loop.descent, run.loop.descent.batch(0))
    assert asked == [False]  # Once: no critic looked.
    assert encoder.requires_grad


def test_a_phase_of_codes_alone_has_no_pass_of_the_decoder() -> None:
    run, passes = trainer(), []
    run.model.decoder.register_forward_hook(lambda *_: passes.append(1))  # pyright: ignore[reportAttributeAccessIssue]
    for terms, expected in ((None, 1), (["gan"], 0), (["gan", "distortion"], 1)):
        procedure = Phases({"a": Phase(["generator"], terms=terms)})
        loss = procedure(run.descent, run.descent.batch(0))
        assert len(passes) == expected
        assert set(loss.parts) == set(terms or run.descent.terms)
        passes.clear()
    with pytest.raises(InputError, match="Did you mean `gan`"):
        Phases({"a": Phase(["generator"], terms=["gam"])})(run.descent, run.descent.batch(0))


@pytest.mark.parametrize("stop", [2, 5, 8])
def test_a_run_goes_on_within_any_phase_as_if_it_had_not_been_stopped(tmp_path: Path, stop: int) -> None:
    whole = trainer(tmp_path / "whole")
    whole.fit()

    with pytest.raises(Killed):
        trainer(tmp_path / "halves", listeners=[at("step", stop, die)]).fit()
    again = trainer(tmp_path / "halves")
    again.fit()
    for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_phases_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="there is no phase: name one"):
        Phases({})
    with pytest.raises(InputError, match="the phase `a` has no end, and is not the last: give it a `length`"):
        Phases({"a": Phase(CODES), "b": Phase(DECODER)})
    run = trainer()
    run.loop.procedure.procedure.phases["c"].players.append("decoder")  # pyright: ignore
    with pytest.raises(InputError, match=r"unknown player `decoder`\. There is: gan-critic, generation"):
        run.loop.procedure(run.loop.descent, run.loop.descent.batch(0))
