"""`compare` and `demo`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from uncollapse.cli import show
from uncollapse.cli.options import Kind, Options
from uncollapse.cli.reporting import write
from uncollapse.cli.values import Cells, Gibibytes, Items, Jobs, Place, Samples, Seed, Seeds, Share
from uncollapse.data.kinds import offered
from uncollapse.errors import InputError, TrainingError

if TYPE_CHECKING:
    from uncollapse.experiment.engines import Where
    from uncollapse.experiment.spec import Spec
    from uncollapse.experiment.summary import Comparison

DEMO = ("plain", "anneal", "aggressive")
ENDS = ("returns a list of all names in the module", "this method is called when an error occurs")
INTRODUCTION = """\
The same LSTM-VAE is trained three times from seed {seed} on sentences of the standard library's documentation: plainly,
with KL annealing, and with aggressive training of the inference network. The KL, the mutual information and the active
units show whether it uses its latent variable; the likelihood alone does not. {departs}
"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where cells run, and what each needs there.

    Arguments:
        engine: This machine's processes, a Ray cluster, or Slurm; the results go into folders that all machines share.
        address: Of a Ray cluster that is running, such as auto; one is started on this machine where it is not given.
        cell_cpus: Processors of each cell; of this machine an equal share where it is not given, elsewhere 1.
        cell_gpus: GPUs of each, on a cluster.
        cell_memory: Its memory in GiB, on a cluster.
        slurm: What else sbatch is asked for, NAME=VALUE, such as partition=gpu or time=240 (minutes); repeatable.
    """

    engine: Literal["local", "ray", "slurm"] = "local"
    address: str | None = None
    cell_cpus: Jobs | None = None
    cell_gpus: Share = 0.0
    cell_memory: Gibibytes | None = None
    slurm: Annotated[tuple[str, ...], Parameter(show_default=False)] = ()

    def where(self) -> Where:
        """The same, as `experiment.compare` takes it."""
        from uncollapse.experiment.engines import Where

        return Where(self.engine, self.address, self.cell_cpus, self.cell_gpus, self.cell_memory, self.slurm)


HERE = Cluster()


def compare(
    data: Kind,
    /,
    *,
    options: Options = Options(),  # noqa: B008 - frozen
    remedies: str = "plain,anneal,aggressive,aggressive+anneal",
    seeds: Seeds = 5,
    jobs: Cells = 2,
    cluster: Cluster = HERE,
    out: Place,
    samples: Samples = 500,
    items: Items | None = None,
    race: Items | None = None,
    json: bool = False,
) -> None:
    """Train with several remedies from several seeds, each a cell of its own, and compare them.

    The same command goes on where it was stopped; with more remedies or seeds it extends the comparison.

    Arguments:
        data: What to train on, by the name of a kind of data or of a recipe.
        remedies: With commas between them; "core", "fast" and "all" are sets, of which those that do not fit the data
            are named with the reason.
        seeds: How many, from 0 on.
        jobs: How many to train at the same time.
        out: The comparison's folder.
        samples: Importance samples an item of the NLL; 0 for no NLL.
        items: How many test items to evaluate; all where it is not given.
        race: Epochs after which a cell is stopped whose best validation bound is more than five standard errors worse
            than plain training's with the same seed; it is named with the reason. None is where it is not given.
        json: Print the comparison as JSON.
    """
    from uncollapse.experiment.sets import NAMES, chosen

    asked = [name if name in NAMES else options.title([name]) for name in remedies.split(",")]
    names, refused = chosen(asked, options.catalogue, lambda name: options.spec(data, [name], 0))
    how: dict[str, Any] = {"refused": refused, "optional": {*names} - {*asked}, "cluster": cluster, "race": race}
    found = run(data, options, names, list(range(seeds)), out, jobs, samples, items, **how)
    if json:
        show.document(found.to_json())
    else:
        _print(found)
        show.say(f"\n{out / 'comparison.json'} has the figures; each run is in {out / 'cells'}.")
    complain(found, names, list(range(seeds)), out)


def demo(
    *,
    seed: Seed = 0,
    out: Place = Path("runs/demo"),
    overrides: Annotated[tuple[str, ...], Parameter(name="--set", show_default=False)] = (),
    samples: Samples = 100,
    json: bool = False,
) -> None:
    """Watch a text VAE collapse and not collapse, on text that this machine has; about three minutes.

    Arguments:
        seed: Of every random source in training.
        out: The comparison's folder.
        overrides: Any entry of the spec as path=value; repeatable.
        samples: Importance samples an item of the NLL; 0 for no NLL.
        json: Print the comparison as JSON, and nothing else.
    """
    from uncollapse.experiment.catalogue import recipes
    from uncollapse.experiment.summary import Comparison

    said = "" if json else INTRODUCTION.format(seed=seed, departs=recipes()["demo"].departs)
    found = run("stdlib", Options(overrides=overrides), list(DEMO), [seed], out, 2, samples, None, said)
    shown = Comparison([row for row in found.rows if row["seed"] == seed])
    if json:
        show.document(shown.to_json())
        return complain(found, list(DEMO), [seed], out)
    _print(shown)
    complain(found, list(DEMO), [seed], out)
    _speak(out / "cells" / f"aggressive-seed{seed}", seed)
    show.say(f"\n{out / 'comparison.json'} has the figures; each run is in {out / 'cells'}.")
    _report(out, seed)


def run(
    data: Kind,
    options: Options,
    names: list[str],
    seeds: list[int],
    out: Path,
    jobs: int,
    samples: int,
    items: int | None,
    introduction: str = "",
    refused: Mapping[str, str] | None = None,
    optional: Collection[str] = (),
    cluster: Cluster = HERE,
    race: int | None = None,
) -> Comparison:
    """Trains and evaluates what some options say, having refused first what every cell would refuse.

    What is `refused` already, and what is `optional` and makes no model of this data, is named with the reason.
    """
    specs = {name: options.spec(data, [name], seeds[0]) for name in names}
    from uncollapse.experiment import compare
    from uncollapse.experiment.summary import BASELINE
    from uncollapse.training.devices import check_device

    if race is not None and BASELINE not in names:
        raise InputError("`--race` holds cells against plain training: add `plain` to `--remedies`.")
    where = cluster.where()
    where.check(jobs)
    # What is bad, or has changed, is said once, not by every cell.
    if where.engine == "local":  # Of other machines it is not known.
        check_device(options.device)
    kind, _ = options.chosen(data)
    facts, mark = _read(kind, specs[names[0]])
    unbuilt = dict(_unbuilt(specs, facts) if where.engine == "local" else ())
    for name, why in unbuilt.items():
        if name not in optional or name == BASELINE:
            raise InputError(why)
    kept = [name for name in names if name not in unbuilt]
    how: dict[str, Any] = {"jobs": jobs, "samples": samples, "items": items, "data": mark, "where": where}
    how |= {"begins": _begins(specs, options.overrides), "refused": {**(refused or {}), **unbuilt}, "race": race}
    if introduction:
        print(introduction, flush=True)
    with show.cells() as shown:
        return compare.run(options.arguments(data), kept, seeds, out, **how, show=shown)


def _read(kind: str, spec: Spec) -> tuple[Mapping[str, Any], str | None]:
    """What networks need to know of the data, and its fingerprint where files hold it."""
    from uncollapse.experiment import build

    if least := offered(kind).least:  # What no file holds cannot have changed, and may take seconds to make.
        return least, None
    with show.reading() as tell:
        read = build.data(spec, tell)
    return read.facts, read.fingerprint if offered(kind).files else None


def _unbuilt(specs: Mapping[str, Spec], facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The names of the specs that make no model of this data, with why."""
    from uncollapse.experiment import build

    for name, spec in specs.items():
        try:
            build.check_memory(spec, facts)
        except InputError as error:
            yield name, str(error)


