"""Where the time of a plain and of an aggressive epoch goes, and which share of it matrix products alone would take.

    python benchmarks/speed_profile.py [--size b] [--batches 4]

One thread; an epoch of a few batches with its validation, by torch's profiler. The bound is the time that the products'
floating point operations would take at the rate of a product of a convenient shape, measured in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from statistics import median
from typing import Any

import torch
from torch.profiler import profile

from speed_worker import SIZES, Size, batch, product, stock
from uncollapse.cli.memory import keep_large_blocks
from uncollapse.data.text import Text
from uncollapse.training.optimisers import SGD
from uncollapse.training.procedures import Aggressive, Joint, Procedure
from uncollapse.training.trainer import Trainer

KINDS = {
    "matrix products": ("mm", "addmm", "addmm_", "bmm"),
    "torch's LSTM": ("mkldnn_rnn_layer", "mkldnn_rnn_layer_backward"),
    "softmax and its sums": ("_softmax", "amax", "neg_", "gather", "scatter_add_", "logsumexp"),
    "dropout masks": ("bernoulli_",),
    "clipping and the optimiser's step": ("linalg_vector_norm", "_fused_sgd_", "mul_"),
    "new gradients": ("fill_", "embedding_dense_backward", "new_ones"),
}
PROCEDURES: dict[str, Procedure] = {
    "plain": Joint(),
    "aggressive": Aggressive(budget=10),
    "aggressive, own clip": Aggressive(budget=10, clip="own"),
}


def epoch(size: Size, procedure: Procedure, batches: int) -> tuple[Any, float]:
    """One epoch of training under the profiler, by operation and shape, and its processor time in seconds."""
    data = [Text(batch(size)) for _ in range(batches)]
    model = stock(size, "small_uniform")
    sgd = {name: SGD(1.0) for name in model.players()}
    trainer = Trainer(model, data, data[:1], optimisers=sgd, procedure=procedure, max_epochs=1)
    with profile(record_shapes=True) as found:
        start = time.process_time()
        trainer.fit()
        seconds = time.process_time() - start
    return found.key_averages(group_by_input_shape=True), seconds


def operations(event: Any) -> float:
    """The floating point operations of a product or an LSTM; 0 for all else."""
    shapes, name = event.input_shapes, event.key.removeprefix("aten::")
    if name in ("mm", "addmm", "addmm_"):
        (rows, inner), (_, columns) = shapes[name != "mm" :][:2]
        return 2.0 * rows * inner * columns * event.count
    if name in KINDS["torch's LSTM"]:
        (steps, items, width), (gates, _) = shapes[:2]
        return 2.0 * steps * items * gates * (width + gates // 4) * event.count * (1 + ("backward" in name))
    return 0.0


def report(events: Any, seconds: float, rate: float, name: str) -> None:
    """Prints the shares of an epoch in markdown."""
    spent: Counter[str] = Counter()
    for event in events:
        key = event.key.removeprefix("aten::")
        kind = next((kind for kind, keys in KINDS.items() if key in keys), "all else")
        spent[kind] += event.self_cpu_time_total
    bound = sum(map(operations, events)) / rate / seconds
    print(f"\n### {name}: {seconds:.1f} s; its products at {rate / 1e9:.0f} GFLOP/s would take {bound:.0%} of that\n")
    print("| what | share |", "|---|---|", sep="\n")
    for kind, part in spent.most_common():
        print(f"| {kind} | {part / sum(spent.values()):.1%} |", flush=True)


def product_rate() -> float:
    """Floating point operations a second of processor time."""
    rates = []
    for _ in range(5):
        start = time.process_time()
        done = product()
        rates.append(done / (time.process_time() - start))
    return median(rates)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="b")
    parser.add_argument("--batches", type=int, default=4)
    given = parser.parse_args()
    keep_large_blocks()
    torch.set_num_threads(1)
    for name, procedure in PROCEDURES.items():
        report(*epoch(SIZES[given.size], procedure, given.batches), product_rate(), name)
