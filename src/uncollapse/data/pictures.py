"""Pictures in files: NumPy's, MATLAB's and MNIST's arrays, and folders of image files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uncollapse.data.matlab import read_matlab
from uncollapse.data.tables import array, named
from uncollapse.errors import InputError, because

#: The endings of image files, in a folder or alone.
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
#: How an idx file of bytes begins; the number of dimensions follows.
_IDX = b"\x00\x00\x08"
_GZIP = b"\x1f\x8b"
_DEPTHS = (1, 3)
_FORMS = "a .npy, .npz, .mat or idx file of pictures, or an image file or a folder of them"


def read_pictures(path: str | Path, top: int = 255) -> np.ndarray:
    """The pictures of a file or folder, with shape (N, C, H, W): uint8 from 0 to `top`, or float32 from 0 to 1.

    Arguments:
        path: A `.npy` file; a `.npz` or `.mat` file with one array, or with the name of one, as in
            `chardata.mat:testdata`; an idx file as those of MNIST, plain or gzip; an image file; or a folder with image
            files in it or below, which come in the order of their names.

    Raises:
        InputError: where it cannot be read, or holds no pictures of one size.
    """
    path, name = named(str(path), (".npz", ".mat"))
    where = f"`{path}`" if name is None else f"`{path}:{name}`"
    try:
        if path.is_dir():
            return _scaled(_from_folder(path), top)
        if path.suffix in (".npy", ".npz"):
            return as_pictures(array(path, name), where, top)
        if path.suffix == ".mat":
            return as_pictures(_upright(read_matlab(path, name)), where, top)
        if path.suffix.lower() in ENDINGS:
            return _scaled(_stacked([path]), top)
        return as_pictures(_from_idx(path), where, top)
    except OSError as error:
        raise InputError(f"cannot read the pictures `{path}`: {because(error)}.") from None


def _scaled(pictures: np.ndarray, top: int) -> np.ndarray:
    """Bytes on another scale than their own, where that is asked."""
    return pictures if top == 255 else pictures.astype(np.float32) / 255


def as_pictures(found: np.ndarray, where: str, top: int = 255) -> np.ndarray:
    """An array of any usual form as pictures; see `read_pictures`.

    Numbers may be whole, from 0 to `top`, or real, from 0 to 1. Zeros and ones alone are black and white whatever their
    type. Pictures are (N, H, W), (N, C, H, W) or (N, H, W, C), in one colour or three;
    or square in rows (N, D).

    Arguments:
        found: The array.
        where: What it is called in an error.
        top: The largest of whole numbers.

    Raises:
        InputError: for what is neither.
    """
    if found.dtype.kind not in "biuf":
        raise InputError(f"{where} holds the type `{found.dtype}`, and pictures have real numbers: convert it.")
    return _intensities(_arranged(found, where), where, top)


def _arranged(found: np.ndarray, where: str) -> np.ndarray:
    """With shape (N, C, H, W)."""
    shape = found.shape
    if found.size and found.ndim == 2 and _is_square(shape[1]):
        return found.reshape(len(found), 1, math.isqrt(shape[1]), -1)
    if found.size and found.ndim == 3:
        return found[:, None]
    if found.size and found.ndim == 4 and shape[1] in _DEPTHS:
        return found
    if found.size and found.ndim == 4 and shape[3] in _DEPTHS:
        return np.moveaxis(found, 3, 1)
    raise InputError(
        f"{where} has the shape {shape}, and pictures have (N, height, width), (N, channels, height, width) with 1 or "
        "3 channels, or, where they are square, rows (N, pixels): reshape it."
    )


def _intensities(found: np.ndarray, where: str, top: int) -> np.ndarray:
    least, most = found.min(), found.max()  # NaN where there is one.
    if not (least >= 0 and most <= top):
        raise InputError(
            f"{where} has numbers from {least:.4g} to {most:.4g}, and pictures have whole ones from 0 to {top}, or "
            "others from 0 to 1: scale them."
        )
    if found.dtype.kind in "biu":
        return np.ascontiguousarray(found, np.uint8) * np.uint8(top if most <= 1 else 1)
    if most > 1 and (found != np.rint(found)).any():
        raise InputError(f"{where} has fractions and a number of {most:.4g}: divide by the largest value there can be.")
    return np.ascontiguousarray(found, np.uint8 if most > 1 else np.float32)


def _upright(found: Any) -> np.ndarray:
    """A MATLAB array, whose last dimension counts pictures and whose columns fill first, as NumPy has them.

    Of a matrix each column is a picture, as in the OMNIGLOT of Burda et al. (2015), unless only its rows are square.
    """
    if not isinstance(found, np.ndarray) or found.ndim not in (2, 3, 4):
        return np.asarray(found)
    if found.ndim > 2:
        return np.moveaxis(found, -1, 0)
    pictures = found.T if _is_square(len(found)) else found
    side = math.isqrt(pictures.shape[1])
    return pictures.reshape(-1, side, side).swapaxes(1, 2) if _is_square(pictures.shape[1]) else pictures


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number


def _from_idx(path: Path) -> np.ndarray:
    found = read_idx(path, "pictures", _FORMS)
    if found.ndim == 1:
        raise InputError(f"`{path}` is an idx file of labels: give the one of images, such as train-images-idx3-ubyte.")
    return found


def read_idx(path: Path, what: str, forms: str) -> np.ndarray:
    """The bytes of an idx file, plain or gzip, in any number of dimensions.

    Arguments:
        path: The file.
        what: What it is to hold, and
        forms: in which forms that may be given, for an error.

    Raises:
        InputError: where it is no such file, or not a whole one.
    """
    content = path.read_bytes()
    if content[:2] == _GZIP:
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise InputError(f"`{path}` is not a whole gzip file, as its beginning says: download it again.") from None
    if content[:3] != _IDX:
        raise InputError(f"`{path}` holds no {what} that its name or beginning tells how to read: give {forms}.")
    dims = content[3] if len(content) > 3 else 0
    if len(content) < 4 + 4 * dims:
        raise _cut(path)
    shape = struct.unpack(f">{dims}I", content[4 : 4 + 4 * dims])
    if len(content) != 4 + 4 * dims + math.prod(shape):
        raise _cut(path)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape(shape)


def _cut(path: Path) -> InputError:
    return InputError(f"`{path}` is not a whole idx file, as its beginning says: download it again.")


def _from_folder(path: Path) -> np.ndarray:
    return _stacked(image_files(path))


def image_files(path: Path) -> list[Path]:
    """The image files in a folder or below, in the order of their names.

    Raises:
        InputError: where there are none.
    """
    # Hidden files are those of file managers.
    files = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in ENDINGS and not p.name.startswith(".")]
    if not files:
        raise InputError(f"the folder `{path}` holds no image files ({', '.join(ENDINGS)}): give {_FORMS}.")
    return files


def _stacked(files: list[Path]) -> np.ndarray:
    pictures = []
    for file, picture in zip(files, _opened(files), strict=True):
        if pictures and picture.shape != pictures[0].shape:
            first, here = (f"{p.shape[1]} x {p.shape[0]} in {p.shape[2]} channels" for p in (pictures[0], picture))
            raise InputError(f"`{file}` has {here}, and `{files[0]}` has {first}: give pictures of one size and mode.")
        pictures.append(picture)
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))


def _opened(files: list[Path]) -> Iterator[np.ndarray]:
    """The pixels (H, W, C) of each file."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise InputError(
            f"`{files[0]}` needs Pillow to be read: `pip install 'uncollapse[images]'`, or give a .npy array."
        ) from None
    for file in files:
        try:
            with Image.open(file) as image:
                pixels = _pixels(image, file)
        except InputError:
            raise
        except UnidentifiedImageError:
            raise InputError(f"`{file}` is no picture, as its name says: leave it out or store it again.") from None
        # Of what is cut or damaged, Pillow raises whatever its reading met; the system's own errors have a number.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InputError(f"`{file}` is not a whole picture ({error}): leave it out or store it again.") from None
        yield pixels.reshape(*pixels.shape[:2], -1)


def _pixels(image: Any, file: Path) -> np.ndarray:
    """Grey where the picture has no colours, and on white where it is transparent."""
    if image.mode.startswith(("I", "F")):
        raise InputError(f"`{file}` has more than 8 bits a pixel: convert it to 8 bits.")
    grey = image.mode in ("1", "L", "LA", "La")
    if "transparency" in image.info or image.mode.lower().endswith("a"):
        from PIL import Image

        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.asarray(image.convert("L" if grey else "RGB"))
