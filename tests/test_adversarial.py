"""Critics of z against what the best critic of two known laws comes to (JS and cross-entropies by quadrature)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from uncollapse.bound import Bound
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.nets.critics import BottleneckCritic, LatentCritic
from uncollapse.terms.adversarial import (
    AdversarialPrior,
    AdversarialTotalCorrelation,
    WassersteinPrior,
    exchanged,
)
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


def test_a_linear_critic_of_clipped_weights_finds_as_much_of_a_shift_as_the_clip_is() -> None:
    # The Wasserstein distance of N(0, 1) and N(1, 1) is 1.
    term = WassersteinPrior(linear(-3.0, 0.0), penalty=0.0, clip=0.01)
    assert term(bound(1.0, items=400_000)).item() == pytest.approx(0.01, abs=1e-4)
    assert term.opposition(bound(1.0, items=400_000)).item() == pytest.approx(-0.01, abs=1e-4)


def test_the_slope_of_a_critic_is_held_to_one() -> None:
    flat, steep = (WassersteinPrior(linear(slope, 0.0), penalty=10.0) for slope in (-1.0, -3.0))
    one = bound(1.0, items=200_000)
    assert flat(one).item() == pytest.approx(1.0, abs=0.01)
    assert flat.opposition(one).item() == pytest.approx(-1.0, abs=0.01)
    assert steep.opposition(one).item() == pytest.approx(-3.0 + 10 * (3 - 1) ** 2, abs=0.05)
    slope = next(iter(steep.critic.parameters()))
    (found,) = torch.autograd.grad(steep.opposition(one), slope)
    assert found.item() == pytest.approx(1 + 10 * 2 * (3 - 1) * -1, abs=0.1)  # d/ds of -(-s) + 10 (|s| - 1)^2 at -3.
    with pytest.raises(InputError, match="set `penalty` or `clip`"):
        WassersteinPrior(linear(1.0, 0.0), penalty=0.0)


@pytest.mark.parametrize(("r", "value"), [(0.0, 0.0), (0.5, 0.1438410362), (0.9, 0.8303656034)])
def test_the_best_critic_of_two_units_reads_their_total_correlation(r: float, value: float) -> None:
    class Best(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            covariance = torch.tensor([[1.0, r], [r, 1.0]])
            joint = torch.distributions.MultivariateNormal(torch.zeros(2), covariance)
            return joint.log_prob(z) - Normal(0.0, 1.0).log_prob(z).sum(-1)

    items = 400_000
    z = torch.randn(items, 2)
    z[:, 1] = r * z[:, 0] + (1 - r**2) ** 0.5 * z[:, 1]
    zero = torch.zeros(1, items)
    one = Bound(z, z.unsqueeze(0), zero, zero, zero, torch.zeros(items, 1), None, None)
    term = AdversarialTotalCorrelation(Best())
    assert term(one).item() == pytest.approx(value, abs=0.01)
    # No critic that is off does better by what it descends.
    best = term.opposition(one).item()
    assert best < 2 * math.log(2) + 1e-3
    assert AdversarialTotalCorrelation(linear_of_two(0.0)).opposition(one).item() >= best - 1e-3


def linear_of_two(slope: float) -> nn.Module:
    critic = LatentCritic(2, hidden=[])
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.fill_(slope)
    return critic


def test_exchanged_units_are_each_from_an_item_of_their_own() -> None:
    z = torch.arange(1000.0).view(1, 1000, 1).expand(2, 1000, 2).contiguous()
    found = exchanged(z)
    assert torch.equal(found.sort(1).values, z)
    assert 0 < (found[..., 0] == found[..., 1]).sum() < 20
    assert not torch.equal(found[0], found[1])
    assert torch.equal(exchanged(z[:, :1]), z[:, :1])


def test_the_multiplier_of_a_bottleneck_moves_by_what_the_encoding_says_beyond_its_capacity() -> None:
    """The sequence of KL .5, .1, 0, 0 at a capacity of .2 and a step of 1e-5."""
    critic, seen = BottleneckCritic(1, hidden=[], encoding=1), []
    z = torch.zeros(1, 5, 1)
    for kl in (0.5, 0.1, 0.0, 0.0):
        with torch.no_grad():
            for parameter in critic.parameters():
                parameter.zero_()
            critic.body[0].bias[0] = math.sqrt(2 * kl)  # pyright: ignore
        before = critic.beta.item()
        found = critic.opposition(z, z).item()
        assert found == pytest.approx(2 * math.log(2) + before * (kl - 0.2), abs=1e-6)
        seen.append(critic.beta.item())
    assert seen == pytest.approx([3e-6, 2e-6, 0.0, 0.0], abs=1e-12)


def test_who_is_held_against_a_bottleneck_sees_its_mean_encoding() -> None:
    critic, z = BottleneckCritic(2, hidden=[4]), torch.randn(3, 2)
    assert torch.equal(critic(z), critic(z))
    assert critic.opposition(z, z) != critic.opposition(z, z)
