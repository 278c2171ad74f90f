"""One row an item: what evaluation keeps of a stream of batches, from which every metric is computed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from uncollapse import files
from uncollapse.bound import Batch, Bound, Labelled, device, size, symbols
from uncollapse.data.batches import numbered, source
from uncollapse.distributions import families, operations
from uncollapse.errors import InputError
from uncollapse.inference import Inference, amortised, plain, posteriors
from uncollapse.metrics.draws import draw
from uncollapse.metrics.subject import AS_IT_IS, evaluating, networks, placed, refining, refuse_other_signatures
from uncollapse.model import ask, posterior, use_of_labels
from uncollapse.processes import ALONE, Processes
from uncollapse.randomness import seeded

#: How many copies of an item, over all items of a batch, a decoder sees at a time.
SEQUENCES = 512

#: How many batches' rows are joined into one.
JOINED = 256

OWN_NOISE = (
    "the model does not draw z from the `q` that it is given: its noise is its own, so the batching matters. Draw z "
    "from `q` where it is not None."
)

GIVEN = "the model is told the items' labels: its likelihoods are log p(x | label), above those of a model that is not."

BOUNDS = "the likelihoods are {}: `nll` is minus that, and `neg_elbo` minus a bound on it."

SETTINGS = ("samples", "bound_samples", "seed", "warnings", "of_labels")
TENSORS = ("items", "batch", "distortion", "kl", "log_evidence", "effective", "symbols")


@dataclass(frozen=True, eq=False)
class Rows:
    """What is known of N items, sorted by their ids, in nats and float64, on the CPU."""

    items: Tensor
    """(N,), the ids."""
    batch: Tensor
    """(N,), the batch that the item came in."""
    distortion: Tensor
    """(N,), the mean of -log p(x | z) over the bound's draws."""
    kl: Tensor
    """(N, K), KL(q || p) by group."""
    log_evidence: Tensor | None
    """(N,), the log of the mean importance weight; None where no weights were asked for."""
    effective: Tensor | None
    """(N,), the effective number of importance samples, (sum w)^2 / sum w^2."""
    symbols: Tensor | None
    """(N,), how many symbols the item predicts."""
    law: Distribution | None
    """The posteriors of all items; None where they depend on the path."""
    samples: int
    """How many importance samples."""
    bound_samples: int
    """How many draws of the bound."""
    seed: int
    of_labels: bool = False
    """Whether the likelihoods are of the items' labels, and the items have no density."""
    warnings: tuple[str, ...] = ()
    """What the reader of the figures should know of how the model was run."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """What the model offers beside, each (N, ...), the mean over the bound's draws."""
    prior: Tensor | None = None
    """(P,), the numbers of the one prior of all items; None where they have priors of their own, or nobody knows."""

    @property
    def unbounded(self) -> bool:
        """Whether there is no bound, as the prior has no density: then there are no groups to have a rate."""
        return self.law is not None and bool(self.law.event_shape.numel()) and not self.kl.shape[1]

    @property
    def rate(self) -> Tensor:
        """(N,), KL(q || p) summed over the groups."""
        return self.kl.sum(1)

    @property
    def neg_elbo(self) -> Tensor:
        """(N,), the negative evidence lower bound."""
        return self.distortion + self.rate

    @property
    def means(self) -> Tensor | None:
        """(N, ...), the posterior means, as the law has them; None where there is no law or it does not know them."""
        try:
            return None if self.law is None else operations.mean(self.law)
        except NotImplementedError:
            return None

    def save(self, path: Path) -> str:
        """Writes one safetensors file, with what is not a tensor as JSON in its header; gives the digest of it all."""
        tensors = {name: getattr(self, name) for name in TENSORS if getattr(self, name) is not None}
        tensors |= {} if self.prior is None else {"prior": self.prior}
        header: dict[str, Any] = {k: getattr(self, k) for k in SETTINGS}
        if self.law is not None:
            header["law"] = families.family(self.law)
            tensors |= {f"law.{name}": value for name, value in operations.parameters(self.law).items()}
        tensors |= {f"extras.{name}": value for name, value in self.extras.items()}
        return files.write_tensors(path, tensors, {"rows": json.dumps(header)})

    @classmethod
    def load(cls, path: Path, digest: str | None = None) -> Rows:
        """Reads what `save` wrote; the law is None where it is not one of torch's or of this package.

        Arguments:
            path: The file.
            digest: Of the rows that are asked for, as `save` gave it; None for whichever there are.

        Raises:
            InputError: where the file is missing or damaged, or holds no rows, or others.
        """
        tensors, metadata = files.read_tensors(path)
        if digest not in (None, metadata.get(files.DIGEST)):
            raise InputError(f"`{path}` holds other rows than those of the figures beside it: evaluate the run again.")
        law, extras = (_under(tensors, prefix) for prefix in ("law.", "extras."))
        try:
            header = json.loads(metadata["rows"])
            law = families.restored(header.pop("law", None), law)
            header["warnings"] = tuple(header.get("warnings", ()))
            columns = {name: tensors.get(name) for name in TENSORS}
            return cls(**columns, law=law, extras=extras, prior=tensors.get("prior"), **header)
        except (KeyError, ValueError, TypeError, AttributeError, ImportError, RecursionError) as error:
            raise InputError(f"`{path}` holds no rows of an evaluation, or is damaged: {error}.") from error


