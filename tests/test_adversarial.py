"""Critics of z against what the best critic of two known laws comes to (JS and cross-entropies by quadrature)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from uncollapse.bound import Bound
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.nets.critics import LatentCritic
from uncollapse.terms.adversarial import AdversarialPrior
from uncollapse.training.checkpoints import Checkpoints


def unit(mean: Tensor) -> Independent:
    return Independent(Normal(mean, torch.ones_like(mean)), 1)


def bound(mean: float, items: int = 4, samples: int = 1) -> Bound:
    """One latent unit whose posteriors are all N(mean, 1), under the prior N(0, 1)."""
    q, p = unit(torch.full((items, 1), mean)), unit(torch.zeros(1))
    z = q.sample(torch.Size((samples,)))
    zero = torch.zeros(samples, items)
    return Bound(torch.zeros(items, 1), z, zero, zero, zero, torch.zeros(items, 1), q, p)


def linear(slope: float, offset: float) -> nn.Module:
    critic = LatentCritic(1, hidden=[])
    with torch.no_grad():
        for parameter, value in zip(critic.parameters(), (slope, offset), strict=True):
            parameter.fill_(value)
    return critic


def test_the_best_critic_of_two_shifted_gaussians_has_their_jensen_shannon_divergence() -> None:
    # log p - log q = -z + 1/2 for N(0, 1) and N(1, 1).
    term = AdversarialPrior(linear(-1.0, 0.5))

    value = -term.opposition(bound(1.0, items=400_000)).item()

    assert value == pytest.approx(-1.1634513968, abs=0.005)
    assert (value + 2 * math.log(2)) / 2 == pytest.approx(0.1114214822, abs=0.0025)
    assert -value / 2 == pytest.approx(0.5817256984, abs=0.0025)


def test_where_the_laws_are_the_same_no_critic_tells_them() -> None:
    assert AdversarialPrior(linear(0.0, 0.0)).opposition(bound(0.0)).item() == pytest.approx(2 * math.log(2))


def test_the_encoder_is_pushed_towards_the_prior() -> None:
    mean = torch.full((1000, 1), 2.0, requires_grad=True)
    z = unit(mean).rsample(torch.Size((1,)))

    AdversarialPrior(linear(-2.0, 2.0))(bound(2.0, 1000)._replace(z=z)).backward()

    assert mean.grad is not None
    assert (mean.grad > 0).all()


def test_draws_of_a_prior_for_each_item_are_as_many_as_those_of_the_posteriors() -> None:
    one = bound(0.0, items=5, samples=3)
    seen: list[torch.Size] = []
    critic = linear(0.0, 0.0)
    critic.register_forward_hook(lambda module, given, out: seen.append(out.shape))

    AdversarialPrior(critic).opposition(one)
    AdversarialPrior(critic).opposition(one._replace(p=unit(torch.zeros(5, 1))))

    assert seen == [(3, 5)] * 4


def trained(folder: Path, epochs: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(0)
    x = torch.randn(96, 5)
    said = validated(compose("vectors", ["aae"], ["data.train=x.npy", f"training.max_epochs={epochs}"]))
    model = build.model(said, {"shape": (5,)})
    run = build.trainer(said.training, model, [x[:32], x[32:64]], [x[64:]], seed=0, checkpoints=Checkpoints(folder))
    assert "aae-critic" in run.players
    run.fit()
    return model.state_dict(), run.objective.state_dict()


def test_the_remedy_trains_its_critic_and_resumes_exactly(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", 3)
    trained(tmp_path / "parts", 1)
    parts = trained(tmp_path / "parts", 3)

    assert all(torch.equal(a[name], b[name]) for a, b in zip(whole, parts, strict=True) for name in a)
    before = validated(compose("vectors", ["aae"], ["data.train=x.npy"]))
    critic = build.trainer(
        before.training, build.model(before, {"shape": (5,)}), [torch.randn(4, 5)], [torch.randn(4, 5)], seed=0
    ).objective.state_dict()
    assert all(not torch.equal(critic[name], whole[1][name]) for name in critic if "weight" in name)
