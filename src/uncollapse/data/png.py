"""Portable Network Graphics: pictures as bytes, and those bytes as pictures, with the standard library alone."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

#: What every such file begins with.
SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: How a picture is written in one line of text.
URI = "data:image/png;base64,"
#: The PNG types of colour by the number of channels, of 8 bits each.
_COLOURS = {1: 0, 3: 2}


def encoded(pixels: np.ndarray) -> bytes:
    """A PNG file.

    Arguments:
        pixels: With shape (H, W, C), uint8, for one channel or three.
    """
    height, width, channels = pixels.shape
    # Every row begins with its filter, 0 for none.
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, width * channels)], 1)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")
    return SIGNATURE + b"".join(_chunk(name, content) for name, content in parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def decoded(file: bytes) -> np.ndarray:
    """The pixels (H, W, C) of a file that `encoded` has made.

    Raises:
        ValueError: for any other, such as one of filtered rows.
    """
    start = len(SIGNATURE) + 8
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", file[start : start + 13])
    channels = {number: count for count, number in _COLOURS.items()}.get(colour)
    at = start + 13 + 4
    length, name = struct.unpack(">I4s", file[at : at + 8])
    if file[: len(SIGNATURE)] != SIGNATURE or (depth, rest, name) != (8, [0, 0, 0], b"IDAT") or channels is None:
        raise ValueError("another form of PNG")
    rows = np.frombuffer(zlib.decompress(file[at + 8 : at + 8 + length]), np.uint8)
    rows = rows.reshape(height, 1 + width * channels)
    if rows[:, 0].any():
        raise ValueError("another form of PNG")
    return rows[:, 1:].reshape(height, width, channels)


def in_a_line(pixels: np.ndarray) -> str:
    """A picture (H, W, C) as a data URI, which browsers show."""
    return URI + base64.b64encode(encoded(pixels)).decode()


def from_a_line(line: str) -> np.ndarray:
    """The pixels (H, W, C) of what `in_a_line` has made.

    Raises:
        ValueError: for anything else.
    """
    if not line.startswith(URI):
        raise ValueError("no data URI of a PNG")
    try:
        return decoded(base64.b64decode(line.removeprefix(URI), validate=True))
    except (struct.error, zlib.error) as error:
        raise ValueError(str(error)) from None


def grid(pictures: np.ndarray, columns: int, gap: int = 1, least: int = 32) -> np.ndarray:
    """Many pictures in rows and columns, with gaps of grey between and around them, with shape (H, W, C).

    Arguments:
        pictures: With shape (N, H, W, C), uint8.
        columns: Pictures in a row; the last row may have fewer.
        gap: Of so many pixels.
        least: Each pixel becomes a square of several, so many that no side of a picture is shorter than this.
    """
    zoom = max(1, -(-least // min(pictures.shape[1:3])))
    tiles = pictures.repeat(zoom, 1).repeat(zoom, 2)
    n, height, width, channels = tiles.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 128, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet
