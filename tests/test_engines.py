"""Engines: the same cells here, on a Ray cluster that loses a node, and on Slurm, with the same figures."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from test_cli import SET, write_text
from uncollapse.cli import main
from uncollapse.errors import InputError
from uncollapse.experiment.engines import Where
from uncollapse.experiment.engines.cells import Cell, Ended, run_here
from uncollapse.experiment.engines.on_slurm import OnSlurm

#: A training of a quarter of a minute.
SLOW = ("--set", "training.max_epochs=250", "--set", "training.plateau=null")


def _epochs(log: Path) -> list[int]:
    """Those that a run's log has."""
    lines = log.read_text().splitlines() if log.is_file() else []
    return [json.loads(line)["epoch"] for line in lines if '"kind": "epoch"' in line]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("engines") / "a.txt", 60)


def compared(out: Path, text: Path, *more: str) -> dict[str, Any]:
    """The figures of a tiny comparison, by cell."""
    asked = [
        "compare",
        "text",
        "--train",
        str(text),
        "--remedies",
        "plain,beta",
        "--seeds",
        "1",
        "--samples",
        "3",
        *SET,
    ]
    assert main([*asked, "--cell-cpus", "1", "--out", str(out), *more]) == 0
    rows = json.loads((out / "comparison.json").read_text())["rows"]
    return {row["remedy"]: {name: row[name] for name in ("nll", "neg_elbo", "kl", "mi")} for row in rows}


@pytest.fixture(scope="module")
def here(text: Path) -> dict[str, Any]:
    return compared(text.parent / "local", text)


# What an engine refuses.


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (Where(gpus=1), "leave out `--cell-gpus` and `--cell-memory`"),
        (Where(memory=2.0), "leave out `--cell-gpus` and `--cell-memory`"),
        (Where(address="auto"), "`--address` is for `--engine ray`, and cells run by `local`"),
        (Where("ray", slurm=["partition=gpu"]), "`--slurm` is for `--engine slurm`, and cells run by `ray`"),
    ],
)
def test_what_an_engine_has_no_use_for_is_refused(where: Where, said: str) -> None:
    with pytest.raises(InputError, match=said):
        where.check()


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_that_is_not_installed_says_how(engine: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uncollapse.experiment.engines.find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"needs `{package}` on all machines: `pip install 'uncollapse\[{engine}\]'`"):
        Where(engine).check()


def test_a_machine_without_the_comparisons_folder_says_its_name(tmp_path: Path) -> None:
    ended = run_here(Cell(("fit",), tmp_path / "gone" / "cell", tmp_path / "log", tmp_path), 1)
    assert ended.status == 1
    assert (
        f"`{os.uname().nodename}` has no `{tmp_path / 'gone'}`: cells need folders that all machines share" in ended.why
    )


def test_a_cell_gets_the_threads_that_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho $OMP_NUM_THREADS\n")
    program.chmod(0o755)
    monkeypatch.setattr("uncollapse.experiment.engines.cells.sys.executable", str(program))
    cell = Cell(("fit",), tmp_path / "cell", tmp_path / "log", tmp_path)
    assert Where(cpus=3).begin(tmp_path, 1).run(cell) == Ended(0)
    assert cell.log.read_text() == "3\n"


# Ray: a cluster of two nodes, of which one is lost.


@pytest.fixture
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


