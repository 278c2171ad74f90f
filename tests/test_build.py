"""Building: every entry of a spec reaches the object it is about."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from uncollapse import dials
from uncollapse.data import stdlib, synthetic
from uncollapse.data.corpora import Corpora, Stdlib, TextFiles, Texts
from uncollapse.data.text import Corpus
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import Spec, validated
from uncollapse.nets.lstm import LSTMDecoder
from uncollapse.objective import Objective
from uncollapse.training.optimisers import SGD
from uncollapse.training.plateau import Plateau
from uncollapse.training.procedures import Aggressive, Joint, UntilInformationDrops
from uncollapse.training.trainer import Trainer

FACTS = {"vocabulary": 13}
LINES = [f"{a} {b} {c}" for a in "abcd" for b in "xyz" for c in "pq"]


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    path = tmp_path / "t.txt"
    path.write_text("\n".join(f"lab\t{line}" for line in LINES), encoding="utf-8")
    return path


@pytest.fixture
def small(corpus_file: Path) -> Callable[..., Spec]:
    def compose_small(*remedies: str, overrides: tuple[str, ...] = ()) -> Spec:
        sizes = [f"model.{net}.{size}=6" for net in ("encoder", "decoder") for size in ("embedding", "hidden")]
        data = [f"data.train={corpus_file}", "data.labels=true", "data.batch_size=4", "model.latent=2"]
        return validated(compose("text", remedies, [*data, *sizes, *overrides]))

    return compose_small


def trainer_of(said: Spec, **rest: Any) -> Trainer:
    corpus = corpus_of(said)
    model = build.model(said, {"vocabulary": len(corpus.vocabulary)})
    return build.trainer(
        said.training, model, corpus.batches("train", 4), corpus.batches("valid", 4), seed=said.seed, **rest
    )


def corpus_of(said: Spec) -> Corpus:
    data = build.data(said)
    assert isinstance(data, Texts)
    return data.corpus


@pytest.mark.parametrize(("kind", "code"), [(Stdlib, stdlib.corpus), (TextFiles, Corpus.load)])
def test_a_kind_of_text_has_the_defaults_of_what_it_loads(kind: Any, code: Any) -> None:
    known, batching = inspect.signature(code).parameters, {f.name for f in fields(Corpora)}

    own = {f.name: f.default for f in fields(kind) if f.name not in batching | {"train", "split_seed"}}
    assert own == {name: known[name].default for name in own}


def test_text_data_is_read_as_the_spec_says(small: Callable[..., Spec], corpus_file: Path) -> None:
    settings = ("data.min_count=2", "data.size=5", "data.max_length=3", "data.items=20", "data.split_seed=4")

    built = corpus_of(small(overrides=settings))

    direct = Corpus.load(corpus_file, labels=True, min_count=2, size=5, max_length=3, items=20, seed=4)
    assert built.fingerprint == direct.fingerprint
    assert len(built.vocabulary) == 9
    assert built.fingerprint != corpus_of(small(overrides=settings[:-1])).fingerprint


def test_standard_library_data_is_read_as_the_spec_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdlib, "sentences", lambda: LINES)
    sizes = ["data.train=12", "data.valid=4", "data.test=3", "data.size=6", "data.split_seed=1"]

    built = corpus_of(validated(compose("demo", [], sizes)))

    assert [len(split) for split in (built.train, built.valid, built.test)] == [12, 4, 3]
    assert built.fingerprint == stdlib.corpus(12, 4, 3, size=6, seed=1).fingerprint


def test_synthetic_data_is_that_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "sequences", lambda n, *_: torch.arange(10).expand(n, -1))

    built = corpus_of(validated(compose("he2019-synthetic")))

    assert [len(split) for split in (built.train, built.valid, built.test)] == [16_000, 2000, 2000]


def test_a_model_is_a_function_of_spec_and_seed(small: Callable[..., Spec]) -> None:
    def parameters(said: Spec) -> torch.Tensor:
        return torch.cat([p.flatten() for p in build.model(said, FACTS).parameters()])

    torch.manual_seed(1)
    first = parameters(small())
    torch.manual_seed(2)

    assert torch.equal(first, parameters(small()))
    assert not torch.equal(first, parameters(small(overrides=("seed=1",))))


@pytest.mark.parametrize("remedy", ["flow-posterior", "flow-prior"])
def test_a_model_with_a_flow_is_counted_as_it_is_made(small: Callable[..., Spec], remedy: str) -> None:
    said = small(remedy)

    made = build.model(said, FACTS)

    assert build.parameters(said, FACTS) == sum(p.numel() for p in made.parameters())
    assert {p.device.type for p in made.parameters()} == {"cpu"}


def test_building_a_model_leaves_the_global_generator_alone(small: Callable[..., Spec]) -> None:
    before = torch.get_rng_state()
    build.model(small(), FACTS)

    assert torch.equal(before, torch.get_rng_state())


def test_the_networks_of_terms_are_a_function_of_spec_and_seed(small: Callable[..., Spec]) -> None:
    def parameters(said: Spec) -> torch.Tensor:
        return torch.cat([p.flatten() for p in trainer_of(said).objective.parameters()])

    torch.manual_seed(1)
    first = parameters(small("aae"))
    torch.manual_seed(2)

    assert torch.equal(first, parameters(small("aae")))
    assert not torch.equal(first, parameters(small("aae", overrides=("seed=1",))))


@pytest.mark.parametrize(("kind", "low", "high"), [("small_uniform", -0.1, 0.1), ("offset", 0, 0.2), ("torch", -5, 5)])
def test_the_initialisation_is_the_specs(small: Callable[..., Spec], kind: str, low: float, high: float) -> None:
    model = build.model(small(overrides=(f"model.initialisation={kind}",)), FACTS)
    parameters = torch.cat([p.detach().flatten() for p in model.parameters()])

    assert low <= parameters.min()
    assert parameters.max() <= high
    assert (parameters.abs().max() > 0.2) == (kind == "torch")


def test_the_decoder_is_the_specs(small: Callable[..., Spec]) -> None:
    settings = ("model.decoder.skip=true", "model.decoder.dropout_in=0.1", "model.decoder.dropout_out=0.2")
    decoder = build.model(small(overrides=settings), FACTS).decoder

    assert isinstance(decoder, LSTMDecoder)
    assert (decoder.skip, decoder.dropout_in, decoder.dropout_out) == (True, 0.1, 0.2)


def test_plain_training_is_the_recipes(small: Callable[..., Spec]) -> None:
    trainer = trainer_of(small(overrides=("training.clip=null", "training.max_epochs=7", "seed=3")), window=5)

    assert isinstance(trainer.loop.procedure, Joint)
    assert {name: player.optimiser for name, player in trainer.players.items()} == {
        "inference": SGD(1.0),
        "generation": SGD(1.0),
    }
    assert trainer.loop.plateau == Plateau(patience=2, factor=0.5, limit=5, not_before=15, reload=True)
    assert (trainer.descent.clip, trainer.loop.max_epochs, trainer.loop.seed, trainer.loop.every) == (None, 7, 3, 5)
    assert trainer.loop.dials == {}
    assert trainer.objective.weights == {"distortion": 1.0, "rate": 1.0}


def test_aggressive_training_is_the_specs(small: Callable[..., Spec]) -> None:
    changed = ("window=15", "limit=98", "ties=continue", "clip=own", "until.min_steps=7", "until.start=-1.0")
    trainer = trainer_of(small("aggressive", overrides=tuple(f"training.procedure.{one}" for one in changed)))

    until = UntilInformationDrops("full", min_steps=7, max_epochs=10, start=-1.0)
    assert trainer.loop.procedure == Aggressive(15, 98, "continue", None, "own", until)


def test_the_fixed_budget_is_the_remedys(small: Callable[..., Spec]) -> None:
    procedure = trainer_of(small("aggressive-budget")).loop.procedure

    assert isinstance(procedure, Aggressive)
    assert procedure.budget == 30


def test_annealing_is_in_the_steps_of_the_source(small: Callable[..., Spec]) -> None:
    trainer = trainer_of(small("anneal"))

    over = 10 * len(trainer.descent.train)
    assert trainer.loop.dials == {"objective.weights.rate": dials.Linear(0.1, 1.0, over)}
    assert trainer.objective.weights["rate"] == pytest.approx(0.1 + 0.9 / over)


def test_beta_weighs_the_rate(small: Callable[..., Spec]) -> None:
    trainer = trainer_of(small("beta"))

    assert trainer.loop.dials == {"objective.weights.rate": dials.Constant(0.4)}
    assert trainer.objective.weights == {"distortion": 1.0, "rate": 0.4}


def test_a_factor_multiplies_one_players_learning_rate(small: Callable[..., Spec]) -> None:
    trainer = trainer_of(small("encoder-learning-rate"))

    assert trainer.players["inference"].step_size == 4.0
    assert trainer.players["generation"].step_size == 1.0


def test_weights_of_terms_are_the_specs(small: Callable[..., Spec]) -> None:
    trainer = trainer_of(small(overrides=("training.objective.weights.rate=0.5",)))

    assert trainer.objective.weights == {"distortion": 1.0, "rate": 0.5}
    assert trainer.objective.weights.keys() == Objective().weights.keys()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "training.dials.objective.weights.rat={kind: constant, value: 1}",
            "the dial `objective.weights.rat` leads nowhere: there is no `rat`.",
        ),
        (
            "training.dials.model.decoder={kind: constant, value: 1}",
            "the dial `model.decoder` leads to no number, but to LSTMDecoder.",
        ),
        ("training.optimisers.inferense.learning_rate=1", "unknown player `inferense`. Did you mean `inference`?"),
    ],
)
def test_a_wrong_path_stops_a_run_before_it_starts(small: Callable[..., Spec], override: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        trainer_of(small(overrides=(override,)))

    assert says in str(error.value)


def test_a_dial_may_move_a_number_of_the_model(small: Callable[..., Spec]) -> None:
    trainer = trainer_of(small(overrides=("training.dials.model.decoder.dropout_in={kind: constant, value: 0.25}",)))

    assert trainer.model.decoder.dropout_in == 0.25  # pyright: ignore[reportAttributeAccessIssue]


def test_a_spec_without_data_or_model_says_where_to_start() -> None:
    with pytest.raises(InputError, match="this spec names no data: start from a recipe that does"):
        build.data(validated(compose("vector")))
    with pytest.raises(InputError, match="this spec names no model: start from a recipe that does"):
        build.model(validated(compose("vector")), {})


def test_what_is_built_trains(small: Callable[..., Spec]) -> None:
    said = small("aggressive+anneal", overrides=("training.max_epochs=1", "training.procedure.limit=11"))
    trainer = trainer_of(said)
    before = [p.clone() for p in trainer.model.parameters()]

    trainer.fit()

    assert trainer.finished
    assert trainer.step == len(trainer.descent.train)
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
