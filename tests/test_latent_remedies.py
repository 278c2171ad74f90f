"""Remedies of the prior and of the posterior, in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uncollapse.experiment import build
from uncollapse.experiment.catalogue import remedies
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.metrics.evaluation import evaluate
from uncollapse.training.checkpoints import Checkpoints
from uncollapse.training.trainer import Trainer

REMEDIES = (
    "mixture-prior",
    "autoregressive-prior",
    "vampprior",
    "flow-prior",
    "kl-balancing+flow-prior",
    "kl-balancing+vampprior",
    "kl-balancing+mixture-prior",
    "batch-normalised",
    "diverse",
    "full-gaussian",
    "flow-posterior",
    "flow-posterior+vampprior",
    "von-mises-fisher",
    "von-mises-fisher-learned",
    "power-spherical",
    "delta",
    "choices",
)
OF_NUMBERS = ("sigma-vae", "lidvae", "inverse-lipschitz", "inverse-lipschitz+sigma-vae")
SIZES = {
    "text": [f"model.{net}.{size}=4" for net in ("encoder", "decoder") for size in ("embedding", "hidden")],
    "vectors": ["model.encoder.hidden=[4]", "model.decoder.hidden=[8]"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("data")
    lines = [f"{a} {b} {c}" for a in "abc" for b in "xy" for c in "pq"]
    (place / "x.txt").write_text("\n".join(lines), encoding="utf-8")
    np.save(place / "x.npy", np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32))
    return {"text": place / "x.txt", "vectors": place / "x.npy"}


def trainer(recipe: str, remedies: str, file: Path, epochs: int = 1, folder: Path | None = None) -> Trainer:
    settings = [*SIZES[recipe], "model.latent=8", "data.batch_size=5", f"training.max_epochs={epochs}"]
    spec = validated(compose(recipe, [remedies], [f"data.train={file}", *settings]))
    data: Any = build.data(spec)
    model = build.model(spec, data.facts)
    kept = {} if folder is None else {"checkpoints": Checkpoints(folder)}
    return build.trainer(spec.training, model, data.batches("train"), data.batches("valid"), seed=spec.seed, **kept)


@pytest.mark.parametrize(
    ("recipe", "remedy"),
    [*(("text", remedy) for remedy in REMEDIES), *(("vectors", remedy) for remedy in (*REMEDIES, *OF_NUMBERS))],
)
def test_every_parameter_moves_that_is_not_said_to_be_still_and_figures_are_finite(
    remedy: str, recipe: str, files: dict[str, Path]
) -> None:
    run = trainer(recipe, remedy, files[recipe])
    before = {name: parameter.clone() for name, parameter in run.model.named_parameters()}

    run.fit()

    moved = {name for name, parameter in run.model.named_parameters() if not torch.equal(parameter, before[name])}
    still = tuple(name for one in remedy.split("+") for name in remedies()[one].still)
    assert {name for name in before if not name.startswith(still)} - moved == set()
    assert evaluate(run.model, run.validation.batches, samples=4).nll.value == pytest.approx(0, abs=1e4)  # pyright: ignore


@pytest.mark.parametrize("remedy", [*REMEDIES, *OF_NUMBERS])
def test_a_run_that_went_on_ends_as_the_one_that_was_not_cut(
    remedy: str, files: dict[str, Path], tmp_path: Path
) -> None:
    whole = trainer("vectors", remedy, files["vectors"], epochs=2)
    whole.fit()
    trainer("vectors", remedy, files["vectors"], epochs=1, folder=tmp_path).fit()

    other = trainer("vectors", remedy, files["vectors"], epochs=2, folder=tmp_path)
    other.fit()

    found = other.model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in whole.model.state_dict().items())
