"""Signals of a command: none is lost, none aborts it, and what it was making is not left behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from test_cli import ENDLESS, KEPT, SET, write_text
from uncollapse.signals import terminable

# A test run in the background hands on that interruptions are ignored; a person's shell does not.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from uncollapse.__main__ import main
from uncollapse.signals import end_by_signals
end_by_signals()  # The first thing that `main` does: a signal between the next line and that would be the test's fault.
print("started", flush=True)
sys.exit(main())
"""
BY = [signal.SIGINT, signal.SIGTERM]


def ended(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_a_signal_at_any_moment_of_the_start_ends_a_command_with_its_status(tmp_path: Path) -> None:
    fit = ["fit", "text", "--train", str(write_text(tmp_path / "a.txt")), *SET, *ENDLESS, "--quiet"]
    for number in range(24):
        by = BY[number % 2]
        command = [sys.executable, "-c", START, *fit, "--out", str(tmp_path / f"run{number}")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        time.sleep(0.1 * number)
        process.send_signal(by)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 128 + by, (number, error)
        assert re.fullmatch(rf"uncollapse: stopped\.|{KEPT}", error.splitlines()[-1]), (number, error)
        assert "Traceback" not in error


@pytest.mark.parametrize("by", BY)
def test_a_signal_is_not_lost_where_an_exception_would_be(by: signal.Signals) -> None:
    code = f"""
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from uncollapse.signals import terminable
class Lost:
    def __del__(self):
        os.kill(os.getpid(), {by})
with terminable():
    Lost()
    print("goes on")
"""
    done = ended(code)
    assert (done.returncode, done.stdout, done.stderr) == (128 + by, "", "uncollapse: stopped.\n")


def test_a_command_in_the_background_goes_on_ignoring_interruptions() -> None:
    code = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from uncollapse.signals import terminable
with terminable():
    os.kill(os.getpid(), signal.SIGINT)
    print("goes on")
"""
    assert ended(code).stdout == "goes on\n"


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_being_made_goes_with_the_process(tmp_path: Path, folder: bool) -> None:
    code = f"""
import os, signal
from pathlib import Path
from uncollapse.signals import terminable, unfinished
path = Path({str(tmp_path / "aside")!r})
with terminable(), unfinished(path):
    {'path.mkdir(); (path / "part").touch()' if folder else "path.touch()"}
    os.kill(os.getpid(), signal.SIGTERM)
"""
    assert ended(code).returncode == 143
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_being_written_is_one_of_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    code = f"""
import os, signal
from pathlib import Path
from uncollapse import files
from uncollapse.signals import terminable
with terminable(), files.replacing(Path({str(tmp_path / "a")!r})) as file:
    file.write(b"new")
    os.kill(os.getpid(), signal.SIGTERM)
"""
    assert ended(code).returncode == 143
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_signals_mean_afterwards_what_they_did_before() -> None:
    before = [signal.getsignal(number) for number in BY]
    with terminable():
        pass
    assert [signal.getsignal(number) for number in BY] == before


def test_the_first_module_of_the_command_imports_nothing_large() -> None:
    code = (
        "import sys, uncollapse.__main__; print({'cyclopts', 'rich', 'yaml', 'pydantic', 'torch'} & sys.modules.keys())"
    )
    assert ended(code).stdout == "set()\n"
