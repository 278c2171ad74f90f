"""Laws of z: whoever adds one adds a row, and all that a law must do is asked of it.

Everything is compared with sums over a fine grid of the space that the law is on, which need no draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from uncollapse.distributions import families, operations
from uncollapse.distributions.loose import loose, tight
from uncollapse.distributions.one_hots import OneHots
from uncollapse.distributions.power_spherical import PowerSpherical
from uncollapse.distributions.von_mises_fisher import VonMisesFisher
from uncollapse.divergence import kl_by_group
from uncollapse.metrics.draws import draw
from uncollapse.posteriors import gaussian

pytestmark = pytest.mark.usefixtures("float64")
DRAWS = 40_000


def plane() -> tuple[Tensor, Tensor]:
    """Points of R^2, (N, 2), and what each stands for, (N,)."""
    side = torch.linspace(-9, 9, 181)
    points = torch.cartesian_prod(side, side)
    return points, torch.full((len(points),), (side[1] - side[0]).item() ** 2)


def sphere() -> tuple[Tensor, Tensor]:
    """Of the sphere in R^3."""
    height, weight = map(torch.as_tensor, np.polynomial.legendre.leggauss(120))
    turn = torch.arange(120) * 2 * math.pi / 120
    h, t = (one.flatten() for one in torch.meshgrid(height, turn, indexing="ij"))
    ring = (1 - h * h).sqrt()
    return torch.stack([ring * t.cos(), ring * t.sin(), h], 1), weight.repeat_interleave(120) * 2 * math.pi / 120


def choices() -> tuple[Tensor, Tensor]:
    """Of two choices among three."""
    each = torch.eye(3).tile(1, 2)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    return torch.cat([each[pairs[:, 0], :3], each[pairs[:, 1], 3:]], 1), torch.ones(9)


class Row(NamedTuple):
    of: Callable[[Tensor], Any]
    """The law of parameters (B, width)."""
    width: int
    prior: Callable[[], Distribution]
    space: Callable[[], tuple[Tensor, Tensor]]
    exact_gradient: bool = True


def full(x: Tensor) -> MultivariateNormal:
    below = torch.stack([x[:, 2].exp(), 0 * x[:, 2], x[:, 4], x[:, 3].exp()], 1).view(-1, 2, 2)
    return MultivariateNormal(x[:, :2], scale_tril=below, validate_args=False)


def standard() -> Distribution:
    return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)


def correlated() -> Distribution:
    return MultivariateNormal(torch.tensor([0.3, -0.2]), torch.tensor([[1.0, 0.7], [0.7, 1.5]]))


def leaning() -> Distribution:
    return VonMisesFisher(F.normalize(torch.tensor([1.0, -1.0, 0.5]), dim=0), torch.tensor(1.3))


LAWS = {
    "gaussian": Row(lambda x: gaussian(x[:, :2], x[:, 2:4]), 4, standard, plane),
    "gaussian-correlated-prior": Row(lambda x: gaussian(x[:, :2], x[:, 2:4]), 4, correlated, plane),
    "full-gaussian": Row(full, 5, standard, plane),
    "full-gaussian-correlated-prior": Row(full, 5, correlated, plane),
    "von-mises-fisher": Row(
        lambda x: VonMisesFisher(F.normalize(x[:, :3], dim=1), F.softplus(x[:, 3]) + 1), 4, leaning, sphere
    ),
    "power-spherical": Row(
        lambda x: PowerSpherical(F.normalize(x[:, :3], dim=1), F.softplus(x[:, 3]) + 1), 4, leaning, sphere
    ),
    "one-hots": Row(
        lambda x: OneHots(x.view(-1, 2, 3)), 6, lambda: OneHots(torch.arange(6.0).view(2, 3) / 5), choices, False
    ),
}


@pytest.fixture(params=list(LAWS))
def row(request: pytest.FixtureRequest) -> Row:
    return LAWS[request.param]


def parameters(row: Row, items: int = 3) -> Tensor:
    return 0.4 * torch.randn(items, row.width, generator=torch.Generator().manual_seed(5))


def on_grid(law: Any, row: Row) -> tuple[Tensor, Tensor]:
    """The points (N, D), and the probability of each under each item, (N, B)."""
    points, weights = row.space()
    return points, law.log_prob(points.unsqueeze(1)).exp() * weights.unsqueeze(1)


def curve(z: Tensor) -> Tensor:
    """Some function of z that is neither even nor linear."""
    return (z[..., 0] - 0.5 * z[..., 1]).sin() + 0.3 * (z[..., 0] + z[..., -1]).square()


def test_the_density_integrates_to_1(row: Row) -> None:
    _, probability = on_grid(row.of(parameters(row)), row)
    torch.testing.assert_close(probability.sum(0), torch.ones(3), rtol=0, atol=1e-8)


@pytest.mark.parametrize("drawing", ["sample", "rsample"])
def test_draws_have_the_moments_of_the_density(row: Row, drawing: str) -> None:
    law = row.of(parameters(row))
    points, probability = on_grid(law, row)
    z = getattr(law, drawing)(torch.Size((DRAWS,)))

    for f in (curve, lambda z: z[..., 1], lambda z: z[..., 0] * z[..., -1], lambda z: (2 * z[..., 1]).cos()):
        error = 5 * f(z).std(0) / DRAWS**0.5 + 1e-9
        assert ((f(z).mean(0) - f(points) @ probability).abs() < error).all()
    assert z.shape == (DRAWS, 3, *law.event_shape)
    torch.testing.assert_close(operations.mean(law), probability.T @ points, rtol=0, atol=1e-7)


def test_the_gradient_of_draws_is_that_of_the_expectation(row: Row) -> None:
    if not row.exact_gradient:
        pytest.skip("its draws are of whole numbers")
    x = parameters(row).requires_grad_()
    points, probability = on_grid(row.of(x), row)
    (exact,) = torch.autograd.grad((curve(points) @ probability).sum(), x)
    halves = []
    for _ in range(8):
        (found,) = torch.autograd.grad(curve(row.of(x).rsample((DRAWS // 8,))).mean(0).sum(), x)
        halves.append(found)
    found, error = torch.stack(halves).mean(0), torch.stack(halves).std(0) / 8**0.5
    assert ((found - exact).abs() < 7 * error + 1e-6).all()
    assert (error < 0.05).all()


def test_the_divergence_from_the_prior_is_that_of_the_densities(row: Row) -> None:
    law, prior = row.of(parameters(row)), row.prior()
    points, probability = on_grid(law, row)
    none = torch.full((1, 3), torch.nan)  # Nobody asks what was drawn.

    found = kl_by_group(law, prior, none, none).sum(1)

    log_ratio = law.log_prob(points.unsqueeze(1)) - prior.log_prob(points).unsqueeze(1)
    torch.testing.assert_close(found, (probability * log_ratio).sum(0), rtol=0, atol=1e-7)


def test_the_entropy_is_that_of_the_density(row: Row) -> None:
    law = row.of(parameters(row))
    points, probability = on_grid(law, row)
    exact = -(probability * law.log_prob(points.unsqueeze(1))).sum(0)
    torch.testing.assert_close(law.entropy(), exact, rtol=0, atol=1e-7)


def test_single_precision_gives_what_double_does_in_its_own_type(row: Row) -> None:
    double, single = row.of(parameters(row)), row.of(parameters(row).float())
    z = double.sample()
    found = single.log_prob(z.float())
    assert found.dtype == single.rsample().dtype == operations.mean(single).dtype == torch.float32
    torch.testing.assert_close(found.double(), double.log_prob(z), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(single.entropy(), double.entropy().float(), rtol=1e-4, atol=1e-4)


def test_laws_are_joined_and_picked_and_compared_in_pairs(row: Row) -> None:
    x = parameters(row)
    law, joined = row.of(x), operations.cat([row.of(x[:1]), row.of(x[1:])])
    z = law.sample()
    torch.testing.assert_close(joined.log_prob(z), law.log_prob(z))
    torch.testing.assert_close(operations.take(law, torch.tensor([2])).log_prob(z[2:]), law.log_prob(z)[2:])
    pairs = operations.pairwise_log_prob(law, z)
    torch.testing.assert_close(pairs.diagonal(), law.log_prob(z))
    torch.testing.assert_close(pairs[0, 2], row.of(x[2:]).log_prob(z[:1])[0])


def test_a_law_is_read_from_a_file_as_it_was_written(row: Row) -> None:
    law = row.of(parameters(row))
    found = families.restored(families.family(law), operations.parameters(law))
    z = law.sample()
    assert found is not None
    torch.testing.assert_close(found.log_prob(z), law.log_prob(z))


def test_a_law_expands_and_prints(row: Row) -> None:
    law = row.of(parameters(row, 1))
    assert law.expand(torch.Size((4, 3))).log_prob(law.sample()).shape == (4, 3)
    assert type(law).__name__ in repr(law)


def test_evaluations_draws_are_the_items_own(row: Row) -> None:
    law = row.of(parameters(row))
    both = draw(law, 0, "test", [7, 8, 9], 3)
    torch.testing.assert_close(draw(operations.take(law, slice(1, 2)), 0, "test", [8], 3)[:, 0], both[:, 1])


def test_numbers_without_limits_say_the_same_law(row: Row) -> None:
    law = row.of(parameters(row))
    z = law.sample()
    torch.testing.assert_close(tight(law, loose(law)).log_prob(z), law.log_prob(z))
    moved = {name: value + torch.randn_like(value) for name, value in loose(law).items()}
    _, probability = on_grid(tight(law, moved), row)
    torch.testing.assert_close(probability.sum(0), torch.ones(3), rtol=0, atol=1e-3)


def test_a_law_without_a_gradient_is_the_same_law(row: Row) -> None:
    law = row.of(parameters(row).requires_grad_())
    z = law.sample()
    found = operations.detached(law).log_prob(z)
    assert not found.requires_grad
    torch.testing.assert_close(found, law.log_prob(z).detach())
