"""`recommend`: what to try first, every sentence with its evidence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from uncollapse.cli import show
from uncollapse.cli.values import Items, Seed

if TYPE_CHECKING:
    from uncollapse.experiment.recommend import Advice, Recommendation

#: From the remedies that are to follow to the beginning of a command.
Start = Callable[[str], str]


def recommend(of: str, /, *, items: Items = 1000, seed: Seed = 0, trust: bool = False, json: bool = False) -> None:
    """Say what to try first, on data of a kind or for a run, each with what was measured of it.

    Arguments:
        of: A run's folder, which is diagnosed first; or what to train on, by the name of a kind of data or of a recipe.
        items: About how many items of a run to look at.
        seed: Of the noise of the diagnosis.
        trust: Import the code of others that the run's spec names, and run it.
        json: Print it as JSON.
    """
    from uncollapse.experiment import recommend as evidence

    if Path(of).is_dir():
        found, start = _of_run(Path(of), items, seed, trust, json)
    else:
        from uncollapse.cli.options import Options

        kind, _ = Options().chosen(of)
        found, start = evidence.recommend(kind), lambda remedies: f"uncollapse fit {of}"
    if json:
        return show.document({**found._asdict(), "next": found.next._asdict(), **_advised(found)})
    show.say(*_lines(found, start))


def _of_run(run: Path, items: int, seed: int, trust: bool, quiet: bool) -> tuple[Recommendation, Start]:
    """What to try after a run, and how the commands begin."""
    from uncollapse.experiment import examine
    from uncollapse.experiment.recommend import recommend
    from uncollapse.experiment.run import read_environment, read_spec
    from uncollapse.experiment.spec import validated

    with show.reading(quiet=quiet) as tell:
        diagnosis = examine.of_run(run, "test", items, seed, trust, tell)
    spec, asked = validated(read_spec(run), trust), read_environment(run)["asked"]
    used = str(asked.get("remedy", "plain"))
    found = recommend(getattr(spec.data, "kind", ""), [used, *used.split("+")], diagnosis)
    return found, lambda remedies: examine.start(spec, asked, remedies)


def _advised(found: Recommendation) -> dict[str, list[dict[str, object]]]:
    return {name: [one._asdict() for one in getattr(found, name)] for name in ("first", "found_wanting")}


def _lines(found: Recommendation, start: Start) -> list[str]:
    lines = [found.verdict, *filter(None, found.next)]
    if found.first:
        lines += ["", "Try first, of what was measured on data of this kind:"]
        lines += [line for i, one in enumerate(found.first, 1) for line in _of_one(i, one, start)]
    if found.found_wanting:
        names = ", ".join(one.remedy for one in found.found_wanting)
        lines += ["", f"Did not help there: {names}."]
    what = "; ".join(found.studied) or "nothing on data of this kind"
    lines += [
        "",
        f"Measured: {what}. These sets and networks are small; yours may differ.",
        f"Hold what you choose against the decoder alone: {start('plain').replace(' fit ', ' compare ', 1)} "
        "--remedies core --out cmp/",
    ]
    return lines if found.verdict else lines[2:]  # No verdict, and the blank behind it.


def _of_one(number: int, one: Advice, start: Start) -> list[str]:
    command = f"{start(one.remedy)} --with {one.remedy}"
    return [f"{number}. {one.remedy}: {command}", *(f"   {said}" for said in one.evidence)]
