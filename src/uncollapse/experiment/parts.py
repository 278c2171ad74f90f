"""The parts that a spec may name, and how they are made of it.

A part is a class or a function in a module of its kind, and a line in a table here. Its section of the spec, with
entries, limits and defaults, is its signature.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, get_args

from pydantic.errors import PydanticUserError

from uncollapse import dials, inference, iterative, posteriors, priors, refinement, weaken
from uncollapse.data.kinds import KINDS, kind
from uncollapse.errors import InputError
from uncollapse.experiment import models
from uncollapse.experiment.own_encoder import pretrained
from uncollapse.experiment.sections import GIVEN, Described, mark, parameters, section
from uncollapse.nets import (
    awd,
    conditional,
    convolution,
    dilated,
    hybrid,
    injective,
    labels,
    lstm,
    mlp,
    pixelcnn,
    recurrent,
    residual,
    stochastic,
    topdown,
    transformer,
)
from uncollapse.nets.clamping import Clamped
from uncollapse.nets.critics import BottleneckCritic, ClassCritic, LatentCritic
from uncollapse.nets.generator import GeneratedPrior
from uncollapse.nets.heads import BagOfWords
from uncollapse.nets.hierarchy import HierarchicalPrior
from uncollapse.nets.vamp import VampPrior
from uncollapse.posteriors import choices, committed, dropout, flow, normalised, sphere, unit
from uncollapse.quantities import Said, Slot
from uncollapse.terms import aggregate, balancing, controllers, decomposition, independence, mutual, rates
from uncollapse.terms.activations import ActivationRegularisation
from uncollapse.terms.adversarial import (
    AdversarialLabels,
    AdversarialPrior,
    AdversarialTotalCorrelation,
    WassersteinPrior,
)
from uncollapse.terms.auxiliary import Auxiliary
from uncollapse.training import events, phases, procedures, turns
from uncollapse.training.optimisers import OPTIMISERS

#: What only the data can tell.
OF_DATA = ("vocabulary", "words", "tags", "shape", "levels", "label_classes")

Table = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Itself:
    """A part that is a plain function, and not what makes one."""

    part: Callable[..., Any]

    def __call__(self) -> Callable[..., Any]:
        return self.part


SLOTS: dict[str, Table] = {
    "data": {name: kind(name) for name in KINDS},
    "models": {"vae": models.vae, "language-model": models.language_model, "z-forcing": models.z_forcing},
    "encoders": {
        "lstm": lstm.LSTMEncoder,
        "recurrent": recurrent.RecurrentEncoder,
        "transformer": transformer.TransformerEncoder,
        "hybrid": hybrid.HybridEncoder,
        "pretrained": pretrained,
        "mlp": mlp.MLPEncoder,
        "cnn": convolution.ConvolutionalEncoder,
        "residual": residual.ResidualEncoder,
    },
    "decoders": {
        "lstm": lstm.LSTMDecoder,
        "awd-lstm": awd.AWDLSTMDecoder,
        "conditional-gru": conditional.ConditionalGRU,
        "dilated-cnn": dilated.DilatedDecoder,
        "transformer": transformer.TransformerDecoder,
        "hybrid": hybrid.HybridDecoder,
        "injective-lstm": injective.InjectiveDecoder,
        "mlp": mlp.MLPDecoder,
        "cnn": convolution.ConvolutionalDecoder,
        "pixelcnn": pixelcnn.PixelCNNDecoder,
        "gated-pixelcnn": pixelcnn.GatedPixelCNNDecoder,
        "classifier": labels.Classifier,
    },
    "backward-encoders": {"lstm": stochastic.BackwardLSTM},
    "stochastic-decoders": {"lstm": stochastic.StochasticLSTM},
    "wrappers": {
        "token-dropout": weaken.TokenDropout,
        "contiguous-dropout": weaken.ContiguousDropout,
        "historyless": weaken.Historyless,
        "clamped": Clamped,
    },
    "heads": {"bag-of-words": BagOfWords, "reconstruction": hybrid.Reconstruction},
    "posteriors": {
        "gaussian": posteriors.diagonal,
        "narrow-gaussian": posteriors.narrow,
        "full-gaussian": posteriors.full,
        "batch-normalised": normalised.normalised,
        "diverse": normalised.diverse,
        "committed": committed.committed,
        "von-mises-fisher": sphere.von_mises_fisher,
        "power-spherical": sphere.power_spherical,
        "choices": choices.choices,
        "information-dropout": dropout.information_dropout,
        "flow": flow.flow,
        "iterative": iterative.posterior,
        "hierarchical": topdown.hierarchical,
        "ladder": topdown.ladder,
        "unit-codes": unit.unit_codes,
    },
    "priors": {
        "standard-normal": priors.StandardNormal,
        "mixture": priors.Mixture,
        "vampprior": VampPrior,
        "uniform-sphere": priors.UniformSphere,
        "uniform-choices": priors.UniformChoices,
        "autoregressive": priors.Autoregressive,
        "flow": priors.Flow,
        "hierarchical": HierarchicalPrior,
        "log-normal": priors.LogNormal,
        "log-uniform": priors.LogUniformSizes,
        "generated": GeneratedPrior,
    },
    # Those that have no groups of their own.
    "top-priors": {
        "standard-normal": priors.StandardNormal,
        "mixture": priors.Mixture,
        "vampprior": VampPrior,
        "flow": priors.Flow,
    },
    "terms": {
        "distortion": Itself(rates.distortion),
        "rate": Itself(rates.rate),
        "free-bits": rates.FreeBits,
        "free-bits-per-item": rates.FreeBitsPerItem,
        "free-bits-total": rates.FreeBitsTotal,
        "free-bits-total-per-item": rates.FreeBitsTotalPerItem,
        "ha-bits": rates.HABits,
        "capacity": rates.Capacity,
        "balanced": balancing.Balanced,
        "decomposed-rate": decomposition.DecomposedRate,
        "density-gap": decomposition.DensityGap,
        "mmd": aggregate.MMD,
        "label-mmd": aggregate.LabelMMD,
        "dip": independence.DIP,
        "hsic": independence.HSIC,
        "mutual-posterior-divergence": mutual.MutualPosteriorDivergence,
        "contrastive-information": mutual.ContrastiveInformation,
        "adversarial-prior": AdversarialPrior,
        "wasserstein-prior": WassersteinPrior,
        "adversarial-total-correlation": AdversarialTotalCorrelation,
        "adversarial-labels": AdversarialLabels,
        "auxiliary": Auxiliary,
        "soft-free-bits": controllers.SoftFreeBits,
        "minimum-rate": controllers.MinimumRate,
        "minimum-rate-dual": controllers.MinimumRateDual,
        "geco": controllers.GECO,
        "controlled-rate": controllers.ControlledRate,
        "activation-regularisation": ActivationRegularisation,
    },
    "critics": {"latent": LatentCritic, "bottleneck": BottleneckCritic, "classes": ClassCritic},
    "schedules": {
        "linear": dials.Linear,
        "constant": dials.Constant,
        "exponential": dials.Exponential,
        "saturating": dials.Saturating,
        "sigmoid": dials.Sigmoid,
        "cyclical": dials.Cyclical,
        "cosine": dials.Cosine,
    },
    "events": {"reset": events.Reset},
    "inferences": {
        "amortised": Itself(inference.amortised),
        "semi-amortised": refinement.SemiAmortised,
        "svi": refinement.SVI,
        "iterative": iterative.Iterative,
    },
    "procedures": {
        "joint": procedures.Joint,
        "aggressive": procedures.Aggressive,
        "phases": phases.Phases,
        "turns": turns.Turns,
    },
    "phases": {"phase": phases.Phase},
    "turns": {"turn": turns.Turn},
    "optimisers": OPTIMISERS,
}


def described(slot: str, kind: str) -> type[Described]:
    """The section of a part; `kind` is its name in the slot's table, or "package.module:name" for one's own.

    Raises:
        InputError: where it cannot be imported, or where its signature says no section.
    """
    if ":" not in kind:
        # How many units a model has is for a spec to say, as are its networks; to all other parts they are given.
        return _section(SLOTS[slot][kind], kind, slot != "models")
    try:
        return _section(imported(kind), kind)
    except (TypeError, NameError, ValueError, PydanticUserError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"`{kind}` cannot be a part: {' '.join(str(error).split())} Give its parameters types such as `float` or "
            "those of `uncollapse.quantities`."
        ) from None


@cache
def _section(target: Callable[..., Any], kind: str, gives: bool = True) -> type[Described]:
    return section(target, kind, GIVEN if gives else {name: GIVEN[name] for name in OF_DATA})


def imported(name: str) -> Any:
    """Somebody's own class or function, from an installed package or from the folder where a command is given."""
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # Last: nothing in it takes the place of a module that is installed.
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # Whatever the code of others raises.
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"`{name}` cannot be imported: {why}.") from error
    if not callable(found):
        raise InputError(f"`{name}` is a `{type(found).__name__}`: name a class or a function that makes one.")
    return found


