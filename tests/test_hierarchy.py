"""Hierarchies of latent variables: laws of groups, each given those before it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

import uncollapse as uc
from uncollapse.distributions import operations
from uncollapse.distributions.chain import Chain
from uncollapse.errors import InputError
from uncollapse.metrics.rows import collect
from uncollapse.nets.hierarchy import HierarchicalPrior, gaussian
from uncollapse.nets.mlp import MLPDecoder, MLPEncoder
from uncollapse.nets.topdown import Own, Weighed, hierarchical, ladder
from uncollapse.nets.vamp import VampPrior

SIZES = (2, 3)


class Linear(nn.Module):
    """z_1 ~ N(H, s^2), z_2 ~ N(A z_1 + H, t^2), with H of the item, or 0."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.matrix = torch.randn(3, 2, generator=draws)
        self.scales = [0.5 + torch.rand(size, generator=draws) for size in SIZES]

    def forward(self, k: int, features: Tensor | None, before: Tensor | None) -> Any:
        start = torch.zeros(SIZES[k]) if features is None else features.split(SIZES, -1)[k]
        mean = start if before is None else before @ self.matrix.T + start
        return gaussian(mean, 2 * self.scales[k].log().expand_as(mean))

    def joint(self, features: Tensor) -> MultivariateNormal:
        """The law of both groups together."""
        first, second = features.split(SIZES, -1)
        one, two = (scale.square().diag() for scale in self.scales)
        across = self.matrix @ one
        covariance = torch.cat([torch.cat([one, across.T], 1), torch.cat([across, across @ self.matrix.T + two], 1)])
        return MultivariateNormal(torch.cat([first, first @ self.matrix.T + second], -1), covariance)


FEATURES = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


def test_its_density_and_its_draws_are_those_of_the_joint_law() -> None:
    links = Linear(1)
    law, joint = Chain(links, SIZES, FEATURES), links.joint(FEATURES)
    torch.manual_seed(0)
    z = law.rsample((20_000,))
    assert torch.allclose(law.log_prob(z), joint.log_prob(z), atol=1e-4)
    assert torch.allclose(law.log_prob(z.clone()), joint.log_prob(z), atol=1e-4)
    assert torch.allclose(z.mean(0), joint.loc, atol=0.08)
    assert torch.allclose(z[:, 0].T.cov(), joint.covariance_matrix, atol=0.15)
    assert torch.allclose(law.mean, joint.loc, atol=1e-5)
    pairs = operations.pairwise_log_prob(law, z[0])
    assert torch.allclose(pairs, torch.stack([links.joint(h).log_prob(z[0]) for h in FEATURES], 1), atol=1e-4)


def test_the_kl_is_by_group_and_that_of_the_joint_laws() -> None:
    one, other = Linear(1), Linear(2)
    q, p = Chain(one, SIZES, FEATURES), Chain(other, SIZES)
    torch.manual_seed(0)
    z = q.rsample((20_000,))
    q.log_prob(z), p.log_prob(z)
    found = kl_divergence(q, p)
    assert found.shape == (4, 2)
    first = Independent(Normal(FEATURES[:, :2], one.scales[0]), 1)
    assert torch.allclose(found[:, 0], kl_divergence(first, Independent(Normal(torch.zeros(2), other.scales[0]), 1)))
    assert torch.allclose(found.sum(1), kl_divergence(one.joint(FEATURES), other.joint(torch.zeros(5))), rtol=0.02)


def test_a_residual_normal_is_the_closed_form_and_the_prior_where_it_says_nothing() -> None:
    """NVAE: dmu = 1, sigma_p = 2, dsigma = 0.5 are 0.443147 nats."""
    prior = gaussian(torch.full((1, 1), 3.0), torch.full((1, 1), 2 * math.log(2.0)))
    rule = Own([1, 1], 0, [4], relative=True)
    for parameter in rule.parameters():
        parameter.detach().zero_()
    top, before = torch.zeros(1, 2), torch.zeros(1, 1)
    assert kl_divergence(rule(1, top, before, prior), prior).item() == 0
    rule.down.nets[0][-1].bias.detach().copy_(torch.tensor([1.0, 2 * math.log(0.5)]))
    assert kl_divergence(rule(1, top, before, prior), prior).item() == pytest.approx(0.443147, abs=1e-6)


def test_a_ladder_multiplies_two_gaussians() -> None:
    """N(1, 1/2) and N(4, 1): precisions 2 and 1, so N(2, 1/3)."""
    features = torch.tensor([[0.0, 1.0, 0.0, math.log(0.5)]])
    found = Weighed([1, 1])(1, features, torch.zeros(1, 1), gaussian(torch.full((1, 1), 4.0), torch.zeros(1, 1)))
    assert found.loc.item() == pytest.approx(2.0)
    assert found.scale.square().item() == pytest.approx(1 / 3)


class Exact(nn.Module):
    """The posterior of x = C z_2 + noise under the linear hierarchy, group by group."""

    def __init__(self, links: Linear, weight: Tensor) -> None:
        super().__init__()
        self.prior, self.weight = links.joint(torch.zeros(5)), weight

    def forward(self, x: Tensor) -> Chain:
        precision = self.prior.precision_matrix + self.weight.T @ self.weight
        covariance = precision.inverse()
        return Chain(_Conditional(covariance), SIZES, x @ self.weight @ covariance)


