"""What makes a run again: the files and settings that its command names, from its spec and its recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from uncollapse.data.kinds import FILES, offered
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated


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
    base = compose(recipe, [remedies])
    data = {**base.get("data", {}), "kind": said["data"]["kind"], **files(said["data"])}
    usual = validated({**base, "data": data}, trusted).model_dump(mode="json")
    return [f"{path}={value}" for path, value in _differing(said, usual) if path != "seed"]


def _differing(spec: Mapping[str, Any], usual: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """The entries of a spec that are not the usual ones, as a path and JSON."""
    for key, value in spec.items():
        other = usual.get(key) if isinstance(usual, dict) else None
        if isinstance(value, dict) and isinstance(other, dict) and value and other:
            yield from _differing(value, other, f"{before}{key}.")
        elif value != other:
            yield f"{before}{key}", json.dumps(value)
