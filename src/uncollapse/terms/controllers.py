"""Terms whose weight follows what the model does, so that its rate or its distortion comes to a target.

The weight is a buffer, which checkpoints keep. It moves once an outer step, by what the whole batch said, and never
within the objective: what a step descends has the weight that the step before left.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from uncollapse.bound import Bound
from uncollapse.errors import InputError
from uncollapse.quantities import Dropout, Positive, Rate, Share, Weight
from uncollapse.terms.rates import per_item


class SoftFreeBits(nn.Module):
    r"""The rate at a weight that falls while the rate is below a target, and climbs to 1 while it is above.

    .. math:: \gamma \, \mathbb{E}_x \mathrm{KL}(q(z | x) \| p(z)), \quad
              \gamma \leftarrow \begin{cases} \gamma (1 + \epsilon) & \text{rate} > (1 + \delta) r \\
              \gamma / (1 + \epsilon) & \text{rate} < r \end{cases}

    References:
        | Variational Lossy Autoencoder (Chen et al., 2017), Appendix C
        | https://arxiv.org/abs/1611.02731

    Arguments:
        target: r.
        start: The weight at the start.
        step: By which share the weight moves at each step.
        tolerance: By which share the rate may exceed the target before the weight climbs.
        least: The lowest weight.
        smoothing: What is kept at each step of a moving average of the rate, which starts at 0; with 0 the batch's own
            rate decides.
    """

    weight: Tensor
    average: Tensor

    def __init__(
        self,
        target: Rate,
        start: Share = 0.1,
        step: Positive = 0.1,
        tolerance: Weight = 0.05,
        least: Share = 1e-3,
        smoothing: Dropout = 0.0,
    ) -> None:
        super().__init__()
        self.target, self.step, self.tolerance, self.least, self.smoothing = target, step, tolerance, least, smoothing
        self.register_buffer("weight", torch.tensor(start))
        self.register_buffer("average", torch.tensor(0.0))

    def forward(self, bound: Bound) -> Tensor:
        return self.weight * bound.rate.mean()

    def update(self, bound: Bound) -> None:
        self.average.mul_(self.smoothing).add_(bound.rate.mean(), alpha=1 - self.smoothing)
        target = per_item(self.target, bound)
        higher, lower = self.average > (1 + self.tolerance) * target, self.average < target
        self.weight.mul_((1 + self.step) ** (higher.float() - lower.float())).clamp_(self.least, 1.0)


class MinimumRate(nn.Module):
    r"""Holds the rate at or above a minimum, by an augmented Lagrangian: the minimum desired rate.

    .. math:: \frac{1}{2 \rho} \left( \max(0, u + \rho s)^2 - u^2 \right), \quad
              s = r - \mathbb{E}_x \mathrm{KL}(q(z | x) \| p(z)), \quad
              u \leftarrow \max(0, u + \eta s)

    It stands beside the rate, whose weight w it lowers to :math:`w - \max(0, u + \rho s)`, below 0 where the rate must
    be pushed up. The penalty damps the swings that a multiplier alone makes (`MinimumRateDual`); where there is room,
    both are 0. Of several processes each applies the penalty to its own items; u hears the whole batch.

    References:
        | Effective Estimation of Deep Generative Language Models (Pelsmaeker & Aziz, 2020)
        | https://arxiv.org/abs/1904.08194
        | Constrained Differential Optimization (Platt & Barr, 1987)

    Arguments:
        target: The minimum r.
        penalty: :math:`\rho`, a weight per nat.
        step: :math:`\eta`, how far the multiplier u moves at each step for a nat.
    """

    multiplier: Tensor

    def __init__(self, target: Rate, penalty: Positive = 0.1, step: Positive = 1e-3) -> None:
        super().__init__()
        self.target, self.penalty, self.step = target, penalty, step
        self.register_buffer("multiplier", torch.tensor(0.0))

    def forward(self, bound: Bound) -> Tensor:
        push = (self.multiplier + self.penalty * _missing(self.target, bound)).clamp_min(0.0)
        return (push.square() - self.multiplier.square()) / (2 * self.penalty)

    def update(self, bound: Bound) -> None:
        self.multiplier.add_(_missing(self.target, bound), alpha=self.step).clamp_min_(0.0)


class MinimumRateDual(nn.Module):
    r"""Holds the rate at or above a minimum, by a multiplier alone: the minimum desired rate as published.

    .. math:: u \left( r - \mathbb{E}_x \mathrm{KL}(q(z | x) \| p(z)) \right), \quad u = \log(1 + e^\pi)

    RMSprop climbs it in :math:`\pi` while the model descends it. It stands beside the rate, whose weight w it lowers to
    w - u. The paper keeps u positive by its absolute value, which may reflect it at 0; softplus is what a library of
    the same group does.

    References:
        | Effective Estimation of Deep Generative Language Models (Pelsmaeker & Aziz, 2020)
        | https://arxiv.org/abs/1904.08194

    Arguments:
        target: The minimum r.
        start: :math:`\pi` at the start; u is log 2 where it is 0.
        learning_rate: RMSprop's.
        smoothing: What RMSprop keeps of the mean squared gradient at each step.
    """

    position: Tensor
    square: Tensor

    def __init__(
        self, target: Rate, start: float = 0.0, learning_rate: Positive = 1e-3, smoothing: Dropout = 0.99
    ) -> None:
        super().__init__()
        self.target, self.learning_rate, self.smoothing = target, learning_rate, smoothing
        self.register_buffer("position", torch.tensor(float(start)))
        self.register_buffer("square", torch.tensor(0.0))

    def forward(self, bound: Bound) -> Tensor:
        return softplus(self.position) * _missing(self.target, bound)

    def update(self, bound: Bound) -> None:
        slope = self.position.sigmoid() * _missing(self.target, bound)
        self.square.mul_(self.smoothing).add_(slope.square(), alpha=1 - self.smoothing)
        self.position.add_(slope / (self.square.sqrt() + 1e-8), alpha=self.learning_rate)


class GECO(nn.Module):
    r"""Holds the distortion at a target at the least rate; it stands in the place of the distortion.

    .. math:: \lambda \left( -\mathbb{E}_x \mathbb{E}_{q(z|x)} \log p(x | z) - D \right), \quad
              \lambda \leftarrow \lambda \, e^{\nu c}

    c is a moving average of what is in the brackets, starting at 0. With the rate beside it the objective is the
    bound's where :math:`\lambda = 1`, and else one whose rate weighs :math:`1 / \lambda`.

    References:
        | Taming VAEs (Rezende & Viola, 2018)
        | https://arxiv.org/abs/1810.00597

    Arguments:
        target: D.
        speed: :math:`\nu`, for a nat; batches whose distortions differ much, as those of texts of one length, need a
            low one.
        smoothing: What is kept of c at each step.
        start: :math:`\lambda` at the start.
        least, most: Its limits.

    Raises:
        InputError: where the limits are no range.
    """

    weight: Tensor
    average: Tensor

    def __init__(
        self,
        target: Rate,
        speed: Positive = 0.01,
        smoothing: Dropout = 0.99,
        start: Positive = 1.0,
        least: Positive = 0.01,
        most: Positive = 100.0,
    ) -> None:
        super().__init__()
        _check_range(least, most)
        self.target, self.speed, self.smoothing, self.least, self.most = target, speed, smoothing, least, most
        self.register_buffer("weight", torch.tensor(float(start)))
        self.register_buffer("average", torch.tensor(0.0))

    def forward(self, bound: Bound) -> Tensor:
        return self.weight * self._excess(bound)

    def update(self, bound: Bound) -> None:
        self.average.mul_(self.smoothing).add_(self._excess(bound), alpha=1 - self.smoothing)
        self.weight.mul_((self.speed * self.average).exp()).clamp_(self.least, self.most)

    def _excess(self, bound: Bound) -> Tensor:
        return bound.distortion.mean() - per_item(self.target, bound)


class ControlledRate(nn.Module):
    r"""The rate at a weight that a proportional-integral controller sets, so that the rate comes to a target.

    .. math:: \beta \, \mathbb{E}_x \mathrm{KL}(q(z | x) \| p(z)), \quad
              \beta \leftarrow \frac{K_p}{1 + e^{e}} + I + \beta_\mathrm{least}, \quad
              I \leftarrow I - K_i e, \quad e = r - \text{rate}

    The weight keeps within its limits, and the integral rests where it would leave them, so that it does not run away
    while nothing can be done.

    References:
        | ControlVAE: Controllable Variational Autoencoder (Shao et al., 2020)
        | https://arxiv.org/abs/2004.05988

    Arguments:
        target: r.
        proportional: :math:`K_p`.
        integral: :math:`K_i`, for a nat.
        least, most: The limits of the weight, which starts at the lower one.

    Raises:
        InputError: where the limits are no range.
    """

    weight: Tensor
    total: Tensor

    def __init__(
        self,
        target: Rate,
        proportional: Weight = 0.01,
        integral: Weight = 1e-4,
        least: Weight = 0.0,
        most: Positive = 1.0,
    ) -> None:
        super().__init__()
        _check_range(least, most)
        self.target, self.proportional, self.integral = target, proportional, integral
        self.least, self.most = least, most
        self.register_buffer("weight", torch.tensor(float(least)))
        self.register_buffer("total", torch.tensor(0.0))

    def forward(self, bound: Bound) -> Tensor:
        return self.weight * bound.rate.mean()

    def update(self, bound: Bound) -> None:
        error = _missing(self.target, bound)
        total = self.total - self.integral * error
        asked = self.proportional * (-error).sigmoid() + total + self.least
        self.total.copy_(torch.where((asked >= self.least) & (asked <= self.most), total, self.total))
        self.weight.copy_(asked.clamp(self.least, self.most))


def _missing(target: float | str, bound: Bound) -> Tensor:
    """By how much the rate is below a target, (); negative where it is above."""
    return per_item(target, bound) - bound.rate.mean()


def _check_range(least: float, most: float) -> None:
    if least >= most:
        raise InputError(f"a weight from {least:g} to {most:g} has no room to move: give a `least` below `most`.")
