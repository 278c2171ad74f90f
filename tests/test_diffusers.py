"""Autoencoders of Diffusers, whose z has channels and positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import uncollapse as uc

X = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1
#: The scale of a Gaussian whose nats are squared errors.
SQUARES = 0.5**0.5


@pytest.fixture(scope="module")
def diffusers() -> Any:
    return pytest.importorskip("diffusers", reason="diffusers is not installed")


@pytest.fixture
def vae(diffusers: Any) -> Any:
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        norm_num_groups=2,
        layers_per_block=1,
        latent_channels=2,
        sample_size=8,
    )


def test_the_bound_is_that_of_its_own_posterior_and_decoder(vae: Any) -> None:
    bound = uc.from_diffusers(vae, scale=SQUARES)(X, samples=2)
    assert bound.z.shape == (2, 40, 2, 4, 4)
    assert bound.kl.shape == (40, 32)
    posterior = vae.encode(X).latent_dist
    torch.testing.assert_close(bound.rate, posterior.kl())
    torch.testing.assert_close(bound.log_q[0], -posterior.nll(bound.z[0]))
    squares = (vae.decode(bound.z[1]).sample - X).square().flatten(1)
    constant = 0.5 * squares.shape[1] * torch.tensor(torch.pi).log()
    torch.testing.assert_close(-bound.log_likelihood[1], squares.sum(1) + constant)


def test_its_players_are_its_halves(vae: Any) -> None:
    players = uc.from_diffusers(vae).players()
    inference, generation = ({id(p) for p in players[name].parameters()} for name in ("inference", "generation"))
    assert inference == {id(p) for part in (vae.encoder, vae.quant_conv) for p in part.parameters()}
    assert inference | generation == {id(p) for p in vae.parameters()}


def test_it_is_diagnosed_by_channel_and_position(vae: Any) -> None:
    def loss(x: Tensor) -> Tensor:
        posterior = vae.encode(x).latent_dist
        squares = F.mse_loss(vae.decode(posterior.sample()).sample, x, reduction="sum")
        return (squares + 1e-2 * posterior.kl().sum()) / len(x)

    found = uc.diagnose(uc.from_diffusers(vae, scale=SQUARES), X, loss=loss)
    assert (found["units"].limit, found["units"].unit) == (2, "channels")
    assert (found["positions"].limit, found["positions"].unit) == (16, "positions")
    assert found["loss-scale"].value == pytest.approx(0.01, rel=0.02)
    assert found.verdict == "loss mis-scaled"


def test_autoencoders_without_a_posterior_are_refused(diffusers: Any) -> None:
    tiny = diffusers.AutoencoderTiny(encoder_block_out_channels=(4, 4), decoder_block_out_channels=(4, 4),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), latent_channels=2)  # fmt: skip
    with pytest.raises(uc.InputError, match="gives a `Tensor` for its z, and must give a diagonal Gaussian"):
        uc.from_diffusers(tiny)(X)
    with pytest.raises(uc.InputError, match=r"`Linear` is no autoencoder of Diffusers: .*pipeline.vae"):
        uc.from_diffusers(torch.nn.Linear(2, 2))
