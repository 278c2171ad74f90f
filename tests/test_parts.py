"""Parts: what a class or function says in its signature is its section of the spec, and nothing has to say it again."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import TypeAdapter

from uncollapse.errors import InputError
from uncollapse.experiment.parts import OF_DATA, SLOTS, asked, described, make
from uncollapse.experiment.sections import GIVEN, parameters, section
from uncollapse.experiment.spec import identity, validated
from uncollapse.quantities import Count, Dropout, Duration, Positive, Rate
from uncollapse.training.procedures import Aggressive, UntilInformationDrops

EVERY = [(slot, kind) for slot, table in SLOTS.items() for kind in table]


@dataclass(frozen=True)
class Inner:
    """A section within a section."""

    depth: Count = 3


@dataclass
class Made:
    """A part with numbers of every type."""

    latent: int
    width: Count
    share: Dropout = 0.5
    over: Duration = "2 epochs"
    floor: Rate = "0.5 nats/unit"
    way: Literal["up", "down"] = "up"
    inner: Inner = field(default_factory=Inner)
    most: Positive | None = None
    hold: Duration | None = None
    moved: float = field(default=0.0, init=False)


def test_a_section_is_the_signature_of_its_part() -> None:
    made = section(Made, "made")

    assert list(made.model_fields) == ["kind", "width", "share", "over", "floor", "way", "inner", "most", "hold"]
    assert made.model_validate({"kind": "made", "width": 4}).model_dump() == {
        "kind": "made",
        "width": 4,
        "share": 0.5,
        "over": "2 epochs",
        "floor": "0.5 nats/unit",
        "way": "up",
        "inner": {"depth": 3},
        "most": None,
        "hold": None,
    }


def test_what_is_made_has_its_texts_as_numbers_and_what_it_asked_for() -> None:
    said = section(Made, "made").model_validate({"kind": "made", "width": 4, "inner": {"depth": 7}})

    made = make(said, {"latent": 6, "steps_per_epoch": 50, "vocabulary": 3})

    assert made == Made(6, 4, 0.5, 100, 3.0, "up", Inner(7))  # pyright: ignore[reportArgumentType]
    assert asked(said) == {"latent", "steps_per_epoch"}


def test_a_length_that_may_be_left_out_is_a_number_where_it_is_said() -> None:
    said = section(Made, "made").model_validate({"kind": "made", "width": 4, "hold": "3 epochs"})

    assert make(said, {"latent": 6, "steps_per_epoch": 50}).hold == 150


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"share": 1.0}, "less than 1"),
        ({"width": 0}, "greater than or equal to 1"),
        ({"width": True}, "valid integer"),
        ({"over": "2 apochs"}, "no duration"),
        ({"floor": "2 bits/item"}, 'write "8 nats/item"'),
        ({"floor": -1.0}, "from 0 on"),
        ({"way": "left"}, "'up' or 'down'"),
        ({"inner": {"depth": 0}}, "greater than or equal to 1"),
        ({"latent": 3}, "not permitted"),
        ({"moved": 1.0}, "not permitted"),
    ],
)
def test_a_section_has_the_limits_of_its_parts_types(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        section(Made, "made").model_validate({"kind": "made", "width": 4, **wrong})


def test_an_entry_may_have_any_name() -> None:
    def aimed(target: Positive, kind_of: str = "x") -> tuple[float, str]:
        return target, kind_of

    assert make(section(aimed, "aimed").model_validate({"kind": "aimed", "target": 2.0}), {}) == (2.0, "x")


def test_a_part_that_asks_for_what_there_is_not_is_refused() -> None:
    said = described("encoders", "lstm").model_validate({"kind": "lstm", "embedding": 3, "hidden": 3})

    with pytest.raises(InputError) as error:
        make(said, {"shape": (5,), "outputs": 4})

    assert "`lstm` needs the number of types of the text, with markers (`vocabulary`)" in str(error.value)
    assert "there is: outputs, shape" in str(error.value)


@pytest.mark.parametrize(("slot", "kind"), EVERY)
def test_every_part_says_what_it_is_and_has_a_section(slot: str, kind: str) -> None:
    made = described(slot, kind)
    entries = set(made.model_fields) - {"kind"}

    assert (SLOTS[slot][kind].__doc__ or "").strip()
    assert entries | set(GIVEN if slot != "models" else OF_DATA) >= parameters(made._target).keys()


@pytest.mark.parametrize(("slot", "kind"), EVERY)
def test_defaults_of_every_part_are_values_that_it_takes(slot: str, kind: str) -> None:
    for entry in described(slot, kind).model_fields.values():
        if not entry.is_required():
            default = entry.get_default(call_default_factory=True, validated_data={})
            marked: Any = Annotated[entry.annotation, None, *entry.metadata]  # pyright: ignore[reportInvalidTypeForm]
            assert TypeAdapter(marked).validate_python(default, strict=True) == default


def test_a_section_within_a_section_makes_a_part_within_a_part() -> None:
    said = described("procedures", "aggressive").model_validate(
        {"kind": "aggressive", "window": 3, "until": {"estimator": "published", "max_epochs": 2}}
    )

    assert make(said, {}) == Aggressive(window=3, until=UntilInformationDrops("published", max_epochs=2))


# Somebody's own.

OWN = """
from dataclasses import dataclass
from uncollapse.quantities import Positive