def _begins(specs: Mapping[str, Spec], overrides: Iterable[str]) -> dict[str, list[str]]:
    """The entries in which some specs name language models, but for those that a person has set."""
    from uncollapse.experiment.start import begun_from

    own = {one.partition("=")[0].strip() for one in overrides}
    found = {name: [one for one in begun_from(spec) if one not in own] for name, spec in specs.items()}
    return {name: entries for name, entries in found.items() if entries}


def _print(found: Comparison) -> None:
    """The figures, a verdict a row, and the differences to plain."""
    rows = found.table()
    show.table([row[:-1] for row in rows])
    print()
    show.table([[row[0], row[-1]] for row in rows])
    differences = found.differences()
    if len(differences) > 1:
        print()
        show.table(differences)
    ranked = found.ranking()
    if len(ranked) > 4:
        print()
        show.table(ranked)


def _speak(folder: Path, seed: int) -> None:
    """A few sentences of a trained model."""
    from uncollapse.experiment.api import load

    trained = load(folder)
    print("\nSentences from the prior of the model with aggressive training:")
    show.say(*(f"  {text}" for text in trained.generate(5, "sample", temperature=0.7, seed=seed)))
    print(f'\nOn the line from "{ENDS[0]}" to "{ENDS[1]}":')
    try:
        texts = trained.interpolate(*ENDS, steps=5)
    except InputError as error:  # With a `--set` that leaves few words.
        texts = [f"nothing: {error}"]
    show.say(*(f"  {text}" for text in texts))


def _report(out: Path, seed: int) -> None:
    """Writes the report of a demo, with what each of its models writes; as Markdown where a page cannot be made."""
    from uncollapse.experiment.api import load
    from uncollapse.experiment.examples import examples, keep
    from uncollapse.report.content import content
    from uncollapse.report.folders import find
    from uncollapse.report.html import can_be_made

    for remedy in DEMO:
        folder = out / "cells" / f"{remedy}-seed{seed}"
        keep(folder, examples(load(folder), ENDS, seed))
    kind = "html" if can_be_made() else "md"
    target = out / f"report.{kind}"
    write(content(find([out])), target, kind)
    how = "open it in a browser" if kind == "html" else "`pip install 'uncollapse[report]'` makes a page of it"
    show.say(f"{target} is the report: {how}.")


def complain(found: Comparison, names: list[str], seeds: list[int], out: Path) -> None:
    """Raises a TrainingError where cells that were asked for have failed."""
    failed = [r for r in found.rows if "error" in r and r["remedy"] in names and r["seed"] in seeds]
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(names) * len(seeds)} cells failed: {failed[0]['error']} "
            f"Their output is in {out / 'cells'}/*.log; the same command tries them again."
        )
