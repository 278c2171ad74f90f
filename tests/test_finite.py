"""Training that stops being finite: what became so, when, the last good checkpoint, and what to try."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import uncollapse as uc
from test_cli import SET, write_text
from uncollapse.bound import Bound
from uncollapse.cli import main
from uncollapse.training.checkpoints import Checkpoints
from uncollapse.training.optimisers import SGD
from uncollapse.training.procedures import Aggressive
from uncollapse.training.trainer import Trainer

FAST = {name: SGD(10.0) for name in ("inference", "generation")}
RATES = [part for name in FAST for part in ("--set", f"training.optimisers.{name}={{kind: sgd, learning_rate: 10}}")]
WILD = [*SET, *RATES, "--set", "training.clip=null", "--set", "training.max_epochs=30", "--samples", "0", "--quiet"]


class Decoder(nn.Linear):
    """p(x | z) = N(W z + b, 1); a strict one refuses to make a law of what is not finite."""

    strict = False

    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        mean = super().forward(z)
        if self.strict:
            mean = mean + 0 * mean  # torch takes an infinite mean, and refuses nan.
        return Independent(Normal(mean, 1.0, validate_args=self.strict), 1, validate_args=self.strict)


def small() -> uc.VAE:
    torch.manual_seed(2)
    return uc.VAE(uc.Posterior(nn.Linear(4, 4), uc.gaussian, (2, 2)), Decoder(2, 4), uc.StandardNormal(2))


def batches(n: int) -> list[Tensor]:
    return list(torch.randn(n, 8, 4, generator=torch.Generator().manual_seed(1)))


def stopped(**settings: Any) -> str:
    """What a training says that stops."""
    asked: dict[str, Any] = {"model": small(), "train": batches(6), "valid": batches(2), **settings}
    with pytest.raises(uc.TrainingError) as caught:
        Trainer(**asked).fit()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def finite(tensors: dict[str, Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in tensors.values())


@pytest.mark.parametrize("remedy", ["plain", "aggressive", "aggressive-budget"])
def test_a_command_that_diverges_says_what_when_and_what_is_left(
    remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, run = write_text(tmp_path / "text.txt"), tmp_path / "run"
    assert main(["fit", "text", "--train", str(text), "--out", str(run), "--with", remedy, *WILD]) == 3
    out, said = capsys.readouterr()
    assert out == ""
    assert said.count("\n") == 1
    found = re.fullmatch(r"uncollapse: `(distortion|rate).* became (nan|inf) at step (\d+)[^:]*: lower the .*\n", said)
    assert found, said
    assert "(inference 10, generation 10), clip the gradient, anneal" in said
    assert ("descent" in said) == (remedy != "plain")
    last = re.search(r"last good checkpoint is `(.+)`, of step (\d+); other settings need another folder", said)
    assert last, said
    assert 0 < int(last[2]) < int(found[3])
    assert Path(last[1]).name == f"last-{int(last[2]):08d}.safetensors"
    assert finite(Checkpoints(run / "checkpoints").last().tensors)  # pyright: ignore[reportOptionalMemberAccess]
    assert main(["generate", str(run), "-n", "1"]) == 0


@pytest.mark.parametrize("remedies", [[], ["aggressive"]])
def test_a_call_that_diverges_raises_and_leaves_what_loads(remedies: Sequence[str], tmp_path: Path) -> None:
    x, model = torch.randn(64, 4), small()
    settings: dict[str, Any] = {f"training.optimisers.{name}": {"kind": "sgd", "learning_rate": 0.1} for name in FAST}
    # A weight that grows until the steps are too long, so that it diverges after some epochs and not at once.
    grows = {"kind": "linear", "start": 0.0, "stop": 100.0, "over": "10 epochs"}
    settings |= {"training.clip": None, "training.dials.objective.weights.rate": grows}
    with pytest.raises(uc.TrainingError, match=r"became (-?inf|nan) .*step \d+.* of step \d+;"):
        uc.fit(model, x, x, remedies, tmp_path, settings=settings, batch_size=8, progress=False)
    assert finite(dict(uc.load(tmp_path, model=small()).model.state_dict()))


@pytest.mark.parametrize("procedure", [None, Aggressive(budget=3)])
def test_the_step_is_exact_however_seldom_the_loss_is_read(procedure: Aggressive | None) -> None:
    said = {stopped(optimisers=FAST, clip=None, procedure=procedure, window=window) for window in (1, 4, 50)}
    assert len(said) == 1
    assert re.search(r"became (nan|inf) at step \d+", said.pop())


def test_an_inner_loop_ends_at_its_first_look_at_a_bad_loss() -> None:
    bad = [torch.full((8, 4), float("nan"))]
    trainer = Trainer(small(), bad, bad, procedure=Aggressive(window=3), window=1000)
    with pytest.raises(uc.TrainingError, match=r"at step 1, descent 1 in it \(inference\): training batch 0 holds"):
        trainer.fit()
    assert len(trainer.descent.window.trail) == 3


@pytest.mark.parametrize("splits", [("train", "training"), ("valid", "validation")])
def test_a_bad_item_is_found(splits: tuple[str, str]) -> None:
    data = batches(5)
    data[3] = data[3].clone()
    data[3][2, 1] = float("inf")
    assert f"{splits[1]} batch 3 holds a number that is not finite. Mend" in stopped(**{splits[0]: data})


def test_a_gradient_is_told_from_a_loss() -> None:
    def steep(bound: Bound) -> Tensor:
        return (0 * bound.kl.sum()).sqrt()  # 0, and no slope there

    said = stopped(objective=uc.Objective({"steep": steep}))
    assert said.startswith("the gradient's norm became nan, though the loss was finite, at step 1: lower the")


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_law_that_refuses_a_bad_number_is_told_from_a_model_that_fails(
    split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoder, "strict", True)
    assert "`loc` of a Normal became " in stopped(optimisers={n: SGD(1e30) for n in FAST}, clip=None)
    bad = torch.full((8, 4), float("nan"))
    assert "`loc` of a Normal became nan after step " in stopped(**{split: [*batches(1), bad]})

    def fail(bound: Bound) -> Tensor:
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        Trainer(small(), batches(1), batches(1), objective=uc.Objective({"fail": fail})).fit()


def test_where_checkpoints_are_is_said(tmp_path: Path) -> None:
    wild = {"optimisers": FAST, "clip": None}
    assert "in memory alone: give a folder" in stopped(**wild)
    assert f"There is no checkpoint yet in `{tmp_path}`." in stopped(**wild, checkpoints=Checkpoints(tmp_path))


def test_no_checkpoint_is_made_of_parameters_that_are_not_finite(tmp_path: Path) -> None:
    rate = {name: SGD(3e38) for name in FAST}
    settings = {"optimisers": rate, "checkpoints": Checkpoints(tmp_path), "checkpoint_seconds": 0.0, "clip": None}
    said = stopped(**settings)
    assert re.match(r"the parameter `\S+` became (-?inf|nan) by step 1: ", said), said
    assert list(tmp_path.glob("last-*")) == []
