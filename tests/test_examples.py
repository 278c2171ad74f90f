"""What a run keeps of what its model writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

from test_cli import SET, write_text
from uncollapse.cli import main
from uncollapse.experiment.api import load
from uncollapse.experiment.examples import EXAMPLES, examples
from uncollapse.experiment.trained import Trained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("examples")
    text = write_text(at / "a.txt")
    fit = ["fit", "text", "--train", str(text), *SET, "--set", "training.max_epochs=1", "--samples", "0", "--quiet"]
    assert main([*fit, "--out", str(at / "run")]) == 0
    return at / "run"


def test_a_run_keeps_draws_and_two_of_them_encoded_and_decoded_and_the_line_between(run: Path) -> None:
    kept, trained = json.loads((run / EXAMPLES).read_text(encoding="utf-8")), load(run)
    assert kept["samples"] == trained.generate(5, seed=0)
    ends = [line for line in dict.fromkeys(kept["samples"]) if line][:2]
    assert len(ends) == 2
    assert kept["reconstructions"] == [list(pair) for pair in zip(ends, trained.reconstruct(ends), strict=True)]
    assert kept["interpolations"] == [trained.interpolate(*ends)]


def test_items_of_ones_own_take_their_place_where_the_model_knows_them(run: Path) -> None:
    ends = [line for line in load(run).generate(9, seed=3) if line][:2]
    assert [pair[0] for pair in examples(load(run), ends)["reconstructions"]] == ends
    found = examples(load(run), ("§§", "§§"))
    assert [pair[0] for pair in found["reconstructions"]] == [line for line in dict.fromkeys(found["samples"]) if line][
        :2
    ]


def test_a_model_that_cannot_write_has_none() -> None:
    assert examples(Trained(nn.Linear(2, 2))) == {}
