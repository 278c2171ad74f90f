"""The catalogue: how remedies merge, whatever their order, and how overrides are read."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uncollapse.data.kinds import KINDS
from uncollapse.errors import InputError
from uncollapse.experiment import catalogue
from uncollapse.experiment.catalogue import chosen, recipes, remedies
from uncollapse.experiment.compose import compose, merge, overlaid, overridden
from uncollapse.experiment.paths import locate
from uncollapse.experiment.spec import Spec, validated

WEIGH_THE_RATE = ("aggressive-start", "anneal", "beta", "slow-anneal")
NUMBERS = [name for name in remedies() if name != "offset-initialisation"]


def outcome(patches: dict[str, Any]) -> object:
    try:
        return merge(patches)
    except InputError as error:
        return str(error)


leaves = st.integers(0, 2) | st.none() | st.lists(st.integers(0, 2), max_size=2)
trees = st.recursive(leaves, lambda below: st.dictionaries(st.sampled_from("xyz"), below, max_size=3), max_leaves=6)


@given(st.dictionaries(st.sampled_from("abcd"), st.dictionaries(st.sampled_from("xyz"), trees), max_size=4))
def test_the_order_of_patches_never_matters(patches: dict[str, Any]) -> None:
    results = [outcome(dict(order)) for order in itertools.permutations(patches.items())]

    assert all(result == results[0] for result in results)


def test_the_order_of_remedies_never_matters() -> None:
    triples = [*itertools.combinations(NUMBERS, 3)]
    for names in random.Random(0).sample(triples, 100):
        results = set()
        for order in itertools.permutations(names):
            try:
                results.add(validated(compose("demo", order)).model_dump_json())
            except InputError as error:
                results.add(str(error))
        assert len(results) == 1


def test_dicts_merge_and_equal_values_agree() -> None:
    assert merge({"a": {"x": {"p": 1}}, "b": {"x": {"q": 2, "p": 1}}}) == {"x": {"p": 1, "q": 2}}


def test_lists_add_up_in_the_order_of_names() -> None:
    assert merge({"b": {"x": [1]}, "a": {"x": [2]}}) == {"x": [2, 1]}


def test_no_patch_is_no_change() -> None:
    assert merge({}) == {}
    assert merge({"a": {}}) == {}


@pytest.mark.parametrize("one", [{"x": {"y": 1}}, {"x": {"y": [1]}}, {"x": {"y": None}}])
def test_a_value_set_differently_names_both_remedies_and_the_path(one: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"the remedies `a` and `b` clash: they set `x\.y` to .* and to 2\."):
        merge({"b": {"x": {"y": 2}}, "a": one})


@pytest.mark.parametrize(
    ("names", "path"),
    [
        ("anneal+beta", "training.dials.objective.weights.rate.kind"),
        ("anneal+slow-anneal", "training.dials.objective.weights.rate.start"),
        ("beta+slow-anneal", "training.dials.objective.weights.rate.kind"),
        ("aggressive+aggressive-budget", "training.procedure.budget"),
        ("aggressive+aggressive-start", "training.procedure.clip"),
        ("aggressive-budget+aggressive-start", "training.procedure.budget"),
        ("aggressive-start+anneal", "training.dials.objective.weights.rate.start"),
        ("aggressive-start+beta", "training.dials.objective.weights.rate.kind"),
        ("historyless+historyless-rolled", "model.wrappers.historyless.sees"),
        ("max-pooling+mean-pooling", "model.encoder.pooling"),
        ("dilated-cnn-m+dilated-cnn-s", "model.decoder.size"),
        ("bag-of-words+bag-presence", "model.heads.bag.form"),
    ],
)
def test_remedies_that_cannot_both_be_clash(names: str, path: str) -> None:
    with pytest.raises(InputError) as error:
        compose("demo", [names])

    assert path in str(error.value)
    assert all(f"`{name}`" in str(error.value) for name in names.split("+"))


#: Posteriors over a space of their own, and so with a prior of their own.
OWN_PRIOR = {"choices", "information-dropout", "power-spherical", "von-mises-fisher", "von-mises-fisher-learned"}

#: Hierarchies of latent variables, each with a posterior and a prior of its own.
HIERARCHIES = {"hierarchical", "hierarchical-vampprior", "ladder", "residual-normal"}

#: Remedies of which no two combine, as they set the same value: the rate's weight, what is charged of it, who descends.
RIVALS = [
    {
        "aae",
        "aggressive-start",
        "anneal",
        "arae",
        "autoencoder-free-bits",
        "beta",
        "cyclical",
        "cyclical-held",
        "cyclical-restarts",
        "exponential-anneal",
        "held-anneal",
        "infovae",
        "saturating-anneal",
        "sigmoid-anneal",
        "slow-anneal",
        "vdb",
        "wae-gan",
        "wae-mmd",
        "wasserstein-prior",
    },
    {
        "autoencoder-free-bits",
        "beta-tcvae",
        "capacity",
        "controlled-rate",
        "density-gap",
        "free-bits",
        "free-bits-per-item",
        "free-bits-total",
        "free-bits-total-per-item",
        "ha-bits",
        "hfvae",
        "kl-balancing",
        "soft-free-bits",
    },
    {"minimum-rate", "minimum-rate-dual"},
    {"dip-vae-1", "dip-vae-2"},
    {"aggressive", "aggressive-budget", "aggressive-start"},
    {"historyless", "historyless-rolled"},
    {"awd-lstm", "dilated-cnn-l", "dilated-cnn-m", "dilated-cnn-s", "dilated-cnn-vl", "hybrid-cnn", "lidvae-text"},
    {"awd-lstm", "embedding-dropout"},
    {"hybrid-cnn", "max-pooling", "mean-pooling"},
    {"bag-features", "hybrid-cnn"},
    {"hybrid-cnn", "pretrained-outlines"},
    {"hybrid-cnn", "offset-initialisation"},
    {"bag-of-words", "bag-presence"},
    {"batch-normalised", "delta", "diverse", "flow-posterior", "full-gaussian", "iterative", *OWN_PRIOR, *HIERARCHIES},
    {name for name, remedy in remedies().items() if remedy.place == "inference"},
    {"autoregressive-prior", "flow-prior", "mixture-prior", "vampprior", *OWN_PRIOR, *HIERARCHIES},
]


def _of_the_vae(name: str) -> bool:
    """Whether a remedy sets what the model of `z-forcing` does not have."""
    model = remedies()[name].patch.get("model", {})
    kinds = any("kind" in model.get(net, {}) for net in ("encoder", "decoder"))
    return name != "z-forcing" and (kinds or bool(model.keys() - {"encoder", "decoder"}))


def test_all_other_pairs_combine() -> None:
    found = set()
    for pair in itertools.combinations(sorted(name for name in remedies() if reads("demo", name)), 2):
        try:
            validated(compose("demo", pair))
        except InputError:
            found.add(pair)
    others = [{name, "z-forcing"} for name in remedies() if _of_the_vae(name) and reads("demo", name)]
    rivals = {pair for rivals in [*RIVALS, *others] for pair in itertools.combinations(sorted(rivals), 2)}
    # They move the rate's weight alike, or charge it alike; of SA-VAE's two ways the one says how the other goes.
    alike = {
        ("aggressive-start", "slow-anneal"),
        *itertools.combinations(("aae", "infovae", "vdb", "wae-gan", "wasserstein-prior"), 2),
        *itertools.combinations(("aae", "vdb", "wae-gan", "wae-mmd"), 2),
        ("wae-mmd", "wasserstein-prior"),
        ("autoencoder-free-bits", "free-bits-per-item"),
        *itertools.combinations(("hierarchical", "hierarchical-vampprior", "residual-normal"), 2),
        ("sa-vae", "sa-vae-finite-differences"),
    }
    refused = {pair for refusal in catalogue.refusals() for pair in itertools.product(refusal.these, refusal.those)}
    baseline = {("hybrid-cnn", "language-model"), ("language-model", "skip")} | {
        tuple(sorted((name, one)))
        for one, of in remedies().items()
        for name, remedy in remedies().items()
        if of.beside is not None and name != one and reads("demo", one) and reads("demo", name)
        if remedy.place not in (None, *of.beside)
    }
    refused = {tuple(sorted(pair)) for pair in refused if all(reads("demo", name) for name in pair)}
    assert found == (rivals - alike) | baseline | refused


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ("anneal", "the first leaves out what the second changes, and goes with remedies of the decoder alone."),
        ("skip", "the first leaves out `model.decoder.skip`, which the second sets. Use one of them."),
    ],
)
def test_what_a_baseline_leaves_out_no_remedy_changes(other: str, says: str) -> None:
    with pytest.raises(InputError, match=rf"the remedies `language-model` and `{other}` .*: {says}"):
        compose("text", [f"{other}+language-model"])


def test_what_a_baseline_leaves_out_is_left_out_wherever_it_is_said() -> None:
    settings = ["model.latent=3", "model.encoder.hidden=7", "model.decoder.hidden=9"]

    said = compose("demo", ["language-model"], settings)

    decoder = {"kind": "lstm", "embedding": 50, "hidden": 9, "dropout_in": 0.5, "dropout_out": 0.5}
    assert said["model"] == {"kind": "language-model", "decoder": decoder, "initialisation": "small_uniform"}
    assert said["training"]["optimisers"] == {"generation": {"kind": "sgd", "learning_rate": 1.0}}


def test_names_are_split_and_each_counts_once() -> None:
    assert chosen(["anneal+aggressive", "anneal"]) == ["aggressive", "anneal"]
    assert compose("demo", ["aggressive", "aggressive"]) == compose("demo", ["aggressive"])
    assert compose("demo", ["plain"]) == compose("demo") == recipes()["demo"].spec
    assert compose("demo", ["plain+anneal"]) == compose("demo", ["anneal"])


def test_an_unknown_remedy_or_recipe_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown remedy `agressive`\. Did you mean `aggressive`\?"):
        compose("demo", ["anneal+agressive"])
    with pytest.raises(InputError, match=r"unknown recipe `dmeo`\. Did you mean `demo`\? There is: demo, digits, he"):
        compose("dmeo")


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(InputError, match="unknown remedy ``"):
        chosen(["anneal+"])


#: Those of data that has no tokens.
OF_SHAPE = ("digits", "images", "vectors")
OF_PAIRS = ("inflection", "sigmorphon2016")
#: What a recipe has already, as its source does.
THERE = {
    ("demo", "skip"),
    ("vlae", "flow-prior"),
    *((recipe, "embedding-dropout") for recipe in {*recipes()} - {"text-transformer", "vector", *OF_PAIRS, *OF_SHAPE}),
}


def reads(recipe: str, remedy: str) -> bool:
    """Whether a recipe's data has what the networks of a remedy ask for."""
    return set(remedies()[remedy].needs) <= set(KINDS[recipes()[recipe].spec["data"]["kind"]].facts)


