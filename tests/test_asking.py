"""What any model is asked, and what is said where it cannot answer."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, ContinuousBernoulli, Distribution, Independent, Normal, Poisson

import uncollapse as uc
from uncollapse.bound import Bound
from uncollapse.model import ask, posterior


class Of(nn.Module):
    """A decoder: a law of what a linear layer gives."""

    def __init__(self, law: Any, size: int = 5) -> None:
        super().__init__()
        self.linear, self.law = nn.Linear(2, size), law

    def forward(self, z: Tensor, seen: Any) -> Any:
        return self.law(self.linear(z))


def unit(mean: Tensor) -> Distribution:
    return Independent(Normal(mean, 1.0), 1)


def bits(logits: Tensor) -> Distribution:
    return Independent(Bernoulli(logits=logits), 1)


def model(law: Any = unit, encoder: nn.Module | None = None, size: int = 5) -> uc.VAE:
    torch.manual_seed(2)
    own = uc.Posterior(nn.Linear(5, 4), uc.gaussian, (2, 2))
    return uc.VAE(encoder or own, Of(law, size), uc.StandardNormal(2))


GREY = torch.rand(40, 5)


class Plain(nn.Module):
    """A model that is no `VAE`, around one."""

    def __init__(self, vae: uc.VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, q: Any = None, samples: int = 1) -> Bound:
        law = self.vae.encoder(x) if q is None else q
        z = law.rsample((samples,))
        p = self.vae.prior()
        scored = self.vae.decoder(z, None).log_prob(x)
        return Bound(x, z, scored, law.log_prob(z), p.log_prob(z), torch.zeros(len(x), 1), law, p)

    def players(self) -> dict[str, nn.Module]:
        return self.vae.players()


@pytest.mark.parametrize("wrap", [lambda vae: vae, Plain], ids=["VAE", "another model"])
@pytest.mark.parametrize("use", ["fit", "evaluate"])
def test_grey_values_under_a_bernoulli_law_are_refused_with_the_ways_out(wrap: Any, use: str) -> None:
    grey = wrap(model(bits))
    says = r"^a `Bernoulli` scores 0 and 1 alone, and the data holds 0\.\d+: .*Binarise.*ContinuousBernoulli.*Gaussian"
    with pytest.raises(uc.InputError, match=says) as caught:
        uc.evaluate(grey, GREY) if use == "evaluate" else uc.fit(grey, GREY, GREY, progress=False)
    assert "\n" not in str(caught.value)


def test_grey_values_have_a_likelihood_under_a_continuous_law() -> None:
    grey = model(lambda logits: Independent(ContinuousBernoulli(logits=logits), 1))
    assert isinstance(uc.evaluate(grey, GREY, samples=2).nll, uc.Estimate)


def worst_scale(mean: Tensor) -> Distribution:
    return Independent(Normal(mean, mean * 0 - 1), 1)


@pytest.mark.parametrize(
    ("law", "x", "says"),
    [
        (bits, 255 * GREY, r"a `Bernoulli` scores values in Boolean\(\) alone, and the data holds \d+"),
        (
            lambda z: Independent(Poisson(z.exp()), 1),
            -GREY,
            r"a `Poisson` scores values in IntegerGreaterThan.*-0\.\d+",
        ),
        (worst_scale, GREY, r"`scale` of a `Normal` must be in GreaterThan\(lower_bound=0\.0\), and is -1: .*softplus"),
        (lambda z: unit(z[..., :4]), GREY, r"a `Normal` with the shape \(1, 40, 4\) cannot score .* \(40, 5\)"),
        (bits, GREY.round().long(), r"cannot read a batch of torch.int64 \(40, 5\): .*`x.float\(\)`"),
        (bits, GREY > 0.5, r"cannot read a batch of torch.bool \(40, 5\): .*`x.float\(\)`"),
        (unit, GREY.unsqueeze(1)[..., :4], r"cannot read a batch of .* \(40, 1, 4\): .*`x.flatten\(1\)`"),
        (lambda z: z, GREY, "the decoder gives a `Tensor`, and must give a law of x"),
    ],
)
def test_what_a_model_cannot_score_is_refused_in_one_line(law: Any, x: Tensor, says: str) -> None:
    with pytest.raises(uc.InputError, match=says) as caught:
        model(law)(x)
    assert "\n" not in str(caught.value)


def test_an_error_of_the_model_itself_stays_as_it_is() -> None:
    def broken(z: Tensor) -> Distribution:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match=r"^mine$"):
        model(broken)(GREY)


class Tutorial(nn.Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).chunk(2, -1)


def test_an_encoder_that_gives_a_mean_and_a_log_variance_is_told_what_to_write() -> None:
    says = r"the encoder gives a `tuple` of 2, and must give a law of z: `uncollapse.gaussian.*`uncollapse.foreign"
    wrong = model(encoder=Tutorial(5, 4))
    for call in (wrong, lambda x: posterior(wrong, x), lambda x: uc.evaluate(wrong, x)):
        with pytest.raises(uc.InputError, match=says):
            call(GREY)


@pytest.mark.parametrize("wrap", [lambda vae: vae, Plain], ids=["VAE", "another model"])
def test_labels_are_kept_from_the_model_and_come_back_as_an_extra(wrap: Any) -> None:
    labels = torch.arange(40)
    labelled = uc.Labelled(GREY, labels)
    bound = ask(wrap(model()), labelled, samples=2)
    assert bound.x is labelled
    assert bound.log_likelihood.shape == (2, 40)
    assert bound.extras["label"] is labels


def test_labels_reach_the_terms_of_a_training() -> None:
    seen = []

    def noted(bound: Bound) -> Tensor:
        seen.append(bound.extras["label"])
        return bound.rate.mean()

    from uncollapse.data.batches import source
    from uncollapse.training.trainer import Trainer

    batches = source((GREY, torch.arange(40)), 40)
    Trainer(model(), batches, batches, objective=uc.Objective({"noted": noted}), max_epochs=1).fit()
    assert seen[0].tolist() == list(range(40))


@pytest.mark.parametrize("data", [(GREY, torch.zeros(40)), GREY.double(), GREY.half()])
def test_labels_and_the_type_of_numbers_change_no_figure(data: Any) -> None:
    vae = model()
    found, plain = uc.evaluate(vae, data, samples=3), uc.evaluate(vae, GREY, samples=3)
    assert found.neg_elbo.value == pytest.approx(plain.neg_elbo.value, rel=1e-3)  # pyright: ignore


def test_a_model_of_doubles_is_given_doubles() -> None:
    found = uc.evaluate(model().double(), GREY, samples=3)
    assert found.rows.law.mean.dtype == torch.float64  # pyright: ignore


# Conditional priors.


class Case(NamedTuple):
    x: Tensor
    given: Tensor

    @property
    def target(self) -> Tensor:
        return self.x

    @property
    def seen(self) -> Tensor:
        return self.x


A, SIGMA = torch.tensor([[1.0, 0.5], [0.0, -2.0]]), 0.7
WEIGHT = torch.tensor([[1.5, 0.0], [0.0, 0.8], [0.0, 0.0]])


class Shifted(nn.Module):
    """p(z | c) = N(A c, I)."""

    def forward(self, given: Tensor) -> Distribution:
        return unit(given @ A.T)


class Linear(nn.Module):
    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        return Independent(Normal(z @ WEIGHT.T, SIGMA), 1)


class Exact(nn.Module):
    """p(z | x, c), whose variance is diagonal as W has orthogonal columns."""

    def forward(self, x: Case) -> Distribution:
        variance = 1 / (1 + WEIGHT.square().sum(0) / SIGMA**2)
        mean = variance * (x.given @ A.T + x.x @ WEIGHT / SIGMA**2)
        return uc.gaussian(mean, variance.log().expand_as(mean))


def cases(n: int = 50) -> Case:
    given = torch.randn(n, 2)
    z = given @ A.T + torch.randn(n, 2)
    return Case(z @ WEIGHT.T + SIGMA * torch.randn(n, 3), given)


def test_a_conditional_prior_is_handed_what_is_given() -> None:
    data = cases()
    vae = uc.VAE(Exact(), Linear(), Shifted())
    covariance = WEIGHT @ WEIGHT.T + SIGMA**2 * torch.eye(3)
    exact = torch.distributions.MultivariateNormal(data.given @ A.T @ WEIGHT.T, covariance).log_prob(data.x)

    bound = vae(data, samples=3)
    found = uc.evaluate(vae, data, samples=5)

    torch.testing.assert_close(bound.log_weights, exact.expand(3, -1))
    assert bound.kl.shape == (50, 2)
    assert found.nll.value == pytest.approx(-exact.mean().item(), abs=1e-4)  # pyright: ignore
    assert found.mi.value > 0  # pyright: ignore


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_a_conditional_prior_has_no_marginal_kl(batch_size: int) -> None:
    found = uc.evaluate(uc.VAE(Exact(), Linear(), Shifted()), cases(), samples=0, batch_size=batch_size)
    assert str(found.marginal_kl).startswith("not available: the prior is conditional")


def test_priors_that_are_the_same_for_all_items_are_one_prior() -> None:
    data = cases()
    vae = uc.VAE(Exact(), Linear(), Shifted())
    same, common = data._replace(given=torch.zeros(50, 2)), uc.VAE(Exact(), Linear(), uc.StandardNormal(2))
    ours, theirs = (uc.evaluate(model, same, samples=0).marginal_kl for model in (vae, common))
    assert ours.value == pytest.approx(theirs.value, abs=1e-6)  # pyright: ignore[reportAttributeAccessIssue]


def test_a_conditional_model_is_trained() -> None:
    class Learned(nn.Linear):
        def forward(self, given: Tensor) -> Distribution:
            return unit(super().forward(given))

    vae = uc.VAE(Exact(), Linear(), Learned(2, 2))
    before = vae.prior.weight.clone()  # pyright: ignore
    uc.fit(vae, cases(), cases(), max_epochs=1, progress=False)
    assert not torch.equal(before, vae.prior.weight)  # pyright: ignore


def test_a_conditional_prior_of_a_batch_that_says_nothing_given_is_refused() -> None:
    with pytest.raises(uc.InputError, match="a batch of type `Tensor` says nothing that is `given`"):
        uc.VAE(uc.Posterior(nn.Linear(3, 4), uc.gaussian, (2, 2)), Linear(), Shifted())(torch.zeros(4, 3))


def test_a_prior_made_of_posteriors_is_handed_the_encoder_and_does_not_own_it() -> None:
    class OfPosteriors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pseudo = nn.Parameter(torch.randn(1, 5))

        def forward(self, encoder: nn.Module) -> Distribution:
            q = encoder(self.pseudo)
            return Independent(Normal(q.mean[0], q.stddev[0]), 1)

    vae = uc.VAE(uc.Posterior(nn.Linear(5, 4), uc.gaussian, (2, 2)), Of(unit), OfPosteriors())
    bound = vae(GREY)
    bound.rate.sum().backward()
    assert vae.prior.pseudo.grad is not None  # pyright: ignore
    assert [name for name, _ in vae.prior.named_parameters()] == ["pseudo"]
    torch.testing.assert_close(bound.log_p, vae.prior_law().log_prob(bound.z))


def test_a_prior_that_asks_for_what_nobody_offers_is_refused() -> None:
    class Asking(nn.Module):
        def forward(self, c: Tensor) -> None: ...

    with pytest.raises(uc.InputError, match="`Asking` asks for `c`, and a prior is offered `given`"):
        uc.VAE(Exact(), Linear(), Asking())(cases())


def test_a_prior_that_is_a_law_itself_is_refused_with_what_to_write() -> None:
    law = unit(torch.zeros(2))
    own = uc.Posterior(nn.Linear(5, 4), uc.gaussian, (2, 2))
    with pytest.raises(
        uc.InputError, match=r"the prior is a `Independent`, and must be what makes a law.*`lambda: law`"
    ):
        uc.VAE(own, Of(unit), law)  # pyright: ignore[reportArgumentType]
    assert uc.VAE(own, Of(unit), lambda: law)(GREY).kl.shape == (40, 2)  # pyright: ignore[reportArgumentType]
