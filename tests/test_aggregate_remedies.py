"""Remedies of the aggregate posterior: what they are told of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uncollapse.bound import size
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.training.trainer import Trainer

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


def items_told(run: Trainer) -> int:
    rate: Any = run.objective.terms["rate"]
    return rate.training_items


@pytest.mark.parametrize("recipe", SIZES)
@pytest.mark.parametrize("remedy", ["beta-tcvae", "hfvae"])
def test_a_term_that_counts_on_it_is_told_how_many_items_there_are(
    remedy: str, recipe: str, files: dict[str, Path]
) -> None:
    run = trainer(recipe, remedy, files[recipe])
    batches = run.descent.train

    assert items_told(run) == sum(size(batches[i]) for i in range(len(batches)))


def test_the_items_of_ones_own_batches_are_counted() -> None:
    said = validated(compose("vectors", ["beta-tcvae"], ["data.train=x.npy"]))
    batches = [torch.randn(7, 5), torch.randn(3, 5)]

    run = build.trainer(said.training, build.model(said, {"shape": (5,)}), batches, batches, seed=0)

    assert items_told(run) == 10
