"""Active units."""

from __future__ import annotations

import math

import pytest
import torch

from uncollapse.metrics.estimate import Estimate, Unavailable
from uncollapse.metrics.units import active_by_channel, active_units, variance_of_means


def test_the_variance_of_the_means_has_divisor_n_minus_one() -> None:
    means = torch.tensor([[0.0, 0.2, 1.0], [0.0, 0.0, -1.0]])

    assert variance_of_means(means).tolist() == pytest.approx([0.0, 0.02, 2.0])
    assert active_units(means).value == 2  # pyright: ignore[reportAttributeAccessIssue]


def test_the_divisor_decides_a_borderline_unit() -> None:
    means = torch.tensor([[0.1], [-0.1], [0.1], [-0.1]])

    assert variance_of_means(means).item() == pytest.approx(0.0133333, abs=1e-7)


def test_a_unit_at_the_threshold_is_active() -> None:
    means = torch.tensor([[0.5], [-0.5], [0.5], [-0.5], [0.0]], dtype=torch.float64)  # variance 1/4, exactly

    assert active_units(means, threshold=0.25).value == 1  # pyright: ignore[reportAttributeAccessIssue]


def test_a_large_mean_does_not_drown_the_variance() -> None:
    means = 1e6 + torch.tensor([[0.5], [-0.5]])

    assert variance_of_means(means).item() == 0.5


def test_active_units_depend_on_the_scale_of_z() -> None:
    means = 0.05 * torch.randn(1000, 4)

    assert active_units(means).value == 0  # pyright: ignore[reportAttributeAccessIssue]
    assert active_units(10 * means).value == 4  # pyright: ignore[reportAttributeAccessIssue]


def test_units_far_from_the_threshold_are_certain_and_one_at_it_is_a_coin() -> None:
    means = torch.tensor([[3.0, 0.0, 0.1], [-3.0, 0.0, -0.1]]).repeat(50, 1)
    means += 1e-4 * torch.randn_like(means)
    at = variance_of_means(means)[2].item()

    found = active_units(means, threshold=at)

    assert isinstance(found, Estimate)
    assert (found.value, found.cap, found.unit) == (2, 3, "units")
    assert found.se == pytest.approx(0.5)


def test_the_error_near_the_threshold_is_the_spread_over_data_sets() -> None:
    found = [active_units(0.1 * torch.randn(300, 6)) for _ in range(400)]
    values = torch.tensor([e.value for e in found if isinstance(e, Estimate)])
    errors = [e.se for e in found if isinstance(e, Estimate)]

    # The plug-in chance errs towards certainty, so the error reads somewhat low.
    assert 0.7 * values.std().item() < sum(errors) / len(errors) <= 1.05 * values.std().item()
    assert values.mean().item() == pytest.approx(3, abs=0.4)
    assert not math.isnan(errors[0])


def test_one_item_has_no_variance() -> None:
    assert active_units(torch.zeros(1, 3)) == Unavailable("the variance over items needs two items")


def test_a_model_without_latent_units_has_none_to_count() -> None:
    assert active_units(torch.empty(5, 0)) == Unavailable("the model has no latent units")


def test_units_in_a_shape_are_counted_each_and_by_channel() -> None:
    means = torch.randn(50, 3, 2, 2) * torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)
    means[:, 2, 0] = 0.0
    variance = variance_of_means(means)

    assert variance.shape == (3, 2, 2)
    assert active_units(means).value == 6  # pyright: ignore[reportAttributeAccessIssue]
    assert active_units(means) == active_units(means.flatten(1))
    assert active_by_channel(variance) == [4, 0, 2]
    assert active_by_channel(variance.flatten()) is None
