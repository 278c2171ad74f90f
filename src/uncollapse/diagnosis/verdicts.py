"""Verdicts: does the model use its latent variable, and is it the prior's? In one sentence, and by a diagnosis."""

from __future__ import annotations

import math

from torch import Tensor

from uncollapse.diagnosis.audit import Audit
from uncollapse.diagnosis.evidence import Evidence
from uncollapse.metrics.estimate import Answer, Estimate, Unavailable, standard_error
from uncollapse.metrics.evaluation import Evaluation
from uncollapse.metrics.holes import RARE
from uncollapse.metrics.information import NO_UNITS, is_floor, marginal_kl_floor

#: Below this many nats z tells practically nothing about x, whatever the units' variances are.
NEGLIGIBLE = 0.1
#: From this many nats on that z from near the true posterior would be worth, the decoder is one that listens.
LISTENS = 0.3
#: From this many nats on, what the prior draws is not what the decoder was trained on; docs/metrics.md says why.
MISMATCH = 1.5
#: From this share of prior draws in holes on, many are new to the decoder; it is 0.05 where q(z) is the prior.
HOLES = 0.2
#: From this many nats on a unit, or a direction of z, is in use.
UNIT = 0.01
#: Noise that is less than this share of the variance of z makes points of codes.
NARROW = 0.01
#: A refined bound that is better by as many nats shows an encoder that lags.
GAP = 0.5
#: A loss that weighs the KL by more than this factor more or less than the bound.
FACTOR = 4.0
#: A fall of -ELBO within the last two epochs, in nats and as a share of it, that shows that there was more to come.
FALL, FALLING = 0.05, 0.002
#: Below this correlation with the look before, posterior means still change.
SETTLED = 0.9
#: How many standard errors make a difference.
SURE = 3.0

#: Why there is none but collapse on a model whose prior has no density.
UNBOUNDED = "z is used, and of a prior without density nothing tells whether its draws are like codes: `score` them"
#: Why there is no verdict on a model that tells labels.
OF_LABELS = "the model tells labels and writes no items, which is what verdicts are of"


def verdict(figures: Evaluation) -> str:
    """One sentence: "collapsed", "mismatched", "partly collapsed", "healthy", "unknown" or "no latents", and why.

    Collapsed: no unit is active, or the mutual information is below 0.1 nats. Mismatched: q(z) is more than 1.5 nats
    from the prior, beyond two standard errors. Partly collapsed: fewer than half of the units are active. The active
    units depend on the scale of the latent space; the mutual information does not. At its cap, the log of the number of
    items, it is said with the KL, in which codes that say all of an item show. Where the posterior depends on the path
    there is neither; a KL below 0.1 nats, over all its steps, is collapse there too.
    """
    if figures.mi == NO_UNITS:
        return "no latents: -ELBO is the exact NLL, and no bound"
    if figures.rows.of_labels:
        return f"unknown: {OF_LABELS}"
    units, mi = figures.active_units, figures.mi
    if figures.rows.law is None and isinstance(figures.kl, Estimate) and figures.kl.value < NEGLIGIBLE:
        return f"collapsed: KL {round(figures.kl.value, 2) + 0.0:.2f} nats over all steps"
    for answer in (units, mi):
        if isinstance(answer, Unavailable):
            return f"unknown: {answer.reason}"
    assert isinstance(units, Estimate)
    assert isinstance(mi, Estimate)
    # + 0.0: no minus zero.
    facts = f"{units.value:.0f} of {units.cap:.0f} units active, MI {round(mi.value, 2) + 0.0:.2f} nats"
    if mi.saturated and isinstance(figures.kl, Estimate):  # What that hides is in the rate.
        facts += f", at its cap (KL {figures.kl.value:.1f})"
    if units.value == 0 or mi.value < NEGLIGIBLE:
        return f"collapsed: {facts}"
    if figures.rows.unbounded:
        return f"unknown: {UNBOUNDED}; {facts}"
    if (apart := least_marginal_kl(figures)) > MISMATCH:
        far = f"KL(q(z) || p(z)) is at least {apart:.1f} nats"
        return f"mismatched: {far}: what the prior draws is not what the decoder was trained on; {facts}"
    if units.value < (units.cap or 0) / 2:
        return f"partly collapsed: {facts}"
    return f"healthy: {facts}"


def least_marginal_kl(figures: Evaluation) -> float:
    """KL(q(z) || p(z)) in nats less two standard errors, by what there is that does not read too high; 0 by nothing."""
    known: list[Answer | None] = [marginal_kl_floor(figures.rows.rate, figures.rows.law)]
    if isinstance(figures.mi, Estimate) and not is_floor(figures.mi):
        known.append(figures.marginal_kl)  # It reads too high by as much as the mutual information too low.
    least = [one.value - (one.bias or 0.0) - 2 * one.se for one in known if isinstance(one, Estimate)]
    return max([0.0, *(value for value in least if not math.isnan(value))])


