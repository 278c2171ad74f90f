r"""Models of scvi-tools.

.. math:: x \sim p(x | z, l, s), \quad z \sim N(0, I), \quad
          l = \log \textstyle\sum_g x_g \;\text{ or }\; l \sim N(m_s, v_s)

of counts x of a cell by gene, with the library size l and the batch s: its covariates stay the cell's own throughout.
"""

from __future__ import annotations

from collections import namedtuple
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.adapters.foreign import Encoder, Standard, divided
from uncollapse.adapters.libraries import library
from uncollapse.data.batches import Batched, in_order
from uncollapse.distributions.diagonal import Diagonal
from uncollapse.distributions.flattened import Scored
from uncollapse.errors import InputError
from uncollapse.model import VAE


class Cells(NamedTuple):
    """A model of scvi-tools, and cells for it; in this order what `diagnose` takes."""

    model: VAE
    data: Batched


def from_scvi(model: Any, adata: Any = None, *, batch_size: int = 128) -> Cells:
    """A model of scvi-tools and its cells, as in `uncollapse.diagnose(*uncollapse.from_scvi(model))`.

    The bound is the model's own `get_elbo`: NB, ZINB, Poisson or normal likelihood, dispersions and covariates are as
    it was set up. Where the library size is latent (`use_observed_lib_size=False`), its logarithm is the last unit of
    z, under its prior by batch.

    References:
        | Deep Generative Modeling for Single-Cell Transcriptomics (Lopez et al., 2018)
        | https://doi.org/10.1038/s41592-018-0229-2

    Arguments:
        model: A `scvi.model.SCVI` or `LinearSCVI`.
        adata: Other cells, set up as those that the model was made with; these, if not given.
        batch_size: Cells of a batch, each read when it is asked for.

    Raises:
        InputError: for another model, one without its counts, and where scvi-tools is not installed.
    """
    scvi = library("scvi", "from_scvi", "scvi-tools>=1.4")
    if not isinstance(model, (scvi.model.SCVI, scvi.model.LinearSCVI)):
        raise InputError(
            f"`{type(model).__name__}` is not a model of scvi-tools that can be read: `SCVI` and `LinearSCVI` can. For "
            "another one give halves of its module to `uncollapse.foreign`."
        )
    if model.minified_data_type is not None:
        raise InputError("the model's data are minified, so their counts are gone: give the model as it was before.")
    data = _cells(model, adata, batch_size, scvi.REGISTRY_KEYS.X_KEY)
    return Cells(divided(_model(model.module), data[0]), data)


def _cells(model: Any, adata: Any, batch_size: int, counts: str) -> Batched:
    adata = model._validate_anndata(adata)
    dataset = model.get_anndata_manager(adata, required=True).create_torch_dataset()
    kind = _batch_of(tuple(dataset[[0]]), counts)
    return Batched(partial(_read, dataset, kind), in_order(len(dataset), batch_size))


def _batch_of(names: tuple[str, ...], counts: str) -> type:
    """The type of a batch: what a loader of scvi's gives, under the same names, all of it for the decoder to see."""
    whole = property(lambda x: x)
    properties = {"target": property(lambda x: getattr(x, counts)), "seen": whole, "given": whole}
    return type("CellBatch", (namedtuple("CellBatch", names),), properties)


def _read(dataset: Any, kind: type, ids: Tensor) -> Any:
    return kind(**{name: torch.as_tensor(np.asarray(values)) for name, values in dataset[ids.tolist()].items()})


def _posterior(module: Any, x: Any) -> Distribution:
    """q(z | x), with the logarithm of the library size as the last unit where that is latent."""
    found = module.inference(**module._get_inference_input(x._asdict()))
    laws = [found["qz"]] if found["ql"] is None else [found["qz"], found["ql"]]
    return Diagonal(torch.cat([law.loc for law in laws], -1), torch.cat([law.scale for law in laws], -1), 1)


class Decoder(nn.Module):
    """p(x | z) of cells with their covariates."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.score = partial(_score, module)

    def forward(self, z: Tensor, seen: Any) -> Distribution:
        return Scored(partial(self.score, seen), z)


def _score(module: Any, seen: Any, x: Tensor, z: Tensor) -> Tensor:
    """log p(x | z) by gene, of items and draws that are each in one dimension."""
    tensors = {name: value.repeat(len(z) // len(value), 1) for name, value in seen._asdict().items()}
    z, size = (z, x.sum(1, keepdim=True).log()) if module.use_observed_lib_size else (z[:, :-1], z[:, -1:])
    drawn = {"z": module.z_encoder.z_transformation(z), "library": size}
    return module.generative(**module._get_generative_input(tensors, drawn))["px"].log_prob(x)


class LibraryPrior(nn.Module):
    """The prior of z and of the logarithm of the library size, whose mean and variance are those of the batch."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.latent, self.of_batch = module.n_latent, module._compute_local_library_params

    def forward(self, given: Any) -> Distribution:
        mean, variance = self.of_batch(given.batch)
        zeros = mean.new_zeros(len(mean), self.latent)
        return Diagonal(torch.cat([zeros, mean], 1), torch.cat([zeros + 1, variance.sqrt()], 1), 1)


def _model(module: Any) -> VAE:
    prior = Standard() if module.use_observed_lib_size else LibraryPrior(module)
    return VAE(Encoder(partial(_posterior, module), [module]), Decoder(module), prior)
