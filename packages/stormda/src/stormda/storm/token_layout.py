"""How the tokens of a grid lie to each other, in the words of the attention package."""

from __future__ import annotations

import torch

from stormda.attention import BlockConfig, Neighbourhood
from stormda.grid import Border, Patching, bearings
from stormda.grid.protocol import is_lattice
from stormda.storm.config import StormConfig

_POLES = (Border.POLE_EDGE, Border.POLE_ROW)


def rows_and_columns(patching: Patching) -> tuple[int, int]:
    """Return the rows and columns of tokens; a list is one column.

    Examples:
        >>> from stormda.grid import grid
        >>> rows_and_columns(Patching(grid("healpix8"), (4, 4)))
        (48, 1)
    """
    rows, *columns = patching.token_shape
    return rows, columns[0] if columns else 1


def has_poles(patching: Patching) -> bool:
    """Return whether tokens may look straight over both poles: there is one on the other side.

    Examples:
        >>> from stormda.grid import grid
        >>> [has_poles(Patching(grid("f8"), (4, px))) for px in (4, 32)]  # 8 columns of tokens, 1
        [True, False]
    """
    grid = patching.grid
    if not is_lattice(grid) or tuple(grid.periodic) != (False, True):
        return False
    return all(border in _POLES for border in grid.borders[0]) and not patching.token_shape[1] % 2


def neighbourhood(patching: Patching) -> Neighbourhood | None:
    """Return the table of neighbours of the tokens of a list of cells; None where there are rows.

    Examples:
        >>> from stormda.grid import grid
        >>> neighbourhood(Patching(grid("healpix8"), (4, 4))).neighbours.shape
        torch.Size([48, 8])
    """
    if is_lattice(patching.grid):
        return None
    around = patching.neighbours()
    bearing = bearings(*patching.centres, around)
    return Neighbourhood(torch.from_numpy(around), torch.from_numpy(bearing))


def block_of(config: StormConfig, whole: Patching) -> BlockConfig:
    """Return what a block is like whose tokens are those of a whole field."""
    return BlockConfig(
        width=config.width,
        heads=config.heads,
        mixer=config.mixer,
        mlp_ratio=config.mlp_ratio,
        tile=config.tile,
        halo=config.halo,
        noise_gate=config.noise_gate,
        periodic=whole.grid.periodic,
        poles=has_poles(whole),
    )
