"""Aggressive training: the inner loop's rule, its clipping, its return to joint training, its fixed point."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import uncollapse as uc
from uncollapse.data.text import Text
from uncollapse.errors import InputError
from uncollapse.metrics.estimate import Estimate
from uncollapse.nets.lstm import LSTMDecoder, LSTMEncoder
from uncollapse.objective import Loss
from uncollapse.training.descent import Descent
from uncollapse.training.optimisers import SGD, Adam
from uncollapse.training.procedures import Aggressive, UntilInformationDrops


class Scripted:
    """A trainer that plays back the mean losses of windows and writes down what is asked of it."""

    def __init__(self, windows: list[float], window: int) -> None:
        self.losses = [value for value in windows for _ in range(window)]
        self.players = {"inference": None, "generation": None}
        self.partners = tuple(self.players)
        self.said: list[tuple[Any, ...]] = []
        self.drawn = self.step = 0

    def loss(self, x: Tensor, share: float = 1.0) -> Loss:
        inner = sum(players == ("inference",) for players, *_ in self.said)
        return Loss(torch.tensor(self.losses[min(inner, len(self.losses) - 1)]), {"batch": x})

    def descend(self, loss: Loss, *players: str, norm_over: tuple[str, ...] | None = None, **options: Any) -> None:
        self.said.append((players, norm_over, loss.parts["batch"]))

    def draw(self) -> Tensor:
        self.drawn += 1
        return torch.full((2, 1), float(self.drawn))

    @property
    def inner(self) -> int:
        return sum(players == ("inference",) for players, *_ in self.said)


DECREASING = [5.0 - 0.01 * i for i in range(20)]


@pytest.mark.parametrize(
    ("windows", "window", "ties", "updates"),
    [  # T17
        ([5.0, 4.8, 4.81], 10, "continue", 30),
        ([5.0, 4.8, 4.81], 15, "continue", 45),
        (DECREASING, 10, "continue", 99),
        ([5.0] * 10, 10, "continue", 99),
        ([5.0, 5.1], 10, "continue", 20),
        ([5.0, 5.1], 15, "continue", 30),
        ([5.0] * 10, 10, "stop", 20),
        (DECREASING, 10, "stop", 99),
    ],
)
def test_the_inner_loop_ends_where_the_window_is_not_better(
    windows: list[float], window: int, ties: Any, updates: int
) -> None:
    trainer = Scripted(windows, window)
    Aggressive(window=window, ties=ties)(trainer, torch.zeros(2, 1))  # pyright: ignore[reportArgumentType]
    assert trainer.inner == updates


class Sized(NamedTuple):
    """Items with a known loss each, and a known number of symbols each."""

    loss: Tensor
    symbols: Tensor


def test_windows_are_held_against_each_other_per_symbol() -> None:
    # By symbol 30 / 10 = 3, then 25 / 5 = 5: worse. By item, 10 and then 2.5 would read better.
    first = Sized(torch.tensor([10.0, 10.0, 10.0]), torch.tensor([4, 3, 3]))
    later = Sized(torch.full((10,), 2.5), torch.tensor([1, 1, 1, 1, 1, 0, 0, 0, 0, 0]))
    trainer = Scripted([], 1)
    trainer.loss = lambda x, share: Loss(x.loss.mean(), {"batch": x})
    trainer.draw = lambda: later
    Aggressive(window=1)(trainer, first)  # pyright: ignore[reportArgumentType]
    assert trainer.inner == 2


def test_a_budget_replaces_the_rule() -> None:
    trainer = Scripted([5.0, 9.0, 9.0, 9.0], 10)
    Aggressive(budget=33)(trainer, torch.zeros(2, 1))  # pyright: ignore[reportArgumentType]
    assert trainer.inner == 33


def test_the_first_inner_step_and_the_decoder_step_share_their_batch() -> None:
    trainer, x = Scripted([5.0, 6.0], 10), torch.full((2, 1), -7.0)
    Aggressive()(trainer, x)  # pyright: ignore[reportArgumentType]
    batches = [float(batch[0, 0]) for *_, batch in trainer.said]
    assert batches == [-7.0, *map(float, range(1, 20)), -7.0]


def test_joint_clipping_measures_both_players_though_one_steps() -> None:
    trainer = Scripted([5.0, 6.0], 10)
    Aggressive()(trainer, torch.zeros(2, 1))  # pyright: ignore[reportArgumentType]
    assert {norm_over for _, norm_over, _ in trainer.said} == {("inference", "generation")}
    assert trainer.said[-1][0] == ("generation",)


class Direct(nn.Module):
    """Two players whose gradients are given: 0.5 for inference, 50 for generation."""

    def __init__(self) -> None:
        super().__init__()
        self.inference, self.generation = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)

    def players(self) -> dict[str, nn.Module]:
        return {"inference": self.inference, "generation": self.generation}


@pytest.mark.parametrize(("norm_over", "moved"), [(("inference", "generation"), 0.049998), (None, 0.5)])
def test_joint_clipping_shortens_the_encoder_step_tenfold(norm_over: tuple[str, ...] | None, moved: float) -> None:
    model = Direct()  # T16
    sgd = {name: SGD(1.0) for name in model.players()}
    trainer = Descent(model, [torch.zeros(1, 1)], optimisers=sgd, clip=5.0)
    before = model.inference.weight.item()
    total = 0.5 * model.inference.weight.sum() + 50 * model.generation.weight.sum()
    trainer.descend(Loss(total, {}), "inference", norm_over=norm_over)
    assert before - model.inference.weight.item() == pytest.approx(moved, abs=2e-6)


class Line(nn.Module):
    """q(z | x) = N(a x, v)."""

    def __init__(self) -> None:
        super().__init__()
        self.slope, self.log_variance = nn.Parameter(torch.tensor(0.1)), nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Distribution:
        return uc.gaussian(self.slope * x, self.log_variance.expand_as(x))


class Known(nn.Module):
    """p(x | z) = N(2 z, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        return Independent(Normal(self.weight * z, 1.0), 1)


def test_encoder_steps_alone_reach_the_exact_posterior() -> None:
    data = math.sqrt(5) * torch.randn(4096, 1)  # T18: x ~ N(0, 5), w = 2, s = 1
    data *= math.sqrt(5) / data.square().mean().sqrt()
    model = uc.VAE(Line(), Known(), uc.StandardNormal(1))
    batches = list(data.split(256))
    trainer = Descent(model, batches, optimisers={"inference": Adam(0.01)})
    with trainer.awake("inference"):
        for index in range(1500):
            trainer.descend(trainer.loss(batches[index % len(batches)]), "inference")
    assert model.encoder.slope.item() == pytest.approx(0.4, abs=0.02)
    assert model.encoder.log_variance.exp().item() == pytest.approx(0.2, abs=0.02)
    figures = uc.evaluate(model, batches, samples=0)
    assert figures.neg_elbo.value == pytest.approx(2.223658, abs=0.01)
    assert figures.mi.value == pytest.approx(0.804719, abs=3 * figures.mi.se)
    assert model.decoder.weight.item() == 2.0


def test_a_sleeping_player_gets_no_gradient_and_wakes_again() -> None:
    model = uc.VAE(Line(), Known(), uc.StandardNormal(1))
    batches = [torch.randn(8, 1)]
    trainer = Descent(model, batches)
    with trainer.awake("inference"):
        trainer.loss(batches[0]).total.backward()
    assert model.decoder.weight.grad is None
    assert model.encoder.slope.grad is not None
    assert model.decoder.weight.requires_grad


def validation(mi: float, se: float = 0.1) -> Any:
    figure = Estimate(mi, se, 100, "nats/item", math.log(100))
    return SimpleNamespace(mi=figure, mi_published=figure)


def epochs_until_joint(until: UntilInformationDrops, values: list[float]) -> int:
    procedure = Aggressive(until=until)
    for epoch, value in enumerate(values):
        procedure.observe(epoch, 10 * (epoch + 1), validation(value))
        if not procedure.active:
            return epoch + 1
    return -1


@pytest.mark.parametrize(
    ("until", "values", "epochs"),
    [
        (UntilInformationDrops("published"), [1.0, 2.0, 1.99, 3.0], 3),
        (UntilInformationDrops("published"), [-0.1], 1),
        (UntilInformationDrops("published", start=-1.0), [-0.1, 0.2], -1),
        (UntilInformationDrops("published", patience=3), [1.0, 2.0, 1.5, 1.9, 2.1, 2.0], 6),
        (UntilInformationDrops("full"), [1.0, 2.0, 1.95, 1.85], 4),
        (UntilInformationDrops("full", min_steps=40), [1.0, 0.5, 0.5, 0.5], 4),
        (UntilInformationDrops("full", max_epochs=2), [1.0, 2.0], 2),
    ],
)
def test_aggressive_training_ends_by_its_rule(until: UntilInformationDrops, values: list[float], epochs: int) -> None:
    assert epochs_until_joint(until, values) == epochs


def test_aggressive_training_ends_after_so_many_steps_within_an_epoch() -> None:
    procedure = Aggressive(until=UntilInformationDrops(max_steps=3))
    inner = []
    for step in range(5):
        trainer = Scripted([5.0] * 10, 10)
        trainer.step = step
        procedure(trainer, torch.zeros(2, 1))  # pyright: ignore[reportArgumentType]
        inner.append(trainer.inner)
    assert inner == [20, 20, 20, 0, 0]
    assert not procedure.active


def test_what_it_remembers_is_what_it_needs() -> None:
    first, second = Aggressive(), Aggressive()
    first.observe(0, 10, validation(2.0))
    second.recall(first.memory())
    second.observe(1, 20, validation(1.5))
    assert not second.active


class Recorded(Descent):
    """A descent of a small text VAE that writes down what inner and outer steps are given."""

    def __init__(self, **options: Any) -> None:
        tokens = torch.randint(4, 12, (3, 4, 7))
        tokens[:, :2, 5:] = 0
        decoder = LSTMDecoder(12, 5, 6, 3, dropout_in=0.0, dropout_out=0.0)
        model = uc.VAE(uc.Posterior(LSTMEncoder(12, 5, 6, 6), uc.gaussian, (3, 3)), decoder, uc.StandardNormal(3))
        batches = [Text(batch) for batch in tokens]
        super().__init__(model, batches, inference=self._noted)
        self.procedure = Aggressive(budget=2, **options)
        self.scored: list[int] = []
        self.stretched: list[float] = []
        self.norms: list[dict[str, float]] = []
        self.clips: list[float | None] = []

    def _noted(self, model: Any, x: Any, aim: Any) -> None:
        self.scored.append(int((x.target != 0).sum()))

    def descend(self, *given: Any, stretch: Tensor | float = 1.0, **options: Any) -> dict[str, Tensor]:
        self.stretched.append(float(stretch))
        self.clips.append(options["clip"])
        norms = super().descend(*given, stretch=stretch, **options)
        self.norms.append({name: float(norm) for name, norm in norms.items()})
        return norms


@pytest.mark.parametrize("clip", ["joint", "own", "ratio"])
def test_inner_steps_score_a_share_of_the_tokens_and_the_outer_step_all(clip: Any) -> None:
    trainer = Recorded(clip=clip, share=0.5)
    trainer.procedure(trainer, trainer.batch(0))
    assert trainer.scored == [10, 10, 20]


@pytest.mark.parametrize("clip", ["joint", "own", "ratio"])
def test_inner_steps_are_clipped_to_a_norm_of_their_own(clip: Any) -> None:
    trainer = Recorded(clip=clip, inner_clip=0.5)
    trainer.procedure(trainer, trainer.batch(0))
    assert trainer.clips == [0.5, 0.5, None]


def test_a_step_is_clipped_to_the_norm_that_it_is_given() -> None:
    model = Direct()
    sgd = {name: SGD(1.0) for name in model.players()}
    trainer = Descent(model, [torch.zeros(1, 1)], optimisers=sgd, clip=5.0)
    before = model.generation.weight.item()
    trainer.descend(Loss(50 * model.generation.weight.sum(), {}), "generation", clip=0.25)
    assert before - model.generation.weight.item() == pytest.approx(0.25, abs=1e-5)


def test_the_ratio_of_the_last_outer_step_stands_in_for_a_gradient_that_is_not_computed() -> None:
    trainer = Recorded(clip="ratio")
    for _ in range(2):
        trainer.procedure(trainer, trainer.batch(0))

    encoder, decoder = trainer.norms[2]["inference"], trainer.norms[2]["generation"]
    assert [norms.keys() for norms in trainer.norms[:2]] == [{"inference"}] * 2
    assert encoder > 0
    ratio = pytest.approx(math.hypot(encoder, decoder) / encoder, rel=1e-6)
    assert trainer.stretched == [1.0, 1.0, 1.0, ratio, ratio, 1.0]


def test_a_stretched_norm_shortens_the_step_as_the_missing_gradient_would() -> None:
    model = Direct()
    sgd = {name: SGD(1.0) for name in model.players()}
    trainer = Descent(model, [torch.zeros(1, 1)], optimisers=sgd, clip=5.0)
    before = model.inference.weight.item()
    ratio = math.hypot(0.5, 50) / 0.5
    norms = trainer.descend(Loss(0.5 * model.inference.weight.sum(), {}), "inference", stretch=ratio)
    assert norms == {"inference": 0.5}
    assert before - model.inference.weight.item() == pytest.approx(0.049998, abs=2e-6)  # As in T16.


def test_the_ratio_is_taken_where_nothing_but_inner_steps_is_clipped() -> None:
    trainer = Recorded(clip="ratio", inner_clip=0.5)
    trainer.clip = None
    before = weights(trainer, "generation")
    for _ in range(2):
        trainer.procedure(trainer, trainer.batch(0))
    assert trainer.stretched[3] > 1
    gradient = trainer.norms[2]["generation"]
    assert gradient > 0
    assert trainer.clips == [0.5, 0.5, math.inf] * 2
    assert not torch.equal(before, weights(trainer, "generation"))


def weights(trainer: Descent, player: str) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.players[player].parameters])


