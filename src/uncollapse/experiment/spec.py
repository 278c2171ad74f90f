"""The specification of an experiment: data that is validated whole before anything is built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from uncollapse.errors import InputError
from uncollapse.experiment.explain import explained
from uncollapse.experiment.sections import Choice, Section, mark, section
from uncollapse.quantities import Count, Index, Place, Positive, Slot, Weight
from uncollapse.training.plateau import Plateau
from uncollapse.training.validation import Selects

#: Grows where the meaning of a spec changes, so that runs under the old meaning are not taken for the new.
SCHEMA = 2
#: The most wrong entries that an error names.
MOST = 10

PlateauSection = Plateau
if not TYPE_CHECKING:
    PlateauSection = section(Plateau)

Data = Annotated[Any, Choice(Slot("data"))]
Event = Annotated[Any, Choice(Slot("events"))]
Inference = Annotated[Any, Choice(Slot("inferences"))]
Model = Annotated[Any, Choice(Slot("models", "vae"))]
Optimiser = Annotated[Any, Choice(Slot("optimisers", "adam"))]
Procedure = Annotated[Any, Choice(Slot("procedures"))]
Schedule = Annotated[Any, Choice(Slot("schedules"))]
Term = Annotated[Any, Choice(Slot("terms"))]


class Objective(Section):
    """What is descended; see `objective.Objective`.

    Arguments:
        terms: Terms by name, beside `distortion` and `rate` or in their place.
        weights: Their weights by name; 1 for those not named.
    """

    terms: dict[str, Term] = Field(default_factory=dict)
    weights: dict[str, Weight] = Field(default_factory=dict)


class Training(Section):
    """All that does not depend on the model, so that it serves people's own networks too.

    Arguments:
        objective: What is descended.
        dials: Schedules by the path of the number they move, such as "objective.weights.rate".
        events: What is done once, by name; those of one step in the order of their names.
        inference: How q is found, also wherever the trained model is used.
        procedure: Who descends when.
        optimisers: By player, such as "inference" and "generation"; Adam at 1e-3 for those not named.
        clip: The largest gradient norm; null for no clipping.
        max_epochs: Passes over the training data at most.
        plateau: The learning-rate decay; null for none.
        selects: By what the best weights are the best, on the validation split: by the bound (of a model that tells
            labels, the cross-entropy), by the distortion, or "last" for those of the last epoch.
    """

    objective: Objective = Objective()
    dials: dict[str, Schedule] = Field(default_factory=dict)
    events: dict[str, Event] = Field(default_factory=dict)
    inference: Inference = Choice(Slot("inferences")).validated({"kind": "amortised"})
    procedure: Procedure = Choice(Slot("procedures")).validated({"kind": "joint"})
    optimisers: dict[str, Optimiser] = Field(default_factory=dict)
    clip: Positive | None = 5.0
    max_epochs: Count = 100
    plateau: PlateauSection | None = None
    selects: Selects = "bound"


class Spec(Section):
    """An experiment; `data` and `model` are null where they are people's own."""

    data: Data | None = None
    model: Model | None = None
    training: Training = Training()
    seed: Index = 0


def validated(data: Mapping[str, Any], trusted: bool = False) -> Spec:
    """The spec that some data says.

    Arguments:
        data: The spec as mappings, lists, numbers and texts.
        trusted: Whether code that is not of this package may be imported where a `kind` names it: only where the
            spec is the person's own, and never from somebody's folder.

    Raises:
        InputError: one line that names every wrong entry, what it is and what it may be.
    """
    if not trusted and (named := next(foreign(data), None)):
        raise InputError(
            f"this spec names `{named}`, code that is not of uncollapse, and would run it: read it, and give `--trust` "
            "(`trust=True`) if it may."
        )
    try:
        return Spec.model_validate(dict(data))
    except ValidationError as error:
        wrong = [explained(Spec, data, one) for one in error.errors(include_url=False)[:MOST]]
        more = error.error_count() - len(wrong)
        said = "; ".join(one.rstrip(".") for one in wrong) + (f"; and {more:,} more like these" if more else "")
        raise InputError(said + ".") from None


def foreign(data: Any) -> Iterator[str]:
    """The kinds in a spec that name somebody's own code."""
    if isinstance(data, Mapping):
        if isinstance(kind := data.get("kind"), str) and ":" in kind:
            yield kind
        data = list(data.values())
    for one in data if isinstance(data, list) else ():
        yield from foreign(one)


def identity(spec: Spec, fingerprint: str, start: str = "") -> str:
    r"""What makes two runs the same run, as 64 hexadecimal digits.

    .. math:: \text{SHA-256}(\text{spec}, \text{data}, \text{start}, \text{schema version})

    Fingerprints stand for files; where these lie does not matter. Entries that have their defaults are left
    out, so that a version with more entries knows the runs of the one before.

    Arguments:
        spec: The spec.
        fingerprint: Of the data; see `data.kinds.Data`.
        start: Of the weights that the model starts with, where they are another run's; see `start`.
    """
    said = spec.model_dump(mode="json", exclude_defaults=True)
    for name, part in (("data", spec.data), ("model", spec.model)):
        if part is not None:
            said[name] = {k: v for k, v in said[name].items() if k not in paths_of_files(part)}
    whole = {"schema": SCHEMA, "data": fingerprint, "spec": said} | ({"start": start} if start else {})
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def paths_of_files(section: Section) -> list[str]:
    """The entries of a section that are paths of files."""
    fields = type(section).model_fields.items()
    return [name for name, field in fields if mark(Annotated[field.annotation, None, *field.metadata], Place)]
