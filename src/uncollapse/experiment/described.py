"""The parts in words: what `uncollapse parts` and the documentation print, from signatures and docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from uncollapse.experiment.parts import SLOTS, Itself, described
from uncollapse.experiment.sections import Choice


class Entry(NamedTuple):
    """A number, text or part that a section takes."""

    name: str
    required: bool
    default: Any
    """As JSON has it; None too where there is none."""

    def __str__(self) -> str:
        return self.name if self.required else f"{self.name}={_short(self.default)}"


class Part(NamedTuple):
    """A part that a spec may name."""

    kind: str
    says: str
    """The first sentence of its docstring."""
    entries: tuple[Entry, ...]

    def numbers(self) -> str:
        """Its entries in a line."""
        return ", ".join(map(str, self.entries))

    def to_json(self) -> dict[str, Any]:
        return {"says": self.says, "entries": {one.name: _json(one) for one in self.entries}}


def every_part() -> dict[str, list[Part]]:
    """The parts of every slot."""
    return {slot: [_part(slot, kind) for kind in table] for slot, table in SLOTS.items()}


def in_markdown(there: Mapping[str, Sequence[Part]]) -> str:
    """The parts as Markdown, a table a slot."""
    blocks = []
    for slot, parts in there.items():
        rows = [f"| `{one.kind}` | {_code(one)} | {one.says} |" for one in parts]
        head = [f"## {slot}", "", "| part | numbers and defaults | what it is |", "|---|---|---|"]
        blocks.append("\n".join([*head, *rows]) if rows else f"## {slot}\n\nNone yet; one of your own can be named.")
    return "\n\n".join(blocks)


def _part(slot: str, kind: str) -> Part:
    target = SLOTS[slot][kind]
    text = inspect.getdoc(target.part if isinstance(target, Itself) else target) or ""
    return Part(kind, " ".join(text.split("\n\n")[0].split()), tuple(_entries(described(slot, kind))))


def _entries(section: type[BaseModel], before: str = "") -> list[Entry]:
    """The entries of a section and of those within it, but for the parts within it, which have rows of their own."""
    found = []
    for name, field in section.model_fields.items():
        if isinstance(field.default, BaseModel) and not _is_part(field):
            found += _entries(type(field.default), f"{before}{name}.")
        elif name != "kind":
            default = None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})
            found.append(Entry(before + name, field.is_required(), to_jsonable_python(default)))
    return found


def _is_part(field: FieldInfo) -> bool:
    return any(isinstance(mark, Choice) for mark in field.metadata)


def _json(entry: Entry) -> dict[str, Any]:
    return {"required": True} if entry.required else {"default": entry.default}


def _code(part: Part) -> str:
    return ", ".join(f"`{one}`" for one in part.entries)


def _short(default: Any) -> str:
    if isinstance(default, dict):
        return default.get("kind", "{}")
    return "null" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
