"""The networks of vectors, and the law of zeros and ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal

from uncollapse.distributions.bits import Bits
from uncollapse.distributions.fitted import Fitted
from uncollapse.errors import InputError
from uncollapse.nets.mlp import MLPDecoder, MLPEncoder


@pytest.mark.parametrize("shape", [(5,), (2, 3)])
def test_an_encoder_reads_items_of_any_shape(shape: tuple[int, ...]) -> None:
    assert MLPEncoder(shape, 4, [7, 6])(torch.randn(3, *shape)).shape == (3, 4)


def test_a_network_without_a_hidden_layer_is_linear() -> None:
    encoder = MLPEncoder((5,), 4, [])
    assert [type(layer) for layer in encoder.layers] == [nn.Linear]


@pytest.mark.parametrize("shape", [(5,), (2, 3)])
def test_a_gaussian_decoder_has_a_variance_of_each_element(shape: tuple[int, ...], float64: None) -> None:
    decoder, z, x = MLPDecoder(shape, 2, [7]), torch.randn(4, 3, 2), torch.randn(3, *shape)
    nn.init.normal_(decoder.log_variance)
    mean = decoder.layers(z).view(4, 3, *shape)
    exact = Normal(mean, decoder.log_variance.exp().sqrt()).log_prob(x).flatten(2).sum(2)
    torch.testing.assert_close(decoder(z).log_prob(x), exact)


def test_a_gaussian_decoder_finds_the_variance_of_what_z_does_not_explain(float64: None) -> None:
    decoder, x = MLPDecoder((2,), 1, []), torch.randn(500, 2) * torch.tensor([0.3, 2.0])
    nn.init.zeros_(decoder.layers[0].weight)  # pyright: ignore[reportArgumentType]
    optimiser = torch.optim.LBFGS([decoder.log_variance, decoder.layers[0].bias], max_iter=100)  # pyright: ignore

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        found = -decoder(torch.zeros(1, 500, 1)).log_prob(x).mean()
        found.backward()
        return found

    optimiser.step(loss)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(decoder.log_variance.exp(), x.var(0, correction=0), rtol=1e-4, atol=1e-6)


def test_a_bernoulli_decoder_scores_zeros_and_ones(float64: None) -> None:
    decoder, z, x = MLPDecoder((5,), 2, [7], "bernoulli"), torch.randn(4, 3, 2), (torch.rand(3, 5) > 0.5).double()
    exact = Bernoulli(logits=decoder.layers(z)).log_prob(x).sum(2)
    torch.testing.assert_close(decoder(z).log_prob(x), exact)
    assert "log_variance" not in dict(decoder.named_parameters())


@pytest.mark.parametrize("value", [0.5, -1.0, 255.0, float("nan")])
def test_a_grey_value_has_no_likelihood_under_a_bernoulli_law(value: float) -> None:
    with pytest.raises(InputError, match=r"is no log-likelihood\. Make the values 0 or 1 first, or use a Gaussian"):
        Bits(torch.zeros(3)).log_prob(torch.tensor([0.0, value, 1.0]))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_laws_are_in_single_precision_where_layers_are_not(likelihood: str) -> None:
    decoder = MLPDecoder((5,), 2, [7], likelihood).bfloat16()  # pyright: ignore[reportArgumentType]
    law = decoder(torch.randn(1, 3, 2, dtype=torch.bfloat16))
    assert law.log_prob(torch.ones(3, 5)).dtype == torch.float32


# One variance for all elements.


@pytest.mark.parametrize(
    ("size", "square", "nll"),
    [(784, 0.01, -692.7789028749), (784, 0.05, -61.8792412007), (3072, 0.01, -2714.5622316730)],
)
def test_the_optimal_variance_costs_what_is_published(size: int, square: float, nll: float, float64: None) -> None:
    residual = torch.full((2, 5, size), square**0.5)
    found = -Fitted(torch.zeros(2, 5, size), torch.ones(()), 1).log_prob(residual)
    assert found.mean().item() == pytest.approx(nll, abs=1e-8)


def test_a_variance_of_1_costs_what_is_published(float64: None) -> None:
    found = -Normal(torch.zeros(784), 1.0).log_prob(torch.full((784,), 0.1)).sum()
    assert found.item() == pytest.approx(724.3678100325, abs=1e-8)


def test_no_variance_fits_a_batch_better_than_the_optimal_one(float64: None) -> None:
    loc, x = torch.randn(3, 4, 5), torch.randn(4, 5)
    best = Fitted(loc, torch.ones(()), 1).log_prob(x).mean()
    for scale in (0.3, 0.9, 1.4, 1.5, 3.0):
        assert Normal(loc, scale).log_prob(x).sum(-1).mean() <= best


def test_evaluation_goes_by_the_running_average_of_the_optimal_variance(float64: None) -> None:
    decoder, z, x = MLPDecoder((5,), 2, [7], variance="optimal"), torch.randn(4, 3, 2), torch.randn(3, 5)
    before = decoder.eval()(z).log_prob(x)
    for _ in range(200):
        decoder.train()(z).log_prob(x)
    fit = (decoder.layers(z) - x).square().mean()
    exact = Normal(decoder.layers(z), fit.sqrt()).log_prob(x).sum(-1)
    torch.testing.assert_close(decoder.eval()(z).log_prob(x), exact)
    assert not torch.allclose(before, exact)
    assert "mean_square" in decoder.state_dict()


def test_perfect_reconstructions_keep_the_optimal_variance_off_0() -> None:
    loc = torch.zeros(1, 2, 3, requires_grad=True)
    found = Fitted(loc, torch.ones(()), 1).log_prob(torch.zeros(2, 3)).sum()
    found.backward()
    assert found.isfinite()
    assert loc.grad is not None
    assert loc.grad.isfinite().all()


def test_a_shared_variance_is_one_number_with_a_soft_floor(float64: None) -> None:
    decoder, z = MLPDecoder((5,), 2, [7], variance="shared"), torch.randn(4, 3, 2)
    assert decoder.log_variance.shape == ()
    for log_scale in (-20.0, -6.0, 1.0):
        decoder.log_variance.data = torch.tensor(2 * log_scale)
        exact = math.exp(-6 + math.log1p(math.exp(log_scale + 6)))
        assert decoder(z).base_dist.scale.max().item() == pytest.approx(exact)  # pyright: ignore


def test_a_bernoulli_likelihood_has_no_variance() -> None:
    with pytest.raises(InputError, match='has no variance to be "optimal": leave `variance` out'):
        MLPDecoder((5,), 2, [7], "bernoulli", "optimal")
