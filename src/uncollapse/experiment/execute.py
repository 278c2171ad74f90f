"""Trains and evaluates what a spec describes, in a run directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from uncollapse.data.batches import Batched
from uncollapse.data.kinds import Data
from uncollapse.data.reading import Tell
from uncollapse.diagnosis import verdict
from uncollapse.errors import InputError
from uncollapse.experiment import build, examples, remarks, run
from uncollapse.experiment.api import load
from uncollapse.experiment.codes import CODES
from uncollapse.experiment.hardware import ONE, Hardware
from uncollapse.experiment.probe import ITEMS, Probe
from uncollapse.experiment.spec import Spec, identity, validated
from uncollapse.experiment.start import start
from uncollapse.experiment.tasks import drawn, of_task
from uncollapse.metrics.evaluation import Evaluation, discrete_values, evaluate
from uncollapse.randomness import generator
from uncollapse.training.checkpoints import Checkpoints, read
from uncollapse.training.listeners import JSONLines, Listener
from uncollapse.training.preflight import preflight
from uncollapse.training.trainer import CHECKPOINT_SECONDS


def train(
    spec: Spec,
    out: Path,
    asked: Mapping[str, Any],
    listeners: Sequence[Listener] = (),
    hardware: Hardware = ONE,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    tell: Tell | None = None,
    say: Callable[[str], None] | None = None,
    observe: Callable[[nn.Module, Data], Listener] | None = None,
    begin: Callable[[nn.Module], str] | None = None,
) -> None:
    """Trains to the end in a run directory, going on where it was stopped.

    Arguments:
        spec: An experiment on data of a kind.
        out: The run's folder.
        asked: What to write down beside the versions, such as the remedies' names.
        listeners: Callables that hear of every `Moment`, in the first process.
        hardware: What to train on.
        checkpoint_seconds: The longest time between two checkpoints within an epoch.
        tell: Hears how far the reading of the data is.
        say: Hears, before the training, what a person should know of the data and of the terms; a sentence a call.
        observe: Makes a listener of the model and its data; it hears in the first process.
        begin: Gives a new model other weights than its initial ones, and answers their digest, a part of what the run
            is; by default those that the spec says.

    Raises:
        InputError: where the spec or the folder cannot be used, or where another process trains in the folder.
    """
    data = build.data(spec, tell)
    build.check_memory(spec, data.facts)
    for remark in remarks.on_training(spec, data):
        if say:
            say(remark)
    model = build.model(spec, data.facts)
    begun = begin(model) if begin else start(spec, model, data)
    valid = data.batches("valid")
    processes, named = hardware.processes, identity(spec, data.fingerprint, begun)
    probe = Probe(out / run.PROBE, model, subset(valid, ITEMS), processes, build.inference(spec.training))
    listeners = [*listeners, observe(model, data)] if observe else listeners
    heard = [run.SameFolder(out), probe, JSONLines(out / run.METRICS), *listeners] if processes.leads else [probe]
    trainer = build.trainer(
        spec.training,
        model,
        data.batches("train"),
        valid,
        seed=spec.seed,
        checkpoints=Checkpoints(out / run.CHECKPOINTS, named),
        listeners=heard,
        checkpoint_seconds=checkpoint_seconds,
        **hardware.settings(),
    )
    for remark in preflight(trainer):
        if say:
            say(remark)
    # Only now, so that a spec that cannot be built leaves no folder behind.
    with ExitStack() as held:

        def open_folder() -> None:
            held.enter_context(run.locked(out))
            kept = {build.kind(spec).kept: data.about()}
            run.open_folder(out, spec.model_dump(mode="json"), named, data.fingerprint, asked, kept)

        processes.first(open_folder)
        trainer.fit()


#: What to say where weights are the best by something else than the bound.
SELECTED = {
    "distortion": "the weights are those of the lowest distortion on the validation split, and not of the best bound.",
    "last": "the weights are those of the last epoch, and not of the best bound.",
}


class Judged(NamedTuple):
    """What an evaluation found."""

    figures: Evaluation
    report: dict[str, Any]
    """The same as JSON, with the training's seconds and the verdict."""
    name: str
    """How it was evaluated, such as "test-k500-s0"."""
    examples: Callable[[], dict[str, Any]] = dict
    """What its model writes, made when it is asked for; see `examples`."""
    codes: Callable[[], dict[str, Any] | None] = lambda: None
    """Where the codes of kindred items lie, made when it is asked for; see `codes`."""


