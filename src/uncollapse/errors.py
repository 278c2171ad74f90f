"""Errors that a person can act on: what was asked, what is there, what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """What was asked cannot be done with what is there; the command line prints it as one line, status 2."""


class TrainingError(RuntimeError):
    """Training cannot go on (a loss that is not finite); the command line exits with status 3."""


#: The most characters of what was asked that an error repeats.
LONGEST = 200

#: What to do about what the system says of a file.
_CURES = {
    errno.ENOENT: "check the path",
    errno.EISDIR: "give a file",
    errno.ENOTDIR: "give a path through folders only",
    errno.EACCES: "get the permission, or give another",
    errno.EPERM: "get the permission, or give another",
    errno.EROFS: "give one that can be written",
    errno.ENOSPC: "make room, or give another disk",
    errno.EFBIG: "make room, or give another disk",
    errno.EDQUOT: "make room, or give another disk",
    errno.ENAMETOOLONG: "give a shorter name",
}


def because(error: OSError) -> str:
    """What the system says of a file, and what to do about it."""
    return f"{error.strerror or error}; {_CURES.get(error.errno or 0, 'give another')}"


def unknown(kind: str, name: object, known: Iterable[str]) -> InputError:
    """The error for a name that does not exist, with the nearest one and all there are."""
    names = sorted(known)
    close = get_close_matches(str(name), names, n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    return InputError(f"unknown {kind} `{name}`.{hint} There is: {', '.join(names)}.")


def quoted(value: object) -> str:
    """A value in an error, cut where nobody would read on."""
    try:
        return cut(repr(value))
    except ValueError:
        return "a number of thousands of digits"


def cut(text: str) -> str:
    """A text in an error, cut where nobody would read on."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
