"""What grids that are lists of cells have in common."""

from stormda.grid.axis import Floats
from stormda.grid.protocol import Coordinate


def sphere_coordinates(dims: tuple[str, ...], lat: Floats, lon: Floats) -> dict[str, Coordinate]:
    """Return latitude and longitude along `dims` as the coordinates of a file.

    Examples:
        >>> import numpy as np
        >>> sphere_coordinates(("cell",), np.zeros(3), np.zeros(3))["lat"].dims
        ('cell',)
    """
    north = {"standard_name": "latitude", "units": "degrees_north"}
    east = {"standard_name": "longitude", "units": "degrees_east"}
    return {"lat": Coordinate(dims, lat, north), "lon": Coordinate(dims, lon, east)}