def collect(
    model: Callable[..., Bound],
    data: Any,
    samples: int = 500,
    bound_samples: int = 10,
    seed: int = 0,
    chunk: int | None = None,
    batch_size: int = 256,
    processes: Processes = ALONE,
    inference: Inference = amortised,
) -> Rows:
    """Streams batches through a model, without gradient and in evaluation mode, into rows.

    The noise of an item is a function of the seed, its id and the sample's number, so that no figure depends
    on the batching, the chunks, or what else is measured. Ids are those that the source names
    (`batches.items`), else running numbers. Where the posterior depends on the path (`Bound.q` is None), the
    model draws for itself under a seed for each pass, and the figures do depend on the batching.

    Arguments:
        model: See `Model`; a plain function with the signature `(x, q=None, samples=1)` will do, and is run
            in the mode that its networks are in. Batches are moved to where a network is.
        data: See `batches.source`.
        samples: How many importance samples K an item; 0 for none, and for a model that tells labels.
        bound_samples: How many draws of the bound an item.
        seed: Decides the noise.
        chunk: How many samples go through the decoder at a time; as many as make 512 items, if not given.
        batch_size: The items of a batch, where `data` is not batches already.
        processes: Those that measure together, each some of the batches; all of them get all rows.
        inference: How q is found, on each item's plain bound.

    Raises:
        InputError: for a model or data that cannot be used, `bound_samples` or `chunk` below 1, or `samples`
            below 0.
    """
    if samples < 0 or bound_samples < 1 or (chunk is not None and chunk < 1):
        raise InputError(
            f"cannot evaluate with samples={samples}, bound_samples={bound_samples} and chunk={chunk}: give `samples` "
            "of at least 0 (0: no importance weights), and the others of at least 1."
        )
    refuse_other_signatures(model)
    said = [] if networks(model) is not None else [AS_IT_IS]
    if use_of_labels(model) == "target":
        samples = 0  # Such weights would be of labels, and not under what an item says of its own.
    plan = _Plan(model, inference, samples, bound_samples, seed, chunk, said)
    with torch.no_grad(), evaluating(model):
        each = enumerate(numbered(source(data, batch_size)))
        mine = (_measure(plan, i, items, x) for i, (items, x) in each if processes.mine(i))
        parts = [part for some in processes.gather(_joined(plan, mine)) for part in some]
    return _sorted(plan, _join(plan, parts))


class _Plan(NamedTuple):
    model: Callable[..., Bound]
    inference: Inference
    samples: int
    bound_samples: int
    seed: int
    chunk: int | None
    warnings: list[str]
    """Grows while the model runs."""


def _measure(plan: _Plan, index: int, items: Tensor, x: Batch) -> Rows:
    x = placed(plan.model, x)
    if isinstance(x, Labelled) and use_of_labels(plan.model) == "given" and GIVEN not in plan.warnings:
        plan.warnings.append(GIVEN)
    if (of := getattr(plan.model, "bounds", None)) and (said := BOUNDS.format(of)) not in plan.warnings:
        plan.warnings.append(said)
    q = _posterior(plan, index, items, x)
    bound = [_figures(b) for b in _passes(plan, index, items, x, q, "bound", plan.bound_samples)]
    weights = [b.log_weights.cpu().double() for b in _passes(plan, index, items, x, q, "weights", plan.samples)]
    log_evidence, effective = _summary(torch.cat(weights), plan.samples) if weights else (None, None)
    counts = symbols(x)
    return Rows(
        items=items,
        batch=torch.full((len(items),), index),
        **_means([(n, figures) for n, figures, *_ in bound]),
        extras=_means([(n, extras) for n, _, extras, _ in bound]),
        log_evidence=log_evidence,
        effective=effective,
        symbols=None if counts is None else counts.cpu().double(),
        law=None if q is None else _on_host(q),
        prior=bound[0][-1],
        **_settings(plan),
    )


def _posterior(plan: _Plan, index: int, items: Tensor, x: Batch) -> Distribution | None:
    # A scope of its own, as the model draws a z that nobody uses: evaluation leaves training's noise alone.
    with seeded(plan.seed, "encode", index, device=device(x)):
        return infer(plan.model, plan.inference, x, items.tolist(), plan.seed)


def infer(model: Any, inference: Inference, x: Batch, items: Sequence[int], seed: int) -> Distribution | None:
    """The posteriors of a batch as an inference finds them on each item's plain bound, for a model that is not trained.

    Arguments:
        model: The model.
        inference: How q is found.
        x: The batch.
        items: The ids of its items, which decide their noise with the seed.
        seed: Decides the noise.
    """
    with refining(model, seed, items):
        q, _ = posteriors(inference, model, x, plain)
    return posterior(model, x) if q is None else q


