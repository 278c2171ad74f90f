"""Refined posteriors: where the steps lead, what trains through them, and that each item is by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import (
    Distribution,
    Exponential,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    Poisson,
    constraints,
    kl_divergence,
)

import uncollapse as uc
from linear_gaussian import evidence, orthogonal, vae
from test_trainer import data, small
from uncollapse.bound import Bound, size
from uncollapse.differences import product
from uncollapse.distributions.loose import loose, tight
from uncollapse.distributions.operations import parameters
from uncollapse.inference import Aim, Taught, amortised, plain
from uncollapse.metrics.rows import collect
from uncollapse.model import VAE
from uncollapse.nets.lstm import LSTMDecoder, LSTMEncoder
from uncollapse.noise import WholeBatchNoise
from uncollapse.posteriors import Posterior
from uncollapse.refinement import SVI, SemiAmortised, Steps, Values
from uncollapse.training.checkpoints import Checkpoints
from uncollapse.training.descent import Descent
from uncollapse.training.procedures import Aggressive
from uncollapse.training.trainer import Trainer

WEIGHT, SIGMA = orthogonal(1.5, 0.8, size=4), 0.7
FEW = Steps(3, 0.05)
#: How many numbers of a parameter are moved, to see what the loss does.
FIRST = 4


# The steps.


def quadratic(theta: Tensor) -> Callable[[Values], Values]:
    """The gradient of A / 2 (lambda - theta)^2 at A = 2."""
    return lambda values: {"a": 2 * (values["a"] - theta)}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("momentum", "of_start"), [(0.0, 0.512), (0.5, 0.302)])
def test_the_gradient_goes_through_the_steps_to_their_start_and_to_the_model(momentum: float, of_start: float) -> None:
    start, theta = (torch.tensor([value], requires_grad=True) for value in (1.0, 0.0))  # T20
    end = Steps(3, 0.1, momentum)({"a": start}, quadratic(theta))["a"]
    assert end.item() == pytest.approx(of_start)
    found = [one.item() for one in torch.autograd.grad(end, [start, theta])]
    assert found == pytest.approx([of_start, 1 - of_start])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("count", "place"), [(1, 0.8), (2, 0.54), (3, 0.302)])
def test_momentum_carries_each_step_into_the_next(count: int, place: float) -> None:
    end = Steps(count, 0.1, 0.5)({"a": torch.ones(1)}, quadratic(torch.zeros(())))["a"]  # T20
    assert end.item() == pytest.approx(place)


def test_the_gradient_of_an_item_is_clipped_by_itself() -> None:
    slope = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    end = Steps(1, 1.0, clip=2.0)({"a": torch.zeros(3, 2)}, lambda values: {"a": slope})["a"]
    torch.testing.assert_close(end, -torch.tensor([[1.2, 1.6], [0.3, 0.4], [0.0, 0.0]]))


# Parameters without limits.

LAWS = [
    Independent(Normal(torch.randn(3, 2), torch.rand(3, 2) + 0.1), 1),
    Independent(Gamma(torch.rand(3, 2) + 0.1, torch.rand(3, 2) + 0.1), 1),
    MultivariateNormal(torch.randn(3, 2), scale_tril=torch.tensor([[0.5, 0.0], [0.3, 2.0]]).expand(3, 2, 2)),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: str(type(law).__name__))
def test_a_law_comes_back_from_its_parameters_without_limits(law: Distribution) -> None:
    again = parameters(tight(law, loose(law)))
    for name, value in parameters(law).items():
        torch.testing.assert_close(again[name], value)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: str(type(law).__name__))
def test_any_numbers_are_a_law(law: Distribution) -> None:
    moved = tight(law, {name: value - 3 for name, value in loose(law).items()})
    assert moved.log_prob(moved.sample()).isfinite().all()


def test_a_gaussian_is_refined_in_its_log_variance() -> None:
    values = loose(Normal(torch.zeros(2), torch.tensor([1.0, 2.0])))
    torch.testing.assert_close(values["log_variance"], torch.tensor([1.0, 4.0]).log())


# What is measured under refined posteriors.


def test_the_refined_bound_of_a_bad_encoder_is_better_and_its_evidence_exact() -> None:
    x, model = evidence(WEIGHT, SIGMA).sample((60,)), vae(WEIGHT, SIGMA, shift=2.0)
    truth = -evidence(WEIGHT, SIGMA).log_prob(x).mean().item()
    amortised = uc.evaluate(model, x, samples=300)
    refined = uc.evaluate(model, x, samples=300, inference=SemiAmortised(Steps(10, 0.1)))
    assert refined.nll.value == pytest.approx(truth, abs=0.02)  # pyright: ignore[reportAttributeAccessIssue]
    assert truth < refined.neg_elbo.value < amortised.neg_elbo.value - 1  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("size", [1, 4])
def test_an_item_is_refined_alike_in_any_batch(size: int) -> None:
    x, model = evidence(WEIGHT, SIGMA).sample((9,)).double(), vae(orthogonal(1.5, 0.8, size=4), SIGMA, shift=1.0)
    refined = SemiAmortised(Steps(3, 0.1, clip=0.5))
    whole, parts = (collect(model, x, 0, 3, batch_size=n, inference=refined) for n in (1000, size))
    torch.testing.assert_close(parts.means, whole.means)
    torch.testing.assert_close(parts.neg_elbo, whole.neg_elbo)


# What trains through them.


def loss_of(model: nn.Module, inference: Any, x: Tensor) -> Tensor:
    torch.manual_seed(7)
    return Descent(model, data(), inference=inference).loss(x).total


def differences(model: nn.Module, inference: Any, x: Tensor, parameter: nn.Parameter, step: float = 1e-5) -> Tensor:
    """The gradient of the loss in the first numbers of a parameter, by central differences."""
    flat, found = parameter.data.view(-1), []
    for i in range(min(len(flat), FIRST)):
        ends = []
        for sign in (1, -1):
            flat[i] += sign * step
            ends.append(loss_of(model, inference, x).detach())
            flat[i] -= sign * step
        found.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(found)


def of_tokens(latent: int = 2) -> tuple[VAE, Any]:
    """A model of text in float64 with dropout, and a batch."""
    from uncollapse.data.text import corpus_from_lines

    corpus = corpus_from_lines([f"{a} {b} {c}" for a in "abcd" for b in "xyz" for c in "pq"])
    encoder = Posterior(LSTMEncoder(len(corpus.vocabulary), 3, 3, 2 * latent), uc.gaussian, (latent, latent))
    decoder = LSTMDecoder(len(corpus.vocabulary), 3, 3, latent, 0.3, 0.3)
    return VAE(encoder, decoder, uc.StandardNormal(latent)).double(), corpus.batches("train", 4)[0]


def of_vectors() -> tuple[VAE, Tensor]:
    return small().double(), data()[0].double()


@pytest.mark.parametrize("made", [of_vectors, of_tokens])
@pytest.mark.parametrize("steps", [Steps(2, 0.1), Steps(2, 0.1, clip=0.5)])
def test_encoder_and_decoder_get_the_exact_gradient_through_the_refinement(made: Any, steps: Steps) -> None:
    model, x = made()
    loss_of(model, SemiAmortised(steps), x).backward()
    for player in model.players().values():
        smallest = min((p for p in player.parameters() if p.requires_grad), key=Tensor.numel)
        torch.testing.assert_close(
            smallest.grad.flatten()[:FIRST], differences(model, SemiAmortised(steps), x, smallest)
        )


@pytest.mark.usefixtures("float64")
def test_a_product_with_second_derivatives_is_that_of_two_gradients() -> None:
    found = product(lambda at: [at[0] ** 3], [torch.tensor(1.0)], [torch.tensor(2.0)], 1e-5)  # T21
    assert found[0].item() == pytest.approx(6.00012, abs=1e-6)


@pytest.mark.parametrize("made", [of_vectors, of_tokens])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-5), (torch.float32, 5e-3)])
def test_finite_differences_come_near_the_exact_gradient_with_the_noise_of_each_step(
    made: Any, dtype: torch.dtype, error: float
) -> None:
    model, x = made()
    if isinstance(x, Tensor):
        x = x.to(dtype)
    model.to(dtype)
    near = SemiAmortised(FEW, "differences", 1e-3 if dtype == torch.float32 else 1e-6)
    found = []
    for inference in (SemiAmortised(FEW), near, CutOff(FEW)):
        with WholeBatchNoise(slice(0, size(x)), 9):  # Gone when the gradient is taken.
            loss = loss_of(model, inference, x)
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.decoder.parameters()]))
        model.zero_grad()
    exact, differences, without = found
    assert (differences - exact).norm() < error * (without - exact).norm()


@dataclass(frozen=True)
class CutOff:
    """Steps that no gradient goes through."""

    steps: Steps

    def __call__(self, model: Any, x: Tensor, aim: Aim) -> Distribution:
        law = SemiAmortised(self.steps)(model, x, aim)
        return tight(law, {name: value.detach() for name, value in loose(law).items()})


@pytest.mark.parametrize("frozen", ["inference", "generation"])
@pytest.mark.parametrize("made", [of_vectors, of_tokens])
def test_who_is_awake_alone_gets_the_same_gradient(made: Any, frozen: str) -> None:
    model, x = made()
    loss_of(model, SemiAmortised(FEW), x).backward()
    players = model.players()
    awake = next(players[name] for name in players if name != frozen)
    expected = [p.grad.clone() for p in awake.parameters() if p.grad is not None]
    model.zero_grad()
    players[frozen].requires_grad_(False)
    loss_of(model, SemiAmortised(FEW), x).backward()
    for found, wanted in zip((p.grad for p in awake.parameters()), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert all(p.grad is None for p in players[frozen].parameters())


def test_posteriors_are_refined_without_a_graph_where_no_gradient_is_asked_for() -> None:
    model, x = small(), data()[0]
    with torch.no_grad():
        law = SemiAmortised(FEW)(model, x, plain)
    assert not law.mean.requires_grad
    assert (law.mean - model.encoder(x).mean).abs().max() > 0.01


@pytest.mark.parametrize("procedure", [None, Aggressive(budget=2, clip="own")])
def test_semi_amortised_training_goes_on_exactly_where_it_was_stopped(tmp_path: Path, procedure: Any) -> None:
    def run(folder: Path | None, epochs: int) -> Trainer:
        kept = {"procedure": procedure, "checkpoints": Checkpoints(folder), "max_epochs": epochs}
        made = Trainer(small(), data()[:3], data()[:1], inference=SemiAmortised(FEW), **kept)
        made.fit()
        return made

    whole, stopped = run(None, 2), run(tmp_path, 1)
    again = run(tmp_path, 2)
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(next(again.model.parameters()), next(stopped.model.parameters()))


# Steps that no gradient goes through.


def gradients(model: VAE, inference: Any, x: Tensor, seed: int = 7) -> tuple[Tensor, Tensor]:
    """Those of the encoder and of the decoder."""
    torch.manual_seed(seed)
    model.zero_grad()
    Descent(model, data(), inference=inference).loss(x).total.backward()
    found = [[p.grad.flatten() for p in one.parameters() if p.grad is not None] for one in model.players().values()]
    return tuple(torch.cat(some) if some else torch.empty(0) for some in found)  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("encoder", ["nothing", "loss", "kl", "reverse-kl"])
def test_the_decoder_learns_by_the_refined_posterior_as_if_it_were_given(encoder: Any) -> None:
    model, x = of_vectors()
    given: list[Distribution] = []

    def noted(model: Any, x: Tensor, aim: Aim) -> Distribution:
        found = SVI(FEW, encoder)(model, x, aim)
        given.append(found.q if isinstance(found, Taught) else found)
        return found  # pyright: ignore[reportReturnType]

    def as_given(model: Any, x: Tensor, aim: Aim) -> Distribution:
        SVI(FEW, encoder)(model, x, aim)  # The same numbers are drawn.
        return given[0]

    torch.testing.assert_close(gradients(model, noted, x)[1], gradients(model, as_given, x)[1])


def test_the_encoder_learns_by_its_own_loss_as_if_nothing_were_refined() -> None:
    model, x = of_vectors()
    own, _ = gradients(model, SVI(FEW, "loss"), x)
    alone, _ = gradients(model, amortised, x)
    torch.testing.assert_close(own, alone)


@pytest.mark.parametrize("encoder", ["kl", "reverse-kl"])
def test_the_encoder_learns_by_how_far_its_answer_is_from_the_refined_one(encoder: Any) -> None:
    model, x = of_vectors()
    found, _ = gradients(model, SVI(FEW, encoder), x)
    torch.manual_seed(7)
    refined = SVI(FEW, encoder)(model, x, plain)
    assert isinstance(refined, Taught)
    pair = (model.encoder(x), refined.q)
    model.zero_grad()
    kl_divergence(*(pair if encoder == "kl" else reversed(pair))).mean().backward()
    torch.testing.assert_close(found, torch.cat([p.grad.flatten() for p in model.encoder.parameters()]))


@pytest.mark.parametrize("encoder", ["loss", "kl", "reverse-kl"])
def test_what_the_encoder_learns_by_is_not_told_as_the_loss(encoder: Any) -> None:
    model, x = of_vectors()
    loss = Descent(model, data(), objective=uc.Objective(weights={"rate": 0.5}), inference=SVI(FEW, encoder)).loss(x)
    torch.testing.assert_close(loss.total, loss.parts["distortion"] + 0.5 * loss.parts["rate"])


def test_an_unused_encoder_has_no_say_and_does_not_learn() -> None:
    model, x = of_vectors()
    torch.manual_seed(7)
    before = SVI(FEW)(model, x, plain)
    model.encoder.requires_grad_(True)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.mul_(3)
    torch.manual_seed(7)
    after = SVI(FEW)(model, x, plain)
    assert isinstance(before, Distribution)
    assert isinstance(after, Distribution)
    torch.testing.assert_close(before.mean, after.mean)
    assert gradients(model, SVI(FEW), x)[0].numel() == 0


def test_an_encoder_that_is_not_used_cannot_step_alone() -> None:
    run = Trainer(small(), data()[:2], data()[:1], procedure=Aggressive(clip="own"), inference=SVI(FEW), max_epochs=1)
    with pytest.raises(uc.InputError, match="the loss does not depend on `inference`, who cannot descend it alone"):
        run.fit()


@pytest.mark.parametrize("encoder", ["loss", "kl"])
def test_an_encoder_that_learns_apart_can_step_alone(encoder: Any) -> None:
    chosen = {"procedure": Aggressive(budget=2, clip="own"), "inference": SVI(FEW, encoder)}
    run = Trainer(small(), data()[:2], data()[:1], max_epochs=1, **chosen)
    before = [p.clone() for p in run.model.parameters()]
    run.fit()
    assert not any(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))


# What cannot be refined.


class Pathwise(VAE):
    """A model that says no law."""

    def forward(self, x: Tensor, q: Distribution | None = None, samples: int = 1) -> Bound:
        return super().forward(x, q, samples)._replace(q=None)


class Encoder(nn.Module):
    """Answers with a law of one's own choice."""

    def __init__(self, law: Callable[[Tensor], Distribution]) -> None:
        super().__init__()
        self.law = law

    def forward(self, x: Tensor) -> Distribution:
        return self.law(x.abs() + 0.1)


