"""Z-Forcing: a latent variable at every step, and a bound on paths."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from uncollapse.bound import checked
from uncollapse.cli import main
from uncollapse.data.text import END, PAD, START, Text
from uncollapse.decoding import beam, greedy, sample
from uncollapse.errors import InputError
from uncollapse.metrics.evaluation import evaluate
from uncollapse.model import ask
from uncollapse.nets.stochastic import BackwardLSTM, Perceptron, StochasticLSTM, ZForcing
from uncollapse.objective import Objective
from uncollapse.terms.auxiliary import Auxiliary
from uncollapse.terms.rates import distortion, rate

pytestmark = pytest.mark.usefixtures("float64")
V = 9


def model(latent: int = 3, hidden: int = 6, skip: bool = False, span: float = 0.5) -> ZForcing:
    """A small model with large weights, in evaluation mode."""
    made = ZForcing(BackwardLSTM(V, 4, 5), StochasticLSTM(V, 4, hidden, latent, skip=skip))
    for parameter in made.parameters():
        nn.init.uniform_(parameter, -span, span)
    return made.eval()


def text(*items: list[int]) -> Text:
    length = max(map(len, items))
    return Text(torch.tensor([[START, *item, END, *[PAD] * (length - len(item))] for item in items]))


X = text([5, 4, 6, 8], [7, 4], [4, 4, 8])


@pytest.fixture
def noiseless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw is the posterior's mean."""
    monkeypatch.setattr(torch, "randn", torch.zeros)


# The parts.


def test_a_perceptron_is_a_layer_of_leaky_units_and_its_numbers_are_bounded() -> None:
    made = Perceptron(1, 1, 1)
    made.hidden.weight.data, made.hidden.bias.data = torch.tensor([[1.0]]), torch.tensor([0.0])
    made.output.weight.data, made.output.bias.data = torch.tensor([[2.0], [-1.0]]), torch.tensor([0.0, 0.5])
    law = made(torch.tensor([[0.6], [-0.6], [50.0], [-50.0]]))

    torch.testing.assert_close(law.loc.flatten(), torch.tensor([1.2, -0.4, 6.0, -6.0]))
    torch.testing.assert_close(law.scale.square().log().flatten(), torch.tensor([-0.1, 0.7, -2.5, 3.5]))
    made.output.weight.data *= 100
    assert made(torch.tensor([[9.0], [-9.0]])).loc.flatten().tolist() == [8.0, -8.0]


def test_the_backward_network_has_read_all_that_follows_and_nothing_else() -> None:
    encoder = model().encoder
    states = encoder(X.tokens)

    for row, tokens in zip(states, X.tokens, strict=True):
        targets = tokens[1:][tokens[1:] != PAD]
        for t in range(len(targets)):
            alone, _ = encoder.lstm(encoder.embedding(targets[t:].flip(0)).unsqueeze(0))
            torch.testing.assert_close(row[t], alone[0, -1])


def test_the_backward_network_is_a_language_model_from_the_end_to_the_beginning() -> None:
    encoder = model().encoder
    found = encoder.log_prob(encoder(X.tokens), X.tokens)

    for i, tokens in enumerate(X.tokens):
        backwards = tokens[tokens != PAD].flip(0)
        states, _ = encoder.lstm(encoder.embedding(backwards[:-1]).unsqueeze(0))
        logits = encoder.output(states[0])
        torch.testing.assert_close(found[i], -nn.functional.cross_entropy(logits, backwards[1:], reduction="sum"))


def test_the_forcing_cost_is_that_of_the_reference(noiseless: None) -> None:
    made = ZForcing(BackwardLSTM(V, 4, 2), StochasticLSTM(V, 4, 6, 3))
    nn.init.zeros_(made.forced.output.weight)
    made.forced.output.bias.data = torch.tensor([0.5, 0.0, math.log(0.04), 0.0])
    x = text([5])
    # Of two steps, both with this state.
    made.encoder.forward = lambda tokens: torch.tensor([0.3, -0.2]).expand(1, 2, 2)  # pyright: ignore

    assert made(x).extras["forcing"].item() == pytest.approx(-2 * 0.576964, abs=2e-6)


# The bound.


def plain(made: ZForcing, x: Text) -> Tensor:
    """log p(x) of the recurrent language model with the same weights, which knows no z."""
    decoder = made.decoder
    lstm = nn.LSTM(decoder.embedding.embedding_dim, decoder.size, batch_first=True)
    for name, value in decoder.cell.named_parameters():
        value = value[:, : lstm.input_size] if name == "weight_ih" else value
        getattr(lstm, f"{name}_l0").data = value
    logits = decoder.output(lstm(decoder.embedding(x.seen))[0])
    each = nn.functional.cross_entropy(logits.transpose(1, 2), x.target, reduction="none", ignore_index=PAD)
    return -each.sum(1)


