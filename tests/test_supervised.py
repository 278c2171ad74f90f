"""Methods that read labels, against numbers known in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, LogNormal, Normal, kl_divergence

import uncollapse as uc
from uncollapse.bound import Bound, Given, Labelled
from uncollapse.distributions import families, operations
from uncollapse.distributions.factors import LogUniform, Multiplied
from uncollapse.divergence import kl_by_group
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.catalogue import remedies
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.metrics.evaluation import evaluate
from uncollapse.model import ask
from uncollapse.nets.clamping import Clamped, clamped
from uncollapse.nets.critics import ClassCritic
from uncollapse.posteriors import narrow
from uncollapse.posteriors.dropout import Noisy, information_dropout
from uncollapse.priors import LogNormal as LogNormalPrior
from uncollapse.priors import LogUniformSizes
from uncollapse.terms.adversarial import AdversarialLabels
from uncollapse.terms.aggregate import LabelMMD


def bound(z: Tensor, label: Tensor | None) -> Bound:
    """A bound of draws z (S, B, d) with labels."""
    zero = torch.zeros(z.shape[:2])
    extras = {} if label is None else {"label": label}
    return Bound(z[0], z, zero, zero, zero, zero.mT[:, :1], None, None, extras)


# The information bottleneck.


def test_the_rate_of_a_bottleneck_is_that_of_the_paper() -> None:
    q = uc.gaussian(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.25]]).log())
    z = q.sample(torch.Size((1,)))
    p = uc.StandardNormal(2)()
    assert kl_by_group(q, p, q.log_prob(z), p.log_prob(z)).sum().item() == pytest.approx(0.8181471806, abs=1e-6)


class Constant(nn.Module):
    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self.numbers = torch.tensor(numbers)

    def forward(self, x: Tensor) -> Tensor:
        return self.numbers.expand(len(x), -1)


def test_deviations_start_small_by_their_offset() -> None:
    law: Any = narrow(lambda outputs: Constant(*[0.0] * outputs), latent=3)(torch.zeros(2, 1))
    torch.testing.assert_close(law.stddev, torch.full((2, 3), math.log1p(math.exp(-5))))


# Information dropout.


def test_the_rate_of_multiplicative_noise_is_that_of_the_paper() -> None:
    q = Multiplied(torch.tensor([[2.0, 2.0, 0.0]]), torch.full((1, 3), 0.5))
    p = Multiplied(torch.ones(3), torch.ones(3))
    assert kl_divergence(q, p)[0, 0].item() == pytest.approx(0.5583736875, abs=1e-6)
    assert kl_divergence(q, LogUniform(torch.zeros(3)))[0].tolist() == pytest.approx([0.6931471806, 0.6931471806, 0.0])


def test_a_law_of_sizes_is_log_normal() -> None:
    size, spread = torch.rand(4, 3) + 0.2, torch.rand(4, 3) + 0.1
    q, same = Multiplied(size, spread), Independent(LogNormal(size.log(), spread), 1)
    z = same.sample(torch.Size((5,)))
    torch.testing.assert_close(q.log_prob(z), same.log_prob(z))
    logs = q.sample(torch.Size((100_000,))).log()
    torch.testing.assert_close(logs.mean(0), size.log(), atol=0.02, rtol=0)
    torch.testing.assert_close(logs.std(0), spread, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "p", [Multiplied(torch.tensor([1.5, 0.7]), torch.tensor([0.8, 1.1])), LogUniform(torch.zeros(2))]
)
def test_the_rate_is_the_mean_of_the_densities(p: Any) -> None:
    q = Multiplied(torch.tensor([[0.4, 2.0]]), torch.tensor([[0.3, 0.6]]))
    z = q.sample(torch.Size((400_000,)))
    drawn = (q.log_prob(z) - p.log_prob(z)).mean().item()
    assert kl_divergence(q, p).sum().item() == pytest.approx(drawn, abs=0.01)


def test_a_unit_without_size_has_neither_signal_nor_noise() -> None:
    size = torch.tensor([[0.0, 1.0]], requires_grad=True)
    q = Multiplied(size, torch.full((1, 2), 0.5))
    z = q.rsample(torch.Size((7,)))
    assert (z[..., 0] == 0).all()
    assert q.log_prob(z).isfinite().all()
    assert q.log_prob(torch.ones(1, 2)).item() == -math.inf
    (q.log_prob(z) - LogUniform(torch.zeros(2)).log_prob(z)).sum().backward()
    assert size.grad is not None
    assert size.grad.isfinite().all()


def test_what_is_encoded_has_no_noise() -> None:
    q = Multiplied(torch.tensor([[2.0]]), torch.tensor([[0.5]]))
    assert operations.mean(q).item() == 2.0  # And not 2 exp(1/8).


def test_noise_stays_within_its_limits() -> None:
    law: Any = information_dropout(lambda outputs: Constant(1.0, -1.0, 99.0, -99.0), latent=2, sizes="relu")(
        torch.zeros(1, 1)
    )
    assert law.size.tolist() == [[1.0, 0.0]]
    assert law.spread[0].tolist() == pytest.approx([0.7, 1e-3])
    softplus: Any = Noisy("softplus", 0.7, 1e-3)(torch.tensor([[0.0]]), torch.tensor([[0.0]]))
    assert (softplus.size.item(), softplus.spread.item()) == pytest.approx((math.log(2), 0.35))


def test_a_law_of_sizes_is_kept_and_restored() -> None:
    q = Multiplied(torch.rand(3, 2) + 0.1, torch.rand(3, 2) + 0.1)
    restored: Any = families.restored(families.family(q), operations.parameters(q))
    assert torch.equal(restored.size, q.size)
    both: Any = operations.cat([q, q])
    assert both.size.shape == (6, 2)
    z = q.sample()
    pairs = operations.pairwise_log_prob(q, z)
    torch.testing.assert_close(pairs.diagonal(), q.log_prob(z))
    torch.testing.assert_close(operations.pairwise_by_group(q, z).sum(-1), pairs)


def test_a_prior_of_sizes_starts_at_one_and_another_has_no_draws() -> None:
    law: Any = LogNormalPrior(2)()
    assert law.size.tolist() == law.spread.tolist() == [1.0, 1.0]
    with pytest.raises(InputError, match="nothing can be drawn from the prior of all sizes alike"):
        LogUniformSizes(2)().sample()


def test_a_prior_of_numbers_has_no_rate_of_sizes() -> None:
    q, zero = Multiplied(torch.ones(1, 2), torch.ones(1, 2)), torch.zeros(1, 1)
    with pytest.raises(InputError, match="a law over positive numbers and the prior one over vectors"):
        kl_by_group(q, uc.StandardNormal(2)(), zero, zero)


# Fader networks.


def chance(classes: int) -> ClassCritic:
    critic = ClassCritic(2, classes, hidden=[])
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.zero_()
    return critic


@pytest.mark.parametrize("classes", [2, 5])
def test_a_critic_at_chance_has_the_logarithm_of_the_number_of_classes(classes: int) -> None:
    one = bound(torch.randn(3, 40, 2), torch.arange(40) % classes)
    term = AdversarialLabels(chance(classes))
    assert term(one).item() == pytest.approx(math.log(classes))
    assert term.opposition(one).item() == pytest.approx(math.log(classes))


class Fixed(nn.Module):
    """The same logits for all z."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, z: Tensor) -> Tensor:
        return self.logits.expand(*z.shape[:-1], -1)


