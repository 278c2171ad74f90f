"""Language models of counts: interpolated modified Kneser-Ney, by which samples and texts are scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from uncollapse.errors import InputError
from uncollapse.metrics.estimate import Estimate, perplexity

#: What stands in the first places of a vocabulary: the start and the end of a sentence, and every unknown word.
START, END, UNKNOWN = 0, 1, 2
MARKERS = ("<s>", "</s>", "<unk>")
#: Discounts of n-grams seen once, twice and more often, where counts are too few to say any.
FALLBACK = (0.5, 1.0, 1.5)

Discounts = tuple[float, float, float]


class Text(NamedTuple):
    """Sentences as ids in one array, each with both markers."""

    ids: np.ndarray
    """(T,)."""
    place: np.ndarray
    """(T,), the place of each token in its sentence, 0 for `<s>`."""
    sentence: np.ndarray
    """(T,), the number of its sentence."""


class Order(NamedTuple):
    """The n-grams of one order and what their counts come to; a context is the number of an n-gram one shorter."""

    keys: np.ndarray
    """(G,), sorted: the context times the size of the vocabulary, plus the last word."""
    counts: np.ndarray
    """(G,), adjusted: of the highest order how often each is there, of the others after how many words; of those that
    begin a sentence how often, as nothing is before them."""
    discounts: Discounts
    total: np.ndarray
    """(C,), the sum of the counts that each context is followed by."""
    left: np.ndarray
    """(C,), the share of it that the discounts leave to the shorter context; 1 where nothing follows."""


@dataclass(frozen=True)
class KneserNey:
    r"""An n-gram language model with interpolated modified Kneser-Ney smoothing, by the published rules of `lmplz`.

    .. math:: p_k(w | h) = \frac{a(h w) - D(a(h w))}{\sum_x a(h x)} + \gamma(h) \, p_{k-1}(w | h'), \quad
              \gamma(h) = \frac{\sum_x D(a(h x))}{\sum_x a(h x)}, \quad p_0(w) = \frac{1}{|V|}

    with a the adjusted counts (`Order`), h' the context h without its first word, and, from the number t_i of n-grams
    of an order with adjusted count i,

    .. math:: D(i) = i - (i + 1) \frac{t_1}{t_1 + 2 t_2} \frac{t_{i+1}}{t_i}, \quad i = 1, 2, 3 \text{ (and more)}

    Where these are not defined, or not between 0 and i, all of the order are 0.5, 1 and 1.5. Of a context that is not
    there the shorter one's law is taken as it is. V are the words of the vocabulary, `</s>` and `<unk>`; `<s>` is
    context alone. `</s>` is predicted and counts as a token. A word outside V is `<unk>`, which no count is of.

    References:
        | An Empirical Study of Smoothing Techniques for Language Modeling (Chen & Goodman, 1999)
        | https://doi.org/10.1006/csla.1999.0128
        | Scalable Modified Kneser-Ney Language Model Estimation (Heafield et al., 2013)
        | https://aclanthology.org/P13-2121
    """

    numbers: dict[str, int]
    """Of every word and marker."""
    orders: tuple[Order, ...]

    @classmethod
    def fit(
        cls,
        sentences: Iterable[str],
        order: int = 5,
        vocabulary: Iterable[str] = (),
        discounts: Sequence[Discounts] | None = None,
    ) -> KneserNey:
        """The model of some sentences, words between blanks.

        Arguments:
            sentences: One a text, without markers.
            order: n, the words of the longest n-gram.
            vocabulary: Words that it knows beside theirs. They are in no n-gram and share what is left to all words;
                a model that is to be compared with others by how it scores a text must know the same words as these.
            discounts: Of every order from 1 on, in place of those that the counts say.

        Raises:
            InputError: where there is no word, and for an order below 1.
        """
        cut = [sentence.split() for sentence in sentences]
        if order < 1 or not any(cut):
            raise InputError(f"a model of n-grams needs an order of at least 1 and some words; the order is {order}.")
        words = dict.fromkeys(chain(chain.from_iterable(cut), vocabulary))
        numbers = {word: i for i, word in enumerate(dict.fromkeys([*MARKERS, *words]))}
        text = _numbered(cut, numbers)
        return cls(numbers, tuple(_orders(text, order, len(numbers), discounts)))

    def log_probabilities(self, sentences: Iterable[str]) -> list[np.ndarray]:
        """Of every sentence log p of each word, and of its end, given those before, in nats."""
        text = _numbered([sentence.split() for sentence in sentences], self.numbers)
        predicted = text.place > 0
        found = np.log(self._probabilities(text)[predicted])
        ends = np.flatnonzero(text.ids[predicted] == END) + 1
        return np.split(found, ends[:-1])

    def perplexity(self, sentences: Iterable[str]) -> Estimate:
        """exp(sum of nats / sum of tokens), ends included, with its standard error over sentences."""
        each = self.log_probabilities(sentences)
        return perplexity([-float(one.sum()) for one in each], [len(one) for one in each], "per word or end")

    def unknown(self, sentences: Iterable[str]) -> float:
        """The share of the words of some sentences that it does not know."""
        words = [word for sentence in sentences for word in sentence.split()]
        return sum(word not in self.numbers for word in words) / max(1, len(words))

    def _probabilities(self, text: Text) -> np.ndarray:
        """Of every token p given those before it; of starts something that means nothing."""
        size = len(self.numbers)
        found = np.full(len(text.ids), 1.0 / (size - 1))  # Of all but `<s>`.
        context = np.zeros(len(text.ids), np.int64)
        for k, order in enumerate(self.orders):
            there = (context >= 0) & (text.place >= k)
            keys = np.where(there, context * size + text.ids, -1)
            at = np.minimum(order.keys.searchsorted(keys), len(order.keys) - 1)
            met = order.keys[at] == keys
            behind = np.where(there, context, 0)
            counts = np.where(met, order.counts[at], 0.0)
            known = there & (order.total[behind] > 0)
            own = (counts - _discount(counts, order.discounts)) / np.where(known, order.total[behind], 1.0)
            found = np.where(known, own + order.left[behind] * found, found)
            # The context of the next order, one word longer, is the n-gram that ends one token before. Every word is
            # a context of the first order, whether it is in the text or not.
            grams = text.ids if k == 0 else np.where(met, at, -1)
            context = np.concatenate([[-1], grams[:-1]])
        return found


def _numbered(cut: Sequence[Sequence[str]], numbers: dict[str, int]) -> Text:
    lengths = np.array([len(words) + 2 for words in cut], np.int64)
    ids = np.fromiter(
        chain.from_iterable((START, *(numbers.get(word, UNKNOWN) for word in words), END) for words in cut),
        np.int64,
        int(lengths.sum()),
    )
    starts = np.repeat(lengths.cumsum() - lengths, lengths)
    return Text(ids, np.arange(len(ids)) - starts, np.repeat(np.arange(len(cut)), lengths))


def _orders(text: Text, most: int, size: int, discounts: Sequence[Discounts] | None) -> list[Order]:
    """The n-grams of every order up to the longest.

    Of the first order the number of an n-gram is that of its word, so that a word is a context though no text has it.
    """
    tables: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    grams, follows = text.ids, np.empty(0, np.int64)
    for k in range(1, most + 1):
        ends = np.flatnonzero(text.place >= k - 1)
        if not len(ends):  # No sentence is as long.
            break
        before = np.zeros(len(ends), np.int64) if k == 1 else grams[ends - 1]
        keys, first, inside, counts = np.unique(
            before * size + text.ids[ends], return_index=True, return_inverse=True, return_counts=True
        )
        begins = text.place[ends[first]] == k - 1
        if k > 1:  # After how many words the n-grams one shorter are.
            shorter, raw, began = tables[-1]
            after = np.bincount(follows[ends[first]], minlength=len(shorter)).astype(float)
            tables[-1] = (shorter, np.where(began, raw, after), began)
        tables.append((keys, counts.astype(float), begins))
        follows = np.full(len(text.ids), -1)
        follows[ends] = inside
        grams = text.ids if k == 1 else follows
    found = []
    for k, (keys, counts, _) in enumerate(tables):
        contexts = 1 if k == 0 else size if k == 1 else len(tables[k - 1][0])
        if k == 0:
            counts = np.where(keys == START, 0.0, counts)
        found.append(_order(keys, counts, contexts, size, None if discounts is None else discounts[k]))
    return found


def _order(keys: np.ndarray, counts: np.ndarray, contexts: int, size: int, discounts: Discounts | None) -> Order:
    chosen = discounts or _discounts(counts)
    before = keys // size
    total = np.bincount(before, counts, contexts)
    off = np.bincount(before, _discount(counts, chosen), contexts)
    return Order(keys, counts, chosen, total, np.where(total > 0, off / np.where(total > 0, total, 1.0), 1.0))


def _discounts(counts: np.ndarray) -> Discounts:
    one, two, three, four = (int((counts == i).sum()) for i in range(1, 5))
    if not one or not two or not three:
        return FALLBACK
    share = one / (one + 2 * two)
    found = (1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three)
    return found if all(0 <= d <= i for i, d in enumerate(found, 1)) else FALLBACK


def _discount(counts: np.ndarray, discounts: Discounts) -> np.ndarray:
    """What is taken off adjusted counts."""
    return np.array([0.0, *discounts])[np.minimum(counts, 3).astype(np.int64)]
