"""`--set` takes any path and any value: what cannot be is refused in one line, and nothing ends in a traceback.

Training itself is left out: what is tested is all that stands before its first step.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from uncollapse.cli import main
from uncollapse.cli.options import Options
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.paths import every_path
from uncollapse.experiment.spec import Spec

#: Values of every sort that YAML and a shell can say; what each stands for is in its group's name.
VALUES = {
    "whole numbers": ["0", "-1", "1", "3", str(2**63), str(-(2**70)), "9" * 5000, "1_000", "0x10", "0b1", "1e400"],
    "other numbers": ["0.5", "1.0", "-0.0", "1e-320", "1e308", ".inf", "-.inf", ".nan", "1e-3", "12:30:45"],
    "dates": ["2001-01-01", "2001-01-01T00:00:00Z"],
    "texts": ["''", "a", "é" * 300, "x" * 10_000, "a.b.c", "-", "~", "../..", "%s{}"],
    "texts that no file has": ['"\\0"', '"a\\0b"', '"\\ud800"', '"\\e[31m"'],
    "durations": ["10 epochs", "0 epochs", "1 apoch", "9" * 400 + " epochs", "9" * 18 + " steps", "1e5 epochs"],
    "rates": ["8 nats/item", "0.5 nats/unit", "8 bits/item", "9" * 400 + " nats/item"],
    "switches and nothing": ["true", "no", "null", ""],
    "collections": ["[]", "[1]", "{}", "{a: 1}", "{1: 2}", "[[[[]]]]"],
    "kinds": ["{kind: linear}", "{kind: 3}", "{kind: null}", "{kind: 'os:system'}", "{kind: 'a:b:c'}", "{kind: ':'}"],
    "parts": ["{kind: constant, value: 1}", "{kind: sgd, learning_rate: 0.1}", "{kind: torch, name: LBFGS}"],
}
SIZE = "model.generation.decoder.lstm.hidden_size"
NAMES = ["objective.weights.rate", "model.latent", SIZE, "a", "a..b", "0", "model"]
PATHS = [
    path.replace("<name>", name) for path in every_path(Spec) for name in (NAMES if "<name>" in path else NAMES[:1])
]
CASES, CHUNKS = 600, 12


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "good.txt"
    path.write_text("".join(f"the cat sees a dog {i % 7}\n" for i in range(60)))
    return path


def settings(seed: int) -> tuple[str, ...]:
    """One to three settings, of paths that there are for the most part."""
    draw = random.Random(seed)
    said = []
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        path = draw.choice(PATHS)
        if draw.random() < 0.1:
            path = draw.choice(["", ".", path[:-1], path + ".x", path.upper(), "\0", path * 50])
        said.append(f"{path}={draw.choice(VALUES[draw.choice(list(VALUES))])}")
    return tuple(said)


def prepare(text: Path, overrides: tuple[str, ...]) -> None:
    """Everything of `fit text` before the first step."""
    small = [f"model.{net}.{size}=3" for net in ("encoder", "decoder") for size in ("embedding", "hidden")]
    spec = Options(train=text, overrides=(*small, "model.latent=2", *overrides)).spec("text", [], 0)
    data = build.data(spec)
    build.check_memory(spec, data.facts)
    model = build.model(spec, data.facts)
    build.trainer(spec.training, model, data.batches("train"), data.batches("valid"), seed=spec.seed)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_any_setting_is_taken_or_refused_in_a_line(text: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(text.parent)
    for seed in range(chunk, CASES, CHUNKS):
        overrides = settings(seed)
        try:
            prepare(text, overrides)
        except OSError:
            pass  # What the system says of a file, `main` says in a line.
        except InputError as refused:
            assert 0 < len(str(refused)) < 6000, overrides  # noqa: PT017
        except Exception as error:
            raise AssertionError(f"settings {seed}, {overrides!r:.500}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("training.max_epochs=" + "9" * 5000, "`training.max_epochs`"),
        ('data.valid="a\\0b"', "names no file"),
        ('data.valid="\\ud800"', "names no file"),
        (
            "training.dials.objective.weights.rate={kind: linear, start: 0, stop: 1, over: " + "9" * 400 + " epochs}",
            "no",
        ),
        ("training.dials.model.generation.decoder.lstm.hidden_size={kind: constant, value: 3}", "hidden_size`"),
    ],
)
def test_what_was_a_traceback_is_a_line(text: Path, override: str, says: str, capsys: Any) -> None:
    assert main(["fit", "text", "--train", str(text), "--out", str(text.parent / "new"), "--set", override]) == 2

    *notes, said = capsys.readouterr().err.splitlines()
    assert all(note.startswith("note: ") for note in notes)
    assert said.startswith("uncollapse: ")
    assert says in said