def _until(there: Any, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := there()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_cells_of_a_node_that_is_lost_go_on_on_another_from_their_last_checkpoints(
    cluster: Any, text: Path, here: dict[str, Any], tmp_path: Path
) -> None:
    first = cluster.add_node(num_cpus=1)
    out, log = tmp_path / "ray", tmp_path / "ray" / "cells" / "plain-seed0" / "metrics.jsonl"
    command = ["compare", "text", "--train", str(text), "--remedies", "plain", "--seeds", "1", "--samples", "3", *SET]
    ray = ["--engine", "ray", "--address", cluster.address]
    with subprocess.Popen(
        [sys.executable, "-m", "uncollapse", *command, *SLOW, "--out", str(out), *ray],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        _until(lambda: _epochs(log)[3:])
        cluster.remove_node(first, allow_graceful=False)
        assert len(_epochs(log)) < 200
        cluster.add_node(num_cpus=1)
        said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert _epochs(log) == list(range(1, 251))
    (row,) = json.loads((out / "comparison.json").read_text())["rows"]
    # As by one process that nobody has stopped.
    alone = tmp_path / "alone"
    assert main([*command, *SLOW, "--out", str(alone), "--cell-cpus", "1"]) == 0
    (other,) = json.loads((alone / "comparison.json").read_text())["rows"]
    assert all(row[name] == other[name] for name in ("nll", "kl", "mi"))


def test_an_address_where_no_cluster_is_is_refused_before_any_cell(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    asked = ["compare", "text", "--train", str(text), "--remedies", "plain", "--seeds", "1", "--samples", "3", *SET]
    assert main([*asked, "--out", str(tmp_path / "out"), "--engine", "ray", "--address", "127.0.0.1:1"]) == 2
    assert "there is no Ray cluster at `127.0.0.1:1`" in capsys.readouterr().err


# Slurm.


def test_the_local_executor_of_submitit_runs_the_same_cells(
    text: Path, here: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    monkeypatch.setattr(OnSlurm.__init__, "__defaults__", ("local",))  # In place of Slurm's.
    monkeypatch.setattr("uncollapse.experiment.engines.which", lambda name: name)
    assert compared(tmp_path / "slurm", text, "--engine", "slurm") == here


def _parent_of(folder: Path) -> int | None:
    """The process that has started the one that trains in a folder."""
    for there in Path("/proc").glob("[0-9]*"):
        try:
            words = (there / "cmdline").read_bytes().split(b"\0")
            if b"fit" in words and str(folder).encode() in words:
                return int(
                    next(x for x in (there / "status").read_text().splitlines() if x.startswith("PPid")).split()[1]
                )
        except OSError:
            pass  # It has ended.
    return None


def test_a_job_that_is_lost_is_submitted_again_and_goes_on(text: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    folder = tmp_path / "cell"
    asked = ["fit", "text", "--train", str(text), *SET, *SLOW, "--samples", "3", "--quiet", "--out", str(folder)]
    engine = OnSlurm(tmp_path / "slurm", 1, 0, None, [], tries=1, cluster="local")
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(engine.run, Cell(tuple(asked), folder, tmp_path / "log", tmp_path))
        _until(lambda: _epochs(folder / "metrics.jsonl")[3:])
        os.kill(_until(lambda: _parent_of(folder)), signal.SIGKILL)
        assert len(_epochs(folder / "metrics.jsonl")) < 200
        assert ended.result(timeout=120) == Ended(0)
    assert _epochs(folder / "metrics.jsonl") == list(range(1, 251))


def test_a_job_without_tries_left_says_why_it_was_lost(text: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    folder = tmp_path / "cell"
    asked = ["fit", "text", "--train", str(text), *SET, *SLOW, "--samples", "3", "--quiet", "--out", str(folder)]
    engine = OnSlurm(tmp_path / "slurm", 1, 0, None, [], tries=0, cluster="local")
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(engine.run, Cell(tuple(asked), folder, tmp_path / "log", tmp_path))
        os.kill(_until(lambda: _parent_of(folder)), signal.SIGKILL)
        found = ended.result(timeout=60)
    assert found.status == 1
    assert "was lost: " in found.why
    _until(lambda: _parent_of(folder) is None)  # The cell has ended by itself.
    engine.stop()
    assert engine.run(Cell(tuple(asked), folder, tmp_path / "log", tmp_path)) == Ended(1, "it was not begun.")


SBATCH = """#!/bin/sh
cp "$1" "$(dirname "$0")/asked.sh"
echo Submitted batch job 12
"""


def test_a_job_asks_slurm_for_what_a_cell_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    for name, content in (("sbatch", SBATCH), ("srun", ""), ("scancel", "#!/bin/sh\necho $@ > $(dirname $0)/ended\n")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    where = Where("slurm", cpus=3, gpus=1, memory=4, slurm=["partition=gpu", "time=240", "constraint=a100"])
    where.check()
    engine: Any = where.begin(tmp_path, 1)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(engine.run, Cell(("fit",), tmp_path / "cell", tmp_path / "log", tmp_path))
        asked = set(
            _until(lambda: (tmp_path / "asked.sh").is_file() and (tmp_path / "asked.sh").read_text()).splitlines()
        )
        assert {f"#SBATCH --{one}" for one in ("cpus-per-task=3", "gpus-per-node=1", "mem=4GB", "time=240")} <= asked
        assert {"#SBATCH --partition=gpu", "#SBATCH --constraint=a100", "#SBATCH --job-name=uncollapse"} <= asked
        _until(lambda: engine._jobs)
        engine.stop()
        assert (tmp_path / "ended").read_text() == "12\n"
        (tmp_path / "slurm" / "12_0_result.pkl").write_bytes(pickle.dumps(("success", Ended(0))))
        assert ended.result(timeout=60) == Ended(0)


@pytest.mark.parametrize("said", ["partition", "=gpu", "time=4:00"])
def test_what_sbatch_does_not_understand_is_refused(said: str, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    with pytest.raises(InputError, match="says nothing to `sbatch`: write NAME=VALUE"):
        OnSlurm(tmp_path / "slurm", 1, 0, None, [said], tries=0, cluster="local")


def test_where_no_slurm_is_it_says_so(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    with pytest.raises(InputError, match="there is no Slurm here: no `sbatch` is found"):
        Where("slurm").begin(tmp_path, 1)
