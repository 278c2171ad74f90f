"""Published figures and tables to be made again: what there is, and what each comes to, as JSON.

A reproduction at a scale names a recipe, remedies and settings; runs that several of them share are trained once. What
one comes to says its source, how it departs from it, and the published numbers beside its own:

space         runs: by remedy, records with `step`, `true` and `inferred`, points of the same items; see `MeanSpace`
trajectory    runs: by remedy, the `item`, and by step its `true` and `inferred`
course        runs: by remedy, records with `step`, `kl`, `mi` and `marginal_kl`, each with its error
table         rows and differences of a comparison, and the `table` of both in words; see `summary.Comparison`
points        points: remedy, seed, `nll` and `active_units` of every run
evaluations   runs: by remedy, the mean and the variance of each figure over the evaluations
samples       rows: the scores of each run's samples, by how they were drawn, and the `table` of them; see `sampled`

Each has the `card` of published figures beside ours, and the `orders` of the trainings; see `cards`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import mean, variance
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from uncollapse.errors import InputError, unknown
from uncollapse.experiment import cards
from uncollapse.experiment.catalogue import Reference, parse, references
from uncollapse.experiment.sections import Section
from uncollapse.quantities import Count, Index

if TYPE_CHECKING:
    from torch import nn

    from uncollapse.data.kinds import Data
    from uncollapse.experiment.hardware import Hardware
    from uncollapse.experiment.spec import Spec
    from uncollapse.experiment.summary import Comparison
    from uncollapse.training.listeners import Listener

REGISTRY = files("uncollapse.experiment").joinpath("reproductions")
#: The remedies that only reproductions have.
VARIANTS = Path(str(REGISTRY)) / "variants.yaml"
#: How often a model is evaluated for a table of evaluations.
EVALUATIONS = 10
#: The figures of a table of evaluations.
FIGURES = ("nll", "neg_elbo", "kl", "mi", "active_units")

Draws = Literal["space", "trajectory", "course", "table", "points", "evaluations", "samples"]
#: What is drawn of trainings that are watched, and not of a comparison.
WATCHED = ("space", "trajectory", "course")


class Scale(Section):
    """What is run.

    Arguments:
        recipe: The spec to start from.
        remedies: Of the catalogue and of `variants.yaml`.
        settings: Entries of the spec, as path=value.
        of_a_file: More of them where the data is a person's file.
        seeds: How many.
        samples: Importance samples an item of the NLL.
        folder: The name of the comparison that holds the runs; reproductions with the same name share them.
        cost: The time it takes, in words.
        departs: How it departs from the source; null where it does not.
    """

    recipe: str
    remedies: list[str]
    settings: list[str] = Field(default_factory=list)
    of_a_file: list[str] = Field(default_factory=list)
    seeds: Count = 1
    samples: Index = 500
    folder: str = "ways"
    cost: str
    departs: str | None = None


class Reproduction(Section):
    """A figure or table that can be made again.

    Arguments:
        source: The figure or table.
        says: What it shows there.
        compared: What is compared.
        cite: Where it is from.
        draws: What of the runs it is made of; see the module.
        small, paper: What is run on a machine of today's desks, and what the source ran.
        published: The published numbers: the names of the columns, and by data set and remedy their values.
    """

    name: str
    source: str
    says: str
    compared: str
    cite: Reference
    draws: Draws
    small: Scale
    paper: Scale
    published: dict[str, Any] = Field(default_factory=dict)

    def at(self, scale: Literal["small", "paper"]) -> Scale:
        """What is run at a scale."""
        return self.small if scale == "small" else self.paper


@cache
def reproductions() -> dict[str, Reproduction]:
    """What there is, by id, such as "he2019/figure2"."""
    found: dict[str, Reproduction] = {}
    for file in sorted(REGISTRY.iterdir(), key=lambda file: file.name):
        said = parse(file.read_text("utf-8"), file.name)
        for name, entry in said.get("entries", {}).items():
            name = f"{Path(file.name).stem}/{name}"
            found[name] = Reproduction(**entry, name=name, cite=references()[said["cite"]])
    return found


def named(name: str) -> Reproduction:
    """A reproduction by its id.

    Raises:
        InputError: for one that there is not.
    """
    if name not in reproductions():
        raise unknown("reproduction", name, reproductions())
    return reproductions()[name]


def watched(
    spec: Spec,
    recipe: str,
    remedy: str,
    out: Path,
    listeners: Sequence[Listener] = (),
    hardware: Hardware | None = None,
) -> Path:
    """The folder of a run that was trained with its course; one that is trained already stays as it is.

    Arguments:
        spec: Of the run.
        recipe, remedy: What it is made of, by name.
        out: Where the runs' folders go.
        listeners, hardware: As for `execute.train`; this process and its CPU where there is no hardware.
    """
    from uncollapse.experiment import execute
    from uncollapse.experiment.hardware import ONE

    run, asked = out / f"{recipe}-{remedy}-seed{spec.seed}", {"recipe": recipe, "remedy": remedy}
    execute.train(spec, run, asked, listeners, hardware or ONE, observe=_observer(run, spec))
    return run


def _observer(run: Path, spec: Spec) -> Callable[[nn.Module, Data], Listener]:
    from uncollapse.experiment import build, course
    from uncollapse.experiment.execute import subset
    from uncollapse.experiment.probe import ITEMS

    # By weights, as more units need, so many looks at posterior mean space would take longer than the training.
    latent: int | None = getattr(spec.model, "latent", None)
    measures = tuple(course.SCHEDULE) if latent in (1, 2) else ("information",)

    def observe(model: nn.Module, data: Data) -> Listener:
        some = subset(data.batches("valid"), ITEMS)
        return course.Course(run / course.FOLDER, model, some, build.inference(spec.training), measures)

    return observe


def of_course(draws: Draws, runs: Mapping[str, Path]) -> dict[str, Any]:
    """What is drawn of watched trainings.

    Raises:
        InputError: where one was not watched in posterior mean space.
    """
    from uncollapse.experiment.course import records

    for run in runs.values():
        if draws != "course" and not records(run, draws):
            raise InputError(f"`{run}` has more than two latent units, of which no posterior mean space is kept.")
    made: dict[str, Callable[[Path], Any]] = {
        "space": lambda run: records(run, "space"),
        "trajectory": lambda run: _trajectory(records(run, "trajectory")),
        "course": lambda run: [_information(record) for record in records(run, "information")],
    }
    return {"runs": {remedy: made[draws](run) for remedy, run in runs.items()}}


def _trajectory(kept: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The way of the item whose true posterior's mean is farthest from 0 at the end, before the best weights return."""
    last = kept[-2]["true"]
    far = max(range(len(last)), key=lambda i: sum(value**2 for value in last[i]))
    steps = [{"step": one["step"], "true": one["true"][far], "inferred": one["inferred"][far]} for one in kept[:-1]]
    return {"item": kept[-1]["items"][far], "steps": steps}


