"""A trained model in use: encode, generate, reconstruct, interpolate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.bound import Batch, Labelled
from uncollapse.data.batches import numbered
from uncollapse.data.kinds import ITEMS, How, Interface
from uncollapse.data.tensors import Tensors
from uncollapse.distributions import operations
from uncollapse.errors import InputError, unknown
from uncollapse.inference import Inference, amortised
from uncollapse.metrics.rows import infer
from uncollapse.metrics.subject import evaluating, placed
from uncollapse.randomness import seeded


@dataclass(frozen=True)
class Trained:
    """A model with what reads its items from a person and writes them for one.

    What is written depends on the kind of data: of text, lines, by `decode` "greedy" (the most probable token at every
    step), "beam" or "sample"; of vectors, and for networks of one's own, tensors (N, ...), which are means of p(x | z)
    by "mean" and draws from it by "sample". `temperature` is heeded by "sample" and `width` by "beam", both of text
    alone, as is `max_length`, the most tokens of one line.

    Everything runs in evaluation mode, without gradients, and a seed decides every draw.
    """

    model: nn.Module
    interface: Interface = field(default_factory=Tensors)
    inference: Inference = amortised
    """How q is found, as in its training."""
    label: Any = None
    """What every item is said to be, to a model that is told: the number of a class, or tags; see `given`."""

    def given(self, label: str) -> Trained:
        """The same model, told that every item is of one class: it encodes items as such, and writes such.

        Arguments:
            label: The class, as the data names it; of pairs the tags of the target, with commas between them.

        Raises:
            InputError: where there is no such class, and for a model that is not told any.
        """
        if "told" in dir(self.interface):
            return replace(self, label=self.interface.told(label))  # pyright: ignore[reportAttributeAccessIssue]
        classes: tuple[str, ...] = getattr(self.interface, "classes", ())
        if getattr(self.model, "labels", None) != "given" or not classes:
            raise InputError(
                f"this model is told no class, and so none can be asked for, such as `{label}`: train one with labels "
                "and `model.tells`, as `fader` does, or leave it out."
            )
        if label not in classes:
            raise unknown("class", label, classes)
        return replace(self, label=classes.index(label))

    def encode(self, items: Any, sample: bool = False, seed: int = 0, batch_size: int = ITEMS) -> Tensor:
        """The posterior's mean of each item, or a draw from it, with shape (N, ...), that of z.

        Arguments:
            items: What a person has of this kind of data, such as lines of text; or what `fit` takes: a tensor, an
                array, a NamedTuple of tensors, a map-style Dataset, or batches, whose items come back in the order of
                their ids.
            sample: Whether to draw instead.
            seed: Of the draw.
            batch_size: The items of one pass, where they are not batches already.

        Raises:
            InputError: for items that cannot be used, and a model that has no law to encode with.
        """
        with self._still(seed):
            law = self._posteriors(items, seed, batch_size)
            if not law.event_shape.numel():
                raise InputError("this model has no latent units: there is nothing to encode or to decode from.")
            return law.sample() if sample else operations.mean(law)

    def _posteriors(self, items: Any, seed: int, batch_size: int) -> Distribution:
        each = self._batches(items, batch_size)
        found = [(ids, infer(self.model, self.inference, x, ids.tolist(), seed)) for ids, x in each]
        ids, laws = zip(*found, strict=True)
        if laws[0] is None:
            raise InputError(
                "this model's posterior depends on the path, so that an item has no code: nothing can be encoded, "
                "reconstructed or interpolated; draws of the prior (`generate`) can be written."
            )
        return operations.take(operations.cat(laws), torch.cat(ids).argsort(stable=True))

    def generate(
        self,
        n: int,
        decode: str = "sample",
        temperature: float | None = None,
        width: int | None = None,
        seed: int = 0,
        max_length: int | None = None,
    ) -> Any:
        """Items from draws of the prior, drawn themselves too unless `decode` says otherwise.

        Raises:
            InputError: for another way of decoding, and a model whose prior or decoder needs more than a draw.
        """
        with self._still(seed):
            return self._write(self._prior_draws(n), How(decode, temperature, width, max_length))

    def reconstruct(
        self,
        items: Any,
        decode: str | None = None,
        sample: bool = False,
        width: int | None = None,
        seed: int = 0,
        max_length: int | None = None,
    ) -> Any:
        """What the decoder makes of each item's posterior mean, or of a draw where `sample` says so.

        `decode` is "greedy" of text and "mean" of tensors where it is not given.
        """
        z = self.encode(items, sample, seed)
        with self._still(seed):
            return self._write(z, How(decode, width=width, max_length=max_length), items)

    def predict(self, items: Any, width: int = 5, seed: int = 0, batch_size: int = ITEMS) -> list[list[str]]:
        """The targets of pairs that beam search finds from each source's posterior mean, the most probable first.

        Arguments:
            items: Sources with the tags of their targets, as `data.pairs.read_pairs` gives them.
            width: Of the beam, and so the most guesses an item.
            seed: As for `encode`.
            batch_size: The items of one pass.

        Raises:
            InputError: for a model of other data, which has nothing to guess.
        """
        self.refuse_without_targets()
        pairs: Any = self.interface
        with self._still(seed):
            law = self._posteriors(items, seed, batch_size)
            z = operations.mean(law) if law.event_shape.numel() else law.sample()
            return pairs.ranked(pairs.conditioned(self._part("decoder"), len(z), items, self.label), z, width)

    def refuse_without_targets(self) -> None:
        """Refuses to guess where items have no targets.

        Raises:
            InputError: for a model of anything but pairs.
        """
        if "ranked" not in dir(self.interface):
            raise InputError(
                f"a model of {self.interface.unit} has no targets to guess, which pairs have (`inflection`): "
                "`reconstruct` writes what it makes of items."
            )

    def interpolate(
        self,
        first: Any,
        second: Any,
        steps: int = 5,
        decode: str | None = None,
        width: int | None = None,
        seed: int = 0,
        max_length: int | None = None,
    ) -> Any:
        """Items along the straight line between two items' posterior means, both ends included.

        `decode` is as in `reconstruct`.
        """
        if steps < 2:
            raise InputError(f"{steps} steps make no line between two items: ask for at least 2.")
        both = self.interface.together(first, second)
        a, b = self.encode(both)
        z = torch.stack([torch.lerp(a, b, weight) for weight in torch.linspace(0, 1, steps).tolist()])
        with self._still(seed):
            return self._write(z, How(decode, width=width, max_length=max_length), both)

    def traverse(
        self,
        item: Any = None,
        units: Sequence[int] | None = None,
        steps: int = 7,
        span: float = 3.0,
        decode: str | None = None,
        width: int | None = None,
        seed: int = 0,
        max_length: int | None = None,
    ) -> Any:
        """Items along the axes of z: unit after unit goes from -span to span, and all others stay as they are.

        Arguments:
            item: Where they stay: at the posterior mean of an item, or at the prior's mean where there is none.
            units: The numbers of the units, from 0; all where they are not given.
            steps: How many items a unit, both ends included.
            span: How far from 0 a unit goes; under a standard normal prior in standard deviations.
            decode, width, seed, max_length: As in `reconstruct`.

        Raises:
            InputError: for units that there are not, a z that has no axes, and a prior that knows no mean.
        """
        if steps < 2:
            raise InputError(f"{steps} steps make no line along a unit: ask for at least 2.")
        with self._still(seed):
            law = self._prior_law()
            if operations.space(law) != "vectors":
                raise InputError(f"z is of {operations.space(law)}, whose units cannot move one by one.")
            start = (_centre(law) if item is None else self._code(item)).flatten()
            chosen = self._units(units, len(start))
            z = start.repeat(len(chosen), steps, 1)
            z[torch.arange(len(chosen)), :, chosen] = torch.linspace(-span, span, steps, dtype=z.dtype, device=z.device)
            z = z.flatten(0, 1).unflatten(-1, law.event_shape)
            return self._write(z, How(decode, width=width, max_length=max_length), None if item is None else [item])

    def _code(self, item: Any) -> Tensor:
        return self.encode(self.interface.together(item, item))[0]

    def _units(self, asked: Sequence[int] | None, there: int) -> Tensor:
        units = range(there) if asked is None else asked
        for unit in units:
            if not 0 <= unit < there:
                raise InputError(f"there is no unit {unit}: z has {there}, counted from 0.")
        return torch.tensor(list(units), device=self._device)

    @contextmanager
    def _still(self, seed: int) -> Iterator[None]:
        with evaluating(self.model), torch.no_grad(), seeded(seed, "use", device=self._device):
            yield

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _batches(self, items: Any, batch_size: int) -> Iterator[tuple[Tensor, Batch]]:
        """Every batch on the model's device, with the ids of its items."""
        for ids, x in numbered(self.interface.source(items, batch_size)):
            if self.label is not None and isinstance(x, Tensor):
                x = Labelled(x, torch.full((len(x),), self.label))
            yield ids, placed(self.model, x)

    def _prior_draws(self, n: int) -> Tensor:
        if n < 1:
            raise InputError(f"cannot generate {n} items: ask for at least 1.")
        return self._prior_law().sample((n,))

    def _prior_law(self) -> Any:
        return self._part("prior_law" if "prior_law" in dir(self.model) else "prior")()

    def _write(self, z: Tensor, how: How, items: Any = None) -> Any:
        """What the decoder makes of z, of items where there are any."""
        decoder, interface = self._part("decoder"), self.interface
        if "conditioned" in dir(interface):
            decoder = interface.conditioned(decoder, len(z), items, self.label)  # pyright: ignore[reportAttributeAccessIssue]
        elif self.label is not None:
            decoder = decoder.of_class(self.label)
        return interface.write(decoder, z, how)

    def _part(self, name: str) -> Any:
        if name not in dir(self.model):
            raise InputError(
                f"`{type(self.model).__name__}` has no `{name}`, and items are written with the model's `prior` and "
                "`decoder`: name them so, as `VAE` does."
            )
        return getattr(self.model, name)


def _centre(law: Any) -> Tensor:
    try:
        return operations.mean(law)
    except NotImplementedError:
        raise InputError("this model's prior knows no mean to start from: give an item, whose code has one.") from None
