"""A prior of draws without a density: what is learned by it, what is measured, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torch.optim import Adam

import uncollapse as uc
from test_cli import SET, write_text
from uncollapse.cli import main
from uncollapse.distributions.generated import Generated, has_density
from uncollapse.errors import InputError
from uncollapse.metrics.estimate import Estimate, Unavailable
from uncollapse.metrics.evaluation import evaluate
from uncollapse.nets.critics import LatentCritic
from uncollapse.nets.generator import GeneratedPrior, Generator
from uncollapse.posteriors.unit import unit_codes
from uncollapse.terms.adversarial import WassersteinPrior


class Decoder(nn.Linear):
    def forward(self, z: Tensor, seen: Any) -> Independent:
        return Independent(Normal(super().forward(z), 1.0), 1)


def model(noise: float = 0.05) -> uc.VAE:
    encoder = unit_codes(lambda outputs: nn.Linear(5, outputs), 3, noise)
    return uc.VAE(encoder, Decoder(3, 5), GeneratedPrior(3, noise=4, hidden=[8]))


def test_a_code_has_length_1_and_the_noise_that_is_asked(float64: None) -> None:
    law = unit_codes(lambda outputs: nn.Linear(5, outputs), 3, 0.2)(torch.randn(2000, 5))
    torch.testing.assert_close(law.mean.norm(dim=1), torch.ones(2000))
    assert (law.rsample() - law.mean).std().item() == pytest.approx(0.2, rel=0.05)
    torch.testing.assert_close(law.stddev, torch.full((2000, 3), 0.2))


def test_draws_are_what_the_network_makes_of_noise_and_have_no_density() -> None:
    law = Generated(nn.Linear(2, 3), torch.zeros(2), 3)
    draws = law.sample((20_000,))
    weight, bias = law.network.weight, law.network.bias  # pyright: ignore
    torch.testing.assert_close(draws.mean(0), bias.detach(), atol=0.03, rtol=0)
    torch.testing.assert_close(draws.T.cov(), (weight @ weight.T).detach(), atol=0.05, rtol=0)
    assert law.sample((2, 4)).shape == (2, 4, 3)
    assert not has_density(law)
    assert has_density(Independent(Normal(torch.zeros(3), 1.0), 1))
    with pytest.raises(InputError, match="no density that is known"):
        law.log_prob(draws)


def test_a_batch_of_one_item_has_the_statistics_of_many_draws() -> None:
    net = Generator([4, 8, 3]).train()
    assert net(torch.randn(1, 1, 4)).shape == (1, 1, 3)
    assert net(torch.randn(1, 1, 4)).isfinite().all()
    still = net.eval()
    noise = torch.randn(6, 4)
    torch.testing.assert_close(still(noise)[2:3], still(noise[2:3]))


def test_the_record_has_no_rate_and_no_density_of_the_prior() -> None:
    bound = model()(torch.randn(7, 5), samples=2)
    assert bound.kl.shape == (7, 0)
    assert bound.rate.eq(0).all()
    assert bound.log_p.isnan().all()
    assert bound.log_q.isfinite().all()


def test_the_generator_is_a_player_and_every_parameter_has_one() -> None:
    vae = model()
    players = vae.players()
    assert set(players) == {"inference", "generation", "generator"}
    owned = [p for player in players.values() for p in player.parameters()]
    assert {id(p) for p in owned} == {id(p) for p in vae.parameters()}
    assert len(owned) == len({id(p) for p in owned})


@pytest.mark.parametrize("share", [1.0, 0.1, 0.0])
def test_the_encoder_gets_its_share_of_the_gradient_and_the_generator_all_of_its_own(share: float) -> None:
    critic, x = LatentCritic(3, [8]), torch.randn(7, 5)

    def gradients(part: float) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)
        vae = model()
        torch.manual_seed(2)
        WassersteinPrior(critic, penalty=1.0, share=part)(vae(x)).backward()
        return vae.encoder.net.weight.grad, vae.prior.generator.output.weight.grad  # pyright: ignore

    (encoder, generator), (whole, same) = gradients(share), gradients(1.0)
    torch.testing.assert_close(encoder, share * whole)
    torch.testing.assert_close(generator, same)
    assert generator.any()


def test_the_critic_climbs_what_the_others_descend_and_teaches_them_nothing() -> None:
    vae, term = model(), WassersteinPrior(LatentCritic(3, [8]), penalty=0.0, clip=0.5)
    bound = vae(torch.randn(7, 5))
    torch.manual_seed(3)
    term.opposition(bound).backward()
    assert all(p.grad is None or not p.grad.any() for p in vae.prior.parameters())
    torch.manual_seed(3)
    assert term(bound).item() == pytest.approx(-term.opposition(bound).item(), abs=1)


def test_a_generator_learns_the_law_of_the_codes() -> None:
    torch.manual_seed(0)
    prior, term = GeneratedPrior(2, noise=4, hidden=[32]).train(), WassersteinPrior(LatentCritic(2, [32]), penalty=1.0)
    mine, critics = Adam(prior.parameters(), 3e-3, betas=(0.5, 0.9)), Adam(term.critic.parameters(), 3e-3, (0.5, 0.9))
    where, spread = torch.tensor([2.0, -1.0]), torch.tensor([0.3, 0.6])

    def bound() -> uc.Bound:
        z, empty = where + spread * torch.randn(1, 128, 2), torch.empty(1, 128)
        return uc.Bound(z[0], z, empty, empty, empty, torch.empty(128, 0), None, prior())

    for _ in range(500):
        for _ in range(5):
            critics.zero_grad()
            term.opposition(bound()).backward()
            critics.step()
        mine.zero_grad()
        term(bound()).backward()
        mine.step()
    draws = prior.eval()().sample((2000,))
    torch.testing.assert_close(draws.mean(0), where, atol=0.25, rtol=0)
    assert (draws.std(0) / spread).log().abs().max() < 0.5


def test_an_evaluation_has_no_bound_and_says_why_and_what_the_codes_say() -> None:
    figures = evaluate(model(0.3), torch.randn(60, 5), samples=4)
    for name in ("nll", "neg_elbo", "kl", "marginal_kl", "effective_samples"):
        assert isinstance(getattr(figures, name), Unavailable)
        assert "no density" in getattr(figures, name).reason
    assert isinstance(figures.mi, Estimate)
    assert isinstance(figures.distortion, Estimate)
    assert any("cannot be ranked" in warning for warning in figures.warnings)


# The row, from training to the report.


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arae")
    path = write_text(folder / "a.txt", 60)
    fit = ["fit", "text", "--train", str(path), "--with", "arae", *SET, "--set", "training.max_epochs=2"]
    assert main([*fit, "--samples", "2", "--quiet", "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_the_row_is_trained_used_diagnosed_and_reported(run: Path, tmp_path: Path, capsys: Any) -> None:
    def said(*command: object) -> str:
        assert main([str(word) for word in command]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    assert len(said("generate", run, "-n", 3).splitlines()) == 3
    assert len(said("interpolate", run, "the cat sees a dog", "the dog hears a bird").splitlines()) == 5
    assert len(said("reconstruct", run, run.parent / "a.txt").splitlines()) == 60
    assert "no density" in said("evaluate", run, "--samples", 2)
    assert any(kind in said("diagnose", run) for kind in ("unknown", "collapse"))
    assert said("show", run)
    said("report", run, "-o", tmp_path / "r.html")
    assert "cannot be ranked" in (tmp_path / "r.html").read_text()
    assert "fppl" in said("score", run, "--against", run.parent / "a.txt", "-n", 20)


def test_it_is_compared_and_never_ranked(run: Path, tmp_path: Path, capsys: Any) -> None:
    path = run.parent / "a.txt"
    command = [
        "compare",
        "text",
        "--train",
        str(path),
        *SET,
        "--set",
        "training.max_epochs=1",
        "--remedies",
        "plain,arae",
    ]
    assert main([*command, "--seeds", "1", "--samples", "2", "--out", str(tmp_path / "c")]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("arae"))
    assert "n/a" in row
    assert "arae" not in out.partition("remedy − plain")[2] or "n/a" in out.partition("remedy − plain")[2]


def test_a_reason_is_said_once() -> None:
    lines = str(evaluate(model().eval(), torch.randn(40, 5), samples=2)).splitlines()
    said = {line.split("  ")[0]: line for line in lines}
    assert said["nll"].endswith("there is no rate, and no bound on the density of an item")
    assert all(said[name].endswith("  not available, as nll") for name in ("neg_elbo", "kl", "marginal_kl"))
    assert "nats/item" in said["distortion"]
