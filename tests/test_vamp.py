"""A prior that is made of posteriors: whose they are, and what it costs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.data.text import Text
from uncollapse.divergence import kl_by_group
from uncollapse.errors import InputError
from uncollapse.metrics.information import mutual_information
from uncollapse.model import VAE
from uncollapse.nets.lstm import LSTMEncoder
from uncollapse.nets.mlp import MLPDecoder
from uncollapse.nets.vamp import VampPrior
from uncollapse.posteriors import Posterior, diagonal, gaussian
from uncollapse.posteriors.normalised import normalised

pytestmark = pytest.mark.usefixtures("float64")


class Channel(nn.Module):
    """q(z | x) = N(x, 1/4)."""

    def forward(self, x: Tensor) -> Distribution:
        return gaussian(x, torch.full_like(x, 0.25).log())


def of_points(*points: float) -> VampPrior:
    prior = VampPrior(Channel(), (1,), len(points))
    prior.inputs.data = torch.tensor(points).unsqueeze(1)
    return prior


def of_text(vocabulary: int = 9) -> Posterior:
    return diagonal(lambda outputs: LSTMEncoder(vocabulary, 3, 4, outputs), 2)


def test_the_density_is_the_mean_of_the_posteriors() -> None:
    assert of_points(-1.0, 1.0)(Channel()).log_prob(torch.tensor([0.3])).item() == pytest.approx(
        -1.8121023811, abs=1e-9
    )


def test_where_the_pseudo_inputs_are_the_items_the_rate_is_the_information() -> None:
    x = torch.tensor([[-1.0], [1.0]])
    q, p = Channel()(x), of_points(-1.0, 1.0)(Channel())
    z = q.sample(torch.Size((100_000,)))
    assert kl_by_group(q, p, q.log_prob(z), p.log_prob(z)).mean().item() == pytest.approx(0.6327201937, abs=0.005)
    assert mutual_information(q, passes=500).value == pytest.approx(0.6327201937, abs=0.03)  # pyright: ignore


def test_it_owns_its_pseudo_inputs_and_leaves_the_encoder_to_its_player() -> None:
    encoder = diagonal(lambda outputs: nn.Linear(5, outputs), 2)
    model = VAE(encoder, MLPDecoder((5,), 2, []), VampPrior(encoder, (5,), 3))
    assert list(dict(model.prior.named_parameters())) == ["inputs"]

    encoder.requires_grad_(False)
    model(torch.randn(4, 5)).rate.sum().backward()

    assert model.prior.inputs.grad is not None
    assert (model.prior.inputs.grad != 0).any()


def test_the_encoder_learns_from_its_part_in_the_prior() -> None:
    encoder = diagonal(lambda outputs: nn.Linear(5, outputs), 2)
    VampPrior(encoder, (5,), 3)(encoder).log_prob(torch.randn(2)).backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in encoder.parameters())


def test_pseudo_texts_are_read_as_texts_of_their_embeddings() -> None:
    encoder = of_text()
    prior, words = VampPrior(encoder, components=2, length=3), torch.tensor([[1, 5, 2], [1, 7, 2]])
    prior.inputs.data = encoder.net.embedding(words).detach()  # pyright: ignore[reportCallIssue]
    each, exact = prior(encoder).component_distribution, encoder(Text(words))  # pyright: ignore
    torch.testing.assert_close(each.mean, exact.mean)
    torch.testing.assert_close(each.variance, exact.variance)


def test_pseudo_texts_have_a_gradient_and_leave_the_embeddings_alone() -> None:
    encoder = of_text()
    prior = VampPrior(encoder, components=2, length=3)
    prior(encoder).log_prob(torch.randn(2)).backward()
    assert prior.inputs.grad is not None
    assert (prior.inputs.grad != 0).all()
    assert encoder.net.embedding.weight.grad is None  # pyright: ignore[reportAttributeAccessIssue]


def test_running_averages_are_of_the_data_alone() -> None:
    encoder = normalised(lambda outputs: nn.Linear(5, outputs), 2)
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    VampPrior(encoder, (5,), 30)(encoder)
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())


def test_bounded_pseudo_inputs_are_numbers_from_0_to_1() -> None:
    prior = VampPrior(Channel(), (1,), 3, bounded=True)
    prior.inputs.data = torch.tensor([[-4.0], [0.5], [4.0]])
    assert prior(Channel()).component_distribution.mean.flatten().tolist() == [0.0, 0.5, 1.0]  # pyright: ignore


def test_an_encoder_without_embeddings_reads_no_pseudo_texts() -> None:
    with pytest.raises(InputError, match="`Channel` has 0 tables of them: take an encoder that"):
        VampPrior(Channel())
