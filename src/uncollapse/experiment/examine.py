"""A diagnosis of what is on disk: a run, or a model that somebody's own code makes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uncollapse.data.reading import Tell
from uncollapse.data.tables import read_table
from uncollapse.diagnosis.advice import Commands
from uncollapse.diagnosis.diagnose import diagnose
from uncollapse.diagnosis.evidence import History
from uncollapse.diagnosis.findings import Diagnosis
from uncollapse.diagnosis.stability import Stability, stability
from uncollapse.errors import InputError, because
from uncollapse.experiment import build, catalogue, remarks, run
from uncollapse.experiment.again import beyond, files, taken
from uncollapse.experiment.api import load
from uncollapse.experiment.execute import last_state, standing, subset
from uncollapse.experiment.parts import imported
from uncollapse.experiment.spec import Spec, validated
from uncollapse.metrics.rows import Rows

RATE = "objective.weights.rate"
#: Settings that a command names, at most: of more, a run is another one.
MOST = 12


def of_run(
    path: Path,
    split: str = "test",
    items: int = 1000,
    seed: int = 0,
    trust: bool = False,
    tell: Tell | None = None,
) -> Diagnosis:
    """What state the best weights of a run are in, by its data and its log.

    Arguments:
        path: The run's folder.
        split: "train", "valid" or "test".
        items: About how many items to look at, chosen once by a seed of their own.
        seed: Of the noise.
        trust: Whether code that is not of this package may be imported where the run's spec names it, and run.
        tell: Hears how far the reading of the data is.

    Raises:
        InputError: where there is no whole run, or where its data has changed.
    """
    spec = validated(run.read_spec(path), trust)
    stands = standing(last_state(path), spec)
    trained = load(path, trust=trust)
    data, about = build.data(spec, tell), run.read_environment(path)
    if data.fingerprint != about["data"]:
        raise InputError(f"the data of the run `{path}` is not what it was trained on: its files have changed.")
    remedies = str(about["asked"].get("remedy", "plain")).split("+")
    chosen = [name for name in remedies if name != "plain"]
    found = diagnose(
        trained.model,
        subset(data.batches(split), items),
        items=items,
        seed=seed,
        inference=trained.inference,
        history=_history(path, spec, stands),
        ways=Commands(start(spec, about["asked"]), chosen, str(path), _weighing(chosen)),
        used=remedies,
    )
    said = remarks.on_items(data, split)
    return Diagnosis(found.verdict, found.why, found.findings, [*found.warnings, *said])


def _weighing(names: list[str]) -> list[str]:
    """Those of some remedies that weigh the KL, by number or by dial."""
    known = catalogue.remedies()

    def entries(name: str) -> set[str]:
        said = known[name].patch.get("training", {}) if name in known else {}
        return {*said.get("dials", {}), *said.get("objective", {}).get("weights", {})}

    return [name for name in names if entries(name) & {RATE, "rate"}]


def _history(path: Path, spec: Spec, stands: str | None) -> History:
    values = [record["neg_elbo"]["value"] for record in run.epochs(path) if "value" in record["neg_elbo"]]
    weight = spec.training.objective.weights.get("rate", 1.0)
    dialled = run.last_window(path).get(RATE)
    return History(
        neg_elbo=[value for value in values if isinstance(value, int | float)],
        rate_weight=float(dialled if isinstance(dialled, int | float) else weight),
        climbs=getattr(spec.training.dials.get(RATE), "kind", "constant") != "constant",
        stability=_stability(path),
        unfinished=stands or "",
    )


def _stability(path: Path) -> Stability | None:
    """How far the probe's last two looks agree; None where there are not two."""
    looks = sorted((path / run.PROBE).glob("step-*.safetensors"))[-2:]
    return stability(*map(Rows.load, looks)) if len(looks) == 2 else None


def start(spec: Spec, asked: Mapping[str, Any], remedies: str | None = None) -> str:
    """The command that began a run, without its remedies: what it trained on, and how it departs from its recipe.

    Arguments:
        spec: Of the run.
        asked: What was asked for beside it.
        remedies: Those that are to follow, where they are not those that it had: settings that they do not take are
            left out.
    """
    recipe, had = str(asked.get("recipe", "text")), str(asked.get("remedy", "plain"))
    said = spec.model_dump(mode="json")
    named = [word for name, path in files(said["data"]).items() for word in (f"--{name}", path)]
    settings = changes(said, recipe, had)
    settings = (settings if remedies is None else taken(settings, recipe, remedies, said["data"], trusted=True))[:MOST]
    return shlex.join(["uncollapse", "fit", recipe, *named, *(word for one in settings for word in ("--set", one))])


def changes(said: Mapping[str, Any], recipe: str, remedies: str) -> list[str]:
    """See `again.beyond`; nothing where there is no such recipe or remedy any more."""
    try:
        return beyond(said, recipe, remedies, trusted=True)
    except InputError:
        return []


def of_factory(named: str, file: Path | None, items: int = 1000, seed: int = 0) -> Diagnosis:
    """What state a model of somebody's own code is in.

    Arguments:
        named: "package.module:factory", which is imported, and called without arguments; it gives a model, or a pair of
            one and its data. A module that is no factory is taken as it is.
        file: The items, where it gives none; see `read_items`.
        items: About how many to look at.
        seed: Of the noise.

    Raises:
        InputError: where there is no such factory, or where nothing gives the items.
    """
    made = imported(named)
    made = made if isinstance(made, nn.Module) else made()
    model, data = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    data = data if file is None else read_items(file)
    if data is None:
        raise InputError(
            f"`{named}` gives a model and no data: give `--data FILE` (.npz, .npy or .txt), or let it give a pair "
            "(model, data)."
        )
    return diagnose(model, data, items=items, seed=seed)


def read_items(path: Path) -> Tensor:
    """The items of a file, in the shape that it has them: a `.npy` or `.npz` file, or numbers in text, an item a line.

    Raises:
        InputError: where it holds anything else.
    """
    try:
        if path.suffix == ".txt":
            return _numbers(np.loadtxt(path, ndmin=2))
        if path.suffix == ".npy":
            return _numbers(np.load(path, allow_pickle=False))
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as there:
                return _numbers(there[there.files[0]])
        return torch.from_numpy(read_table(path))
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {because(error)}.") from None
    except (ValueError, IndexError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"`{path}` holds no items: {error}. Give numbers, an item a row.") from None


def _numbers(array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise InputError(f"the items are of type `{array.dtype}`: give numbers.")
    return torch.from_numpy(np.ascontiguousarray(array, np.float32 if array.dtype.kind in "bf" else np.int64))
