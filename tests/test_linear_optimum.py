"""The linear VAE of any weight of the rate and any number of units: its optimum is known in closed form.

With e = beta s^2, unit j has w_j^2 = lambda_j - e where the eigenvalue lambda_j of the data is above e, else it is
collapsed; q has the mean sqrt(lambda_j - e) / lambda_j x_j and the variance e / lambda_j. A variance that is learned is
the mean of the eigenvalues that are left.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

import uncollapse as uc
from linear_gaussian import evidence
from uncollapse.distributions.diagonal import Diagonal
from uncollapse.nets.mlp import MLPDecoder

pytestmark = pytest.mark.usefixtures("float64")

SPECTRUM = (5.0, 2.0, 1.2, 0.5)


class Corners(Diagonal):
    """A Gaussian whose 2 D draws have its mean and covariance exactly, and so any mean of a quadratic function."""

    def rsample(self, sample_shape: object = ()) -> Tensor:
        noise = math.sqrt(self.loc.shape[-1]) * torch.eye(self.loc.shape[-1])
        return self.loc + torch.cat([noise, -noise]).unsqueeze(1) * self.scale


class LinearEncoder(nn.Module):
    def __init__(self, weight: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.weight, self.log_variance = nn.Parameter(weight), nn.Parameter(variance.log())

    def forward(self, x: Tensor) -> Distribution:
        mean = x @ self.weight.T
        return uc.gaussian(mean, self.log_variance.expand_as(mean))


def data() -> Tensor:
    """100 items whose covariance is exactly the diagonal of `SPECTRUM`."""
    x = torch.randn(100, 4)
    centred = torch.linalg.qr(x - x.mean(0)).Q
    return centred * (100 * torch.tensor(SPECTRUM)).sqrt()


def optimum(beta: float, variance: float, units: int) -> uc.VAE:
    """The model at its optimum."""
    spectrum, noise = torch.tensor(SPECTRUM)[:units], beta * variance
    used = (spectrum - noise).clamp_min(0).sqrt()
    encoder = LinearEncoder(torch.eye(units, 4) * (used / spectrum).unsqueeze(1), noise / spectrum.clamp_min(noise))
    decoder = MLPDecoder((4,), units, [], variance="shared")
    layers: Any = decoder.layers
    layers[0].weight.data, layers[0].bias.data, least = torch.eye(4, units) * used, torch.zeros(4), -6.0
    # The inverse of the soft floor of its logarithm.
    decoder.log_variance.data.fill_(2 * (least + math.log(math.expm1(0.5 * math.log(variance) - least))))
    return uc.VAE(encoder, decoder, uc.StandardNormal(units))


def exact(model: uc.VAE, x: Tensor) -> uc.Bound:
    """The bound without an error of its draws."""
    q = model.encoder(x)
    return model(x, Corners(q.loc, q.scale, 1), 2 * q.loc.shape[-1])


#: FX3 of section 31: weight, variance, units; rate, -ELBO where it is given, NLL.
WEIGHTED = [
    (1.0, 1.0, 4, 1.242453, 6.668207, 6.668207),
    (2.0, 1.0, 4, 0.458145, None, 6.843901),
    (0.5, 1.0, 4, 2.282174, 6.957928, 6.709074),
    (1.0, 2.5, 4, 0.346574, 7.094909, 7.094909),
    (1.0, 5.0, 4, 0.0, 7.764630, 7.764630),
]
LEARNED = [(1.0, 0.85, 2, 1.313811, 6.664528, 6.664528)]


@pytest.mark.parametrize(("beta", "variance", "units", "rate", "neg_elbo", "nll"), WEIGHTED + LEARNED)
def test_the_optimum_has_the_figures_of_its_closed_form(
    beta: float, variance: float, units: int, rate: float, neg_elbo: float | None, nll: float
) -> None:
    model, x = optimum(beta, variance, units), data()
    weight = model.decoder.layers[0].weight.detach()  # pyright: ignore

    bound = exact(model, x)

    assert bound.rate.mean().item() == pytest.approx(rate, abs=1e-6)
    if neg_elbo is not None:
        assert uc.Objective()(bound).total.item() == pytest.approx(neg_elbo, abs=1e-6)
    assert -evidence(weight, variance**0.5).log_prob(x).mean().item() == pytest.approx(nll, abs=1e-6)
    assert uc.evaluate(model, x, samples=2000).nll.value == pytest.approx(nll, abs=0.01)  # pyright: ignore


@pytest.mark.parametrize(("beta", "variance", "units"), [case[:3] for case in WEIGHTED + LEARNED])
def test_the_objective_is_flat_at_the_optimum(beta: float, variance: float, units: int) -> None:
    model = optimum(beta, variance, units)

    uc.Objective(weights={"rate": beta})(exact(model, data())).total.backward()

    learned = units < 4
    for name, parameter in model.named_parameters():
        if learned or not name.endswith("decoder.log_variance"):
            torch.testing.assert_close(parameter.grad, torch.zeros_like(parameter), rtol=0, atol=1e-9)


def test_a_model_that_has_collapsed_with_a_learned_variance_stays_so() -> None:
    variance = sum(SPECTRUM) / 4
    model = optimum(1.0, variance, 1)
    with torch.no_grad():
        model.decoder.layers[0].weight.zero_()  # pyright: ignore
        model.encoder.weight.zero_()  # pyright: ignore
        model.encoder.log_variance.zero_()  # pyright: ignore

    loss = uc.Objective()(exact(model, data())).total
    loss.backward()

    assert variance == 2.175
    assert loss.item() == pytest.approx(7.229811, abs=1e-6)
    assert all(p.grad is not None and p.grad.abs().max() < 1e-9 for p in model.parameters())


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_units_are_used_whose_eigenvalue_is_above_the_threshold(beta: float) -> None:
    found = uc.evaluate(optimum(beta, 1.0, 4), data(), samples=0)

    # The variance of a posterior mean is 1 - e / lambda over the number of items, and is 0.01 at lambda = e / 0.99.
    assert found.active_units.value == sum(eigenvalue > beta / 0.99 for eigenvalue in SPECTRUM)  # pyright: ignore
