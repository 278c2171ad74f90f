"""VAEs written elsewhere, brought in as they are."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, ContinuousBernoulli, Distribution, Independent, Laplace, Normal
from torch.nn import functional as F

import uncollapse as uc
from uncollapse.training.trainer import Trainer


class Tutorial(nn.Module):
    """The VAE of pytorch/examples, smaller."""

    def __init__(self, given: int = 12) -> None:
        super().__init__()
        self.fc1 = nn.Linear(12, 16)
        self.fc21 = nn.Linear(16, 3)
        self.fc22 = nn.Linear(16, 3)
        self.fc3 = nn.Linear(3, 16)
        self.fc4 = nn.Linear(16, given)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def decode(self, z: Tensor) -> Tensor:
        assert z.ndim == 2, "a tutorial's decoder knows one batch dimension"
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))


class Tied(nn.Module):
    """Encodes and decodes by one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(12, 3))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x @ self.weight, torch.zeros(len(x), 3)

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.weight.T


BITS = (torch.rand(60, 12, generator=torch.Generator().manual_seed(5)) > 0.6).float()
EXAMPLE = BITS[:4]


def test_the_bound_is_that_of_the_same_model_written_here() -> None:
    theirs = Tutorial()

    class Encode(nn.Module):
        def forward(self, x: Tensor) -> Distribution:
            return uc.gaussian(*theirs.encode(x))

    class Decode(nn.Module):
        def forward(self, z: Tensor, seen: Tensor) -> Distribution:
            return Independent(Bernoulli(theirs.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])), 1)

    ours, model = uc.VAE(Encode(), Decode(), uc.StandardNormal(3)), uc.foreign(theirs, likelihood="bernoulli")
    torch.manual_seed(1)
    expected = ours(BITS, samples=4)
    torch.manual_seed(1)
    found = model(BITS, samples=4)
    for name in ("z", "log_likelihood", "log_q", "log_p", "kl"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("remedies", [[], ["aggressive"], ["anneal"], ["aggressive", "anneal"]])
def test_a_tutorial_s_vae_is_trained_and_measured(remedies: list[str], tmp_path: Path) -> None:
    vae = Tutorial()
    before = [parameter.clone() for parameter in vae.parameters()]
    model = uc.foreign(vae, likelihood="bernoulli", example=EXAMPLE)
    trained = uc.fit(model, BITS, BITS[:20], remedies, out=tmp_path, max_epochs=1, learning_rate=0.01, progress=False)

    assert all(not torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))
    assert isinstance(uc.evaluate(model, BITS, samples=5).nll, uc.Estimate)
    torch.testing.assert_close(trained.encode(BITS), vae.encode(BITS)[0])
    again = uc.load(tmp_path, model=uc.foreign(Tutorial(), likelihood="bernoulli", example=EXAMPLE))
    assert torch.equal(again.encode(BITS), trained.encode(BITS))


def names(model: uc.VAE) -> dict[str, set[str]]:
    """The last parts of the names of each player's parameters."""
    known = {id(parameter): name.split("networks.")[-1] for name, parameter in model.named_parameters()}
    return {player: {known[id(p)] for p in module.parameters()} for player, module in model.players().items()}


def test_the_halves_of_one_module_are_told_apart_by_an_example() -> None:
    found = names(uc.foreign(Tutorial(), likelihood="bernoulli", example=EXAMPLE))
    assert {name.split(".")[1] for name in found["inference"]} == {"fc1", "fc21", "fc22"}
    assert {name.split(".")[1] for name in found["generation"]} == {"fc3", "fc4"}


@pytest.mark.parametrize("example", [EXAMPLE.numpy(), (EXAMPLE, torch.zeros(4)), EXAMPLE.double()])
def test_an_example_is_in_any_form_that_data_may_have(example: Any) -> None:
    assert set(uc.foreign(Tutorial(), likelihood="bernoulli", example=example).players()) == {"inference", "generation"}


