r"""What the true posteriors hold: each item's posterior, refined until its own bound is best.

.. math:: \lambda_i^* = \arg\max_\lambda \mathrm{ELBO}(x_i; \lambda), \quad
          \text{gap}_i = \mathrm{ELBO}(x_i; \lambda_i^*) - \mathrm{ELBO}(x_i; \mathrm{enc}(x_i)) \ge 0

Within q's family the best posterior is the nearest to the true one in KL(q || p(z|x)), and the gap is what the encoder
alone costs. Steps are taken in units of the aggregate posterior, so that no scale of z matters, from the encoder's
answer and from the most likely of many codes, as an encoder that is wrong is no place to start from.

References:
    | Inference Suboptimality in Variational Autoencoders (Cremer et al., 2018)
    | https://arxiv.org/abs/1801.03558
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from uncollapse.bound import Batch, items
from uncollapse.distributions import operations
from uncollapse.distributions.loose import loose, tight
from uncollapse.errors import InputError
from uncollapse.metrics.draws import draw
from uncollapse.metrics.estimate import Unavailable
from uncollapse.metrics.rows import Rows
from uncollapse.metrics.subject import evaluating, frozen, placed
from uncollapse.metrics.usage import conditional, law_of
from uncollapse.model import ask
from uncollapse.randomness import generator, seeded
from uncollapse.refinement import Values, detached, slopes

STEPS, FIRST, LAST = 60, 0.2, 0.004  # and the rates of the first and the last step
SAMPLES = 2  # of the bound that is descended
JUDGED = 16  # draws by which an answer is judged
POOL = 64  # codes of other items, among which one is looked for to start from
#: The most items, and batches of them.
ITEMS, BATCHES = 100, 8


class Refined(NamedTuple):
    """Of n items, in nats and float64 on the CPU."""

    gap: Tensor
    """(n,), by how much the refined posterior's bound is better, each by draws that nothing was chosen by."""
    rate: Tensor
    """(n,), of the refined posteriors."""
    own_rate: Tensor
    """(n,), of the encoder's."""
    use: Tensor
    """(n,), how much more the distortion is under the refined posterior of another item, or under a conditional
    prior."""
    law: Distribution
    """The refined posteriors, on the CPU."""


def refined(
    model: Any, batches: Iterable[tuple[Tensor, Batch]], rows: Rows, seed: int = 0, count: int = ITEMS
) -> Refined | Unavailable:
    """Refines the posteriors of some items.

    Arguments:
        model: See `Model`.
        batches: The items that were measured, with their ids.
        rows: What was measured of them.
        seed: Decides draws and starts.
        count: About how many items to refine.
    """
    if rows.law is None or not rows.law.event_shape.numel():
        return Unavailable("there is no law of z given x alone")
    if not rows.law.has_rsample:
        return Unavailable("draws of this posterior have no gradient")
    codes = draw(rows.law, seed, "pool", rows.items.tolist(), 1)[0]
    parts, left = [], count
    try:
        with evaluating(model):
            for ids, x in islice(batches, BATCHES):
                parts.append(_of_batch(model, ids[:left], placed(model, items(x, slice(0, left))), rows, codes, seed))
                left -= len(ids)
                if left < 2:
                    break
    except InputError as error:  # Of the family.
        return Unavailable(str(error))
    columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in ("gap", "rate", "own_rate", "use")}
    return Refined(**columns, law=operations.cat([part.law for part in parts]))


def resampled(
    model: Any, batches: Iterable[tuple[Tensor, Batch]], rows: Rows, seed: int = 0, count: int = ITEMS
) -> Tensor | Unavailable:
    r"""What another item's z costs where z is drawn from a pool by what it says of x, nats an item, with shape (n,).

    .. math:: \sum_k (w_{ik} - \overline{w_{jk}}^{j \ne i}) \log p(x_i | z_k), \quad w_{ik} \propto p(x_i | z_k)

    This is the true posterior among 64 codes: coarse, of any family of posteriors, and 0 where the decoder ignores z.
    Under a conditional prior each item's pool is of draws of its own, which also are what its z is held against.
    """
    if rows.law is None or not rows.law.event_shape.numel():
        return Unavailable("there is no law of z given x alone")
    codes, found, left = draw(rows.law, seed, "pool", rows.items.tolist(), 1)[0], [], count
    with evaluating(model):
        for ids, x in islice(batches, BATCHES):
            some = placed(model, items(x, slice(0, left)))
            law = law_of(rows, torch.searchsorted(rows.items, ids[:left]), some)
            device = next(iter(operations.parameters(law).values())).device
            _, scores, own_prior = _pool(model, some, law, codes.to(device), seed)
            scores = scores.cpu().double()
            weights, n = scores.softmax(0), scores.shape[1]
            others = 1 / POOL if own_prior else (weights.sum(1, keepdim=True) - weights) / max(1, n - 1)
            found.append(((weights - others) * scores).sum(0) if n > 1 or own_prior else scores.new_zeros(1))
            left -= len(ids)
            if left < 2:
                break
    return torch.cat(found)


