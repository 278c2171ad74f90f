"""`fit` and `load`: the library's two entrances for people's own networks and for runs on disk."""

from __future__ import annotations

import hashlib
import json
import operator
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from uncollapse.bound import Source, checked_batch
from uncollapse.data.batches import source
from uncollapse.data.kinds import Interface, Kind
from uncollapse.data.tensors import Tensors
from uncollapse.errors import InputError
from uncollapse.experiment import build, run
from uncollapse.experiment.compose import compose
from uncollapse.experiment.hardware import Strategy, launch
from uncollapse.experiment.spec import Spec, identity, validated
from uncollapse.experiment.trained import Trained
from uncollapse.randomness import seeded
from uncollapse.training.checkpoints import Checkpoints, newest_best
from uncollapse.training.devices import Precision
from uncollapse.training.listeners import JSONLines, Listener
from uncollapse.training.preflight import preflight
from uncollapse.training.progress import progress as progress_on
from uncollapse.training.trainable import networks
from uncollapse.training.trainer import CHECKPOINT_SECONDS


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
    devices: int = 1,
    strategy: Strategy = "ddp",
    precision: Precision = "32",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Trained:
    """Trains a model of one's own, with remedies from the catalogue, and leaves the best weights in it.

    The same call with the same `out` goes on from the last checkpoint. SIGINT (Ctrl-C, or a notebook's stop) and
    SIGTERM take effect at the end of the step, after a checkpoint; a second one at once. Warns of a term that no
    parameter changes.

    Arguments:
        model: An `nn.Module` that returns a `Bound` from `(x, q=None, samples=1)` and names its players, such as
            a `VAE`.
        train, valid: Tensors, arrays, map-style Datasets, or sized and indexable sources of batches.
        remedies: Names of the catalogue (`uncollapse remedies`).
        out: The run's folder; in memory where it is None. One that holds a run of another network, other data or
            another batch size is refused.
        batch_size: Where the data is not batches already.
        max_epochs, learning_rate, patience: Shorthands for the settings of those names.
        seed: Of every random source in training. The model comes initialised.
        settings: Any number of the spec by its path, such as {"training.clip": 1.0}.
        listeners: Callables that hear of every `Moment`, in the first process.
        progress: Whether to show progress on standard error.
        device: Where to train.
        devices: How many processes train together, each on a device of its own, where neither `torchrun` nor SLURM
            has started them.
        strategy: "ddp", or "fsdp" where each process is to keep a part of the parameters only; load the weights
            from `out` then.
        precision: "32", or "bf16-mixed" on a GPU.
        checkpoint_seconds: The longest time between two checkpoints within an epoch.

    Raises:
        InputError: for a model, data, remedies or settings that cannot be used.
    """
    shorthands = {f"training.optimisers.{name}.learning_rate": learning_rate for name in networks(model)}
    shorthands |= {"training.max_epochs": max_epochs, "training.plateau.patience": patience}
    spec = _spec(remedies, {k: v for k, v in shorthands.items() if v is not None} | dict(settings or {}), seed)
    sources, folder = (source(train, batch_size), source(valid, batch_size)), None if out is None else Path(out)
    hardware = launch(device, devices, strategy, precision)
    processes = hardware.processes
    mark = processes.first(lambda: _mark(model, sources, spec.seed)) if folder else ""
    named = identity(spec, mark)
    heard = [
        *([run.SameFolder(folder), JSONLines(folder / run.METRICS)] if folder else []),
        *([progress_on("training", sys.stderr)] if progress else []),
        *listeners,
    ]
    trainer = build.trainer(
        spec.training,
        model,
        *sources,
        seed=spec.seed,
        checkpoints=Checkpoints(folder and folder / run.CHECKPOINTS, named),
        listeners=heard if processes.leads else [],
        checkpoint_seconds=checkpoint_seconds,
        **hardware.settings(),
    )
    for remark in preflight(trainer):
        warnings.warn(remark, stacklevel=2)
    with ExitStack() as held:
        if folder:
            asked = {"remedies": list(remedies)}
            processes.first(lambda: held.enter_context(run.locked(folder)))
            processes.first(lambda: run.open_folder(folder, spec.model_dump(mode="json"), named, mark, asked))
        trainer.fit()
    return Trained(model, inference=build.inference(spec.training))


