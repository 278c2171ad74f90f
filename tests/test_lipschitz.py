"""Layers under which no two inputs have one output."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.nets.lipschitz import Brenier, Injective
from uncollapse.nets.mlp import MLPDecoder

DIAL = "{kind: linear, start: 0.0, stop: 0.5, over: 2}"
WIDTHS = [[7], [7, 6], [7, 6, 5]]


def potential(gradient: Brenier) -> Callable[[Tensor], Tensor]:
    """The convex function whose gradient it is, written out a second time."""

    def value(x: Tensor) -> Tensor:
        h = F.softplus(gradient.read[0](x)) ** 2
        for k, grow in enumerate(gradient.grow, 1):
            weight: Any = grow.weight
            h = F.softplus(h @ F.softplus(weight).T / weight.shape[1] + gradient.read[k](x))
        return h.sum(-1)

    return value


@pytest.mark.parametrize("hidden", WIDTHS)
def test_it_is_the_gradient_of_a_convex_function(hidden: list[int], float64: None) -> None:
    gradient, x = Brenier(4, hidden), torch.randn(9, 4, requires_grad=True)
    f = potential(gradient)

    torch.testing.assert_close(gradient(x), torch.autograd.grad(f(x).sum(), x)[0])
    a, b = 5 * torch.randn(2, 1000, 4)
    assert (f((a + b) / 2) <= (f(a) + f(b)) / 2 + 1e-12).all()


@pytest.mark.parametrize("hidden", WIDTHS)
def test_its_slope_is_symmetric_and_positive(hidden: list[int], float64: None) -> None:
    gradient = Brenier(4, hidden)

    for x in torch.randn(20, 4):
        slope: Any = torch.autograd.functional.jacobian(gradient, x)
        torch.testing.assert_close(slope, slope.T)
        assert torch.linalg.eigvalsh(slope).min() > 0


def test_one_number_goes_by_a_line_and_a_sigmoid(float64: None) -> None:
    # f = softplus: the first layer is a constant, which the bias of the second takes off.
    gradient = Brenier(1, [1, 1])
    first, second, weight = *list[Any](gradient.read), next(gradient.grow.parameters())
    for parameter in first.parameters():
        nn.init.zeros_(parameter)
    nn.init.ones_(second.weight)
    second.bias.data = -F.softplus(weight.detach()[0]) * math.log(2) ** 2
    z = torch.linspace(-20, 20, 401).unsqueeze(1).requires_grad_()

    found = 0.5 * z + gradient(z)
    (slope,) = torch.autograd.grad(found.sum(), z)

    torch.testing.assert_close(found, 0.5 * z + z.sigmoid())
    assert (found.diff(dim=0) > 0).all()
    assert slope.min() >= 0.5
    assert slope.max().item() == pytest.approx(0.75)


@pytest.mark.parametrize("lipschitz", [0.0, 0.5, 3.0])
def test_no_two_points_come_closer_than_the_bound(lipschitz: float, float64: None) -> None:
    model = Injective(3, [7], 5, lipschitz)
    a, b = torch.randn(2, 2000, 3)
    b = torch.cat([b[:1000], a[1000:] + 1e-4 * b[1000:]])

    ratio = (model(a) - model(b)).norm(dim=-1) / (a - b).norm(dim=-1)

    assert ratio.min() > lipschitz**2
    assert ratio.min() > 1e-3


def test_the_bound_is_reached_where_the_convex_functions_are_flat(float64: None) -> None:
    model = Injective(3, [7], 5, 2.0)
    for layer in [*model.first.read, *model.last.read]:
        nn.init.zeros_(layer.weight)  # pyright: ignore[reportArgumentType]
    a, b = torch.randn(2, 3)

    assert ((model(a) - model(b)).norm() / (a - b).norm()).item() == pytest.approx(4.0)


def test_columns_that_are_orthonormal_stay_as_they_are(float64: None) -> None:
    model = Injective(2, [7], 3, 1.0)
    for layer in [*model.first.read, *model.last.read]:
        nn.init.zeros_(layer.weight)  # pyright: ignore[reportArgumentType]
    nn.init.zeros_(model.between.bias)
    for first in (1e-9, -1e-9):
        columns = torch.tensor([[first, 0.6], [1.0, 0.0], [0.0, 0.8]])
        model.between.weight.data = columns
        torch.testing.assert_close(model(torch.eye(2)), columns.T, atol=1e-7, rtol=0)


@pytest.mark.parametrize(("hidden", "shape"), [([7], (3,)), ([3], (7,)), ([], (7,))])
def test_sizes_that_cannot_tell_all_codes_apart_are_refused(hidden: list[int], shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="4 latent units cannot be told apart by"):
        MLPDecoder(shape, 4, hidden, inverse_lipschitz=0.0)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_a_decoder_of_them_has_a_law_that_differs_with_z(likelihood: Any, float64: None) -> None:
    decoder, z = MLPDecoder((2, 3), 4, [7, 5], likelihood, inverse_lipschitz=1.0), torch.randn(2, 9, 4)
    x = torch.ones(9, 2, 3)

    decoder(z).log_prob(x).sum().backward()

    assert decoder(z).log_prob(x).shape == (2, 9)
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in decoder.parameters())
    a, b = (decoder(one).mean.flatten(2) for one in (z, z.roll(1, -1)))
    assert ((a - b).norm(dim=-1) > 0).all()


def test_a_dial_anneals_the_bound(float64: None) -> None:
    said = ["data.train=a.npy", "model.latent=2", "training.dials.model.decoder.layers.inverse_lipschitz=" + DIAL]
    spec = validated(compose("vectors", ["inverse-lipschitz"], said))
    x = [torch.randn(4, 3)]

    trainer = build.trainer(spec.training, build.model(spec, {"shape": (3,)}), x, x, seed=0)

    assert trainer.model.decoder.layers.inverse_lipschitz == 0.25  # pyright: ignore[reportAttributeAccessIssue]
