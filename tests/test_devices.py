"""What a device is asked for."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch

from uncollapse import randomness
from uncollapse.errors import InputError
from uncollapse.training.devices import check_device


@pytest.mark.parametrize("device", ["foo", "", "meta", None, "cuda:99", "hpu", "opencl", torch.device("cuda", 99)])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(device: Any) -> None:
    with pytest.raises(InputError, match=r"^cannot use the device `.*`: .*\. There is: cpu") as error:
        check_device(device)
    assert "PyTorch, please report" not in str(error.value)


def test_a_gpu_can_be_asked_for_without_touching_it() -> None:
    with mock.patch("torch.cuda.device_count", return_value=2):
        assert check_device("cuda:1", touch=False) == torch.device("cuda:1")
        assert check_device("cuda", touch=False) == torch.device("cuda")


def test_the_gpu_that_is_asked_for_is_the_one_that_is_seeded() -> None:
    with mock.patch("torch.cuda.device") as chosen, mock.patch("torch.cuda.manual_seed") as seed:
        randomness.reseed(1, "x", device="cuda:1")
    chosen.assert_called_once_with(torch.device("cuda:1"))
    seed.assert_called_once_with(randomness.mix(1, "x"))
