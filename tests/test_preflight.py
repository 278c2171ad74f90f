"""Preflight: before a run begins what cannot be trained is refused, what does nothing is said, and nothing changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import uncollapse as uc
from combinations import RECIPES, reads, spec_of, trainer_of
from test_trainer import data, small
from uncollapse.bound import Bound
from uncollapse.cli import main
from uncollapse.errors import InputError
from uncollapse.experiment.catalogue import remedies
from uncollapse.terms.rates import distortion, rate
from uncollapse.training.preflight import _some, preflight
from uncollapse.training.trainer import Trainer


def trainer_with(term: Callable[[Bound], Any], dials: Any = None, model: nn.Module | None = None) -> Trainer:
    objective = uc.Objective({"distortion": distortion, "rate": rate, "mine": term})
    return Trainer(model or small(), data(), data(), objective=objective, dials=dials, max_epochs=5)


@dataclass
class Root:
    """The root of the rate plus a number, which a dial may move."""

    plus: float = 1.0

    def __call__(self, bound: Bound) -> Tensor:
        return (bound.rate.mean() + self.plus).sqrt()


@pytest.mark.parametrize(
    ("term", "says"),
    [
        (lambda bound: bound.rate.mean() * float("nan"), "the term `mine` is nan before training: mend it"),
        (lambda bound: (bound.rate.mean() * 0).log(), "the term `mine` is -inf before training: mend it"),
        (
            lambda bound: (bound.rate.mean() * 0).sqrt(),
            "the gradient of the term `mine` in `encoder.net.weight` is not finite before training, though the",
        ),
        (
            lambda bound: bound.rate.mean().detach(),
            "the term `mine` changes with the parameters of the model, and has no",
        ),
        (
            lambda bound: bound.z.mul(100).round().abs().mean(),
            "and has no gradient in them: compute it without `detach`",
        ),
        (lambda bound: 1.5, "the term `mine` gives a value of type `float`: a term gives one number"),
        (lambda bound: bound.rate, "the term `mine` gives a value of shape (8,): a term gives one number"),
    ],
)
def test_a_term_that_cannot_be_descended_is_refused_by_its_name(term: Any, says: str) -> None:
    with pytest.raises(InputError) as error:
        preflight(trainer_with(term))

    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_terms_are_tried_with_the_dials_of_later_steps() -> None:
    assert preflight(trainer_with(Root())) == []
    with pytest.raises(InputError, match="the term `mine` is nan before training"):
        preflight(trainer_with(Root(), {"objective.terms.mine.plus": uc.Linear(1.0, -50.0, 40)}))


IDLE = "no parameter of the model changes the term `rate`, which stays "


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["free-bits", "von-mises-fisher"], f"{IDLE}8, so that neither its weight nor a floor, target or dial of it"),
        (["anneal", "von-mises-fisher"], IDLE),
        (["beta", "von-mises-fisher"], IDLE),
        (["minimum-rate", "von-mises-fisher"], "changes the term `minimum-rate`"),
        (
            ["kl-balancing"],
            "KL balancing under a prior that does not learn is the rate at a weight of 0.2: choose a prior",
        ),
    ],
)
def test_what_no_parameter_changes_is_said(names: list[str], says: str, tmp_path: Path) -> None:
    (said,) = preflight(trainer_of(spec_of("vectors", names, tmp_path)))

    assert says in said
    assert "\n" not in said


@pytest.mark.parametrize("names", ["kl-balancing+vampprior", "flow-prior+kl-balancing", "aae+von-mises-fisher"])
def test_nothing_is_said_of_what_learns_or_counts_nothing(names: str, tmp_path: Path) -> None:
    assert preflight(trainer_of(spec_of("vectors", names.split("+"), tmp_path))) == []


@pytest.mark.parametrize(
    ("recipe", "name"),
    [(r, name) for name in remedies() for r in RECIPES if reads(r, [name]) and name != "kl-balancing"],
)
def test_nothing_is_said_of_a_remedy_alone(recipe: str, name: str, tmp_path: Path) -> None:
    assert preflight(trainer_of(spec_of(recipe, [name], tmp_path))) == []


def test_of_labelled_items_several_of_a_class_are_looked_at() -> None:
    label = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 3, 3, 7, 7, 9])
    found = _some(uc.Labelled(torch.arange(15.0).unsqueeze(1), label))
    assert found.label.tolist() == [3, 7, 3, 3, 7, 7]
    assert found.x[:, 0].tolist() == [3, 7, 10, 11, 12, 13]


def everything(run: Trainer) -> dict[str, Tensor]:
    objective = {f"objective.{name}": value for name, value in run.objective.state_dict().items()}
    found = {**run.model.state_dict(), **objective, "generator": torch.get_rng_state()}
    return {name: value.clone() for name, value in found.items()}


@pytest.mark.parametrize("names", ["batch-normalised+capacity+word-dropout", "controlled-rate+diverse", "aae+sa-vae"])
def test_a_training_is_left_as_it_was(names: str, tmp_path: Path) -> None:
    run = trainer_of(spec_of("text", names.split("+"), tmp_path))
    before, modes = everything(run), [module.training for module in run.model.modules()]
    capacity = {name: vars(term).get("capacity") for name, term in run.objective.terms.items() if vars(term)}

    preflight(run)

    after = everything(run)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in run.model.parameters())
    assert modes == [module.training for module in run.model.modules()]
    assert capacity == {name: vars(term).get("capacity") for name, term in run.objective.terms.items() if vars(term)}


def test_a_model_that_cannot_be_copied_and_data_that_is_not_finite_are_left_to_the_training() -> None:
    model: Any = small()
    model.lock = threading.Lock()
    assert preflight(trainer_with(lambda bound: bound.rate.mean() * float("nan"), model=model)) == []
    bad = [torch.full((8, 4), float("nan"))]
    assert preflight(Trainer(small(), bad, bad)) == []


def test_fit_warns_and_refuses_before_there_is_a_folder(tmp_path: Path) -> None:
    settings = {"training.objective.terms.rate": {"kind": "balanced"}}
    with pytest.warns(UserWarning, match="KL balancing under a prior that does not learn"):
        uc.fit(small(), data(), data(), max_epochs=1, settings=settings, progress=False)

    broken: Any = small()
    broken.generation.decoder.weight.data.fill_(float("nan"))
    with pytest.raises(InputError, match="the term `distortion` is nan before training"):
        uc.fit(broken, data(), data(), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_grey_values_under_a_bernoulli_leave_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((40, 3)).astype(np.float32))
    asked = ["--train", tmp_path / "x.npy", "--out", tmp_path / "run", "--set", "model.decoder.likelihood=bernoulli"]

    assert main(["fit", "vectors", *map(str, asked)]) == 2
    assert "likelihood is of zeros and ones, and the data has 0." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_fit_says_what_a_term_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
    asked = ["--train", tmp_path / "x.npy", "--out", tmp_path / "run", "--with", "kl-balancing", "--samples", "0"]

    assert main(["fit", "vectors", *map(str, asked), "--set", "training.max_epochs=1"]) == 0
    assert "note: KL balancing under a prior that does not learn" in capsys.readouterr().err
