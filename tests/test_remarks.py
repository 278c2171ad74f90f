"""Odd corpora: what a person hears of them, and that they are trained on or refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from test_cli import SET, VALUES
from uncollapse.cli import main
from uncollapse.cli.options import Options
from uncollapse.data import corpora
from uncollapse.data.corpora import Texts
from uncollapse.data.text import Corpus, corpus_from_lines
from uncollapse.experiment import remarks
from uncollapse.experiment.spec import Spec

LINES = [f"the {a} sees {b}" for a in "abcdefgh" for b in "mnopqrst"]


def spec(*values: str) -> Spec:
    return Options(train=Path("x.txt"), overrides=(*VALUES, *values)).spec("text", [], 0)


def said(corpus: Corpus, *values: str) -> list[str]:
    return list(remarks.on_training(spec(*values), Texts(corpus)))


def test_nothing_is_said_of_an_ordinary_corpus() -> None:
    assert said(corpus_from_lines(LINES)) == []
    assert list(remarks.on_items(Texts(corpus_from_lines(LINES, LINES, LINES)), "test")) == []


def test_what_was_left_out_is_counted() -> None:
    corpus = corpus_from_lines([*LINES, "a b c d e f"], LINES, [*LINES, "a b c d e", "e d c b a"], max_length=4)

    assert said(corpus) == ["left out, being longer than data.max_length: 1 of 65 in `train`, 2 of 66 in `test`."]


def test_a_line_of_100_000_tokens_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("\n".join([*LINES[:4], " ".join(["the"] * 100_000), *LINES[4:]]))
    (remark,) = said(Corpus.load(path, path, path, items=40), "data.items=40")[:1]

    assert f"`train` (`{path}`, line 5) has 100,000 tokens, the median 4" in remark
    assert remark.endswith("99 % of the items have at most 4: leave the others out with --set data.max_length=4.")
    assert not any("longest" in one for one in said(Corpus.load(path, path, path, max_length=4)))


def test_a_text_that_is_one_line_is_refused_and_the_line_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.txt"
    path.write_text("the cat " * 50_000)

    assert main(["fit", "text", "--train", str(path), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert f"The longest, `{path}`, line 1, has 100,000 tokens: every item needs a line." in error
    assert error.count("\n") == 1


def test_a_vocabulary_of_a_million_types_is_said_with_the_parameters_that_it_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(corpora, "MANY", 50)
    corpus = corpus_from_lines(["a b a", "b"], ["a"], ["b"])
    assert said(corpus)[0].startswith("`train` holds only 2 different items")
    corpus = corpus_from_lines([*LINES, *(f"w{i} is new" for i in range(1000))], LINES, LINES)
    (remark,) = said(corpus)

    types = len(corpus.vocabulary)
    rest = 2 * 4 * (8 * 16 + 2 * 8) + 4 * 8 * 2 + 2 * 8 + 8 * 4
    assert f"the vocabulary has {types:,} types, 1,000 of which appear once in `train`" in remark
    assert f"{round((types * 24 + rest) / 1e6):,} million parameters" in remark
    assert "--set data.size=20000, or leave rare ones out with --set data.min_count=2." in remark


@pytest.mark.parametrize("remedy", ["plain", "aggressive"])
def test_one_repeated_sentence_is_trained_on_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], remedy: str
) -> None:
    path, run = tmp_path / "x.txt", str(tmp_path / "run")
    path.write_text("the cat sees a dog\n" * 300)

    assert main(["fit", "text", "--train", str(path), "--out", run, "--samples", "2", "--with", remedy, *SET]) == 0
    out, heard = capsys.readouterr()
    same = "are the same, so that z has nothing to tell: KL and MI can only be 0."
    assert heard.count(f"note: all items of `train` {same}") == 1
    assert f"warning: all items of `test` {same}" in out
    assert (
        "\nunknown: all items of `test` are the same, so that no model could use its latent variable on them\n" in out
    )
    assert "--with" not in out


def test_few_different_items_bound_what_z_can_tell() -> None:
    (remark,) = remarks.on_items(Texts(corpus_from_lines(["a b", "b c", "c"] * 40, seed=1)), "train")

    assert remark == (
        "`train` holds only 3 different items, so that z can tell no more than which: an MI of at most "
        "log 3 = 1.10 nats."
    )
