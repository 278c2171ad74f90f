"""Run directories: what one training run leaves, and all that is needed to go on from it or to judge it.

spec.yaml            what was asked, resolved
environment.json     versions, machine, the data's fingerprint, the identity of the run, the names of its remedies
vocabulary.json      the types of a text
metrics.jsonl        windows and epochs of training
checkpoints/         the last and the best
probe/               posterior parameters and rate of 500 fixed items at scheduled steps
evaluation-*.json    figures, each with its rows beside it
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

import uncollapse
from uncollapse.errors import InputError

SPEC, ENVIRONMENT, VOCABULARY, METRICS = "spec.yaml", "environment.json", "vocabulary.json", "metrics.jsonl"


def open_folder(path: Path, spec: Mapping[str, Any], identity: str, fingerprint: str, asked: Mapping[str, Any]) -> None:
    """Makes a run directory, or goes on with the one that is there.

    Arguments:
        path: The folder.
        spec: The spec, as data.
        identity: Of the run; see `spec.identity`.
        fingerprint: Of the data.
        asked: The names behind the spec, such as its remedies.

    Raises:
        InputError: where the folder holds something else, or a run of another spec or other data.
    """
    if path.is_file():
        raise InputError(f"`{path}` is a file: give a folder for the run.")
    if (path / ENVIRONMENT).is_file():
        there = read_json(path / ENVIRONMENT).get("identity")
        if there != identity:
            raise InputError(
                f"`{path}` holds a run of another spec or other data: give another folder, or remove that one."
            )
        return
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"`{path}` is not empty and holds no run of uncollapse: give another folder.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / SPEC).write_text(yaml.safe_dump(dict(spec), sort_keys=False), encoding="utf-8")
        write_json(
            path / ENVIRONMENT,
            {"identity": identity, "data": fingerprint, "asked": dict(asked), **environment()},
        )
    except OSError as error:
        raise InputError(f"cannot write the run's folder `{path}`: {error.strerror}.") from None


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
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)


def epochs(path: Path) -> list[dict[str, Any]]:
    """The validation records of a run, one an epoch."""
    if not (path / METRICS).is_file():
        return []
    lines = (path / METRICS).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines if line.endswith("}")]
    return [record for record in records if record["kind"] == "epoch"]
