"""`diagnose` and `rescue`: what state a run, or a model of one's own, is in, and a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from uncollapse.cli import show
from uncollapse.cli.values import Items, Place, Samples, Seed
from uncollapse.errors import InputError


def diagnose(
    model: str,
    /,
    *,
    data: Place | None = None,
    split: Literal["train", "valid", "test"] = "test",
    items: Items = 1000,
    seed: Seed = 0,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Say what state a model is in, by evidence, and what to do next.

    Arguments:
        model: A run's folder; or PACKAGE.MODULE:FACTORY, which is imported and run, and gives a model, as made by
            `uncollapse.foreign` of a VAE written elsewhere, or a pair (model, data).
        data: Of such a model, where the factory gives none: a .npz, .npy or .txt file of numbers, an item a row.
        split: Of a run's data.
        items: About how many items to look at.
        seed: Of the noise.
        trust: Import the code of others that the run's spec names, and run it.
        json: Print it as JSON.
    """
    own = ":" in model and not Path(model).is_dir()
    if data is not None and not own:
        raise InputError("`--data` is for a model of your own: a run is diagnosed by its own data, see `--split`.")
    from uncollapse.experiment import examine

    if own:
        show.note(f"uncollapse: importing and running `{model}`.")
        found = examine.of_factory(model, data, items, seed)
    else:
        with show.reading(quiet=json) as tell:
            found = examine.of_run(Path(model), split, items, seed, trust, tell)
    show.document(found.to_json()) if json else show.say(*found.lines())


def rescue(
    run: Place,
    /,
    *,
    remedies: Annotated[tuple[str, ...], Parameter(name="--with")],
    out: Place | None = None,
    overrides: Annotated[tuple[str, ...], Parameter(name="--set", show_default=False)] = (),
    reset_decoder: bool = False,
    samples: Samples = 100,
    items: Items | None = None,
    quiet: bool = False,
    json: bool = False,
) -> None:
    """Train a collapsed run's weights on with another remedy, and say what came of it.

    Arguments:
        run: The run's folder, which stays as it is.
        remedies: Remedies beside those that the run had, such as free-bits; repeatable.
        out: The new run's folder; RUN-rescued-REMEDIES where it is not given.
        overrides: Any entry of the spec as path=value; repeatable.
        reset_decoder: Keep the encoder alone, and let the decoder start anew.
        samples: Importance samples an item of the NLL, before and after.
        items: How many test items to evaluate; all where it is not given.
        quiet: Show no progress.
        json: Print the figures as JSON.
    """
    from uncollapse.experiment.rescue import rescue as rescued

    names = [name for said in remedies for name in said.split("+")]
    folder = out or run.with_name(f"{run.name}-rescued-{'-'.join(names)}")
    with show.training(quiet) as shown, show.reading(quiet) as tell:
        found = rescued(run, names, folder, overrides, reset_decoder, samples, items, shown, tell)
    show.document(found.to_json()) if json else show.table(found.table())
