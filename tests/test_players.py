"""Players that terms bring: multipliers, critics, and terms with memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import uncollapse as uc
from ranks import together
from test_trainer import Killed, data, kill_at, small, weights
from uncollapse.bound import Bound
from uncollapse.processes import ALONE, Processes
from uncollapse.training.checkpoints import Checkpoints
from uncollapse.training.descent import Descent
from uncollapse.training.optimisers import SGD, Adam
from uncollapse.training.players import Learner
from uncollapse.training.procedures import Adversarial, Aggressive, Joint
from uncollapse.training.trainer import Trainer


class Multiplier(nn.Module):
    """lambda (rate - target), which climbs to where the rate is the target."""

    def __init__(self, target: float = 0.5, optimiser: Any = None, clip: float | None = None) -> None:
        super().__init__()
        self.target, self.optimiser, self.clip = target, optimiser or SGD(0.01), clip
        self.number = nn.ParameterList([torch.ones(1)])

    def forward(self, bound: Bound) -> Tensor:
        return self.number[0].squeeze() * (bound.rate.mean() - self.target)

    def players(self) -> dict[str, Learner]:
        return {"multiplier": Learner(self.number, self.optimiser, ascends=True, clip=self.clip)}


class Judge(nn.Module):
    """The model pushes z to where a critic, which learns to tell it from the prior, is unsure."""

    def __init__(self, steps: int = 2) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.steps, self.critic = steps, nn.Linear(2, 1)
        self.seen: list[Tensor] = []
        self.grads: list[bool] = []

    def forward(self, bound: Bound) -> Tensor:
        self.grads.append(self.critic.weight.requires_grad)
        return self.critic(bound.z).mean()

    def opposition(self, bound: Bound) -> Tensor:
        self.seen.append(bound.x)
        self.grads.append(bound.z.requires_grad)
        return -self.critic(bound.z).mean() + self.critic(torch.randn_like(bound.z)).square().mean()

    def players(self) -> dict[str, Learner]:
        return {"critic": Learner(self.critic, SGD(0.1))}


class Memory(nn.Module):
    """A moving average of the rate by unit, which it charges again."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, bound: Bound) -> Tensor:
        return (self.mean * bound.kl.mean(0)).sum()

    def update(self, bound: Bound) -> None:
        self.mean.mul_(0.9).add_(bound.kl.mean(0), alpha=0.1)


def objective(**terms: Any) -> uc.Objective:
    return uc.Objective({**uc.Objective().terms, **terms})


def trainer(folder: Path | None = None, *listeners: Any, procedure: Any = None, **settings: Any) -> Trainer:
    asked = {"objective": objective(aim=Multiplier(), judge=Judge(), memory=Memory()), "max_epochs": 3, **settings}
    kept = {"checkpoints": Checkpoints(folder), "checkpoint_seconds": 0.0, "listeners": listeners}
    return Trainer(small(), data(), data()[:3], procedure=procedure, **kept, **asked)


def tensors(run: Trainer) -> dict[str, Tensor]:
    return {**run.model.state_dict(), **{f"objective.{k}": v for k, v in run.objective.state_dict().items()}}


def test_a_term_brings_players_that_are_named_after_it() -> None:
    assert list(trainer().players) == ["inference", "generation", "aim-multiplier", "judge-critic"]


def test_a_multiplier_climbs_what_the_model_descends() -> None:
    term = Multiplier()
    descent = Descent(small(), data(), objective=objective(aim=term))
    loss = descent.loss(data()[0])
    before, slope = term.number[0].item(), loss.parts["rate"].item() - term.target
    descent.descend(loss, *descent.partners)
    assert term.number[0].item() == pytest.approx(before + 0.01 * slope, rel=1e-5)


@pytest.mark.parametrize(("clip", "step"), [(None, 100.0), (0.5, 0.5)])
def test_what_a_term_brings_stays_out_of_the_models_norm(clip: float | None, step: float) -> None:
    moved = []
    for target in (-100.0, 0.0):
        torch.manual_seed(2)
        term, model = Multiplier(target, SGD(1.0), clip), small()
        sgd = {name: SGD(1.0) for name in ("inference", "generation")}
        descent = Descent(model, data(), objective=objective(aim=term), optimisers=sgd, clip=0.01)
        before = [p.detach().clone() for p in model.parameters()]
        loss = descent.loss(data()[0])
        norms = descent.descend(loss, *descent.partners)
        assert list(norms) == ["inference", "generation"]
        moved.append(
            float(
                torch.cat([(a - b).flatten() for a, b in zip(before, model.parameters(), strict=True)]).norm().detach()
            )
        )
        if target:
            assert term.number[0].item() - 1 == pytest.approx(step, rel=0.05)
    assert moved == pytest.approx([0.01, 0.01], rel=1e-3)


