"""`fit` and `load` with people's own networks and data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.utils.data import DataLoader, TensorDataset

import uncollapse as uc


class Decoder(nn.Linear):
    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        return Independent(Normal(super().forward(z), 1.0), 1)


def network() -> uc.VAE:
    torch.manual_seed(3)
    return uc.VAE(uc.Posterior(nn.Linear(5, 4), uc.gaussian, (2, 2)), Decoder(2, 5), uc.StandardNormal(2))


def items(n: int = 64) -> Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(1))


SOURCES = {
    "tensor": items(),
    "array": items().numpy(),
    "Dataset": TensorDataset(items(), torch.zeros(64)),
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
    loader = DataLoader(TensorDataset(items()), batch_size=8)
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
    other = uc.VAE(uc.Posterior(nn.Linear(5, 6), uc.gaussian, (3, 3)), Decoder(3, 5), uc.StandardNormal(3))
    with pytest.raises(uc.InputError, match="do not fit the model"):
        uc.load(tmp_path, model=other)


def test_a_folder_with_other_data_is_refused(tmp_path: Path) -> None:
    uc.fit(network(), items(), items(32), out=tmp_path, max_epochs=1, progress=False)
    with pytest.raises(uc.InputError, match="other data"):
        uc.fit(network(), items() + 1, items(32), out=tmp_path, max_epochs=1, progress=False)


def test_encode_gives_the_mean_and_a_draw_only_when_asked() -> None:
    model = network()
    trained = uc.fit(model, items(), items(32), max_epochs=1, progress=False)
    mean = trained.encode(items())
    assert torch.equal(mean, model.encoder(items()).mean)
    assert torch.equal(trained.encode(items(), sample=True), trained.encode(items(), sample=True))
    assert not torch.equal(trained.encode(items(), sample=True), mean)


def test_words_are_asked_of_a_model_that_has_none() -> None:
    trained = uc.fit(network(), items(), items(32), max_epochs=1, progress=False)
    with pytest.raises(uc.InputError, match="not trained on text"):
        trained.generate(2)


@pytest.mark.parametrize("missing", ["folder", "empty folder"])
def test_a_folder_that_holds_no_run_is_refused(tmp_path: Path, missing: str) -> None:
    path = tmp_path if missing == "empty folder" else tmp_path / "nowhere"
    with pytest.raises(uc.InputError, match="no run"):
        uc.load(path)


def test_numpy_and_torch_data_have_the_same_fingerprint() -> None:
    from uncollapse.experiment.api import fingerprint

    x: Any = items()
    assert fingerprint(x, [x]) == fingerprint(np.asarray(x), [x])
    assert fingerprint(x, [x]) != fingerprint(x + 1, [x])
