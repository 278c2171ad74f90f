"""How near guesses come, and how near the codes of kindred items are."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uncollapse.data.families import families
from uncollapse.errors import InputError
from uncollapse.metrics.edits import edits, same_family

WORDS = st.text("abc", min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("guess", "target", "distance"), [("abadimiz", "abadiniz", 1), ("kitap", "kitaplar", 3), ("evler", "evde", 2)]
)
def test_distances_of_the_reference(guess: str, target: str, distance: int) -> None:  # T39
    assert edits([[guess]], [target])["distance"].value == distance


def test_three_items_of_the_reference() -> None:  # T39
    found = edits([["evler"], ["abadimiz"], ["kitap"]], ["evler", "abadiniz", "kitaplar"])
    assert found["accuracy"].value == pytest.approx(1 / 3)
    assert found["distance"].value == pytest.approx(4 / 3)
    assert found["normalised_distance"].value == pytest.approx((1 / 8 + 3 / 8) / 3)
    assert found["accuracy"].se == pytest.approx(1 / 3)


def test_a_missing_guess_counts_as_one_of_nothing() -> None:
    found = edits([[], ["ab"]], ["abc", "ab"])
    assert found["accuracy"].value == 0.5
    assert found["distance"].value == 1.5
    assert found["reciprocal_rank"].value == 0.5


def test_a_rank_is_that_of_the_first_right_guess() -> None:
    found = edits([["a", "b", "c"], ["a"], ["b", "a"]], ["c", "a", "d"])
    assert found["reciprocal_rank"].value == pytest.approx((1 / 3 + 1 + 0) / 3)


def test_words_are_counted_where_they_are_asked_for() -> None:
    assert edits([["the cat sat"]], ["a cat sat"], words=True)["distance"].value == 1
    assert edits([["the cat sat"]], ["a cat sat"])["distance"].value == 3


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=8))
def test_distances_are_those_of_the_recursion(items: list[tuple[str, str]]) -> None:
    def distance(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))

    cut = [(a[:4], b[:4]) for a, b in items]
    expected = sum(distance(a, b) for a, b in cut) / len(cut)
    assert edits([[a] for a, _ in cut], [b for _, b in cut])["distance"].value == pytest.approx(expected)


@pytest.mark.parametrize(("guesses", "targets"), [([], []), ([["a"]], ["a", "b"]), ([["a"]], [""])])
def test_what_cannot_be_scored_is_refused(guesses: list[list[str]], targets: list[str]) -> None:
    with pytest.raises(InputError, match="give one for each"):
        edits(guesses, targets)


def test_families_are_what_pairs_link() -> None:
    pairs = [("a", "b"), ("c", "d"), ("b", "e"), ("f", "f"), ("d", "g"), ("e", "a")]
    assert families(pairs) == [0, 1, 0, 2, 1, 0]


def test_the_nearest_code_of_another_source_tells_the_family() -> None:
    means = torch.tensor([[0.0], [0.0], [0.1], [5.0], [5.2], [0.25]])
    source = torch.tensor([0, 0, 1, 2, 3, 4])
    family = torch.tensor([0, 0, 0, 1, 1, 1])

    found = same_family(means, family, source)

    assert found is not None
    # The nearest of another source: 2, 2, 0 and 1, 4, 3, 2; the last one's alone is of another family.
    assert found[0].value == pytest.approx(5 / 6)
    # By chance: 1 of 4, 1 of 4, 2 of 5, 2 of 5, 2 of 5, 2 of 5.
    assert found[1].value == pytest.approx((0.25 + 0.25 + 4 * 0.4) / 6)


def test_codes_that_are_all_alike_tell_no_more_than_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    family = torch.randint(7, (60,), generator=generator)
    found = same_family(torch.zeros(60, 3), family, torch.arange(60))
    assert found is not None
    assert found[0].value == pytest.approx(found[1].value)


def test_items_without_kin_have_no_figure() -> None:
    assert same_family(torch.randn(3, 2), torch.arange(3), torch.arange(3)) is None
    assert same_family(torch.randn(3, 2), torch.zeros(3), torch.zeros(3)) is None


OF_MANY = """
import torch
from pathlib import Path
from uncollapse.cli.memory import keep_large_blocks
from uncollapse.metrics.edits import same_family
keep_large_blocks()  # As a command does.
found = same_family(torch.randn(6000, 64), torch.arange(6000) // 3, torch.arange(6000))
assert found is not None and found[0].n == 6000
# Of this program alone; `getrusage` begins with the peak of the process that started it.
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_neighbours_of_many_items_take_the_memory_of_a_few_rows() -> None:
    done = subprocess.run([sys.executable, "-c", OF_MANY], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1_000_000  # KiB; torch itself takes 230,000, and an item by itself 2,300,000 in all.
