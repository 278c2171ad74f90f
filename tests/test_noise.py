"""Noise for a share of a batch is what the whole batch would have drawn for those items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal
from torch.nn import functional as F

from uncollapse.bound import items
from uncollapse.data.sequences import as_text
from uncollapse.noise import NoiseByItem, WholeBatchNoise
from uncollapse.processes import Processes

# What is drawn for items (N, 11, 13), the items first in what it gives. Shares are smaller than 11 items.
DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout": lambda x: F.dropout(x, 0.5),
    "dropout of what an LSTM gives": lambda x: F.dropout(ONE_LAYER(x)[0], 0.5),
    "dropout with the items last": lambda x: F.dropout(
        x.permute(1, 2, 0).clone(memory_format=torch.contiguous_format), 0.5
    ).permute(2, 0, 1),
    "feature dropout": lambda x: F.dropout1d(x, 0.5),
    "draws of a law": lambda x: Independent(Normal(x, 1.0), 2).rsample((1,))[0],
    "draws that depend on the items": lambda x: Bernoulli(probs=x.sigmoid()).sample(),
    "numbers of a size": lambda x: torch.randn(len(x), 11, 13, device=x.device),
    "numbers like others": lambda x: torch.rand_like(x),
    "a layer's dropout": lambda x: nn.Dropout(0.3)(x),
    "dropout between layers": lambda x: RECURRENT(x)[0],
    "a mask for all items": lambda x: x * F.dropout(torch.ones(11, 13, device=x.device), 0.5),
}
ONE_LAYER = nn.LSTM(13, 5, batch_first=True).requires_grad_(False)
RECURRENT = nn.LSTM(13, 5, num_layers=2, dropout=0.5, batch_first=True).requires_grad_(False)


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize(("total", "size"), [(8, 2), (7, 2), (7, 3), (5, 5), (2, 3), (1, 2)])
def test_a_share_of_the_noise_is_that_of_the_whole_batch(
    name: str, total: int, size: int, device: torch.device
) -> None:
    if device.type == "cuda" and name == "dropout between layers":
        pytest.skip("cuDNN draws the masks between its layers by itself")
    for layer in (ONE_LAYER, RECURRENT):
        layer.to(device)
    x = torch.randn(total, 11, 13, device=device)
    torch.manual_seed(1)
    whole, after = DRAWS[name](x), torch.rand((), device=device)
    for rank in range(size):
        share = Processes(rank, size).share(total)
        torch.manual_seed(1)
        with WholeBatchNoise(share.items, share.total):
            part = DRAWS[name](x[share.items])
        torch.testing.assert_close(part, whole[share.items])
        assert torch.rand((), device=device) == after


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("total", range(1, 9))
def test_the_shares_of_a_batch_are_the_batch(total: int, size: int) -> None:
    shares = [Processes(rank, size).share(total) for rank in range(size)]
    x = torch.randn(total)
    assert sum(share.weight for share in shares) == pytest.approx(1)
    mean = sum(share.weight * x[share.items].mean() for share in shares)
    assert mean == pytest.approx(x.mean().item(), abs=1e-6)
    counted = torch.cat([torch.arange(total)[share.items] for share in shares if share.weight])
    assert counted.equal(torch.arange(total))
    assert all(len(x[share.items]) for share in shares)


def test_attention_without_dropout_computes_on_a_share_as_on_its_own(device: torch.device) -> None:
    """Its mask is as long as the share, and is none of the items'."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).to(device).requires_grad_(False)
    x, mask = torch.randn(10, 5, 8, device=device), nn.Transformer.generate_square_subsequent_mask(5, device=device)
    with WholeBatchNoise(slice(5, 10), 10):
        part = layer(x[5:], src_mask=mask)
    torch.testing.assert_close(part, layer(x, src_mask=mask)[5:])


def test_a_recurrent_kernel_of_a_gpu_computes_on_a_share_as_it_is() -> None:
    x, h = torch.empty(3, 5, 4, device="meta"), torch.empty(1, 3, 6, device="meta")
    weights = [torch.empty(size, device="meta") for size in ((24, 4), (24, 6), (24,), (24,))]
    with WholeBatchNoise(slice(0, 3), 6):
        found = torch.ops.aten._cudnn_rnn(x, weights, 4, None, h, h, 2, 6, 0, 1, True, 0.0, True, False, [], None)
    assert found[0].shape == (3, 5, 6)


def test_what_is_drawn_after_a_choice_of_tokens_is_the_same_in_all_processes() -> None:
    text = as_text([[1, 5, 6, 7, 8, 2], [1, 5, 2], [1, 2], [1, 7, 7, 2]])
    after = []
    for rank in range(2):
        share = Processes(rank, 2).share(4)
        torch.manual_seed(1)
        with WholeBatchNoise(share.items, share.total):
            items(text, share.items).thinned(0.5)
        after.append(torch.rand(()))
    assert after[0] == after[1]


@pytest.mark.parametrize("draw", [lambda x: torch.randn_like(x), lambda x: nn.functional.dropout(x, 0.5)])
def test_the_noise_of_an_item_does_not_depend_on_its_company(draw: Any) -> None:
    x = torch.ones(2, 5, 20)
    with NoiseByItem(0, [3, 1, 4, 7, 5]):
        both = [draw(x), draw(x)]
    with NoiseByItem(0, [4]):
        alone = [draw(x[:, 2:3]), draw(x[:, 2:3])]
    for many, one in zip(both, alone, strict=True):
        assert torch.equal(many[:, 2:3], one)
        assert not torch.equal(many[:, 1:2], one)
    assert not torch.equal(*both)
