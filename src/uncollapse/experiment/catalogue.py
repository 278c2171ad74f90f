"""The catalogue: remedies, recipes and publications by name, read from files of YAML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError

from uncollapse.errors import InputError, because, unknown
from uncollapse.experiment.sections import Section

Patch = dict[str, Any]
FOLDER = files("uncollapse.experiment")


Place = Literal["encoder", "prior", "decoder", "terms", "numbers", "inference", "procedure", "events"]


class Reference(Section):
    """A publication."""

    title: str
    authors: str
    year: int
    url: str


class Claim(Section):
    """What a source says a remedy does to a figure of the same model trained plainly.

    Arguments:
        metric: The figure.
        direction: Whether it gets higher or lower, or stays the same.
        margin: By how much at least, or, where it stays the same, at most; in the figure's unit.
        source: Where this is said.
    """

    metric: Literal["nll", "neg_elbo", "kl", "mi", "active_units"]
    direction: Literal["higher", "lower", "same"]
    margin: float
    source: str


class Remedy(Section):
    """A named patch of the spec, with what is claimed of it.

    Arguments:
        place: Which of the eight places of the design it changes; null for none.
        short: Another name that it goes by, such as an acronym.
        says: What it does, in a sentence.
        formula: What it adds or changes, in a line.
        when: When to use it.
        watch: What to watch.
        cite: Where it is from.
        claims: What its source claims.
        cost: Its training time in words, relative to plain training, where that of a step does not tell.
        step: The time of its training step relative to a plain one, measured; see `costs.yaml`.
        outcomes: What came of its claims here, by figure and direction; see `outcomes.yaml`.
        still: Beginnings of the names of parameters that two steps leave as they are.
        needs: What its networks ask of the data, such as `vocabulary`.
        without: Entries of a recipe that it leaves out, also where an override sets them, so that one command compares
            it with what has them; a remedy that sets one clashes with it.
        beside: The places whose remedies it combines with; null for all.
        patch: What it changes.
        own_networks: What to do instead on networks that are not ours, where the patch needs our model.
    """

    name: str
    place: Place | None = None
    short: str = ""
    says: str
    formula: str = ""
    when: str = ""
    watch: str = ""
    cite: list[Reference] = Field(default_factory=list)
    claims: list[Claim] = Field(default_factory=list)
    cost: str = ""
    still: list[str] = Field(default_factory=list)
    needs: list[str] = Field(default_factory=list)
    without: list[str] = Field(default_factory=list)
    beside: list[Place] | None = None
    patch: Patch
    own_networks: str | None = None
    step: float | None = None
    outcomes: dict[str, str] = Field(default_factory=dict)

    @property
    def costs(self) -> str:
        """What it costs, in words."""
        measured = "" if self.step is None else f"a training step takes about {self.step:.1f} times a plain one's time"
        return "; ".join(filter(None, [measured, self.cost])) or "not measured"


class Recipe(Section):
    """A named spec to start from.

    Arguments:
        says: What it is, in a sentence.
        departs: How it departs from what it cites; null where it does not.
        cite: Where it is from.
        spec: The spec, as data.
        remedies: Its own patches, laid over a remedy's patch where that remedy is used.
    """

    name: str
    says: str
    departs: str | None = None
    cite: list[Reference] = Field(default_factory=list)
    spec: Patch
    remedies: dict[str, Patch] = Field(default_factory=dict)


class Refusal(Section):
    """Remedies that cannot be combined though their patches merge.

    Arguments:
        these, those: Their names: none of the one list goes with any of the other.
        why: The reason, in words that go on after "as".
    """

    these: list[str]
    those: list[str]
    why: str

    def met(self, names: Iterable[str]) -> tuple[str, str] | None:
        """The first of each list among some names; None where there is none of one list."""
        here = sorted(names)
        found = [next((name for name in here if name in side), None) for side in (self.these, self.those)]
        return (found[0], found[1]) if found[0] and found[1] else None

    def __str__(self) -> str:
        these, those = (", ".join(f"`{name}`" for name in side) for side in (self.these, self.those))
        return f"- {these} with {those}, as {self.why}."


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `1e-3` is a number, as in YAML 1.2, and not a text, as PyYAML has it."""


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse(text: str, where: str) -> Any:
    """What a YAML text says.

    Arguments:
        text: The text.
        where: What an error calls it.
    """
    try:
        said = yaml.load(text, _Loader)
        if _is_endless(said):
            raise ValueError("it refers to itself")
        return said
    # Of broken tags and numbers PyYAML raises whatever their reading met.
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where} is no YAML that can be read: {why}.") from None