def test_an_example_leaves_module_and_noise_as_they_were() -> None:
    vae = nn.ModuleDict({"e": nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 6)), "d": nn.Linear(3, 12)})
    before, noise = deepcopy(vae.state_dict()), torch.get_rng_state()
    model = uc.foreign(
        vae, encode=lambda x: vae["e"](x).chunk(2, 1), decode=vae["d"], likelihood="bernoulli-logits", example=EXAMPLE
    )
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert torch.equal(noise, torch.get_rng_state())
    assert vae.training
    assert len(model.players()) == 2


def test_what_neither_half_uses_and_a_learned_scale_step_with_generation() -> None:
    vae = Tutorial()
    vae.spare = nn.Linear(2, 2)
    found = names(uc.foreign(vae, likelihood="gaussian", scale="learned", example=EXAMPLE))
    assert {"0.spare.weight", "0.spare.bias"} <= found["generation"]
    assert any(name.endswith("log_scale") for name in found["generation"])


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (
            lambda: uc.foreign(Tied(), likelihood="bernoulli-logits", example=EXAMPLE),
            r"both use `\S*weight`, and halves",
        ),
        (lambda: uc.foreign(Tutorial(), likelihood="bernoulli"), "Give `uncollapse.foreign` an `example`"),
    ],
    ids=["shared", "no example"],
)
def test_halves_that_share_parameters_or_that_nobody_can_tell_are_one_player(model: Any, why: str) -> None:
    model = model()
    assert list(model.players()) == ["model"]
    uc.fit(model, BITS, BITS[:20], ["anneal"], max_epochs=1, progress=False)
    with pytest.raises(uc.InputError, match=f"needs a player `inference`.*{why}"):
        uc.fit(model, BITS, BITS[:20], ["aggressive"], max_epochs=1, progress=False)


def test_modules_of_their_own_are_players_of_their_own() -> None:
    class Two(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x).chunk(2, 1)

    encode, decode = Two(12, 6), nn.Linear(3, 12)
    found = uc.foreign(encode=encode, decode=decode, likelihood="bernoulli-logits").players()
    assert [set(found[name].parameters()) for name in ("inference", "generation")] == [
        set(encode.parameters()),
        set(decode.parameters()),
    ]


def test_methods_of_modules_need_no_module() -> None:
    vae = Tutorial()
    model = uc.foreign(encode=vae.encode, decode=vae.decode, likelihood="bernoulli", example=EXAMPLE)
    assert set(model.parameters()) == set(vae.parameters())
    assert len(model.state_dict()) == len(vae.state_dict())
    assert len(model.players()) == 2


def test_two_wrappers_that_share_a_module_are_told_of_foreign() -> None:
    vae = Tutorial()

    class Encode(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vae = vae

        def forward(self, x: Tensor) -> Distribution:
            return uc.gaussian(*self.vae.encode(x))

    class Decode(Encode):
        def forward(self, z: Tensor, seen: Any) -> Distribution:  # pyright: ignore
            return Independent(Bernoulli(self.vae.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])), 1)

    with pytest.raises(uc.InputError, match=r"the players `inference` and `generation`.*`uncollapse.foreign\(module"):
        uc.fit(uc.VAE(Encode(), Decode(), uc.StandardNormal(3)), BITS, BITS, progress=False)


@pytest.mark.parametrize("use", [uc.evaluate, lambda model, x: uc.fit(model, x, x, progress=False)])
def test_a_module_with_encode_and_decode_is_told_of_foreign(use: Any) -> None:
    with pytest.raises(uc.InputError, match=r"`Tutorial` cannot be .*`uncollapse.foreign\(module"):
        use(Tutorial(), BITS)


# What a decoder gives, and of what law it is the parameters.

Z = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))


