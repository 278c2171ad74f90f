"""The trainer: it goes on exactly, selects by the true bound, and reaches the optimum that is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import uncollapse as uc
from uncollapse.errors import InputError
from uncollapse.training.checkpoints import Checkpoints, read
from uncollapse.training.events import Event
from uncollapse.training.listeners import JSONLines, Moment
from uncollapse.training.optimisers import OPTIMISERS, SGD, Adam
from uncollapse.training.plateau import Plateau
from uncollapse.training.play import Stage
from uncollapse.training.procedures import Aggressive, Joint, UntilInformationDrops
from uncollapse.training.trainer import Trainer


class Stochastic(nn.Linear):
    """A linear decoder with dropout, so that training draws more than z."""

    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        return Independent(
            Normal(nn.functional.dropout(super().forward(z), 0.2, self.training), 1.0, validate_args=False), 1
        )


def small() -> uc.VAE:
    torch.manual_seed(1)
    return uc.VAE(uc.Posterior(nn.Linear(4, 4), uc.gaussian, (2, 2)), Stochastic(2, 4), uc.StandardNormal(2))


def data() -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return list((torch.randn(96, 2, generator=generator) @ torch.randn(2, 4, generator=generator)).split(8))


class Killed(Exception):
    pass


def kill_at(step: int) -> Any:
    def listener(moment: Moment) -> None:
        if moment.kind == "step" and moment.step == step:
            raise Killed

    return listener


def trainer(folder: Path | None, procedure: Any, *listeners: Any, kind: Any = "adam", **settings: Any) -> Trainer:
    given = {
        "optimisers": {name: OPTIMISERS[kind](0.01) for name in ("inference", "generation")},
        "dials": {"objective.weights.rate": uc.Linear(0.1, 1.0, 40)},
        "plateau": Plateau(patience=1, not_before=1, limit=3),
        "checkpoint_seconds": 0.0,
        "max_epochs": 5,
    }
    kept = {"checkpoints": Checkpoints(folder), "listeners": listeners}
    return Trainer(small(), data(), data()[:3], procedure=procedure, **kept, **{**given, **settings})


def weights(run: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def told(path: Path) -> list[dict[str, Any]]:
    """A run's log without its times."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in record.items() if "seconds" not in k} for record in records]


@pytest.mark.parametrize("procedure", [Joint, lambda: Aggressive(budget=4, clip="own"), lambda: Aggressive(window=2)])
@pytest.mark.parametrize("step", [1, 12, 17, 29])
def test_a_killed_run_started_again_ends_as_the_run_that_was_not(tmp_path: Path, procedure: Any, step: int) -> None:
    whole = trainer(tmp_path / "whole", procedure(), JSONLines(tmp_path / "whole.jsonl"))
    whole.fit()
    log = JSONLines(tmp_path / "cut.jsonl")
    with pytest.raises(Killed):
        trainer(tmp_path / "cut", procedure(), log, kill_at(step)).fit()
    again = trainer(tmp_path / "cut", procedure(), log)
    again.fit()
    assert torch.equal(weights(whole), weights(again))
    assert whole.best == again.best
    assert told(tmp_path / "whole.jsonl") == told(tmp_path / "cut.jsonl")
    assert [p.name for p in sorted((tmp_path / "whole").iterdir())] == [
        p.name for p in sorted((tmp_path / "cut").iterdir())
    ]


@pytest.mark.parametrize(("when", "at"), [("step", 14), ("epoch", 1), ("validation", 1)])
@pytest.mark.parametrize("step", [11, 12, 13, 14, 15])
def test_an_event_happens_once_however_a_run_is_stopped(tmp_path: Path, when: Any, at: int, step: int) -> None:
    def double(run: Stage) -> None:
        with torch.no_grad():
            for parameter in run.model.parameters():
                parameter.mul_(2)

    whole = trainer(None, Joint(), events=[Event(when, at, double)])
    whole.fit()
    with pytest.raises(Killed):
        trainer(tmp_path, Joint(), kill_at(step), events=[Event(when, at, double)]).fit()
    again = trainer(tmp_path, Joint(), events=[Event(when, at, double)])
    again.fit()
    without = trainer(None, Joint())
    without.fit()
    assert torch.equal(weights(whole), weights(again))
    assert not torch.equal(weights(whole), weights(without))


def _weigh(run: Stage) -> None:
    run.objective.weights["distortion"] = torch.tensor(0.2)  # pyright: ignore[reportArgumentType]


def _clip(run: Stage) -> None:
    run.clip = np.float32(0.01)  # pyright: ignore[reportAttributeAccessIssue]


