"""Models whose state is computed, for `benchmarks/diagnosis.py`: none is trained, each disease is put in by hand."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn import functional as F

import uncollapse as uc
from uncollapse.data.sequences import Text
from uncollapse.diagnosis.verdicts import MISMATCH
from uncollapse.distributions.tokens import Tokens
from uncollapse.distributions.von_mises_fisher import VonMisesFisher
from uncollapse.posteriors.normalised import Normalised

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from linear_gaussian import LinearGaussian

#: Within this factor of a threshold a case is borderline.
NEAR = 1.25


class Case(NamedTuple):
    """A model, items, the loss if there is one, and the state that it is in."""

    model: nn.Module
    x: Any
    truth: str
    loss: Any = None
    gap: float = 0.0
    """The share of the prior that no item's z is in."""


class Of(nn.Module):
    """A module of a function."""

    def __init__(self, function: Callable[..., Distribution]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Any) -> Distribution:
        return self.function(*given)


class Linear(NamedTuple):
    """x = W z + noise with z ~ N(0, I) before z is scaled and turned; W has orthogonal columns."""

    weight: Tensor
    sigma: float
    ratios: Tensor
    """(D,), |w|^2 / sigma^2, by which everything is known."""
    turn: Tensor
    scale: float

    @property
    def size(self) -> int:
        return self.weight.shape[1]

    def items(self, n: int) -> Tensor:
        z = torch.randn(n, self.size)
        return z @ self.weight.T + self.sigma * torch.randn(n, len(self.weight))

    def posterior(self, x: Tensor, feature: Tensor | None = None) -> Distribution:
        """The best of Gaussians with independent units; of another feature of x than W's, where one is given."""
        variance = 1 / (1 + self.ratios)
        mean = x @ (self.weight if feature is None else feature) * variance / self.sigma**2
        precision = (self.turn * (1 / variance)) @ self.turn.T
        log_variance = (self.scale**2 / precision.diagonal()).log()
        mean = self.scale * mean @ self.turn.T
        return uc.gaussian(mean, log_variance.expand_as(mean))

    def apart(self) -> float:
        """KL(q(z) || p(z)) of the posterior above, of two Gaussians, in nats."""
        variance = 1 / (1 + self.ratios)
        noise = 1 / ((self.turn * (1 / variance)) @ self.turn.T).diagonal()
        spread = (self.turn * (1 - variance)) @ self.turn.T + noise.diag()
        return 0.5 * (spread.trace() - self.size - spread.logdet()).item()

    def truth(self, label: str) -> str:
        """A label, but of codes that are not the prior's, as posteriors of independent units make them of turned z."""
        apart = self.apart()
        if max(apart, MISMATCH) < NEAR * min(apart, MISMATCH):
            return "borderline"
        return "mismatched" if apart > MISMATCH else label

    def model(self, encoder: Callable[[Tensor], Distribution], listens: bool = True) -> uc.VAE:
        weight = self.weight @ self.turn.T / self.scale
        zero = torch.zeros(self.size)
        prior = Of(lambda: Independent(Normal(zero, self.scale), 1))
        return uc.VAE(Of(encoder), LinearGaussian(weight if listens else 0 * weight, self.sigma), prior)


def linear(draw: random.Random, alive: int, dead: int, plain: bool = False) -> Linear:
    """A random one with so many units that are used."""
    d = alive + dead
    size = draw.randint(2 * d + 2, max(40, 2 * d + 2))
    ratios = torch.tensor([draw.uniform(0.4, 30.0) for _ in range(alive)] + [0.0] * dead)
    sigma = 1.0 if plain else draw.choice([0.1, 1.0, 5.0])
    columns = torch.linalg.qr(torch.randn(size, d)).Q
    turn = torch.linalg.qr(torch.randn(d, d)).Q if not plain and draw.random() < 0.4 else torch.eye(d)
    scale = 1.0 if plain else draw.choice([0.01, 1.0, 1.0, 100.0])
    return Linear(columns * ratios.sqrt() * sigma, sigma, ratios, turn, scale)


def items(draw: random.Random) -> int:
    return draw.choice([200, 400, 800])


def healthy(draw: random.Random) -> Case:
    alive = draw.randint(1, 8)
    made = linear(draw, alive, draw.randint(0, alive))
    return Case(made.model(made.posterior), made.items(items(draw)), made.truth("healthy"))


