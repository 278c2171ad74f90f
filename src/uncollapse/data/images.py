"""Images: pictures in files, or scikit-learn's handwritten digits; their pixels zeros and ones, or levels.

Where they have labels, a batch is `Labelled`, and what becomes of a label is for the model to say (`models.vae`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from uncollapse.bound import Batch, Labelled
from uncollapse.data.batches import Batched, Groups, at_random
from uncollapse.data.labels import check_within_classes, grouped, numbered, of_files
from uncollapse.data.pictures import read_pictures
from uncollapse.data.reading import Tell
from uncollapse.data.showing import Binarise, Pictures
from uncollapse.data.splits import SPLITS, assigned
from uncollapse.errors import InputError
from uncollapse.quantities import Count, File, Index, Probability

#: The largest value of a pixel of the digits.
TOP = 16


@dataclass(frozen=True, kw_only=True)
class Images:
    """Pictures of one size in files; see `data.pictures.read_pictures`.

    Arguments:
        train, valid, test: Paths; the last two are split off the first where they are null.
        labels, valid_labels, test_labels: The labels of these, see `labels.read_labels`; null for none.
        binarise: How intensities become zeros and ones. "dynamic": a one with the probability of the intensity, drawn
            anew whenever a training batch is made, and once for validation and test; "fixed": drawn once for all;
            "threshold": a one above 1/2. Null leaves the 256 levels as they are, for another likelihood.
        split_seed: Of the split and of what is drawn once; part of the data, so not the seed of a training.
        batch_size: The most items of a training batch.
        evaluation_batch_size: The most items of a validation or test batch; the published MI depends on it.
        within_classes: The share of the training items whose batches hold a single class each; the others mix them.
    """

    train: File
    valid: File | None = None
    test: File | None = None
    labels: File | None = None
    valid_labels: File | None = None
    test_labels: File | None = None
    binarise: Binarise | None = "dynamic"
    split_seed: Index = 0
    batch_size: Count = 32
    evaluation_batch_size: Count = 32
    within_classes: Probability = 0.0

    kept: ClassVar[str] = "images.json"

    def load(self, tell: Tell | None = None) -> Gallery:
        """The pictures of every split.

        Raises:
            InputError: for a file that holds no pictures, pictures of several sizes, and too few to split.
        """
        files = {split: getattr(self, split) for split in SPLITS if getattr(self, split) is not None}
        read = {path: read_pictures(path) for path in dict.fromkeys(files.values())}
        for path, pictures in read.items():
            if pictures.shape[1:] != read[self.train].shape[1:]:
                raise InputError(
                    f"`{path}` has pictures of {pictures.shape[1:]}, and `{self.train}` of "
                    f"{read[self.train].shape[1:]} (channels, height, width): give pictures of one size."
                )
            if self.binarise is None and pictures.dtype != np.uint8:
                raise InputError(
                    f"`{path}` has real numbers, and no levels, which `data.binarise` null leaves as they are: give "
                    "bytes from 0 to 255, or let the pixels be drawn with `data.binarise=dynamic`."
                )
        shape = read[self.train].shape
        look = Pictures((shape[1], shape[2], shape[3]), self.binarise, self.split_seed)
        given = [read[files[split]] if split in files else None for split in SPLITS]
        labels = of_files([self.labels, self.valid_labels, self.test_labels], given, "pictures")
        return _gallery(look, given, self, labels)

    @staticmethod
    def restore(about: Any) -> Pictures:
        """What reads and writes pictures, from what `Gallery.about` says."""
        return Pictures.restored(about)


@dataclass(frozen=True, kw_only=True)
class Digits:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 pixels of 17 levels; nothing is downloaded.

    A tenth each is taken at random for validation and test. The digits are the test part of a set by Alpaydin & Kaynak
    (UCI, 1998), https://doi.org/10.24432/C50P49.

    Arguments:
        binarise: See `Images`; null leaves the 17 levels as they are.
        split_seed: Of the split and of what is drawn once; part of the data, so not the seed of a training.
        batch_size: The most items of a training batch.
        evaluation_batch_size: The most items of a validation or test batch; the published MI depends on it.
        labels: Whether the digits come with which they are.
        within_classes: See `Images`.
    """

    binarise: Binarise | None = "dynamic"
    split_seed: Index = 0
    batch_size: Count = 32
    evaluation_batch_size: Count = 32
    labels: bool = False
    within_classes: Probability = 0.0

    kept: ClassVar[str] = "images.json"

    def load(self, tell: Tell | None = None) -> Gallery:
        """The digits of every split.

        Raises:
            InputError: where scikit-learn is not installed.
        """
        look = Pictures((1, 8, 8), self.binarise, self.split_seed, TOP, digits)
        return _gallery(look, [digits(), None, None], self, [_digits().target.astype(str)] if self.labels else None)

    @staticmethod
    def restore(about: Any) -> Pictures:
        """What reads and writes digits, from what `Gallery.about` says."""
        return Pictures.restored(about, digits)


