"""The catalogue: remedies and recipes by name, and how they make a spec.

A remedy is a patch of the spec. Patches merge: dicts merge, lists add up in the order of the remedies' names,
and a value that two patches set differently is an error, so that the order of remedies never matters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from uncollapse.errors import InputError, because, unknown
from uncollapse.experiment.sections import Section

Patch = dict[str, Any]
FOLDER = files("uncollapse.experiment")


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
        says: What it does, in a sentence.
        cite: Where it is from.
        claims: What its source claims.
        cost: Its training time in words, relative to plain training.
        patch: What it changes.
        own_networks: What to do instead on networks that are not ours, where the patch needs our model.
    """

    name: str
    place: Literal["encoder", "prior", "decoder", "terms", "numbers", "inference", "procedure", "events"] | None = None
    says: str
    cite: list[Reference] = Field(default_factory=list)
    claims: list[Claim] = Field(default_factory=list)
    cost: str = "not measured"
    patch: Patch
    own_networks: str | None = None


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
        own: A file of somebody's own remedies beside ours, in the form of `remedies.yaml`.

    Raises:
        InputError: where the file cannot be read, and where it names a remedy that there is.
    """
    said = parse(FOLDER.joinpath("remedies.yaml").read_text("utf-8"), "remedies.yaml")
    ours = {name: Remedy(name=name, **entry) for name, entry in said["remedies"].items()}
    return ours if own is None else ours | _own(own, ours)


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
        return {str(name): Remedy(**{**entry, "name": str(name)}) for name, entry in entries.items()}
    except (ValidationError, TypeError) as error:
        wrong = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else {"loc": (), "msg": error}
        raise InputError(f"`{path}`: `{'.'.join(map(str, wrong['loc']))}`: {wrong['msg']}.") from None


@cache
def recipes() -> dict[str, Recipe]:
    """The recipes by name."""
    found = sorted(FOLDER.joinpath("recipes").iterdir(), key=lambda file: file.name)
    return {Path(file.name).stem: _recipe(Path(file.name).stem, file.read_text("utf-8")) for file in found}


def _recipe(name: str, text: str) -> Recipe:
    recipe = Recipe(name=name, **parse(text, f"recipe `{name}`"))
    for remedy in recipe.remedies:
        if remedy not in remedies():
            raise unknown("remedy", remedy, remedies())
    return recipe


def chosen(names: Iterable[str], own: Path | None = None) -> list[str]:
    """The remedies that some names say, such as ["aggressive+anneal"], each once, sorted.

    Arguments:
        names: The names.
        own: See `remedies`.

    Raises:
        InputError: for one that there is not.
    """
    split = sorted({name.strip() for joined in names for name in joined.split("+")})
    for name in split:
        if name not in remedies(own):
            raise unknown("remedy", name, remedies(own))
    return split


def compose(recipe: str, remedies: Iterable[str] = (), overrides: Iterable[str] = (), own: Path | None = None) -> Patch:
    """The spec of a recipe with remedies, as data that `spec.validated` takes.

    Arguments:
        recipe: Its name.
        remedies: Their names in any order; "aggressive+anneal" is two.
        overrides: "path=value" each, such as "training.clip=1e-3", the value in YAML; they come last, in order.
        own: A file of somebody's own remedies.

    Raises:
        InputError: for a name or path that there is not, and for remedies that clash.
    """
    if recipe not in recipes():
        raise unknown("recipe", recipe, recipes())
    base, names = recipes()[recipe], chosen(remedies, own)
    there = _catalogued(own)
    _check_parts(base, [there[name] for name in names])
    spec = overlaid(base.spec, merge({name: there[name].patch for name in names}))
    spec = overlaid(spec, merge({name: base.remedies[name] for name in names if name in base.remedies}))
    return overridden(spec, overrides)


def merge(patches: Mapping[str, Patch]) -> Patch:
    """The patches of several remedies in one, whatever their order.

    Raises:
        InputError: where two set one value differently; it names both, and the path.
    """
    return _merged(patches, ()) if patches else {}


def overlaid(base: Patch, patch: Patch) -> Patch:
    """A spec with a patch laid over it; where both have a value, the patch's counts."""
    shared = [k for k, v in patch.items() if isinstance(v, dict) and isinstance(base.get(k), dict)]
    return {**base, **patch, **{k: overlaid(base[k], patch[k]) for k in shared}}


