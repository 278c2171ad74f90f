"""The command line: every command on a tiny text, what it prints and what it leaves."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from uncollapse import __version__
from uncollapse.cli import fitting, main
from uncollapse.cli.options import Options
from uncollapse.data import stdlib
from uncollapse.experiment import catalogue
from uncollapse.experiment.run import held, is_held, locked

PROGRAM = [sys.executable, "-m", "uncollapse"]
SIZES = ("model.encoder.hidden", "model.encoder.embedding", "model.decoder.hidden", "model.decoder.embedding")
SMALL = {**dict.fromkeys(SIZES, 8), "model.latent": 2, "training.max_epochs": 2}
VALUES = tuple(f"{path}={value}" for path, value in SMALL.items())
SET = [part for value in VALUES for part in ("--set", value)]
FIGURES = ("nll", "neg_elbo", "kl", "mi", "active_units", "seconds")


def write_text(path: Path, lines: int = 80, before: str = "") -> Path:
    draw = random.Random(0)
    nouns, verbs = ("cat", "dog", "bird", "fish"), ("sees", "likes", "hears")
    items = [f"{before}the {draw.choice(nouns)} {draw.choice(verbs)} a {draw.choice(nouns)}" for _ in range(lines)]
    path.write_text("\n".join(items) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "a text.txt")


@pytest.fixture(scope="module")
def trained(text: Path) -> Path:
    """A run of two epochs."""
    run = text.parent / "run"
    assert main(["fit", "text", "--train", str(text), "--out", str(run), "--samples", "3", "--quiet", *SET]) == 0
    return run


@pytest.fixture(scope="module")
def other(text: Path) -> Path:
    """A file to read that was not trained on, with an empty line and an unknown word."""
    path = text.parent / "other.txt"
    path.write_text("the cat sees a dog\n\na zebra\nthe dog\n", encoding="utf-8")
    return path


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command that succeeds prints."""
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


# Without torch.


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["--version"], ["remedies"], ["recipes"]])
def test_what_needs_no_torch_imports_none(arguments: list[str]) -> None:
    code = f"import sys; from uncollapse.cli import main; main({arguments!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ask(capsys, "--help")
    commands = "fit evaluate generate reconstruct interpolate traverse encode compare demo report show remedies recipes"
    assert all(f" {command} " in shown for command in commands.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "--version").strip() == __version__


def test_remedies_are_listed_with_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ask(capsys, "remedies").splitlines()
    assert lines[0].split()[:2] == ["name", "place"]
    assert any(line.startswith("aggressive ") and "procedure" in line for line in lines)
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize(("command", "name"), [("remedies", "aggressive"), ("recipes", "demo")])
def test_one_entry_of_the_catalogue_is_shown_whole(command: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "arxiv.org/abs/1901.05534" in ask(capsys, command, name)
    assert json.loads(ask(capsys, command, name, "--json"))["name"] == name
    listed = json.loads(ask(capsys, command, "--json"))
    assert name in (listed if command == "recipes" else [one["name"] for one in listed])


def test_a_remedy_is_told_in_words_with_its_numbers_cost_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ask(capsys, "remedies", "free-bits")
    labels = [line.split()[0] for line in shown.splitlines() if not line.startswith(" ")]
    assert labels == "free-bits place formula when watch cost numbers claimed source".split()
    assert "training.objective.terms.rate.floor = 8 nats/item\n" in shown
    assert "times a plain one's time" in shown
    assert "kl higher by at least 4 (by construction" in shown
    assert max(map(len, shown.splitlines())) <= 110


def test_remedies_are_listed_in_short_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(ask(capsys, "remedies", "--json"))
    assert len(listed) > 60
    assert {tuple(one) for one in listed} == {("name", "place", "says", "cite", "cost")}
    assert all(one["name"] == one["name"].lower().replace("_", "-") for one in listed)


def test_a_file_of_ones_own_remedies_is_listed_and_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("remedies: {mine: {says: It clips., patch: {training: {clip: null}}}}", encoding="utf-8")
    assert "\nmine  " in ask(capsys, "remedies", "--catalogue", own)
    assert "training.clip = null" in ask(capsys, "remedies", "mine", "--catalogue", own)


# fit and evaluate.


def test_figures_that_cannot_be_kept_are_printed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "rows-test-k2-s9.partial" / "in the way").mkdir(parents=True)
    assert main(["evaluate", str(trained), "--samples", "2", "--seed", "9"]) == 2
    out, said = capsys.readouterr()
    assert re.search(r"^nll +\d", out)
    assert said.startswith(f"uncollapse: cannot write `{trained / 'rows-test-k2-s9.safetensors'}`: Is a directory")
    assert not (trained / "evaluation-test-k2-s9.json").exists()


