"""What a diagnosis says: a verdict of a closed list, and findings, each a number with its meaning and the next step."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from uncollapse.documents import finite
from uncollapse.errors import unknown

#: Every verdict, and what it says.
VERDICTS = {
    "healthy": "z tells of x what the decoder can use, and is the prior's",
    "partly collapsed": "less than half of z is in use",
    "inference collapse": "the encoder's z is of no use, and the true posterior's would be: the encoder fails",
    "model collapse": "no z is of use to the decoder, not even the true posterior's: it does without",
    "collapsed": "z is of no use, and whether encoder or decoder fails is not known",
    "mismatched": "what the prior draws is not what the decoder was trained on",
    "plain autoencoder": "codes are points far from the prior: there is no latent variable to draw from",
    "loss mis-scaled": "the loss weighs the KL otherwise than the bound, by more than a factor of 4",
    "under-trained": "the bound was still getting better when training stopped",
    "no latents": "the model has no latent variable: -ELBO is the exact NLL",
    "unknown": "the model does not say what is needed",
}

#: Every finding, and what its number is.
FINDINGS = {
    "use": "how much more the distortion is under a z that says nothing of x than under its own, nats an item",
    "information": "the mutual information of x and z under q, nats an item",
    "units": "how many units, or directions, of z x and the decoder both use",
    "positions": "how many positions of a z with a shape, or blocks of them, x and the decoder both use",
    "signal": "the largest share of the variance of z in one direction that x explains",
    "true-posterior": "what another item's z would cost with z from near the true posteriors, nats an item",
    "amortisation": "how much better the bound is with posteriors refined item by item, nats an item",
    "aggregate": "how far q(z) is from the prior at least, nats",
    "holes": "the share of prior draws that lie where codes are rarer than where 5 % of them lie",
    "noise": "the share of the variance of z that is noise, in the middle one of its directions",
    "places": "of a text, the share of `use` that falls on the first three tokens",
    "stability": "the correlation of posterior means between the last two probes of a run",
    "training": "how much -ELBO fell in the last two epochs, nats an item",
    "loss-scale": "the effective weight of the KL in the loss that is trained by",
}

#: How bad a finding is: what decides the verdict, what else is wrong, what is fine, what nobody can say.
Standing = Literal["decides", "bad", "fine", "unknown"]
_ORDER = ("decides", "bad", "fine", "unknown")


class Next(NamedTuple):
    """What to do, and the next command, or line of Python."""

    advice: str = ""
    command: str = ""


@dataclass(frozen=True)
class Finding:
    """A number about a model, what it means, and what to do.

    Arguments:
        name: One of `FINDINGS`.
        value: The number; None where it is not known, and then `meaning` says why.
        se: Its standard error; None where it has none.
        meaning: In words.
        standing: How bad it is.
        unit: Of the number.
        limit: What it cannot exceed, or the threshold that it is held against; None where there is neither.
        advice: What to do.
        command: The next command, or line of Python.
    """

    name: str
    value: float | None
    se: float | None
    meaning: str
    standing: Standing = "fine"
    unit: str = ""
    limit: float | None = None
    advice: str = ""
    command: str = ""

    def __post_init__(self) -> None:
        if self.name not in FINDINGS:
            raise unknown("finding", self.name, FINDINGS)

    def to_json(self) -> dict[str, Any]:
        """The fields, with None for what is not finite."""
        return finite(asdict(self))

    @property
    def number(self) -> str:
        """The value with its error and limit."""
        if self.value is None:
            return "not known"
        error = "" if self.se is None or self.se != self.se else f" ± {_short(self.se, 2)}"
        limit = "" if self.limit is None else f" of {self.limit:.4g}"
        return f"{_short(self.value, 3)}{error}{limit} {self.unit}".rstrip()


@dataclass(frozen=True)
class Diagnosis:
    """A verdict and its findings, the weightiest first.

    Arguments:
        verdict: One of `VERDICTS`.
        why: The evidence, in one line.
        findings: In any order.
        warnings: What the reader should know of how the model was run.
    """

    verdict: str
    why: str
    findings: Sequence[Finding]
    warnings: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise unknown("verdict", self.verdict, VERDICTS)
        ordered = sorted(self.findings, key=lambda finding: _ORDER.index(finding.standing))
        object.__setattr__(self, "findings", tuple(ordered))

    def __getitem__(self, name: str) -> Finding:
        """The finding of a name."""
        found = {finding.name: finding for finding in self.findings}
        if name not in found:
            raise unknown("finding", name, found)
        return found[name]

    def to_json(self) -> dict[str, Any]:
        """Verdict, evidence, findings and warnings."""
        return {
            "verdict": self.verdict,
            "why": self.why,
            "findings": [finding.to_json() for finding in self.findings],
            "warnings": list(self.warnings),
        }

    def lines(self, width: int = 110) -> list[str]:
        """The diagnosis as lines of text, the verdict first; each finding one to three of them."""
        said = textwrap.wrap(f"{self.verdict}: {self.why}", width)
        for finding in self.findings:
            mark = {"decides": "!!", "bad": "! ", "fine": "  ", "unknown": "? "}[finding.standing]
            said += [""] * (finding is self.findings[0])
            said += _wrapped(f"{mark} {finding.name:<14} ", f"{finding.number}: {finding.meaning}", width)
            if finding.standing in ("decides", "bad") and finding.advice:
                said += _wrapped(" " * 18, finding.advice, width)
                said += [" " * 20 + finding.command] if finding.command else []
        return [*said, *(f"warning: {text}" for text in self.warnings)]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}g}" if abs(value) >= 1e-6 else "0"


def _wrapped(start: str, text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, width - len(start), break_long_words=False, break_on_hyphens=False)
    return [start + lines[0], *(" " * len(start) + line for line in lines[1:])]
