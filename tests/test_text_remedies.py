"""Remedies of the networks of a text's model, in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    *(name for name, remedy in remedies().items() if "vocabulary" in remedy.needs),
    "bag-features+bag-presence+max-pooling",
    "bag-of-words+contiguous-dropout+dilated-cnn-m+historyless+max-pooling+skip+word-dropout",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.txt"
    path.write_text("\n".join(f"{a} {b} {c}" for a in "abc" for b in "xy" for c in "pq"), encoding="utf-8")
    return path


def trainer(names: str, file: Path, epochs: int, folder: Path | None = None, recipe: str = "text") -> Trainer:
    # Of few units that are rectified, all may be off.
    width = 12 if recipe == "text" else 16
    sizes = [f"model.{net}.{size}={width}" for net in ("encoder", "decoder") for size in ("embedding", "hidden")]
    settings = [*sizes, f"data.train={file}", "data.batch_size=5", f"training.max_epochs={epochs}"]
    spec = validated(compose(recipe, [names], settings))
    data: Any = build.data(spec)
    model = build.model(spec, data.facts)
    kept = {"checkpoints": Checkpoints(folder)}
    return build.trainer(spec.training, model, data.batches("train"), data.batches("valid"), seed=spec.seed, **kept)


#: Of all places, in training of another network than an LSTM.
OF_TRANSFORMERS = (
    "max-pooling+skip+word-dropout+vampprior",
    "historyless",
    "offset-initialisation+mean-pooling+anneal",
    "minimum-rate+mixture-prior",
)


@pytest.mark.parametrize(
    ("names", "recipe"), [*((names, "text") for names in REMEDIES), *((n, "text-transformer") for n in OF_TRANSFORMERS)]
)
def test_a_remedy_trains_resumes_and_is_evaluated(names: str, recipe: str, file: Path, tmp_path: Path) -> None:
    whole = trainer(names, file, 2, recipe=recipe)
    before = {name: parameter.clone() for name, parameter in whole.model.named_parameters()}
    whole.fit()
    trainer(names, file, 1, tmp_path, recipe).fit()
    other = trainer(names, file, 2, tmp_path, recipe)
    other.fit()

    found = dict(other.model.named_parameters())
    assert all(torch.equal(value, found[name]) for name, value in whole.model.named_parameters())
    still = tuple(prefix for name in names.split("+") for prefix in remedies()[name].still)
    assert [name for name in found if torch.equal(found[name], before[name]) and not name.startswith(still)] == []
    assert evaluate(whole.model, whole.validation.batches, samples=4).nll.value < 1e3  # pyright: ignore
