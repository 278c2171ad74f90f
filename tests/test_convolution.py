"""The networks of images, and the laws that they give pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from uncollapse.distributions.fitted import Fitted
from uncollapse.errors import InputError
from uncollapse.nets.convolution import ConvolutionalDecoder, ConvolutionalEncoder
from uncollapse.nets.elementwise import Elementwise
from uncollapse.nets.mlp import MLPDecoder

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 5, 7), (1, 1, 4), (2, 9, 6)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("channels", "hidden"), [([4, 6], [7]), ([4], []), ([], [5, 5]), ([2, 3, 4, 5], [3])])
def test_networks_read_and_write_images_of_any_size(
    shape: tuple[int, int, int], channels: list[int], hidden: list[int]
) -> None:
    assert ConvolutionalEncoder(shape, 6, channels, hidden)(torch.rand(2, *shape)).shape == (2, 6)
    law = ConvolutionalDecoder(shape, 3, channels, hidden)(torch.randn(4, 2, 3))
    assert (law.batch_shape, law.event_shape) == ((4, 2), shape)


def test_every_pixel_is_read_and_moved_by_z() -> None:
    torch.manual_seed(0)
    x, z = torch.rand(1, 1, 9, 8, requires_grad=True), torch.randn(1, 1, 3, requires_grad=True)
    ConvolutionalEncoder((1, 9, 8), 6, [8, 8], [32])(x).square().sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()
    decoder = ConvolutionalDecoder((1, 9, 8), 3, [8, 8], [32])
    moved = (decoder.found(z + 1) - decoder.found(z)).detach()
    assert (moved != 0).all()


def test_the_decoder_mirrors_the_encoder() -> None:
    encoder, decoder = ConvolutionalEncoder((3, 28, 28), 6, [4, 8]), ConvolutionalDecoder((3, 28, 28), 6, [4, 8])
    read = [layer.weight.shape for layer in encoder.layers if isinstance(layer, nn.Conv2d)]
    written = [layer.weight.shape for layer in decoder.layers if isinstance(layer, nn.ConvTranspose2d)]
    assert read == written[::-1]


@pytest.mark.parametrize("network", [ConvolutionalEncoder, ConvolutionalDecoder])
def test_vectors_are_no_images(network: type[nn.Module]) -> None:
    with pytest.raises(InputError, match=r"an item of this data has the shape \(5,\): choose another network"):
        network((5,), 4)


# The laws of pixels.


def decoders(likelihood: str, **more: object) -> list[Elementwise]:
    torch.manual_seed(0)
    known = {"likelihood": likelihood, "levels": 17, **more}
    return [
        MLPDecoder((2, 3, 4), 5, [6], **known),  # pyright: ignore[reportArgumentType]
        ConvolutionalDecoder((2, 3, 4), 5, [6], [7], **known),  # pyright: ignore[reportArgumentType]
    ]


@pytest.mark.parametrize("likelihood", ["logistic", "categorical"])
def test_pixels_of_levels_are_scored_drawn_and_averaged(likelihood: str) -> None:
    for decoder in decoders(likelihood):
        law = decoder(torch.randn(3, 2, 5))
        x = law.sample()
        assert x.shape == law.mean.shape == (3, 2, 2, 3, 4)
        assert ((x * 16).round() / 16).sub(x).abs().max() < 1e-6
        assert law.log_prob(x).shape == (3, 2)
        assert law.support.is_discrete  # pyright: ignore


def test_each_pixel_has_its_own_logits_in_their_order(float64: None) -> None:
    """Of a categorical law the levels of a pixel must not be mixed up with channels or places."""
    for decoder in decoders("categorical"):
        for parameter in decoder.parameters():
            parameter.data.zero_()
        bias = [layer for layer in decoder.modules() if isinstance(layer, nn.Linear | nn.ConvTranspose2d)][-1].bias
        assert bias is not None
        chosen = torch.randint(17, (2, 3, 4))
        if len(bias) == 2 * 17:  # Of a convolution the bias is that of a channel.
            chosen = torch.tensor([3, 11]).view(2, 1, 1).expand(2, 3, 4)
            bias.data.view(2, 17)[[0, 1], [3, 11]] = 50.0
        else:
            bias.data.view(24, 17)[torch.arange(24), chosen.flatten()] = 50.0
        law = decoder(torch.randn(1, 1, 5))
        torch.testing.assert_close(law.mean[0, 0], chosen / 16, rtol=0, atol=1e-9)


def test_a_logistic_decoder_begins_in_the_middle_with_the_spread_of_uniform_pixels(float64: None) -> None:
    (decoder, _) = decoders("logistic")
    for parameter in decoder.layers.parameters():  # pyright: ignore
        parameter.data.zero_()
    law = decoder(torch.zeros(1, 1, 5)).base_dist  # pyright: ignore
    assert law.loc.unique().item() == 0.5
    torch.testing.assert_close(law.scale * math.pi / math.sqrt(3), torch.full((2, 3, 4), 12**-0.5))


def test_a_shared_scale_is_one_number() -> None:
    for decoder in decoders("logistic", variance="shared"):
        assert decoder.log_variance.shape == ()


def test_a_convolutional_decoder_has_the_optimal_variance_too() -> None:
    (_, decoder) = decoders("gaussian", variance="optimal")
    assert isinstance(decoder.train()(torch.randn(1, 2, 5)), Fitted)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (
            {"likelihood": "bernoulli"},
            "is of zeros and ones, and this data has 17 levels: set `data.binarise` to",
        ),
        ({"likelihood": "logistic", "levels": None}, 'this data has real numbers: use "gaussian"'),
        ({"likelihood": "categorical", "levels": None}, 'this data has real numbers: use "gaussian"'),
        (
            {"likelihood": "categorical", "variance": "shared"},
            'a Categorical likelihood has no variance to be "shared"',
        ),
        ({"likelihood": "logistic", "variance": "optimal"}, 'a Logistic likelihood has no variance to be "optimal"'),
    ],
)
def test_likelihoods_of_other_values_are_refused(said: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        decoders(**said)
