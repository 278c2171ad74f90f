"""What may import what: downwards only, and nothing of the experiment's in someone's own loop."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import uncollapse

ROOT = Path(uncollapse.__file__).parent

#: From the bottom up; a module imports from its own layer and those before it.
LAYERS = (
    ("documents", "errors", "noise", "processes", "randomness", "signals"),
    ("files", "learner", "quantities"),
    ("distributions",),
    ("bound", "divergence", "dials"),
    ("terms", "posteriors", "priors"),
    ("model", "objective"),
    ("language_model",),
    ("differences", "inference", "iterative", "refinement"),
    ("data", "decoding"),
    ("metrics",),
    ("adapters", "nets", "weaken"),
    ("diagnosis", "training"),
    ("experiment",),
    ("report",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def modules() -> dict[str, Path]:
    paths = [p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py"]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in paths}


def imported(path: Path) -> set[str]:
    """The parts of the package that a module imports, anywhere in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    froms = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    names = {f"{n.module}.{alias.name}" for n in froms for alias in n.names}
    return {name.split(".")[1] for name in names if name.startswith("uncollapse.")} & LEVEL.keys()


def test_every_module_has_a_layer() -> None:
    assert {name.split(".")[0] for name in modules()} == LEVEL.keys()


def test_imports_run_downwards_only() -> None:
    upwards = [
        f"{name} imports {other}"
        for name, path in modules().items()
        for other in imported(path)
        if LEVEL[other] > LEVEL[name.split(".")[0]]
    ]
    assert upwards == []


def test_no_module_of_training_is_imported_by_one_that_it_imports_even_for_types() -> None:
    training = {name for name in modules() if name.startswith("training.")}
    graph = {name: named(modules()[name]) & training for name in training}
    while free := {name for name, others in graph.items() if not others & graph.keys()}:
        graph = {name: others for name, others in graph.items() if name not in free}
    assert graph == {}


def named(path: Path) -> set[str]:
    """The modules of the package that a module imports, anywhere in it."""
    froms = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.ImportFrom)]
    found = {f"{n.module}.{alias.name}" for n in froms for alias in n.names} | {str(n.module) for n in froms}
    return {name.removeprefix("uncollapse.") for name in found}


def test_ones_own_loop_imports_neither_spec_nor_yaml_nor_command_line() -> None:
    loop = """
import sys, torch
import uncollapse as uc
from torch import nn
from torch.distributions import Independent, Normal
class Decoder(nn.Linear):
    def forward(self, z, seen):
        return Independent(Normal(super().forward(z), 1.0), 1)
model = uc.VAE(uc.Posterior(nn.Linear(5, 4), uc.gaussian, (2, 2)), Decoder(2, 5), uc.StandardNormal(2))
uc.Objective(weights={"rate": 0.5})(model(torch.randn(7, 5))).total.backward()
uc.evaluate(model, torch.randn(40, 5), samples=3)
heavy = {"yaml", "pydantic", "cyclopts", "rich", "lightning_fabric", "uncollapse.experiment", "uncollapse.cli"}
print(sorted(heavy & sys.modules.keys()))
"""
    ran = subprocess.run([sys.executable, "-c", loop], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in uncollapse.__all__:
        assert getattr(uncollapse, name) is not None
    assert set(uncollapse.__all__) <= set(dir(uncollapse))
