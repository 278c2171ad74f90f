"""Two losses that weigh the KL otherwise than the bound, as people write them, and what a diagnosis says of them.

    python benchmarks/loss_scales.py

The figures of docs/faq.md: a tutorial VAE of 4 units on 2,000 items of 20 numbers that 3 factors explain, 1,500 steps
of Adam, fixed seeds; a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import uncollapse as uc


class Tutorial(nn.Module):
    """A VAE as tutorials have it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 8))
        self.decode = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 20))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        return mean, log_variance

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What x is decoded to, and the KL of each item."""
        mean, log_variance = self.encode(x)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return self.decode(z), -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)


Loss = Callable[[Tutorial, Tensor], Tensor]


def squares(vae: Tutorial, x: Tensor) -> Tensor:
    """A mean of squares, and 0.00025 of the KL."""
    found, kl = vae(x)
    return F.mse_loss(found, x) + 0.00025 * kl.mean()


def absolute(vae: Tutorial, x: Tensor) -> Tensor:
    """A mean of absolute errors, and 10 of the KL."""
    found, kl = vae(x)
    return F.l1_loss(found, x) + 10 * kl.mean()


def trained(loss: Loss, x: Tensor) -> Tutorial:
    torch.manual_seed(1)
    vae = Tutorial()
    adam = torch.optim.Adam(vae.parameters(), 1e-3)
    for _ in range(1500):
        batch = x[torch.randint(len(x), (64,))]
        adam.zero_grad()
        loss(vae, batch).backward()
        adam.step()
    return vae


def main() -> None:
    torch.manual_seed(0)
    factors, weight = torch.randn(2000, 3), torch.randn(3, 20)
    x = factors @ weight + 0.3 * torch.randn(2000, 20)
    for loss, likelihood in ((squares, "gaussian"), (absolute, "laplace")):
        vae = trained(loss, x)
        model = uc.foreign(vae, likelihood=likelihood)
        print(f"{loss.__doc__}\n\n{uc.diagnose(model, x, loss=lambda b, vae=vae, loss=loss: loss(vae, b))}\n")


if __name__ == "__main__":
    main()
