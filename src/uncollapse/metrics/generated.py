"""What samples of text are worth: fluent, diverse, new."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from itertools import chain
from math import sqrt
from statistics import mean as average

import torch

from uncollapse.errors import InputError
from uncollapse.metrics.estimate import Answer, Estimate, Unavailable, mean
from uncollapse.metrics.kneser_ney import KneserNey

#: Sentences among which self-BLEU is computed, as its cost is their square, and the groups of a jackknife.
COMPARED, GROUPS = 200, 20


def score(
    samples: Sequence[str],
    train_lm: Sequence[str],
    held_out: Sequence[str],
    trained_on: Iterable[str] = (),
    order: int = 5,
    seed: int = 0,
) -> dict[str, Answer]:
    """How like real text samples are, and how unlike each other.

    `fppl` is the perplexity of the samples under a Kneser-Ney model of real text: low where they are fluent, and lowest
    where they are few phrases again and again. `rppl` is that of held-out real text under a model of the samples: low
    where they are fluent and diverse; it falls with their number, so that only as many samples can be compared. Both
    models know the words of `train_lm`, so that how many words samples have does not decide. Errors are over the
    sentences that are scored; what another set of samples would change in `rppl` is not in its error.

    References:
        | Towards Text Generation with Adversarially Learned Neural Outlines (Subramanian et al., 2018)
        | https://papers.neurips.cc/paper/2018/hash/aaaccd2766ec67aecbe26459bb828d81-Abstract.html
        | Adversarially Regularized Autoencoders (Zhao et al., 2018)
        | https://arxiv.org/abs/1706.04223

    Arguments:
        samples: Sentences, words between blanks.
        train_lm: Real text that teaches the model of `fppl`.
        held_out: Real text that `rppl` scores.
        trained_on: What the samples' model was trained on, of which `copies` counts whole sentences; `train_lm` where
            it is empty.
        order: Of the models.
        seed: Of which samples `self_bleu` compares.

    Returns:
        `fppl`, `rppl`, `fppl_unknown` and `rppl_unknown` (the share of words that the models do not know),
        `self_bleu`, `distinct_1` to `distinct_4`, `copies`, `repeated` and `length`.

    Raises:
        InputError: for texts without a word.
    """
    for name, text in (("samples", samples), ("the language model's text", train_lm), ("the held-out text", held_out)):
        if not any(sentence.split() for sentence in text):
            raise InputError(f"{name} hold no word: give a sentence a line, words between blanks.")
    words = dict.fromkeys(chain.from_iterable(sentence.split() for sentence in train_lm))
    real, of_samples = KneserNey.fit(train_lm, order), KneserNey.fit(samples, order, words)
    return {
        "fppl": real.perplexity(samples),
        "rppl": of_samples.perplexity(held_out),
        "fppl_unknown": _share([word not in words for one in samples for word in one.split()], "of the samples' words"),
        "rppl_unknown": _share(
            [word not in of_samples.numbers for one in held_out for word in one.split()], "of the text's words"
        ),
        "self_bleu": self_bleu(samples, seed=seed),
        **{f"distinct_{n}": distinct(samples, n) for n in range(1, 5)},
        "copies": copies(samples, list(trained_on) or train_lm),
        "repeated": repeated(samples),
        "length": mean(torch.tensor([len(one.split()) for one in samples]).double(), "words/item"),
    }


def distinct(samples: Sequence[str], n: int) -> Estimate | Unavailable:
    """The share of the n-grams of some samples that are different; its error is a jackknife's, over groups of them.

    It falls with the number of samples, so that only as many can be compared.
    """
    grams = [list(zip(*(one.split()[i:] for i in range(n)), strict=False)) for one in samples]
    if not any(grams):
        return Unavailable(f"no sample has {n} words")

    def share(kept: Sequence[list[tuple[str, ...]]]) -> float:
        return len(set(chain.from_iterable(kept))) / max(1, sum(map(len, kept)))

    return Estimate(share(grams), _jackknife(grams, share), len(samples), "of n-grams", cap=1.0)


def copies(samples: Sequence[str], text: Iterable[str]) -> Estimate:
    """The share of samples that are a sentence of a text, word by word."""
    there = {tuple(sentence.split()) for sentence in text}
    return _share([tuple(one.split()) in there for one in samples], "of samples")


def repeated(samples: Sequence[str]) -> Estimate:
    """The share of samples that an earlier one of them equals, word by word."""
    seen: set[tuple[str, ...]] = set()
    again = []
    for sample in samples:
        words = tuple(sample.split())
        again.append(words in seen)
        seen.add(words)
    return _share(again, "of samples")


def self_bleu(samples: Sequence[str], most: int = COMPARED, seed: int = 0) -> Answer:
    """The mean BLEU, of 100, of a sample with the others as references: high where they are alike.

    Of more samples than `most`, so many random ones are compared, as the figure grows with their number. The error is
    over these, and takes them to be independent, which they are not quite.

    References:
        | Texygen (Zhu et al., 2018)
        | https://arxiv.org/abs/1802.01886
    """
    if find_spec("sacrebleu") is None:
        return Unavailable("sacrebleu is not installed: `pip install 'uncollapse[score]'`")
    if len(samples) < 2:
        return Unavailable("one sample has no other to be held against")
    from sacrebleu.metrics.bleu import BLEU

    chosen = random.Random(seed).sample(list(samples), min(most, len(samples)))
    metric = BLEU(effective_order=True, tokenize="none")
    scores = [metric.sentence_score(one, [*chosen[:i], *chosen[i + 1 :]]).score for i, one in enumerate(chosen)]
    return mean(torch.tensor(scores), f"of 100, among {len(chosen)}", cap=100.0)


def _share(each: Sequence[bool], unit: str) -> Estimate:
    return mean(torch.tensor(each).double(), unit, cap=1.0)


def _jackknife(items: Sequence[list[tuple[str, ...]]], figure: Callable[[list[list[tuple[str, ...]]]], float]) -> float:
    """The standard error of a figure, by leaving out one group of items after the other; nan with one item."""
    groups = min(GROUPS, len(items))
    if groups < 2:
        return float("nan")
    left = [figure([one for i, one in enumerate(items) if i % groups != k]) for k in range(groups)]
    middle = average(left)
    return sqrt((groups - 1) / groups * sum((one - middle) ** 2 for one in left))
