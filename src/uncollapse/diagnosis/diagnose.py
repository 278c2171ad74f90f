"""`diagnose`: any VAE, some data, and what state it is in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from uncollapse.diagnosis.advice import Python, Ways, advised
from uncollapse.diagnosis.audit import Audit, LossOf
from uncollapse.diagnosis.evidence import Evidence, History, gathered
from uncollapse.diagnosis.findings import VERDICTS, Diagnosis, Finding, Next, Standing
from uncollapse.diagnosis.stability import Stability
from uncollapse.diagnosis.units import parts, positions, units
from uncollapse.diagnosis.verdicts import (
    GAP,
    HOLES,
    LISTENS,
    MISMATCH,
    NARROW,
    NEGLIGIBLE,
    OF_LABELS,
    SETTLED,
    UNBOUNDED,
    clear,
    could_use,
    falling,
    in_holes,
    last_fall,
    least_marginal_kl,
    mis_scaled,
    noise_share,
    state,
    units_used,
    unused,
)
from uncollapse.inference import Inference, amortised
from uncollapse.metrics.estimate import Estimate, Unavailable, standard_error
from uncollapse.metrics.holes import RARE
from uncollapse.objective import Objective

NATS = "nats/item"
#: How far from 1 a weight of the KL may be that is called 1.
SLACK = 0.05
FOREIGN = "a model of one's own has no log of its training"


def diagnose(
    model: Any,
    data: Any,
    loss: LossOf | Objective | None = None,
    *,
    items: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
    inference: Inference = amortised,
    history: History | None = None,
    ways: Ways = Python(),  # noqa: B008 - frozen
    used: Sequence[str] = (),
) -> Diagnosis:
    """Says what state a model is in, by evidence, and what to do next; nothing of the model is changed.

    Arguments:
        model: Whatever returns a `Bound` from `(x, q=None, samples=1)`; see `foreign` for VAEs written elsewhere.
        data: What `fit` takes: a tensor, an array, a NamedTuple of tensors, a map-style Dataset, or batches.
        loss: What the model is trained by, to see what it really weighs: from a batch to a scalar, calling the same
            module, such as `lambda x: loss_function(*vae(x), x)`; or an `Objective`.
        items: About how many items to look at, the first ones.
        seed: Decides the noise.
        batch_size: The items of a batch, where `data` is not batches already.
        inference: How q is found, on each item's plain bound.
        history: What a run's log says.
        ways: How the next step is written.
        used: The remedies that the model was trained with.

    Raises:
        InputError: for a model or data that cannot be used.

    Example:
        >>> from torch import nn, randn
        >>> import uncollapse as uc
        >>> vae = nn.ModuleDict({"mean": nn.Linear(8, 2), "back": nn.Linear(2, 8)})
        >>> model = uc.foreign(
        ...     vae,
        ...     encode=lambda x: (vae["mean"](x), 0 * vae["mean"](x)),
        ...     decode=lambda z: 0 * vae["back"](z),
        ...     likelihood="gaussian",
        ... )
        >>> uc.diagnose(model, randn(200, 8)).verdict
        'model collapse'
    """
    of_loss = _by_bound(model, loss) if isinstance(loss, Objective) else loss
    evidence = gathered(model, data, of_loss, items, seed, batch_size, inference, history)
    verdict = state(evidence)
    findings = list(_findings(evidence, verdict, ways, used))
    return Diagnosis(verdict, _why(evidence, verdict), findings, evidence.figures.warnings)


def _by_bound(model: Any, objective: Objective) -> LossOf:
    return lambda x: objective(model(x)).total


def _why(evidence: Evidence, verdict: str) -> str:
    if evidence.figures.rows.of_labels:
        return OF_LABELS
    if evidence.figures.rows.unbounded and verdict == "unknown":
        return UNBOUNDED
    facts = [VERDICTS[verdict]]
    if verdict == "loss mis-scaled" and isinstance(evidence.audit, Audit):
        facts = [f"your effective KL weight is {evidence.audit.beta:.3g}"]
    if (used := units_used(evidence)) is not None:
        facts.append(f"{used[0]} of {used[1]} {parts(evidence)} in use")
    if isinstance(evidence.figures.mi, Estimate):
        facts.append(f"MI {evidence.figures.mi.value + 0.0:.2f} nats")
    if isinstance(evidence.usage, Unavailable) and verdict == "unknown":
        facts = [evidence.usage.reason]
    return "; ".join(facts)


def _findings(e: Evidence, verdict: str, ways: Ways, used: Sequence[str]) -> Iterator[Finding]:
    """All that is known, and what is not, with why."""
    if verdict == "no latents":
        return
    # The others are of a bound on items, and of a prior's density.
    if e.figures.rows.of_labels or e.figures.rows.unbounded:
        yield from (_use(e, Next(), False), _information(e), _signal(e))
        return
    weight = None if e.history is None else e.history.rate_weight
    charged = weight is not None and weight > 1 - SLACK
    decisive = advised(verdict, ways, used, isinstance(e.audit, Audit), charged)
    after = not isinstance(e.usage, Unavailable) and unused(e)
    yield _use(e, decisive if verdict == "collapsed" else Next(), after)
    yield _information(e)
    yield units(e, decisive, verdict)
    yield from positions(e)
    yield _signal(e)
    yield _true_posterior(e, decisive, verdict)
    yield _amortisation(e, advised("amortisation", ways), after)
    yield _aggregate(e, decisive, verdict)
    yield _holes(e, ways, used)
    yield _noise(e, verdict)
    if not isinstance(e.usage, Unavailable) and e.usage.places:
        yield _places(e.usage.places)
    yield from _of_training(e, ways, verdict)
    yield _loss_scale(e, ways, verdict)


def _unknown(name: str, why: Unavailable) -> Finding:
    return Finding(name, None, None, why.reason, "unknown")


def _of(name: str, values: Tensor, meaning: str, standing: Standing, limit: float | None, then: Next) -> Finding:
    value, se = values.mean().item(), standard_error(values)
    return Finding(name, value, se, meaning, standing, NATS, limit, then.advice, then.command)


def _use(e: Evidence, then: Next, idle: bool) -> Finding:
    if isinstance(e.usage, Unavailable):
        return _unknown("use", e.usage)
    own = e.usage.own.mean().item()
    others = {"another's z": e.usage.shuffled, "prior z": e.usage.prior, "average z": e.usage.average}
    compared = ", ".join(f"{name} {v.mean().item():.2f}" for name, v in others.items() if v is not None)
    says = "z is not used" if not clear(e.usage.worth, NEGLIGIBLE) else "z is used"
    meaning = f"{says}: distortion with own z {own:.2f}, {compared}"
    return _of("use", e.usage.worth, meaning, "decides" if idle else "fine", None, then)


def _information(e: Evidence) -> Finding:
    mi = e.figures.mi
    if isinstance(mi, Unavailable):
        return _unknown("information", mi)
    rate = f"of a KL of {e.figures.kl.value:.2f}" if isinstance(e.figures.kl, Estimate) else ""
    low = mi.value < NEGLIGIBLE
    says = (
        "z tells next to nothing of x" if low else "z tells of x" + (", at its cap: at least" if mi.saturated else "")
    )
    return Finding("information", mi.value, mi.se, f"{says} {rate}".strip(), "decides" if low else "fine", NATS, mi.cap)


def _signal(e: Evidence) -> Finding:
    if e.directions is None:
        return _unknown("signal", Unavailable("the posterior's mean is not known"))
    best = e.directions.units.max().item()
    if e.directions.ratios is not None:
        best = max(best, (e.directions.ratios[0] / (1 + e.directions.ratios[0])).item())
    n = len(e.figures.rows.items)
    se = 2 * math.sqrt(max(best, 0.0)) * (1 - best) / math.sqrt(n)  # That of a squared correlation.
    says = "q's parameters hardly vary with x" if best < 0.05 else "q's mean varies with x"
    return Finding("signal", best, se, says, "bad" if best < 0.05 else "fine", "", 1.0)


def _true_posterior(e: Evidence, then: Next, verdict: str) -> Finding:
    values = could_use(e)
    if values is None:
        return _unknown("true-posterior", e.refined if isinstance(e.refined, Unavailable) else Unavailable(""))
    cause = verdict in ("inference collapse", "model collapse")
    says = "not even z near the true posterior's is of use to the decoder: training the encoder more cannot help"
    if clear(values, LISTENS):
        says = "the decoder would use z from near the true posterior"
        if not isinstance(e.refined, Unavailable):
            rate, own = e.refined.rate.mean().item(), e.refined.own_rate.mean().item()
            says += f", whose rate is {rate:.2f} where the encoder's is {own:.2f}"
    return _of("true-posterior", values, says, "decides" if cause else "fine", None, then if cause else Next())


def _amortisation(e: Evidence, then: Next, idle: bool) -> Finding:
    if isinstance(e.refined, Unavailable):
        return _unknown("amortisation", e.refined)
    lags = clear(e.refined.gap, GAP)
    says = f"the encoder's answers {'can' if lags else 'can hardly'} be improved by steps on each item's bound"
    standing: Standing = "bad" if lags else "fine"
    return _of("amortisation", e.refined.gap, says, standing, None, then if lags and not idle else Next())


def _aggregate(e: Evidence, then: Next, verdict: str) -> Finding:
    found = e.figures.marginal_kl
    se = found.se if isinstance(found, Estimate) else None
    apart, decides = least_marginal_kl(e.figures), verdict in ("mismatched", "plain autoencoder")
    far = apart > MISMATCH
    says = "the prior draws what the decoder was not trained on" if far else "q(z) is near the prior, where it shows"
    standing: Standing = "decides" if decides else "bad" if far else "fine"
    then = then if decides else Next()
    return Finding("aggregate", apart, se, says, standing, "nats", MISMATCH, then.advice, then.command)


def _holes(e: Evidence, ways: Ways, used: Sequence[str]) -> Finding:
    if isinstance(e.holes, Unavailable):
        return _unknown("holes", e.holes)
    many = in_holes(e.holes)
    says = f"draws of the prior where codes are rare; {RARE:.0%} where q(z) is the prior"
    then = advised("holes", ways, used) if many else Next()
    standing: Standing = "bad" if many else "fine"
    return Finding("holes", e.holes.value, e.holes.se, says, standing, "", HOLES, then.advice, then.command)


def _noise(e: Evidence, verdict: str) -> Finding:
    share = noise_share(e)
    if share is None:
        return _unknown("noise", Unavailable("the posterior's mean is not known"))
    points = share < NARROW
    says = "codes are points beside the spread of z" if points else "posteriors overlap"
    return Finding("noise", share, None, says, "decides" if verdict == "plain autoencoder" else "fine", "", NARROW)


def _places(places: dict[Any, Tensor]) -> Finding:
    total = {place: values.sum().item() for place, values in places.items()}
    first = sum(value for (at, _), value in total.items() if at <= 3)
    # Sums of nats a token, so each stretch counts by what a token of it gains.
    told = ", ".join(
        f"{at}–{end} {values.mean().item():.2f}" if end else f"{at}+ {values.mean().item():.2f}"
        for (at, end), values in places.items()
    )
    whole = sum(total.values())
    share = first / whole if whole > 0 else math.nan
    return Finding("places", share, None, f"nats a token that z is worth, by token: {told}", "fine", "", 1.0)


def _of_training(e: Evidence, ways: Ways, verdict: str) -> Iterator[Finding]:
    if e.history is None:
        yield _unknown("training", Unavailable(FOREIGN))
        return
    if (fall := last_fall(e)) is None:
        yield _unknown("training", Unavailable("the log has fewer than three epochs"))
    else:
        still, then = falling(e), advised("under-trained", ways)
        standing: Standing = "decides" if verdict == "under-trained" else "bad" if still else "fine"
        says = "-ELBO was still falling when training stopped" if still else "-ELBO had stopped falling"
        if e.history.unfinished:
            says += f"; {e.history.unfinished}"
        told = then if still else Next()
        yield Finding("training", fall[0], None, says, standing, NATS, None, told.advice, told.command)
    if e.history.stability is not None:
        yield _stability(e.history.stability)


def _stability(found: Stability) -> Finding:
    moving = found.means < SETTLED
    says = "posterior means still change" if moving else "posterior means have settled"
    if found.widths is not None:
        says += f"; their widths have changed by {found.widths:.0%} since the look before"
    return Finding("stability", found.means, found.se, says, "bad" if moving else "fine", "", 1.0)


def _loss_scale(e: Evidence, ways: Ways, verdict: str) -> Finding:
    if isinstance(e.audit, Audit):
        return _of_audit(e.audit, ways, verdict)
    weight = None if e.history is None else e.history.rate_weight
    if weight is None:
        return Finding("loss-scale", None, None, e.audit.reason, "unknown", command=ways.audit())
    off = abs(weight - 1) > SLACK
    says = "what the KL was weighed by at the end" + (": the bound weighs it by 1" if off else "")
    standing: Standing = "bad" if off else "fine"
    climbs = e.history is not None and e.history.climbs
    then = advised("loss-scale" if climbs else "constant weight", ways) if off else Next()
    return Finding("loss-scale", weight, None, says, standing, "", 1.0, then.advice, then.command)


def _of_audit(found: Audit, ways: Ways, verdict: str) -> Finding:
    says = f"your effective KL weight: the loss is {found.distortion:.3g} distortion + {found.rate:.3g} KL"
    if found.unexplained > 0.05:
        says += f"; {found.unexplained:.0%} of its gradient is neither, so another likelihood or term is in it"
    advice = (
        f"Multiply the KL by {1 / found.beta:.3g}, or sum both over the item and average over items alone."
        if found.beta > 0 and mis_scaled(found.beta)
        else "The KL has no effect on this loss, or the wrong sign: look at its weight."
        if mis_scaled(found.beta)
        else ""
    )
    standing: Standing = "decides" if verdict == "loss mis-scaled" else "fine"
    then = ways.train() if mis_scaled(found.beta) else ""
    return Finding("loss-scale", found.beta, found.se, says, standing, "", 1.0, advice, then)