def partly(draw: random.Random) -> Case:
    alive = draw.randint(1, 4)
    made = linear(draw, alive, alive + draw.randint(1, 8))
    return Case(made.model(made.posterior), made.items(items(draw)), made.truth("partly collapsed"))


def nothing_to_tell(draw: random.Random) -> Case:
    made = linear(draw, 0, draw.randint(1, 8))
    return Case(made.model(made.posterior), made.items(items(draw)), "model collapse")


def decoder_ignores(draw: random.Random) -> Case:
    made = linear(draw, draw.randint(1, 8), 0)
    return Case(made.model(made.posterior, listens=False), made.items(items(draw)), "model collapse")


def encoder_is_the_prior(draw: random.Random) -> Case:
    made = linear(draw, draw.randint(1, 8), draw.randint(0, 4))

    def prior(x: Tensor) -> Distribution:
        zero = torch.zeros(len(x), made.size)
        return Independent(Normal(zero, torch.full_like(zero, made.scale)), 1)

    return Case(made.model(prior), made.items(items(draw)), "inference collapse")


def encoder_is_wrong(draw: random.Random) -> Case:
    """It reads noise, in directions that the decoder never writes to, as if these were its own."""
    made = linear(draw, draw.randint(1, 8), 0)
    columns = torch.linalg.qr(torch.cat([made.weight, torch.randn(len(made.weight), made.size)], 1)).Q[:, made.size :]
    gain = columns * (made.ratios * (1 + made.ratios)).sqrt() * made.sigma
    return Case(made.model(lambda x: made.posterior(x, gain)), made.items(items(draw)), "inference collapse")


def stretched(draw: random.Random, noise: float, truth: str) -> Case:
    """Codes c times as far out as the prior, with noise of a share of their variance, and a decoder that knows."""
    made = linear(draw, draw.randint(2, 6), 0, plain=True)
    c = draw.uniform(4.0, 12.0)

    def encoder(x: Tensor) -> Distribution:
        mean = c * made.posterior(x).mean
        return uc.gaussian(mean, torch.full_like(mean, c**2 * noise).log())

    return Case(
        uc.VAE(Of(encoder), LinearGaussian(made.weight / c, made.sigma), uc.StandardNormal(made.size)),
        made.items(items(draw)),
        truth,
    )


def mismatched(draw: random.Random) -> Case:
    return stretched(draw, draw.uniform(0.05, 0.3), "mismatched")


def points(draw: random.Random) -> Case:
    return stretched(draw, 10 ** draw.uniform(-7, -3.5), "plain autoencoder")


class Module(nn.Module):
    """A linear model as tutorials write one, at its exact posterior."""

    def __init__(self, made: Linear) -> None:
        super().__init__()
        variance = 1 / (1 + made.ratios)
        self.into = nn.Parameter(made.weight * variance)
        self.log_variance = nn.Parameter(variance.log())
        self.back = nn.Parameter(made.weight.clone())

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x @ self.into
        return mean, self.log_variance.expand_as(mean)

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.back.T


def with_loss(draw: random.Random, scaled: bool) -> Case:
    """Sums or means of squares, a weight, a factor on all; beta is what the weight amounts to."""
    made = linear(draw, draw.randint(1, 6), 0, plain=True)
    theirs, reduction = Module(made), draw.choice(["sum", "mean"])
    beta = draw.uniform(0.5, 2.0) if scaled else 10 ** (draw.choice([-1, 1]) * draw.uniform(0.9, 4.0))
    factor = 10 ** draw.uniform(-3, 3)
    # Half of the squares are the distortion at variance 1.
    weight = 2 * beta if reduction == "sum" else 2 * beta / len(made.weight)

    def loss(x: Tensor) -> Tensor:
        mean, log_variance = theirs.encode(x)
        back = theirs.decode(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))
        kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
        total = kl.sum() if reduction == "sum" else kl.mean()
        return factor * (F.mse_loss(back, x, reduction=reduction) + weight * total)

    model = uc.foreign(theirs, likelihood="gaussian")
    return Case(model, made.items(items(draw)), "healthy" if scaled else "loss mis-scaled", loss)


def loss_is_right(draw: random.Random) -> Case:
    return with_loss(draw, True)


def loss_is_mis_scaled(draw: random.Random) -> Case:
    return with_loss(draw, False)


