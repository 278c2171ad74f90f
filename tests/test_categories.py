"""Used categories against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import uncollapse as uc
from linear_gaussian import orthogonal, vae
from uncollapse.distributions.one_hots import OneHots
from uncollapse.metrics.categories import used_categories


def test_classes_count_by_the_entropy_of_how_often_they_are_chosen() -> None:
    items = torch.eye(4)[torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])].unsqueeze(1)
    found = used_categories(items)
    assert found.value == pytest.approx(2**1.5)  # 1/2, 1/4, 1/4: 1.5 bits.
    assert found.cap == 4.0
    assert used_categories(items[:4]).value == pytest.approx(1.0)
    uniform = torch.full((10, 3, 4), 0.25)
    assert used_categories(uniform).value == pytest.approx(4.0)
    both = torch.cat([items, items[:1].expand(8, 1, 4)], 1)
    assert used_categories(both).value == pytest.approx((2**1.5 + 1) / 2)


def test_its_standard_error_is_how_far_it_varies() -> None:
    chances = torch.tensor([0.6, 0.3, 0.1])

    def drawn() -> torch.Tensor:
        return torch.eye(3)[torch.multinomial(chances, 400, replacement=True)].unsqueeze(1)

    found = [used_categories(drawn()) for _ in range(400)]
    values = torch.tensor([one.value for one in found])
    assert values.std().item() == pytest.approx(found[0].se, rel=0.2)
    truth = math.exp(-(chances * chances.log()).sum())
    assert values.mean().item() == pytest.approx(truth, abs=4 * found[0].se / 20 + 2 / 800 * truth)


def test_an_evaluation_tells_them_of_choices_alone() -> None:
    class Encoder(nn.Module):
        def forward(self, x: torch.Tensor) -> OneHots:
            return OneHots(30 * x.unsqueeze(1))

    class Decoder(nn.Module):
        def forward(self, z: torch.Tensor, seen: torch.Tensor) -> torch.distributions.Distribution:
            return torch.distributions.Independent(torch.distributions.Normal(z, 1.0), 1)

    class Prior(nn.Module):
        def forward(self) -> OneHots:
            return OneHots(torch.zeros(1, 4))

    x = torch.eye(4)[torch.tensor([0, 1] * 20)]
    found = uc.evaluate(uc.VAE(Encoder(), Decoder(), Prior()), x, 0)
    assert found.used_categories is not None
    assert found.used_categories.value == pytest.approx(2.0, abs=1e-4)
    assert found.to_json()["used_categories"]["value"] == pytest.approx(2.0, abs=1e-4)
    assert "used_categories    2.00" in str(found)
    other = uc.evaluate(vae(orthogonal(1.0, 0.5, size=4), 1.0), x, 0)
    assert other.used_categories is None
    assert "used_categories" not in {*other.to_json(), *str(other).split()}
