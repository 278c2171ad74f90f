"""Folders that are made once and read ever after: written aside, renamed into place, and checked on every opening."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from uncollapse.errors import InputError
from uncollapse.signals import unfinished

INDEX = "index.json"


def place() -> Path:
    """Where prepared corpora are: `UNCOLLAPSE_CACHE`, else `uncollapse` in `XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        InputError: where none of these is there.
    """
    own, cache = os.environ.get("UNCOLLAPSE_CACHE"), os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(own) if own else Path(cache or Path.home() / ".cache") / "uncollapse"
    except RuntimeError:  # A container's user need not have a home.
        raise InputError(
            "a text this large is prepared once and kept, and this user has no home folder for that: name a folder in "
            "the environment variable UNCOLLAPSE_CACHE."
        ) from None


def entry(key: str, make: Callable[[Path], None]) -> Path:
    """The folder of a key. One that is missing, or of which a byte has changed, is made anew.

    Arguments:
        key: Names what the folder depends on, such as a hash.
        make: Fills an empty folder with files.

    Raises:
        InputError: where it cannot be written, and whatever `make` raises.
    """
    folder = place() / key
    try:
        if not _whole(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _alone(folder):
                if not _whole(folder):  # Another process may have made it meanwhile.
                    _fill(folder, make)
    except OSError as error:
        raise InputError(
            f"cannot keep the prepared text in `{folder.parent}`: {error.strerror}. Make room there, or name another "
            "folder in the environment variable UNCOLLAPSE_CACHE."
        ) from None
    return folder


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    aside = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        with unfinished(aside):
            aside.mkdir()
            make(aside)
            index = {path.name: _digest(path) for path in aside.iterdir()}
            (aside / INDEX).write_text(json.dumps(index), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _whole(folder: Path) -> bool:
    """Whether every file is as it was written."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        # Hidden files are those of file managers and network filesystems.
        there = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {INDEX}
        whole = all(_digest(folder / name) == digest for name, digest in index.items())
        return whole and there == index.keys() != set()
    except (OSError, ValueError, AttributeError):
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other process makes this folder, and clears away what a killed one left of it."""
    with folder.with_name(f"{folder.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # A filesystem that knows no locks: the work may be done twice, aside and under two names.
        else:
            for left in folder.parent.glob(f"{folder.name}.*[0-9]"):
                shutil.rmtree(left, ignore_errors=True)
        yield
