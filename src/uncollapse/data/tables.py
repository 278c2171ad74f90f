"""Tables of numbers in files: `.npy`, `.npz` and `.csv`."""

from __future__ import annotations

import csv
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from uncollapse.errors import InputError, because

_BROKEN = (
    *(ValueError, TypeError, EOFError, KeyError, SyntaxError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
_ROWS = 10_000  # rows of a .csv file that are made numbers at a time


def read_table(path: str | Path) -> np.ndarray:
    """The numbers of a file with shape (N, D), in float32.

    Arguments:
        path: A `.npy` file; a `.npz` file with one array, or with the name of one, as in `x.npz:train`; or a `.csv`
            file with commas, whose first line may be a header.

    Raises:
        InputError: where the file cannot be read, or holds anything but a table of finite numbers.
    """
    path, name = named(str(path))
    try:
        if path.suffix == ".csv":
            return _from_csv(path)
        if path.suffix in (".npy", ".npz"):
            return _from_array(f"`{path}`" if name is None else f"`{path}:{name}`", array(path, name))
    except OSError as error:
        raise InputError(f"cannot read the table `{path}`: {because(error)}.") from None
    raise InputError(f"`{path}` is no table that its name tells how to read: give a .npy, .npz or .csv file.")


def named(path: str, archives: tuple[str, ...] = (".npz",)) -> tuple[Path, str | None]:
    """A file, and which of an archive's arrays is meant where the path says it, as in `x.npz:train`."""
    file, colon, name = path.rpartition(":")
    if colon and file.endswith(archives) and not os.path.exists(path):
        return Path(file), name
    return Path(path), None


def array(path: Path, name: str | None) -> np.ndarray:
    """The array of a `.npy` file, or one of a `.npz` file; `name` is None where it has one alone.

    Raises:
        OSError: where the file cannot be read.
        InputError: where it is no such file, or has no such array.
    """
    try:
        if path.suffix == ".npy":
            # Mapped: of a file that is larger than memory, what is no table is refused all the same.
            found = np.lib.format.open_memmap(path, mode="r")
        else:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                found = archive[chosen(path, name, archive.files)]
        if isinstance(found, np.ndarray):
            return found
    except InputError:
        raise
    # Of what is no file of its own, numpy raises whatever its reading met.
    except _BROKEN as error:
        if "Python objects" in str(error) or "Object arrays" in str(error):
            raise InputError(
                f"`{path}` holds Python objects, which run code when they are read: store numbers, as with "
                "`np.save(path, x.astype(float))`."
            ) from None
    raise InputError(f"`{path}` is not a whole NumPy file, as its name says: store it again.")


def chosen(path: Path, name: str | None, there: Sequence[str]) -> str:
    """The name of the array that is meant.

    Raises:
        InputError: where there is none of that name, or several and none is named.
    """
    if name in there or (name is None and len(there) == 1):
        return name or there[0]
    asked = f"has no `{name}`" if name is not None else f"holds {len(there)} arrays"
    names = ", ".join(there)[:200]
    raise InputError(f"`{path}` {asked}: write which one, as in `{path}:NAME`. There is: {names or 'nothing'}.")


def _from_array(where: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where} holds the type `{array.dtype}`, and a table has real numbers: convert it.")
    if array.ndim != 2:
        raise InputError(
            f"{where} has the shape {array.shape}, and a table has rows and columns: reshape it, as with "
            "`x.reshape(len(x), -1)`."
        )
    if not array.size:
        raise InputError(f"{where} has the shape {array.shape}: it holds no number.")
    with np.errstate(over="ignore"):
        table = np.ascontiguousarray(array, np.float32)
    for row, column in np.argwhere(~np.isfinite(table))[:1].tolist():
        raise InputError(f"{where} has {array[row, column]} at [{row}, {column}]: {_LEAVE}")
    return table


_LEAVE = "give finite numbers of 32 bits, and leave rows out in which one is missing."


def _from_csv(path: Path) -> np.ndarray:
    blocks, rows, lines, width = [], [], [], 0
    for line, row in _numbers(path):
        width = width or len(row)
        if len(row) != width:
            raise InputError(
                f"`{path}`, line {line}: {len(row)} numbers, where the first row has {width}: give every row the same "
                "columns, with commas between them."
            )
        rows.append(row)
        lines.append(line)
        if len(rows) == _ROWS:
            blocks.append(_block(path, rows, lines))
            rows, lines = [], []
    if rows:
        blocks.append(_block(path, rows, lines))
    if not blocks:
        raise InputError(f"`{path}` holds no row of numbers: it needs one an item, with commas between them.")
    return np.concatenate(blocks)


def _block(path: Path, rows: list[list[float]], lines: list[int]) -> np.ndarray:
    with np.errstate(over="ignore"):
        block = np.array(rows, np.float32)
    for row, column in np.argwhere(~np.isfinite(block))[:1].tolist():
        raise InputError(f"`{path}`, line {lines[row]}: {rows[row][column]} is there: {_LEAVE}")
    return block


def _numbers(path: Path) -> Iterator[tuple[int, list[float]]]:
    """The rows of a file with their lines; its first line may hold names instead."""
    first = True
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                numbers = [_number(cell) for cell in row]
                if any(cell.strip() for cell in row):
                    wrong = [cell for cell, number in zip(row, numbers, strict=True) if number is None]
                    if wrong and not (first and len(wrong) == len(row)):
                        said = f"`{wrong[0][:80]}` is no number" if wrong[0].strip() else "a cell is empty"
                        raise InputError(f"`{path}`, line {reader.line_num}: {said}. Give numbers with commas between.")
                    if not wrong:
                        yield reader.line_num, [number for number in numbers if number is not None]
                    first = False
    except UnicodeDecodeError:
        raise InputError(f"`{path}` is not UTF-8: convert the file to UTF-8.") from None
    except csv.Error as error:
        raise InputError(f"`{path}` is no table with commas: {error}.") from None


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