@pytest.mark.parametrize("name", [name for name in remedies() if name != "plain"])
def test_a_remedys_patch_changes_the_spec(name: str) -> None:
    for recipe in recipes():
        if recipe == "vector" and "model" in remedies()[name].patch:
            continue
        if recipe != "vector" and not reads(recipe, name):
            continue
        decoder = recipes()[recipe].spec.get("model", {}).get("decoder", {}).get("kind")
        others = decoder in ("pixelcnn", "gated-pixelcnn", "classifier")
        if others and name in ("sigma-vae", "lidvae", "inverse-lipschitz"):
            continue  # Of decoders that write all elements at once.
        if name == "skip" and decoder in ("cnn", "pixelcnn", "classifier"):
            continue
        if name == "z-forcing" and recipe in OF_PAIRS:
            continue
        files = recipes()[recipe].spec.get("data", {}).get("kind") in ("text", "vectors", "images", "inflection")
        given = ["data.train=a.txt"] if files else []
        same = validated(compose(recipe, [name], given)) == validated(compose(recipe, [], given))
        assert same == ((recipe, name) in THERE)


@pytest.mark.parametrize("name", [name for name in remedies() if name != "plain"])
def test_every_entry_of_a_patch_arrives_in_the_spec(name: str) -> None:
    """Nothing in a patch is lost on the way; a recipe without patches of its own shows it."""
    recipe = next(recipe for recipe in ("ptb", "vectors", "images") if reads(recipe, name))
    spec = validated(compose(recipe, [name], ["data.train=a.txt"])).model_dump()

    assert overlaid(spec, remedies()[name].patch) == spec


