"""Downscaling: sample fine fields from what is known of them, the means of coarse cells.

    p(fine | coarse means)

It is the same network and the same sampler as for analyses. In place of the past there is the
smoothly spread coarse field; the network forecasts what the fine field departs from it by, and the
trunk samples what that forecast cannot know. The coarse means are observations as well: area means
guide every sample, so that each of them reproduces the coarse field.

Source: residual downscaling after ORBIT-2, Wang et al. (2025), https://arxiv.org/abs/2505.04802,
and CorrDiff, Mardani et al. (2025), https://arxiv.org/abs/2309.15214.
"""

from stormda.storm.downscaling.coarsening import Coarsening, trimmed
from stormda.storm.downscaling.pairs import CoarsePairs, fit_residuals
from stormda.storm.downscaling.run import DownscalingConfig, downscale_fields, downscale_files

__all__ = [
    "CoarsePairs",
    "Coarsening",
    "DownscalingConfig",
    "downscale_fields",
    "downscale_files",
    "fit_residuals",
    "trimmed",
]
