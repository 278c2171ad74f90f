"""The diagnosis of models whose state is known in closed form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn import functional as F

import uncollapse as uc
from linear_gaussian import LinearGaussian, evidence, orthogonal, vae
from uncollapse.data.batches import numbered, source
from uncollapse.data.text import PAD, Text
from uncollapse.diagnosis.audit import Audit, audit
from uncollapse.diagnosis.diagnose import diagnose
from uncollapse.diagnosis.evidence import History
from uncollapse.diagnosis.findings import FINDINGS, VERDICTS, Diagnosis, Finding
from uncollapse.diagnosis.refined import Refined, refined
from uncollapse.diagnosis.stability import stability
from uncollapse.distributions.tokens import Tokens
from uncollapse.metrics.directions import directions
from uncollapse.metrics.estimate import Unavailable
from uncollapse.metrics.rows import collect
from uncollapse.metrics.usage import Usage, block, blocks, usage
from uncollapse.priors import Flow

LENGTHS = (3.0, 2.0, 1.0, 0.7)
WEIGHT = orthogonal(*LENGTHS, size=12)
_DRAW = torch.Generator().manual_seed(7)
X = torch.randn(300, 4, generator=_DRAW) @ WEIGHT.T + torch.randn(300, 12, generator=_DRAW)


class Fixed(nn.Module):
    """An encoder that is a function."""

    def __init__(self, law: Callable[[Tensor], Distribution]) -> None:
        super().__init__()
        self.law = law

    def forward(self, x: Tensor) -> Distribution:
        return self.law(x)


class Wide(nn.Module):
    """The prior N(0, scale^2)."""

    def __init__(self, latent: int, scale: float) -> None:
        super().__init__()
        self.latent, self.scale = latent, scale

    def forward(self) -> Distribution:
        return Independent(Normal(torch.zeros(self.latent), self.scale), 1)


def with_encoder(law: Callable[[Tensor], Distribution], weight: Tensor = WEIGHT, sigma: float = 1.0) -> uc.VAE:
    return uc.VAE(Fixed(law), LinearGaussian(weight, sigma), uc.StandardNormal(weight.shape[1]))


def prior_whatever(x: Tensor) -> Distribution:
    return uc.gaussian(torch.zeros(len(x), 4), torch.zeros(len(x), 4))


def wrong(x: Tensor) -> Distribution:
    """The true posterior of another item: informative, and of no use."""
    return vae(WEIGHT, 1.0).encoder(x.flip(1).sign() * x.roll(3, 1).abs())


def dead(*alive: float) -> Tensor:
    return orthogonal(*LENGTHS, size=12) * torch.tensor(alive)


TRUTH: dict[str, tuple[Callable[[], tuple[Any, Tensor]], str]] = {
    "exact": (lambda: (vae(WEIGHT, 1.0), X), "healthy"),
    "one unit of four": (lambda: (vae(dead(1, 0, 0, 0), 1.0), X), "partly collapsed"),
    "three units of four": (lambda: (vae(dead(1, 1, 1, 0), 1.0), X), "healthy"),
    "q is the prior": (lambda: (with_encoder(prior_whatever), X), "inference collapse"),
    "q is wrong": (lambda: (with_encoder(wrong), X), "inference collapse"),
    "nothing to tell": (lambda: (vae(0 * WEIGHT, 1.0), X), "model collapse"),
    "a decoder that ignores z": (lambda: (with_encoder(vae(WEIGHT, 1.0).encoder, 0 * WEIGHT), X), "model collapse"),
    "codes far from the prior": (
        lambda: (with_encoder(lambda x: uc.gaussian(4 * x[:, :4], 0 * x[:, :4]), torch.eye(12)[:, :4] / 4), X),
        "mismatched",
    ),
    "codes that are points": (
        lambda: (with_encoder(lambda x: uc.gaussian(4 * x[:, :4], 0 * x[:, :4] - 8), torch.eye(12)[:, :4] / 4), X),
        "plain autoencoder",
    ),
}


@pytest.mark.parametrize("case", TRUTH)
def test_the_verdict_is_the_state(case: str) -> None:
    made, state = TRUTH[case]
    found = diagnose(*made())
    assert found.verdict == state, str(found)


def test_draws_of_the_prior_between_two_clusters_of_codes_are_found() -> None:
    x = torch.cat([X[:, :1].sign(), 0.1 * torch.randn(len(X), 11)], 1)
    law = with_encoder(lambda x: uc.gaussian(x[:, :1], torch.full_like(x[:, :1], -4.0)), torch.eye(12)[:, :1])
    found = diagnose(law, x)["holes"]
    assert found.value is not None
    assert found.value == pytest.approx(0.77, abs=0.1)  # The clusters hold 0.23 of N(0, 1).
    assert found.standing == "bad"
    assert "mixture-prior" in found.command
    fine = diagnose(vae(WEIGHT, 1.0), X)["holes"]
    assert fine.standing == "fine"
    assert fine.value == pytest.approx(0.05, abs=0.08)


def test_scaled_and_rotated_latents_are_the_same_model() -> None:
    """z' = c R z, with a prior to match: nothing is learnt or lost."""
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1))).Q
    for weight, state in ((WEIGHT, "healthy"), (dead(1, 0, 0, 0), "partly collapsed")):
        precision = torch.eye(4) + weight.T @ weight
        posterior = turn @ torch.linalg.inv(precision) @ turn.T
        for scale in (0.01, 100.0):
            new = weight @ turn.T / scale

            def law(
                x: Tensor, scale: float = scale, weight: Tensor = weight, posterior: Tensor = posterior
            ) -> Distribution:
                mean = scale * (x @ weight @ turn.T @ posterior)
                return uc.gaussian(mean, (scale**2 / torch.linalg.inv(posterior).diagonal()).log().expand_as(mean))

            found = diagnose(uc.VAE(Fixed(law), LinearGaussian(new, 1.0), Wide(4, scale)), X)
            assert found.verdict == state, str(found)


