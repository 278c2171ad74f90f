"""Models of scvi-tools: their likelihoods, library sizes and covariates."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import uncollapse as uc

CELLS, GENES = 150, 20
#: Of the libraries beneath scvi-tools, and of its notes on a model that nobody trained.
pytestmark = pytest.mark.filterwarnings("ignore")

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "zinb": ("SCVI", {}),
    "nb by batch": ("SCVI", {"gene_likelihood": "nb", "dispersion": "gene-batch"}),
    "poisson": ("SCVI", {"gene_likelihood": "poisson", "encode_covariates": True}),
    "logistic normal": ("SCVI", {"latent_distribution": "ln"}),
    "library": ("SCVI", {"use_observed_lib_size": False}),
    "embedded batches": ("SCVI", {"batch_representation": "embedding"}),
    "linear": ("LinearSCVI", {}),
}


@pytest.fixture(scope="module")
def scvi() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("scvi", reason="scvi-tools is not installed")


def made(scvi: Any, case: str) -> Any:
    import anndata

    draw, (name, settings) = np.random.default_rng(0), MODELS[case]
    cells = anndata.AnnData(draw.negative_binomial(3, 0.4, size=(CELLS, GENES)).astype("float32"))
    cells.obs["donor"] = draw.choice(["a", "b"], CELLS)
    cells.obs["plate"], cells.obs["share"] = draw.choice(["u", "v", "w"], CELLS), draw.normal(size=CELLS)
    # The decoder of the linear model has no other covariates.
    more = {"categorical_covariate_keys": ["plate"], "continuous_covariate_keys": ["share"]} if name == "SCVI" else {}
    kind = getattr(scvi.model, name)
    kind.setup_anndata(cells, batch_key="donor", **more)
    torch.manual_seed(0)
    model = kind(cells, n_latent=4, **settings)
    model.module.eval()
    model.is_trained_ = True
    return model


@pytest.mark.parametrize("case", MODELS)
def test_the_bound_is_scvi_s_own_loss_cell_by_cell(scvi: Any, case: str) -> None:
    theirs = made(scvi, case)
    model, data = uc.from_scvi(theirs)
    cells = data[1]
    bound = model(cells, samples=2)

    module, tensors = theirs.module, cells._asdict()
    inferred = module.inference(**module._get_inference_input(tensors))
    z = bound.z[1]
    inferred["z"] = module.z_encoder.z_transformation(z[:, :4])
    if z.shape[1] > 4:
        inferred["library"] = z[:, 4:]
    generated = module.generative(**module._get_generative_input(tensors, inferred))
    expected = module.loss(tensors, inferred, generated)
    torch.testing.assert_close(-bound.log_likelihood[1], expected.reconstruction_loss["reconstruction_loss"])
    torch.testing.assert_close(bound.kl[:, :4].sum(1), expected.kl_local["kl_divergence_z"])
    torch.testing.assert_close(bound.kl[:, 4:].sum(1), expected.kl_local["kl_divergence_l"])


@pytest.mark.parametrize("case", ["zinb", "logistic normal"])
def test_the_elbo_is_scvi_s(scvi: Any, case: str) -> None:
    theirs = made(scvi, case)
    found = uc.evaluate(*uc.from_scvi(theirs), samples=0, bound_samples=32).neg_elbo
    expected = np.mean([-float(theirs.get_elbo()) for _ in range(16)])
    assert isinstance(found, uc.Estimate)
    assert found.value == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize(("case", "units"), [("zinb", 4), ("library", 5)])
def test_a_model_and_its_cells_are_diagnosed(scvi: Any, case: str, units: int) -> None:
    theirs = made(scvi, case)
    model, data = uc.from_scvi(theirs)
    assert set(model.players()) == {"inference", "generation"}

    def loss(x: Any) -> torch.Tensor:
        return theirs.module(x._asdict(), loss_kwargs={"kl_weight": 1.0})[2].loss

    found = uc.diagnose(model, data, loss=loss)
    assert found["units"].limit == units
    assert found["information"].value is not None
    if case == "zinb":
        assert found["loss-scale"].value == pytest.approx(1.0, abs=0.05)


def test_other_cells_are_read_a_batch_at_a_time(scvi: Any) -> None:
    theirs = made(scvi, "zinb")
    other = theirs.adata[:30].copy()
    model, data = uc.from_scvi(theirs, other, batch_size=20)
    assert [len(data[i].X) for i in range(len(data))] == [20, 10]
    np.testing.assert_array_equal(data[0].X.numpy(), other.X[:20])
    assert model(data[1]).z.shape == (1, 10, 4)


def test_a_model_that_it_cannot_read_is_refused(scvi: Any) -> None:
    with pytest.raises(uc.InputError, match="`dict` is not a model of scvi-tools that can be read: `SCVI` and"):
        uc.from_scvi({})
