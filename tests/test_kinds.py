"""Kinds of data: what each offers, that nothing above them names one, and how the command line takes them."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path

import pytest

import uncollapse
from test_cli import SET, write_text
from uncollapse.cli import main
from uncollapse.cli.options import Options
from uncollapse.data.kinds import BATCHING, KINDS, kind
from uncollapse.errors import InputError
from uncollapse.experiment import run
from uncollapse.experiment.api import load
from uncollapse.experiment.catalogue import recipes

ROOT = Path(uncollapse.__file__).parent
NAMELESS = [
    *(f"experiment/{name}.py" for name in ("execute", "trained", "api", "remarks")),
    *(f"cli/{name}.py" for name in ("options", "fitting", "using", "comparing")),
]
FORBIDDEN = re.compile(r"vocabular|sentence|corpus|tokens?\b", re.IGNORECASE)


def names(tree: ast.AST) -> set[str]:
    """All that code calls by a name, and what it imports."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.ImportFrom(module=str(module), names=imported):
                found |= {f"{module}.{one.name}" for one in imported}
            case ast.Import(names=imported):
                found |= {one.name for one in imported}
    return found


def texts(tree: ast.AST) -> set[str]:
    """What code says to people, its own documentation aside."""
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    said = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in documents]
    return {node.value for node in said if isinstance(node.value, str)}


@pytest.mark.parametrize("module", NAMELESS)
def test_nothing_above_the_kinds_names_text(module: str) -> None:
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    # The demo, which is of text, speaks of sentences.
    found = names(tree) | (texts(tree) if module != "cli/comparing.py" else set())
    text = ("uncollapse.data.text", "uncollapse.data.vocabulary", "uncollapse.decoding", "uncollapse.data.sentences")
    assert [name for name in found if FORBIDDEN.search(name) or name.startswith(text)] == []


@pytest.mark.parametrize("name", KINDS)
def test_what_is_offered_is_there(name: str) -> None:
    offer, made = KINDS[name], kind(name)
    entries = inspect.signature(made).parameters
    assert recipes()[offer.recipe].spec["data"]["kind"] == name
    assert {switch.entry for switch in offer.switches.values()} <= entries.keys()
    assert {"batch_size", "evaluation_batch_size"} <= entries.keys() & {*BATCHING}
    assert (entries.keys() >= {"train"} and entries["train"].default is inspect.Parameter.empty) == bool(offer.files)
    assert (made.__doc__ or "").partition("\n")[0].endswith(".")


ABOUT = {
    "text": {"words": ["a"], "tokens": "words"},
    "inflection": {"words": ["a"], "tokens": "characters", "tags": ["x"], "sets": [[[0], 1]], "longest": 3},
    "vectors": {"columns": 3, "shift": None, "scale": None, "classes": ["a", "b"]},
    "images": {"shape": [1, 2, 3], "binarise": None, "seed": 0, "top": 255, "classes": ["a", "b"]},
    "digits": {"shape": [1, 8, 8], "binarise": "fixed", "seed": 0, "top": 16, "classes": ["0", "1"]},
}


@pytest.mark.parametrize(("name", "about"), ABOUT.items())
def test_the_facts_that_are_offered_are_those_that_there_are(name: str, about: dict) -> None:
    assert set(kind(name).restore(about).facts) == set(KINDS[name].facts)


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"unknown kind of data `vector`\. Did you mean `vectors`"):
        kind("vector")


# A recipe's name where a kind is asked.


def test_a_recipe_stands_for_its_kind_of_data() -> None:
    options = Options(train=Path("a.txt"))
    assert options.spec("snli-small", [], 0) == Options(train=Path("a.txt"), recipe="snli-small").spec("text", [], 0)
    assert options.arguments("snli-small")[:3] == ["text", "--recipe", "snli-small"]


def test_a_run_of_a_recipe_is_named_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "a.txt", 40)
    small = [*SET, "--set", "training.max_epochs=1", "--samples", "1", "--quiet", "--json"]
    assert main(["fit", "ptb", "--train", "a.txt", *small]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["run"], report["recipe"]) == ("runs/ptb-plain-seed0", "ptb")


REFUSED = [
    ("snli-smal", {}, r"unknown kind of data or recipe `snli-smal`\. Did you mean `snli-small`\? There is: demo, "),
    ("vector", {}, r"recipe `vector` names no data: it is for `uncollapse\.fit` in Python\."),
    ("snli-small", {"recipe": "ptb"}, r"`snli-small` and `--recipe ptb` are two recipes: give one of them\."),
    ("snli-small", {}, r"`text` needs data to train on: give `--train FILE`, UTF-8, one item a line"),
    ("my.module:Own", {}, r"`my\.module:Own` is data of your own: name a recipe for it with `--recipe`"),
    (
        "demo",
        {"train": Path("a.txt")},
        r"`stdlib` has its own data: leave out the files, or use `text` or `inflection` or `vectors`",
    ),
]


@pytest.mark.parametrize(("word", "given", "says"), REFUSED)
def test_a_word_that_stands_for_no_training_says_what_to_write(word: str, given: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Options(**given).spec(word, [], 0)


# What a run keeps to use its model without the data.


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    path = write_text(tmp_path / "a.txt", 40)
    small = [*SET, "--set", "training.max_epochs=1", "--samples", "0", "--quiet"]
    assert main(["fit", "text", "--train", str(path), "--out", str(tmp_path / "run"), *small]) == 0
    return tmp_path / "run"


def test_a_vocabulary_in_another_order_is_noticed(trained: Path) -> None:
    path = trained / "vocabulary.json"
    there = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**there, "words": there["words"][::-1]}, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(InputError, match=r"vocabulary\.json` is not what the run was trained with: restore it, or"):
        load(trained)


@pytest.mark.parametrize("kept", [None, 3, {}])
def test_a_run_from_before_its_digests_is_used_and_has_them_once_it_goes_on(trained: Path, kept: object) -> None:
    there = run.read_environment(trained)
    run.write_json(trained / run.ENVIRONMENT, {**there, run.KEPT: kept})
    assert len(load(trained).encode(["the cat"])) == 1

    run.write_json(trained / run.ENVIRONMENT, {k: v for k, v in there.items() if k != run.KEPT})
    assert len(load(trained).encode(["the cat"])) == 1
    small = [*SET, "--set", "training.max_epochs=1", "--samples", "0", "--quiet"]
    assert main(["fit", "text", "--train", str(trained.parent / "a.txt"), "--out", str(trained), *small]) == 0
    assert run.read_environment(trained) == there