def test_the_signal_to_noise_ratios_are_the_closed_form() -> None:
    """Of a linear-Gaussian model half the log of 1 + s is the rate of a unit (here its length squared is s)."""
    x = evidence(WEIGHT, 1.0).sample((20_000,))
    found = directions(vae(WEIGHT, 1.0).encoder(x))
    assert found is not None
    assert found.ratios is not None
    torch.testing.assert_close(found.ratios, torch.tensor(LENGTHS).double() ** 2, rtol=0.05, atol=0)
    torch.testing.assert_close(found.units, found.ratios / (1 + found.ratios), rtol=0.05, atol=0)
    assert found.informative(0.3) == 3  # log(1 + 1) / 2 is 0.35, and of 1/2 it is 0.2.


def measured(model: Any, x: Tensor) -> tuple[Any, list[Any]]:
    batches = source(x, 256)
    return collect(model, batches, samples=0), list(numbered(batches))


def test_the_worth_of_z_is_the_closed_form() -> None:
    """Another's z costs s each unit, in nats, and the average code half of it; one unit's value alone its own s."""
    x = evidence(WEIGHT, 1.0).sample((4000,))
    rows, batches = measured(vae(WEIGHT, 1.0), x)
    found = usage(vae(WEIGHT, 1.0), batches, rows)
    assert isinstance(found, Usage)
    s = torch.tensor(LENGTHS).double() ** 2
    assert (found.shuffled - found.own).mean().item() == pytest.approx(s.sum().item(), rel=0.05)
    assert found.average is not None
    assert found.prior is not None
    assert found.units is not None
    assert (found.average - found.own).mean().item() == pytest.approx(s.sum().item() / 2, rel=0.05)
    torch.testing.assert_close(found.prior.mean(), found.shuffled.mean(), rtol=0.05, atol=0)
    torch.testing.assert_close(found.units.mean(0), s, rtol=0.3, atol=0.1)