@pytest.mark.parametrize("remedy", remedies().values(), ids=list(remedies()))
def test_a_remedy_says_what_it_is(remedy: catalogue.Remedy) -> None:
    assert remedy.says.endswith(".")
    assert len(remedy.says) < 200
    if remedy.name not in ("plain", "language-model", "without-z"):
        assert remedy.place is not None
    if remedy.name != "plain":
        assert remedy.cite
        assert remedy.claims
        assert all((remedy.formula, remedy.when, remedy.watch))


def test_a_remedy_that_needs_our_model_says_what_to_do_with_ones_own() -> None:
    with pytest.raises(InputError, match=r"changes the model, which recipe `vector` leaves to you: call `uncollapse"):
        compose("vector", ["offset-initialisation"])


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.clip=1e-3", 0.001),
        ("training.clip=1E+2", 100.0),
        ("training.clip=.5", 0.5),
        ("training.clip=5", 5),
        ("training.clip=null", None),
        ("model.decoder.skip=false", False),
        ("data.train= a b.txt", "a b.txt"),
        ("data.train=1e-3x", "1e-3x"),
        ("training.dials.objective.weights.rate.over=5 epochs", "5 epochs"),
        ("training.dials.objective.weights.rate={kind: constant, value: 0.2}", {"kind": "constant", "value": 0.2}),
    ],
)
def test_overrides_are_read_as_yaml(override: str, value: object) -> None:
    spec: Any = overridden({}, [override])
    for key in locate(Spec, override.partition("=")[0], value):
        spec = spec[key]

    assert spec == value
    assert type(spec) is type(value)