def test_without_latents_it_is_the_plain_recurrent_language_model() -> None:
    made = model()
    nn.init.zeros_(made.decoder.cell.weight_ih[:, 4:])
    found = made(X, samples=2)

    torch.testing.assert_close(found.log_likelihood, plain(made, X).expand(2, -1))
    with pytest.warns(UserWarning, match="zero-element"):
        none = ZForcing(BackwardLSTM(V, 4, 5), StochasticLSTM(V, 4, 6, 0)).eval()
    found = none(X, samples=2)
    torch.testing.assert_close(found.log_likelihood, plain(none, X).expand(2, -1))
    assert found.kl.eq(0).all()
    assert found.log_p.eq(0).all()
    assert found.log_q.eq(0).all()


def by_hand(made: ZForcing, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log p(x, z), log q(z | x) and both steps' KL of one text of two predictions, for z (N, 2), step by step."""
    x, decoder = text([5]), made.decoder
    ahead, tokens = made.encoder(x.tokens)[0], x.tokens[0]
    state = (torch.zeros(len(z), decoder.size),) * 2
    log_joint, log_q, kl = torch.zeros(len(z)), torch.zeros(len(z)), []
    for t in range(2):
        p = decoder.prior(state[0])
        q = made.posterior(torch.cat([state[0], ahead[t].expand(len(z), -1)], 1))
        kl.append(torch.distributions.kl_divergence(Normal(q.loc, q.scale), Normal(p.loc, p.scale)).sum(1))
        embedded = decoder.embedding(tokens[t]).expand(len(z), -1)
        state = decoder.cell(torch.cat([embedded, z[:, t : t + 1]], 1), state)
        log_joint = log_joint + p.log_prob(z[:, t : t + 1]).sum(1)
        log_joint = log_joint + decoder.output(state[0]).log_softmax(1)[:, tokens[t + 1]]
        log_q = log_q + q.log_prob(z[:, t : t + 1]).sum(1)
    return log_joint, log_q, kl[0], kl[1]


@torch.no_grad()
def test_the_bound_and_the_evidence_are_those_of_the_integrals_over_paths() -> None:
    made, x = model(latent=1, span=0.9), text([5])
    side = torch.linspace(-12, 12, 301)
    grid, cell = torch.cartesian_prod(side, side), (side[1] - side[0]).item() ** 2
    log_joint, log_q, *kl = by_hand(made, grid)
    weight = log_q.exp() * cell
    assert weight.sum().item() == pytest.approx(1, abs=1e-6)
    evidence = (log_joint.exp() * cell).sum().log().item()
    bound = (weight * (log_joint - log_q)).sum().item()

    found = made(x, samples=40_000)

    weights = found.log_weights[:, 0]
    error = (weights.exp().std() / weights.exp().mean() / 200).item()
    assert torch.logsumexp(weights, 0).item() - math.log(40_000) == pytest.approx(evidence, abs=4 * error)
    assert weights.mean().item() == pytest.approx(bound, abs=4 * weights.std().item() / 200)
    each = found.log_likelihood[:, 0]
    whole = each.mean().item() - found.rate.item()
    assert whole == pytest.approx(bound, abs=4 * (each.std().item() + 1) / 200)
    assert found.kl[0].tolist() == pytest.approx([(weight * k).sum().item() for k in kl], abs=0.02)
    assert evidence > bound + 0.01
    path = by_hand(made, found.z[:, 0, :, 0])
    torch.testing.assert_close(found.log_q[:, 0], path[1])
    torch.testing.assert_close(found.log_likelihood[:, 0] + found.log_p[:, 0], path[0])


def test_the_rate_is_by_step_and_what_is_not_there_costs_nothing(noiseless: None) -> None:
    made = model()
    both = checked(made(X, samples=2), X, 2)

    assert both.kl.gt(0).tolist() == X.target.ne(PAD).tolist()
    for i, item in enumerate(([5, 4, 6, 8], [7, 4], [4, 4, 8])):
        alone = made(text(item))
        for name in ("log_likelihood", "log_q", "log_p"):
            torch.testing.assert_close(getattr(both, name)[1, i], getattr(alone, name)[0, 0])
        torch.testing.assert_close(both.rate[i], alone.rate[0])
        for name, value in both.extras.items():
            torch.testing.assert_close(value[i], alone.extras[name][0])


def test_each_sample_walks_a_path_of_its_own() -> None:
    found = model(span=1.5)(X, samples=3)

    assert found.z.shape == (3, 3, 5, 3)
    assert len({value.item() for value in found.log_likelihood[:, 0]}) == 3
    assert found.q is None
    assert found.p is None


def test_a_skip_takes_z_to_the_logits_too() -> None:
    made = model(skip=True)
    before = made(X).log_likelihood.sum()
    (gradient,) = torch.autograd.grad(before, made.decoder.output.weight)
    assert gradient[:, -3:].abs().sum() > 0


# What learns from what.


def gradients(value: Tensor, made: ZForcing) -> set[str]:
    made.zero_grad()
    value.backward()
    moved = {n for n, p in made.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    return {".".join(name.split(".")[:2]) for name in moved}


def test_the_forcing_teaches_z_and_not_what_it_is_held_against() -> None:
    made = model()
    found = made(X)
    direct = torch.autograd.grad(found.extras["forcing"].sum(), [found.z], retain_graph=True)[0]
    assert direct.abs().sum() > 0

    # With posteriors that read nothing, nothing of the cost may reach what reads the text from its end.
    nn.init.zeros_(made.posterior.hidden.weight)
    assert gradients(made(X).extras["forcing"].sum(), made) == {
        "forced.hidden", "forced.output", "posterior.hidden", "posterior.output",
    }  # fmt: skip


def test_the_backward_cost_teaches_what_reads_from_the_end_alone() -> None:
    made = model()
    assert gradients(made(X).extras["backward"].sum(), made) == {
        "encoder.embedding", "encoder.lstm", "encoder.output",
    }  # fmt: skip


def test_players_own_every_parameter_once() -> None:
    made = model()
    owned = [p for module in made.players().values() for p in module.parameters()]
    assert len(owned) == len(set(owned)) == len(list(made.parameters()))


def test_the_auxiliary_costs_are_descended_at_their_weights_and_are_in_no_figure() -> None:
    made = model()
    terms = {"distortion": distortion, "rate": rate, "forcing": Auxiliary("forcing")}
    bound = made(X)
    found = Objective(terms, {"forcing": 0.5})(bound)

    cost = -bound.extras["forcing"].mean()
    torch.testing.assert_close(found.parts["forcing"], cost)
    torch.testing.assert_close(found.total, bound.distortion.mean() + bound.rate.mean() + 0.5 * cost)
    with pytest.raises(InputError, match="reads the extra `forced`, and the model offers backward, forcing"):
        Auxiliary("forced")(bound)


def test_a_posterior_cannot_be_given() -> None:
    with pytest.raises(InputError, match="depends on the path"):
        ask(model(), X, Normal(0.0, 1.0))


# Use.


def test_an_evaluation_has_a_likelihood_and_says_what_it_has_not() -> None:
    made = model(span=1.0)
    found = evaluate(made, [X, text([5, 6]), text([8, 8, 8])], samples=20)

    assert found.nll.value <= found.neg_elbo.value  # pyright: ignore[reportAttributeAccessIssue]
    assert found.kl_per_group.shape == (5,)
    assert {name: value.shape for name, value in found.rows.extras.items()} == {"forcing": (5,), "backward": (5,)}
    for name in ("mi", "mi_published", "marginal_kl", "active_units"):
        assert "depends on the path" in getattr(found, name).reason


def test_what_is_written_has_the_probabilities_of_the_model() -> None:
    made = model(span=2.0)
    made.decoder.prior.output.bias.data[3:] = -8  # Almost no noise: one path.
    nn.init.zeros_(made.decoder.prior.output.weight[3:])
    z = made.prior_law().sample(torch.Size((2000,)))
    rows = sample(made.decoder, z, 1)
    first = torch.tensor([row[0] if row else END for row in rows])
    h, c = torch.zeros(1, 6), torch.zeros(1, 6)
    embedded = torch.cat([made.decoder.embedding(torch.tensor([START])), made.decoder.prior(h).loc], 1)
    chance = made.decoder.output(made.decoder.cell(embedded, (h, c))[0])[0]
    chance[[PAD, START]] = -torch.inf
    share = first.bincount(minlength=V) / 2000

    assert (share - chance.softmax(0)).abs().max() < 0.05
    few = z[:3]
    assert len(greedy(made.decoder, few, 5)) == len(beam(made.decoder, few, 5, 2)) == 3


def test_from_the_command_line_it_trains_writes_and_says_what_it_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_default_dtype(torch.float32)
    file, out = tmp_path / "x.txt", tmp_path / "run"
    file.write_text("\n".join(f"{a} {b} {c}" for a in "abc" for b in "xy" for c in "pq"), encoding="utf-8")
    sizes = [f"model.{net}.{size}=6" for net in ("encoder", "decoder") for size in ("embedding", "hidden")]
    settings = [part for one in [*sizes, "training.max_epochs=1"] for part in ("--set", one)]
    asked = ["fit", "text", "--train", file, "--with", "z-forcing+anneal", "--samples", 3, "--quiet", "--out", out]

    assert main([str(one) for one in [*asked, *settings]]) == 0
    said = capsys.readouterr().out
    assert f"uncollapse generate {out}" in said
    assert "uncollapse encode" not in said
    assert main(["generate", str(out), "-n", "3", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["texts"]) == 3
    for command in (
        ["encode", str(out), str(file), "-o", str(tmp_path / "z.npy")],
        ["reconstruct", str(out), str(file)],
    ):
        assert main(command) == 2
        assert "depends on the path, so that an item has no code" in capsys.readouterr().err
