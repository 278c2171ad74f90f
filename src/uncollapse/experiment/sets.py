"""Sets of remedies to compare, and which of them fit a person's data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from uncollapse.errors import InputError
from uncollapse.experiment.catalogue import Remedy, remedies

#: What a first comparison should hold: plain training, the decoder by itself, and one or two of each idea that does not
#: take many times as long.
CORE = (
    *("plain", "language-model", "without-z", "anneal", "cyclical", "slow-anneal", "aggressive-start"),
    *("aggressive+anneal", "free-bits", "minimum-rate", "autoencoder-free-bits"),
)
#: Fast is a step of so many times a plain one's time, with no loop beside it.
FAST = 1.5
NAMES = ("core", "fast", "all")


def chosen(said: Iterable[str], own: Path | None, fits: Callable[[str], object]) -> tuple[list[str], dict[str, str]]:
    """The remedies that some names and sets say, each once, and those of sets that do not fit, with why.

    Arguments:
        said: Names of remedies, joined by "+" or not, and of sets: "core", "fast" (steps of at most 1.5 times a plain
            one's time) and "all".
        own: A file of somebody's own remedies, which are in "all".
        fits: Raises an InputError where one cannot be used with the data.

    Raises:
        InputError: where a remedy that is named itself does not fit.
    """
    found, refused = dict[str, None](), dict[str, str]()
    for name in said:
        for one in _of_set(name, own):
            try:
                fits(one)
                found[one] = None
            except InputError as error:
                if name not in NAMES:
                    raise
                refused[one] = str(error)
    return list(found), {name: why for name, why in refused.items() if name not in found}


def _of_set(name: str, own: Path | None) -> Iterable[str]:
    there = remedies(own)
    if name == "core":
        return CORE
    if name == "fast":
        return [one for one, remedy in there.items() if _is_fast(remedy)]
    return list(there) if name == "all" else [name]


def _is_fast(remedy: Remedy) -> bool:
    return remedy.step is not None and remedy.step <= FAST and remedy.place not in ("inference", "procedure")
