"""The page on extending: every example on it is short, and runs as the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from test_cli import SET, VALUES, write_text
from uncollapse.cli import main
from uncollapse.cli.options import Options

EXTENDING = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```(python|yaml)\n(.*?)```", EXTENDING, re.DOTALL)
SHORT = [*SET, "--set", "training.max_epochs=1", "--samples", "0", "--quiet"]


def example(holds: str) -> str:
    return next(text for _, text in EXAMPLES if holds in text)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_text(tmp_path / "my.txt", 40)
    return tmp_path


def test_every_example_is_short() -> None:
    assert len(EXAMPLES) >= 4
    assert all(len(text.splitlines()) <= 25 for _, text in EXAMPLES)


def test_the_documents_term_is_a_remedy_of_ones_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "myterm.py").write_text(example("class Smooth"))
    (here / "my.yaml").write_text(example("remedies:"))
    command = ["fit", "text", "--train", "my.txt", "--catalogue", "my.yaml", "--with", "smooth+anneal", "--out", "run"]

    assert main([*command, *SHORT, "--set", "training.objective.weights.smooth=2"]) == 0

    log = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any(record.get("smooth", 0) > 0 for record in log)
    assert main(["generate", "run", "-n", "1"]) == 2
    assert main(["generate", "run", "-n", "1", "--trust"]) == 0


def test_the_documents_network_reads_a_text(here: Path) -> None:
    (here / "mynet.py").write_text(example("class Bag"))
    network = 'model.encoder={kind: "mynet:Bag", embedding: 32}'
    small = [value for value in VALUES if not value.startswith("model.encoder")]
    settings = [part for value in (*small, network, "training.max_epochs=1") for part in ("--set", value)]

    assert main(["fit", "text", "--train", "my.txt", "--out", "run", *settings, "--samples", "0", "--quiet"]) == 0


def test_the_documents_head_is_a_loss_beside_the_decoder(here: Path) -> None:
    (here / "myhead.py").write_text(example("class Length"))
    (here / "length.yaml").write_text(example("says: z says how long"))
    command = ["fit", "text", "--train", "my.txt", "--catalogue", "length.yaml", "--with", "length", "--out", "run"]

    assert main([*command, *SHORT, "--set", "training.objective.weights.length=0.5"]) == 0

    log = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any(record.get("length", 0) > 0 for record in log)


def test_the_documents_kind_of_data_is_named_by_its_path_beside_a_recipe(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mycircle.py").write_text(example("class Circle"))
    small = ["training.max_epochs=1", "data.points=60", "model.latent=2"]
    options = [part for value in small for part in ("--set", value)]
    fit = ["fit", "mycircle:Circle", "--recipe", "vectors", *options, "--samples", "0", "--quiet"]
    assert main([*fit, "--out", str(here / "run")]) == 0

    spec = Options(recipe="vectors", overrides=tuple(small)).spec("mycircle:Circle", [], 0)
    assert spec.data.batch_size == 128  # pyright: ignore[reportOptionalMemberAccess]
    assert json.loads((here / "run" / "circle.json").read_text())["columns"] == 2
    assert main(["generate", str(here / "run")]) == 2
    assert "would run it: read it, and give `--trust`" in capsys.readouterr().err
    assert main(["generate", str(here / "run"), "--trust", "-n", "3"]) == 0
