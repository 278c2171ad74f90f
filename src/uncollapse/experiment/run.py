"""Run directories: what one training run leaves, and all that is needed to go on from it or to judge it.

spec.yaml            what was asked, resolved
environment.json     versions, machine, the data's fingerprint, the identity of the run, the names of its remedies
vocabulary.json      the types of a text, and the length of its longest training item in tokens
lock                 held by the process that trains
metrics.jsonl        windows and epochs of training
checkpoints/         the last and the best
probe/               posterior parameters and rate of 500 fixed items at scheduled steps
evaluation-*.json    figures, each with its rows beside it
"""

from __future__ import annotations

import fcntl
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

import uncollapse
from uncollapse.errors import InputError, because

SPEC, ENVIRONMENT, VOCABULARY, METRICS = "spec.yaml", "environment.json", "vocabulary.json", "metrics.jsonl"
LOCK = "lock"
#: What a process that is killed while it makes a run's folder may leave in it.
_BEGUN = {LOCK, SPEC, "spec.partial", "environment.partial"}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a run's folder for this training alone, and makes the folder; the lock goes with the process.

    Arguments:
        path: The folder.

    Raises:
        InputError: where another process trains in it, or where it holds something else than a run.
    """
    _check(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / LOCK).open("a")
    except OSError as error:
        raise _unwritable(path, error) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process is training in `{path}`: wait for it, or give another folder.") from None
        except OSError:
            pass  # A filesystem that knows no locks: better to train unguarded than not at all.
        yield


def open_folder(path: Path, spec: Mapping[str, Any], identity: str, fingerprint: str, asked: Mapping[str, Any]) -> None:
    """Makes a run directory, or goes on with the one that is there.

    The spec is written even to one that is there: the same run may find its text at another path by now.

    Arguments:
        path: The folder.
        spec: The spec, as data.
        identity: Of the run; see `spec.identity`.
        fingerprint: Of the data.
        asked: The names behind the spec, such as its remedies.

    Raises:
        InputError: where the folder holds something else, or a run of another spec or other data.
    """
    _check(path)
    begun = (path / ENVIRONMENT).is_file()
    if begun and read_environment(path)["identity"] != identity:
        raise InputError(
            f"`{path}` holds a run of another spec or other data: give another folder, or remove that one."
        )
    about = {"identity": identity, "data": fingerprint, "asked": dict(asked), **environment()}
    try:
        path.mkdir(parents=True, exist_ok=True)
        write(path / SPEC, yaml.safe_dump(dict(spec), sort_keys=False))
        if not begun:
            write_json(path / ENVIRONMENT, about)
    except OSError as error:
        raise _unwritable(path, error) from None


def _check(path: Path) -> None:
    """Refuses a folder that holds something else than a run, whole or begun."""
    if path.exists() and not path.is_dir():
        raise InputError(f"`{path}` is a file: give a folder for the run.")
    if not path.is_dir() or (path / ENVIRONMENT).is_file():
        return
    foreign = not {one.name for one in path.iterdir()} <= _BEGUN
    if foreign or ((path / SPEC).is_file() and "training" not in read_spec(path)):
        raise InputError(f"`{path}` is not empty and holds no run of uncollapse: give another folder.")


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write the run's folder `{path}`: {because(error)}.")


def environment() -> dict[str, Any]:
    """Versions and machine."""
    return {
        "uncollapse": uncollapse.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
    }


def read_spec(path: Path) -> dict[str, Any]:
    """The spec of the run in a folder.

    Raises:
        InputError: where the folder is missing or holds no run.
    """
    if not path.is_dir():
        raise InputError(f"there is no run folder `{path}`.")
    if not (path / SPEC).is_file():
        raise InputError(f"`{path}` holds no run of uncollapse: it has no {SPEC}.")
    try:
        spec = yaml.safe_load((path / SPEC).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"`{path / SPEC}` cannot be read: {str(error).splitlines()[0]}.") from None
    if not isinstance(spec, dict):
        raise InputError(f"`{path / SPEC}` holds no spec.")
    return spec


def read_environment(path: Path) -> dict[str, Any]:
    """What environment.json says of the run in a folder.

    Raises:
        InputError: where it is missing or damaged.
    """
    about = read_json(path / ENVIRONMENT)
    if not isinstance(about, dict) or not {"identity", "data", "asked"} <= about.keys():
        raise InputError(
            f"`{path / ENVIRONMENT}` is damaged: it does not name the run's identity, data and remedies. "
            "Restore it, or train again in another folder."
        )
    return about


def read_json(path: Path) -> Any:
    """A JSON file of a run.

    Raises:
        InputError: where it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"`{path}` cannot be read: {error}.") from None


def write_json(path: Path, content: Any) -> None:
    """Writes JSON aside and renames it into place."""
    write(path, json.dumps(content, indent=1) + "\n")


def write(path: Path, text: str) -> None:
    """Writes a text aside and renames it into place, so that a kill leaves the old file or the new one."""
    aside = path.with_suffix(".partial")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def epochs(path: Path) -> list[dict[str, Any]]:
    """The validation records of a run, one an epoch."""
    if not (path / METRICS).is_file():
        return []
    lines = (path / METRICS).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines if line.endswith("}")]
    return [record for record in records if record["kind"] == "epoch"]
