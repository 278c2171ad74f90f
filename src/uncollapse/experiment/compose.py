"""Composing: how recipes, remedies and single settings make a spec.

A remedy is a patch of the spec. Patches merge: dicts merge, lists add up in the order of the remedies' names,
and a value that two patches set differently is an error, so that the order of remedies never matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from uncollapse.data.kinds import KINDS
from uncollapse.errors import InputError, unknown
from uncollapse.experiment import catalogue
from uncollapse.experiment.catalogue import Patch, Recipe, Remedy, chosen, parse
from uncollapse.experiment.sections import GIVEN


def compose(recipe: str, remedies: Iterable[str] = (), overrides: Iterable[str] = (), own: Path | None = None) -> Patch:
    """The spec of a recipe with remedies, as data that `spec.validated` takes.

    Arguments:
        recipe: Its name.
        remedies: Their names in any order; "aggressive+anneal" is two.
        overrides: "path=value" each, such as "training.clip=1e-3", the value in YAML; they come last, in order, but for
            what a remedy leaves out.
        own: A file of somebody's own remedies.

    Raises:
        InputError: for a name or path that there is not, and for remedies that clash or cannot be combined.
    """
    if recipe not in catalogue.recipes():
        raise unknown("recipe", recipe, catalogue.recipes())
    base, names = catalogue.recipes()[recipe], chosen(remedies, own)
    there = catalogue.remedies(own)
    _check_parts(base, [there[name] for name in names])
    _check_data(base, [there[name] for name in names])
    _check_together([there[name] for name in names])
    _check_refusals(names)
    patch = merge({name: there[name].patch for name in names})
    spec = overlaid(_understood(base.spec, patch), patch)
    spec = overlaid(spec, merge({name: base.remedies[name] for name in names if name in base.remedies}))
    return pruned(overridden(spec, overrides), names, own)


def _understood(spec: Patch, patch: Patch) -> Patch:
    """A spec without what networks and optimisers that a patch puts in the place of others do not know."""
    of_parts = {"encoder": "encoders", "decoder": "decoders"}
    for section, slots in (("model", of_parts), ("training", {"optimisers": None})):
        for name, slot in slots.items():
            before, after = (one.get(section, {}).get(name, {}) for one in (spec, patch))
            kept = _replaced(before, after, slot) if slot else _of_players(before, after)
            if kept != before:
                spec = {**spec, section: {**spec[section], name: kept}}
    return spec


def _of_players(before: Patch, after: Patch) -> Patch:
    return {player: _replaced(said, after.get(player, {}), "optimisers") for player, said in before.items()}


def _replaced(before: Patch, after: Patch, slot: str) -> Patch:
    """What is left of a section's entries under the kind that a patch says."""
    if after.get("kind", before.get("kind")) == before.get("kind"):
        return before
    known = _entries(slot, after["kind"])
    return {name: value for name, value in before.items() if name in known}


def _entries(slot: str, kind: str) -> set[str]:
    # Only here, as parts come with torch.
    from uncollapse.experiment.parts import described

    return set(described(slot, kind).model_fields)


def pruned(spec: Patch, remedies: Iterable[str], own: Path | None = None) -> Patch:
    """A spec without the entries that some remedies leave out."""
    for name in chosen(remedies, own):
        for path in catalogue.remedies(own)[name].without:
            spec = _without(spec, path.split("."))
    return spec


def _without(spec: Patch, keys: Sequence[str]) -> Patch:
    first, *rest = keys
    if not rest:
        return {key: value for key, value in spec.items() if key != first}
    return {**spec, first: _without(spec[first], rest)} if isinstance(spec.get(first), dict) else spec


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


def _check_parts(base: Recipe, asked: list[Remedy]) -> None:
    """Refuses a remedy that changes parts that are the person's own."""
    for remedy in asked:
        for part in remedy.patch:
            if part in ("data", "model") and part not in base.spec:
                raise InputError(
                    f"the remedy `{remedy.name}` changes the {part}, which recipe `{base.name}` leaves to you: "
                    f"{remedy.own_networks or 'leave it out'}."
                )


def _check_data(base: Recipe, asked: list[Remedy]) -> None:
    """Refuses a remedy whose networks cannot read data of the recipe's kind."""
    kind = base.spec.get("data", {}).get("kind")
    for remedy in asked:
        if kind in KINDS and (lacking := set(remedy.needs) - set(KINDS[kind].facts)):
            raise InputError(
                f"the remedy `{remedy.name}` needs {' and '.join(GIVEN[name] for name in sorted(lacking))}, which data "
                f"of the kind `{kind}` does not have: leave it out, or start from another recipe than `{base.name}`."
            )


def _check_refusals(names: list[str]) -> None:
    """Refuses remedies that are known not to work together."""
    for refusal in catalogue.refusals():
        if met := refusal.met(names):
            raise InputError(
                f"the remedies `{met[0]}` and `{met[1]}` cannot be combined, as {refusal.why}. Leave one of them out."
            )


def _check_together(asked: list[Remedy]) -> None:
    """Refuses remedies beside one that they cannot be combined with, as it leaves out what they change."""
    for remedy, other in ((a, b) for a in asked for b in asked if a is not b):
        if remedy.beside is not None and other.place not in (None, *remedy.beside):
            raise InputError(
                f"the remedies `{remedy.name}` and `{other.name}` do not combine: the first leaves out what the second "
                f"changes, and goes with remedies of the {' and the '.join(remedy.beside)} alone."
            )
        for path in remedy.without:
            if _sets(other.patch, path.split(".")):
                raise InputError(
                    f"the remedies `{remedy.name}` and `{other.name}` clash: the first leaves out `{path}`, which the "
                    "second sets. Use one of them."
                )


def _sets(patch: Any, keys: Sequence[str]) -> bool:
    """Whether a patch sets an entry, or one below it."""
    return not keys or (isinstance(patch, dict) and keys[0] in patch and _sets(patch[keys[0]], keys[1:]))


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
