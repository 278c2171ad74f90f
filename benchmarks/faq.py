"""The outputs in docs/faq.md that no command of a run gives: odd losses, scaled latents, a way around z.

    python benchmarks/faq.py

A tutorial VAE of 4 units on 2,000 items of 20 numbers that 3 factors explain, 1,500 steps of Adam, fixed seeds; a few
seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional as F

import uncollapse as uc
from uncollapse.distributions.von_mises_fisher import VonMisesFisher
from uncollapse.priors import UniformSphere


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


def bound(vae: Tutorial, x: Tensor) -> Tensor:
    """Half of the squares, summed, and the KL."""
    found, kl = vae(x)
    return 0.5 * (found - x).square().sum(1).mean() + kl.mean()


class Around(nn.Module):
    """A decoder that also sees the item."""

    def __init__(self, decode: nn.Module) -> None:
        super().__init__()
        self.decode = decode

    def forward(self, z: Tensor, seen: Tensor) -> Independent:
        mean = seen + 0 * self.decode(z)
        return Independent(Normal(mean, torch.ones_like(mean)), 1)


def scaled(vae: Tutorial, x: Tensor) -> None:
    """The active units of the same model with z multiplied by a number."""
    for scale in (1.0, 0.001):
        prior = Independent(Normal(torch.zeros(4), scale), 1)
        model = uc.foreign(
            vae,
            encode=lambda b, s=scale: tuple(
                f(part) for f, part in zip((lambda m: s * m, lambda v: v + 2 * math.log(s)), vae.encode(b), strict=True)
            ),
            decode=lambda z, s=scale: vae.decode(z / s),
            likelihood="gaussian",
            prior=lambda law=prior: law,
        )
        print(f"z times {scale:g}: {uc.evaluate(model, x, 0).active_units}")
        print(uc.diagnose(model, x)["units"].number)


class TwoFamilies(nn.Module):
    """A model with two latents: two Gaussian units, and a direction of three, von Mises-Fisher."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4 + 4))
        self.decoder = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 20))
        self.uniform = UniformSphere(3)

    def forward(self, x: Tensor, q: None = None, samples: int = 1) -> uc.Bound:
        numbers = self.encoder(x)
        gaussian, p = uc.gaussian(numbers[:, :2], numbers[:, 2:4]), Independent(Normal(torch.zeros(2), 1.0), 1)
        direction, uniform = (
            VonMisesFisher(F.normalize(numbers[:, 4:7], dim=1), F.softplus(numbers[:, 7])),
            self.uniform(),
        )
        first, second = gaussian.rsample((samples,)), direction.rsample((samples,))
        z = torch.cat([first, second], 2)
        law = Independent(Normal(self.decoder(z), 1.0), 1)
        log_q = gaussian.log_prob(first) + direction.log_prob(second)
        log_p = p.log_prob(first) + uniform.log_prob(second)
        kl = torch.stack([kl_divergence(gaussian, p), kl_divergence(direction, uniform)], 1)
        return uc.Bound(x, z, law.log_prob(x), log_q, log_p, kl, None, None)

    def players(self) -> dict[str, nn.Module]:
        return {"inference": self.encoder, "generation": self.decoder}


def two_families(x: Tensor) -> None:
    """The rate of either latent."""
    torch.manual_seed(1)
    model = TwoFamilies()
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(1500):
        found = model(x[torch.randint(len(x), (64,))])
        adam.zero_grad()
        (found.distortion + found.rate).mean().backward()
        adam.step()
    figures = uc.evaluate(model, x, 50)
    print(f"rates: {[round(value, 2) for value in figures.kl_per_group.tolist()]}\n{figures}")


def main() -> None:
    torch.manual_seed(0)
    factors, weight = torch.randn(2000, 3), torch.randn(3, 20)
    x = factors @ weight + 0.3 * torch.randn(2000, 20)
    for loss, likelihood in ((squares, "gaussian"), (absolute, "laplace")):
        vae = trained(loss, x)
        model = uc.foreign(vae, likelihood=likelihood)
        print(f"{loss.__doc__}\n\n{uc.diagnose(model, x, loss=lambda b, vae=vae, loss=loss: loss(vae, b))}\n")
    vae = trained(bound, x)
    scaled(vae, x)
    encoder = uc.Posterior(vae.encoder, uc.gaussian, (4, 4))
    two_families(x)
    print(uc.diagnose(uc.VAE(encoder, Around(vae.decode), uc.StandardNormal(4)), x))


if __name__ == "__main__":
    main()
