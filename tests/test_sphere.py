"""Laws on the sphere, against figures of forty digits and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from uncollapse.distributions.power_spherical import PowerSpherical
from uncollapse.distributions.sphere import around, direction, log_area
from uncollapse.distributions.von_mises_fisher import VonMisesFisher
from uncollapse.divergence import kl_by_group
from uncollapse.errors import InputError
from uncollapse.metrics.information import mi_published
from uncollapse.posteriors.sphere import Around, power_spherical, von_mises_fisher
from uncollapse.priors import StandardNormal, UniformSphere

pytestmark = pytest.mark.usefixtures("float64")

KAPPAS = (1, 5, 10, 13, 25, 35, 50, 80, 100, 200, 500)
FROM_UNIFORM = {
    3: (0.1515959, 1.3030845, 1.9957323, 2.2580965, 2.9120230, 3.2484952, 3.6051702, 4.0751738, 4.2983174, 4.9914645,
        5.9077553),
    10: (0.0493848, 0.9685060, 2.4844696, 3.2757452, 5.6001652, 6.9263220, 8.3918992, 10.3860834, 11.3502162,
         14.3897662, 18.4655795),
    32: (0.0156035, 0.3777771, 1.3812587, 2.1725913, 5.7554043, 8.5935345, 12.2533690, 17.8630681, 20.7585281,
         30.3733014, 43.8989932),
    50: (0.0099942, 0.2464667, 0.9466486, 1.5450170, 4.7335443, 7.7430443, 12.1051112, 19.5152079, 23.5707184,
         37.6900787, 58.4093622),
    100: (0.0049993, 0.1245429, 0.4928004, 0.8247271, 2.8710268, 5.2440635, 9.4392421, 18.4111724, 24.1349646,
          47.0856489, 85.3130959),
}  # fmt: skip


def law(d: int, *kappas: float, dtype: torch.dtype = torch.float64) -> VonMisesFisher:
    kappa = torch.tensor(kappas, dtype=dtype)
    return VonMisesFisher(torch.eye(1, d, dtype=dtype).expand(len(kappa), -1), kappa)


def from_uniform(q: VonMisesFisher | PowerSpherical) -> Tensor:
    none = torch.full((1, *q.batch_shape), torch.nan)
    return kl_by_group(q, UniformSphere(q.event_shape[0])(), none, none).squeeze(1)


@pytest.mark.parametrize("d", FROM_UNIFORM)
def test_the_divergence_from_the_uniform_law_is_the_published_one(d: int) -> None:
    torch.testing.assert_close(from_uniform(law(d, *KAPPAS)), torch.tensor(FROM_UNIFORM[d]), rtol=0, atol=6e-8)


def test_the_divergence_has_more_digits_than_are_published() -> None:
    assert from_uniform(law(32, 13.0)).item() == pytest.approx(2.17259132408, abs=1e-11)


@pytest.mark.parametrize("d", [3, 10, 32, 512])
def test_a_small_concentration_costs_its_square_over_twice_the_dimension(d: int) -> None:
    assert from_uniform(law(d, 0.01, 0.0)).tolist() == pytest.approx([1e-4 / (2 * d), 0.0], abs=1e-9)


@pytest.mark.parametrize("kappa", [0.5, 3.0, 40.0])
def test_three_dimensions_have_a_closed_form(kappa: float) -> None:
    exact = kappa / math.tanh(kappa) - 1 + math.log(kappa / math.sinh(kappa))
    assert from_uniform(law(3, kappa)).item() == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(
    ("order", "kappa", "log_bessel"),
    [
        (15, 0.1, -72.8350992379),
        (15, 1, -38.2808612645),
        (15, 10, -2.2597987184),
        (15, 100, 95.6512052006),
        (15, 1000, 995.5147546944),
        (24, 35, 24.2644123671),
        (31, 1e4, 9994.4278514172),
        (49, 0.01, -404.1832944072),
        (255, 10, -751.2077957423),
        (511, 50, -1033.7573451449),
    ],
)
def test_the_density_has_the_bessel_function_of_forty_digits(order: int, kappa: float, log_bessel: float) -> None:
    d = 2 * order + 2
    exact = order * math.log(kappa) - d / 2 * math.log(2 * math.pi) - log_bessel + kappa
    assert law(d, kappa).log_peak.item() == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("d", [2, 3, 4, 32, 128])
def test_draws_have_the_distribution_of_their_angle(d: int) -> None:
    kappas = (0.0, 0.7, 13.0, 100.0, 5000.0)
    q = law(d, *kappas)
    cosine = q.sample(torch.Size((4000,)))[..., 0]
    mean = q.mean[:, 0]
    variance = 1 - mean.square() - (d - 1) * mean / q.concentration
    variance[0] = 1 / d
    assert ((cosine.mean(0) - mean).abs() < 5 * (variance / 4000).sqrt()).all()
    assert (cosine.var(0) / variance - 1).abs().max() < 0.2
    exact = stats.vonmises_fisher(torch.eye(1, d)[0].numpy(), 13.0).rvs(1000, random_state=1)[:, 0]
    assert stats.ks_2samp(cosine[:, 2].numpy(), exact).pvalue > 1e-3


def test_the_draws_of_the_issue_in_32_dimensions_have_the_moments_that_are_published() -> None:
    mean = law(32, 13.0).mean[0, 0].item()
    assert mean == pytest.approx(0.3569306832, abs=1e-10)
    assert 1 - mean**2 - 31 * mean / 13 == pytest.approx(0.0214580889, abs=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_are_unit_vectors(dtype: torch.dtype) -> None:
    one = law(16, 0.0, 1.0, 1e4, dtype=dtype)
    for q in (one, PowerSpherical(one.loc, one.concentration)):
        length = q.sample(torch.Size((200,))).norm(dim=-1)
        torch.testing.assert_close(length, torch.ones_like(length), rtol=0, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(("d", "kappa", "derivative"), [(32, 13.0, 0.2789551557), (3, 1e-6, 1e-6 / 3)])
def test_the_derivative_of_the_divergence_is_the_published_one(d: int, kappa: float, derivative: float) -> None:
    q = law(d, kappa)
    kappas = q.concentration.requires_grad_()
    (found,) = torch.autograd.grad(from_uniform(q).sum(), kappas)
    assert found.item() == pytest.approx(derivative, abs=1e-9)


def test_draws_move_with_the_concentration_as_differences_of_draws_with_the_same_noise_say() -> None:
    def drawn(kappa: Tensor) -> Tensor:
        torch.manual_seed(3)
        return VonMisesFisher(torch.eye(1, 5).expand(40, -1), kappa).rsample()

    kappa = torch.linspace(0.1, 300.0, 40, requires_grad=True)
    (slope,) = torch.autograd.grad(drawn(kappa)[:, 0].sum(), kappa, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), kappa)
    step = 1e-4 * kappa.detach()
    up, here, down = (drawn(kappa.detach() + way * step)[:, 0] for way in (1, 0, -1))
    torch.testing.assert_close(slope.detach(), (up - down) / (2 * step), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(bend, (up - 2 * here + down) / step.square(), rtol=1e-3, atol=1e-7)


def test_draws_carry_the_whole_gradient_of_an_expectation_in_the_concentration() -> None:
    kappa = torch.tensor([13.0], requires_grad=True)
    q = VonMisesFisher(torch.eye(1, 32), kappa)
    (found,) = torch.autograd.grad(q.rsample(torch.Size((20_000,)))[..., 0].mean(), kappa)
    assert found.item() == pytest.approx(0.0214580889, rel=0.02)  # The derivative of the mean is the variance.


def test_a_direction_is_a_unit_vector_whatever_its_length_and_has_finite_gradients() -> None:
    vector = torch.tensor([[0.0, 0.0], [3e-200, 4e-200], [3e200, 4e200], [0.0, -2.0]], requires_grad=True)
    found = direction(vector)
    found.sum().backward()
    torch.testing.assert_close(found.detach(), torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8], [0.0, -1.0]]))
    assert vector.grad is not None
    assert vector.grad[[0, 2, 3]].isfinite().all()
    assert vector.grad[0].eq(0).all()


def test_points_around_a_direction_are_at_its_angle() -> None:
    to = direction(torch.tensor([[3.0, 4.0, 0.0]]))
    z = around(to, torch.full((50, 1), 0.6), torch.full((50, 1), 0.8))
    torch.testing.assert_close(z @ to[0], torch.full((50, 1), 0.6))
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(50, 1))
    torch.testing.assert_close(around(to, torch.ones(1), torch.zeros(1)), to)


def test_spheres_have_their_areas() -> None:
    assert [math.exp(log_area(d)) for d in (1, 2, 3, 4)] == pytest.approx([2, 2 * math.pi, 4 * math.pi, 2 * math.pi**2])


POWER = [
    *((3, kappa, kl) for kappa, kl in ((1, 0.1931472), (10, 1.4888044), (100, 3.6250215))),
    *((32, 1, 0.0158690), (32, 10, 0.9863012), (32, 13, 1.4657538), (32, 25, 3.5457722), (32, 50, 7.6050082)),
    *((32, 100, 13.7816931), (32, 200, 21.7467955), (50, 35, 4.7611508), (50, 100, 14.8583213)),
    (100, 100, 14.5277063),
]


@pytest.mark.parametrize(("d", "kappa", "kl"), POWER)
def test_the_power_spherical_divergence_is_the_published_one(d: int, kappa: float, kl: float) -> None:
    q = PowerSpherical(torch.eye(1, d), torch.tensor([float(kappa)]))
    assert from_uniform(q).item() == pytest.approx(kl, abs=6e-8)


def test_a_power_spherical_law_has_the_published_mean_and_costs_nothing_where_it_is_uniform() -> None:
    q = PowerSpherical(torch.eye(1, 32).expand(2, -1), torch.tensor([13.0, 0.0]))
    assert q.mean[0, 0].item() == pytest.approx(0.2954545455, abs=1e-10)
    assert from_uniform(q)[1].item() == pytest.approx(0.0, abs=1e-12)


def test_a_power_spherical_law_is_finite_opposite_its_direction() -> None:
    kappa = torch.tensor([13.0], requires_grad=True)
    found = PowerSpherical(torch.eye(1, 4), kappa).log_prob(-torch.eye(1, 4))
    found.backward()
    assert found.isfinite()
    assert kappa.grad is not None
    assert kappa.grad.isfinite()


# Posteriors.


def test_a_fixed_concentration_costs_every_item_the_same() -> None:
    q = von_mises_fisher(lambda n: torch.nn.Linear(5, n), 32, 13.0)(torch.randn(7, 5))
    torch.testing.assert_close(from_uniform(q), torch.full((7,), 2.17259132408))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("made", [von_mises_fisher, power_spherical])
def test_a_learned_concentration_is_the_items_own_and_1_at_least(made: type) -> None:
    q = made(lambda n: torch.nn.Linear(5, n), 4, None)(100 * torch.randn(50, 5))
    assert q.concentration.min() >= 1
    assert q.concentration.std() > 1


def test_laws_on_the_sphere_are_in_single_precision_where_layers_are_not() -> None:
    assert Around(VonMisesFisher, 3.0)(torch.randn(2, 4, dtype=torch.bfloat16)).rsample().dtype == torch.float32


def test_a_sphere_of_one_unit_is_refused() -> None:
    with pytest.raises(InputError, match=r"at least 2 units, and there is 1: raise `model\.latent`"):
        von_mises_fisher(lambda n: torch.nn.Linear(5, n), 1)


def test_a_prior_on_another_space_is_refused_in_a_line() -> None:
    q = law(3, 1.0)
    with pytest.raises(InputError, match=r"over unit vectors and the prior one over vectors.*`model.prior` together"):
        kl_by_group(q, StandardNormal(3)(), torch.zeros(1, 1), torch.zeros(1, 1))


def test_the_information_is_at_most_the_divergence() -> None:
    q = VonMisesFisher(direction(torch.randn(64, 8)), torch.full((64,), 13.0))
    found = mi_published(q, torch.zeros(64), passes=20)
    assert 0 < found.value < from_uniform(q)[0].item() + 0.1  # pyright: ignore[reportAttributeAccessIssue]