def _information(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("step", "epoch", "kl", "mi", "marginal_kl")}


def of_comparison(draws: Draws, found: Comparison) -> dict[str, Any]:
    """What is drawn of a comparison: its table, or a point a run."""
    if draws == "table":
        return {**found.to_json(), "table": found.table()}
    done = [row for row in found.rows if "verdict" in row]
    return {"points": [{name: row[name] for name in ("remedy", "seed", "nll", "active_units")} for row in done]}


def of_evaluations(run: Path, samples: int) -> dict[str, Any]:
    """The mean and the variance of each figure over evaluations of one run, each with noise of its own."""
    from uncollapse.experiment.execute import judge

    reports = [judge(run, samples=samples, seed=seed, trust=True).report for seed in range(EVALUATIONS)]
    found: dict[str, Any] = {}
    for figure in FIGURES:
        values = [report[figure]["value"] for report in reports if "value" in report[figure]]
        found[figure] = {"mean": mean(values), "variance": variance(values), "n": len(values)} if values else None
    return found


def document(
    entry: Reproduction,
    scale: Literal["small", "paper"],
    settings: Sequence[str],
    content: Mapping[str, Any],
    known_as: str | None = None,
) -> dict[str, Any]:
    """What a reproduction came to, with all that a reader must know of it.

    Arguments:
        entry: The reproduction.
        scale: At which it was made.
        settings: Of all runs, as path=value, those that a person asked for among them.
        content: What it came to.
        known_as: The published data set that its data is; None where it is another.
    """
    about = entry.at(scale)
    found = {
        "id": entry.name,
        "source": entry.source,
        "cite": entry.cite.model_dump(mode="json"),
        "says": entry.says,
        "compared": entry.compared,
        "draws": entry.draws,
        "scale": scale,
        "recipe": about.recipe,
        "settings": list(settings),
        "departs": about.departs,
        "published": entry.published,
        "known_as": known_as,
        **content,
    }
    return {**found, "card": cards.card(found, known_as), "orders": cards.orders(found)}
