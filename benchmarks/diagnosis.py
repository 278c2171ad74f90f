"""Does the diagnosis name the state of models whose state is computed, and does it leave healthy ones alone?

    python benchmarks/diagnosis.py [CASES [PART]]

draws models from parametric families, whose true posteriors are known in closed form or by a grid; in all but one the
disease is put in by hand, and nothing is trained. The first half of the cases shows what each threshold does; the
second half, and as many cases from fresh seeds, are the confusion tables of docs/results/diagnosis.md. Twelve minutes
on one core.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter, defaultdict
from typing import NamedTuple

import torch

from diagnosis_cases import CASES
from diagnosis_structured import STRUCTURED
from uncollapse.diagnosis import verdicts
from uncollapse.diagnosis.evidence import Evidence, gathered
from uncollapse.metrics.estimate import Estimate

SEED, FRESH = 20261126, 987_654
#: What each threshold is tried at; its value in use is among them.
TRIED = {
    "NEGLIGIBLE": (0.03, 0.05, 0.1, 0.2, 0.4),
    "LISTENS": (0.03, 0.1, 0.3, 0.5, 1.0),
    "UNIT": (0.003, 0.01, 0.03, 0.1),
    "SURE": (2.0, 3.0, 4.0),
    "MISMATCH": (0.5, 1.0, 1.5, 2.0),
    "NARROW": (0.003, 0.01, 0.03),
    "FACTOR": (2.0, 4.0, 8.0),
}
#: The same of the finding `holes`.
HOLES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
FAMILIES = (*CASES, *STRUCTURED)


class Seen(NamedTuple):
    family: str
    truth: str
    gap: float
    evidence: Evidence


def measured(count: int, seed: int) -> list[Seen]:
    found = []
    for k in range(count):
        torch.manual_seed(seed + k)
        family = FAMILIES[k % len(FAMILIES)]
        case = family(random.Random(seed + k))
        evidence = gathered(case.model, case.x, case.loss, seed=k)
        found.append(Seen(family.__name__, case.truth, case.gap, evidence))
        if k % 40 == 39:
            print(f"{k + 1} of {count}", file=sys.stderr, flush=True)
    return found


def confusion(seen: list[Seen]) -> None:
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for one in seen:
        counted[one.truth][verdicts.state(one.evidence)] += 1
    said = sorted({name for row in counted.values() for name in row})
    print(f"\n| truth | cases | {' | '.join(said)} | named |\n|{'---|' * (len(said) + 3)}")
    for truth, row in sorted(counted.items()):
        share = "" if truth == "borderline" else f"{row[truth] / row.total():.1%}"
        print(f"| {truth} | {row.total()} | {' | '.join(str(row[name] or '') for name in said)} | {share} |")


def wrong(seen: list[Seen]) -> tuple[int, int]:
    """How many healthy models are called ill, and how many ill ones something else than what they are."""
    told = [(one.truth, verdicts.state(one.evidence)) for one in seen if one.truth != "borderline"]
    alarms = sum(truth == "healthy" != said for truth, said in told)
    return alarms, sum(truth not in ("healthy", said) for truth, said in told)


def thresholds(seen: list[Seen]) -> None:
    print("\n| threshold | value | false alarms | diseases missed |\n|---|---|---|---|")
    for name, values in TRIED.items():
        used = getattr(verdicts, name)
        for value in values:
            setattr(verdicts, name, value)
            alarms, missed = wrong(seen)
            print(f"| {name} | {value:g}{' (in use)' if value == used else ''} | {alarms} | {missed} |")
        setattr(verdicts, name, used)


def gaps(seen: list[Seen]) -> None:
    """Which healthy models are said to have holes in q(z), by the share of the prior that no item's z is in."""
    known = [(one.gap > 0, one.evidence.holes) for one in seen if one.truth == "healthy"]
    known = [(there, found) for there, found in known if isinstance(found, Estimate)]
    print("\n| HOLES | of models without one | of models with one |\n|---|---|---|")
    for value in HOLES:
        used, verdicts.HOLES = verdicts.HOLES, value
        told = Counter((there, verdicts.in_holes(found)) for there, found in known)
        verdicts.HOLES = used
        shares = (f"{told[there, True]} of {told[there, True] + told[there, False]}" for there in (False, True))
        print(f"| {value:g}{' (in use)' if value == used else ''} | {' | '.join(shares)} |")


def failures(seen: list[Seen]) -> None:
    for one in seen:
        said = verdicts.state(one.evidence)
        if one.truth not in (said, "borderline"):
            print(f"- {one.family}: {one.truth}, called {said}")


def main(count: int = 480, only: int | None = None) -> None:
    torch.set_num_threads(1)
    half = count // 2
    parts = (
        ("The first half, by which thresholds are looked at", SEED),
        ("The second half", SEED + half),
        ("Fresh", FRESH),
    )
    for part, (name, seed) in enumerate(parts):
        if only not in (None, part):
            continue
        began = time.process_time()
        seen = measured(half, seed)
        print(f"\n## {name} ({half} cases, {(time.process_time() - began) / half:.1f} s each)")
        confusion(seen)
        if part == 0:
            thresholds(seen)
        gaps(seen)
        failures(seen)
        sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