def test_fit_leaves_a_run_with_absolute_paths(trained: Path, text: Path) -> None:
    spec = (trained / "spec.yaml").read_text(encoding="utf-8")
    asked = json.loads((trained / "environment.json").read_text(encoding="utf-8"))["asked"]
    assert f"train: {text}" in spec
    assert asked == {"recipe": "text", "remedy": "plain"}
    assert (trained / "evaluation-test-k3-s0.json").is_file()


def test_fit_prints_figures_a_verdict_and_what_to_do_next(
    tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "text", "--train", str(text), "--out", str(tmp_path / "run"), "--samples", "3", *SET]) == 0
    out, progress = capsys.readouterr()
    assert "nll" in out
    assert "\ncollapsed: 0 of 2 units active" in out
    assert "--with aggressive," in out
    assert f"uncollapse generate {tmp_path / 'run'}" in out
    assert progress.count("left epoch") == 2


@pytest.mark.parametrize(
    ("used", "advice"),
    [
        ("plain", "--with aggressive,"),
        ("anneal", "--with aggressive,"),
        ("aggressive", "--with aggressive+anneal,"),
        ("aggressive-budget", "--with aggressive-budget+anneal,"),
        ("aggressive+anneal", "--set training.max_epochs="),
        ("aggressive+beta", "uncollapse compare"),
    ],
)
def test_after_a_collapse_fit_advises_what_was_not_used(used: str, advice: str) -> None:
    says = fitting._next(Path("run"), "collapsed: 0 of 2 units active", used, "A B")
    assert advice in says
    assert f"--with {used}," not in says


def test_what_has_no_latents_is_only_told_to_generate() -> None:
    says = fitting._next(Path("run"), "no latents: -ELBO is the exact NLL, and no bound", "language-model", "A B")
    assert says == "\n\nNext:\n  uncollapse generate run -n 5"


def test_after_a_mismatch_fit_advises_no_draws_of_the_prior() -> None:
    says = fitting._next(Path("run"), "mismatched: KL(q(z) || p(z)) is at least 6.0 nats", "beta", "A B")
    assert "objective.weights.rate" in says
    assert "generate" not in says
    assert "uncollapse interpolate run" in says
    charged = fitting._next(Path("run"), "mismatched: KL(q(z) || p(z)) is at least 6.0", "mae", "A B", charged=True)
    assert "a prior that learns where codes are" in charged
    assert "objective.weights.rate" not in charged


@pytest.mark.parametrize(
    ("remedies", "charged"), [("plain", True), ("anneal", True), ("beta", False), ("infovae", False), ("mae", True)]
)
def test_whether_the_rate_is_charged_in_the_end_is_the_specs_to_say(remedies: str, charged: bool) -> None:
    from uncollapse.experiment.compose import compose
    from uncollapse.experiment.spec import validated

    assert fitting._charged(validated(compose("demo", [remedies])).training) == charged


