r"""Whether the prior draws where there are no codes.

.. math:: \text{holes} = P(q(z) < c), \; z \sim p(z), \quad \text{where } P(q(z) < c) = 0.05, \; z \sim q(z)

It is 0.05 where the aggregate posterior q(z) is the prior, and 1 where every draw of the prior is in a hole. No scale
or turn of z changes it, as it changes both densities by one factor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from uncollapse.distributions import operations
from uncollapse.metrics.draws import draw
from uncollapse.metrics.estimate import Answer, Estimate, Unavailable
from uncollapse.metrics.information import PRIORS, missing
from uncollapse.randomness import generator, seeded

#: The share of codes that lie where q(z) is below the threshold.
RARE = 0.05
#: The fewest items, of which half make q(z) and half are held against it, and the most.
FEWEST, MOST = 80, 4000
RESAMPLED = 200


def holes(law: Any, prior: Distribution | None, seed: int = 0) -> Answer:
    """The share of prior draws that lie where codes of other items are rare, with its standard error by resampling.

    q(z) is the mixture of one half of the items' posteriors; the threshold is that of codes of the other half, so that
    the bumps of a mixture of few items are held against codes and draws alike.

    Arguments:
        law: The posteriors of all items, batch shape (N,).
        prior: The prior of every item.
        seed: Decides halves, codes and draws.
    """
    why = missing(law) or (None if prior is not None and not prior.batch_shape else PRIORS)
    if why is not None:
        return why
    if operations.space(law).startswith("choices"):
        return Unavailable("z is one of a few choices, between which there is nothing")
    n = min(law.batch_shape[0], operations.comparable(law), MOST)
    if n < FEWEST:
        return Unavailable(f"{n} items are too few to tell where there are no codes: give at least {FEWEST}")
    order = torch.randperm(law.batch_shape[0], generator=generator(seed, "holes"))[:n]
    made, held = (operations.finely(operations.take(law, half.sort().values)) for half in order.tensor_split(2))
    codes = draw(held, seed, "holes", list(range(held.batch_shape[0])), 1)[0]
    with seeded(seed, "prior of holes"):
        drawn = prior.sample(torch.Size((len(codes),))).to(codes.device)  # pyright: ignore[reportOptionalMemberAccess]
    of_codes, of_prior = (operations.pairwise_log_prob(made, z).double().logsumexp(1) for z in (codes, drawn))
    return Estimate(_share(of_codes, of_prior).item(), _error(of_codes, of_prior, seed), n, "", 1.0)


def _share(codes: Tensor, drawn: Tensor) -> Tensor:
    """The share of draws (..., M) below the threshold that the codes (..., N) give."""
    return (drawn < codes.quantile(RARE, -1, keepdim=True)).double().mean(-1)


def _error(codes: Tensor, drawn: Tensor, seed: int) -> float:
    n, draws = len(codes), generator(seed, "resampled")
    chosen = [torch.randint(n, (RESAMPLED, n), generator=draws) for _ in range(2)]
    return _share(codes.cpu()[chosen[0]], drawn.cpu()[chosen[1]]).std().item()
