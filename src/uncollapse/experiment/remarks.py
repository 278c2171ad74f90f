"""What a person should hear of some data before hours go into it, in sentences that say what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from uncollapse.data.kinds import Data
from uncollapse.experiment import build
from uncollapse.experiment.spec import Spec

FEW = 30  # different items


def on_training(spec: Spec, data: Data) -> Iterator[str]:
    """What to know before a model is trained."""
    yield from data.remarks(partial(build.parameters, spec))
    yield from on_items(data, "train")


def on_items(data: Data, split: str) -> Iterator[str]:
    """What to know of figures that are measured on a split."""
    count = data.distinct(split, FEW)
    if count == 1:
        yield f"all items of `{split}` are the same, so that z has nothing to tell: KL and MI can only be 0."
    elif count < FEW:
        yield (
            f"`{split}` holds only {count} different items, so that z can tell no more than which: "
            f"an MI of at most log {count} = {math.log(count):.2f} nats."
        )
