"""The watch as a callback of Lightning's trainer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from uncollapse.adapters.libraries import library
from uncollapse.adapters.lightning import named
from uncollapse.bound import Bound, is_namedtuple
from uncollapse.diagnosis.watch import Watch
from uncollapse.errors import InputError
from uncollapse.metrics.subject import evaluating

#: The package that Lightning also comes as.
ALONE = "pytorch_lightning"


def watch_callback(watch: Watch | None = None, encode: str | Callable[..., Any] | None = None) -> Any:
    """A callback that looks at q while Lightning's `Trainer` fits, logs what it sees, and tells of one alarm.

    Every `watch.every` batches it logs `watch/active` (how many units carry 0.01 nats), `watch/rate` and `watch/mi`
    (nats an item, within the batch) by the module's own `log_dict`. In a training of several processes the first one
    watches its batches.

    Arguments:
        watch: Counts batches as its steps; `Watch()`, if not given.
        encode: From a batch's items to `(mean, log_variance)`, or the name of the module's method or module that does
            it. Without it, `training_step` is to return a dictionary with a `bound`, or with `mean` and
            `log_variance`, beside the `loss`.

    Raises:
        InputError: where Lightning is not installed, and in training where no q is to be had.
    """
    base = library(ALONE if _alone() else "lightning.pytorch", "watch_callback", "lightning>=2.6.6").Callback
    return type("WatchCallback", (WatchHooks, base), {})(watch or Watch(), encode)


def _alone() -> bool:
    """Whether the training is by the package `pytorch_lightning`, whose trainer takes its own callbacks for one."""
    return ALONE in sys.modules and "lightning" not in sys.modules


class WatchHooks:
    """What Lightning's trainer calls.

    Arguments:
        watch: What looks.
        encode: See `watch_callback`.
    """

    def __init__(self, watch: Watch, encode: str | Callable[..., Any] | None) -> None:
        self.watch, self.encode = watch, encode

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not trainer.is_global_zero:
            return
        seen = len(self.watch.looks)
        if (self.watch.steps + 1) % self.watch.every:
            self.watch.steps += 1
        else:
            self.watch.step(*(_of_outputs(outputs) if self.encode is None else self._encoded(pl_module, batch)))
        for look in self.watch.looks[seen:]:
            found = {"active": float(look.active), "rate": look.rates.sum().item(), "mi": look.mi}
            logged = {f"watch/{name}": value for name, value in found.items() if value is not None}
            pl_module.log_dict(logged, rank_zero_only=True)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.watch.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.watch.steps = state_dict["steps"]

    def _encoded(self, module: Any, batch: Any) -> tuple[Tensor, Tensor]:
        x = batch[0] if isinstance(batch, tuple | list) and not is_namedtuple(batch) else batch
        assert self.encode is not None
        with torch.no_grad(), evaluating(module):
            mean, log_variance = named(module, "encode", self.encode)(x)
        return mean, log_variance


def _of_outputs(outputs: Any) -> tuple[Any, ...]:
    given = outputs if isinstance(outputs, dict) else {}
    if isinstance(given.get("bound"), Bound):
        return (given["bound"],)
    if {"mean", "log_variance"} <= given.keys():
        return given["mean"], given["log_variance"]
    has = f"a dictionary with {', '.join(map(repr, given))}" if given else f"a `{type(outputs).__name__}`"
    raise InputError(
        f"the watch sees no q: `training_step` gives {has}, and must give one with `bound`, or with `mean` and "
        '`log_variance`, beside `loss`; or name what encodes, as in `uncollapse.watch_callback(encode="encode")`.'
    )
