"""`fit` and `load`: the library's two entrances for people's own networks and for runs on disk."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from uncollapse.data.batches import source
from uncollapse.data.text import Vocabulary
from uncollapse.errors import InputError
from uncollapse.experiment import build, run
from uncollapse.experiment.catalogue import compose
from uncollapse.experiment.spec import identity, validated
from uncollapse.experiment.trained import Trained
from uncollapse.training.checkpoints import Checkpoints
from uncollapse.training.listeners import JSONLines, Listener
from uncollapse.training.progress import progress as progress_on


def fit(
    model: nn.Module,
    train: Any,
    valid: Any,
    remedies: Sequence[str] = (),
    out: str | Path | None = None,
    *,
    batch_size: int = 32,
    max_epochs: int | None = None,
    learning_rate: float | None = None,
    patience: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    listeners: Sequence[Listener] = (),
    progress: bool = True,
    device: torch.device | str = "cpu",
) -> Trained:
    """Trains a model of one's own, with remedies from the catalogue, and leaves the best weights in it.

    The same call with the same `out` goes on from the last checkpoint.

    Arguments:
        model: An `nn.Module` that returns a `Bound` and names its players, such as a `VAE`.
        train, valid: Tensors, arrays, map-style Datasets, or sized and indexable sources of batches.
        remedies: Names of the catalogue (`uncollapse remedies`).
        out: The run's folder; in memory where it is None.
        batch_size: Where the data is not batches already.
        max_epochs, learning_rate, patience: Shorthands for the settings of those names.
        seed: Of every random source in training. The model comes initialised.
        settings: Any number of the spec by its path, such as {"training.clip": 1.0}.
        listeners: Callables that hear of every `Moment`.
        progress: Whether to show progress on standard error.
        device: Where to train.

    Raises:
        InputError: for data, remedies or settings that cannot be used.
    """
    players: Iterable[str] = model.players()  # pyright: ignore[reportCallIssue, reportAssignmentType]
    given = {f"training.optimisers.{name}.learning_rate": learning_rate for name in players}
    given |= {"training.max_epochs": max_epochs, "training.plateau.patience": patience}
    shorthands = {path: value for path, value in given.items() if value is not None}
    overrides = [f"{path}={json.dumps(value)}" for path, value in {**shorthands, **(settings or {})}.items()]
    spec = validated({**compose("vector", list(remedies), overrides), "seed": seed})
    sources, folder = (source(train, batch_size), source(valid, batch_size)), None if out is None else Path(out)
    trainer = build.trainer(
        spec.training,
        model,
        *sources,
        seed=seed,
        checkpoints=Checkpoints(folder and folder / "checkpoints"),
        listeners=[
            *([JSONLines(folder / run.METRICS)] if folder else []),
            *([progress_on("training", sys.stderr)] if progress else []),
            *listeners,
        ],
        device=device,
    )
    if folder:
        mark, asked = fingerprint(train, sources[0]), {"remedies": list(remedies)}
        run.open_folder(folder, spec.model_dump(mode="json"), identity(spec, mark), mark, asked)
    trainer.fit()
    return Trained(model)


def fingerprint(data: Any, batches: Any) -> str:
    """The SHA-256 of a tensor's or array's bytes; of the number of batches and the first one for anything else."""
    shown = [torch.as_tensor(data)] if isinstance(data, Tensor) or "__array__" in dir(data) else _tensors(batches[0])
    digest = hashlib.sha256(str(len(batches)).encode())
    for tensor in shown:
        digest.update(str(tuple(tensor.shape)).encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _tensors(x: Any) -> Sequence[Tensor]:
    return [x] if isinstance(x, Tensor) else x


def load(path: str | Path, model: nn.Module | None = None) -> Trained:
    """The best weights of a run.

    Arguments:
        path: The run's folder.
        model: The network to load them into, where it is one's own.

    Raises:
        InputError: where there is no run or no checkpoint, or where the weights do not fit the model.
    """
    path = Path(path)
    spec = validated(run.read_spec(path))
    words = None
    if model is None:
        if spec.model is None:
            raise InputError(f"the run `{path}` is of someone's own network: call `load(path, model=...)` with it.")
        words = Vocabulary(**run.read_json(path / run.VOCABULARY))
        model = build.model(spec, len(words))
    checkpoints = Checkpoints(path / "checkpoints")
    if checkpoints.last() is None or (best := checkpoints.best()) is None:
        raise InputError(f"the run `{path}` has no checkpoint yet: let it train for an epoch.")
    try:
        model.load_state_dict(best.tensors)
    except RuntimeError as error:
        raise InputError(f"the weights of `{path}` do not fit the model: {' '.join(str(error).split())}") from None
    return Trained(model.eval(), words)
