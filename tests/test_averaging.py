"""Averaged weights: when averaging begins, what the mean is, and that training goes on as if there were none."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import uncollapse as uc
from ranks import together
from test_players import Judge, objective
from test_trainer import Killed, data, kill_at, small, told, trainer, weights
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.processes import ALONE, Processes
from uncollapse.training.averaging import Average, Averaging
from uncollapse.training.checkpoints import Checkpoints
from uncollapse.training.events import Reset
from uncollapse.training.listeners import JSONLines, Moment
from uncollapse.training.optimisers import OPTIMISERS, SGD, Adam, TorchOptimiser
from uncollapse.training.plateau import Plateau
from uncollapse.training.players import Learner, Player
from uncollapse.training.procedures import Aggressive, Joint
from uncollapse.training.trainer import Trainer

#: At this rate the bound of `trainer` gets worse now and then, and averaging begins after the third epoch.
RATE, INTERVAL, EPOCHS = 0.3, 1, 8


def averaging(**settings: Any) -> dict[str, Any]:
    sgd = SGD(RATE, averaging=Averaging(INTERVAL))
    return {"optimisers": dict.fromkeys(("inference", "generation"), sgd), "max_epochs": EPOCHS, **settings}


# The rule.


@pytest.mark.parametrize(
    ("interval", "values", "begins"),
    [
        (2, [3.0, 2.0, 1.0, 1.5, 2.5], 4),  # The last two are not held against it: 2.5 is worse than 2.
        (2, [3.0, 2.0, 1.0, 1.5, 2.0], None),  # As good as the best is not worse.
        (2, [1.0, 2.0, 3.0], None),  # There is no epoch before the last two.
        (2, [1.0, 2.0, 3.0, 3.0], 3),
        (1, [1.0, 2.0], None),
        (1, [1.0, 2.0, 2.0], 2),
        (5, [1.0, 2.0, 2.0, 2.0, 2.0, 2.0], None),
        (5, [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], 6),
        (5, [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0], None),
    ],
)
def test_averaging_begins_after_the_epoch_that_is_worse_than_an_earlier_one(
    interval: int, values: list[float], begins: int | None
) -> None:
    average = Average([], interval)
    found = []
    for value in values:
        average.observe(value)
        found.append(average.on)

    assert found == [begins is not None and epoch >= begins for epoch in range(len(values))]


def test_the_rule_is_the_formula_at_every_epoch() -> None:
    draw = random.Random(0)
    begun = set()
    for _ in range(200):
        n, values = draw.randint(1, 5), [draw.randint(0, 20) - 2.0 * t for t in range(12)]
        average = Average([], n)
        for value in values:
            average.observe(value)
        first = [t for t in range(12) if any(values[t] > values[s] for s in range(t - n))]
        begun.add(first[0] if first else None)
        assert average.on == bool(first)
        assert len(average.values) == (first[0] + 1 if first else 12)
    assert len(begun) > 5


def test_without_an_interval_nothing_is_averaged() -> None:
    average = Average([torch.zeros(2)], None)
    for value in (1.0, 2.0, 3.0):
        average.observe(value)
        average.add()
    assert (average.on, average.count, average.memory()) == (False, 0, ({}, {"values": [], "on": False, "count": 0}))


# The mean.


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_mean_is_that_of_the_weights_after_each_step_since_it_began(float64: None, name: str) -> None:
    make: Any = OPTIMISERS[name] if name != "torch" else lambda **more: TorchOptimiser("NAdam", **more)
    player, raw = Player(Learner(nn.Linear(3, 2)), make(learning_rate=0.1, averaging=Averaging())), []
    for step in range(9):
        player.average.on = step >= 2
        player.module(torch.randn(5, 3)).square().mean().backward()
        player.step()
        player.forget_gradients()
        raw.append(torch.cat([p.detach().flatten() for p in player.parameters]))

    with player.average.shown():
        torch.testing.assert_close(nn.utils.parameters_to_vector(player.parameters), torch.stack(raw[2:]).mean(0))
    assert torch.equal(nn.utils.parameters_to_vector(player.parameters), raw[-1])
    assert not torch.allclose(torch.stack(raw[2:]).mean(0), raw[-1])


def test_on_a_noisy_quadratic_the_mean_is_as_near_the_minimum_as_theory_says(float64: None) -> None:
    r"""SGD with noise of variance 1 is :math:`\theta' = \rho \theta - \eta \xi`, :math:`\rho = 1 - \eta`."""
    torch.manual_seed(0)
    rate, steps, problems = 0.1, 800, 4000
    module = nn.ParameterList([torch.zeros(problems)])
    player = Player(Learner(module), SGD(rate, averaging=Averaging()))
    for step in range(steps + 100):
        player.average.on = step >= 100  # By then it has forgotten where it began.
        module[0].grad = module[0].detach() + torch.randn(problems)
        player.step()

    rho = 1 - rate
    last = rate**2 / (1 - rho**2)
    mean = last / steps * ((1 + rho) / (1 - rho) - 2 * rho * (1 - rho**steps) / (steps * (1 - rho) ** 2))
    assert module[0].square().mean().item() == pytest.approx(last, rel=0.1)
    with player.average.shown():
        assert module[0].square().mean().item() == pytest.approx(mean, rel=0.1)
    assert mean < last / 40


# In training.


class Story:
    """Hears of the weights after every step, and of those that each epoch is told of."""

    def __init__(self) -> None:
        self.raw: list[Tensor] = []
        self.told: list[Tensor] = []
        self.epochs: list[dict[str, Any]] = []
        self.run: Any = None

    def __call__(self, moment: Moment) -> None:
        if moment.kind == "step":
            self.raw.append(weights(self.run))
        if moment.kind == "epoch":
            self.told.append(weights(self.run))
            self.epochs.append(moment.values)

    @classmethod
    def of(cls, folder: Path | None = None, procedure: Any = None, **settings: Any) -> Story:
        story = cls()
        story.run = trainer(folder, procedure or Joint(), story, **averaging(plateau=None, **settings))
        story.run.fit()
        return story

    @property
    def begins(self) -> int:
        """The first epoch that steps with averaging."""
        values = [epoch["neg_elbo"]["value"] for epoch in self.epochs]
        return next(t for t in range(len(values)) if any(values[t] > values[s] for s in range(t - INTERVAL))) + 1


@pytest.mark.parametrize("procedure", [Joint, lambda: Aggressive(budget=2)])
def test_training_goes_on_as_if_nothing_were_averaged(procedure: Any) -> None:
    plain = {name: SGD(RATE) for name in ("inference", "generation")}
    with_means, without = Story.of(procedure=procedure()), Story.of(procedure=procedure(), optimisers=plain)

    assert all(map(torch.equal, with_means.raw, without.raw))
    assert "averaged" not in without.epochs[-1]


def test_an_epoch_is_validated_and_told_of_the_mean_since_averaging_began() -> None:
    story, steps = Story.of(), len(data())

    assert 1 < story.begins < EPOCHS - 2
    for epoch, (shown, values) in enumerate(zip(story.told, story.epochs, strict=True)):
        mean = torch.stack(story.raw[story.begins * steps : (epoch + 1) * steps] or [story.raw[-1]]).mean(0)
        expected = mean if epoch >= story.begins else story.raw[(epoch + 1) * steps - 1]
        torch.testing.assert_close(shown, expected, atol=1e-6, rtol=1e-5)
        assert values.get("averaged") == (["inference", "generation"] if epoch >= story.begins else None)
        assert validated_at(shown) == values["neg_elbo"]["value"]
    assert not torch.allclose(story.told[-1], story.raw[-1], atol=1e-3)


def validated_at(values: Tensor) -> float:
    model = small()
    nn.utils.vector_to_parameters(values, model.parameters())
    return Trainer(model, data(), data()[:3]).validate().neg_elbo.value


def test_the_best_checkpoint_and_the_trained_model_have_the_mean_and_the_last_has_not(tmp_path: Path) -> None:
    story = Story.of(tmp_path)
    bounds = [epoch["neg_elbo"]["value"] for epoch in story.epochs]
    best = min(range(EPOCHS), key=bounds.__getitem__)

    assert best >= story.begins
    assert torch.equal(weights(story.run), story.told[best])
    kept: Any = Checkpoints(tmp_path).last()
    last = {name.removeprefix("model/"): v for name, v in kept.tensors.items() if name.startswith("model/")}
    assert torch.equal(
        torch.cat([last[name].flatten() for name, _ in story.run.model.named_parameters()]), story.raw[-1]
    )


def test_a_trainer_asked_for_a_validation_gives_that_of_the_mean() -> None:
    found: list[float] = []

    def ask(moment: Moment) -> None:
        if moment.kind == "step" and moment.step % len(data()) == 0:
            found.append(run.validate().neg_elbo.value)
        if moment.kind == "epoch":
            found.append(moment.values["neg_elbo"]["value"])

    run = trainer(None, Joint(), ask, **averaging(plateau=None))
    run.fit()
    assert found[::2] == found[1::2]


@pytest.mark.parametrize("step", [5, 12, 36, 37, 50, 60, 72, 95])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, step: int) -> None:
    def run(name: str, *listeners: Any) -> Trainer:
        settings = averaging(plateau=Plateau(patience=1, not_before=5, limit=9), window=5)
        return trainer(tmp_path / name, Joint(), JSONLines(tmp_path / f"{name}.jsonl"), *listeners, **settings)

    whole, cut = run("whole"), run("cut")
    whole.fit()
    with pytest.raises(Killed):
        run("cut", kill_at(step)).fit()
    cut.fit()

    assert torch.equal(weights(whole), weights(cut))
    assert told(tmp_path / "whole.jsonl") == told(tmp_path / "cut.jsonl")
    assert any("averaged" in record for record in told(tmp_path / "whole.jsonl"))
    mine, other = (Checkpoints(tmp_path / name).last() for name in ("whole", "cut"))
    assert mine is not None
    assert other is not None
    assert any(name.startswith("average/") for name in mine.tensors)
    assert all(torch.equal(value, other.tensors[name]) for name, value in mine.tensors.items())


def test_a_mean_is_recalled_to_where_the_weights_are() -> None:
    average = Average([torch.zeros(2, 3, device="meta")], 1)
    average.recall({"0": torch.ones(2, 3)}, {"values": [1.0, 2.0, 2.0], "on": True, "count": 4})
    average.add()

    assert (average.means[0].device.type, average.count) == ("meta", 5)


def test_a_decay_begins_the_mean_anew_and_a_player_drawn_anew_the_rule_too() -> None:
    player = Player(Learner(nn.Linear(2, 2)), SGD(0.1, averaging=Averaging(1)))
    for value in (1.0, 2.0, 2.0):
        player.average.observe(value)
    player.average.add()
    player.renew(0.5)
    assert (player.average.on, player.average.count) == (True, 0)
    player.average.forget()
    assert (player.average.on, player.average.values) == (False, [])


def test_a_player_drawn_anew_is_not_averaged_with_what_it_was() -> None:
    class Anew(uc.VAE):
        def anew(self) -> uc.VAE:
            return small()

    begins, steps, states = Story.of().begins, len(data()), []

    def note(moment: Moment) -> None:
        if moment.kind == "epoch":
            states.append([(p.average.on, p.average.count, len(p.average.values)) for p in run.players.values()])

    reset = Reset("generation", after=(begins + 1) * steps + 3)
    model: Any = small()
    model.__class__ = Anew
    run = Trainer(model, data(), data()[:3], events=[reset], listeners=[note], **averaging())
    for player in run.players.values():  # Whatever this run's own bounds would say.
        player.average.on = True
    run.fit()

    assert states[0] == [(False, 0, 1)] * 2  # Nothing counts before the first validation.
    assert states[begins + 1] == [(False, 0, 1)] * 2


# Several processes.


def several(processes: Processes, folder: Path | None, kill: int, settings: dict[str, Any]) -> dict[str, Tensor]:
    torch.manual_seed(1)
    model = uc.VAE(uc.Posterior(nn.Linear(4, 4), uc.gaussian, (2, 2)), small().decoder, uc.StandardNormal(2))
    kept = {"checkpoints": Checkpoints(folder), "checkpoint_seconds": 0.0, "processes": processes}
    listeners = [kill_at(kill)] if kill else []
    plateau = Plateau(patience=2, not_before=4, limit=9)
    run = Trainer(model, data(), data()[:3], listeners=listeners, **kept, **averaging(plateau=plateau), **settings)
    if kill:
        with pytest.raises(Killed):
            run.fit()
        return several(processes, folder, 0, settings)
    run.fit()
    assert all(player.average.on for player in run.players.values())
    return {name: value.clone() for name, value in uc.training.state.weights(run.model).items()}


@pytest.mark.parametrize("settings", [{}, {"sharded": True}])
def test_several_processes_average_as_one_does_and_go_on_bit_for_bit(tmp_path: Path, settings: dict[str, Any]) -> None:
    one = several(ALONE, None, 0, {})
    first, second = together(several, None, 0, settings)
    again = together(several, tmp_path, 70, settings)[0]

    for name, value in one.items():
        torch.testing.assert_close(first[name], value, atol=2e-5, rtol=1e-4)
        assert torch.equal(first[name], second[name])
        assert torch.equal(first[name], again[name])


# What is asked for.


def test_a_terms_player_is_refused() -> None:
    with pytest.raises(
        uc.InputError, match=r"`averaging` has no effect for `judge-critic`, a player of the term `judge`"
    ):
        Trainer(
            small(),
            data(),
            data()[:3],
            objective=objective(judge=Judge()),
            optimisers={"judge-critic": Adam(averaging=Averaging())},
        )


def test_a_spec_asks_for_it_and_the_awd_lstm_does_by_default() -> None:
    given = ["data.train=a.txt"]
    asked = validated(compose("text", [], [*given, "training.optimisers.generation.averaging.interval=3"]))
    awd = validated(compose("text", ["awd-lstm"], given))

    plain = validated(compose("text", [], given))
    for spec, interval in ((plain, None), (asked, 3), (awd, 5)):
        made = {name: build.make(optimiser, {}) for name, optimiser in spec.training.optimisers.items()}
        run = Trainer(small(), data(), data()[:3], optimisers=made)
        assert run.players["generation"].average.interval == interval
        assert run.players["inference"].average.interval is None


def test_a_checkpoint_from_before_there_were_averages_is_gone_on_from(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        trainer(tmp_path, Joint(), kill_at(14)).fit()
    there: Any = Checkpoints(tmp_path)
    snapshot = there.last()
    state = {name: value for name, value in copy.deepcopy(snapshot.state).items() if name != "averages"}
    there.save_last(13, snapshot._replace(state=state))

    again, whole = trainer(tmp_path, Joint()), trainer(None, Joint())
    again.fit()
    whole.fit()
    assert torch.equal(weights(again), weights(whole))
