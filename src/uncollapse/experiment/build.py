"""Builds what a spec describes: the data, the model, the trainer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from uncollapse.bound import Labelled, Source, size
from uncollapse.data.batches import Batched
from uncollapse.data.kinds import Data, Kind
from uncollapse.data.reading import Tell
from uncollapse.errors import InputError
from uncollapse.experiment import spec as said
from uncollapse.experiment.parts import asked, make
from uncollapse.inference import Inference
from uncollapse.metrics.subject import evaluating, placed
from uncollapse.model import ask
from uncollapse.objective import Objective
from uncollapse.randomness import seeded
from uncollapse.terms.rates import distortion, rate
from uncollapse.training.trainer import Trainer

#: What parts may ask for of which only the model itself can tell.
SIZES = {"latent", "units"}


def data(spec: said.Spec, tell: Tell | None = None) -> Data:
    """The data of a spec.

    Arguments:
        spec: The spec.
        tell: Hears how far its reading is.

    Raises:
        InputError: where it leaves the data to a person, and where a file cannot be used.
    """
    return make(_data(spec), {}).load(tell)


def kind(spec: said.Spec) -> type[Kind]:
    """The kind of data of a spec.

    Raises:
        InputError: where it leaves the data to a person.
    """
    return _data(spec)._target


def _data(spec: said.Spec) -> Any:
    if spec.data is None:
        raise InputError("this spec names no data: start from a recipe that does, such as `text`.")
    return spec.data


def model(spec: said.Spec, facts: Mapping[str, Any]) -> nn.Module:
    """The model of a spec, its initial parameters a function of the spec and its seed alone.

    Arguments:
        spec: The spec.
        facts: What networks may ask for of the data, such as `vocabulary`.

    Raises:
        InputError: where the spec leaves the model to a person, or names a part that asks for what there is not.
    """
    if spec.model is None:
        raise InputError("this spec names no model: start from a recipe that does, such as `text`.")
    with seeded(spec.seed, "initialise"):
        return make(spec.model, facts)


def parameters(spec: said.Spec, facts: Mapping[str, Any]) -> int:
    """How many parameters the model of a spec has; no memory is taken for it."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in model(spec, facts).parameters())


def check_memory(spec: said.Spec, facts: Mapping[str, Any]) -> None:
    """Refuses a model that this machine cannot train, before any memory is taken for it.

    Raises:
        InputError: where its weights, their gradients and Adam's two means of them need more than there is.
    """
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        count = parameters(spec, facts)
    except (RuntimeError, TypeError):  # A size that overflows.
        count = 2**62
    if 4 * 4 * count > there:
        raise InputError(
            f"training this model takes {16 * count / 2**30:,.0f} GiB for {count:,} weights, and this machine has "
            f"{there / 2**30:,.0f} GiB: lower `model.latent`, the `embedding` and `hidden` of `model.encoder` and "
            "`model.decoder`, or `data.size`."
        )


def trainer(
    training: said.Training, model: nn.Module, train: Source, valid: Source, *, seed: int, **rest: Any
) -> Trainer:
    """The trainer of a spec's training section, for any model.

    Arguments:
        training: The section.
        model, train, valid: As for `Trainer`.
        seed: Of every random source in training.
        rest: What a spec does not say: `checkpoints`, `listeners`, `device` and the like.

    Raises:
        InputError: for a dial whose path leads to no number, and an optimiser of no player.
    """
    _check_items(training, valid)
    facts = _facts(training, model, train)
    with seeded(seed, "terms"):  # Some bring networks.
        terms = {name: make(term, facts) for name, term in training.objective.terms.items()}
    return Trainer(
        model,
        train,
        valid,
        objective=Objective({"distortion": distortion, "rate": rate} | terms, training.objective.weights),
        procedure=make(training.procedure, facts),
        inference=inference(training),
        optimisers={name: make(optimiser, facts) for name, optimiser in training.optimisers.items()},
        dials={path: make(dial, facts) for path, dial in training.dials.items()},
        events=[make(event, facts) for _, event in sorted(training.events.items())],
        clip=training.clip,
        max_epochs=training.max_epochs,
        plateau=training.plateau and make(training.plateau, facts),
        seed=seed,
        selects=training.selects,
        **rest,
    )


def _facts(training: said.Training, model: nn.Module, train: Source) -> dict[str, Any]:
    """What the parts of a training may ask for.

    Only where they ask for its sizes is the model run on one batch, and only where for the items are these counted.
    """
    facts: dict[str, Any] = {"steps_per_epoch": len(train)}
    wanted = asked({"": training.procedure, **training.objective.terms})
    if "training_items" in wanted:
        facts["training_items"] = _count(train)
    if "label_classes" in wanted and (classes := _classes(train)):
        facts["label_classes"] = classes
    if SIZES & wanted:
        x = train[0]
        with torch.no_grad(), evaluating(model), seeded(0, "sizes"):
            found = ask(model, placed(model, x))
        facts |= {"latent": found.z.shape[2:].numel(), "units": found.kl.shape[1]}
        if not facts["latent"]:
            raise InputError(
                "a term of `training.objective.terms` counts latent units, and the model has none: leave it out."
            )
    return facts


def _count(batches: Source) -> int:
    # Other sources may have to make every batch.
    return batches.count if isinstance(batches, Batched) else sum(size(batches[i]) for i in range(len(batches)))


def _classes(batches: Source) -> int:
    """How many classes the labels of items are of, by the largest of them; 0 where there are none."""
    with seeded(0, "classes"):  # What makes batches may draw.
        each = (batches[i] for i in range(len(batches)))
        return max((int(x.label.max()) + 1 for x in each if isinstance(x, Labelled) and x.label.ndim == 1), default=0)


def _check_items(training: said.Training, valid: Source) -> None:
    """Refuses a validation split that cannot tell when aggressive training is to end, before any training."""
    if training.procedure.kind == "aggressive" and sum(size(valid[i]) for i in range(min(2, len(valid)))) < 2:
        raise InputError(
            "aggressive training ends by the mutual information of the validation split, and one item has no other to "
            "be told from: give at least 2 validation items."
        )


def inference(training: said.Training) -> Inference:
    """How q is found, in training and wherever the model is used."""
    return make(training.inference, {})
