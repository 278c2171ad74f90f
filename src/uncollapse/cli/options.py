"""What `fit` and `compare` are asked to train on, and the spec it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from uncollapse.cli.values import Jobs, Place, refuse_dangling
from uncollapse.errors import InputError

if TYPE_CHECKING:
    from uncollapse.experiment.hardware import Hardware
    from uncollapse.experiment.spec import Spec

Kind: TypeAlias = Literal["text", "stdlib", "synthetic"]
RECIPES: dict[Kind, str] = {"text": "text", "stdlib": "demo", "synthetic": "he2019-synthetic"}
FILES = ("train", "valid", "test")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What to train on.

    Arguments:
        train: The training text: UTF-8, one item a line, plain or .gz.
        valid: The validation text; a tenth of the training text, at most 10,000 items, where it is not given.
        test: The test text; another tenth.
        labels: A label and a tab precede every item; they are removed.
        characters: Tokens are characters, not words.
        recipe: The spec to start from; `uncollapse recipes` lists them.
        overrides: Any entry of the spec as path=value, such as training.max_epochs=20; repeatable.
        device: Where to train, such as cpu or cuda.
        devices: How many processes train together, each on a device of its own; torchrun and SLURM say it themselves.
        strategy: Whether each process keeps all parameters (ddp) or a part (fsdp).
        precision: How precisely the networks compute; bf16-mixed needs a GPU.
    """

    train: Place | None = None
    valid: Place | None = None
    test: Place | None = None
    labels: bool = False
    characters: bool = False
    recipe: str | None = None
    overrides: Annotated[tuple[str, ...], Parameter(name="--set", show_default=False)] = ()
    device: str = "cpu"
    devices: Jobs = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    precision: Literal["32", "bf16-mixed"] = "32"

    def recipe_for(self, kind: Kind) -> str:
        """The recipe asked for, or the one of this kind of data."""
        return self.recipe or RECIPES[kind]

    def spec(self, kind: Kind, remedies: Sequence[str], seed: int) -> Spec:
        """The spec of what was asked, its paths absolute.

        Raises:
            InputError: one line that names what is wrong.
        """
        from uncollapse.experiment.compose import compose, overridden
        from uncollapse.experiment.spec import validated

        said = compose(self.recipe_for(kind), remedies)
        said = {**said, "data": self._data(kind, said.get("data") or {}), "seed": seed}
        said = overridden(said, self._overrides())
        spec = validated({**said, "data": _resolved(said["data"])}, trusted=True)
        if spec.model is None:
            raise InputError(
                f"recipe `{self.recipe_for(kind)}` names no model: it is for `uncollapse.fit` in Python. "
                "`uncollapse recipes` lists others."
            )
        return spec

    def _overrides(self) -> tuple[str, ...]:
        for override in self.overrides:
            if override.partition("=")[0].strip() == "seed":
                raise InputError(
                    f"`--set {override}` would set the seed of every run behind its name: give `--seed`, or `--seeds` "
                    "to `compare`."
                )
        return self.overrides

    def _data(self, kind: Kind, base: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe's data section; of a recipe for another kind of data, how it is batched."""
        from uncollapse.experiment.spec import Batching

        kept = base if base.get("kind") == kind else {k: v for k, v in base.items() if k in Batching.model_fields}
        given = {name: str(path) for name, path in self._files().items()}
        extra = {"labels": True} if self.labels else {}
        extra |= {"tokens": "characters"} if self.characters else {}
        if kind != "text" and (given or extra):
            raise InputError(f"`{kind}` has its own data: leave out the files and their options, or use `text`.")
        return {**kept, "kind": kind, **given, **extra}

    def _files(self) -> dict[str, Path]:
        files = {name: getattr(self, name) for name in FILES}
        return {name: _absolute(path) for name, path in files.items() if path is not None}

    def launch(self) -> Hardware:
        """What to train on: this process, with the others that train with it.

        Raises:
            InputError: for a device or a precision that cannot be had.
        """
        from uncollapse.experiment.hardware import launch

        return launch(self.device, self.devices, self.strategy, self.precision)

    def arguments(self, kind: Kind) -> list[str]:
        """The same options for another process's `uncollapse fit`."""
        said = [kind, "--recipe", self.recipe_for(kind), "--device", self.device]
        for name in ("devices", "strategy", "precision"):  # What is as usual is not said: older comparisons go on.
            said += [f"--{name}", str(getattr(self, name))] if getattr(self, name) != getattr(Options, name) else []
        for name, path in self._files().items():
            said += [f"--{name}", str(path)]
        for override in self.overrides:
            said += ["--set", override]
        return said + ["--labels"] * self.labels + ["--characters"] * self.characters


def _resolved(data: Any) -> Any:
    """The data section with absolute paths, so that a run can be evaluated from any folder."""
    if not isinstance(data, Mapping) or data.get("kind") != "text":
        return data
    if data.get("train") is None:
        raise InputError("`text` needs a text to train on: give `--train FILE`, one item a line.")
    paths = {name: data[name] for name in FILES if isinstance(data.get(name), str)}
    return {**data, **{name: str(_absolute(Path(path))) for name, path in paths.items()}}


def _absolute(path: Path) -> Path:
    if path.is_fifo():
        raise InputError(
            f"`{path}` is a pipe, and a run reads its text again when it goes on and when it is evaluated: store the "
            "text in a file, and give that one."
        )
    refuse_dangling(path)
    return path.resolve()


def title(remedies: Sequence[str]) -> str:
    """What a run with some remedies is called, the same for any order: "aggressive+anneal", or "plain".

    Raises:
        InputError: for a remedy that there is not.
    """
    from uncollapse.experiment.catalogue import chosen

    return "+".join(name for name in chosen(remedies) if name != "plain") or "plain"
