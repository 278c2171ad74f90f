"""An encoder of text that was trained before, and that stays as it is."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from uncollapse.data.text import Text
from uncollapse.data.vocabulary import Vocabulary
from uncollapse.distributions.tokens import PAD
from uncollapse.errors import InputError

#: How many texts' codes are kept, so that each is read once.
MOST = 2**18
Readout = Literal["linear", "none"]


class FrozenEncoder(nn.Module):
    """A frozen network that reads a text as its words, and gives one code.

    It stays where it lies: a checkpoint holds its checksum alone. A text is read by itself and
    once, so that its code does not depend on the batch that it is in.

    Arguments:
        words: Of the data, to make texts of token ids.
        outputs: The size of the result.
        model: What a person calls the network.
        size: Of its codes.
        readout: "linear": a layer that is trained gives the result; "none": the code is the result.

    Raises:
        InputError: where the code is the result and not of its size; when it first reads, where a checkpoint is of
            other weights.
    """

    checksum: Tensor

    def __init__(self, words: Vocabulary, outputs: int, model: str, size: int, readout: Readout) -> None:
        super().__init__()
        self.words, self.model = words, model
        if readout == "none" and size != outputs:
            raise InputError(
                f"`{model}` gives codes of {size} numbers, and {outputs} are asked for: set `model.latent={size}`, or "
                "`model.encoder.readout=linear`."
            )
        self.output = nn.Linear(size, outputs) if readout == "linear" else nn.Identity()
        self.register_buffer("checksum", torch.zeros((), dtype=torch.int64))  # 0 where it has read nothing yet.
        # Behind a function, so that its weights are not this module's.
        self._read: Callable[[str], Tensor] | None = None
        self._codes: dict[tuple[int, ...], Tensor] = {}

    @abstractmethod
    def load(self, device: torch.device) -> tuple[nn.Module, Callable[[str], Tensor]]:
        """The network, on a device, and what gives the code, (size,), of a text whose unknown words are `<unk>`."""

    def forward(self, x: Text) -> Tensor:
        """The result for every text, with shape (B, outputs)."""
        texts = [tuple(row[row != PAD].tolist()) for row in x.tokens.cpu()]
        return self.output(torch.stack([self._code(ids) for ids in texts]).to(x.tokens.device))

    def _code(self, ids: tuple[int, ...]) -> Tensor:
        if ids in self._codes:
            return self._codes[ids]
        read = self._read = self._read or self._loaded()
        with torch.no_grad(), torch.autocast(self.checksum.device.type, enabled=False):
            code = read(self.words.decode(ids)).float().cpu()
        if len(self._codes) < MOST:
            self._codes[ids] = code
        return code

    def _loaded(self) -> Callable[[str], Tensor]:
        network, read = self.load(self.checksum.device)
        found = _checksum(network)
        if self.checksum and self.checksum != found:
            raise InputError(
                f"`{self.model}` has other weights than the encoder that this model was trained with: name that one as "
                "`model.encoder.model`."
            )
        self.checksum.fill_(found)
        return read


def _checksum(network: nn.Module) -> int:
    """A number of a network's weights, not 0."""
    found = hashlib.sha256()
    values: dict[str, Any] = network.state_dict()
    for name, value in sorted(values.items()):
        found.update(name.encode())
        found.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return int.from_bytes(found.digest()[:7]) + 1
