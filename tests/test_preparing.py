"""Corpora prepared in a stream: the same as if all lines were held, in memory and mapped from a folder."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uncollapse.data import cache, reading, text
from uncollapse.data.sequences import Sequences
from uncollapse.data.text import Corpus, corpus_from_lines, read_lines
from uncollapse.errors import InputError

WORD = st.sampled_from(["a", "b", "c", "ä", "<unk>", "_UNK", "<s>", "long"])
LINE = st.lists(WORD, min_size=1, max_size=6).map(" ".join)
LINES = st.lists(LINE, min_size=1, max_size=25)
SETTINGS = st.fixed_dictionaries(
    {
        "tokens": st.sampled_from(["words", "characters"]),
        "size": st.sampled_from([None, 2]),
        "min_count": st.sampled_from([1, 2]),
        "max_length": st.sampled_from([None, 3]),
        "items": st.sampled_from([None, 9]),
        "seed": st.integers(0, 3),
    }
)


def reference(
    train: list[str],
    valid: list[str] | None,
    test: list[str] | None,
    tokens: str,
    size: int | None,
    min_count: int,
    max_length: int | None,
    items: int | None,
    seed: int,
) -> tuple[tuple[str, ...], list[list[list[int]]], str]:
    """Vocabulary, ids and fingerprint as version 0.1.0 made them, with every line in memory."""
    cut = [line.split() if tokens == "words" else list(line) for line in train[:items]]
    tenth, missing = max(1, len(cut) // 10), (valid is None) + (test is None)
    order = torch.randperm(len(cut), generator=torch.Generator().manual_seed(seed)).tolist()
    taken = [[cut[i] for i in sorted(order[k * tenth : (k + 1) * tenth])] for k in range(missing)]
    splits = [[cut[i] for i in sorted(order[missing * tenth :])]]
    for given_lines in (valid, test):
        own = [line.split() if tokens == "words" else list(line) for line in given_lines or []]
        splits.append(taken.pop(0) if given_lines is None else own)
    splits = [[item for item in split if max_length is None or len(item) <= max_length] for split in splits]
    counts = Counter(token for item in splits[0] for token in item)
    reserved = {"<pad>", "<s>", "</s>", "<unk>", "_UNK"}
    often = [word for word, count in counts.most_common() if count >= min_count and word not in reserved][:size]
    words = tuple(word for word in counts if word in often)
    numbers = {word: i for i, word in enumerate(words, 4)}
    ids = [[[1, *(numbers.get(token, 3) for token in item), 2] for item in split] for split in splits]
    vocabulary = json.dumps({"tokens": tokens, "words": words}, ensure_ascii=False)
    return words, ids, hashlib.sha256(json.dumps([vocabulary, *ids]).encode()).hexdigest()


def outcome(make: Callable[..., Any], *arguments: Any, **settings: Any) -> tuple[Any, ...]:
    """What a corpus holds, or that it was refused."""
    try:
        made = make(*arguments, **settings)
    except InputError:
        return ("refused",)
    if isinstance(made, tuple):
        words, ids, fingerprint = made
        known = all(any(token > 3 for item in split for token in item) for split in ids)
        return (words, ids, fingerprint) if words and known else ("refused",)
    return made.vocabulary.words, [list(made.train), list(made.valid), list(made.test)], made.fingerprint


@given(train=LINES, valid=st.none() | LINES, test=st.none() | LINES, settings=SETTINGS)
def test_a_corpus_is_what_it_was_when_every_line_was_held(
    train: list[str], valid: list[str] | None, test: list[str] | None, settings: dict[str, Any]
) -> None:
    expected = outcome(reference, train, valid, test, **settings)

    assert outcome(corpus_from_lines, train, valid, test, **settings) == expected


@given(train=LINES, valid=st.none() | LINES, settings=SETTINGS, block=st.sampled_from([1, 7, 2**20]))
def test_files_in_memory_and_mapped_give_the_corpus_of_their_lines(
    tmp_path_factory: pytest.TempPathFactory,
    train: list[str],
    valid: list[str] | None,
    settings: dict[str, Any],
    block: int,
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    first, second = folder / "train", None if valid is None else folder / "valid.gz"
    first.write_text("\n".join(train), encoding="utf-8")
    if second:
        second.write_bytes(gzip.compress("\n".join(valid or []).encode()))
    expected = outcome(corpus_from_lines, train, valid, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK", block)
        patch.setenv("UNCOLLAPSE_CACHE", str(folder / "cache"))
        assert outcome(Corpus.load, first, second, **settings) == expected
        patch.setattr(text, "LARGE", 0)
        for _ in range(2):  # Made, then opened.
            assert outcome(Corpus.load, first, second, **settings) == expected


@given(sequences=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1), data=st.data())
def test_sequences_are_the_lists_they_were_made_of(sequences: list[list[int]], data: st.DataObject) -> None:
    ids = np.array([token for sequence in sequences for token in sequence], np.uint16)
    held = Sequences(ids, np.cumsum([len(sequence) for sequence in sequences]))
    some = data.draw(st.lists(st.integers(0, len(sequences) - 1), min_size=1))

    assert list(held) == sequences == held[:]
    assert [held[i] for i in range(len(held))] == sequences
    assert held[-1] == sequences[-1]
    assert held.lengths.tolist() == [len(sequence) for sequence in sequences]
    batch = held.text(torch.tensor(some)).tokens.tolist()
    width = max(len(sequences[i]) for i in some)
    assert batch == [sequences[i] + [0] * (width - len(sequences[i])) for i in some]


def test_line_numbers_do_not_depend_on_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 3)
    path = tmp_path / "x"
    path.write_text("\ufeffa b\n\n \nc\r\nd e f\n\n", encoding="utf-8")
    found = [(block.items, list(block.numbers)) for block in reading.blocks(path)]

    assert [item for items, _ in found for item in items] == ["a b", "c", "d e f"] == read_lines(path)
    assert [number for _, numbers in found for number in numbers] == [1, 4, 5]
    path.write_bytes(b"a\nb\n\nc\xff\n")
    with pytest.raises(InputError, match=r"x`, line 4: not UTF-8"):
        read_lines(path)


def test_only_as_much_is_read_as_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 8)
    (tmp_path / "x").write_bytes(b"a b\n" * 20 + b"\xff\n")

    assert len(Corpus.load(tmp_path / "x", items=10).train) == 8


def test_what_is_read_is_told_stage_by_stage_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 16)
    (tmp_path / "x").write_text("a b c\n" * 50)
    told: list[tuple[str, float]] = []
    Corpus.load(tmp_path / "x", tell=lambda what, share: told.append((what, share)))

    stages = list(dict.fromkeys(what for what, _ in told))
    assert stages == ["reading x", "counting the types", "writing the ids", "taking the fingerprint"]
    for stage in stages:
        shares = [share for what, share in told if what == stage]
        assert shares == sorted(shares)
        assert shares[-1] == 1


def test_a_large_text_is_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 2**14)
    monkeypatch.setattr(text, "LARGE", 0)
    monkeypatch.setenv("UNCOLLAPSE_CACHE", str(tmp_path / "cache"))
    line = " ".join(f"w{i}" for i in range(40)) + "\n"
    (tmp_path / "x").write_text(line * 20_000)
    tracemalloc.start()
    Corpus.load(tmp_path / "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (tmp_path / "x").stat().st_size > 2_900_000
    assert peak < 2_200_000  # Held as bytes it would be more, and its lines of words are 45 MB.


# Kept folders.


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text that counts as large."""
    monkeypatch.setattr(text, "LARGE", 0)
    monkeypatch.setenv("UNCOLLAPSE_CACHE", str(tmp_path / "cache"))
    draw, path = random.Random(0), tmp_path / "x.txt"
    path.write_text("".join(f"the {draw.choice('abcd')} of {draw.choice('efgh')}\n" for _ in range(60)))
    return path


