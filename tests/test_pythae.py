"""Pythae's models, read by their own classes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import uncollapse as uc

SHAPE, LATENT = (1, 4, 4), 3
GREY = torch.rand(120, *SHAPE, generator=torch.Generator().manual_seed(3))
BITS = (GREY > 0.6).float()
#: What half a squared error lacks of a Gaussian of scale 1.
CONSTANT = 8 * math.log(2 * math.pi)


@pytest.fixture(scope="module")
def models() -> Any:
    return pytest.importorskip("pythae.models", reason="pythae is not installed")


def made(models: Any, name: str, **settings: Any) -> Any:
    torch.manual_seed(4)
    named = f"{name}_Config" if "_" in name else f"{name}Config"
    config = getattr(models, named)(input_dim=SHAPE, latent_dim=LATENT, **settings)
    return getattr(models, name)(config)


@pytest.mark.parametrize(("loss", "x", "constant"), [("mse", GREY, CONSTANT), ("bce", BITS, 0.0)])
def test_the_bound_is_pythae_s_own_loss(models: Any, loss: str, x: Tensor, constant: float) -> None:
    theirs = made(models, "VAE", reconstruction_loss=loss)
    torch.manual_seed(1)
    bound = uc.from_pythae(theirs)(x)
    torch.manual_seed(1)
    expected = theirs({"data": x})
    torch.testing.assert_close(bound.distortion.mean() - constant, expected.recon_loss)
    torch.testing.assert_close(bound.rate.mean(), expected.reg_loss)
    torch.testing.assert_close((bound.distortion + bound.rate).mean() - constant, expected.loss)


def test_the_prior_of_vamp_is_its_mixture(models: Any) -> None:
    theirs = made(models, "VAMP", number_components=5)
    torch.manual_seed(1)
    bound = uc.from_pythae(theirs)(GREY)
    torch.manual_seed(1)
    expected = theirs({"data": GREY})
    torch.testing.assert_close((bound.log_q - bound.log_p).mean(), expected.reg_loss)
    torch.testing.assert_close(bound.rate.mean(), expected.reg_loss)


def test_the_nll_is_pythae_s(models: Any) -> None:
    theirs = made(models, "VAE")
    torch.manual_seed(2)
    expected = theirs.get_nll(GREY[:20], n_samples=2000, batch_size=2000)
    found = uc.evaluate(uc.from_pythae(theirs), GREY[:20], samples=2000).nll
    assert isinstance(found, uc.Estimate)
    assert found.value == pytest.approx(-expected, abs=0.02)


@pytest.mark.parametrize(("name", "settings"), [("VAE", {}), ("BetaVAE", {"beta": 8.0}), ("VAMP", {})])
def test_each_is_diagnosed_and_its_weight_of_the_kl_found(models: Any, name: str, settings: dict) -> None:
    theirs = made(models, name, **settings)
    found = uc.diagnose(uc.from_pythae(theirs), GREY, loss=lambda x: theirs({"data": x}).loss)
    assert found["loss-scale"].value == pytest.approx(settings.get("beta", 1.0), rel=0.02)
    assert found.verdict == ("loss mis-scaled" if "beta" in settings else "model collapse")


def test_its_halves_are_trained(models: Any) -> None:
    theirs = made(models, "VAE")
    before = [parameter.clone() for parameter in theirs.parameters()]
    model = uc.from_pythae(theirs)
    assert set(model.players()) == {"inference", "generation"}
    uc.fit(model, GREY, GREY[:20], ["aggressive"], max_epochs=1, learning_rate=0.01, progress=False)
    assert all(not torch.equal(a, b) for a, b in zip(before, theirs.parameters(), strict=True))


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "codes": ("AE", {}, "`AE` is no VAE of Pythae's"),
    "flow": ("VAE_IAF", {}, "the posterior of a `VAE_IAF` is no diagonal Gaussian"),
    "critic": ("VAEGAN", {}, "a `VAEGAN` reconstructs by something that is no likelihood.*scale=0.1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_read_is_said(models: Any, case: str) -> None:
    name, settings, says = REFUSED[case]
    with pytest.raises(uc.InputError, match=says):
        uc.from_pythae(made(models, name, **settings))


def test_a_likelihood_may_be_given_where_the_loss_has_none(models: Any) -> None:
    model = uc.from_pythae(made(models, "VAEGAN"), likelihood="gaussian", scale=0.5)
    assert model(GREY).log_likelihood.shape == (1, len(GREY))