def _slow_down(run: Stage) -> None:
    for player in run.players.values():
        for group in player.steps.param_groups:  # pyright: ignore[reportOptionalMemberAccess]
            group["lr"] = 1e-5


@pytest.mark.parametrize("do", [_weigh, _clip, _slow_down])
def test_the_numbers_that_an_event_changes_stay_changed_when_a_run_goes_on(tmp_path: Path, do: Any) -> None:
    events = [Event("step", 3, do)]
    whole = trainer(None, Joint(), events=events)
    whole.fit()
    with pytest.raises(Killed):
        trainer(tmp_path, Joint(), kill_at(8), events=events).fit()
    again = trainer(tmp_path, Joint(), events=events)
    again.fit()
    assert torch.equal(weights(whole), weights(again))


def test_a_finished_run_started_again_trains_no_more(tmp_path: Path) -> None:
    trainer(tmp_path, Joint()).fit()
    steps: list[int] = []
    again = trainer(tmp_path, Joint(), lambda m: steps.append(m.step) if m.kind == "step" else None)
    again.fit()
    assert steps == []


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    runs = [trainer(None, Joint(), seed=seed) for seed in (0, 0, 1)]
    for run in runs:
        run.fit()
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert not torch.equal(weights(runs[0]), weights(runs[2]))


def test_training_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    run = trainer(None, Joint())
    torch.set_rng_state(before)
    run.fit()
    assert torch.equal(before, torch.get_rng_state())


def test_the_model_ends_with_the_weights_of_the_best_validation_bound(tmp_path: Path) -> None:
    run = trainer(tmp_path, Joint())
    run.fit()
    assert uc.evaluate(
        run.model, run.validation.batches, samples=0, bound_samples=1, seed=0
    ).neg_elbo.value == pytest.approx(run.validate().neg_elbo.value, abs=0.3)
    assert run.validate().neg_elbo.value == run.best


def test_selection_ignores_the_weight_of_the_rate(tmp_path: Path) -> None:
    free = Trainer(small(), data(), data()[:3], objective=uc.Objective(weights={"rate": 0.0}), max_epochs=2)
    free.fit()
    assert free.best == free.validate().neg_elbo.value
    figures = free.validate()
    assert figures.neg_elbo.value == pytest.approx(figures.distortion.value + figures.kl.value, abs=1e-5)


@pytest.mark.parametrize(("selects", "best"), [("bound", 3), ("distortion", 1), ("last", 5)])
def test_the_best_weights_are_by_what_is_asked(tmp_path: Path, selects: Any, best: int) -> None:
    """The distortion is lowest after the first epoch, the bound after the third, and neither after the last."""
    figures = {1: (1.0, 9.0), 2: (2.0, 6.0), 3: (3.0, 2.0), 4: (4.0, 2.0), 5: (5.0, 3.0)}
    run = trainer(tmp_path, Joint(), selects=selects, plateau=None)
    measured = run.loop.validation.validate

    def validate(decides_by: str | None = None) -> Any:
        found = measured(decides_by)
        distortion, rate = figures[run.loop.standing.epoch + 1]
        return replace(
            found,
            distortion=replace(found.distortion, value=distortion),
            neg_elbo=replace(found.neg_elbo, value=distortion + rate),
        )

    run.loop.validation.validate = validate
    run.fit()
    assert max(path.name for path in tmp_path.glob("best*")) == f"best-{12 * best:08d}.safetensors"


def test_the_last_weights_leave_a_plateau_nothing_to_reload() -> None:
    with pytest.raises(InputError, match="set its `reload` to false"):
        trainer(None, Joint(), selects="last")
    trainer(None, Joint(), selects="last", plateau=Plateau(reload=False))


def test_a_decay_brings_the_best_weights_and_a_fresh_optimiser_back() -> None:
    run = trainer(None, Joint())
    run.loop.plateau = Plateau(patience=2, not_before=0, limit=9)
    for player in run.players.values():  # so fast that validation gets worse
        player.optimiser = Adam(0.3)
        player.renew(1.0)
    seen: list[tuple[Tensor, float, float]] = []

    def after_validation(stage: Stage) -> None:
        best = run.loop.checkpoints.best()
        assert best is not None
        gap = max(float((best.tensors[name] - value).abs().max()) for name, value in stage.model.state_dict().items())
        memory = sum(len(player.memory()) for player in stage.players.values())
        seen.append((torch.tensor(gap), memory, run.loop.scale))

    run.loop.events = tuple(Event("validation", epoch, after_validation) for epoch in range(1, 13))
    run.loop.max_epochs = 12
    run.fit()
    decays = [after for before, after in zip([(0, 0, 1.0), *seen], seen, strict=False) if after[2] < before[2]]
    assert decays
    assert all(gap == 0 and memory == 0 for gap, memory, _ in decays)
    assert any(gap > 0 for gap, *_ in seen)


