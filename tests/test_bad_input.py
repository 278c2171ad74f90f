"""Bad input: one line on standard error that says what was asked, what is there and what to do, and status 2.

Each case works in a folder of its own, `@`, that is the current one: nothing in it may change.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch

from test_cli import SET, write_text
from uncollapse.cli import app, main
from uncollapse.cli.options import Options, Switches
from uncollapse.experiment import catalogue
from uncollapse.training import checkpoints

Prepare = Callable[[Path], object]
PROGRAM = [sys.executable, "-m", "uncollapse"]
WORDS = "the cat sees a dog\n"


class Case(NamedTuple):
    name: str
    command: str
    says: tuple[str, ...]
    """What the line must hold."""
    prepare: Prepare | None = None
    """What is done to the folder before."""


# What may be done to the folder.


def put(name: str, content: str | bytes) -> Prepare:
    return lambda at: (at / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def array(numbers: np.ndarray) -> Prepare:
    return lambda at: np.save(at / "x.npy", numbers)


def gone(name: str) -> Prepare:
    return lambda at: shutil.rmtree(at / name) if (at / name).is_dir() else (at / name).unlink()


def folder(name: str) -> Prepare:
    return lambda at: (at / name).mkdir(parents=True)


def moved_data(at: Path) -> None:
    """The run was trained on a text that is no longer where it was."""
    spec = (at / "run" / "spec.yaml").read_text()
    (at / "run" / "spec.yaml").write_text(spec.replace(f"train: {at.parent}", f"train: {at}/away"))


def changed_data(at: Path) -> None:
    moved_data(at)
    write_text(folder("away")(at) or at / "away" / "good.txt", 40)


def vocabulary(**change: Any) -> Prepare:
    def prepare(at: Path) -> None:
        path = at / "run" / "vocabulary.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    return prepare


def every_checkpoint(change: Callable[[bytes], bytes]) -> Prepare:
    def prepare(at: Path) -> None:
        for path in (at / "run" / "checkpoints").iterdir():
            path.write_bytes(change(path.read_bytes()))

    return prepare


def another_version(at: Path) -> None:
    for path in (at / "run" / "checkpoints").iterdir():
        snapshot = checkpoints.read(path)
        with mock.patch.object(checkpoints, "SCHEMA", 99):
            checkpoints.write(path, snapshot)


def another_model(at: Path) -> None:
    """The best weights are those of a model with twice the units."""
    for path in (at / "run" / "checkpoints").glob("best-*"):
        snapshot = checkpoints.read(path)
        checkpoints.write(path, snapshot._replace(tensors={k: torch.cat([v, v]) for k, v in snapshot.tensors.items()}))


def another_run(at: Path) -> None:
    """The checkpoints are those of a run with the same shapes."""
    for path in (at / "run" / "checkpoints").iterdir():
        snapshot = checkpoints.read(path)
        checkpoints.write(path, snapshot._replace(state={**snapshot.state, "run": "another"}))


def pipe(at: Path) -> None:
    os.mkfifo(at / "x")


def loop(at: Path) -> None:
    (at / "x").symlink_to(at / "y")
    (at / "y").symlink_to(at / "x")


def begun(at: Path) -> None:
    """A comparison that was begun with other arguments."""
    (at / "begun").mkdir()
    said = Options(train=at / "good.txt", switches=Switches(labels=True)).arguments("text")
    (at / "begun" / "compare.json").write_text(json.dumps({"fit": said}))


FIT = "fit text --train @/good.txt --out @/new --quiet "
COMPARE = "compare text --train @/good.txt --out @/new "
DIAL = "training.dials.objective.weights.rate"
FILES = [
    Case("missing", "fit text --train @/no.txt --out @/new", ("`@/no.txt`", "No such file", "check the path")),
    Case("missing of two", FIT + "--valid @/no.txt", ("`@/no.txt`", "No such file", "check the path")),
    Case("missing to compare", "compare text --train @/no.txt --out @/new", ("`@/no.txt`", "No such file")),
    Case("missing to read", "reconstruct @/run @/no.txt", ("`@/no.txt`", "No such file", "check the path")),
    Case(
        "pairs",
        "fit inflection --train @/x --out @/new",
        ("`@/x`, line 2: 1 columns", "first has 3"),
        put("x", "a\tb\tc\nd\n"),
    ),
    Case(
        "no pairs", "fit inflection --train @/good.txt --out @/new", ("line 1: 1 columns", "SOURCE TAB TAGS TAB TARGET")
    ),
    Case("no target", "fit inflection --train @/x --out @/new", ("line 1: the target is empty",), put("x", "a\tb\t\n")),
    Case(
        "forms",
        "fit inflection --train @/x --set data.forms=no.tsv --out @/new",
        ("no.tsv`", "No such"),
        put("x", 9 * "a\tb\tc\n"),
    ),
    Case("no guess", "predict @/run @/good.txt -o @/g.tsv", ("model of texts", "no targets to guess", "`inflection`")),
    Case("beam", "predict @/run @/good.txt -o @/g.tsv --best 9", ("width 5", "no 9 guesses", "`--width`")),
    Case("guesses in a folder", "predict @/run @/good.txt -o @", ("is a folder", "guesses.tsv")),
    Case("samples alone", "score @/good.txt", ("against real text", "`--against FILE`", "`--train-lm`")),
    Case("samples", "score @/no.txt --against @/good.txt", ("`@/no.txt`", "No such file")),
    Case("blank samples", "score @/x --against @/good.txt", ("`@/x`", "no item"), put("x", " \n\n")),
    Case(
        "a file's draws", "score @/good.txt --against @/good.txt --temperature 1", ("is a file", "the draws of a run")
    ),
    Case("empty", "fit text --train @/x --out @/new", ("`@/x`", "no item", "one a line"), put("x", "")),
    Case("blank", "fit text --train @/x --out @/new", ("`@/x`", "no item", "one a line"), put("x", "\n \n\t\n")),
    Case("empty to read", "encode @/run @/x -o @/z.npy", ("`@/x`", "no item", "one a line"), put("x", "")),
    Case("binary", "fit text --train @/x --out @/new", ("`@/x`, line 2", "UTF-8"), put("x", bytes(range(256)) * 40)),
    Case("UTF-16", "encode @/run @/x -o @/z.npy", ("`@/x`, line 1", "UTF-8"), put("x", WORDS.encode("utf-16"))),
    Case("Latin", "reconstruct @/run @/x", ("`@/x`, line 7", "Convert"), put("x", 6 * WORDS.encode() + b"caf\xe9\n")),
    Case("no gzip", "fit text --train @/x.gz --out @/new", ("`@/x.gz`", "gzip", "compress"), put("x.gz", WORDS)),
    Case(
        "half a gzip",
        "fit text --train @/x.gz --out @/new",
        ("`@/x.gz`", "not a whole gzip file", "compress it again"),
        put("x.gz", gzip.compress(WORDS.encode() * 3000)[:-20]),
    ),
    Case("gzip by no name", "encode @/run @/x -o @/z", ("`@/x`, line 1", "UTF-8"), put("x", gzip.compress(b"the\n"))),
    Case("a folder to read", "fit text --train @ --out @/new", ("`@`", "Is a directory", "give a file")),
    Case("below a file", "encode @/run @/good.txt/x -o @/z", ("`@/good.txt/x`", "Not a directory", "through folders")),
    Case("no permission to read", "encode @/run @/locked -o @/z", ("`@/locked`", "denied", "get the permission")),
    Case("a name too long", f"fit text --train @/{'x' * 300} --out @/new", ("x`", "too long", "shorter")),
    Case("no name", "fit text --train '' --out @/new", ("--train", "''", "give a path", "uncollapse fit --help")),
    Case("no such name", "fit text --train 'a\0b' --out @/new", ("--train", "'a\\x00b'", "give a path")),
    Case("no UTF-8 name", "fit text --train @/good.txt --out '@/\udcff'", ("--out", "\\udcff'", "path in UTF-8")),
    Case("a pipe", "fit text --train @/x --out @/new", ("`@/x` is a pipe", "again", "store the text in a file"), pipe),
    Case(
        "a loop of links",
        "fit text --train @/x --out @/new",
        ("`@/x` is a link that leads nowhere", "give a file"),
        loop,
    ),
    Case("a link to nothing", "encode @/run @/good.txt -o @/x", ("`@/x` is a link that leads nowhere",), loop),
    Case("a pipe by a setting", FIT + "--set data.valid=@/x", ("`@/x` is a pipe", "store the text in a file"), pipe),
    Case("labels are missing", FIT + "--labels", ("`@/good.txt`, line 1", "no tab", "Leave `--labels` out")),
    Case("labels are missing to read", "reconstruct @/run @/good.txt --labels", ("`@/good.txt`, line 1", "no tab")),
]
CORPORA = [
    Case("no text", "fit text --out @/new", ("`text`", "--train FILE", "one item a line")),
    Case("another language", FIT + "--valid @/x", ("`@/x`", "no words", "same language"), put("x", "кошка видит\n")),
    Case(
        "two items", "fit text --train @/x --out @/new", ("2 training items", "too few", "give more"), put("x", "a\nb")
    ),
    Case("only unknown words", "fit text --train @/x --out @/new", ("no type",), put("x", "<unk> <unk>\n" * 30)),
    Case("all too long", FIT + "--set data.max_length=1", ("`@/good.txt`", "no item", "`max_length` is 1")),
    Case("all too rare", FIT + "--set data.min_count=999", ("`min_count` is 999", "lower `min_count`")),
    Case(
        "one item to end aggressive training by",
        FIT + "--valid @/x --with aggressive",
        ("aggressive training", "mutual information", "one item", "at least 2 validation items"),
        put("x", WORDS),
    ),
    Case("files for other data", "fit stdlib --train @/good.txt --out @/new", ("`stdlib`", "leave out", "use `text`")),
    Case("options for other data", "compare synthetic --labels --out @/new", ("`synthetic`", "leave out", "`text`")),
]
VALUES = [
    Case("seed below 0", FIT + "--seed -1", ("-1", "--seed", ">= 0", "uncollapse fit --help")),
    Case("half a seed", FIT + "--seed 1.5", ("--seed", "1.5", "no whole number")),
    Case("seed beyond generators", "evaluate @/run --seed 9223372036854775808", ("--seed", "<= 9223372036854775807")),
    Case("samples below 0", FIT + "--samples -1", ("-1", "--samples", ">= 0")),
    Case("absurd samples", "evaluate @/run --samples 1000000000000", ("--samples", "1000000000000", "<= 1000000")),
    Case("samples that are no number", "evaluate @/run --samples nan", ("--samples", '"nan"', "no whole number")),
    Case("no such device to evaluate on", "evaluate @/run --device cuda:99", ("`cuda:99`", "There is: cpu")),
    Case("no items", "evaluate @/run --items 0", ("--items", '"0"', ">= 1")),
    Case("no texts", "generate @/run -n 0", ("-n", '"0"', ">= 1", "uncollapse generate --help")),
    Case("absurd texts", "generate @/run -n 1000000000000", ("-n", "1000000000000", "<= 1000000")),
    Case("texts in words", "generate @/run -n many", ("-n", '"many"', "no whole number")),
    Case("no length", "reconstruct @/run @/good.txt --max-length 0", ("--max-length", '"0"', ">= 1")),
    Case("absurd length", "generate @/run --max-length 1000000000000", ("--max-length", "<= 100000")),
    Case("no beam", "generate @/run --decode beam --width 0", ("--width", '"0"', ">= 1")),
    Case("absurd beam", "interpolate @/run cat dog --decode beam --width 1000000000000", ("--width", "<= 1000")),
    Case("no temperature", "generate @/run --temperature 0", ("--temperature", "0.0", ">= 0.01")),
    Case("temperature nan", "generate @/run --temperature nan", ("--temperature", "nan", "<= 100")),
    Case("temperature inf", "generate @/run --temperature inf", ("--temperature", "inf", "<= 100")),
    Case("one step", "interpolate @/run cat dog --steps 1", ("--steps", '"1"', ">= 2")),
    Case("absurd steps", "interpolate @/run cat dog --steps 1000000000000", ("--steps", "<= 1000000")),
    Case("no seeds", COMPARE + "--seeds 0", ("--seeds", '"0"', ">= 1", "uncollapse compare --help")),
    Case("absurd seeds", COMPARE + "--seeds 1000000000000", ("--seeds", "1000000000000", "<= 10000")),
    Case("no jobs", COMPARE + "--jobs 0", ("--jobs", '"0"', ">= 1")),
    Case("absurd jobs", COMPARE + "--jobs 1000000000000", ("--jobs", "<= 10000")),
    Case("seed of the demo", "demo --out @/new --seed one", ("--seed", '"one"', "no whole number", "demo --help")),
    Case("half a process", FIT + "--devices 1.5", ("--devices", '"1.5"', "no whole number")),
    Case("absurd processes", COMPARE + "--devices 1000000", ("--devices", '"1000000"', "<= 256")),
    Case("device that is not there", FIT + "--device cuda:99", ("`cuda:99`", "There is: cpu")),
    Case("device that trains nothing", FIT + "--device meta", ("`meta`", "There is: cpu")),
    Case("unknown device to compare on", COMPARE + "--device tpu", ("`tpu`", "There is: cpu")),
    Case(
        "unknown decoding", "generate @/run --decode greddy", ("greddy", '"greedy", "beam", "sample"', "Did you mean")
    ),
    Case("unknown split", "evaluate @/run --split tset", ("tset", '"train", "valid", "test"')),
    Case(
        "unknown data",
        "compare txt --out @/new",
        ("`txt`", "mean `text`", "text, text-transformer, vector"),
    ),
    Case("a flag with a value", "generate @/run --json=5", ("--json", '"5"', "bool", "generate --help")),
]
SPECS = [
    Case("unknown path", FIT + "--set training.max_epoch=3", ("`training.max_epoch`", "mean `training.max_epochs`")),
    Case("unknown path of the demo", "demo --out @/new --set sed=1", ("`sed`", "mean `seed`", "There is: data, model")),
    Case("path without a value", FIT + "--set training.clip", ("`training.clip`", "path=value")),
    Case("value without a path", FIT + "--set =3", ("unknown path ``", "There is: data, model, training, seed")),
    Case("no YAML", FIT + "--set training.clip=[", ("`training.clip`", "no YAML")),
    Case("code", FIT + "--set 'training.clip=!!python/name:os.system'", ("`training.clip`", "no YAML", "python/name")),
    Case("no date", FIT + "--set data.valid=2020-02-30", ("`data.valid`", "no YAML that can be read", "out of range")),
    Case("no number", FIT + "--set training.clip=0b_", ("`training.clip`", "no YAML that can be read")),
    Case("no number of its tag", FIT + "--set 'training.clip=!!int abc'", ("`training.clip`", "no YAML", "abc")),
    Case("a loop", FIT + "--set 'training.dials=&a {x: *a}'", ("`training.dials`", "no YAML", "itself")),
    Case(
        "a deep one", FIT + f"--set training.clip={'[' * 2000}{']' * 2000}", ("`training.clip`", "no YAML", "recursion")
    ),
    Case(
        "a dial of a switch",
        FIT + "--set 'training.dials.model.generation.decoder.skip={kind: constant, value: 1}'",
        ("`model.generation.decoder.skip` leads to no number, but to bool",),
    ),
    Case("out of range", FIT + "--set training.max_epochs=0", ("`training.max_epochs` is 0", "equal to 1")),
    Case("nan", FIT + "--set training.clip=.nan", ("`training.clip` is nan", "finite")),
    Case("infinite", COMPARE + "--set training.clip=.inf", ("`training.clip` is inf", "finite")),
    Case("negative", FIT + "--set training.objective.weights.rate=-1", ("weights.rate` is -1", "equal to 0")),
    Case("a word for a number", FIT + "--set model.latent=many", ("`model.latent` is 'many'", "integer")),
    Case("a number for a path", FIT + "--set data.valid=3", ("`data.valid` is 3", "string")),
    Case("nothing for a section", FIT + "--set training=null", ("`training` is None", "mapping with objective, dials")),
    Case("unknown kind", FIT + "--set training.procedure.kind=agressive", ("agressive", "one of joint, aggressive")),
    Case("half a section", FIT + "--set training.procedure.window=3", ("`training.procedure.kind` is missing",)),
    Case("unknown player", FIT + "--set training.optimisers.encoder.kind=sgd", ("player `encoder`", "inference")),
    Case("a dial of nothing", FIT + "--set 'training.dials.x={kind: constant, value: 1}'", ("`x`", "out of reach")),
    Case(
        "an instant dial", FIT + f"--with anneal --set {DIAL}.over=0steps", (f"`{DIAL}.over` is '0steps'", "no length")
    ),
    Case(
        "seed beyond files",
        FIT + "--set data.split_seed=99999999999999999999",
        ("`data.split_seed` is 9", "equal to 9223372036854775807"),
    ),
    Case("absurd model", FIT + "--set model.latent=1000000000000", ("weights", "this machine has", "`model.latent`")),
    Case(
        "a model beyond counting",
        COMPARE + "--set model.encoder.hidden=1000000000000",
        ("this machine has", "`hidden`"),
    ),
    Case("no model", FIT + "--recipe vector", ("recipe `vector`", "names no model", "uncollapse recipes")),
]
CLASHES = [
    Case("two remedies", FIT + "--with beta+anneal", ("`anneal` and `beta` clash", "Use one of them")),
    Case("two remedies apart", FIT + "--with anneal --with beta", ("`anneal` and `beta` clash", "Use one of them")),
    Case("unknown engine", COMPARE + "--engine dask", ("--engine", '"dask"', "local", "ray", "slurm")),
    Case(
        "no cluster at an address", COMPARE + "--engine ray --address 127.0.0.1:1", ("no Ray cluster at `127.0.0.1:1`",)
    ),
    Case("no Slurm", COMPARE + "--engine slurm", ("there is no Slurm here", "no `sbatch` is found")),
    Case("an address of no cluster", COMPARE + "--address auto", ("`--address` is for `--engine ray`", "leave it out")),
    Case("GPUs of this machine's cells", COMPARE + "--cell-gpus 1", ("leave out `--cell-gpus`", "--engine ray")),
    Case("too many cells here", COMPARE + "--jobs 1000", ("1,000 cells", "at most 256")),
    Case(
        "a race without plain",
        COMPARE + "--remedies beta --race 3",
        ("`--race` holds cells against plain", "add `plain`"),
    ),
    Case("no evidence", "recommend vectors", ("nothing was measured", "`vectors`", "uncollapse compare vectors")),
    Case("nothing to recommend for", "recommend txt", ("`txt`", "mean `text`")),
    Case(
        "no model in a folder",
        FIT + "--with pretrained-outlines --set model.encoder.model=@",
        ("there is no model of `transformers`", "Name a folder with a `config.json`"),
    ),
    Case(
        "codes of another size",
        FIT + "--with pretrained-outlines --set model.latent=8",
        ("gives codes of 384 numbers, and 8 are asked for", "set `model.latent=384`"),
    ),
    Case(
        "states of a run's encoder",
        FIT + "--with pretrained-outlines --set model.encoder.model=@/run --set model.encoder.pooling=first",
        ("`@/run`, is its posterior's mean", "leave `pooling` out"),
    ),
    Case("no text to sample of", "reproduce outlines/table6", ("needs a text", "--data FILE")),
    Case("two remedies to compare", COMPARE + "--remedies plain,beta+anneal", ("`anneal` and `beta` clash",)),
    Case(
        "a number that a dial moves",
        FIT + "--with anneal --set training.objective.weights.rate=0.5",
        ("`training.objective.weights.rate`", f"the dial `{DIAL}`", "Set the dial instead"),
    ),
    Case("two seeds", FIT + "--seed 1 --set seed=7", ("`--set seed=7`", "give `--seed`")),
    Case("one seed for all", COMPARE + "--seeds 3 --set ' seed = 7'", ("seed of every run", "`--seeds`")),
    Case("two seeds of the demo", "demo --out @/new --seed 1 --set seed=3", ("`--set seed=3`", "give `--seed`")),
    Case("a remedy for our model", FIT + "--recipe vector --with offset-initialisation", ("`offset-initialisation`",)),
    Case(
        "a width of no beam", "generate @/run --width 3", ("`--width 3`", "decodes by `sample`", "add `--decode beam`")
    ),
    Case("a width of one", "reconstruct @/run @/good.txt --width 3", ("`--width 3`", "decodes by `greedy`")),
    Case("a temperature of no draw", "generate @/run --decode beam --temperature 2", ("`--temperature 2`", "`beam`")),
    Case("an option twice", FIT + "--train @/good.txt", ("--train", "multiple times", "uncollapse fit --help")),
]
NAMES = [
    Case(
        "unknown remedy",
        FIT + "--with agressive",
        ("`agressive`", "mean `aggressive`", "There is: aae, ", "aggressive, "),
    ),
    Case("unknown remedy of two", FIT + "--with anneal+agressive", ("`agressive`", "mean `aggressive`")),
    Case("unknown remedy to compare", COMPARE + "--remedies plain,aneal", ("`aneal`", "mean `anneal`")),
    Case("no remedy to compare", COMPARE + "--remedies=", ("unknown remedy ``", "There is: aae, ", "aggressive, ")),
    Case(
        "unknown remedy to show", "remedies anneall", ("`anneall`", "mean `anneal`", "There is: aae, ", "aggressive, ")
    ),
    Case("unknown recipe", FIT + "--recipe he2019-txt", ("`he2019-txt`", "mean `he2019-text`", "There is: demo, ")),
    Case("unknown recipe to show", "recipes demoo", ("`demoo`", "mean `demo`", "There is: demo, ")),
    Case("unknown command", "evalute @/run", ("`evalute`", "mean `evaluate`", "There is: compare, demo, ")),
    Case("unknown option", "fit text --trian @/good.txt", ("--trian", "mean --train", "uncollapse fit --help")),
    Case("unknown option of a list", "recipes --all", ("--all", "uncollapse recipes --help")),
    Case("nothing to fit", "fit", ("DATA", "uncollapse fit --help")),
    Case("one sentence", "interpolate @/run cat", ("SECOND", "uncollapse interpolate --help")),
    Case("three sentences", "interpolate @/run cat dog bird", ("`bird`", "too much", "uncollapse interpolate --help")),
    Case("nowhere to store", "encode @/run @/good.txt", ("--out", "uncollapse encode --help")),
    Case("nowhere to compare", "compare text --train @/good.txt", ("--out", "uncollapse compare --help")),
    Case("unknown slot to list", "parts term", ("slot `term`", "mean `terms`", "There is: ")),
    Case("two slots to list", "parts terms priors", ("`priors`", "too much", "uncollapse parts --help")),
    Case("two names to list", "remedies anneal beta", ("`beta`", "too much", "uncollapse remedies --help")),
]
SENTENCES = [
    Case("an empty sentence", "interpolate @/run '' cat", ("an empty text", "9 words", "such as `", "give a text")),
    Case("a blank sentence", "interpolate @/run cat '  '", ("an empty text", "9 words", "give a text")),
    Case("unknown words", "interpolate @/run cat 'zebra zoo'", ("`zebra zoo`", "none of the 9 words", "give a text")),
    Case("no characters", "interpolate @/run cat '\udc80'", ("`?`", "none of the 9 words")),
    Case(
        "a text of unknown words", "encode @/run @/x -o @/z", ("2 items", "`zebra`", "9 words"), put("x", "zebra\nzoo")
    ),
]
RUNS = [
    Case("no folder", "evaluate @/no", ("no run folder `@/no`",)),
    Case("no run named", "generate ''", ("''", "give a path", "uncollapse generate --help")),
    Case("a file for a run", "encode @/good.txt @/good.txt -o @/z", ("no run folder `@/good.txt`",)),
    Case("an empty folder", "evaluate @/x", ("`@/x`", "no run of uncollapse", "spec.yaml"), folder("x")),
    Case("another program's folder", "generate @", ("`@`", "no run of uncollapse", "spec.yaml")),
    Case("no spec", "reconstruct @/run @/good.txt", ("`@/run`", "no run", "spec.yaml"), gone("run/spec.yaml")),
    Case("half a spec", "interpolate @/run cat dog", ("`@/run/spec.yaml`", "cannot"), put("run/spec.yaml", "seed: [")),
    Case("binary spec", "evaluate @/run", ("`@/run/spec.yaml`", "cannot"), put("run/spec.yaml", bytes(range(256)))),
    Case("a list for a spec", "generate @/run", ("`@/run/spec.yaml`", "no spec"), put("run/spec.yaml", "- 1\n")),
    Case(
        "another spec", "generate @/run", ("`services`", "There is: data"), put("run/spec.yaml", "services: {web: 1}")
    ),
    Case("no environment", "evaluate @/run", ("`@/run/environment.json`", "cannot"), gone("run/environment.json")),
    Case(
        "half an environment",
        "evaluate @/run",
        ("environment.json`", "cannot", "Restore"),
        put("run/environment.json", "{"),
    ),
    Case(
        "a folder for an environment",
        "evaluate @/run",
        ("environment.json` cannot be read: it is no file. Restore",),
        lambda at: (gone("run/environment.json")(at), folder("run/environment.json")(at)),
    ),
    Case("nameless", "evaluate @/run", ("environment.json`", "damaged", "Restore"), put("run/environment.json", "{}")),
    Case(
        "nameless to go on with",
        "fit text --train @/good.txt --out @/run",
        ("damaged", "another folder"),
        put("run/environment.json", "{}"),
    ),
    Case(
        "no environment to go on with",
        "fit text --train @/good.txt --out @/run",
        ("`@/run`", "without its environment.json", "restore"),
        gone("run/environment.json"),
    ),
    Case("no vocabulary", "generate @/run", ("`@/run/vocabulary.json`", "cannot"), gone("run/vocabulary.json")),
    Case("an empty vocabulary", "generate @/run", ("vocabulary.json`", "restore the file"), vocabulary(words=[])),
    Case(
        "a small vocabulary",
        "encode @/run @/good.txt -o @/z",
        ("`@/run`", "not fit", "embedding.weight"),
        vocabulary(words=["the", "cat"]),
    ),
    Case("words twice", "interpolate @/run the cat", ("once",), vocabulary(words=["the"] * 9)),
    Case("no checkpoint", "evaluate @/run", ("`@/run` has no checkpoint yet",), gone("run/checkpoints")),
    Case("cut", "generate @/run", ("/run/checkpoints/last-", "damaged"), every_checkpoint(lambda was: was[:-9])),
    Case(
        "emptied", "encode @/run @/good.txt -o @/z", ("checkpoints/last-", "damaged"), every_checkpoint(lambda was: b"")
    ),
    Case("damaged", "evaluate @/run", ("checkpoints/last-", "damaged"), every_checkpoint(lambda was: b"\xff" * 5000)),
    Case(
        "damaged to go on from",
        "fit text --train @/../good.txt --out @/run --quiet " + shlex.join(SET),
        ("checkpoints/last-", "damaged"),
        every_checkpoint(lambda was: was[: len(was) // 2]),
    ),
    Case("another version", "generate @/run", ("checkpoints/last-", "of version 99", "reads version"), another_version),
    Case("another run's", "evaluate @/run", ("checkpoints/last-", "of another run", "restore"), another_run),
    Case(
        "another run's to go on from",
        "fit text --train @/../good.txt --out @/run --quiet " + shlex.join(SET),
        ("checkpoints/last-", "of another run", "no good checkpoint"),
        another_run,
    ),
    Case("another model", "reconstruct @/run @/good.txt", ("`@/run`", "do not fit the model"), another_model),
    Case("data that was moved", "evaluate @/run", ("`@/away/good.txt`", "No such file", "check the path"), moved_data),
    Case("data that has changed", "evaluate @/run", ("`@/run`", "files have changed"), changed_data),
    Case(
        "a run of another spec",
        "fit text --train @/good.txt --out @/run",
        ("`@/run`", "another spec", "another folder"),
    ),
    Case("no comparison", "compare text --train @/good.txt --out @", ("`@`", "no comparison", "another folder")),
    Case(
        "half a comparison",
        "compare text --train @/good.txt --out @/x",
        ("`@/x/compare.json`", "cannot"),
        lambda at: (folder("x")(at), put("x/compare.json", "{")(at)),
    ),
    Case(
        "another comparison",
        "compare text --train @/good.txt --characters --out @/begun",
        ("`@/begun`", "with `--labels`", "without `--characters`", "another folder"),
        begun,
    ),
]
OUTPUTS = [
    Case("a full folder", "fit text --train @/good.txt --out @", ("`@`", "not empty", "another folder")),
    Case("a file for a folder", "fit text --train @/good.txt --out @/good.txt", ("`@/good.txt` is a file", "folder")),
    Case("a device for a folder", "fit text --train @/good.txt --out /dev/null", ("`/dev/null` is a file", "folder")),
    Case(
        "a folder below a file", "fit text --train @/good.txt --out @/good.txt/new", ("`@/good.txt/new`", "through fol")
    ),
    Case("no permission", "fit text --train @/good.txt --out /proc/new", ("cannot write `/proc/new`",)),
    Case("no permission to compare", "compare text --train @/good.txt --out /proc/new", ("`/proc/new",)),
    Case(
        "an array over a text", "encode @/run @/good.txt -o @/good.txt", ("`@/good.txt`", "stays as it is", "another")
    ),
    Case("an array over a run", "encode @/run @/good.txt -o @/run/spec.yaml", ("spec.yaml`", "stays as it is")),
    Case("an array over a folder", "encode @/run @/good.txt -o @/run", ("`@/run` is a folder", "`@/run/z.npy`")),
    Case("an array nowhere", "encode @/run @/good.txt -o @/no/z.npy", ("no folder `@/no`", "`z.npy`", "make it")),
    Case("an array below a file", "encode @/run @/good.txt -o @/good.txt/z", ("no folder `@/good.txt`", "make it")),
    Case("an array without leave", "encode @/run @/good.txt -o @/locked", ("`@/locked`", "denied", "permission")),
    Case("a report of nothing", "report", ("nothing to report", "folder of a run")),
    Case("a report of no run", "report @/no", ("no run folder `@/no`",)),
    Case("a report of a text", "report @/good.txt -o @/r.html", ("no run folder `@/good.txt`",)),
    Case("a report over a text", "report @/run -o @/good.txt", ("`@/good.txt`", "no report", "stays as it is")),
    Case("a report over a folder", "report @/run -o @/run", ("`@/run` is a folder", "`@/run/report.html`")),
    Case("a report nowhere", "report @/run -o @/no/r.html", ("no folder `@/no`", "`r.html`", "make it")),
    Case("a report in another format", "report @/run --format pdf", ("--format", "pdf")),
    Case("figures over a file", "report @/run --figures @/good.txt", ("cannot write `@/good.txt`",)),
    Case("nothing to show", "show", ("nothing to report",)),
    Case("a run to show that is none", "show @/no @/good.txt", ("no run folder `@/no`", "1 others")),
    Case("a diagnosis of no run", "diagnose @/no", ("no run folder `@/no`",)),
    Case("a diagnosis of no split", "diagnose @/run --split tset", ("tset", '"train", "valid", "test"')),
    Case("a rescue of no run", "rescue @/no --with anneal --out @/new", ("no run folder `@/no`",)),
    Case("a rescue by nothing known", "rescue @/run --with aneal --out @/new", ("`aneal`", "mean `anneal`")),
    Case("no reproduction", "reproduce he2019/figure22", ("`he2019/figure22`", "mean `he2019/figure2`")),
    Case(
        "a reproduction without its data", "reproduce he2019/table2 --scale paper", ("`he2019/table2`", "--data FILE")
    ),
    Case(
        "a set that was not published", "reproduce he2019/table1 --data @/good.txt --as Yalp", ("`Yalp`", "mean `Yelp`")
    ),
    Case("a published set without files", "reproduce he2019/table2 --as OMNIGLOT", ("`--as OMNIGLOT`", "--data FILE")),
    Case("the demo over a file", "demo --out @/good.txt", ("`@/good.txt`", "another folder")),
]
IMAGES = "fit images --out @/new --train "
PICTURES = [
    Case("no images", "fit images --out @/new", ("`images`", "--train FILE", "folder of image files")),
    Case("images for digits", "fit digits --train @/good.txt --out @/new", ("`digits`", "leave out", "`images`")),
    Case("a text for images", IMAGES + "@/good.txt", ("`@/good.txt`", "holds no pictures", "give a .npy, .npz, .mat")),
    Case("missing images", IMAGES + "@/no.npy", ("`@/no.npy`", "No such file", "check the path")),
    Case("a folder without images", IMAGES + "@/run", ("`@/run`", "no image files", ".png, .jpg")),
    Case("no array of images", IMAGES + "@/x.npy", ("`@/x.npy`", "not a whole NumPy file"), put("x.npy", WORDS)),
    Case("no MATLAB file", IMAGES + "@/x.mat", ("`@/x.mat`", "not a whole MATLAB file"), put("x.mat", WORDS)),
    Case("half an idx file", IMAGES + "@/x", ("`@/x`", "not a whole idx file"), put("x", b"\0\0\x08\x03\0\0\0\x09")),
    Case("idx labels", IMAGES + "@/x", ("`@/x`", "idx file of labels", "images"), put("x", b"\0\0\x08\1\0\0\0\1a")),
    Case("images of no size", IMAGES + "@/x.npy", ("`@/x.npy`", "(2, 5)", "reshape"), array(np.zeros((2, 5)))),
    Case("images below 0", IMAGES + "@/x.npy", ("`@/x.npy`", "from -1 to 2", "scale"), array(np.array([[[-1, 2]]]))),
    Case("two images", IMAGES + "@/x.npy", ("2 training items", "too few"), array(np.ones((2, 3, 3)))),
    Case("no way to binarise", IMAGES + "@/x.npy --set data.binarise=never", ("`data.binarise`", "'dynamic'")),
    Case("a picture of texts", "generate @/run -o @/x.png", ("a model of texts", "no picture", "leave `--out` out")),
    Case("a picture of another form", "interpolate @/run the cat -o @/x.gif", ("`@/x.gif`", "ends in .png")),
    Case("a picture over a text", "generate @/run -o @/x.png", ("`@/x.png`", "no PNG picture"), put("x.png", WORDS)),
    Case("a picture as JSON", "traverse @/run -o @/x.png --json", ("`--out`", "`--json`", "leave one")),
    Case("no such unit", "traverse @/run --unit 99", ("no unit 99", "counted from 0")),
    Case("a unit below 0", "traverse @/run --unit -1", ("--unit", '"-1"', ">= 0")),
    Case("a span of nothing known", "traverse @/run --span nan", ("--span", "nan")),
    Case("a traversal of unknown words", "traverse @/run zebra", ("`zebra`", "none of the 9 words")),
]
CASES = [*PICTURES, *FILES, *CORPORA, *VALUES, *SPECS, *CLASHES, *NAMES, *SENTENCES, *RUNS, *OUTPUTS]
#: What these print before they are refused.
SPEAKS = {"the demo over a file": "The same LSTM-VAE is trained three times"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and a run."""
    at = tmp_path_factory.mktemp("place")
    write_text(at / "good.txt")
    put("locked", WORDS)(at)
    fit = ["fit", "text", "--train", str(at / "good.txt"), "--out", str(at / "run"), "--samples", "0", "--quiet"]
    assert main([*fit, *SET]) == 0
    return at


