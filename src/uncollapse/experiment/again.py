"""What makes a run again: the files and settings that its command names, from its spec and its recipe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from uncollapse.data.kinds import FILES, offered
from uncollapse.errors import InputError
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import Spec, validated


def files(data: Mapping[str, Any]) -> dict[str, str]:
    """The files of a data section by their splits; of a kind without files these are numbers of items."""
    there = FILES if offered(data["kind"]).files else ()
    return {name: str(data[name]) for name in there if data.get(name) is not None}


def beyond(said: Mapping[str, Any], recipe: str, remedies: str, trusted: bool = False) -> list[str]:
    """What a spec says and its recipe with its remedies does not, but for files and seed; path=value each.

    Arguments:
        said: The spec, as data.
        recipe, remedies: Their names.
        trusted: See `spec.validated`.

    Raises:
        InputError: where there are no such, as of another version or of somebody's own catalogue.
    """
    usual = _spec(recipe, remedies, said["data"], [], trusted).model_dump(mode="json")
    return [f"{path}={value}" for path, value in _differing(said, usual) if path != "seed"]


def taken(
    settings: Iterable[str], recipe: str, remedies: str, data: Mapping[str, Any], trusted: bool = False
) -> list[str]:
    """Those of some settings that a recipe takes with some remedies, which may not be those that they were made for.

    Arguments:
        settings: path=value each.
        recipe, remedies: Their names.
        data: The data section of the run that the settings are of.
        trusted: See `spec.validated`.
    """
    found: list[str] = []
    for one in settings:
        with suppress(InputError):
            _spec(recipe, remedies, data, [*found, one], trusted)
            found.append(one)
    return found


def _spec(recipe: str, remedies: str, said: Mapping[str, Any], overrides: Sequence[str], trusted: bool) -> Spec:
    """The spec of a recipe with remedies on the data that a data section says."""
    base = compose(recipe, [remedies], overrides)
    data = {**base.get("data", {}), "kind": said["kind"], **files(said)}
    return validated({**base, "data": data}, trusted)


def _differing(spec: Mapping[str, Any], usual: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """The entries of a spec that are not the usual ones, as a path and JSON."""
    for key, value in spec.items():
        other = usual.get(key) if isinstance(usual, dict) else None
        if isinstance(value, dict) and isinstance(other, dict) and value and other:
            yield from _differing(value, other, f"{before}{key}.")
        elif value != other:
            yield f"{before}{key}", json.dumps(value)
