"""`generate`, `reconstruct`, `interpolate`, `traverse` and `encode`: a trained run in use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from uncollapse.cli import show
from uncollapse.cli.options import SWITCHES, Layout, entries
from uncollapse.cli.storing import check_target, write
from uncollapse.cli.values import Length, Place, Seed, Span, Steps, Temperature, Texts, Unit, Width
from uncollapse.errors import InputError, unknown

if TYPE_CHECKING:
    from torch import Tensor

    from uncollapse.experiment.trained import Trained

#: One item as a person writes it, which may be a number below 0.
Item: TypeAlias = Annotated[str, Parameter(allow_leading_hyphen=True)]
Decode: TypeAlias = Literal["greedy", "beam", "sample", "mean"]
#: What files begin with: those of one NumPy array, and pictures.
_ARRAY, _PICTURE = b"\x93NUMPY", b"\x89PNG"
#: A picture of all items, of a run of images.
Drawing: TypeAlias = Annotated[Place | None, Parameter(name=["--out", "-o"])]


def generate(
    run: Place,
    /,
    *,
    number: Annotated[Texts, Parameter(name=["--number", "-n"])] = 20,
    decode: Decode = "sample",
    temperature: Temperature | None = None,
    width: Width | None = None,
    max_length: Length | None = None,
    out: Drawing = None,
    seed: Seed = 0,
    label: str | None = None,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Write items from draws of the prior, one a line: texts, numbers with commas between them, or images as data URIs.

    Arguments:
        run: The run's folder.
        number: How many.
        decode: How an item is chosen: of text the most probable token at a time, by beam search, or a draw; of numbers
            the mean, or a draw.
        temperature: Of `sample` of text, 1 where it is not given; below 1 it prefers the probable.
        width: Of `beam`, 5 where it is not given.
        max_length: The most tokens of a text; as many as the longest training item has where it is not given.
        out: A .png file for all images in a grid, in place of lines; one that is there is replaced.
        seed: Of every draw.
        label: The class of all items, to a model that is told it; at random, one an item, where it is not given.
        trust: Import the code of others that the run's spec names, and run it.
        json: Print them as JSON.
    """
    trained = _opened(run, trust, out, json, label)
    _check_ways(trained, decode, temperature=temperature, width=width, max_length=max_length)
    _give(trained, trained.generate(number, decode, temperature, width, seed, max_length), json, out)