def digits() -> np.ndarray:
    """The digits with shape (1797, 1, 8, 8), from 0 to 16.

    Raises:
        InputError: where scikit-learn is not installed.
    """
    return _digits().images[:, None].astype(np.uint8)


def _digits() -> Any:
    try:
        there: Any = import_module("sklearn.datasets")
    except ImportError:
        raise InputError(
            "`digits` come with scikit-learn, which is not installed: `pip install 'uncollapse[digits]'`."
        ) from None
    return there.load_digits()


@dataclass(frozen=True, eq=False)
class Gallery:
    """The pictures of every split, each (N, C, H, W), and how they become batches."""

    splits: Mapping[str, np.ndarray]
    """As they were read."""
    settled: Mapping[str, np.ndarray]
    """As they are measured; see `Pictures.settled`."""
    look: Pictures
    batch_size: int
    evaluation_batch_size: int
    labels: Mapping[str, np.ndarray] | None = None
    """The numbers of the classes, each (N,); None without labels."""
    within_classes: float = 0.0

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256, in hexadecimal, of all pictures, of how they are drawn, and of their labels."""
        shapes = {split: pictures.shape for split, pictures in self.splits.items()}
        digest = hashlib.sha256(json.dumps([shapes, self.look.about()]).encode())
        for pictures in self.splits.values():
            digest.update(np.ascontiguousarray(pictures, "u1" if pictures.dtype == np.uint8 else "<f4").data)
        for labels in (self.labels or {}).values():
            digest.update(np.ascontiguousarray(labels, "<i8").data)
        return digest.hexdigest()

    @property
    def facts(self) -> dict[str, Any]:
        """See `Pictures.facts`."""
        return self.look.facts

    def batches(self, split: str) -> Batched:
        """A split in batches of random pictures, each a tensor (B, C, H, W) of numbers from 0 to 1, or `Labelled`.

        Of the training split, dynamic binarisation draws from torch's generator, which a run seeds at every step; what
        is measured of it is measured on pixels that were drawn once.
        """
        pictures, settled = self.splits[split], self.settled[split]
        labels = None if self.labels is None else torch.from_numpy(self.labels[split])

        def labelled(x: Tensor, ids: Tensor) -> Batch:
            return x if labels is None else Labelled(x, labels[ids])

        def measured(ids: Tensor) -> Batch:
            return labelled(self.look.values(settled[ids.numpy()]), ids)

        def drawn(ids: Tensor) -> Batch:
            return labelled(torch.bernoulli(self.look.intensities(pictures[ids.numpy()])), ids)

        anew = split == "train" and self.look.binarise == "dynamic"
        groups = self._groups(split)
        return Batched(drawn, groups, measured) if anew else Batched(measured, groups)

    def _groups(self, split: str) -> Groups:
        """The items of each batch."""
        if split != "train":
            return at_random(len(self.splits[split]), self.evaluation_batch_size, seed=0)
        labels = None if self.labels is None else self.labels[split]
        return grouped(labels, len(self.splits[split]), self.batch_size, self.within_classes)

    def about(self) -> dict[str, Any]:
        """What `Pictures` holds."""
        return self.look.about()

    def remarks(self, parameters: Callable[[Mapping[str, Any]], int]) -> Iterator[str]:
        """Levels of which only the two ends are used."""
        pictures = self.splits["train"]
        if self.look.binarise is None and not ((pictures > 0) & (pictures < self.look.top)).any():
            yield "all pixels of `train` are black or white: give them the law of two values, by data.binarise=fixed."

    def distinct(self, split: str, limit: int) -> int:
        """How many different pictures there are as they are measured, counted up to a limit."""
        found: set[bytes] = set()
        for picture in self.settled[split]:
            found.add(picture.tobytes())
            if len(found) >= limit:
                break
        return len(found)


def _gallery(
    look: Pictures, given: list[np.ndarray | None], how: Images | Digits, labels: list[np.ndarray] | None
) -> Gallery:
    """The pictures of each split; what is not given is taken from the first at random.

    Raises:
        InputError: for batches within classes where there are no labels.
    """
    check_within_classes(how.within_classes, labels)
    which = assigned([None if pictures is None else len(pictures) for pictures in given], how.split_seed)
    there = [pictures for pictures in given if pictures is not None]
    # File by file, so that a picture is drawn as it is where a person gives the file to `reconstruct`.
    settled = np.concatenate([look.settled(pictures) for pictures in there])
    if len({pictures.dtype for pictures in there}) > 1:
        there = [look.intensities(pictures).float().numpy() for pictures in there]
    pictures = np.concatenate(there)
    columns = [pictures, settled]
    if labels is not None:
        classes, numbers = numbered(labels)
        look = replace(look, classes=classes)
        columns.append(np.concatenate(numbers))
    splits = [{name: each[which == k] for k, name in enumerate(SPLITS)} for each in columns]
    sizes = how.batch_size, how.evaluation_batch_size
    return Gallery(splits[0], splits[1], look, *sizes, splits[2] if labels else None, how.within_classes)
