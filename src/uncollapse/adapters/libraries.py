"""Libraries that are imported only where somebody has a model of theirs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from uncollapse.errors import InputError


def library(name: str, needed_by: str, install: str) -> Any:
    """A library, or a module of one.

    Arguments:
        name: Of the module.
        needed_by: Which function of ours needs it.
        install: What pip is to install.

    Raises:
        InputError: where it is not installed, or cannot be imported.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"`uncollapse.{needed_by}` needs {name}: `pip install '{install}'` ({error}).") from None