def given(value: Any, x: Tensor, likelihood: Any, **more: Any) -> Tensor:
    """log p(x | z) of a model whose decoder gives `value`, whatever z is."""
    home = nn.Linear(1, 1)
    model = uc.foreign(home, encode=lambda x: (Z, Z), decode=lambda z: value, likelihood=likelihood, **more)
    return model(x).log_likelihood[0]


LOGITS, POSITIVE = torch.randn(5, 6), torch.rand(5, 6) + 0.5
REAL, BINARY, CLASSES = torch.randn(5, 6), torch.ones(5, 6), torch.arange(5).unsqueeze(1).expand(5, 3) % 4


@pytest.mark.parametrize(
    ("value", "x", "likelihood", "more", "law"),
    [
        (LOGITS.sigmoid(), BINARY, "bernoulli", {}, Bernoulli(logits=LOGITS)),
        (LOGITS, BINARY, "bernoulli-logits", {}, Bernoulli(logits=LOGITS)),
        (LOGITS, REAL, "gaussian", {}, Normal(LOGITS, 1.0)),
        (LOGITS, REAL, "gaussian", {"scale": 0.3}, Normal(LOGITS, 0.3)),
        (LOGITS, REAL, "gaussian", {"scale": "learned"}, Normal(LOGITS, 1.0)),
        ((LOGITS, POSITIVE), REAL, "gaussian", {}, Normal(LOGITS, (0.5 * POSITIVE).exp())),
        (LOGITS, REAL, "laplace", {}, Laplace(LOGITS, 1.0)),
        ((LOGITS, POSITIVE), REAL, "laplace", {}, Laplace(LOGITS, POSITIVE)),
        (
            LOGITS.view(5, 3, 2).repeat(1, 1, 2),
            CLASSES,
            "categorical",
            {},
            Categorical(logits=LOGITS.view(5, 3, 2).repeat(1, 1, 2)),
        ),
        (POSITIVE / 2, BINARY / 3, ContinuousBernoulli, {}, ContinuousBernoulli(POSITIVE / 2)),
        (Normal(LOGITS, 2.0), REAL, None, {}, Normal(LOGITS, 2.0)),
        (Independent(Normal(LOGITS, 2.0), 1), REAL, None, {}, Normal(LOGITS, 2.0)),
    ],
)
def test_every_likelihood_is_summed_over_the_item(value: Any, x: Tensor, likelihood: Any, more: Any, law: Any) -> None:
    torch.testing.assert_close(given(value, x, likelihood, **more), law.log_prob(x).sum(1))


def test_images_are_reshaped_to_what_is_decoded() -> None:
    flat = given(LOGITS, BINARY, "bernoulli-logits")
    torch.testing.assert_close(given(LOGITS, BINARY.view(5, 1, 2, 3), "bernoulli-logits"), flat)
    torch.testing.assert_close(given(LOGITS.view(5, 1, 2, 3), BINARY, "bernoulli-logits"), flat)


def test_a_log_likelihood_of_ones_own_is_summed_over_the_item() -> None:
    def score(x: Tensor, z: Tensor) -> Tensor:
        return Normal(z.sum(1, keepdim=True), 1.0).log_prob(x)

    vae = Tutorial()
    model = uc.foreign(vae, log_likelihood=score)
    bound = model(BITS, samples=3)
    expected = Normal(bound.z.sum(2, keepdim=True), 1.0).log_prob(BITS).sum(2)
    torch.testing.assert_close(bound.log_likelihood, expected)


def test_latents_and_prior_have_the_shape_that_is_encoded() -> None:
    conv, back = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(2, 1, 1)
    model = uc.foreign(
        nn.ModuleList([conv, back]), encode=lambda x: conv(x).chunk(2, 1), decode=back, likelihood="bernoulli-logits"
    )
    x = BITS.view(60, 1, 3, 4)
    bound = model(x, samples=2)
    assert bound.z.shape == (2, 60, 2, 3, 4)
    assert bound.kl.shape == (60, 24)
    assert model.prior_law().event_shape == (2, 3, 4)
    assert uc.evaluate(model, x, samples=2).variance_of_means.shape == (2, 3, 4)  # pyright: ignore


