"""Cards of reproductions: what was published beside what came of it here, figure by figure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

from uncollapse.errors import unknown
from uncollapse.experiment.summary import BASELINE

#: The fewest trainings whose order is compared.
FEW = 4
_TITLES = {"nll": "NLL", "neg_elbo": "−ELBO", "kl": "KL", "mi": "MI", "active_units": "active units"}
_SAID = re.compile(r"(-?\d+(?:\.(\d+))?)(?: \((\d+(?:\.\d+)?)\))?")


class Published(NamedTuple):
    """A figure as its source prints it."""

    value: float
    sd: float | None
    """Over trainings; None where it is not said."""
    rounding: float
    """The standard deviation of what rounding took away: a digit's width over √12."""

    @classmethod
    def read(cls, said: float | str) -> Published:
        """Of text such as "329.0 (0.1)", a mean and a standard deviation, or a number.

        Raises:
            ValueError: for other text.
        """
        found = _SAID.fullmatch(str(said))
        if found is None:
            raise ValueError(f"`{said}` is no published figure such as `329.0 (0.1)`.")
        value, digits, sd = found.groups()
        return cls(float(value), None if sd is None else float(sd), 10.0 ** -len(digits or "") / math.sqrt(12))


class Ours(NamedTuple):
    """The same figure of the runs of here, one value a seed."""

    values: Sequence[float]
    se: float | None
    """Of one run, over items."""

    def __str__(self) -> str:
        if len(self.values) > 1:
            return f"{mean(self.values):.2f} ({stdev(self.values):.2f})"
        return f"{self.values[0]:.2f}" + (f" ± {self.se:.2f}" if self.se else "")


def check(published: Mapping[str, Any], known_as: str | None) -> None:
    """Refuses to hold figures against a data set of which nothing is published.

    Raises:
        InputError: for that.
    """
    sets = [name for name in published if name != "columns"]
    if known_as is not None and known_as not in sets:
        raise unknown("published data set", known_as, sets)


def card(found: Mapping[str, Any], known_as: str | None = None) -> list[list[str]]:
    """A line a training and figure: what was published on each data set, what there is here, and how far that is off.

    The difference is (ours − published) / √(sd² + sd'² + rounding²), with the standard deviations over seeds of both as
    far as they are known. It is taken where the data is a published set alone: figures of other data say nothing of
    each other.

    Arguments:
        found: What a reproduction came to; see `reproduce`.
        known_as: The published data set that its data is, such as "Yahoo"; None where it is another.
    """
    columns, sets = _published(found)
    body = []
    for training in dict.fromkeys(name for rows in sets.values() for name in rows):
        for column in columns:
            said = {name: rows.get(training, {}).get(column) for name, rows in sets.items()}
            if all(one is None for one in said.values()):
                continue
            ours = _ours(found, training, column)
            there = ["" if one is None else _shown(one) for one in said.values()]
            line = [training, _TITLES.get(column, column), *there, "not run" if ours is None else str(ours)]
            body.append(line if known_as is None else [*line, _apart(ours, said[known_as])])
    header = ["training", "figure", *(f"published, {name}" for name in sets), "here"]
    return [header if known_as is None else [*header, f"from {known_as}, in sd"], *body]


def orders(found: Mapping[str, Any]) -> list[list[str]]:
    """Spearman's rank correlation of the trainings by each figure, here and as published on each data set."""
    columns, sets = _published(found)
    body = []
    for column in columns:
        line = [_order(found, column, rows) for rows in sets.values()]
        if any(line):
            body.append([_TITLES.get(column, column), *line])
    return [["rank correlation", *sets], *body]


def _order(found: Mapping[str, Any], column: str, rows: Mapping[str, Mapping[str, Published]]) -> str:
    both = [
        (mean(ours.values), row[column].value)
        for training, row in rows.items()
        if column in row and (ours := _ours(found, training, column))
    ]
    mine, theirs = ([pair[k] for pair in both] for k in (0, 1))
    if len(both) < FEW or len(set(mine)) == 1 or len(set(theirs)) == 1:
        return ""
    from scipy.stats import spearmanr  # Here, as it takes a second.

    correlation: Any = spearmanr(mine, theirs)
    return f"{correlation.statistic:.2f} of {len(both)}"


def _published(found: Mapping[str, Any]) -> tuple[list[str], dict[str, dict[str, dict[str, Published]]]]:
    """The columns, and by data set and training each figure that there is."""
    said = found["published"]
    columns = [str(column) for column in said.get("columns", [])]
    sets = {
        name: {
            training: {
                column: Published.read(value)
                for column, value in zip(columns, values, strict=False)  # Of a model without z the first alone.
                if value is not None
            }
            for training, values in rows.items()
        }
        for name, rows in said.items()
        if name != "columns"
    }
    return columns, sets


def _ours(found: Mapping[str, Any], training: str, column: str) -> Ours | None:
    """A figure of the runs of a training; None where there is none."""
    if found["draws"] == "evaluations":
        figure = found["runs"].get(training, {}).get(column)
        return figure and Ours([figure["mean"]], math.sqrt(figure["variance"]))
    there = found.get("rows") or found.get("points") or []
    rows = [row for row in there if row["remedy"] == training]
    if found["draws"] == "samples":  # A column is of a figure and a way to draw, such as "FPPL 0.5".
        column, way = column.lower().split()
        rows = [row for row in rows if row["decoding"] == way]
    figures = [_time(found, row) if column == "time" else row.get(column) for row in rows]
    known = [figure for figure in figures if figure and figure.get("value") is not None]
    return Ours([figure["value"] for figure in known], known[0].get("se")) if known else None


def _time(found: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, float] | None:
    """The processor time of a training, relative to plain training's with the same seed."""
    plain = [one for one in found["rows"] if (one["remedy"], one["seed"]) == (BASELINE, row["seed"])]
    if not plain or not all("cpu_seconds" in one for one in (*plain, row)):
        return None
    return {"value": row["cpu_seconds"]["value"] / plain[0]["cpu_seconds"]["value"]}


def _apart(ours: Ours | None, said: Published | None) -> str:
    if ours is None or said is None:
        return ""
    own = stdev(ours.values) if len(ours.values) > 1 else 0.0
    return f"{(mean(ours.values) - said.value) / math.hypot(said.sd or 0.0, own, said.rounding):+.1f}"


def _shown(said: Published) -> str:
    return f"{said.value:g}" + ("" if said.sd is None else f" ({said.sd:g})")
