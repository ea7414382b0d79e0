"""Grids of the sphere and the plane, patches, tiles and tokens.

The modules for networks, `stormda.grid.tokenizer`, need torch and are imported by name.
"""

from stormda.grid.axis import Border
from stormda.grid.encoding import (
    grid_features,
    log_area,
    plane_features,
    sphere_features,
    time_features,
)
from stormda.grid.identity import describe_difference, grid_from_dict
from stormda.grid.latlon import LatLonGrid
from stormda.grid.names import grid
from stormda.grid.partition import Partition
from stormda.grid.patching import Patching
from stormda.grid.plane import PlaneGrid
from stormda.grid.protocol import Coordinate, Grid
from stormda.grid.sphere import gaussian_latitudes
from stormda.grid.stencil import Stencil, bilinear, locate, nearest
from stormda.grid.tiles import Span, TileLayout, Window

__all__ = [
    "Border",
    "Coordinate",
    "Grid",
    "LatLonGrid",
    "Partition",
    "Patching",
    "PlaneGrid",
    "Span",
    "Stencil",
    "TileLayout",
    "Window",
    "bilinear",
    "describe_difference",
    "gaussian_latitudes",
    "grid",
    "grid_features",
    "grid_from_dict",
    "locate",
    "log_area",
    "nearest",
    "plane_features",
    "sphere_features",
    "time_features",
]
