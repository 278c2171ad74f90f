"""`generate`, `reconstruct`, `interpolate` and `encode`: a trained run in use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter
from cyclopts.validators import Number

from uncollapse.cli import show
from uncollapse.cli.fitting import Seed

Decode: TypeAlias = Literal["greedy", "beam", "sample"]
Length = Annotated[int | None, Parameter(validator=Number(gte=1))]


def generate(
    run: Path,
    /,
    *,
    number: Annotated[int, Parameter(name=["--number", "-n"])] = 20,
    decode: Decode = "sample",
    temperature: Annotated[float, Parameter(validator=Number(gte=0.01, lte=100))] = 1.0,
    width: int = 5,
    max_length: Length = None,
    seed: Seed = 0,
    json: bool = False,
) -> None:
    """Write texts from draws of the prior, one a line.

    Arguments:
        run: The run's folder.
        number: How many.
        decode: How tokens are chosen: the most probable one, by beam search, or a draw.
        temperature: Of `sample`; below 1 it prefers the probable.
        width: Of `beam`.
        max_length: The most tokens of a text; as many as the longest training item has where it is not given.
        seed: Of every draw.
        json: Print them as JSON.
    """
    from uncollapse.experiment.api import load

    texts = load(run).generate(number, decode, temperature, width, seed, max_length=max_length)
    _print(texts, json)


def reconstruct(
    run: Path,
    file: Path,
    /,
    *,
    decode: Decode = "greedy",
    sample: bool = False,
    width: int = 5,
    max_length: Length = None,
    labels: bool = False,
    seed: Seed = 0,
    json: bool = False,
) -> None:
    """Write what a run makes of the latent variable of each item of a text, one a line.

    Arguments:
        run: The run's folder.
        file: The text, one item a line.
        decode: How tokens are chosen: the most probable one, by beam search, or a draw.
        sample: From a draw of the posterior instead of its mean.
        width: Of `beam`.
        max_length: The most tokens of a text; as many as the longest training item has where it is not given.
        labels: A label and a tab precede every item.
        seed: Of every draw.
        json: Print them as JSON.
    """
    from uncollapse.data.text import read_lines
    from uncollapse.experiment.api import load

    trained = load(run)
    lines = read_lines(file, labels)
    _print(trained.reconstruct(lines, decode, sample, width, seed, max_length=max_length), json)


def interpolate(
    run: Path,
    first: str,
    second: str,
    /,
    *,
    steps: int = 5,
    decode: Decode = "greedy",
    width: int = 5,
    max_length: Length = None,
    seed: Seed = 0,
    json: bool = False,
) -> None:
    """Write texts along the straight line between two sentences' posterior means.

    Arguments:
        run: The run's folder.
        first: A sentence.
        second: Another one.
        steps: How many texts, both ends included.
        decode: How tokens are chosen: the most probable one, by beam search, or a draw.
        width: Of `beam`.
        max_length: The most tokens of a text; as many as the longest training item has where it is not given.
        seed: Of every draw.
        json: Print them as JSON.
    """
    from uncollapse.experiment.api import load

    texts = load(run).interpolate(first, second, steps, decode, width, seed, max_length=max_length)
    _print(texts, json)


def encode(
    run: Path,
    file: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    sample: bool = False,
    labels: bool = False,
    seed: Seed = 0,
    json: bool = False,
) -> None:
    """Store the latent variables of a text as a NumPy array with a row an item.

    Arguments:
        run: The run's folder.
        file: The text, one item a line.
        out: The .npy file.
        sample: A draw from the posterior instead of its mean.
        labels: A label and a tab precede every item.
        seed: Of the draw.
        json: Print the file's name and shape as JSON.
    """
    import numpy as np

    from uncollapse.data.text import read_lines
    from uncollapse.experiment.api import load

    z = load(run).encode(read_lines(file, labels), sample, seed).cpu().numpy()
    with out.open("wb") as target:
        np.save(target, z)
    if json:
        show.document({"file": str(out), "shape": list(z.shape)})
    else:
        print(f"{out}: {' x '.join(map(str, z.shape))} numbers")


def _print(texts: list[str], json: bool) -> None:
    if json:
        show.document({"texts": texts})
    else:
        print(*texts, sep="\n")
