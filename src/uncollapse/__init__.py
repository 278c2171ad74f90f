"""Train VAEs that keep using their latents, and measure truthfully whether they do."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uncollapse.adapters.diffusers import from_diffusers
    from uncollapse.adapters.foreign import foreign
    from uncollapse.adapters.lightning import from_lightning, lightning_loss
    from uncollapse.adapters.pythae import from_pythae
    from uncollapse.adapters.scvi import from_scvi
    from uncollapse.bound import Bound, Labelled
    from uncollapse.diagnosis.diagnose import diagnose
    from uncollapse.diagnosis.findings import Diagnosis, Finding
    from uncollapse.diagnosis.lightning import watch_callback
    from uncollapse.diagnosis.watch import Watch
    from uncollapse.dials import Constant, Linear
    from uncollapse.errors import InputError, TrainingError
    from uncollapse.experiment.api import fit, load
    from uncollapse.metrics.estimate import Estimate, Unavailable
    from uncollapse.metrics.evaluation import Evaluation, evaluate
    from uncollapse.metrics.mean_space import MeanSpace, mean_space
    from uncollapse.model import VAE, Model
    from uncollapse.objective import Loss, Objective
    from uncollapse.posteriors import Posterior, gaussian
    from uncollapse.priors import StandardNormal

__version__ = "0.1.0"

# Names are loaded when they are asked for: torch takes seconds, and `--help` needs none of it.
_HOME = {
    "adapters.diffusers": ["from_diffusers"],
    "adapters.foreign": ["foreign"],
    "adapters.lightning": ["from_lightning", "lightning_loss"],
    "adapters.pythae": ["from_pythae"],
    "adapters.scvi": ["from_scvi"],
    "bound": ["Bound", "Labelled"],
    "diagnosis.diagnose": ["diagnose"],
    "diagnosis.findings": ["Diagnosis", "Finding"],
    "diagnosis.lightning": ["watch_callback"],
    "diagnosis.watch": ["Watch"],
    "dials": ["Constant", "Linear"],
    "errors": ["InputError", "TrainingError"],
    "experiment.api": ["fit", "load"],
    "metrics.estimate": ["Estimate", "Unavailable"],
    "metrics.evaluation": ["Evaluation", "evaluate"],
    "metrics.mean_space": ["MeanSpace", "mean_space"],
    "model": ["VAE", "Model"],
    "objective": ["Loss", "Objective"],
    "posteriors": ["Posterior", "gaussian"],
    "priors": ["StandardNormal"],
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "VAE",
    "Bound",
    "Constant",
    "Diagnosis",
    "Estimate",
    "Evaluation",
    "Finding",
    "InputError",
    "Labelled",
    "Linear",
    "Loss",
    "MeanSpace",
    "Model",
    "Objective",
    "Posterior",
    "StandardNormal",
    "TrainingError",
    "Unavailable",
    "Watch",
    "diagnose",
    "evaluate",
    "fit",
    "foreign",
    "from_diffusers",
    "from_lightning",
    "from_pythae",
    "from_scvi",
    "gaussian",
    "lightning_loss",
    "load",
    "mean_space",
    "watch_callback",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'uncollapse' has no attribute '{name}'")
    return getattr(import_module(f"uncollapse.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
