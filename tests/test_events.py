"""Events that a spec may name: what they change, when, and that a run goes on across them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import uncollapse as uc
from test_trainer import data, small
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.training.checkpoints import Checkpoints
from uncollapse.training.events import Event, Reset
from uncollapse.training.listeners import Moment
from uncollapse.training.trainer import Trainer

SIZES = {
    "text": [f"model.{net}.{size}=12" for net in ("encoder", "decoder") for size in ("embedding", "hidden")],
    "vectors": ["model.encoder.hidden=[4]", "model.decoder.hidden=[4]", "model.prior={kind: mixture, components: 2}"],
}
RESET = "training.events.new={kind: reset, player: generation, after: 1 epochs}"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    lines = [f"{a} {b} {c}" for a in "abc" for b in "xy" for c in "pq"]
    (tmp_path / "x.txt").write_text("\n".join(lines), encoding="utf-8")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32))
    return {"text": tmp_path / "x.txt", "vectors": tmp_path / "x.npy"}


def trainer(recipe: str, file: Path, *settings: str, names: str = "plain", **rest: Any) -> Trainer:
    given = [f"data.train={file}", *SIZES[recipe], "model.latent=4", "data.batch_size=5", *settings]
    spec = validated(compose(recipe, [names], given))
    data: Any = build.data(spec)
    model = build.model(spec, data.facts)
    return build.trainer(spec.training, model, data.batches("train"), data.batches("valid"), seed=spec.seed, **rest)


def weights(run: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in run.model.state_dict().items()}


class Killed(Exception):
    pass


def kill_at(step: int) -> Any:
    def listener(moment: Moment) -> None:
        if (moment.kind, moment.step) == ("step", step):
            raise Killed

    return listener


@pytest.mark.parametrize("recipe", SIZES)
def test_a_reset_draws_all_of_its_player_anew_and_nothing_else(recipe: str, files: dict[str, Path]) -> None:
    run = trainer(recipe, files[recipe], "training.max_epochs=1", RESET)
    first = weights(run)
    run.fit()
    trained, player = weights(run), run.players["generation"]
    player.learning_rate, player.scale = 0.3, 0.5
    old = player.steps

    run.loop.events[0].do(run.descent)

    now = weights(run)
    assert all(torch.equal(now[name], trained[name]) for name in now if name.startswith("encoder"))
    for name in (name for name in now if name.startswith("generation")):
        assert not torch.equal(now[name], trained[name]), name
        assert now[name].abs().max() <= 1.5 * first[name].abs().max() + 1e-6
    assert player.steps is not old
    assert player.memory() == {}
    assert player.scale == 0.5


def test_a_reset_happens_where_its_length_ends(files: dict[str, Path]) -> None:
    run = trainer("text", files["text"], RESET)

    assert run.loop.events[0].at == len(run.descent.train)
    assert run.loop.events[0].when == "step"


def test_what_was_best_before_a_reset_counts_no_more(files: dict[str, Path]) -> None:
    run = trainer("vectors", files["vectors"], "training.max_epochs=1", RESET)
    run.fit()
    plateau: Any = run.loop.plateau
    run.descent.standing.best, plateau.reference, plateau.worse = -1e9, -1e9, 3
    run.loop.max_epochs = 2

    run.fit()

    assert -1e9 < run.best < torch.inf
    assert (plateau.reference, plateau.worse) == (run.best, 0)


@pytest.mark.parametrize("step", range(1, 7))
def test_a_run_goes_on_exactly_across_a_reset(files: dict[str, Path], tmp_path: Path, step: int) -> None:
    settings = ("training.max_epochs=2", RESET, "training.optimisers.generation={kind: adam}")
    whole = trainer("vectors", files["vectors"], *settings)
    whole.fit()
    steps = len(whole.descent.train)
    kept = {"checkpoints": Checkpoints(tmp_path / "run"), "checkpoint_seconds": 0.0}
    if step < 2 * steps:
        with pytest.raises(Killed):
            trainer("vectors", files["vectors"], *settings, listeners=[kill_at(step)], **kept).fit()

    again = trainer("vectors", files["vectors"], *settings, **kept)
    again.fit()

    found = weights(again)
    assert all(torch.equal(value, found[name]) for name, value in weights(whole).items())
    assert again.best == whole.best


@pytest.mark.parametrize("recipe", SIZES)
def test_an_autoencoder_comes_first_and_then_its_encoder_with_a_new_decoder(
    files: dict[str, Path], recipe: str
) -> None:
    dial = "training.dials.objective.weights.rate"
    short = [f"{dial}.over=1 epochs", f"{dial}.hold=1 epochs", "training.events.new-decoder.after=1 epochs"]
    weighed: list[float] = []

    def note(moment: Moment) -> None:
        if moment.kind == "step":
            weighed.append(run.objective.weights["rate"])

    settings = [*short, "training.max_epochs=3"]
    run = trainer(recipe, files[recipe], *settings, names="autoencoder-free-bits", listeners=[note])
    run.fit()

    steps = len(run.descent.train)
    assert weighed[:steps] == [0.0] * steps
    assert 0 < weighed[steps] < 1
    assert weighed[2 * steps :] == [1.0] * steps
    assert isinstance(run.validate().neg_elbo, uc.Estimate)


# What cannot be.


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("player: generatoin", "unknown player of the model `generatoin`. Did you mean `generation`?"),
        ("player: generation, after: soon", "`training.events.new.after` is 'soon': `soon` is no duration"),
        ("plyer: generation", "`training.events.new.plyer`"),
    ],
)
def test_a_reset_that_cannot_be_stops_a_run_before_it_starts(files: dict[str, Path], setting: str, says: str) -> None:
    after = "" if "after" in setting else ", after: 1 epochs"
    with pytest.raises(InputError) as error:
        trainer("text", files["text"], f"training.events.new={{kind: reset, {setting}{after}}}")

    assert says in str(error.value)


def test_a_model_that_nobody_can_make_again_is_refused() -> None:
    with pytest.raises(InputError, match=r"`VAE` has no `anew`, and its player `generation` is to be drawn anew"):
        Trainer(small(), data(), data()[:3], events=[Reset("generation", 3)])


def test_a_length_that_is_not_in_steps_yet_is_refused() -> None:
    with pytest.raises(InputError, match="not in steps yet"):
        _ = Reset("generation", "2 epochs").at


def test_events_of_ones_own_need_no_check() -> None:
    Trainer(small(), data(), data()[:3], events=[Event("step", 1, lambda stage: None)])
