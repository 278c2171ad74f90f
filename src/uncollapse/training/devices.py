"""What a device is asked for: that it is there, and that it can compute so precisely."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch

from uncollapse.errors import InputError, unknown

Precision = Literal["32", "bf16-mixed"]


def check_device(device: Any, touch: bool = True) -> torch.device:
    """The device of a name.

    Arguments:
        device: What `torch.device` takes.
        touch: Whether to use it; of several processes each would take memory of the first GPU.

    Raises:
        InputError: where it is not there, with those that are.
    """
    try:
        found = torch.device(device)
        if found.type == "cuda" and torch.cuda.device_count() <= (found.index or 0):
            raise RuntimeError("there is no such GPU")
        if touch:
            torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        there += ["mps"] * torch.backends.mps.is_available()
        why = str(error).splitlines()[0].split(". ")[0]
        why = "this PyTorch has no such device" if "INTERNAL ASSERT" in why else why
        raise InputError(f"cannot use the device `{device}`: {why}. There is: {', '.join(there)}.") from None
    return found


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuses a precision that a device lacks.

    Raises:
        InputError: for bf16-mixed on the CPU, and for what is no precision.
    """
    if precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))
    if precision == "bf16-mixed" and device.type == "cpu":
        raise InputError(
            "precision `bf16-mixed` is for a GPU: on the CPU it is many times slower than 32, and LSTMs refuse it. "
            "Leave it out, or give a GPU (`cuda`) as the device."
        )