def judge(
    path: Path,
    split: str = "test",
    samples: int = 500,
    items: int | None = None,
    seed: int = 0,
    hardware: Hardware = ONE,
    tell: Tell | None = None,
    trust: bool = False,
) -> Judged:
    """Evaluates the best weights of a run.

    Arguments:
        path: The run's folder.
        split: "train", "valid" or "test".
        samples: K, the importance samples of the NLL; 0 for none.
        items: How many items, chosen once by a seed of their own; None for all.
        seed: Of the evaluation's noise.
        hardware: What to evaluate on; all processes share the work and get the figures.
        tell: Hears how far the reading of the data is.
        trust: Whether code that is not of this package may be imported where the run's spec names it, and run.

    Raises:
        InputError: where there is no whole run, or where its data has changed.
    """
    spec = validated(run.read_spec(path), trust)
    # Before the weights are read: a training may go on, or end, while they are judged.
    state = last_state(path)
    stands, spent = standing(state, spec), {clock: seconds(state, clock) for clock in ("seconds", "cpu_seconds")}
    trained = load(path, trust=trust)
    data = build.data(spec, tell)
    environment = run.read_environment(path)
    if data.fingerprint != environment["data"]:
        raise InputError(f"the data of the run `{path}` is not what it was trained on: its files have changed.")
    chosen = subset(data.batches(split), items)
    model = trained.model.to(hardware.device)
    how: dict[str, Any] = {"seed": seed, "processes": hardware.processes, "inference": trained.inference}
    how["dimensions"] = discrete_values(model, chosen[0])
    figures = evaluate(model, chosen, samples=samples, **how)
    selected = SELECTED.get(spec.training.selects)
    unfinished = [] if stands is None else [f"the training is not finished: {stands} The same command goes on with it."]
    said = [*unfinished, *([selected] if selected else []), *figures.warnings, *remarks.on_items(data, split)]
    task = hardware.processes.first(lambda: of_task(data, split, trained, figures.rows))
    figures = replace(figures, warnings=tuple(said), task=task)
    report = {
        **figures.to_json(),
        **environment["asked"],
        "seed": spec.seed,
        "evaluation_seed": seed,
        **spent,
        "split": split,
        "finished": stands is None,
        "verdict": _verdict(figures, data, split),
    }
    name = f"{split}-k{samples}" + (f"-n{items}" if items else "") + f"-s{seed}"
    written, codes = (lambda: examples.examples(trained)), (lambda: drawn(data, trained))
    return Judged(figures, report, name, written, codes)


def last_state(path: Path) -> dict[str, Any]:
    """The numbers of a run's last checkpoint; nothing where there is none yet.

    Raises:
        InputError: where it is damaged.
    """
    last = Checkpoints(path / run.CHECKPOINTS).latest()
    return {} if last is None else read(last).state


def standing(state: Mapping[str, Any], spec: Spec) -> str | None:
    """Where the training of a run stands by the state of its last checkpoint, in words; None where it is finished."""
    if not state:
        return "there is no checkpoint yet."
    epochs, most = state.get("epoch"), spec.training.max_epochs
    if state.get("stopped") is True or (isinstance(epochs, int) and epochs >= most):
        return None
    return f"it stands at step {state.get('step')}, after {epochs} of at most {most} epochs."


def keep(path: Path, judged: Judged) -> None:
    """Keeps figures, their rows and examples in the folder of their run: first the rows, whose digest the figures name.

    A kill in between, or another evaluation at the same time, leaves figures that name other rows than are there.

    Raises:
        InputError: where they cannot be written.
    """
    digest = judged.figures.rows.save(path / f"rows-{judged.name}.safetensors")
    run.write_json(path / f"evaluation-{judged.name}.json", {**judged.report, "rows_digest": digest})
    examples.keep(path, judged.examples())
    if codes := judged.codes():
        run.write_json(path / CODES, codes)


def _verdict(figures: Evaluation, data: Data, split: str) -> str:
    if data.distinct(split, 2) == 1:
        return f"unknown: all items of `{split}` are the same, so that no model could use its latent variable on them"
    return verdict(figures)


def subset(source: Batched, items: int | None) -> Batched:
    """Some items of a source to be measured, in the batches they are in; the same ones whatever the batching."""
    if items is None or items >= source.count:
        return Batched(source.measured, source.items)
    kept = torch.zeros(source.count, dtype=torch.bool)
    kept[torch.randperm(source.count, generator=generator(0, "subset"))[:items]] = True
    return Batched(source.measured, source.items.only(kept))


def seconds(state: Mapping[str, Any], clock: str) -> dict[str, Any]:
    """The training time at a checkpoint, validation included, as a figure; `clock` is "seconds" or "cpu_seconds".

    Of the checkpoint, as a log may have lost its last lines.

    Raises:
        InputError: where the state does not say it.
    """
    spent = state.get(clock, 0.0)
    if not isinstance(spent, int | float):
        raise InputError(f"the last checkpoint of the run is damaged: its {clock} are `{spent}`.")
    return {"value": spent, "se": None, "n": 1, "unit": "s", "cap": None}