def test_overrides_come_last_and_in_order() -> None:
    spec = compose(
        "demo", ["anneal"], ["training.clip=1", "training.clip=2", "training.dials.objective.weights.rate.start=0.5"]
    )

    assert spec["training"]["clip"] == 2
    assert spec["training"]["dials"]["objective.weights.rate"] == {
        "kind": "linear", "start": 0.5, "stop": 1.0, "over": "5 epochs",
    }  # fmt: skip


def test_a_mapping_replaces_what_was_there() -> None:
    dial = "training.dials.objective.weights.rate={kind: constant, value: 0.2}"

    assert validated(compose("demo", ["anneal"], [dial])).training.dials["objective.weights.rate"].kind == "constant"


def test_an_override_makes_the_section_that_was_null() -> None:
    spec = validated(compose("demo", [], ["training.plateau.patience=3"]))

    assert recipes()["demo"].spec["training"]["plateau"] is None
    assert spec.training.plateau is not None
    assert spec.training.plateau.patience == 3


def test_overrides_leave_the_catalogue_as_it_is() -> None:
    before = recipes()["demo"].model_dump_json()
    compose("demo", ["aggressive"], ["training.clip=1", "model.latent=3", "training.procedure.until.max_epochs=9"])

    assert recipes()["demo"].model_dump_json() == before
    assert remedies()["aggressive"].patch["training"]["procedure"]["until"]["max_epochs"] == 10


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("training.clip", "`training.clip` sets nothing: write path=value"),
        ("training.clp=1", "unknown path `training.clp`. Did you mean `training.clip`?"),
        ("training.clip=[1", "the value of `training.clip` is no YAML"),
        ("training.dials.x=1", "`training.dials.x` is 1: it should be a mapping with kind"),
    ],
)
def test_an_override_that_cannot_be_used(override: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        compose("demo", [], [override])

    assert says in str(error.value)
    assert "\n" not in str(error.value)


RATE = "training.objective.weights.rate"


@pytest.mark.parametrize(
    ("remedies", "overrides", "number"),
    [
        (["anneal"], [f"{RATE}=0.5"], RATE),
        (["beta"], ["training.objective={weights: {rate: 1}}"], RATE),
        ([], [f"{RATE}=0.5", "training.dials.objective.weights.rate={kind: constant, value: 1}"], RATE),
        (
            [],
            ["training.dials.model.decoder.dropout_in={kind: constant, value: 0}", "model.decoder.dropout_in=0.1"],
            "model.decoder.dropout_in",
        ),
    ],
)
def test_a_number_that_a_dial_moves_cannot_be_set(remedies: list[str], overrides: list[str], number: str) -> None:
    with pytest.raises(InputError) as error:
        compose("demo", remedies, overrides)

    dial = f"training.dials.{number.removeprefix('training.')}"
    assert str(error.value) == (
        f"`{number}` would have no effect: the dial `{dial}` moves the same number. Set the dial instead."
    )


def test_a_dial_may_move_a_number_that_the_recipe_sets_and_leaves_the_others_free() -> None:
    free = compose("demo", ["anneal"], ["training.objective.weights.distortion=0.5"])["training"]
    moved = compose("demo", [], ["training.dials.clip={kind: constant, value: 1}"])["training"]
    assert free["objective"]["weights"]["distortion"] == 0.5
    assert free["dials"]["objective.weights.rate"]["kind"] == "linear"
    assert moved["dials"]["clip"] == {"kind": "constant", "value": 1}
    assert moved["clip"] == recipes()["demo"].spec["training"]["clip"]


def test_a_recipe_with_a_patch_for_no_remedy_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown remedy `agressive`\. Did you mean `aggressive`"):
        catalogue._recipe("mine", "says: x\nspec: {}\nremedies: {agressive: {}}")


# Somebody's own remedies.

OWN = """
remedies:
  gentle:
    says: The rate weighs a half.
    patch: {training: {objective: {weights: {rate: 0.5}}}}
"""


def test_a_file_of_ones_own_remedies_stands_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(OWN)

    spec = compose("text", ["gentle+aggressive"], own=tmp_path / "my.yaml")

    assert spec["training"]["objective"]["weights"]["rate"] == 0.5
    assert spec["training"]["procedure"]["kind"] == "aggressive"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "my.yaml`: No such file or directory; check the path"),
        ("remedies: [", "my.yaml` is no YAML that can be read"),
        ("gentle: 3", "holds no remedies: write `remedies:`"),
        ("remedies: {gentle: 3}", "holds no remedies: write `remedies:`"),
        ("remedies: {plain: {says: x, patch: {}}}", "names the remedy `plain`, which there is already"),
        ("remedies: {gentle: {says: x}}", "`patch`: Field required"),
        ("remedies: {gentle: {says: x, patch: {}, place: somewhere}}", "`place`: Input should be 'encoder'"),
        ("remedies: {gentle: {says: x, patch: {trainig: {clip: 1}}}}", "unknown path `trainig`"),
    ],
)
def test_a_file_of_remedies_that_cannot_be_used_is_refused_in_a_line(
    tmp_path: Path, text: str | None, says: str
) -> None:
    if text is not None:
        (tmp_path / "my.yaml").write_text(text)

    with pytest.raises(InputError) as error:
        validated(compose("vector", ["gentle"], own=tmp_path / "my.yaml"))

    assert says in str(error.value)


def test_a_remedy_for_other_data_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("remedies: {mine: {says: x, needs: [vocabulary], patch: {seed: 1}}}")

    assert compose("text", ["mine"], own=tmp_path / "my.yaml")["seed"] == 1
    with pytest.raises(InputError) as error:
        compose("vectors", ["mine"], own=tmp_path / "my.yaml")
    assert str(error.value) == (
        "the remedy `mine` needs the number of types of the text, with markers, which data of the kind `vectors` does "
        "not have: leave it out, or start from another recipe than `vectors`."
    )
