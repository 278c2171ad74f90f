"""What a run's folder keeps of what its model writes, so that a report shows it without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uncollapse.errors import InputError
from uncollapse.experiment import run
from uncollapse.experiment.trained import Trained

#: The name of the file.
EXAMPLES = "examples.json"


def examples(trained: Trained, first: str, second: str, number: int = 5, seed: int = 0) -> dict[str, Any]:
    """Draws of the prior, what becomes of two items, and the line between them, as lines.

    Arguments:
        trained: The model in use.
        first, second: Two items as a person writes them.
        number: How many draws, and how many steps of the line.
        seed: Of the draws.
    """
    lines = trained.interface.lines
    ends = [trained.interface.item(said) for said in (first, second)]
    written = lines(trained.reconstruct(trained.interface.together(*ends)))
    return {
        "samples": lines(trained.generate(number, seed=seed)),
        "reconstructions": [list(pair) for pair in zip((first, second), written, strict=True)],
        "interpolations": [lines(trained.interpolate(*ends, steps=number))],
    }


def keep(folder: Path, trained: Trained, first: str, second: str, seed: int = 0) -> None:
    """Keeps examples in a run's folder; none where the model cannot write them, or does not know the items' words."""
    try:
        found = examples(trained, first, second, seed=seed)
    except InputError:
        return
    run.write_json(folder / EXAMPLES, found)
