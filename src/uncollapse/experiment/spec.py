"""The specification of an experiment: data that is validated whole before anything is built.

Nothing here imports torch, so that the command line can answer at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from uncollapse.errors import InputError
from uncollapse.experiment.paths import explained
from uncollapse.quantities import steps

#: Grows where the meaning of a spec changes, so that runs under the old meaning are not taken for the new.
SCHEMA = 1


def _duration(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str) or (isinstance(value, int) and value < 1):
        raise ValueError('write "10 epochs", "500 steps", or a whole number of steps from 1 on')
    try:
        steps(value, 1)
    except InputError as error:
        raise ValueError(str(error)) from None
    return value


Count = Annotated[int, Field(ge=1, le=2**63 - 1)]
#: A number from 0 on that a generator takes as its seed.
Index = Annotated[int, Field(ge=0, le=2**63 - 1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
#: A length of training: "10 epochs", "500 steps", or a whole number of steps.
Duration = Annotated[Any, PlainValidator(_duration)]


class Section(BaseModel):
    """A part of a spec: no unknown entry, no conversion of types, no number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Batching(Section):
    """How items become batches.

    Arguments:
        batch_size: The most items of a training batch.
        batching: "equal", all items of a batch have one length, as in He et al. (2019); or "padded".
        evaluation_batch_size: The most items of a validation or test batch; the published MI depends on it.
    """

    batch_size: Count = 32
    batching: Literal["equal", "padded"] = "equal"
    evaluation_batch_size: Count = 32


class TextData(Batching):
    """A text in files; see `data.text.Corpus.load`.

    Arguments:
        train, valid, test: Paths, one item a line; the last two are split off the first where they are null.
        tokens: "words" or "characters".
        size: The most types of the vocabulary, without markers; null for all.
        min_count: How often a type must appear in the training split.
        max_length: Longer items are dropped; null for none.
        labels: Whether a label and a tab precede every item.
        items: How many of the first training items to keep; null for all.
        split_seed: Of the split; part of the data, so not the seed of a training.
    """

    kind: Literal["text"]
    train: str
    valid: str | None = None
    test: str | None = None
    tokens: Literal["words", "characters"] = "words"
    size: Count | None = None
    min_count: Count = 1
    max_length: Count | None = None
    labels: bool = False
    items: Count | None = None
    split_seed: Index = 0


class StdlibData(Batching):
    """Sentences of the standard library's documentation; see `data.stdlib.corpus`.

    Arguments:
        train, valid, test: How many sentences.
        size: The most types of the vocabulary, without markers.
        split_seed: Of the choice of sentences; part of the data, so not the seed of a training.
    """

    kind: Literal["stdlib"]
    train: Count = 4000
    valid: Count = 500
    test: Count = 500
    size: Count = 1000
    split_seed: Index = 0


class SyntheticData(Batching):
    """The synthetic sequences of He et al. (2019); see `data.synthetic.corpus`."""

    kind: Literal["synthetic"]


class Encoder(Section):
    """The encoder; see `nets.lstm.LSTMEncoder`."""

    kind: Literal["lstm"] = "lstm"
    embedding: Count
    hidden: Count


class Decoder(Section):
    """The decoder; see `nets.lstm.LSTMDecoder`."""

    kind: Literal["lstm"] = "lstm"
    embedding: Count
    hidden: Count
    dropout_in: Dropout = 0.5
    dropout_out: Dropout = 0.5
    skip: bool = False


class Model(Section):
    """A text VAE with a Gaussian posterior and a standard normal prior.

    Arguments:
        latent: The number of latent units.
        initialisation: See `nets.lstm.initialise`.
    """

    encoder: Encoder
    decoder: Decoder
    latent: Count
    initialisation: Literal["small_uniform", "offset", "torch"] = "small_uniform"


class Weights(Section):
    """The objective's weights by term."""

    distortion: Weight = 1.0
    rate: Weight = 1.0


class Objective(Section):
    """What is descended; see `objective.Objective`."""

    weights: Weights = Weights()