def files(at: Path) -> dict[str, bytes | None]:
    """The content of all files of a folder but of locks, which are empty and may come; None for a folder."""
    found = [path for path in at.rglob("*") if path.name != "lock"]
    return {str(path.relative_to(at)): path.read_bytes() if path.is_file() else None for path in found}


def opened(file: Any, *arguments: Any, **more: Any) -> Any:
    """Opens any file but `locked`, which nobody may: a superuser, as whom tests may run, may open all."""
    if not isinstance(file, int) and Path(file).name.startswith("locked"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
    return open(file, *arguments, **more)


def test_there_are_many_cases_and_some_of_every_command() -> None:
    commands = {name for name in app if not name.startswith("-")}
    assert commands <= {case.command.split()[0] for case in CASES}
    assert len({(case.command, case.prepare) for case in CASES}) == len({case.name for case in CASES}) == len(CASES)
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_one_line_and_status_2(
    case: Case, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at = place / "case"
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir()
    shutil.copytree(place / "run", at / "run")
    for name in ("good.txt", "locked"):
        shutil.copy(place / name, at)
    if case.prepare:
        case.prepare(at)
    monkeypatch.chdir(at)
    before = files(at)
    capsys.readouterr()

    with mock.patch.object(io, "open", opened):
        assert main(shlex.split(case.command.replace("@", str(at)))) == 2
    out, said = capsys.readouterr()
    assert out.startswith(SPEAKS[case.name]) if case.name in SPEAKS else out == ""
    assert said.startswith("uncollapse: ")
    assert said.endswith((".\n", "?\n"))
    assert said.count("\n") == 1
    assert "Traceback" not in said + out
    assert [words for words in case.says if words.replace("@", str(at)) not in said] == [], said
    assert files(at) == before


def test_a_figure_that_takes_two_items_says_so_of_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(place / "run"), "--items", "1", "--samples", "2"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^mi +not available: one item has no other to be told from: give at least 2$", said, re.M)
    assert re.search(r"^mi_published +not available: every batch has one item", said, re.M)
    assert "warning: only 1 item: " in said
    assert said.endswith("\nunknown: the variance over items needs two items\n")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[x] Allocator: can't allocate memory: 64 bytes.")])
def test_too_little_memory_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalogue, "recipes", mock.Mock(side_effect=error))
    assert main(["recipes"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("uncollapse: not enough memory: ")
    assert "Lower `data.batch_size`" in said


def test_an_error_of_the_program_is_not_taken_for_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "recipes", mock.Mock(side_effect=RuntimeError("a mistake")))
    with pytest.raises(RuntimeError, match="a mistake"):
        main(["recipes"])


# As a process.


def shell(command: str) -> tuple[int, str, str]:
    """The status and the streams of `uncollapse` in a shell line; $U stands for it."""
    line = command.replace("$U", shlex.join(PROGRAM))
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], check=False, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_so_it_is_for_a_process() -> None:
    status, out, said = shell("$U recipes demoo")
    assert (status, out) == (2, "")
    assert said.startswith("uncollapse: unknown recipe `demoo`. Did you mean `demo`? There is: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "status"),
    [("$U recipes >&-", 0), ("$U recipes 2>&-", 0), ("$U recipes demoo 2>&-", 2), ("$U recipes <&- >&- 2>&-", 0)],
)
def test_a_stream_that_is_closed_from_the_start_takes_nothing(command: str, status: int) -> None:
    done, out, said = shell(command)
    assert (done, said) == (status, "")
    assert ("he2019-text" in out) == (command == "$U recipes 2>&-")


@pytest.mark.parametrize("command", ["$U recipes | :", "$U recipes --json | :", "$U --help | :"])
def test_a_reader_that_is_gone_is_no_error(command: str) -> None:
    assert shell(command) == (128 + signal.SIGPIPE, "", "")


def test_progress_that_nobody_reads_is_no_error(place: Path, tmp_path: Path) -> None:
    fit = ["fit", "text", "--train", place / "good.txt", "--out", tmp_path / "run", "--samples", 0, *SET]
    command = shlex.join(map(str, [*fit, "--set", "training.max_epochs=2000", "--set", "training.plateau=null"]))
    assert shell(f"$U {command} 2>&1 >/dev/null | head -n 1 | wc -l") == (128 + signal.SIGPIPE, "1\n", "")


def test_a_full_disk_is_said_once() -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("there is no /dev/full")
    status, _, said = shell("$U recipes >/dev/full")
    assert (status, said) == (2, "uncollapse: No space left on device; make room, or give another disk.\n")
