"""The networks of vectors, and the law of zeros and ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal

from uncollapse.distributions.bits import Bits
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
