"""`remedies`, `recipes` and `parts`: what there is to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from uncollapse.cli import show
from uncollapse.errors import unknown

if TYPE_CHECKING:
    from uncollapse.experiment.catalogue import Recipe, Remedy


def remedies(name: str | None = None, /, *, refused: bool = False, json: bool = False) -> None:
    """List the remedies against collapse, or show all of one.

    Arguments:
        name: Of a remedy.
        refused: List those that cannot be combined, and why, as in docs/combining.md.
        json: Print as JSON.
    """
    from uncollapse.experiment import catalogue

    there = catalogue.remedies()
    if name is not None and name not in there:
        raise unknown("remedy", name, there)
    if refused:
        _refused(name, json)
    elif name is not None or json:
        _print("remedy", there, name, json)
    else:
        body = [[one.name, one.place or "none", one.says] for one in there.values()]
        show.table([["name", "place", "what it does"], *body])


def _refused(name: str | None, json: bool) -> None:
    """Those that cannot be combined, of one remedy or of all."""
    from uncollapse.experiment import catalogue

    found = [one for one in catalogue.refusals() if name is None or name in (*one.these, *one.those)]
    if json:
        show.document([one.model_dump() for one in found])
    else:
        show.say(*(map(str, found) if found else ["Nothing is refused beside it but what sets the same values."]))


def recipes(name: str | None = None, /, *, json: bool = False) -> None:
    """List the recipes, the specs to start from, or show all of one.

    Arguments:
        name: Of a recipe.
        json: Print as JSON.
    """
    from uncollapse.experiment import catalogue

    there = catalogue.recipes()
    if name is not None or json:
        _print("recipe", there, name, json)
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


def _print(kind: str, there: Mapping[str, Remedy | Recipe], name: str | None, json: bool) -> None:
    import yaml

    if name is None:
        show.document({key: one.model_dump(mode="json") for key, one in there.items()})
        return
    if name not in there:
        raise unknown(kind, name, there)
    content = there[name].model_dump(mode="json")
    if json:
        show.document(content)
    else:
        print(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100), end="")