def state(evidence: Evidence) -> str:
    """The verdict on a model by all that was measured of it; see `findings.VERDICTS`."""
    figures = evidence.figures
    if figures.mi == NO_UNITS:
        return "no latents"
    if figures.rows.of_labels:
        return "unknown"
    if isinstance(evidence.audit, Audit) and mis_scaled(evidence.audit.beta):
        return "loss mis-scaled"
    if isinstance(evidence.usage, Unavailable):
        return "unknown"
    if unused(evidence):
        return _collapse(evidence)
    if figures.rows.unbounded:
        return "unknown"
    if least_marginal_kl(figures) > MISMATCH:
        return "plain autoencoder" if (noise := noise_share(evidence)) is not None and noise < NARROW else "mismatched"
    used = units_used(evidence)
    if used is not None and used[0] < used[1] / 2:
        return "partly collapsed"
    return "under-trained" if falling(evidence) else "healthy"


def mis_scaled(beta: float) -> bool:
    """Whether a weight of the KL is another than the bound's by more than a factor of 4."""
    return not 1 / FACTOR <= beta <= FACTOR


def in_holes(found: Estimate) -> bool:
    """Whether so many draws of the prior are where codes are rare that it matters, beyond 3 standard errors."""
    return found.value > HOLES and found.value - SURE * found.se > RARE


def clear(values: Tensor, least: float) -> bool:
    """Whether the mean of figures, one an item, is at least so much, and more than 3 standard errors above 0."""
    return bool(values.mean() >= max(least, SURE * standard_error(values)))


def unused(evidence: Evidence) -> bool:
    """Whether z says next to nothing of x, or nothing that the decoder uses."""
    assert not isinstance(evidence.usage, Unavailable)
    mi = evidence.figures.mi
    little = isinstance(mi, Estimate) and mi.value < NEGLIGIBLE
    return little or not clear(evidence.usage.worth, NEGLIGIBLE)


def _collapse(evidence: Evidence) -> str:
    """By whose fault: He et al. (2019) call it the model's where the true posterior is the prior too."""
    could = could_use(evidence)
    if could is None:
        return "collapsed"
    return "inference collapse" if clear(could, LISTENS) else "model collapse"


def could_use(evidence: Evidence) -> Tensor | None:
    """What another item's z would cost, with posteriors near the true ones: refined, or resampled where that is better.

    With shape (n,), in nats an item; None where neither is to be had.
    """
    refined, resampled = evidence.refined, evidence.resampled
    ways = [
        *([] if isinstance(refined, Unavailable) else [refined.use]),
        *([] if isinstance(resampled, Unavailable) else [resampled]),
    ]
    return max(ways, key=lambda values: values.mean().item(), default=None)


def alive(evidence: Evidence) -> Tensor | None:
    """(U,) bool, which units, or channels, the decoder uses the own values of; None where none was taken by itself."""
    return None if isinstance(evidence.usage, Unavailable) else matter(evidence.usage.units)


def matter(cost: Tensor | None) -> Tensor | None:
    """(U,) bool, in which parts of z another item's values cost (M, U) 0.01 nats or more, beyond 3 standard errors."""
    return None if cost is None else cost.mean(0) >= (SURE * cost.std(0) / len(cost) ** 0.5).clamp(min=UNIT)


def units_used(evidence: Evidence) -> tuple[int, int] | None:
    """How many units, or directions where that is fewer, x and the decoder both use, and of how many."""
    counts, total = [], None
    if (units := alive(evidence)) is not None:
        counts, total = [int(units.sum())], len(units)
    found = evidence.directions
    if found is not None and (informative := found.informative(UNIT)) is not None and found.ratios is not None:
        total = total or len(found.ratios)
        counts.append(min(informative, total))
    return (min(counts), total) if total and counts else None


def noise_share(evidence: Evidence) -> float | None:
    """The share of the variance of z that is noise, in the middle one of its directions."""
    found = evidence.directions
    if found is None:
        return None
    shares = found.units.flatten() if found.ratios is None else found.ratios / (1 + found.ratios)
    return 1 - shares.median().item()


def falling(evidence: Evidence) -> bool:
    """Whether -ELBO was still getting better when training stopped, by its log."""
    return (fall := last_fall(evidence)) is not None and fall[0] > max(FALL, FALLING * abs(fall[1]))


def last_fall(evidence: Evidence) -> tuple[float, float] | None:
    """By how much -ELBO fell in the last two epochs, and where it stands; None without a log of three."""
    values = () if evidence.history is None else evidence.history.neg_elbo
    return (values[-3] - values[-1], values[-1]) if len(values) > 2 else None
