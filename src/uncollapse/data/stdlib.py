"""Real sentences on every machine: the documentation strings of the Python standard library."""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

import torch

from uncollapse.data.text import Corpus, corpus_from_lines
from uncollapse.errors import InputError

#: Folders of the library's tests, and of what is installed beside it.
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}
#: Words (with inner apostrophes) and numbers; marks and underscores only separate.
WORD = re.compile(r"[a-z]+(?:'[a-z]+)*|\d+")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
SHORTEST, LONGEST = 4, 15

Documented: TypeAlias = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def sentences() -> list[str]:
    """The unique sentences of 4 to 15 words, lower-cased, without marks, in order of appearance.

    They depend on the Python version alone: about 12,000 in a full installation, read in a few seconds.
    """
    found: dict[str, None] = {}
    for text in _documentation(Path(sysconfig.get_paths()["stdlib"])):
        for sentence in SENTENCE_END.split(text.strip()):
            words = WORD.findall(sentence.lower())
            if SHORTEST <= len(words) <= LONGEST:
                found[" ".join(words)] = None
    return list(found)


def corpus(train: int = 4000, valid: int = 500, test: int = 500, size: int = 1000, seed: int = 0) -> Corpus:
    """The first sentences of a shuffle, with the most frequent types.

    Arguments:
        train: How many training sentences; `valid` and `test` alike.
        size: How many types besides the four markers.
        seed: Of the shuffle: part of the data, so not the seed of a training.
    """
    lines = sentences()
    if len(lines) < train + valid + test:
        raise InputError(
            f"the documentation of this Python's standard library has {len(lines)} sentences, fewer than the "
            f"{train + valid + test} asked: ask for fewer, or give text files."
        )
    order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [lines[i] for i in order[: train + valid + test]]
    return corpus_from_lines(shuffled[:train], shuffled[train : train + valid], shuffled[train + valid :], size=size)


def _documentation(library: Path) -> Iterator[str]:
    for path in sorted(library.rglob("*.py")):
        if LEFT_OUT & set(path.relative_to(library).parts):
            continue
        for node in _definitions(_tree(path)):
            yield ast.get_docstring(node, clean=False) or ""


def _tree(path: Path) -> ast.Module:
    # Some files of the library are templates or bad on purpose, and some have invalid escapes.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return ast.Module(body=[], type_ignores=[])


def _definitions(node: ast.AST) -> Iterator[Documented]:
    if isinstance(node, Documented):
        yield node
    # Definitions are statements: to leave expressions out halves the time.
    for statement in (*getattr(node, "body", ()), *getattr(node, "orelse", ())):
        if isinstance(statement, ast.stmt):
            yield from _definitions(statement)
