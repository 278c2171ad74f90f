"""What a run's folder keeps of what its model writes, so that a report shows it without the model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from uncollapse.errors import InputError
from uncollapse.experiment import run
from uncollapse.experiment.trained import Trained

#: The name of the file.
EXAMPLES = "examples.json"
#: What models raise that cannot write: those of one's own, and those whose prior or posterior needs more.
_CANNOT = (InputError, TypeError, RuntimeError, NotImplementedError)


def examples(trained: Trained, ends: Sequence[str] = (), seed: int = 0) -> dict[str, Any]:
    """Draws of the prior, what two items become when they are encoded and decoded, and the line between them, as lines.

    Arguments:
        trained: The model in use.
        ends: The two items as a person writes them; two of the draws where they are not given, or where the model knows
            no word of them.
        seed: Of the draws.
    """
    lines, found = trained.interface.lines, dict[str, Any]()
    with suppress(*_CANNOT):
        found["samples"] = lines(trained.generate(5, seed=seed))
    drawn = [line for line in dict.fromkeys(found.get("samples", [])) if line]
    for two in (ends, drawn[:2]):
        if "interpolations" not in found and len(two) == 2:
            with suppress(*_CANNOT):
                items = [trained.interface.item(said) for said in two]
                written = lines(trained.reconstruct(trained.interface.together(*items)))
                found["reconstructions"] = [list(pair) for pair in zip(two, written, strict=True)]
                found["interpolations"] = [lines(trained.interpolate(*items))]
    return found


def keep(folder: Path, found: dict[str, Any]) -> None:
    """Keeps examples in a run's folder, if there are any."""
    if found:
        run.write_json(folder / EXAMPLES, found)
