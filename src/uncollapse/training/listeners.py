"""What a training run tells, and who listens: lines of JSON, a progress bar, TensorBoard.

A listener is a callable of a `Moment`; it reads and reports, and changes nothing of the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from uncollapse import files
from uncollapse.documents import finite


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

    Raises:
        InputError: where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.steps = path, 0

    def __call__(self, moment: Moment) -> None:
        try:
            if moment.kind == "start":
                self.steps = moment.values["epochs"] * moment.values["steps_per_epoch"]
                _keep(self.path, moment.values["told"])
            elif moment.kind in TOLD:
                record = {"kind": moment.kind, "step": moment.step, "of": self.steps, "epoch": moment.epoch}
                record |= moment.values
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(finite(record)) + "\n")
        except OSError as error:
            raise files.unwritable(self.path, error) from error


def _keep(path: Path, lines: int) -> None:
    """Cuts a log back to its first lines, at once: a kill leaves it as it was or as it shall be."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = 0
        for _ in range(lines):
            # A cut of power may have left fewer, and the last one short.
            end += len(line) if (line := file.readline()).endswith(b"\n") else 0
        file.truncate(end)


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
