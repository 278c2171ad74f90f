"""Posterior mean space: where items are in it, and what it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

import linear_gaussian
from uncollapse.errors import InputError
from uncollapse.metrics.estimate import Estimate, Unavailable
from uncollapse.metrics.mean_space import MeanSpace, mean_space
from uncollapse.model import VAE
from uncollapse.posteriors import gaussian
from uncollapse.priors import StandardNormal


class Lagging(nn.Module):
    """The exact posterior with means multiplied by a share: the slope in posterior mean space."""

    def __init__(self, weight: Tensor, sigma: float, share: float) -> None:
        super().__init__()
        self.exact, self.share = linear_gaussian.ExactPosterior(weight, sigma), share

    def forward(self, x: Tensor) -> Distribution:
        law: Any = self.exact(x)
        return gaussian(self.share * law.mean, 2 * law.stddev.log())


def lagging(share: float, *lengths: float, sigma: float = 0.8) -> tuple[VAE, Tensor, Tensor]:
    """A model, items that it explains, and their true posteriors' means."""
    weight = linear_gaussian.orthogonal(*lengths, size=5)
    model = VAE(
        Lagging(weight, sigma, share), linear_gaussian.LinearGaussian(weight, sigma), StandardNormal(len(lengths))
    )
    x = linear_gaussian.evidence(weight, sigma).sample((70,))
    return model, x, linear_gaussian.ExactPosterior(weight, sigma)(x).mean


class Shuffled:
    """Some items in two batches, out of order."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.items = x, torch.randperm(len(x)).split([9, len(x) - 9])

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        return self.x[self.items[index]]


def located(model: VAE, x: Any, *args: Any, **kwargs: Any) -> MeanSpace:
    found = mean_space(model, x, *args, **kwargs)
    assert isinstance(found, MeanSpace)
    return found


def value(answer: object) -> float:
    assert isinstance(answer, Estimate)
    return answer.value


@pytest.mark.parametrize(("method", "lengths"), [(None, [2.0]), ("grid", [2.0]), (None, [2.0, 1.0])])
def test_means_by_quadrature_are_exact(method: Any, lengths: list[float]) -> None:
    model, x, true = lagging(0.25, *lengths)
    found = located(model, x, method)
    assert found.method == (method or "adaptive")
    assert (found.true - true).abs().max() < (1e-4 if method == "grid" else 1e-3)
    torch.testing.assert_close(found.inferred, 0.25 * true.double(), rtol=0, atol=1e-5)
    assert value(found.slope) == pytest.approx(0.25, abs=1e-3)
    assert value(found.lag) == pytest.approx(0.75, abs=1e-3)
    assert value(found.spread_true) == pytest.approx(true.var(0).sum().sqrt().item(), abs=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_means_by_weights_are_within_their_errors(share: float) -> None:
    model, x, true = lagging(share, 3.0, 2.0, 2.0, 0.5)
    found = located(model, x)
    assert found.method == "weights"
    assert found.reliable.all()
    assert found.error is not None
    scores = (found.true - true) / found.error
    assert scores.square().mean().sqrt().item() == pytest.approx(1, abs=0.25)
    assert value(found.slope) == pytest.approx(share, abs=0.02)


def test_means_are_not_relied_on_where_weights_degenerate() -> None:
    model, x, _ = lagging(0.0, 6.0, 6.0, 6.0)
    found = located(model, x, refined=None)
    assert found.reliable.sum() < 2
    assert isinstance(found.slope, Unavailable)
    assert "importance weights" in found.slope.reason
    assert located(model, x).reliable.float().mean() > 0.9


def test_many_units_are_seen_along_the_directions_in_which_the_true_means_vary_though_q_lags() -> None:
    model, x, true = lagging(0.0, 0.3, 4.0, 0.2, 3.0)
    found = located(model, x)
    axes = found.axes
    assert axes.shape == (2, 4)
    leading = torch.zeros(2, 4, dtype=torch.float64)
    leading[0, 1] = leading[1, 3] = 1
    assert (axes @ leading.T).abs().square().sum() == pytest.approx(2, abs=0.1)
    said = found.to_json()
    assert torch.tensor(said["true"]).shape == (70, 2)
    assert true[:, [1, 3]].var(0).sum() == pytest.approx(torch.tensor(said["true"]).var(0).sum().item(), rel=0.1)


def test_the_noise_of_weights_is_taken_off_the_spread_of_the_true_means() -> None:
    true, noise = torch.randn(20_000, 2, dtype=torch.float64), 0.8
    seen = true + noise * torch.randn_like(true)
    ids, error = torch.arange(20_000), torch.full_like(true, noise)
    found = MeanSpace(ids, seen, 0.5 * true, ids >= 0, error, error[:, 0], 0, "weights")
    for answer, truth in ((found.spread_true, 2**0.5), (found.spread_inferred, 0.5**0.5), (found.slope, 0.5)):
        assert isinstance(answer, Estimate)
        assert answer.value == pytest.approx(truth, abs=4 * answer.se)
        assert answer.se < 0.02


def test_nothing_can_follow_means_that_do_not_vary() -> None:
    model, x, _ = lagging(1.0, 0.0)
    found = located(model, x)
    assert found.true.abs().max() < 1e-6
    assert isinstance(found.slope, Unavailable)
    assert found.to_json()["lag"] == found.slope.to_json()


def test_items_come_in_the_order_of_their_ids_whatever_the_batches() -> None:
    model, x, _ = lagging(0.5, 1.0, 1.0, 1.0)
    one, other = located(model, x[:20], batch_size=20), located(model, Shuffled(x[:20]))
    torch.testing.assert_close(one.true, other.true, rtol=0, atol=1e-4)
    torch.testing.assert_close(one.inferred, other.inferred)
    assert other.items.tolist() == list(range(20))


def test_quadrature_of_many_units_is_refused() -> None:
    model, x, _ = lagging(1.0, 1.0, 1.0, 1.0)
    with pytest.raises(InputError, match="one or two units"):
        mean_space(model, x, "grid")


def test_a_model_is_left_in_the_mode_it_was_in() -> None:
    model, x, _ = lagging(1.0, 1.0)
    model.train()
    located(model, x)
    assert model.training