def on_a_grid(log_likelihood: Callable[[Tensor], Tensor]) -> Distribution:
    """The Gaussian with the moments of the true posterior of one unit, from log p(x | z) (G, N) on a grid of z."""
    z = torch.linspace(-6, 6, 1201).unsqueeze(1)
    weight = (log_likelihood(z) - 0.5 * z.square()).softmax(0)
    mean = (weight * z).sum(0)
    variance = (weight * (z - mean).square()).sum(0)
    return uc.gaussian(mean.unsqueeze(1), variance.clamp(min=1e-6).log().unsqueeze(1))


def curve(draw: random.Random) -> tuple[Callable[[Tensor], Tensor], float, int]:
    """A curve in some dimensions, or two clusters, and the noise about it."""
    size, steep = draw.randint(3, 20), draw.choice([0.7, 1.5, 6.0])
    up, bend = torch.randn(size), torch.randn(size) * draw.uniform(0, 0.7)
    return (lambda z: (steep * z).tanh() * up + bend * z.square() / 2), draw.uniform(0.3, 1.0), size


def curved(draw: random.Random, disease: str = "") -> Case:
    mean, sigma, size = curve(draw)
    n = items(draw)
    x = mean(torch.randn(n, 1)) + sigma * torch.randn(n, size)

    def scored(x: Tensor) -> Distribution:
        squares = lambda z: (x - mean(z.unsqueeze(1))).square().sum(-1)  # noqa: E731
        return on_a_grid(lambda z: -0.5 * squares(z) / sigma**2)

    def encoder(x: Tensor) -> Distribution:
        return uc.gaussian(torch.zeros(len(x), 1), torch.zeros(len(x), 1)) if disease == "inference" else scored(x)

    def decoder(z: Tensor, seen: Tensor) -> Distribution:
        where = mean(0 * z if disease == "model" else z)
        return Independent(Normal(where, torch.full_like(where, sigma)), 1)

    truth = f"{disease} collapse" if disease else "healthy"
    return Case(uc.VAE(Of(encoder), Of(decoder), uc.StandardNormal(1)), x, truth)


