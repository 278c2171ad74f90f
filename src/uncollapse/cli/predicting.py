"""`predict`: the targets of pairs, by a trained run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from uncollapse.cli import show
from uncollapse.cli.storing import check_target, write
from uncollapse.cli.values import Place, Seed, Width
from uncollapse.errors import InputError

if TYPE_CHECKING:
    from uncollapse.data.pairs import Row


def predict(
    run: Place,
    file: Place,
    /,
    *,
    out: Annotated[Place, Parameter(name=["--out", "-o"])],
    best: Width = 1,
    width: Width = 5,
    seed: Seed = 0,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Guess the target of each pair of a file, and store the guesses as lines of that file's form.

    Arguments:
        run: The run's folder, of pairs (`inflection`).
        file: The pairs, as those that the run was trained on, with or without their targets; where all have one, how
            right the guesses are is printed.
        out: The file of guesses; one that is there is replaced. Each line has the columns of its pair, the guess in the
            target's place.
        best: How many guesses a pair, each on a line of its own, the most probable first.
        width: Of the beam, and so the most guesses there are.
        seed: Of a posterior that draws.
        trust: Import the code of others that the run's spec names, and run it.
        json: Print the file's name and the figures as JSON.
    """
    if best > width:
        raise InputError(f"a beam of width {width} gives no {best} guesses: raise `--width`, or lower `--best`.")
    check_target(out, "guesses", None, "guesses.tsv")
    from uncollapse.experiment.api import load
    from uncollapse.experiment.tasks import of_guesses

    trained = load(run, trust=trust)
    trained.refuse_without_targets()
    rows = trained.interface.read(file, {})
    guesses = trained.predict(rows, width, seed)
    lines = [_line(row, guess) for row, some in zip(rows, guesses, strict=True) for guess in some[:best]]
    write(out, lambda target: target.write("".join(f"{line}\n" for line in lines).encode()))
    figures = of_guesses(guesses, rows, trained.interface)
    if json:
        show.document({"file": str(out), "pairs": len(rows), **{name: one.to_json() for name, one in figures.items()}})
    else:
        show.say(f"{out}: {len(lines)} guesses for {len(rows)} pairs", *(f"{k:<20} {v}" for k, v in figures.items()))


def _line(row: Row, guess: str) -> str:
    return "\t".join([*([row.before] if row.before else []), row.source, *([row.said] if row.said else []), guess])
