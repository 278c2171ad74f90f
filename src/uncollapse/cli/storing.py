"""Files that commands write where people say: nothing else that is there is replaced, and no half of one is left."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from uncollapse.cli.values import refuse_dangling
from uncollapse.errors import InputError, because


def check_target(path: Path, what: str, beginning: bytes | None, name: str) -> None:
    """Refuses a place where no such file can be stored, or where something else is, before any work.

    Arguments:
        path: The place.
        what: What is to be stored, for an error.
        beginning: What files of that kind begin with; None where that is nothing of their own.
        name: What one may be called.
    """
    refuse_dangling(path)
    if path.is_dir():
        raise InputError(f"`{path}` is a folder: give a file, such as `{path / name}`.")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder `{path.parent}` to store `{path.name}` in: make it, or give another.")
    if beginning is not None and path.is_file() and not _replaceable(path, beginning):
        raise InputError(f"`{path}` is there and holds no {what}: it stays as it is. Give another name.")


def _replaceable(path: Path, beginning: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(beginning)) in (b"", beginning)
    except OSError as error:
        raise InputError(f"cannot write `{path}`: {because(error)}.") from None


def write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Fills a file, aside first where it is to be one, so that a failure leaves what was there."""
    from uncollapse.files import replacing, unwritable

    special = path.exists() and not path.is_file()
    path = path if special else path.resolve()  # What a link leads to is replaced, not the link.
    # The folder is not ours: a name that nobody else has.
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with path.open("wb") if special else replacing(path, aside) as target:
            write(target)
    except OSError as error:
        raise unwritable(path, error) from None
