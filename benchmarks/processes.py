"""How near several processes come to one: the largest difference of weights and of validation figures.

    torchrun --nproc-per-node 2 benchmarks/processes.py

Every process first trains alone, then together with the others, on the same batches of the demo's text and networks
(dropout 0.5), and prints how far apart the two ended, what a step took, and whether all decisions were the same.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import torch

from uncollapse.data.corpora import Texts
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.hardware import launch
from uncollapse.experiment.spec import validated
from uncollapse.processes import ALONE, Processes
from uncollapse.training import state
from uncollapse.training.listeners import Moment
from uncollapse.training.procedures import Aggressive, Joint, Procedure
from uncollapse.training.trainer import Trainer

STEPS, BATCH = 60, 29  # an odd batch: its shares differ in size
CASES: tuple[tuple[str, Procedure, bool], ...] = (
    ("joint", Joint(), False),
    ("aggressive, by its rule", Aggressive(limit=30), False),
    ("aggressive, own clipping", Aggressive(budget=5, clip="own"), False),
    ("joint, FSDP2", Joint(), True),
    ("aggressive, by its rule, FSDP2", Aggressive(limit=30), True),
)


def train(processes: Processes, procedure: Procedure, sharded: bool) -> tuple[dict[str, torch.Tensor], Any, float]:
    """The weights, what was decided and measured, and the seconds a training step took."""
    spec = validated(compose("demo", []))
    data = build.data(spec)
    assert isinstance(data, Texts)
    told: list[Any] = []

    def hear(moment: Moment) -> None:
        if moment.kind in ("window", "epoch"):
            told.append({k: v for k, v in moment.values.items() if "seconds" not in k})

    batches = data.corpus.batches("train", BATCH)
    trainer = Trainer(
        build.model(spec, data.facts),
        [batches[i] for i in range(0, len(batches), max(1, len(batches) // STEPS))][:STEPS],
        data.corpus.batches("valid", BATCH),
        procedure=copy.deepcopy(procedure),
        max_epochs=1,
        listeners=[hear],
        processes=processes,
        sharded=sharded,
    )
    began = time.perf_counter()
    trainer.fit()
    return state.weights(trainer.model), told, (time.perf_counter() - began) / STEPS


def main() -> None:
    torch.set_num_threads(1)
    processes = launch(devices=2).processes
    for name, procedure, sharded in CASES:
        alone, story, seconds = train(ALONE, procedure, False)
        weights, together, spent = train(processes, procedure, sharded)
        apart = max(float((alone[key] - weights[key]).abs().max()) for key in alone)
        figures = [
            abs(epoch[figure]["value"] - other[figure]["value"])
            for epoch, other in zip(story, together, strict=True)
            for figure in ("neg_elbo", "kl", "mi")
            if figure in epoch
        ]
        inner = [[window["descents"] for window in told if "descents" in window] for told in (story, together)]
        if processes.leads:
            print(
                f"{name}: {STEPS} steps, weights {apart:.1e}, figures {max(figures):.1e}, "
                f"inner steps {'equal' if inner[0] == inner[1] else 'NOT equal'} ({sum(inner[0]) / len(inner[0]):.1f} "
                f"descents a step), {seconds:.3f} s a step alone, {spent:.3f} s together",
                flush=True,
            )


if __name__ == "__main__":
    main()
