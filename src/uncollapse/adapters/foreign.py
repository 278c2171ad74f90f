"""Other people's VAEs as models: a module with `encode` and `decode`, or the two as callables, as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Laplace, Normal

from uncollapse.bound import Batch, checked_batch, seen
from uncollapse.data.forms import items_of
from uncollapse.distributions import operations
from uncollapse.distributions.flattened import Flattened, Scored
from uncollapse.distributions.scoring import wide
from uncollapse.errors import InputError, unknown
from uncollapse.metrics.subject import evaluating, placed
from uncollapse.model import VAE, posterior
from uncollapse.posteriors import gaussian
from uncollapse.randomness import seeded

Likelihood: TypeAlias = Literal["bernoulli", "bernoulli-logits", "gaussian", "laplace", "categorical"]

#: The likelihoods that have a scale.
SCALED = ("gaussian", "laplace")


def foreign(
    module: nn.Module | None = None,
    *,
    encode: Callable[..., Any] | None = None,
    decode: Callable[..., Any] | None = None,
    likelihood: Likelihood | Callable[..., Distribution] | None = None,
    scale: float | Literal["learned"] | None = None,
    log_likelihood: Callable[[Tensor, Tensor], Tensor] | None = None,
    prior: nn.Module | None = None,
    example: Batch = None,
) -> VAE:
    """A model made of what a VAE written elsewhere has.

    The likelihood is summed over the item and in nats, with its constants: a loss of mean squares, or of binary
    cross-entropy on grey values, is none.

    Arguments:
        module: Whose parameters are trained; its `encode` and `decode` are taken where none are given. It may be left
            out where both are modules, or methods of modules.
        encode: From a batch (B, ...) to `(mean, log_variance)` of a Gaussian, each (B, ...), or to a law of z.
        decode: From draws z (N, ...), in one batch dimension, to a law of N items, or to the parameters of the
            `likelihood`. Whatever its shape, an item is reshaped to what is decoded.
        likelihood: What the law of x is: "bernoulli" of probabilities (a decoder that ends in a sigmoid) or
            "bernoulli-logits"; "gaussian" of the mean, or of `(mean, log_variance)`; "laplace" of the location, or of
            `(location, scale)`; "categorical" of logits, classes last; or anything that makes a law of what `decode`
            gives, such as `torch.distributions.ContinuousBernoulli`. None where `decode` gives a law.
        scale: Of a "gaussian" or "laplace" whose scale `decode` does not give: a number, or "learned" for one that is
            learned; 1 by default.
        log_likelihood: `(x, z) -> log p(x | z)`, each of N items, instead of `decode` and `likelihood`.
        prior: As for `VAE`; the standard normal in the shape of z by default.
        example: A few items, by which is found what parameters `encode` and `decode` use each. Where they share none,
            the former are the player "inference" and all others the player "generation". Modules of their own need
            no example. All parameters are one player, "model", where the halves share some or nobody can tell.

    Raises:
        InputError: where something is missing, or given twice.

    Example:
        >>> from torch import nn, randn
        >>> import uncollapse as uc
        >>> class Tutorial(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mean, self.log_variance, self.back = nn.Linear(8, 2), nn.Linear(8, 2), nn.Linear(2, 8)
        ...     def encode(self, x):
        ...         return self.mean(x), self.log_variance(x)
        ...     def decode(self, z):
        ...         return self.back(z).sigmoid()
        >>> model = uc.foreign(Tutorial(), likelihood="bernoulli", example=randn(4, 8))
        >>> sorted(model.players())
        ['generation', 'inference']
    """
    infer = _half("encode", module, encode)
    if log_likelihood is not None and (decode is not None or likelihood is not None):
        raise InputError("`log_likelihood` scores x by itself: leave out `decode` and `likelihood`.")
    generate = _half("decode", module, decode) if log_likelihood is None else log_likelihood
    law = None if log_likelihood is not None else _LawOf(likelihood, scale)
    owners = [module] if module is not None else [_owner("encode", infer), _owner("decode", generate)]
    apart = module is None and not _parameters(owners[:1]) & _parameters(owners[1:])
    encoder = Encoder(infer, owners[:1] if apart else owners)
    model = VAE(encoder, Decoder(generate, law, owners[1:] if apart else []), prior or Standard())
    return model if apart else divided(model, example)


class Encoder(nn.Module):
    """q(z | x) of a callable that gives a Gaussian's mean and log-variance, or a law."""

    def __init__(self, infer: Callable[..., Any], networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.infer, self.networks = infer, nn.ModuleList(dict.fromkeys(networks))
        self.z: Tensor | None = None
        """Zeros in the shape of one draw, once there was any."""

    def forward(self, x: Batch) -> Distribution:
        found = self.infer(x)
        law = found if isinstance(found, Distribution) else _gaussian_of(found)
        law = Independent(law, len(law.batch_shape) - 1) if len(law.batch_shape) > 1 else law
        like = next(iter(operations.parameters(law).values()))
        if self.z is None or (self.z.shape, self.z.device, self.z.dtype) != (law.event_shape, like.device, like.dtype):
            self.z = torch.zeros(law.event_shape, device=like.device, dtype=like.dtype)
        return law


class Decoder(nn.Module):
    """p(x | z) of a callable that knows one batch dimension."""

    def __init__(self, generate: Callable[..., Any], law: _LawOf | None, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.generate, self.law, self.networks = generate, law, nn.ModuleList(networks)

    def forward(self, z: Tensor, seen: Any) -> Distribution:
        if self.law is None:
            return Scored(self.generate, z)
        return Flattened(self.law(self.generate(z.flatten(0, 1))), z.shape[:2])


class Standard(nn.Module):
    """The prior N(0, I) in the shape of what the encoder gives."""

    def forward(self, encoder: Encoder) -> Distribution:
        if encoder.z is None:
            raise InputError(
                "the shape of z is not known before the first batch: encode some items, or give `uncollapse.foreign` "
                "an `example` or a `prior`, such as `StandardNormal(d)`."
            )
        law = Normal(encoder.z, torch.ones_like(encoder.z), validate_args=False)
        return Independent(law, encoder.z.ndim, validate_args=False)


class _LawOf(nn.Module):
    """The law of what `decode` gives."""

    def __init__(self, likelihood: Any, scale: float | str | None) -> None:
        super().__init__()
        if isinstance(likelihood, str) and likelihood not in get_args(Likelihood):
            raise unknown("likelihood", likelihood, get_args(Likelihood))
        if scale is not None and likelihood not in SCALED:
            raise InputError(
                f"`scale` is of the likelihoods {' and '.join(SCALED)}: leave it out, or take one of these."
            )
        if not (scale is None or scale == "learned" or (isinstance(scale, int | float) and 0 < scale < float("inf"))):
            raise InputError(f'the scale of a likelihood cannot be `{scale!r}`: give a number above 0, or "learned".')
        self.likelihood, self.scale = likelihood, scale
        if scale == "learned":
            self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, found: Any) -> Distribution:
        if self.likelihood is None and isinstance(found, Distribution):
            return found
        parts = list(found) if isinstance(found, tuple | list) else [found]
        if self.likelihood is None or not all(isinstance(part, Tensor) for part in parts):
            raise InputError(
                f"`decode` gives a `{type(found).__name__}`: say of what law its tensors are the parameters, as in "
                f'`likelihood="bernoulli"`, or let it give a law. {_OTHERWISE.format("decode", "z")}'
            )
        parts = [wide(part) for part in parts]
        if not isinstance(self.likelihood, str):
            return self.likelihood(*parts)
        most = 2 if self.likelihood in SCALED and self.scale is None else 1
        if len(parts) > most:
            raise InputError(
                f"`decode` gives {len(parts)} tensors, and the likelihood {self.likelihood} takes {most} here: "
                f"{_OTHERWISE.format('decode', 'z')}"
            )
        return self._named(*parts)

    def _named(self, first: Tensor, second: Tensor | None = None) -> Distribution:
        match self.likelihood:
            case "bernoulli":
                return Bernoulli(probs=first)
            case "bernoulli-logits":
                return Bernoulli(logits=first)
            case "categorical":
                return Categorical(logits=first)
            case "gaussian":
                return Normal(first, self._scale if second is None else (0.5 * second).exp())
        return Laplace(first, self._scale if second is None else second)

    @property
    def _scale(self) -> Tensor | float:
        if self.scale == "learned":
            return self.log_scale.exp()
        return 1.0 if self.scale is None else float(self.scale)


#: How to take what is meant out of what a half gives besides.
_OTHERWISE = "Pick what is meant, as in `{0}=lambda {1}: module.{0}({1})[0]`."


def _gaussian_of(found: Any) -> Distribution:
    pair = list(found) if isinstance(found, tuple | list) else []
    tensors = len(pair) == 2 and all(isinstance(part, Tensor) and part.ndim > 1 for part in pair)
    if not tensors or pair[0].shape != pair[1].shape:
        shapes = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in pair]
        raise InputError(
            f"`encode` gives a `{type(found).__name__}`{f' of {shapes}' if pair else ''}, and must give `(mean, "
            "log_variance)`, both (B, ...), or a law: pick these, as in `encode=lambda x: module.encode(x)[:2]`."
        )
    return gaussian(*pair)


def _half(name: str, module: nn.Module | None, given: Callable[..., Any] | None) -> Callable[..., Any]:
    """One of the two callables; a module by its call, so that it is registered once, where its parameters are."""
    found = given if given is not None else getattr(module, name, None)
    if not callable(found):
        there = "no module is given" if module is None else f"`{type(module).__name__}` has no `{name}`"
        raise InputError(
            f"{there}, so `{name}` is missing: give it, as in `uncollapse.foreign(module, {name}=..., ...)`."
        )
    return found.__call__ if isinstance(found, nn.Module) else found


def _owner(name: str, half: Callable[..., Any]) -> nn.Module:
    owner = getattr(half, "__self__", None)
    if not isinstance(owner, nn.Module):
        raise InputError(
            f"nobody can see whose parameters `{name}` uses: give their module first, as in `uncollapse.foreign("
            f"module, {name}=..., ...)`."
        )
    return owner


def _parameters(modules: Sequence[nn.Module]) -> set[Tensor]:
    return {parameter for module in modules for parameter in module.parameters()}


def _used(model: VAE, example: Batch) -> tuple[set[Tensor], set[Tensor]]:
    """The parameters that a pass of the encoder and one of the decoder depend on."""
    x = placed(model, checked_batch(items_of(example)))
    with evaluating(model), torch.enable_grad(), seeded(0, "example"):
        q = posterior(model, x)
        assert q is not None
        z = q.rsample(torch.Size((1,)))
        score, *_ = model.generation(z.detach(), seen(x), model.encoder)
    return _behind(z), _behind(score)


def _behind(result: Tensor) -> set[Tensor]:
    """The parameters that a result depends on, by its graph: nothing is differentiated."""
    met, ahead = set(), [result.grad_fn]
    while ahead:
        node: Any = ahead.pop()
        if node is not None and node not in met:
            met.add(node)
            ahead += [following for following, _ in node.next_functions]
    return {node.variable for node in met if "variable" in dir(node)}


def divided(model: VAE, example: Batch) -> VAE:
    """The same model, whose players are its halves where an example shows that they share nothing."""
    everyone = list(model.parameters())
    inference, generation = (set(), set()) if example is None else _used(model, example)
    shared = [name for name, parameter in model.named_parameters() if parameter in inference & generation]
    if example is not None and not shared:
        players = {
            "inference": nn.ParameterList(p for p in everyone if p in inference),
            "generation": nn.ParameterList(p for p in everyone if p not in inference),
        }
        return VAE(model.encoder, model.decoder, model.prior, players)
    found = VAE(model.encoder, model.decoder, model.prior, {"model": nn.ParameterList(everyone)})
    found.undivided = (
        f"`encode` and `decode` both use `{shared[0]}`, and halves that share parameters cannot step in turn"
        if shared
        else "give `uncollapse.foreign` an `example` of a few items, by which it tells what parameters each half uses"
    )
    return found
