"""What is measured where items have labels: how well a model tells them, and how much of them z shows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from uncollapse.metrics.estimate import Estimate, mean
from uncollapse.metrics.rows import Rows

#: Items whose neighbours are looked for at a time.
_BLOCK = 512
#: The most items whose neighbours are looked for, as the cost is their square.
_MOST = 10_000


def of_labels(rows: Rows) -> dict[str, Estimate]:
    """The figures of labels by name; none without labels.

    `accuracy` and `told_bits` are of models that tell labels, `neighbours` of those that have posterior means.
    """
    label, told = rows.extras.get("label"), rows.extras.get("classes")
    if label is None or label.ndim != 1:
        return {}
    found: dict[str, Estimate] = {}
    if told is not None:
        found["accuracy"] = accuracy(told, label)
        found["told_bits"] = told_bits(rows.distortion, label)
        found["rate_bits"] = mean(rows.rate / math.log(2), "bits/item")
    if (means := rows.means) is not None and means[0].numel() and len(label) > 1:
        found["neighbours"] = neighbours(means.flatten(1)[:_MOST], label[:_MOST])
    return found


def accuracy(probabilities: Tensor, label: Tensor) -> Estimate:
    """The share of items whose most probable class is their own.

    Arguments:
        probabilities: Of each class, averaged over draws of z, with shape (N, C).
        label: With shape (N,).
    """
    return mean((probabilities.argmax(1) == label).double(), "of items", cap=1.0)


def told_bits(cross_entropy: Tensor, label: Tensor) -> Estimate:
    r"""A lower bound of what z says of the label, in bits.

    .. math:: I(Z; Y) \ge H(Y) - \mathbb{E} [-\log p(y | z)]

    with H(Y) the entropy of the classes' shares among the items. Of an upper bound, the rate is one: I(X; Z) is at most
    that (`rate_bits`).

    References:
        | Deep Variational Information Bottleneck (Alemi et al., 2017)
        | https://arxiv.org/abs/1612.00410

    Arguments:
        cross_entropy: -log p(y | z) in nats, the mean over draws, with shape (N,).
        label: With shape (N,).
    """
    shares = label.unique(return_counts=True)[1].double() / len(label)
    entropy = -(shares * shares.log()).sum()
    return mean((entropy - cross_entropy) / math.log(2), "bits/item", cap=entropy.item() / math.log(2))


def neighbours(means: Tensor, label: Tensor) -> Estimate:
    """The share of items whose nearest neighbour by posterior mean has their label; by chance that of equal labels.

    Arguments:
        means: With shape (N, d).
        label: With shape (N,).
    """
    found = []
    for start in range(0, len(means), _BLOCK):
        apart = torch.cdist(means[start : start + _BLOCK], means)
        own = torch.arange(len(apart))
        apart[own, start + own] = math.inf
        found.append(label[apart.argmin(1)] == label[start : start + _BLOCK])
    return mean(torch.cat(found).double(), "of items", cap=1.0)
