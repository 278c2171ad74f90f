"""How the command line shows things: text, tables, JSON, progress.

Whatever a text, a file or a run's folder holds passes through here, so that it cannot steer the terminal.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from uncollapse.documents import finite, visible

if TYPE_CHECKING:
    from rich.table import Table

    from uncollapse.data.reading import Tell
    from uncollapse.experiment.compare import State
    from uncollapse.training.listeners import Listener

_READABLE = 110  # columns of what is read and not parsed
_WIDE = 10_000  # columns, where nobody looks at a terminal: nothing wraps


def document(content: Any) -> None:
    """Prints one JSON document."""
    say(json.dumps(finite(content), indent=1, ensure_ascii=False, allow_nan=False))


def say(*texts: str) -> None:
    """Prints texts, a line each: as they are to a file or a pipe, with visible control characters on a terminal."""
    print(*map(_shown, texts), sep="\n")


def note(text: str) -> None:
    """Says something about the work, not of its result."""
    print(visible(text), file=sys.stderr, flush=True)


def _shown(text: str) -> str:
    return visible(text) if sys.stdout.isatty() else text


def table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows, the header first; they wrap on a terminal only."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)
    with console.capture() as drawn:
        console.print(_grid(rows))
    print(*(line.rstrip() for line in drawn.get().splitlines()), sep="\n")


def _grid(rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    header, *body = rows
    grid = Table(*header, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in body:
        grid.add_row(*(Text(_shown(cell)) for cell in row))
    return grid


def entries(told: Sequence[tuple[str, str]]) -> None:
    """Prints texts by what each says, wrapped and told once in a row; what is empty is left out."""
    told = [(label, text) for label, text in told if text]
    wide = 2 + max(len(label) for label, _ in told)
    before = ""
    for label, text in told:
        first, *rest = textwrap.wrap(_shown(text), _READABLE - wide, break_long_words=False, break_on_hyphens=False)
        print(f"{label if label != before else '':<{wide}}{first}", *(" " * wide + line for line in rest), sep="\n")
        before = label


@contextmanager
def training(quiet: bool) -> Iterator[list[Listener]]:
    """The listener that shows a training on standard error, if any; its bar ends however the training ends."""
    from uncollapse.training.progress import Bar, progress

    shown = [] if quiet else [progress("training", sys.stderr)]
    try:
        yield [*shown]
    finally:
        for listener in shown:
            if isinstance(listener, Bar):
                listener.bar.stop()


def remark(text: str) -> None:
    """Says what a person should know of the data."""
    note(f"note: {text}")


@contextmanager
def reading(quiet: bool = False) -> Iterator[Tell | None]:
    """What shows on standard error how far the reading of a long text is, if anything does."""
    from uncollapse.training.progress import Reading

    shown = None if quiet else Reading(sys.stderr)
    try:
        yield shown
    finally:
        if shown:
            shown.stop()


@contextmanager
def cells() -> Iterator[Callable[[list[State]], None]]:
    """Shows the cells of a comparison: a live table on a terminal, else a line whenever one changes."""
    if not sys.stderr.isatty():
        yield Changes()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:
        yield lambda states: live.update(_bars(states))


def _bars(states: Sequence[State]) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False)
    for state in states:
        completed = state.total if state.status == "done" else state.step
        bar = ProgressBar(state.total or 1, completed or float(state.status == "done"), width=30)
        grid.add_row(f"{state.remedy}, seed {state.seed}", state.status, bar, Text(visible(_where(state))))
    return grid


def _where(state: State) -> str:
    from uncollapse.training.progress import duration

    if state.status != "running" or not state.text:
        return ""
    left = "" if state.left is None else f"  at most {duration(state.left)} left"
    return state.text + left


class Changes:
    """A line for every cell that has changed its status or epoch."""

    def __init__(self) -> None:
        self.said: dict[tuple[str, int], tuple[str, str]] = {}

    def __call__(self, states: Sequence[State]) -> None:
        for state in states:
            key, now = (state.remedy, state.seed), (state.status, state.text)
            if self.said.get(key, ("waiting", "")) != now:
                self.said[key] = now
                note("  ".join(filter(None, [f"{state.remedy}, seed {state.seed}", state.status, _where(state)])))
