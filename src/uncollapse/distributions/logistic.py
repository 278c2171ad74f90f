"""The logistic law in bins: of values on a scale, such as the 256 levels of a pixel."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from uncollapse.distributions.levels import OnScale, level


class DiscretisedLogistic(Distribution):
    r"""What a logistic law of mean m and scale s gives the bin around each of L levels in [0, 1].

    .. math:: p(x = \tfrac{k}{L - 1}) = \sigma(a_k) - \sigma(b_k), \quad
              a_k = \frac{1}{s} \Big(\frac{k + 1/2}{L - 1} - m\Big), \quad b_k = a_{k - 1}, \quad
              a_{L - 1} = \infty, \quad b_0 = -\infty

    The bins of both ends reach to infinity, so that the L probabilities sum to 1. The logarithm is exact wherever the
    difference underflows, far from m or for a large s, and so is its gradient:

    .. math:: \log(\sigma(a) - \sigma(b)) = \log \sigma(a) + \log \sigma(-b) + \log(1 - e^{b - a})

    References:
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016)
        | https://arxiv.org/abs/1606.04934

    Arguments:
        loc: m, of any shape.
        scale: s, positive, of a shape that broadcasts to that of m. The standard deviation is s pi / sqrt(3).
        levels: L, at least 2.
    """

    arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]

    def __init__(self, loc: Tensor, scale: Tensor, levels: int = 256) -> None:
        self.loc, self.scale, self.levels = loc, scale, levels
        super().__init__(torch.broadcast_shapes(loc.shape, scale.shape), validate_args=False)

    @property
    def support(self) -> Constraint:  # pyright: ignore[reportIncompatibleVariableOverride]
        return OnScale(self.levels)

    @property
    def mean(self) -> Tensor:
        """The expected level, as a value: the mean of the bins and not m, which may lie outside of [0, 1]."""
        # Edge by edge, as all of them at once would take L times the memory.
        above = ((self.loc - (k - 0.5) / (self.levels - 1)) / self.scale for k in range(1, self.levels))
        return sum((edge.sigmoid() for edge in above), torch.zeros_like(self.loc)) / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, element by element.

        Raises:
            InputError: for a value on none of the levels.
        """
        k, last = level(value, self.levels), self.levels - 1
        a, b = (((k + half) / last - self.loc) / self.scale for half in (0.5, -0.5))
        below, above = F.logsigmoid(a), F.logsigmoid(-b)
        within = below + above + (-torch.expm1(-1 / (last * self.scale))).log()
        return torch.where(k == 0, below, torch.where(k == last, above, within))

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            tiny = torch.finfo(self.loc.dtype).tiny
            shape = self._extended_shape(torch.Size(sample_shape))
            uniform = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
            drawn = self.loc + self.scale * uniform.clamp_min(tiny).logit()
            return (drawn * (self.levels - 1)).round().clamp(0, self.levels - 1) / (self.levels - 1)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> DiscretisedLogistic:  # pyright: ignore[reportIncompatibleMethodOverride]
        return DiscretisedLogistic(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.levels)
