"""`score`: what samples of text are worth, from a file or a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from uncollapse.cli import show
from uncollapse.cli.values import Place, Seed, Temperature, Texts, Width
from uncollapse.errors import InputError


def score(
    samples: Place,
    /,
    *,
    against: Place | None = None,
    train_lm: Place | None = None,
    held_out: Place | None = None,
    trained_on: Place | None = None,
    number: Annotated[Texts | None, Parameter(name=["--number", "-n"])] = None,
    temperature: Temperature | None = None,
    order: Width = 5,
    out: Annotated[Place | None, Parameter(name=["--out", "-o"])] = None,
    seed: Seed = 0,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Say how fluent, diverse and new samples of text are, by language models of counts (FPPL, RPPL) and beside them.

    Arguments:
        samples: A file of samples, one a line, words between blanks; or the folder of a run, which draws them.
        against: A file of real text, for both of the following.
        train_lm: Real text that teaches the language model that scores the samples (FPPL).
        held_out: Real text that a language model of the samples scores (RPPL); best one that no model was trained on.
        trained_on: What the samples' model was trained on, to count copies of it; a run's own where it is not given,
            else the first of the others.
        number: How many samples a run draws, 10,000 where it is not given; of a file, how many of its first are taken.
        temperature: Of a run's draws.
        order: The words of the longest n-gram.
        out: A file to store a run's samples in.
        seed: Of a run's draws, and of which samples are held against each other.
        trust: Import the code of others that the run's spec names, and run it.
        json: Print the figures as JSON.
    """
    lm, test = train_lm or against, held_out or against
    if lm is None or test is None:
        raise InputError(
            "samples are scored against real text: give `--against FILE`, or `--train-lm` and `--held-out`."
        )
    from uncollapse.data.text import read_lines
    from uncollapse.metrics.generated import score as scored

    if samples.is_dir():
        texts, own = _drawn(samples, number or 10_000, temperature, out, seed, trust)
    elif temperature is not None or out is not None:
        raise InputError(
            f"`--temperature` and `--out` are for the draws of a run, and `{samples}` is a file: leave them out."
        )
    else:
        texts, own = read_lines(samples)[:number], None
    source = trained_on or own
    copied = () if source is None else read_lines(source)
    found = scored(texts, read_lines(lm), read_lines(test), copied, order, seed)
    if json:
        show.document({"samples": len(texts), **{name: one.to_json() for name, one in found.items()}})
    else:
        width = max(map(len, found))
        show.say(f"{len(texts):,} samples of `{samples}`", *(f"{name:<{width}}  {one}" for name, one in found.items()))


def _drawn(
    run: Path, number: int, temperature: float | None, out: Path | None, seed: int, trust: bool
) -> tuple[list[str], Path | None]:
    """The samples of a run, and the file that it was trained on, where that is one of texts."""
    from uncollapse.cli.storing import check_target, write
    from uncollapse.experiment.api import load
    from uncollapse.experiment.run import read_spec

    if out is not None:
        check_target(out, "samples", None, "samples.txt")
    trained = load(run, trust=trust)
    if trained.interface.unit != "texts":
        raise InputError(f"`{run}` is of {trained.interface.unit}, and what is scored is text: give a run of texts.")
    texts = trained.generate(number, "sample", temperature, seed=seed)
    if out is not None:
        write(out, lambda file: file.write("".join(f"{text}\n" for text in texts).encode()))
    data = read_spec(run).get("data")
    train = data.get("train") if isinstance(data, dict) and data.get("kind") == "text" else None
    return texts, Path(train) if isinstance(train, str) and Path(train).is_file() else None