class FirstToken(nn.Module):
    """z says which of two tokens is the first, and nothing of those that follow."""

    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        first = torch.cat([torch.full_like(z, -30.0), -z, z], -1).unsqueeze(-2)
        rest = torch.tensor([-30.0, 0.0, 0.0]).expand(*z.shape[:-1], seen.shape[1] - 1, 3)
        return Tokens(torch.cat([first, rest], -2), torch.eye(3))


def test_by_place_in_a_text_another_z_costs_where_z_says_something() -> None:
    """One's own z is 2 for token 2 and -2 for token 1; another's is wrong half of the time, and then costs 4 nats."""
    tokens = 1 + torch.randint(2, (200, 12), generator=torch.Generator().manual_seed(3))
    tokens[:100, 6:] = PAD
    batches = [Text(tokens[:100, :6]), Text(tokens[100:])]
    encoder = Fixed(lambda x: uc.gaussian(4.0 * x.tokens[:, 1:2] - 6, torch.full((len(x.tokens), 1), -12.0)))
    model = uc.VAE(encoder, FirstToken(), uc.StandardNormal(1))
    rows = collect(model, batches, samples=0)
    found = usage(model, numbered(batches), rows)
    assert isinstance(found, Usage)
    assert list(found.places) == [(1, 1), (2, 3), (4, 7), (8, 15)]
    assert found.places[1, 1].mean().item() == pytest.approx(2.0, abs=0.5)
    assert all(bool((values == 0).all()) for place, values in found.places.items() if place != (1, 1))
    assert [len(values) for values in found.places.values()] == [200, 200, 200, 100]
    assert diagnose(model, batches)["places"].value == 1


def test_where_z_is_ignored_all_distortions_are_the_same_number() -> None:
    model = with_encoder(vae(WEIGHT, 1.0).encoder, 0 * WEIGHT)
    rows, batches = measured(model, X)
    found = usage(model, batches, rows)
    assert isinstance(found, Usage)
    assert found.prior is not None
    assert torch.equal(found.own, found.shuffled)
    assert torch.equal(found.own, found.prior)


def test_refinement_finds_the_true_posterior_and_the_gap_is_its_divergence() -> None:
    """From the prior the gap is KL(q || p(z|x)) - 0, which the closed form of two Gaussians gives."""
    model = with_encoder(prior_whatever)
    rows, batches = measured(model, X)
    found = refined(model, batches, rows)
    assert isinstance(found, Refined)
    truth = vae(WEIGHT, 1.0).encoder(X[: len(found.gap)])
    start = prior_whatever(X[: len(found.gap)])
    apart = torch.distributions.kl_divergence(start, truth).double()
    assert found.gap.mean().item() == pytest.approx(apart.mean().item(), rel=0.06)
    rate = torch.distributions.kl_divergence(truth, start).mean().item()
    assert found.rate.mean().item() == pytest.approx(rate, rel=0.05)


def test_an_exact_posterior_is_not_refined_beyond_the_noise() -> None:
    model = vae(WEIGHT, 1.0)
    rows, batches = measured(model, X)
    found = refined(model, batches, rows)
    assert isinstance(found, Refined)
    assert abs(found.gap.mean().item()) < 0.3


