"""A verdict in words: does the model use its latent variable, and is it the prior's?"""

from __future__ import annotations

import math

from uncollapse.metrics.estimate import Answer, Estimate, Unavailable
from uncollapse.metrics.evaluation import Evaluation
from uncollapse.metrics.information import NO_UNITS, is_floor, marginal_kl_floor

#: Below this many nats z tells practically nothing about x, whatever the units' variances are.
NEGLIGIBLE = 0.1
#: From this many nats on, what the prior draws is not what the decoder was trained on; docs/metrics.md says why.
MISMATCH = 1.5


def verdict(figures: Evaluation) -> str:
    """One sentence: "collapsed", "mismatched", "partly collapsed", "healthy", "unknown" or "no latents", and why.

    Collapsed: no unit is active, or the mutual information is below 0.1 nats. Mismatched: q(z) is more than 1.5 nats
    from the prior, beyond two standard errors. Partly collapsed: fewer than half of the units are active. The active
    units depend on the scale of the latent space; the mutual information does not. Where the posterior depends on the
    path there is neither; a KL below 0.1 nats, over all its steps, is collapse there too.
    """
    if figures.mi == NO_UNITS:
        return "no latents: -ELBO is the exact NLL, and no bound"
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
    if units.value == 0 or mi.value < NEGLIGIBLE:
        return f"collapsed: {facts}"
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