def test_the_encoder_is_to_make_every_other_class_as_likely() -> None:
    # Of items of class 1, the others are 0, 2 and 3.
    logits = torch.tensor([2.0, -1.0, 0.5, 0.0])
    one = bound(torch.zeros(1, 90_000, 2), torch.ones(90_000, dtype=torch.long))
    others = -logits.log_softmax(0)[[0, 2, 3]].mean().item()
    term = AdversarialLabels(Fixed(*logits.tolist()))
    assert term(one).item() == pytest.approx(others, abs=0.01)
    (found,) = torch.autograd.grad(term(one), term.critic.logits)
    expected = logits.softmax(0) - torch.tensor([1 / 3, 0.0, 1 / 3, 1 / 3])
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)
    assert term.opposition(one).item() == pytest.approx(-logits.log_softmax(0)[1].item())


def test_of_two_classes_the_encoder_descends_the_other_ones() -> None:
    logits = torch.tensor([[[1.0, -2.0], [0.3, 0.4]]])
    term = AdversarialLabels(nn.Identity())
    expected = -(logits.log_softmax(-1)[0, 0, 1] + logits.log_softmax(-1)[0, 1, 0]) / 2
    torch.testing.assert_close(term(bound(logits, torch.tensor([0, 1]))), expected)


def test_the_weight_of_the_encoders_part_climbs_in_a_straight_line() -> None:
    weight = uc.Linear(0.0, 1e-4, 500_000)
    assert [weight(step - 1) for step in (50_000, 250_000, 500_000, 900_000)] == pytest.approx([1e-5, 5e-5, 1e-4, 1e-4])
    spec = validated(compose("digits", ["fader"]))
    dial: Any = spec.training.dials["objective.weights.fader"]
    assert (dial.kind, dial.start) == ("linear", 0.0)


