"""Tables of numbers in files: what is read, and what is refused in one line that names the file and the place."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uncollapse.data.tables import read_table
from uncollapse.errors import InputError

TABLE = np.arange(12.0).reshape(4, 3)


def npy(array: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **how)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int8, np.uint64, ">f8", bool])
def test_numbers_of_every_type_become_single_precision(tmp_path: Path, kind: Any) -> None:
    np.save(tmp_path / "x.npy", TABLE.astype(kind))
    found = read_table(tmp_path / "x.npy")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, TABLE.astype(kind).astype(np.float32))


@pytest.mark.parametrize("array", [TABLE[:, ::-1], np.asfortranarray(TABLE)])
def test_an_array_of_any_order_is_read(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", array)
    np.testing.assert_array_equal(read_table(tmp_path / "x.npy"), array)


def test_the_one_array_of_an_archive_needs_no_name(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(npz(a=TABLE))
    np.testing.assert_array_equal(read_table(tmp_path / "x.npz"), TABLE)


def test_one_of_several_arrays_is_named_after_a_colon(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(npz(a=TABLE, b=TABLE + 1))
    np.testing.assert_array_equal(read_table(f"{tmp_path}/x.npz:b"), TABLE + 1)


@pytest.mark.parametrize(
    "text",
    [
        "0,1,2\n3,4,5\n6,7,8\n9,10,11\n",
        "\ufeffa,b,c\r\n0,1,2\r\n3,4,5\r\n6,7,8\r\n9,10,11",
        '"a","b, or c","d"\n\n0, 1, 2\n3,4,5\n"6","7","8"\n,,\n9,1e1,+11.0\n',
    ],
)
def test_a_text_of_numbers_is_read_with_or_without_a_header(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text, encoding="utf-8", newline="")
    np.testing.assert_array_equal(read_table(tmp_path / "x.csv"), TABLE)


def test_a_long_text_is_read_whole_and_its_lines_are_counted(tmp_path: Path) -> None:
    rows = [f"{i},{i}" for i in range(25_000)]
    (tmp_path / "x.csv").write_text("a,b\n" + "\n".join(rows))
    assert read_table(tmp_path / "x.csv")[:, 1].tolist() == list(range(25_000))
    rows[20_000] = "1,inf"
    (tmp_path / "x.csv").write_text("a,b\n" + "\n".join(rows))
    with pytest.raises(InputError, match=r"line 20002: inf is there"):
        read_table(tmp_path / "x.csv")


OBJECTS = npy(np.array([[1, "a"], [None, 2]], object), allow_pickle=True)
REFUSED = [
    ("x.npy", npy(TABLE[0]), "`@` has the shape (3,), and a table has rows and columns: reshape it, as with"),
    ("x.npy", npy(TABLE.reshape(2, 2, 3)), "`@` has the shape (2, 2, 3), and a table has rows and columns"),
    ("x.npy", npy(TABLE[:0]), "`@` has the shape (0, 3): it holds no number."),
    ("x.npy", npy(TABLE + 1j), "`@` holds the type `complex128`, and a table has real numbers"),
    ("x.npy", npy(TABLE.astype(str)), "`@` holds the type `<U32`, and a table has real numbers"),
    ("x.npy", npy(np.where(TABLE == 7, np.nan, TABLE)), "`@` has nan at [2, 1]: give finite numbers"),
    ("x.npy", npy(np.where(TABLE == 7, 1e60, TABLE)), "`@` has 1e+60 at [2, 1]: give finite numbers of 32 bits"),
    ("x.npy", OBJECTS, "`@` holds Python objects, which run code when they are read: store numbers"),
    ("x.npz", npz(a=np.array([[None]])), "`@` holds Python objects"),
    ("x.npy", b"", "`@` is not a whole NumPy file, as its name says: store it again."),
    ("x.npy", npy(TABLE)[:-9], "`@` is not a whole NumPy file"),
    ("x.npy", b"1,2,3\n", "`@` is not a whole NumPy file"),
    ("x.npz", b"1,2,3\n", "`@` is not a whole NumPy file"),
    ("x.npz", npy(TABLE), "`@` is not a whole NumPy file"),
    ("x.npy", npz(a=TABLE), "`@` is not a whole NumPy file"),
    ("x.npz", npz(a=TABLE)[:-50], "`@` is not a whole NumPy file"),
    ("x.npz", npz(a=TABLE, b=TABLE), "`@` holds 2 arrays: write which one, as in `@:NAME`. There is: a, b."),
    ("x.npz:c", npz(a=TABLE, b=TABLE), "`@` has no `c`: write which one, as in `@:NAME`. There is: a, b."),
    ("x.npz:b", npz(a=TABLE, b=TABLE[0]), "`@:b` has the shape (3,)"),
    ("x.csv", b"", "`@` holds no row of numbers: it needs one an item, with commas between them."),
    ("x.csv", b"a,b,c\n", "`@` holds no row of numbers"),
    ("x.csv", b"1,2\n3\n", "`@`, line 2: 1 numbers, where the first row has 2"),
    ("x.csv", b"a,b\n1,2\n\n1,x\n", "`@`, line 4: `x` is no number."),
    ("x.csv", b"1,x\n", "`@`, line 1: `x` is no number."),
    ("x.csv", b"a,b\nc,d\n", "`@`, line 2: `c` is no number."),
    ("x.csv", b"1,\n", "`@`, line 1: a cell is empty."),
    ("x.csv", b"a;b\n1;2\n", "`@`, line 2: `1;2` is no number. Give numbers with commas between."),
    ("x.csv", b"1,nan\n", "`@`, line 1: nan is there: give finite numbers"),
    ("x.csv", b"1,1e99\n", "`@`, line 1: 1e+99 is there: give finite numbers of 32 bits"),
    ("x.csv", b"caf\xe9,b\n", "`@` is not UTF-8: convert the file to UTF-8."),
    ("x.csv", b'"' + b"1" * 200_000, "`@` is no table with commas: field larger than field limit"),
    ("x.txt", b"1,2\n", "`@` is no table that its name tells how to read: give a .npy, .npz or .csv file."),
]


@pytest.mark.parametrize(("name", "content", "says"), REFUSED)
def test_what_is_no_table_is_refused_with_its_file_and_place(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name.partition(":")[0]
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_table(tmp_path / name)
    assert str(error.value).startswith(says.replace("@", str(path)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.csv", "x.npz:a"])
def test_a_file_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"cannot read the table `.*`: No such file or directory; check the path\."):
        read_table(tmp_path / name)


def corrupted(content: bytes) -> bytes:
    return content[:100] + bytes(255 - byte for byte in content[100:140]) + content[140:]


@pytest.mark.parametrize("way", [corrupted, lambda content: content[:120]])
def test_a_damaged_compressed_archive_is_refused(tmp_path: Path, way: Callable[[bytes], bytes]) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.random.default_rng(0).normal(size=(50, 3)))
    (tmp_path / "x.npz").write_bytes(way((tmp_path / "x.npz").read_bytes()))
    with pytest.raises(InputError, match="not a whole NumPy file"):
        read_table(tmp_path / "x.npz")


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("readme.txt", "no array")
    with pytest.raises(InputError):
        read_table(tmp_path / "x.npz")
