"""What is shown: nothing that a text or a stranger's folder holds steers the terminal."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from test_cli import SET, write_text
from uncollapse.cli import main, show
from uncollapse.documents import visible
from uncollapse.experiment import compare, run
from uncollapse.experiment.compare import State
from uncollapse.experiment.summary import Comparison
from uncollapse.training.progress import Reading

#: Sets a terminal's title, rings, and begins a command in one character.
EVIL = "\x1b]0;owned\x07\x9b2J"
SEEN = r"\u001b]0;owned\u0007\u009b2J"


class Screen(io.StringIO):
    """A terminal that keeps what it is sent."""

    def isatty(self) -> bool:
        return True

    def obeys(self) -> list[str]:
        """What it was sent beside text and rich's own styles."""
        return re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue()))


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text each of whose words ends in control characters, and a run that was trained on it."""
    at = tmp_path_factory.mktemp("evil")
    text = write_text(at / "a.txt")
    words = [line.replace(" ", f"{EVIL} ") + EVIL for line in text.read_text(encoding="utf-8").splitlines()]
    text.write_text("\n".join(words) + "\n", encoding="utf-8")
    fit = ["fit", "text", "--train", str(text), *SET, "--set", "training.max_epochs=1", "--samples", "0", "--quiet"]
    assert main([*fit, "--out", str(at / "run")]) == 0
    return at


def commands(evil: Path) -> list[list[str]]:
    words = f"the{EVIL} cat{EVIL}"
    folder, text = str(evil / "run"), str(evil / "a.txt")
    return [["generate", folder], ["reconstruct", folder, text], ["interpolate", folder, words, words]]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_terminal_obeys_no_text_that_a_model_writes(evil: Path, number: int, json: list[str]) -> None:
    with redirect_stdout(Screen()) as screen:
        assert main([*commands(evil)[number], "--decode", "sample", *json]) == 0
    assert SEEN in screen.getvalue()
    assert screen.obeys() == []


@pytest.mark.parametrize("number", range(3))
def test_a_pipe_gets_every_text_as_it_is(evil: Path, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*commands(evil)[number], "--decode", "sample"]) == 0
    assert EVIL in capsys.readouterr().out


def test_json_on_a_terminal_says_the_same() -> None:
    with redirect_stdout(Screen()) as screen:
        show.document({"texts": [EVIL, "né\t\n"]})
    assert screen.obeys() == []
    assert json.loads(screen.getvalue()) == {"texts": [EVIL, "né\t\n"]}


def test_an_error_quotes_and_does_not_send_what_it_is_about(
    evil: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(evil / "run", tmp_path / "run")
    (tmp_path / "run" / run.SPEC).write_text(json.dumps({"data": {"kind": EVIL}, f"x{EVIL}": 1}))
    for arguments in (["generate", f"no{EVIL}"], ["generate", str(tmp_path / "run")], [f"gen{EVIL}"], ["fit", EVIL]):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert "owned" in said
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", said)


def test_a_table_on_a_terminal_holds_no_command_of_a_cell(tmp_path: Path) -> None:
    folder = tmp_path / "cells" / f"plain{EVIL}-seed0"
    folder.mkdir(parents=True)
    compare.log(folder).write_text(f"no luck{EVIL}\n")
    failed = compare._row(State(f"plain{EVIL}", 0, folder, "failed"), "evaluation-test-k5-s0.json")
    with redirect_stdout(Screen()) as screen:
        show.table(Comparison([failed]).table())
    assert r"\u001b" in screen.getvalue()
    assert screen.obeys() == []


def test_how_far_a_cell_or_a_file_is_holds_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "plain-seed0"
    folder.mkdir()
    (folder / run.METRICS).write_text(json.dumps({"kind": "epoch", "step": 1, "of": 2, "epoch": EVIL}) + "\n")
    state = State("plain", 0, folder, "running")
    state.look()
    show.Changes()([state])
    monkeypatch.setattr(sys, "stderr", shown := Screen())
    with show.cells() as live:
        live([state])
    reading = Reading(shown)
    reading(f"reading {EVIL}", 0.1)
    reading.said = -1e9
    reading(f"reading {EVIL}", 0.2)
    assert "\x1b]" not in shown.getvalue()
    assert "\x9b" not in shown.getvalue()
    assert shown.getvalue().count(SEEN) >= 2
    assert SEEN in capsys.readouterr().err


def test_what_is_visible_already_stays_as_it_is() -> None:
    assert visible("né\t→\n") == "né\t→\n"
    assert visible(visible(EVIL)) == visible(EVIL) == SEEN
