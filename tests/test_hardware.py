"""Processes that something else has started, what is refused, and the whole of it through `torchrun`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from test_cli import VALUES, write_text
from uncollapse.cli import main
from uncollapse.cli.options import Options
from uncollapse.errors import InputError
from uncollapse.experiment import hardware
from uncollapse.experiment.hardware import launch
from uncollapse.training.checkpoints import Checkpoints

SETTINGS = [word for value in VALUES for word in ("--set", value)]


def test_torchrun_trains_and_evaluates_as_one_process_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = write_text(tmp_path / "a.txt", 60)
    command = ["fit", "text", "--train", str(text), "--with", "aggressive", *SETTINGS]
    command += ["--set", "training.max_epochs=1", "--samples", "5", "--json"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "uncollapse"]
    ran = subprocess.run([*torchrun, *command, "--out", str(tmp_path / "two")], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert main([*command, "--out", str(tmp_path / "one")]) == 0

    one, two = json.loads(capsys.readouterr().out), json.loads(ran.stdout)
    for name in ("nll", "neg_elbo", "kl", "mi"):
        assert two[name]["value"] == pytest.approx(one[name]["value"], rel=1e-4, abs=1e-5)
    files = [{p.relative_to(tmp_path / run) for p in (tmp_path / run).rglob("*")} for run in ("one", "two")]
    assert files[0] == files[1]
    last = [Checkpoints(tmp_path / run / "checkpoints").last() for run in ("one", "two")]
    assert last[0] is not None
    assert last[1] is not None
    assert last[0].state["procedure"] == last[1].state["procedure"]
    for name, tensor in last[0].tensors.items():
        assert last[1].tensors[name].float() == pytest.approx(tensor.float(), abs=1e-4)


def test_a_comparison_trains_each_cell_in_as_many_processes_as_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write_text(tmp_path / "a.txt", 60)
    command = ["compare", "text", "--train", str(text), "--remedies", "plain", "--seeds", "1", "--devices", "2"]
    command += [*SETTINGS, "--set", "training.max_epochs=1", "--samples", "2", "--out", str(tmp_path / "out")]
    assert main(command) == 0, capsys.readouterr()


def test_half_precision_on_a_cpu_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = write_text(tmp_path / "a.txt", 30)
    command = ["fit", "text", "--train", str(text), "--precision", "bf16-mixed", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "precision `bf16-mixed` is for a GPU" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_unknown_strategy_or_precision_is_refused() -> None:
    with pytest.raises(InputError, match="unknown strategy `dp`"):
        launch(strategy="dp")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="unknown precision `16`"):
        launch(precision="16")  # pyright: ignore[reportArgumentType]


def test_one_process_needs_no_fabric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    assert launch() == hardware.ONE
    with pytest.raises(InputError, match=r"pip install 'uncollapse\[processes\]'"):
        launch(devices=2)


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"}, (3, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4"}, (4, 2)),
        ({"SLURM_NTASKS": "1"}, None),
        ({"SLURM_NTASKS": "4", "TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, (2, 1)),
    ],
)
def test_processes_that_were_started_are_counted(
    environment: dict[str, str], found: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert hardware.started() == found


def test_a_comparisons_cells_are_told_what_to_run_on() -> None:
    text = Path("a.txt").resolve()
    assert "--devices" not in Options(train=text).arguments("text")
    said = Options(train=text, devices=2, strategy="fsdp", precision="bf16-mixed").arguments("text")
    assert " ".join(said).endswith(f"--devices 2 --strategy fsdp --precision bf16-mixed --train {text}")


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"TORCHELASTIC_RUN_ID": "1"}, "LOCAL_WORLD_SIZE says `None`"),
        ({"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "two"}, "WORLD_SIZE says `two`"),
        ({"SLURM_NTASKS": "x"}, "SLURM_NTASKS says `x`"),
        ({"SLURM_NTASKS": "0"}, "SLURM_NTASKS says `0`"),
    ],
)
def test_an_environment_that_names_no_number_of_processes_is_refused(
    said: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in said.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=f"{name}, which is no number of processes: start with `torchrun`"):
        launch()


def test_a_script_that_is_in_no_file_cannot_start_itself_again() -> None:
    code = "from uncollapse.experiment.hardware import launch; launch(devices=2)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1].endswith("this one is in no file: store it in one, or start it with `torchrun`.")


LEFT = """
import os, signal, subprocess, sys, time
from uncollapse.experiment.hardware import launch
from lightning_fabric.strategies.launchers import subprocess_script
subprocess_script._ChildProcessObserver.__init__.__defaults__ = (0.1,)
launch(devices=2)
if "LOCAL_RANK" in os.environ and os.environ["LOCAL_RANK"] == "1":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)  # Work of its own, in which nothing is exchanged.
"""


def test_a_process_that_works_by_itself_says_that_another_has_died(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(LEFT)
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=50, check=False)
    assert ran.returncode == 3
    assert ran.stderr.splitlines()[-1].startswith("uncollapse: another process of this training has ended")