def test_an_encoder_without_a_gradient_stays_where_it_is() -> None:
    trainer = Recorded(clip="ratio")

    def sums(player: str) -> Tensor:
        return torch.stack([parameter.sum() for parameter in trainer.players[player].parameters]).sum()

    trainer.loss = lambda x, share=1.0: Loss(sums("generation") + 0 * sums("inference"), {})
    before = [parameter.clone() for parameter in trainer.players["inference"].parameters]
    for _ in range(2):
        trainer.procedure(trainer, trainer.batch(0))
    assert trainer.norms[2]["inference"] == 0
    assert all(map(torch.equal, before, trainer.players["inference"].parameters))


def test_the_ratio_comes_back_from_a_checkpoint_to_the_last_digit() -> None:
    first, second = Recorded(clip="ratio"), Aggressive(clip="ratio")
    first.procedure(first, first.batch(0))
    second.recall(json.loads(json.dumps(first.procedure.memory())))
    procedure: Any = first.procedure
    assert second.stretch == float(procedure.stretch) > 1
    assert torch.tensor(second.stretch) == procedure.stretch
    assert "stretch" not in Aggressive().memory()


def test_a_share_of_the_tokens_estimates_the_sum_over_all_without_bias() -> None:
    x = Text(torch.tensor([[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]]))
    counted = torch.zeros(2, 4)
    for _ in range(3000):
        few, weight = x.thinned(0.5)
        counted += weight * (few.target != 0)
        assert ((few.target == x.target) | (few.target == 0)).all()
    torch.testing.assert_close(counted / 3000, (x.target != 0).float(), atol=0.08, rtol=0)


def test_a_batch_that_cannot_be_thinned_says_so() -> None:
    model = uc.VAE(Line(), Known(), uc.StandardNormal(1))
    batches = [torch.randn(8, 1)]
    trainer = Descent(model, batches)
    with pytest.raises(InputError, match=r"type `Tensor` cannot leave symbols out.*`share` 1.*`thinned"):
        Aggressive(share=0.5)(trainer, batches[0])
