"""Checkpoints: one safetensors file each, its JSON state in the header, written aside and renamed.

`last` holds all that training needs to go on and names the `best` it belongs to; what neither names is deleted
only after the new `last` is in place, so that a kill at any moment leaves a pair that fits.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from uncollapse.errors import InputError

SCHEMA = 1


class Snapshot(NamedTuple):
    """Tensors by name, and the JSON state beside them."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write(path: Path, snapshot: Snapshot) -> None:
    """Writes a snapshot aside and renames it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    # Clones, as tied weights share memory and the format refuses that.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in snapshot.tensors.items()}
    save_file(tensors, aside, metadata={"schema": str(SCHEMA), "state": json.dumps(snapshot.state)})
    os.replace(aside, path)


def read(path: Path) -> Snapshot:
    """Reads a snapshot.

    Raises:
        InputError: where the file is missing, damaged or of another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        schema, state = metadata["schema"], json.loads(metadata["state"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"`{path}` is no checkpoint of uncollapse, or is damaged: {error}.") from error
    if schema != str(SCHEMA):
        raise InputError(f"`{path}` is a checkpoint of version {schema}; this uncollapse reads version {SCHEMA}.")
    return Snapshot(tensors, state)


class Checkpoints:
    """The checkpoints of one run: in a folder, or in memory where there is none."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._best: Snapshot | None = None
        self._best_name: str | None = None

    def save_best(self, step: int, snapshot: Snapshot) -> None:
        """Keeps the best so far; in a folder it counts only once a `last` names it."""
        if self.folder is None:
            self._best = Snapshot({k: v.detach().clone() for k, v in snapshot.tensors.items()}, snapshot.state)
            return
        self._best_name = f"best-{step:08d}.safetensors"
        write(self.folder / self._best_name, snapshot)

    def best(self) -> Snapshot | None:
        """The best so far."""
        if self.folder is None or self._best_name is None:
            return self._best
        return read(self.folder / self._best_name)

    def save_last(self, step: int, snapshot: Snapshot) -> None:
        """Keeps what training needs to go on, and deletes what it replaces."""
        if self.folder is None:
            return
        name = f"last-{step:08d}.safetensors"
        write(self.folder / name, Snapshot(snapshot.tensors, {**snapshot.state, "best_file": self._best_name}))
        for old in self.folder.glob("*-*.safetensors"):
            if old.name not in (name, self._best_name):
                old.unlink()

    def latest(self) -> Path | None:
        """The file of the last checkpoint; it names the step."""
        return max(self.folder.glob("last-*.safetensors"), default=None) if self.folder else None

    def last(self) -> Snapshot | None:
        """What training goes on from, or None where there is nothing yet."""
        path = self.latest()
        if path is None:
            return None
        snapshot = read(path)
        self._best_name = snapshot.state["best_file"]
        return snapshot