def test_the_critic_does_not_see_who_is_to_deceive_it() -> None:
    z = torch.randn(1, 6, 2, requires_grad=True)
    term = AdversarialLabels(ClassCritic(2, 3))
    assert set(term.players()) == {"critic"}
    term(bound(z, torch.arange(6) % 3)).backward()
    assert z.grad is not None
    assert z.grad.abs().sum() > 0


@pytest.mark.parametrize("term", [AdversarialLabels(ClassCritic(2, 3)), LabelMMD()])
@pytest.mark.parametrize("label", [None, torch.rand(4)])
def test_a_term_of_labels_needs_them(term: Any, label: Tensor | None) -> None:
    with pytest.raises(InputError, match="needs the class of every item"):
        term(bound(torch.zeros(1, 4, 2), label))


# The variational fair autoencoder.


@pytest.mark.parametrize("statistic", ["biased", "unbiased"])
def test_random_features_have_the_discrepancy_of_their_kernel(statistic: Any) -> None:
    torch.manual_seed(0)
    z, label = torch.randn(60, 3) + torch.arange(60).div(30).floor().unsqueeze(1), torch.arange(60) // 30
    kernel = (-torch.cdist(z, z).square() / (2.0 * 3)).exp()
    if statistic == "unbiased":
        kernel.fill_diagonal_(0.0)
    same, n = label.unsqueeze(1) == label, 30
    within = kernel[same].sum() / (n * n if statistic == "biased" else n * (n - 1))
    exact = within - kernel[~same].sum() / (n * n)
    term = LabelMMD(features=20_000, statistic=statistic)
    assert exact > 0.1
    assert term(bound(z.unsqueeze(0), label)).item() == pytest.approx(exact.item(), abs=3 / math.sqrt(20_000))