def reconstruct(
    run: Place,
    file: Place,
    /,
    *,
    decode: Decode | None = None,
    sample: bool = False,
    width: Width | None = None,
    max_length: Length | None = None,
    out: Drawing = None,
    layout: Layout = Layout(),  # noqa: B008 # pyright: ignore[reportInvalidTypeForm]
    seed: Seed = 0,
    label: str | None = None,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Write what a run makes of the latent variable of each item of a file, one a line.

    Arguments:
        run: The run's folder.
        file: The items, as those that the run was trained on.
        decode: How an item is chosen; greedy of text, the mean of numbers, a draw of a PixelCNN where it is not given.
        sample: From a draw of the posterior instead of its mean.
        width: Of `beam`, 5 where it is not given.
        max_length: The most tokens of a text; as many as the longest training item has where it is not given.
        out: A .png file for all images in a grid, each beside its own, in place of lines; one that is there is
            replaced.
        seed: Of every draw.
        label: The class of all items, to a model that is told it; at random, one an item, where it is not given.
        trust: Import the code of others that the run's spec names, and run it.
        json: Print them as JSON.
    """
    trained = _opened(run, trust, out, json, label)
    _check_ways(trained, decode, width=width, max_length=max_length)
    items = _read(trained, file, layout)
    _give(trained, trained.reconstruct(items, decode, sample, width, seed, max_length), json, out, items=items)


def interpolate(
    run: Place,
    first: Item,
    second: Item,
    /,
    *,
    steps: Steps = 5,
    decode: Decode | None = None,
    width: Width | None = None,
    max_length: Length | None = None,
    out: Drawing = None,
    seed: Seed = 0,
    label: str | None = None,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Write items along the straight line between two items' posterior means.

    Arguments:
        run: The run's folder.
        first: An item, such as "a sentence" of a text, 1,0.5,2 of a table, or FILE:0 of images in a file.
        second: Another one.
        steps: How many items, both ends included.
        decode: How an item is chosen; greedy of text, the mean of numbers, a draw of a PixelCNN where it is not given.
        width: Of `beam`, 5 where it is not given.
        max_length: The most tokens of a text; as many as the longest training item has where it is not given.
        out: A .png file for all images in a grid, in place of lines; one that is there is replaced.
        seed: Of every draw.
        label: The class of all items, to a model that is told it; at random, one an item, where it is not given.
        trust: Import the code of others that the run's spec names, and run it.
        json: Print them as JSON.
    """
    trained = _opened(run, trust, out, json, label)
    _check_ways(trained, decode, width=width, max_length=max_length)
    a, b = (trained.interface.item(said) for said in (first, second))
    _give(trained, trained.interpolate(a, b, steps, decode, width, seed, max_length), json, out, columns=steps)


def traverse(
    run: Place,
    item: Item | None = None,
    /,
    *,
    units: Annotated[tuple[Unit, ...], Parameter(name=["--unit", "-u"], show_default=False)] = (),
    steps: Steps = 7,
    span: Span = 3.0,
    decode: Decode | None = None,
    width: Width | None = None,
    max_length: Length | None = None,
    out: Drawing = None,
    seed: Seed = 0,
    label: str | None = None,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Write items along the axes of the latent space: one unit after the other moves, the others stay.

    Arguments:
        run: The run's folder.
        item: The item at whose posterior mean the others stay, as for `interpolate`; at the prior's mean where it is
            not given.
        units: A unit, counted from 0; repeatable, and all where it is not given.
        steps: How many items a unit, both ends included.
        span: A unit goes from minus this to this; under a standard normal prior in standard deviations.
        decode: How an item is chosen; greedy of text, the mean of numbers, a draw of a PixelCNN where it is not given.
        width: Of `beam`, 5 where it is not given.
        max_length: The most tokens of a text; as many as the longest training item has where it is not given.
        out: A .png file for all images in a grid, a row a unit, in place of lines; one that is there is replaced.
        seed: Of every draw.
        label: The class of all items, to a model that is told it; at random, one an item, where it is not given.
        trust: Import the code of others that the run's spec names, and run it.
        json: Print them as JSON.
    """
    trained = _opened(run, trust, out, json, label)
    _check_ways(trained, decode, width=width, max_length=max_length)
    start = None if item is None else trained.interface.item(item)
    written = trained.traverse(start, units or None, steps, span, decode, width, seed, max_length)
    _give(trained, written, json, out, columns=steps)


def encode(
    run: Place,
    file: Place,
    /,
    *,
    out: Annotated[Place, Parameter(name=["--out", "-o"])],
    sample: bool = False,
    layout: Layout = Layout(),  # noqa: B008 # pyright: ignore[reportInvalidTypeForm]
    seed: Seed = 0,
    label: str | None = None,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Store the latent variables of a file's items as a NumPy array with a row an item.

    Arguments:
        run: The run's folder.
        file: The items, as those that the run was trained on.
        out: The .npy file; one that is there is replaced, any other file is not.
        sample: A draw from the posterior instead of its mean.
        seed: Of the draw.
        label: The class of all items, to an encoder that is told it; all alike where it is not given.
        trust: Import the code of others that the run's spec names, and run it.
        json: Print the file's name and shape as JSON.
    """
    check_target(out, "NumPy array", _ARRAY, "z.npy")
    from uncollapse.experiment.api import load

    trained = load(run, trust=trust)
    trained = trained if label is None else trained.given(label)
    z = trained.encode(_read(trained, file, layout), sample, seed)
    _store(out, z)
    if json:
        show.document({"file": str(out), "shape": list(z.shape)})
    else:
        show.say(f"{out}: {' x '.join(map(str, z.shape))} numbers")


def _check_ways(trained: Trained, decode: str | None, **given: float | None) -> None:
    """Refuses an option of another way of decoding, which would have no effect."""
    ways = trained.interface.ways
    decode = decode or next(iter(ways))
    if decode not in ways:
        raise unknown("way of decoding", decode, ways)
    for name, value in given.items():
        if value is None or name in ways[decode]:
            continue
        option = f"--{name.replace('_', '-')} {value:g}"
        other = next((way for way, heeds in ways.items() if name in heeds), None)
        if other is None:
            raise InputError(f"`{option}` says nothing to a model of {trained.interface.unit}: leave it out.")
        raise InputError(
            f"`{option}` is for `--decode {other}`, and this decodes by `{decode}`: leave it out, or add "
            f"`--decode {other}`."
        )


def _read(trained: Trained, file: Path, layout: Any) -> Any:
    """The items of a file."""
    usable = {name: switch for name, switch in SWITCHES.items() if switch.entry in trained.interface.reads}
    return trained.interface.read(file, entries(layout, usable, f"a model of {trained.interface.unit}"))


def _opened(run: Path, trust: bool, out: Path | None, json: bool, label: str | None) -> Trained:
    """The model of a run that is to write lines, JSON or a picture."""
    from uncollapse.experiment.api import load

    if out is not None:
        if json:
            raise InputError("`--out` stores a picture and `--json` prints numbers: leave one of them out.")
        if out.suffix != ".png":
            raise InputError(f"`{out}` is to be a picture: give a name that ends in .png.")
        check_target(out, "PNG picture", _PICTURE, "grid.png")
    trained = load(run, trust=trust)
    if out is not None and "drawn" not in dir(trained.interface):
        raise InputError(f"a model of {trained.interface.unit} writes lines and no picture: leave `--out` out.")
    return trained if label is None else trained.given(label)


def _store(path: Path, z: Tensor) -> None:
    """Stores an array."""
    import numpy as np

    write(path, lambda file: np.save(file, z.cpu().numpy()))


def _give(
    trained: Trained, written: Any, json: bool, out: Path | None, items: Any = None, columns: int | None = None
) -> None:
    """Prints what was written, or stores a picture of it.

    Arguments:
        trained, written, json: The model, and what it has written.
        out: Where to store it.
        items: What each of them was made of, to be shown to its left.
        columns: Of the picture.
    """
    if out is None:
        lines, plain = trained.interface.lines, trained.interface.plain
        show.document({trained.interface.unit: plain(written)}) if json else show.say(*lines(written))
        return
    interface: Any = trained.interface
    if items is not None:
        written, columns = interface.beside(items, written)
    write(out, lambda file: file.write(interface.drawn(written, columns)))
    show.say(f"{out}: {len(written)} {interface.unit}")