def overridden(spec: Patch, overrides: Iterable[str]) -> Patch:
    """A spec with some entries set, such as "training.plateau.patience=3"; makes the sections on the way.

    Raises:
        InputError: for a path that there is not, and for a number that a dial of the spec moves.
    """
    numbers: list[str] = []
    for override in overrides:
        keys, value = _read(override, spec)
        spec = _placed(spec, keys, value)
        numbers += _numbers(".".join(keys), value)
    _check_dials(spec, numbers)
    return spec


def _read(override: str, spec: Patch) -> tuple[tuple[str, ...], Any]:
    """The keys and the value that "path=value" says of a spec."""
    # Only here, as they come with all parts and so with torch, and what there is can be listed without.
    from uncollapse.experiment.paths import locate
    from uncollapse.experiment.spec import Spec

    path, equals, text = override.partition("=")
    if not equals:
        raise InputError(f"`{override}` sets nothing: write path=value, such as training.clip=1.")
    value = parse(text, f"the value of `{path}`")
    return locate(Spec, path.strip(), value, spec), value


def _numbers(path: str, value: Any) -> list[str]:
    """The paths of all that a value sets, itself or below it."""
    if not isinstance(value, dict):
        return [path]
    return [number for key, below in value.items() for number in _numbers(f"{path}.{key}", below)]


def _check_dials(spec: Patch, numbers: list[str]) -> None:
    """Refuses to set a number that a dial moves: the dial's first turn would undo it without a word."""
    training = spec.get("training")
    dials = training.get("dials") if isinstance(training, dict) else None
    for dial in dials if isinstance(dials, dict) else ():
        # A dial's path starts at the trainer, which has what the section `training` says, and the model.
        for number in (f"training.{dial}", dial):
            if number in numbers:
                raise InputError(
                    f"`{number}` would have no effect: the dial `training.dials.{dial}` moves the same number. "
                    "Set the dial instead."
                )


def _placed(spec: Any, keys: tuple[str, ...], value: Any) -> Any:
    if not keys:
        return value
    spec = spec if isinstance(spec, dict) else {}
    return {**spec, keys[0]: _placed(spec.get(keys[0]), keys[1:], value)}


def _catalogued(own: Path | None) -> dict[str, Remedy]:
    return remedies(own)  # Where the name means what was asked for.


def _check_parts(base: Recipe, asked: list[Remedy]) -> None:
    """Refuses a remedy that changes parts that are the person's own."""
    for remedy in asked:
        for part in remedy.patch:
            if part in ("data", "model") and part not in base.spec:
                raise InputError(
                    f"the remedy `{remedy.name}` changes the {part}, which recipe `{base.name}` leaves to you: "
                    f"{remedy.own_networks or 'leave it out'}."
                )


def _merged(patches: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    names = sorted(patches)
    values = [patches[name] for name in names]
    if all(isinstance(value, dict) for value in values):
        below = dict.fromkeys(key for value in values for key in value)
        return {k: _merged({n: patches[n][k] for n in names if k in patches[n]}, (*keys, k)) for k in below}
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in value]
    for name, value in zip(names, values, strict=True):
        if value != values[0]:
            raise InputError(
                f"the remedies `{names[0]}` and `{name}` clash: they set `{'.'.join(keys)}` to {values[0]!r} "
                f"and to {value!r}. Use one of them, or set the value yourself with one of them."
            )
    return values[0]
