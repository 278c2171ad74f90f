"""What models' samples of text are worth: runs that are drawn from in several ways, and real text beside them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from uncollapse.data.text import read_lines
from uncollapse.errors import InputError
from uncollapse.experiment import run
from uncollapse.experiment.api import load
from uncollapse.files import replacing
from uncollapse.metrics.estimate import Unavailable
from uncollapse.metrics.generated import score

#: How samples are drawn, as in Table 6 of the source: by what they are called, what `generate` is asked for.
WAYS: Mapping[str, dict[str, Any]] = {
    "0.5": {"decode": "sample", "temperature": 0.5},
    "1.0": {"decode": "sample", "temperature": 1.0},
    "beam": {"decode": "beam", "width": 5},
}
#: What a table shows of a score.
COLUMNS = ("fppl", "rppl", "self_bleu", "distinct_2", "repeated", "copies", "length")
REAL = "real text"
MOST = 10_000  # samples
#: The parts of a text: what models train, are selected and scored on, and what teaches the model that scores samples.
SHARES = {"train": 0.4, "valid": 0.05, "test": 0.05, "language-model": 0.5}


class Texts(NamedTuple):
    """A text in the four parts of the protocol, each a file."""

    train: Path
    valid: Path
    test: Path
    language_model: Path

    @property
    def number(self) -> int:
        """How many samples are drawn: as many as there is real text to stand beside them."""
        return min(MOST, len(read_lines(self.train)))


def divided(text: Path, out: Path) -> Texts:
    """A text's lines in four files, at random and always alike.

    Arguments:
        text: The file, one item a line.
        out: The folder of the four.

    Raises:
        InputError: where there are too few lines.
    """
    lines = read_lines(text)
    if len(lines) < 40:
        raise InputError(f"`{text}` has {len(lines)} items, and four parts are made of them: give at least 40.")
    random.Random(0).shuffle(lines)
    out.mkdir(parents=True, exist_ok=True)
    paths, first = list[Path](), 0
    for name, share in SHARES.items():
        last = first + round(share * len(lines))
        paths.append(path := out / f"{name}.txt")
        with replacing(path, path.with_suffix(".partial")) as file:
            file.write("".join(f"{line}\n" for line in lines[first:last]).encode())
        first = last
    return Texts(*paths)


def of_samples(cells: Mapping[str, Sequence[Path]], texts: Texts) -> dict[str, Any]:
    """The scores of every run's samples in every way, and of real text, with a table of means over seeds.

    Arguments:
        cells: By remedy, the folders of its runs.
        texts: What they are scored by.
    """
    rows = [
        {"remedy": remedy, "run": cell.name, "decoding": way, **_score(cell, way, texts)}
        for remedy, folders in cells.items()
        for way in WAYS
        for cell in folders
        if way != "beam" or _has_latents(cell)
    ]
    # A beam of no z would be one text.
    real = _figures(read_lines(texts.train)[: texts.number], texts, copied=False)
    rows.append({"remedy": REAL, "run": "", "decoding": "", **real})
    return {"number": texts.number, "rows": rows, "table": _table(rows)}


def _has_latents(cell: Path) -> bool:
    model = run.read_spec(cell).get("model")
    return isinstance(model, dict) and model.get("kind") != "language-model"


def _score(cell: Path, way: str, texts: Texts) -> dict[str, Any]:
    """Of one run and way; kept in its folder."""
    kept = cell / f"scored-{way}-{texts.number}.json"
    if not kept.is_file():
        samples = load(cell).generate(texts.number, **WAYS[way])
        run.write_json(kept, _figures(samples, texts))
    return run.read_json(kept)


def _figures(samples: Sequence[str], texts: Texts, copied: bool = True) -> dict[str, Any]:
    if not any(map(str.split, samples)):
        return {name: Unavailable("no sample has a word").to_json() for name in COLUMNS}
    source = read_lines(texts.train) if copied else ()
    found = score(samples, read_lines(texts.language_model), read_lines(texts.test), source)
    return {name: one.to_json() for name, one in found.items()}


def _table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Mean (standard deviation) over seeds; of one seed, value ± standard error."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["remedy"], row["decoding"]), []).append(row)
    header = ["model", "decoding", "seeds", *(name.replace("_", " ") for name in COLUMNS)]
    body = [[*key, str(len(of)), *(_shown([row[name] for row in of]) for name in COLUMNS)] for key, of in found.items()]
    return [header, *body]


def _shown(figures: Sequence[Mapping[str, Any]]) -> str:
    if any("value" not in one for one in figures):
        return "n/a"
    values = [one["value"] for one in figures]
    digits = 3 if max(map(abs, values)) < 2 else 1
    if len(values) > 1:
        return f"{mean(values):.{digits}f} ({stdev(values):.{digits}f})"
    error = figures[0].get("se")
    return f"{values[0]:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")
