"""Do trainings of a tiny text VAE on a GPU end with the same bits twice, and after a kill?

    python benchmarks/gpu_resume.py [--device cuda] [--epochs 4]

Prints for each remedy the largest difference of a weight to a first training: of a second one, and of one that was
killed after three steps and went on from its checkpoint.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from uncollapse.experiment.spec import Spec
from uncollapse.training.checkpoints import Checkpoints

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from combinations import spec_of, trainer_of
from test_trainer import Killed, kill_at

REMEDIES = (
    *("plain", "anneal", "aggressive", "aggressive+anneal", "free-bits"),
    *("vampprior", "minimum-rate", "word-dropout", "sa-vae", "skip"),
)


def weights(spec: Spec, **how: Any) -> dict[str, Tensor]:
    """Those that a training ends with."""
    run = trainer_of(spec, **how)
    run.fit()
    return {**run.model.state_dict(), **run.objective.state_dict()}


def resumed(spec: Spec, **how: Any) -> dict[str, Tensor]:
    """The same of a training that was killed after three steps."""
    with tempfile.TemporaryDirectory() as folder:
        how |= {"checkpoints": Checkpoints(Path(folder)), "checkpoint_seconds": 0.0}
        with suppress(Killed):
            trainer_of(spec, listeners=[kill_at(3)], **how).fit()
        return weights(spec, **how)


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of a number."""
    return max((one[name] - other[name]).abs().max().item() for name in one if one[name].is_floating_point())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--epochs", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for remedy in REMEDIES:
            spec = spec_of("text", remedy.split("+"), Path(folder))
            training = spec.training.model_copy(update={"max_epochs": given.epochs})
            spec, how = spec.model_copy(update={"training": training}), {"device": given.device}
            first = weights(spec, **how)
            again, after = apart(first, weights(spec, **how)), apart(first, resumed(spec, **how))
            print(f"{remedy}: again {again:.3g}, killed {after:.3g}", flush=True)


if __name__ == "__main__":
    main()
