"""The stock model, encoder + decoder + prior, and what the rest of the library knows of any model."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.bound import Batch, Bound, Given, Labelled, ToTell, checked, given, seen, target
from uncollapse.distributions.generated import has_density
from uncollapse.distributions.refusals import refusal, said
from uncollapse.divergence import kl_by_group
from uncollapse.errors import InputError

#: What a prior may ask for by the names of its arguments.
OFFERED = ("given", "encoder")

#: What labels are to a model: kept from it, known in training alone or always, or what it is to tell.
Labels: TypeAlias = Literal["kept", "in-training", "given", "target"]

#: How torch says that a network reads numbers of another type, or items of another shape.
_UNREADABLE = re.compile(
    r"dtype|scalar type|[Ii]nput type|result type|bool tensor|shapes cannot be multiplied|channels"
)


class Model(Protocol):
    """All that training and evaluation know of a model."""

    def __call__(self, x: Batch, q: Distribution | None = None, samples: int = 1) -> Bound:
        """The bound on a batch; under `q` where it is given, else under the model's own posterior."""
        ...

    def players(self) -> dict[str, nn.Module]:
        """Who can step, by name; asked only in training."""
        ...


class Generation(nn.Module):
    """p(x, z): the decoder, which is scored inside its own forward pass, the prior, and heads beside them."""

    def __init__(self, decoder: nn.Module, prior: nn.Module, heads: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        self.decoder, self.prior, self.heads = decoder, prior, _named(heads or {})
        self.asks = _asks(prior)

    def forward(self, z: Tensor, x: Batch, encoder: nn.Module) -> tuple[Tensor, Distribution, dict[str, Tensor]]:
        law = self.decoder(z, seen(x))
        if not isinstance(law, Distribution):
            raise InputError(
                f"the decoder gives {_described(law)}, and must give a law of x, such as "
                "`Independent(Bernoulli(logits=logits), 1)`. A decoder that gives a law's parameters becomes one by "
                "`uncollapse.foreign(..., likelihood=...)`."
            )
        offered: Any = getattr(law, "extras", None)
        extras = ({} if offered is None else offered(seen(x))) | {k: head(z, x) for k, head in self.heads.items()}
        return law.log_prob(target(x)), self.law(x, encoder), extras

    def law(self, x: Batch, encoder: nn.Module) -> Distribution:
        """The prior, batch shape () or (B,), handed what it asks for.

        Raises:
            InputError: where it asks for what there is not.
        """
        offered = {"given": lambda: given(x), "encoder": lambda: encoder}
        for name in self.asks:
            if name not in offered:
                raise InputError(
                    f"the prior `{type(self.prior).__name__}` asks for `{name}`, and a prior is offered `given` (what "
                    "a batch is conditioned on) and `encoder` alone: name its arguments so."
                )
        return self.prior(**{name: offered[name]() for name in self.asks})


def _named(heads: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """Heads as one module.

    Raises:
        InputError: for a name that a module cannot have, and that of labels.
    """
    made = nn.ModuleDict()
    for name, head in heads.items():
        if not name or "." in name or name == "label" or hasattr(made, name):
            raise InputError(f"no head can be called `{name}`: choose another name, without dots, such as `bag`.")
        made[name] = head
    return made


def _asks(prior: Any) -> tuple[str, ...]:
    """What a prior asks for by the names of its arguments: those it needs, and those that it is offered.

    Raises:
        InputError: where it is a law, and not what makes one.
    """
    if not callable(prior):
        raise InputError(
            f"the prior is a `{type(prior).__name__}`, and must be what makes a law when it is called, such as "
            "`uncollapse.StandardNormal(d)`, or `lambda: law` of a law at hand."
        )
    found = inspect.signature(prior.forward if isinstance(prior, nn.Module) else prior).parameters.values()
    named = [argument for argument in found if argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)]
    return tuple(a.name for a in named if a.name in OFFERED or a.default is a.empty)


class VAE(nn.Module):
    r"""A variational autoencoder of three networks.

    .. math:: \log p(x) \ge \mathbb{E}_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \| p(z))

    References:
        | Auto-Encoding Variational Bayes (Kingma & Welling, 2014)
        | https://arxiv.org/abs/1312.6114

    Arguments:
        encoder: `x -> Distribution` over z, batch shape (B,); see `Posterior`. One with an argument `prior` is handed
            the prior's law, as a posterior that starts from it needs.
        decoder: `(z, seen) -> Distribution` over x, batch shape (S, B), for z with shape (S, B, ...); `seen` is
            what it may look at (teacher forcing), and may be ignored. Where its law has `extras(seen)`, those are the
            bound's.
        prior: `() -> Distribution` over z, such as `StandardNormal(d)`. One with an argument `given` is conditional,
            p(z | c): it is handed what the batch says is given, and its law has the batch shape (B,). One with an
            argument `encoder` is handed the encoder, as a prior made of posteriors needs. One with a `player` is a
            player of that name.
        players: Who can step, by name; "inference" (the encoder) and "generation" (the rest) by default.
        heads: By name, `(z, x) -> Tensor` (B, ...): what each says of the items of a batch from z (S, B, ...), such as
            a log-likelihood averaged over S. They are extras of the bound, for terms to use, and no part of it.
        labels: What the labels of `Labelled` items are to it. "kept": they are kept from it. "given": its networks get
            `bound.Given`, the encoder as x, the decoder as `seen`, a conditional prior the label as `given`, and the
            bound is on log p(x | label). "in-training": so in training mode, and kept in evaluation. "target": they get
            `bound.ToTell`, the decoder's law is of the label, and the bound says nothing of the density of x.

    Example:
        >>> from torch import nn, randn
        >>> from torch.distributions import Independent, Normal
        >>> import uncollapse as uc
        >>> class Decoder(nn.Linear):
        ...     def forward(self, z, seen):
        ...         return Independent(Normal(super().forward(z), 1.0), 1)
        >>> encoder = uc.Posterior(nn.Linear(5, 4), uc.gaussian, sizes=(2, 2))
        >>> model = uc.VAE(encoder, Decoder(2, 5), uc.StandardNormal(2))
        >>> model(randn(7, 5), samples=3).log_likelihood.shape
        torch.Size([3, 7])
    """

    undivided: str
    """Why all of it is one player, where it is."""
    anew: Callable[[], VAE]
    """Makes another like it with parameters drawn anew, where that is known."""
    bounds: str | None = None
    """What its likelihoods are of where that is not log p(x), such as "log p(target | tags)"."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        prior: nn.Module,
        players: Mapping[str, nn.Module] | None = None,
        heads: Mapping[str, nn.Module] | None = None,
        labels: Labels = "kept",
    ) -> None:
        super().__init__()
        self.encoder, self.labels = encoder, labels
        self.generation = Generation(decoder, prior, heads)
        self._players = players
        self._goes_down = "prior" in inspect.signature(encoder.forward).parameters

    @property
    def decoder(self) -> nn.Module:
        return self.generation.decoder

    @property
    def prior(self) -> nn.Module:
        return self.generation.prior

    def prior_law(self, x: Batch = None) -> Distribution:
        """The prior's law; of a conditional one under what the batch `x` says is given.

        Raises:
            InputError: where it is conditional and there is no batch.
        """
        if x is None and "given" in self.generation.asks:
            raise InputError("this model's prior needs what is given, p(z | c), and no batch says it: a field 'given'.")
        return self.generation.law(x, self.encoder)

    def posterior(self, x: Batch) -> Distribution:
        """q(z | x) of a batch, batch shape (B,), by the encoder, which is handed the prior's law where it asks for it.

        Raises:
            InputError: where the encoder gives no law.
        """
        law = self.encoder(x, prior=self.prior_law(x)) if self._goes_down else self.encoder(x)
        if isinstance(law, Distribution):
            return law
        raise InputError(
            f"the encoder gives {_described(law)}, and must give a law of z: `uncollapse.gaussian(mean, log_variance)` "
            "where it gives these two, `Independent(Normal(mean, scale), 1)` where it gives a scale. A module with "
            "`encode` and `decode` comes in as it is by `uncollapse.foreign(module, likelihood=...)`."
        )

    def forward(self, x: Batch, q: Distribution | None = None, samples: int = 1) -> Bound:
        try:
            return self._bound(x, q, samples)
        except (ValueError, RuntimeError) as error:
            put_in_words(error, x)
            raise

    def _bound(self, x: Batch, q: Distribution | None, samples: int) -> Bound:
        law = self.posterior(x) if q is None else q
        z = law.rsample((samples,))  # pyright: ignore[reportArgumentType]
        return _record(x, z, law, *self.generation(z, x, self.encoder))

    def latents(self, x: Batch) -> Bound:
        """The bound on a batch without its likelihood, which is nan, and without extras: the decoder makes no pass."""
        law = self.posterior(x)
        z = law.rsample((1,))  # pyright: ignore[reportArgumentType]
        return _record(x, z, law, z.new_full(z.shape[:2], torch.nan), self.prior_law(x), {})

    def players(self) -> dict[str, nn.Module]:
        if self._players is not None:
            return dict(self._players)
        if (name := getattr(self.prior, "player", None)) is None:
            return {"inference": self.encoder, "generation": self.generation}
        rest = nn.ModuleList([self.decoder, self.generation.heads])
        return {"inference": self.encoder, "generation": rest, name: self.prior}


def _record(
    x: Batch, z: Tensor, q: Distribution, log_likelihood: Tensor, p: Distribution, extras: dict[str, Tensor]
) -> Bound:
    log_q = q.log_prob(z)
    log_p = p.log_prob(z) if has_density(p) else torch.full_like(log_q, torch.nan)
    return Bound(x, z, log_likelihood, log_q, log_p, kl_by_group(q, p, log_q, log_p), q, p, extras)


def ask(model: Any, x: Batch, q: Distribution | None = None, samples: int | None = None) -> Bound:
    """The bound of any model on a batch; labels come back as an extra, whatever they are to the model.

    Arguments:
        model: See `Model`.
        x: The batch.
        q: As for the model; its own posterior where it is None.
        samples: How many draws; left to the model where it is None.

    Raises:
        InputError: where it gives no bound on this batch, or a law or a network of it does not take the batch.
    """
    asked: dict[str, Any] = {"q": q, "samples": samples}
    try:
        found = model(_shown(model, x), **{name: value for name, value in asked.items() if value is not None})
    except (ValueError, RuntimeError) as error:
        put_in_words(error, x)
        raise
    return _with_label(checked(found, x, samples), x)


def posterior(model: Any, x: Batch) -> Distribution | None:
    """The q of a model's bound on a batch; of the stock model, as it is, without a pass of its decoder."""
    if not _is_stock(model):
        return ask(model, x).q
    try:
        return model.posterior(_shown(model, x))
    except (ValueError, RuntimeError) as error:
        put_in_words(error, x)
        raise


def ask_latents(model: Any, x: Batch) -> Bound:
    """The bound of any model on a batch, for who reads latents and labels alone.

    Of the stock model it is made without a pass of the decoder, and its log-likelihood is nan.
    """
    return _with_label(model.latents(_shown(model, x)), x) if _is_stock(model) else ask(model, x)


def _is_stock(model: Any) -> bool:
    return getattr(getattr(model, "forward", None), "__func__", None) is VAE.forward


def _with_label(found: Bound, x: Batch) -> Bound:
    return found._replace(x=x, extras={**found.extras, "label": x.label}) if isinstance(x, Labelled) else found


def put_in_words(error: Exception, x: Batch) -> None:
    """Says in one line what a law or a network does not take of a batch.

    What is not finite stays torch's error, as training knows more about where that began.

    Raises:
        InputError: where the error is one of these.
    """
    if isinstance(error, ValueError):
        found = refusal(error)
        words = None if found is None else said(found)
        if words is not None:
            raise InputError(words) from None
    elif type(error) is RuntimeError and _UNREADABLE.search(str(error)):
        kinds = ", ".join(f"{part.dtype} {tuple(part.shape)}" for part in ([x] if isinstance(x, Tensor) else x))
        raise InputError(
            f"the model cannot read a batch of {kinds}: {str(error).splitlines()[0]}. Give pixels and measurements as "
            "floating numbers (`x.float()`), the ids of tokens as `torch.long`, and items in the shape that its "
            "networks read (`x.flatten(1)`)."
        ) from error


def use_of_labels(model: Any) -> str:
    """What labels are to any model now; see `Labels`."""
    said = getattr(model, "labels", None)
    if said == "in-training":
        return "given" if model.training else "kept"
    return said if isinstance(said, str) else "kept"


def _shown(model: Any, x: Batch) -> Batch:
    if not isinstance(x, Labelled):
        return x
    shown = {"given": Given, "target": ToTell}.get(use_of_labels(model))
    return x.x if shown is None else shown(*x)


def _described(found: Any) -> str:
    several = f" of {len(found)}" if isinstance(found, tuple | list) else ""
    return f"a `{type(found).__name__}`{several}"
