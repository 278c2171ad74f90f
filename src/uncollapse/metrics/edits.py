"""How near guesses of sequences come to the sequences that are meant."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from uncollapse.errors import InputError
from uncollapse.metrics.estimate import Estimate, mean

#: Items whose distances to all others are held at the same time.
BLOCK = 256


def edits(guesses: Sequence[Sequence[str]], targets: Sequence[str], words: bool = False) -> dict[str, Estimate]:
    r"""How often and how nearly guesses are right.

    With the guesses :math:`g_1, g_2, ...` of an item, the best first, and its target t:

    .. math:: \text{accuracy} = [g_1 = t], \quad \text{distance} = \text{lev}(g_1, t), \quad
              \text{normalised} = \text{lev}(g_1, t) / |t|, \quad \text{reciprocal rank} = 1 / \min \{k: g_k = t\}

    each averaged over the items, where lev counts insertions, deletions and substitutions at cost 1. An item without a
    guess counts, as one with the guess of nothing. A guess that is not there has the reciprocal rank 0, so that it
    depends on how many guesses there are.

    References:
        | The SIGMORPHON 2016 Shared Task: Morphological Reinflection (Cotterell et al., 2016)
        | https://aclanthology.org/W16-2002

    Arguments:
        guesses: Of every item.
        targets: As many, none of them empty.
        words: Whether what is counted is words between blanks, and not characters.

    Raises:
        InputError: where there are no items, as many guesses as targets are not given, or a target is empty.
    """
    if len(guesses) != len(targets) or not targets or not all(targets):
        raise InputError(f"{len(guesses)} lists of guesses for {len(targets)} targets: give one for each, none empty.")
    cut = str.split if words else list
    pairs = list(zip(guesses, targets, strict=True))
    right = torch.tensor([bool(some) and some[0] == target for some, target in pairs])
    far = [Levenshtein.distance(cut(some[0]) if some else [], cut(target)) for some, target in pairs]
    unit = "words" if words else "characters"
    distance, lengths = torch.tensor(far).double(), torch.tensor([len(cut(target)) for target in targets])
    ranks = [1 / (some.index(target) + 1) if target in some else 0.0 for some, target in pairs]
    return {
        "accuracy": mean(right.double(), "of items", cap=1.0),
        "distance": mean(distance, f"{unit}/item"),
        "normalised_distance": mean(distance / lengths, f"of the target's {unit}"),
        "reciprocal_rank": mean(torch.tensor(ranks).double(), "of 1", cap=1.0),
    }


def same_family(codes: Tensor, family: Tensor, source: Tensor) -> tuple[Estimate, Estimate] | None:
    r"""How often the nearest code is of the same family, and how often it would be by chance.

    .. math:: j = \arg\min_{j: x_j \ne x_i} \| z_j - z_i \|, \quad [f_j = f_i] \quad \text{against} \quad
              |\{j: x_j \ne x_i, f_j = f_i\}| / |\{j: x_j \ne x_i\}|

    averaged over the items with such an f_j. Items of the same source are no neighbours.

    Arguments:
        codes: Of every item, with shape (N, ...): draws of its z, whose noise counts, or the means, whose does not.
        family: The number of each item's family, such as the word that it is a form of, with shape (N,).
        source: The number of what each code is of, with shape (N,).

    Returns:
        Both; None where no item has another one of its family.
    """
    flat, n = codes.flatten(1).double(), len(codes)
    # Each filled in place: small results between large blocks would keep the heap from taking these again.
    found, chance, has = torch.zeros(n).double(), torch.zeros(n).double(), torch.zeros(n, dtype=torch.bool)
    for part in (slice(first, first + BLOCK) for first in range(0, n, BLOCK)):
        others = source != source[part, None]
        kin = others & (family == family[part, None])
        apart = torch.cdist(flat[part], flat, compute_mode="donot_use_mm_for_euclid_dist")
        apart.masked_fill_(~others, torch.inf)
        # Of several that are equally near, as in a collapsed model, each counts as much.
        near = apart == apart.amin(1, keepdim=True)
        has[part] = kin.any(1)
        found[part], chance[part] = (kin & near).sum(1) / near.sum(1), kin.sum(1) / others.sum(1)
    if not has.any():
        return None
    return mean(found[has], "of items", cap=1.0), mean(chance[has], "of items", cap=1.0)
