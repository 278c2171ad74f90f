"""Run folders: whose they are, who trains in them, and what a kill may leave."""

from __future__ import annotations

import errno
import fcntl
import json
from pathlib import Path

import pytest
import yaml

from uncollapse import files
from uncollapse.errors import InputError
from uncollapse.experiment import run

SPEC = {"data": {"train": "a.txt"}, "model": None, "training": {}, "seed": 0}


def made(folder: Path) -> Path:
    run.open_folder(folder, SPEC, "i", "f", {"remedy": "plain"})
    return folder


def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with run.locked(folder):
        made(folder)
        with (
            pytest.raises(InputError, match=r"another process is training in `.*/new`: wait for it, or give another"),
            run.locked(folder),
        ):
            pass
    with run.locked(folder):
        made(folder)


def test_a_lock_ends_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), run.locked(tmp_path):
        raise ZeroDivisionError
    with run.locked(tmp_path):
        pass


def test_a_filesystem_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with run.locked(tmp_path):
        made(tmp_path)


def test_nothing_is_left_in_a_folder_of_someone_elses(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="holds no run of uncollapse: give another folder"), run.locked(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write `.*/file/run`: Not a dir"):
        with run.locked(tmp_path / "file" / "run"):
            pass


@pytest.mark.parametrize(
    "left", [["lock"], ["spec.partial"], ["lock", "spec.yaml"], ["spec.yaml", "environment.partial"]]
)
def test_a_folder_that_a_kill_left_begun_is_gone_on_with(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).write_text(yaml.safe_dump(SPEC) if name == "spec.yaml" else "")
    made(tmp_path)
    assert run.read_environment(tmp_path)["identity"] == "i"
    assert run.read_spec(tmp_path) == SPEC


def test_someone_elses_spec_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("openapi: 3.1.0")
    with pytest.raises(InputError, match="holds no run of uncollapse"):
        made(tmp_path)
    assert (tmp_path / "spec.yaml").read_text() == "openapi: 3.1.0"


def test_the_same_run_with_its_text_elsewhere_is_written_down(tmp_path: Path) -> None:
    made(tmp_path)
    before = (tmp_path / "environment.json").read_bytes()
    moved = {**SPEC, "data": {"train": "elsewhere/a.txt"}}
    run.open_folder(tmp_path, moved, "i", "f", {})
    assert run.read_spec(tmp_path) == moved
    assert (tmp_path / "environment.json").read_bytes() == before


def test_another_run_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(InputError, match="another spec or other data"):
        run.open_folder(tmp_path, {**SPEC, "seed": 1}, "j", "f", {})
    assert run.read_spec(tmp_path) == SPEC


@pytest.mark.parametrize("content", [{}, [], {"identity": "i", "asked": {}}])
def test_a_damaged_environment_is_named(tmp_path: Path, content: object) -> None:
    made(tmp_path)
    (tmp_path / "environment.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"environment\.json` is damaged: it does not name .* train again in another"):
        made(tmp_path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(UnicodeEncodeError):
        files.write_text(tmp_path / "spec.yaml", "seed: 1\n\ud800")
    assert run.read_spec(tmp_path) == SPEC
