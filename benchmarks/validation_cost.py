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
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import uncollapse as uc
from uncollapse.data.batches import source
from uncollapse.data.text import Text
from uncollapse.nets.lstm import LSTMDecoder, LSTMEncoder
from uncollapse.training.trainer import Trainer

BATCH, CLIP, RATE = 32, 5.0, 1e-3


class Perceptron(nn.Sequential):
    """Two layers with 128 hidden units."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, outputs))


class Decoder(Perceptron):
    """p(x | z) = N(f(z), 1)."""

    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        mean = super().forward(z)
        return Independent(Normal(mean, torch.ones_like(mean), validate_args=False), 1, validate_args=False)


def vectors(latent: int = 32, width: int = 50) -> uc.VAE:
    torch.manual_seed(0)
    posterior = uc.Posterior(Perceptron(width, 2 * latent), uc.gaussian, (latent, latent))
    return uc.VAE(posterior, Decoder(latent, width), uc.StandardNormal(latent))


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


def by_hand(model: uc.VAE, x: Tensor, fused: bool | None) -> float:
    """The seconds of an epoch of the same steps, as a person writes them for this one model."""
    encoder, decoder = copy.deepcopy(model.encoder.net), copy.deepcopy(model.decoder)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    adam = torch.optim.Adam(parameters, lr=RATE, fused=fused)

    def steps() -> None:
        for index in torch.randperm(len(x) // BATCH).tolist():
            batch = x[index * BATCH : (index + 1) * BATCH]
            mean, log_variance = encoder(batch).chunk(2, -1)
            z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
            error = (nn.Sequential.forward(decoder, z) - batch).square().sum(1)
            distortion = 0.5 * (error + 50 * torch.tensor(2 * torch.pi).log())
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
        for index in torch.randperm(len(x) // BATCH).tolist():
            adam.zero_grad()
            objective(model(x[index * BATCH : (index + 1) * BATCH])).total.backward()
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
    if name == "vectors":
        tasks |= {"plain": lambda: by_hand(vectors(), x, None), "fused": lambda: by_hand(vectors(), x, True)}
        tasks["record"] = lambda: by_record(vectors(), x)
    found = [{task: do() for task, do in tasks.items()} for _ in range(rounds + 1)][1:]
    of_epoch = [f"{median(one[task] / one['epoch'] for one in found):.1%}" for task in ("validation", "informed")]
    beside = [task for task in ("plain", "fused", "record") if task in tasks]
    steps = [median(one["epoch"] / one[task] for one in found) for task in beside]
    seconds = f"{median(one['epoch'] for one in found):.2f}"
    print("|", " | ".join([name, seconds, *of_epoch, *(f"{step:.2f}" for step in steps)]), "|", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| case | epoch, s | validation | where MI decides | step: by hand | by hand, fused | our model by hand |")
    print("|---|---|---|---|---|---|---|")
    for name in given.only:
        measure(name, given.rounds)
