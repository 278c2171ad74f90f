"""Figures with errors, and reasons for having none."""

from __future__ import annotations

import json
import math

import pytest
import torch

from uncollapse.metrics.estimate import Estimate, Unavailable, mean


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(44.0312, 0.6149, 100, "nats/item"), "44.03 ± 0.61 nats/item"),
        (Estimate(44.0312, 12.6, 100, "nats/item"), "44 ± 13 nats/item"),
        (Estimate(2.0, 0.0, 100, "units", cap=32.0), "2.0000 ± 0.0000 units (cap 32)"),
        (Estimate(2.0, math.nan, 1, "nats/item"), "2.0000 ± nan nats/item"),
    ],
)
def test_an_estimate_reads_to_the_digits_that_its_error_allows(estimate: Estimate, text: str) -> None:
    assert str(estimate) == text


def test_the_error_of_a_mean_is_that_of_independent_items() -> None:
    estimate = mean(torch.tensor([1.0, 2.0, 4.0]), "nats/item")

    assert estimate.value == pytest.approx(7 / 3)
    assert estimate.se == pytest.approx(math.sqrt(7 / 3 / 3))
    assert estimate.n == 3


def test_one_item_has_no_standard_error() -> None:
    assert math.isnan(mean(torch.tensor([1.0]), "nats/item").se)


@pytest.mark.parametrize(("value", "cap", "expected"), [(0.95, 1.0, True), (0.94, 1.0, False), (5.0, None, False)])
def test_an_estimate_within_five_percent_of_its_cap_is_saturated(
    value: float, cap: float | None, expected: bool
) -> None:
    assert Estimate(value, 0.1, 10, "nats/item", cap).saturated is expected


def test_json_holds_no_number_that_json_lacks() -> None:
    found = Estimate(math.inf, math.nan, 1, "nats/item", cap=2.0).to_json()

    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "value": None,
        "se": None,
        "n": 1,
        "unit": "nats/item",
        "cap": 2.0,
        "bias": None,
        "saturated": True,
    }
    assert Estimate(1.0, 0.1, 9, "nats/item", cap=2.0).to_json()["saturated"] is False


def test_what_is_not_available_says_why() -> None:
    found = Unavailable("asked for 0 importance samples")

    assert str(found) == "not available: asked for 0 importance samples"
    assert found.to_json() == {"unavailable": "asked for 0 importance samples"}