def test_windows_are_means_over_their_own_steps() -> None:
    values: list[tuple[int, float]] = []

    def listen(moment: Moment) -> None:
        if moment.kind == "window":
            values.append((moment.step, moment.values["loss"]))

    still = {name: SGD(1e-30) for name in ("inference", "generation")}
    batches = [data()[0]] * 7
    Trainer(small(), batches, batches, optimisers=still, max_epochs=2, window=5, listeners=[listen]).fit()
    assert [step for step, _ in values] == [5, 7, 10, 14]
    assert all(value == pytest.approx(values[0][1], rel=0.3) for _, value in values)


def test_a_bad_state_never_replaces_a_good_checkpoint(tmp_path: Path) -> None:
    bad = [*data()[:4], torch.full((8, 4), float("nan")), *data()[5:]]
    settings = {"checkpoints": Checkpoints(tmp_path), "checkpoint_seconds": 0.0, "max_epochs": 1}
    with pytest.raises(uc.TrainingError):
        Trainer(small(), bad, data()[:3], **settings).fit()
    last = Checkpoints(tmp_path).last()
    assert last is not None
    assert all(value.isfinite().all() for value in last.tensors.values())


def test_an_optimiser_for_nobody_is_refused() -> None:
    with pytest.raises(uc.InputError, match="unknown player `encoder`"):
        Trainer(small(), data(), data(), optimisers={"encoder": Adam()})


def test_a_parameter_of_two_players_is_refused() -> None:
    model = small()
    model.decoder.weight = model.encoder.net.weight
    with pytest.raises(uc.InputError, match=r"`encoder.net.weight` is of the players `inference` and `generation`"):
        Trainer(model, data(), data())


class Forgetful(uc.VAE):
    """Whose prior is of nobody."""

    def players(self) -> dict[str, nn.Module]:
        return {"inference": self.encoder, "generation": self.decoder}


def test_a_parameter_that_nobody_would_train_is_refused_unless_it_is_frozen() -> None:
    prior = nn.Linear(1, 1)
    model = Forgetful(small().encoder, Stochastic(2, 4), prior)
    with pytest.raises(uc.InputError, match=r"`generation.prior.weight` would not be trained.*`requires_grad_\("):
        Trainer(model, data(), data())
    prior.requires_grad_(False)
    Trainer(model, data(), data())


def test_what_is_told_of_an_epoch_is_told_before_its_decay_goes_back_to_the_best(tmp_path: Path) -> None:
    found: list[tuple[float, float]] = []

    def look(moment: Moment) -> None:
        if moment.kind == "epoch":
            found.append((moment.values["neg_elbo"]["value"], run.validate().neg_elbo.value))  # pyright: ignore

    run = trainer(None, Joint(), look, plateau=Plateau(patience=1, not_before=0, limit=9), max_epochs=8, kind="sgd")
    for player in run.players.values():
        player.optimiser = SGD(0.3)
        player.renew(1.0)
    run.fit()
    assert run.loop.scale < 1  # It decayed.
    assert all(said == now for said, now in found)


def test_files_of_others_beside_the_checkpoints_stay(tmp_path: Path) -> None:
    theirs = ["model-00001-of-00002.safetensors", "download-7.partial", "last-good.safetensors", "best-one.safetensors"]
    for name in theirs:
        (tmp_path / name).write_bytes(b"theirs")
    (tmp_path / "last-00000003.partial").write_bytes(b"of a kill")
    trainer(tmp_path, Joint(), max_epochs=1).fit()
    assert {path.name for path in tmp_path.iterdir()} == {
        *theirs,
        "best-00000012.safetensors",
        "last-00000011.safetensors",
        "last-00000012.safetensors",
    }


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "last-00000001.safetensors").write_bytes(b"no")
    with pytest.raises(uc.InputError, match=r"last-00000001.safetensors` is damaged"):
        read(tmp_path / "last-00000001.safetensors")


def test_every_player_moves_under_every_procedure() -> None:
    for procedure in (Joint(), Aggressive(budget=3), Aggressive(budget=3, clip="own")):
        run = Trainer(small(), data(), data()[:3], procedure=procedure, max_epochs=1)
        before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
        run.fit()
        assert [name for name, p in run.model.named_parameters() if torch.equal(before[name], p)] == []


