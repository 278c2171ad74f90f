"""What a training run tells, and who listens: lines of JSON, a progress bar, TensorBoard.

A listener is a callable of a `Moment`; it reads and reports, and changes nothing of the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple


class Moment(NamedTuple):
    """Something that happened in a run."""

    kind: Literal["start", "step", "window", "epoch", "end"]
    """A window is a fixed number of steps; its values are means over them, and were read back from the device."""
    step: int
    epoch: int
    values: dict[str, Any]


Listener = Callable[[Moment], None]


class JSONLines:
    """Writes windows and epochs to a file, a line each, flushed; on resume cuts back what lies beyond."""

    def __init__(self, path: Path) -> None:
        self.path, self.steps = path, 0

    def __call__(self, moment: Moment) -> None:
        if moment.kind == "start":
            self.steps = moment.values["epochs"] * moment.values["steps_per_epoch"]
            self._cut(moment)
        elif moment.kind in ("window", "epoch"):
            record = {"kind": moment.kind, "step": moment.step, "of": self.steps, "epoch": moment.epoch}
            record |= moment.values
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def _cut(self, start: Moment) -> None:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        kept = [line for line in lines if _before(line, start)]
        self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


def _before(line: str, start: Moment) -> bool:
    """Whether a line was written before a moment; one that a kill cut short was not."""
    try:
        record = json.loads(line)
        return record["step"] <= start.step and record["epoch"] <= start.epoch
    except (ValueError, KeyError):
        return False


class TensorBoard:
    """Writes every number of windows and epochs as scalars; needs the extra `tensorboard`."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(folder)

    def __call__(self, moment: Moment) -> None:
        for name, value in moment.values.items():
            value = value.get("value") if isinstance(value, dict) else value
            if moment.kind in ("window", "epoch") and isinstance(value, int | float):
                self.writer.add_scalar(f"{moment.kind}/{name}", value, moment.step)
        if moment.kind in ("epoch", "end"):
            self.writer.flush()
