"""`uncollapse parts`: every part with its numbers, as its signature has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uncollapse.cli import main
from uncollapse.experiment.described import every_part, in_markdown
from uncollapse.experiment.parts import SLOTS

DOCS = Path(__file__).resolve().parents[1] / "docs" / "parts.md"


def test_parts_are_listed_with_numbers_defaults_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts"]) == 0

    shown = capsys.readouterr().out
    assert "aggressive" in shown
    assert "window=10" in shown
    assert "until.min_steps=0" in shown
    assert "Everyone descends the same loss" in shown


def test_parts_of_one_slot_are_listed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts", "schedules", "--json"]) == 0

    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == ["schedules"]
    assert shown["schedules"]["constant"]["entries"] == {"value": {"required": True}}


def test_an_unknown_slot_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts", "term"]) == 2

    assert "unknown slot `term`. Did you mean `terms`? There is: " in capsys.readouterr().err


def test_every_part_of_every_table_is_there() -> None:
    assert {slot: [one.kind for one in parts] for slot, parts in every_part().items()} == {
        slot: list(table) for slot, table in SLOTS.items()
    }


def test_the_documented_parts_are_those_that_there_are() -> None:
    assert (
        DOCS.read_text(encoding="utf-8").partition("\n## ")[2] == in_markdown(every_part()).removeprefix("## ") + "\n"
    )


def test_a_remedy_is_told_by_its_other_name_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["remedies", "recommended"]) == 0
    told = capsys.readouterr().out
    assert main(["remedies", "aggressive-start"]) == 0
    assert capsys.readouterr().out == told
