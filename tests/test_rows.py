"""Rows: the same item gets the same noise, whatever surrounds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Laplace, MultivariateNormal, Normal, Uniform
from torch.utils.data import DataLoader, TensorDataset

from linear_gaussian import orthogonal, vae
from uncollapse.bound import Bound
from uncollapse.data.batches import Batched, in_order
from uncollapse.distributions import operations
from uncollapse.errors import InputError
from uncollapse.metrics.draws import draw
from uncollapse.metrics.rows import Rows, collect
from uncollapse.model import VAE
from uncollapse.posteriors import gaussian
from uncollapse.priors import StandardNormal

COLUMNS = ("items", "distortion", "kl", "log_evidence", "effective", "means")


def _laplace(loc: Tensor, scale: Tensor) -> Distribution:
    return Independent(Laplace(loc, scale, validate_args=False), 1, validate_args=False)


LAWS: dict[str, Callable[[int], Distribution]] = {
    "gaussian": lambda n: gaussian(torch.randn(n, 3), torch.randn(n, 3)),
    "gaussian in time": lambda n: Independent(Normal(torch.randn(n, 2, 3), torch.rand(n, 2, 3) + 0.1), 2),
    "laplace": lambda n: _laplace(torch.randn(n, 3), torch.rand(n, 3) + 0.1),
}


class LaplaceVAE(VAE):
    """A posterior whose draws are not Gaussian and whose KL has no closed form."""

    def __init__(self) -> None:
        linear = vae(orthogonal(1.5, 0.8, size=4), 0.7)
        super().__init__(linear.encoder, linear.decoder, linear.prior)

    def forward(self, x: Tensor, q: Distribution | None = None, samples: int = 1) -> Bound:
        own = self.encoder(x).base_dist
        return super().forward(x, _laplace(own.loc, own.scale) if q is None else q, samples)


MODELS: dict[str, Callable[[], VAE]] = {
    "gaussian": lambda: vae(orthogonal(1.5, 0.8, size=4), 0.7, shift=0.5),
    "laplace": LaplaceVAE,
}


class Pair(NamedTuple):
    target: Tensor
    seen: Tensor
    symbols: Tensor


def assert_same(a: Rows, b: Rows) -> None:
    for name in COLUMNS:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("fewer", [1, 5, 17])
def test_fewer_draws_are_the_first_of_more(name: str, fewer: int) -> None:
    law = LAWS[name](4)

    few, many = (draw(law, 0, "weights", range(4), count) for count in (fewer, 50))

    assert few.shape == (fewer, 4, *law.event_shape)
    assert torch.equal(few, many[:fewer])


@pytest.mark.parametrize("name", LAWS)
def test_the_draws_of_an_item_do_not_depend_on_its_company(name: str) -> None:
    law = LAWS[name](6)

    alone = draw(operations.take(law, torch.tensor([4, 2])), 0, "weights", [4, 2], 5)

    assert torch.equal(alone, draw(law, 0, "weights", range(6), 5)[:, [4, 2]])


@pytest.mark.parametrize("name", LAWS)
def test_draws_follow_the_law(name: str) -> None:
    law = LAWS[name](1)

    z = draw(law, 0, "weights", [0], 20_000).flatten(1)

    mean, variance = law.mean.flatten(), law.variance.flatten()
    torch.testing.assert_close(z.mean(0), mean, rtol=0, atol=5 * (variance.max() / 20_000).sqrt().item())
    torch.testing.assert_close(z.var(0), variance, rtol=0.1, atol=0)


@pytest.mark.parametrize("change", [{"seed": 1}, {"purpose": "bound"}, {"items": [1]}])
def test_seed_purpose_and_item_each_change_the_draws(change: dict) -> None:
    law = gaussian(torch.zeros(1, 3), torch.zeros(1, 3))
    asked = {"seed": 0, "purpose": "weights", "items": [0]}

    assert not torch.equal(draw(law, **asked, count=5), draw(law, **(asked | change), count=5))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("size", "chunk", "flipped"), [(1, None, False), (7, 3, False), (7, 3, True), (30, 64, True), (4, 1, False)]
)
def test_rows_do_not_depend_on_batching_chunks_or_order(name: str, size: int, chunk: int | None, flipped: bool) -> None:
    x, model = torch.randn(30, 4), MODELS[name]()
    groups = in_order(30, size)[::-1] if flipped else in_order(30, size)

    assert_same(
        collect(model, Batched(x.__getitem__, groups), 40, 10, chunk=chunk),
        collect(model, x, 40, 10),
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", MODELS)
def test_rows_do_not_depend_on_how_many_parts_they_are_joined_from(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = Batched(torch.randn(30, 4).__getitem__, in_order(30, 4)[::-1]), MODELS[name]()
    whole = collect(model, data, 5)

    monkeypatch.setattr("uncollapse.metrics.rows.JOINED", 3)
    parts = collect(model, data, 5)

    assert_same(parts, whole)
    assert torch.equal(parts.batch, whole.batch)
    assert parts.items.tolist() == list(range(30))


@pytest.mark.usefixtures("float64")
def test_the_bound_does_not_depend_on_how_many_weights_are_drawn() -> None:
    x, model = torch.randn(9, 4), MODELS["gaussian"]()

    assert torch.equal(collect(model, x, 0, 10).distortion, collect(model, x, 40, 10).distortion)
    assert torch.equal(
        *(collect(model, x, 40, draws, chunk=40).log_evidence for draws in (1, 10))  # pyright: ignore[reportArgumentType]
    )


@pytest.mark.usefixtures("float64")
def test_every_way_to_hand_over_batches_gives_the_same_rows() -> None:
    x, model = torch.randn(9, 4), MODELS["gaussian"]()

    class Indexed:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, i: int) -> Tensor:
            return x.split(3)[i] if i < 3 else torch.empty(0)

    expected = collect(model, x, 5)
    for data in (list(x.split(3)), Indexed(), x.numpy(), TensorDataset(x, torch.zeros(9))):
        assert_same(collect(model, data, 5, batch_size=2), expected)


def test_a_namedtuple_of_tensors_is_one_batch_and_brings_its_symbols() -> None:
    x, model = torch.randn(5, 4), MODELS["gaussian"]()

    rows = collect(lambda x, **more: model(x.target, **more), Pair(x, x, torch.arange(5)), 3)

    assert rows.symbols is not None
    assert rows.symbols.tolist() == [0, 1, 2, 3, 4]
    assert rows.batch.tolist() == [0] * 5


def test_rows_say_which_batch_an_item_came_in() -> None:
    groups = [torch.tensor([4, 0]), torch.tensor([1, 3, 2])]

    rows = collect(MODELS["gaussian"](), Batched(torch.randn(5, 4).__getitem__, groups), 3)

    assert rows.items.tolist() == [0, 1, 2, 3, 4]
    assert rows.batch.tolist() == [0, 1, 1, 1, 0]


def test_every_pass_is_in_evaluation_mode_without_gradient_and_the_modes_come_back() -> None:
    model, passes = MODELS["gaussian"](), []
    model.train()
    model.decoder.eval()
    modes = [m.training for m in model.modules()]
    model.register_forward_hook(lambda m, _, out: passes.append((m.training, torch.is_grad_enabled())))

    collect(model, torch.randn(5, 4), 3)

    assert set(passes) == {(False, False)}
    assert [m.training for m in model.modules()] == modes


def test_evaluation_does_not_touch_the_random_state() -> None:
    model, x = MODELS["laplace"](), torch.randn(5, 4)
    before = torch.get_rng_state()

    collect(model, x, 3)

    assert torch.equal(torch.get_rng_state(), before)


def test_the_modes_are_restored_after_an_error() -> None:
    class Broken(nn.Module):
        def forward(self, *_: object, **__: object) -> Bound:
            raise RuntimeError("broken")

    model = Broken()

    with pytest.raises(RuntimeError, match="broken"):
        collect(model, torch.randn(5, 4))
    assert model.training


def test_a_plain_function_and_a_model_that_only_has_players_will_do() -> None:
    model, x = MODELS["gaussian"](), torch.randn(5, 4)

    class Players:
        def __call__(self, *args: Tensor, **more: Distribution) -> Bound:
            assert not model.decoder.training
            return model(*args, **more)

        def players(self) -> dict[str, nn.Module]:
            return model.players()

    expected = collect(model, x, 3)
    assert_same(collect(lambda *args, **more: model(*args, **more), x, 3), expected)
    assert_same(collect(Players(), x, 3), expected)


def test_a_model_whose_posterior_depends_on_the_path_draws_for_itself() -> None:
    model, x = MODELS["gaussian"](), torch.randn(6, 4)

    def path(x: Tensor, q: None = None, samples: int = 1) -> Bound:
        return model(x, samples=samples)._replace(q=None)

    rows, again = (collect(path, x.split(3), 20) for _ in range(2))

    assert rows.law is None
    assert rows.means is None
    assert torch.equal(rows.log_evidence, again.log_evidence)  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("float64")
def test_a_model_without_latent_units_gives_its_likelihood_at_one_draw() -> None:
    decoder = vae(torch.zeros(4, 1), 0.7).decoder
    calls = []

    def model(x: Tensor, q: Distribution | None = None, samples: int = 1) -> Bound:
        calls.append(samples)
        q, p = q or gaussian(torch.empty(len(x), 0), torch.empty(len(x), 0)), StandardNormal(0)()
        z = q.rsample(torch.Size((samples,)))
        likelihood = decoder(torch.zeros(samples, len(x), 1), x).log_prob(x)
        return Bound(x, z, likelihood, q.log_prob(z), p.log_prob(z), torch.zeros(len(x), 1), q, p)

    x = torch.randn(5, 4)
    rows = collect(model, x, 500)

    exact = Independent(Normal(torch.zeros(4), 0.7), 1).log_prob(x)
    torch.testing.assert_close(rows.log_evidence, exact)
    torch.testing.assert_close(rows.neg_elbo, -exact)
    torch.testing.assert_close(rows.effective, torch.full((5,), 500.0))
    assert calls == [1, 1, 1]


def test_groups_that_a_batch_lacks_cost_nothing() -> None:
    model, x = MODELS["gaussian"](), torch.randn(6, 4)

    def steps(x: Tensor, q: Distribution | None = None, samples: int = 1) -> Bound:
        found = model(x, q, samples)
        return found._replace(kl=torch.ones(len(x), len(x)))

    assert collect(steps, [x[:2], x[2:]], 0).kl.sum(1).tolist() == [2, 2, 4, 4, 4, 4]


def test_a_law_without_a_mean_leaves_the_means_out() -> None:
    class Unknown(Normal):
        @property
        def mean(self) -> Tensor:
            raise NotImplementedError

    encoder = vae(orthogonal(1.5, size=4), 0.7).encoder

    class Model(LaplaceVAE):
        def forward(self, x: Tensor, q: Distribution | None = None, samples: int = 1) -> Bound:
            own = encoder(x).base_dist
            law = Independent(Unknown(own.loc.expand(-1, 2), own.scale.expand(-1, 2), validate_args=False), 1)
            return VAE.forward(self, x, law if q is None else q, samples)

    assert collect(Model(), torch.randn(5, 4), 3).means is None


@pytest.mark.parametrize("name", MODELS)
def test_rows_come_back_from_a_file(name: str, tmp_path: Path) -> None:
    rows = replace(collect(MODELS[name](), torch.randn(5, 4), 3, seed=7), warnings=("beware",))
    rows.save(tmp_path / "rows.safetensors")

    found = Rows.load(tmp_path / "rows.safetensors")

    assert_same(found, rows)
    assert found.symbols is None
    assert (found.samples, found.bound_samples, found.seed, found.warnings) == (3, 10, 7, ("beware",))
    z = torch.randn(5, 2)
    assert torch.equal(found.law.log_prob(z), rows.law.log_prob(z))  # pyright: ignore[reportOptionalMemberAccess]


def test_a_law_of_someone_else_is_not_restored_from_a_file(tmp_path: Path) -> None:
    class Mine(Normal):
        pass

    rows = collect(MODELS["gaussian"](), torch.randn(5, 4), 3)
    law = Independent(Mine(torch.zeros(5, 2), torch.ones(5, 2)), 1)
    replace(rows, law=law).save(tmp_path / "rows.safetensors")

    assert Rows.load(tmp_path / "rows.safetensors").law is None


@pytest.mark.parametrize(("samples", "bound_samples"), [(-1, 10), (5, 0)])
def test_counts_that_make_no_sense_are_refused(samples: int, bound_samples: int) -> None:
    with pytest.raises(InputError, match="give `samples` of at least 0"):
        collect(MODELS["gaussian"](), torch.randn(5, 4), samples, bound_samples)


@pytest.mark.parametrize(
    "data", [iter([torch.zeros(2, 4)]), DataLoader(TensorDataset(torch.zeros(2, 4)), drop_last=True)]
)
def test_what_can_be_read_once_is_not_evaluated(data: Any) -> None:
    with pytest.raises(InputError, match="a source with a length and an index"):
        collect(MODELS["gaussian"](), data)


def test_one_tensor_is_split_into_batches_in_order() -> None:
    rows = collect(MODELS["gaussian"](), torch.randn(5, 4), 3, batch_size=2)

    assert rows.items.tolist() == [0, 1, 2, 3, 4]
    assert rows.batch.tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(("name", "passes"), [("gaussian", 1), ("laplace", 2)])
def test_the_stock_model_is_asked_for_its_posterior_without_a_pass_of_the_decoder(name: str, passes: int) -> None:
    model, seen = MODELS[name](), []
    model.decoder.register_forward_hook(lambda *_: seen.append(1))

    collect(model, [torch.randn(6, 4)], samples=0, bound_samples=1)

    assert len(seen) == passes  # A model with a forward of its own may have a posterior of its own.


def families(loc: Tensor, spread: Tensor) -> list[Any]:
    """Laws, some of which somebody has looked at: torch keeps what it works out."""
    covariance = torch.diag_embed(spread)
    laws = [
        Independent(Uniform(loc, loc + spread), 1),
        MultivariateNormal(loc, covariance),
        MultivariateNormal(loc, precision_matrix=covariance),
        MultivariateNormal(loc, scale_tril=covariance),
        Independent(Bernoulli(logits=loc), 1),
        Independent(Bernoulli(probs=loc.sigmoid()), 1),
    ]
    for law in laws[1:4]:
        _ = law.precision_matrix, law.covariance_matrix, law.scale_tril
    for law in laws[4:]:
        _ = law.base_dist.logits, law.base_dist.probs
    return laws


@pytest.mark.parametrize("number", range(6))
def test_some_items_of_a_law_are_the_law_of_those_items(number: int) -> None:
    law = families(torch.randn(4, 3), torch.rand(4, 3) + 0.5)[number]
    x = law.sample()
    for which in (operations.take(law, slice(1, 3)), operations.take(operations.cat([law, law]), slice(5, 7))):
        torch.testing.assert_close(which.log_prob(x[1:3]), law.log_prob(x)[1:3])
    pairs = operations.pairwise_log_prob(law, x) if number in (1, 2, 3) else None
    assert pairs is None or torch.allclose(pairs.diagonal(), law.log_prob(x), atol=1e-5)
