"""What a denoiser starts from: the covariance of modes or waves, and a law of motion."""

from __future__ import annotations

from torch import Tensor

from stormda.grid import Grid, PlaneGrid
from stormda.storm.config import StormConfig
from stormda.storm.modes import Directions, LearnedCovariance, ModeCovariance, fit_modes
from stormda.storm.plane_waves import WaveCovariance, fit_plane_waves
from stormda.storm.transport import Transport


def covariance_of(
    config: StormConfig, grid: Grid, *, everywhere: bool = True
) -> LearnedCovariance | None:
    """Return the covariance that a network starts from; None where it is one number.

    Args:
        config: Of the network.
        grid: Where the fields live.
        everywhere: Whether they exist in every cell of it.

    Raises:
        ValueError: If plane waves are asked for where the grid is no doubly periodic plane, or has
            cells without fields.

    Examples:
        >>> plane = PlaneGrid((8, 8), spacing_m=(1e5, 1e5), periodic=(True, True))
        >>> config = StormConfig(variables=("theta",), waves=True)
        >>> len(covariance_of(config, plane).climate)
        7
    """
    variables = len(config.variables)
    if not config.waves:
        return ModeCovariance(config.modes, (variables, *grid.shape)) if config.modes else None
    if not isinstance(grid, PlaneGrid) or grid.periodic != (True, True):
        raise ValueError(f"waves: expected a doubly periodic plane, got {grid}")
    if not everywhere:
        raise ValueError("waves: expected fields in every cell, got cells without (modes can)")
    rows, cols = grid.shape
    return WaveCovariance((variables, rows, cols))


def transport_of(config: StormConfig, grid: Grid) -> Transport | None:
    """Return the law of motion that forecasts start from, at rest as yet; None for none.

    Args:
        config: Of the network.
        grid: Where the fields live; with plane waves, as `covariance_of` sees to.

    Raises:
        ValueError: Rows or columns of the grid are odd.
    """
    if not config.transport:
        return None
    rows, cols = grid.shape
    return Transport((len(config.variables), rows, cols), config.transport)


def fit_directions(
    config: StormConfig, z: Tensor, increments: Tensor, scale: Tensor
) -> Directions:
    """Find the directions that a config asks for, from fields and increments.

    Args:
        config: Of the network.
        z: Normalised fields, (samples, variables, *grid.shape); zero where there are none.
        increments: Normalised increments, (times, variables, *grid.shape).
        scale: Size of an increment in standard deviations, (variables, 1, ...).

    Raises:
        ValueError: Where there are not more samples, and cells with fields, than modes.
    """
    if config.waves:
        return fit_plane_waves(z, increments, scale)
    return fit_modes(z, increments, scale, config.modes)
