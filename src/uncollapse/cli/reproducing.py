"""`reproduce`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from uncollapse.cli import comparing, show
from uncollapse.cli.options import Options
from uncollapse.cli.values import Jobs, Place
from uncollapse.data.kinds import KINDS
from uncollapse.errors import InputError

if TYPE_CHECKING:
    from uncollapse.experiment.reproduce import Reproduction, Scale
    from uncollapse.experiment.spec import Spec
    from uncollapse.experiment.summary import Comparison

Size = Literal["small", "paper"]


def reproduce(
    name: str | None = None,
    /,
    *,
    scale: Size = "small",
    data: Annotated[Place | None, Parameter(name=["--data", "--text"])] = None,
    valid: Place | None = None,
    test: Place | None = None,
    known_as: Annotated[str | None, Parameter(name="--as")] = None,
    out: Place = Path("runs/reproduce"),
    overrides: Annotated[tuple[str, ...], Parameter(name="--set", show_default=False)] = (),
    device: str = "cpu",
    jobs: Jobs = 2,
    json: bool = False,
) -> None:
    """Make a published figure or table again, or list those that can be; the same command goes on where it was stopped.

    Arguments:
        name: Such as he2019/figure2.
        scale: What this machine can do, or what the source did.
        data: A text of yours, one item a line, or images; of a table of He et al. at the scale small in place of the
            standard library's.
        valid: Its validation file; a tenth of the data where it is not given.
        test: Its test file; another tenth.
        known_as: The published data set that these files are, such as Yahoo: differences to its figures are said in
            standard deviations. Of other data none are taken.
        out: Where runs and results go; reproductions share the runs that they have in common.
        overrides: Any entry of the spec as path=value; repeatable.
        device: Where to train, such as cpu or cuda.
        jobs: How many to train at the same time, of a table.
        json: Print what it came to as JSON.
    """
    from uncollapse.experiment import cards, reproduce

    if name is None:
        return _list(json)
    entry = reproduce.named(name)
    word, options = asked(entry, scale, data, overrides, device, valid, test)
    if known_as is not None and data is None:
        raise InputError(f"`--as {known_as}` says which published data your files are: give them by `--data FILE`.")
    cards.check(entry.published, known_as)
    made = _made(entry, entry.at(scale), word, options, out / scale, jobs, json)
    found = reproduce.document(entry, scale, options.overrides, made, known_as)
    path = _stored(found, out / scale)
    if json:
        return show.document(found)
    _tell(entry, found)
    draws = f"`uncollapse report {shlex.quote(str(path))}` draws it"
    show.say(f"\n{path} has it all; {draws}; the runs are in {out / scale}.")


def _list(json: bool) -> None:
    from uncollapse.experiment.reproduce import reproductions

    there = reproductions().values()
    if json:
        return show.document([one.model_dump(mode="json") for one in there])
    body = [[one.name, one.source, one.compared, one.small.cost, one.paper.cost] for one in there]
    show.table([["id", "source", "what is compared", "small", "paper"], *body])


def _made(
    entry: Reproduction, scale: Scale, word: str, options: Options, out: Path, jobs: int, quiet: bool
) -> dict[str, Any]:
    """What a reproduction comes to."""
    from uncollapse.experiment import reproduce

    draws = entry.draws
    if draws in reproduce.WATCHED:
        return reproduce.of_course(draws, _watched(word, options, scale, out / "watched", quiet))
    folder, seeds = out / scale.folder, list(range(scale.seeds))
    names = [options.title([remedy]) for remedy in scale.remedies]
    if draws == "samples":
        return _sampled(word, options, names, seeds, folder, jobs, scale.samples)
    found = _trained(word, options, names, seeds, folder, jobs, scale.samples).only(names, seeds)
    spent = {"core_hours": found.core_hours()}
    if draws == "evaluations":
        runs = {name: reproduce.of_evaluations(folder / "cells" / f"{name}-seed0", scale.samples) for name in names}
        return {"runs": runs, **spent}
    return {**reproduce.of_comparison(draws, found), **spent}


def _trained(
    word: str, options: Options, names: list[str], seeds: list[int], folder: Path, jobs: int, samples: int
) -> Comparison:
    found = comparing.run(word, options, names, seeds, folder, jobs, samples, None)
    comparing.complain(found, names, seeds, folder)
    return found


def _sampled(
    word: str, options: Options, names: list[str], seeds: list[int], folder: Path, jobs: int, samples: int
) -> dict[str, Any]:
    """Models of a part of a text, and what their samples are worth by the rest of it."""
    from uncollapse.experiment import sampled

    assert options.train is not None
    texts = sampled.divided(options.train, folder.with_name(f"{folder.name}-texts"))
    options = replace(options, train=texts.train, valid=texts.valid, test=texts.test)
    found = _trained(word, options, names, seeds, folder, jobs, samples).only(names, seeds)
    cells = {name: [folder / "cells" / f"{name}-seed{seed}" for seed in seeds] for name in names}
    return {**sampled.of_samples(cells, texts), "core_hours": found.core_hours()}


def _watched(word: str, options: Options, scale: Scale, out: Path, quiet: bool) -> dict[str, Path]:
    """The runs by remedy, trained one after the other."""
    from uncollapse.experiment.reproduce import watched

    specs, hardware, runs = specs_of(word, options, scale), options.launch(), dict[str, Path]()
    for remedy, spec in specs.items():
        if not quiet:
            show.note(f"training {remedy}, {len(runs) + 1} of {len(specs)}")
        with show.training(quiet) as shown:
            runs[remedy] = watched(spec, scale.recipe, remedy, out, shown, hardware)
    return runs


def asked(
    entry: Reproduction,
    size: Size,
    data: Path | None,
    overrides: tuple[str, ...] = (),
    device: str = "cpu",
    valid: Path | None = None,
    test: Path | None = None,
) -> tuple[str, Options]:
    """What to train on, and the options of `fit` that a reproduction stands for.

    Raises:
        InputError: where it needs a file that is not given, or has data of its own.
    """
    from uncollapse.experiment.catalogue import recipes
    from uncollapse.experiment.reproduce import VARIANTS

    scale = entry.at(size)
    kind: str = recipes()[scale.recipe].spec["data"]["kind"]
    if data is None and KINDS[kind].files:
        what = "a text: give `--data FILE`, one item a line" if kind == "text" else "files of yours: give `--data FILE`"
        raise InputError(f"`{entry.name}` at the scale `{size}` needs {what}.")
    if data is not None and not KINDS[kind].files and kind != "stdlib":  # A text takes the place of that one.
        raise InputError(f"`{entry.name}` at the scale `{size}` has data of its own: leave out `--data`.")
    if (valid or test) and (data is None or entry.draws == "samples"):
        why = "divides its text itself" if data else "has data of its own"
        raise InputError(f"`{entry.name}` {why}: leave out `--valid` and `--test`.")
    settings = (*scale.settings, *(scale.of_a_file if data else ()), *overrides)
    options = Options(
        train=data,
        valid=valid,
        test=test,
        recipe=scale.recipe,
        catalogue=VARIANTS,
        overrides=settings,
        device=device,
    )
    return ("text" if kind == "stdlib" and data else kind), options


def specs_of(word: str, options: Options, scale: Scale) -> dict[str, Spec]:
    """The specs of a scale's runs, by remedy, from the first seed."""
    return {options.title([remedy]): options.spec(word, [remedy], 0) for remedy in scale.remedies}


