"""Files that are whole, also where two write one at once, and JSON that any reader takes."""

from __future__ import annotations

import json
import math
import os
import threading
from pathlib import Path

import pytest

from uncollapse import files
from uncollapse.documents import finite
from uncollapse.experiment.run import write_json


def test_who_comes_second_waits_and_both_files_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with files.replacing(path) as file:
        file.write(b"first")
        other = threading.Thread(target=files.write_text, args=(path, "second, and longer"))
        other.start()
        other.join(0.3)
        assert other.is_alive()
        assert not path.exists()
    other.join()
    assert path.read_text() == "second, and longer"
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_what_a_kill_left_is_written_over_and_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.partial").write_text("a longer one that was left there")
    files.write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "new"
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    (tmp_path / "a.partial").symlink_to(theirs)
    files.write_text(tmp_path / "a.json", "newer")
    assert (theirs.read_text(), (tmp_path / "a.json").read_text()) == ("theirs", "newer")


def test_a_left_over_that_is_no_file_of_ours_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    theirs, aside = tmp_path / "theirs", tmp_path / "a.partial"
    theirs.write_text("theirs")
    theirs.chmod(0o600)
    for leave in (lambda: aside.hardlink_to(theirs), lambda: os.mkfifo(aside)):
        leave()
        files.write_text(tmp_path / "a.json", "new")
        assert (tmp_path / "a.json").read_text() == "new"
        assert (tmp_path / "a.json").stat().st_mode & 0o777 != 0o600
        (tmp_path / "a.json").unlink()
    assert theirs.read_text() == "theirs"


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")

    def fail() -> None:
        with files.replacing(tmp_path / "a.json") as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"a.json": "old"}


def test_json_holds_no_number_that_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": math.nan, "b": [1.5, math.inf], "c": ({"d": -math.inf},), "e": True})

    def refuse(name: str) -> None:
        raise AssertionError(name)

    said = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert said == {"a": None, "b": [1.5, None], "c": [{"d": None}], "e": True}
    assert finite({"a": "nan"}) == {"a": "nan"}
