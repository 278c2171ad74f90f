"""All that is measured of a model on a set of batches, in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from uncollapse.bound import Batch, Bound, device, items, seen
from uncollapse.distributions.one_hots import OneHots
from uncollapse.documents import finite
from uncollapse.errors import InputError
from uncollapse.inference import Inference, amortised
from uncollapse.metrics import categories, information, labels, likelihood, units
from uncollapse.metrics.estimate import Answer, Estimate, Unavailable
from uncollapse.metrics.rows import Rows, collect
from uncollapse.metrics.subject import evaluating, placed
from uncollapse.model import ask
from uncollapse.processes import ALONE, Processes
from uncollapse.randomness import seeded

#: With fewer items, intervals of two standard errors are too narrow.
FEW = 30

NAMES = (
    "nll",
    "neg_elbo",
    "distortion",
    "kl",
    "mi",
    "mi_published",
    "marginal_kl",
    "active_units",
    "perplexity",
    "bits_per_dim",
    "effective_samples",
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found. `nll` and `neg_elbo` are to be minimised."""

    nll: Answer
    neg_elbo: Answer
    distortion: Answer
    kl: Answer
    mi: Answer
    mi_published: Answer
    marginal_kl: Answer
    active_units: Answer
    perplexity: Answer
    bits_per_dim: Answer
    effective_samples: Answer
    kl_per_group: Tensor
    """(K,), the mean over items."""
    variance_of_means: Tensor | None
    """In the shape of z; None where the posterior has no means."""
    samples: int
    seed: int
    warnings: tuple[str, ...]
    rows: Rows
    task: Mapping[str, Estimate] = field(default_factory=dict)
    """What else was measured because of what the data is for, by name."""

    @property
    def active_by_channel(self) -> list[int] | None:
        """The active units of each channel, the first dimension of z; None where z has one dimension, or no means."""
        return None if self.variance_of_means is None else units.active_by_channel(self.variance_of_means)

    @property
    def used_categories(self) -> Estimate | None:
        """How many classes of a choice are in use; None where z is none of choices."""
        law = self.rows.law
        return categories.used_categories(law.logits.softmax(-1)) if isinstance(law, OneHots) else None

    @property
    def of_labels(self) -> dict[str, Estimate]:
        """What is measured of the items' labels, by name; nothing where they have none."""
        return labels.of_labels(self.rows)

    def to_json(self) -> dict[str, Any]:
        """All but the rows, with None for what is not finite."""
        used = self.used_categories
        variances = self.variance_of_means
        return {
            **{name: getattr(self, name).to_json() for name in NAMES},
            "kl_per_group": finite(self.kl_per_group.tolist()),
            "variance_of_means": None if variances is None else finite(variances.tolist()),
            "active_by_channel": self.active_by_channel,
            **({} if used is None else {"used_categories": used.to_json()}),
            **({"of_labels": {k: v.to_json() for k, v in told.items()}} if (told := self.of_labels) else {}),
            **({"of_task": {k: v.to_json() for k, v in self.task.items()}} if self.task else {}),
            "samples": self.samples,
            "seed": self.seed,
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        width = max(map(len, (*NAMES, *self.task)))
        lines = [f"{name:<{width}}  {self._said(name)}" for name in NAMES]
        if self.active_by_channel is not None and self.variance_of_means is not None:
            some, each = sum(map(bool, self.active_by_channel)), self.variance_of_means[0].numel()
            channels = f"{some} of {len(self.active_by_channel)}, by any of {each} units in each"
            lines.append(f"{'active channels':<{width}}  {channels}")
        if (used := self.used_categories) is not None:
            lines.append(f"{'used_categories':<{width}}  {used}")
        lines += [f"{name:<{width}}  {figure}" for name, figure in (self.of_labels | dict(self.task)).items()]
        return "\n".join(lines + [f"warning: {text}" for text in self.warnings])

    def _said(self, name: str) -> str:
        """A figure in words; a reason that a figure before it has is not said again."""
        figure = getattr(self, name)
        first = next(one for one in NAMES if getattr(self, one) == figure) if isinstance(figure, Unavailable) else name
        return str(figure) if first == name else f"not available, as {first}"


def evaluate(
    model: Callable[..., Bound],
    data: Any,
    samples: int = 500,
    *,
    bound_samples: int = 10,
    mi_passes: int = 5,
    mi_items: int = 10_000,
    seed: int = 0,
    chunk: int | None = None,
    batch_size: int = 256,
    processes: Processes = ALONE,
    inference: Inference = amortised,
    dimensions: int | None = None,
) -> Evaluation:
    """Measures a model on data, with the plain bound whatever it was trained with.

    Arguments:
        model: See `Model`; a plain function with the signature `(x, q=None, samples=1)` will do, and is run in
            the mode that its networks are in.
        data: What `fit` takes: a tensor, an array, a NamedTuple of tensors, a map-style Dataset, or batches.
        samples: How many importance samples an item; 0 for none, and then no NLL.
        bound_samples: How many draws of the bound an item.
        mi_passes: How many draws an item for the mutual information.
        mi_items: The most items for it, a random subset of more, as its cost is their square; see `cap`.
        seed: Decides the noise; see `collect`.
        chunk: How many samples go through the decoder at a time; changes no figure.
        batch_size: The items of a batch, where `data` is not batches already; changes `mi_published` alone.
        processes: Those that evaluate together, and all get the same figures.
        inference: How q is found, on each item's plain bound.
        dimensions: How many discrete values an item has, for the bits per dimension; see `discrete_values`.

    Raises:
        InputError: for a model, data or numbers that cannot be used.
    """
    if mi_passes < 1 or mi_items < 1:
        raise InputError(
            f"cannot evaluate with mi_passes={mi_passes} and mi_items={mi_items}: give at least 1 draw of 1 item."
        )
    rows = collect(model, data, samples, bound_samples, seed, chunk, batch_size, processes, inference)
    # By one of them, as what they decide by these figures must be the same to the last bit.
    return processes.first(lambda: _figures(rows, samples, seed, mi_passes, mi_items, dimensions))


def discrete_values(model: Any, x: Batch) -> int | None:
    """How many discrete values an item has by the law of a model's decoder; None where they are real, or not known.

    Arguments:
        model: Anything; known is the law of a model with a `decoder`, as a `VAE` has.
        x: A batch, of which one item is looked at.
    """
    if "decoder" not in dir(model):
        return None
    one = items(placed(model, x), slice(0, 1))
    with torch.no_grad(), evaluating(model), seeded(0, "law", device=device(one)):
        try:
            law = model.decoder(ask(model, one).z, seen(one))
            return law.event_shape.numel() if law.support.is_discrete else None
        # Of tokens, and of decoders that are called otherwise.
        except (TypeError, AttributeError, ValueError, RuntimeError):
            return None


@torch.no_grad()  # A law may have a network, whose every pass would be kept.
def _figures(rows: Rows, samples: int, seed: int, mi_passes: int, mi_items: int, dimensions: int | None) -> Evaluation:
    found = information.missing(rows.law) or information.densities(rows.law, seed, mi_passes, mi_items)
    mi = found if isinstance(found, Unavailable) else information.from_densities(found)
    published = information.mi_published(rows.law, rows.batch, seed)
    return Evaluation(
        nll=likelihood.nll(rows),
        neg_elbo=likelihood.neg_elbo(rows),
        distortion=likelihood.distortion(rows),
        kl=likelihood.kl(rows),
        mi=mi,
        mi_published=published,
        marginal_kl=_marginal_kl(rows, found),
        active_units=_active_units(rows),
        perplexity=likelihood.perplexity(rows),
        bits_per_dim=likelihood.bits_per_dim(rows, dimensions),
        effective_samples=likelihood.effective_samples(rows),
        kl_per_group=rows.kl.mean(0),
        variance_of_means=None if rows.means is None else units.variance_of_means(rows.means),
        samples=samples,
        seed=seed,
        warnings=tuple(_warnings(rows, mi, published)),
        rows=rows,
    )


def _marginal_kl(rows: Rows, found: information.Densities | Unavailable) -> Answer:
    if rows.unbounded:
        return likelihood.UNBOUNDED
    if rows.prior is None:
        return information.PRIORS
    return found if isinstance(found, Unavailable) else information.marginal_kl(rows.rate, found)


_NO_MEANS = Unavailable("the posterior's mean is not known")


def _active_units(rows: Rows) -> Answer:
    if rows.law is None:
        return information.PATH
    return _NO_MEANS if rows.means is None else units.active_units(rows.means)


def _warnings(rows: Rows, mi: Answer, published: Answer) -> Iterable[str]:
    n = len(rows.items)
    if n < FEW:
        yield f"only {n} item{'s' * (n > 1)}: the standard errors themselves are uncertain."
    degenerate = likelihood.degeneracy(rows)
    if degenerate:
        yield degenerate
    if rows.of_labels:
        yield (
            "the likelihoods are of the items' labels, and the items have no density: in training the best weights are "
            "by the cross-entropy (distortion) of the validation split."
        )
    if rows.unbounded:
        yield (
            "the prior has no density: the model has no NLL and no bound, and cannot be ranked by them; the best "
            "weights are those with the lowest distortion on the validation split."
        )
    if rows.law is None:
        yield "the posterior depends on the path, so the model drew its own noise: the batching matters."
    if isinstance(mi, Estimate) and information.is_floor(mi):
        yield (
            f"the mutual information is a floor: {mi.value:.2f} nats of at most log {mi.n} = {mi.cap:.2f} is "
            f"too low by about {-(mi.bias or 0):.2g} nats or more. Take more items; do not rank models by it."
        )
    if isinstance(published, Estimate) and published.saturated:
        yield f"`mi_published` is at its cap, {published.cap:.2f}, the log of the batch size: read `mi` instead."
    yield from rows.warnings
