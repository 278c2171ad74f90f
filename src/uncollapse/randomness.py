"""Randomness as a function of (seed, purpose, index), so that nothing depends on what was drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


def mix(seed: int, *parts: int | str) -> int:
    """A 63-bit seed that any change of its arguments changes."""
    text = "/".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def mixed(seed: int, purpose: str, items: Iterable[int]) -> Iterator[int]:
    """`mix(seed, purpose, item)` of every item; what they have in common is done once."""
    common = hashlib.blake2b(f"{seed}/{purpose}/".encode(), digest_size=8)
    for item in items:
        one = common.copy()
        one.update(str(item).encode())
        yield int.from_bytes(one.digest(), "big") >> 1


def generator(seed: int, *parts: int | str) -> torch.Generator:
    """A CPU generator of its own for one purpose."""
    return torch.Generator().manual_seed(mix(seed, *parts))


def reseed(seed: int, *parts: int | str, device: torch.device | str = "cpu") -> None:
    """Seeds torch's global generators, of the processor and of one device, for one purpose."""
    number = mix(seed, *parts)
    # Not `torch.manual_seed`, which also seeds devices that nobody here will restore.
    torch.default_generator.manual_seed(number)
    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device):  # Torch seeds the current one.
            torch.cuda.manual_seed(number)


@contextmanager
def seeded(seed: int, *parts: int | str, device: torch.device | str = "cpu") -> Iterator[None]:
    """Torch's global generators, seeded for one purpose within the block and restored after it."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        reseed(seed, *parts, device=device)
        yield
