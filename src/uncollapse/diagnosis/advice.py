"""The next step by finding: a command for a run, a line of Python for a model of one's own."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from uncollapse.diagnosis.findings import Next

#: The setting by which the KL is weighed as in the bound.
CHARGED = "training.objective.weights.rate=1.0"


class Ways(Protocol):
    """How the next step is written."""

    def train(self, remedies: Sequence[str] = (), more: str = "") -> str:
        """Training again, with remedies and something more of a setting, path=value."""
        ...

    def charge(self) -> str:
        """Training again with the KL weighed by 1."""
        ...

    def audit(self) -> str:
        """Having the loss looked at; empty where it is known."""
        ...


class Python(NamedTuple):
    """Lines of Python, for a model of one's own."""

    def train(self, remedies: Sequence[str] = (), more: str = "") -> str:
        path, _, value = more.partition("=")
        asked = f", remedies={list(remedies)!r}" if remedies else ""
        return f"uc.fit(model, train, valid{asked}{f', settings={{{path!r}: {value}}}' if more else ''})"

    def charge(self) -> str:
        return self.train(more=CHARGED)

    def audit(self) -> str:
        return "uc.diagnose(model, data, loss=lambda x: your_loss(x))"


class Commands(NamedTuple):
    """Commands, for a run.

    Arguments:
        start: What began it, such as "uncollapse fit text --train my.txt".
        remedies: Those that it had.
        folder: Where it is.
        weighing: Those of its remedies that weigh the KL.
    """

    start: str
    remedies: Sequence[str]
    folder: str
    weighing: Sequence[str] = ()

    def train(self, remedies: Sequence[str] = (), more: str = "") -> str:
        names = "+".join(dict.fromkeys([*(r for r in self.remedies if r != "plain"), *remedies]))
        named = "-".join([*remedies] or ["again"])
        asked = (f" --with {names}" if names else "") + (f" --set {shlex.quote(more)}" if more else "")
        return f"{self.start}{asked} --out {shlex.quote(f'{self.folder}-{named}')}"

    def charge(self) -> str:
        left = [name for name in self.remedies if name not in self.weighing]
        # A weight that a remedy moves cannot be set beside it.
        return self._replace(remedies=left).train(more="" if self.weighing else CHARGED)

    def audit(self) -> str:
        return ""


def advised(state: str, ways: Ways, used: Sequence[str] = (), audited: bool = True, charged: bool = False) -> Next:
    """What to do about a verdict, with remedies that were not tried yet.

    Arguments:
        state: A verdict, or the name of a finding that is bad.
        ways: How it is written.
        used: The remedies that the model was trained with.
        audited: Whether its loss has been looked at.
        charged: Whether the KL is known to be weighed by 1.
    """
    if state in ("model collapse", "collapsed") and not audited and ways.audit():
        return Next(
            "First have your loss looked at: one that weighs the KL too much ends here. Training the encoder more "
            "cannot help.",
            ways.audit(),
        )
    match state:
        case "inference collapse":
            return Next(
                "The decoder could use z and the encoder does not find it: train the encoder more than the decoder.",
                ways.train(_untried(used, "aggressive", "sa-vae", "autoencoder-free-bits")),
            )
        case "model collapse" | "collapsed":
            return Next(
                "More training of the encoder cannot help, as there is nothing to be found: hold the rate above a "
                "floor from the start, weaken the decoder, or give the likelihood a smaller scale.",
                ways.train(_untried(used, "free-bits", "minimum-rate", "autoencoder-free-bits")),
            )
        case "partly collapsed" | "units":
            return Next(
                "Give each unit a floor, or take fewer units: unused ones cost nothing in NLL.",
                ways.train(_untried(used, "free-bits", "batch-normalised")),
            )
        case "mismatched" | "plain autoencoder" if charged:
            return Next(
                "The KL weighs 1 already: learn a prior where codes are; draws of this one are new to the decoder.",
                ways.train(_untried(used, "mixture-prior", "vampprior")),
            )
        case "mismatched" | "plain autoencoder":
            return Next(
                "Weigh the KL by 1, or learn a prior where codes are; draws of this prior are new to the decoder.",
                ways.charge(),
            )
        case "holes":
            return Next(
                "Draws of this prior are often new to the decoder: learn a prior where codes are.",
                ways.train(_untried(used, "mixture-prior", "vampprior")),
            )
        case "amortisation":
            return Next(
                "The encoder's answers can be improved item by item: a larger encoder, more steps, or refinement.",
                ways.train(["sa-vae"]),
            )
        case "under-trained":
            return Next(
                "Train on: figures of a model that is still learning say little of its end.",
                ways.train(more="training.max_epochs=200"),
            )
        case "constant weight":
            return Next("Weigh the KL by 1, where a likelihood and draws of the prior are wanted.", ways.charge())
        case "loss-scale":
            return Next(
                "Train until the schedule has reached 1, or take a shorter one.",
                ways.train(more="training.max_epochs=200"),
            )
    return Next()


def _untried(used: Sequence[str], *names: str) -> list[str]:
    """The first that was not used yet; the last where all were."""
    return [next((name for name in names if name not in used), names[-1])]
