"""PixelCNNs: what each pixel sees, and that drawing pixel by pixel is drawing from the law."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import uncollapse as uc
from uncollapse.data.kinds import How
from uncollapse.data.tensors import written
from uncollapse.errors import InputError
from uncollapse.nets.causal import Memory
from uncollapse.nets.pixelcnn import KERNELS, Autoregressive, GatedPixelCNNDecoder, PixelCNNDecoder
from uncollapse.nets.residual import ResidualEncoder
from uncollapse.training.descent import Descent
from uncollapse.training.procedures import Aggressive

SHAPE = (1, 6, 5)
MADE: dict[str, Any] = {
    "residual": lambda latent=3: PixelCNNDecoder(SHAPE, latent, kernels=[5, 3, 5, 3], channels=6, maps=2),
    "residual of three layers": lambda latent=3: PixelCNNDecoder(SHAPE, latent, kernels=[3, 3, 3], channels=4, maps=1),
    "gated": lambda latent=3: GatedPixelCNNDecoder(SHAPE, latent, kernels=[5, 3, 3], channels=4, maps=2),
    "gated with skips": lambda latent=3: GatedPixelCNNDecoder(
        SHAPE, latent, kernels=[3, 3, 3], channels=4, maps=2, skip=True
    ),
    "colours": lambda latent=3: PixelCNNDecoder((2, 4, 4), latent, kernels=[3, 3, 3], channels=4, maps=1),
}


def made(name: str, latent: int = 3) -> Autoregressive:
    """One of random weights, in evaluation mode with moving averages that are not the initial ones."""
    decoder = MADE[name](latent)
    for part in decoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = 0.1 * torch.randn_like(part.running_mean)  # pyright: ignore
            part.running_var = 0.5 + torch.rand_like(part.running_var)  # pyright: ignore
    return decoder.eval()


def logits(decoder: Autoregressive, z: Tensor, x: Tensor) -> Tensor:
    return decoder(z, x).base_dist.logits  # pyright: ignore


@pytest.mark.parametrize("name", MADE)
def test_a_logit_depends_on_the_pixels_before_it_alone_and_on_z_everywhere(name: str, float64: None) -> None:
    decoder = made(name).double()
    x = torch.rand(1, *decoder.shape, requires_grad=True)
    z = torch.randn(1, 1, 3, requires_grad=True)
    found = logits(decoder, z, x)[0, 0]
    _, height, width = decoder.shape
    for i in range(height * width):
        of_x, of_z = torch.autograd.grad(found[:, i // width, i % width].sum(), (x, z), retain_graph=True)
        assert (of_x.flatten(2)[..., i:] == 0).all()
        assert (of_z != 0).any()


def test_a_gated_one_sees_every_pixel_before_and_masks_alone_leave_a_blind_spot(float64: None) -> None:
    gated = GatedPixelCNNDecoder((1, 5, 7), 0, kernels=[3] * 9, channels=4).double().eval()
    plain = PixelCNNDecoder((1, 5, 7), 0, kernels=[3] * 9, channels=4).double().eval()
    x = torch.rand(1, 1, 5, 7, requires_grad=True)
    seen = {}
    for decoder in (gated, plain):
        (of_x,) = torch.autograd.grad(logits(decoder, torch.zeros(1, 1, 0), x)[0, 0, 0, 4, 3], x)
        seen[decoder] = (of_x != 0).flatten()[: 4 * 7 + 3]
    assert seen[gated].all()
    assert not seen[plain].all()


@pytest.mark.parametrize("name", MADE)
def test_drawing_pixel_by_pixel_is_drawing_from_the_law(name: str, float64: None) -> None:
    decoder, z = made(name).double(), torch.randn(4, 3)
    noise = torch.rand(4, *decoder.shape)
    found = decoder.paint(z, noise)
    expected = torch.zeros_like(found)
    _, height, width = decoder.shape
    for i in range(height):
        for j in range(width):
            chance = logits(decoder, z.unsqueeze(0), expected)[0, :, :, i, j].sigmoid()
            expected[:, :, i, j] = (noise[:, :, i, j] < chance).double()
    assert torch.equal(found, expected)
    assert 0 < found.mean() < 1


@pytest.mark.parametrize("name", ["residual", "gated"])
def test_draws_of_z_share_their_image_and_a_model_without_z_is_one_of_no_units(name: str, float64: None) -> None:
    decoder, x = made(name).double(), torch.rand(2, *SHAPE).round()
    z = torch.randn(3, 2, 3)
    together = decoder(z, x).log_prob(x)
    assert together.shape == (3, 2)
    torch.testing.assert_close(together, torch.stack([decoder(one.unsqueeze(0), x).log_prob(x)[0] for one in z]))
    without = made(name, 0).double()
    assert not [key for key, _ in without.named_parameters() if "written" in key or "beside" in key]
    torch.testing.assert_close(*without(torch.zeros(2, 2, 0), x).log_prob(x))
    assert without.paint(torch.zeros(2, 0)).shape == (2, *SHAPE)


def test_without_weights_of_its_images_a_skip_is_the_plain_model_and_without_the_rest_logits_are_of_z(
    float64: None,
) -> None:
    torch.manual_seed(3)
    skip = GatedPixelCNNDecoder(SHAPE, 3, kernels=[3, 3, 3], channels=4, maps=2, skip=True)
    plain = GatedPixelCNNDecoder(SHAPE, 3, kernels=[3, 3, 3], channels=4, maps=2)
    with torch.no_grad():
        for name, parameter in skip.named_parameters():
            if name.startswith("beside.") and not name.startswith("beside.0"):
                parameter.zero_()
        assert skip.skipped is not None
        skip.skipped.weight.zero_()
    plain.load_state_dict({name: value for name, value in skip.state_dict().items() if name in plain.state_dict()})
    z, x = torch.randn(1, 2, 3), torch.rand(2, *SHAPE)
    assert torch.equal(logits(skip, z, x), logits(plain, z, x))
    with torch.no_grad():
        skip.skipped.weight.fill_(1.0)
        skip.output.weight.zero_()
    assert torch.equal(logits(skip, z, x), logits(skip, z, 1 - x))
    assert not torch.equal(logits(skip, z, x), logits(skip, -z, x))


def test_the_published_decoder_has_the_layers_and_parameters_of_its_code() -> None:
    decoder = PixelCNNDecoder((1, 28, 28), 32)
    assert len(KERNELS) == 13
    assert (len(decoder.blocks), len(decoder.past)) == (12, 11)
    # Of the authors' code all but the weights of kernels' lower halves: 7 x 7 becomes 4 x 7, 5 x 5 3 x 5, 3 x 3 2 x 3.
    inner = {7: 28, 5: 15, 3: 6}
    block = {side: 64 * 32 * 2 + 32 * 32 * inner[side] + 2 * (32 + 32 + 64) for side in inner}
    blocks = sum(block[side] for side in [*KERNELS[1:], *KERNELS[1:-1]])
    first = 64 * 28 + 4 * 64 * 49 + 128
    rest = 33 * 4 * 784 + 64 * 64 + 128 + 64
    assert sum(p.numel() for p in decoder.parameters()) == first + blocks + rest


def test_a_residual_encoder_halves_an_image_block_by_block() -> None:
    encoder = ResidualEncoder((1, 28, 28), 64)
    assert encoder(torch.rand(2, 1, 28, 28)).shape == (2, 64)
    assert [tuple(p.shape) for p in encoder.layers[3].parameters()] == [(512, 64, 4, 4)]
    # 1 to 64 channels and then twice 64 to 64, 3 x 3 twice and 1 x 1 past them, each with batch normalisation.
    blocks = 9 * 64 * (1 + 64) + 64 + 2 * (2 * 9 * 64 * 64 + 64 * 64) + 3 * 6 * 64
    assert sum(p.numel() for p in encoder.parameters()) == blocks + 512 * 64 * 16 + 2 * 512 + 512 * 64 + 64
    assert ResidualEncoder((3, 9, 5), 4, channels=[8, 8], features=6)(torch.rand(2, 3, 9, 5)).shape == (2, 4)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PixelCNNDecoder((5,), 2), r"an item of this data has the shape \(5,\)"),
        (lambda: PixelCNNDecoder(SHAPE, 2, kernels=[3, 4, 3]), "a kernel of 4 pixels has no pixel in its middle"),
        (lambda: PixelCNNDecoder(SHAPE, 2, kernels=[3, 3]), "give at least 3 `kernels`"),
        (lambda: GatedPixelCNNDecoder(SHAPE, 0, kernels=[3], skip=True), "nothing for `skip` to hand on"),
        (lambda: ResidualEncoder((4, 4), 2), "choose another network, such as `mlp`"),
    ],
)
def test_what_cannot_be_built_is_said(make: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_a_memory_keeps_what_a_convolution_sees(float64: None) -> None:
    decoder = made("residual").double()
    (layer,) = decoder.lookers()
    x, memory = torch.rand(2, *SHAPE), Memory(2, 6, 5)
    whole = layer(x)
    for memory.row in range(6):
        for memory.column in range(5):
            torch.testing.assert_close(memory.step(layer, None)[..., 0, 0], whole[..., memory.row, memory.column])
            memory.see(layer, x[..., memory.row : memory.row + 1, memory.column : memory.column + 1])


def test_it_writes_by_drawing_and_by_the_more_probable_pixels_where_that_is_asked_for() -> None:
    decoder, z = made("residual"), torch.randn(3, 3)
    torch.manual_seed(0)
    drawn = written(decoder, z, How())
    torch.manual_seed(0)
    assert torch.equal(drawn, decoder.paint(z))
    assert torch.equal(written(decoder, z, How("mean")), decoder.paint(z, torch.full((3, *SHAPE), 0.5)))


@pytest.mark.parametrize("clip", ["joint", "own"])
def test_in_inner_steps_batch_normalisation_goes_on_while_the_decoders_weights_stay(clip: Any) -> None:
    """As in the code of He et al. (2019)."""
    decoder = PixelCNNDecoder(SHAPE, 2, kernels=[3, 3, 3], channels=4, maps=1)
    encoder = uc.Posterior(ResidualEncoder(SHAPE, 4, channels=[4], features=4), uc.gaussian, (2, 2))
    x = torch.rand(6, *SHAPE).round()
    descent = Descent(uc.VAE(encoder, decoder, uc.StandardNormal(2)), [x])
    seen: list[tuple[int, Tensor]] = []
    decoder.register_forward_pre_hook(
        lambda *_: seen.append((int(decoder.norm.num_batches_tracked), decoder.first.weight.detach().clone()))  # pyright: ignore
    )
    Aggressive(budget=3, clip=clip)(descent, x)
    assert [count for count, _ in seen] == [0, 1, 2, 3]
    assert decoder.norm.num_batches_tracked == 4
    assert all(torch.equal(weight, seen[0][1]) for _, weight in seen)
    assert not torch.equal(decoder.first.weight, seen[0][1])


@pytest.mark.parametrize("layers", [3, 6])
def test_layers_of_small_kernels_see_so_many_rows_up_and_no_more(layers: int) -> None:
    """L masked layers with kernels of k pixels see L (k - 1) / 2 rows up (the lossy code of Chen et al., 2017)."""
    decoder = PixelCNNDecoder((1, 10, 15), 2, kernels=[3] * layers, channels=6, maps=1).double().eval()
    torch.manual_seed(0)
    seen = torch.rand(1, 1, 10, 15, dtype=torch.float64, requires_grad=True)
    law: Any = decoder(torch.randn(1, 1, 2, dtype=torch.float64), seen)
    (slope,) = torch.autograd.grad(law.base_dist.logits[0, 0, 0, 9, 7], seen)
    rows = slope[0, 0].abs().sum(1).nonzero().flatten()
    assert rows.min() == 9 - layers
