"""Learning-rate decay and the end of training, after the code of He et al."""

from __future__ import annotations

from uncollapse.training.plateau import Plateau


def verdicts(plateau: Plateau, values: list[float]) -> list[str]:
    return [plateau.observe(epoch, value) for epoch, value in enumerate(values)]


def test_two_worse_epochs_in_a_row_make_a_decay() -> None:
    assert verdicts(Plateau(not_before=0), [5, 4, 4.5, 4.6, 4.4]) == ["go", "go", "go", "decay", "go"]


def test_a_better_epoch_in_between_starts_the_count_anew() -> None:
    assert verdicts(Plateau(not_before=0), [5, 4, 4.5, 4.0, 4.5, 4.2]) == ["go"] * 5 + ["decay"]


def test_worse_epochs_before_the_floor_are_counted_but_decay_nothing() -> None:
    plateau = Plateau(not_before=4)
    assert verdicts(plateau, [1, 2, 3, 4, 5]) == ["go", "go", "go", "go", "decay"]
    assert plateau.scale == 0.5


def test_after_a_decay_the_bad_epoch_is_the_reference() -> None:
    plateau = Plateau(not_before=0)
    assert verdicts(plateau, [1, 2, 3, 2.5, 2.6]) == ["go", "go", "decay", "go", "go"]


def test_the_last_decay_ends_training_before_its_rate_is_used() -> None:
    plateau = Plateau(not_before=0, limit=2)
    assert verdicts(plateau, [1, 2, 2, 3, 4]) == ["go", "go", "decay", "go", "stop"]


def test_its_memory_is_all_it_needs_to_go_on() -> None:
    values = [1.0, 2, 3, 2.5, 2.6, 2.7, 1, 2, 3]
    whole, first, second = Plateau(not_before=0), Plateau(not_before=0), Plateau(not_before=0)
    expected = verdicts(whole, values)
    got = [first.observe(e, v) for e, v in enumerate(values[:5])]
    second.recall(first.memory())
    assert got + [second.observe(e + 5, v) for e, v in enumerate(values[5:])] == expected
