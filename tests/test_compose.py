"""Remedies in training, alone and together: each moves what it should, goes on exactly, and can be evaluated."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor

from combinations import RECIPES, Names, combinations, judged, merging, reads, spec_of, trainer_of
from test_trainer import Killed, kill_at
from uncollapse.cli import main
from uncollapse.errors import InputError
from uncollapse.experiment import catalogue
from uncollapse.experiment.catalogue import Place, refusals, remedies
from uncollapse.experiment.compose import compose
from uncollapse.training.checkpoints import Checkpoints
from uncollapse.training.trainer import Trainer

DOCS = Path(__file__).resolve().parents[1] / "docs" / "combining.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def state(run: Trainer) -> dict[str, Tensor]:
    return {**run.model.state_dict(), **{f"objective.{k}": v for k, v in run.objective.state_dict().items()}}


def same(one: Tensor, other: Tensor) -> bool:
    """Bit for bit; nearly so on a GPU, where sums have no order."""
    return torch.equal(one, other) if one.device.type == "cpu" else torch.allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        *((recipe, name) for name in remedies() for recipe in RECIPES if reads(recipe, [name])),
        ("text-transformer", "plain"),
        ("text-transformer", "historyless"),
        *(("small-omniglot", name) for name in ("plain", "aggressive", "free-bits", "vampprior", "without-z")),
        *(("he2019-omniglot-released", name) for name in ("plain", "without-z", "skip")),
        *(("vlae", name) for name in ("plain", "soft-free-bits")),
    ],
)
def test_a_remedy_alone(recipe: str, name: str, folder: Path, tmp_path: Path, device: torch.device) -> None:
    spec = spec_of(recipe, [name], folder)
    whole = trainer_of(spec, device=device)
    before = {name: parameter.clone() for name, parameter in whole.model.named_parameters()}
    whole.fit()

    kept = {"checkpoints": Checkpoints(tmp_path), "checkpoint_seconds": 0.0, "device": device}
    with pytest.raises(Killed):
        trainer_of(spec, listeners=[kill_at(1)], **kept).fit()
    other = trainer_of(spec, **kept)
    other.fit()

    found = state(other)
    assert all(same(value, found[name]) for name, value in state(whole).items())
    unmoved = [name for name, value in whole.model.named_parameters() if torch.equal(value, before[name])]
    assert [one for one in unmoved if not one.startswith(tuple(remedies()[name].still))] == []
    assert math.isfinite(judged(whole))


def of_places() -> list[Names]:
    """For every two places a remedy of each, at random among those that merge."""
    draw, chosen = random.Random(0), []
    for one, other in itertools.combinations(get_args(Place), 2):
        sides = ([name for name, remedy in remedies().items() if remedy.place == place] for place in (one, other))
        pairs = [pair for pair in itertools.product(*sides) if merging(pair)]
        chosen += draw.sample(pairs, min(1, len(pairs)))
    return chosen


#: What is worth a look by itself: all that weakens a decoder at once, priors that only one term moves, and laws that
#: terms and steps treat each in their own way.
CHOSEN: list[Names] = [
    tuple(names.split("+"))
    for names in (
        "bag-features+bag-presence+max-pooling",
        "bag-of-words+contiguous-dropout+dilated-cnn-m+historyless+max-pooling+skip+word-dropout",
        "inverse-lipschitz+sigma-vae",
        "flow-posterior+vampprior",
        "flow-prior+kl-balancing",
        "kl-balancing+vampprior",
        "kl-balancing+mixture-prior",
        "autoregressive-prior+density-gap",
        "beta-tcvae+vampprior",
        "density-gap+mixture-prior",
        "dip-vae-2+full-gaussian",
        "full-gaussian+mae",
        "beta-tcvae+von-mises-fisher",
        "density-gap+von-mises-fisher",
        "contrastive+power-spherical",
        "mae+power-spherical",
        "power-spherical+sa-vae-finite-differences",
        "beta-tcvae+sa-vae",
        "hfvae+svi",
        "aggressive+contrastive",
    )
]


#: In training of another network than an LSTM.
OF_TRANSFORMERS = (
    ("max-pooling", "skip", "vampprior", "word-dropout"),
    ("anneal", "mean-pooling", "offset-initialisation"),
    ("minimum-rate", "mixture-prior"),
)
#: On images, whose pixels are drawn anew in every batch.
OF_IMAGES = (
    ("aggressive", "anneal"),
    ("aggressive", "free-bits", "vampprior"),
    ("aggressive-start", "von-mises-fisher"),
    ("aae", "mixture-prior"),
    ("infovae", "sigma-vae"),
    ("inverse-lipschitz", "sa-vae"),
)
#: What diverges on networks this small, in batches of five; at the sizes of `text` it trains.
EXPLODES = ("encoder-learning-rate", "hybrid-cnn")
#: On vectors where they can be, as these take less time.
TOGETHER = dict.fromkeys(
    [
        *(
            (merging(names)[-1], names)
            for names in [*CHOSEN, *of_places(), *combinations(150, of=2, seed=0)]
            if names != EXPLODES
        ),
        *(("text-transformer", names) for names in OF_TRANSFORMERS),
        *(("images", names) for names in OF_IMAGES),
    ]
)


@pytest.mark.parametrize(
    ("recipe", "names"), TOGETHER, ids=[f"{recipe}-{'+'.join(names)}" for recipe, names in TOGETHER]
)
def test_remedies_together(recipe: str, names: Names, folder: Path, device: torch.device) -> None:
    run = trainer_of(spec_of(recipe, names, folder), device=device)
    run.fit()
    assert all(value.isfinite().all() for value in state(run).values())
    assert math.isfinite(judged(run))


REFUSED = [(refusal, names) for refusal in refusals() for names in itertools.product(refusal.these, refusal.those)]


@pytest.mark.parametrize("names", [names for _, names in REFUSED], ids="+".join)
def test_what_is_refused_would_not_train(names: Names, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "refusals", tuple)
    for recipe in merging(names):
        with pytest.raises((InputError, RuntimeError)):
            trainer_of(spec_of(recipe, names, folder)).fit()


@pytest.mark.parametrize(("refusal", "names"), REFUSED)
def test_a_refusal_is_one_line_with_its_reason(refusal: catalogue.Refusal, names: Names) -> None:
    with pytest.raises(InputError) as error:
        compose(next(recipe for recipe in RECIPES if reads(recipe, names)), names)
    one, other = names
    assert str(error.value).startswith(f"the remedies `{one}` and `{other}` cannot be combined, as {refusal.why}.")


def test_refusals_are_of_remedies_that_there_are_and_that_merge() -> None:
    for refusal in refusals():
        assert {*refusal.these, *refusal.those} <= remedies().keys()


def test_the_documented_refusals_are_those_that_there_are() -> None:
    said = DOCS.read_text(encoding="utf-8").partition("## What is refused\n\n")[2]
    assert said == "".join(f"{refusal}\n" for refusal in refusals())


def test_refusals_are_listed_all_or_of_one_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["remedies", "--refused"]) == 0
    assert capsys.readouterr().out == "".join(f"{refusal}\n" for refusal in refusals())
    assert main(["remedies", "hfvae", "--refused"]) == 0
    assert capsys.readouterr().out.startswith("- `hfvae` with `full-gaussian`")
    assert main(["remedies", "plain", "--refused"]) == 0
    assert "Nothing is refused" in capsys.readouterr().out
