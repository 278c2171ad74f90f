"""Everything that is measured, in one call."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import uncollapse as uc
from linear_gaussian import evidence, orthogonal, vae
from uncollapse.bound import Bound
from uncollapse.data.batches import Batched, in_order
from uncollapse.errors import InputError
from uncollapse.inference import amortised, inferred, plain
from uncollapse.metrics.estimate import Estimate, Unavailable
from uncollapse.metrics.evaluation import NAMES, Evaluation, evaluate
from uncollapse.model import posterior

WEIGHT, SIGMA = orthogonal(1.5, 0.8, size=4), 0.7


def data(n: int = 60) -> Tensor:
    return evidence(WEIGHT, SIGMA).sample((n,))


def figures(evaluation: Evaluation, *without: str) -> Tensor:
    """All figures but those named, as one tensor."""
    answers = [getattr(evaluation, name) for name in NAMES if name not in without]
    return torch.tensor([[a.value, a.se] for a in answers if isinstance(a, Estimate)])


def test_a_model_is_measured_on_batches() -> None:
    x = data(2000)

    found = evaluate(vae(WEIGHT, SIGMA), x.split(32), samples=10)

    truth = -evidence(WEIGHT, SIGMA).log_prob(x).mean().item()
    assert isinstance(found.nll, Estimate)
    assert found.nll.value == pytest.approx(truth, abs=1e-4)
    assert found.neg_elbo.value == pytest.approx(truth, abs=0.1)  # pyright: ignore[reportAttributeAccessIssue]
    assert found.kl.value == pytest.approx(found.kl_per_group.sum().item())  # pyright: ignore[reportAttributeAccessIssue]
    assert found.mi.value + found.marginal_kl.value == pytest.approx(found.kl.value)  # pyright: ignore[reportAttributeAccessIssue]
    assert found.active_units.value == 2  # pyright: ignore[reportAttributeAccessIssue]
    assert found.effective_samples.value == pytest.approx(10, rel=1e-4)  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(found.perplexity, Unavailable)
    assert found.warnings == ()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("size", "chunk", "flipped"), [(7, None, False), (60, 3, False), (7, 64, True), (1, None, True)]
)
def test_no_figure_depends_on_batching_chunks_or_order(size: int, chunk: int | None, flipped: bool) -> None:
    x, model = data().double(), vae(orthogonal(1.5, 0.8, size=4), SIGMA, shift=0.4)
    groups = in_order(60, size)[::-1] if flipped else in_order(60, size)

    found = evaluate(model, Batched(x.__getitem__, groups), 40, chunk=chunk)

    # The published estimator is about evaluation batches by definition.
    torch.testing.assert_close(
        figures(found, "mi_published"), figures(evaluate(model, x, 40), "mi_published"), rtol=1e-9, atol=1e-9
    )


def test_no_figure_depends_on_batching_in_single_precision() -> None:
    x, model = data(), vae(WEIGHT, SIGMA, shift=0.4)

    found, whole = evaluate(model, x.split(7), 40), evaluate(model, x, 40)

    torch.testing.assert_close(figures(found, "mi_published"), figures(whole, "mi_published"), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("float64")
def test_no_figure_depends_on_what_else_is_measured() -> None:
    x, model = data().double(), vae(orthogonal(1.5, 0.8, size=4), SIGMA, shift=0.4)

    found = evaluate(model, x, 0, bound_samples=10)

    weighed = ("nll", "effective_samples")
    torch.testing.assert_close(figures(found), figures(evaluate(model, x, 40), *weighed))


def test_the_seed_changes_what_is_sampled_and_nothing_else() -> None:
    x, model = data(), vae(WEIGHT, SIGMA, shift=0.4)

    a, b = (evaluate(model, x, 5, seed=seed) for seed in (0, 1))

    assert a.nll != b.nll
    assert a.mi != b.mi
    assert a.kl == b.kl


def test_no_samples_no_likelihood() -> None:
    found = evaluate(vae(WEIGHT, SIGMA), data(), 0)

    assert found.nll == Unavailable("asked for 0 importance samples")
    assert isinstance(found.neg_elbo, Estimate)


def test_a_posterior_that_depends_on_the_path_has_no_information_but_a_likelihood() -> None:
    model = vae(WEIGHT, SIGMA)

    def path(x: Tensor, q: Distribution | None = None, samples: int = 1) -> Bound:
        return model(x, samples=samples)._replace(q=None)

    x = data()
    found = evaluate(path, x, 10)

    assert found.nll.value == pytest.approx(-evidence(WEIGHT, SIGMA).log_prob(x).mean().item(), abs=1e-4)  # pyright: ignore[reportAttributeAccessIssue]
    for name in ("mi", "mi_published", "marginal_kl", "active_units"):
        assert isinstance(getattr(found, name), Unavailable)
    assert found.variance_of_means is None
    assert any("drew its own noise" in text for text in found.warnings)


def test_few_items_are_warned_of() -> None:
    assert "only 29 items" in evaluate(vae(WEIGHT, SIGMA), data(29), 5).warnings[0]
    assert evaluate(vae(WEIGHT, SIGMA), data(30), 0).warnings == ()


def test_information_that_its_cap_holds_down_is_called_a_floor() -> None:
    sharp = vae(orthogonal(50.0, 40.0, size=4), 0.1)

    found = evaluate(sharp, 30 * torch.randn(100, 4), 0)

    assert any("floor" in text for text in found.warnings)


def test_a_published_information_at_its_cap_is_warned_of() -> None:
    model, x = vae(orthogonal(50.0, 40.0, size=4), 0.1), 30 * torch.randn(100, 4)

    found = evaluate(model, x, 0, batch_size=4)

    assert any("`mi_published` is at its cap, 1.39" in text for text in found.warnings)
    assert found.to_json()["mi_published"]["saturated"] is True


def test_arrays_are_measured_like_tensors_in_batches() -> None:
    x, model = data(), vae(WEIGHT, SIGMA)

    found, split = evaluate(model, x.double().numpy(), 5, batch_size=32), evaluate(model, x.split(32), 5)

    torch.testing.assert_close(figures(found), figures(split))


def test_degenerate_weights_are_warned_of() -> None:
    found = evaluate(vae(WEIGHT, SIGMA, shift=8.0), data(), 50)

    assert any("degenerate" in text for text in found.warnings)


@pytest.mark.parametrize("n", [1, 60])
def test_an_evaluation_is_json(n: int) -> None:
    found = json.loads(json.dumps(evaluate(vae(WEIGHT, SIGMA), data(n), 5).to_json(), allow_nan=False))

    more = ("kl_per_group", "variance_of_means", "active_by_channel", "samples", "seed", "warnings")
    assert set(found) == {*NAMES, *more}
    assert found["nll"]["n"] == n
    assert len(found["kl_per_group"]) == 2


def test_an_evaluation_prints_one_aligned_line_a_figure() -> None:
    found = evaluate(vae(WEIGHT, SIGMA), data(20), 0)

    lines = str(found).splitlines()

    assert len(lines) == len(NAMES) + len(found.warnings)
    assert lines[0] == "nll                not available: asked for 0 importance samples"
    assert lines[1].startswith("neg_elbo           ")
    assert lines[1].endswith(" nats/item")
    assert lines[len(NAMES)].startswith("warning: only 20 items")


class Shaped(nn.Module):
    """q(z | x) of x itself, and its mirror, in three channels of two by two units, of which one says nothing."""

    def forward(self, x: Tensor) -> Distribution:
        mean = torch.stack([x, 0 * x, -x], 1)
        return uc.gaussian(mean, torch.zeros_like(mean))


class FirstChannel(nn.Module):
    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        return Independent(Normal(z[:, :, 0], 1.0), 2)


def shaped() -> uc.VAE:
    return uc.VAE(Shaped(), FirstChannel(), uc.StandardNormal((3, 2, 2)))


def test_latents_with_a_shape_keep_it_and_are_reported_by_channel() -> None:
    x = torch.randn(40, 2, 2)
    found = evaluate(shaped(), x, samples=3)

    assert found.rows.means.shape == (40, 3, 2, 2)  # pyright: ignore[reportOptionalMemberAccess]
    assert found.kl_per_group.shape == (12,)
    assert found.active_units.value == 8  # pyright: ignore[reportAttributeAccessIssue]
    assert found.to_json()["active_by_channel"] == [4, 0, 4]
    assert "active channels    2 of 3, by any of 4 units in each" in str(found)


def test_latents_with_a_shape_give_the_figures_of_the_same_ones_in_a_row() -> None:
    class Flat(Shaped):
        def forward(self, x: Tensor) -> Distribution:
            mean = super().forward(x).mean.flatten(1)
            return uc.gaussian(mean, torch.zeros_like(mean))

    class Decode(nn.Module):
        def forward(self, z: Tensor, seen: Tensor) -> Distribution:
            return Independent(Normal(z[..., :4].unflatten(-1, (2, 2)), 1.0), 2)

    x = torch.randn(40, 2, 2)
    row = uc.VAE(Flat(), Decode(), uc.StandardNormal(12))
    torch.testing.assert_close(figures(evaluate(shaped(), x, 3)), figures(evaluate(row, x, 3)))


class Dropping(nn.Module):
    """A model whose decoder has dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.vae, self.drop = vae(WEIGHT, SIGMA), nn.Dropout(0.5)

    def forward(self, x: Tensor, q: Distribution | None = None, samples: int = 1) -> Bound:
        found = self.vae(x, q, samples)
        return found._replace(log_likelihood=self.drop(found.log_likelihood))