def _is_endless(value: Any, within: tuple[Any, ...] = ()) -> bool:
    """Whether a list or a mapping is a part of itself."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(value is one for one in within) or any(_is_endless(part, (*within, value)) for part in parts)


@cache
def remedies(own: Path | None = None) -> dict[str, Remedy]:
    """The remedies by name.

    Arguments:
        own: A file of somebody's own remedies beside ours, below `remedies:` in the form of the folder `remedies`.

    Raises:
        InputError: where the file cannot be read, and where it names a remedy that there is.
    """
    ours: dict[str, Remedy] = {}
    steps, outcomes = (_measured(name) for name in ("costs.yaml", "outcomes.yaml"))
    for place in (None, *get_args(Place)):
        file = FOLDER.joinpath("remedies", f"{place or 'none'}.yaml")
        said = parse(file.read_text("utf-8"), file.name) if file.is_file() else {}
        ours |= {
            name: _ours(entry, name, place, steps.get(name), outcomes.get(name, {})) for name, entry in said.items()
        }
    return ours if own is None else ours | _own(own, ours)


def _ours(entry: Patch, name: str, place: str | None, step: float | None, outcomes: dict[str, str]) -> Remedy:
    return Remedy(**_cited(entry), name=name, place=place, step=step, outcomes=outcomes)  # pyright: ignore[reportArgumentType]


def _measured(name: str) -> dict[str, Any]:
    """What a benchmark has measured of our remedies, by their names."""
    return parse(FOLDER.joinpath(name).read_text("utf-8"), name)


@cache
def references() -> dict[str, Reference]:
    """The publications by the names that remedies and recipes cite them by."""
    said = parse(FOLDER.joinpath("references.yaml").read_text("utf-8"), "references.yaml")
    return {name: Reference(**entry) for name, entry in said.items()}


@cache
def refusals() -> tuple[Refusal, ...]:
    """The remedies that cannot be combined though their patches merge."""
    said = parse(FOLDER.joinpath("refusals.yaml").read_text("utf-8"), "refusals.yaml")
    return tuple(Refusal(**entry) for entry in said)


def _cited(entry: Patch) -> Patch:
    """An entry with publications in place of their names; one of somebody's own may have them in full."""
    cite = entry.get("cite", [])
    return {**entry, "cite": [_publication(one) if isinstance(one, str) else one for one in cite]}


def _publication(name: str) -> Reference:
    if name not in references():
        raise unknown("publication", name, references())
    return references()[name]


def _own(path: Path, ours: Mapping[str, Remedy]) -> dict[str, Remedy]:
    try:
        said = parse(path.read_text("utf-8"), f"`{path}`")
    except (OSError, UnicodeDecodeError) as error:
        why = because(error) if isinstance(error, OSError) else "it is no UTF-8; convert it"
        raise InputError(f"`{path}`: {why}.") from None
    entries = said.get("remedies") if isinstance(said, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise InputError(f"`{path}` holds no remedies: write `remedies:` and below it a name, `says` and `patch` each.")
    if taken := [name for name in entries if name in ours]:
        raise InputError(f"`{path}` names the remedy `{taken[0]}`, which there is already: give it another name.")
    try:
        return {str(name): Remedy(**{**_cited(entry), "name": str(name)}) for name, entry in entries.items()}
    except (ValidationError, TypeError) as error:
        wrong = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else {"loc": (), "msg": error}
        raise InputError(f"`{path}`: `{'.'.join(map(str, wrong['loc']))}`: {wrong['msg']}.") from None


@cache
def recipes() -> dict[str, Recipe]:
    """The recipes by name."""
    found = sorted(FOLDER.joinpath("recipes").iterdir(), key=lambda file: file.name)
    return {Path(file.name).stem: _recipe(Path(file.name).stem, file.read_text("utf-8")) for file in found}


def _recipe(name: str, text: str) -> Recipe:
    recipe = Recipe(name=name, **_cited(parse(text, f"recipe `{name}`")))
    for remedy in recipe.remedies:
        if remedy not in remedies():
            raise unknown("remedy", remedy, remedies())
    return recipe


def in_full(name: str, there: Mapping[str, Remedy]) -> str:
    """The name of a remedy that goes by another one too; what is no such name as it is."""
    return next((remedy.name for remedy in there.values() if name and remedy.short == name), name)


def chosen(names: Iterable[str], own: Path | None = None) -> list[str]:
    """The remedies that some names say, such as ["aggressive+anneal"], each once, sorted.

    Arguments:
        names: The names.
        own: See `remedies`.

    Raises:
        InputError: for one that there is not.
    """
    there = remedies(own)
    said = {name.strip() for joined in names for name in joined.split("+")}
    split = sorted({in_full(name, there) for name in said})
    for name in split:
        if name not in there:
            raise unknown("remedy", name, there)
    return split
