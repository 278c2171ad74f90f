"""Modules of Lightning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Literal

from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.adapters.foreign import Likelihood, foreign
from uncollapse.bound import Batch, Labelled
from uncollapse.errors import InputError, unknown
from uncollapse.model import VAE

#: What a module logs by, and shows that nobody trains it.
LOGS = ("log", "log_dict")


def from_lightning(
    module: nn.Module,
    *,
    encode: str | Callable[..., Any] = "encode",
    decode: str | Callable[..., Any] = "decode",
    likelihood: Likelihood | Callable[..., Distribution] | None = None,
    scale: float | Literal["learned"] | None = None,
    prior: nn.Module | None = None,
    example: Batch = None,
) -> VAE:
    """A `LightningModule` as a model, by the names of its halves.

    Arguments:
        module: Whose parameters are trained.
        encode: As for `foreign`, or the name of such a method or module, with dots for one within another, such as
            "vae.encode".
        decode: Likewise.
        likelihood: As for `foreign`.
        scale: As for `foreign`.
        prior: As for `foreign`.
        example: As for `foreign`.

    Raises:
        InputError: where the module has nothing of such a name, and as `foreign` does.

    Example:
        >>> from torch import nn, randn
        >>> import uncollapse as uc
        >>> class Module(nn.Module):  # Or a LightningModule.
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.vae = nn.ModuleDict({"encoder": nn.Linear(8, 4), "decoder": nn.Linear(2, 8)})
        ...     def posterior(self, x):
        ...         return self.vae["encoder"](x).chunk(2, 1)
        >>> model = uc.from_lightning(Module(), encode="posterior", decode="vae.decoder", likelihood="gaussian")
        >>> model(randn(3, 8)).kl.shape
        torch.Size([3, 2])
    """
    return foreign(
        module,
        encode=named(module, "encode", encode),
        decode=named(module, "decode", decode),
        likelihood=likelihood,
        scale=scale,
        prior=prior,
        example=example,
    )


def named(module: nn.Module, half: str, name: str | Callable[..., Any]) -> Callable[..., Any]:
    """What a module calls by a name, as it is where it is none.

    Raises:
        InputError: where there is nothing that can be called so, with what there is.
    """
    if not isinstance(name, str):
        return name
    try:
        found = attrgetter(name)(module)
    except AttributeError:
        found = None
    if not callable(found):
        children = [child for child, _ in module.named_modules() if child]
        own = [method for method, value in vars(type(module)).items() if callable(value) and method[0] != "_"]
        raise unknown(f"`{half}` of a `{type(module).__name__}`", name, [*own, *children])
    return found


def lightning_loss(module: Any) -> Callable[[Batch], Tensor]:
    """The loss of a `LightningModule`'s `training_step`, for `uncollapse.diagnose(..., loss=...)`.

    Items with labels reach it as the pair `(x, y)`, and what it logs goes nowhere.

    Arguments:
        module: The very module that the model is made of.

    Raises:
        InputError: for a module that steps by itself, whose loss nobody sees.
    """
    if not module.automatic_optimization:
        raise InputError(
            f"`{type(module).__name__}` steps by itself (`automatic_optimization` is off), and does not give the loss "
            "it steps by: write it as `loss=lambda x: ...`."
        )

    def loss(x: Batch) -> Tensor:
        with _silent(module):
            found = module.training_step((x.x, x.label) if isinstance(x, Labelled) else x, 0)
        return found["loss"] if isinstance(found, dict) else found

    return loss


@contextmanager
def _silent(module: Any) -> Iterator[None]:
    """Within it the module logs nothing, which outside of a training it cannot."""
    module.__dict__.update(dict.fromkeys(LOGS, _nothing))
    try:
        yield
    finally:
        for name in LOGS:
            del module.__dict__[name]


def _nothing(*_: Any, **__: Any) -> None:
    """Takes what is logged."""