class Tutorial(nn.Module):
    """As tutorials have it."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.back = nn.Linear(12, 8), nn.Linear(4, 12)

    def encode(self, x: Tensor) -> Any:
        return self.into(x).chunk(2, -1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x)
        return self.decode(mean + torch.randn_like(mean) * (log_variance / 2).exp()), mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        return self.back(z)


def kl_of(mean: Tensor, log_variance: Tensor) -> Tensor:
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)


def loss_of(theirs: Tutorial, reduction: str, weight: float) -> Callable[[Tensor], Tensor]:
    def loss(x: Tensor) -> Tensor:
        back, mean, log_variance = theirs(x)
        kl = kl_of(mean, log_variance)
        return F.mse_loss(back, x, reduction=reduction) + weight * (kl.mean() if reduction == "mean" else kl.sum())

    return loss


@pytest.mark.parametrize(
    ("reduction", "weight", "beta"),
    [
        ("sum", 2.0, 1.0),  # The sum of squares is twice the distortion at variance 1.
        ("sum", 1.0, 0.5),
        ("mean", 0.00025, 0.0015),  # 12 numbers, and a half: 0.00025 * 12 / 2.
        ("mean", 1.0, 6.0),
        ("sum", 0.0, 0.0),
    ],
)
def test_the_effective_weight_is_exact(reduction: Any, weight: float, beta: float) -> None:
    theirs = Tutorial()
    before = {name: value.clone() for name, value in theirs.state_dict().items()}
    found = audit(uc.foreign(theirs, likelihood="gaussian"), loss_of(theirs, reduction, weight), X)
    assert isinstance(found, Audit)
    assert found.beta == pytest.approx(beta, rel=1e-3, abs=1e-5)
    assert found.unexplained < 1e-6
    assert all(torch.equal(value, before[name]) for name, value in theirs.state_dict().items())


def test_a_loss_of_another_likelihood_is_told_from_the_bound() -> None:
    theirs = Tutorial()
    found = audit(uc.foreign(theirs, likelihood="gaussian"), lambda x: (theirs(x)[0] - x.roll(1, 1)).pow(2).sum(), X)
    assert isinstance(found, Audit)
    assert found.unexplained > 0.1


def test_a_loss_of_another_module_is_told() -> None:
    found = audit(uc.foreign(Tutorial(), likelihood="gaussian"), loss_of(Tutorial(), "sum", 1.0), X)
    assert isinstance(found, Unavailable)
    assert "the very module" in found.reason


def test_a_loss_that_is_mis_scaled_is_the_verdict_with_its_weight() -> None:
    theirs = Tutorial()
    found = diagnose(uc.foreign(theirs, likelihood="gaussian"), X, loss=loss_of(theirs, "mean", 0.00025))
    assert str(found).startswith("loss mis-scaled: your effective KL weight is 0.0015")
    assert found["loss-scale"].value == pytest.approx(0.0015, rel=1e-3)
    assert "Multiply the KL by 667" in found["loss-scale"].advice


def test_without_a_loss_its_scale_is_not_checkable() -> None:
    found = diagnose(vae(WEIGHT, 1.0), X[:100])
    assert found["loss-scale"].value is None
    assert "not checkable without your loss" in found["loss-scale"].meaning
    assert found["training"].value is None


def test_of_a_collapse_the_loss_is_looked_at_first() -> None:
    theirs = Tutorial()
    nn.init.zeros_(theirs.back.weight)
    model = uc.foreign(theirs, likelihood="gaussian")
    assert diagnose(model, X)["true-posterior"].command == "uc.diagnose(model, data, loss=lambda x: your_loss(x))"
    looked_at = diagnose(model, X, loss=uc.Objective())["true-posterior"]
    assert looked_at.command == "uc.fit(model, train, valid, remedies=['free-bits'])"


def test_of_an_objective_the_weight_is_its_own() -> None:
    model = uc.foreign(Tutorial(), likelihood="gaussian")
    found = diagnose(model, X, loss=uc.Objective(weights={"rate": 0.1}))
    assert found["loss-scale"].value == pytest.approx(0.1, rel=1e-4)


def test_a_log_that_still_falls_is_under_trained() -> None:
    model = vae(WEIGHT, 1.0)
    assert diagnose(model, X, history=History([30.0, 25.0, 20.0])).verdict == "under-trained"
    settled = diagnose(model, X, history=History([20.02, 20.0, 20.0], rate_weight=0.4))
    assert settled.verdict == "healthy"
    assert settled["loss-scale"].standing == "bad"


def test_how_far_posteriors_still_change_is_the_closed_form() -> None:
    draws = torch.Generator().manual_seed(0)
    a, e = torch.randn(2, 4000, 3, generator=draws)
    b = 0.6 * a + 0.8 * e

    def rows(mean: Tensor, scale: float) -> Any:
        return collect(
            with_encoder(lambda x: uc.gaussian(x, torch.full_like(x, scale).log() * 2), torch.eye(3)), [mean]
        )

    found = stability(rows(a, 0.5), rows(b, 0.4))
    assert found is not None
    assert found.se == pytest.approx((1 - 0.6**2) / (3 * 4000) ** 0.5, rel=0.05)
    assert found.means == pytest.approx(0.6, abs=4 * found.se)
    assert found.widths == pytest.approx(0.25, rel=1e-4)
    assert stability(rows(a, 0.5), rows(a[:100], 0.5)) is None
    assert stability(rows(0 * a, 0.5), rows(b, 0.5)) is None


class Class(NamedTuple):
    """Items of classes."""

    x: Tensor
    given: Tensor

    @property
    def target(self) -> Tensor:
        return self.x

    @property
    def seen(self) -> Tensor:
        return self.given


class ByClass(nn.Module):
    """p(z | c) = N(c, I)."""

    def forward(self, given: Tensor) -> Distribution:
        return Independent(Normal(given, 1.0), 1)


@pytest.mark.parametrize("exact", [True, False])
def test_under_a_conditional_prior_a_z_that_says_nothing_is_of_the_item_s_own_prior(exact: bool) -> None:
    """Another item's z says another class, which costs a decoder that uses z much, and is nothing of x."""
    draws = torch.Generator().manual_seed(5)
    c = 4 * torch.randn(400, 4, generator=draws).sign()
    x = (c + torch.randn(400, 4, generator=draws)) @ WEIGHT.T + torch.randn(400, 12, generator=draws)
    ratios = torch.tensor(LENGTHS).square()

    def posterior(batch: Class) -> Distribution:
        if not exact:
            return Independent(Normal(batch.given, 1.0), 1)
        mean = (batch.given + batch.x @ WEIGHT) / (1 + ratios)
        return uc.gaussian(mean, -(1 + ratios).log().expand_as(mean))

    model, data = uc.VAE(Fixed(posterior), LinearGaussian(WEIGHT, 1.0), ByClass()), Class(x, c)
    said = uc.diagnose(model, data)
    assert said.verdict == ("healthy" if exact else "inference collapse")
    # E |W (z - z')|^2 / 2 of independent draws of the prior, less nothing: own z is a draw jointly with x.
    worth = ratios.sum().item() if exact else 0.0
    assert said["use"].value == pytest.approx(worth, abs=4 * (said["use"].se or 0))
    assert said["true-posterior"].value == pytest.approx(ratios.sum().item(), rel=0.15)
    ignoring = uc.VAE(Fixed(posterior), LinearGaussian(0 * WEIGHT, 1.0), ByClass())
    assert uc.diagnose(ignoring, data).verdict == "model collapse"


