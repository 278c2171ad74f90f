"""What a report says, before it is a page, a text or a screen."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from uncollapse.documents import visible
from uncollapse.experiment.catalogue import Reference
from uncollapse.experiment.summary import BASELINE, FIGURES, TASKS, Comparison, Difference
from uncollapse.report import figures
from uncollapse.report.commands import commands
from uncollapse.report.figures import Chart, Film, Heat
from uncollapse.report.folders import Found, Reading, Run, number
from uncollapse.report.references import cited
from uncollapse.report.reproductions import Means, Rows, Way

#: The kinds of verdict, from the worst, with a sign that needs no colour and what each means for a reader.
KINDS = {
    "collapsed": (
        "✕",
        "The posterior is the prior whatever the item is: the latent variable says nothing of the data.",
    ),
    "mismatched": (
        "≠",
        "What the prior draws is not what the decoder was trained on: draws will not look like the data.",
    ),
    "partly collapsed": ("◐", "Fewer than half of the latent units carry information."),
    "unknown": ("?", "The figures do not tell."),
    "not evaluated": ("…", "Nobody has evaluated the run: `uncollapse evaluate RUN` does."),
    "no latents": ("–", "A model without latent variables, for reference."),
    "healthy": ("✓", "The latent variable carries information about the data, and the prior fits it."),
}
_VERSIONS = ("uncollapse", "torch", "python", "system")
_TEXTS = 20  # runs whose texts are shown
_NAMED = 3  # runs that a warning names
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_PICTURE = re.compile("data:image/png;base64,[A-Za-z0-9+/]+={0,2}")


class Cell(NamedTuple):
    """A cell of a table, and the number that it is sorted by, if any."""

    text: str
    order: float | None = None
    title: str = ""


class Table(NamedTuple):
    """A table; columns of numbers are aligned to the right."""

    caption: str
    header: list[str]
    rows: list[list[Cell]]


class Texts(NamedTuple):
    """What a run's model writes."""

    name: str
    samples: list[str]
    reconstructions: list[tuple[str, str]]
    interpolations: list[list[str]]


@dataclass(frozen=True)
class Content:
    """All that a report says."""

    kind: str
    headline: str
    meaning: str
    remarks: list[str]
    runs: Table
    tables: list[Table]
    curves: list[Chart]
    ways: list[Chart]
    scatters: list[Chart]
    codes: list[Chart]
    films: list[Film]
    heats: list[Heat]
    texts: list[Texts]
    commands: list[str]
    versions: list[tuple[str, str]]
    references: dict[str, Reference]


def content(found: Found) -> Content:
    """What is to be said of some runs."""
    runs = found.runs
    kind, headline = _headline(runs)
    means = [one for one in found.beside if isinstance(one, Means)]
    means += [probed for run in runs if (probed := figures.probed(run))]
    scatters = [
        figures.against(runs, "kl", "rate", "rate (KL), nats/item"),
        figures.against(runs, "active_units", "active units", "active units"),
    ]
    heats = [figures.heat(run, key) for run, key in zip(runs, _keys("rate", [run.name for run in runs]), strict=True)]
    codes = [figures.codes(run, key) for run, key in zip(runs, _keys("codes", [run.name for run in runs]), strict=True)]
    return Content(
        kind=kind,
        headline=headline,
        meaning=KINDS[kind][1] if kind in KINDS else "",
        remarks=[*found.remarks, *_remarks(runs)],
        runs=_table(runs),
        tables=[
            *_summary(runs),
            *_differences(found),
            *_rankings(found),
            *(_in_words(one) for one in found.beside if isinstance(one, Rows)),
        ],
        curves=figures.curves(runs),
        ways=[figures.way(one) for one in found.beside if isinstance(one, Way)],
        scatters=[chart for chart in scatters if chart],
        codes=[chart for chart in codes if chart],
        films=[figures.film(one, key) for one, key in zip(means, _keys("means", [m.name for m in means]), strict=True)],
        heats=[heat for heat in heats if heat],
        texts=[texts for run in runs if (texts := _texts(run))][:_TEXTS],
        commands=commands(found),
        versions=_versions(runs),
        references=cited(runs),
    )


