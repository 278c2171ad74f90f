"""Run directories: what one training run leaves, and all that is needed to go on from it or to judge it.

spec.yaml            what was asked, resolved
environment.json     versions, machine, the data's fingerprint, the identity of the run, the names of its remedies
vocabulary.json      what reads and writes items without the data: of a text its types, and the length of its longest
                     training item in tokens; other kinds of data give the file another name
lock                 held by the process that trains
metrics.jsonl        windows and epochs of training
checkpoints/         the last and the best
probe/               posterior parameters and rate of 500 fixed items at scheduled steps
evaluation-*.json    figures, each with the digest of its rows, which are beside it
examples.json        draws of the prior, reconstructions and an interpolation, as lines
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
import yaml

import uncollapse
from uncollapse import files
from uncollapse.documents import finite
from uncollapse.errors import InputError
from uncollapse.experiment.spec import SCHEMA
from uncollapse.training.listeners import Moment

SPEC, ENVIRONMENT, METRICS = "spec.yaml", "environment.json", "metrics.jsonl"
CHECKPOINTS, PROBE, TENSORBOARD, LOCK, WATCH = "checkpoints", "probe", "tensorboard", "lock", "watch.jsonl"
#: What a training writes to where it is; every other file is replaced, and with it a link by its name.
_WRITTEN_TO = (METRICS, CHECKPOINTS, PROBE, TENSORBOARD, WATCH)
#: The entry of the environment that holds the digests of what is kept to use the model without its data.
KEPT = "kept"
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
    with held(path, "training", _WRITTEN_TO):
        yield


@contextmanager
def held(path: Path, doing: str, writes: Iterable[str] = ()) -> Iterator[None]:
    """Holds a folder for this process alone, and makes it where there is none.

    Arguments:
        path: The folder.
        doing: What the processes do that exclude each other, such as "training".
        writes: The names in it, beside the lock, of what they write to.

    Raises:
        InputError: where another process holds it, where it cannot be made, and where a name leads out of it.
    """
    files.refuse_links(path, (LOCK, *writes))
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / LOCK).open("a")
    except OSError as error:
        raise files.unwritable(path, error) from None
    with lock:
        if not _taken(lock):
            raise InputError(f"another process is {doing} in `{path}`: wait for it, or give another folder.")
        yield


class SameFolder:
    """Hears of a training, and ends it where its folder was removed: a new run may be training at its path by now.

    Raises:
        InputError: where the lock that was there at the start is not there any more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.began: int | None = None

    def __call__(self, moment: Moment) -> None:
        try:
            now = (self.path / LOCK).stat().st_ino
        except OSError:
            now = None
        if moment.kind == "start":
            self.began = now
        elif now != self.began:
            raise InputError(
                f"`{self.path}` was removed while this run trained in it, and its checkpoints with it; another run may "
                "be there by now. To train anew, give the command again, with another folder."
            )


def is_held(path: Path) -> bool:
    """Whether another process holds a folder now."""
    if not (path / LOCK).is_file():  # A pipe's opening would wait for somebody at its other end.
        return False
    try:
        with (path / LOCK).open("r") as lock:
            return not _taken(lock)
    except OSError:
        return False


