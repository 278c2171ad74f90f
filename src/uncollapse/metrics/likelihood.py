"""How well a model explains the data: the evidence, its bound, and whether the weights can be trusted."""

from __future__ import annotations

import math

import torch

from uncollapse.distributions.generated import WHY
from uncollapse.metrics import estimate
from uncollapse.metrics.estimate import Answer, Estimate, Unavailable, mean
from uncollapse.metrics.rows import Rows

NATS = "nats/item"

UNBOUNDED = Unavailable(WHY)
_NO_DENSITY = Unavailable("the model tells the labels of items, and gives the items no density")

#: Weights are called degenerate where more than this share of the items has too small an effective sample.
DEGENERATE = 0.1


def nll(rows: Rows) -> Answer:
    r"""The negative log-likelihood by importance sampling; to be minimised.

    .. math:: -\frac1N \sum_i \log \frac1K \sum_k \frac{p(x_i | z_{ik}) p(z_{ik})}{q(z_{ik} | x_i)},
              \quad z_{ik} \sim q(z | x_i)

    In expectation an upper bound of the truth, which falls towards it as K grows. Its bias, to first order,
    is the mean of :math:`\frac12 (1/\text{ESS}_i - 1/K)`.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2015)
        | https://arxiv.org/abs/1509.00519
    """
    if rows.of_labels or rows.unbounded:
        return _NO_DENSITY if rows.of_labels else UNBOUNDED
    if rows.log_evidence is None or rows.effective is None:
        return Unavailable("asked for 0 importance samples")
    bias = 0.5 * (1 / rows.effective - 1 / rows.samples).mean().item()
    return mean(-rows.log_evidence, NATS, bias=bias)


def neg_elbo(rows: Rows) -> Answer:
    """The negative evidence lower bound, distortion + KL at weight 1; to be minimised."""
    return UNBOUNDED if rows.unbounded else mean(rows.neg_elbo, NATS)


def distortion(rows: Rows) -> Estimate:
    """The mean of -log p(x | z) over the posterior's draws."""
    return mean(rows.distortion, NATS)


def kl(rows: Rows) -> Answer:
    """The rate KL(q(z|x) || p(z)), summed over the groups of units."""
    return UNBOUNDED if rows.unbounded else mean(rows.rate, NATS)


def perplexity(rows: Rows) -> Answer:
    r"""The exponential of the nats per predicted symbol.

    .. math:: \exp \frac{\sum_i a_i}{\sum_i s_i}

    The nats :math:`a_i` are the NLL's where importance weights were drawn, else those of -ELBO; the unit says
    which. The standard error is that of the ratio over items, by the delta method.
    """
    if rows.unbounded:
        return UNBOUNDED
    if rows.symbols is None or rows.symbols.sum() <= 0:
        return Unavailable("the items are not made of symbols")
    exact = rows.log_evidence is not None
    nats = -rows.log_evidence if rows.log_evidence is not None else rows.neg_elbo
    return estimate.perplexity(nats, rows.symbols, f"per symbol, from {'the NLL' if exact else '-ELBO'}")


def bits_per_dim(rows: Rows, dimensions: int | None) -> Answer:
    r"""The bits per value of an item, such as a pixel's channel.

    .. math:: \frac{\text{nats an item}}{D \log 2}

    It is of discrete values alone: a density's nats depend on the unit of measurement. The nats are the NLL's where
    importance weights were drawn, else those of -ELBO; the unit says which.

    References:
        | Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016)
        | https://arxiv.org/abs/1601.06759

    Arguments:
        rows: Of the evaluation.
        dimensions: D, how many discrete values an item has; None where its values are not discrete, or nobody knows.
    """
    if rows.of_labels or rows.unbounded:
        return _NO_DENSITY if rows.of_labels else UNBOUNDED
    if not dimensions:
        return Unavailable("the items are not known to have a number of discrete values")
    exact = rows.log_evidence is not None
    nats = -rows.log_evidence if rows.log_evidence is not None else rows.neg_elbo
    return mean(nats / (dimensions * math.log(2)), f"bits/dim, from {'the NLL' if exact else '-ELBO'}")


def effective_samples(rows: Rows) -> Answer:
    r"""The median over items of the effective number of importance samples, :math:`(\sum w)^2 / \sum w^2`.

    The standard error is a quarter of the width of the order statistics' 95 % interval.
    """
    if rows.effective is None:
        return Unavailable("asked for 0 importance samples")
    if rows.unbounded:
        return UNBOUNDED
    n = len(rows.effective)
    half = 0.98 / n**0.5
    ends = torch.tensor([max(0.0, 0.5 - half), 0.5, min(1.0, 0.5 + half)], dtype=torch.float64)
    low, middle, high = rows.effective.quantile(ends).tolist()
    error = (high - low) / 3.92 if n > 1 else math.nan
    return Estimate(middle, error, n, "samples", cap=float(rows.samples))


def degeneracy(rows: Rows) -> str | None:
    r"""What to do where few of the importance weights count; None where they are fine.

    The weights are called degenerate where more than 10 % of the items have an effective sample
    :math:`(\sum w)^2 / \sum w^2` below max(2, K / 100), or (K + 1) / 2 where that is less. At an ESS of 2 an
    item's NLL is too high by :math:`\frac12 (1/\text{ESS} - 1/K)`, up to 1/4 nat (0.1 at ESS = 5): as much as tells
    good models apart.
    With a single sample the figure is the -ELBO, and nothing can degenerate.

    References:
        | Sequential Imputations and Bayesian Missing Data Problems (Kong, Liu & Wong, 1994)
        | https://doi.org/10.1080/01621459.1994.10476469
        | The Sample Size Required in Importance Sampling (Chatterjee & Diaconis, 2018)
        | https://arxiv.org/abs/1511.01437
    """
    if rows.effective is None or rows.samples < 2:
        return None
    least = min(max(2.0, rows.samples / 100), (rows.samples + 1) / 2)  # Two weights that differ are never worth 2.
    few = (rows.effective < least).double().mean().item()
    if few <= DEGENERATE:
        return None
    return (
        f"the importance weights degenerate: for {few:.0%} of the items fewer than {least:g} of "
        f"{rows.samples} samples count, so the NLL reads too high. Ask for ten times as many and see if it "
        "falls; if it does, quote it as an upper bound, or improve the posterior."
    )
