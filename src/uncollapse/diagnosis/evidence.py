"""All that a diagnosis is drawn from, each part measured or said to be unavailable."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from uncollapse.bound import Batch, device
from uncollapse.data.batches import numbered, source
from uncollapse.diagnosis.audit import UNCHECKED, Audit, LossOf, audit
from uncollapse.diagnosis.refined import Refined, refined, resampled
from uncollapse.diagnosis.stability import Stability
from uncollapse.distributions import operations
from uncollapse.inference import Inference, amortised
from uncollapse.metrics.directions import Directions, directions
from uncollapse.metrics.estimate import Answer, Unavailable
from uncollapse.metrics.evaluation import Evaluation, evaluate
from uncollapse.metrics.holes import holes
from uncollapse.metrics.subject import evaluating, placed
from uncollapse.metrics.usage import Usage, usage
from uncollapse.model import ask
from uncollapse.randomness import seeded

#: Draws an item of the bound, and for the mutual information.
BOUND_SAMPLES, PASSES = 4, 2


class History(NamedTuple):
    """What a run's log says, where there is one."""

    neg_elbo: Sequence[float] = ()
    """Of every validation."""
    rate_weight: float | None = None
    """What the KL was weighed by at the end."""
    climbs: bool = True
    """Whether a schedule moves that weight."""
    stability: Stability | None = None
    """How far posteriors agree between the last two probes."""
    unfinished: str = ""
    """Where the training stands, where it is not finished."""


class Evidence(NamedTuple):
    """What was measured of a model."""

    figures: Evaluation
    directions: Directions | None
    usage: Usage | Unavailable
    refined: Refined | Unavailable
    resampled: Tensor | Unavailable
    """What another item's z costs where z is drawn from a pool by the likelihood."""
    holes: Answer
    """The share of prior draws that lie where codes are rare; see `metrics.holes`."""
    audit: Audit | Unavailable
    history: History | None
    """None of a model without a log."""


class _Some:
    """The first batches of a source, about so many items."""

    def __init__(self, batches: Any, items: int) -> None:
        self.batches = batches
        sizes = accumulate(len(ids) for ids, _ in numbered(batches))
        self.count = next((k + 1 for k, total in enumerate(sizes) if total >= items), len(batches))
        if "items" in dir(batches):
            self.items = [batches.items[i] for i in range(self.count)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Batch:
        return self.batches[i]


def gathered(
    model: Any,
    data: Any,
    loss: LossOf | None = None,
    items: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
    inference: Inference = amortised,
    history: History | None = None,
) -> Evidence:
    """Measures all that a diagnosis needs; see `diagnose` for the arguments."""
    some = _Some(source(data, batch_size), items)
    figures = evaluate(model, some, 0, bound_samples=BOUND_SAMPLES, mi_passes=PASSES, seed=seed, inference=inference)
    rows = figures.rows
    coded = rows.law is not None and rows.law.event_shape.numel() > 0
    with torch.no_grad():
        found = directions(rows.law, seed) if coded and len(rows.items) > 1 else None
        rare = holes(rows.law, _prior(model, some), seed)
    used = usage(model, numbered(some), rows, seed=seed)
    # Where codes are not drawn from the q that is given, no refined one would be either.
    better = used if isinstance(used, Unavailable) else refined(model, numbered(some), rows, seed)
    pooled = used if isinstance(used, Unavailable) else resampled(model, numbered(some), rows, seed)
    checked = UNCHECKED if loss is None else audit(model, loss, placed(model, some[0]), seed)
    return Evidence(figures, found, used, better, pooled, rare, checked, history)


def _prior(model: Any, some: _Some) -> Distribution | None:
    x = placed(model, some[0])
    with evaluating(model), seeded(0, "prior", device=device(x)):
        p = ask(model, x).p
    return None if p is None else operations.rebuild(p, {k: v.cpu() for k, v in operations.parameters(p).items()})
