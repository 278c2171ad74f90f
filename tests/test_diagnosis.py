"""The verdict on models whose state is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import uncollapse as uc
from uncollapse.diagnosis import verdict


class Known(nn.Module):
    """q(z | x) whose first units carry x, with a signal of a given size, and whose others are the prior."""

    def __init__(self, used: int, signal: float) -> None:
        super().__init__()
        self.used, self.signal = used, signal

    def forward(self, x: Tensor) -> Distribution:
        mean = torch.zeros(len(x), 4)
        mean[:, : self.used] = self.signal * x[:, : self.used]
        return uc.gaussian(mean, torch.zeros_like(mean))


class Unit(nn.Module):
    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        return Independent(Normal(z, 1.0), 1)


@pytest.mark.parametrize(
    ("used", "signal", "said"),
    [
        (0, 1.0, "collapsed: 0 of 4 units active, MI 0.00 nats"),
        (1, 1.0, "partly collapsed: 1 of 4 units active"),
        (3, 1.0, "healthy: 3 of 4 units active"),
        (4, 0.15, "collapsed: 4 of 4 units active"),  # 4 units above 0.01, and 0.04 nats in all
    ],
)
def test_the_verdict_is_the_state(used: int, signal: float, said: str) -> None:
    model = uc.VAE(Known(used, signal), Unit(), uc.StandardNormal(4))
    assert verdict(uc.evaluate(model, torch.randn(2000, 4), samples=0, bound_samples=1)).startswith(said)


def test_a_posterior_without_a_law_has_no_verdict() -> None:
    vae = uc.VAE(Known(1, 1.0), Unit(), uc.StandardNormal(4))

    def path(x: Tensor, q: Distribution | None = None, samples: int = 1) -> uc.Bound:
        return vae(x, q, samples)._replace(q=None)

    assert verdict(uc.evaluate(path, torch.randn(40, 4), samples=0)).startswith("unknown: ")
