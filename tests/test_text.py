"""Vocabularies, text files and corpora."""

from __future__ import annotations

import gzip
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uncollapse.data.splits import assigned
from uncollapse.data.text import END, PAD, START, UNK, Corpus, Text, Vocabulary, corpus_from_lines, read_lines
from uncollapse.errors import InputError

LINES = [
    f"{subject} {verb}" for subject in ("a cat", "the dog", "one") for verb in ("sat", "ran off", "is here now", "ate")
]
WORD = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@given(words=st.lists(WORD, min_size=1))
def test_decoding_inverts_encoding(words: list[str]) -> None:
    line = " ".join(words)
    vocabulary = Vocabulary.of([line])

    assert vocabulary.decode(vocabulary.encode(line)) == line


def test_types_are_numbered_by_appearance_after_the_markers() -> None:
    vocabulary = Vocabulary.of(["b a", "a c"])

    assert (PAD, START, END, UNK) == (0, 1, 2, 3)
    assert vocabulary.encode("b a c") == [START, 4, 5, 6, END]
    assert len(vocabulary) == 7


def test_the_most_frequent_types_are_kept_in_order_of_appearance() -> None:
    assert Vocabulary.of(["d c b b a a a"], size=3).words == ("d", "b", "a")


def test_rare_types_are_left_out() -> None:
    assert Vocabulary.of(["d c b b a a a"], min_count=2).words == ("b", "a")


def test_unseen_words_and_literal_markers_are_unknown() -> None:
    vocabulary = Vocabulary.of(["a <unk> _UNK <pad> <s> </s>"])

    assert vocabulary.words == ("a",)
    assert vocabulary.encode("zebra <unk> _UNK <pad> <s> </s> a")[1:-1] == [UNK] * 6 + [4]


def test_decoding_stops_at_the_end_and_omits_markers() -> None:
    assert Vocabulary(("a", "b")).decode(torch.tensor([START, 5, UNK, 4, END, 5, PAD])) == "b <unk> a"


def test_characters_are_joined_without_blanks() -> None:
    vocabulary = Vocabulary.of(["ab c"], tokens="characters")

    assert vocabulary.words == ("a", "b", " ", "c")
    assert vocabulary.decode(vocabulary.encode("c ab")) == "c ab"


@pytest.mark.parametrize("words", [("a", "a"), ("a", "<s>")])
def test_a_vocabulary_of_repeated_or_reserved_types_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="every type once"):
        Vocabulary(words)


def test_a_vocabulary_without_types_is_refused() -> None:
    with pytest.raises(InputError, match="lower `min_count` or raise `size`"):
        Vocabulary.of(["a b"], min_count=2)


def test_unknown_kinds_of_tokens_are_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean `words`"):
        Vocabulary.of(["a"], tokens="word")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_files_hold_one_item_a_line(tmp_path: Path, end: str) -> None:
    path = write(tmp_path / "x.txt", end.join(["a b", "", "  ", "naïve\u2028line", "c"]))

    assert read_lines(path) == ["a b", "naïve\u2028line", "c"]


def test_gzip_files_read_as_plain_ones(tmp_path: Path) -> None:
    assert read_lines(write(tmp_path / "x.txt.gz", gzip.compress(b"a b\nc\n"))) == ["a b", "c"]


