"""Text files as streams of items: of a file, no more is ever held than a block and one line."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

from uncollapse.errors import InputError, because

BLOCK = 2**20  # bytes of text

#: Hears what is being done, and which share of it is done; 1 at the end.
Tell: TypeAlias = Callable[[str, float], None]


class Block(NamedTuple):
    """Consecutive items of a text."""

    items: list[str]
    numbers: Sequence[int]
    """The line of each item, counted from 1."""


def blocks(path: Path, labels: bool = False, tell: Tell | None = None) -> Iterator[Block]:
    """The items of a UTF-8 text file, one a line, without empty lines; gzip where its name ends in .gz.

    Arguments:
        path: The file.
        labels: Whether a label and a tab precede every item; they are removed.
        tell: Hears how far the reading is.

    Raises:
        InputError: for a file that cannot be read, or holds no item.
    """
    first, empty = 1, True
    for piece in _pieces(path, tell):
        # Not splitlines: it also cuts at separators that are characters of a text.
        lines = _decoded(path, piece, first).split("\n")
        if labels:
            lines = [_unlabelled(path, n, line) for n, line in enumerate(lines, first)]
        items = [item for line in lines if (item := line.strip())]
        if items:
            yield Block(items, _numbers(lines, items, first))
        first, empty = first + len(lines), empty and not items
    if empty:
        raise InputError(f"`{path}` holds no item: it needs one a line.")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file that are not empty, with their numbers from 1, as they stand.

    Raises:
        InputError: as for `blocks`.
    """
    first, empty = 1, True
    for piece in _pieces(path, None):
        found = _decoded(path, piece, first).split("\n")
        for number, line in enumerate(found, first):
            if line.strip():
                empty = False
                yield number, line.rstrip("\r")
        first += len(found)
    if empty:
        raise InputError(f"`{path}` holds no item: it needs one a line.")


def _pieces(path: Path, tell: Tell | None) -> Iterator[bytes]:
    """Whole lines, about a block at a time, without the last one's end."""
    held: list[bytes] = []
    try:
        with path.open("rb") as raw, _unpacked(path, raw) as file:
            total = os.fstat(raw.fileno()).st_size  # 0 for a pipe
            while block := file.read(BLOCK):
                head, end, tail = block.rpartition(b"\n")
                if end:
                    yield b"".join([*held, head])
                    held = []
                held.append(tail)
                if tell and total:
                    tell(f"reading {path.name}", raw.tell() / total)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError(f"`{path}` is not a whole gzip file, as its name says: compress it again.") from None
    except OSError as error:
        raise unreadable(path, error) from None
    yield b"".join(held)


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file that the system does not give."""
    return InputError(f"cannot read the text file `{path}`: {because(error)}.")


def _unpacked(path: Path, raw: IO[bytes]) -> gzip.GzipFile | nullcontext[IO[bytes]]:
    return gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else nullcontext(raw)


def _decoded(path: Path, piece: bytes, first: int) -> str:
    try:
        return piece.decode("utf-8-sig" if first == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = first + error.object[: error.start].count(b"\n")
        raise InputError(f"`{path}`, line {line}: not UTF-8. Convert the file to UTF-8.") from None


def _unlabelled(path: Path, n: int, line: str) -> str:
    if not line.strip():
        return ""
    _, tab, item = line.partition("\t")
    if not tab:
        raise InputError(f"`{path}`, line {n}: no tab after a label. Leave `--labels` out (data.labels).")
    return item


def _numbers(lines: list[str], items: list[str], first: int) -> Sequence[int]:
    if len(items) == len(lines):
        return range(first, first + len(lines))
    return [n for n, line in enumerate(lines, first) if line.strip()]
