"""Iterative inference: where a learned step leads, who is taught by what, and what it needs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import uncollapse as uc
from linear_gaussian import evidence, orthogonal, vae
from test_refinement import gradients, quadratic
from test_trainer import data, small
from uncollapse.inference import Taught, amortised, plain
from uncollapse.iterative import Improving, Iterative, Update, improved
from uncollapse.metrics.rows import collect
from uncollapse.model import VAE
from uncollapse.training.descent import Descent


def improving() -> VAE:
    model = small()
    torch.manual_seed(2)
    return VAE(Improving(model.encoder, Update(4, 8, 2)), model.decoder, model.prior)


class Newton(nn.Module):
    """The exact step to the minimum of A / 2 (lambda - theta)^2 at A = 2."""

    def forward(self, values: Tensor, slopes: Tensor) -> Tensor:
        return values - slopes / 2


def test_one_exact_step_on_a_quadratic_loss_reaches_its_minimum() -> None:
    theta = torch.tensor([[0.3], [-7.0]])  # T22
    end, _ = improved({"a": torch.tensor([[1.0], [5.0]])}, quadratic(theta), Newton(), 1)
    torch.testing.assert_close(end["a"], theta)


def test_every_place_but_the_last_is_taught_by_the_gradient_there() -> None:
    start = torch.ones(1, 1, requires_grad=True)
    weight = torch.tensor(0.5, requires_grad=True)
    # lambda: 1, 0.5, 0.25, each held fixed where the next is made; gradients 2 lambda.
    end, taught = improved({"a": start}, quadratic(torch.zeros(())), lambda values, slopes: weight * values, 2)
    taught.backward()
    assert end["a"].item() == 0.25
    assert start.grad is not None
    assert start.grad.item() == 2.0
    assert weight.grad is not None
    assert weight.grad.item() == 1.0


def test_the_encoder_learns_by_its_own_loss_as_if_nothing_were_improved() -> None:
    model, x = improving().double(), data()[0].double()
    update = sum(p.numel() for p in model.encoder.update.parameters())  # pyright: ignore[reportAttributeAccessIssue]
    improved, _ = gradients(model, Iterative(3), x)
    alone, _ = gradients(model, amortised, x)
    torch.testing.assert_close(improved[:-update], alone)
    assert improved[-update:].abs().max() > 0


@pytest.mark.usefixtures("float64")
def test_an_item_is_improved_alike_in_any_batch() -> None:
    x, model = torch.cat(data()[:2]).double(), improving().double()
    whole, parts = (collect(model, x, 0, 3, batch_size=n, inference=Iterative(2)) for n in (1000, 3))
    torch.testing.assert_close(parts.means, whole.means)
    torch.testing.assert_close(parts.neg_elbo, whole.neg_elbo)


def test_what_is_improved_by_any_network_has_the_exact_evidence() -> None:
    weight, sigma = orthogonal(1.5, 0.8, size=4), 0.7
    model = vae(weight, sigma)
    model.encoder = Improving(model.encoder, Update(4, 8, 2))
    x = evidence(weight, sigma).sample((40,))
    found = uc.evaluate(model, x, samples=2000, inference=Iterative(1))
    truth = -evidence(weight, sigma).log_prob(x).mean().item()
    assert found.nll.value == pytest.approx(truth, abs=0.05)  # pyright: ignore[reportAttributeAccessIssue]


def test_the_network_learns_to_improve_a_bad_encoder() -> None:
    weight, sigma = orthogonal(1.5, 0.8, size=4), 0.7
    model, x = vae(weight, sigma, shift=2.0), evidence(weight, sigma).sample((64,))
    model.encoder = Improving(model.encoder, Update(4, 16, 2))
    adam = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(80):
        adam.zero_grad()
        Descent(model, [x], inference=Iterative(2)).loss(x).total.backward()
        adam.step()
    lazy, busy = (uc.evaluate(model, x, samples=0, inference=one).neg_elbo for one in (amortised, Iterative(2)))
    assert busy.value < lazy.value - 1  # pyright: ignore[reportAttributeAccessIssue]


def test_posteriors_have_no_graph_where_no_gradient_is_asked_for() -> None:
    with torch.no_grad():
        found: Any = Iterative(2)(improving(), data()[0], plain)
    assert not isinstance(found, Taught)
    assert not found.mean.requires_grad


def test_an_encoder_without_such_a_network_is_refused() -> None:
    with pytest.raises(uc.InputError, match="cannot improve the posteriors of `Posterior`, without a network for it"):
        Iterative()(small(), data()[0], plain)
