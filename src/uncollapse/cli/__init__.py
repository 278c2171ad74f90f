"""The command line: parses, calls the library, prints. Only the commands themselves import torch."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper

from cyclopts import App, CycloptsError, Parameter, UnknownCommandError, UnusedCliTokensError

from uncollapse import __version__
from uncollapse.cli import (
    comparing,
    diagnosing,
    fitting,
    listing,
    predicting,
    recommending,
    reporting,
    reproducing,
    scoring,
    show,
    using,
)
from uncollapse.cli.memory import keep_large_blocks
from uncollapse.errors import InputError, TrainingError, because, unknown
from uncollapse.signals import Terminated, terminable

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
COMMANDS = {
    command.__name__: command
    for command in (
        fitting.fit,
        fitting.evaluate,
        diagnosing.diagnose,
        diagnosing.rescue,
        recommending.recommend,
        using.generate,
        using.reconstruct,
        using.interpolate,
        using.traverse,
        using.encode,
        predicting.predict,
        scoring.score,
        comparing.compare,
        comparing.demo,
        reproducing.reproduce,
        reporting.report,
        reporting.show,
        listing.remedies,
        listing.recipes,
        listing.parts,
    )
}
for command in COMMANDS.values():
    app.command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line, and answers its exit status.

    2 is bad input, 3 a training that cannot go on, 130 an interruption, 143 a termination; each says so in one line
    on standard error. 141 is an output that nobody reads any more; there is nobody to tell.

    Arguments:
        arguments: Without the program's name; those of the process where they are None.
    """
    _open_what_is_closed()
    keep_large_blocks()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # A terminal may know fewer characters than a text has.
    try:
        with terminable():
            app(None if arguments is None else list(arguments))
            sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # The first is the second where rich prints.
        _drop_what_cannot_be_written()
        return 128 + signal.SIGPIPE
    except CycloptsError as error:
        return _refused(_usage(error), 2)
    except InputError as error:
        return _refused(str(error), 2)
    except OSError as error:
        _drop_what_cannot_be_written()
        file = f"`{error.filename}`: " if error.filename else ""
        return _refused(f"{file}{because(error)}.", 2)
    except TrainingError as error:
        return _refused(str(error), 3)
    except (MemoryError, RuntimeError) as error:
        return _refused(_starved(error), 2)
    except KeyboardInterrupt as stopped:
        status = 128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)
        return _refused(str(stopped) or "stopped.", status)
    return 0


def _open_what_is_closed() -> None:
    """A stream that was closed by whoever started this swallows what is printed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))


def _drop_what_cannot_be_written() -> None:
    """Empties the streams that nobody takes, or Python's own flush at exit would fail too, and say so."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _usage(error: CycloptsError) -> str:
    """What is wrong with the arguments, and where it says what they are."""
    tokens, command = error.unused_tokens or [""], " ".join(("uncollapse", *(error.command_chain or ())))
    if isinstance(error, UnknownCommandError):
        return str(unknown("command", tokens[0], COMMANDS))
    said = f"`{' '.join(tokens)}` is too much." if isinstance(error, UnusedCliTokensError) else str(error)
    return f"{said}{'' if said.endswith(('.', '?')) else '.'} `{command} --help` says what there is."


def _starved(error: Exception) -> str:
    """One line where memory was not enough; what failed for another reason is raised again."""
    said = str(error)
    if not isinstance(error, MemoryError) and "out of memory" not in said and "can't allocate memory" not in said:
        raise error
    why = said.splitlines()[0].rpartition("]")[2].strip() if said else "there is none left"
    return f"not enough memory: {why} Lower `data.batch_size`, the sizes of `model`, or the numbers asked for."


def _refused(why: str, status: int) -> int:
    with suppress(OSError):  # Nobody may be there to tell, but the status says it too.
        show.note(f"uncollapse: {' '.join(why.split())}")
    return status
