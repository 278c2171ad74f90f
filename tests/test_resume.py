"""Nothing is lost: kills, interruptions, full disks, damaged checkpoints, and two runs in one folder."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

import uncollapse as uc
from test_trainer import Killed, Stochastic, data, small, told, trainer, weights
from uncollapse.experiment import run as runs
from uncollapse.signals import PARENT, Terminated, terminable
from uncollapse.training import checkpoints, interruption
from uncollapse.training.checkpoints import Checkpoints, newest_best, read
from uncollapse.training.events import Event
from uncollapse.training.listeners import JSONLines, Moment
from uncollapse.training.play import Stage
from uncollapse.training.procedures import Aggressive, Joint
from uncollapse.training.trainer import Trainer

KILLS = Path(__file__).resolve().parents[1] / "benchmarks" / "kills.py"


def at(kind: str, step: int, do: Callable[[], Any]) -> Callable[[Moment], None]:
    """A listener that does something at one moment."""

    def listener(moment: Moment) -> None:
        if (moment.kind, moment.step) == (kind, step):
            do()

    return listener


def die() -> None:
    raise Killed


def whole(folder: Path, procedure: Any = None, **settings: Any) -> Trainer:
    """A run that nothing happens to."""
    run = trainer(folder / "whole", procedure or Joint(), JSONLines(folder / "whole.jsonl"), **settings)
    run.fit()
    return run


def begun(folder: Path, *listeners: Any, procedure: Any = None, **settings: Any) -> Trainer:
    log = JSONLines(folder / "cut.jsonl")
    return trainer(folder / "cut", procedure or Joint(), log, *listeners, **settings)


def assert_same(folder: Path, one: Trainer, other: Trainer) -> None:
    assert torch.equal(weights(one), weights(other))
    assert told(folder / "whole.jsonl") == told(folder / "cut.jsonl")


# Kills.


@pytest.mark.timeout(900)  # Seconds on a quiet machine.
def test_runs_killed_at_any_moment_end_as_the_run_that_was_not(tmp_path: Path) -> None:
    command = [sys.executable, str(KILLS), str(tmp_path / "kills"), "--kills", "20"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n20 kills in " in done.stdout
    assert done.stdout.endswith("mismatches: 0\n")


@pytest.mark.parametrize("kind", ["window", "epoch"])
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_what_was_told_before_a_kill_is_told_once(tmp_path: Path, kind: str, seconds: float) -> None:
    one = whole(tmp_path)
    with pytest.raises(Killed):
        begun(tmp_path, at(kind, 24, die), window=7).fit()
    other = begun(tmp_path, window=7)
    one = trainer(tmp_path / "again", Joint(), JSONLines(tmp_path / "whole.jsonl"), window=7)
    one.fit()
    other.loop.checkpoint_seconds = seconds
    other.fit()
    assert_same(tmp_path, one, other)


class Drawing(list[Tensor]):
    """Batches with noise of the moment."""

    def __getitem__(self, i: Any) -> Any:
        return super().__getitem__(i) + torch.randn(())


@pytest.mark.parametrize("step", [12, 13])
def test_what_events_and_data_draw_does_not_depend_on_kills(tmp_path: Path, step: int) -> None:
    def draw(run: Stage) -> None:
        with torch.no_grad():
            for parameter in run.model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))

    def made(*listeners: Any, folder: Path | None = None) -> Trainer:
        events = [Event("epoch", 1, draw), Event("validation", 1, draw), Event("step", 14, draw)]
        run = trainer(folder, Joint(), *listeners, events=events)
        run.descent.train, run.validation.batches = Drawing(data()), Drawing(data()[:3])
        return run

    one = made()
    one.fit()
    with pytest.raises(Killed):
        made(at("step", step, die), folder=tmp_path).fit()
    other = made(folder=tmp_path)
    other.fit()
    assert torch.equal(weights(one), weights(other))


class Turned(Stochastic):
    """A decoder with a number that evaluation sees."""

    shift = 0.0

    def forward(self, z: Tensor, seen: Tensor) -> Any:
        return super().forward(z + self.shift, seen)


def test_a_dial_stands_where_it_stood_when_a_run_goes_on(tmp_path: Path) -> None:
    def made(*listeners: Any) -> Trainer:
        model = small()
        model.generation.decoder = Turned(2, 4)
        dials = {"model.decoder.shift": uc.Linear(0.0, 5.0, 60)}
        kept = {"checkpoints": Checkpoints(tmp_path), "checkpoint_seconds": 0.0}
        return Trainer(model, data(), data()[:3], dials=dials, max_epochs=2, listeners=listeners, **kept)

    values: list[float] = []

    def note(moment: Moment) -> None:
        if moment.kind == "epoch":
            values.append(moment.values["neg_elbo"]["value"])

    torch.manual_seed(4)
    made(note).fit()
    shutil.rmtree(tmp_path)
    torch.manual_seed(4)
    with pytest.raises(Killed):
        made(at("window", 12, die)).fit()  # After the last step of an epoch, before its validation.
    made(note).fit()
    assert values[:2] == values[2:]


# Interruptions.


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a person's shell; a test run in the background would ignore it."""
    with terminable():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield


