"""What is wrong with a spec, in words: one line for each of the entries that validation refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from uncollapse.errors import cut, quoted
from uncollapse.experiment.paths import Models, entries, every_path, kinds, models_at, unknown_path


def explained(root: type[BaseModel], data: Mapping[str, Any], error: Any) -> str:
    """One wrong entry in words, from pydantic's account of it."""
    keys, kind = [str(key) for key in error["loc"]], error["type"]
    path, models = cut(".".join(keys)), models_at(root, keys, data)
    if kind == "extra_forbidden":
        return _out_of_place(root, path, models_at(root, keys[:-1], data))
    if kind == "missing":
        return f"`{path}` is missing: give it, as in `--set {path}=...`"
    if kind == "no_kind":
        return f"`{path}.kind` is missing: it should be one of {', '.join(kinds(models))}"
    if kind == "unknown_kind":
        return f"`{path}.kind` is {cut(error['ctx']['kind'])}: it should be one of {', '.join(kinds(models))}"
    if kind == "no_part":
        return f"`{path}.kind`: {error['msg']}"
    if models and kind not in ("dict_type", "value_error"):
        return f"`{path}` is {quoted(error['input'])}: it should be a mapping with {', '.join(entries(models))}"
    says = error["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return f"`{path}` is {quoted(error['input'])}: {says}"


def _out_of_place(root: type[BaseModel], path: str, models: Models) -> str:
    if path in every_path(root):
        section = path.rpartition(".")[0]
        kind = ", ".join(kinds(models))
        return f"`{path}` has no meaning where `{section}.kind` is {kind}: there is {', '.join(entries(models))}"
    return str(unknown_path(root, path, entries(models)))