def _spec(remedies: Sequence[str], settings: Mapping[str, Any], seed: int) -> Spec:
    if "seed" in settings:
        raise InputError("the seed is no setting: give it to `fit` itself, as in `fit(..., seed=1)`.")
    overrides = [f"{path}={_written(path, value)}" for path, value in settings.items()]
    try:
        seed = operator.index(seed)  # Of any library's whole numbers.
    except TypeError:
        raise InputError(f"the seed cannot be `{seed!r}`: give a whole number.") from None
    return validated({**compose("vector", list(remedies), overrides), "seed": seed}, trusted=True)


def _mark(model: nn.Module, sources: Sequence[Source], seed: int) -> str:
    # Seeded, as a Dataset may draw at random: neither the mark nor the training may depend on what was drawn.
    with seeded(seed, "fingerprint"):
        return fingerprint(model, *sources)


def fingerprint(model: nn.Module, *sources: Source) -> str:
    """The SHA-256 of the names and shapes of a network's tensors and of every batch of some sources."""
    shapes = {name: list(value.shape) for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    digest = hashlib.sha256(json.dumps(shapes, sort_keys=True).encode())
    for batches in sources:
        digest.update(f"{len(batches)} batches".encode())
        for i in range(len(batches)):
            x = checked_batch(batches[i])
            for part in [x] if isinstance(x, Tensor) else x:
                digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
                # As bytes, because numpy lacks some of torch's types.
                digest.update(part.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _written(path: str, value: Any) -> str:
    """A setting as JSON."""
    try:
        return json.dumps(value.item() if isinstance(value, np.generic | Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"`{path}` cannot be `{value!r}`: give a number, a text, or a list of them.") from None


def load(path: str | Path, model: nn.Module | None = None, trust: bool = False) -> Trained:
    """The best weights of a run.

    Arguments:
        path: The run's folder.
        model: The network to load them into, where it is one's own.
        trust: Whether code that is not of this package may be imported where the run's spec names it, and run.

    Raises:
        InputError: where there is no run or no checkpoint, or where the weights do not fit the model.
    """
    path = Path(path)
    spec = validated(run.read_spec(path), trust)
    if model is None and (spec.model is None or spec.data is None):
        raise InputError(f"the run `{path}` is of someone's own network: call `load(path, model=...)` with it.")
    weights = best_weights(path)
    interface: Interface = Tensors()
    if model is None:
        interface = _interface(path, build.kind(spec))
        _check_fit(spec, interface.facts, weights, path)
        run.check_kept(path, build.kind(spec).kept)
        model = build.model(spec, interface.facts)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"the weights of `{path}` do not fit the model: {' '.join(str(error).split())}") from None
    return Trained(model.eval(), interface, build.inference(spec.training))


def best_weights(path: Path) -> dict[str, Tensor]:
    """The best weights of a run, by the names that its model has for them.

    Raises:
        InputError: where there is no checkpoint, or where it is damaged or another run's.
    """
    best = newest_best(path / run.CHECKPOINTS, run.read_environment(path)["identity"])
    if best is None:
        raise InputError(f"the run `{path}` has no checkpoint yet: let it train for an epoch.")
    return best.tensors


def _interface(path: Path, kind: type[Kind]) -> Interface:
    """What reads and writes the items of a run."""
    said = run.read_json(path / kind.kept)
    try:
        return kind.restore(said)
    except InputError as error:
        raise InputError(
            f"`{path / kind.kept}` cannot be used: {error} Train the run again, or restore the file."
        ) from None


class _Unfilled(TorchFunctionMode):
    """Draws nothing: on tensors without memory a draw takes torch a second, for what it imports."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        draws = func in (nn.init.uniform_, nn.init.normal_, Tensor.uniform_, Tensor.normal_)
        return None if draws else func(*args, **(kwargs or {}))


def _check_fit(spec: Spec, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuses weights that are not of the spec's model before memory is taken for it: a spec can ask for any size."""
    try:
        with torch.device("meta"), _Unfilled():
            model = build.model(spec, facts)
    except (RuntimeError, TypeError, OverflowError):
        raise InputError(f"the spec of `{path}` asks for a model that no machine can hold.") from None
    asked, there = ({k: (v.dtype, list(v.shape)) for k, v in of.items()} for of in (model.state_dict(), tensors))
    for name in sorted(asked.keys() | there.keys()):
        if asked.get(name) != there.get(name):
            is_, be = (" ".join(map(str, has.get(name, ["absent"]))) for has in (there, asked))
            raise InputError(f"the weights of `{path}` do not fit the model: `{name}` is {is_}, and should be {be}.")
        if not tensors[name].isfinite().all():
            raise InputError(f"the weights of `{path}` are not all finite: see `{name}`.")
