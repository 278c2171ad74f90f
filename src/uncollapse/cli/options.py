"""What `fit` and `compare` are asked to train on, and the spec it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from uncollapse.cli.values import Jobs, Place, file_name, refuse_dangling
from uncollapse.data.kinds import BATCHING, BESIDE, FILES, KINDS, Switch, offered
from uncollapse.errors import InputError, unknown

if TYPE_CHECKING:
    from uncollapse.experiment.hardware import Hardware
    from uncollapse.experiment.spec import Spec

Kind: TypeAlias = Annotated[
    str,
    Parameter(
        help=f"What to train on: {', '.join(f'{name} ({offer.says})' for name, offer in KINDS.items())}; or a recipe's "
        "name."
    ),
]
HOLDS = "; ".join(f"{name}: {offer.files}" for name, offer in KINDS.items() if offer.files)
SWITCHES = {name: switch for offer in KINDS.values() for name, switch in offer.switches.items()}


def _switches(name: str, switches: Mapping[str, Switch]) -> Any:
    """A class of options that are on or off, made of those that kinds of data offer."""
    fields = [(n, Annotated[bool, Parameter(help=switch.says)], field(default=False)) for n, switch in switches.items()]
    # Its own module, as cyclopts takes the options of a class of Python's own for values.
    made = make_dataclass(name, fields, frozen=True, kw_only=True, namespace={"__module__": __name__})
    return Parameter(name="*")(made)


#: The options that kinds of data offer, and those that say how a file of items is laid out.
Switches = _switches("Switches", SWITCHES)
Layout = _switches("Layout", {name: switch for name, switch in SWITCHES.items() if switch.reads})


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What to train on.

    Arguments:
        train: The training file.
        valid: The validation file; a tenth of the training items, at most 10,000, where it is not given.
        test: The test file; another tenth.
        recipe: The spec to start from; `uncollapse recipes` lists them.
        catalogue: A file of remedies of yours, beside those of `uncollapse remedies`.
        overrides: Any entry of the spec as path=value, such as training.max_epochs=20; repeatable.
        device: Where to train, such as cpu or cuda.
        devices: How many processes train together, each on a device of its own; torchrun and SLURM say it themselves.
        strategy: Whether each process keeps all parameters (ddp) or a part (fsdp).
        precision: How precisely the networks compute; bf16-mixed needs a GPU.
    """

    train: Annotated[Place | None, Parameter(help=f"The training file; {HOLDS}.")] = None
    valid: Place | None = None
    test: Place | None = None
    switches: Switches = field(default_factory=Switches)  # pyright: ignore[reportInvalidTypeForm]
    recipe: str | None = None
    catalogue: Place | None = None
    overrides: Annotated[tuple[str, ...], Parameter(name="--set", show_default=False)] = ()
    device: str = "cpu"
    devices: Jobs = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    precision: Literal["32", "bf16-mixed"] = "32"

    def chosen(self, word: str) -> tuple[str, str]:
        """The kind of data and the recipe that a word stands for, which is the name of either.

        Raises:
            InputError: where it is neither, and for a recipe that names no kind or is one of two.
        """
        if word in KINDS or (":" in word and self.recipe):
            return word, self.recipe or offered(word).recipe
        if ":" in word:
            raise InputError(f"`{word}` is data of your own: name a recipe for it with `--recipe`, such as `vectors`.")
        from uncollapse.experiment.catalogue import recipes

        there = {name: (recipe.spec.get("data") or {}).get("kind", "") for name, recipe in recipes().items()}
        if word not in there:
            raise unknown("kind of data or recipe", word, {*KINDS, *(name for name, kind in there.items() if kind)})
        if not there[word]:
            raise InputError(
                f"recipe `{word}` names no data: it is for `uncollapse.fit` in Python. `uncollapse recipes` lists "
                "others."
            )
        if self.recipe not in (None, word):
            raise InputError(f"`{word}` and `--recipe {self.recipe}` are two recipes: give one of them.")
        return there[word], word

    def spec(self, word: str, remedies: Sequence[str], seed: int) -> Spec:
        """The spec of what was asked, its paths absolute.

        Raises:
            InputError: one line that names what is wrong.
        """
        from uncollapse.experiment.compose import compose, overridden, pruned
        from uncollapse.experiment.spec import validated

        kind, recipe = self.chosen(word)
        said = compose(recipe, remedies, own=self.catalogue)
        said = {**said, "data": self._data(kind, said.get("data") or {}), "seed": seed}
        said = pruned(overridden(said, self._overrides()), remedies, self.catalogue)
        spec = validated({**said, "data": _resolved(said["data"]), "model": _started(said.get("model"))}, trusted=True)
        if spec.model is None:
            raise InputError(
                f"recipe `{recipe}` names no model: it is for `uncollapse.fit` in Python. `uncollapse recipes` lists "
                "others."
            )
        return spec

    def title(self, remedies: Sequence[str]) -> str:
        """What a run with some remedies is called, the same for any order: "aggressive+anneal", or "plain".

        Raises:
            InputError: for a remedy that there is not.
        """
        from uncollapse.experiment.catalogue import chosen

        return "+".join(name for name in chosen(remedies, self.catalogue) if name != "plain") or "plain"

    def _overrides(self) -> tuple[str, ...]:
        for override in self.overrides:
            if override.partition("=")[0].strip() == "seed":
                raise InputError(
                    f"`--set {override}` would set the seed of every run behind its name: give `--seed`, or `--seeds` "
                    "to `compare`."
                )
        return self.overrides

    def _data(self, kind: str, base: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe's data section; of a recipe for another kind of data, how it is batched."""
        kept = base if base.get("kind") == kind else _batching(kind, base)
        given = {name: str(path) for name, path in self._files().items()}
        if given and not offered(kind).files:
            others = " or ".join(f"`{name}`" for name, offer in KINDS.items() if offer.files)
            raise InputError(f"`{kind}` has its own data: leave out the files, or use {others}.")
        return {**kept, "kind": kind, **given, **entries(self.switches, offered(kind).switches, f"`{kind}`")}

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

    def arguments(self, word: str) -> list[str]:
        """The same options for another process's `uncollapse fit`."""
        kind, recipe = self.chosen(word)
        said = [kind, "--recipe", recipe, "--device", self.device]
        for name in ("devices", "strategy", "precision"):  # What is as usual is not said: older comparisons go on.
            said += [f"--{name}", str(getattr(self, name))] if getattr(self, name) != getattr(Options, name) else []
        for name, path in self._files().items():
            said += [f"--{name}", str(path)]
        if self.catalogue is not None:
            said += ["--catalogue", str(self.catalogue.resolve())]
        for override in self.overrides:
            said += ["--set", override]
        return said + [f"--{name}" for name, on in asdict(self.switches).items() if on]


def _batching(kind: str, base: Mapping[str, Any]) -> dict[str, Any]:
    """What a data section says of batches that another kind of data understands too."""
    from uncollapse.experiment.parts import described

    understood = described("data", kind).model_fields
    return {name: value for name, value in base.items() if name in BATCHING and name in understood}


def entries(asked: Any, there: Mapping[str, Switch], who: str) -> dict[str, Any]:
    """The entries of the data section that some switches stand for.

    Arguments:
        asked: The switches.
        there: Those that can be used.
        who: Where they can be used, for an error.

    Raises:
        InputError: for one that cannot.
    """
    on = [name for name, is_on in asdict(asked).items() if is_on]
    for name in on:
        if name not in there:
            others = " or ".join(f"`{kind}`" for kind, offer in KINDS.items() if name in offer.switches)
            raise InputError(f"{who} has no use for `--{name}`: leave out the option, or use {others}.")
    return {there[name].entry: there[name].value for name in on}


def _resolved(data: Any) -> Any:
    """The data section with absolute paths, so that a run can be evaluated from any folder."""
    if not isinstance(data, Mapping):
        return data
    kind = str(data.get("kind"))
    if kind in KINDS and KINDS[kind].files and data.get("train") is None:
        raise InputError(f"`{kind}` needs data to train on: give `--train FILE`, {KINDS[kind].files}.")
    paths = {name: data[name] for name in (*FILES, *BESIDE) if isinstance(data.get(name), str)}
    return {**data, **{name: str(_absolute(file_name(path))) for name, path in paths.items()}}


def _started(model: Any) -> Any:
    """The model section with absolute paths of the runs that it starts from, where it names any."""
    if not isinstance(model, Mapping):
        return model
    named = {name: model[name] for name in ("start", "encoder_start") if isinstance(model.get(name), str)}
    return {**model, **{name: str(_absolute(file_name(said))) for name, said in named.items()}}


def _absolute(path: Path) -> Path:
    if path.is_fifo():
        raise InputError(
            f"`{path}` is a pipe, and a run reads its data again when it goes on and when it is evaluated: store the "
            "text in a file, and give that one."
        )
    refuse_dangling(path)
    return path.resolve()