def send(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "procedure", "kind", "step"),
    [
        (signal.SIGINT, Joint, "step", 1),
        (signal.SIGINT, lambda: Aggressive(budget=4), "step", 6),
        (signal.SIGTERM, Joint, "step", 12),
        (signal.SIGTERM, lambda: Aggressive(budget=4), "epoch", 24),
        (signal.SIGINT, Joint, "epoch", 60),
    ],
)
def test_an_interruption_waits_for_a_checkpoint_and_nothing_is_lost(
    tmp_path: Path, number: signal.Signals, procedure: Any, kind: str, step: int
) -> None:
    one = whole(tmp_path, procedure())
    error = KeyboardInterrupt if number == signal.SIGINT else Terminated
    cut = begun(tmp_path, at(kind, step, send(number)), procedure=procedure(), checkpoint_seconds=1e9)
    with interruptible(), pytest.raises(error, match=f"^stopped at step {step}; the same command goes on from there"):
        cut.fit()
    assert Checkpoints(tmp_path / "cut").newest_first()[0].name == f"last-{step:08d}.safetensors"
    other = begun(tmp_path, procedure=procedure())
    other.fit()
    assert_same(tmp_path, one, other)


def test_an_interruption_within_an_inner_loop_keeps_the_whole_step(tmp_path: Path) -> None:
    one = whole(tmp_path, Aggressive(budget=4))
    cut = begun(tmp_path, procedure=Aggressive(budget=4), checkpoint_seconds=1e9)
    draw, draws = cut.descent.draw, iter(range(1000))
    cut.descent.draw = lambda: (send(signal.SIGINT)() if next(draws) == 29 else None, draw())[1]
    with interruptible(), pytest.raises(KeyboardInterrupt, match="stopped at step 8"):
        cut.fit()
    other = begun(tmp_path, procedure=Aggressive(budget=4))
    other.fit()
    assert_same(tmp_path, one, other)


def test_a_second_interruption_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(interruption, "SAME", 0.0)
    twice = [at("step", 6, send(signal.SIGINT)), at("step", 6, send(signal.SIGINT))]
    with interruptible(), pytest.raises(KeyboardInterrupt) as stopped:
        begun(tmp_path, *twice, checkpoint_seconds=1e9).fit()
    assert str(stopped.value) == ""
    assert not (tmp_path / "cut").exists()
    assert capfd.readouterr().err == "stopping after this step, to keep it; once more stops at once.\n"


def test_an_interruption_is_kept_where_nobody_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption.os, "write", mock.Mock(side_effect=BrokenPipeError))
    with interruptible(), pytest.raises(KeyboardInterrupt, match="stopped at step 6"):
        begun(tmp_path, at("step", 6, send(signal.SIGINT)), checkpoint_seconds=1e9).fit()
    assert Checkpoints(tmp_path / "cut").newest_first()[0].name == "last-00000006.safetensors"


def test_what_a_process_starts_does_not_follow_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PARENT, str(os.getppid()))
    with terminable():
        assert PARENT not in os.environ


def test_two_signals_within_a_moment_are_one(tmp_path: Path) -> None:
    twice = [at("step", 6, send(signal.SIGTERM)), at("step", 6, send(signal.SIGTERM))]
    with interruptible(), pytest.raises(Terminated, match="stopped at step 6"):
        begun(tmp_path, *twice).fit()


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    before, cut = signal.signal(signal.SIGINT, signal.SIG_IGN), begun(tmp_path, at("step", 6, send(signal.SIGINT)))
    try:
        cut.fit()
    finally:
        signal.signal(signal.SIGINT, before)
    assert cut.finished


