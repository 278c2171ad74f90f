"""The publications of the methods that some runs use, and their BibTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from uncollapse.experiment import catalogue
from uncollapse.experiment.catalogue import Reference
from uncollapse.report.folders import Run

#: What BibTeX takes for itself.
_SPECIAL = re.compile(r"([&%$#_{}])")
_ARXIV = re.compile(r"https?://arxiv\.org/abs/([\w./-]+)")


def cited(runs: Sequence[Run]) -> dict[str, Reference]:
    """The publications of the runs' remedies and recipes, by key, in the order of the keys."""
    used = [one for run in runs for one in _used(run)]
    keys = {(one.title, one.url): key for key, one in catalogue.references().items()}
    named = {keys.get((one.title, one.url)) or _key(one): one for one in used}
    return dict(sorted(named.items()))


def _used(run: Run) -> Iterable[Reference]:
    remedies, recipes = catalogue.remedies(), catalogue.recipes()
    for name in run.remedy.split("+"):
        yield from remedies[name].cite if name in remedies else ()
    recipe = str(run.about["asked"].get("recipe"))
    yield from recipes[recipe].cite if recipe in recipes else ()


def _key(one: Reference) -> str:
    last = one.authors.partition(",")[0].split()
    return f"{last[-1].lower() if last else 'anonymous'}{one.year}"


def bibtex(key: str, one: Reference) -> str:
    """One entry."""
    arxiv = _ARXIV.fullmatch(one.url)
    fields = {
        "title": f"{{{_escaped(one.title)}}}",
        "author": _escaped(" and ".join(part.strip() for part in one.authors.split(","))),
        "year": str(one.year),
        "url": one.url,
        **({"eprint": arxiv[1], "archivePrefix": "arXiv"} if arxiv else {}),
    }
    body = ",\n".join(f"  {name} = {{{text}}}" for name, text in fields.items())
    return f"@misc{{{key},\n{body}\n}}"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
