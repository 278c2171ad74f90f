"""Remedies of the aggregate posterior, in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.training.trainer import Trainer

REMEDIES = ("infovae", "wae-mmd")
SIZES = {
    "text": [f"model.{net}.{size}=4" for net in ("encoder", "decoder") for size in ("embedding", "hidden")],
    "vectors": ["model.encoder.hidden=[4]", "model.decoder.hidden=[4]"],
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    text, table = tmp_path / "x.txt", tmp_path / "x.npy"
    text.write_text("\n".join(f"{a} {b} {c}" for a in "abcd" for b in "xyz" for c in "pq"), encoding="utf-8")
    np.save(table, np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
    return {"text": text, "vectors": table}


def trainer(recipe: str, remedies: str, file: Path, *settings: str) -> Trainer:
    sizes = [*SIZES[recipe], "model.latent=3", "data.batch_size=5", "training.max_epochs=1"]
    spec = validated(compose(recipe, [remedies], [f"data.train={file}", *sizes, *settings]))
    data: Any = build.data(spec)
    model = build.model(spec, data.facts)
    return build.trainer(spec.training, model, data.batches("train"), data.batches("valid"), seed=spec.seed)


@pytest.mark.parametrize("recipe", SIZES)
@pytest.mark.parametrize("remedy", REMEDIES)
def test_every_parameter_moves_and_stays_finite(remedy: str, recipe: str, files: dict[str, Path]) -> None:
    run = trainer(recipe, remedy, files[recipe])
    before = {name: parameter.clone() for name, parameter in run.model.named_parameters()}

    run.fit()

    for name, parameter in run.model.named_parameters():
        assert parameter.isfinite().all(), name
        assert not torch.equal(parameter, before[name]), name