class _Conditional(nn.Module):
    def __init__(self, covariance: Tensor) -> None:
        super().__init__()
        self.covariance = covariance

    def forward(self, k: int, features: Tensor, before: Tensor | None) -> Any:
        first, second = features.split(SIZES, -1)
        if before is None:
            return MultivariateNormal(first, self.covariance[:2, :2])
        gain = self.covariance[2:, :2] @ self.covariance[:2, :2].inverse()
        rest = self.covariance[2:, 2:] - gain @ self.covariance[:2, 2:]
        return MultivariateNormal(second + (before - first) @ gain.T, rest)


class Joint(nn.Module):
    def __init__(self, links: nn.Module) -> None:
        super().__init__()
        self.links = links

    def forward(self) -> Chain:
        return Chain(self.links, SIZES)  # pyright: ignore[reportArgumentType]


class Written(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        mean = z @ self.weight.T
        return Independent(Normal(mean, torch.ones_like(mean)), 1)


def test_under_the_exact_posterior_every_importance_weight_is_the_evidence() -> None:
    links, weight = Linear(1), torch.randn(6, 5, generator=torch.Generator().manual_seed(4))
    weight[:, :2] = 0  # Of the second group alone.
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(5))
    model = uc.VAE(Exact(links, weight), Written(weight), Joint(links))
    covariance = weight @ links.joint(torch.zeros(5)).covariance_matrix @ weight.T + torch.eye(6)
    evidence = MultivariateNormal(torch.zeros(6), covariance).log_prob(x)
    bound = model(x, samples=5)
    assert torch.allclose(bound.log_weights, evidence.expand(5, 7), atol=1e-4)
    rows = collect(model, x, 4)
    assert rows.log_evidence is not None
    assert torch.allclose(rows.log_evidence.float(), evidence, atol=1e-4)


def made(kind: Any, **how: Any) -> uc.VAE:
    torch.manual_seed(0)
    encoder = kind(lambda outputs: MLPEncoder((6,), outputs, [8]), 4, **how)
    prior = HierarchicalPrior(4, encoder, lambda **given: uc.StandardNormal(given["latent"]))
    return uc.VAE(encoder, MLPDecoder((6,), 4, [8]), prior)


@pytest.mark.parametrize(("kind", "how"), [(hierarchical, {}), (hierarchical, {"relative": True}), (ladder, {})])
def test_its_rate_is_by_group_and_all_networks_learn(kind: Any, how: dict[str, Any]) -> None:
    model = made(kind, **how)
    bound = model(torch.randn(5, 6), samples=2)
    assert bound.kl.shape == (5, 2)
    (bound.distortion + bound.rate).mean().backward()
    still = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []


def test_a_top_vampprior_is_the_mean_of_the_top_posteriors_of_pseudo_inputs() -> None:
    encoder = hierarchical(lambda outputs: MLPEncoder((6,), outputs, [8]), 4)
    vamp: Any = lambda **given: VampPrior(given["encoder"], (6,), components=3)  # noqa: E731
    prior = HierarchicalPrior(4, encoder, vamp)
    law = prior(encoder)
    z = torch.randn(9, 4)
    each = encoder(prior.top.inputs).first
    mixture = torch.stack([each.log_prob(one.expand(3, 2)) for one in z[:, :2]]).logsumexp(1) - math.log(3)
    assert torch.allclose(law.log_prob(z), mixture + law.links(1, None, z[:, :2]).log_prob(z[:, 2:]), atol=1e-5)
    model = uc.VAE(encoder, MLPDecoder((6,), 4, [8]), prior)
    assert model(torch.randn(5, 6)).kl.shape == (5, 2)


def test_parts_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(InputError, match="5 latent units do not split into 2 equal groups"):
        ladder(nn.Linear, 5)  # pyright: ignore[reportArgumentType]
    alone = uc.VAE(
        ladder(lambda outputs: MLPEncoder((6,), outputs, [8]), 4), Written(torch.ones(6, 4)), uc.StandardNormal(4)
    )
    with pytest.raises(InputError, match="goes down with the prior, which must be of groups too"):
        alone(torch.randn(3, 6))
    plain = uc.Posterior(nn.Linear(6, 8), uc.gaussian, (4, 4))
    vamp: Any = lambda **given: VampPrior(given["encoder"], (6,), components=3)  # noqa: E731
    with pytest.raises(InputError, match="needs those of groups"):
        uc.VAE(plain, Written(torch.ones(6, 4)), HierarchicalPrior(4, plain, vamp))(torch.randn(3, 6))


def test_a_run_is_trained_resumed_and_used(tmp_path: Path) -> None:
    from uncollapse.cli import main

    path = tmp_path / "run"
    few = ["--set", "training.max_epochs=1", "--samples", "0", "--quiet"]
    assert main(["fit", "digits", "--with", "ladder", "--out", str(path), *few]) == 0
    trained = uc.load(path)
    assert trained.generate(2).shape == (2, 1, 8, 8)
    assert main(["diagnose", str(path)]) == 0


@pytest.mark.parametrize("log_variance", [-200.0, 0.0, 200.0])
def test_precisions_beyond_what_a_number_holds_add_up(log_variance: float) -> None:
    """Of single precision: the sum is twice the one, and the mean between both."""
    rule, prior = Weighed([1, 1]), gaussian(torch.tensor([[3.0]]), torch.tensor([[log_variance]]))
    features = torch.tensor([[0.0, 1.0, 0.0, log_variance]])
    found = rule(1, features, torch.zeros(1, 1), prior)
    assert found.loc.item() == pytest.approx(2.0, abs=1e-4)
    assert 2 * found.log_scale.item() == pytest.approx(log_variance - math.log(2), rel=1e-5)
