"""Priors that are more than N(0, I)."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from uncollapse.distributions import operations
from uncollapse.divergence import kl_by_group
from uncollapse.errors import InputError
from uncollapse.posteriors import gaussian
from uncollapse.priors import Flow, Mixture, StandardNormal

pytestmark = pytest.mark.usefixtures("float64")


def mixture(*means: float, scale: float = 1.0) -> Mixture:
    """A mixture in one dimension."""
    made = Mixture(1, len(means))
    nn.init.constant_(made.log_variances, 2 * math.log(scale))
    made.means.data = torch.tensor(means).unsqueeze(1)
    return made


def test_a_mixture_of_standard_normals_costs_what_the_standard_normal_does() -> None:
    q = gaussian(torch.tensor([[0.5, -1.0]]), torch.tensor([[0.2, -0.7]]))
    prior = Mixture(2, 3)
    nn.init.zeros_(prior.means)
    z = q.rsample(torch.Size((200_000,)))

    found = kl_by_group(q, prior(), q.log_prob(z), prior().log_prob(z))

    exact = kl_by_group(q, StandardNormal(2)(), q.log_prob(z), z.sum(-1)).sum()
    assert found.shape == (1, 1)
    assert found.item() == pytest.approx(exact.item(), abs=0.01)


def test_a_mixture_has_the_density_of_its_components() -> None:
    found = mixture(-1.0, 1.0, scale=0.5)().log_prob(torch.tensor([[0.3]]))

    assert found.item() == pytest.approx(-1.8121023811, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mixtures_density_integrates_to_1_and_is_that_of_its_draws(dtype: torch.dtype) -> None:
    law, side = Mixture(2, 3).to(dtype)(), torch.linspace(-9, 9, 181, dtype=dtype)
    grid = torch.cartesian_prod(side, side)
    share = law.log_prob(grid).exp() * 0.01
    z = law.sample(torch.Size((20_000,)))
    assert z.dtype == share.dtype == dtype
    assert share.sum().item() == pytest.approx(1.0, abs=1e-5)
    for f in (lambda z: z[:, 0], lambda z: z[:, 1].square(), lambda z: (z[:, 0] * z[:, 1]).cos()):
        error = 5 * f(z).std().item() / 20_000**0.5
        assert f(z).mean().item() == pytest.approx((f(grid) * share).sum().item(), abs=error)


def test_a_mixture_learns_its_weights_means_and_variances() -> None:
    prior = Mixture(2, 3)
    prior().log_prob(torch.randn(5, 2)).sum().backward()

    assert all(p.grad is not None and (p.grad != 0).all() for p in prior.parameters())


# A flow.


def still(prior: Flow) -> Flow:
    """The flow that changes nothing."""
    for parameter in prior.parameters():
        nn.init.zeros_(parameter)
    return prior


def test_a_flow_that_changes_nothing_is_the_standard_normal() -> None:
    z = torch.randn(5, 3)
    torch.testing.assert_close(still(Flow(3))().log_prob(z), StandardNormal(3)().log_prob(z))


def test_an_affine_flow_has_the_density_worked_out_by_hand() -> None:
    prior = still(Flow(1, transforms=1))
    shift, scale = prior.parameters()
    # e = (z - 1) / 2; the logarithm of a scale is bounded softly, by log 1000.
    nn.init.constant_(shift, -0.5)
    nn.init.constant_(scale, -math.log(2) / (1 - math.log(2) / math.log(1000)))
    assert prior().log_prob(torch.tensor([3.0])).item() == pytest.approx(-2.1120857137, abs=1e-9)


def test_a_flows_density_integrates_to_1_and_is_that_of_its_draws() -> None:
    law, side = Flow(2)(), torch.linspace(-9, 9, 181)
    grid = torch.cartesian_prod(side, side)
    share = law.log_prob(grid).exp() * 0.01
    z = law.rsample(torch.Size((20_000,)))
    assert share.sum().item() == pytest.approx(1.0, abs=1e-3)
    for f in (lambda z: z[:, 0], lambda z: z[:, 1].square(), lambda z: (z[:, 0] * z[:, 1]).cos()):
        assert f(z).mean().item() == pytest.approx(
            (f(grid) * share).sum().item(), abs=5 * f(z).std().item() / 20_000**0.5
        )


def test_a_flow_without_a_gradient_is_the_same_law() -> None:
    law, z = Flow(2)(), torch.randn(4, 2, requires_grad=True)
    found = operations.detached(law).log_prob(z)
    torch.testing.assert_close(found, law.log_prob(z))
    found.sum().backward()
    assert z.grad is not None
    assert all(parameter.grad is None for parameter in law.flow.parameters())  # pyright: ignore


def test_without_zuko_a_flow_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(InputError, match=r"needs zuko: `pip install 'uncollapse\[flows\]'`"):
        Flow(2)


def test_a_flow_leaves_torch_checking_what_its_laws_are_given() -> None:
    # In an interpreter of its own, where zuko is not imported yet.
    code = "from torch.distributions import Distribution; from uncollapse.priors import Flow; Flow(2); "
    subprocess.run([sys.executable, "-c", code + "assert Distribution._validate_args"], check=True, timeout=120)
