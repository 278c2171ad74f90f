"""A watch over a run: what it sees is kept in the run's folder, so that a run that goes on is watched on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from uncollapse import files
from uncollapse.data.batches import Batched
from uncollapse.diagnosis.watch import PAIRED, Alarm, Look, Watch
from uncollapse.experiment.execute import subset
from uncollapse.experiment.run import WATCH
from uncollapse.training.listeners import Moment


class Watching:
    """Looks at the posteriors of some validation items every 100 steps, and keeps each look and the alarm, a line each.

    Where a run goes on, the looks of the steps it still has are recalled, so that an alarm is raised once.

    Arguments:
        path: The file.
        model: What is trained.
        valid: The validation split, of which it looks at 64 items.
        say: Hears the alarm, a sentence.

    Raises:
        InputError: where the file cannot be written.
    """

    def __init__(self, path: Path, model: nn.Module, valid: Batched, say: Callable[[str], None]) -> None:
        self.path, self.say = path, say
        self.watch = Watch(say=self._raised)
        self._hears = self.watch.listener(model, valid.make(subset(valid, PAIRED).items.order.sort().values))

    def __call__(self, moment: Moment) -> None:
        if moment.kind == "start":
            self._go_on(moment.step)
        before = len(self.watch.looks)
        self._hears(moment)
        self._write("a", [look.to_json() for look in self.watch.looks[before:]])

    def _go_on(self, step: int) -> None:
        kept = [one for one in records(self.path) if one["step"] <= step]
        self.watch.recall(Look.of_json(one) for one in kept if "rates" in one)
        self._write("w", kept)

    def _raised(self, alarm: Alarm) -> None:
        self._write("a", [{"step": self.watch.looks[-1].step, "alarm": str(alarm)}])
        self.say(str(alarm))

    def _write(self, mode: str, kept: list[dict[str, Any]]) -> None:
        try:
            with self.path.open(mode, encoding="utf-8") as file:
                file.writelines(json.dumps(one) + "\n" for one in kept)
        except OSError as error:
            raise files.unwritable(self.path, error) from error


def alarm_of(run: Path) -> str | None:
    """The alarm that a run's watch has raised."""
    return next((one["alarm"] for one in records(run / WATCH) if isinstance(one.get("alarm"), str)), None)


def records(path: Path) -> Iterator[dict[str, Any]]:
    """What a watch has kept, in whole lines; a kill may have cut the last."""
    for line in path.read_text("utf-8", "replace").splitlines() if path.is_file() else []:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and isinstance(said.get("step"), int):
            yield said