def test_a_training_in_memory_promises_nothing() -> None:
    with interruptible(), pytest.raises(KeyboardInterrupt, match="step 6; it was kept in memory alone"):
        trainer(None, Joint(), at("step", 6, send(signal.SIGINT))).fit()


def test_a_program_that_knows_no_sigterm_ends_by_it_with_a_word() -> None:
    code = """
import os, signal
from uncollapse.training.interruption import held_back
with held_back(lambda: "stopped here") as waits:
    os.kill(os.getpid(), signal.SIGTERM)
    print(waits(), flush=True)
print("never")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == "True\n"
    assert done.stderr.endswith("\nstopped here\n")


# Damage.


def damaged(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    return path


def files_of(folder: Path, kind: str) -> list[Path]:
    return sorted((folder / "cut").glob(f"{kind}-*.safetensors"))


@pytest.mark.parametrize("kind", ["last", "best"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    tmp_path: Path, kind: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = whole(tmp_path, Aggressive(budget=2))
    with pytest.raises(Killed):  # After a validation that found a new best.
        begun(tmp_path, at("step", 13, die), procedure=Aggressive(budget=2)).fit()
    lasts, bests = files_of(tmp_path, "last"), files_of(tmp_path, "best")
    assert [path.name[5:13] for path in lasts] == ["00000011", "00000012"]
    assert [path.name[5:13] for path in bests] == ["00000012"]
    victim = lasts[-1] if kind == "last" else bests[-1]
    ways = {
        "changed": lambda: damaged(victim),
        "cut": lambda: victim.write_bytes(victim.read_bytes()[:-1]),
        "gone": victim.unlink,
    }
    ways[how]()
    other = begun(tmp_path, procedure=Aggressive(budget=2))
    other.fit()
    said = capsys.readouterr().err
    if (kind, how) == ("last", "gone"):
        assert said == ""
    else:
        assert said.count("\n") == 1
        assert str(victim) in said
        assert "Going on from the checkpoint before, `last-00000011.safetensors`." in said
    assert_same(tmp_path, one, other)


def test_where_no_checkpoint_is_good_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        begun(tmp_path, at("step", 13, die)).fit()
    for path in files_of(tmp_path, "last"):
        damaged(path)
    with pytest.raises(uc.InputError, match=r"last-00000012.safetensors` is damaged.* There is no good checkpoint in"):
        begun(tmp_path).fit()


def test_the_best_of_a_run_is_never_taken_from_an_older_checkpoint(tmp_path: Path) -> None:
    begun(tmp_path).fit()
    assert newest_best(tmp_path / "cut") is not None
    for kind in ("last", "best"):
        path = files_of(tmp_path, kind)[-1]
        content = path.read_bytes()
        damaged(path)
        with pytest.raises(uc.InputError, match=rf"{path.name}` is damaged: .* goes on from the checkpoint before"):
            newest_best(tmp_path / "cut")
        path.write_bytes(content)


def test_a_checkpoint_of_an_earlier_version_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SCHEMA", 1)
    checkpoints.write(tmp_path / "last-00000001.safetensors", checkpoints.Snapshot({}, {}))
    monkeypatch.undo()
    with pytest.raises(uc.InputError, match="of version 1, and this uncollapse reads version 4: use the uncollapse"):
        read(tmp_path / "last-00000001.safetensors")


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    begun(tmp_path, max_epochs=1).fit()
    with pytest.raises(uc.InputError, match="the last checkpoint is of another run"):
        begun(tmp_path, procedure=Aggressive()).fit()


@pytest.mark.parametrize("left", [None, 0, 1, 3, 4])
@pytest.mark.parametrize(
    "tail",
    [b"", b'{"kind": "win', b"\0" * 50, b"\0" * 50 + b'{"kind": "window"}\n'],
    ids=["nothing", "half a line", "zeros", "zeros and a line"],
)
def test_what_a_log_has_lost_is_said_and_stands_in_it(
    tmp_path: Path, left: int | None, tail: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    one = whole(tmp_path, window=4)
    with pytest.raises(Killed):
        begun(tmp_path, at("step", 14, die), window=4).fit()
    log = tmp_path / "cut.jsonl"
    told_before = told(tmp_path / "whole.jsonl")[:4]  # Three windows and an epoch.
    if left is None:
        log.unlink()
    else:
        log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:left]) + tail)
    for _ in range(2):  # Gone on with once more, nothing is lost again.
        other = begun(tmp_path, window=4)
        other.fit()
    lost, said = 4 - (left or 0), capsys.readouterr().err
    where = f"uncollapse: `{log}` has lost {lost} of its 4 records, as a cut of power may take them; of the run itself"
    assert said == (f"{where} nothing is lost.\n" if lost else "")
    gone = [{"kind": "lost", "step": 13, "of": 60, "epoch": 1}] * lost
    assert told(log) == [*told_before[: left or 0], *gone, *told(tmp_path / "whole.jsonl")[4:]]
    assert torch.equal(weights(one), weights(other))


def test_an_epoch_is_on_the_disk_before_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, log, there = os.fsync, tmp_path / "cut.jsonl", []

    def note(number: int) -> None:
        sync(number)
        if os.path.samestat(os.fstat(number), log.stat()):
            there.append([path.name for path in files_of(tmp_path, "last")])

    monkeypatch.setattr(os, "fsync", note)
    begun(tmp_path, max_epochs=2, checkpoint_seconds=1e9).fit()
    assert there == [[], ["last-00000012.safetensors"]]


# A disk that is full, a folder that is gone.


@contextmanager
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill(size: int) -> Callable[[], None]:
    """From now on no file grows beyond a size."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    one = whole(tmp_path)
    says = (
        r"cannot write `.*last-00000013.safetensors`: File too large; .*\. The last good checkpoint is `last-00000012"
    )
    with full_disk(), pytest.raises(uc.InputError, match=says):
        begun(tmp_path, at("step", 13, fill(1000))).fit()
    assert [path.name[5:13] for path in files_of(tmp_path, "last")] == ["00000011", "00000012"]
    assert not list((tmp_path / "cut").glob("*.partial"))
    other = begun(tmp_path)
    other.fit()
    assert_same(tmp_path, one, other)