class Uniform(nn.Module):
    """The prior on the sphere."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.d = d

    def forward(self) -> Distribution:
        return VonMisesFisher(torch.eye(self.d)[0], torch.zeros(()))


def sphere(draw: random.Random, disease: str = "") -> Case:
    """z uniform on a sphere, x = l U z + noise: the true posterior is von Mises-Fisher, kappa = l |U^T x| / sigma^2."""
    d, size = draw.randint(2, 8), draw.randint(10, 30)
    sigma, n = 1.0, 100  # These laws are drawn item by item, and slowly.
    weight = torch.linalg.qr(torch.randn(size, d)).Q * draw.uniform(2.0, 8.0)
    x = F.normalize(torch.randn(n, d), dim=1) @ weight.T + sigma * torch.randn(n, size)

    def encoder(x: Tensor) -> Distribution:
        pull = x @ weight / sigma**2
        size_of = pull.norm(dim=1)
        return VonMisesFisher(F.normalize(pull, dim=1), 0 * size_of if disease == "inference" else size_of)

    decoder = LinearGaussian(0 * weight if disease == "model" else weight, sigma)
    return Case(uc.VAE(Of(encoder), decoder, Uniform(d)), x, f"{disease} collapse" if disease else "healthy")


def image(draw: random.Random, dead: int = 0) -> Case:
    """Images and latents with a shape: C channels of 2 x 2 units."""
    channels = draw.randint(2, 3)
    made = linear(draw, 4 * channels, 4 * dead, plain=True)
    side, shape = math.ceil(len(made.weight) ** 0.5), (channels + dead, 2, 2)
    weight = F.pad(made.weight, (0, 0, 0, side**2 - len(made.weight)))
    made = made._replace(weight=weight)

    def encoder(x: Tensor) -> Distribution:
        found = made.posterior(x.flatten(1))
        base: Any = found
        loc, scale = base.base_dist.loc.view(-1, *shape), base.base_dist.scale.view(-1, *shape)
        return Independent(Normal(loc, scale), 3)

    def decoder(z: Tensor, seen: Tensor) -> Distribution:
        mean = (z.flatten(2) @ weight.T).unflatten(-1, (1, side, side))
        return Independent(Normal(mean, torch.ones_like(mean)), 3)

    zero = torch.zeros(shape)
    prior = Of(lambda: Independent(Normal(zero, torch.ones_like(zero)), 3))
    x = made.items(items(draw)).view(-1, 1, side, side)
    return Case(uc.VAE(Of(encoder), Of(decoder), prior), x, "partly collapsed" if dead else "healthy")


def image_partly(draw: random.Random) -> Case:
    return image(draw, dead=4)


def text(draw: random.Random, disease: str = "") -> Case:
    """Texts of equal length whose tokens are independent given one unit of z."""
    vocabulary, length, n = draw.randint(5, 12), draw.randint(4, 12), items(draw)
    weight = torch.randn(vocabulary, 1) * draw.uniform(1.0, 2.5)
    weight[0] = -30.0  # Padding is no token that is written.
    constant = torch.zeros(vocabulary, 1)
    constant[0] = -30.0
    matrix = torch.cat([weight * (torch.arange(vocabulary) > 0).unsqueeze(1), constant], 1)

    def hidden(z: Tensor) -> Tensor:
        z = 0 * z if disease == "model" else z
        return torch.cat([z, torch.ones_like(z)], -1)

    true = lambda z: (torch.cat([z, torch.ones_like(z)], -1) @ matrix.T).log_softmax(-1)  # noqa: E731
    tokens = true(torch.randn(n, 1)).exp().multinomial(length, replacement=True)
    batches = [Text(torch.cat([torch.ones(len(t), 1, dtype=torch.long), t], 1)) for t in tokens.split(100)]

    def encoder(x: Text) -> Distribution:
        if disease == "inference":
            return uc.gaussian(torch.zeros(len(x.tokens), 1), torch.zeros(len(x.tokens), 1))
        counts = F.one_hot(x.target, vocabulary).sum(1).float()
        return on_a_grid(lambda z: true(z) @ counts.T)

    def decoder(z: Tensor, seen: Tensor) -> Distribution:
        states = hidden(z).unsqueeze(-2).expand(*z.shape[:-1], seen.shape[1], 2)
        return Tokens(states, matrix)

    truth = f"{disease} collapse" if disease else "healthy"
    return Case(uc.VAE(Of(encoder), Of(decoder), uc.StandardNormal(1)), batches, truth)


def normalised(draw: random.Random, listens: bool = True) -> Case:
    """BN-VAE: means of a fixed variance, which is the exact posterior's, or of features that the decoder ignores."""
    made = linear(draw, draw.randint(1, 6), 0, plain=True)
    gamma = 0.6
    ratio = gamma**2 / (1 - gamma**2)
    weight = F.normalize(made.weight, dim=0) * ratio**0.5
    made = made._replace(weight=weight, ratios=torch.full((made.size,), ratio))
    layer = Normalised(made.size, gamma)
    layer.variance = torch.full((made.size,), ratio * (1 + ratio))
    layer.eval()

    def encoder(x: Tensor) -> Distribution:
        mean = layer(x @ weight)
        return uc.gaussian(mean, torch.full_like(mean, 1 - gamma**2).log())

    truth = "healthy" if listens else "model collapse"
    return Case(made.model(encoder, listens), made.items(items(draw)), truth)


def normalised_in_vain(draw: random.Random) -> Case:
    return normalised(draw, listens=False)


def borderline(draw: random.Random) -> Case:
    """0.05 to 0.2 nats in all: nothing is a wrong answer."""
    nats = draw.uniform(0.05, 0.2)
    ratios = torch.tensor([2 * nats]).exp() - 1
    made = linear(draw, 1, 0)
    weight = F.normalize(made.weight, dim=0) * ratios.sqrt() * made.sigma
    made = made._replace(weight=weight, ratios=ratios)
    return Case(made.model(made.posterior), made.items(items(draw)), "borderline")


def named(function: Callable[..., Case], disease: str) -> Callable[[random.Random], Case]:
    def made(draw: random.Random) -> Case:
        return function(draw, disease)

    made.__name__ = f"{function.__name__}_{disease or 'healthy'}"
    return made


CASES: tuple[Callable[[random.Random], Case], ...] = (
    healthy,
    partly,
    nothing_to_tell,
    decoder_ignores,
    encoder_is_the_prior,
    encoder_is_wrong,
    mismatched,
    points,
    loss_is_right,
    loss_is_mis_scaled,
    *(named(function, disease) for function in (curved, sphere, text) for disease in ("", "inference", "model")),
    image,
    image_partly,
    normalised,
    normalised_in_vain,
    borderline,
)
