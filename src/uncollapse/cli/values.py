"""The kinds of values that commands take, with the limits beyond which they are refused before anything is done."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from uncollapse.errors import InputError


def _path(kind: object, tokens: Sequence[Token]) -> Path:
    return file_name(tokens[0].value)


def file_name(text: str) -> Path:
    """The path that a text is.

    Raises:
        InputError: for what can name no file.
    """
    # Surrogates stand for bytes that are no UTF-8, which the format of checkpoints cannot open.
    if not text or "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise InputError(f"{text[:80]!r} names no file: give a path in UTF-8.")
    return Path(text)


def refuse_dangling(path: Path) -> None:
    """Refuses a link that leads nowhere, or to itself."""
    if path.is_symlink() and not path.exists():
        raise InputError(f"`{path}` is a link that leads nowhere: give a file.")


def _whole(kind: object, tokens: Sequence[Token]) -> int:
    text = tokens[0].value
    # The most digits that Python converts at all; the limits below are far from it.
    if not re.fullmatch(r"[+-]?[0-9]{1,1000}", text):
        raise ValueError(f'"{text[:80]}" is no whole number')
    return int(text)


def _within(least: int, most: int) -> Parameter:
    return Parameter(converter=_whole, validator=Number(gte=least, lte=most))


_MANY = 1_000_000

Place: TypeAlias = Annotated[Path, Parameter(converter=_path)]
#: K, of which memory and time are multiples; the NLL of a million samples is exact for any purpose.
Samples: TypeAlias = Annotated[int, _within(0, _MANY)]
Items: TypeAlias = Annotated[int, _within(1, 2**63 - 1)]
#: What generators take.
Seed: TypeAlias = Annotated[int, _within(0, 2**63 - 1)]
Texts: TypeAlias = Annotated[int, _within(1, _MANY)]
Steps: TypeAlias = Annotated[int, _within(2, _MANY)]
#: The number of a latent unit.
Unit: TypeAlias = Annotated[int, _within(0, _MANY)]
#: How far from 0 a latent unit goes.
Span: TypeAlias = Annotated[float, Parameter(validator=Number(gte=0, lte=1e6))]
#: Tokens of a text, each a step of the decoder.
Length: TypeAlias = Annotated[int, _within(1, 100_000)]
Width: TypeAlias = Annotated[int, _within(1, 1000)]
Temperature: TypeAlias = Annotated[float, Parameter(validator=Number(gte=0.01, lte=100))]
Seeds: TypeAlias = Annotated[int, _within(1, 10_000)]
#: Each is a process, or some, with its own copy of torch.
Jobs: TypeAlias = Annotated[int, _within(1, 256)]
#: Of a comparison, at the same time; a cluster may run many.
Cells: TypeAlias = Annotated[int, _within(1, 10_000)]
#: A number of GPUs, or a part of one.
Share: TypeAlias = Annotated[float, Parameter(validator=Number(gte=0, lte=256))]
Gibibytes: TypeAlias = Annotated[float, Parameter(validator=Number(gt=0, lte=2**20))]
Seconds: TypeAlias = Annotated[float, Parameter(validator=Number(gte=0))]
