"""What a person should hear of some data before hours go into it, in sentences that say what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from uncollapse.data.kinds import Data
from uncollapse.experiment import build
from uncollapse.experiment.spec import Spec
from uncollapse.quantities import steps

FEW = 30  # different items


def on_training(spec: Spec, data: Data) -> Iterator[str]:
    """What to know before a model is trained."""
    yield from data.remarks(partial(build.parameters, spec))
    yield from _on_phases(spec, len(data.batches("train")))
    yield from on_items(data, "train")


def _on_phases(spec: Spec, steps_per_epoch: int) -> Iterator[str]:
    training = spec.training
    if training.procedure.kind != "phases":
        return
    ahead = [one.length and steps(one.length, steps_per_epoch) for _, one in sorted(training.procedure.phases.items())]
    first = sum(filter(None, ahead[:-1])) / steps_per_epoch
    if first >= training.max_epochs:
        yield (
            f"the last phase begins after {first:g} epochs, and there are at most {training.max_epochs}: set "
            "`training.max_epochs`, or give the phases before it a shorter `length`."
        )


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