def test_an_encoder_may_give_a_law() -> None:
    vae = Tutorial()
    model = uc.foreign(vae, encode=lambda x: Normal(*vae.encode(x[:, :12])[:1], 1.0), likelihood="bernoulli")
    assert model(BITS).kl.shape == (60, 3)


def test_a_copy_has_parameters_of_its_own() -> None:
    model = uc.foreign(Tutorial(), likelihood="bernoulli", example=EXAMPLE)
    copy = deepcopy(model)
    Trainer(copy, [BITS], [BITS], max_epochs=1).fit()
    for name, value in copy.named_parameters():
        assert not torch.equal(value, dict(model.named_parameters())[name]), name
    assert set(copy.players()["inference"].parameters()) < set(copy.parameters())


def test_the_prior_s_law_waits_for_the_shape_of_z() -> None:
    model = uc.foreign(Tutorial(), likelihood="bernoulli")
    with pytest.raises(uc.InputError, match="the shape of z is not known before the first batch"):
        model.prior_law()
    model(BITS)
    assert model.prior_law().event_shape == (3,)


WRONG: dict[str, tuple[Any, str]] = {
    "no halves": (lambda: uc.foreign(nn.Linear(2, 2), likelihood="bernoulli"), "`Linear` has no `encode`"),
    "nothing": (lambda: uc.foreign(likelihood="bernoulli"), "no module is given, so `encode` is missing"),
    "whose": (
        lambda: uc.foreign(encode=lambda x: x, decode=lambda z: z, likelihood="gaussian"),
        "nobody can see whose parameters `encode` uses",
    ),
    "likelihood": (lambda: uc.foreign(Tutorial(), likelihood="bernouli"), "Did you mean `bernoulli`"),  # pyright: ignore
    "no likelihood": (lambda: uc.foreign(Tutorial())(BITS), "`decode` gives a `Tensor`: say of what law"),
    "two": (lambda: uc.foreign(Tutorial(), log_likelihood=max, likelihood="bernoulli"), "leave out `decode` and"),  # pyright: ignore
    "scale": (lambda: uc.foreign(Tutorial(), likelihood="bernoulli", scale=2.0), "`scale` is of the likelihoods"),
    "no scale": (lambda: uc.foreign(Tutorial(), likelihood="gaussian", scale=-1.0), "cannot be `-1.0`"),
    "three of an encoder": (
        lambda: uc.foreign(Tutorial(), encode=lambda x: (x, x, x), likelihood="bernoulli")(BITS),
        r"must give `\(mean, log_variance\)`.*encode=lambda x",
    ),
    "two of a decoder": (
        lambda: uc.foreign(Tutorial(), decode=lambda z: (z, z), likelihood="bernoulli")(BITS),
        "gives 2 tensors, and the likelihood bernoulli takes 1 here",
    ),
    "logits": (lambda: given(5 * LOGITS, BINARY, "bernoulli"), "`probs` of a `Bernoulli`.*sigmoid.*logits"),
    "grey": (lambda: given(LOGITS, BINARY / 2, "bernoulli-logits"), "grey values is no log-likelihood"),
    "size": (lambda: uc.foreign(Tutorial(11), likelihood="bernoulli")(BITS), r"a law over \(11,\) an item.*\(12,\)"),
    "draws": (lambda: given(LOGITS[:4], BINARY, "gaussian"), r"with the shape \(4, 6\) for 5 draws of z"),
    "averaged": (
        lambda: uc.foreign(Tutorial(), log_likelihood=lambda x, z: x.mean())(BITS),
        "must give a number of nats for each: do not sum",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_a_model_is_refused_with_what_to_write(wrong: str) -> None:
    call, says = WRONG[wrong]
    with pytest.raises(uc.InputError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
