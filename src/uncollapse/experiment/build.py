"""Builds what a spec describes: the data, the model, the trainer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import nn

from uncollapse import dials
from uncollapse.bound import Source, size
from uncollapse.data import kinds
from uncollapse.data.kinds import Data, Kind
from uncollapse.data.reading import Tell
from uncollapse.errors import InputError
from uncollapse.experiment import spec as said
from uncollapse.model import VAE
from uncollapse.nets.lstm import LSTMDecoder, LSTMEncoder, initialise
from uncollapse.nets.mlp import MLPDecoder, MLPEncoder
from uncollapse.objective import Objective
from uncollapse.posteriors import Posterior, gaussian
from uncollapse.priors import StandardNormal
from uncollapse.randomness import seeded
from uncollapse.training import procedures
from uncollapse.training.plateau import Plateau
from uncollapse.training.players import Optimiser
from uncollapse.training.trainer import Trainer

Builders = dict[str, Callable[..., Any]]


def data(spec: said.Spec, tell: Tell | None = None) -> Data:
    """The data of a spec.

    Arguments:
        spec: The spec.
        tell: Hears how far its reading is.

    Raises:
        InputError: where it leaves the data to a person, and where a file cannot be used.
    """
    make: Any = kind(spec)
    return make(**_section(spec).model_dump(exclude={"kind"})).load(tell)


def kind(spec: said.Spec) -> type[Kind]:
    """The kind of data of a spec.

    Raises:
        InputError: where it leaves the data to a person.
    """
    return kinds.kind(_section(spec).kind)


def _section(spec: said.Spec) -> said.Data:
    if spec.data is None:
        raise InputError("this spec names no data: start from a recipe that does, such as `text`.")
    return spec.data


def model(spec: said.Spec, facts: Mapping[str, Any]) -> VAE:
    """The model of a spec, its initial parameters a function of the spec and its seed alone.

    Arguments:
        spec: The spec.
        facts: What there is for networks to ask for; see `data.kinds.Data`.

    Raises:
        InputError: where the spec leaves the model to a person, and where a network asks for what there is not.
    """
    if spec.model is None:
        raise InputError("this spec names no model: start from a recipe that does, such as `text`.")
    size = spec.model.latent
    with seeded(spec.seed, "initialise"):
        features = _network(ENCODERS, spec.model.encoder, {**facts, "outputs": 2 * size})
        generation = _network(DECODERS, spec.model.decoder, {**facts, "latent": size})
        vae = VAE(Posterior(features, gaussian, (size, size)), generation, StandardNormal(size))
        initialise(vae, spec.model.initialisation)
    return vae


def _network(there: Builders, section: said.Section, facts: Mapping[str, Any]) -> nn.Module:
    numbers = section.model_dump()
    build = there[numbers.pop("kind")]
    asked = signature(build).parameters.keys() - numbers.keys()
    for name in sorted(asked - facts.keys()):
        raise InputError(
            f"`{build.__name__}` needs `{name}`, and this data offers {', '.join(facts)}: take a recipe for such data."
        )
    return build(**numbers, **{name: facts[name] for name in asked})


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
    schedules = {path: SCHEDULES[dial.kind](dial, len(train)) for path, dial in training.dials.items()}
    built = Trainer(
        model,
        train,
        valid,
        objective=Objective(weights=training.objective.weights.model_dump()),
        procedure=PROCEDURES[training.procedure.kind](training.procedure),
        optimisers={name: _optimiser(optimiser) for name, optimiser in training.optimisers.items()},
        dials=schedules,
        clip=training.clip,
        max_epochs=training.max_epochs,
        plateau=None if training.plateau is None else Plateau(**training.plateau.model_dump()),
        seed=seed,
        **rest,
    )
    # Turned once already, to the value of the first step, so that a wrong path stops a run before it starts.
    for path, schedule in schedules.items():
        dials.turn(built, path, schedule(0))
    return built


def _check_items(training: said.Training, valid: Source) -> None:
    """Refuses a validation split that cannot tell when aggressive training is to end, before any training."""
    if training.procedure.kind == "aggressive" and sum(size(valid[i]) for i in range(min(2, len(valid)))) < 2:
        raise InputError(
            "aggressive training ends by the mutual information of the validation split, and one item has no other to "
            "be told from: give at least 2 validation items."
        )


def _linear(dial: said.Linear, steps_per_epoch: int) -> dials.Linear:
    return dials.Linear(dial.start, dial.stop, dial.over).resolved(steps_per_epoch)


def _constant(dial: said.Constant, steps_per_epoch: int) -> dials.Constant:
    return dials.Constant(dial.value)


def _joint(procedure: said.Joint) -> procedures.Joint:
    return procedures.Joint()


def _aggressive(procedure: said.Aggressive) -> procedures.Aggressive:
    until = procedures.UntilInformationDrops(**procedure.until.model_dump())
    return procedures.Aggressive(**procedure.model_dump(exclude={"kind", "until"}), until=until)


def _optimiser(optimiser: said.Optimiser) -> Optimiser:
    return Optimiser(optimiser.kind, optimiser.learning_rate * optimiser.factor)


# What builds each kind that a spec may name.
ENCODERS: Builders = {"lstm": LSTMEncoder, "mlp": MLPEncoder}
DECODERS: Builders = {"lstm": LSTMDecoder, "mlp": MLPDecoder}
SCHEDULES: Builders = {"linear": _linear, "constant": _constant}
PROCEDURES: Builders = {"joint": _joint, "aggressive": _aggressive}
