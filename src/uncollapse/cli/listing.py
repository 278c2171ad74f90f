"""`remedies`, `recipes` and `parts`: what there is to choose from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from uncollapse.cli import show
from uncollapse.errors import unknown
from uncollapse.experiment.sections import GIVEN

if TYPE_CHECKING:
    from uncollapse.experiment.catalogue import Claim, Remedy

M = TypeVar("M")


def remedies(
    name: str | None = None, /, *, catalogue: Path | None = None, refused: bool = False, json: bool = False
) -> None:
    """List the remedies against collapse, or tell all of one.

    Arguments:
        name: Of a remedy.
        catalogue: A file of remedies of yours, beside ours.
        refused: List those that cannot be combined, and why, as in docs/combining.md.
        json: Print as JSON.
    """
    from uncollapse.experiment.catalogue import in_full, remedies

    there = remedies(catalogue)
    name = None if name is None else in_full(name, there)
    one = None if name is None else _named("remedy", there, name)
    if refused:
        _refused(name, json)
    elif one is not None:
        show.document(one.model_dump(mode="json")) if json else show.entries(_told(one))
    elif json:
        show.document([_in_short(one) for one in there.values()])
    else:
        body = [[one.name, one.place or "none", one.says] for one in there.values()]
        show.table([["name", "place", "what it does"], *body])


def _refused(name: str | None, json: bool) -> None:
    """Those that cannot be combined, of one remedy or of all."""
    from uncollapse.experiment.catalogue import refusals

    found = [one for one in refusals() if name is None or name in (*one.these, *one.those)]
    if json:
        show.document([one.model_dump() for one in found])
    else:
        show.say(*(map(str, found) if found else ["Nothing is refused beside it but what sets the same values."]))


def _in_short(one: Remedy) -> dict[str, Any]:
    cite = [source.model_dump(mode="json") for source in one.cite]
    return {"name": one.name, "place": one.place, "says": one.says, "cite": cite, "cost": one.costs}


def _told(one: Remedy) -> list[tuple[str, str]]:
    """All of a remedy, in words, by what each says."""
    sources = [f"{cite.title} ({cite.authors}, {cite.year}), {cite.url}" for cite in one.cite]
    told = [(one.name, one.says), ("place", one.place or "none"), ("formula", one.formula), ("when", one.when)]
    told += [("watch", one.watch), ("cost", one.costs), *(("numbers", number) for number in _numbers(one.patch))]
    told += [("needs", ", ".join(GIVEN[name] for name in one.needs)), ("your own networks", one.own_networks or "")]
    return [
        *told,
        *(("claimed", _claimed(claim, one.outcomes)) for claim in one.claims),
        *(("source", source) for source in sources),
    ]


def _claimed(claim: Claim, outcomes: Mapping[str, str]) -> str:
    by = "" if claim.margin == 0 else " within" if claim.direction == "same" else " by at least"
    claimed = f"{claim.metric} {claim.direction}{by}{f' {claim.margin:g}' if claim.margin else ''} ({claim.source})"
    outcome = outcomes.get(f"{claim.metric} {claim.direction}", "not tested")
    return f"{claimed}; here: {outcome}"


def _numbers(patch: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """What a patch sets, a path and a value each."""
    for key, value in patch.items():
        if isinstance(value, dict) and value:
            yield from _numbers(value, f"{before}{key}.")
        else:
            yield f"{before}{key} = {'null' if value is None else value}"


def recipes(name: str | None = None, /, *, json: bool = False) -> None:
    """List the recipes, the specs to start from, or show all of one.

    Arguments:
        name: Of a recipe.
        json: Print as JSON.
    """
    from uncollapse.experiment import catalogue

    there = catalogue.recipes()
    if name is not None:
        content = _named("recipe", there, name).model_dump(mode="json")
        show.document(content) if json else show.say(_yaml(content))
    elif json:
        show.document({key: one.model_dump(mode="json") for key, one in there.items()})
    else:
        show.table([["name", "what it is"], *([one.name, one.says] for one in there.values())])


def parts(slot: str | None = None, /, *, json: bool = False, markdown: bool = False) -> None:
    """List the parts that a spec may name, with their numbers, defaults and a sentence each.

    Arguments:
        slot: Where they go, such as terms.
        json: Print as JSON.
        markdown: Print as Markdown, as in docs/parts.md.
    """
    from uncollapse.experiment.described import every_part, in_markdown

    there = every_part()
    if slot is not None and slot not in there:
        raise unknown("slot", slot, there)
    there = there if slot is None else {slot: there[slot]}
    if json:
        show.document({name: {part.kind: part.to_json() for part in of} for name, of in there.items()})
    elif markdown:
        print(in_markdown(there))
    else:
        body = [[name, one.kind, one.says, one.numbers()] for name, of in there.items() for one in of]
        show.table([["slot", "part", "what it is", "numbers and defaults"], *body])


def _named(kind: str, there: Mapping[str, M], name: str) -> M:
    if name not in there:
        raise unknown(kind, name, there)
    return there[name]


def _yaml(content: Any) -> str:
    import yaml

    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100).rstrip("\n")
