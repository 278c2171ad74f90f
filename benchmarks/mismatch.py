"""How far q(z) is from the prior at least, of models with an exact posterior and of ones trained at several rates.

    python benchmarks/mismatch.py

prints the tables of docs/metrics.md, in about two minutes on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import uncollapse as uc
from uncollapse.diagnosis import least_marginal_kl, verdict

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from linear_gaussian import evidence, orthogonal, vae

SEED, REPEATS = 20260101, 20
EPOCHS, BATCH = 15, 100


class Decoder(nn.Module):
    """p(x | z) with a learned variance."""

    def __init__(self, d: int, size: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(d, 64), nn.Tanh(), nn.Linear(64, size))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        mean = self.net(z)
        return Independent(Normal(mean, self.log_scale.exp().expand_as(mean)), 1)


def exact(d: int, length: float, n: int) -> float:
    """The most of `REPEATS` data sets; the truth is 0."""
    weight = orthogonal(*[length] * d, size=max(d, 40))
    model, law = vae(weight, 1.0), evidence(weight, 1.0)
    return max(least_marginal_kl(judged(model, law.sample((n,)))) for _ in range(REPEATS))


def trained(x: Tensor, d: int, weight: float) -> nn.Module:
    net = nn.Sequential(nn.Linear(x.shape[1], 64), nn.Tanh(), nn.Linear(64, 2 * d))
    model = uc.VAE(uc.Posterior(net, uc.gaussian, sizes=(d, d)), Decoder(d, x.shape[1]), uc.StandardNormal(d))
    objective, optimiser = uc.Objective(weights={"rate": weight}), torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(EPOCHS):
        for batch in x[torch.randperm(len(x))].split(BATCH):
            optimiser.zero_grad()
            objective(model(batch)).total.backward()
            optimiser.step()
    return model


def curved(n: int, noise: float) -> Tensor:
    """Points near a curved surface of 4 dimensions in 20, always the same surface."""
    fixed = torch.Generator().manual_seed(SEED)
    up, mix = torch.randn(4, 20, generator=fixed), torch.randn(20, 20, generator=fixed) / 2
    return torch.tanh(torch.randn(n, 4) @ up) @ mix + noise * torch.randn(n, 20)


def judged(model: nn.Module, x: Tensor) -> uc.Evaluation:
    return uc.evaluate(model, x, samples=0, bound_samples=1, mi_passes=1)


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    print("| d | I | n = 30 | 100 | 400 |\n|---|---|---|---|---|")
    for d in (1, 4, 16, 32):
        for length in (1.0, 5.0):
            nats = d / 2 * torch.tensor(1 + length**2).log().item()
            print(f"| {d} | {nats:.1f} |", *(f"{exact(d, length, n):.2f} |" for n in (30, 100, 400)), flush=True)
    print("\n| noise | d | weight of the rate | KL | MI | n = 100 | 2000 | verdict |\n|" + "---|" * 8)
    for noise in (0.3, 1.0):
        x, test = curved(4000, noise), curved(2000, noise)
        for d in (2, 16):
            for weight in (1e-6, 0.01, 0.1, 0.4, 1.0):
                model = trained(x, d, weight)
                few, many = judged(model, test[:100]), judged(model, test)
                values = (
                    f"{many.kl.value:.1f} | {many.mi} | {least_marginal_kl(few):.1f} | {least_marginal_kl(many):.1f}"
                )
                print(f"| {noise} | {d} | {weight:g} | {values} | {verdict(many).split(':')[0]} |", flush=True)


if __name__ == "__main__":
    main()
