"""Pairs of sequences: their files, their batches, and a run of them from training to the report."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from uncollapse import bound
from uncollapse.cli import main
from uncollapse.data.inflection import Inflection, Pairs
from uncollapse.data.pair_texts import PairTexts
from uncollapse.data.pairs import Pair, Row, read_pairs
from uncollapse.data.vocabulary import END, START
from uncollapse.distributions.tokens import PAD
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.api import load
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated

SUFFIXES = {("NOM", "SG"): "", ("NOM", "PL"): "lar", ("GEN", "SG"): "in", ("GEN", "PL"): "larin"}
SMALL = {
    "model.encoder.embedding": 8,
    "model.encoder.hidden": 8,
    "model.decoder.embedding": 8,
    "model.decoder.hidden": 16,
    "model.decoder.tag_embedding": 8,
    "model.decoder.attention": 8,
    "model.latent": 4,
    "data.batch_size": 10,
}


def lines(count: int = 60, seed: int = 0) -> list[str]:
    """Forms of made-up words, one from another."""
    draw, found = random.Random(seed), []
    words = ["".join(draw.choice("bdgkptv") + draw.choice("aeou") for _ in range(2)) for _ in range(12)]
    for _ in range(count):
        word, before, after = draw.choice(words), *draw.choices(list(SUFFIXES), k=2)
        tags = f"case={after[0]},num={after[1]}"
        found.append(f"{word}{SUFFIXES[before]}\t{tags}\t{word}{SUFFIXES[after]}")
    return found


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("pairs") / "train.tsv", lines())


# Files.


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("evler\tpos=N,case=GEN\tevin", Row("evler", ("case=GEN", "pos=N"), "evin", "pos=N,case=GEN")),
        ("evler\tN;GEN\tevin", Row("evler", ("GEN", "N"), "evin", "N;GEN")),
        ("the big cat\tle grand chat", Row("the big cat", (), "le grand chat")),
        ("num=PL\tevler\tcase=GEN\tevin", Row("evler", ("case=GEN",), "evin", "case=GEN", "num=PL")),
        ("evler\t\tevin", Row("evler", (), "evin")),
    ],
    ids=["task 1 or 3", "UniMorph", "no tags", "task 2", "no tags here"],
)
def test_a_line_is_a_pair_whatever_its_form(tmp_path: Path, line: str, row: Row) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(f"\n{line}\r\n".encode()))
    assert read_pairs(tmp_path / "x.gz") == [row]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\tx=1\tb\na b\n", "line 2: 1 columns, and the first has 3"),
        ("a\nb\n", r"line 1: 1 columns\. Give SOURCE TAB TAGS TAB TARGET"),
        ("a\tb\tc\td\te\n", "line 1: 5 columns"),
        ("a\tx=1\t\n", "line 1: the target is empty"),
        ("\n\n\tx=1\tb\n", "line 3: the source is empty"),
        ("", "holds no item"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "x.tsv").write_text(text)
    with pytest.raises(InputError, match=says):
        read_pairs(tmp_path / "x.tsv")


def test_a_target_may_be_missing_where_it_is_to_be_told(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", ["a\tx=1"])
    assert read_pairs(path, whole=False, tagged=True) == [Row("a", ("x=1",), None, "x=1")]
    assert read_pairs(path, whole=False, tagged=False) == [Row("a", (), "x=1")]
    assert read_pairs(write(path, ["a"]), whole=False, tagged=False) == [Row("a", (), None)]


def test_splits_are_cut_off_the_training_pairs_or_read(file: Path, tmp_path: Path) -> None:
    whole = Inflection(train=str(file)).load()
    assert {split: len(rows) for split, rows in whole.splits.items()} == {"train": 48, "valid": 6, "test": 6}
    other = write(tmp_path / "valid.tsv", lines(7, seed=1))
    given = Inflection(train=str(file), valid=str(other), test=str(other)).load()
    assert [len(rows) for rows in given.splits.values()] == [60, 7, 7]
    assert given.fingerprint != whole.fingerprint
    assert given.fingerprint == Inflection(train=str(file), valid=str(other), test=str(other)).load().fingerprint


def test_further_forms_become_pairs_with_themselves_of_the_training_split_alone(file: Path, tmp_path: Path) -> None:
    forms = write(tmp_path / "task1.tsv", ["lemma\tcase=DAT\tlemmaya"])
    with_them = Inflection(train=str(file), forms=str(forms)).load()
    assert with_them.splits["train"][-1] == Row("lemmaya", ("case=DAT",), "lemmaya", "case=DAT")
    assert len(with_them.splits["train"]) == 49
    assert "case=DAT" in with_them.texts.tags
    assert len(with_them.splits["test"]) == 6


def test_what_only_other_splits_have_is_said_and_not_read(file: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.tsv", ["bobo\tcase=GEN,mood=X\tboboñ"])
    data = Inflection(train=str(file), valid=str(other), test=str(other)).load()
    said = " ".join(data.remarks(lambda facts: 0))
    assert "1 tags of `valid` are not in `train`, such as `mood=X`" in said
    assert "1 targets of `test` have characters that are not in `train`" in said
    assert data.batches("test")[0].tags.sum() == 1


def test_long_pairs_are_left_out_and_counted(file: Path) -> None:
    data = Inflection(train=str(file), max_length=6).load()
    assert max(len(str(row.target)) for row in data.splits["train"]) <= 6
    assert sum(data.dropped.values()) > 0
    assert "left out, being longer" in " ".join(data.remarks(lambda facts: 0))


def test_files_with_tags_and_without_do_not_mix(file: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.tsv", ["a\tb"])
    with pytest.raises(InputError, match=r"has tags and .* has none"):
        Inflection(train=str(file), valid=str(other)).load()


def test_pairs_of_words_without_tags_are_read_too(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.tsv",
        [f"the {a} sleeps\tle {b} dort" for a, b in zip("abcdefghijkl", "lkjihgfedcba", strict=True)],
    )
    data = Inflection(train=str(path), tokens="words").load()
    x = data.batches("train")[0]
    assert (data.facts["tags"], x.tags.shape[1], x.source.shape[1]) == (0, 0, 5)


# Batches.


def batch(file: Path) -> Pair:
    return Inflection(train=str(file)).load().batches("train")[0]


def test_a_batch_shows_the_source_to_encoders_and_scores_the_target(file: Path) -> None:
    x = batch(file)
    assert torch.equal(x.tokens, x.source)
    assert torch.equal(bound.seen(x).tokens, x.sequence[:, :-1])
    assert torch.equal(bound.target(x), x.sequence[:, 1:])
    assert torch.equal(bound.symbols(x), (x.sequence != PAD).sum(1) - 1)
    assert torch.equal(bound.given(x), x.tags)
    assert x.source[:, 0].eq(START).all()
    assert x.sequence.eq(END).sum(1).eq(1).all()


def test_every_item_comes_once_with_its_own_source_and_tags(file: Path) -> None:
    data = Inflection(train=str(file), batch_size=7).load()
    batches, decode = data.batches("train"), data.texts.vocabulary.decode
    found = {}
    for k in range(len(batches)):
        x = batches[k]
        for i, item in enumerate(batches.items[k].tolist()):
            tags = tuple(data.texts.tags[j] for j in x.tags[i].nonzero().flatten().tolist())
            found[item] = (decode(x.source[i].tolist()), tags, decode(x.sequence[i].tolist()))
    assert [found[i] for i in range(48)] == [(row.source, row.tags, row.target) for row in data.splits["train"]]


def test_a_thinned_batch_counts_as_the_whole_on_average(file: Path) -> None:
    x = batch(file)
    thinned, more = x.thinned(0.5)
    assert torch.equal(thinned.seen.tokens, x.seen.tokens)
    assert torch.equal(thinned.tokens, x.source)
    kept = (thinned.target != PAD).sum()
    assert kept * more == pytest.approx(int((x.target != PAD).sum()))


def test_forms_of_one_word_are_a_family_over_all_splits(file: Path) -> None:
    data = Inflection(train=str(file)).load()
    stems: dict[int, set[str]] = {}
    for split, rows in data.splits.items():
        for row, family in zip(rows, data.families[split].tolist(), strict=True):
            stems.setdefault(family, set()).update((row.source[:4], str(row.target)[:4]))
    assert all(len(of) == 1 for of in stems.values())
    assert len(stems) < 30


# Models.


def spec_of(file: Path, *remedies: str, **more: Any) -> Any:
    values = {"data.train": str(file), **SMALL, **{name.replace("__", "."): value for name, value in more.items()}}
    return validated(compose("inflection", remedies, [f"{path}={value}" for path, value in values.items()]))


def trained(file: Path, *remedies: str, **more: Any) -> tuple[Pairs, Any]:
    spec = spec_of(file, *remedies, **more)
    data: Any = build.data(spec)
    model = build.model(spec, data.facts)
    trainer = build.trainer(spec.training, model, data.batches("train"), data.batches("valid"), seed=0)
    trainer.fit()
    return data, trainer


def test_the_bound_says_what_it_is_on(file: Path) -> None:
    facts = {"vocabulary": 12, "tags": 4}
    of = {
        bypass: build.model(spec_of(file, model__decoder__bypass=bypass), facts).bounds for bypass in ("none", "state")
    }
    assert of == {"none": "log p(target | tags)", "state": "log p(target | source, tags)"}
    assert build.model(spec_of(file), {**facts, "tags": 0}).bounds == "log p(target)"
    assert build.model(spec_of(file, "language-model"), facts).bounds == "log p(target | tags)"


def test_an_encoder_decoder_learns_the_suffixes(file: Path) -> None:
    from uncollapse.experiment.trained import Trained

    data, trainer = trained(
        file, "language-model", model__decoder__bypass="attention", training__max_epochs=60, model__decoder__hidden=32,
        training__optimisers__generation__learning_rate=0.01, training__plateau="null",
    )  # fmt: skip
    rows = data.splits["train"]
    guesses = Trained(trainer.model, data.texts).predict(rows)
    assert sum(some[0] == row.target for some, row in zip(guesses, rows, strict=True)) > 0.8 * len(rows)


# The command line.


FLAGS = [part for path, value in SMALL.items() for part in ("--set", f"{path}={value}")]


@pytest.fixture(scope="module")
def run(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    fit = ["fit", "inflection", "--train", str(file), "--with", "mdr+character-dropout", *FLAGS]
    assert main([*fit, "--set", "training.max_epochs=2", "--samples", "3", "--quiet", "--out", str(folder)]) == 0
    return folder


def said(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    assert main([str(word) for word in command]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_an_evaluation_has_the_measures_of_the_task_with_errors(run: Path) -> None:
    found = json.loads((run / "evaluation-test-k3-s0.json").read_text())
    assert {"accuracy", "distance", "normalised_distance", "reciprocal_rank"} <= found["of_task"].keys()
    assert all(figure["se"] is not None for figure in found["of_task"].values())
    assert any("log p(target | tags)" in warning for warning in found["warnings"])


def test_guesses_have_the_form_of_their_file(run: Path, file: Path, tmp_path: Path, capsys: Any) -> None:
    out = said(capsys, "predict", run, file, "-o", tmp_path / "guesses.tsv", "--best", 2)
    rows, written = read_pairs(file), read_pairs(tmp_path / "guesses.tsv")
    expected = load(run).predict(rows)

    assert [(one.source, one.said, one.target) for one in written] == [
        (row.source, row.said, guess) for row, some in zip(rows, expected, strict=True) for guess in some[:2]
    ]
    assert "accuracy" in out


def test_a_file_without_targets_is_guessed_and_not_judged(run: Path, tmp_path: Path, capsys: Any) -> None:
    covered = write(tmp_path / "covered.tsv", [line.rpartition("\t")[0] for line in lines(5)])
    found = json.loads(said(capsys, "predict", run, covered, "-o", tmp_path / "g.tsv", "--json"))
    assert found == {"file": str(tmp_path / "g.tsv"), "pairs": 5}
    assert {row.source for row in read_pairs(tmp_path / "g.tsv")} <= {line.split("\t")[0] for line in lines(5)}


def test_a_model_of_pairs_writes_encodes_and_is_diagnosed(run: Path, file: Path, tmp_path: Path, capsys: Any) -> None:
    assert len(said(capsys, "generate", run, "-n", 3).splitlines()) == 3
    told = ("generate", run, "-n", 3, "--label", "case=GEN,num=PL", "--decode", "greedy")
    assert said(capsys, *told) == said(capsys, *told)
    assert len(said(capsys, "reconstruct", run, file).splitlines()) == 60
    assert len(said(capsys, "interpolate", run, "bobo", "gaga\tcase=GEN").splitlines()) == 5
    assert len(said(capsys, "traverse", run, "bobo", "-u", 0, "--steps", 2).splitlines()) == 2
    assert "60 x 4" in said(capsys, "encode", run, file, "-o", tmp_path / "z.npy")
    assert "log p(target | tags)" in said(capsys, "evaluate", run, "--samples", 3)
    assert json.loads(said(capsys, "diagnose", run, "--json"))["verdict"]


def test_guesses_are_by_the_tags_that_are_asked_for(run: Path) -> None:
    model = load(run)
    one, other = (model.predict([Row("bobo", model.interface.told(tags))])[0] for tags in ("case=GEN", "num=PL"))  # pyright: ignore
    assert one != other
    assert model.given("case=GEN").predict([Row("bobo", ("num=PL",))])[0] == one


def test_a_pair_without_tags_is_written_without_and_a_source_alone_by_those_of_a_training_pair(run: Path) -> None:
    texts, decoder = load(run).interface, nn.Linear(1, 1)
    assert isinstance(texts, PairTexts)

    def told(items: Any) -> Tensor:
        return texts.conditioned(decoder, 40, items).given.tags

    assert not told([Row("bobo")] * 40).any()
    alone = told(["bobo"] * 40)
    assert alone.any(dim=1).all()
    assert len(alone.unique(dim=0)) > 1


def test_a_comparison_has_the_measures_and_goes_on_exactly(file: Path, tmp_path: Path, capsys: Any) -> None:
    command = [
        "compare",
        "inflection",
        "--train",
        str(file),
        *FLAGS,
        "--remedies",
        "plain,language-model",
        "--seeds",
        "1",
    ]
    command += ["--samples", "3", "--out", str(tmp_path / "c")]
    first = said(capsys, *command, "--set", "training.max_epochs=1")
    assert "accuracy" in first
    assert "distance" in first
    page = tmp_path / "r.html"
    said(capsys, "report", tmp_path / "c" / "cells" / "plain-seed0", "-o", page)
    assert "log p(target | tags)" in page.read_text()


def test_a_run_that_is_cut_goes_on_to_the_same_weights(file: Path, tmp_path: Path) -> None:
    spec = spec_of(file, "free-bits", training__max_epochs=3)
    from uncollapse.experiment import execute
    from uncollapse.signals import Terminated

    def train(folder: Path, stop: int | None = None) -> dict[str, torch.Tensor]:
        def listen(moment: Any) -> None:
            if stop is not None and moment.kind == "step" and moment.step == stop:
                raise Terminated

        try:
            execute.train(spec, folder, {}, [listen], checkpoint_seconds=0.0)
        except KeyboardInterrupt:
            pass
        return load(folder).model.state_dict() if stop is None else {}

    whole = train(tmp_path / "whole")
    train(tmp_path / "cut", stop=7)
    cut = train(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
