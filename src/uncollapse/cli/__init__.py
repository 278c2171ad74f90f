"""The command line: parses, calls the library, prints. Only the commands themselves import torch."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from types import FrameType

from cyclopts import App, CycloptsError, Parameter

from uncollapse import __version__
from uncollapse.cli import comparing, fitting, listing, using
from uncollapse.cli.memory import keep_large_blocks
from uncollapse.errors import InputError, TrainingError

app = App(
    name="uncollapse",
    help="Train VAEs that keep using their latents, and measure truthfully whether they do.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
for command in (
    fitting.fit,
    fitting.evaluate,
    using.generate,
    using.reconstruct,
    using.interpolate,
    using.encode,
    comparing.compare,
    comparing.demo,
    listing.remedies,
    listing.recipes,
):
    app.command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line, and answers its exit status.

    2 is bad input, 3 a training that cannot go on, 130 an interruption, 143 a termination; each says so in one line
    on standard error.

    Arguments:
        arguments: Without the program's name; those of the process where they are None.
    """
    keep_large_blocks()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # A terminal may know fewer characters than a text has.
    try:
        with _terminable():
            app(None if arguments is None else list(arguments))
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough; Python's own flush at exit must not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (InputError, CycloptsError) as error:
        return _refused(str(error), 2)
    except OSError as error:
        file = f"`{error.filename}`: " if error.filename else ""
        return _refused(f"{file}{error.strerror or error}.", 2)
    except TrainingError as error:
        return _refused(str(error), 3)
    except KeyboardInterrupt as stopped:
        status = 128 + (signal.SIGTERM if isinstance(stopped, _Terminated) else signal.SIGINT)
        return _refused("stopped; the same command goes on from the last checkpoint.", status)
    return 0


class _Terminated(KeyboardInterrupt):
    """SIGTERM; whatever cleans up after Ctrl-C cleans up after it too."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Within it, SIGTERM is an exception, so that it ends what this process has started."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may say what a signal does.
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _refused(why: str, status: int) -> int:
    print(f"uncollapse: {' '.join(why.split())}", file=sys.stderr)
    return status
