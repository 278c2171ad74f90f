"""A Gaussian after an inverse autoregressive flow, as a law and as a posterior."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from linear_gaussian import LinearGaussian
from uncollapse.distributions import operations
from uncollapse.distributions.flowed import FlowedNormal, autoregressive
from uncollapse.distributions.loose import loose, tight
from uncollapse.divergence import kl_by_group
from uncollapse.errors import InputError
from uncollapse.metrics.estimate import Estimate, Unavailable
from uncollapse.metrics.evaluation import evaluate
from uncollapse.metrics.information import densities
from uncollapse.metrics.rows import Rows, collect
from uncollapse.model import VAE
from uncollapse.posteriors import gaussian
from uncollapse.posteriors.flow import flow
from uncollapse.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("float64")
C, DRAWS = 3, 40_000


def network(latent: int = 2, transforms: int = 2, span: float = 0.4) -> nn.Module:
    """A flow that bends a Gaussian a good deal."""
    made = autoregressive("a test", latent, transforms, (16,), C).transform
    for parameter in made.parameters():
        nn.init.uniform_(parameter, -span, span)
    return made


def law(made: nn.Module, x: Tensor, latent: int = 2) -> FlowedNormal:
    """Of numbers (B, 2 D + C)."""
    loc, log_scale, context = x.split((latent, latent, C), -1)
    return FlowedNormal(made, loc, log_scale.exp(), context)


def numbers(items: int = 3, latent: int = 2) -> Tensor:
    return 0.4 * torch.randn(items, 2 * latent + C, generator=torch.Generator().manual_seed(5))


def grid() -> tuple[Tensor, float]:
    side = torch.linspace(-9, 9, 361)
    return torch.cartesian_prod(side, side), (side[1] - side[0]).item() ** 2


def curve(z: Tensor) -> Tensor:
    return (z[..., 0] - 0.5 * z[..., 1]).sin() + 0.3 * (z[..., 0] + z[..., -1]).square()


# The law.


@torch.no_grad()
def test_the_density_integrates_to_1_and_is_that_of_the_draws() -> None:
    q, (points, cell) = law(network(), numbers()), grid()
    share = q.log_prob(points.unsqueeze(1)).exp() * cell
    torch.testing.assert_close(share.sum(0), torch.ones(3), rtol=0, atol=1e-3)

    z = q.rsample(torch.Size((DRAWS,)))
    assert z.shape == (DRAWS, 3, 2)
    for f in (curve, lambda z: z[..., 1], lambda z: z[..., 0] * z[..., 1], lambda z: (2 * z[..., 1]).cos()):
        error = 5 * f(z).std(0) / DRAWS**0.5 + 1e-3
        assert ((f(z).mean(0) - f(points) @ share).abs() < error).all()


def test_the_gradient_of_draws_is_that_of_the_expectation() -> None:
    made, x, (points, cell) = network(), numbers().requires_grad_(), grid()
    share = law(made, x).log_prob(points.unsqueeze(1)).exp() * cell
    (exact,) = torch.autograd.grad((curve(points) @ share).sum(), x)
    parts = []
    for _ in range(8):
        (found,) = torch.autograd.grad(curve(law(made, x).rsample((DRAWS // 8,))).mean(0).sum(), x)
        parts.append(found)
    found, error = torch.stack(parts).mean(0), torch.stack(parts).std(0) / 8**0.5
    assert ((found - exact).abs() < 7 * error + 1e-3).all()


def test_gradients_of_the_density_are_finite_differences() -> None:
    made, z = network(), torch.randn(4, 3, 2)
    assert torch.autograd.gradcheck(lambda x, z: law(made, x).log_prob(z), (numbers().requires_grad_(), z))

    def of_draws(x: Tensor) -> Tensor:
        torch.manual_seed(1)
        q = law(made, x)
        return q.log_prob(q.rsample((4,)))

    assert torch.autograd.gradcheck(of_draws, (numbers().requires_grad_(),))


@pytest.mark.parametrize("latent", [1, 2, 5])
def test_a_draws_own_density_is_that_of_the_inverse(latent: int) -> None:
    x = numbers(latent=latent).requires_grad_()
    q = law(network(latent), x, latent)
    z = q.rsample(torch.Size((7,)))
    kept, inverted = q.log_prob(z), q.log_prob(z.clone())

    torch.testing.assert_close(kept, inverted)
    (one,), (other,) = (torch.autograd.grad(found.sum(), x, retain_graph=True) for found in (kept, inverted))
    # z moves with the numbers: whichever way the density is taken, its gradient is the whole one.
    torch.testing.assert_close(one, other)


def test_a_draws_own_density_takes_no_pass_and_has_the_gradient_that_is_asked_for() -> None:
    made, x = network(), numbers().requires_grad_()
    passes: list[None] = []
    made.register_forward_hook(lambda *_: passes.append(None))
    q = law(made, x)
    q.log_prob(q.rsample())
    assert len(passes) == 1

    z = q.sample()
    assert q.log_prob(z).requires_grad
    assert len(passes) == 3


def test_a_flow_that_changes_nothing_leaves_the_gaussian_and_its_rate() -> None:
    made, x = network(span=0.0), numbers()
    q, plain = law(made, x), gaussian(x[:, :2], 2 * x[:, 2:4])
    z = plain.sample()
    torch.testing.assert_close(q.log_prob(z), plain.log_prob(z))
    torch.testing.assert_close(q.mean, x[:, :2])

    z, prior = q.rsample((200_000,)), StandardNormal(2)()
    found = kl_by_group(q, prior, q.log_prob(z), prior.log_prob(z))
    exact = kl_by_group(plain, prior, torch.empty(0), torch.empty(0)).sum(1, keepdim=True)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.02)


@torch.no_grad()
def test_means_are_near_and_alike_for_laws_that_are_alike() -> None:
    q, (points, cell) = law(network(), numbers(1).expand(3, -1)), grid()
    exact = (q.log_prob(points.unsqueeze(1)).exp() * cell).T @ points
    torch.testing.assert_close(operations.mean(q), exact, rtol=0, atol=0.15)
    assert operations.mean(q).var(0).max() == 0


def test_single_precision_gives_what_double_does_in_its_own_type() -> None:
    made, x = network(5), numbers(latent=5)
    z = law(made, x, 5).sample()
    double, mean = law(made, x, 5).log_prob(z), law(made, x, 5).mean
    single = law(made.float(), x.float(), 5)
    assert single.rsample().dtype == single.mean.dtype == torch.float32
    torch.testing.assert_close(single.log_prob(z.float()).double(), double, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(single.mean.double(), mean, rtol=1e-4, atol=1e-4)


def test_laws_are_joined_and_picked_and_compared_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = network(), numbers()
    q, joined = law(made, x), operations.cat([law(made, x[:1]), law(made, x[1:])])
    z = q.sample()
    torch.testing.assert_close(joined.log_prob(z), q.log_prob(z))
    torch.testing.assert_close(operations.take(q, torch.tensor([2])).log_prob(z[2:]), q.log_prob(z)[2:])
    monkeypatch.setattr("uncollapse.distributions.flowed.PAIRS", 6)  # Two draws at a time, then one.
    pairs = operations.pairwise_log_prob(q, z)
    torch.testing.assert_close(pairs.diagonal(), q.log_prob(z))
    torch.testing.assert_close(pairs[0, 2], law(made, x[2:]).log_prob(z[:1])[0])
    assert q.expand(torch.Size((4, 3))).log_prob(z).shape == (4, 3)


def test_numbers_without_limits_say_the_same_law_and_one_without_a_gradient_too() -> None:
    q = law(network(), numbers().requires_grad_())
    z = q.sample()
    torch.testing.assert_close(tight(q, loose(q)).log_prob(z), q.log_prob(z))
    still = operations.detached(q).log_prob(z)
    assert not still.requires_grad
    torch.testing.assert_close(still, q.log_prob(z).detach())


# The posterior.


def model(latent: int = 2) -> VAE:
    encoder = flow(lambda outputs: nn.Linear(4, outputs), latent, transforms=2, hidden=(8,), context=C)
    return VAE(encoder, LinearGaussian(torch.randn(4, latent), 0.5), StandardNormal(latent))


def test_every_parameter_learns() -> None:
    made = model()
    bound = made(torch.randn(5, 4))
    (bound.rate + bound.distortion).sum().backward()
    assert bound.kl.shape == (5, 1)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())


def test_half_precision_makes_a_law_of_single_precision() -> None:
    torch.set_default_dtype(torch.float32)
    encoder = flow(lambda outputs: nn.Linear(4, outputs, dtype=torch.bfloat16), 2, context=C)
    assert encoder(torch.randn(5, 4, dtype=torch.bfloat16)).rsample().dtype == torch.float32  # pyright: ignore


def test_an_evaluation_is_exact_where_the_flow_changes_nothing() -> None:
    made, x = model(), torch.randn(40, 4)
    for parameter in made.encoder.family.parameters():  # pyright: ignore[reportAttributeAccessIssue]
        nn.init.zeros_(parameter)
    net = made.encoder.net
    plain = VAE(made.encoder, made.decoder, made.prior)
    plain.encoder = nn.Sequential(net, Gaussian())  # pyright: ignore[reportArgumentType]
    flowed, gauss = (evaluate(one, x, samples=300) for one in (made, plain))

    for name in ("nll", "neg_elbo", "mi"):
        one, other = getattr(flowed, name), getattr(gauss, name)
        assert one.value == pytest.approx(other.value, abs=0.15)
    assert flowed.active_units.value == gauss.active_units.value  # pyright: ignore[reportAttributeAccessIssue]
    assert flowed.mi_published == Unavailable("the entropy of the posterior is not known in closed form")


class Gaussian(nn.Module):
    def forward(self, u: Tensor) -> Independent:
        return Independent(Normal(u[:, :2], (0.5 * u[:, 2:4]).exp()), 1)


def test_few_items_are_compared_where_that_takes_many_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model()
    q = made.encoder(torch.randn(50, 4))
    assert operations.comparable(q) == math.isqrt(4_000_000 // (2 * 2))
    monkeypatch.setattr("uncollapse.distributions.flowed.PASSES", 400)
    with torch.no_grad():
        assert len(densities(q).values) == 10
        found = evaluate(made, torch.randn(50, 4), samples=0).mi
    assert isinstance(found, Estimate)
    assert found.n == 10
    assert found.cap == pytest.approx(math.log(10))


def test_rows_are_kept_without_the_law(tmp_path: Path) -> None:
    rows = collect(model(), torch.randn(5, 4), samples=2)
    rows.save(tmp_path / "rows.safetensors")
    found = Rows.load(tmp_path / "rows.safetensors")
    assert found.law is None
    torch.testing.assert_close(found.kl, rows.kl)


def test_without_zuko_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(InputError, match=r"the posterior `flow` needs zuko: `pip install 'uncollapse\[flows\]'`"):
        flow(lambda outputs: nn.Linear(4, outputs), 2)