def kept(path: Path) -> Path:
    """The one folder that is kept."""
    (found,) = [one for one in (path.parent / "cache").iterdir() if one.is_dir()]
    return found


def test_a_kept_corpus_is_mapped_and_the_text_is_not_read_again(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Corpus.load(large)
    monkeypatch.setattr(text, "blocks", None)
    again = Corpus.load(large)

    assert isinstance(again.train.ids.base, np.memmap)
    assert (again.fingerprint, again.vocabulary, again.dropped) == (first.fingerprint, first.vocabulary, first.dropped)
    assert (again.once, again.longest) == (first.once, first.longest)
    assert {one.suffix for one in kept(large).iterdir()} == {".ids", ".ends", ".json"}


def test_a_small_text_is_not_kept(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "LARGE", large.stat().st_size + 1)
    Corpus.load(large)

    assert not (large.parent / "cache").exists()


def test_a_text_that_changed_is_read_again_even_with_the_size_and_time_it_had(large: Path) -> None:
    before, state = Corpus.load(large), large.stat()
    large.write_bytes(large.read_bytes().replace(b"the a", b"the b"))
    os.utime(large, ns=(state.st_atime_ns, state.st_mtime_ns))

    assert large.stat().st_size == state.st_size
    assert Corpus.load(large).fingerprint != before.fingerprint


def test_other_settings_make_another_corpus(large: Path) -> None:
    prints = {Corpus.load(large, **how).fingerprint for how in ({}, {"seed": 1}, {"size": 3}, {"max_length": 9})}

    assert len(prints) == 3
    assert len([one for one in (large.parent / "cache").iterdir() if one.is_dir()]) == 4


@pytest.mark.parametrize("how", ["changed", "cut", "missing", "no JSON", "no entries"])
@pytest.mark.parametrize("name", ["train.ids", "test.ends", "about.json", "index.json"])
def test_a_damaged_corpus_is_made_anew(large: Path, name: str, how: str) -> None:
    whole = Corpus.load(large).fingerprint
    path = kept(large) / name
    content = path.read_bytes()
    damaged = {
        "changed": bytes([content[0], content[1] ^ 1]) + content[2:],
        "cut": content[:-1],
        "missing": b"",
        "no JSON": b"7",
        "no entries": b"{}",
    }[how]
    path.unlink() if how == "missing" else path.write_bytes(damaged)

    assert Corpus.load(large).fingerprint == whole
    assert path.read_bytes() == content


def test_processes_that_want_the_same_corpus_at_once_all_get_it(large: Path) -> None:
    code = f"""
from uncollapse.data import text
text.LARGE = 0
print(text.Corpus.load({str(large)!r}).fingerprint)
"""
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate() for process in running]

    assert {out.strip() for out, _ in said} == {Corpus.load(large).fingerprint}
    assert all(not err for _, err in said)
    assert [one.name for one in (large.parent / "cache").iterdir() if one.is_dir()] == [kept(large).name]


