"""Remedies of how q is found: each trains text and vectors as it says, beside other remedies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uncollapse.experiment import build
from uncollapse.experiment.catalogue import remedies
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import Spec, validated
from uncollapse.training.trainer import Trainer

NAMES = [name for name, remedy in remedies().items() if remedy.place == "inference"]


def of_text(folder: Path, *names: str) -> Spec:
    lines = [f"{a} {b} {c}" for a in "abcd" for b in "xyz" for c in "pq"]
    (folder / "t.txt").write_text("\n".join(lines), encoding="utf-8")
    sizes = [f"model.{net}.{size}=6" for net in ("encoder", "decoder") for size in ("embedding", "hidden")]
    return _spec("text", names, [f"data.train={folder / 't.txt'}", *sizes])


def of_vectors(folder: Path, *names: str) -> Spec:
    np.save(folder / "x.npy", torch.randn(24, 3).numpy())
    hidden = ["model.encoder.hidden=[6]", "model.decoder.hidden=[6]"]
    return _spec("vectors", names, [f"data.train={folder / 'x.npy'}", *hidden])


def _spec(recipe: str, names: Any, settings: list[str]) -> Spec:
    few = ["data.batch_size=8", "model.latent=2", "training.max_epochs=1"]
    few += ["training.inference.steps.count=2"] if names[0] in STEPPING else []
    return validated(compose(recipe, names, [*settings, *few]))


STEPPING = [name for name in NAMES if "steps" in remedies()[name].patch["training"]["inference"]]


def trained(spec: Spec) -> tuple[Trainer, list[str]]:
    """A trainer that has gone through its data, and the names of the parameters that have not moved."""
    data = build.data(spec)
    model = build.model(spec, data.facts)
    trainer = build.trainer(spec.training, model, data.batches("train"), data.batches("valid"), seed=spec.seed)
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer.fit()
    return trainer, [name for name, value in model.named_parameters() if torch.equal(value, before[name])]


@pytest.mark.parametrize("made", [of_text, of_vectors])
@pytest.mark.parametrize("name", NAMES)
def test_a_remedy_moves_all_that_it_does_not_declare_still(tmp_path: Path, name: str, made: Any) -> None:
    _, still = trained(made(tmp_path, name))
    declared = tuple(remedies()[name].still)
    assert [one for one in still if not one.startswith(declared or ("-",))] == []
    assert bool(still) == bool(declared)


@pytest.mark.parametrize("name", NAMES)
def test_a_remedy_goes_with_annealing(tmp_path: Path, name: str) -> None:
    trainer, _ = trained(of_text(tmp_path, name, "anneal"))
    assert trainer.finished
