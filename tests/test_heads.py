"""Heads: what they say of items, who moves them, and that the bound does not hear of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import uncollapse as uc
from ranks import together
from test_events import RESET, trainer, weights
from test_trainer import data, small
from test_weaken import V, text
from uncollapse.data.sequences import Text, bag
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.metrics.rows import collect
from uncollapse.nets.heads import BagOfWords
from uncollapse.processes import ALONE, Processes
from uncollapse.terms.auxiliary import Auxiliary
from uncollapse.training.descent import Descent
from uncollapse.training.optimisers import SGD
from uncollapse.training.procedures import Aggressive
from uncollapse.training.sharding import whole
from uncollapse.training.trainer import Trainer

FORMS = ("multinomial", "presence")
LOGITS, COUNTS = torch.tensor([2.0, 0.0, -1.0, 0.0]), torch.tensor([2.0, 1.0, 0.0, 0.0])


class Mean(nn.Module):
    """Predicts the mean of an item's elements from z, under unit variance up to a constant."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.output = nn.Linear(2, 1)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return -0.5 * (self.output(z).squeeze(-1) - x.mean(1)).square().mean(0)


def headed(weight: float = 1.0) -> tuple[uc.VAE, uc.Objective]:
    plain = small()
    model = uc.VAE(plain.encoder, plain.decoder, plain.prior, heads={"mean": Mean()})
    objective = uc.Objective({**uc.Objective().terms, "mean": Auxiliary("mean")}, {"mean": weight})
    return model, objective


def head(form: Any, **settings: Any) -> BagOfWords:
    return BagOfWords(V, 3, form, **settings)


# The bag.


@pytest.mark.parametrize(("form", "cost"), [("multinomial", 2.833935), ("presence", 1.826484)])
def test_the_reference_numbers_hold(form: str, cost: float) -> None:
    assert -head(form).score(LOGITS, COUNTS).item() == pytest.approx(cost, abs=1e-6)


def test_a_bag_counts_words_and_neither_markers_nor_padding() -> None:
    tokens = torch.tensor([[1, 5, 3, 5, 2], [1, 4, 2, 0, 0]])

    assert bag(tokens, 6).tolist() == [[1, 0, 2], [0, 1, 0]]


@pytest.mark.parametrize(("form", "cost"), [("multinomial", math.log(V - 3)), ("presence", math.log(2))])
def test_a_head_that_knows_nothing_pays_for_every_word_or_every_type(form: str, cost: float) -> None:
    made, x = head(form), text()
    for parameter in made.parameters():
        nn.init.zeros_(parameter)

    units = (x.tokens > 2).sum(1) if form == "multinomial" else torch.full((4,), V - 3)
    torch.testing.assert_close(-made(torch.randn(2, 4, 3), x), cost * units)


@pytest.mark.parametrize("form", FORMS)
def test_a_head_sees_no_order_and_averages_over_the_draws(form: str) -> None:
    made, x, z = head(form, hidden=[5]), text(), torch.randn(3, 4, 3)
    shuffled = Text(x.tokens[:, torch.randperm(7)])
    padded = Text(torch.nn.functional.pad(x.tokens, (0, 3)))
    one = torch.stack([made(draw.unsqueeze(0), x) for draw in z]).mean(0)

    for found in (made(z, shuffled), made(z, padded), made(z, x.thinned(0.5)[0]), one):
        torch.testing.assert_close(found, made(z, x))


@pytest.mark.parametrize("form", FORMS)
def test_the_best_head_of_one_text_has_its_bag(form: str) -> None:
    """The gradient vanishes where the predicted shares are those of the bag."""
    counts = torch.tensor([3.0, 1.0, 2.0])
    logits = (counts.log() if form == "multinomial" else torch.full((3,), 30.0)).requires_grad_()

    head(form).score(logits, counts).backward()

    torch.testing.assert_close(logits.grad, torch.zeros(3), atol=1e-6, rtol=0)


# In a model.


def test_a_model_without_heads_has_no_more_than_before() -> None:
    model = small()

    assert model(data()[0]).extras == {}
    assert not [name for name in model.state_dict() if "head" in name]