class Directed(Exponential):
    """A law whose parameter has limits that torch knows no way into."""

    arg_constraints = {"rate": constraints.boolean}  # noqa: RUF012


def test_a_law_whose_draws_have_no_gradient_is_refused() -> None:
    model = VAE(Encoder(lambda x: Independent(Poisson(x), 1)), nn.Linear(4, 4), uc.StandardNormal(4))
    with pytest.raises(uc.InputError, match="cannot refine a `Poisson`, whose draws have no gradient: take another"):
        SemiAmortised()(model, data()[0], plain)


def test_a_law_with_a_parameter_that_no_step_keeps_within_its_limits_is_refused() -> None:
    encoder = Encoder(lambda x: Independent(Directed(x, validate_args=False), 1))
    model = VAE(encoder, nn.Linear(4, 4), uc.StandardNormal(4))
    with pytest.raises(uc.InputError, match="cannot refine a `Directed`: no step keeps its `rate` within its limits"):
        SemiAmortised()(model, data()[0], plain)


def test_a_posterior_that_depends_on_the_path_is_refused() -> None:
    model = small()
    model.__class__ = Pathwise
    with pytest.raises(uc.InputError, match="cannot refine the posterior of `Pathwise`, which depends on the path"):
        SemiAmortised()(model, data()[0], plain)