class LinearEncoder(nn.Module):
    """q(z | x) = N(V x, D), the variance shared by all items."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_variance = nn.Linear(4, 4, bias=False), nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Distribution:
        return uc.gaussian(self.mean(x), self.log_variance.expand(len(x), -1))


class LinearDecoder(nn.Linear):
    """p(x | z) = N(W z, 1)."""

    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        return Independent(Normal(super().forward(z), 1.0), 1)


def spectrum(n: int) -> Tensor:
    """n items whose covariance is exactly diagonal (FX3: 5, 2, 1.2, 0.5)."""
    x = torch.randn(n, 4, dtype=torch.float64)
    x -= x.mean(0)
    x @= torch.linalg.inv(torch.linalg.cholesky(x.T @ x / n)).T
    return (x * torch.tensor([5, 2, 1.2, 0.5], dtype=torch.float64).sqrt()).float()


def test_the_linear_vae_trained_by_fit_reaches_its_closed_form() -> None:  # B 31, FX3, s^2 = 1
    x = spectrum(1024)
    model = uc.VAE(LinearEncoder(), LinearDecoder(4, 4, bias=False), uc.StandardNormal(4))
    # The whole data a step: with noisy gradients the bound is flat enough around its optimum to wander.
    settings = {"training.plateau.limit": 7, "training.plateau.not_before": 60}
    uc.fit(model, [x] * 32, [x], max_epochs=120, learning_rate=0.02, patience=1, settings=settings, progress=False)
    figures = uc.evaluate(model, x, samples=50)
    assert figures.nll.value == pytest.approx(6.668207, rel=0.01)
    assert figures.neg_elbo.value == pytest.approx(6.668207, rel=0.01)
    assert figures.kl.value == pytest.approx(1.242453, rel=0.01)
    assert figures.active_units.value == 3


@pytest.mark.parametrize(
    ("procedure", "items"),
    [
        (Joint(), 1000),
        (Aggressive(), 1100),
        (Aggressive(until=UntilInformationDrops("published")), 1000),
        (Aggressive(until=UntilInformationDrops(max_epochs=1)), 1000),
    ],
)
def test_validation_gives_the_information_as_many_items_as_a_decision_by_it_needs(procedure: Any, items: int) -> None:
    run = Trainer(small(), data(), [torch.randn(1100, 4)], procedure=procedure)
    procedure.observe(0, 1, run.validate())  # Where it may be the last that it decides by.
    mi = run.validate().mi
    assert (mi.n, mi.cap) == (items, pytest.approx(math.log(items)))  # pyright: ignore[reportAttributeAccessIssue]


class Named(uc.VAE):
    """Whose players are what somebody says."""

    said: Any = None

    def players(self) -> Any:
        return self.said


@pytest.mark.parametrize("said", [None, ["inference"], {"inference": 1}])
def test_players_that_are_no_networks_by_name_are_refused(said: Any) -> None:
    model = small()
    model.__class__, Named.said = Named, said
    with pytest.raises(uc.InputError, match="`players` of `Named` must give networks by their names"):
        Trainer(model, data(), data())


def test_aggressive_training_says_which_players_it_needs() -> None:
    model = small()
    model.__class__, Named.said = Named, {"encoder": model.encoder, "rest": model.generation}
    run = Trainer(model, data(), data(), procedure=Aggressive())
    with pytest.raises(uc.InputError, match="needs a player `inference`, and the model's are: encoder, rest"):
        run.fit()


def test_players_may_be_in_a_dictionary_of_modules() -> None:
    model = small()
    model.__class__, Named.said = Named, nn.ModuleDict({"inference": model.encoder, "generation": model.generation})
    run = Trainer(model, data(), data(), max_epochs=1)
    run.fit()
    assert run.step == 12


class Extra(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"calls": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_a_state_that_no_checkpoint_could_keep_is_refused_at_once() -> None:
    model = uc.VAE(uc.Posterior(Extra(4, 4), uc.gaussian, (2, 2)), Stochastic(2, 4), uc.StandardNormal(2))
    with pytest.raises(uc.InputError, match=r"`encoder.net._extra_state` of the model's state is a `dict`"):
        Trainer(model, data(), data())


def test_a_folder_of_checkpoints_that_cannot_be_read_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Any) -> list[str]:
        raise PermissionError(13, "Permission denied")

    trainer(tmp_path, Joint(), max_epochs=1).fit()
    monkeypatch.setattr("uncollapse.training.checkpoints.os.listdir", denied)
    with pytest.raises(uc.InputError, match=rf"cannot read `{tmp_path}`: Permission denied; get the permission"):
        trainer(tmp_path, Joint(), max_epochs=1).fit()


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for step in (5, 99_999_999, 100_000_000):
        (tmp_path / f"last-{step:08d}.safetensors").touch()
    assert [p.name for p in Checkpoints(tmp_path).newest_first()] == [
        "last-100000000.safetensors",
        "last-99999999.safetensors",
        "last-00000005.safetensors",
    ]
