"""Projections out of the attributes of a file's `grid_mapping` variable.

Source: CF Conventions 1.11, appendix F.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stormda.grid.projection import (
    EARTH_RADIUS,
    LambertConformal,
    PolarStereographic,
    Projection,
    RotatedPole,
)


def projection_from_mapping(attributes: Mapping[str, Any]) -> Projection:
    """Return the projection that CF attributes describe.

    Raises:
        ValueError: The name is missing or of another projection, or an attribute is missing.

    Examples:
        >>> projection_from_mapping({
        ...     "grid_mapping_name": "rotated_latitude_longitude",
        ...     "grid_north_pole_latitude": 39.25, "grid_north_pole_longitude": -162.0})
        RotatedPole(lat=39.25, lon=-162.0, turn=0.0)
    """
    name = attributes.get("grid_mapping_name")
    if name not in BUILDERS:
        raise ValueError(
            f"grid_mapping_name: expected one of {', '.join(BUILDERS)}, got {name!r}; "
            "other projections can be passed as objects with `forward` and `inverse`"
        )
    try:
        return BUILDERS[str(name)](attributes)
    except KeyError as missing:
        raise ValueError(f"grid_mapping: expected the attribute {missing} of {name}") from None


def _rotated(a: Mapping[str, Any]) -> Projection:
    return RotatedPole(
        lat=float(a["grid_north_pole_latitude"]),
        lon=float(a["grid_north_pole_longitude"]),
        turn=float(a.get("north_pole_grid_longitude", 0.0)),
    )


def _lambert(a: Mapping[str, Any]) -> Projection:
    parallels = np.atleast_1d(np.asarray(a["standard_parallel"], np.float64))
    return LambertConformal(
        parallels=(float(parallels[0]), float(parallels[-1])),
        lat=float(a["latitude_of_projection_origin"]),
        lon=float(a["longitude_of_central_meridian"]),
        radius_m=_radius(a),
        false_north=float(a.get("false_northing", 0.0)),
        false_east=float(a.get("false_easting", 0.0)),
    )


def _stereographic(a: Mapping[str, Any]) -> Projection:
    pole = 90.0 if float(a.get("latitude_of_projection_origin", 90.0)) > 0 else -90.0
    meridian = a.get("straight_vertical_longitude_from_pole")
    return PolarStereographic(
        true_lat=float(a.get("standard_parallel", pole)),
        lon=float(a["longitude_of_projection_origin"] if meridian is None else meridian),
        radius_m=_radius(a),
    )


def _radius(a: Mapping[str, Any]) -> float:
    """Return the radius of the sphere, refusing an ellipsoid.

    Raises:
        ValueError: The Earth is an ellipsoid.
    """
    major = float(a.get("semi_major_axis", a.get("earth_radius", EARTH_RADIUS)))
    minor = float(a.get("semi_minor_axis", major))
    flattening = float(a.get("inverse_flattening", 0.0))
    if minor != major or flattening:
        raise ValueError(
            "grid_mapping: expected a spherical Earth, got an ellipsoid; "
            "pass a projection object, such as a wrapper of pyproj"
        )
    return major


BUILDERS: dict[str, Callable[[Mapping[str, Any]], Projection]] = {
    "rotated_latitude_longitude": _rotated,
    "lambert_conformal_conic": _lambert,
    "polar_stereographic": _stereographic,
}
"""What builds each projection from its attributes."""
