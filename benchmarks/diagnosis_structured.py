"""More models whose state is computed, of other priors, decoders and posteriors than `diagnosis_cases`, or trained."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal
from torch.nn import functional as F

import uncollapse as uc
from diagnosis_cases import NEAR, Case, Of, curve, items, linear, named, on_a_grid
from uncollapse.data.sequences import Text
from uncollapse.diagnosis import verdicts
from uncollapse.distributions.flowed import FlowedNormal
from uncollapse.distributions.tokens import Tokens
from uncollapse.posteriors.flow import Flows


def gaussian(mean: Tensor, scale: float = 1.0) -> Distribution:
    return Independent(Normal(mean, torch.full_like(mean, scale)), 1)


def truth(disease: str) -> str:
    return f"{disease} collapse" if disease else "healthy"


class Given(NamedTuple):
    """Items x, and what they are conditioned on."""

    x: Tensor
    given: Tensor

    @property
    def target(self) -> Tensor:
        return self.x

    @property
    def seen(self) -> Tensor:
        return self.given


def conditional(draw: random.Random, disease: str = "") -> Case:
    """x = W z + V c + noise, z ~ N(U c, I): another item's z says another c, and so is no z that says nothing of x."""
    made, classes, n = linear(draw, draw.randint(1, 6), 0, plain=True), draw.randint(2, 5), items(draw)
    c = F.one_hot(torch.randint(classes, (n,)), classes).float()
    to_z, to_x = 2 * torch.randn(classes, made.size), torch.randn(classes, len(made.weight))
    x = (c @ to_z + torch.randn(n, made.size)) @ made.weight.T + c @ to_x + torch.randn(n, len(made.weight))

    def encoder(batch: Given) -> Distribution:
        start = batch.given @ to_z
        if disease == "inference":
            return gaussian(start)
        variance = 1 / (1 + made.ratios)
        mean = (start + (batch.x - batch.given @ to_x) @ made.weight) * variance
        return uc.gaussian(mean, variance.log().expand_as(mean))

    def decoder(z: Tensor, seen: Tensor) -> Distribution:
        z = (seen @ to_z).expand_as(z) if disease == "model" else z
        return gaussian(z @ made.weight.T + seen @ to_x)

    class Prior(nn.Module):
        def forward(self, given: Tensor) -> Distribution:
            return gaussian(given @ to_z)

    return Case(uc.VAE(Of(encoder), Of(decoder), Prior()), Given(x, c), truth(disease))


def mixture(draw: random.Random, disease: str = "") -> Case:
    """A prior of some Gaussians far apart, of which x tells one: the true posterior is that one's."""
    made, n, k = linear(draw, draw.randint(1, 6), 0, plain=True), items(draw), draw.randint(2, 4)
    centres = torch.zeros(k, made.size)
    centres[:, 0] = 8.0 * (torch.arange(k) - (k - 1) / 2) / made.ratios[0].sqrt().clamp(max=1.0)
    which = torch.randint(k, (n,))
    x = (centres[which] + torch.randn(n, made.size)) @ made.weight.T + torch.randn(n, len(made.weight))
    prior = MixtureSameFamily(Categorical(logits=torch.zeros(k)), gaussian(centres))

    def encoder(x: Tensor) -> Distribution:
        if disease == "inference":
            mean = centres.mean(0).expand(len(x), -1)
            return uc.gaussian(mean, (centres.var(0, correction=0) + 1).log().expand_as(mean))
        variance = 1 / (1 + made.ratios)
        seen = x @ made.weight
        # The likelihood of x under each of them, in the units that x tells of.
        apart = (seen / made.ratios).unsqueeze(1) - centres
        nearest = (apart.square() / (1 + 1 / made.ratios)).sum(2).argmin(1)
        mean = (centres[nearest] + seen) * variance
        return uc.gaussian(mean, variance.log().expand_as(mean))

    def decoder(z: Tensor, seen: Tensor) -> Distribution:
        return gaussian((0 * z if disease == "model" else z) @ made.weight.T)

    return Case(uc.VAE(Of(encoder), Of(decoder), Of(lambda: prior)), x, truth(disease))


def flowed(draw: random.Random, disease: str = "") -> Case:
    """z = f(e), f a random autoregressive flow and x = W e + noise: the true posterior is the flow of a Gaussian."""
    made, n = linear(draw, draw.randint(1, 3), 0, plain=True), 200
    flow = Flows(made.size, 2, (16,), 1).flow
    for parameter in flow.parameters():
        parameter.detach().mul_(1.5)
    prior = FlowedNormal(flow, torch.zeros(made.size), torch.ones(made.size), torch.zeros(1))

    def encoder(x: Tensor) -> Distribution:
        variance = 1 / (1 + made.ratios)
        mean = x @ made.weight * variance
        mean, scale = (
            (0 * mean, torch.ones_like(mean)) if disease == "inference" else (mean, variance.sqrt() + 0 * mean)
        )
        return FlowedNormal(flow, mean, scale, torch.zeros(len(x), 1))

    def decoder(z: Tensor, seen: Tensor) -> Distribution:
        e = flow(torch.zeros(1)).inv(z)
        return gaussian((0 * e if disease == "model" else e) @ made.weight.T)

    return Case(uc.VAE(Of(encoder), Of(decoder), Of(lambda: prior)), made.items(n), truth(disease))


