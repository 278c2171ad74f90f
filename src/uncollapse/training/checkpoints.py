"""Checkpoints: one safetensors file each, its JSON state in the header, with a digest over all of it.

`last` holds all that training needs to go on and names the `best` it belongs to. The `last` before it stays too,
with its own `best`: where the newest is damaged, training goes on from there, and as every random choice is a
function of the step, to the same end. What neither names is deleted only after the new `last` is in place, so
that a kill at any moment leaves a pair that fits.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from uncollapse import files
from uncollapse.documents import visible
from uncollapse.errors import InputError, because

SCHEMA = 4
#: What a file of ours is called, and what a kill leaves of it; others in the folder are somebody else's.
_OURS = re.compile(r"(last|best)-\d{8,}\.(safetensors|partial)")


class Snapshot(NamedTuple):
    """Tensors by name, and the JSON state beside them."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write(path: Path, snapshot: Snapshot) -> None:
    """Writes a snapshot in place of what was there.

    Raises:
        InputError: where it cannot be written.
    """
    files.write_tensors(path, snapshot.tensors, {"schema": str(SCHEMA), "state": json.dumps(snapshot.state)})


def read(path: Path) -> Snapshot:
    """Reads a snapshot.

    Raises:
        InputError: where the file is missing, damaged or of another version.
    """
    tensors, metadata = files.read_tensors(path)
    schema = metadata.get("schema")
    if schema is not None and schema != str(SCHEMA):
        raise InputError(
            f"`{path}` is a checkpoint of version {schema}, and this uncollapse reads version {SCHEMA}: use the "
            "uncollapse that wrote it, or train again in another folder."
        )
    try:
        state = json.loads(metadata["state"]) if schema and files.DIGEST in metadata else None
    except (KeyError, ValueError, RecursionError):
        state = None
    if not isinstance(state, dict):
        raise InputError(f"`{path}` is no checkpoint of uncollapse, or is damaged.")
    return Snapshot(tensors, state)


def newest_best(folder: Path, run: str | None = None) -> Snapshot | None:
    """The best weights that the newest `last` in a folder names; None where there are none yet.

    Arguments:
        folder: Of the checkpoints.
        run: The identity of the run whose they must be; None for any.

    Raises:
        InputError: where one of the two is damaged, as the best of the `last` before may be another one, or is of
            another run.
    """
    checkpoints = Checkpoints(folder, run)
    try:
        for path in checkpoints.newest_first()[:1]:
            checkpoints.choose(path)
        return checkpoints.best()
    except InputError as error:
        raise InputError(
            f"{error} The command that trained the run goes on from the checkpoint before, where there is one: give "
            "it again, or restore the file."
        ) from error


def step_of(name: str) -> int:
    """Which step a checkpoint's file is of."""
    return int(name.partition("-")[2].partition(".")[0])


class Checkpoints:
    """The checkpoints of one run: in a folder, or in memory where there is none.

    Arguments:
        folder: Where they are.
        run: The identity of the run, which they carry, so that those of another are noticed; None for none.
    """

    def __init__(self, folder: Path | None, run: str | None = None) -> None:
        self.folder, self.run = folder, run
        self._best: Snapshot | None = None
        self._best_name: str | None = None
        self._kept: list[tuple[str, str | None]] = []
        """The newest `last` and the one before, oldest first, each with the `best` that it names."""

    def save_best(self, step: int, snapshot: Snapshot) -> None:
        """Keeps the best so far; in a folder it counts only once a `last` names it."""
        if self.folder is None:
            self._best = Snapshot({k: v.detach().clone() for k, v in snapshot.tensors.items()}, snapshot.state)
            return
        name = f"best-{step:08d}.safetensors"
        self._write(self.folder, name, snapshot)
        self._best_name = name

    def best(self) -> Snapshot | None:
        """The best so far."""
        if self.folder is None or self._best_name is None:
            return self._best
        return self._read(self.folder / self._best_name)

    def save_last(self, step: int, snapshot: Snapshot) -> None:
        """Keeps what training needs to go on, and deletes what nobody needs any more."""
        if self.folder is None:
            return
        name = f"last-{step:08d}.safetensors"
        self._write(self.folder, name, Snapshot(snapshot.tensors, {**snapshot.state, "best_file": self._best_name}))
        before = [pair for pair in self._kept if pair[0] != name]
        self._kept = [*before[-1:], (name, self._best_name)]
        needed = {name for pair in self._kept for name in pair}
        for old in self._names():
            if old not in needed:
                (self.folder / old).unlink()

    def latest(self) -> Path | None:
        """The file of the last checkpoint, good or not; it names the step."""
        return next(iter(self.newest_first()), None)

    def last(self) -> Snapshot | None:
        """What training goes on from, or None where there is nothing yet.

        Where the newest checkpoint is damaged it is the one before, and standard error says so.

        Raises:
            InputError: where there are checkpoints, and none is good.
        """
        damage: InputError | None = None
        for path in self.newest_first():
            try:
                snapshot = self.choose(path)
                self.best()
            except InputError as error:
                damage = damage or error
                continue
            if damage:
                said = f"uncollapse: {damage} Going on from the checkpoint before, `{path.name}`."
                print(visible(said), file=sys.stderr)
            return snapshot
        if damage:
            raise InputError(
                f"{damage} There is no good checkpoint in `{self.folder}`: restore one, or remove that folder, and "
                "training begins anew."
            )
        return None

    def newest_first(self) -> list[Path]:
        """Every `last` in the folder, good or not.

        Raises:
            InputError: where the folder cannot be looked into.
        """
        names = sorted((name for name in self._names() if name.startswith("last-")), key=step_of, reverse=True)
        return [self.folder / name for name in names if name.endswith(".safetensors")] if self.folder else []

    def _names(self) -> list[str]:
        """Of the files in the folder that are ours."""
        try:
            return [name for name in os.listdir(self.folder) if _OURS.fullmatch(name)] if self.folder else []
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(f"cannot read `{self.folder}`: {because(error)}.") from error

    def choose(self, path: Path) -> Snapshot:
        """Goes on from one `last`."""
        snapshot = self._read(path)
        best = snapshot.state.get("best_file")
        if best is not None and not (isinstance(best, str) and re.fullmatch(r"best-\d{8,}\.safetensors", best)):
            raise InputError(f"`{path}` is damaged: it names no `best`.")
        self._best_name = best
        self._kept = [(path.name, self._best_name)]
        return snapshot

    def _read(self, path: Path) -> Snapshot:
        snapshot = read(path)
        if self.run is not None and snapshot.state.get("run") != self.run:
            raise InputError(f"`{path}` is a checkpoint of another run.")
        return snapshot

    def _write(self, folder: Path, name: str, snapshot: Snapshot) -> None:
        try:
            # Without its parents: a run's folder that has vanished is not made again without its spec.
            folder.mkdir(exist_ok=True)
            write(folder / name, Snapshot(snapshot.tensors, {**snapshot.state, "run": self.run}))
        except (InputError, OSError) as error:
            said = error if isinstance(error, InputError) else files.unwritable(folder, error)
            good = f"The last good checkpoint is `{self._kept[-1][0]}`" if self._kept else "There is no checkpoint yet"
            raise InputError(f"{said} {good}; once it can be written, the same command goes on from there.") from error