def _taken(lock: IO[str]) -> bool:
    """Takes a lock, which its file's closing gives back, where nobody has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # A filesystem that knows no locks: better to train unguarded than not at all.
    return True


def open_folder(
    path: Path,
    spec: Mapping[str, Any],
    identity: str,
    fingerprint: str,
    asked: Mapping[str, Any],
    kept: Mapping[str, Any] | None = None,
) -> None:
    """Makes a run directory, or goes on with the one that is there.

    The spec is written even to one that is there: the same run may find its text at another path by now.

    Arguments:
        path: The folder.
        spec: The spec, as data.
        identity: Of the run; see `spec.identity`.
        fingerprint: Of the data.
        asked: The names behind the spec, such as its remedies.
        kept: What is needed to use the model without its data, by the name of its file; see `check_kept`.

    Raises:
        InputError: where the folder holds something else, or a run of another spec or other data.
    """
    _check(path)
    there = read_environment(path) if (path / ENVIRONMENT).is_file() else None
    if there and there["identity"] != identity:
        raise InputError(f"`{path}` holds a run {_how_another(there)}: give another folder, or remove that one.")
    new = {"identity": identity, "data": fingerprint, "asked": dict(asked), "schema": SCHEMA, **environment()}
    about = there or new
    texts = {name: json.dumps(content, ensure_ascii=False) for name, content in (kept or {}).items()}
    about = about | ({KEPT: {name: _digest(text.encode()) for name, text in texts.items()}} if kept else {})
    try:
        path.mkdir(parents=True, exist_ok=True)
        files.write_text(path / SPEC, yaml.safe_dump(dict(spec), sort_keys=False))
        if about != there:
            write_json(path / ENVIRONMENT, about)
        for name, text in texts.items():
            files.write_text(path / name, text)
    except OSError as error:
        raise files.unwritable(path, error) from None


def _how_another(about: Mapping[str, Any]) -> str:
    """Why the run that an environment describes is another one."""
    schema = about.get("schema", 1)  # The first did not say.
    if schema == SCHEMA:
        return "of another spec or other data"
    return (
        f"that was begun under version {schema} of the spec, and this uncollapse has version {SCHEMA}: it can be "
        "evaluated and used, and not be trained on"
    )


def _check(path: Path) -> None:
    """Refuses a folder that holds something else than a run, whole or begun."""
    if path.exists() and not path.is_dir():
        raise InputError(f"`{path}` is a file: give a folder for the run.")
    if not path.is_dir() or (path / ENVIRONMENT).is_file():
        return
    if (path / CHECKPOINTS).is_dir() and (path / SPEC).is_file():
        raise InputError(
            f"`{path}` holds a run without its {ENVIRONMENT}, which names it: restore that, or give another folder."
        )
    foreign = not {one.name for one in path.iterdir()} <= _BEGUN
    if foreign or ((path / SPEC).is_file() and "training" not in read_spec(path)):
        raise InputError(f"`{path}` is not empty and holds no run of uncollapse: give another folder.")


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
        text = (path / SPEC).read_text(encoding="utf-8")
        # What a few lines of references to each other can stand for fills any memory.
        aliases = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))
        spec = None if aliases else yaml.safe_load(text)
    # Of broken tags and numbers PyYAML raises whatever their reading met.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"`{path / SPEC}` cannot be read: {why}.") from None
    if not isinstance(spec, dict) or not all(isinstance(name, str) for name in spec):
        raise InputError(f"`{path / SPEC}` holds no spec.")
    return spec


def read_environment(path: Path) -> dict[str, Any]:
    """What environment.json says of the run in a folder.

    Raises:
        InputError: where it is missing or damaged.
    """
    about = read_json(path / ENVIRONMENT)
    names = isinstance(about, dict) and {"identity", "data", "asked"} <= about.keys()
    if not names or not isinstance(about["asked"], dict):
        raise InputError(
            f"`{path / ENVIRONMENT}` is damaged: it does not name the run's identity, data and remedies. "
            "Restore it, or train again in another folder."
        )
    return about


def check_kept(path: Path, name: str) -> None:
    """Refuses a file in a run's folder that is not the one that `open_folder` kept there.

    Runs from before their digests were kept are taken as they are.
    """
    kept, there = read_environment(path).get(KEPT), _digest((path / name).read_bytes())
    if isinstance(kept, dict) and kept.get(name, there) != there:
        raise InputError(
            f"`{path / name}` is not what the run was trained with: restore it, or train again in another folder."
        )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_json(path: Path) -> Any:
    """A JSON file of a run.

    Raises:
        InputError: where it is missing or damaged.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"`{path}` cannot be read: {error}. Restore it, or train again in another folder.") from None


def write_json(path: Path, content: Any) -> None:
    """Writes JSON in place of what was there."""
    files.write_text(path, json.dumps(finite(content), indent=1, allow_nan=False) + "\n")


def epochs(path: Path) -> list[dict[str, Any]]:
    """The validation records of a run, one an epoch.

    Raises:
        InputError: where its log is damaged.
    """
    return _records(path, "epoch")


def last_window(path: Path) -> dict[str, Any]:
    """The last record of a run's training between validations; empty where there is none.

    Raises:
        InputError: where its log is damaged.
    """
    return next(reversed(_records(path, "window")), {})


def _records(path: Path, kind: str) -> list[dict[str, Any]]:
    if not (path / METRICS).is_file():
        return []
    # The last line may be short: the run may be training, or a kill may have cut it.
    *lines, _ = (path / METRICS).read_bytes().split(b"\n")
    try:
        records = [json.loads(line) for line in lines]
        return [record for record in records if record["kind"] == kind]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"`{path / METRICS}` is damaged: its lines are not all records of a training.") from None
