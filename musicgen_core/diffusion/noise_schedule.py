"""The noise schedule of a diffusion model: how much noise there is at each level, and the steps of sampling.

After denoising diffusion probabilistic models (Ho et al., 2020, https://arxiv.org/abs/2006.11239), with the names of
their quantities: beta, alpha, and alpha bar.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

STEP_SPACING = 50
"""Training's noise levels from one step of sampling to the next."""


@dataclass(frozen=True)
class Transition:
    """One step of sampling: from a noise level to a lower one."""

    level: int
    """The noise level that the step starts from; 0 is the least noise."""
    alpha: float
    """Share of the signal's variance that remains from the lower level to this one."""
    alpha_bar: float
    """Share of the variance at this level that is signal."""
    fresh_noise: float
    """Standard deviation of the noise that is added after the step."""


@dataclass(frozen=True)
class NoiseSchedule:
    """The noise at each of training's levels: variances on a power curve.

    Raises ValueError where num_steps is not a multiple of the spacing of sampling's steps.
    """

    beta_t0: float = 1e-4
    """Variance that the first level adds."""
    beta_t1: float = 0.02
    """Variance that the last level adds."""
    beta_exp: float = 1.0
    """Exponent of the curve between them."""
    num_steps: int = 1000
    """Number of noise levels."""
    clip: float = 5.0
    """Samples are kept within plus and minus this value; 0 is no limit."""
    noise_scale: float = 1.0
    """Factor of all noise."""

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.num_steps % STEP_SPACING:
            raise ValueError(f"the noise levels must be a multiple of {STEP_SPACING}, got {self.num_steps}")

    def alpha_bars(self) -> Tensor:
        """Share of the variance that is signal at each level (alpha bar), `[num_steps]`."""
        # float32, as in training: the first values are so near 1 that the precision matters.
        first, last = self.beta_t0 ** (1 / self.beta_exp), self.beta_t1 ** (1 / self.beta_exp)
        betas = torch.linspace(first, last, self.num_steps) ** self.beta_exp
        alpha_bars: Tensor = (1 - betas).cumprod(0)
        return alpha_bars

    def transitions(self) -> list[Transition]:
        """The steps of sampling, from pure noise to none."""
        levels = [*range(self.num_steps)[::-STEP_SPACING], 0]
        alpha_bars = self.alpha_bars()
        found = []
        for level, following in pairwise(levels):
            alpha = alpha_bars[level] / alpha_bars[following]
            variance = (1 - alpha_bars[following]) / (1 - alpha_bars[level]) * (1 - alpha)
            fresh = 0.0 if level == levels[-2] else float(variance.sqrt()) * self.noise_scale
            found.append(Transition(level, float(alpha), float(alpha_bars[level]), fresh))
        return found
