"""Rescue: training on from a collapsed run's weights with another remedy, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from uncollapse.data.reading import Tell
from uncollapse.errors import InputError
from uncollapse.experiment import run
from uncollapse.experiment.compose import compose
from uncollapse.experiment.examine import changes
from uncollapse.experiment.execute import judge, keep, train
from uncollapse.experiment.spec import Spec, validated
from uncollapse.experiment.start import digest
from uncollapse.training.checkpoints import newest_best
from uncollapse.training.listeners import Listener

#: What before and after are told by.
FIGURES = ("nll", "neg_elbo", "kl", "mi", "active_units", "seconds", "verdict")


class Rescue(NamedTuple):
    """What a run was, and what it is."""

    before: dict[str, Any]
    after: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The figures of both."""
        return {name: {one: figures[one] for one in FIGURES} for name, figures in self._asdict().items()}

    def table(self) -> list[list[str]]:
        """A row for before and one for after, the header first."""
        rows = [[name, *(_shown(figures[one]) for one in FIGURES)] for name, figures in self._asdict().items()]
        return [["", "NLL", "−ELBO", "KL", "MI", "active units", "seconds", "verdict"], *rows]


def rescue(
    path: Path,
    remedies: Sequence[str],
    out: Path,
    overrides: Sequence[str] = (),
    reset_decoder: bool = False,
    samples: int = 100,
    items: int | None = None,
    listeners: Sequence[Listener] = (),
    tell: Tell | None = None,
) -> Rescue:
    """Trains a run's best weights on with more remedies, in a folder of its own; the run stays as it is.

    Arguments:
        path: The run's folder.
        remedies: Names of the catalogue, beside those that the run had.
        out: The folder of the new run; the same call goes on with one that is there.
        overrides: "path=value" each, laid over what the run was trained with.
        reset_decoder: Whether the decoder starts anew, and the encoder alone is kept.
        samples: Importance samples an item of both evaluations.
        items: How many test items; None for all.
        listeners: Callables that hear of every `Moment`.
        tell: Hears how far the reading of the data is.

    Raises:
        InputError: for a run without a checkpoint, and for remedies that change the model, so that no weights fit.
    """
    said, about = run.read_spec(path), run.read_environment(path)
    best = newest_best(path / run.CHECKPOINTS, about["identity"])
    if best is None:
        raise InputError(f"the run `{path}` has no checkpoint yet: let it train for an epoch.")
    spec, names = _spec(said, about["asked"], remedies, overrides)

    def begin(model: nn.Module) -> str:
        return _take(model, best.tensors, reset_decoder, "+".join(remedies))

    asked = {"recipe": about["asked"]["recipe"], "remedy": names, "rescued": about["identity"]}
    train(spec, out, asked, listeners, tell=tell, begin=begin)
    reports = []
    for folder in (path, out):
        judged = judge(folder, samples=samples, items=items, trust=True)
        keep(folder, judged)
        reports.append(judged.report)
    return Rescue(*reports)


def _spec(
    said: Mapping[str, Any], asked: Mapping[str, Any], remedies: Sequence[str], overrides: Sequence[str]
) -> tuple[Spec, str]:
    recipe, before = str(asked.get("recipe")), str(asked.get("remedy", "plain"))
    validated(said)  # Without trust: what names the code of others is not run here.
    own = changes(said, recipe, before)
    names = [name for name in before.split("+") if name != "plain"] + list(remedies)
    made = compose(recipe, names, [*own, *overrides])
    return validated({**made, "data": said["data"], "seed": said["seed"]}), "+".join(names)


def _take(model: nn.Module, tensors: Mapping[str, Tensor], reset_decoder: bool, remedies: str) -> str:
    """Gives a model the weights that it shares with the run's, and their digest; what a remedy adds starts anew."""
    there = model.state_dict()
    kept = {k: v for k, v in tensors.items() if not reset_decoder or k.startswith("encoder.")}
    for name, value in kept.items():
        if name not in there or there[name].shape != value.shape:
            raise InputError(
                f"`{remedies}` changes the model (`{name}`), so that the run's weights do not fit: choose a remedy of "
                "the training alone, such as free-bits, or train anew with `uncollapse fit`."
            )
    model.load_state_dict(kept, strict=False)
    return digest(kept)


def _shown(figure: Any) -> str:
    if not isinstance(figure, dict):
        return str(figure)
    value, se = figure.get("value"), figure.get("se")
    return "n/a" if value is None else f"{value:.2f}" + (f" ± {se:.2f}" if se else "")
