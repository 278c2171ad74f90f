"""What is measured where items have labels: how well a model tells them, and how much of them z shows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from uncollapse.distributions import operations
from uncollapse.metrics.draws import draw
from uncollapse.metrics.estimate import Estimate, mean
from uncollapse.metrics.information import PAIRS, missing
from uncollapse.metrics.rows import Rows
from uncollapse.randomness import generator

#: The most items that are compared in pairs.
_MOST = 10_000


def of_labels(rows: Rows) -> dict[str, Estimate]:
    """The figures of labels by name; none without labels.

    `accuracy`, `told_bits` and `rate_bits` are of models that tell labels, `label_by_z` of all with laws of z.
    """
    label, told = rows.extras.get("label"), rows.extras.get("classes")
    if label is None or label.ndim != 1:
        return {}
    found: dict[str, Estimate] = {}
    if told is not None:
        found["accuracy"] = accuracy(told, label)
        found["told_bits"] = told_bits(rows.distortion, label)
        found["rate_bits"] = mean(rows.rate / math.log(2), "bits/item")
    if missing(rows.law) is None and len(label) > 1:
        found["label_by_z"] = label_by_z(rows.law, label, rows.seed)
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


def label_by_z(law: Any, label: Tensor, seed: int = 0) -> Estimate:
    r"""The share of items whose class is the most probable one given a draw of their z, by the other items' posteriors.

    .. math:: y_i = \arg\max_c \frac{1}{n_c} \sum_{j \ne i, \, y_j = c} q(z_i | x_j), \quad z_i \sim q(z | x_i)

    No network is trained for it. By chance it is 1 over the number of classes, or about that: the noise of the
    posteriors counts, as it does for whoever reads z.

    Arguments:
        law: The posteriors, batch shape (N,).
        label: With shape (N,).
        seed: Decides the draws, and the items where they are more than can be compared.
    """
    items = torch.arange(len(label))
    if len(label) > (most := min(_MOST, operations.comparable(law))):
        items = torch.randperm(len(label), generator=generator(seed, "subset"))[:most].sort().values
        law, label = operations.take(law, items), label[items]
    law = operations.finely(law)
    z = draw(law, seed, "labels", items.tolist(), 1)[0]
    step = max(1, PAIRS // len(items))
    right = []
    for start in range(0, len(items), step):
        pairs = operations.pairwise_log_prob(law, z[start : start + step]).double().cpu()
        pairs.diagonal(start).fill_(-math.inf)
        right.append(_classes_of(pairs, label) == label[start : start + step])
    return mean(torch.cat(right).double(), "of items", cap=1.0)


def _classes_of(pairs: Tensor, label: Tensor) -> Tensor:
    """The class (n,) whose items j have the highest mean density, for log-densities (n, N); -inf of those left out."""
    classes = label.unique()
    means = []
    for name in classes:
        among = pairs[:, label == name]
        means.append(among.logsumexp(1) - among.isfinite().sum(1).log())
    return classes[torch.stack(means, 1).nan_to_num(-math.inf, neginf=-math.inf).argmax(1)]
