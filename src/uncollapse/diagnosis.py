"""A verdict in words: does the model use its latent variable?"""

from __future__ import annotations

from uncollapse.metrics.estimate import Estimate, Unavailable
from uncollapse.metrics.evaluation import Evaluation

#: Below this many nats z tells practically nothing about x, whatever the units' variances are.
NEGLIGIBLE = 0.1


def verdict(figures: Evaluation) -> str:
    """One sentence that begins with "collapsed", "partly collapsed", "healthy" or "unknown".

    Collapsed: no unit is active, or the mutual information is below 0.1 nats. Partly collapsed: fewer than half
    of the units are active. The active units depend on the scale of the latent space; the mutual information does not.
    """
    units, mi = figures.active_units, figures.mi
    for answer in (units, mi):
        if isinstance(answer, Unavailable):
            return f"unknown: {answer.reason}"
    assert isinstance(units, Estimate)
    assert isinstance(mi, Estimate)
    # + 0.0: no minus zero.
    facts = f"{units.value:.0f} of {units.cap:.0f} units active, MI {round(mi.value, 2) + 0.0:.2f} nats"
    if units.value == 0 or mi.value < NEGLIGIBLE:
        return f"collapsed: {facts}"
    if units.value < (units.cap or 0) / 2:
        return f"partly collapsed: {facts}"
    return f"healthy: {facts}"
