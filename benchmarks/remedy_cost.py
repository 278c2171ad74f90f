"""What a training step costs with each remedy, beside a plain one.

    python benchmarks/remedy_cost.py [--only free-bits mae] [--rounds 5] > src/uncollapse/experiment/costs.yaml

One thread. The model of the recipe `snli-small` on random tokens, 40 batches of 32 items of 10; that of `vectors` on as
many random vectors of 50 dimensions for what is not of text, and of `digits` on random labelled images for what reads
labels. A remedy's steps take turns with plain ones, and what counts is processor time: the median over rounds of the
ratio of four steps, the first ones of a run. Remedies that act later, or on epochs rather than steps, cost what their
entry says.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from uncollapse.bound import Labelled
from uncollapse.data.batches import source
from uncollapse.data.text import Text
from uncollapse.experiment import build
from uncollapse.experiment.catalogue import remedies
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.training.trainer import Trainer

BATCH, BATCHES, WORDS, LENGTH, WIDTH, STEPS = 32, 40, 4_000, 10, 50, 4
DIGITS = {"shape": (1, 8, 8), "levels": 2, "label_classes": 10}


def tokens(items: int) -> Text:
    found = torch.randint(4, WORDS, (items, LENGTH + 2))
    found[:, 0], found[:, -1] = 1, 2
    return Text(found)


def vectors(items: int) -> Tensor:
    return torch.randn(items, WIDTH)


def labelled(items: int) -> Labelled:
    return Labelled(torch.bernoulli(torch.full((items, *DIGITS["shape"]), 0.5)), torch.arange(items) % 10)


#: What makes items for a recipe, and what is known of them.
MADE: dict[str, tuple[Callable[[int], Any], dict[str, Any]]] = {
    "snli-small": (tokens, {"vocabulary": WORDS}),
    "vectors": (vectors, {"shape": (WIDTH,)}),
    "digits": (labelled, DIGITS),
}


def trainer(recipe: str, remedy: str) -> Trainer:
    torch.manual_seed(0)
    spec = validated(compose(recipe, [remedy], [] if recipe == "digits" else ["data.train=random"]))
    make, facts = MADE[recipe]
    model = build.model(spec, facts)
    train, valid = (source(make(BATCH * batches), BATCH) for batches in (BATCHES, 2))
    return build.trainer(spec.training, model, train, valid, seed=0)


def seconds(run: Any) -> float:
    """The processor time of some steps."""
    began = time.process_time()
    for i in range(STEPS):
        run.loop._outer_step((run.descent.step + i) % BATCHES)
    return time.process_time() - began


def ratio(remedy: str, rounds: int) -> float:
    """The time of its steps over that of plain ones; the first round warms up."""
    needs = remedies()[remedy].needs
    recipe = "digits" if "label_classes" in needs else "vectors" if "shape" in needs else "snli-small"
    one, plain = trainer(recipe, remedy), trainer(recipe, "plain")
    return median([seconds(one) / seconds(plain) for _ in range(rounds + 1)][1:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(remedies()), default=list(remedies()))
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("# The time of a training step over that of a plain one, by `python benchmarks/remedy_cost.py`.")
    for name in given.only:
        print(f"{name}: {ratio(name, given.rounds):.2f}", flush=True)
