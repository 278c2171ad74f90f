"""Sections of a spec: what they refuse, and how one is made of the signature of the part that it describes."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, PlainValidator, create_model
from pydantic_core import PydanticCustomError, core_schema

from uncollapse.errors import InputError
from uncollapse.quantities import Said, Slot

M = TypeVar("M")


class Section(BaseModel):
    """A part of a spec: no unknown entry, no conversion of types, no number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Described(Section):
    """A section that was made of a signature."""

    _target: ClassVar[Callable[..., Any]]
    """What is called with the entries; no entry has a name that begins with an underscore."""


#: The names of parameters that no spec sets: who builds a part hands them over, from what there is.
GIVEN = {
    "vocabulary": "the number of types of the text, with markers",
    "words": "the vocabulary of the text",
    "shape": "the shape of an item",
    "levels": "how many values a pixel can have",
    "label_classes": "the number of classes that the labels of the data (`data.labels`) are of",
    "tags": "the number of tags of a pair's target",
    "latent": "the number of latent units",
    "outputs": "how many numbers an encoder's network must give an item",
    "units": "the number of groups that the KL splits into",
    "net": "what makes the encoder's network, from the number of its outputs",
    "encoder": "the encoder",
    "decoder": "the decoder",
    "steps_per_epoch": "the outer steps of an epoch",
    "training_items": "how many items there are to train on",
}


def section(target: Callable[..., Any], kind: str | None = None, given: Mapping[str, Any] = GIVEN) -> type[Described]:
    """The section of a class or a function: an entry a parameter, but for those that are given.

    Arguments:
        target: The class or function.
        kind: Its name in its table; None for what is in none, such as a dataclass within a part.
        given: The names of the parameters that are no entries.
    """
    fields: dict[str, Any] = {} if kind is None else {"kind": (Literal[kind], ...)}
    for name, parameter in parameters(target).items():
        if name not in given:
            fields[name] = (_entry(parameter.annotation), _default(target, parameter))
    made = create_model(getattr(target, "__name__", str(kind)), __base__=Described, **fields)
    made._target = staticmethod(target)  # Else a function would be taken for a method of the section.
    made.__doc__ = target.__doc__
    return made


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a class or function by name, their annotations as types; anything where there is none."""
    called = target if inspect.isroutine(target) else type(target).__call__
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else called, include_extras=True)
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: parameter.replace(annotation=hints.get(name, Any))
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind not in variable
    }


def mark(annotation: Any, kind: type[M]) -> M | None:
    """The mark of a kind in a type, wherever in it; None where there is none."""
    here = [*getattr(annotation, "__metadata__", ()), *(mark(inner, kind) for inner in get_args(annotation))]
    return next((one for one in here if isinstance(one, kind)), None)


def _entry(annotation: Any) -> Any:
    """The type of an entry, from the type of a parameter."""
    if dataclasses.is_dataclass(annotation):
        return _nested(annotation)
    if get_origin(annotation) is dict:
        return dict[str, _entry(get_args(annotation)[1])]
    if get_origin(annotation) in (Union, UnionType):
        return Union[tuple(arg if arg is NoneType else _entry(arg) for arg in get_args(annotation))]  # noqa: UP007
    if said := mark(annotation, Said):
        return Annotated[Any, PlainValidator(said.check)]
    slot = mark(annotation, Slot)
    return Annotated[Any, Choice(slot)] if slot else annotation


@cache
def _nested(kind: type) -> type[Described]:
    return section(kind)


def _default(target: Any, parameter: inspect.Parameter) -> Any:
    annotation, default = parameter.annotation, parameter.default
    if get_origin(annotation) is dict:
        return {}
    if dataclasses.is_dataclass(annotation) and default is not parameter.empty:
        return _nested(annotation)()  # pyright: ignore[reportArgumentType]
    slot = mark(annotation, Slot)
    if slot and slot.default:
        made = Choice(slot).sections(slot.default)[0]
        incomplete = any(field.is_required() for name, field in made.model_fields.items() if name != "kind")
        return ... if incomplete else made.model_validate({"kind": slot.default})
    if dataclasses.is_dataclass(target):
        factory = {f.name: f.default_factory for f in dataclasses.fields(target)}[parameter.name]
        default = default if factory is dataclasses.MISSING else factory()
    return ... if default is parameter.empty else default


@dataclasses.dataclass(frozen=True)
class Choice:
    """The type of an entry that names a part by its `kind`, validated by that part's section."""

    slot: Slot

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validated)

    def kinds(self) -> list[str]:
        """What `kind` may be, but for parts of one's own."""
        from uncollapse.experiment.parts import SLOTS

        return list(SLOTS[self.slot.name])

    def sections(self, kind: object = None) -> list[type[Described]]:
        """The section of a kind; those of all kinds where it is none that there is."""
        from uncollapse.experiment.parts import described

        own = isinstance(kind, str) and ":" in kind
        chosen = [kind] if own or kind in self.kinds() else self.kinds()
        return [described(self.slot.name, one) for one in chosen]  # pyright: ignore[reportArgumentType]

    def validated(self, value: Any) -> Any:
        if isinstance(value, Described):
            return value
        if not isinstance(value, Mapping):
            raise PydanticCustomError("no_section", "")  # In words where the path is known: see `paths`.
        kind = value.get("kind", self.slot.default)
        if kind is None:
            raise PydanticCustomError("no_kind", "")
        if not isinstance(kind, str) or (kind not in self.kinds() and ":" not in kind):
            raise PydanticCustomError("unknown_kind", "", {"kind": _legible(kind)})
        try:
            chosen = self.sections(kind)[0]
        except InputError as error:  # Somebody's own code.
            raise PydanticCustomError("no_part", "{why}", {"why": str(error)}) from None
        return chosen.model_validate({**value, "kind": kind})


def _legible(kind: object) -> str:
    """A wrong kind in an error: a text may hold what no UTF-8 has."""
    return kind.encode("utf-8", "backslashreplace").decode() if isinstance(kind, str) else f"a {type(kind).__name__}"
