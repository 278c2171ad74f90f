"""The splits of a set of items, and how one that is not given is taken from the training items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from uncollapse.errors import InputError

SPLITS = ("train", "valid", "test")
#: The most items that are taken from the training items for another split: of more, no figure gets much surer (the
#: mutual information takes no more), and validation would cost more than a training epoch of other sets.
MOST = 10_000


def assigned(counts: Sequence[int | None], seed: int) -> np.ndarray:
    """The split of every item, with shape (N,); what has no items of its own takes a tenth of the first, at most MOST.

    Arguments:
        counts: The items of each split; None where it is to be taken from the first.
        seed: Of what is taken.
    """
    train, missing = counts[0] or 0, [split for split, count in enumerate(counts) if count is None]
    share = min(max(1, train // 10), MOST)
    if missing and train <= len(missing) * share:
        raise InputError(f"{train} training items are too few to take {len(missing)} splits from: give more.")
    splits = np.repeat(np.arange(len(SPLITS), dtype=np.uint8), [count or 0 for count in counts])
    if missing:
        order = torch.randperm(train, generator=torch.Generator().manual_seed(seed)).numpy()
        for k, split in enumerate(missing):
            splits[order[k * share : (k + 1) * share]] = split
    return splits
