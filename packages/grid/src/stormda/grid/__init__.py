"""Grids of the sphere and the plane, patches, tiles and tokens.

The modules for networks, `stormda.grid.tokenizer`, need torch and are imported by name.
"""

from stormda.grid.axis import Border
from stormda.grid.curvilinear import CurvilinearGrid
from stormda.grid.encoding import (
    grid_features,
    level_features,
    log_area,
    plane_features,
    sphere_features,
    time_features,
)
from stormda.grid.fold import Fold, unique_cells
from stormda.grid.grid_mapping import projection_from_mapping
from stormda.grid.healpix import HealpixGrid, Order
from stormda.grid.healpix_tiles import HealpixTiles
from stormda.grid.identity import describe_difference, grid_from_dict
from stormda.grid.latlon import LatLonGrid
from stormda.grid.names import grid
from stormda.grid.operators import SparseOperator, conservative, interpolation, regridding
from stormda.grid.partition import Partition
from stormda.grid.patching import Patching
from stormda.grid.plane import PlaneGrid
from stormda.grid.points import PointGrid
from stormda.grid.projected import ProjectedGrid
from stormda.grid.projection import LambertConformal, PolarStereographic, Projection, RotatedPole
from stormda.grid.protocol import Cells, Coordinate, Grid, Lattice
from stormda.grid.recognition import projected_grid, recognise, unique_columns
from stormda.grid.reduced import ReducedGaussianGrid, classical, octahedral
from stormda.grid.solar import cos_solar_zenith
from stormda.grid.sphere import bearings, gaussian_latitudes
from stormda.grid.stencil import Stencil, bilinear, locate, nearest
from stormda.grid.tiles import Span, TileLayout, Window

__all__ = [
    "Border",
    "Cells",
    "Coordinate",
    "CurvilinearGrid",
    "Fold",
    "Grid",
    "HealpixGrid",
    "HealpixTiles",
    "LambertConformal",
    "LatLonGrid",
    "Lattice",
    "Order",
    "Partition",
    "Patching",
    "PlaneGrid",
    "PointGrid",
    "PolarStereographic",
    "ProjectedGrid",
    "Projection",
    "ReducedGaussianGrid",
    "RotatedPole",
    "Span",
    "SparseOperator",
    "Stencil",
    "TileLayout",
    "Window",
    "bearings",
    "bilinear",
    "classical",
    "conservative",
    "cos_solar_zenith",
    "describe_difference",
    "gaussian_latitudes",
    "grid",
    "grid_features",
    "grid_from_dict",
    "interpolation",
    "level_features",
    "locate",
    "log_area",
    "nearest",
    "octahedral",
    "plane_features",
    "projected_grid",
    "projection_from_mapping",
    "recognise",
    "regridding",
    "sphere_features",
    "time_features",
    "unique_cells",
    "unique_columns",
]
