"""Sets of remedies, and what a comparison of many says: rank, chance, front."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from test_cli import SET, write_text
from test_summary import cell
from uncollapse.cli import main
from uncollapse.errors import InputError
from uncollapse.experiment.catalogue import remedies
from uncollapse.experiment.compose import compose
from uncollapse.experiment.sets import CORE, chosen
from uncollapse.experiment.summary import Comparison, holm


def fits(recipe: str) -> Any:
    return lambda name: compose(recipe, [name], ["data.train=a.txt"])


def test_the_core_of_a_text_has_the_language_model_and_of_images_the_decoder_without_z() -> None:
    text, refused = chosen(["core"], None, fits("text"))
    assert set(text) == set(CORE) - {"without-z"}
    assert "shape of an item" in refused["without-z"]
    images, refused = chosen(["core"], None, fits("images"))
    assert "language-model" in refused
    assert "without-z" in images


def test_all_is_every_remedy_and_fast_what_takes_little_longer_than_plain() -> None:
    names, refused = chosen(["all"], None, fits("text"))
    assert {*names, *refused} == set(remedies())
    fast, _ = chosen(["fast"], None, fits("text"))
    assert {"plain", "anneal", "free-bits", "language-model"} <= set(fast) < set(names)
    assert not {"sa-vae", "aggressive", "aae"} & set(fast)


def test_a_set_and_a_name_are_each_once_and_a_name_that_does_not_fit_is_refused() -> None:
    names, _ = chosen(["plain", "core", "aggressive+anneal"], None, fits("text"))
    assert names[0] == "plain"
    assert len(names) == len(set(names))
    with pytest.raises(InputError, match="shape of an item"):
        chosen(["without-z"], None, fits("text"))


def test_holm_by_hand() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5})
    assert found == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.5})
    assert holm({}) == {}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def compared(tmp_path: Path) -> Comparison:
    base, draw = 30 + 5 * torch.randn(400, dtype=torch.float64), torch.randn(400, dtype=torch.float64)
    return Comparison(
        [
            cell(tmp_path, "plain", 0, base, 10.0),
            cell(tmp_path, "plain", 1, base, 10.0),
            *(cell(tmp_path, "better", seed, base - 1 - 0.01 * seed + draw, 40.0) for seed in (0, 1)),
            *(cell(tmp_path, "same", seed, base + 0.01 * draw, 20.0) for seed in (0, 1)),
            cell(tmp_path, "worse", 0, base + 2 + draw, 5.0),
            cell(tmp_path, "worst", 0, base + 3, 50.0),
            {**cell(tmp_path, "none", 0, base), "nll": {"unavailable": "no density"}},
        ]
    )


def test_a_ranking_is_by_nll_and_what_has_none_has_no_rank(tmp_path: Path) -> None:
    torch.manual_seed(0)
    header, *body = compared(tmp_path).ranking()
    assert body[0][1] == "better"
    assert [line[1] for line in body][-2:] == ["worse", "worst"]
    assert "none" not in [line[1] for line in body]
    rows = {line[1]: dict(zip(header, line, strict=True)) for line in body}
    assert float(rows["better"]["p, Holm"]) < 1e-6
    assert float(rows["same"]["p, Holm"]) > 0.05
    assert rows["plain"]["p, Holm"] == ""


def test_the_front_is_of_what_no_other_is_as_good_as(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = torch.zeros(3, dtype=torch.float64)
    named = {"plain": (3, 10), "slow": (2, 40), "fast": (5, 5), "bad": (4, 20), "alike": (3, 10)}
    cells = [cell(tmp_path, name, 0, base + nll, float(time)) for name, (nll, time) in named.items()]
    assert Comparison(cells).front() == ["plain", "slow", "fast", "alike"]


def chance(tmp_path: Path, *differences: Tensor) -> str:
    base = torch.zeros(4, dtype=torch.float64)
    cells = [
        cell(tmp_path, name, seed, base + (other if name == "x" else 0))
        for seed, other in enumerate(differences)
        for name in ("plain", "x")
    ]
    return next(line[4] for line in Comparison(cells).ranking() if line[1] == "x")


def test_a_chance_is_that_of_students_law(tmp_path: Path) -> None:
    one = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)  # 1.5, its error over items 0.645.
    z = 1.5 / (math.sqrt(5 / 3) / 2)
    alike = float(chance(tmp_path, one, one))  # No error over seeds: the normal law.
    assert alike == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.05)
    # Over seeds 1, of one degree of freedom, and no error over items: Cauchy's law.
    same = torch.ones(4, dtype=torch.float64)
    assert float(chance(tmp_path, 1 * same, 3 * same)) == pytest.approx(1 - 2 / math.pi * math.atan(2), rel=0.05)


def test_one_seed_has_no_chance(tmp_path: Path) -> None:
    assert chance(tmp_path, torch.tensor([4.0, 5.0, 6.0, 7.0], dtype=torch.float64)) == ""


def test_of_a_set_what_makes_no_model_of_the_data_is_named_and_by_name_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from uncollapse.experiment import compare

    asked: dict[str, Any] = {}

    def run(fit: Any, names: list[str], seeds: Any, out: Path, **how: Any) -> Comparison:
        asked.update(how, names=names)
        return Comparison([])

    monkeypatch.setattr(compare, "run", run)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 3)))
    command = ["compare", "vectors", "--train", str(tmp_path / "x.npy"), "--out", str(tmp_path / "c"), "--json"]
    assert main([*command, "--remedies", "all"]) == 0
    assert "set `data.labels`" in asked["refused"]["fader"]
    assert "which data of the kind `vectors` does not have" in asked["refused"]["word-dropout"]
    assert {"plain", "anneal", "without-z"} <= {*asked["names"]}
    assert not {*asked["names"]} & {*asked["refused"]}
    capsys.readouterr()
    assert main([*command, "--remedies", "plain,fader"]) == 2
    assert "set `data.labels`" in capsys.readouterr().err


def test_a_comparison_trains_the_language_model_that_a_row_starts_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, entry = "plain,decoder-from-language-model", "model.start"
    path = write_text(tmp_path / "a.txt", 40)
    command = ["compare", "text", "--train", str(path), *SET, "--set", "training.max_epochs=1", "--seeds", "1"]
    command += ["--samples", "2", "--json", "--remedies", rows]
    assert main([*command, "--out", str(tmp_path / "c")]) == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    assert [row["remedy"] for row in found if "verdict" in row] == ["plain", "language-model", rows.split(",")[1]]
    model = str(tmp_path / "c" / "cells" / "language-model-seed0")
    spec = (tmp_path / "c" / "cells" / "decoder-from-language-model-seed0" / "spec.yaml").read_text()
    assert f"start: {model}" in spec
    # Where a person names one, that is it.
    assert main([*command, "--set", f"{entry}={model}", "--out", str(tmp_path / "d")]) == 0
    assert not (tmp_path / "d" / "cells" / "language-model-seed0").exists()


def test_a_comparison_of_a_set_names_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "remedies:\n  pictures:\n    says: Of images.\n    needs: [shape]\n    patch: {training: {clip: 1.0}}\n"
    )
    path = write_text(tmp_path / "a.txt", 40)
    command = ["compare", "text", "--train", str(path), *SET, "--set", "training.max_epochs=1", "--seeds", "1"]
    command += ["--catalogue", str(mine), "--remedies", "plain,anneal", "--samples", "2", "--out", str(tmp_path / "c")]
    assert main(command) == 0
    capsys.readouterr()

    from uncollapse.experiment import compare

    found = compare.run(
        json.loads((tmp_path / "c" / "compare.json").read_text())["fit"],
        ["plain", "anneal"],
        [0],
        tmp_path / "c",
        jobs=1,
        samples=2,
        refused={"pictures": "the remedy `pictures` needs the shape of an item"},
    )
    assert found.table()[-1][0] == "pictures"
    assert found.table()[-1][-1].startswith("not run: the remedy `pictures` needs the shape")
    assert "not run" in (tmp_path / "c" / "comparison.json").read_text()
