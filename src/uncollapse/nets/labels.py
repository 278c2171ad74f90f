"""Networks that are told the class of an item, and the one that tells it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution
from torch.nn import functional as F

from uncollapse.bound import Batch
from uncollapse.errors import InputError
from uncollapse.nets.mlp import layers
from uncollapse.quantities import Count


class Reader(nn.Module):
    """An encoder's network that reads items with labels, and is told these, or not.

    Told, it reads an item with a further channel (of a vector: element) for each class, of ones for the item's own
    and of zeros for the others; for items without labels all are one over their number.

    Arguments:
        net: The network.
        classes: How many there are; 0 where it is not told.
    """

    def __init__(self, net: nn.Module, classes: int = 0) -> None:
        super().__init__()
        self.net, self.classes = net, classes

    def forward(self, x: Batch) -> Tensor:
        items, label = _parts(x)
        if not self.classes:
            return self.net(items)
        if label is None:
            of_class = items.new_full((len(items), self.classes), 1 / self.classes)
        else:
            of_class = F.one_hot(label, self.classes).to(items)
        planes = of_class.view(*of_class.shape, *[1] * (items.ndim - 2)).expand(-1, -1, *items.shape[2:])
        return self.net(torch.cat([items, planes], 1))


class Told(nn.Module):
    """A decoder that is told the class of an item beside z, or is kept from it where it sees the items.

    Told, it gets z with a further unit for each class, 1 for the item's own and 0 for the others. Where nobody says the
    class, it is one at random.

    Arguments:
        decoder: The network, of that many more units.
        classes: How many there are; 0 where it is not told.
    """

    usual: int | None = None
    """The class where nobody says it."""

    def __init__(self, decoder: nn.Module, classes: int = 0) -> None:
        super().__init__()
        self.decoder, self.classes = decoder, classes
        if "paint" in dir(decoder):  # Who writes items asks for it by its name.
            self.paint, self.shape = self._paint, decoder.shape

    def forward(self, z: Tensor, seen: Any) -> Distribution:
        items, label = (None, None) if seen is None else _parts(seen)
        return self.decoder(self._with_class(z, label), items)

    def of_class(self, number: int) -> Told:
        """The same decoder, which writes items of one class where nobody says theirs."""
        made = Told(self.decoder, self.classes)
        made.usual = number
        return made.train(self.training)

    def _paint(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        inner: Any = self.decoder
        return inner.paint(self._with_class(z, None), noise)

    def _with_class(self, z: Tensor, label: Tensor | None) -> Tensor:
        if not self.classes:
            return z
        if label is None and self.usual is not None:
            label = torch.full(z.shape[-2:-1], self.usual, device=z.device)
        if label is None:
            label = torch.randint(self.classes, z.shape[-2:-1], device=z.device)
        of_class = F.one_hot(label, self.classes).to(z)
        return torch.cat([z, of_class.expand(*z.shape[:-1], self.classes)], -1)


def _parts(x: Batch) -> tuple[Tensor, Tensor | None]:
    """The items of a batch and their labels, where it has any."""
    return (x, None) if isinstance(x, Tensor) else (x.x, x.label)


class Classes(Categorical):
    """The law of a class, which offers its probabilities as the extra `classes`, (B, C), averaged over the draws.

    Arguments:
        logits: With shape (S, B, C).
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits=logits, validate_args=False)

    def extras(self, seen: Any) -> dict[str, Tensor]:
        return {"classes": self.probs.mean(0)}


class Classifier(nn.Module):
    r"""Tells from z which class an item is of, by a softmax.

    .. math:: p(y | z) = \text{softmax}(g(z))_y

    Arguments:
        label_classes: How many there are.
        latent: d, the size of z.
        hidden: The widths of the hidden layers of g, the first of them next to z; none for a linear g.
    """

    def __init__(self, label_classes: int, latent: int, hidden: list[Count] = []) -> None:  # noqa: B006 - never written to
        super().__init__()
        self.layers = layers(latent, hidden, label_classes)

    def forward(self, z: Tensor, seen: Any) -> Classes:
        """The law of the classes for z (S, B, d).

        Raises:
            InputError: where an item is to be written.
        """
        if seen is None:
            raise InputError("this model tells the classes of items and writes none: it can be evaluated, and encode.")
        logits = self.layers(z)
        return Classes(logits.float() if logits.itemsize < 4 else logits)
