"""Memory and time of a large corpus: prepared, opened again, trained for some steps, validated; and a million items.

    python benchmarks/large_corpus.py --folder FOLDER

It writes a text of 10 million sentences of 10 words (480 MB) into the folder, drawn by a seed with Zipf's frequencies,
and the prepared form (320 MB, and 400 MB more while it is made) beside it, and removes both unless `--keep` is
given. Every row is a process of its own, timed from its start, imports included; its memory is the kernel's
`ru_maxrss`, the largest resident set, in which the mapped pages that were touched count too.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np

SEED, WORDS, TYPES = 20260101, 10, 50_000
STEPS, LATENT = 20, 32
BLOCK = 100_000
STAGES = ("import", "prepare", "start", "validate", "many")
SPEC = ("data.size=20000",)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--folder", type=Path, required=True)
    asked.add_argument("--sentences", type=int, default=10_000_000)
    asked.add_argument("--stages", nargs="*", choices=STAGES, default=list(STAGES))
    asked.add_argument("--keep", action="store_true")
    asked.add_argument("--child", choices=STAGES, help=argparse.SUPPRESS)
    given = asked.parse_args()
    text = given.folder / f"text-{given.sentences}.txt"
    if given.child:
        return child(given.child, text)
    given.folder.mkdir(parents=True, exist_ok=True)
    if not text.exists():
        write(text, given.sentences)
    print("| stage | seconds | processor seconds | peak MiB | |\n|---|---|---|---|---|", flush=True)
    for stage in given.stages:
        command = [sys.executable, __file__, "--folder", str(given.folder), "--sentences", str(given.sentences)]
        environment = {**os.environ, "UNCOLLAPSE_CACHE": str(given.folder / "cache")}
        subprocess.run([*command, "--child", stage], check=True, env={**environment, "BEGAN": str(time.time())})
    if not given.keep:
        text.unlink()
        shutil.rmtree(given.folder / "cache")


def write(path: Path, sentences: int) -> None:
    """The text; the frequency of the k-th type is in proportion to 1 / k."""
    random = np.random.default_rng(SEED)
    below = np.cumsum(1 / np.arange(1, TYPES + 1))
    words = np.array([f"w{k}" for k in range(TYPES)], dtype=object)
    with path.open("w", encoding="ascii") as file:
        for first in range(0, sentences, BLOCK):
            uniform = random.random((min(BLOCK, sentences - first), WORDS)) * below[-1]
            file.writelines(" ".join(row) + "\n" for row in words[below.searchsorted(uniform)])


def child(stage: str, text: Path) -> None:
    """One row of the table."""
    stages = {"import": importing, "prepare": preparing, "start": starting, "validate": validating, "many": many}
    said = stages[stage](text)
    taken, used = time.time() - float(os.environ["BEGAN"]), resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    print(f"| {stage} | {taken:.1f} | {cpu:.1f} | {used.ru_maxrss / 1024:,.0f} | {said} |", flush=True)


def importing(text: Path) -> str:
    """What every process needs before it begins."""
    from uncollapse.experiment import execute

    return f"`{execute.__name__}` alone"


def preparing(text: Path) -> str:
    """Reads the text and keeps the ids, or opens those that are kept."""
    from uncollapse.cli import show
    from uncollapse.data.corpora import Texts
    from uncollapse.experiment import build

    with show.reading() as tell:
        data = build.data(_spec(text), tell)
    assert isinstance(data, Texts)
    corpus = data.corpus
    sizes = ", ".join(f"{len(split):,}" for split in (corpus.train, corpus.valid, corpus.test))
    cache = sum(path.stat().st_size for path in Path(os.environ["UNCOLLAPSE_CACHE"]).rglob("*"))
    return f"{sizes} items, {len(corpus.vocabulary):,} types, {cache / 2**20:,.0f} MiB kept"


class Stop(Exception):
    """Enough was seen of a training."""


def starting(text: Path) -> str:
    """Trains for some steps as `uncollapse fit` does, and says when the first one was done."""
    from uncollapse.experiment import execute
    from uncollapse.training.listeners import Moment

    seen: dict[str, tuple[float, float]] = {}

    def watch(moment: Moment) -> None:
        if moment.kind in ("start", "step"):
            seen.setdefault(moment.kind, (time.time() - float(os.environ["BEGAN"]), time.process_time()))
        if moment.step >= STEPS:
            raise Stop

    try:
        execute.train(_spec(text), text.parent / "cache" / "run", {}, [watch])
    except Stop:
        pass
    (began, began_cpu), (first, first_cpu) = seen["start"], seen["step"]
    return (
        f"begins after {began:.1f} s ({began_cpu:.1f} s), first step {first:.1f} s ({first_cpu:.1f} s), {STEPS} steps"
    )


def validating(text: Path, *more: str) -> str:
    """What ends an epoch: the bound and the information of the whole validation split.

    The network has next to no size, so that the figures of the items are what is measured, and not an hour of LSTM.
    """
    from torch import Tensor, nn
    from torch.distributions import Independent, Normal

    import uncollapse as uc
    from uncollapse.experiment import build

    class Encoder(nn.Embedding):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.tokens).mean(1)  # pyright: ignore[reportAttributeAccessIssue]

    class Decoder(nn.Linear):
        def forward(self, z: Tensor, seen: Tensor) -> Independent:
            return Independent(Normal(super().forward(z).expand(*z.shape[:2], seen.shape[1]), 1.0), 1)

    spec = _spec(text, *more)
    data = build.data(spec)
    encoder = Encoder(data.facts["vocabulary"], 2 * LATENT)
    model = uc.VAE(uc.Posterior(encoder, uc.gaussian, (LATENT, LATENT)), Decoder(LATENT, 1), uc.StandardNormal(LATENT))
    train, valid = (data.batches(split) for split in ("train", "valid"))
    build.trainer(spec.training, model, train, valid, seed=0).validate()
    return f"{valid.count:,} items in {len(valid):,} batches, {LATENT} latent units, a tiny network"


def many(text: Path) -> str:
    """The same of a tenth of the text, handed over as a validation file; its preparing counts too."""
    valid = text.with_name("valid.txt")
    with text.open("rb") as whole, valid.open("wb") as file:
        file.writelines(islice(whole, _sentences(text) // 10))
    try:
        return validating(text, f"data.valid={valid}")
    finally:
        valid.unlink()


def _sentences(text: Path) -> int:
    return int(text.stem.removeprefix("text-"))


def _spec(text: Path, *more: str):  # noqa: ANN202 - imported late, so that the seconds of the imports count
    from uncollapse.experiment.compose import compose
    from uncollapse.experiment.spec import validated

    return validated(compose("text", [], [f"data.train={text}", *more, *SPEC]))


if __name__ == "__main__":
    main()