@pytest.mark.parametrize("procedure", [Joint(), Aggressive(budget=3), Aggressive(budget=3, clip="own")])
def test_a_multiplier_steps_once_an_outer_step_with_the_decoder(procedure: Any) -> None:
    run = trainer(objective=objective(aim=Multiplier()), procedure=procedure, max_epochs=1)
    count, player = [], run.players["aim-multiplier"]
    step = player.step
    player.step = lambda: (count.append(run.step), step())[1]  # pyright: ignore[reportAttributeAccessIssue]
    run.fit()
    assert count == list(range(12))


@pytest.mark.parametrize("procedure", [Joint(), Aggressive(budget=3), Aggressive(budget=3, clip="own")])
def test_a_critic_learns_alone_before_each_outer_step_and_rests_within_it(procedure: Any) -> None:
    term = Judge(steps=2)
    descent = Descent(small(), data(), objective=objective(judge=term))
    models, critics = ([p.clone() for p in module.parameters()] for module in (descent.model, term))
    x = data()[5]
    within: list[bool] = []

    class Inner(Joint):
        def __call__(self, play: Any, x: Tensor) -> Any:
            # The critic has learnt, the model has not moved.
            within.extend(map(torch.equal, models, descent.model.parameters()))
            within.extend(not torch.equal(a, b) for a, b in zip(critics, term.parameters(), strict=True))
            critics[:] = [p.clone() for p in term.parameters()]
            return procedure(play, x)

    Adversarial(Inner(), "judge")(descent, x)
    assert all(within)
    assert all(map(torch.equal, critics, term.parameters()))
    assert not any(map(torch.equal, models, descent.model.parameters()))
    assert torch.equal(term.seen[0], x)
    assert len(term.seen) == 2
    assert not torch.equal(term.seen[1], x)
    assert not any(term.grads)
    assert term.critic.weight.requires_grad


def test_a_trainer_surrounds_its_procedure_for_each_critic() -> None:
    run = trainer(objective=objective(a=Judge(), b=Judge()), procedure=Aggressive())
    procedure: Any = run.loop.procedure
    assert (procedure.term, procedure.procedure.term) == ("b", "a")
    assert procedure.memory() == Aggressive().memory()
    assert procedure.decides_by == "mi"


def test_a_term_with_memory_hears_the_bound_once_an_outer_step() -> None:
    term = Memory()
    descent = Descent(small(), data(), objective=objective(memory=term))
    Aggressive(budget=3)(descent, data()[0])  # pyright: ignore[reportArgumentType]
    assert term.mean.sum() == 0
    descent.update_terms()
    first = term.mean.clone()
    assert (first > 0).all()
    descent.update_terms()
    assert torch.equal(first, term.mean)


@pytest.mark.parametrize("procedure", [Joint, lambda: Aggressive(window=2)])
@pytest.mark.parametrize("step", [5, 12, 17])
def test_a_run_with_players_of_terms_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path, procedure: Any, step: int
) -> None:
    whole = trainer(None, procedure=procedure())
    whole.fit()
    with pytest.raises(Killed):
        trainer(tmp_path, kill_at(step), procedure=procedure()).fit()
    again = trainer(tmp_path, procedure=procedure())
    again.fit()
    mine = tensors(again)
    assert "objective.learned.memory.mean" in mine
    assert all(torch.equal(value, mine[name]) for name, value in tensors(whole).items())


def test_several_processes_train_terms_that_learn_as_one_does() -> None:
    one = trained(ALONE, {})
    for settings in ({}, {"sharded": True}):
        first, second = together(trained, settings, ranks=2)
        assert all(torch.equal(first[name], second[name]) for name in first if name.startswith("objective"))
        for name, value in one.items():
            if name.startswith("objective"):
                torch.testing.assert_close(first[name], value, atol=1e-5, rtol=1e-5)
    first = together(trained, {}, ranks=9)[8]  # More than there are items in a batch.
    torch.testing.assert_close(first["objective.learned.memory.mean"], one["objective.learned.memory.mean"])


def trained(processes: Processes, settings: dict[str, Any]) -> dict[str, Tensor]:
    # By plain steps: Adam makes much of little.
    rates = {name: SGD(0.01) for name in ("inference", "generation")}
    asked = {"aim": Multiplier(), "judge": Judge(), "memory": Memory()}
    run = trainer(max_epochs=1, processes=processes, optimisers=rates, objective=objective(**asked), **settings)
    run.fit()
    return tensors(run)


def test_an_optimiser_may_be_of_a_terms_player() -> None:
    run = trainer(optimisers={"judge-critic": Adam(0.5)})
    assert run.players["judge-critic"].step_size == 0.5
    with pytest.raises(uc.InputError, match=r"unknown player `judge`\. .*There is: aim-multiplier, generation, infer"):
        trainer(optimisers={"judge": Adam()})


