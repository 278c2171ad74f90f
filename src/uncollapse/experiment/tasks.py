"""What is measured of a model beside its bound because of what its data is for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from uncollapse.data.inflection import Pairs
from uncollapse.data.kinds import Data
from uncollapse.data.pairs import Row
from uncollapse.errors import InputError
from uncollapse.experiment.codes import largest, plane
from uncollapse.experiment.trained import Trained
from uncollapse.metrics.draws import draw
from uncollapse.metrics.edits import edits, same_family
from uncollapse.metrics.estimate import Estimate
from uncollapse.metrics.rows import Rows


def of_task(data: Data, split: str, trained: Trained, rows: Rows) -> dict[str, Estimate]:
    """The figures of a task by name; nothing where the kind of data has none.

    Of pairs: how right the guesses by beam search are, given the posterior's mean (`metrics.edits`), and how often the
    nearest code is of a form of the same word.

    Arguments:
        data: The data.
        split: Of it.
        trained: The model in use.
        rows: What was measured of each of the split's items, or of some.
    """
    if not isinstance(data, Pairs):
        return {}
    items = rows.items.tolist()
    pairs = [data.splits[split][i] for i in items]
    found = of_guesses(trained.predict(pairs), pairs, data.texts)
    numbers: dict[str, int] = {}
    sources = torch.tensor([numbers.setdefault(pair.source, len(numbers)) for pair in pairs])
    return found | _kin(rows, data.families[split][rows.items], sources)


def _kin(rows: Rows, family: Tensor, source: Tensor) -> dict[str, Estimate]:
    """How often the nearest code is of the same word, by a draw of z and by the posterior's mean."""
    if rows.law is None or rows.means is None or not rows.means.numel():
        return {}
    z = draw(rows.law, rows.seed, "families", rows.items.tolist(), 1)[0]
    by_z, by_mean = (same_family(codes, family, source) for codes in (z, rows.means))
    if by_z is None or by_mean is None:
        return {}
    return {"family_by_z": by_z[0], "family_by_mean": by_mean[0], "family_by_chance": by_z[1]}


def drawn(data: Data, trained: Trained) -> dict[str, Any] | None:
    """Where the codes of pairs lie, for a report: those of the largest families of the training split.

    None where the kind of data has none, the model has no codes, or there is nothing to see.
    """
    if not isinstance(data, Pairs):
        return None
    rows, families = data.splits["train"], data.families["train"].tolist()
    kept = largest(families, [row.source for row in rows])
    with suppress(InputError):  # Of a model without codes.
        means = trained.encode([rows[i] for i in kept]) if kept else torch.empty(0)
        return plane(means, [families[i] for i in kept], [rows[i].source for i in kept])
    return None


def of_guesses(guesses: Sequence[Sequence[str]], pairs: Sequence[Row], texts: Any) -> dict[str, Estimate]:
    """How right guesses are; nothing where a pair lacks its target.

    Arguments:
        guesses: Of each pair, the best first.
        pairs: The pairs.
        texts: What reads and writes them, a `PairTexts`.
    """
    targets = [pair.target for pair in pairs if pair.target is not None]
    if len(targets) < len(pairs):
        return {}
    return edits(guesses, targets, texts.vocabulary.tokens == "words")
