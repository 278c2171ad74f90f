"""Dotted paths into the sections of a spec: which there are, and errors that name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from uncollapse.errors import InputError, cut, quoted
from uncollapse.experiment.sections import Choice

Models = list[type[BaseModel]]


def locate(root: type[BaseModel], path: str, value: object, data: Any = None) -> tuple[str, ...]:
    """The keys that a dotted path leads through.

    Tables have keys that hold dots: of "training.dials.objective.weights.rate.start" the last name is an entry of a
    dial. What leads to an entry is one; else, where `value` is a mapping, all is the key.

    Arguments:
        root: The spec's model.
        path: The path.
        value: What is to stand there.
        data: The spec so far, whose own kinds have entries that no table knows.

    Raises:
        InputError: where there is no such path in any kind of any section.
    """
    keys: list[str] = []
    here, rest = [root], path.split(".")
    while rest:
        name, *rest = rest
        annotation = _annotation(here, name)
        if annotation is None:
            raise unknown_path(root, path, entries(here))
        keys.append(name)
        data = _entry(data, name)
        if rest and get_origin(annotation) is dict:
            length = _key(rest, sections(annotation), value)
            if length == 0:
                there = ", ".join(entries(sections(annotation)))
                raise InputError(f"`{path}` is {quoted(value)}: it should be a mapping with {there}.")
            keys.append(".".join(rest[:length]))
            data, rest = _entry(data, keys[-1]), rest[length:]
        own = _entry(data, "kind")
        here = sections(annotation, own if isinstance(own, str) and ":" in own else None)
    return tuple(keys)


def _key(names: Sequence[str], models: Models, value: object) -> int:
    """How many of the names after a table's are the key in it."""
    if not models:
        return len(names)
    whole = len(names) if isinstance(value, Mapping) else len(names) - 1
    return next((n for n in range(1, len(names)) if _leads(models, names[n:], value)), whole)


def _leads(models: Models, names: Sequence[str], value: object) -> bool:
    for name in names:
        annotation = _annotation(models, name)
        if annotation is None or get_origin(annotation) is dict:
            return annotation is not None
        models = sections(annotation)
    return bool(models) or not isinstance(value, Mapping)


def models_at(root: type[BaseModel], keys: Sequence[str], data: Any) -> Models:
    """The models that may stand at some keys, of the kinds that the data chose on the way."""
    here, rest = [root], list(keys)
    while rest:
        name = rest.pop(0)
        annotation, data = _annotation(here, name), _entry(data, name)
        if rest and get_origin(annotation) is dict:
            data = _entry(data, rest.pop(0))
        here = sections(annotation, _entry(data, "kind"))
    return here


def unknown_path(root: type[BaseModel], path: str, there: Sequence[str]) -> InputError:
    """The error for a path that does not exist, with the nearest one and what there is at its place."""
    known, path = every_path(root), cut(path)
    near = get_close_matches(_last(path), list(map(_last, known)), n=1)
    close = get_close_matches(path, known, n=1) or [one for one in known if _last(one) in near]
    hint = f" Did you mean `{min(close, key=lambda one: one.count('.'))}`?" if close else ""
    return InputError(f"unknown path `{path}`.{hint} There is: {', '.join(there) or 'nothing below it'}.")


@cache
def every_path(root: type[BaseModel]) -> list[str]:
    """All dotted paths, `<name>` for the free name of a table."""
    paths: list[str] = []
    for name in root.model_fields:
        annotation = _annotation([root], name)
        below = f"{name}.<name>" if get_origin(annotation) is dict else name
        paths += [name, *(f"{below}.{path}" for m in sections(annotation) for path in every_path(m))]
    return list(dict.fromkeys(paths))


def sections(annotation: Any, kind: object = None) -> Models:
    """The models in a type, such as both of `A | B | None`; of a choice that one of this kind, where there is one."""
    for choice in getattr(annotation, "__metadata__", ()):
        if isinstance(choice, Choice):
            return [*choice.sections(kind)]
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation] if issubclass(annotation, BaseModel) else []
    found = [model for inner in get_args(annotation) for model in sections(inner, kind)]
    return [model for model in found if kind in kinds([model])] or found


def entries(models: Models) -> list[str]:
    """The names of the models' entries."""
    return list(dict.fromkeys(name for model in models for name in model.model_fields))


def kinds(models: Models) -> list[str]:
    """What the entry `kind` of the models may be."""
    chosen = [model.model_fields["kind"] for model in models if "kind" in model.model_fields]
    return [kind for field in chosen for kind in get_args(field.annotation)]


def _annotation(models: Models, name: str) -> Any:
    """The type of an entry of some models, with what marks it."""
    for field in [m.model_fields[name] for m in models if name in m.model_fields]:
        return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return None


def _entry(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, Mapping) else None


def _last(path: str) -> str:
    return path.rpartition(".")[2]
