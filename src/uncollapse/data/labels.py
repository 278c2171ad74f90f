"""Labels of items in files, and the classes that they name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from uncollapse.data.batches import Groups, at_random
from uncollapse.data.pictures import image_files, read_idx
from uncollapse.data.tables import array, named
from uncollapse.errors import InputError, because

_FORMS = (
    "a .npy or .npz array, a .txt or .csv file with one a line, an idx file of labels, or the folder of pictures, with "
    "a folder for each class"
)
_LINES = (".txt", ".csv")


def of_files(paths: Sequence[str | None], items: Sequence[np.ndarray | None], what: str) -> list[np.ndarray] | None:
    """The labels of each file of items, by the settings `labels`, `valid_labels` and `test_labels`; None without any.

    Arguments:
        paths: Those of the labels, by split.
        items: The items of each file, by split; None where a split has no file.
        what: They are called, such as "pictures".

    Raises:
        InputError: where some have labels and others do not, or another number of them; see also `read_labels`.
    """
    if not any(paths):
        return None
    found = []
    for name, path, there in zip(("labels", "valid_labels", "test_labels"), paths, items, strict=True):
        if (path is None) != (there is None):
            why = f"missing, and there are {what}" if path is None else f"given, and there are no {what}"
            raise InputError(f"`data.{name}` is {why} that it is of: give labels for every file of {what}.")
        if path is not None and there is not None:
            found.append(read_labels(path))
            if len(found[-1]) != len(there):
                raise InputError(
                    f"`{path}` has {len(found[-1]):,} labels, and there are {len(there):,} {what}: give one each."
                )
    return found


def read_labels(path: str | Path) -> np.ndarray:
    """The labels of a file, one an item, as texts with shape (N,).

    Arguments:
        path: A `.npy` file; a `.npz` file with one array, or with the name of one, as in `x.npz:digit`; a `.txt` or
            `.csv` file, UTF-8, one a line and no header; an idx file as the labels of MNIST, plain or gzip; or a folder
            of pictures, each of which has the name of the folder that it is in as its label.

    Raises:
        InputError: where it cannot be read, or holds no labels.
    """
    path, name = named(str(path))
    where = f"`{path}`" if name is None else f"`{path}:{name}`"
    try:
        if path.is_dir():
            return np.array([file.parent.name for file in image_files(path)])
        if path.suffix in _LINES:
            return _lines(path)
        numpys = path.suffix in (".npy", ".npz")
        return _texts(array(path, name) if numpys else read_idx(path, "labels", _FORMS), where)
    except OSError as error:
        raise InputError(f"cannot read the labels `{path}`: {because(error)}.") from None


def _lines(path: Path) -> np.ndarray:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"`{path}` is not UTF-8: {error.reason} at byte {error.start:,}. Convert it.") from None
    found = [line.strip() for line in lines]
    for number, label in enumerate(found, 1):
        if not label:
            raise InputError(f"`{path}`, line {number}, is empty: give a label a line, and no other line.")
    return _texts(np.array(found), f"`{path}`")


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


def check_within_classes(share: float, labels: object) -> None:
    """Refuses batches within classes where there are no labels.

    Raises:
        InputError: where there are none.
    """
    if share and labels is None:
        raise InputError(
            "`data.within_classes` is a share of items with labels, and there are none: set `data.labels`."
        )


def grouped(labels: np.ndarray | None, items: int, batch_size: int, within_classes: float) -> Groups:
    """The training items of each batch, at random.

    Arguments:
        labels: The class of every item, with shape (N,), if any.
        items: N.
        batch_size: The most items of a batch.
        within_classes: The share of the items whose batches hold a single class each; the others mix them.
    """
    if labels is None or not within_classes:
        return at_random(items, batch_size, seed=0)
    return partly_by_class(torch.from_numpy(labels), batch_size, within_classes)


def partly_by_class(labels: Tensor, batch_size: int, share: float) -> Groups:
    """Groups of random items, a share of which is in groups of one class each.

    Arguments:
        labels: The class of every item, with shape (N,).
        batch_size: The most items of a group.
        share: Of all items.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    alike, others = order.split([cut := round(share * len(order)), len(order) - cut])
    within = [part for name in labels.unique() for part in alike[labels[alike] == name].split(batch_size)]
    return Groups.of([part for part in [*within, *others.split(batch_size)] if len(part)])
