"""The recipes of the sizes that papers trained: they begin, are killed, and go on to the same weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from test_trainer import Killed, kill_at
from uncollapse.cli.options import Options
from uncollapse.experiment import execute
from uncollapse.experiment.api import load


def _texts(folder: Path) -> Path:
    (folder / "a.txt").write_text("".join(f"{word} b c\n" for word in "abcdefghijkl"))
    return folder / "a.txt"


def _pairs(folder: Path) -> Path:
    (folder / "a.tsv").write_text("".join(f"{word}b\tpos=N\t{word}c\n" for word in "abcdefghijkl"))
    return folder / "a.tsv"


def _images(folder: Path) -> Path:
    np.save(folder / "a.npy", np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8))
    return folder / "a.npy"


FULL: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "he2019-text": ("text", _texts),
    "ptb": ("text", _texts),
    "sigmorphon2016": ("inflection", _pairs),
    "he2019-omniglot": ("images", _images),
    "he2019-omniglot-released": ("images", _images),
}


@pytest.mark.parametrize("recipe", FULL)
def test_a_recipe_of_full_size_begins_and_goes_on_after_a_kill(recipe: str, tmp_path: Path) -> None:
    kind, write = FULL[recipe]
    settings = ("training.max_epochs=1", "data.batch_size=5")
    options = Options(train=write(tmp_path), recipe=recipe, overrides=settings)
    spec = options.spec(kind, ["plain"], 0)
    with suppress(Killed):
        execute.train(spec, tmp_path / "killed", {}, [kill_at(1)])
    execute.train(spec, tmp_path / "killed", {})
    execute.train(spec, tmp_path / "whole", {})
    killed, whole = (load(tmp_path / name).model.state_dict() for name in ("killed", "whole"))
    assert all(torch.equal(killed[name], value) for name, value in whole.items())