class Unowned(Judge):
    def players(self) -> dict[str, Learner]:
        return {}


class Twice(Judge):
    def players(self) -> dict[str, Learner]:
        return {"critic": Learner(self.critic), "again": Learner(self.critic)}


class Outside:
    """A term that is no module."""

    def __init__(self) -> None:
        self.critic = nn.Linear(2, 1)

    def __call__(self, bound: Bound) -> Tensor:
        return self.critic(bound.z).mean()

    def players(self) -> dict[str, Learner]:
        return {"critic": Learner(self.critic)}


@pytest.mark.parametrize(
    ("term", "says"),
    [
        (Unowned(), r"`objective.learned.judge.critic.weight` would not be trained: name its module in the `players`"),
        (Twice(), r"`objective.learned.judge.critic.weight` is of the players `judge-critic` and `judge-again`"),
        (Outside(), r"`critic` of the term `judge` has parameters that no checkpoint would keep: make the term an"),
    ],
)
def test_a_terms_parameter_must_have_one_player_that_is_kept(term: Any, says: str) -> None:
    with pytest.raises(uc.InputError, match=says):
        trainer(objective=objective(judge=term))


def test_a_terms_parameter_that_is_not_finite_stops_training() -> None:
    run = trainer(objective=objective(judge=Judge()))
    with torch.no_grad():
        run.objective.terms["judge"].critic.bias.fill_(float("nan"))  # pyright: ignore
    with pytest.raises(uc.TrainingError, match=r"`learned.judge.critic.bias` became nan by step 0"):
        run.loop.watch.check()


class Whole(uc.VAE):
    """A model whose networks step as one."""

    undivided = "its encoder and decoder share parameters, so they step as one"

    def players(self) -> dict[str, nn.Module]:
        return {"all": nn.ModuleList([self.encoder, self.generation])}


def whole() -> uc.VAE:
    model = small()
    model.__class__ = Whole
    return model


def test_a_model_of_one_player_trains_jointly() -> None:
    run = Trainer(whole(), data(), data()[:3], objective=objective(aim=Multiplier()), max_epochs=1)
    before = weights(run)
    run.fit()
    assert not torch.equal(before, weights(run))


def test_a_model_of_one_player_refuses_aggressive_training_with_its_reason() -> None:
    run = Trainer(whole(), data(), data()[:3], procedure=Aggressive())
    says = r"needs a player `inference`, and the model's are: all\. Its encoder and decoder share parameters, so they"
    with pytest.raises(uc.InputError, match=says):
        run.fit()


def test_a_dial_moves_a_learning_rate_times_the_decays(tmp_path: Path) -> None:
    dials = {"optimisers.inference.learning_rate": uc.Linear(0.0, 0.1, 10)}
    run = trainer(dials=dials, max_epochs=1)
    found: list[float] = []
    run.loop.listeners = [lambda moment: found.append(run.players["inference"].step_size)]
    for player in run.players.values():
        player.renew(0.5)
    run.fit()
    assert found[1:4] == pytest.approx([0.005, 0.01, 0.015])
    assert run.players["generation"].step_size == 0.0005


def test_dials_on_a_learning_rate_and_on_its_factor_multiply() -> None:
    rate = {"optimisers.generation.learning_rate": uc.Constant(0.1)}
    factor = {"optimisers.generation.factor": uc.Linear(0.1, 1.0, 1, hold=2)}
    for dials, expected in ((factor, 1e-3), (rate, 0.1), (rate | factor, 0.1), (factor | rate, 0.1)):
        run = trainer(dials=dials, max_epochs=1)
        found: list[float] = []
        run.loop.listeners = [lambda moment, run=run, found=found: found.append(run.players["generation"].step_size)]
        run.fit()
        start = 0.1 if "optimisers.generation.factor" in dials else 1.0
        assert found[1:5] == pytest.approx([start * expected] * 2 + [expected] * 2)


def test_a_dial_on_a_learning_rate_that_is_not_there_says_so() -> None:
    with pytest.raises(uc.InputError, match=r"`optimisers.decoder.learning_rate` leads nowhere: there is no `decoder`"):
        trainer(dials={"optimisers.decoder.learning_rate": uc.Constant(0.1)})


class Dialled(nn.Module):
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(1.0))

    def forward(self, bound: Bound) -> Tensor:
        return self.weight * bound.rate.mean()


def test_a_dial_fills_a_tensor_of_no_dimension() -> None:
    term = Dialled()
    kept = term.weight
    trainer(objective=objective(more=term), dials={"objective.terms.more.weight": uc.Constant(0.25)})
    assert kept is term.weight
    assert kept.item() == 0.25