def _keys(what: str, names: Sequence[str]) -> list[str]:
    """Names of figures that files can have, each once, such as "means-plain-seed-0"."""
    short = [f"{what}-{re.sub(r'[^A-Za-z0-9]+', '-', name)[:60].strip('-')}" for name in names]
    return [key if short.count(key) == 1 else f"{key}-{i}" for i, key in enumerate(short)]


def kind_of(verdict: str) -> str:
    """The kind of a verdict, such as "partly collapsed"."""
    return verdict.partition(":")[0]


def sign_of(kind: str) -> str:
    """The sign of a kind of verdict."""
    return KINDS[kind][0] if kind in KINDS else "•"


def _headline(runs: Sequence[Run]) -> tuple[str, str]:
    """The kind of the worst verdict, and what there is to say: of one run its verdict, of several how many of each."""
    if not runs:
        return "unknown", "Reproductions alone: there is no run to judge"
    kinds = Counter(kind_of(run.verdict) for run in runs)
    order = [*(kind for kind in KINDS if kind in kinds), *sorted(kinds.keys() - KINDS.keys())]
    if len(runs) == 1:
        return order[0], runs[0].verdict[:1].upper() + runs[0].verdict[1:]
    tally = ", ".join(f"{kinds[kind]} {kind}" for kind in order)
    return order[0], f"{len(runs)} runs: {tally}" if len(order) > 1 else f"All {len(runs)} runs: {order[0]}"


def _remarks(runs: Sequence[Run]) -> Iterable[str]:
    if len({str(run.about["data"]) for run in runs}) > 1:
        yield "The runs are of different data: their NLL, −ELBO and rate are not to be compared."
    if len(how := sorted({run.evaluated for run in runs if run.evaluated})) > 1:
        yield f"The runs are evaluated in different ways ({'; '.join(how)}): small differences mean nothing."
    yield from (f"The watch of {run.name}: {run.alarm}" for run in runs if run.alarm)
    warned: dict[str, dict[str, str]] = {}
    for run in runs:
        for text in map(str, _list(run.figures.get("warnings"))):
            warned.setdefault(_NUMBER.sub("#", text), {})[run.name] = text
    for texts in warned.values():
        yield _of_some(texts, len(runs))


def _of_some(texts: dict[str, str], runs: int) -> str:
    """A warning of some runs, by name; those that differ in their numbers are one, with the numbers of the first."""
    first, said = next(iter(texts.items()))
    if runs == 1:
        return said
    if len(texts) <= _NAMED and set(texts.values()) == {said}:
        return f"{'; '.join(texts)}: {said}"
    return f"{len(texts)} of {runs} runs, such as {first}: {said}"


def _list(said: Any) -> list[Any]:
    return said if isinstance(said, list) else []


def _table(runs: Sequence[Run]) -> Table:
    tasks = [name for name in TASKS if any(run.of_task(name).value is not None for run in runs)]
    header = ["run", "verdict", "NLL", "−ELBO", "KL", "MI", "cap of MI", "active units", *tasks, "time", "evaluated on"]
    return Table("Every run, with standard errors over items", header, [_row(run, tasks) for run in runs])


def _row(run: Run, tasks: Sequence[str]) -> list[Cell]:
    mi, units = run.reading("mi"), run.reading("active_units")
    of = "" if units.cap is None or units.value is None else f" of {units.cap:.0f}"
    seconds = run.reading("seconds").value
    return [
        Cell(run.name, title=str(run.folder)),
        Cell(run.verdict),
        *(_figure(run.reading(name)) for name in ("nll", "neg_elbo", "kl")),
        _figure(mi),
        Cell("" if mi.cap is None else f"{mi.cap:.2f}", mi.cap),
        Cell("n/a" if units.value is None else f"{units.value:.0f}{of}", units.value, units.why),
        *(_figure(run.of_task(name)) for name in tasks),
        Cell("" if seconds is None else _duration(seconds), seconds),
        Cell(run.evaluated or "not evaluated"),
    ]


def _is(said: Any) -> bool:
    return isinstance(said, dict)


def _figure(one: Reading) -> Cell:
    if one.value is None:
        return Cell("n/a", None, one.why)
    shown = round(one.value, 2) + 0.0  # No minus zero.
    return Cell(f"{shown:.2f}" + ("" if one.se is None else f" ± {one.se:.2f}"), one.value)


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes}:{left:02d} min" if minutes else f"{seconds:.0f} s"


