"""Progress for people: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any, TextIO

from uncollapse.documents import visible
from uncollapse.training.listeners import Listener, Moment


def progress(label: str, stream: TextIO) -> Listener:
    """A bar where the stream is a terminal, else a line an epoch."""
    return Bar() if stream.isatty() else Lines(label, stream)


class Clock:
    """Speed and time left, from the steps and symbols heard of."""

    def __init__(self) -> None:
        self.total, self.first, self.began = 1, 0, time.perf_counter()
        self.values: dict[str, Any] = {}
        self.symbols, self.since = 0.0, self.began

    def hear(self, moment: Moment) -> None:
        if moment.kind == "start":
            self.__init__()
            self.total = moment.values["epochs"] * moment.values["steps_per_epoch"]
            self.first = moment.step
        elif moment.kind == "window":
            now = time.perf_counter()
            self.symbols = moment.values.get("symbols", 0.0) / max(now - self.since, 1e-9)
            self.since = now
            self.values |= moment.values
        elif moment.kind == "epoch":
            self.values |= moment.values

    def left(self, step: int) -> float:
        """Seconds to the last epoch at the mean speed so far; early stopping only shortens it."""
        done = step - self.first
        return (time.perf_counter() - self.began) / done * (self.total - step) if done > 0 else float("nan")


class Reading:
    """How far a long work is that has stages: a line on a terminal, renewed, else a line now and then."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.every = stream, 0.25 if stream.isatty() else 10.0
        self.what, self.began, self.said = "", 0.0, 0.0

    def __call__(self, what: str, share: float) -> None:
        """Hears which share of a stage is done; nothing is said of what takes no more than two seconds."""
        now = time.perf_counter()
        if what != self.what:
            self.what, self.began = what, now
            self.said = now + 2.0 - self.every
        if share >= 1:
            self.stop()
        elif share > 0 and now - self.said > self.every:
            self.said = now
            self._print(f"{what}: {share:.0%}, {duration((now - self.began) / share * (1 - share))} left")

    def _print(self, text: str) -> None:
        text = visible(text)  # A file is called what it is called.
        line = f"\r{text:<79}" if self.stream.isatty() else f"{text}\n"
        print(line, end="", file=self.stream, flush=True)

    def stop(self) -> None:
        """Leaves an empty line behind on a terminal."""
        if self.stream.isatty() and self.what and self.said > self.began:
            print(f"\r{'':<79}\r", end="", file=self.stream, flush=True)


def describe(moment: Moment, clock: Clock) -> str:
    """The state of a run in one line: bound, rate, MI, inner steps, speed."""
    parts = [f"epoch {moment.epoch}"]
    values = clock.values
    if "neg_elbo" in values:
        bounded = "value" in values["neg_elbo"]
        shown = {"neg_elbo": "−ELBO", "kl": "KL", "mi": "MI"} if bounded else {"distortion": "distortion", "mi": "MI"}
        known = {said: values[name]["value"] for name, said in shown.items() if "value" in values[name]}
        parts += [f"{said} {round(value, 2) + 0.0:.2f}" for said, value in known.items()]
    elif "loss" in values:
        parts += [f"loss {values['loss']:.2f}", f"rate {values['rate']:.2f}"] if "rate" in values else []
    if values.get("descents", 1) > 1:
        parts.append(f"{values['descents'] - 1:.0f} inner")
    parts += [f"{clock.symbols:,.0f} tok/s"] if clock.symbols else []
    return " ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds != seconds:
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Lines:
    """A line at the start, after every epoch and at the end."""

    def __init__(self, label: str, stream: TextIO) -> None:
        self.label, self.stream, self.clock = label, stream, Clock()

    def __call__(self, moment: Moment) -> None:
        self.clock.hear(moment)
        if moment.kind == "epoch":
            left = f"≤ {duration(self.clock.left(moment.step))} left"
            print(self.label, left, describe(moment, self.clock), file=self.stream, flush=True)


class Bar:
    """A bar with the state of the run and the time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        # All of it fits 80 columns; where there are fewer, the end is cut and not the time left.
        columns = (BarColumn(bar_width=6), TextColumn("{task.description}"))
        self.bar = Progress(*columns, console=Console(stderr=True), refresh_per_second=4)
        self.task, self.clock = self.bar.add_task("", total=None), Clock()

    def __call__(self, moment: Moment) -> None:
        self.clock.hear(moment)
        if moment.kind == "start":
            self.bar.start()
        left = f"≤ {duration(self.clock.left(moment.step))} left"
        state = f"{left} {describe(moment, self.clock)}"
        self.bar.update(self.task, total=self.clock.total, completed=moment.step, description=state)
        if moment.kind == "end":
            self.bar.stop()
