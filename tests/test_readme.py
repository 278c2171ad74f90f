"""What the README shows is what happens."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.strip() for line in README.splitlines() if line.startswith("    uncollapse ")]


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    namespace: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), namespace)
    assert namespace["z"].shape == (1000, 4)  # pyright: ignore[reportAttributeAccessIssue]
    assert "nll" in capsys.readouterr().out


def test_the_python_example_is_under_ten_lines_of_ones_own() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    own = [line for line in example.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(own) < 10


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shown_is_one_that_the_command_line_knows(command: str) -> None:
    from uncollapse.cli import app

    called, bound, *_ = app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)
    assert called.__name__ == shlex.split(command)[1]
    assert bound.arguments