def make(said: Any, given: Mapping[str, Any]) -> Any:
    """The part that a section describes.

    Arguments:
        said: The section, a `Described`.
        given: What there is for parts to ask for, by the names in `GIVEN` and those of the data's facts.

    Raises:
        InputError: where it asks for what there is not.
    """
    arguments: dict[str, Any] = {}
    for name, parameter in parameters(said._target).items():
        if name in type(said).model_fields:
            arguments[name] = _made(getattr(said, name), parameter.annotation, given)
        elif name in given:
            arguments[name] = given[name]
        elif parameter.default is parameter.empty:
            raise InputError(
                f"`{getattr(said, 'kind', said._target)}` needs {GIVEN.get(name, name)} (`{name}`), and there is: "
                f"{', '.join(sorted(given)) or 'nothing'}. Choose a part for this kind of data and model."
            )
    return said._target(**arguments)


def _made(value: Any, annotation: Any, given: Mapping[str, Any]) -> Any:
    """What a part gets for an entry: other parts made, texts such as "10 epochs" as numbers."""
    if isinstance(value, Mapping):
        return {name: _made(one, get_args(annotation)[1], given) for name, one in value.items()}
    if isinstance(value, Described):
        slot = mark(annotation, Slot)
        return (lambda **more: make(value, {**given, **more})) if slot and slot.later else make(value, given)
    said = mark(annotation, Said)
    return said.resolved(value, given) if said and value is not None else value


def asked(said: Any) -> set[str]:
    """The names of all that a section's part, and those within it, ask for."""
    if isinstance(said, Mapping):
        return {name for one in said.values() for name in asked(one)}
    if not isinstance(said, Described):
        return set()
    here, entries = parameters(said._target), type(said).model_fields
    texts = [found for name in here if name in entries and (found := mark(here[name].annotation, Said))]
    below = [asked(getattr(said, entry)) for entry in entries]
    return {*(name for name in here if name not in entries), *(one.fact for one in texts)}.union(*below)