def _of_batch(model: Any, ids: Tensor, x: Batch, rows: Rows, codes: Tensor, seed: int) -> Refined:
    law = law_of(rows, torch.searchsorted(rows.items, ids), x)
    device = next(iter(operations.parameters(law).values())).device
    codes = codes.to(device)
    unit = codes.double().std(0).to(codes)
    with frozen(model), seeded(seed, "refined", device=unit.device):
        own = detached(loose(law))
        # No step leaves infinity, where a variance of 0 is.
        finite = {name: value.nan_to_num(0.0, 0.0, 0.0) for name, value in own.items()}
        starts = [finite, *_elsewhere(model, x, law, finite, codes, seed)]
        found = [own, *(_descended(model, x, law, start, unit) for start in starts)]
        with torch.no_grad():
            scores = torch.stack([_bound(model, x, tight(law, values), seed, "choice")[0] for values in found])
            best = _picked(found, scores.argmin(0))
            (before, own_rate), (after, rate) = (
                _bound(model, x, tight(law, values), seed, "judged") for values in (own, best)
            )
            use = _use(model, x, tight(law, best), seed)
    law = tight(law, best)
    return Refined(
        gap=(before - after).cpu().double(),
        rate=rate.cpu().double(),
        own_rate=own_rate.cpu().double(),
        use=use.cpu().double(),
        law=operations.rebuild(law, {name: value.cpu() for name, value in operations.parameters(law).items()}),
    )


def _elsewhere(model: Any, x: Batch, law: Any, own: Values, codes: Tensor, seed: int) -> list[Values]:
    """The encoder's answers, moved to the most likely of some codes; nothing for a family without a location."""
    if "loc" not in own or own["loc"].shape != law.batch_shape + law.event_shape:
        return []
    each, scores, _ = _pool(model, x, law, codes, seed)
    return [{**own, "loc": each[scores.argmax(0), torch.arange(each.shape[1])].to(own["loc"])}]


def _pool(model: Any, x: Batch, law: Any, codes: Tensor, seed: int) -> tuple[Tensor, Tensor, bool]:
    """Some codes of each item (K, B, ...), their log-likelihoods (K, B), and whether a conditional prior drew them."""
    pool = codes[torch.randint(len(codes), (POOL,), generator=generator(seed, "pool")).to(codes.device)]
    each = pool.unsqueeze(1).expand(POOL, *law.batch_shape, *law.event_shape)
    with torch.no_grad(), seeded(seed, "pool", device=pool.device):
        if own_prior := conditional(p := ask(model, x, operations.fixed(law, each[:1]), 1).p):
            each = p.sample(torch.Size((POOL,)))  # pyright: ignore[reportOptionalMemberAccess]
        laws = [operations.fixed(law, z.unsqueeze(0)) for z in each]
        return each, torch.stack([ask(model, x, q, 1).log_likelihood[0] for q in laws]), own_prior


def _descended(model: Any, x: Batch, law: Any, start: Values, unit: Tensor) -> Values:
    """Where Adam's steps from some values end, each item's by itself: its steps do not depend on a gradient's size."""
    values = {name: value.clone() for name, value in start.items()}
    scale = {name: unit if value.shape[1:] == unit.shape and name == "loc" else 2.0 for name, value in values.items()}
    first: Values = {name: torch.zeros_like(value) for name, value in values.items()}
    second: Values = {name: torch.zeros_like(value) for name, value in values.items()}

    def loss(at: Values) -> Tensor:
        bound = ask(model, x, tight(law, at), SAMPLES)
        return (bound.distortion + bound.rate).sum()

    for k in range(STEPS):
        found, rate = slopes(loss, values), FIRST * (LAST / FIRST) ** (k / (STEPS - 1))
        for name, slope in found.items():
            first[name] = 0.8 * first[name] + 0.2 * slope
            second[name] = 0.95 * second[name] + 0.05 * slope.square()
            step = first[name] / (1 - 0.8 ** (k + 1)) / ((second[name] / (1 - 0.95 ** (k + 1))).sqrt() + 1e-8)
            values[name] = values[name] - rate * scale[name] * step
    return detached(values)


def _bound(model: Any, x: Batch, law: Any, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
    """The negative bound and the rate, each (B,)."""
    device = next(iter(operations.parameters(law).values())).device
    with seeded(seed, purpose, device=device):
        bounds = [ask(model, x, law, 1) for _ in range(JUDGED)]
    rate = torch.stack([bound.rate for bound in bounds]).mean(0)
    total = torch.stack([bound.distortion for bound in bounds]).mean(0) + rate
    return total.nan_to_num(nan=torch.inf), rate


def _picked(found: list[Values], which: Tensor) -> Values:
    """Of each item the values of the best of several answers."""
    items = torch.arange(len(which), device=which.device)
    return {name: torch.stack([values[name] for values in found])[which, items] for name in found[0]}


def _use(model: Any, x: Batch, law: Any, seed: int) -> Tensor:
    """How much more the distortion is under a code that says nothing of x.

    That is the code of another item of the batch (one alone costs 0), or of a conditional prior a draw.
    """
    device = next(iter(operations.parameters(law).values())).device
    with seeded(seed, "use", device=device):
        z = law.sample((JUDGED // 2,))
        p = ask(model, x, operations.fixed(law, z[:1]), 1).p
        if conditional(p):
            idle = p.sample(torch.Size((len(z),)))  # pyright: ignore[reportOptionalMemberAccess]
        else:
            idle = torch.stack([one.roll(1 + k, 0) for k, one in enumerate(z)])
        own, other = (
            torch.stack([ask(model, x, operations.fixed(law, one.unsqueeze(0)), 1).distortion for one in codes]).mean(0)
            for codes in (z, idle)
        )
    return other - own
