"""Run directories made by hand, for reports: whole ones, in no time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.distributions import Independent, Normal

from uncollapse.metrics.rows import Rows


def figure(value: float, se: float = 0.1, cap: float | None = None, n: int = 500) -> dict[str, Any]:
    return {"value": value, "se": se, "n": n, "unit": "nats/item", "cap": cap, "bias": None, "saturated": False}


def make_run(
    folder: Path,
    remedy: str = "plain",
    seed: int = 0,
    *,
    steps: Sequence[int] = (0, 100, 200, 300),
    items: int = 50,
    units: int = 4,
    verdict: str = "healthy: 4 of 4 units active, MI 2.00 nats",
    examples: dict[str, Any] | None = None,
    nll: float = 40.0,
    warnings: Sequence[str] = (),
) -> Path:
    """A run that was trained, probed at some steps and evaluated; of more remedies than one where names are joined."""
    (folder / "probe").mkdir(parents=True)
    spec = {"data": {"kind": "stdlib"}, "training": {"max_epochs": len(steps) - 1}, "seed": seed}
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    asked = {"recipe": "demo", "remedy": remedy}
    versions = {"uncollapse": "0.1.0", "torch": "2.13.0", "python": "3.11.7", "system": "Linux"}
    about = {"identity": "i", "data": "d" * 64, "asked": asked, "schema": 2, **versions}
    (folder / "environment.json").write_text(json.dumps(about))
    epochs = [
        {
            "kind": "epoch",
            "step": step,
            "epoch": i,
            "neg_elbo": figure(50 - i + seed),
            "kl": figure(0.5 * i),
            "mi": figure(0.4 * i, cap=3.9),
            "active_units": figure(float(min(i, units))),
        }
        for i, step in enumerate(steps)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    evaluation = {
        "nll": figure(nll + 0.1 * seed),
        "neg_elbo": figure(nll + 1),
        "kl": figure(2.5),
        "mi": figure(2.0, 0.05, 6.2),
        "active_units": {**figure(float(units), 0.0, float(units)), "unit": "units"},
        "seconds": figure(90.0),
        "cpu_seconds": figure(80.0),
        "samples": 100,
        "split": "test",
        "warnings": list(warnings),
        "verdict": verdict,
    }
    (folder / "evaluation-test-k100-s0.json").write_text(json.dumps(evaluation))
    for i, step in enumerate(steps):
        probe(items, units, i / len(steps)).save(folder / "probe" / f"step-{step:08d}.safetensors")
    if examples is not None:
        (folder / "examples.json").write_text(json.dumps(examples))
    return folder


def probe(items: int, units: int, spread: float) -> Rows:
    """Posteriors whose means lie wider and wider."""
    generator = torch.Generator().manual_seed(0)
    means = spread * torch.randn(items, units, generator=generator)
    numbers = torch.arange(items)
    return Rows(
        items=numbers,
        batch=torch.zeros(items, dtype=torch.long),
        distortion=torch.zeros(items, dtype=torch.float64),
        kl=means.square().double() / 2,
        log_evidence=None,
        effective=None,
        symbols=None,
        law=Independent(Normal(means, torch.ones_like(means)), 1),
        samples=0,
        bound_samples=1,
        seed=0,
    )


def make_comparison(
    folder: Path, remedies: Sequence[str] = ("plain", "aggressive"), seeds: int = 2, **how: Any
) -> Path:
    """A comparison whose cells are such runs."""
    for remedy in remedies:
        for seed in range(seeds):
            make_run(folder / "cells" / f"{remedy}-seed{seed}", remedy, seed, **how)
    (folder / "compare.json").write_text(json.dumps({"fit": ["stdlib", "--recipe", "demo"]}))
    difference = {"value": -0.5, "over_items": 0.1, "over_seeds": 0.2, "seeds": seeds}
    differences = {remedy: {"nll": difference, "neg_elbo": difference} for remedy in remedies if remedy != "plain"}
    ranking = [["rank", "remedy"], *([str(i), remedy] for i, remedy in enumerate(remedies, 1))]
    said = {"rows": [], "differences": differences, "ranking": ranking}
    (folder / "comparison.json").write_text(json.dumps(said))
    return folder
