"""Kinds of data: what each must offer so that one can train on it, and which there are.

Nothing here imports torch, so that the command line can say at once what it offers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from uncollapse.errors import unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

    from uncollapse.bound import Source
    from uncollapse.data.batches import Batched
    from uncollapse.data.reading import Tell

#: The entries of a data section that say how items become batches: a recipe's go on for another kind of data.
BATCHING = ("batch_size", "batching", "evaluation_batch_size")
#: The entries that name files, where a kind of data reads any.
FILES = ("train", "valid", "test")
#: Those that name files beside them: of labels, and of further forms.
BESIDE = ("labels", "valid_labels", "test_labels", "forms")
#: The items of one pass, where nobody says how many.
ITEMS = 256


class How(NamedTuple):
    """How a model's items are written; what is None is as usual."""

    way: str | None = None
    """One of `Interface.ways`."""
    temperature: float | None = None
    width: int | None = None
    max_length: int | None = None


class Interface(Protocol):
    """Reads items of one kind from a person, and writes those of a model for one.

    One with `drawn` and `beside` as well, as `showing.Pictures` has them, stores pictures in a file (`-o`).
    """

    ways: ClassVar[Mapping[str, tuple[str, ...]]]
    """How items may be written, the most probable way first, each with the numbers of `How` that it heeds."""
    reads: ClassVar[tuple[str, ...]]
    """The entries of the data section that also say how a file of items is laid out."""
    unit: ClassVar[str]
    """What some items are called, such as "texts"."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What networks may ask for, such as the shape of an item."""
        ...

    def read(self, path: Path, layout: Mapping[str, Any]) -> Any:
        """The items of a file, as `source` takes them; `layout` holds entries of `reads` that are set."""
        ...

    def item(self, said: str) -> Any:
        """One item, from what a person writes for it."""
        ...

    def together(self, first: Any, second: Any) -> Any:
        """Two items as `source` takes them.

        Raises:
            InputError: where either is none.
        """
        ...

    def source(self, items: Any, batch_size: int) -> Source:
        """Items, or batches already made, as batches."""
        ...

    def write(self, decoder: nn.Module, z: Tensor, how: How) -> Any:
        """What a decoder makes of latent variables, one item of z (N, ...) each."""
        ...

    def lines(self, written: Any) -> list[str]:
        """What was written, one line an item."""
        ...

    def plain(self, written: Any) -> list[Any]:
        """What was written, as JSON."""
        ...


class Data(Protocol):
    """Items in the splits "train", "valid" and "test"."""

    @property
    def fingerprint(self) -> str:
        """The SHA-256, in hexadecimal, of all that is trained and judged on."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What networks may ask for, such as the size of a vocabulary."""
        ...

    def batches(self, split: str) -> Batched:
        """A split in batches."""
        ...

    def about(self) -> dict[str, Any]:
        """What a run keeps, as JSON, to read and write items without the data."""
        ...

    def remarks(self, parameters: Callable[[Mapping[str, Any]], int]) -> Iterator[str]:
        """What a person should know before training, a sentence each.

        Arguments:
            parameters: From facts to how many parameters the model of this training has with them.
        """
        ...

    def distinct(self, split: str, limit: int) -> int:
        """How many different items a split has, counted up to a limit."""
        ...


class Kind(Protocol):
    """A kind of data: its constructor takes the entries of the spec's section `data`."""

    kept: ClassVar[str]
    """The name of the file in a run's folder that holds `Data.about`."""

    def load(self, tell: Tell | None = None) -> Data:
        """The data; `tell` hears how far the reading is.

        Raises:
            InputError: where it cannot be used.
        """
        ...

    @staticmethod
    def restore(about: Any) -> Interface:
        """The interface, from what a run has kept.

        Raises:
            InputError: where it is not what `Data.about` says.
        """
        ...


