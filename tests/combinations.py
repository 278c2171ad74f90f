"""Remedies of the catalogue trained together, tiny; as a command, so many random combinations of so many remedies.

python tests/combinations.py --of 3 --count 100 --seed 3
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from uncollapse.data.kinds import KINDS
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.catalogue import recipes, remedies
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import Spec, validated
from uncollapse.metrics.evaluation import evaluate
from uncollapse.training.trainer import Trainer

Names = tuple[str, ...]
#: The recipes that stand for a kind of data each.
RECIPES = ("text", "images", "vectors", "inflection")
#: What makes networks and loops small, wherever a spec has an entry of the name.
TINY = {
    "embedding": 16,
    "hidden": 16,
    "channels": 4,
    "features": 8,
    "kernels": 3,
    "latent": 8,
    "components": 4,
    "count": 2,
    "batch_size": 5,
    "evaluation_batch_size": 5,
}
PAIRS = [f"{a}{b}\tcase={b},num={c}\t{a}{b}{c}" for a in "abc" for b in "xy" for c in "pq"]
LINES = [f"{a} {b} {c}" for a in "abc" for b in "xy" for c in "pq"]


def reads(recipe: str, names: Sequence[str]) -> bool:
    """Whether a recipe's data has what the networks of all of some remedies ask for, and its decoder what they set."""
    if recipe == "images" and "skip" in names:  # Its decoder is a CNN.
        return False
    # They are of a text alone: one has no place for a source and tags, the other a head that writes what was read.
    if recipe == "inflection" and {"z-forcing", "hybrid-cnn"} & {*names}:
        return False
    kind = recipes()[recipe].spec["data"]["kind"]
    return {fact for name in names for fact in remedies()[name].needs} <= set(KINDS[kind].facts)


def combinations(count: int, of: int, seed: int) -> list[Names]:
    """So many random choices of several remedies that merge and that one kind of data can train, each once."""
    draw, names = random.Random(seed), sorted(remedies())
    found: dict[Names, None] = {}
    for _ in range(1000 * count):  # Of many remedies most choices clash.
        if len(found) == count:
            break
        drawn = tuple(sorted(draw.sample(names, of)))
        if drawn not in found and merging(drawn):
            found[drawn] = None
    return list(found)


def merging(names: Sequence[str]) -> list[str]:
    """The recipes with which some remedies make a spec."""
    return [recipe for recipe in RECIPES if reads(recipe, names) and _merge(recipe, names)]


def _merge(recipe: str, names: Sequence[str]) -> bool:
    try:
        validated(compose(recipe, names, ["data.train=any"]))
    except InputError:
        return False
    return True


def spec_of(recipe: str, names: Sequence[str], folder: Path) -> Spec:
    """The spec of a recipe with remedies, all of it small, on data in a folder: two steps, two items to validate on."""
    files = [f"data.{split}={file}" for split, file in _files(recipe, folder).items()]
    if any("label_classes" in remedies()[name].needs for name in names):
        files += [f"data.{split}={file}" for split, file in _labels(folder).items()]
    whole = validated(compose(recipe, names, [*files, "training.max_epochs=1"]))
    sizes = TINY
    if "pretrained-outlines" in names:  # The units of its codes are as many as they are.
        sizes = {name: size for name, size in TINY.items() if name != "latent"}
    return validated(_tiny(whole.model_dump(), sizes))


@cache
def _files(recipe: str, folder: Path) -> dict[str, Path]:
    parts = {"train": slice(0, 10), "valid": slice(8, 12), "test": slice(8, 12)}
    draw, kind, found = np.random.default_rng(0), recipes()[recipe].spec["data"]["kind"], {}
    table = draw.integers(256, size=(12, 5, 6)) if kind == "images" else draw.normal(size=(12, 12)).astype(np.float32)
    for split, part in parts.items():
        if kind in ("text", "inflection"):
            found[split] = folder / f"{kind}-{split}.txt"
            rows = LINES if kind == "text" else PAIRS
            found[split].write_text("\n".join(rows[part]), encoding="utf-8")
        else:
            found[split] = folder / f"{kind}-{split}.npy"
            np.save(found[split], table[part])
    return found


@cache
def _labels(folder: Path) -> dict[str, Path]:
    found = {}
    for split, count in (("labels", 10), ("valid_labels", 4), ("test_labels", 4)):
        found[split] = folder / f"{split}.npy"
        np.save(found[split], np.arange(count) // 2 % 2)  # Of each class two in a batch of five.
    return found


def _tiny(said: Any, sizes: Mapping[str, int], name: str = "") -> Any:
    if isinstance(said, Mapping):
        return {key: _tiny(value, sizes, key) for key, value in said.items()}
    if name in sizes and said is not None:
        # As many as the least of networks take.
        return [sizes[name]] * (3 if name == "kernels" else 1) if isinstance(said, list | tuple) else sizes[name]
    return said


def trainer_of(spec: Spec, **rest: Any) -> Trainer:
    """A trainer of a spec on its data, with a model made anew."""
    data = build.data(spec)
    model = build.model(spec, data.facts)
    splits = (data.batches("train"), data.batches("valid"))
    return build.trainer(spec.training, model, *splits, seed=spec.seed, **rest)


def judged(trainer: Trainer) -> float:
    """The NLL of a trained model on its validation split; the distortion where its prior has no density."""
    found = evaluate(trainer.model, trainer.validation.batches, samples=4, inference=trainer.descent.inference)
    return (found.distortion if found.rows.unbounded else found.nll).value  # pyright: ignore


def main() -> int:
    """Trains so many combinations, prints those that fail, and how many do not."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("of", 3), ("count", 100), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    failed, drawn = 0, combinations(asked.count, asked.of, asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        for names in drawn:
            for recipe in merging(names):
                try:
                    trainer = trainer_of(spec_of(recipe, names, Path(folder)))
                    trainer.fit()
                    judged(trainer)
                except Exception as error:  # All that is not refused when it is composed is a failure.
                    failed += 1
                    print(f"{recipe} {'+'.join(names)}: {type(error).__name__}: {error}", flush=True)
    print(f"{len(drawn)} combinations of {asked.of}, {failed} failures.")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