class Linear(Section):
    """See `dials.Linear`."""

    kind: Literal["linear"]
    start: Weight
    stop: Weight
    over: Duration


class Constant(Section):
    """See `dials.Constant`."""

    kind: Literal["constant"]
    value: Weight


class Joint(Section):
    """See `training.procedures.Joint`."""

    kind: Literal["joint"]


class Until(Section):
    """See `training.procedures.UntilInformationDrops`."""

    estimator: Literal["full", "published"] = "full"
    min_steps: Index = 0
    max_epochs: Count | None = None
    max_steps: Count | None = None
    start: float = 0.0


class Aggressive(Section):
    """See `training.procedures.Aggressive`."""

    kind: Literal["aggressive"]
    window: Count = 10
    limit: Count = 99
    ties: Literal["stop", "continue"] = "stop"
    budget: Count | None = None
    clip: Literal["joint", "own", "ratio"] = "joint"
    until: Until = Until()
    inner_clip: Positive | None = None
    share: Annotated[float, Field(gt=0, le=1)] = 1.0


class Optimiser(Section):
    """A player's optimiser; see `training.players.Optimiser`.

    Arguments:
        kind: "adam" or "sgd".
        learning_rate: The step size.
        factor: What the learning rate is multiplied by, so that a remedy can raise any recipe's.
    """

    kind: Literal["adam", "sgd"] = "adam"
    learning_rate: Positive = 1e-3
    factor: Positive = 1.0


class Plateau(Section):
    """See `training.plateau.Plateau`."""

    patience: Count = 2
    factor: Annotated[float, Field(gt=0, le=1)] = 0.5
    limit: Count = 5
    not_before: Index = 15
    reload: bool = True


Data = Annotated[TextData | StdlibData | SyntheticData, Field(discriminator="kind")]
Schedule = Annotated[Linear | Constant, Field(discriminator="kind")]
Procedure = Annotated[Joint | Aggressive, Field(discriminator="kind")]


class Training(Section):
    """All that does not depend on the model, so that it serves people's own networks too.

    Arguments:
        dials: Schedules by the path of the number they move, such as "objective.weights.rate".
        optimisers: By player, such as "inference" and "generation"; Adam at 1e-3 for those not named.
        clip: The largest gradient norm; null for no clipping.
        plateau: The learning-rate decay; null for none.
    """

    objective: Objective = Objective()
    dials: dict[str, Schedule] = Field(default_factory=dict)
    procedure: Procedure = Joint(kind="joint")
    optimisers: dict[str, Optimiser] = Field(default_factory=dict)
    clip: Positive | None = 5.0
    max_epochs: Count = 100
    plateau: Plateau | None = None


class Spec(Section):
    """An experiment; `data` and `model` are null where they are people's own."""

    data: Data | None = None
    model: Model | None = None
    training: Training = Training()
    seed: Index = 0


def validated(data: Mapping[str, Any]) -> Spec:
    """The spec that some data says.

    Raises:
        InputError: one line that names every wrong entry, what it is and what it may be.
    """
    try:
        return Spec.model_validate(dict(data))
    except ValidationError as error:
        wrong = [explained(Spec, data, one) for one in error.errors(include_url=False)]
        raise InputError("; ".join(one.rstrip(".") for one in wrong) + ".") from None


def identity(spec: Spec, fingerprint: str) -> str:
    r"""What makes two runs the same run, as 64 hexadecimal digits.

    .. math:: \text{SHA-256}(\text{spec}, \text{data}, \text{schema version})

    The fingerprint stands for the data; where its files lie does not matter.

    Arguments:
        spec: The spec.
        fingerprint: Of the data, such as `Corpus.fingerprint`.
    """
    said = spec.model_dump(mode="json")
    if spec.data is not None and spec.data.kind == "text":
        said["data"] = {k: v for k, v in said["data"].items() if k not in ("train", "valid", "test")}
    content = json.dumps({"schema": SCHEMA, "data": fingerprint, "spec": said}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