@dataclass(frozen=True)
class Switch:
    """An option of the command line that stands for an entry of the data section.

    Arguments:
        says: What it means.
        entry: The entry.
        value: What it sets the entry to.
        reads: Whether it also says how a file of items is laid out that a trained model is to read.
    """

    says: str
    entry: str
    value: Any = True
    reads: bool = False


@dataclass(frozen=True)
class Offer:
    """What the command line says of a kind of data before anything is loaded.

    Arguments:
        home: Where its class is, as "module:name" within this package.
        says: What it is, in a few words.
        recipe: The recipe to start from where none is named.
        facts: The names of its facts, what networks may ask for.
        files: What its files hold; empty where it has its own data.
        switches: Its options beside those for the files, by name.
        example: Two items as a person writes them to `interpolate`.
        least: What is known of its facts before it is made, where that takes long.
    """

    home: str
    says: str
    recipe: str
    facts: tuple[str, ...]
    files: str = ""
    switches: Mapping[str, Switch] = field(default_factory=dict)
    example: str = "FIRST SECOND"
    least: Mapping[str, Any] = field(default_factory=dict)


_SENTENCES = '"first sentence" "second sentence"'
KINDS = {
    "text": Offer(
        "corpora:TextFiles",
        "a text of yours",
        recipe="text",
        facts=("vocabulary", "words"),
        files="UTF-8, one item a line, plain or .gz",
        switches={
            "labels": Switch("A label and a tab precede every item of a text; they are removed.", "labels", reads=True),
            "characters": Switch("The tokens of a text are characters, not words.", "tokens", "characters"),
        },
        example=_SENTENCES,
    ),
    "inflection": Offer(
        "inflection:Inflection",
        "pairs of yours: a sequence made from another one and tags, such as an inflected form",
        recipe="inflection",
        facts=("vocabulary", "words", "tags"),
        files="UTF-8, a pair a line: SOURCE TAB TAGS TAB TARGET, or SOURCE TAB TARGET; plain or .gz",
        example="FIRST SECOND",
    ),
    "stdlib": Offer(
        "corpora:Stdlib",
        "sentences from the standard library's documentation",
        recipe="demo",
        facts=("vocabulary", "words"),
        example=_SENTENCES,
        least={"vocabulary": 1, "words": None},
    ),
    "synthetic": Offer(
        "corpora:Synthetic",
        "synthetic sequences",
        recipe="he2019-synthetic",
        facts=("vocabulary", "words"),
        example=_SENTENCES,
        least={"vocabulary": 1, "words": None},
    ),
    "vectors": Offer(
        "vectors:Vectors",
        "a table of numbers of yours",
        recipe="vectors",
        facts=("shape", "label_classes"),
        files="a .npy, .npz or .csv table, one item a row; of several in one .npz, x.npz:NAME",
        example="1.5,2,... 0,3.25,...",
    ),
    "images": Offer(
        "images:Images",
        "images of yours",
        recipe="images",
        facts=("shape", "levels", "label_classes"),
        files="a .npy, .npz, .mat or idx file of pictures, or a folder of image files; of several arrays, x.npz:NAME",
        example="FILE:0 FILE:1",
    ),
    "digits": Offer(
        "images:Digits",
        "scikit-learn's handwritten digits",
        recipe="digits",
        facts=("shape", "levels", "label_classes"),
        example="0 1",
    ),
}


#: What is known of somebody's own kind, which a spec names as "package.module:Name".
OWN = Offer("", "data of your own", recipe="", facts=(), files="such as your kind reads")


def offered(name: str) -> Offer:
    """What the command line knows of a kind of data, ours or somebody's own."""
    return KINDS.get(name, OWN)


def kind(name: str) -> type[Kind]:
    """The class of a kind of data.

    Raises:
        InputError: where there is none of that name.
    """
    if name not in KINDS:
        raise unknown("kind of data", name, KINDS)
    module, _, found = KINDS[name].home.partition(":")
    return getattr(import_module(f"uncollapse.data.{module}"), found)