def autoregressive(draw: random.Random, disease: str = "") -> Case:
    """Texts of a Markov chain whose every step one unit of z bends; the decoder sees the token before."""
    vocabulary, length, n = draw.randint(5, 10), draw.randint(6, 14), items(draw)
    chain, bend = 1.5 * torch.randn(vocabulary, vocabulary), draw.uniform(0.8, 2.0) * torch.randn(vocabulary, 1)
    chain[0], bend[0] = -30.0, 0.0  # Padding is no token that is written.
    matrix = torch.cat([bend, chain], 1)

    def states(z: Tensor, before: Tensor) -> Tensor:
        """[z, the token before], with shape (..., B, T, 1 + V)."""
        seen = F.one_hot(before, vocabulary).float().expand(*z.shape[:-1], *before.shape[1:], vocabulary)
        return torch.cat([z.unsqueeze(-2).expand(*seen.shape[:-1], 1), seen], -1)

    z, tokens = torch.randn(n, 1), torch.ones(n, 1, dtype=torch.long)
    for _ in range(length):
        logits = (states(z, tokens[:, -1:]) @ matrix.T).squeeze(1)
        tokens = torch.cat([tokens, logits.softmax(-1).multinomial(1)], 1)

    def encoder(x: Text) -> Distribution:
        if disease == "inference":
            return gaussian(torch.zeros(len(x.tokens), 1))
        each = lambda z: Tokens(states(z.expand(len(x.tokens), 1), x.seen), matrix).log_prob(x.target)  # noqa: E731
        return on_a_grid(lambda grid: torch.stack([each(z) for z in grid]))

    def decoder(z: Tensor, seen: Tensor) -> Distribution:
        return Tokens(states(0 * z if disease == "model" else z, seen), matrix)

    batches = [Text(part) for part in tokens.split(100)]
    return Case(uc.VAE(Of(encoder), Of(decoder), uc.StandardNormal(1)), batches, truth(disease))


def gap(draw: random.Random) -> Case:
    """No item has its z on one side of a plane, where a share of the prior is; the KL to it is -log(1 - share)."""
    made, n, share = linear(draw, draw.randint(1, 4), 0, plain=True), 800, draw.uniform(0.3, 0.6)
    made = made._replace(weight=made.weight * 10, ratios=made.ratios * 100)
    z, normal = torch.randn(10 * n, made.size), F.normalize(torch.randn(made.size), dim=0)
    z = z[z @ normal > Normal(0.0, 1.0).icdf(torch.tensor(share))][:n]
    x = z @ made.weight.T + torch.randn(n, len(made.weight))
    return Case(made.model(made.posterior), x, "healthy", gap=share)


def trained(draw: random.Random) -> Case:
    """Networks of one hidden layer with one unit of z, trained with some weight of the rate; the truth is by a grid."""
    mean, sigma, size = curve(draw)
    make = lambda n: mean(torch.randn(n, 1)) + sigma * torch.randn(n, size)  # noqa: E731
    beta = 10 ** draw.uniform(-3.5, 1.5)
    inner, back = (nn.Sequential(nn.Linear(a, 32), nn.Tanh(), nn.Linear(32, b)) for a, b in ((size, 2), (1, size)))

    def encoder(x: Tensor) -> Distribution:
        found = inner(x)
        return uc.gaussian(found[:, :1], found[:, 1:])

    def decoder(z: Tensor, seen: Tensor) -> Distribution:
        return gaussian(back(z), sigma)

    model = uc.VAE(Of(encoder), Of(decoder), uc.StandardNormal(1))
    adam = torch.optim.Adam([*inner.parameters(), *back.parameters()], 1e-2)
    for _ in range(400):
        bound = model(make(128))
        adam.zero_grad()
        (bound.distortion + beta * bound.rate).mean().backward()
        adam.step()
    with torch.no_grad():
        return Case(model, make(items(draw)), _state(model, back, sigma, make(2000)))


def _state(model: uc.VAE, back: nn.Module, sigma: float, x: Tensor) -> str:
    """The state by the definitions of the verdicts, of many items, with the true posterior by a grid."""
    bound = model(x, samples=1)
    z, q = bound.z[0], bound.q
    base: Any = q
    loc, scale = base.base_dist.loc, base.base_dist.scale
    pairs = Normal(loc.T, scale.T).log_prob(z).double()
    aggregate = pairs.logsumexp(1) - torch.tensor(float(len(x))).log()
    mi = (bound.log_q[0] - aggregate).mean().item()
    apart = (aggregate - bound.log_p[0]).mean().item()

    def distortion(z: Tensor) -> Tensor:
        return -gaussian(back(z), sigma).log_prob(x)

    average = z.mean(0).expand_as(z)
    worth = min(distortion(z.roll(1, 0)).mean(), distortion(average).mean()).item() - distortion(z).mean().item()
    posterior = on_a_grid(lambda grid: torch.stack([distortion(one.expand(len(x), 1)).neg() for one in grid]))
    true = posterior.sample()
    could = (distortion(true.roll(1, 0)) - distortion(true)).mean().item()
    noise = (scale.square().mean() / (scale.square().mean() + loc.var())).item()
    limits = [(min(mi, worth), verdicts.NEGLIGIBLE)]
    unused = min(mi, worth) < verdicts.NEGLIGIBLE
    limits += [(could, verdicts.LISTENS)] if unused else [(apart, verdicts.MISMATCH)]
    if not unused and apart > verdicts.MISMATCH:
        limits.append((noise, verdicts.NARROW))
    if any(max(value, limit) < NEAR**2 * min(value, limit) for value, limit in limits if value > 0):
        return "borderline"
    if unused:
        return "inference collapse" if could > verdicts.LISTENS else "model collapse"
    if apart > verdicts.MISMATCH:
        return "plain autoencoder" if noise < verdicts.NARROW else "mismatched"
    return "healthy"


STRUCTURED: tuple[Callable[[random.Random], Case], ...] = (
    *(
        named(function, disease)
        for function in (conditional, mixture, flowed, autoregressive)
        for disease in ("", "inference", "model")
    ),
    gap,
    trained,
    trained,
    trained,
)
