"""Where the codes of kindred items lie, in the plane, as a run's folder keeps it for a report."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from torch import Tensor

#: The name of the file.
CODES = "codes.json"
#: Families that have a colour, and the most items that are shown.
FAMILIES, ITEMS = 10, 400
_FEWEST = 10


def largest(family: Sequence[int], names: Sequence[str]) -> list[int]:
    """The items of the largest families, each name once."""
    seen: dict[str, int] = {}
    for i, name in enumerate(names):  # Of one source there is one code.
        seen.setdefault(name, i)
    counts = Counter(family[i] for i in seen.values())
    chosen = {one for one, count in counts.most_common(FAMILIES) if count > 1}
    return [i for i in seen.values() if family[i] in chosen][:ITEMS]


def plane(means: Tensor, family: Sequence[int], names: Sequence[str], seed: int = 0) -> dict[str, Any] | None:
    """Posterior means by t-SNE, with who is whose; None where there is nothing to see, or scikit-learn is not here.

    Distances between groups and their sizes mean nothing in such a picture; see `metrics.edits.same_family` for a
    number.

    References:
        | Visualizing Data using t-SNE (van der Maaten & Hinton, 2008)
        | https://www.jmlr.org/papers/v9/vandermaaten08a.html

    Arguments:
        means: Of each item, with shape (N, ...).
        family: The number of each item's family.
        names: What each item is called.
        seed: Of the picture.
    """
    if len(names) < _FEWEST or not means.numel() or find_spec("sklearn") is None:
        return None
    points = _embedded(means.flatten(1).double().cpu().numpy(), seed)
    return {"points": np.round(points, 3).tolist(), "families": list(family), "names": list(names)}


def _embedded(points: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    with warnings.catch_warnings():  # Of codes that are all alike, which are drawn as what they are.
        warnings.simplefilter("ignore")
        made = TSNE(perplexity=min(30.0, (len(points) - 1) / 3), init="random", random_state=seed)
        return np.nan_to_num(made.fit_transform(points))
