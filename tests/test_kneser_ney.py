"""The language model of counts: against the reference, a slow one by the published rules, and its own sums."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uncollapse.errors import InputError
from uncollapse.metrics.kneser_ney import FALLBACK, KneserNey, _discounts

CORPUS = ["a b", "a c", "b c"]
TEXTS = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=12)
FIXED = [(0.4, 0.9, 1.2)] * 5


def slow(corpus: list[str], order: int, discounts: list[tuple[float, float, float]], extra: str = "") -> object:
    """p(w | context) by the rules as they are written, one n-gram at a time."""
    sentences = [["<s>", *line.split(), "</s>"] for line in corpus]
    raw = [Counter(tuple(s[i : i + k]) for s in sentences for i in range(len(s) - k + 1)) for k in range(1, order + 1)]
    adjusted: list[dict[tuple[str, ...], int]] = []
    for k in range(1, order + 1):
        before = defaultdict(set)
        if k < order:
            for gram in raw[k]:
                before[gram[1:]].add(gram[0])
        adjusted.append({g: c if k == order or g[0] == "<s>" else len(before[g]) for g, c in raw[k - 1].items()})
    adjusted[0].pop(("<s>",))
    words = {w for s in sentences for w in s} | {*extra.split()} | {"<unk>"}
    size = len(words - {"<s>"})

    def probability(word: str, context: tuple[str, ...], k: int) -> float:
        if k == 0:
            return 1 / size
        shorter = probability(word, context[1:], k - 1)
        following = {g: c for g, c in adjusted[k - 1].items() if g[:-1] == context}
        if not following:
            return shorter
        total, take = sum(following.values()), lambda c: discounts[k - 1][min(c, 3) - 1]
        count = following.get((*context, word), 0)
        own = (count - take(count)) / total if count else 0.0
        return own + sum(take(c) for c in following.values()) / total * shorter

    def of(word: str, context: list[str]) -> float:
        longest = tuple(context[max(0, len(context) - order + 1) :])
        return probability(word if word in words else "<unk>", longest, len(longest) + 1)

    return of


def test_the_bigram_of_the_reference() -> None:  # T43
    model = KneserNey.fit(CORPUS, 2, discounts=[(0.0, 0.0, 0.0), (0.75, 0.75, 0.75)])

    def after_a(word: str) -> float:
        return math.exp(model.log_probabilities([f"a {word}"])[0][1])

    assert after_a("b") == pytest.approx(0.339286, abs=1e-6)
    assert after_a("c") == pytest.approx(0.339286, abs=1e-6)
    assert after_a("a") == pytest.approx(0.107143, abs=1e-6)
    end = math.exp(model.log_probabilities(["a"])[0][1])
    assert end == pytest.approx(0.214286, abs=1e-6)
    assert after_a("a") + after_a("b") + after_a("c") + end == pytest.approx(1)
    assert model.perplexity(["a b"]).value == pytest.approx(2.610887, abs=1e-6)
    without_end = model.log_probabilities(["a b"])[0][:2]
    assert math.exp(-without_end.mean()) == pytest.approx(2.457338, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS, st.integers(1, 5))
def test_probabilities_are_those_of_the_slow_rules(corpus: list[str], text: list[str], order: int) -> None:
    model = KneserNey.fit(corpus, order, vocabulary=["z"], discounts=FIXED[:order])
    of = slow(corpus, order, FIXED, "z")
    for sentence, found in zip(text, model.log_probabilities(text), strict=True):
        words = [w if w in model.numbers else "<unk>" for w in sentence.split()]
        whole = ["<s>", *words, "</s>"]
        expected = [of(whole[i], whole[:i]) for i in range(1, len(whole))]  # pyright: ignore[reportCallIssue]
        np.testing.assert_allclose(np.exp(found), expected, rtol=1e-10)


@settings(deadline=None, max_examples=40)
@given(TEXTS, st.integers(1, 5), st.lists(st.sampled_from("abcdq"), max_size=5))
def test_what_may_follow_sums_to_one(corpus: list[str], order: int, context: list[str]) -> None:
    model = KneserNey.fit(corpus, order, vocabulary=["rare"])
    words = [word for word in model.numbers if word not in ("<s>", "</s>", "<unk>")]
    next_ = [math.exp(model.log_probabilities([" ".join([*context, word])])[0][len(context)]) for word in words]
    unknown = math.exp(model.log_probabilities([" ".join([*context, "never-seen"])])[0][len(context)])
    end = math.exp(model.log_probabilities([" ".join(context)])[0][len(context)])
    assert sum(next_) + unknown + end == pytest.approx(1)


def test_an_order_beyond_every_sentence_is_that_of_the_longest() -> None:
    short, long = KneserNey.fit(["a", "b"], 3), KneserNey.fit(["a", "b"], 5)
    assert short.perplexity(["a b", "b"]).value == long.perplexity(["a b", "b"]).value


def test_discounts_are_those_of_the_counts_of_counts() -> None:
    counts = np.repeat([1.0, 2.0, 3.0, 4.0, 9.0], [40, 20, 10, 5, 2])
    share = Fraction(40, 80)
    expected = (1 - 2 * share * Fraction(20, 40), 2 - 3 * share * Fraction(10, 20), 3 - 4 * share * Fraction(5, 10))
    assert _discounts(counts) == pytest.approx([float(one) for one in expected])


@pytest.mark.parametrize("sizes", [(0, 5, 5, 5), (9, 0, 5, 5), (9, 5, 0, 5), (5, 5, 5, 90), (20, 1, 30, 1)])
def test_counts_that_say_no_discount_have_the_usual_ones(sizes: tuple[int, ...]) -> None:
    assert _discounts(np.repeat([1.0, 2.0, 3.0, 4.0], sizes)) == FALLBACK


def test_known_words_without_a_count_share_what_is_left_with_the_unknown() -> None:
    model = KneserNey.fit(CORPUS, 3, vocabulary=["x", "y"])
    x, y, unknown = (model.log_probabilities([word])[0][0] for word in ("x", "y", "never-seen"))
    assert x == y == unknown
    assert KneserNey.fit(CORPUS, 3).log_probabilities(["x"])[0][0] > x


def test_a_perplexity_has_its_error_over_sentences_and_counts_ends() -> None:
    model = KneserNey.fit(CORPUS, 2)
    found = model.perplexity(["a b", "c"])
    nats = [-one.sum() for one in model.log_probabilities(["a b", "c"])]
    ratio = sum(nats) / 5
    assert found.value == pytest.approx(math.exp(ratio))
    spread = np.std([nats[0] - 3 * ratio, nats[1] - 2 * ratio], ddof=1) / math.sqrt(2)
    assert found.se == pytest.approx(math.exp(ratio) * spread / 2.5)
    assert model.unknown(["a q", "c"]) == pytest.approx(1 / 3)


def test_what_has_no_words_is_refused() -> None:
    for sentences, order in (([], 5), (["", " "], 5), (["a"], 0)):
        with pytest.raises(InputError, match="needs an order of at least 1 and some words"):
            KneserNey.fit(sentences, order)


def test_penn_treebank_has_the_perplexity_that_is_published_of_it(shared_data: object) -> None:
    """141.2 for a Kneser-Ney 5-gram in Mikolov & Zweig (2012)."""
    import gzip
    from pathlib import Path

    texts = [
        gzip.open(Path(str(shared_data)) / "ptb" / f"ptb.{split}.txt.gz", "rt").read().splitlines()
        for split in ("train", "test")
    ]
    assert KneserNey.fit(texts[0]).perplexity(texts[1]).value == pytest.approx(141.2, abs=0.2)
