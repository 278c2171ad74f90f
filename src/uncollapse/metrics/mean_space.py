r"""Posterior mean space: where the true posterior's mean and that of q are, item by item.

.. math:: x \mapsto (\mathbb{E}_{p(z|x)}[z], \mathbb{E}_{q(z|x)}[z])

All at the prior's mean: both have collapsed. Spread along the first alone: the model uses z and q lags behind. On the
diagonal: q has caught up. That all means are 0 does not prove collapse: a posterior with two modes has such a mean.

References:
    | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al., 2019)
    | https://arxiv.org/abs/1901.05534
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from uncollapse.bound import Batch, Bound, device, size
from uncollapse.data.batches import numbered, source
from uncollapse.distributions import operations
from uncollapse.errors import InputError
from uncollapse.inference import Inference, amortised
from uncollapse.metrics import posterior_mean
from uncollapse.metrics.adaptive_mean import adaptive
from uncollapse.metrics.draws import draw
from uncollapse.metrics.estimate import Answer, Estimate, Unavailable
from uncollapse.metrics.information import NO_UNITS, PATH
from uncollapse.metrics.posterior_mean import Means, Refined
from uncollapse.metrics.rows import SEQUENCES, infer
from uncollapse.metrics.subject import evaluating, placed, refuse_other_signatures
from uncollapse.model import ask
from uncollapse.randomness import seeded

Method = Literal["grid", "adaptive", "weights"]

UNRELIABLE = Unavailable(
    "the importance weights of fewer than two items can be relied on for their true posterior's mean: ask for more "
    "samples, or improve the posterior"
)
NOT_VECTORS = "quadrature is for latents of one or two units on the whole line: take the method `weights`"
#: Below this spread the true means do not vary, and nothing can follow them.
STILL = 1e-3


@dataclass(frozen=True, eq=False)
class MeanSpace:
    """The means of N items, float64, on the CPU, with D latent units.

    `spread_true` and `spread_inferred` are the root of the variance over items, summed over the units, and `slope` is
    that of the regression of q's means on the true ones, of all units together: 1 where q follows, 0 where it lags.
    None depends on how the latent space is turned. They are over the reliable items.
    """

    items: Tensor
    """(N,), the ids."""
    true: Tensor
    """(N, D), E[z] under p(z | x)."""
    inferred: Tensor
    """(N, D), E[z] under q(z | x)."""
    reliable: Tensor
    """(N,) bool; see `posterior_mean.Means`."""
    error: Tensor | None
    """(N, D), the standard error of `true`; None by quadrature."""
    effective: Tensor | None
    """(N,), the effective number of samples; None by quadrature."""
    evaluations: int
    """The most points z of an item that its decoder was asked for."""
    method: Method

    @cached_property
    def axes(self) -> Tensor:
        """(min(D, 2), D), orthonormal: the directions in which both clouds together vary most; the units for D < 3.

        Not those of q's means alone, which are noise where q lags behind.
        """
        if self.true.shape[1] < 3:
            return torch.eye(self.true.shape[1], dtype=torch.float64)
        both = torch.cat([self.true[self.reliable], self.inferred])
        axes = torch.linalg.svd(both - both.mean(0), full_matrices=False).Vh[:2]
        # A direction and its opposite are the same: the larger part points up, so that pictures over time agree.
        return axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()

    @property
    def spread_true(self) -> Answer:
        return self._spread(self.true, self.error)

    @property
    def spread_inferred(self) -> Answer:
        return self._spread(self.inferred)

    @property
    def slope(self) -> Answer:
        r"""The regression of q's means on the true ones; what the errors of these add to their variance is taken off.

        .. math:: \text{slope} = \sum_d \text{Cov}(\mu^q_d, \mu^p_d) / \sum_d \text{Var}(\mu^p_d)
        """
        spread = self.spread_true
        if isinstance(spread, Unavailable):
            return spread
        if not spread.value >= STILL:
            return Unavailable("the true posterior's means do not vary, so that q has nothing to follow")
        x, y = (self._centred(means) for means in (self.true, self.inferred))
        n, total = len(x), spread.value**2 * (len(x) - 1)
        slope = ((x * y).sum() / total).item()
        residual = (x * (y - slope * x)).sum(1)
        return Estimate(slope, residual.square().sum().sqrt().item() / total, n, "")

    @property
    def lag(self) -> Answer:
        """1 - slope."""
        slope = self.slope
        return slope if isinstance(slope, Unavailable) else Estimate(1 - slope.value, slope.se, slope.n, "")

    def _centred(self, means: Tensor) -> Tensor:
        kept = means[self.reliable]
        return kept - kept.mean(0)

    def _spread(self, means: Tensor, error: Tensor | None = None) -> Answer:
        n = int(self.reliable.sum())
        if n < 2:
            return UNRELIABLE
        squares = self._centred(means).square().sum(1)
        if error is not None:
            squares = squares - error[self.reliable].square().sum(1)
        variance = max(0.0, squares.sum().item() / (n - 1))
        se = squares.std().item() / math.sqrt(n)
        value = math.sqrt(variance)
        return Estimate(value, se / (2 * value) if value else math.nan, n, "")

    def to_json(self) -> dict[str, Any]:
        """The points along the axes, and what they say; the points of all items, with those that are not reliable."""
        names = ("spread_true", "spread_inferred", "slope", "lag")
        return {
            "items": self.items.tolist(),
            "true": (self.true @ self.axes.T).tolist(),
            "inferred": (self.inferred @ self.axes.T).tolist(),
            "reliable": self.reliable.tolist(),
            "effective": None if self.effective is None else self.effective.tolist(),
            "axes": self.axes.tolist(),
            "method": self.method,
            "evaluations": self.evaluations,
            **{name: getattr(self, name).to_json() for name in names},
        }


def mean_space(
    model: Callable[..., Bound],
    data: Any,
    method: Method | None = None,
    *,
    samples: int = 500,
    seed: int = 0,
    batch_size: int = 64,
    inference: Inference = amortised,
    refined: Inference | None = Refined(),  # noqa: B008 - frozen
) -> MeanSpace | Unavailable:
    """Where the items of some data are in posterior mean space.

    Arguments:
        model: See `Model`; in evaluation mode meanwhile.
        data: What `evaluate` takes.
        method: "grid" or "weights", see `posterior_mean`, or "adaptive", see `adaptive_mean`. Where it is None,
            "adaptive" for one or two units, and "weights" for more and for latents that are not on the whole line.
        samples: Draws of each item, by weights.
        seed: Of the draws.
        batch_size: The items of a batch, where `data` is not batches already.
        inference: How q is found, whose means are shown.
        refined: By weights, how a q is found whose draws count more; the better of the two is taken for each item.
            None for none.

    Raises:
        InputError: for a model or data that cannot be used, and a method that is not for these latents.
    """
    refuse_other_signatures(model)
    parts: list[tuple[Tensor, Tensor, Means]] = []
    with torch.no_grad(), evaluating(model):
        for index, (ids, x) in enumerate(numbered(source(data, batch_size))):
            x = placed(model, x)
            with seeded(seed, "mean space", index, device=device(x)):
                q = infer(model, inference, x, ids.tolist(), seed)
                wrong = _missing(q)
                if q is None or wrong is not None:
                    return wrong or PATH
                method = method or ("adaptive" if _plain(q) else "weights")
                if method == "weights":
                    found = _by_weights(model, x, ids.tolist(), q, refined, samples, seed)
                else:
                    found = _by_quadrature(model, x, q, method)
            parts.append((ids, operations.mean(q).flatten(1).cpu().double(), found))
    assert method is not None
    return _joined(parts, method)


def _missing(q: Distribution | None) -> Unavailable | None:
    if q is None:
        return PATH
    if not q.event_shape.numel():
        return NO_UNITS
    try:
        operations.mean(q)
    except NotImplementedError:
        return Unavailable("the posterior's mean is not known")
    return None


def _plain(q: Distribution) -> bool:
    """Whether z is one number or two, anywhere."""
    return len(q.event_shape) == 1 and q.event_shape[0] <= 2 and operations.space(q) == "vectors"


def _by_quadrature(model: Any, x: Batch, q: Distribution, method: Method) -> Means:
    if not _plain(q):
        raise InputError(f"these have the shape {tuple(q.event_shape)} as {operations.space(q)}: {NOT_VECTORS}.")
    density = posterior_mean.joint(model, x, operations.mean(q))
    rule = {"grid": posterior_mean.grid, "adaptive": adaptive}[method]
    return rule(density, size(x), q.event_shape[0])


def _by_weights(
    model: Any, x: Batch, ids: Sequence[int], q: Distribution, refined: Inference | None, samples: int, seed: int
) -> Means:
    """By draws from q, or from a refined one where its bound is higher: that is the nearer to p(z | x)."""
    own, bound = _weighed(model, x, ids, q, samples, seed)
    if refined is None:
        return own
    try:
        other = infer(model, refined, x, ids, seed)
    except InputError:  # A family that no step keeps within its limits.
        return own
    assert other is not None
    better, higher = _weighed(model, x, ids, other, samples, seed)
    take = higher > bound
    means = [torch.where(take.view(-1, *(1,) * (a.ndim - 1)), a, b) for a, b in _columns(better, own)]
    mean, reliable, error, effective = means
    return Means(mean, reliable, 2 * samples + getattr(refined, "count", 0), error, effective)


def _columns(first: Means, second: Means) -> list[tuple[Any, Any]]:
    return [(getattr(first, name), getattr(second, name)) for name in ("mean", "reliable", "error", "effective")]


def _weighed(
    model: Any, x: Batch, ids: Sequence[int], law: Distribution, samples: int, seed: int
) -> tuple[Means, Tensor]:
    """The means by draws from a law, and its bound, (B,)."""
    z = draw(law, seed, "posterior mean", ids, samples)
    parts = z.split(max(1, SEQUENCES // size(x)))
    weights = torch.cat([ask(model, x, operations.fixed(law, part), len(part)).log_weights for part in parts])
    return posterior_mean.by_weights(weights, z.flatten(2)), weights.double().mean(0).cpu().nan_to_num(-math.inf)


def _joined(parts: list[tuple[Tensor, Tensor, Means]], method: Method) -> MeanSpace:
    ids, inferred, found = zip(*parts, strict=True)
    ids = torch.cat(ids)
    order = ids.argsort(stable=True)

    def column(name: str) -> Any:
        values = [getattr(one, name) for one in found]
        return None if values[0] is None else torch.cat(values)[order]

    names = {"true": "mean", "reliable": "reliable", "error": "error", "effective": "effective"}
    return MeanSpace(
        items=ids[order],
        inferred=torch.cat(inferred)[order],
        evaluations=max(one.evaluations for one in found),
        method=method,
        **{field: column(name) for field, name in names.items()},
    )
