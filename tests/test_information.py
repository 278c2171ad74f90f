"""Mutual information, against closed forms and published figures."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace, Normal

from linear_gaussian import channel, information, vae
from uncollapse.distributions import operations
from uncollapse.metrics import information as metric
from uncollapse.metrics.draws import draw
from uncollapse.metrics.estimate import Answer, Estimate, Unavailable
from uncollapse.metrics.information import densities, from_densities, marginal_kl, mi_published, mutual_information
from uncollapse.metrics.rows import collect
from uncollapse.posteriors import gaussian

pytestmark = pytest.mark.usefixtures("float64")


def sure(answer: Answer) -> Estimate:
    assert isinstance(answer, Estimate)
    return answer


def two_points(mean: float, sd: float, copies: int = 1000) -> Distribution:
    """The posteriors N(-mean, sd^2) and N(mean, sd^2) in turns: copies change neither the mixture nor I."""
    means = torch.tensor([[-mean], [mean]]).repeat(copies, 1)
    return gaussian(means, torch.full_like(means, 2 * math.log(sd)))


def standard_kl(law: Distribution) -> Tensor:
    q = law.base_dist  # pyright: ignore[reportAttributeAccessIssue]
    return (0.5 * (q.loc.square() + q.scale.square() - 1) - q.scale.log()).sum(1)


@pytest.mark.parametrize(
    ("mean", "sd", "expected"), [(1.0, 1.0, 0.336831), (3.0, 1.0, 0.689298), (1.0, 0.5, 0.6327201937)]
)
def test_two_points_have_the_information_of_their_mixture(mean: float, sd: float, expected: float) -> None:
    found = sure(mutual_information(two_points(mean, sd), passes=10))
    pairs = sure(mi_published(two_points(mean, sd), torch.arange(2000) // 2, passes=10))

    assert found.value == pytest.approx(expected, abs=0.012)
    assert pairs.value == pytest.approx(expected, abs=0.012)
    assert pairs.cap == pytest.approx(math.log(2))


@pytest.mark.parametrize("sd", [1e-4, 1e-11, 1e-14])
@pytest.mark.parametrize("middle", [0.0, 0.7])
def test_narrow_posteriors_are_told_apart_or_not(sd: float, middle: float) -> None:
    """As of a rate of 30 nats in one unit, with single precision as networks have it."""
    torch.set_default_dtype(torch.float32)
    apart, same = torch.tensor([[middle - 0.3], [middle + 0.3]]).repeat(50, 1), torch.full((100, 1), middle)
    log_variance = torch.full((100, 1), 2 * math.log(sd))
    batch = torch.arange(100) // 10
    for mean, expected in ((apart, math.log(2)), (same, 0.0)):
        law = gaussian(mean, log_variance)
        assert sure(mutual_information(law)).value == pytest.approx(expected, abs=1e-4)
        # The entropy is exact and the other term sampled.
        assert sure(mi_published(law, batch, passes=50)).value == pytest.approx(expected, abs=0.05)


def test_near_neighbours_far_from_the_rest_overlap_as_they_should() -> None:
    # Of each two that are a standard deviation apart, all others are 1e11 of them away.
    steps = torch.arange(100.0).div(2, rounding_mode="floor") + 1e-11 * (torch.arange(100) % 2)
    law = gaussian(steps.unsqueeze(1), torch.full((100, 1), 2 * math.log(1e-11)))
    of_two = sure(mutual_information(two_points(0.5, 1.0, copies=50), passes=50)).value
    assert sure(mutual_information(law, passes=50)).value == pytest.approx(math.log(50) + of_two, abs=0.02)


def test_the_rate_splits_into_information_and_the_aggregate_s_divergence() -> None:
    law = two_points(1.0, 0.5)
    kl, found = standard_kl(law), densities(law, passes=10)

    assert kl.mean().item() == pytest.approx(0.8181471806)
    assert sure(marginal_kl(kl, found)).value == pytest.approx(0.1854269868, abs=0.01)


def test_a_batch_taken_for_the_data_set_gives_its_information_at_given_draws() -> None:
    mean = torch.tensor([[0.0, 0.0], [1.0, -1.0], [-1.0, 2.0]])
    scale = torch.tensor([[0.5, 1.0], [1.0, 0.5], [0.8, 0.8]])
    z = torch.tensor([[0.1, -0.2], [0.9, -0.8], [-1.2, 1.5]])
    law = gaussian(mean, 2 * scale.log())

    values = metric._one_pass(law, z)
    kl = law.log_prob(z) - Normal(0.0, 1.0).log_prob(z).sum(1)

    assert values.mean().item() == pytest.approx(0.9796813087, abs=1e-9)
    assert kl.mean().item() == pytest.approx(1.3586729879, abs=1e-9)
    rest = sure(marginal_kl(kl, metric.Densities(values, torch.arange(3), 0.0)))
    assert rest.value == pytest.approx(0.5248630111 - 0.1458713318, abs=1e-9)


@pytest.mark.parametrize(
    ("a", "s", "kl", "aggregate", "mi"),
    [(0.8, 0.6, 0.510826, 0.0, 0.510826), (1.5, 0.5, 1.443147, 0.291855, 1.151293)],
)
def test_a_linear_gaussian_channel(a: float, s: float, kl: float, aggregate: float, mi: float) -> None:
    x = torch.randn(3000, 1)
    law = channel(a * (x - x.mean()) / x.std(), s)

    found = densities(law)

    assert standard_kl(law).mean().item() == pytest.approx(kl, abs=0.001)
    assert sure(from_densities(found)).value == pytest.approx(mi, abs=0.03)
    assert sure(marginal_kl(standard_kl(law), found)).value == pytest.approx(aggregate, abs=0.03)


def test_at_the_optimum_of_the_linear_vae_the_rate_is_information() -> None:
    spectrum, variance = torch.tensor([4.0, 1.0, 0.25]), 0.5
    x = torch.linalg.qr(torch.randn(3000, 3)).Q * (3000 * spectrum).sqrt()
    model = vae((spectrum - variance).clamp_min(0).sqrt().diag(), math.sqrt(variance))

    rows = collect(model, x, 0)
    found = densities(rows.law)

    assert rows.kl.mean(0).tolist() == pytest.approx([1.039721, 0.346574, 0.0], abs=1e-6)
    assert rows.means.square().mean(0).tolist() == pytest.approx([0.875, 0.5, 0.0])  # pyright: ignore[reportOptionalMemberAccess]
    assert sure(from_densities(found)).value == pytest.approx(1.386295, abs=0.05)
    assert abs(sure(marginal_kl(rows.rate, found)).value) < 0.05


def test_identical_posteriors_have_exactly_no_information() -> None:
    law = gaussian(torch.full((500, 4), 0.3), torch.full((500, 4), -1.0))

    found = sure(mutual_information(law))

    assert found.value == pytest.approx(0.0, abs=1e-12)
    assert found.se == pytest.approx(0.0, abs=1e-12)
    assert found.bias == pytest.approx(0.0, abs=1e-12)


def test_identical_posteriors_have_no_published_information_on_average() -> None:
    law = gaussian(torch.zeros(3200, 4), torch.zeros(3200, 4))

    found = sure(mi_published(law, torch.arange(3200) // 32))

    # Each draw's log q differs from the exact entropy by sqrt(d / 2).
    assert abs(found.value) < 4 * math.sqrt(2 / 3200)
    assert found.se == pytest.approx(math.sqrt(2 / 3200), rel=0.1)


def test_narrow_separated_posteriors_have_the_logarithm_of_their_number() -> None:
    law = gaussian(torch.arange(200.0).unsqueeze(1), torch.full((200, 1), -20.0))

    found = sure(mutual_information(law))

    assert found.value == pytest.approx(math.log(200))
    assert found.value <= math.log(200)
    assert found.cap == math.log(200)
    assert metric.is_floor(found)
    assert sure(mi_published(law, torch.arange(200) // 50)).value == pytest.approx(math.log(50), abs=0.25)


@pytest.mark.parametrize("d", [1, 8, 64])
def test_no_item_says_more_than_the_logarithm_of_the_number_of_items(d: int) -> None:
    assert densities(channel(torch.randn(300, d), 0.2)).values.max() <= math.log(300)


@pytest.mark.parametrize(("d", "s", "expected"), [(1, 0.5, 0.767), (1, 0.05, 2.569), (4, 0.5, 2.542), (32, 0.5, 3.457)])
def test_batches_of_32_give_the_tabled_figures(d: int, s: float, expected: float) -> None:
    found = sure(mi_published(channel(torch.randn(32 * 300, d), s), torch.arange(32 * 300) // 32))

    assert found.value == pytest.approx(expected, abs=2 * 0.036)
    assert found.cap == pytest.approx(math.log(32))


def test_the_published_figure_weights_batches_by_their_size() -> None:
    law, batch = channel(torch.randn(10, 2), 0.5), torch.tensor([0] * 3 + [1] * 7)

    parts = []
    z = draw(law, 0, "published", range(10), 1)[0]
    for members in (slice(0, 3), slice(3, 10)):
        part = operations.take(law, members)
        mixture = operations.pairwise_log_prob(part, z[members]).logsumexp(1) - math.log(part.batch_shape[0])
        parts.append((-part.entropy() - mixture).sum().item())

    found = sure(mi_published(law, batch))
    assert found.value == pytest.approx(sum(parts) / 10)
    assert found.cap == pytest.approx(0.3 * math.log(3) + 0.7 * math.log(7))


def test_of_many_items_a_seeded_subset_is_compared() -> None:
    law = channel(torch.randn(300, 2), 0.5)

    found, again, other = (densities(law, seed, limit=100) for seed in (0, 0, 1))

    assert sure(from_densities(found)).cap == math.log(100)
    assert torch.equal(found.items, again.items)
    assert torch.equal(found.values, again.values)
    assert not torch.equal(found.items, other.items)
    assert sure(marginal_kl(standard_kl(law), found)).n == 100


def test_how_many_pairs_are_compared_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    law = channel(torch.randn(300, 2), 0.5)
    whole = densities(law)

    monkeypatch.setattr(metric, "PAIRS", 1000)

    torch.testing.assert_close(densities(law).values, whole.values)


def test_more_passes_begin_with_the_same_draws() -> None:
    law = channel(torch.randn(100, 2), 0.5)

    one, two = densities(law, passes=1).values, densities(law, passes=2).values

    second = metric._one_pass(law, draw(law, 0, "information", range(100), 2)[1])
    torch.testing.assert_close(two, (one + second) / 2)


def test_any_law_will_do() -> None:
    law = Independent(Laplace(torch.randn(800, 2), torch.full((800, 2), 0.3)), 1)

    found = sure(mutual_information(law, passes=1))

    assert 0.5 < found.value < 3
    assert sure(mi_published(law, torch.arange(800) // 32)).value == pytest.approx(found.value, abs=0.5)


@pytest.mark.parametrize(("s", "n"), [(0.5, 400), (0.2, 400)])
def test_the_bias_that_is_reported_is_about_the_bias(s: float, n: int) -> None:
    found = [sure(mutual_information(channel(torch.randn(n, 3), s), i, passes=1)) for i in range(40)]

    bias = sum(e.value for e in found) / 40 - information(3, s)

    # A lower bound of its size, as the densities that would show more of it are cut at log n.
    assert bias - 0.02 < sum(e.bias or 0.0 for e in found) / 40 < 0


def test_a_figure_far_from_its_cap_is_no_floor() -> None:
    assert not metric.is_floor(sure(mutual_information(channel(torch.randn(400, 1), 1.0))))


def test_without_a_law_there_is_a_reason() -> None:
    for found in (mutual_information(None), mi_published(None, torch.zeros(3))):
        assert isinstance(found, Unavailable)
        assert "the posterior depends on the path" in found.reason


def test_without_an_entropy_the_published_figure_has_a_reason() -> None:
    class Unknown(Laplace):
        def entropy(self) -> Tensor:
            raise NotImplementedError

    law = Independent(Unknown(torch.zeros(4, 2), torch.ones(4, 2)), 1)

    assert mi_published(law, torch.zeros(4)) == Unavailable("the entropy of the posterior is not known in closed form")
