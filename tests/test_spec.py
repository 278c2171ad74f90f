"""The spec: what it takes, what it refuses and in which words, and the identity of a run."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from uncollapse.errors import InputError
from uncollapse.experiment.paths import every_path, locate
from uncollapse.experiment.spec import Spec, identity, validated

LINEAR = {"kind": "linear", "start": 0.1, "stop": 1.0, "over": "10 epochs"}
TEXT = {"kind": "text", "train": "a.txt"}
NETS = {"encoder": {"embedding": 4, "hidden": 3}, "decoder": {"embedding": 4, "hidden": 3}, "latent": 2}


def training(**entries: Any) -> dict[str, Any]:
    return {"training": entries}


def test_nothing_said_is_plain_training_of_ones_own_network() -> None:
    spec = validated({})

    assert spec.data is None
    assert spec.model is None
    assert spec.training.procedure.kind == "joint"
    assert spec.training.objective.weights == {}


def test_a_spec_survives_being_written_down() -> None:
    spec = validated({"data": TEXT, "model": NETS, "seed": 3, **training(dials={"objective.weights.rate": LINEAR})})

    assert validated(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("over", ["10 epochs", "1 epoch", "2.5 epochs", "0.05 epochs", "500 steps", 500])
def test_durations_are_epochs_or_steps(over: object) -> None:
    spec = validated(training(dials={"a": {**LINEAR, "over": over}}))

    assert spec.training.dials["a"].model_dump()["over"] == over


REFUSED = [
    (training(clp=1), "unknown path `training.clp`. Did you mean `training.clip`? There is: objective, dials, "
     "events, inference, procedure, optimisers, clip, max_epochs, plateau, selects."),
    ({"model": {**NETS, "latnt": 2}}, "unknown path `model.latnt`. Did you mean `model.latent`? There is: kind, "
     "encoder, decoder, latent, posterior, prior, wrappers, heads, initialisation, start, encoder_start, tells."),
    ({"data": {"kind": "synthetic", "min_count": 2}}, "`data.min_count` has no meaning where `data.kind` is "
     "synthetic: there is kind, batch_size, batching, evaluation_batch_size."),
    (training(procedure={"kind": "joint", "window": 5}), "`training.procedure.window` has no meaning where "
     "`training.procedure.kind` is joint: there is kind."),
    ({"data": {"kind": "text"}}, "`data.train` is missing: give it, as in `--set data.train=...`."),
    ({"data": {}}, "`data.kind` is missing: it should be one of text, inflection, stdlib, synthetic, vectors, images, "
     "digits."),
    ({"data": {"kind": "txt"}}, "`data.kind` is txt: it should be one of text, inflection, stdlib, synthetic, vectors, "
     "images, digits."),
    (training(procedure={"kind": "agressive"}), "`training.procedure.kind` is agressive: it should be one of "
     "joint, aggressive, phases, turns."),
    (training(dials={"a.b": {"start": 1}}), "`training.dials.a.b.kind` is missing: it should be one of linear, "
     "constant, exponential, saturating, sigmoid, cyclical, cosine."),
    ({"model": 3}, "`model` is 3: it should be a mapping with kind, encoder, decoder, latent, posterior, "
     "prior, wrappers, heads, initialisation, start, encoder_start, tells."),
    (training(dials=3), "`training.dials` is 3: it should be a valid dictionary."),
    ({"data": {**TEXT, "tokens": "bytes"}}, "`data.tokens` is 'bytes': it should be 'words' or 'characters'."),
    ({"data": {**TEXT, "size": 0}}, "`data.size` is 0: it should be greater than or equal to 1."),
    ({"data": {**TEXT, "train": 7}}, "`data.train` is 7: it should be a valid string."),
    (training(optimisers={"inference": {"learning_rate": 0}}), "`training.optimisers.inference.learning_rate` is "
     "0: it should be greater than 0."),
    (training(optimisers={"inference": {"learning_rate": "1e-3"}}), "`training.optimisers.inference.learning_rate` "
     "is '1e-3': it should be a valid number."),
    ({"model": {**NETS, "decoder": {**NETS["decoder"], "dropout_in": 1.0}}}, "`model.decoder.dropout_in` is 1.0: it "
     "should be less than 1."),
    (training(objective={"weights": {"rate": -1}}), "`training.objective.weights.rate` is -1: it should be greater "
     "than or equal to 0."),
    (training(objective={"weights": {"rate": float("nan")}}), "`training.objective.weights.rate` is nan: it should "
     "be a finite number."),
    (training(clip=float("inf")), "`training.clip` is inf: it should be a finite number."),
    (training(max_epochs=2.5), "`training.max_epochs` is 2.5: it should be a valid integer."),
    (training(max_epochs=True), "`training.max_epochs` is True: it should be a valid integer."),
    (training(dials={"a": {**LINEAR, "over": "10 apochs"}}), "`training.dials.a.over` is '10 apochs': `10 apochs` is "
     'no duration: write "10 epochs", "500 steps", or a whole number of steps.'),
    (training(dials={"a": {**LINEAR, "over": 1.5}}), "`training.dials.a.over` is 1.5: write \"10 epochs\", "
     '"500 steps", or a whole number of steps from 1 on.'),
    *((training(dials={"a": {**LINEAR, "over": none}}), f"`training.dials.a.over` is '{none}': `{none}` has no length: "
       "a schedule takes at least one step.") for none in ("0 steps", "0 epochs", " 0.00epochs")),
    (training(dials={"a": {**LINEAR, "over": 0}}), "`training.dials.a.over` is 0: write \"10 epochs\", "
     '"500 steps", or a whole number of steps from 1 on.'),
    ({"data": {**TEXT, "split_seed": 2**63}}, "`data.split_seed` is 9223372036854775808: it should be less than or "
     "equal to 9223372036854775807."),
    (training(clip=-1, max_epochs=0), "`training.clip` is -1: it should be greater than 0; `training.max_epochs` is "
     "0: it should be greater than or equal to 1."),
    ({"seed": -1}, "`seed` is -1: it should be greater than or equal to 0."),
]  # fmt: skip


@pytest.mark.parametrize(("data", "says"), REFUSED)
def test_what_is_refused_and_in_which_words(data: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as error:
        validated(data)

    assert str(error.value) == says


def test_a_path_leads_through_tables_whose_names_hold_dots() -> None:
    rate = ("training", "dials", "objective.weights.rate")

    assert locate(Spec, "training.dials.objective.weights.rate.start", 0.5) == (*rate, "start")
    assert locate(Spec, "training.dials.objective.weights.rate", LINEAR) == rate
    critic = ("training", "objective", "terms", "my.aae", "critic")
    assert locate(Spec, "training.objective.terms.my.aae.critic.hidden", [3]) == (*critic, "hidden")
    assert locate(Spec, "training.objective.terms.my.aae.critic", {"kind": "latent"}) == critic
    assert locate(Spec, "training.procedure.until.min_steps", 3) == ("training", "procedure", "until", "min_steps")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("trainig.clip", "Did you mean `training.clip`? There is: data, model, training, seed."),
        ("max_epochs", "Did you mean `training.max_epochs`? There is: data, model, training, seed."),
        ("clip", "Did you mean `training.clip`?"),
        ("training.clip.x", "Did you mean `training.clip`? There is: nothing below it."),
        ("data.min_cuont", "Did you mean `data.min_count`? There is: kind, batch_size"),
        ("qqqq", "unknown path `qqqq`. There is: data, model, training, seed."),
        ("training.dials.rate", "`training.dials.rate` is 1: it should be a mapping with kind, start, stop, over"),
    ],
)
def test_an_unknown_path_names_the_nearest(path: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        locate(Spec, path, 1)

    assert says in str(error.value)


def test_every_path_is_one_that_leads_somewhere() -> None:
    paths = list(every_path(Spec))
    assert len(paths) > 20
    for path in paths:  # `locate` raises for one that leads nowhere.
        locate(Spec, path.replace("<name>", "x"), 1)


def test_identity_is_of_what_is_trained() -> None:
    spec = validated({"data": TEXT, "model": NETS})
    moved = validated({"data": {**TEXT, "train": "elsewhere/a.txt"}, "model": NETS})
    others = [
        validated({"data": TEXT, "model": NETS, "seed": 1}),
        validated({"data": {**TEXT, "batch_size": 16}, "model": NETS}),
        validated({"data": TEXT, "model": {**NETS, "latent": 3}}),
        validated({"data": TEXT, "model": NETS, **training(clip=1.0)}),
    ]

    assert identity(spec, "f") == identity(moved, "f") == identity(validated({"model": NETS, "data": TEXT}), "f")
    assert len({identity(one, "f") for one in [spec, *others]} | {identity(spec, "g")}) == 6


def test_the_catalogue_is_read_without_torch() -> None:
    code = "import sys, uncollapse.experiment.catalogue as c; c.recipes(); sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