def test_fit_names_its_folder_after_recipe_remedies_and_seed(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    remedies = ["--with", "anneal", "--with", "aggressive", "--seed", "4"]
    out = ask(capsys, "fit", "text", "--train", text, *remedies, "--samples", 0, "--items", 4, "--json", *SET)
    report = json.loads(out)
    assert report["run"] == "runs/text-aggressive+anneal-seed4"
    assert report["remedy"] == "aggressive+anneal"
    assert "seed: 4\n" in (tmp_path / report["run"] / "spec.yaml").read_text(encoding="utf-8")
    assert "unavailable" in report["nll"]
    assert (tmp_path / report["run"] / "evaluation-test-k0-n4-s0.json").is_file()


def test_fit_takes_relative_paths_splits_labels_and_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "v.txt", "t.txt"):
        write_text(tmp_path / name, 20, before="1\t")
    files = ["--train", "a.txt", "--set", "data.valid=v.txt", "--test", "t.txt", "--labels", "--characters"]
    ask(
        capsys, "fit", "text", *files, *SET, "--set", "training.max_epochs=1", "--samples", 1, "--out", "run", "--quiet"
    )
    monkeypatch.chdir(tmp_path.parent)
    ask(capsys, "evaluate", tmp_path / "run", "--samples", 1, "--split", "valid")
    words = json.loads((tmp_path / "run" / "vocabulary.json").read_text(encoding="utf-8"))
    assert words["tokens"] == "characters"
    assert not {"1", "\t"} & set(words["words"])


