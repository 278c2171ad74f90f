"""The recipes: each composes with each remedy, says only what the code knows, and has the sizes of its source."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from uncollapse.data.kinds import KINDS
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.catalogue import recipes, remedies
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import Spec, validated

OF_TOKENS = [name for name, remedy in remedies().items() if {"vocabulary", "words"} & set(remedy.needs)]
OF_SHAPES = {name for name, remedy in remedies().items() if "shape" in remedy.needs}
OF_TEXT = ("demo", "he2019-synthetic", "he2019-text", "ptb", "snli-small", "text", "text-transformer")
OF_LABELS = {name for name, remedy in remedies().items() if "label_classes" in remedy.needs}
OF_PIXELS = ("pixelgan", "vlae", "small-omniglot", "he2019-omniglot", "he2019-omniglot-released")
OF_SHAPE = ("digits", "images", "vectors", "vib", *OF_PIXELS)
#: What is of decoders that write all elements at once.
AT_ONCE = ("sigma-vae", "lidvae", "inverse-lipschitz")
#: Recipes whose decoders have no skip.
NO_SKIP = [
    name
    for name, recipe in recipes().items()
    if recipe.spec.get("model", {}).get("decoder", {}).get("kind") in ("classifier", "cnn", "pixelcnn")
]
#: Recipes of pairs: they have tokens, and no place for a latent variable at every step.
OF_PAIRS = ("inflection", "sigmorphon2016")
COMBINATIONS = [*remedies(), "aggressive+anneal", "aggressive+beta", "aggressive+slow-anneal"]
REFUSED = {
    **{("vector", name): "leaves to you" for name, remedy in remedies().items() if "model" in remedy.patch},
    **{
        (recipe, name): f"which data of the kind `{recipes()[recipe].spec['data']['kind']}` does not have"
        for recipe in OF_SHAPE
        for name in OF_TOKENS
    },
    **{(recipe, name): "needs the shape of an item" for recipe in (*OF_TEXT, *OF_PAIRS) for name in OF_SHAPES},
    **{(recipe, "z-forcing"): "it should be one of lstm" for recipe in OF_PAIRS},
    **{(recipe, "skip"): "has no meaning where `model.decoder.kind` is" for recipe in NO_SKIP},
    **{(recipe, name): "does not have" for recipe in (*OF_TEXT, *OF_PAIRS) for name in OF_LABELS},
    **{
        (
            recipe,
            name,
        ): r"`model.decoder.\w+` has no meaning where `model.decoder.kind` is|`model.decoder.hidden` is missing"
        for recipe in (*OF_PIXELS, "vib")
        for name in AT_ONCE
    },
}


def spec_of(recipe: str, remedy: str = "plain", *overrides: str) -> Spec:
    kind = recipes()[recipe].spec.get("data", {}).get("kind")
    files = kind is not None and KINDS[kind].files
    return validated(compose(recipe, [remedy], [*(["data.train=a.txt"] if files else []), *overrides]))


def sizes(spec: Spec, vocabulary: int) -> list[int]:
    with torch.device("meta"):
        model = build.model(spec, {"vocabulary": vocabulary})
    return [sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.decoder)]


def test_these_are_the_recipes() -> None:
    assert set(recipes()) == {
        "demo",
        "digits",
        "he2019-omniglot",
        "he2019-omniglot-released",
        "he2019-synthetic",
        "he2019-text",
        "images",
        "inflection",
        "pixelgan",
        "ptb",
        "sigmorphon2016",
        "small-omniglot",
        "snli-small",
        "text",
        "text-transformer",
        "vector",
        "vectors",
        "vib",
        "vlae",
    }


@pytest.mark.parametrize("remedy", COMBINATIONS)
@pytest.mark.parametrize("recipe", recipes())
def test_every_recipe_composes_with_every_remedy_or_says_why_not(recipe: str, remedy: str) -> None:
    if (recipe, remedy) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[recipe, remedy]):
            spec_of(recipe, remedy)
    else:
        spec_of(recipe, remedy)


@pytest.mark.parametrize("recipe", recipes())
def test_a_recipes_own_patches_change_what_their_remedy_does(recipe: str) -> None:
    for name, patch in recipes()[recipe].remedies.items():
        catalogued = remedies()[name].patch
        assert _leaves(patch) - _leaves(catalogued)


def _leaves(patch: object, path: str = "") -> set[str]:
    if isinstance(patch, dict):
        return {leaf for key, below in patch.items() for leaf in _leaves(below, f"{path}/{key}")}
    return {f"{path}={patch!r}"}


@pytest.mark.parametrize("remedy", COMBINATIONS)
@pytest.mark.parametrize("recipe", recipes())
def test_every_weight_has_climbed_to_its_end_before_the_last_epoch(recipe: str, remedy: str) -> None:
    if (recipe, remedy) in REFUSED:
        return
    training = spec_of(recipe, remedy).training
    for dial in training.dials.values():
        # The published length in steps is one of its corpus, and a person's own may be shorter.
        if (over := getattr(dial, "over", "")).endswith(" epochs"):
            assert float(over.removesuffix(" epochs")) < training.max_epochs


@pytest.mark.parametrize("recipe", recipes())
def test_a_recipe_says_what_it_is(recipe: str) -> None:
    said = recipes()[recipe]

    assert said.says.endswith(".")
    assert said.cite or recipe == "vector"
    assert said.departs or recipe == "vector"


@pytest.mark.parametrize("recipe", ["he2019-text", "he2019-synthetic"])
@pytest.mark.parametrize("remedy", ["aggressive", "aggressive-budget"])
def test_the_faithful_recipes_stop_on_the_published_information(recipe: str, remedy: str) -> None:
    until = spec_of(recipe, remedy).training.procedure.until  # pyright: ignore[reportAttributeAccessIssue]

    start = -1 if recipe == "he2019-synthetic" else 0
    assert until.model_dump() == {
        "estimator": "published",
        "min_steps": 0,
        "max_epochs": None,
        "max_steps": None,
        "start": start,
        "patience": 1,
    }


def test_the_image_recipes_are_the_published_experiment() -> None:
    for recipe in ("he2019-omniglot", "he2019-omniglot-released"):
        spec = spec_of(recipe, "aggressive")
        assert spec.training.plateau.patience == 20  # pyright: ignore[reportAttributeAccessIssue]
        procedure: Any = spec.training.procedure
        assert (procedure.window, procedure.ties, procedure.until.patience) == (10, "continue", 5)
        assert procedure.until.estimator == "published"
        assert spec.data.batch_size == 50  # pyright: ignore[reportAttributeAccessIssue]


OTHERS = ["text", "text-transformer", "ptb", "snli-small", "demo", "vector", "vectors", "digits", "images"]


@pytest.mark.parametrize("recipe", OTHERS)
def test_the_others_stop_on_the_whole_split_with_a_minimum_and_a_cap(recipe: str) -> None:
    until = spec_of(recipe, "aggressive").training.procedure.until  # pyright: ignore[reportAttributeAccessIssue]

    assert until.estimator == "full"
    assert until.min_steps == 1000
    assert until.max_epochs == (3 if recipe == "demo" else 10)


@pytest.mark.parametrize("recipe", ["snli-small", "he2019-synthetic"])
def test_the_aggressive_start_is_the_measured_one(recipe: str) -> None:
    parts = [spec_of(recipe, remedy).training for remedy in ("aggressive-start", "aggressive", "slow-anneal", "plain")]
    start, aggressive, slow, plain = (part.model_dump() for part in parts)

    assert (
        start["optimisers"]["inference"] | {"kind": "adam", "learning_rate": 1e-3} == start["optimisers"]["inference"]
    )
    assert start["optimisers"]["generation"] == plain["optimisers"]["generation"]
    assert start["dials"] == slow["dials"]
    said = {"clip": "own", "ties": "stop", "until": start["procedure"]["until"]}
    assert start["procedure"] == aggressive["procedure"] | said
    assert start["procedure"]["until"]["max_steps"] == 20


def test_the_sizes_of_the_text_experiments_are_the_published_ones() -> None:
    assert sizes(spec_of("he2019-text"), 19_997) == [16_603_648, 37_178_880]


def test_the_sizes_of_the_synthetic_experiment_are_the_published_ones() -> None:
    assert sizes(spec_of("he2019-synthetic"), 1004) == [70_700, 121_050]


def test_the_demo_has_a_latent_skip_and_says_so() -> None:
    # Encoder: embedding, LSTM 4 * 50 * (50 + 50 + 2), output; decoder: embedding, start, LSTM, output of [h, z].
    encoder = 1004 * 50 + 200 * 102 + 50 * 16
    decoder = 1004 * 50 + 8 * 50 + 200 * (50 + 8 + 50 + 2) + 1004 * (50 + 8)

    assert sizes(spec_of("demo"), 1004) == [encoder, decoder]
    assert "skip" in (recipes()["demo"].departs or "")


def test_slow_annealing_is_in_iterations_where_the_paper_is_followed() -> None:
    assert spec_of("he2019-text", "slow-anneal").training.dials["objective.weights.rate"].over == "100000 steps"  # pyright: ignore[reportAttributeAccessIssue]
    assert spec_of("text", "slow-anneal").training.dials["objective.weights.rate"].over == "32 epochs"  # pyright: ignore[reportAttributeAccessIssue]
