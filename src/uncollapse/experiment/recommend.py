"""What to try first, from what was measured on data of the same kind and from the diagnosis of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal, NamedTuple

from pydantic import Field

from uncollapse.diagnosis.findings import Diagnosis, Next
from uncollapse.errors import InputError
from uncollapse.experiment.catalogue import FOLDER, parse
from uncollapse.experiment.sections import Section

#: How many remedies are named.
FIRST = 3
#: Nats of mutual information from which on z says more.
SAYS = 0.1
#: Standard errors beyond which a difference is one.
BEYOND = 2.0


class Row(Section):
    """What came of a remedy in a study; see `evidence.yaml`."""

    nll: list[float] | None = None
    mi: float | None = None
    accuracy: float | None = None
    time: float | None = None

    def beyond(self, sign: int) -> bool:
        """Whether its NLL is known to be above plain training's (1), or below it (-1)."""
        return self.nll is not None and sign * self.nll[0] > BEYOND * self.nll[1]


class Study(Section):
    """Remedies that were trained on the same data.

    Arguments:
        data: The kinds of data that it says something of.
        says: What it was, in words.
        source: The document that has it.
        seeds: How many.
        measure: What its remedies are told apart by.
        rows: By remedy.
    """

    data: list[str]
    says: str
    source: str
    seeds: int
    measure: Literal["nll", "accuracy"] = "nll"
    rows: dict[str, Row] = Field(default_factory=dict)

    def tell(self, remedy: str) -> str:
        """The evidence for a remedy, in a sentence."""
        row, plain = self.rows[remedy], self.rows.get("plain", Row())
        parts = []
        if row.accuracy is not None:
            parts.append(f"accuracy {row.accuracy:.3f}{_beside(plain.accuracy, '.3f')}")
        if row.nll is not None:
            parts.append(f"NLL {row.nll[0]:+.2f} ± {row.nll[1]:.2f} nats to plain")
        if row.mi is not None:
            parts.append(f"MI {row.mi:.2f}{_beside(plain.mi, '.2f')} nats")
        if row.time is not None:
            parts.append(f"{row.time:g} times plain's time")
        seeds = "one seed" if self.seeds == 1 else f"{self.seeds} seeds"
        return f"{', '.join(parts)}: {self.says}, {seeds} ({self.source})"


def _beside(value: float | None, digits: str) -> str:
    return "" if value is None else f" (plain {value:{digits}})"


class Advice(NamedTuple):
    """A remedy to try, with all that was measured of it."""

    remedy: str
    evidence: list[str]


class Recommendation(NamedTuple):
    """What to try first.

    Arguments:
        verdict: Of the run that it is for, and why; empty where there is none.
        next: What the diagnosis says to do.
        first: The remedies to try, the best first.
        found_wanting: Those under which z said nothing, or the NLL was worse, with the evidence.
        studied: What was measured on data of this kind, in words.
    """

    verdict: str
    next: Next
    first: list[Advice]
    found_wanting: list[Advice]
    studied: list[str]


@cache
def studies() -> dict[str, Study]:
    """What was measured, by name."""
    said = parse(FOLDER.joinpath("evidence.yaml").read_text("utf-8"), "evidence.yaml")
    return {name: Study(**entry) for name, entry in said.items()}


def recommend(kind: str, used: Sequence[str] = (), diagnosis: Diagnosis | None = None) -> Recommendation:
    """What to try first on data of a kind.

    A remedy counts where, in its study with the most seeds, z says more than under plain training and the NLL is not
    higher; where plain training did not collapse, or nothing is known of z, a lower NLL counts too, each beyond two
    standard errors. In a study of accuracy it counts where it is right more often than not. First is the one with the
    lowest NLL, or the highest accuracy, several seeds before one.

    Arguments:
        kind: Of data, such as "text".
        used: The remedies that were tried already.
        diagnosis: Of the run that is to be improved.

    Raises:
        InputError: where nothing was measured on data of this kind, and no run is diagnosed.
    """
    told = [study for study in studies().values() if kind in study.data]
    if not told and diagnosis is None:
        there = sorted({one for study in studies().values() for one in study.data})
        raise InputError(
            f"nothing was measured on data of the kind `{kind}`; there is evidence of {', '.join(there)}. Compare on "
            f"yours: `uncollapse compare {kind} --remedies core`."
        )
    tried = {*used, "plain", "language-model", "without-z"}
    every = dict.fromkeys(name for study in told for name in study.rows if name not in tried)
    good = [name for name in every if _helps(name, told)]
    good.sort(key=lambda name: _rank(name, told))
    verdict = f"{diagnosis.verdict}: {diagnosis.why}" if diagnosis else ""
    advised = [f for f in (diagnosis.findings if diagnosis else ()) if f.advice and f.standing in ("decides", "bad")]
    return Recommendation(
        verdict,
        Next(advised[0].advice, advised[0].command) if advised else Next(),
        [Advice(name, _evidence(name, told)) for name in good[:FIRST]],
        [Advice(name, _evidence(name, told)) for name in every if name not in good],
        [f"{study.says} ({study.source})" for study in told],
    )


def _of(remedy: str, told: Iterable[Study]) -> list[Study]:
    """The studies of a remedy, those with the most seeds first."""
    return sorted((study for study in told if remedy in study.rows), key=lambda study: -study.seeds)


def _helps(remedy: str, told: Iterable[Study]) -> bool:
    """Whether it does in the study with the most seeds."""
    study = _of(remedy, told)[0]
    row, plain = study.rows[remedy], study.rows.get("plain", Row())
    if study.measure == "accuracy":
        return (row.accuracy or 0) > 0.5
    more, collapsed = (row.mi or 0) > (plain.mi or 0) + SAYS, plain.mi is not None and plain.mi <= SAYS
    # Where plain training collapses, a lower NLL alone is that of another model that does.
    return not row.beyond(1) and (more or (row.beyond(-1) and not (collapsed and row.mi is not None)))


def _rank(remedy: str, told: Iterable[Study]) -> tuple[bool, float]:
    """Several seeds go before one; then what its study measures."""
    study = _of(remedy, told)[0]
    row = study.rows[remedy]
    value = -(row.accuracy or 0) if study.measure == "accuracy" else (row.nll or (0.0, 0.0))[0]
    return study.seeds == 1, value


def _evidence(remedy: str, told: Iterable[Study]) -> list[str]:
    return [study.tell(remedy) for study in _of(remedy, told)]
