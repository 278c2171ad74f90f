"""`generate`, `reconstruct`, `interpolate` and `encode`: a trained run in use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from cyclopts import Parameter

from uncollapse.cli import show
from uncollapse.cli.values import Length, Place, Seed, Steps, Temperature, Texts, Width, refuse_dangling
from uncollapse.errors import InputError, because

if TYPE_CHECKING:
    from torch import Tensor

Decode: TypeAlias = Literal["greedy", "beam", "sample"]
#: What a file of one NumPy array begins with.
_ARRAY = b"\x93NUMPY"


def generate(
    run: Place,
    /,
    *,
    number: Annotated[Texts, Parameter(name=["--number", "-n"])] = 20,
    decode: Decode = "sample",
    temperature: Temperature | None = None,
    width: Width | None = None,
    max_length: Length | None = None,
    seed: Seed = 0,
    json: bool = False,
) -> None:
    """Write texts from draws of the prior, one a line.

    Arguments:
        run: The run's folder.
        number: How many.
        decode: How tokens are chosen: the most probable one, by beam search, or a draw.
        temperature: Of `sample`, 1 where it is not given; below 1 it prefers the probable.
        width: Of `beam`, 5 where it is not given.
        max_length: The most tokens of a text; as many as the longest training item has where it is not given.
        seed: Of every draw.
        json: Print them as JSON.
    """
    _check_ways(decode, temperature=temperature, width=width)
    from uncollapse.experiment.api import load

    texts = load(run).generate(number, decode, temperature or 1.0, width or 5, seed, max_length=max_length)
    _print(texts, json)


def reconstruct(
    run: Place,
    file: Place,
    /,
    *,
    decode: Decode = "greedy",
    sample: bool = False,
    width: Width | None = None,
    max_length: Length | None = None,
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
        width: Of `beam`, 5 where it is not given.
        max_length: The most tokens of a text; as many as the longest training item has where it is not given.
        labels: A label and a tab precede every item.
        seed: Of every draw.
        json: Print them as JSON.
    """
    _check_ways(decode, width=width)
    from uncollapse.data.text import read_lines
    from uncollapse.experiment.api import load

    trained = load(run)
    lines = read_lines(file, labels)
    _print(trained.reconstruct(lines, decode, sample, width or 5, seed, max_length=max_length), json)


def interpolate(
    run: Place,
    first: str,
    second: str,
    /,
    *,
    steps: Steps = 5,
    decode: Decode = "greedy",
    width: Width | None = None,
    max_length: Length | None = None,
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
        width: Of `beam`, 5 where it is not given.
        max_length: The most tokens of a text; as many as the longest training item has where it is not given.
        seed: Of every draw.
        json: Print them as JSON.
    """
    _check_ways(decode, width=width)
    from uncollapse.experiment.api import load

    texts = load(run).interpolate(first, second, steps, decode, width or 5, seed, max_length=max_length)
    _print(texts, json)


def encode(
    run: Place,
    file: Place,
    /,
    *,
    out: Annotated[Place, Parameter(name=["--out", "-o"])],
    sample: bool = False,
    labels: bool = False,
    seed: Seed = 0,
    json: bool = False,
) -> None:
    """Store the latent variables of a text as a NumPy array with a row an item.

    Arguments:
        run: The run's folder.
        file: The text, one item a line.
        out: The .npy file; one that is there is replaced, any other file is not.
        sample: A draw from the posterior instead of its mean.
        labels: A label and a tab precede every item.
        seed: Of the draw.
        json: Print the file's name and shape as JSON.
    """
    _check_target(out)
    from uncollapse.data.text import read_lines
    from uncollapse.experiment.api import load

    z = load(run).encode(read_lines(file, labels), sample, seed)
    _store(out, z)
    if json:
        show.document({"file": str(out), "shape": list(z.shape)})
    else:
        print(f"{out}: {' x '.join(map(str, z.shape))} numbers")


def _check_ways(decode: str, **given: float | None) -> None:
    """Refuses an option of another way of decoding, which would have no effect."""
    for option, way in {"temperature": "sample", "width": "beam"}.items():
        if given.get(option) is not None and decode != way:
            raise InputError(
                f"`--{option} {given[option]:g}` is for `--decode {way}`, and this decodes by `{decode}`: leave it "
                f"out, or add `--decode {way}`."
            )


def _check_target(path: Path) -> None:
    """Refuses a place where no array can be stored, or where something else is, before any work."""
    refuse_dangling(path)
    if path.is_dir():
        raise InputError(f"`{path}` is a folder: give a file, such as `{path / 'z.npy'}`.")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder `{path.parent}` to store `{path.name}` in: make it, or give another.")
    if path.is_file() and not _replaceable(path):
        raise InputError(f"`{path}` is there and holds no NumPy array: it stays as it is. Give another name.")


def _replaceable(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_ARRAY)) in (b"", _ARRAY)
    except OSError as error:
        raise InputError(f"cannot write `{path}`: {because(error)}.") from None


def _store(path: Path, z: Tensor) -> None:
    """Stores an array, aside first where it is to be a file, so that a failure leaves what was there."""
    import numpy as np

    from uncollapse.files import replacing, unwritable

    special = path.exists() and not path.is_file()
    path = path if special else path.resolve()  # What a link leads to is replaced, not the link.
    # The folder is not ours: a name that nobody else has.
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with path.open("wb") if special else replacing(path, aside) as target:
            np.save(target, z.cpu().numpy())
    except OSError as error:
        raise unwritable(path, error) from None


def _print(texts: list[str], json: bool) -> None:
    if json:
        show.document({"texts": texts})
    else:
        print(*texts, sep="\n")