def test_a_plain_function_is_run_as_it_is_with_a_warning_and_the_same_noise_each_time() -> None:
    model, x = Dropping(), data()

    found, again = (evaluate(lambda x, q=None, samples=1: model(x, q, samples), x, 0) for _ in range(2))

    assert ["`.eval()`" in text for text in found.warnings] == [True]
    assert torch.equal(figures(found), figures(again))
    assert found.distortion != evaluate(model, x, 0).distortion
    assert evaluate(model, x, 0).warnings == ()


def test_a_model_that_ignores_the_law_it_is_given_is_warned_of() -> None:
    class Deaf(Dropping):
        def forward(self, x: Tensor, q: Distribution | None = None, samples: int = 1) -> Bound:
            return super().forward(x, None, samples)

    found = evaluate(Deaf(), data(), 0, batch_size=25)

    assert ["does not draw z from the `q`" in text for text in found.warnings] == [True]


class Blind(nn.Module):
    def forward(self, x: Tensor) -> None: ...


def blind(x: Tensor) -> None: ...


@pytest.mark.parametrize("model", [Blind(), blind])
def test_a_model_with_another_signature_is_refused_with_the_one_it_needs(model: Any) -> None:
    with pytest.raises(InputError, match=r"`[Bb]lind` cannot be evaluated.*`\(x, q=None, samples=1\)`"):
        evaluate(model, data())


