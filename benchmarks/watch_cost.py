"""What `Watch` costs of a training, in processor time, on a tiny model (the worst case) and on a small LSTM-VAE.

python benchmarks/watch_cost.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import uncollapse as uc
from uncollapse.data.sequences import as_text
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from linear_gaussian import LinearGaussian, orthogonal

STEPS, ROUNDS, VOCABULARY = 400, 5, 2000


def tiny() -> tuple[Any, Any]:
    encoder = uc.Posterior(nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 16)), uc.gaussian, (8, 8))
    model = uc.VAE(encoder, LinearGaussian(orthogonal(*[1.0] * 8, size=20), 1.0), uc.StandardNormal(8))
    return model, torch.randn(32, 20)


def lstm() -> tuple[Any, Any]:
    sizes = [f"model.{half}.{size}=128" for half in ("encoder", "decoder") for size in ("embedding", "hidden")]
    spec = validated({**compose("text", [], sizes), "data": None}, trusted=True)
    model = build.model(spec, {"vocabulary": VOCABULARY})
    return model, as_text(torch.randint(4, VOCABULARY, (32, 15)).tolist())


def seconds(model: Any, x: Any, steps: int, watch: Callable[[uc.Bound], object]) -> float:
    optimiser, objective = torch.optim.SGD(model.parameters(), 1e-4), uc.Objective()
    began = time.process_time()
    for _ in range(steps):
        bound = model(x)
        optimiser.zero_grad()
        objective(bound).total.backward()
        optimiser.step()
        watch(bound)
    return time.process_time() - began


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| model | ms a step | with a watch every 100 steps |\n|---|---|---|")
    for name, made, steps in (("MLP, 8 units", tiny, STEPS), ("LSTM, 32 units", lstm, STEPS // 10)):
        model, x = made()
        seconds(model, x, steps // 4, lambda bound: None)
        without, spent = 0.0, 0.0
        for _ in range(ROUNDS):
            without += seconds(model, x, steps, lambda bound: None)
            watch = uc.Watch(say=lambda alarm: None)

            def timed(bound: uc.Bound, watch: uc.Watch = watch) -> None:
                nonlocal spent
                began = time.process_time()
                watch.step(bound)
                spent += time.process_time() - began

            seconds(model, x, steps, timed)
        print(f"| {name} | {1e3 * without / ROUNDS / steps:.2f} | +{spent / without:.1%} |")


if __name__ == "__main__":
    main()
