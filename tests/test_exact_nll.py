"""No remedy flatters itself: the NLL that is reported is that of the model it ended with, here known by quadrature."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from uncollapse.distributions.operations import space
from uncollapse.experiment import build
from uncollapse.experiment.catalogue import remedies
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.metrics.evaluation import evaluate
from uncollapse.metrics.subject import evaluating
from uncollapse.training.trainer import Trainer

ROWS = [
    name
    for name, remedy in remedies().items()
    if set(remedy.needs) <= {"shape"} and "model.latent" not in remedy.without
    if name not in ("arae", "outlines")  # Whose prior has no density, and so has the model.
]
#: What two units cannot be, and a concentration that draws of it can cover the circle by.
SIZES = {
    "choices": ["model.latent=4", "model.posterior.classes=2", "model.prior.classes=2"],
    "von-mises-fisher": ["model.posterior.concentration=2"],
}


def points(law: Any) -> tuple[Tensor, Any]:
    """Points z (N, d) over the whole space of a law, and the logarithm of the volume that each stands for.

    It is one number, or has the shape (N, 1).
    """
    where = space(law)
    if where.startswith("choices"):
        classes = law.logits.shape[-1]
        chosen = torch.tensor(list(product(range(classes), repeat=law.event_shape.numel() // classes)))
        return F.one_hot(chosen, classes).flatten(1).float(), 0.0
    if where == "positive numbers":
        line = torch.linspace(-9, 5, 281)  # Their logarithms.
        logs = torch.cartesian_prod(line, line)
        return logs.exp(), logs.sum(1, keepdim=True) + 2 * math.log(14 / 280)
    if where != "vectors":
        angle = torch.arange(400) * (2 * math.pi / 400)
        return torch.stack([angle.cos(), angle.sin()], 1), math.log(2 * math.pi / 400)
    line = torch.linspace(-9, 9, 181)
    return torch.cartesian_prod(line, line), 2 * math.log(18 / 180)


def exact(model: Any, x: Tensor) -> Tensor:
    """-log p(x) of every item by quadrature over z."""
    with torch.no_grad(), evaluating(model):
        z, volume = points(model.prior_law(x))
        z = z.unsqueeze(1).expand(-1, len(x), -1)
        log_likelihood, prior, *_ = model.generation(z, x, model.encoder)
        return -(log_likelihood + prior.log_prob(z) + volume).double().logsumexp(0)


def trained(remedy: str, folder: Path) -> tuple[Trainer, Any]:
    noise = np.random.default_rng(0).normal(size=(60, 2))
    np.save(folder / "x.npy", (np.stack([noise[:, 0], noise[:, 0] ** 2, noise[:, 1]], 1)).astype(np.float32))
    sizes = ["model.latent=2", "model.encoder.hidden=[8]", "model.decoder.hidden=[8]", *SIZES.get(remedy, [])]
    settings = [f"data.train={folder / 'x.npy'}", "data.batch_size=10", "training.max_epochs=6", *sizes]
    spec = validated(compose("vectors", [remedy], settings))
    data: Any = build.data(spec)
    run = build.trainer(
        spec.training, build.model(spec, data.facts), data.batches("train"), data.batches("valid"), seed=0
    )
    run.fit()
    return run, data.batches("valid")


@pytest.mark.parametrize("remedy", ROWS)
def test_the_reported_nll_is_that_of_the_model(remedy: str, tmp_path: Path) -> None:
    run, valid = trained(remedy, tmp_path)
    found: Any = evaluate(run.model, valid, samples=3000, inference=run.descent.inference)
    truth = torch.cat([exact(run.model, valid[i]) for i in range(len(valid))]).mean().item()
    # Of a logarithm of a mean of weights the error is 1 / sqrt(effective samples).
    error = found.rows.effective.reciprocal().mean().div(len(found.rows.items)).sqrt().item()
    assert found.nll.value == pytest.approx(truth, abs=5 * error)
    assert found.neg_elbo.value > truth - 5 * error
