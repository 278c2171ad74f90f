"""Builds what a spec describes: the corpus, the model, the trainer."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from uncollapse import dials
from uncollapse.bound import Source, size
from uncollapse.data import stdlib, synthetic
from uncollapse.data.reading import Tell
from uncollapse.data.text import Corpus
from uncollapse.errors import InputError
from uncollapse.experiment import spec as said
from uncollapse.model import VAE
from uncollapse.nets.lstm import LSTMDecoder, LSTMEncoder, initialise
from uncollapse.objective import Objective
from uncollapse.posteriors import Posterior, gaussian
from uncollapse.priors import StandardNormal
from uncollapse.randomness import seeded
from uncollapse.training import procedures
from uncollapse.training.optimisers import OPTIMISERS, Optimiser
from uncollapse.training.plateau import Plateau
from uncollapse.training.trainer import Trainer

Builders = dict[str, Callable[..., Any]]


def corpus(spec: said.Spec, tell: Tell | None = None) -> Corpus:
    """The data of a spec.

    Arguments:
        spec: The spec.
        tell: Hears how far the reading of a text is.

    Raises:
        InputError: where it leaves the data to a person, and where a file cannot be used.
    """
    if spec.data is None:
        raise InputError("this spec names no data: start from a recipe that does, such as `text`.")
    numbers = spec.data.model_dump(exclude={"kind", "split_seed", *said.Batching.model_fields})
    return CORPORA[spec.data.kind](spec.data, numbers, tell)


def model(spec: said.Spec, vocabulary_size: int) -> VAE:
    """The model of a spec, its initial parameters a function of the spec and its seed alone.

    Raises:
        InputError: where the spec leaves the model to a person.
    """
    if spec.model is None:
        raise InputError("this spec names no model: start from a recipe that does, such as `text`.")
    encoder, decoder, size = spec.model.encoder, spec.model.decoder, spec.model.latent
    with seeded(spec.seed, "initialise"):
        features = ENCODERS[encoder.kind](
            vocabulary=vocabulary_size, outputs=2 * size, **encoder.model_dump(exclude={"kind"})
        )
        words = DECODERS[decoder.kind](vocabulary=vocabulary_size, latent=size, **decoder.model_dump(exclude={"kind"}))
        vae = VAE(Posterior(features, gaussian, (size, size)), words, StandardNormal(size))
        initialise(vae, spec.model.initialisation)
    return vae


def check_memory(spec: said.Spec, vocabulary_size: int) -> None:
    """Refuses a model that this machine cannot train, before any memory is taken for it.

    Raises:
        InputError: where its weights, their gradients and Adam's two means of them need more than there is.
    """
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in model(spec, vocabulary_size).parameters())
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
    return Trainer(
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


def _check_items(training: said.Training, valid: Source) -> None:
    """Refuses a validation split that cannot tell when aggressive training is to end, before any training."""
    if training.procedure.kind == "aggressive" and sum(size(valid[i]) for i in range(min(2, len(valid)))) < 2:
        raise InputError(
            "aggressive training ends by the mutual information of the validation split, and one item has no other to "
            "be told from: give at least 2 validation items."
        )


def _text(data: said.TextData, numbers: dict[str, Any], tell: Tell | None) -> Corpus:
    return Corpus.load(**numbers, seed=data.split_seed, tell=tell)


def _stdlib(data: said.StdlibData, numbers: dict[str, Any], tell: Tell | None) -> Corpus:
    return stdlib.corpus(**numbers, seed=data.split_seed)


def _synthetic(data: said.SyntheticData, numbers: dict[str, Any], tell: Tell | None) -> Corpus:
    return synthetic.corpus()


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
    return OPTIMISERS[optimiser.kind](**optimiser.model_dump(exclude={"kind"}))


# What builds each kind that a spec may name.
CORPORA: Builders = {"text": _text, "stdlib": _stdlib, "synthetic": _synthetic}
ENCODERS: Builders = {"lstm": LSTMEncoder}
DECODERS: Builders = {"lstm": LSTMDecoder}
SCHEDULES: Builders = {"linear": _linear, "constant": _constant}
PROCEDURES: Builders = {"joint": _joint, "aggressive": _aggressive}
