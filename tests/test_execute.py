"""Training and judging in a run's folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from test_cli import VALUES, write_text
from uncollapse import files
from uncollapse.cli.options import Options
from uncollapse.data.corpora import TextFiles
from uncollapse.errors import InputError
from uncollapse.experiment import compare, execute, run
from uncollapse.experiment.api import load
from uncollapse.experiment.spec import Spec
from uncollapse.experiment.trained import Trained
from uncollapse.metrics.rows import Rows
from uncollapse.training.listeners import Listener, Moment

VOCABULARY = TextFiles.kept


def spec_of(text: Path) -> Spec:
    return Options(train=text, overrides=(*VALUES, "training.max_epochs=1")).spec("text", ["plain"], 0)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_text(tmp_path_factory.mktemp("text") / "a.txt", 40)
    with path.open("a") as file:
        file.write("the cat sees a dog the cat sees\n" * 20)
    return path


@pytest.fixture
def trained(text: Path, tmp_path: Path) -> Path:
    execute.train(spec_of(text), tmp_path / "run", {"remedy": "plain"})
    return tmp_path / "run"


def test_the_vocabulary_says_how_long_the_longest_training_item_is(trained: Path) -> None:
    said = json.loads((trained / VOCABULARY).read_text(encoding="utf-8"))
    assert said.keys() == {"tokens", "words", "longest"}
    assert said["longest"] == 8


def test_a_run_whose_vocabulary_says_no_length_is_used_as_ever(trained: Path) -> None:
    said = json.loads((trained / VOCABULARY).read_text(encoding="utf-8"))
    before = load(trained).encode(["the cat"])
    run.write_json(trained / VOCABULARY, {"tokens": said["tokens"], "words": said["words"]})
    there = run.read_environment(trained)
    run.write_json(trained / run.ENVIRONMENT, {k: v for k, v in there.items() if k != run.KEPT})
    assert load(trained).encode(["the cat"]).equal(before)
    assert execute.judge(trained, samples=1).report["remedy"] == "plain"


def test_a_folder_that_another_training_holds_is_refused(trained: Path, text: Path) -> None:
    with run.locked(trained), pytest.raises(InputError, match="another process is training in"):
        execute.train(spec_of(text), trained, {})


def replaced(folder: Path) -> Listener:
    """Replaces the folder of a run by another one's after its first step."""

    def listen(moment: Moment) -> None:
        if moment.kind == "step" and moment.step == 1:
            shutil.rmtree(folder)
            with run.locked(folder):
                (folder / run.METRICS).write_text("another run's\n")

    return listen


def test_a_training_leaves_a_new_run_in_its_removed_folder_alone(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(InputError, match="was removed while this run trained in it"):
        execute.train(spec_of(text), folder, {}, [replaced(folder)])
    assert {path.name for path in folder.iterdir()} == {run.LOCK, run.METRICS}
    assert (folder / run.METRICS).read_text() == "another run's\n"


def test_a_run_goes_on_and_is_judged_after_its_text_was_moved(trained: Path, text: Path, tmp_path: Path) -> None:
    spec = run.read_spec(trained)
    files.write_text(trained / run.SPEC, json.dumps({**spec, "data": {**spec["data"], "train": "/absent.txt"}}))
    with pytest.raises(InputError, match="absent"):
        execute.judge(trained, samples=1)

    moved = Path(shutil.copy(text, tmp_path / "moved.txt"))
    execute.train(spec_of(moved), trained, {})

    assert run.read_spec(trained)["data"]["train"] == str(moved)
    assert execute.judge(trained, samples=1).report["split"] == "test"


def test_a_run_that_does_not_name_itself_cannot_be_judged(trained: Path) -> None:
    run.write_json(trained / run.ENVIRONMENT, {})
    with pytest.raises(InputError, match=r"environment\.json` is damaged"):
        execute.judge(trained, samples=1)


def test_the_probe_keeps_as_many_items_as_it_says(tmp_path: Path) -> None:
    lines = [" ".join(["the"] * (1 + i % 7)) for i in range(3000)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "v.txt").write_text("\n".join([lines[0], *lines[1:700] * 2]))  # One of the shortest, many of the rest.
    spec = Options(train=tmp_path / "a.txt", valid=tmp_path / "v.txt", overrides=(*VALUES, "training.max_epochs=1"))
    execute.train(spec.spec("text", ["plain"], 0), tmp_path / "run", {})
    for path in (tmp_path / "run" / "probe").iterdir():
        assert len(Rows.load(path).items) == 500


def test_an_evaluation_of_an_unfinished_training_says_so(text: Path, tmp_path: Path) -> None:
    def stop(moment: Moment) -> None:
        if moment.kind == "step" and moment.epoch == 1:
            raise KeyboardInterrupt

    spec = Options(train=text, overrides=(*VALUES, "training.max_epochs=2")).spec("text", ["plain"], 0)
    with pytest.raises(KeyboardInterrupt):
        execute.train(spec, tmp_path / "run", {"remedy": "plain"}, [stop])
    report = execute.judge(tmp_path / "run", samples=1).report
    assert report["finished"] is False
    assert "the training is not finished: it stands at step" in report["warnings"][0]
    execute.train(spec, tmp_path / "run", {"remedy": "plain"})
    report = execute.judge(tmp_path / "run", samples=1).report
    assert report["finished"] is True
    assert not any("not finished" in text for text in report["warnings"])


def test_what_a_training_came_to_while_it_was_judged_is_not_said_of_the_weights_before(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(moment: Moment) -> None:
        if moment.kind == "step" and moment.epoch == 1:
            raise KeyboardInterrupt

    spec = Options(train=text, overrides=(*VALUES, "training.max_epochs=2")).spec("text", ["plain"], 0)
    with pytest.raises(KeyboardInterrupt):
        execute.train(spec, tmp_path / "run", {}, [stop])

    def load_and_go_on(path: Path, trust: bool) -> Trained:
        trained = load(path, trust=trust)
        execute.train(spec, path, {})
        return trained

    before = execute.seconds(execute.last_state(tmp_path / "run"), "seconds")
    monkeypatch.setattr(execute, "load", load_and_go_on)
    report = execute.judge(tmp_path / "run", samples=1).report
    assert report["finished"] is False
    assert report["seconds"] == before != execute.seconds(execute.last_state(tmp_path / "run"), "seconds")


def test_the_time_of_a_training_is_known_without_its_log(trained: Path) -> None:
    before = execute.judge(trained, samples=1).report
    assert before["cpu_seconds"]["value"] > 0
    (trained / run.METRICS).write_bytes(b"")
    after = execute.judge(trained, samples=1).report
    assert [after[clock] for clock in ("seconds", "cpu_seconds")] == [
        before[clock] for clock in ("seconds", "cpu_seconds")
    ]


def test_a_kill_between_rows_and_figures_leaves_no_pair(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "evaluation-test-k1-s0.json"
    execute.keep(trained, execute.judge(trained, samples=1))
    assert compare._figures(trained / name) is not None
    judged = execute.judge(trained, samples=1)
    other = replace(judged.figures.rows, distortion=judged.figures.rows.distortion + 1)  # Of other weights.
    with monkeypatch.context() as during:
        during.setattr(run, "write_json", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            execute.keep(trained, judged._replace(figures=replace(judged.figures, rows=other)))
    assert compare._figures(trained / name) is None
    execute.keep(trained, judged)
    assert compare._figures(trained / name) is not None
