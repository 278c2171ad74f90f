"""KL balancing: what the prior and the posterior each get of the rate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from uncollapse.bound import Bound
from uncollapse.divergence import kl_by_group
from uncollapse.errors import InputError
from uncollapse.posteriors import gaussian
from uncollapse.priors import Mixture, StandardNormal
from uncollapse.terms.balancing import Balanced
from uncollapse.terms.rates import rate

pytestmark = pytest.mark.usefixtures("float64")


def bound(mean: Tensor, prior: nn.Module) -> Bound:
    torch.manual_seed(1)
    q, p = gaussian(mean, torch.full_like(mean, -0.7)), prior()
    z = q.rsample(torch.Size((4,)))
    log_q, log_p = q.log_prob(z), p.log_prob(z)
    return Bound(mean, z, torch.zeros(4, len(mean)), log_q, log_p, kl_by_group(q, p, log_q, log_p), q, p)


class Leaning(nn.Module):
    """A Gaussian whose mean learns: a KL in closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.tensor([0.5, -0.3]))

    def forward(self) -> torch.distributions.Distribution:
        return gaussian(self.means, torch.zeros(2))


@pytest.mark.parametrize("prior", [Leaning(), Mixture(2, 3).double()], ids=["closed", "drawn"])
def test_the_value_is_the_rate_and_each_side_has_its_share_of_the_gradient(prior: nn.Module) -> None:
    mean = torch.randn(5, 2, requires_grad=True)
    learn = [mean, prior.means]

    plain, found = (term(bound(mean, prior)) for term in (rate, Balanced()))
    of_plain, of_found = (torch.autograd.grad(value, learn) for value in (plain, found))

    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(of_found[0], 0.2 * of_plain[0])  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(of_found[1], 0.8 * of_plain[1])  # pyright: ignore[reportArgumentType]


def test_under_a_prior_that_does_not_learn_the_posteriors_share_is_a_weight_of_the_rate() -> None:
    mean = torch.randn(5, 2, requires_grad=True)
    plain, found = (term(bound(mean, StandardNormal(2))) for term in (rate, Balanced()))
    torch.testing.assert_close(torch.autograd.grad(found, mean)[0], 0.2 * torch.autograd.grad(plain, mean)[0])


def test_an_item_below_what_is_free_has_no_gradient() -> None:
    mean = torch.tensor([[0.1, 0.0], [3.0, 0.0]], requires_grad=True)
    found = Balanced(0.5, 0.1, free="1 nats/item")(bound(mean, StandardNormal(2)))
    found.backward()
    assert found.item() == pytest.approx(0.6 * (1 + bound(mean, StandardNormal(2)).rate[1].item()) / 2)
    assert mean.grad is not None
    assert mean.grad[0].tolist() == [0.0, 0.0]
    assert mean.grad[1, 0] > 0


def test_a_model_without_laws_of_z_is_refused() -> None:
    with pytest.raises(InputError, match="KL balancing needs the laws of z"):
        Balanced()(bound(torch.randn(5, 2), StandardNormal(2))._replace(q=None))
