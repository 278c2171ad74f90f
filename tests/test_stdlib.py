"""Sentences from the documentation of the standard library."""

from __future__ import annotations

import pytest

from uncollapse.data import stdlib
from uncollapse.data.text import Corpus
from uncollapse.errors import InputError


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return stdlib.sentences()


@pytest.fixture(scope="module")
def corpus(lines: list[str]) -> Corpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stdlib, "sentences", lambda: lines)
        return stdlib.corpus()


def test_there_are_many_sentences(lines: list[str]) -> None:
    assert len(lines) > 8_000


def test_sentences_are_unique(lines: list[str]) -> None:
    assert len(set(lines)) == len(lines)


def test_sentences_have_4_to_15_words(lines: list[str]) -> None:
    assert {len(line.split()) for line in lines} == set(range(4, 16))


def test_sentences_are_lower_case_with_single_blanks(lines: list[str]) -> None:
    assert all(line == " ".join(line.lower().split()) for line in lines)


def test_marks_are_left_out(lines: list[str]) -> None:
    assert "return a string that identifies the current platform" in lines
    assert not any(set(line) & set('.,:;()[]_`"') for line in lines)


def test_the_corpus_has_the_sizes_asked(corpus: Corpus) -> None:
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (4000, 500, 500)
    assert len(corpus.vocabulary) == 1004


def test_the_corpus_is_the_same_every_time(lines: list[str], corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdlib, "sentences", lambda: lines)

    assert stdlib.corpus().fingerprint == corpus.fingerprint
    assert stdlib.corpus(seed=1).fingerprint != corpus.fingerprint


def test_more_sentences_than_there_are_is_refused(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdlib, "sentences", lambda: lines)

    with pytest.raises(InputError, match=f"{len(lines)} sentences, fewer than the 1001000 asked"):
        stdlib.corpus(train=1_000_000)
