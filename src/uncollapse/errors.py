"""Errors that a person can act on: what was asked, what is there, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """What was asked cannot be done with what is there; the command line prints it as one line, status 2."""


class TrainingError(RuntimeError):
    """Training cannot go on (a loss that is not finite); the command line exits with status 3."""


def unknown(kind: str, name: object, known: Iterable[str]) -> InputError:
    """The error for a name that does not exist, with the nearest one and all there are."""
    names = sorted(known)
    close = get_close_matches(str(name), names, n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    return InputError(f"unknown {kind} `{name}`.{hint} There is: {', '.join(names)}.")
