"""The course of a training in posterior mean space and in information, for the figures of `reproduce`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from uncollapse.data.batches import Batched
from uncollapse.experiment.probe import STEPS
from uncollapse.experiment.run import read_json, write_json
from uncollapse.inference import Inference, amortised
from uncollapse.metrics.evaluation import evaluate
from uncollapse.metrics.mean_space import mean_space
from uncollapse.training.listeners import Moment

#: The name of the folder in that of a run.
FOLDER = "course"
#: How many items' ways through posterior mean space are kept step by step.
FEW = 8
#: Items that go through the decoder together.
BATCH = 64

#: When each measure is taken within epochs; all are at the end too, and the cheap ones after each epoch.
SCHEDULE: dict[str, Callable[[int], bool]] = {
    "space": lambda step: step in STEPS,
    "trajectory": lambda step: step <= 200 or (step <= 2000 and step % 20 == 0),
    "information": lambda step: step <= 2000 and step % 100 == 0,
}


class Course:
    """Measures some validation items at scheduled steps: a file of JSON for each measure and step.

    It hears in one process. What is there already is not measured again, as a run that goes on repeats itself exactly.

    Arguments:
        folder: Where the files go.
        model: What is trained.
        batches: The validation items.
        inference: How q is found.
        measures: Those that are taken, by name.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        batches: Batched,
        inference: Inference = amortised,
        measures: Sequence[str] = tuple(SCHEDULE),
    ) -> None:
        items, how = batches.items.order.sort().values, {"inference": inference}
        many, few = (Batched(batches.make, some.split(BATCH)) for some in (items, items[:FEW]))
        figures = {"samples": 0, "bound_samples": 1, "mi_passes": 5}
        every: dict[str, Callable[[], Any]] = {
            "space": partial(mean_space, model, many, **how),
            "trajectory": partial(mean_space, model, few, **how),
            "information": partial(evaluate, model, many, **figures, **how),
        }
        self.folder, self.measures = folder, {name: every[name] for name in measures}

    def __call__(self, moment: Moment) -> None:
        for name in self.measures.keys() & due(moment):
            path = self.folder / f"{name}-{'end' if moment.kind == 'end' else f'{moment.step:08d}'}.json"
            if not path.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                found = self.measures[name]().to_json()
                write_json(path, {"step": moment.step, "epoch": moment.epoch, **found})


def due(moment: Moment) -> list[str]:
    """The measures that are taken at a moment."""
    if moment.kind == "end":
        return list(SCHEDULE)
    if moment.kind == "epoch":
        return ["trajectory", "information"]
    return [name for name, at in SCHEDULE.items() if moment.kind in ("start", "step") and at(moment.step)]


def records(run: Path, measure: str) -> list[dict[str, Any]]:
    """What a course has of a measure, in order; the end, which is of the best weights, comes last.

    Raises:
        InputError: where a file is damaged.
    """
    return [read_json(path) for path in sorted((run / FOLDER).glob(f"{measure}-*.json"))]