@pytest.mark.parametrize(
    "numbers", [{"mi_passes": 0}, {"mi_items": 0}, {"chunk": 0}, {"chunk": -1}, {"bound_samples": 0}]
)
def test_numbers_of_draws_that_make_no_sense_are_refused(numbers: Any) -> None:
    name = next(iter(numbers))
    with pytest.raises(InputError, match=f"{name}={numbers[name]}.*at least"):
        evaluate(vae(WEIGHT, SIGMA), torch.zeros(4, 4), samples=2, **numbers)


class Torn(nn.Module):
    """Gives a part of its bound in another shape."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.change = {name: torch.zeros(shape)}

    def forward(self, x: Tensor, q: Any = None, samples: int = 1) -> Bound:
        zeros = torch.zeros(samples, len(x))
        bound = Bound(x, zeros, zeros, zeros, zeros, torch.zeros(len(x), 1), None, None)
        return bound._replace(**self.change)


@pytest.mark.parametrize(
    ("name", "shape"), [("log_likelihood", (1, 4, 5)), ("log_q", (4,)), ("log_p", (1, 1)), ("kl", (4,)), ("kl", (1, 4))]
)
def test_a_bound_of_another_shape_is_refused_with_the_one_it_needs(name: str, shape: tuple[int, ...]) -> None:
    says = rf"`{name}` has the shape .*, and should have the shape \((1, 4|4, \d)\).*Independent"
    with pytest.raises(InputError, match=says):
        evaluate(Torn(name, shape), torch.zeros(4, 5), samples=0, bound_samples=1)


class Several(nn.Module):
    """Draws three times where nobody says how often."""

    def forward(self, x: Tensor, q: Any = None, samples: int = 3) -> Bound:
        zeros = torch.zeros(samples, len(x))
        return Bound(x, zeros, zeros, zeros, zeros, torch.zeros(len(x), 1), None, None)


def test_how_often_a_model_draws_unasked_is_its_own_affair() -> None:
    x = torch.zeros(4, 5)
    assert inferred(amortised, Several(), x, plain)[0].log_likelihood.shape == (3, 4)  # pyright: ignore
    assert posterior(Several(), x) is None
    assert evaluate(Several(), x, samples=2).nll.to_json()["value"] == 0


def test_a_part_of_a_bound_that_is_none_is_refused() -> None:
    torn = Torn("kl", (1,))
    torn.change = {"kl": None}  # pyright: ignore
    with pytest.raises(InputError, match=r"`kl` is a `NoneType`, and should have the shape \(4, 1\)"):
        evaluate(torn, torch.zeros(4, 5))


def test_what_is_no_bound_is_refused() -> None:
    with pytest.raises(InputError, match="must return a `Bound`, and returned `Tensor`"):
        evaluate(lambda x, q=None, samples=1: x, torch.zeros(4, 5))
