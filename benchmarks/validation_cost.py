"""What a validation costs beside an epoch, and a training step beside a hand-written loop's.

    python benchmarks/validation_cost.py [--only vectors] [--rounds 5]

One thread. The validation split is a tenth of the training set. `vectors` is a VAE of two-layer perceptrons on 12,800
random vectors of 50 dimensions, d = 32, and a loop written by hand for it, which takes turns with ours; `text` and
`snli-small` are the recipes' models on random tokens, 320 items of 20 and 1,280 of 10. What counts is processor time,
the median over rounds.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import uncollapse as uc
from uncollapse.data.batches import source
from uncollapse.data.text import Text
from uncollapse.metrics.information import densities
from uncollapse.nets.lstm import LSTMDecoder, LSTMEncoder
from uncollapse.nets.mlp import MLPDecoder, MLPEncoder
from uncollapse.training.trainer import Trainer
from uncollapse.training.validation import GLANCE

BATCH, CLIP, RATE = 32, 5.0, 1e-3
LOG_2_PI = math.log(2 * math.pi)


def vectors(latent: int = 32, width: int = 50) -> uc.VAE:
    torch.manual_seed(0)
    posterior = uc.Posterior(MLPEncoder((width,), 2 * latent, [128]), uc.gaussian, (latent, latent))
    return uc.VAE(posterior, MLPDecoder((width,), latent, [128]), uc.StandardNormal(latent))


def text(words: int, embedding: int, hidden: int, latent: int) -> uc.VAE:
    torch.manual_seed(0)
    posterior = uc.Posterior(LSTMEncoder(words, embedding, hidden, 2 * latent), uc.gaussian, (latent, latent))
    return uc.VAE(posterior, LSTMDecoder(words, embedding, hidden, latent), uc.StandardNormal(latent))


class Case(NamedTuple):
    """A model, so many items to train on, and how many."""

    model: Callable[[], uc.VAE]
    data: Callable[[int], Any]
    items: int


def tokens(items: int, words: int, length: int) -> Text:
    found = torch.randint(4, words, (items, length + 2))
    found[:, 0], found[:, -1] = 1, 2
    return Text(found)


CASES = {
    "vectors": Case(vectors, lambda n: torch.randn(n, 50), 12_800),
    "text": Case(lambda: text(20_000, 128, 256, 32), lambda n: tokens(n, 20_000, 20), 320),
    "snli-small": Case(lambda: text(4_000, 64, 128, 16), lambda n: tokens(n, 4_000, 10), 1_280),
}


def trainer(case: Case) -> Trainer:
    """One that trains as the case says, on data of its own."""
    torch.manual_seed(1)
    train, valid = case.data(case.items), case.data(case.items // 10)
    return Trainer(case.model(), source(train, BATCH), source(valid, BATCH), clip=CLIP, max_epochs=1)


def clocked(do: Callable[[], Any]) -> float:
    began = time.process_time()
    do()
    return time.process_time() - began


def epochs(run: Trainer) -> float:
    """The seconds of an epoch's training steps."""
    end, run.loop._end_epoch = run.loop._end_epoch, lambda: setattr(run.descent.standing, "epoch", 1)
    run.descent.standing.step = run.descent.standing.epoch = 0
    seconds = clocked(run.loop.fit)
    run.loop._end_epoch = end
    return seconds


def in_slices(x: Tensor) -> Iterator[Tensor]:
    """The batches at the least cost: neighbours stay together, and only their order is drawn."""
    for index in torch.randperm(len(x) // BATCH).tolist():
        yield x[index * BATCH : (index + 1) * BATCH]


def by_hand(model: uc.VAE, batches: Iterable[Tensor], fused: bool | None) -> float:
    """The seconds of an epoch of the same steps, as a person writes them for this one model."""
    nets: Any = (model.encoder.net, model.decoder)
    encoder, decoder = (copy.deepcopy(net.layers) for net in nets)
    log_noise = nn.Parameter(torch.zeros(50))
    parameters = [*encoder.parameters(), *decoder.parameters(), log_noise]
    adam = torch.optim.Adam(parameters, lr=RATE, fused=fused)

    def steps() -> None:
        for batch in batches:
            mean, log_variance = encoder(batch).chunk(2, -1)
            z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
            error = (decoder(z) - batch).square() * (-log_noise).exp()
            distortion = 0.5 * (error + log_noise + LOG_2_PI).sum(1)
            kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)
            loss = (distortion + kl).mean()
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, CLIP)
            adam.step()

    return clocked(steps)


def by_record(model: uc.VAE, x: Tensor) -> float:
    """The seconds of an epoch of the same steps by the library's model and objective, in a loop of one's own."""
    objective, parameters = uc.Objective(), [*model.parameters()]
    adam = torch.optim.Adam(parameters, lr=RATE, fused=True)

    def steps() -> None:
        for batch in in_slices(x):
            adam.zero_grad()
            objective(model(batch)).total.backward()
            nn.utils.clip_grad_norm_(parameters, CLIP)
            adam.step()

    return clocked(steps)


def measure(name: str, rounds: int) -> None:
    """Prints the line of one case; the first round warms up."""
    case = CASES[name]
    run, x = trainer(case), torch.randn(case.items, 50)
    tasks: dict[str, Callable[[], float]] = {
        "epoch": lambda: epochs(run),
        "validation": lambda: clocked(lambda: run.validation.validate()),
        "informed": lambda: clocked(lambda: run.validation.validate("mi")),
    }
    law = run.validation.validate().rows.law
    tasks["mi"] = lambda: clocked(lambda: densities(law, 0, passes=1, limit=GLANCE))
    if name == "vectors":
        loader: Any = DataLoader(x, BATCH, shuffle=True)  # pyright: ignore[reportArgumentType]
        tasks["loader"] = lambda: by_hand(vectors(), loader, None)
        tasks["plain"] = lambda: by_hand(vectors(), in_slices(x), None)
        tasks["fused"] = lambda: by_hand(vectors(), in_slices(x), True)
        tasks["record"] = lambda: by_record(vectors(), x)
    found = [{task: do() for task, do in tasks.items()} for _ in range(rounds + 1)][1:]
    of_epoch = [f"{median(one[task] / one['epoch'] for one in found):.1%}" for task in ("validation", "informed", "mi")]
    beside = [task for task in ("loader", "plain", "fused", "record") if task in tasks]
    steps = [median(one["epoch"] / one[task] for one in found) for task in beside]
    seconds = f"{median(one['epoch'] for one in found):.2f}"
    print("|", " | ".join([name, seconds, *of_epoch, *(f"{step:.2f}" for step in steps)]), "|", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    heads = ["case", "epoch, s", "validation", "where MI decides", "MI alone"]
    heads += ["step: by hand, DataLoader", "by hand", "by hand, fused", "our model by hand"]
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    for name in given.only:
        measure(name, given.rounds)