def test_what_a_head_says_is_an_extra_of_the_bound_and_no_part_of_it() -> None:
    (model, objective), x = headed(0.0), data()[0]
    model.eval()
    torch.manual_seed(0)
    plain = small().eval()
    torch.manual_seed(3)
    expected = plain(x, samples=4)
    uc.Objective()(expected).total.backward()
    torch.manual_seed(3)
    found = model(x, samples=4)
    objective(found).total.backward()

    for name in ("z", "log_likelihood", "log_q", "log_p", "kl", "log_weights"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    gradients: dict[str, Any] = {name: p.grad for name, p in model.named_parameters()}
    assert all(torch.equal(gradients[name], p.grad) for name, p in plain.named_parameters() if p.grad is not None)
    torch.testing.assert_close(found.extras["mean"], model.generation.heads["mean"](found.z, x))


def test_the_head_and_the_encoder_get_the_terms_gradient_and_the_decoder_none() -> None:
    model, objective = headed()

    objective.terms["mean"](model(data()[0])).backward()

    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {name for name in moved if name.startswith("generation")} == {
        "generation.heads.mean.output.weight", "generation.heads.mean.output.bias",
    }  # fmt: skip
    assert {name for name, _ in model.encoder.named_parameters(prefix="encoder")} <= moved


def test_a_head_rests_while_the_inference_network_steps_alone() -> None:
    model, objective = headed()
    descent = Descent(model, data(), objective=objective)
    before = [p.clone() for p in model.generation.parameters()]

    with descent.awake("inference"):
        assert not any(p.requires_grad for p in model.generation.heads.parameters())
        descent.descend(descent.loss(data()[0]), "inference")
    assert all(map(torch.equal, before, model.generation.parameters()))

    Aggressive(budget=2)(descent, data()[0])  # pyright: ignore[reportArgumentType]
    assert not any(map(torch.equal, before, model.generation.parameters()))


def test_an_evaluation_keeps_what_heads_say_and_has_the_same_figures() -> None:
    model, _ = headed()
    plain = uc.VAE(model.encoder, model.decoder, model.prior)

    found: Any = collect(model, data(), 6)
    expected: Any = collect(plain, data(), 6)

    assert torch.equal(found.log_evidence, expected.log_evidence)
    assert torch.equal(found.kl, expected.kl)
    assert found.extras["mean"].shape == found.items.shape
    assert (found.extras["mean"] < 0).all()


@pytest.mark.parametrize("name", ["a.b", "", "keys", "training", "label"])
def test_a_name_that_a_head_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"no head can be called `{name}`"):
        uc.VAE(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1), heads={name: nn.Linear(1, 1)})


# The term.


def test_an_auxiliary_loss_sums_over_an_item_and_averages_over_items() -> None:
    bound = small()(data()[0])._replace(extras={"two": torch.tensor([[1.0, 2.0], [3.0, 6.0]])})

    assert Auxiliary("two")(bound).item() == -6.0


def test_a_term_without_its_head_says_what_there_is() -> None:
    with pytest.raises(InputError, match=r"the extra `bag`, and the model offers mean: give it a head"):
        Auxiliary("bag")(headed()[0](data()[0]))


# By a spec.


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "x.txt").write_text("\n".join(f"{a} {b} {c}" for a in "abc" for b in "xy" for c in "pq"))
    return tmp_path / "x.txt"


def test_a_spec_makes_heads_beside_networks_that_start_as_they_do_without(file: Path) -> None:
    plain, made = weights(trainer("text", file)), weights(trainer("text", file, names="bag-of-words"))

    assert all(torch.equal(value, made[name]) for name, value in plain.items())
    assert [name for name in made if name not in plain] == [
        f"generation.heads.bag.layers.0.{kind}" for kind in ("weight", "bias")
    ]
    assert all(0 < made[name].abs().max() <= 0.01 for name in made if name not in plain)


def test_a_heads_entries_are_set_by_their_path(file: Path) -> None:
    settings = ("model.heads.bag.hidden=[7]", "training.objective.weights.bag=0.5")
    run = trainer("text", file, *settings, names="bag-presence")

    model: Any = run.model
    made = model.generation.heads.bag
    assert (made.form, made.layers[0].out_features) == ("presence", 7)
    assert run.objective.weights["bag"] == 0.5


def test_a_reset_draws_heads_anew_with_their_player(file: Path) -> None:
    run = trainer("text", file, "training.max_epochs=1", RESET, names="bag-of-words")
    run.fit()
    before = weights(run)

    run.loop.events[0].do(run.descent)

    names = [name for name in before if "heads" in name]
    assert len(names) == 2
    assert all(not torch.equal(before[name], weights(run)[name]) for name in names)


def test_a_head_of_words_is_refused_on_other_data() -> None:
    given = ["data.train=a.npy", "model.heads.bag={kind: bag-of-words}"]

    with pytest.raises(InputError, match=r"`bag-of-words` needs the number of types of the text"):
        build.model(validated(compose("vectors", [], given)), {"shape": (3,)})


# In several processes.


def trained(processes: Processes, *ways: dict[str, Any]) -> list[dict[str, Tensor]]:
    # By plain steps: Adam makes much of little.
    given = {"optimisers": {name: SGD(0.01) for name in ("inference", "generation")}, "max_epochs": 1}
    found = []
    for way in ways:
        model, objective = headed()
        Trainer(model, data(), data()[:3], objective=objective, processes=processes, **given, **way).fit()
        found.append({name: whole(value).detach() for name, value in model.state_dict().items()})
    return found


def test_several_processes_train_a_head_as_one_does() -> None:
    (one,) = trained(ALONE, {})
    first, second = together(trained, {}, {"sharded": True})

    for mine, others in zip(first, second, strict=True):
        assert all(torch.equal(mine[name], others[name]) for name in one)
        for name, value in one.items():
            torch.testing.assert_close(mine[name], value, atol=1e-5, rtol=1e-5)
