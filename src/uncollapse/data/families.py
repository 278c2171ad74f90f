"""Families of sequences that pairs link, such as the forms of one word."""

from __future__ import annotations

from collections.abc import Sequence


def families(pairs: Sequence[Sequence[str]]) -> list[int]:
    """The number of each pair's family: pairs that share a sequence are of one, and so are those that they lead to.

    Numbers go by first appearance. Two words that share a form are taken for one.
    """
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        top = name
        while (above := parents.setdefault(top, top)) != top:
            top = above
        while parents[name] != top:  # So that the next way is short.
            parents[name], name = top, parents[name]
        return top

    for first, second in pairs:
        parents[root(second)] = root(first)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(root(first), len(numbers)) for first, _ in pairs]