def test_a_long_way_apart_the_discrepancy_is_two() -> None:
    z = torch.cat([torch.zeros(50, 2), torch.full((50, 2), 100.0)])
    term = LabelMMD(features=50_000, statistic="biased")
    assert term(bound(z.unsqueeze(0), torch.arange(100) // 50)).item() == pytest.approx(2.0, abs=0.05)


def test_of_more_classes_the_discrepancy_is_the_mean_over_pairs() -> None:
    z = torch.tensor([0.0, 0.0, 0.0, 0.0, 50.0, 50.0]).unsqueeze(1)
    term = LabelMMD(features=50_000, statistic="biased")
    found = term(bound(z.unsqueeze(0), torch.tensor([0, 0, 1, 1, 2, 2]))).item()
    assert found == pytest.approx(2 / 3 * 2.0, abs=0.05)


def test_a_batch_of_one_class_has_no_discrepancy() -> None:
    z = torch.randn(1, 5, 2, requires_grad=True)
    found = LabelMMD()(bound(z, torch.full((5,), 3)))
    found.backward()
    assert found.item() == 0.0
    assert z.grad is not None
    assert (z.grad == 0).all()
    # One item of another class is no law that could be unbiased.
    assert LabelMMD()(bound(z, torch.tensor([3, 3, 3, 3, 1]))).item() == 0.0
    assert LabelMMD(statistic="biased")(bound(z, torch.tensor([3, 3, 3, 3, 1]))).item() > 0.0


def test_unbiased_it_is_nothing_on_average_where_the_classes_are_alike() -> None:
    torch.manual_seed(0)
    label = torch.arange(8) % 2
    mean = {
        statistic: np.mean(
            [LabelMMD(50, statistic=statistic)(bound(torch.randn(1, 8, 2), label)).item() for _ in range(2000)]
        )
        for statistic in ("unbiased", "biased")
    }
    assert mean["unbiased"] == pytest.approx(0.0, abs=0.015)
    assert mean["biased"] > 0.1


# DC-IGN.


def test_units_that_do_not_vary_are_clamped_to_their_mean() -> None:
    z = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    found = clamped(z, torch.tensor([True, False]))
    assert found.tolist() == [[1.0, 3.0], [3.0, 3.0]]
    (5 * found).sum().backward()
    assert z.grad is not None
    assert z.grad[:, 0].tolist() == [5.0, 5.0]
    assert z.grad[:, 1].tolist() == pytest.approx([-0.01, 0.01])


class Keeps(nn.Module):
    def forward(self, z: Tensor, seen: Any) -> Independent:
        self.z, self.seen = z, seen
        return Independent(Normal(z, 1.0), 1)


def test_a_decoder_is_clamped_in_training_on_batches_of_one_class() -> None:
    inner = Keeps()
    decoder = Clamped(inner, latent=2, first=1)
    z, alike, mixed = torch.randn(1, 3, 2), torch.tensor([4, 4, 4]), torch.tensor([4, 4, 2])
    decoder(z, Given(torch.zeros(3, 2), alike))
    torch.testing.assert_close(inner.z[..., 0], z[..., 0].mean().expand(1, 3))
    assert torch.equal(inner.z[..., 1], z[..., 1])
    decoder(z, Given(torch.zeros(3, 2), mixed))
    assert inner.z is z
    with pytest.raises(InputError, match="sees no labels: set"):
        decoder(z, torch.zeros(3, 2))
    decoder.eval()(z, torch.zeros(3, 2))
    assert inner.z is z
    with pytest.raises(InputError, match="leave some for others"):
        Clamped(inner, latent=2, first=2)


def test_a_model_that_is_told_in_training_alone_is_evaluated_without() -> None:
    inner = Keeps()
    encoder = uc.Posterior(Constant(0.0, 0.0, 0.0, 0.0), uc.gaussian, (2, 2))
    model = uc.VAE(encoder, inner, uc.StandardNormal(2), labels="in-training")
    x = Labelled(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
    encoder.net.register_forward_pre_hook(lambda net, given: (given[0].x if isinstance(given[0], Given) else given[0],))
    ask(model, x)
    assert isinstance(inner.seen, Given)
    figures = evaluate(model, [x], samples=2)
    assert isinstance(inner.seen, Tensor)
    assert not any("is told the items' labels" in text for text in figures.warnings)


# PixelGAN autoencoders.


def test_without_the_information_the_rate_is_the_aggregate_posteriors() -> None:
    """Two posteriors N(-1, .5^2) and N(1, .5^2): what a critic is to drive to 0 is .1854269868 nats."""

    class Two(nn.Module):
        def forward(self, x: Tensor) -> Independent:
            return Independent(Normal(x, 0.5 * torch.ones_like(x)), 1)

    class Nothing(nn.Module):
        def forward(self, z: Tensor, seen: Tensor) -> Independent:
            return Independent(Normal(torch.zeros_like(z), 1.0), 1)

    x = torch.tensor([[-1.0], [1.0]])
    found: Any = evaluate(uc.VAE(Two(), Nothing(), uc.StandardNormal(1)), [x], samples=0, mi_passes=100_000)
    assert found.kl.value == pytest.approx(0.8181471806, abs=1e-6)
    assert found.mi.value == pytest.approx(0.6327201937, abs=0.005)
    assert found.marginal_kl.value == pytest.approx(0.1854269868, abs=0.005)


def test_the_recipe_charges_the_aggregate_posterior_alone() -> None:
    training = validated(compose("pixelgan")).training
    assert training.objective.weights["rate"] == 0.0
    assert [term.kind for term in training.objective.terms.values()] == ["adversarial-prior"]
    assert training.selects == "last"


# In training.


@pytest.mark.parametrize(
    ("recipe", "names", "moves"),
    [
        ("vib", [], "generation.decoder.layers"),
        ("vib", ["information-dropout"], "generation.prior.log_spread"),
        ("digits", ["fader"], "generation.decoder.decoder.layers"),
        ("digits", ["vfae"], "encoder.net.net.layers"),
        ("digits", ["dc-ign"], "generation.decoder.decoder"),
        ("pixelgan", [], "generation.decoder"),
    ],
)
def test_each_method_learns_on_digits(recipe: str, names: list[str], moves: str) -> None:
    pytest.importorskip("sklearn")
    spec = validated(compose(recipe, names, ["training.max_epochs=1", "data.batch_size=200"]))
    data = build.data(spec)
    model = build.model(spec, data.facts)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = build.trainer(spec.training, model, data.batches("train"), data.batches("valid"), seed=0)
    first = run.validate().distortion.value  # pyright: ignore[reportAttributeAccessIssue]
    run.fit()
    assert any(
        name.startswith(moves) and not torch.equal(value, before[name]) for name, value in model.state_dict().items()
    )
    assert run.validate().distortion.value < first  # pyright: ignore[reportAttributeAccessIssue]


def test_the_new_remedies_ask_for_classes() -> None:
    assert {name for name, remedy in remedies().items() if "label_classes" in remedy.needs} == {
        "fader",
        "vfae",
        "dc-ign",
    }
