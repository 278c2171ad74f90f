"""Pictures in files: what every form is read as, what is refused, and PNG files of one's own."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from uncollapse.data import png
from uncollapse.data.pictures import as_pictures, read_pictures
from uncollapse.errors import InputError

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
#: Four pictures of 4 x 4, all pixels different.
GREY = np.arange(64, dtype=np.uint8).reshape(4, 1, 4, 4) * 3 + 5
COLOURED = np.random.default_rng(0).integers(256, size=(4, 3, 5, 6), dtype=np.uint8)


def idx(pictures: np.ndarray, beginning: bytes = b"\x00\x00\x08") -> bytes:
    flat = pictures[:, 0]
    return beginning + bytes([flat.ndim]) + struct.pack(">3I", *flat.shape) + flat.tobytes()


def drawn(folder: Path, pictures: np.ndarray, ending: str = ".png") -> Path:
    folder.mkdir()
    for i, picture in enumerate(pictures):
        (folder / f"part{i % 2}").mkdir(exist_ok=True)
        pixels = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
        Image.fromarray(pixels).save(folder / f"part{i % 2}" / f"{i}{ending}")
    return folder


def matlab(path: Path, **arrays: np.ndarray) -> Path:
    savemat(path, arrays, do_compression=True)
    return path


# What is read.


@pytest.mark.parametrize("form", ["N H W", "N C H W", "N H W C", "N D"])
def test_arrays_of_every_form_are_the_same_pictures(form: str, tmp_path: Path) -> None:
    arranged = {"N H W": GREY[:, 0], "N C H W": GREY, "N H W C": GREY.transpose(0, 2, 3, 1), "N D": GREY.reshape(4, 16)}
    np.save(tmp_path / "x.npy", arranged[form])
    np.savez(tmp_path / "x.npz", labels=np.arange(4), images=arranged[form])
    np.testing.assert_array_equal(read_pictures(tmp_path / "x.npy"), GREY)
    np.testing.assert_array_equal(read_pictures(f"{tmp_path}/x.npz:images"), GREY)


def test_colours_come_first_or_last() -> None:
    for form in (COLOURED, COLOURED.transpose(0, 2, 3, 1)):
        np.testing.assert_array_equal(as_pictures(form, "x"), COLOURED)


@pytest.mark.parametrize(
    "columns",
    [
        lambda x: x.reshape(-1, 16, order="C").T,
        lambda x: x.reshape(-1, 16),
        lambda x: x,
    ],
    ids=["columns", "rows", "cubes"],
)
def test_pictures_of_matlab_stand_upright(columns: Callable[[np.ndarray], np.ndarray], tmp_path: Path) -> None:
    """Within a picture columns fill first, as `X(:, i) = picture(:)` has them; there are 5, which is no square."""
    pictures = np.random.default_rng(0).random((5, 4, 4))
    flat = columns(pictures.transpose(0, 2, 1)) if columns(pictures).ndim == 2 else pictures.transpose(1, 2, 0)
    path = matlab(tmp_path / "x.mat", data=flat, target=np.ones((2, 5)))
    np.testing.assert_allclose(read_pictures(f"{path}:data")[:, 0], pictures, rtol=1e-6)


def test_the_form_of_burdas_omniglot_is_read(tmp_path: Path) -> None:
    """784 x N real numbers from 0 to 1, in two arrays of one file."""
    data = np.random.default_rng(0).random((784, 6))
    path = matlab(tmp_path / "chardata.mat", data=data, testdata=data[:, :2], target=np.ones((50, 6)))
    found = read_pictures(f"{path}:data")
    assert (found.shape, found.dtype) == ((6, 1, 28, 28), np.float32)
    assert found[3, 0, 2, 7] == pytest.approx(data[7 * 28 + 2, 3])
    assert len(read_pictures(f"{path}:testdata")) == 2


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"])
def test_the_files_of_mnist_are_read(name: str, tmp_path: Path) -> None:
    content = idx(GREY)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    np.testing.assert_array_equal(read_pictures(tmp_path / name), GREY)


@pytest.mark.parametrize("pictures", [GREY, COLOURED], ids=["grey", "coloured"])
def test_folders_are_read_in_the_order_of_their_names(pictures: np.ndarray, tmp_path: Path) -> None:
    found = read_pictures(drawn(tmp_path / "pictures", pictures))
    np.testing.assert_array_equal(found, pictures[[0, 2, 1, 3]])


def test_one_image_file_is_one_picture(tmp_path: Path) -> None:
    folder = drawn(tmp_path / "pictures", COLOURED)
    np.testing.assert_array_equal(read_pictures(folder / "part1" / "3.png"), COLOURED[3:])


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    Image.fromarray(pixels[..., [0, 3]]).save(tmp_path / "y.png")
    assert read_pictures(tmp_path / "x.png").tolist() == [[[[0, 0], [255, 255]]] * 3]
    assert read_pictures(tmp_path / "y.png").tolist() == [[[[0, 0], [255, 255]]]]


@pytest.mark.parametrize(
    ("numbers", "read"),
    [
        (np.array([0, 3, 255]), np.array([0, 3, 255], np.uint8)),
        (np.array([0.0, 3.0, 255.0]), np.array([0, 3, 255], np.uint8)),
        (np.array([0.0, 0.25, 1.0]), np.array([0, 0.25, 1], np.float32)),
        (np.array([0, 1, 1]), np.array([0, 255, 255], np.uint8)),
        (np.array([False, True, True]), np.array([0, 255, 255], np.uint8)),
        (np.array([0.0, 1.0, 1.0]), np.array([0, 1, 1], np.float32)),
    ],
)
def test_numbers_are_intensities(numbers: np.ndarray, read: np.ndarray) -> None:
    found = as_pictures(numbers.reshape(1, 1, 3), "x")
    assert found.dtype == read.dtype
    np.testing.assert_array_equal(found.ravel(), read)


def test_whole_numbers_may_have_another_largest_one() -> None:
    np.testing.assert_array_equal(as_pictures(np.array([[[0.0, 7, 16]]]), "x", top=16).ravel(), [0, 7, 16])
    with pytest.raises(InputError, match="x has numbers from 0 to 17, and pictures have whole ones from 0 to 16"):
        as_pictures(np.array([[[0.0, 7, 17]]]), "x", top=16)


# What is refused.


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (
            np.zeros((2, 5)),
            r"x has the shape \(2, 5\), and pictures have \(N, height, width\).*rows \(N, pixels\): resh",
        ),
        (np.zeros((0, 4, 4)), r"x has the shape \(0, 4, 4\)"),
        (np.zeros(()), r"x has the shape \(\)"),
        (np.zeros((2, 5, 4, 4)), r"x has the shape \(2, 5, 4, 4\), .* with 1 or 3 channels"),
        (np.full((1, 2, 2), np.nan), r"x has numbers from nan to nan, .*: scale them"),
        (np.full((1, 2, 2), -0.5), r"x has numbers from -0.5 to -0.5, "),
        (np.full((1, 2, 2), 256), r"x has numbers from 256 to 256, and pictures have whole ones from 0 to 255"),
        (np.array([[[0.5, 2.0]]]), r"x has fractions and a number of 2: divide by the largest value there can be"),
        (np.full((1, 2, 2), 1j), r"x holds the type `complex128`, and pictures have real numbers: convert it"),
        (np.full((1, 2, 2), "a"), r"x holds the type `<U1`"),
    ],
)
def test_what_is_no_picture_is_refused(array: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        as_pictures(array, "x")


def written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def two_sizes(path: Path) -> None:
    drawn(path, GREY[:2])
    Image.fromarray(COLOURED[0].transpose(1, 2, 0)).save(path / "z.png")


def half(path: Path) -> None:
    Image.fromarray(COLOURED[0].transpose(1, 2, 0)).save(path)
    path.write_bytes(path.read_bytes()[:100])


FILES = [
    ("x", written(idx(GREY)[:-1]), "is not a whole idx file, as its beginning says: download it again"),
    ("x", written(b"\x00\x00\x08\x03\x00"), "is not a whole idx file"),
    ("x", written(b"\x00\x00\x08"), "is not a whole idx file|has the shape"),
    (
        "x",
        written(b"\x00\x00\x08\x01" + struct.pack(">I", 2) + b"ab"),
        "is an idx file of labels: give the one of images",
    ),
    ("x.gz", written(gzip.compress(idx(GREY))[:-9]), "is not a whole gzip file, as its beginning says"),
    (
        "x.gz",
        written(gzip.compress(b"the cat")),
        "holds no pictures that its name or beginning tells how to read: give a",
    ),
    ("x.txt", written(b"the cat\n"), "holds no pictures that its name or beginning tells how to read: give a .npy"),
    ("x", lambda path: path.mkdir(), r"the folder `.*` holds no image files \(.png, .jpg"),
    ("x", two_sizes, r"`.*z.png` has 6 x 5 in 3 channels, and `.*0.png` has 4 x 4 in 1 channels: give pictures of one"),
    ("x.png", written(b"the cat"), "is no picture, as its name says"),
    ("x.png", half, "is not a whole picture"),
    ("x.png", lambda path: Image.fromarray(np.zeros((2, 2), np.uint16)).save(path), "more than 8 bits a pixel"),
    ("x.mat", written(b"the cat"), "is not a whole MATLAB file, as its name says"),
    (
        "x.mat",
        written(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"\x0e\x00" * 9),
        "is not a whole MATLAB file",
    ),
    (
        "x.mat",
        written(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF"),
        r"version 7.3.*save\(..., '-v7'\)",
    ),
    (
        "x.mat",
        lambda path: matlab(path, data=GREY, testdata=GREY),
        "holds 2 arrays: write which one, as in .*data, testdata",
    ),
    ("x.npz", lambda path: np.savez(path, a=GREY, b=GREY), "holds 2 arrays: write which one, as in .*a, b"),
    ("x.npy", written(b"\x93NUMPY"), "is not a whole NumPy file"),
    ("no.npy", lambda path: None, "cannot read the pictures .*No such file or directory; check the path"),
    ("no", lambda path: None, "cannot read the pictures .*No such file or directory; check the path"),
    ("no.mat", lambda path: None, "cannot read the pictures .*No such file or directory; check the path"),
    ("no.png", lambda path: None, "cannot read the pictures .*No such file or directory; check the path"),
]


@pytest.mark.parametrize(("name", "make", "says"), FILES)
def test_a_file_without_pictures_is_refused_in_a_line(
    name: str, make: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=says) as error:
        read_pictures(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


# PNG files of one's own.


@pytest.mark.parametrize("pictures", [GREY, COLOURED], ids=["grey", "coloured"])
def test_a_picture_is_what_others_read_and_comes_back_from_a_line(pictures: np.ndarray, tmp_path: Path) -> None:
    pixels = pictures[1].transpose(1, 2, 0)
    (tmp_path / "x.png").write_bytes(png.encoded(pixels))
    np.testing.assert_array_equal(read_pictures(tmp_path / "x.png")[0], pictures[1])
    np.testing.assert_array_equal(png.from_a_line(png.in_a_line(pixels)), pixels)


@pytest.mark.parametrize(
    "line", ["", "data:image/png;base64,", "data:image/png;base64,AAAA", "data:image/png;base64,!"]
)
def test_another_line_is_no_picture(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several sorts
        png.from_a_line(line)


def test_a_grid_has_rows_and_gaps() -> None:
    sheet = png.grid(np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1) + 1, columns=2, least=1)
    assert sheet[..., 0].tolist() == [
        [128, 128, 128, 128, 128],
        [128, 1, 128, 2, 128],
        [128, 128, 128, 128, 128],
        [128, 3, 128, 128, 128],
        [128, 128, 128, 128, 128],
    ]


def test_small_pictures_are_enlarged_in_a_grid() -> None:
    sheet = png.grid(GREY.transpose(0, 2, 3, 1), columns=2, gap=0, least=8)
    assert sheet.shape == (16, 16, 1)
    np.testing.assert_array_equal(sheet[:8:2, 1:8:2], GREY[0].transpose(1, 2, 0))