def test_labels_are_removed(tmp_path: Path) -> None:
    assert read_lines(write(tmp_path / "x", "1\ta\tb\n0\tc\n"), labels=True) == ["a\tb", "c"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, r"none\.txt`: No such file"),
        ("", None, "Is a directory"),
        ("x", "", "holds no item"),
        ("x", "\n \n", "holds no item"),
        ("x", b"a\nb\n\xff\n", "x`, line 3: not UTF-8"),
        ("x.gz", b"plain", "not a whole gzip file"),
        ("x.gz", gzip.compress(b"a b c" * 99)[:-9], "not a whole gzip file"),
    ],
    ids=["missing", "folder", "empty", "blank", "bytes", "no gzip", "cut gzip"],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str | bytes | None, message: str
) -> None:
    path = tmp_path / name if content is None else write(tmp_path / name, content)

    with pytest.raises(InputError, match=message) as error:
        read_lines(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x", "a")
    path.chmod(0)

    with pytest.raises(InputError, match="Permission denied"):
        read_lines(path)


def test_a_line_without_a_label_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x", "1\ta\n\nb\n")

    with pytest.raises(InputError, match=r"x`, line 3: no tab .*Leave `--labels` out \(data.labels\)"):
        read_lines(path, labels=True)


def test_the_vocabulary_is_of_the_training_split_alone() -> None:
    corpus = corpus_from_lines(["a b"], ["a x"], ["b y"])

    assert corpus.vocabulary.words == ("a", "b")
    assert list(corpus.valid) == [[START, 4, UNK, END]]
    assert list(corpus.test) == [[START, 5, UNK, END]]


def test_missing_splits_are_tenths_of_the_training_items() -> None:
    lines = [f"a {i}" for i in range(100)]
    corpus = corpus_from_lines(lines, tokens="characters")
    splits = [[corpus.vocabulary.decode(ids) for ids in split] for split in (corpus.train, corpus.valid, corpus.test)]

    assert list(map(len, splits)) == [80, 10, 10]
    assert sorted(itertools.chain(*splits)) == sorted(lines)


def test_no_more_than_ten_thousand_items_are_taken_from_training() -> None:
    counts = np.bincount(assigned([250_000, None, None], seed=0)).tolist()

    assert counts == [230_000, 10_000, 10_000]


def test_the_split_is_a_function_of_its_seed() -> None:
    prints = [corpus_from_lines(LINES, seed=seed, tokens="characters").fingerprint for seed in (0, 0, 1)]

    assert prints[0] == prints[1] != prints[2]


def test_only_a_missing_split_is_taken_from_training() -> None:
    corpus = corpus_from_lines(LINES, valid=["a cat"])

    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (11, 1, 1)


def test_only_the_first_training_items_can_be_kept() -> None:
    corpus = corpus_from_lines(LINES, LINES, LINES, items=2)

    assert [corpus.vocabulary.decode(ids) for ids in corpus.train] == LINES[:2]
    assert len(corpus.valid) == len(LINES)


def test_long_items_are_dropped_and_counted() -> None:
    corpus = corpus_from_lines(["a b", "a b c d"], ["a", "a b d"], ["a b"], max_length=2)

    assert corpus.dropped == {"train": 1, "valid": 1, "test": 0}
    assert corpus.vocabulary.words == ("a", "b")


def test_a_split_of_long_items_alone_is_refused() -> None:
    with pytest.raises(InputError, match=r"`valid` holds no item \(`max_length` is 1"):
        corpus_from_lines(["a"], ["a b"], ["a"], max_length=1)


def test_too_few_items_to_split_are_refused() -> None:
    with pytest.raises(InputError, match="2 training items are too few to take 2 splits from"):
        corpus_from_lines(["a", "b"])


def test_a_split_without_a_known_word_is_refused_with_its_file(tmp_path: Path) -> None:
    train, valid = write(tmp_path / "train", "a b\na c\n"), write(tmp_path / "valid", "x y\n")

    with pytest.raises(InputError, match="valid` shares no words with the training split"):
        Corpus.load(train, valid)


def test_a_part_without_a_known_word_means_too_few_items_to_split(tmp_path: Path) -> None:
    train = write(tmp_path / "train", "a b\nc d\ne f\n")

    with pytest.raises(InputError, match=r"train` has too few items to split \(3\).*files for all splits"):
        Corpus.load(train)


def test_a_corpus_loads_from_files(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, "\n".join(f"1\t{line}" for line in LINES)) for name in ("a", "b", "c")]

    assert Corpus.load(*paths, labels=True).fingerprint == corpus_from_lines(LINES, LINES, LINES).fingerprint


def test_the_fingerprint_depends_on_every_split() -> None:
    splits = [["a b"], ["a"], ["b"]]
    prints = {corpus_from_lines(*splits).fingerprint}
    for i in range(3):
        prints.add(corpus_from_lines(*[[*s, "a a"] if i == k else s for k, s in enumerate(splits)]).fingerprint)

    assert len(prints) == 4


def test_a_text_predicts_its_words_and_the_end() -> None:
    text = Text(torch.tensor([[START, 4, 5, END], [START, 4, END, PAD]]))

    assert text.seen.tolist() == [[START, 4, 5], [START, 4, END]]
    assert text.target.tolist() == [[4, 5, END], [4, END, PAD]]
    assert text.symbols.tolist() == [3, 2]


@pytest.mark.parametrize("kind", ["equal", "padded"])
def test_batches_hold_the_items_they_name(kind: str) -> None:
    corpus = corpus_from_lines(LINES, LINES, LINES)
    batches = corpus.batches("train", 5, kind)

    for items, batch in zip(batches.items, batches, strict=True):
        rows = [[token for token in row if token != PAD] for row in batch.tokens.tolist()]
        assert rows == [corpus.train[i] for i in items]


def test_equal_batches_have_no_padding() -> None:
    batches = corpus_from_lines(LINES, LINES, LINES).batches("train", 5, "equal")

    assert all((batch.tokens != PAD).all() for batch in batches)


@pytest.mark.parametrize(("split", "kind"), [("tran", "equal"), ("train", "pad")])
def test_unknown_splits_and_kinds_are_refused_with_what_there_is(split: str, kind: str) -> None:
    with pytest.raises(InputError, match=r"There is: (equal, padded|test, train, valid)"):
        corpus_from_lines(LINES).batches(split, 5, kind)


@pytest.mark.parametrize("name", ["snli_18k", "yahoo_18k"])
def test_real_text_loads(shared_data: Path, name: str) -> None:
    paths = [shared_data / name / f"{name}.{split}.txt.gz" for split in ("train", "valid", "test")]

    corpus = Corpus.load(*paths, items=500)

    assert len(corpus.train) == 500


def test_no_items_are_refused() -> None:
    with pytest.raises(InputError, match=r"`train` holds no item \(`max_length` is None, `items` 0\)"):
        corpus_from_lines(LINES, LINES, LINES, items=0)


def test_a_corpus_prints_in_short() -> None:
    assert repr(corpus_from_lines(LINES)) == (
        "Corpus(vocabulary=Vocabulary(tokens='words'), dropped={'train': 0, 'valid': 0, 'test': 0})"
    )
