"""`fit` and `load` with people's own networks and data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.utils.data import DataLoader, TensorDataset

import uncollapse as uc
from test_execute import replaced
from uncollapse.experiment import run


class Decoder(nn.Linear):
    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        return Independent(Normal(super().forward(z), 1.0), 1)


def network(size: int = 2) -> uc.VAE:
    torch.manual_seed(3)
    encoder = uc.Posterior(nn.Linear(5, 2 * size), uc.gaussian, (size, size))
    return uc.VAE(encoder, Decoder(size, 5), uc.StandardNormal(size))


def items(n: int = 64) -> Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(1))


SOURCES = {
    "tensor": items(),
    "array": items().numpy(),
    "Dataset": TensorDataset(items(), torch.zeros(64)),
    "DataLoader": DataLoader(TensorDataset(items()), batch_size=16, shuffle=True),
    "float64": items().double(),
    "pair": (items(), torch.arange(64)),
    "pair of arrays": (items().numpy(), np.arange(64)),
    "list of pairs": [(x, i) for i, x in enumerate(items())],
    "list of rows": items().tolist(),
    "batches": list(items().split(16)),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_trains_alike(kind: str) -> None:
    model, settings = network(), {"batch_size": 16, "max_epochs": 2, "progress": False}
    uc.fit(model, SOURCES[kind], items(32), **settings)
    reference = network()
    uc.fit(reference, items(), items(32), **settings)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), reference.parameters(), strict=True))


def test_a_one_shot_source_is_refused_with_the_reason() -> None:
    loader = DataLoader(TensorDataset(items()), batch_size=8, drop_last=True)
    with pytest.raises(uc.InputError, match="resumes exactly only"):
        uc.fit(network(), loader, items(), progress=False)


def test_a_remedy_of_the_catalogue_changes_the_training() -> None:
    models = [network(), network()]
    for model, remedies in zip(models, ([], ["aggressive", "anneal"]), strict=True):
        uc.fit(model, items(), items(32), remedies, max_epochs=1, progress=False)
    first, second = (model.encoder.net.weight for model in models)
    assert not torch.equal(first, second)


def test_settings_and_shorthands_reach_the_run(tmp_path: Path) -> None:
    settings = {"training.clip": None}
    given = {"max_epochs": 1, "learning_rate": 0.5, "settings": settings, "progress": False}
    uc.fit(network(), items(), items(32), out=tmp_path, **given)
    text = (tmp_path / "spec.yaml").read_text()
    assert "clip: null" in text
    assert text.count("learning_rate: 0.5") == 2
    assert "max_epochs: 1" in text


def test_a_run_of_ones_own_network_is_loaded_into_it(tmp_path: Path) -> None:
    trained = uc.fit(network(), items(), items(32), out=tmp_path, max_epochs=1, progress=False)
    again = uc.load(tmp_path, model=network())
    assert torch.equal(trained.encode(items()), again.encode(items()))


def test_a_run_of_ones_own_network_needs_it_to_load(tmp_path: Path) -> None:
    uc.fit(network(), items(), items(32), out=tmp_path, max_epochs=1, progress=False)
    with pytest.raises(uc.InputError, match=r"load\(path, model=...\)"):
        uc.load(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    uc.fit(network(), items(), items(32), out=tmp_path, max_epochs=1, progress=False)
    with pytest.raises(uc.InputError, match="do not fit the model"):
        uc.load(tmp_path, model=network(3))


def test_encode_gives_the_mean_and_a_draw_only_when_asked() -> None:
    model = network()
    trained = uc.fit(model, items(), items(32), max_epochs=1, progress=False)
    mean = trained.encode(items())
    assert torch.equal(mean, model.encoder(items()).mean)
    assert torch.equal(trained.encode(items(), sample=True), trained.encode(items(), sample=True))
    assert not torch.equal(trained.encode(items(), sample=True), mean)


def test_ones_own_network_writes_draws_and_means_as_tensors() -> None:
    trained = uc.fit(network(), items(), items(32), max_epochs=1, progress=False)
    assert trained.generate(300).shape == (300, 5)
    assert trained.reconstruct(items()).equal(trained.reconstruct(items(), "mean"))
    assert not trained.reconstruct(items(), "mean").equal(trained.reconstruct(items(), "sample"))
    assert trained.interpolate(items()[0], items()[1], steps=4).shape == (4, 5)


def test_texts_are_not_asked_of_a_network_that_writes_tensors() -> None:
    trained = uc.fit(network(), items(), items(32), max_epochs=1, progress=False)
    with pytest.raises(uc.InputError, match=r"unknown way of writing tensors `greedy`\. There is: mean, sample"):
        trained.generate(2, "greedy")


@pytest.mark.parametrize("missing", ["folder", "empty folder"])
def test_a_folder_that_holds_no_run_is_refused(tmp_path: Path, missing: str) -> None:
    path = tmp_path if missing == "empty folder" else tmp_path / "nowhere"
    with pytest.raises(uc.InputError, match="no run"):
        uc.load(path)


OTHERS = {
    "data": {"train": items() + 1},
    "last batch": {"train": torch.cat([items(63), torch.zeros(1, 5)])},
    "validation data": {"valid": items(31)},
    "batch size": {"batch_size": 8},
    "network": {
        "model": uc.VAE(uc.Posterior(nn.Linear(5, 6), uc.gaussian, (3, 3)), Decoder(3, 5), uc.StandardNormal(3))
    },
}


@pytest.mark.parametrize("wrap", [lambda x: x, TensorDataset], ids=["tensor", "Dataset"])
@pytest.mark.parametrize("other", OTHERS)
def test_a_folder_of_another_experiment_is_refused(tmp_path: Path, other: str, wrap: Any) -> None:
    def train_on(model: nn.Module, train: Tensor, valid: Tensor, **more: Any) -> None:
        uc.fit(model, wrap(train), valid, out=tmp_path, max_epochs=1, progress=False, **more)

    given = {"model": network(), "train": items(), "valid": items(32), "batch_size": 16}
    train_on(**given)
    with pytest.raises(uc.InputError, match="holds a run of another"):
        train_on(**given | OTHERS[other])
    train_on(**given)


def test_data_is_read_once_more_for_a_folder_alone(tmp_path: Path) -> None:
    class Counted(TensorDataset):
        reads = 0

        def __getitem__(self, i: Any) -> Any:
            Counted.reads += 1
            return super().__getitem__(i)

    reads = []
    for out in (None, tmp_path):
        Counted.reads = 0
        uc.fit(network(), Counted(items()), items(32), out=out, max_epochs=1, progress=False)
        reads.append(Counted.reads)
    assert reads == [96, 160]  # With the batch that the preflight looks at.


def test_a_folder_changes_no_weight_where_a_dataset_draws(tmp_path: Path) -> None:
    class Noisy(TensorDataset):
        def __getitem__(self, i: Any) -> Any:
            return super().__getitem__(i)[0] + torch.randn(5)

    models = [network(), network(), network()]
    for model, out in zip(models, (None, tmp_path, tmp_path), strict=True):
        uc.fit(model, Noisy(items()), items(32), out=out, max_epochs=1, progress=False)
    first, second, third = (model.encoder.net.weight for model in models)
    assert torch.equal(first, second)
    assert torch.equal(first, third)


def test_a_training_leaves_a_new_run_in_its_removed_folder_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(uc.InputError, match="was removed while this run trained in it"):
        uc.fit(network(), items(), items(32), out=folder, progress=False, listeners=[replaced(folder)])
    assert (folder / run.METRICS).read_text() == "another run's\n"


def test_the_checkpoints_of_another_run_are_refused(tmp_path: Path) -> None:
    for seed in (0, 1):
        uc.fit(network(), items(), items(32), out=tmp_path / str(seed), max_epochs=1, progress=False, seed=seed)
    shutil.rmtree(tmp_path / "0" / "checkpoints")
    shutil.copytree(tmp_path / "1" / "checkpoints", tmp_path / "0" / "checkpoints")
    with pytest.raises(uc.InputError, match="is a checkpoint of another run"):
        uc.load(tmp_path / "0", model=network())
    with pytest.raises(uc.InputError, match="is a checkpoint of another run"):
        uc.fit(network(), items(), items(32), out=tmp_path / "0", max_epochs=1, progress=False)


def test_numpy_and_torch_data_have_the_same_fingerprint() -> None:
    from uncollapse.data.batches import source
    from uncollapse.experiment.api import fingerprint

    model, x = network(), items()
    assert fingerprint(model, [x]) == fingerprint(model, source(x.double().numpy(), 64))
    assert fingerprint(model, [x]) != fingerprint(model, [x + 1])


def test_an_array_of_numpy_s_own_type_is_trained_on_and_encoded() -> None:
    x = items().double().numpy()
    trained = uc.fit(network(), x, x[:32], max_epochs=1, progress=False)
    assert trained.encode(x).shape == (64, 2)


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path: Path) -> None:
    given = {
        "learning_rate": np.float32(0.5),
        "max_epochs": np.int64(1),
        "settings": {"training.clip": torch.tensor(2.0)},
    }
    uc.fit(network(), items(), items(32), out=tmp_path, progress=False, **given)
    text = (tmp_path / "spec.yaml").read_text()
    assert "learning_rate: 0.5" in text
    assert "clip: 2.0" in text


def test_a_setting_that_is_no_number_is_refused() -> None:
    with pytest.raises(uc.InputError, match=r"`training\.clip` cannot be"):
        uc.fit(network(), items(), items(32), settings={"training.clip": object()}, progress=False)


def test_a_model_without_players_is_refused() -> None:
    model: Any = nn.Linear(5, 2)
    with pytest.raises(uc.InputError, match="`Linear` cannot be trained: it has no `players`"):
        uc.fit(model, items(), items(32), progress=False)


def test_players_that_are_no_networks_are_refused() -> None:
    model: Any = network()
    model.players = lambda: None
    with pytest.raises(uc.InputError, match="`players` of `VAE` must give networks by their names"):
        uc.fit(model, items(), items(32), progress=False)


def test_a_list_of_rows_is_refused() -> None:
    with pytest.raises(uc.InputError, match="a list is taken for batches"):
        uc.fit(network(), list(items()), items(32), progress=False)


def test_the_seed_is_no_setting_and_may_be_a_number_of_numpy(tmp_path: Path) -> None:
    with pytest.raises(uc.InputError, match=r"the seed is no setting.*`fit\(\.\.\., seed=1\)`"):
        uc.fit(network(), items(), items(32), settings={"seed": 4}, progress=False)
    for seed in (1.7, "3", None):
        with pytest.raises(uc.InputError, match=r"the seed cannot be `.*`: give a whole number"):
            uc.fit(network(), items(), items(32), seed=seed, progress=False)  # pyright: ignore
    uc.fit(network(), items(), items(32), out=tmp_path, seed=np.int64(3), max_epochs=1, progress=False)  # pyright: ignore
    assert "seed: 3" in (tmp_path / "spec.yaml").read_text()


@pytest.mark.parametrize("device", ["cuda:99", "foo", None])
def test_a_device_that_is_not_there_is_refused(device: Any) -> None:
    with pytest.raises(uc.InputError, match="cannot use the device"):
        uc.fit(network(), items(), items(32), device=device, progress=False)
