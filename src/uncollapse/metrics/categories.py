"""How many classes of a choice are in use."""

from __future__ import annotations

from torch import Tensor

from uncollapse.metrics.estimate import Estimate, standard_error


def used_categories(probabilities: Tensor) -> Estimate:
    r"""How many classes of a choice the items use, the mean over choices.

    .. math:: \frac1G \sum_g \exp H(\bar q_g), \quad \bar q_{gc} = \frac1n \sum_i q(z_g = c | x_i)

    It is C where all classes are as frequent, and 1 where all items choose the same; a collapsed posterior, which
    chooses at random, uses all of them too, so read the mutual information beside it. The standard error is to first
    order. Of few items it reads too low, by about the share (C - 1) / 2n at most.

    Arguments:
        probabilities: q(z_g = c | x_i), with shape (N, G, C).
    """
    n, classes = len(probabilities), probabilities.shape[-1]
    q = probabilities.double()
    logs = q.mean(0).clamp_min(1e-300).log()
    each = (-(q.mean(0) * logs).sum(-1)).exp()
    # d exp(H) = exp(H) dH, and dH is the mean over items of -sum_c q_ic log q_c less H.
    influence = (each * -(q * logs).sum(-1)).mean(-1)
    return Estimate(each.mean().item(), standard_error(influence), n, "classes", float(classes))