def test_a_prior_whose_numbers_are_a_network_s_is_drawn_from() -> None:
    torch.manual_seed(0)
    model = uc.VAE(Fixed(prior_whatever), LinearGaussian(WEIGHT, 1.0), Flow(4, transforms=1, hidden=(8,)))
    assert "prior z" in uc.diagnose(model, X)["use"].meaning


def test_a_posterior_that_depends_on_the_path_and_a_model_without_latents() -> None:
    inner = vae(WEIGHT, 1.0)

    def path(x: Tensor, q: Any = None, samples: int = 1) -> uc.Bound:
        return inner(x, q, samples)._replace(q=None)

    found = diagnose(path, X[:60])
    assert found.verdict == "unknown"
    assert "no law of z" in found.why
    none = with_encoder(lambda x: uc.gaussian(torch.zeros(len(x), 0), torch.zeros(len(x), 0)), torch.zeros(12, 0))
    assert diagnose(none, X[:60]).verdict == "no latents"


def test_it_says_the_same_twice_and_leaves_the_model_as_it_was() -> None:
    model = uc.foreign(Tutorial(), likelihood="gaussian")
    before = torch.get_rng_state()
    first, second = (diagnose(model, X[:100]).to_json() for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_latents_with_a_shape_are_taken_by_channel() -> None:
    conv, back = nn.Conv2d(1, 4, 1), nn.Conv2d(2, 1, 1)
    model = uc.foreign(
        nn.ModuleList([conv, back]), encode=lambda x: conv(x).chunk(2, 1), decode=back, likelihood="gaussian"
    )
    found = diagnose(model, X.view(300, 1, 3, 4))
    assert (found["units"].limit, found["units"].unit) == (2, "channels")
    assert (found["positions"].limit, found["positions"].unit) == (12, "positions")
    assert "positions" not in [finding.name for finding in diagnose(vae(WEIGHT, 1.0), X).findings]


class Shaped(nn.Module):
    """z = x / 2 + noise, decoded as it is where `used` is 1, so that another's value there costs half a nat."""

    def __init__(self, used: Tensor) -> None:
        super().__init__()
        self.register_buffer("used", used)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x / 2, torch.full_like(x, 0.5).log()

    def decode(self, z: Tensor) -> Tensor:
        return self.used * z


def test_channels_and_positions_cost_what_they_do_in_closed_form() -> None:
    used = torch.ones(2, 2, 3)
    used[:, 0, 1] = used[1, 1, 2] = 0
    x = torch.randn(256, 2, 2, 3, generator=torch.Generator().manual_seed(1))
    model = uc.foreign(Shaped(used), likelihood="gaussian")
    found = usage(model, numbered(source(x, 256)), collect(model, source(x, 256), 1))
    assert isinstance(found, Usage)
    assert found.units is not None
    assert found.blocks is not None
    torch.testing.assert_close(found.units.mean(0).float(), 0.5 * used.sum((1, 2)), rtol=0.1, atol=0)
    torch.testing.assert_close(found.blocks.mean(0).float(), 0.5 * used.sum(0).flatten(), rtol=0.25, atol=1e-6)
    said = diagnose(model, x)["positions"]
    assert (said.value, said.limit, said.standing) == (5, 6, "bad")
    assert "5 of 6 carry 0.01 nats or more that the decoder uses, from 0.00 at (0, 1) to" in said.meaning


@pytest.mark.parametrize(("shape", "side"), [((8, 8), 1), ((9, 8), 2), ((20, 7), 2), ((64, 64), 8), ((100,), 2)])
def test_many_positions_are_taken_in_blocks(shape: tuple[int, ...], side: int) -> None:
    times, each = torch.zeros(shape), list(blocks(shape))
    for within in each:
        times[within] += 1
    assert block(shape) == side
    assert len(each) <= 64
    assert bool((times == 1).all())


def test_the_shares_of_many_units_need_no_matrix_of_them() -> None:
    """Of 200,000 units that would be 320 GB."""
    loc, scale = torch.tensor([-1.0, 1.0]).view(2, 1).expand(2, 200_000), torch.full((2, 200_000), 2.0)
    found = directions(Independent(Normal(loc, scale), 1))
    assert found is not None
    torch.testing.assert_close(found.units, torch.full((200_000,), 1 / 5, dtype=torch.float64))
    assert found.ratios is None


def test_json_has_closed_lists_and_prints_on_a_screen() -> None:
    found = diagnose(with_encoder(prior_whatever), X)
    said = json.loads(json.dumps(found.to_json()))
    assert said["verdict"] in VERDICTS
    assert {one["name"] for one in said["findings"]} <= FINDINGS.keys()
    assert {"name", "value", "se", "meaning", "advice", "command"} <= said["findings"][0].keys()
    lines = found.lines()
    assert lines[0].startswith("inference collapse: ")
    assert len(lines) <= 40
    assert [one.standing for one in found.findings] == sorted(
        (one.standing for one in found.findings), key=("decides", "bad", "fine", "unknown").index
    )


def test_other_names_are_refused() -> None:
    with pytest.raises(uc.InputError, match=r"unknown finding `us`. Did you mean `use`"):
        Finding("us", 1.0, None, "")
    with pytest.raises(uc.InputError, match="unknown verdict"):
        Diagnosis("ill", "", [])
