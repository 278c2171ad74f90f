"""MATLAB files: read as scipy reads them, and refused in a line where scipy's own reader would end the process."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from uncollapse.data.matlab import read_matlab
from uncollapse.data.tables import read_table
from uncollapse.errors import InputError

DRAW = np.random.default_rng(0)
ARRAYS = {
    "doubles": DRAW.random((3, 4)),
    "whole_doubles": DRAW.integers(256, size=(16, 7)).astype(float),
    "bytes": DRAW.integers(256, size=(2, 3, 4), dtype=np.uint8),
    "singles": DRAW.random((5, 1)).astype(np.float32),
    "one": np.array([[7.0]]),
    "logical": DRAW.random((2, 2)) > 0.5,
    "an_array_of_a_long_name": np.arange(9).reshape(3, 3),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_those_that_scipy_reads(name: str, compressed: bool, tmp_path: Path) -> None:
    savemat(tmp_path / "x.mat", ARRAYS, do_compression=compressed)
    exact = loadmat(tmp_path / "x.mat")[name]
    found = read_matlab(tmp_path / "x.mat", name)
    assert found.shape == exact.shape
    np.testing.assert_array_equal(found, exact)


def test_files_of_the_other_order_of_bytes_are_read(tmp_path: Path) -> None:
    """Of big-endian machines: a header, and an array of class uint8, sizes 2 x 1, name `x` in a small element."""
    array = struct.pack(">IIII", 6, 8, 9, 0) + struct.pack(">IIii", 5, 8, 2, 1) + struct.pack(">HH4s", 1, 1, b"x")
    array += struct.pack(">HH4s", 2, 2, b"\x03\x04")
    (tmp_path / "x.mat").write_bytes(
        b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + struct.pack(">II", 14, len(array)) + array
    )
    assert read_matlab(tmp_path / "x.mat", None).tolist() == [[3], [4]]


@pytest.mark.parametrize(("value", "says"), [(np.eye(2) * 1j, "complex"), ("abc", "text"), ({"a": 1}, "struct")])
def test_what_holds_no_real_numbers_is_refused(value: object, says: str, tmp_path: Path) -> None:
    savemat(tmp_path / "x.mat", {"x": value})
    with pytest.raises(InputError, match=r"x\.mat:x` is no array of real numbers: give another"):
        read_matlab(tmp_path / "x.mat", None)


def of_matlab(path: Path) -> np.ndarray:
    return read_matlab(path, None)


def test_whatever_byte_is_damaged_the_error_is_one_line(tmp_path: Path) -> None:
    said: list[str] = []
    draw, table = random.Random(0), np.arange(40, dtype=float).reshape(8, 5)
    savemat(tmp_path / "small.mat", {"x": table})
    savemat(tmp_path / "packed.mat", {"x": table}, do_compression=True)
    np.save(tmp_path / "x.npy", table)
    for name, read in (("small.mat", of_matlab), ("packed.mat", of_matlab), ("x.npy", read_table)):
        whole = (tmp_path / name).read_bytes()
        for i in range(200):
            damaged = bytearray(whole[: draw.randrange(len(whole))] if i % 2 else whole)
            for place in [draw.randrange(len(damaged)) for _ in range(draw.randrange(1, 4)) if damaged]:
                damaged[place] = draw.randrange(256)
            path = tmp_path / f"damaged{Path(name).suffix}"
            path.write_bytes(damaged)
            try:
                read(path)
            except InputError as error:
                said.append(str(error))
    assert len(said) > 300
    assert not any("\n" in one for one in said)
