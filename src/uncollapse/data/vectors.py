"""Vectors: tables of numbers, an item a row."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from uncollapse.bound import Batch, Labelled, Source
from uncollapse.data import batches
from uncollapse.data.batches import Batched, at_random
from uncollapse.data.kinds import How
from uncollapse.data.labels import check_within_classes, grouped, numbered, of_files
from uncollapse.data.reading import Tell
from uncollapse.data.splits import SPLITS, assigned
from uncollapse.data.tables import read_table
from uncollapse.data.tensors import WAYS, Tensors, written
from uncollapse.errors import InputError
from uncollapse.quantities import Count, File, Index, Probability

FAR = 100.0  # Columns that spread more, or less than its inverse, are hard on a network.


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """A table of numbers in `.npy`, `.npz` or `.csv` files, one item a row; see `data.tables.read_table`.

    Arguments:
        train, valid, test: Paths; the last two are split off the first where they are null.
        labels, valid_labels, test_labels: The labels of these, see `labels.read_labels`; null for none.
        standardise: Whether every column is shifted and scaled to mean 0 and variance 1 in the training split. Figures
            are then of the scaled numbers: NLL and distortion are lower by the sum of the logarithms of the scales.
        split_seed: Of the split; part of the data, so not the seed of a training.
        batch_size: The most items of a training batch.
        evaluation_batch_size: The most items of a validation or test batch.
        within_classes: The share of the training items whose batches hold a single class each; the others mix them.
    """

    train: File
    valid: File | None = None
    test: File | None = None
    labels: File | None = None
    valid_labels: File | None = None
    test_labels: File | None = None
    standardise: bool = False
    split_seed: Index = 0
    batch_size: Count = 32
    evaluation_batch_size: Count = 32
    within_classes: Probability = 0.0

    kept: ClassVar[str] = "vectors.json"

    def load(self, tell: Tell | None = None) -> Table:
        """The rows of every split.

        Raises:
            InputError: for a file that holds no table, tables of different columns, and too few rows to split.
        """
        paths = [path for path in (self.train, self.valid, self.test) if path is not None]
        tables = {path: read_table(path) for path in dict.fromkeys(paths)}
        for path in paths:
            if tables[path].shape[1] != tables[self.train].shape[1]:
                raise InputError(
                    f"`{path}` has {tables[path].shape[1]} columns, and `{self.train}` has "
                    f"{tables[self.train].shape[1]}: give tables of the same columns."
                )
        given = [None if path is None else tables[path] for path in (self.train, self.valid, self.test)]
        labels = of_files([self.labels, self.valid_labels, self.test_labels], given, "rows")
        check_within_classes(self.within_classes, labels)
        which = assigned([None if rows is None else len(rows) for rows in given], self.split_seed)
        splits = _split([rows for rows in given if rows is not None], which)
        columns = _standard(splits["train"]) if self.standardise else Columns(splits["train"].shape[1])
        scaled = {split: columns.scaled(rows) for split, rows in splits.items()}
        classes, numbers = ((), None) if labels is None else numbered(labels)
        return Table(
            scaled,
            replace(columns, classes=classes),
            self.batch_size,
            self.evaluation_batch_size,
            None if numbers is None else _split(numbers, which),
            self.within_classes,
        )

    @staticmethod
    def restore(about: Any) -> Columns:
        """What reads and writes vectors, from what `Table.about` says."""
        return Columns.restored(about)


@dataclass(frozen=True)
class Columns:
    """What the numbers of an item are: how many, and by what they are shifted and scaled for a model.

    Arguments:
        size: D.
        shift, scale: (D,); None where the model reads the numbers as they are.
        classes: The names of the classes that labels are of; none without labels.
    """

    size: int
    shift: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    classes: tuple[str, ...] = ()

    ways: ClassVar[Mapping[str, tuple[str, ...]]] = WAYS
    reads: ClassVar[tuple[str, ...]] = ()
    unit: ClassVar[str] = "vectors"

    @classmethod
    def restored(cls, about: Any) -> Columns:
        """From what `Table.about` says.

        Raises:
            InputError: where it is something else.
        """
        classes = about.get("classes", []) if isinstance(about, dict) else []
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise InputError("it does not say what the classes of labels are called (`classes`).")
        match about:
            case {"columns": int() as size, "shift": None, "scale": None} if size > 0:
                return cls(size, classes=tuple(classes))
            case {"columns": int() as size, "shift": [*shift], "scale": [*scale]}:
                numbers = [*shift, *scale]
                finite = all(isinstance(one, float) and math.isfinite(one) for one in numbers)
                if len(shift) == len(scale) == size > 0 and finite and min(scale) > 0:
                    return cls(size, tuple(shift), tuple(scale), tuple(classes))
        raise InputError("it does not say what the columns are (`columns`, `shift`, `scale`).")

    @property
    def facts(self) -> dict[str, Any]:
        """The shape of an item and, where there are labels, of how many classes."""
        return {"shape": (self.size,)} | ({"label_classes": len(self.classes)} if self.classes else {})

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """Rows (N, D) as the model reads them."""
        if self.shift is None:
            return rows
        return ((rows - np.array(self.shift)) / np.array(self.scale)).astype(np.float32)

    def read(self, path: Path, layout: Mapping[str, Any]) -> np.ndarray:
        """The rows of a file; see `tables.read_table`."""
        rows = read_table(path)
        self._check(rows.shape[1], f"`{path}`")
        return rows

    def item(self, said: str) -> np.ndarray:
        """Numbers with commas between them, such as "1,0.5,-2"."""
        try:
            row = np.array([float(number) for number in said.split(",")], np.float32)
        except ValueError:
            raise InputError(f"`{said[:80]}` is no vector: give numbers with commas between them.") from None
        self._check(len(row), f"`{said[:80]}`")
        return row

    def together(self, first: Any, second: Any) -> Tensor:
        """Both rows in one tensor."""
        return Tensors().together(first, second)

    def source(self, items: Any, batch_size: int) -> Source:
        """Rows as a tensor or an array (N, D), in batches; batches already made are taken as they are."""
        if not isinstance(items, Tensor | np.ndarray):
            return batches.source(items, batch_size)
        self._check(items.shape[1] if items.ndim == 2 else 0, f"an array of shape {tuple(items.shape)}")
        rows = items.detach().cpu().numpy() if isinstance(items, Tensor) else items
        return batches.source(self.scaled(rows), batch_size)

    def write(self, decoder: nn.Module, z: Tensor, how: How) -> Tensor:
        """Means or draws with shape (N, D), in the numbers of the table."""
        rows = written(decoder, z, how)
        if self.shift is None or self.scale is None:
            return rows
        return rows * rows.new_tensor(self.scale) + rows.new_tensor(self.shift)

    def lines(self, written: Tensor) -> list[str]:
        """Rows of a `.csv` file."""
        return Tensors().lines(written)

    def plain(self, written: Tensor) -> list[Any]:
        """The numbers."""
        return written.tolist()

    def _check(self, columns: int, what: str) -> None:
        if columns != self.size:
            raise InputError(
                f"{what} has {columns or 'no'} columns, and the model was trained on {self.size}: give as many."
            )


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of every split, each (N, D) in float32, as the model reads them."""

    splits: Mapping[str, np.ndarray]
    columns: Columns
    batch_size: int
    evaluation_batch_size: int
    labels: Mapping[str, np.ndarray] | None = None
    """The numbers of the classes, each (N,); None without labels."""
    within_classes: float = 0.0

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256, in hexadecimal, of all rows and of their labels."""
        digest = hashlib.sha256(json.dumps({split: rows.shape for split, rows in self.splits.items()}).encode())
        for rows in self.splits.values():
            digest.update(np.ascontiguousarray(rows, "<f4").data)
        for labels in (self.labels or {}).values():
            digest.update(np.ascontiguousarray(labels, "<i8").data)
        return digest.hexdigest()

    @property
    def facts(self) -> dict[str, Any]:
        """See `Columns.facts`."""
        return self.columns.facts

    def batches(self, split: str) -> Batched:
        """A split in batches of random rows, each a tensor (B, D), or `Labelled`."""
        rows, labels = self.splits[split], None if self.labels is None else self.labels[split]
        kind = torch.get_default_dtype()

        def batch(ids: Tensor) -> Batch:
            x = torch.from_numpy(rows[ids.numpy()]).to(kind)
            return x if labels is None else Labelled(x, torch.from_numpy(labels[ids.numpy()]))

        if split != "train":
            return Batched(batch, at_random(len(rows), self.evaluation_batch_size, seed=0))
        return Batched(batch, grouped(labels, len(rows), self.batch_size, self.within_classes))

    def about(self) -> dict[str, Any]:
        """What `Columns` holds."""
        shift, scale = self.columns.shift, self.columns.scale
        said = {"columns": self.columns.size, "shift": shift and [*shift], "scale": scale and [*scale]}
        return said | ({"classes": list(self.columns.classes)} if self.columns.classes else {})

    def remarks(self, parameters: Callable[[Mapping[str, Any]], int]) -> Iterator[str]:
        """Columns that are constant or of another scale than networks like, where the numbers are not 0 and 1."""
        rows = self.splits["train"]
        if ((rows == 0) | (rows == 1)).all():
            return
        spread = rows.std(0, dtype=np.float64)
        constant, moving = np.flatnonzero(spread == 0).tolist(), spread[spread > 0]
        if constant:
            yield (
                f"{len(constant)} of {len(spread)} columns are constant in `train`, the first of them column "
                f"{constant[0] + 1}: the density of a constant has no limit, and the NLL means little. Leave them out."
            )
        if len(moving) and (moving.max() > FAR or moving.min() < 1 / FAR):
            yield (
                f"the standard deviations of the columns go from {moving.min():.3g} to {moving.max():.3g}, and "
                "networks learn best near 1: let them be scaled with --set data.standardise=true."
            )

    def distinct(self, split: str, limit: int) -> int:
        """How many different rows there are, counted up to a limit."""
        found: set[bytes] = set()
        for row in self.splits[split]:
            found.add((row + 0.0).tobytes())  # No minus zero.
            if len(found) >= limit:
                break
        return len(found)


def _split(files: Sequence[np.ndarray], which: np.ndarray) -> dict[str, np.ndarray]:
    """What some files hold, one an item, by the split of every item."""
    whole = np.concatenate(files)
    return {split: whole[which == number] for number, split in enumerate(SPLITS)}


def _standard(rows: np.ndarray) -> Columns:
    shift, scale = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    return Columns(len(shift), tuple(shift.tolist()), tuple(np.where(scale > 0, scale, 1.0).tolist()))
