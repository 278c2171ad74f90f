"""Progress for people: what it says, and that it fits."""

from __future__ import annotations

import io
import math
import time
from typing import Any

import pytest

from uncollapse.training.listeners import Moment
from uncollapse.training.progress import Clock, Lines, Reading, describe, duration


def figure(value: float) -> dict[str, Any]:
    return {"value": value, "se": 0.1}


def moments() -> list[Moment]:
    window = {"loss": 50.0, "rate": 3.0, "descents": 31.0, "symbols": 1e6, "steps": 20}
    epoch = {"neg_elbo": figure(328.41), "kl": figure(5.7), "mi": figure(2.9)}
    return [
        Moment("start", 0, 0, {"epochs": 100, "steps_per_epoch": 50}),
        Moment("window", 40, 0, window),
        Moment("epoch", 50, 1, epoch),
    ]


def test_a_line_tells_bound_rate_information_inner_steps_speed_and_time_left() -> None:
    stream = io.StringIO()
    listener = Lines("aggressive", stream)
    for moment in moments():
        listener(moment)
    (line,) = stream.getvalue().splitlines()
    for part in ("aggressive", "left", "epoch 1", "−ELBO 328.41", "KL 5.70", "MI 2.90", "30 inner", "tok/s"):
        assert part in line


def test_the_state_fits_a_terminal_of_80_columns_beside_its_bar() -> None:
    clock = Clock()
    for moment in moments():
        clock.hear(moment)
    clock.symbols = 12_345.0
    assert len("######" + f" ≤ 1:23:45 left {describe(moments()[-1], clock)}") <= 80


def test_data_without_symbols_has_no_speed_in_them() -> None:
    clock = Clock()
    clock.hear(moments()[0])
    clock.hear(Moment("window", 40, 0, {"loss": 5.0, "rate": 1.0, "descents": 1.0}))
    assert describe(Moment("step", 41, 0, {}), clock) == "epoch 0 loss 5.00 rate 1.00"


@pytest.mark.parametrize(("seconds", "said"), [(7, "0:07"), (75, "1:15"), (3700, "1:01:40"), (math.nan, "?")])
def test_durations_read_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_long_reading_says_how_far_it_is(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 34.5, 34.6, 80.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    tell = Reading(stream)
    for share in (0.01, 0.02, 0.34, 0.35, 1.0):
        tell("reading my.txt", share)

    said = stream.getvalue().replace("\r", "\n").split("\n")
    assert [line.strip() for line in said if line.strip()] == ["reading my.txt: 34%, 1:06 left"]


def test_a_short_reading_is_silent() -> None:
    stream = io.StringIO()
    tell = Reading(stream)
    for share in (0.1, 0.5, 1.0):
        tell("reading my.txt", share)

    assert stream.getvalue() == ""
