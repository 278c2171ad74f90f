"""`fit` and `evaluate`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from uncollapse.cli import show
from uncollapse.cli.options import Kind, Options
from uncollapse.cli.values import Items, Place, Samples, Seconds, Seed
from uncollapse.data.kinds import offered
from uncollapse.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from uncollapse.data.kinds import Data
    from uncollapse.experiment.execute import Judged
    from uncollapse.experiment.hardware import Hardware
    from uncollapse.experiment.spec import Training
    from uncollapse.training.listeners import Listener


def fit(
    data: Kind,
    /,
    *,
    options: Options = Options(),  # noqa: B008 - frozen
    remedies: Annotated[tuple[str, ...], Parameter(name="--with", show_default=False)] = (),
    seed: Seed = 0,
    out: Place | None = None,
    samples: Samples = 500,
    items: Items | None = None,
    quiet: bool = False,
    json: bool = False,
    tensorboard: bool = False,
    watch: bool = False,
    checkpoint_seconds: Seconds = 120.0,
) -> None:
    """Train a VAE and evaluate it on the test split; the same command goes on from the last checkpoint.

    Arguments:
        data: What to train on, by the name of a kind of data or of a recipe.
        remedies: Remedies against collapse, such as aggressive+anneal; repeatable. `uncollapse remedies` lists them.
        seed: Of every random source in training.
        out: The run's folder; runs/RECIPE-REMEDIES-seedN where it is not given.
        samples: Importance samples an item of the NLL; 0 for no NLL.
        items: How many test items to evaluate; all where it is not given.
        quiet: Show no progress.
        json: Print the figures as JSON.
        tensorboard: Write them for TensorBoard too, in the run's folder.
        watch: Look at the posteriors every 100 steps, and say when units die; the looks are kept in the run's folder.
        checkpoint_seconds: The longest time between two checkpoints within an epoch.
    """
    names, (kind, recipe) = options.title(remedies), options.chosen(data)
    spec = options.spec(data, [names], seed)
    folder = out or Path("runs") / f"{recipe}-{names}-seed{spec.seed}"
    from uncollapse.experiment import execute

    extra = [_tensorboard(folder)] if tensorboard else []
    hardware = options.launch()
    leads = hardware.processes.leads
    said, asked = quiet or not leads, {"recipe": recipe, "remedy": names}
    with show.training(said) as shown, show.reading(said) as tell:
        say = show.remark if leads else None
        observe = _watching(folder, hardware) if watch else None
        execute.train(spec, folder, asked, [*shown, *extra], hardware, checkpoint_seconds, tell, say, observe)
    if leads and not quiet:
        show.note(f"evaluating the test split, {samples} samples an item")
    # The spec in the folder is the one that was just written.
    judged = execute.judge(folder, samples=samples, items=items, hardware=hardware, trust=True)
    if leads:
        coded = judged.figures.rows.law is not None
        after = _next(folder, judged.report["verdict"], names, offered(kind).example, coded, _charged(spec.training))
        _conclude(folder, judged, json, after)


def evaluate(
    run: Place,
    /,
    *,
    split: Literal["train", "valid", "test"] = "test",
    samples: Samples = 500,
    items: Items | None = None,
    seed: Seed = 0,
    device: str = "cpu",
    trust: bool = False,
    json: bool = False,
) -> None:
    """Measure the best weights of a run; the figures are kept in its folder too.

    Arguments:
        run: The run's folder.
        split: Of its data.
        samples: Importance samples an item of the NLL; 0 for no NLL.
        items: How many items, always the same ones; all where it is not given.
        seed: Of the evaluation's noise.
        device: Where to measure, such as cpu or cuda.
        trust: Import the code of others that the run's spec names, and run it.
        json: Print the figures as JSON.
    """
    from uncollapse.experiment.execute import judge
    from uncollapse.experiment.hardware import Hardware
    from uncollapse.training.devices import check_device

    hardware = Hardware(check_device(device))
    with show.reading() as tell:
        judged = judge(run, split, samples, items, seed, hardware, tell, trust)
    _conclude(run, judged, json)


def _conclude(run: Path, judged: Judged, json: bool, after: str = "") -> None:
    """Keeps the figures of a run, and prints them even where they cannot be kept."""
    from uncollapse.experiment.execute import keep

    try:
        keep(run, judged)
    finally:
        if json:
            show.document({"run": str(run), **judged.report})
        else:
            show.say(f"{judged.figures}\n\n{judged.report['verdict']}{after}")


def _next(folder: Path, verdict: str, remedies: str, example: str, coded: bool = True, charged: bool = False) -> str:
    """What to do with a run.

    Arguments:
        folder, verdict, remedies: Its own.
        example: Two items of its kind.
        coded: Whether items have a code, to be encoded and interpolated by.
        charged: Whether the rate weighs all of itself in the end.
    """
    run = shlex.quote(str(folder))
    lines = [
        f"uncollapse generate {run} -n 5",
        f"uncollapse interpolate {run} {example}",
        f"uncollapse encode {run} FILE -o z.npy",
    ]
    lines = lines if coded else lines[:1]
    if verdict.startswith("mismatched"):  # No draws of the prior, which are new to the decoder.
        changed = "objective.weights.rate up to 1, without `beta` or a dial that keeps it lower"
        if charged:
            changed = "a prior that learns where codes are, such as `mixture-prior` or `vampprior` beside the rest"
        lines = [f"the same command with {changed}, and another --out", *lines[1:]]
    if verdict.startswith("no latents"):
        lines = lines[:1]
    if verdict.startswith("unknown: the model tells labels"):
        lines = lines[2:]
    if verdict.startswith(("collapsed", "partly")):
        lines = [*_instead(set(remedies.split("+"))), *lines[:1]]
    if remedies == "plain" and verdict.startswith(("collapsed", "partly", "healthy", "mismatched")):
        lines.append(f"uncollapse recommend {run}, for what to try first; of text that is --with recommended")
    return "\n\nNext:\n" + "\n".join(f"  {line}" for line in lines)


def _charged(training: Training) -> bool:
    dial = training.dials.get("objective.weights.rate")
    weight = training.objective.weights.get("rate", 1.0)
    return (weight if dial is None else getattr(dial, "stop", getattr(dial, "value", 1.0))) >= 1


def _instead(used: set[str]) -> list[str]:
    """What to try where some remedies were not enough; remedies that clash are not joined."""
    if not used & {"aggressive", "aggressive-budget"}:
        return ["the same command with --with aggressive, and another --out"]
    if not used & {"anneal", "slow-anneal", "beta"}:
        return [f"the same command with --with {'+'.join(sorted({*used, 'anneal'}))}, and another --out"]
    return [
        "the same command with more epochs, --set training.max_epochs=N, and another --out",
        "uncollapse compare, with the same data and options, to see what each remedy does to them",
    ]


def _watching(folder: Path, hardware: Hardware) -> Callable[[nn.Module, Data], Listener]:
    if hardware.sharded:
        raise InputError("`--watch` looks from one process, and of a model in pieces none has the whole: leave it out.")
    from uncollapse.experiment.run import WATCH
    from uncollapse.experiment.watching import Watching

    return lambda model, data: Watching(folder / WATCH, model, data.batches("valid"), show.remark)


def _tensorboard(folder: Path) -> Listener:
    if find_spec("tensorboard") is None:
        raise InputError("TensorBoard is not installed: `pip install 'uncollapse[tensorboard]'`.")
    from uncollapse.experiment.run import TENSORBOARD
    from uncollapse.training.listeners import TensorBoard

    return TensorBoard(folder / TENSORBOARD)
