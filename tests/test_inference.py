"""How q is found: one inference for training, validation, evaluation and the probe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

import uncollapse as uc
from linear_gaussian import evidence, orthogonal, vae
from test_trainer import data, small
from uncollapse.bound import Bound
from uncollapse.experiment.probe import Probe
from uncollapse.inference import Aim, plain
from uncollapse.metrics.rows import Rows, collect
from uncollapse.model import VAE, Model
from uncollapse.processes import ALONE
from uncollapse.training.descent import Descent
from uncollapse.training.listeners import Moment
from uncollapse.training.trainer import Trainer

WEIGHT, SIGMA = orthogonal(1.5, 0.8, size=4), 0.7


class Refined:
    """Three steps on a Gaussian's parameters, each item's by its own gradient."""

    rate = 0.1

    def __call__(self, model: Model, x: Tensor, aim: Aim) -> Distribution:
        parameters = _parameters(model.encoder(x))  # pyright: ignore[reportAttributeAccessIssue]
        for _ in range(3):
            here = [value.detach().requires_grad_() for value in parameters]
            slopes = torch.autograd.grad(aim(model(x, q=uc.gaussian(*here))), here)
            parameters = [value - self.rate * slope for value, slope in zip(parameters, slopes, strict=True)]
        return uc.gaussian(*parameters)


def _parameters(q: Any) -> list[Tensor]:
    return [q.base_dist.loc, 2 * q.base_dist.scale.log()]


def laws(rows: Rows) -> Tensor:
    return torch.cat(_parameters(rows.law), 1)


def test_a_refined_posterior_tightens_the_bound_and_leaves_the_evidence_exact() -> None:
    x, model = evidence(WEIGHT, SIGMA).sample((300,)), vae(WEIGHT, SIGMA, shift=2.0)
    truth = -evidence(WEIGHT, SIGMA).log_prob(x).mean().item()
    amortised = uc.evaluate(model, x, samples=300)
    refined = uc.evaluate(model, x, samples=300, inference=Refined())
    assert refined.nll.value == pytest.approx(truth, abs=0.01)  # pyright: ignore[reportAttributeAccessIssue]
    assert truth < refined.neg_elbo.value < amortised.neg_elbo.value - 1  # pyright: ignore[reportAttributeAccessIssue]
    assert refined.effective_samples.value > 2 * amortised.effective_samples.value  # pyright: ignore


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("size", [1, 7, 30])
def test_how_an_item_is_refined_does_not_depend_on_the_batching(size: int) -> None:
    x, model = evidence(WEIGHT, SIGMA).sample((30,)).double(), vae(orthogonal(1.5, 0.8, size=4), SIGMA, shift=1.0)
    whole, parts = (collect(model, x, 9, 3, batch_size=n, inference=Refined()) for n in (1000, size))
    torch.testing.assert_close(laws(parts), laws(whole))
    torch.testing.assert_close(parts.neg_elbo, whole.neg_elbo)
    torch.testing.assert_close(parts.log_evidence, whole.log_evidence)


def test_evaluation_leaves_no_gradient_and_no_mode_behind() -> None:
    model = small().train()
    evaluated: list[bool] = []

    def watching(model: Any, x: Tensor, aim: Aim) -> Distribution:
        evaluated.append(model.training or any(p.requires_grad for p in model.parameters()))
        return Refined()(model, x, aim)

    collect(model, data(), 2, 1, inference=watching)
    assert evaluated == [False] * len(data())
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_evaluation_refines_on_the_plain_bound_and_training_on_the_objective_both_summed_over_items() -> None:
    aims: list[tuple[Tensor, Bound]] = []

    def note(model: Any, x: Tensor, aim: Aim) -> None:
        bound = model(x)
        aims.append((aim(bound), bound))

    collect(small(), data()[:1], 0, 1, inference=note)
    objective = uc.Objective(weights={"rate": 0.1})
    Descent(small(), data(), objective=objective, inference=note).loss(data()[0])
    (measured, a), (descended, b) = aims
    torch.testing.assert_close(measured, (a.distortion + a.rate).sum())
    torch.testing.assert_close(descended, (b.distortion + 0.1 * b.rate).sum())
    torch.testing.assert_close(measured, plain(a))


def test_training_descends_the_bound_under_the_refined_posterior() -> None:
    model, x = small(), data()[0]
    descent = Descent(model, data(), inference=Refined())
    bound = descent.bound(x)
    assert bound.q is not None
    assert (bound.q.mean - model.encoder(x).mean).abs().max() > 0.01
    descent.descend(descent.loss(x), *descent.partners)


def test_validation_and_the_probe_refine_as_evaluation_does(tmp_path: Path) -> None:
    run = Trainer(small(), data(), data()[:3], inference=Refined(), max_epochs=1)
    seed = run.validation.validate().seed
    found = uc.evaluate(run.model, data()[:3], samples=0, bound_samples=1, seed=seed, inference=Refined())
    assert torch.equal(laws(run.validate().rows), laws(found.rows))
    Probe(tmp_path, run.model, data()[:3], ALONE, Refined())(Moment("epoch", 7, 1, {}))
    kept = Rows.load(tmp_path / "step-00000007.safetensors")
    expected = collect(run.model, data()[:3], 0, 1, seed=0, inference=Refined())
    assert torch.equal(laws(kept), laws(expected))
    plain_ones = collect(run.model, data()[:3], 0, 1, seed=0)
    assert (laws(kept) - laws(plain_ones)).abs().max() > 0.01


class Offering(VAE):
    """A model that says two things more of each item."""

    shape: Any = None

    def forward(self, x: Tensor, q: Distribution | None = None, samples: int = 1) -> Bound:
        bound = super().forward(x, q, samples)
        extras = {"drawn": bound.z.mean(0), "first": x[:, 0] if self.shape is None else torch.zeros(self.shape)}
        return bound._replace(extras=extras)


def offering() -> VAE:
    model = vae(WEIGHT, SIGMA)
    model.__class__ = Offering
    return model


@pytest.mark.parametrize(("size", "chunk"), [(30, None), (7, 2)])
def test_what_a_model_offers_by_item_is_kept_with_the_rows(tmp_path: Path, size: int, chunk: int | None) -> None:
    x = evidence(WEIGHT, SIGMA).sample((30,))
    rows = collect(offering(), x, 0, 5, batch_size=size, chunk=chunk)
    torch.testing.assert_close(rows.extras["first"], x[:, 0].double())
    one = collect(offering(), x, 0, 5, batch_size=30)
    torch.testing.assert_close(rows.extras["drawn"], one.extras["drawn"])  # The mean over all draws.
    rows.save(tmp_path / "rows.safetensors")
    kept = Rows.load(tmp_path / "rows.safetensors")
    assert kept.extras.keys() == {"drawn", "first"}
    assert torch.equal(kept.extras["drawn"], rows.extras["drawn"])


def test_an_extra_that_is_not_by_item_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Offering, "shape", (3, 2))
    with pytest.raises(uc.InputError, match=r"extra `first` has the shape \(3, 2\): give a tensor .* by item, \(30, "):
        collect(offering(), evidence(WEIGHT, SIGMA).sample((30,)), 0, 1)