def test_a_disk_that_is_full_for_the_log_is_said_too(tmp_path: Path) -> None:
    one = whole(tmp_path)
    with (
        full_disk(),
        pytest.raises(
            uc.InputError, match=r"cannot write `.*cut.jsonl`: File too large; make room, or give another disk\."
        ),
    ):
        begun(tmp_path, at("step", 12, fill(20)), checkpoint_seconds=1e9).fit()
    other = begun(tmp_path)
    other.fit()
    assert_same(tmp_path, one, other)


def test_an_error_of_the_disk_at_the_last_moment_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(
        uc.InputError,
        match=r"No space left on device; make room, or give another disk\. There is no checkpoint yet; once it can be",
    ):
        begun(tmp_path).fit()
    assert list((tmp_path / "cut").iterdir()) == []


def test_a_folder_that_vanishes_is_not_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    gone = at("step", 6, lambda: shutil.rmtree(folder))
    with pytest.raises(uc.InputError, match=r"cannot write `.*run/checkpoints`: No such file or directory"):
        fitted(folder, listeners=[gone], checkpoint_seconds=0)
    assert not folder.exists()


def test_a_file_where_the_checkpoints_were_is_named(tmp_path: Path) -> None:
    def replace() -> None:
        shutil.rmtree(tmp_path / "cut")
        (tmp_path / "cut").write_text("mine")

    with pytest.raises(uc.InputError, match=r"cannot write `.*cut`: File exists"):
        begun(tmp_path, at("step", 6, replace)).fit()
    assert (tmp_path / "cut").read_text() == "mine"


# Two runs.


def fitted(folder: Path, **more: Any) -> None:
    x = torch.cat(data())
    uc.fit(small(), x, x[:24], out=folder, batch_size=8, max_epochs=1, progress=False, **more)


def test_a_second_fit_in_one_folder_is_refused(tmp_path: Path) -> None:
    with runs.locked(tmp_path / "run"), pytest.raises(uc.InputError, match="another process is training in"):
        fitted(tmp_path / "run")
    fitted(tmp_path / "run")


def test_an_interrupted_fit_goes_on_by_the_same_call(tmp_path: Path) -> None:
    with interruptible(), pytest.raises(KeyboardInterrupt, match="stopped at step 5"):
        fitted(tmp_path / "run", listeners=[at("step", 5, send(signal.SIGINT))])
    steps: list[int] = []
    fitted(tmp_path / "run", listeners=[lambda m: steps.append(m.step) if m.kind == "step" else None])
    assert steps == list(range(6, 13))
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["kind"] == "epoch"
