"""Randomness is a function of its purpose, and leaves nothing behind."""

from __future__ import annotations

import pytest
import torch

from uncollapse.randomness import generator, mix, seeded


def test_any_change_of_the_purpose_changes_the_seed() -> None:
    seeds = [mix(0), mix(1), mix(0, "a"), mix(0, "a", 1), mix(0, "a", 2), mix(0, "b", 1), mix(0, 1, "a")]
    assert len(set(seeds)) == len(seeds)


def test_the_same_purpose_draws_the_same_whatever_came_before() -> None:
    draws = []
    for n in (0, 5):
        torch.randn(n)
        with seeded(3, "purpose", 7):
            draws.append(torch.randn(4))
    assert torch.equal(*draws)
    assert torch.equal(torch.randn(4, generator=generator(3, "purpose", 7)), draws[0])


def test_the_global_generator_is_restored_even_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(0):
        torch.randn(3)[0] / (1 // 0)
    assert torch.equal(before, torch.get_rng_state())