def _summary(runs: Sequence[Run]) -> Iterable[Table]:
    """Means over seeds, where there are several; of runs whose figures are whole."""
    whole = [run for run in runs if run.seed is not None and all(_is(run.figures.get(name)) for name in _NEEDED)]
    if max(Counter(run.remedy for run in whole).values(), default=0) < 2:
        return
    rows = [{**run.figures, "remedy": run.remedy, "seed": run.seed, "verdict": run.verdict} for run in whole]
    header, *body = Comparison(_cleaned(rows)).table()
    yield _in_words(Rows("Mean (standard deviation) over seeds", header, body))


def _in_words(rows: Rows) -> Table:
    return Table(rows.caption, rows.header, [[Cell(text, _leading(text)) for text in row] for row in rows.rows])


_NEEDED = (*FIGURES, "cpu_seconds")


def _cleaned(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows with numbers alone for figures."""

    def figures(said: Any, names: Iterable[str]) -> dict[str, Any]:
        each = {name: said[name] for name in names if _is(said.get(name))}
        return {name: {key: number(one.get(key)) for key in ("value", "se", "cap")} for name, one in each.items()}

    return [
        {**row, **figures(row, FIGURES), "of_task": figures(task, TASKS) if _is(task := row.get("of_task")) else {}}
        for row in rows
        if number(row["cpu_seconds"].get("value")) is not None
    ]


def _leading(text: str) -> float | None:
    try:
        return float(text.split(" ")[0].rstrip("×"))
    except ValueError:
        return None


def _differences(found: Found) -> Iterable[Table]:
    """The paired differences that comparisons hold."""
    for folder, about in found.compared.items():
        rows = [
            [Cell(str(remedy)), *(_difference(each.get(name)) for name in ("nll", "neg_elbo"))]
            for remedy, each in about["differences"].items()
            if _is(each)
        ]
        if rows:
            where = f" in {folder.name}" if len(found.compared) > 1 else ""
            yield Table(
                f"Paired differences to {BASELINE}{where}: the same items and noise", ["remedy", "NLL", "−ELBO"], rows
            )


def _rankings(found: Found) -> Iterable[Table]:
    """The rankings that comparisons hold, of more than plain training and one other."""
    for folder, about in found.compared.items():
        header, *rows = [[str(text) for text in row] for row in about["ranking"] if isinstance(row, list)] or [[]]
        if len(rows) > 2 and all(len(row) == len(header) for row in rows):
            where = f" in {folder.name}" if len(found.compared) > 1 else ""
            yield _in_words(Rows(f"Ranked by NLL{where}, with Holm's correction for how many", header, rows))


def _difference(said: Any) -> Cell:
    value = number(said.get("value")) if _is(said) else None
    if value is None:
        return Cell("n/a")
    over = [number(said.get(name)) for name in ("over_items", "over_seeds")]
    items, seeds = (float("nan") if one is None else one for one in over)
    return Cell(str(Difference(value, items, seeds, 1)), value)


def _texts(run: Run) -> Texts | None:
    samples = [str(text) for text in run.examples.get("samples", [])]
    pairs = [
        (str(p[0]), str(p[1])) for p in run.examples.get("reconstructions", []) if isinstance(p, list) and len(p) == 2
    ]
    lines = [[str(text) for text in line] for line in run.examples.get("interpolations", []) if isinstance(line, list)]
    return Texts(run.name, samples, pairs, lines) if samples or pairs or lines else None


def _versions(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What the runs were trained with; what differs is all said."""
    said = {name: sorted({str(run.about.get(name, "not known")) for run in runs}) for name in _VERSIONS}
    data = sorted({str(run.about["data"])[:16] for run in runs})
    said["data (SHA-256 begins)"] = data
    return [(name, ", ".join(each)) for name, each in said.items() if each]


def is_picture(text: str) -> bool:
    """Whether an example is an image, as a data URI that holds nothing else."""
    return _PICTURE.fullmatch(text) is not None


def plain(text: str) -> str:
    """A text whose control characters are visible, and that UTF-8 can hold; every text of a report passes here."""
    return visible(text).encode("utf-8", "backslashreplace").decode()


def as_json(said: Any) -> str:
    r"""JSON for within a page's `<script>`: nothing in it ends the element, as < is \u003c, and so on."""
    text = json.dumps(said, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
