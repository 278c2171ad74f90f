"""`diagnose` and `rescue` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from uncollapse.cli import main
from uncollapse.diagnosis.advice import Commands, advised
from uncollapse.diagnosis.findings import VERDICTS
from uncollapse.experiment.compose import compose
from uncollapse.experiment.examine import _weighing, start
from uncollapse.experiment.spec import validated


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnosed")
    lines = [f"{a} {b} {c}" for a in "abcd" for b in "efgh" for c in "ijklm"] * 2
    (folder / "t.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    small = [f"model.{half}.{size}=8" for half in ("encoder", "decoder") for size in ("hidden", "embedding")]
    sets = [part for value in (*small, "model.latent=2", "training.max_epochs=3") for part in ("--set", value)]
    asked = ["fit", "text", "--train", str(folder / "t.txt"), "--out", str(folder / "run"), "--samples", "0", "--quiet"]
    assert main([*asked, "--with", "anneal", *sets]) == 0
    return folder / "run"


def test_a_run_is_diagnosed_by_its_log_with_commands_that_start_from_it(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", str(run), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    found = {one["name"]: one for one in said["findings"]}
    assert found["training"]["value"] is not None
    assert found["loss-scale"]["value"] == pytest.approx(0.37, abs=0.01)  # 0.1 + 0.9 * 3 / 10: it never reached 1.
    assert "places" in found
    command = found["training"]["command"]
    assert command.startswith("uncollapse fit text --train ")
    assert "--set model.latent=2" in command
    assert "--with anneal" in command
    assert str(run) in command


def test_a_factory_is_imported_and_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "somebodys.py").write_text(
        "import uncollapse as uc\nfrom torch import nn\n\n\ndef make():\n"
        "    mean, back = nn.Linear(3, 2), nn.Linear(2, 3)\n"
        "    return uc.foreign(nn.ModuleList([mean, back]), encode=lambda x: (mean(x), 0 * mean(x)), decode=back,"
        ' likelihood="gaussian")\n',
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    rows = np.random.default_rng(0).normal(size=(60, 3))
    np.save("x.npy", rows)
    np.savez("x.npz", rows=rows)
    np.savetxt("x.txt", rows)
    for file in ("x.npy", "x.npz", "x.txt"):
        assert main(["diagnose", "somebodys:make", "--data", file, "--json"]) == 0
        printed = capsys.readouterr()
        assert "importing and running `somebodys:make`" in printed.err
        assert json.loads(printed.out)["verdict"] in VERDICTS
    assert main(["diagnose", "somebodys:make"]) == 2
    assert "gives a model and no data" in capsys.readouterr().err
    assert main(["diagnose", "nobodys:make"]) == 2
    assert main(["diagnose", str(tmp_path), "--data", "x.npy"]) == 2
    assert "`--data` is for a model of your own" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("remedies", "command"),
    [
        (["beta", "skip"], "uncollapse fit text --with skip --out run-again"),
        (["skip"], "uncollapse fit text --with skip --set training.objective.weights.rate=1.0 --out run-again"),
    ],
)
def test_after_a_mismatch_the_weight_of_the_rate_is_set_where_no_remedy_moves_it(
    remedies: list[str], command: str
) -> None:
    ways = Commands("uncollapse fit text", remedies, "run", _weighing([*remedies, "somebodys"]))
    assert advised("mismatched", ways).command == command
    charged = advised("mismatched", ways, charged=True)
    assert charged.command.endswith("+mixture-prior --out run-mixture-prior")
    assert "1 already" in charged.advice


@pytest.mark.parametrize(
    ("remedy", "says"), [("beta", "Weigh the KL by 1"), ("anneal", "schedule"), ("plain", "")], ids=lambda one: one
)
def test_a_weight_below_one_is_told_from_a_climb_that_has_not_ended(
    remedy: str, says: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["model.latent=2", "training.max_epochs=1", "model.encoder.hidden=8", "model.decoder.hidden=8"]
    sets = [part for value in small for part in ("--set", value)]
    asked = ["fit", "text", "--train", str(run.parent / "t.txt"), "--out", str(tmp_path / "run"), "--with", remedy]
    assert main([*asked, *sets, "--samples", "0", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["diagnose", str(tmp_path / "run"), "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}["loss-scale"]
    assert says in found["advice"]
    assert bool(found["advice"]) == bool(says)
    if remedy == "beta":
        assert found["command"].startswith("uncollapse fit text --train ")
        assert "--with" not in found["command"]


def test_remedies_that_weigh_the_rate_are_known() -> None:
    assert _weighing(["anneal", "free-bits", "cyclical", "beta", "aggressive", "plain"]) == [
        "anneal",
        "cyclical",
        "beta",
    ]


STILL = [
    part for half in ("inference", "generation") for part in ("--set", f"training.optimisers.{half}.learning_rate=1e-9")
]
ONCE = ["--set", "training.max_epochs=1", "--quiet", "--samples", "5", "--json"]


@pytest.mark.parametrize("reset", [False, True])
def test_a_rescue_starts_from_the_run_s_weights(
    run: Path, reset: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a learning rate of next to nothing it stays there, but for a decoder that starts anew."""
    asked = ["rescue", str(run), "--with", "free-bits", "--out", str(tmp_path / "out"), *ONCE, *STILL]
    assert main([*asked, *["--reset-decoder"] * reset]) == 0
    found = json.loads(capsys.readouterr().out)
    before, after = (found[name]["nll"]["value"] for name in ("before", "after"))
    assert (after == pytest.approx(before, abs=1e-3)) is not reset
    about = json.loads((tmp_path / "out" / "environment.json").read_text(encoding="utf-8"))
    assert about["asked"]["remedy"] == "anneal+free-bits"


def test_a_remedy_that_changes_the_model_rescues_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rescue", str(run), "--with", "skip", "--out", str(tmp_path / "out"), *ONCE]) == 2
    assert "`skip` changes the model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_command_names_the_files_of_a_kind_that_has_any_and_all_settings() -> None:
    spec = validated(compose("demo", ["anneal"], ["data.size=900"]))
    assert start(spec, {"recipe": "demo", "remedy": "anneal"}) == "uncollapse fit demo --set data.size=900"