@dataclass
class Quartic:
    \"\"\"The fourth power of z.\"\"\"
    scale: Positive = 2.0

    def __call__(self, bound):
        return self.scale * bound.z.pow(4).mean()

number = 3
def odd(x: "NoSuchType"): ...
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mypart.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mypart", raising=False)
    return tmp_path


def term(**entries: Any) -> dict[str, Any]:
    return {"training": {"objective": {"terms": {"own": entries}}}}


def test_a_part_of_ones_own_is_named_by_its_path_and_has_the_entries_of_its_signature(own: Path) -> None:
    said = validated(term(kind="mypart:Quartic", scale=3.0), trusted=True).training.objective.terms["own"]

    assert type(make(said, {})).__name__ == "Quartic"
    assert make(said, {}).scale == 3.0


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"kind": "mypart:Quartic", "scale": 0.0}, "`training.objective.terms.own.scale` is 0.0: it should be greater"),
        ({"kind": "mypart:Quartic", "scales": 1.0}, "`training.objective.terms.own.scales`"),
        ({"kind": "mypart:Cubic"}, "`mypart:Cubic` cannot be imported: module 'mypart' has no attribute 'Cubic'"),
        ({"kind": "nomodule:Cubic"}, "`nomodule:Cubic` cannot be imported: No module named 'nomodule'"),
        ({"kind": "mypart:number"}, "`mypart:number` is a `int`: name a class or a function"),
        ({"kind": "mypart:odd"}, "`mypart:odd` cannot be a part: name 'NoSuchType' is not defined"),
    ],
)
def test_a_part_of_ones_own_is_refused_like_ours(own: Path, entries: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as error:
        validated(term(**entries), trusted=True)

    assert says in str(error.value)


def test_nothing_is_imported_for_a_spec_that_is_not_trusted(own: Path) -> None:
    with pytest.raises(InputError, match=r"names `mypart:Quartic`, code that is not of uncollapse.*--trust"):
        validated(term(kind="mypart:Quartic"))

    assert "mypart" not in sys.modules


def test_entries_that_are_as_usual_are_no_part_of_a_runs_identity() -> None:
    plain = validated({"training": {"procedure": {"kind": "aggressive"}}})
    same = validated({"training": {"procedure": {"kind": "aggressive", "window": 10}, "clip": 5.0}})
    other = validated({"training": {"procedure": {"kind": "aggressive", "window": 11}}})

    assert identity(plain, "x") == identity(same, "x")
    assert identity(plain, "x") != identity(other, "x")
    assert identity(plain, "x") != identity(validated({}), "x")


def test_thousands_of_unknown_entries_are_refused_at_once_and_not_one_by_one() -> None:
    with pytest.raises(InputError, match=r"and 99,990 more like these") as error:
        validated({f"k{i}": i for i in range(100_000)})

    assert len(str(error.value)) < 3000
