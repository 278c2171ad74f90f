"""Labels of items in files, and the classes that they name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uncollapse.data.pictures import image_files, read_idx
from uncollapse.data.tables import array, named
from uncollapse.errors import InputError, because

_FORMS = "a .npy or .npz array, an idx file of labels, or the folder of pictures, with a folder for each class"


def read_labels(path: str | Path) -> np.ndarray:
    """The labels of a file, one an item, as texts with shape (N,).

    Arguments:
        path: A `.npy` file; a `.npz` file with one array, or with the name of one, as in `x.npz:digit`; an idx file
            as the labels of MNIST, plain or gzip; or a folder of pictures, each of which has the name of the folder
            that it is in as its label.

    Raises:
        InputError: where it cannot be read, or holds no labels.
    """
    path, name = named(str(path))
    where = f"`{path}`" if name is None else f"`{path}:{name}`"
    try:
        if path.is_dir():
            return np.array([file.parent.name for file in image_files(path)])
        numpys = path.suffix in (".npy", ".npz")
        return _texts(array(path, name) if numpys else read_idx(path, "labels", _FORMS), where)
    except OSError as error:
        raise InputError(f"cannot read the labels `{path}`: {because(error)}.") from None


def _texts(found: np.ndarray, where: str) -> np.ndarray:
    if found.ndim != 1 or not len(found):
        raise InputError(f"{where} has the shape {found.shape}, and labels have (N,): give one an item.")
    if found.dtype.kind == "f" and (found == np.rint(found)).all():
        found = found.astype(np.int64)
    if found.dtype.kind not in "biuU":
        raise InputError(f"{where} holds the type `{found.dtype}`, and labels are whole numbers or texts: convert it.")
    return found.astype(str)


def numbered(labels: Sequence[np.ndarray]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """The classes that some labels name, in order, and the number of each label's class.

    Numbers come in their own order before texts in theirs.

    Raises:
        InputError: where there is one class alone.
    """
    there = {str(label) for some in labels for label in np.unique(some)}
    classes = sorted(there, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    if len(classes) < 2:
        raise InputError(f"all labels are `{classes[0]}`, and there is nothing to tell: give labels of two classes.")
    places = {name: k for k, name in enumerate(classes)}
    return tuple(classes), [np.array([places[str(label)] for label in some], np.int64) for some in labels]
