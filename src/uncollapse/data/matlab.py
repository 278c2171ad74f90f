"""Arrays of numbers in MATLAB files of version 5 to 7.2, read so that no byte of a damaged file can end the process.

A file is a header of 128 bytes and elements: a type, a number of bytes, and these. An array is an element of elements:
its class, its sizes, its name, and its numbers, with the first index moving fastest. It may be compressed.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from uncollapse.data.tables import chosen
from uncollapse.errors import InputError

_HEADER, _HDF5 = 128, b"MATLAB 7.3"
_MATRIX, _COMPRESSED = 14, 15
#: The types of numbers as they are stored, as NumPy calls them.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
#: The classes of arrays that are of real numbers: double, single, and whole ones of 8 to 64 bits.
_NUMBERS = range(6, 16)
_COMPLEX = 0x800
#: How many bytes of a compressed array are enough to know its name.
_BEGINNING = 4096


class _Element(NamedTuple):
    kind: int
    content: bytes


def read_matlab(path: Path, name: str | None) -> np.ndarray:
    """An array of a MATLAB file; `name` is None where it has one alone.

    Raises:
        OSError: where the file cannot be read.
        InputError: where it is no such file, or has no such array of real numbers.
    """
    content = path.read_bytes()
    if content.startswith(_HDF5):
        raise InputError(
            f"`{path}` is a MATLAB file of version 7.3, which is HDF5: store it again with `save(..., '-v7')`."
        )
    try:
        order = _order(content)
        there = {_name(element, order): element for element in _elements(content[_HEADER:], order, padded=False)}
        return _array(path, _whole(there[chosen(path, name, list(there))]), order)
    except InputError:
        raise
    except (ValueError, KeyError, StopIteration, MemoryError, struct.error, zlib.error) as error:
        said = str(error) or type(error).__name__
        raise InputError(f"`{path}` is not a whole MATLAB file, as its name says ({said}): store it again.") from None


def _order(content: bytes) -> str:
    """The order of bytes, as `struct` and NumPy call it."""
    if content[_HEADER - 2 : _HEADER] not in (b"IM", b"MI"):
        raise ValueError("no header of version 5")
    return "<" if content[_HEADER - 2 : _HEADER] == b"IM" else ">"


def _elements(content: bytes, order: str, padded: bool = True) -> Iterator[_Element]:
    """The elements in some bytes; within an array each is filled up to a multiple of 8 bytes."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        at += 8
        if kind >> 16:  # So small that the size is beside the type, and the content where the size would be.
            kind, size, at = kind & 0xFFFF, kind >> 16, at - 4
            end, following = at + size, at + 4
        else:
            end, following = at + size, at + size + (-size % 8 if padded or kind != _COMPRESSED else 0)
        if end > len(content):
            raise ValueError("it ends too early")
        yield _Element(kind, content[at:end])
        at = following


def _whole(element: _Element) -> bytes:
    """The content of an array."""
    if element.kind == _COMPRESSED:
        return zlib.decompress(element.content)[8:]
    if element.kind != _MATRIX:
        raise ValueError(f"an element of type {element.kind}")
    return element.content


def _name(element: _Element, order: str) -> str:
    content = element.content
    if element.kind == _COMPRESSED:
        content = zlib.decompressobj().decompress(content, _BEGINNING)[8:]
    elif element.kind != _MATRIX:
        raise ValueError(f"an element of type {element.kind}")
    within = _elements(content, order)
    _, _, name = next(within), next(within), next(within)
    return name.content.decode("ascii")


def _array(path: Path, content: bytes, order: str) -> np.ndarray:
    within = _elements(content, order)
    flags, sizes, name = next(within), next(within), next(within)
    (about,) = struct.unpack_from(f"{order}I", flags.content)
    if about & 0xFF not in _NUMBERS or about & _COMPLEX:
        raise InputError(f"`{path}:{name.content.decode('ascii')}` is no array of real numbers: give another.")
    shape = struct.unpack(f"{order}{len(sizes.content) // 4}i", sizes.content)
    stored = next(within)
    numbers = np.frombuffer(stored.content, f"{order}{_STORED[stored.kind]}")
    if min(shape) < 0 or math.prod(shape) != len(numbers):
        raise ValueError(f"{len(numbers)} numbers for the sizes {shape}")
    return numbers.astype(numbers.dtype.newbyteorder("=")).reshape(shape, order="F")