def test_another_kind_of_data_keeps_only_the_batching_of_a_recipe(
    tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--recipe", "demo", "--set", "training.max_epochs=1", "--set", "data.size=5"]
    ask(capsys, "fit", "text", "--train", text, *small, "--samples", 0, "--out", tmp_path / "run", "--quiet")
    spec = (tmp_path / "run" / "spec.yaml").read_text(encoding="utf-8")
    assert "kind: text" in spec
    assert "size: 5" in spec


def test_fit_writes_for_tensorboard(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    options = ["--samples", 0, "--out", tmp_path / "run", "--tensorboard", "--quiet"]
    ask(capsys, "fit", "text", "--train", text, *SET, *options)
    scalars = drawn(tmp_path / "run" / "tensorboard")
    assert scalars == sorted(set(scalars))


def drawn(folder: Path) -> list[int]:
    """The steps at which TensorBoard shows a loss."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [one.step for one in events.Scalars("epoch/neg_elbo")]


def test_tensorboard_shows_no_step_twice_where_a_run_goes_on_from_an_earlier_one(
    tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    fit = ["fit", "text", "--train", text, *SET, "--samples", 0, "--out", run, "--tensorboard", "--quiet"]
    fit += ["--set", "training.max_epochs=3"]
    ask(capsys, *fit)
    before = drawn(run / "tensorboard")
    newest = max((run / "checkpoints").glob("last-*"))
    newest.write_bytes(newest.read_bytes()[:-1])
    ask(capsys, *fit)
    assert len(list((run / "tensorboard").iterdir())) == 2
    assert drawn(run / "tensorboard") == before
    assert len(before) == 3


def test_the_same_fit_again_trains_no_more(trained: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "metrics.jsonl").read_bytes()
    ask(capsys, "fit", "text", "--train", text, "--out", trained, "--samples", 3, "--quiet", *SET)
    assert (trained / "metrics.jsonl").read_bytes() == before


def test_evaluate_prints_one_json_document(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(ask(capsys, "evaluate", trained, "--samples", 3, "--json"))
    assert {"value", "se", "n", "unit", "cap"} <= report["nll"].keys()
    assert set(FIGURES) <= report.keys()
    assert report["verdict"].startswith("collapsed")


def test_evaluate_prints_figures_and_a_verdict(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ask(capsys, "evaluate", trained, "--samples", 3, "--split", "train", "--items", 5, "--seed", 1)
    assert "nll" in out
    assert out.rstrip().splitlines()[-1].startswith("collapsed")
    assert (trained / "evaluation-train-k3-n5-s1.json").is_file()


# A run in use.


@pytest.mark.parametrize("decode", ["greedy", "beam", "sample"])
def test_generate_writes_as_many_lines_as_asked(trained: Path, decode: str, capsys: pytest.CaptureFixture[str]) -> None:
    extra = {"greedy": [], "beam": ["--width", 2], "sample": ["--temperature", 0.5]}[decode]
    out = ask(capsys, "generate", trained, "-n", 3, "--decode", decode, *extra)
    assert len(out.splitlines()) == 3


def test_texts_are_as_long_as_asked(trained: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["generate", trained], ["reconstruct", trained, other], ["interpolate", trained, "cat", "dog"]):
        lines = ask(capsys, *command, "--decode", "sample", "--max-length", 2).splitlines()
        assert max(len(line.split()) for line in lines) == 2
    assert max(len(line.split()) for line in ask(capsys, "generate", trained).splitlines()) > 2


def test_generate_repeats_itself_for_a_seed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [json.loads(ask(capsys, "generate", trained, "--seed", s, "--json"))["texts"] for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 20


def test_reconstruct_answers_every_item(trained: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(ask(capsys, "reconstruct", trained, other).splitlines()) == 3
    drawn = json.loads(ask(capsys, "reconstruct", trained, other, "--sample", "--decode", "beam", "--json"))
    assert len(drawn["texts"]) == 3


def test_interpolate_walks_in_steps(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ask(capsys, "interpolate", trained, "the cat sees a dog", "the dog", "--steps", 4)
    assert len(out.split("\n")) == 5
    assert len(json.loads(ask(capsys, "interpolate", trained, "the cat", "the dog", "--json"))["texts"]) == 5


def test_encode_stores_means_or_draws(
    tmp_path: Path, trained: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, extra in {"mean": [], "again": [], "draw": ["--sample", "--seed", "1"]}.items():
        ask(capsys, "encode", trained, other, "-o", tmp_path / name, *extra)
    mean, again, draw = (np.load(tmp_path / name) for name in ("mean", "again", "draw"))
    assert mean.shape == (3, 2)
    np.testing.assert_array_equal(mean, again)
    assert not np.allclose(mean, draw)


def test_encode_leaves_every_other_file_alone(
    tmp_path: Path, trained: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = [tmp_path / name for name in ("z.partial", "z.npy.partial")]
    for path in mine:
        path.write_text("mine")
    ask(capsys, "encode", trained, other, "-o", tmp_path / "z.npy")
    assert [path.read_text() for path in mine] == ["mine", "mine"]
    assert {path.name for path in tmp_path.glob("z*")} == {"z.npy", "z.partial", "z.npy.partial"}


def test_encode_replaces_what_a_link_leads_to_and_not_the_link(
    tmp_path: Path, trained: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "target.npy").touch()
    (tmp_path / "link.npy").symlink_to(tmp_path / "target.npy")
    ask(capsys, "encode", trained, other, "-o", tmp_path / "link.npy")
    assert (tmp_path / "link.npy").is_symlink()
    assert np.load(tmp_path / "target.npy").shape[1] == 2


def test_encode_says_in_json_what_it_stored(
    tmp_path: Path, trained: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = json.loads(ask(capsys, "encode", trained, other, "-o", tmp_path / "z.npy", "--json"))
    assert said == {"file": str(tmp_path / "z.npy"), "shape": [3, 2]}


def test_encode_takes_the_labels_off(
    tmp_path: Path, trained: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled = tmp_path / "labelled.txt"
    labelled.write_text("a\tthe cat sees a dog\nb\ta zebra\nc\tthe dog\n", encoding="utf-8")
    ask(capsys, "encode", trained, other, "-o", tmp_path / "z.npy")
    ask(capsys, "encode", trained, labelled, "-o", tmp_path / "labelled.npy", "--labels")
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), np.load(tmp_path / "labelled.npy"))


# Comparisons; each cell is a process.


@pytest.fixture(scope="module")
def compared(text: Path) -> Path:
    out = text.parent / "compared"
    assert main([*compare_arguments(text, out), "--remedies", "plain"]) == 0
    return out


def compare_arguments(text: Path, out: Path) -> list[str]:
    rest = ["--seeds", "1", "--samples", "3", "--out", str(out)]
    return ["compare", "text", "--train", str(text), *SET, *rest]


def test_compare_goes_on_and_adds_a_remedy(text: Path, compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extended = [*compare_arguments(text, compared), "--remedies", "plain,anneal+plain,plain"]
    assert main(extended) == 0
    out, progress = capsys.readouterr()
    assert "plain, seed 0  running" not in progress
    assert "anneal, seed 0  running" in progress
    rows = json.loads((compared / "comparison.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["remedy"], row["seed"]) for row in rows] == [("plain", 0), ("anneal", 0)]
    assert all({"value", "se", "n", "unit", "cap"} <= row[figure].keys() for row in rows for figure in FIGURES)
    assert "remedy − plain" in out
    assert str(compared / "comparison.json") in out
    assert json.loads(ask(capsys, *extended, "--json"))["rows"] == rows


def begun(out: Path, fit_arguments: list[str]) -> Path:
    """The folder of a comparison that has no cell yet."""
    (out / "cells").mkdir(parents=True)
    (out / "compare.json").write_text(json.dumps({"fit": fit_arguments}), encoding="utf-8")
    return out


def test_compare_says_which_cells_failed(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = begun(tmp_path / "out", Options(train=text, overrides=VALUES).arguments("text"))
    (out / "cells" / "plain-seed0").mkdir()
    (out / "cells" / "plain-seed0" / "mine.txt").write_text("not a run", encoding="utf-8")
    assert main([*compare_arguments(text, out), "--remedies", "plain"]) == 3
    shown, error = capsys.readouterr()
    assert "failed" in shown
    assert error.rstrip().splitlines()[-1].startswith("uncollapse: 1 of 1 cells failed: ")


def test_demo_ends_with_a_table_verdicts_and_sentences(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Its cells are made here, of a text that is read faster than the standard library; .ci/run runs all of it.
    monkeypatch.setattr(stdlib, "sentences", text.read_text(encoding="utf-8").splitlines)
    values = (*VALUES, "data.train=60", "data.valid=10", "data.test=10")
    out = begun(tmp_path / "demo", Options(overrides=values).arguments("stdlib"))
    options = [part for value in values for part in ("--set", value)]
    for remedy in ("plain", "anneal", "aggressive"):
        cell = ["--with", remedy, "--out", out / "cells" / f"{remedy}-seed1"]
        ask(capsys, "fit", "stdlib", *options, *cell, "--seed", 1, "--samples", 2, "--quiet")

    shown = ask(capsys, "demo", "--seed", 1, "--samples", 2, "--out", out, *options)
    lines = shown.rstrip().splitlines()
    assert "latent skip" in shown
    for remedy in ("plain", "anneal", "aggressive"):
        assert any(line.startswith(f"{remedy} ") and "collapsed: 0 of 2 units active" in line for line in lines)
    assert "Sentences from the prior of the model with aggressive training:" in lines
    assert lines[-2].startswith(str(out / "comparison.json"))
    assert re.fullmatch(rf"{re.escape(str(out))}/report\.(html|md) is the report: .*", lines[-1])
    report = Path(lines[-1].split(" is the report")[0]).read_text(encoding="utf-8")
    assert "From the prior" in report
    assert "3 runs: " in report
    rows = json.loads((out / "comparison.json").read_text(encoding="utf-8"))["rows"]
    assert [row["remedy"] for row in rows] == ["plain", "anneal", "aggressive"]


# As a process.


def test_a_reader_that_has_seen_enough_ends_it_silently(trained: Path) -> None:
    command = f"{sys.executable} -m uncollapse generate '{trained}' -n 20000 --decode greedy | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], check=False, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 128 + signal.SIGPIPE


# A test run in the background hands on that interruptions are ignored; a person's shell does not.
LISTEN = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
ENDLESS = ["--set", "training.max_epochs=100000", "--set", "training.plateau=null"]
STOPPED = "uncollapse: stopped; the same command goes on from the last checkpoints."
KEPT = r"uncollapse: stopped at step \d+; the same command goes on from there\."


def stopped(arguments: list[str], log: Path, by: signal.Signals, deaf: bool = False) -> tuple[int, str]:
    """The status and the standard error, unless it is gone, of an endless command that is stopped after an epoch."""
    command = [sys.executable, "-c", f"{LISTEN}from uncollapse.cli import main; sys.exit(main())"]
    process = subprocess.Popen([*command, *arguments, *SET, *ENDLESS], stderr=subprocess.PIPE, text=True)
    if deaf:
        assert process.stderr
        process.stderr.close()
        process.stderr = None
    deadline = time.monotonic() + 60
    while not (log.is_file() and '"epoch"' in log.read_text(encoding="utf-8")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(by)
    _, error = process.communicate(timeout=60)
    return process.returncode, error or ""


@pytest.mark.parametrize(("by", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_says_how_to_go_on(tmp_path: Path, text: Path, by: signal.Signals, status: int) -> None:
    arguments = ["fit", "text", "--train", str(text), "--out", str(tmp_path / "run")]
    ended, error = stopped(arguments, tmp_path / "run" / "metrics.jsonl", by)
    assert ended == status
    assert re.fullmatch(KEPT, error.splitlines()[-1])
    assert "Traceback" not in error
    last = max((tmp_path / "run" / "checkpoints").glob("last-*.safetensors")).stem.removeprefix("last-")
    assert f"step {int(last)};" in error


@pytest.mark.parametrize(("by", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_is_one_where_nobody_hears_of_it(
    tmp_path: Path, text: Path, by: signal.Signals, status: int
) -> None:
    arguments = ["fit", "text", "--train", str(text), "--out", str(tmp_path / "run"), "--quiet"]
    assert stopped(arguments, tmp_path / "run" / "metrics.jsonl", by, deaf=True)[0] == status


def test_a_command_without_checkpoints_promises_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalogue, "recipes", mock.Mock(side_effect=KeyboardInterrupt))
    assert main(["recipes"]) == 130
    assert capsys.readouterr().err == "uncollapse: stopped.\n"


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_comparison_that_is_stopped_ends_its_cells(tmp_path: Path, text: Path, by: signal.Signals) -> None:
    arguments = ["compare", "text", "--train", str(text), "--remedies", "plain", "--seeds", "1"]
    cell = tmp_path / "out" / "cells" / "plain-seed0"
    ended, error = stopped([*arguments, "--out", str(tmp_path / "out")], cell / "metrics.jsonl", by)
    assert ended == 128 + by
    assert error.splitlines()[-1] == STOPPED
    with locked(cell):  # As nobody trains in it any more.
        assert re.fullmatch(KEPT, cell.with_name("plain-seed0.log").read_text(encoding="utf-8").splitlines()[-1])


def test_the_cells_of_a_comparison_that_is_killed_end_too_and_keep_their_step(tmp_path: Path, text: Path) -> None:
    arguments = ["compare", "text", "--train", str(text), "--remedies", "plain", "--seeds", "1"]
    cell = tmp_path / "out" / "cells" / "plain-seed0"
    ended, _ = stopped([*arguments, "--out", str(tmp_path / "out")], cell / "metrics.jsonl", signal.SIGKILL)
    assert ended == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while is_held(cell):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    said = cell.with_name("plain-seed0.log")
    while not said.read_text(encoding="utf-8").endswith("\n") or "stopped at" not in said.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert re.fullmatch(KEPT, said.read_text(encoding="utf-8").splitlines()[-1])


def test_a_second_training_or_comparison_in_one_folder_is_refused(
    trained: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", "text", "--train", str(text), "--out", str(trained), "--samples", "3", "--quiet", *SET]
    with locked(trained):
        assert main(fit) == 2
    assert capsys.readouterr().err.startswith(f"uncollapse: another process is training in `{trained}`: wait for it")
    out = begun(tmp_path / "out", Options(train=text, overrides=VALUES).arguments("text"))
    with held(out, "comparing"):
        assert main([*compare_arguments(text, out), "--remedies", "plain"]) == 2
    assert capsys.readouterr().err.startswith(f"uncollapse: another process is comparing in `{out}`: wait for it")
