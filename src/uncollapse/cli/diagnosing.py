"""`diagnose`: what state a run, or a model of one's own, is in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from uncollapse.cli import show
from uncollapse.cli.values import Items, Place, Seed
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
