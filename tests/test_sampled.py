"""The protocol of samples: a text in four parts, runs drawn from in every way that they have, real text beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from test_cli import SET, write_text
from uncollapse.cli import main
from uncollapse.data.text import read_lines
from uncollapse.errors import InputError
from uncollapse.experiment.sampled import REAL, Texts, divided, of_samples
from uncollapse.metrics.generated import score


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    folder = tmp_path_factory.mktemp("sampled")
    return divided(write_text(folder / "a.txt", 300), folder / "texts")


@pytest.fixture(scope="module")
def cells(texts: Texts) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for row, seed in (("plain", 0), ("plain", 1), ("language-model", 0)):
        out = texts.train.parent / f"{row}-seed{seed}"
        files = ["--train", str(texts.train), "--valid", str(texts.valid), "--test", str(texts.test)]
        asked = [*files, "--with", row, "--seed", str(seed), *SET, "--samples", "0", "--quiet", "--json"]
        assert main(["fit", "text", *asked, "--out", str(out)]) == 0
        found.setdefault(row, []).append(out)
    return found


def test_the_parts_of_a_text_are_all_its_lines_once_and_always_the_same(texts: Texts, tmp_path: Path) -> None:
    lines = read_lines(texts.train.parent.parent / "a.txt")
    parts = [read_lines(path) for path in texts]
    assert [len(part) for part in parts] == [120, 15, 15, 150]
    assert sorted(line for part in parts for line in part) == sorted(lines)
    again = divided(texts.train.parent.parent / "a.txt", tmp_path)
    assert [read_lines(path) for path in again] == parts
    assert parts[0] != lines[:120]
    assert texts.number == 120


def test_a_text_of_few_lines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 30 items, and four parts are made of them: give at least 40"):
        divided(write_text(tmp_path / "a.txt", 30), tmp_path / "texts")


def test_every_run_is_scored_in_every_way_it_has_and_real_text_beside_them(
    texts: Texts, cells: dict[str, list[Path]]
) -> None:
    found = of_samples(cells, texts)
    assert [(row["run"], row["decoding"]) for row in found["rows"]] == [
        *((f"plain-seed{seed}", way) for way in ("0.5", "1.0", "beam") for seed in (0, 1)),
        *(("language-model-seed0", way) for way in ("0.5", "1.0")),
        ("", ""),
    ]
    real: Any = found["rows"][-1]
    expected = score(read_lines(texts.train), read_lines(texts.language_model), read_lines(texts.test))
    assert (real["remedy"], real["fppl"]) == (REAL, expected["fppl"].to_json())
    # Real text is the training text, which is no copy of itself: it is held against the other half.
    assert real["copies"] == expected["copies"].to_json()
    header, *body = found["table"]
    assert header[:5] == ["model", "decoding", "seeds", "fppl", "rppl"]
    assert [row[2] for row in body] == ["2", "2", "2", "1", "1", "1"]
    assert "(" in body[0][3]
    assert "±" in body[-1][3]


def test_what_was_scored_is_not_scored_again(texts: Texts, cells: dict[str, list[Path]]) -> None:
    of_samples(cells, texts)
    kept = cells["plain"][0] / "scored-1.0-120.json"
    said = json.loads(kept.read_text())
    kept.write_text(json.dumps({**said, "fppl": {**said["fppl"], "value": 7.25}}))
    rows = of_samples(cells, texts)["rows"]
    assert [row["fppl"]["value"] for row in rows if (row["run"], row["decoding"]) == ("plain-seed0", "1.0")] == [7.25]
    kept.write_text(json.dumps(said))
