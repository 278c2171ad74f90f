"""The decoder without z: its likelihood is exact, and it is trained, measured and used as any model."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import uncollapse as uc
from test_weaken import D, V, text
from uncollapse.diagnosis import verdict
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.experiment.summary import Comparison
from uncollapse.experiment.trained import Trained
from uncollapse.language_model import language_model
from uncollapse.metrics.evaluation import Evaluation
from uncollapse.nets.dilated import DilatedDecoder
from uncollapse.nets.lstm import LSTMDecoder
from uncollapse.training.checkpoints import Checkpoints
from uncollapse.training.procedures import Aggressive
from uncollapse.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")


def decoder(latent: int = 0) -> LSTMDecoder:
    return LSTMDecoder(V, 5, 6, latent)


def test_the_bound_is_the_sum_of_the_tokens_log_probabilities(float64: None) -> None:
    net, x = decoder(), text()
    bound = language_model(net).eval()(x)

    for i, (seen, target) in enumerate(zip(x.seen, x.target, strict=True)):
        state, total = net.begin(torch.empty(1, 0)), torch.tensor(0.0)
        for before, after in zip(seen, target, strict=True):
            logits, state = net.next(before.view(1), state)
            total += logits.log_softmax(-1)[0, after] * (after != 0)
        torch.testing.assert_close(bound.log_likelihood[0, i], total)
    assert bound.z.shape == (1, len(x.seen), 0)
    assert bound.log_q.eq(0).all()
    assert bound.log_p.eq(0).all()
    assert bound.rate.eq(0).all()


def test_what_knows_nothing_has_the_perplexity_of_its_vocabulary(float64: None) -> None:
    net, x = decoder(), text()
    nn.init.zeros_(net.output.weight)
    figures = uc.evaluate(language_model(net), [x], samples=7)

    assert figures.perplexity.value == pytest.approx(V)  # pyright: ignore
    assert figures.nll.value == pytest.approx(x.symbols.double().mean().item() * math.log(V))  # pyright: ignore


def test_a_vae_whose_decoder_does_not_look_at_z_explains_as_much(float64: None) -> None:
    net, deaf, x = decoder(), decoder(D), text()
    weights = net.state_dict()
    weights["start.weight"] = torch.zeros(6, D)
    weights["lstm.weight_ih_l0"] = torch.cat([weights["lstm.weight_ih_l0"], torch.zeros(24, D)], 1)
    deaf.load_state_dict(weights)

    class Prior(nn.Module):
        def forward(self, x: Any) -> Any:
            return uc.gaussian(torch.zeros(len(x.seen), D), torch.zeros(len(x.seen), D))

    vae = uc.VAE(Prior(), deaf, uc.StandardNormal(D)).eval()
    torch.testing.assert_close(vae(x, samples=3).log_weights, language_model(net).eval()(x, samples=3).log_weights)


@pytest.mark.parametrize("samples", [0, 1, 500])
def test_its_figures_are_exact_and_say_that_there_are_no_latents(samples: int) -> None:
    figures = uc.evaluate(language_model(decoder()), [text()], samples=samples)

    if samples:
        nll: Any = figures.nll
        assert nll.value == figures.neg_elbo.value  # pyright: ignore
        assert nll.bias == 0
        assert figures.effective_samples.value == samples  # pyright: ignore
    assert figures.kl.value == 0  # pyright: ignore
    for name in ("mi", "mi_published", "marginal_kl", "active_units"):
        assert str(getattr(figures, name)) == "not available: the model has no latent units"
    assert verdict(figures) == "no latents: -ELBO is the exact NLL, and no bound"


def test_no_more_than_one_pass_is_made_for_many_samples() -> None:
    net, passes = DilatedDecoder(V, 5, 6, 0), []
    net.register_forward_hook(lambda _, __, law: passes.append(law.batch_shape))

    uc.evaluate(language_model(net), [text()], samples=500)

    assert passes == [(1, 4), (1, 4)]  # For the bound, and for the weights.


def test_it_has_one_player_and_cannot_be_trained_aggressively() -> None:
    model = language_model(decoder())

    assert list(model.players()) == ["generation"]
    with pytest.raises(InputError, match=r"the model's are: generation\. A language model has no latent variable"):
        Trainer(model, [text()], [text()], procedure=Aggressive(), max_epochs=1).fit()


# By a spec.


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.txt"
    path.write_text("\n".join(f"{a} {b} {c}" for a in "abc" for b in "xy" for c in "pq"), encoding="utf-8")
    return path


def trainer(file: Path, epochs: int, *settings: str, folder: Path | None = None, names: str = "") -> Trainer:
    sizes = [f"model.decoder.{size}=12" for size in ("embedding", "hidden")]
    given = [*sizes, f"data.train={file}", "data.batch_size=5", f"training.max_epochs={epochs}", *settings]
    spec = validated(compose("text", ["language-model", *filter(None, [names])], given))
    data: Any = build.data(spec)
    kept = {"checkpoints": Checkpoints(folder)}
    model = build.model(spec, data.facts)
    return build.trainer(spec.training, model, data.batches("train"), data.batches("valid"), seed=spec.seed, **kept)


def test_a_spec_makes_it_without_a_warning_of_weights_without_entries(file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer(file, 1)


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        ("", ()),
        ("", ("training.optimisers.generation={kind: adam}",)),
        ("dilated-cnn-s+word-dropout", ()),
        ("historyless", ()),
        ("awd-lstm", ()),
    ],
)
def test_it_trains_and_resumes(names: str, settings: tuple[str, ...], file: Path, tmp_path: Path) -> None:
    whole = trainer(file, 2, *settings, names=names)
    before = {name: parameter.clone() for name, parameter in whole.model.named_parameters()}
    whole.fit()
    trainer(file, 1, *settings, names=names, folder=tmp_path).fit()
    other = trainer(file, 2, *settings, names=names, folder=tmp_path)
    other.fit()

    found = dict(other.model.named_parameters())
    assert all(torch.equal(value, found[name]) for name, value in whole.model.named_parameters())
    assert all(name.startswith("generation.decoder") for name in found)
    assert not any(torch.equal(found[name], before[name]) for name in found if found[name].numel())


def test_a_term_that_counts_units_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match="counts latent units, and the model has none"):
        trainer(file, 1, "training.objective.terms.rate={kind: free-bits, floor: 3.0}")


def test_it_generates_and_has_nothing_to_encode() -> None:
    class Interface:
        def write(self, decoder: nn.Module, z: Tensor, how: Any) -> tuple[int, ...]:
            return tuple(z.shape)

        def together(self, first: Any, second: Any) -> Any:
            return [text()]

        def source(self, items: Any, batch_size: int) -> Any:
            return items

    trained = Trained(language_model(decoder()), Interface())  # pyright: ignore[reportArgumentType]

    assert trained.generate(3) == (3, 0)
    for use in (trained.encode, trained.reconstruct):
        with pytest.raises(InputError, match="no latent units: there is nothing to encode or to decode from"):
            use([text()])
    with pytest.raises(InputError, match="nothing to encode"):
        trained.interpolate("a", "b")


def test_a_comparison_holds_a_vae_against_it(tmp_path: Path) -> None:
    x = text()

    class Encoder(nn.Module):
        def forward(self, x: Any) -> Any:
            return uc.gaussian(torch.zeros(len(x.seen), D), torch.ones(len(x.seen), D))

    def cell(remedy: str, figures: Evaluation) -> dict[str, Any]:
        digest = figures.rows.save(tmp_path / f"{remedy}.safetensors")
        spent = {"value": 1.0}
        said = {"verdict": verdict(figures), "seconds": spent, "cpu_seconds": spent, "rows_digest": digest}
        return {**figures.to_json(), **said, "remedy": remedy, "seed": 0, "folder": str(tmp_path), "rows": remedy}

    found = [
        uc.evaluate(language_model(decoder()), [x]),
        uc.evaluate(uc.VAE(Encoder(), decoder(D), uc.StandardNormal(D)), [x]),
    ]
    comparison = Comparison([cell(name, one) for name, one in zip(("language-model", "plain"), found, strict=True)])

    _, line, plain = comparison.table()
    assert line[0] == "language-model"
    assert line[2] == line[3]
    assert line[4:8] == ["0.00", "n/a", "", "n/a"]
    assert line[-1].startswith("no latents: ")
    assert plain[-1].startswith("collapsed: ")
    difference: Any = comparison.difference("language-model", "nll")
    assert difference.value == pytest.approx(found[0].nll.value - found[1].nll.value)  # pyright: ignore