def _figures(bound: Bound) -> tuple[int, dict[str, Tensor], dict[str, Tensor], Tensor | None]:
    """What is kept of a pass, on the host: how many draws, means over them, and the prior."""
    figures = {"distortion": bound.distortion.cpu().double(), "kl": bound.kl.cpu().double()}
    extras = {k: v.cpu().double() for k, v in bound.extras.items()}
    return len(bound.log_likelihood), figures, extras, operations.common(bound.p)


def _means(passes: list[tuple[int, dict[str, Tensor]]]) -> dict[str, Any]:
    """The mean over the draws of all passes."""
    total = sum(n for n, _ in passes)
    return {name: torch.stack([n / total * some[name] for n, some in passes]).sum(0) for name in passes[0][1]}


def _passes(
    plan: _Plan, index: int, items: Tensor, x: Batch, q: Distribution | None, purpose: str, count: int
) -> Iterator[Bound]:
    """The bounds of `count` draws, a chunk at a time."""
    step = plan.chunk or max(1, SEQUENCES // size(x))
    if q is not None and not q.event_shape.numel():
        count = min(count, 1)  # Without latent units all draws are the same one.
    draws = draw(q, plan.seed, purpose, items.tolist(), count) if q is not None and count else None
    for k in range(0, count, step):
        z, number = None if draws is None else draws[k : k + step], min(step, count - k)
        # Seeded also where z is given, for a plain function whose dropout nobody could turn off.
        with seeded(plan.seed, purpose, index, k, device=device(x)):
            found = ask(plan.model, x, None if z is None else operations.fixed(q, z), number)
        if z is not None and not _same(found.z, z) and OWN_NOISE not in plan.warnings:
            plan.warnings.append(OWN_NOISE)
        yield found


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.shape == b.shape and bool(a.isclose(b, equal_nan=True).all()))


def _summary(log_weights: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """The log of the mean weight and the effective sample size, from one logsumexp over all (K, B)."""
    total, drawn = log_weights.logsumexp(0), len(log_weights)
    effective = (2 * total - (2 * log_weights).logsumexp(0)).exp()
    return total - math.log(drawn), effective * (samples / drawn)


def _joined(plan: _Plan, parts: Iterator[Rows]) -> list[Rows]:
    """Fewer parts, joined as they come: the small tensors of many batches take several times what is in them."""
    return [_join(plan, some) for some in iter(lambda: list(islice(parts, JOINED)), [])]


def _join(plan: _Plan, parts: list[Rows]) -> Rows:
    """The items of all parts, which are let go a column at a time: those of a million take hundreds of megabytes."""
    plan.warnings[:] = dict.fromkeys(text for part in parts for text in part.warnings)
    columns = {name: [getattr(part, name) for part in parts] for name in TENSORS}
    laws, extras = [part.law for part in parts if part.law is not None], [part.extras for part in parts]
    priors = [part.prior for part in parts]
    parts.clear()
    groups = max(kl.shape[1] for kl in columns["kl"])
    # Time steps that a batch lacks cost nothing.
    columns["kl"] = [F.pad(kl, (0, groups - kl.shape[1])) for kl in columns["kl"]]
    return Rows(
        **{name: torch.cat(column) if (column := columns.pop(name))[0] is not None else None for name in TENSORS},  # pyright: ignore[reportArgumentType]
        extras={name: torch.cat([one[name] for one in extras]) for name in extras[0]},
        law=operations.cat(laws) if laws else None,
        prior=_alike(priors),
        **_settings(plan),
    )


def _alike(priors: list[Tensor | None]) -> Tensor | None:
    first = priors[0]
    return first if first is not None and all(p is not None and torch.equal(p, first) for p in priors) else None


def _sorted(plan: _Plan, rows: Rows) -> Rows:
    """The rows by their items' ids, whichever process measured them; an id that comes twice, by its batches."""
    order = rows.batch.argsort(stable=True)
    order = order[rows.items[order].argsort(stable=True)]
    columns = {name: getattr(rows, name) for name in TENSORS}
    return Rows(
        **{name: None if column is None else column[order] for name, column in columns.items()},  # pyright: ignore[reportArgumentType]
        extras={name: value[order] for name, value in rows.extras.items()},
        law=None if rows.law is None else operations.take(rows.law, order),
        prior=rows.prior,
        **_settings(plan),
    )


def _settings(plan: _Plan) -> dict[str, Any]:
    found = {name: getattr(plan, name) for name in ("samples", "bound_samples", "seed")}
    return {**found, "warnings": tuple(plan.warnings), "of_labels": use_of_labels(plan.model) == "target"}


def _on_host(law: Any) -> Distribution:
    return operations.rebuild(law, {k: v.detach().cpu() for k, v in operations.parameters(law).items()})


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
