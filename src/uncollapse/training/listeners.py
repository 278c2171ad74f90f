"""What a training run tells, and who listens: lines of JSON, a progress bar, TensorBoard.

A listener is a callable of a `Moment`; it reads and reports, and changes nothing of the run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from uncollapse import files
from uncollapse.documents import finite, visible


class Moment(NamedTuple):
    """Something that happened in a run."""

    kind: Literal["start", "step", "window", "epoch", "end"]
    """A window is a fixed number of steps; its values are means over them, and were read back from the device."""
    step: int
    epoch: int
    values: dict[str, Any]


Listener = Callable[[Moment], None]
#: The kinds that a log keeps; the moment "start" says how many of them were told before it.
TOLD = ("window", "epoch")


class JSONLines:
    """Writes windows and epochs to a file, a line each, flushed; on resume cuts back what lies beyond.

    An epoch is on the disk before its checkpoint is. Of the windows since, a cut of power may take some: on resume
    standard error says how many, and in the file a record of the kind "lost" stands for each.

    Raises:
        InputError: where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.steps = path, 0

    def __call__(self, moment: Moment) -> None:
        try:
            if moment.kind == "start":
                self.steps = moment.values["epochs"] * moment.values["steps_per_epoch"]
                self._go_on(moment, moment.values["told"])
            elif moment.kind in TOLD:
                self._write(moment, moment.kind, moment.values)
        except OSError as error:
            raise files.unwritable(self.path, error) from error

    def _go_on(self, moment: Moment, told: int) -> None:
        lost = told - _keep(self.path, told)
        if lost:
            said = f"`{self.path}` has lost {lost} of its {told} records, as a cut of power may take them"
            print(visible(f"uncollapse: {said}; of the run itself nothing is lost."), file=sys.stderr)
            self._write(moment, "lost", {}, lost)

    def _write(self, moment: Moment, kind: str, values: dict[str, Any], times: int = 1) -> None:
        record = {"kind": kind, "step": moment.step, "of": self.steps, "epoch": moment.epoch, **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write((json.dumps(finite(record)) + "\n") * times)
            if kind == "epoch":
                file.flush()
                os.fsync(file.fileno())


def _keep(path: Path, lines: int) -> int:
    """Cuts a log back to its first lines, at once: a kill leaves it as it was or as it shall be; says how many."""
    if not path.exists():
        return 0
    kept = end = 0
    with path.open("rb+") as file:
        for line in islice(file, lines):
            # A cut of power may have left fewer, the last one short, or zeros where some were.
            if not line.endswith(b"\n") or b"\0" in line:
                break
            kept, end = kept + 1, end + len(line)
        file.truncate(end)
    return kept


class TensorBoard:
    """Writes every number of windows and epochs as scalars, once however often a run goes on.

    TensorBoard drops by their step those that a kill leaves behind. An epoch that was told and not saved is there
    twice, with the same values, where the last checkpoint is of its last step. It needs the extra `tensorboard`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, moment: Moment) -> None:
        if moment.kind == "start":
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(self.folder, purge_step=moment.step + 1)
        for name, value in moment.values.items():
            value = value.get("value") if isinstance(value, dict) else value
            if moment.kind in TOLD and isinstance(value, int | float):
                self.writer.add_scalar(f"{moment.kind}/{name}", value, moment.step)
        if moment.kind in ("epoch", "end"):
            self.writer.flush()