def _stored(found: dict[str, Any], out: Path) -> Path:
    from uncollapse.experiment.run import write_json

    path = out / f"{found['id'].replace('/', '-')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    return path


def _tell(entry: Reproduction, found: dict[str, Any]) -> None:
    """The source, what it shows, how this departs from it, and what came of it."""
    cite = f"{entry.cite.title} ({entry.cite.authors}, {entry.cite.year}), {entry.cite.url}"
    told = [(entry.source, entry.says), ("compared", entry.compared), ("departs", found["departs"] or "")]
    told.append(("settings", ", ".join(found["settings"])))
    if "core_hours" in found:
        told.append(("cost", f"{found['core_hours']:.2f} hours of a processor, at the scale `{found['scale']}`"))
    show.entries([*told, ("source", cite)])
    print()
    show.table(TABLES[found["draws"]](found))
    for table in (found["card"], found["orders"]):
        if len(table) > 1:
            print()
            show.table(table)
    if found["card"][1:] and found["known_as"] is None:
        show.say("\nNo difference to a published figure is taken, as the data is another; the order can be compared.")


def _space(found: dict[str, Any]) -> list[list[str]]:
    names = ("spread_true", "spread_inferred", "slope")
    body = [
        [
            remedy,
            str(one["step"]),
            f"{fmean(z[0] for z in one['inferred']):.2f}",
            *(_shown(one[name]) for name in names),
        ]
        for remedy, records in found["runs"].items()
        for one in records
    ]
    return [["training", "step", "mean of q's means", "spread of the true means", "of q's means", "slope"], *body]


def _trajectory(found: dict[str, Any]) -> list[list[str]]:
    shown = {0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000}
    body = [
        [remedy, str(one["step"]), *(", ".join(f"{v:.3f}" for v in one[name]) for name in ("true", "inferred"))]
        for remedy, way in found["runs"].items()
        for one in way["steps"]
        if one["step"] in shown or one is way["steps"][-1]
    ]
    return [["training", "step", "true posterior's mean", "q's mean"], *body]


def _course(found: dict[str, Any]) -> list[list[str]]:
    names = ("kl", "mi", "marginal_kl")
    body = [
        [remedy, str(one["step"]), *(_shown(one[name]) for name in names)]
        for remedy, records in found["runs"].items()
        for one in records
        if one["step"] % 500 == 0 or one is records[-1]
    ]
    return [["training", "step", "KL", "MI", "marginal KL"], *body]


def _points(found: dict[str, Any]) -> list[list[str]]:
    body = [[p["remedy"], str(p["seed"]), _shown(p["active_units"]), _shown(p["nll"])] for p in found["points"]]
    return [["training", "seed", "active units", "NLL"], *body]


def _evaluations(found: dict[str, Any]) -> list[list[str]]:
    body = [
        [remedy, figure, f"{one['mean']:.3f}", f"{one['variance']:.2g}"]
        for remedy, figures in found["runs"].items()
        for figure, one in figures.items()
        if one
    ]
    return [["training", "figure", "mean", "variance"], *body]


TABLES = {
    "space": _space,
    "trajectory": _trajectory,
    "course": _course,
    "table": lambda found: found["table"],
    "samples": lambda found: found["table"],
    "points": _points,
    "evaluations": _evaluations,
}


def _shown(figure: dict[str, Any]) -> str:
    if figure.get("value") is None:
        return "n/a"
    error = "" if figure.get("se") is None else f" ± {figure['se']:.2f}"
    return f"{figure['value']:.2f}{error}"
