"""One side of benchmarks/speed.py: does the task it reads from standard input, and answers with its cost as JSON.

`authors` is a folder with a clone of https://github.com/jxhe/vae-lagging-encoder, whose modules run on torch 2.13 as
they are, two warnings of old arguments aside.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

import uncollapse as uc
from uncollapse.cli.memory import keep_large_blocks
from uncollapse.data.text import END, START, Text
from uncollapse.metrics.rows import collect
from uncollapse.nets.lstm import LSTMDecoder, LSTMEncoder, initialise
from uncollapse.training.descent import Descent
from uncollapse.training.optimisers import SGD
from uncollapse.training.procedures import Joint


class Size(NamedTuple):
    """V types, the widths of embedding, LSTM and z, B items of T predicted tokens."""

    V: int
    embedding: int
    hidden: int
    latent: int
    B: int
    T: int


SIZES = {"a": Size(20_001, 512, 1024, 32, 32, 80), "b": Size(10_000, 256, 512, 32, 32, 40)}
Tasks = dict[str, Callable[[], Any]]


#: Steps that one measurement on a GPU takes, as a step there takes less than a clock can tell.
REPEATS = 20


def batch(size: Size, device: str = "cpu") -> Tensor:
    """Tokens as frequent as words are, (B, T + 1) with markers."""
    frequencies = 1 / torch.arange(1, size.V - 3)
    tokens = 4 + frequencies.expand(size.B, -1).multinomial(size.T + 1, replacement=True)
    tokens[:, 0], tokens[:, -1] = START, END
    return tokens.to(device)


def stock(size: Size, initialisation: str) -> uc.VAE:
    torch.manual_seed(0)
    encoder = LSTMEncoder(size.V, size.embedding, size.hidden, 2 * size.latent)
    decoder = LSTMDecoder(size.V, size.embedding, size.hidden, size.latent)
    posterior = uc.Posterior(encoder, uc.gaussian, (size.latent, size.latent))
    model = uc.VAE(posterior, decoder, uc.StandardNormal(size.latent))
    initialise(model, initialisation)
    return model


def ours(size: Size, samples: int, device: str) -> Tasks:
    """This library's tasks."""
    model, x = stock(size, "small_uniform"), Text(batch(size, device))
    sgd = {name: SGD(1.0) for name in model.players()}
    descent = Descent(model, [x], optimisers=sgd, device=device)

    def inner(share: float = 1.0) -> None:
        with descent.awake("inference"):
            descent.descend(descent.loss(x, share), "inference")

    measured = stock(size, "torch").to(device)

    def nll() -> list[float]:
        torch.manual_seed(1)
        rows = collect(measured, [Text(x.tokens[:1])], samples=samples, bound_samples=1)
        assert rows.log_evidence is not None
        assert rows.effective is not None
        return [-rows.log_evidence.item(), rows.effective.item()]

    return {
        "plain": lambda: Joint()(descent, x),
        "inner, joint clip": lambda: descent.descend(descent.loss(x), "inference", norm_over=descent.partners),
        "inner, own clip": inner,
        "inner, own clip, half of the tokens": lambda: inner(0.5),
        "nll": nll,
    }


def theirs(size: Size, samples: int, folder: Path, device: str) -> Tasks:
    """The same tasks by the authors' modules, stepping as their text.py says, with our weights."""
    sys.path.insert(0, str(folder))
    import modules  # pyright: ignore[reportMissingImports]

    def build(initialisation: str) -> Any:
        sizes = {"ni": size.embedding, "nz": size.latent, "enc_nh": size.hidden, "dec_nh": size.hidden}
        said = SimpleNamespace(**sizes, device=torch.device(device), dec_dropout_in=0.5, dec_dropout_out=0.5)
        encoder = modules.LSTMEncoder(said, size.V, lambda p: p, lambda p: p)
        vae = modules.VAE(encoder, modules.LSTMDecoder(said, range(size.V), lambda p: p, lambda p: p), said)
        same = {"net.": "", "embedding": "embed", "start": "trans_linear", "output": "pred_linear"}
        model = stock(size, initialisation)
        _copy(model.encoder, vae.encoder, {**same, "output": "linear"})
        _copy(model.decoder, vae.decoder, same)
        return vae.to(device)

    vae, measured, x = build("small_uniform"), build("torch").eval(), batch(size, device)
    players = [torch.optim.SGD(part.parameters(), lr=1.0, momentum=0) for part in (vae.encoder, vae.decoder)]

    def step(*moving: torch.optim.Optimizer) -> None:
        for optimiser in players:
            optimiser.zero_grad()
        vae.loss(x, 1.0, nsamples=1)[0].mean().backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 5.0)
        for optimiser in moving:
            optimiser.step()

    def nll() -> list[float]:
        torch.manual_seed(2)
        with torch.no_grad():
            return [measured.nll_iw(x[:1], nsamples=samples, ns=100).item()]

    return {"plain": lambda: step(*players), "inner": lambda: step(players[0]), "nll": nll}


def _copy(source: Any, target: Any, names: dict[str, str]) -> None:
    weights = {}
    for name, value in source.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        weights[name] = value
    target.load_state_dict({**target.state_dict(), **weights} if "loss.weight" in target.state_dict() else weights)


@cache
def factors() -> tuple[Tensor, Tensor]:
    """Two matrices of convenient shapes."""
    return torch.ones(2048, 1024), torch.ones(1024, 4096)


def product() -> int:
    """Multiplies them; gives the floating point operations."""
    torch.mm(*factors())
    return 2 * 2048 * 1024 * 4096


def measured(task: Callable[[], Any], before: float) -> dict[str, Any]:
    """Seconds on the wall and of processors, page faults, the peak of the resident memory and what it adds, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")  # The peak starts anew.
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    wall, cpu = time.perf_counter(), time.process_time()
    value = task()
    found = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    peak = _memory("VmHWM")
    value = value if isinstance(value, int | list) else None
    return {**found, "faults": faults, "peak": peak, "extra": peak - before, "value": value}


def measured_on_gpu(task: Callable[[], Any]) -> dict[str, Any]:
    """Seconds a run of a task, the mean of several, and the peak of the memory in MiB; the first run warms up."""
    value = task()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, repeats = torch.cuda.memory_allocated(), 1 if isinstance(value, list) else REPEATS
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        value = task()
    torch.cuda.synchronize()
    seconds, cpu = (time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats
    peak = torch.cuda.max_memory_allocated()
    value = value if isinstance(value, int | list) else None
    extra = (peak - before) / 2**20
    return {"seconds": seconds, "cpu": cpu, "faults": 0, "peak": peak / 2**20, "extra": extra, "value": value}


def _memory(which: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["ours", "authors", "authors, same allocator"])
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("threads", type=int)
    parser.add_argument("--authors", type=Path, required=True)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--device", required=True)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(given.threads)
    if given.side != "authors":
        keep_large_blocks()
    size, device = SIZES[given.size], given.device
    torch.manual_seed(0)
    sides = {"ours": lambda: ours(size, given.samples, device)}
    tasks = sides.get(given.side, lambda: theirs(size, given.samples, given.authors, device))()
    tasks["product"], built = product, _memory("VmRSS")
    for line in sys.stdin:
        task = tasks[line.strip()]
        print(json.dumps(measured(task, built) if device == "cpu" else measured_on_gpu(task)), flush=True)


if __name__ == "__main__":
    main()