def test_one_writes_while_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCOLLAPSE_CACHE", str(tmp_path))
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "x").write_text("whole")

    threads = [threading.Thread(target=cache.entry, args=("key", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1
    assert (tmp_path / "key" / "x").read_text() == "whole"


def test_what_a_killed_process_left_is_cleared_away(large: Path) -> None:
    Corpus.load(large)
    folder = kept(large)
    left = folder.with_name(f"{folder.name}.4711")
    folder.rename(left)

    Corpus.load(large)

    assert folder.is_dir()
    assert not left.exists()


def test_a_text_that_is_refused_leaves_nothing_behind(large: Path) -> None:
    large.write_bytes(b"a b\n" * 30 + b"\xff\n")
    with pytest.raises(InputError, match="line 31: not UTF-8"):
        Corpus.load(large)

    assert [one.suffix for one in (large.parent / "cache").iterdir()] == [".lock"]


def test_a_large_text_without_its_partner_is_refused_as_a_small_one_is(large: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the text file `.*none`: No such file"):
        Corpus.load(large, large.parent / "none")


def test_a_cache_that_cannot_be_written_is_said_with_what_to_do(large: Path) -> None:
    (large.parent / "cache").write_text("a file")
    with pytest.raises(InputError, match=r"cannot keep the prepared text in `.*cache`.*UNCOLLAPSE_CACHE"):
        Corpus.load(large)


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"UNCOLLAPSE_CACHE": "/own", "XDG_CACHE_HOME": "/x"}, "/own"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/uncollapse"),
        ({"HOME": "/h"}, "/h/.cache/uncollapse"),
    ],
)
def test_the_environment_says_where_the_cache_is(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], place: str
) -> None:
    for name in ("UNCOLLAPSE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert cache.place() == Path(place)


def test_a_user_without_a_home_is_told_what_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNCOLLAPSE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(InputError, match="no home folder for that: name a folder in the environment variable UNCOLL"):
        cache.place()
